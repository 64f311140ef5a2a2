"""The rate of few events without their noise: that of the longest past which the last windows do not contradict.

The idea is that of ADWIN (Bifet & Gavaldà 2007): look back as far as nothing has changed. Here the past is one decayed
mean, and what contradicts it is the Poisson deviance of the last windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.state.arithmetic import ln
from foreshock.state.jit import inner
from foreshock.stream.align_tables import Flag, Int

LAST = 12
"""Windows that may contradict the past; it is what was before them."""

HORIZONS = np.array([1, 2, 3, 4, 6, LAST])
"""So many last windows together are held against the past, the fewest first."""

CONTRADICTED = 18.0
"""Deviance that noise does not reach: half a million looks a day do so less than once in 50 days."""

KNOWN = 20.0
"""Windows of the past before it is believed."""

KEPT = 0.994
"""What the past keeps a window: it counts half after 115 windows."""

CLIPPED = 3.0
"""Standard deviations, and an event, by which a window may differ from the past that learns it."""

SCATTER_CLIPPED = 4.0
"""A window's scatter counts up to so many times the usual one: a surge must not make everything look like noise."""


@inner
def steady_rate(past: Any, last: Any, seen: Int, count: Int) -> float:
    """The events a window that a series has now, its newest window with `count` included; learns that window.

    `past float64[3]`: events, windows, and scatter (squared differences in units of the mean), all decayed; `last
    uint32[LAST]`: counts of windows, a ring; `seen`: how many there were before this one since the last break. The
    past survives breaks.
    """
    if seen >= LAST:
        _learn(past, last[seen % LAST])
    last[seen % LAST] = count
    if past[1] < KNOWN:
        return float(count)
    # Half an event more: of what never happened it is not known that it never will.
    usual = (past[0] + 0.5) / past[1]
    limit = CONTRADICTED * max(past[2] / past[1], 1.0)
    events, windows = np.int64(0), 0
    for h in range(len(HORIZONS)):
        if HORIZONS[h] > seen + 1:
            break
        while windows < HORIZONS[h]:
            events += last[(seen - windows) % LAST]
            windows += 1
        # The past is itself an estimate, the less sure the fewer windows it has.
        if deviates(np.float64(events), usual * windows, limit * (1.0 + windows / past[1])):
            if _is_over(last, seen, h, events / windows, limit / 3.0):
                break
            return float(events / windows)
    return float(past[0] / past[1])


@inner
def _is_over(last: Any, seen: Int, horizon: Int, rate: float, limit: float) -> Flag:
    """Whether what contradicts the past lies behind: the newest windows, which do not, are unlike all of them too."""
    events, windows = np.int64(0), 0
    for h in range(horizon):
        while windows < HORIZONS[h]:
            events += last[(seen - windows) % LAST]
            windows += 1
        # What has none at all is unlike anything else; of half a call a horizon it cannot be said.
        if deviates(np.float64(events), max(rate * windows, 0.5), limit):
            return True
    return False


@inner
def deviates(events: float, expected: float, limit: float) -> Flag:
    """Whether the Poisson deviance of a number of events from the one expected (above 0) is above `limit`."""
    off = events - expected
    # ln y ≤ y − 1 bounds the deviance: most of the time there is nothing more to do.
    if off * off <= limit * expected:
        return False
    return (events * ln(events / expected) if events > 0.0 else 0.0) - off > limit


@inner
def _learn(past: Any, count: Int) -> None:
    """Add a window to the past, as if it lay near it: what changes does not become the past at once."""
    learnt, scatter = np.float64(count), 1.0
    if past[0] > 0.0:
        mean, spread = past[0] / past[1], max(past[2] / past[1], 1.0)
        most = np.inf
        if past[1] >= KNOWN:
            reach = CLIPPED * np.sqrt(mean * spread) + 1.0
            learnt = min(max(learnt, mean - reach), mean + reach)
            most = SCATTER_CLIPPED * (spread + 1.0 / mean)
        scatter = min((learnt - mean) * (learnt - mean) / mean, most)
    past[0] = past[0] * KEPT + learnt
    past[1] = past[1] * KEPT + 1.0
    past[2] = past[2] * KEPT + scatter
