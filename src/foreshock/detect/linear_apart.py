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
    largest: np.float32,
    second: np.float32,
    cut: bool,
    learn: bool,
    work: Work,
) -> tuple[np.float32, np.float32]:
    """Mean squares of three rows of a body's features, put into `work.apart`; the two largest so far."""
    half, third, least = spread(HALF), spread(THIRD), spread(LEAST_DEPARTURE)
    keep = spread(ZERO if cut else ONE)
    for j in range(0, b, 8):
        now = keep * (half * load(work.far, j))
        last, before = keep * load(body, DEPARTURE * b + j), keep * load(body, BEFORE * b + j)
        store(work.apart, column + j, third * ((now + last) + before) + least)
        if learn:
            store(body, BEFORE * b + j, last)
            store(body, DEPARTURE * b + j, now)
    for j in range(column, column + b):
        x = work.apart[j]
        if x > largest:
            largest, second = x, largest
        elif x > second:
            second = x
    return largest, second


@inner
def compare(
    head: Any,
    bodies: Any,
    values: NDArray[np.float64],
    warm_up: int,
    largest: np.float32,
    second: np.float32,
    learn: bool,
    work: Work,
    apart: NDArray[np.float32],
) -> None:
    """What each feature has beside the largest of the others: ln(that ÷ its reach) into `apart`, where it is near it.

    A feature is spoken of once it counts in full, and where it is there. This hour's maxima are learnt where `learn`.
    """
    most, next_most = max(largest, LEAST_OTHERS), max(second, LEAST_OTHERS)
    if learn:
        head.hour_rows += 1
    for k in range((head.width + BLOCK - 1) // BLOCK):
        b, column = 8 * int(head.size[k]), k * BLOCK
        body = bodies[head.size[k] - 1][head.slot[k]]
        top, alone, beside = spread(largest), spread(next_most), spread(most)
        for j in range(0, b, 8):
            x = load(work.apart, column + j)
            ratio = x / above(top, x, beside, alone)
            store(work.apart, column + j, ratio)
            if learn:
                highest = load(body, TOP * b + j)
                store(body, TOP * b + j, above(ratio, highest, ratio, highest))
        if head.hours < FIRST_HOURS:
            continue
        for j in range(min(len(values) - column, b)):
            ratio, own = work.apart[column + j], max(body[REACH * b + j], LEAST_REACH)
            full = body[COUNT * b + j] - f4(warm_up) + ONE >= RAMP
            if full and ratio > SAID * own and abs(values[column + j]) < np.inf:
                apart[column + j] = f4(ln(float(ratio / own)))


@inner
def close_hour(head: Any, bodies: Any) -> None:
    """End an hour of ten rows at least: its maxima move what features reach, up as far as these at most."""
    if head.hours == 0 and head.hour_rows == 0:
        head.hour_start = head.time
    if head.hour_rows < HOUR_ROWS or head.time - head.hour_start < HOUR:
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
    head.hour_start, head.hour_rows = head.time, 0
