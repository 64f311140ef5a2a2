"""The compiled sweep of `rate_of_change`: row by row, score and only then learn (CONTRACTS §4).

It has a slow, obvious twin in `tests/unit`, equal to it bit for bit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.deviation_near import clip, elapsed, faded, learn_interval, memory
from foreshock.detect.kernels import (
    FIRST_MOVE_ROWS,
    FIRST_MOVE_SCORE,
    LARGEST_SCORE,
    LARGEST_VALUE,
    LEAST_SCALE,
    MIN_CHANGE_SCORE,
)
from foreshock.state.jit import entry, inner
from foreshock.types import Status

PRIOR_SCORE = 6.0
MEAN_TO_SD = 1.2533141373155001
"""Standard deviations in the mean absolute deviation of a normal distribution: √(π/2)."""
CLIP = 5.0
"""A rate is learnt as if it lay at most so many scales from the center."""
CHANGE_SHARE = 0.5
"""No scale is below this share of the mean distance of rates that are not 0, so that what stands mostly has one too."""
CHANGES, CHANGE_CLIP = 500, 6.0
"""Distances that their mean remembers; one counts as at most so many mean ones."""
LEAST_SPAN = 0.5
"""Rows count as at least this share of the mean interval apart."""

SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)
EXCLUDED = int(Status.EXCLUDED)

ROW = np.dtype([
    ("time", "i8"), ("last", "f8"), ("interval", "f8"), ("weight", "f8"), ("center", "f8"), ("scale", "f8"),
    ("size", "f8"), ("min_change", "f8"), ("limit", "f8"), ("share", "f8"), ("count", "i4"), ("changed", "i4"),
    ("met", "i4"), ("spare", "i4"),
])  # fmt: skip
"""A slot: `last` value; `interval` s between rows; `center` and `scale` of the rates with the `weight` of what they are
made of; `size`, the mean distance of `changed` rates that are not 0; where `met`, `limit` and `share` of the last value
are its own."""


class Settings(NamedTuple):
    """What the sweep needs to know of the options."""

    warm_up: int
    expiry: int
    memory_seconds: float
    max_gap_steps: float
    min_change: float
    per_second: bool
    limited: bool
    limit: float
    share: float


@entry
def rate_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    settings: Settings,
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    band: NDArray[np.float64],
) -> None:
    """Changes over the time they took, against their own past or a limit, for rows of series in their order.

    Parameters
        rows          slots of `ROW`
        key … status  the columns of a frame, each [n]
        score, given  out: float64[n], uint8[n]
        band          out: float64[3, n] expected, low, high; or float64[3, 0] where nobody asks for it
    """
    for i in range(len(key)):
        score[i], given[i] = np.nan, status[i]
        if band.shape[1]:
            band[0, i], band[1, i], band[2, i] = np.nan, np.nan, np.nan
        if status[i] != SCORED:
            continue
        if not abs(value[i]) < np.inf:
            given[i] = MISSING
            continue
        row, now = rows[np.uint32(key[i])], time[i]
        limit = row.limit if row.met else settings.limit
        share = row.share if row.met else settings.share
        if settings.limited and not limit + share < np.inf:
            given[i] = EXCLUDED
            continue
        x = min(max(value[i], -LARGEST_VALUE), LARGEST_VALUE) + 0.0  # + 0.0: there is one zero, not two
        fresh = row.count == 0 or now - row.time > settings.expiry
        if fresh or row.count < settings.warm_up:
            given[i] = WARMING_UP
        if fresh:
            if learn[i]:
                _begin(row, x, now)
            continue
        past = elapsed(row, now)
        apart = row.interval > 0.0 and past > settings.max_gap_steps * row.interval
        span = _span(row, past) if settings.per_second else 1.0
        rate = (x - row.last) / span
        if given[i] == SCORED and apart:
            given[i] = MISSING
        elif given[i] == SCORED:
            center, scale, width = row.center, _scale(row, span, settings), PRIOR_SCORE
            if settings.limited:
                center, width = 0.0, 1.0
                scale = max(limit + share * abs(row.last), LEAST_SCALE / span)
            found = abs(rate - center) / scale
            if row.changed == 0 and not settings.limited:
                found = min(found, FIRST_MOVE_SCORE * math.sqrt(math.sqrt(row.count / FIRST_MOVE_ROWS)))
            score[i] = min(found, LARGEST_SCORE)
            if band.shape[1]:
                middle, half = row.last + center * span, width * scale * span
                band[0, i], band[1, i], band[2, i] = middle, middle - half, middle + half
        if learn[i]:
            if not apart:
                _learn(row, rate, past, span, settings)
            learn_interval(row, past)
            row.last, row.time = x, max(now, row.time)
            if row.count < 2147483647:
                row.count += 1


@inner
def _begin(row: Any, x: float, now: int) -> None:
    """Take the first row of a series; the slot may hold what was there before a gap."""
    row.time, row.last, row.count, row.changed = now, x, 1, 0
    row.interval = row.weight = row.center = row.scale = row.size = 0.0


@inner
def _span(row: Any, past: float) -> float:
    """The seconds that a change took; a second where nothing tells."""
    span = max(past, LEAST_SPAN * row.interval)
    return float(span if span > 0.0 else 1.0)


@inner
def _scale(row: Any, span: float, settings: Settings) -> float:
    """The floored scale of a rate."""
    least = max(max(row.min_change, settings.min_change) / MIN_CHANGE_SCORE, LEAST_SCALE) / span
    return float(max(max(MEAN_TO_SD * row.scale, CHANGE_SHARE * row.size), least))


@inner
def _learn(row: Any, rate: float, past: float, span: float, settings: Settings) -> None:
    """Learn a rate: the mean distance, and with that as a floor the center and the scale."""
    size = abs(rate - row.center)
    if rate != 0.0:
        if row.changed:
            size = min(size, CHANGE_CLIP * row.size)
        row.changed = min(row.changed + 1, CHANGES)
        row.size += (size - row.size) / row.changed
    most = CLIP * _scale(row, span, settings)
    row.weight = faded(row.weight, memory(row, settings.memory_seconds), past)
    surprise = rate - row.center
    if row.count >= settings.warm_up:
        surprise = clip(surprise, most)
    row.center += surprise / row.weight
    row.scale += (abs(surprise) - row.scale) / max(row.weight - 1.0, 1.0)
