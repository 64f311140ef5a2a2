"""Levels and scales of `deviation`: the first rows, the size of a change, two near levels, the long one (compiled)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.deviation_row import (
    CHANGE_CLIP,
    CHANGE_SHARE,
    CHANGES,
    INTERVAL_JUMP,
    INTERVAL_ROWS,
    LEAST_MEMORY_ROWS,
    LEAST_SCALE,
    LONG_CLIP,
    LONG_MEMORY,
    LONG_SHARE,
    LONG_YOUNG,
    LONGEST_STRETCH,
    NEAR_CLIP,
    QUICK_SPAN,
    SCALE_SPANS,
    SECOND,
    SHORT_SPAN,
    YOUNG_MOVES,
)
from foreshock.state.jit import inner

LARGEST_NARROW = 3e38
"""What is kept in four bytes is held within this."""
MAD_TO_MEAN = 1.1829
"""The mean absolute deviation of a normal distribution in its median absolute deviations."""


@inner
def clip(x: float, most: float) -> float:
    """x held within ±most."""
    return float(min(max(x, -most), most))


@inner
def narrow(x: float) -> float:
    """x held within what four bytes can keep."""
    return clip(x, LARGEST_NARROW)


@inner
def elapsed(row: Any, now: int) -> float:
    """Seconds since the last row that was learnt; times that go back count as 0."""
    return float(max(now - row.time, 0) / SECOND)


@inner
def memory(row: Any, seconds: float) -> float:
    """A memory in seconds, of `LEAST_MEMORY_ROWS` at least."""
    return float(max(seconds, LEAST_MEMORY_ROWS * row.interval))


@inner
def faded(weight: float, seconds: float, past: float) -> float:
    """The weight of what is remembered, a row more and `past` seconds later.

    A row counts 1/weight. A gap lets the past fade, but gives no single row after it more than its due.
    """
    return weight * (seconds / (seconds + past)) + 1.0


@inner
def noise_floor(row: Any) -> float:
    """The scale below which nothing goes: half of the mean change, or less as long as there were few."""
    known = min(row.changed, YOUNG_MOVES) / YOUNG_MOVES
    return float(max(CHANGE_SHARE * row.change * known, LEAST_SCALE))


@inner
def long_scale(row: Any) -> float:
    """The floored deviation from the long level."""
    return float(max(row.deviation, noise_floor(row)))


@inner
def near_scale(row: Any, scale: float) -> float:
    """A near scale, floored."""
    return float(max(scale, max(LONG_SHARE * row.deviation, noise_floor(row))))


@inner
def stretch(row: Any, past: float) -> float:
    """By what a near level is less certain after `past` seconds: √intervals."""
    if past <= 1.5 * row.interval:
        return 1.0
    if row.interval <= 0.0:
        return LONGEST_STRETCH
    return float(min(math.sqrt(past / row.interval), LONGEST_STRETCH))


@inner
def learn_interval(row: Any, past: float) -> None:
    """Follow the mean interval between rows; one gap moves it no more than five ordinary ones."""
    if past > 0.0:
        if row.interval == 0.0:
            row.interval = past
        else:
            past = min(past, INTERVAL_JUMP * row.interval)
            row.interval += (past - row.interval) / min(row.count, INTERVAL_ROWS)


@inner
def learn_change(row: Any, change: float) -> None:
    """Learn the size of a change; a row that is equal to the one before says nothing about it."""
    if change > 0.0:
        if row.changed:
            change = min(change, CHANGE_CLIP * row.change)
        row.changed = min(row.changed + 1, CHANGES)
        row.change += (change - row.change) / row.changed


@inner
def learn_long(row: Any, x: float, past: float) -> None:
    """Learn the long level and deviation.

    A series that is young has little to hold against a surprise: it is learnt as if half an hour were remembered.
    """
    most = LONG_CLIP * long_scale(row)
    row.weight = faded(row.weight, memory(row, LONG_MEMORY), past)
    surprise, weight = x - row.level, row.weight
    if abs(surprise) > most:
        surprise, weight = clip(surprise, most), max(weight, LONG_YOUNG / max(row.interval, 1.0))
    row.level += surprise / weight
    row.deviation += (abs(surprise) - row.deviation) / max(weight - 1.0, 1.0)


@inner
def learn_near(row: Any, x: float, count: int, wide: float) -> None:
    """Learn both near levels and scales of a series that has had `count` rows; `wide` is the `stretch` of this one."""
    quick, short = near_scale(row, row.quick_scale), near_scale(row, row.short_scale)
    least = 1.0 / (count + 1.0)
    surprise = clip(x - row.quick, NEAR_CLIP * quick * wide)
    row.quick += max(2.0 / (QUICK_SPAN + 1.0), least) * surprise
    gain = max(2.0 / (QUICK_SPAN * SCALE_SPANS + 1.0), least)
    row.quick_scale += gain * (abs(surprise) / wide - row.quick_scale)
    surprise = clip(x - row.short, NEAR_CLIP * short * wide)
    row.short += max(2.0 / (SHORT_SPAN + 1.0), least) * surprise
    gain = max(2.0 / (SHORT_SPAN * SCALE_SPANS + 1.0), least)
    row.short_scale += gain * (abs(surprise) / wide - row.short_scale)


@inner
def begin(row: Any, x: float, now: int) -> None:
    """Take the first row of a series into a cleared slot."""
    row.time, row.count = now, 1
    row.last = row.least = row.level = x
    row.first[0] = 0.0


@inner
def collect(row: Any, x: float, now: int, start: int) -> None:
    """Keep one of the `start` first rows; with the last of them the first scales are found."""
    learn_interval(row, elapsed(row, now))
    row.first[row.count] = narrow(x - row.level)
    row.count += 1
    row.last, row.least, row.time = x, min(row.least, x), max(now, row.time)
    if row.count == start:
        _settle(row, start)


@inner
def _settle(row: Any, n: int) -> None:
    """Find level and scales of the first n rows: from medians, so that a burst among them hides nothing after it."""
    base, first = row.level, row.first
    middle = _median(first, n, 0.0, False)
    row.level = base + middle
    row.deviation = MAD_TO_MEAN * _median(first, n, middle, True)
    row.weight = n
    row.quick = row.short = row.level
    row.quick_scale = row.short_scale = row.deviation
    row.change = _median_change(first, n)
    for j in range(n):
        if j:
            learn_change(row, _change(first, j))
        learn_near(row, base + np.float64(first[j]), j, 1.0)


@inner
def _value(first: NDArray[Any], j: int, center: float, distance: bool) -> float:
    x = np.float64(first[j])
    return float(abs(x - center) if distance else x)


@inner
def _change(first: NDArray[Any], j: int) -> float:
    """Size of the change to the j-th of the first rows; `float` would leave it in four bytes."""
    return float(abs(np.float64(first[j]) - np.float64(first[j - 1])))


@inner
def _median(first: NDArray[Any], n: int, center: float, distance: bool) -> float:
    """Median of the first n numbers, or of their distances from a center, by counting: n is at most `FIRST`."""
    low, high = 0.0, 0.0
    for j in range(n):
        x, below, equal = _value(first, j, center, distance), 0, 0
        for other in range(n):
            y = _value(first, other, center, distance)
            below += y < x
            equal += y == x
        if below <= (n - 1) // 2 < below + equal:
            low = x
        if below <= n // 2 < below + equal:
            high = x
    return 0.5 * (low + high)


@inner
def _median_change(first: NDArray[Any], n: int) -> float:
    """The (lower) median of the changes that are not 0, by counting; 0 without any."""
    changes = 0
    for j in range(1, n):
        changes += first[j] != first[j - 1]
    for j in range(1, n):
        x, below, equal = _change(first, j), 0, 0
        for other in range(1, n):
            y = _change(first, other)
            below += 0.0 < y < x
            equal += y == x
        if x > 0.0 and below <= (changes - 1) // 2 < below + equal:
            return x
    return 0.0
