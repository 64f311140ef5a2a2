"""Which feature of an entity departs alone: from its forecast, from the others, and from how far these departed.

A fault in one of forty metrics hardly shows in the pool of all, and what is far from its own forecast is often so with
many others, when the load changes. So each departure is divided by the largest of the others, and that is measured by
what the feature's own hours reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.histogram import exp, ln
from foreshock.detect.linear_feature import RAMP
from foreshock.detect.linear_layout import BEFORE, BLOCK, COUNT, DEPARTURE, HALF, ONE, REACH, SUMS, TOP, ZERO, Work, f4
from foreshock.state.jit import inner
from foreshock.state.lanes import above, load, spread, store

THIRD = f4(1.0 / 3.0)
LEAST_DEPARTURE = f4(0.3)
"""Added to mean squares before they are divided: where nothing moves, a little is not much."""
LEAST_OTHERS = f4(1.3)
"""What the others count as at least: the usual mean square, with what is added."""
HOUR, HOUR_ROWS = 3600 * 1_000_000_000, 10
FIRST_HOURS = 48
"""Hours before anything is said; until then the reach rises twice as fast."""
REACH_SHARE, REACH_GAIN = 0.99, 0.3
"""The reach is what this share of hours stay below, followed by steps of this size in its logarithm."""
LEAST_REACH = f4(1.3498588)
"""e^.3"""
SAID = f4(0.60653066)
"""e^−.5: departures below so much of the reach are not spoken of."""


@inner
def depart(
    body: NDArray[np.float32],
    b: int,
    column: int,
    r: int,
    cut: bool,
    learn: bool,
    work: Work,
) -> None:
    """Mean squares of three rows of a body's features, up to row r of the scratch, put into `work.apart`.

    The two largest are kept with the row's sums.
    """
    half, third, least = spread(HALF), spread(THIRD), spread(LEAST_DEPARTURE)
    keep, zero = spread(ZERO if cut else ONE), spread(ZERO)
    at, to = r * BLOCK, column + r * BLOCK
    tops, nexts = zero, zero
    for j in range(0, b, 8):
        now = keep * (half * load(work.far, at + j))
        last, before = keep * load(body, DEPARTURE * b + j), keep * load(body, BEFORE * b + j)
        x = third * ((now + last) + before) + least
        store(work.apart, to + j, x)
        below = above(tops, x, x, tops)
        tops, nexts = above(x, tops, x, tops), above(below, nexts, below, nexts)
        if learn:
            store(body, BEFORE * b + j, last)
            store(body, DEPARTURE * b + j, now)
    store(work.gain, 0, tops)
    store(work.gain, 8, nexts)
    largest, second = work.sums[r * SUMS + 7], work.sums[r * SUMS + 8]
    for j in range(16):
        x = float(work.gain[j])
        second = max(second, min(x, largest))
        largest = max(largest, x)
    work.sums[r * SUMS + 7], work.sums[r * SUMS + 8] = largest, second


@inner
def compare(
    head: Any,
    bodies: Any,
    values: NDArray[np.float64],
    warm_up: int,
    r: int,
    rows: int,
    learn: bool,
    work: Work,
    apart: NDArray[np.float32],
) -> None:
    """What each feature has beside the largest of the others: ln(that ÷ its reach) into `apart`, where it is near it.

    A feature is spoken of once it counts in full, and where it is there. This hour's maxima are learnt where `learn`.
    The row is the one at r of so many in the scratch, all of which have been learnt, where they are to be.
    """
    largest, second = f4(work.sums[r * SUMS + 7]), f4(work.sums[r * SUMS + 8])
    most, next_most = max(largest, LEAST_OTHERS), max(second, LEAST_OTHERS)
    if learn:
        head.hour_rows += 1
    for k in range((head.width + BLOCK - 1) // BLOCK):
        b, column, at = 8 * int(head.size[k]), k * BLOCK, (k + r) * BLOCK
        body = bodies[head.size[k] - 1][head.slot[k]]
        top, alone, beside = spread(largest), spread(next_most), spread(most)
        for j in range(0, b, 8):
            x = load(work.apart, at + j)
            ratio = x / above(top, x, beside, alone)
            store(work.apart, at + j, ratio)
            if learn:
                highest = load(body, TOP * b + j)
                store(body, TOP * b + j, above(ratio, highest, ratio, highest))
        if head.hours < FIRST_HOURS:
            continue
        for j in range(min(len(values) - column, b)):
            ratio, own = work.apart[at + j], max(body[REACH * b + j], LEAST_REACH)
            # Rows seen up to this one are those known to the next.
            count = body[COUNT * b + j] if r == rows - 1 else work.known[at + BLOCK + j]
            full = count - f4(warm_up) + ONE >= RAMP
            if full and ratio > SAID * own and abs(values[column + j]) < np.inf:
                apart[column + j] = f4(ln(float(ratio / own)))


@inner
def close_hour(head: Any, now: int, bodies: Any) -> None:
    """End an hour of ten rows at least: its maxima move what features reach, up as far as these at most."""
    if head.hours == 0 and head.hour_rows == 0:
        head.hour_start = now
    if head.hour_rows < HOUR_ROWS or now - head.hour_start < HOUR:
        return
    head.hours += 1
    gain = max(REACH_GAIN, 1.0 / head.hours)
    up = f4(exp(gain * REACH_SHARE * (2.0 if head.hours < FIRST_HOURS else 1.0)))
    down = f4(exp(-gain * (1.0 - REACH_SHARE)))
    for k in range((head.width + BLOCK - 1) // BLOCK):
        b, body = 8 * int(head.size[k]), bodies[head.size[k] - 1][head.slot[k]]
        for j in range(b):
            reach, top = max(body[REACH * b + j], LEAST_REACH), body[TOP * b + j]
            body[REACH * b + j] = min(reach * up, top) if top > reach else max(reach * down, LEAST_REACH)
            body[TOP * b + j] = ZERO
    head.hour_start, head.hour_rows = now, 0
