"""The features of `linear`: each in its own standard deviations from its own mean, both followed row by row."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_layout import (
    CHANGES,
    COUNT,
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
from foreshock.detect.linear_maps import dot
from foreshock.detect.linear_scale import SETTLED, settle
from foreshock.state.jit import inner

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
) -> float:
    """A body's part of the row in units, and how many features of it count; what is missing stays as it was.

    A feature counts from `least` rows on, and at first little, so that one that is new to an entity does not cry.
    """
    count, changes = body[COUNT * b : (COUNT + 1) * b], body[CHANGES * b : (CHANGES + 1) * b]
    last, mean = double[LAST * b : (LAST + 1) * b], double[MEAN * b : (MEAN + 1) * b]
    unit, x = double[UNIT * b : (UNIT + 1) * b], work.value[:b]
    z, y, seen, live, youth = work.z[:b], work.y[:b], work.seen[:b], work.live[:b], work.youth[:b]
    enough = f4(least)
    for j in range(b):
        x[j] = part[j] if j < len(part) else np.nan
    for j in range(b):
        seen[j] = ONE if abs(x[j]) < np.inf and count[j] > ZERO else ZERO
    for j in range(b):
        part_of = (count[j] - enough + ONE) / RAMP
        part_of = (part_of if part_of < ONE else ONE) if part_of > ZERO else ZERO
        live[j] = seen[j] * part_of
    for j in range(b):
        youth[j] = ONE / (count[j] + YOUNG)
    for j in range(b):
        held = x[j] if x[j] < LARGEST_VALUE else LARGEST_VALUE
        held = held if held > -LARGEST_VALUE else -LARGEST_VALUE
        x[j] = held if abs(x[j]) < np.inf else last[j]
    for j in range(b):
        move = 0.0 if x[j] == last[j] else (FIRST_MOVE if x[j] > last[j] else -FIRST_MOVE)
        away = (x[j] - mean[j]) / unit[j] if changes[j] > ZERO else move
        away = away if away < FARTHEST else FARTHEST
        away = away if away > -FARTHEST else -FARTHEST
        z[j] = away if count[j] > ZERO else 0.0
    for j in range(b):
        y[j] = (z[j] if z[j] < CLIP else CLIP) if z[j] > -CLIP else -CLIP
    return dot(live, seen)


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

    Where something is to be decided a feature goes through `_learn_value`; the others go together, in loops that write
    one array each.
    """
    changed = False
    ratio, x, plain = work.ratio[:b], work.value[:b], work.by_fast[:b]
    count, changes = body[COUNT * b : (COUNT + 1) * b], body[CHANGES * b : (CHANGES + 1) * b]
    last, mean = double[LAST * b : (LAST + 1) * b], double[MEAN * b : (MEAN + 1) * b]
    variance, unit = double[VARIANCE * b : (VARIANCE + 1) * b], double[UNIT * b : (UNIT + 1) * b]
    for j in range(b):
        ratio[j], plain[j] = ONE, ZERO
        if j < len(part) and abs(part[j]) < np.inf:
            whole = np.int64(count[j]) + 1
            if fitting or changes[j] == ZERO or whole & (whole - 1) == 0 or whole == SETTLED:
                ratio[j] = _learn_value(body, double, b, j, part[j], pace, fitting)
                changed |= ratio[j] != ONE
            else:
                plain[j] = ONE
    floor, gain = MEMORY_GAIN * pace, work.step[:b]
    for j in range(b):
        young = 1.0 / (count[j] + 1.0)
        gain[j] = plain[j] * (floor if floor > young else young)
    for j in range(b):
        most, d = LEARNT * unit[j], x[j] - mean[j]
        d = d if d < most else most
        d = d if d > -most else -most
        variance[j] = (1.0 - gain[j]) * (variance[j] + gain[j] * d * d)
    for j in range(b):
        most, d = LEARNT * unit[j], x[j] - mean[j]
        d = d if d < most else most
        d = d if d > -most else -most
        mean[j] += gain[j] * d
    for j in range(b):
        changes[j] += plain[j] if x[j] != last[j] and changes[j] < MANY else ZERO
    for j in range(b):
        count[j] += plain[j] if count[j] < MANY else ZERO
    for j in range(b):
        last[j] = x[j]
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
