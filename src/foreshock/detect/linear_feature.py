"""The features of `linear`: each in its own standard deviations from its own mean, both followed row by row."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_layout import (
    CHANGES,
    COUNT,
    HALF_LIFE,
    LAST,
    MEAN,
    MEMORY_GAIN,
    ONE,
    UNIT,
    VARIANCE,
    YOUNG,
    ZERO,
    Work,
    f4,
)
from foreshock.detect.linear_scale import SETTLED, settle
from foreshock.state.jit import inner
from foreshock.state.lanes import above, load, narrow, size, spread, store, total, wide

LARGEST_VALUE = 1e100
"""Finite values beyond it count as this, so that their squares stay finite."""
FARTHEST, CLIP = 30.0, f4(4.0)
"""Deviations count up to so many units as targets, and up to so many as inputs of maps."""
LEARNT = 1000.0
"""Deviations are learnt up to so many units: what moves rarely but far must not be far each time."""
FIRST_MOVE = 8.0
"""Units that the first move of a feature counts, which was constant until then."""
LEAST_UNIT, LEAST_RATIO = 1e-9, 1e-3
"""No unit is smaller, absolutely and as a share of |mean|."""
NEW_UNIT = 1.1
"""Units are renewed where they are off by this factor."""
MANY = f4(16_000_000.0)
"""Rows and changes are counted up to here."""
LEAST_AGE = f4(0.5)
"""A feature that joined later tells others something once it is so old, as a share of the oldest one's age."""
RAMP = f4(512.0)
"""Rows over which a feature that is warm comes to count in full."""


@inner
def look(
    body: NDArray[np.float32],
    double: NDArray[np.float64],
    b: int,
    part: NDArray[np.float64],
    least: int,
    work: Work,
) -> tuple[float, int]:
    """A body's part of the row in units; how many features of it count, and how many have ever moved (`work.moved`).

    What is missing stays as it was. A feature counts from `least` rows on, and at first little, so that one that is new
    to an entity does not cry.
    """
    x, width = work.value, min(len(part), b)
    for j in range(width):
        x[j] = part[j]
    for j in range(width, b):
        x[j] = np.nan
    zero, one, clip, enough = spread(ZERO), spread(ONE), spread(CLIP), spread(f4(least))
    none, some, endless = spread(0.0), spread(1.0), spread(np.inf)
    most, farthest, move = spread(LARGEST_VALUE), spread(FARTHEST), spread(FIRST_MOVE)
    alive = zero
    for j in range(0, b, 8):
        count, given, last = load(body, COUNT * b + j), load(x, j), load(double, LAST * b + j)
        seen = above(count, zero, narrow(above(endless, size(given), some, none)), zero)
        part_of = (count - enough + one) / spread(RAMP)
        live = seen * above(part_of, zero, above(one, part_of, part_of, one), zero)
        alive = alive + live * seen
        store(work.seen, j, seen)
        store(work.far, j, zero)
        store(work.live, j, live)
        store(work.youth, j, one / (count + spread(YOUNG)))
        held = above(most, given, given, most)
        held = above(held, none - most, held, none - most)
        held = above(endless, size(given), held, last)
        store(x, j, held)
        first = above(held, last, move, above(last, held, none - move, none))
        away = (held - load(double, MEAN * b + j)) / load(double, UNIT * b + j)
        away = above(wide(load(body, CHANGES * b + j)), none, away, first)
        away = above(farthest, away, away, farthest)
        away = above(away, none - farthest, away, none - farthest)
        z = narrow(above(wide(count), none, away, none))
        store(work.z, j, z)
        z = above(z, zero - clip, z, zero - clip)
        store(work.y, j, above(clip, z, z, clip))
    moved = 0
    for j in range(b):
        work.moved[moved] = j
        known = body[COUNT * b + j] > ZERO and x[j] != double[LAST * b + j]
        moved += 1 if body[CHANGES * b + j] > ZERO or known else 0
    return total(alive), moved


@inner
def fit_inputs(body: NDArray[np.float32], b: int, work: Work) -> int:
    """How many features a fit may learn from; their places are in `work.moved`.

    They have moved, and are old enough: covariances that are much younger than the others do not fit them, and a map
    made of both would say anything.
    """
    oldest = ZERO
    for j in range(b):
        oldest = max(oldest, body[COUNT * b + j])
    least = min(oldest, f4(HALF_LIFE)) * LEAST_AGE
    moved = 0
    for j in range(b):
        work.moved[moved] = j
        moved += 1 if body[CHANGES * b + j] > ZERO and body[COUNT * b + j] >= least else 0
    return moved


@inner
def learn_values(
    body: NDArray[np.float32],
    double: NDArray[np.float64],
    b: int,
    part: NDArray[np.float64],
    pace: float,
    fitting: bool,
    work: Work,
) -> bool:
    """Means and variances of a body's features; whether units are new, by `work.ratio`.

    In rows where something is to be decided of a feature, `_learn_value` takes them one by one.
    """
    x, special, changed = work.value, fitting, False
    for j in range(min(len(part), b)):
        whole = np.int64(body[COUNT * b + j]) + 1
        first = body[CHANGES * b + j] == ZERO and x[j] != double[LAST * b + j]
        special |= abs(part[j]) < np.inf and (first or whole & (whole - 1) == 0 or whole == SETTLED)
    if special:
        for j in range(b):
            work.ratio[j] = ONE
            if j < len(part) and abs(part[j]) < np.inf:
                work.ratio[j] = _learn_value(body, double, b, j, part[j], pace, fitting)
                changed |= work.ratio[j] != ONE
        return changed
    one, floor, zero, many = spread(1.0), spread(MEMORY_GAIN * pace), spread(ZERO), spread(MANY)
    for j in range(0, b, 8):
        count, changes, seen = load(body, COUNT * b + j), load(body, CHANGES * b + j), load(work.seen, j)
        held, last, mean = load(x, j), load(double, LAST * b + j), load(double, MEAN * b + j)
        young, most = one / (wide(count) + one), spread(LEARNT) * load(double, UNIT * b + j)
        gain = wide(seen) * above(floor, young, floor, young)
        d = held - mean
        d = above(most, d, d, most)
        low = spread(0.0) - most
        d = above(d, low, d, low)
        store(double, VARIANCE * b + j, (one - gain) * (load(double, VARIANCE * b + j) + gain * d * d))
        store(double, MEAN * b + j, mean + gain * d)
        counts = wide(above(many, changes, seen, zero))
        counts = above(held, last, counts, above(last, held, counts, spread(0.0)))
        store(body, CHANGES * b + j, changes + narrow(counts))
        store(body, COUNT * b + j, count + above(many, count, seen, zero))
        store(double, LAST * b + j, held)
    return False


@inner
def _learn_value(
    body: NDArray[np.float32], double: NDArray[np.float64], b: int, j: int, value: float, pace: float, fitting: bool
) -> np.float32:
    """Mean, variance and unit of a feature; by how much its numbers grow because its unit is a new one."""
    x = min(max(value, -LARGEST_VALUE), LARGEST_VALUE)
    count, unit, last = body[COUNT * b + j], double[UNIT * b + j], double[LAST * b + j]
    double[LAST * b + j] = x
    body[COUNT * b + j] = min(count + ONE, MANY)
    if count + ONE == SETTLED:
        settle(body, b, j)
    if count == 0:
        double[MEAN * b + j] = x
        double[UNIT * b + j] = max(LEAST_UNIT, LEAST_RATIO * abs(x))
        return ONE
    moved = x != last
    first = moved and body[CHANGES * b + j] == 0
    if moved:
        body[CHANGES * b + j] = min(body[CHANGES * b + j] + ONE, MANY)
    if first:
        unit = max(abs(x - last) / FIRST_MOVE, unit)
        double[VARIANCE * b + j] = unit * unit
        double[UNIT * b + j] = unit
        return ONE
    gain = max(MEMORY_GAIN * pace, 1.0 / (count + 1.0))
    d = min(max(x - double[MEAN * b + j], -LEARNT * unit), LEARNT * unit)
    double[MEAN * b + j] += gain * d
    double[VARIANCE * b + j] = (1.0 - gain) * (double[VARIANCE * b + j] + gain * d * d)
    whole = np.int64(count) + 1
    if body[CHANGES * b + j] == 0 or not (fitting or whole & (whole - 1) == 0):
        return ONE
    wanted = max(math.sqrt(double[VARIANCE * b + j]), LEAST_RATIO * abs(double[MEAN * b + j]))
    wanted = max(wanted, LEAST_UNIT)
    if wanted < unit * NEW_UNIT and unit < wanted * NEW_UNIT:
        return ONE
    double[UNIT * b + j] = wanted
    return f4(unit / wanted)
