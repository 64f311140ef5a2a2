"""The features of `linear`: each in its own standard deviations from its own mean, both followed row by row."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_layout import (
    BLOCK,
    CHANGES,
    COUNT,
    HALF_LIFE,
    LAST,
    MEAN,
    MEMORY_GAIN,
    ONE,
    SUMS,
    UNIT,
    VARIANCE,
    YOUNG,
    ZERO,
    Work,
    f4,
)
from foreshock.detect.linear_scale import SETTLED, settle
from foreshock.state.jit import inner
from foreshock.state.lanes import above, load, narrow, power_of_two, size, spread, store, total, wide

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
    at: int,
    work: Work,
) -> bool:
    """A body's part of a row in units, put to `at` in the scratch; how many of its features count is added to its sums.

    Whether something is to be decided of one of them when it is learnt: it is its first row, its first move, the row in
    which its scales are settled, or one in which its unit is looked at.

    What is missing stays as it was. A feature counts from `least` rows on, and at first little, so that one that is new
    to an entity does not cry.
    """
    x, width = work.value, min(len(part), b)
    for j in range(width):
        x[j] = part[j]
    for j in range(width, b):
        x[j] = np.nan
    zero, one, clip, enough = spread(ZERO), spread(ONE), spread(CLIP), spread(f4(least))
    none, endless = spread(0.0), spread(np.inf)
    most, farthest, move = spread(LARGEST_VALUE), spread(FARTHEST), spread(FIRST_MOVE)
    alive, special = zero, zero
    for j in range(0, b, 8):
        count, given, last = load(body, COUNT * b + j), load(x, j), load(double, LAST * b + j)
        changes, there = load(body, CHANGES * b + j), above(endless, size(given), one, zero)
        seen, whole = above(count, zero, there, zero), count + one
        part_of = (count - enough + one) / spread(RAMP)
        live = seen * above(part_of, zero, above(one, part_of, part_of, one), zero)
        alive = alive + live * seen
        store(work.known, at + j, count)
        store(work.seen, at + j, seen)
        store(work.live, at + j, live)
        store(work.far, at + j, zero)
        store(work.youth, at + j, one / (count + spread(YOUNG)))
        held = above(most, given, given, most)
        held = above(held, none - most, held, none - most)
        held = above(endless, size(given), held, last)
        store(x, j, held)
        whole = power_of_two(whole) + above(one, size(whole - spread(f4(SETTLED))), one, zero)
        apart = above(held, last, one, above(last, held, one, zero))
        special = special + (there * whole + above(changes, zero, zero, apart))
        first = above(held, last, move, above(last, held, none - move, none))
        away = (held - load(double, MEAN * b + j)) / load(double, UNIT * b + j)
        away = above(changes, zero, away, first)
        away = above(farthest, away, away, farthest)
        away = above(away, none - farthest, away, none - farthest)
        z = narrow(above(count, zero, away, none))
        store(work.z, at + j, z)
        z = above(z, zero - clip, z, zero - clip)
        store(work.y, at + j, above(clip, z, z, clip))
    work.sums[at // BLOCK * SUMS + 6] += total(alive)
    return bool(total(special) > ZERO)


@inner
def moving(body: NDArray[np.float32], double: NDArray[np.float64], b: int, work: Work) -> int:
    """How many features of a body have ever moved, the row that was looked at last included: `work.moved`."""
    moved = 0
    for j in range(b):
        work.moved[moved] = j
        known = body[COUNT * b + j] > ZERO and work.value[j] != double[LAST * b + j]
        moved += 1 if body[CHANGES * b + j] > ZERO or known else 0
    return moved


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
    pace: float,
    at: int,
    work: Work,
) -> None:
    """Means and variances of a body's features, from the row at `at` of the scratch, the last that was looked at.

    Nothing is to be decided of any of them: where it is, `learn_one_by_one` takes the row.
    """
    x = work.value
    one, floor, zero, many = spread(1.0), spread(MEMORY_GAIN * pace), spread(ZERO), spread(MANY)
    for j in range(0, b, 8):
        count, changes, seen = load(body, COUNT * b + j), load(body, CHANGES * b + j), load(work.seen, at + j)
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


@inner
def learn_one_by_one(
    body: NDArray[np.float32],
    double: NDArray[np.float64],
    b: int,
    part: NDArray[np.float64],
    pace: float,
    fitting: bool,
    work: Work,
) -> bool:
    """Means, variances and units of a body's features; whether units are new, by `work.ratio`."""
    changed = False
    for j in range(b):
        work.ratio[j] = ONE
        if j < len(part) and abs(part[j]) < np.inf:
            work.ratio[j] = _learn_value(body, double, b, j, part[j], pace, fitting)
            changed |= work.ratio[j] != ONE
    return changed


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
