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
from foreshock.detect.linear_layout import BEFORE, BLOCK, COUNT, DEPARTURE, HALF, ONE, REACH, TOP, ZERO, Work, f4
from foreshock.state.jit import inner
from foreshock.state.lanes import above, any_above, load, spread, store, swap

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
    start: int,
    end: int,
    cut: bool,
    learn: bool,
    work: Work,
) -> None:
    """Mean squares of three rows of a body's features, up to each row start ≤ r < end of the scratch: `work.apart`."""
    half, third, least = spread(HALF), spread(THIRD), spread(LEAST_DEPARTURE)
    keep = spread(ZERO if cut else ONE)
    for j in range(0, b, 8):
        last, before = keep * load(body, DEPARTURE * b + j), keep * load(body, BEFORE * b + j)
        for r in range(start, end):
            now = keep * (half * load(work.far, r * BLOCK + j))
            store(work.apart, r * BLOCK + column + j, third * ((now + last) + before) + least)
            last, before = now, last
        if learn:
            store(body, BEFORE * b + j, before)
            store(body, DEPARTURE * b + j, last)


@inner
def compare(
    head: Any,
    bodies: Any,
    values: NDArray[np.float64],
    width: NDArray[np.int16],
    warm_up: int,
    m: int,
    cut: bool,
    learn: bool,
    work: Work,
    apart: NDArray[np.float32],
) -> None:
    """What each feature of the m rows in the scratch has beside the largest of the others, near what it reaches.

    Put into `apart` is ln(that ÷ its reach), where a feature counts in full and is there. With `learn`, where the rows
    have been learnt, this hour's maxima follow, and hours end; after a gap (`cut`) nothing is said.
    """
    for r in range(m):
        if not work.warm[r]:
            continue
        if learn and _hour_ends(head, work.time[r]):
            _close_hour(head, bodies, work.time[r])
        if cut:
            continue
        top, second = _two_largest(work, r * BLOCK, r * BLOCK + (head.width + 7) // 8 * 8)
        if learn:
            head.hour_rows += 1
        row = work.row[r]
        n = min(int(width[row]), head.room)
        for k in range((head.width + BLOCK - 1) // BLOCK):
            body, b = bodies[head.size[k] - 1][head.slot[k]], 8 * int(head.size[k])
            column, at = k * BLOCK, (k + r) * BLOCK
            if not _beside(body, b, at, top, second, learn, work) or head.hours < FIRST_HOURS:
                continue
            for j in range(min(n - column, b)):
                ratio, own = work.apart[at + j], max(body[REACH * b + j], LEAST_REACH)
                # Rows seen up to this one are those known to the next.
                count = body[COUNT * b + j] if r == m - 1 else work.known[at + BLOCK + j]
                full = count - f4(warm_up) + ONE >= RAMP
                if full and ratio > SAID * own and abs(values[row, column + j]) < np.inf:
                    apart[row, column + j] = f4(ln(float(ratio / own)))


@inner
def _two_largest(work: Work, start: int, end: int) -> tuple[Any, Any]:
    """The two largest departures from start to end in the scratch, eight times each."""
    top, second = spread(ZERO), spread(ZERO)
    for j in range(start, end, 8):
        top, second = _larger(top, second, load(work.apart, j), spread(ZERO))
    top, second = _larger(top, second, swap(top, 4), swap(second, 4))
    top, second = _larger(top, second, swap(top, 2), swap(second, 2))
    return _larger(top, second, swap(top, 1), swap(second, 1))


@inner
def _larger(top: Any, second: Any, other_top: Any, other_second: Any) -> tuple[Any, Any]:
    """The two largest numbers of two and two others, lane by lane."""
    below = above(top, other_top, other_top, top)
    second = above(second, other_second, second, other_second)
    return above(top, other_top, top, other_top), above(below, second, below, second)


@inner
def _beside(body: NDArray[np.float32], b: int, at: int, top: Any, second: Any, learn: bool, work: Work) -> bool:
    """Divide a body's departures by the largest of the others; whether one is near its reach."""
    least, least_reach, said = spread(LEAST_OTHERS), spread(LEAST_REACH), spread(SAID)
    beside, alone = above(top, least, top, least), above(second, least, second, least)
    near = False
    for j in range(0, b, 8):
        x = load(work.apart, at + j)
        ratio = x / above(top, x, beside, alone)
        store(work.apart, at + j, ratio)
        if learn:
            highest = load(body, TOP * b + j)
            store(body, TOP * b + j, above(ratio, highest, ratio, highest))
        reach = load(body, REACH * b + j)
        near |= any_above(ratio, said * above(reach, least_reach, reach, least_reach))
    return near


@inner
def _hour_ends(head: Any, now: int) -> bool:
    """Whether an hour of ten rows at least ends with the row before this time; the first hour begins with a row."""
    if head.hours == 0 and head.hour_rows == 0:
        head.hour_start = now
    return bool(head.hour_rows >= HOUR_ROWS and now - head.hour_start >= HOUR)


@inner
def _close_hour(head: Any, bodies: Any, now: int) -> None:
    """End an hour: its maxima move what features reach, up as far as these at most."""
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
