"""Derived features, row by row: rings of past values a series, statistics over windows of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from foreshock.state.jit import entry, inner
from foreshock.types import Status

RATE, RATIO, MEAN, STD, MIN, MAX, QUANTILE, LAG, SLOPE, SHARE, HOUR, DAY = range(12)
"""What a program does, in the order of `FeatureOptions.do`."""

NEVER = -(1 << 63)
SMALLEST, LARGEST = 16, 4096
"""Sizes of rings, powers of two; beyond the largest the oldest value goes."""

ENTITY = np.dtype([("rows", "i8"), ("first_time", "i8")])
SERIES = np.dtype(
    [
        ("before_time", "i8"),  # the last value, for rates
        ("before_value", "f8"),
        ("offset", "i8"),  # the ring: place in RING, size (0 = none), first, how many
        ("capacity", "i4"),
        ("start", "i4"),
        ("count", "i4"),
        ("spare", "i4"),
    ]
)
RING = np.dtype([("time", "i8"), ("value", "f8"), ("row", "i8")])
PROGRAM = np.dtype(
    [
        ("over", "i8"),  # window, nanoseconds
        ("lag", "i8"),  # nanoseconds, 0 = rows
        ("lag_rows", "i8"),
        ("q", "f8"),
        ("do", "i4"),
        ("out", "i4"),  # series slot of the result
        ("by", "i4"),  # series slot of the denominator
        ("tumbling", "i4"),
        ("next", "i4"),  # next program of the same series
        ("order", "i4"),  # place among the declared features
    ]
)
PLAN = np.dtype(
    [
        ("keep", "i8"),  # nanoseconds of past values that programs need
        ("keep_rows", "i8"),
        ("first", "i4"),  # first program
        ("programs", "i4"),
        ("ring", "i4"),
        ("group", "i4"),  # series of one name of one entity, for shares; -1 = not needed
    ]
)
TOP, STAMP = range(2)
"""Places in `Tables.number`: end of the used part of RING; number of the row being made."""

_HOUR, _DAY = 3_600_000_000_000, 86_400_000_000_000
_SCORED = int(Status.SCORED)


class Tables(NamedTuple):
    """All arrays that the kernels work on."""

    entity: Any
    """ENTITY, by entity slot."""
    series: Any
    """SERIES, by series slot."""
    ring: Any
    """RING: blocks of it are the rings."""
    free: Any
    """int64: first free block of each size, by its power of two."""
    plan: Any
    """PLAN, by series slot."""
    program: Any
    """PROGRAM."""
    calendar: Any
    """int32[entities, 2]: series slots of hour_of_day and day_of_week, -1 = not wanted."""
    number: Any
    """int64, see TOP and STAMP."""
    current: Any
    """float64, by series slot: value in the row being made, where `stamp` says so."""
    stamp: Any
    """int64, by series slot."""
    total: Any
    """float64, by group: sum over the row being made."""
    scratch: Any
    """float64[LARGEST]."""


@entry
def derive(
    t: Tables, entity: Any, time: Any, status: Any, start: Any, series: Any, value: Any, out_start: Any,
    out_series: Any, out_value: Any, first: int,
) -> Any:  # fmt: skip
    """Copy rows from `first` on with their derived cells behind their own; the row for which RING is full, or n.

    The arrays are those of `Rows`; the output has room for all cells.
    """
    for i in range(first, len(entity)):
        cells = range(start[i], start[i + 1])
        scored = status[i] == _SCORED
        e = entity[i]
        if scored:
            for c in cells:
                if not np.isnan(value[c]) and not _make_room(t, series[c], time[i], t.entity[e].rows + 1):
                    return i
            t.entity[e].rows += 1
            if t.entity[e].first_time == NEVER:
                t.entity[e].first_time = time[i]
        t.number[STAMP] += 1
        at = out_start[i]
        for c in cells:
            out_series[at], out_value[at] = series[c], value[c]
            at += 1
            _notice(t, series[c], value[c], time[i], t.entity[e].rows, scored)
        for c in cells:
            at = _run_programs(t, series[c], time[i], t.entity[e].rows, scored, out_series, out_value, at)
        at = _run_calendar(t, e, time[i], scored, out_series, out_value, at)
        for c in cells:
            _pass_on(t, series[c], value[c], time[i], scored)
        out_start[i + 1] = at
    return len(entity)


@inner
def _make_room(t: Tables, s: int, time: int, row: int) -> Any:
    """Let go of what no program needs any more and see to it that one more value fits; False where RING is full."""
    plan = t.plan[s]
    if plan.ring == 0:
        return True
    q = t.series[s]
    while q.count > 0:
        oldest = t.ring[q.offset + q.start]
        if oldest.time > time - plan.keep or oldest.row >= row - plan.keep_rows:
            break
        q.start = (q.start + 1) & (q.capacity - 1)
        q.count -= 1
    if q.count < q.capacity:
        return True
    if q.capacity == LARGEST:
        q.start = (q.start + 1) & (LARGEST - 1)
        q.count -= 1
        return True
    return _grow_ring(t, s)


@inner
def _grow_ring(t: Tables, s: int) -> Any:
    q = t.series[s]
    size = max(SMALLEST, 2 * q.capacity)
    offset = take_block(t, size)
    if offset < 0:
        return False
    for k in range(q.count):
        t.ring[offset + k] = t.ring[q.offset + ((q.start + k) & (q.capacity - 1))]
    drop_block(t, q.offset, q.capacity)
    q.offset, q.capacity, q.start = offset, size, 0
    return True


@inner
def _power(size: int) -> Any:
    power = 0
    while 1 << power < size:
        power += 1
    return power


@inner
def take_block(t: Tables, size: int) -> Any:
    """Where `size` entries of RING are free, or -1."""
    power = _power(size)
    offset = t.free[power]
    if offset >= 0:
        t.free[power] = t.ring[offset].row
        return offset
    if t.number[TOP] + size > len(t.ring):
        return -1
    t.number[TOP] += size
    return t.number[TOP] - size


@inner
def drop_block(t: Tables, offset: int, size: int) -> None:
    """Make a block free; the first entry of a free block holds the next one in `row`."""
    if size > 0:
        power = _power(size)
        t.ring[offset].row = t.free[power]
        t.free[power] = offset


@entry
def drop_ring(t: Tables, s: int) -> None:
    """Give back the ring of a series."""
    q = t.series[s]
    drop_block(t, q.offset, q.capacity)
    q.capacity, q.count, q.start = 0, 0, 0


@entry
def repack(t: Tables, saved: Any) -> None:
    """Lay the rings of a saved state (its RING) one behind the other into an empty one that has room for them."""
    for s in range(len(t.series)):
        q = t.series[s]
        if q.capacity == 0:
            continue
        offset = take_block(t, q.capacity)
        for k in range(q.capacity):
            t.ring[offset + k] = saved[q.offset + k]
        q.offset = offset


@inner
def _notice(t: Tables, s: int, value: float, time: int, row: int, scored: bool) -> None:
    """Make the row's own value known to rings, ratios and shares."""
    t.current[s] = value
    t.stamp[s] = t.number[STAMP]
    if not scored or np.isnan(value):
        return
    plan, q = t.plan[s], t.series[s]
    if plan.ring == 1:
        new = t.ring[q.offset + ((q.start + q.count) & (q.capacity - 1))]
        new.time, new.value, new.row = time, value, row
        q.count += 1
    if plan.group >= 0:
        t.total[plan.group] += value


@inner
def _pass_on(t: Tables, s: int, value: float, time: int, scored: bool) -> None:
    """What the next row needs to know."""
    if t.plan[s].group >= 0:
        t.total[t.plan[s].group] = 0.0
    if scored and not np.isnan(value):
        t.series[s].before_time, t.series[s].before_value = time, value


@inner
def _run_programs(
    t: Tables, s: int, time: int, row: int, scored: bool, out_series: Any, out_value: Any, at: int
) -> Any:  # fmt: skip
    p = t.plan[s].first
    while p >= 0:
        program = t.program[p]
        p = program.next
        if program.do == RATIO and t.stamp[program.by] != t.number[STAMP]:
            continue
        out_series[at] = program.out
        out_value[at] = _value(t, program, s, time, row) if scored else np.nan
        at += 1
    return at


@inner
def _run_calendar(t: Tables, e: int, time: int, scored: bool, out_series: Any, out_value: Any, at: int) -> Any:
    """Hour of day and day of week (UTC, Monday = 0), once the entity has two days or weeks of history."""
    since = t.entity[e].first_time
    if since == NEVER:
        return at
    if t.calendar[e, 0] >= 0 and time - since >= 2 * _DAY:
        out_series[at] = t.calendar[e, 0]
        out_value[at] = time // _HOUR % 24 if scored else np.nan
        at += 1
    if t.calendar[e, 1] >= 0 and time - since >= 14 * _DAY:
        out_series[at] = t.calendar[e, 1]
        out_value[at] = (time // _DAY + 3) % 7 if scored else np.nan
        at += 1
    return at


@inner
def _value(t: Tables, program: Any, s: int, time: int, row: int) -> Any:
    """What a program gives for this row; NaN where there is nothing to go by."""
    now = t.current[s]
    if program.do == RATE:
        since = t.series[s].before_time
        return (now - t.series[s].before_value) / ((time - since) / 1e9) if NEVER < since < time else np.nan
    if program.do == RATIO:
        by = t.current[program.by]
        return now / by if by != 0 else np.nan
    if program.do == SHARE:
        total = t.total[t.plan[s].group]
        return now / total if total != 0 else np.nan
    if program.do == LAG:
        return _lagged(t, program, s, time, row)
    if program.tumbling == 1:
        end = time - time % program.over
        return _statistic(t, program, s, end - program.over - 1, end - 1, time)
    return _statistic(t, program, s, time - program.over, time, time)


@inner
def _lagged(t: Tables, program: Any, s: int, time: int, row: int) -> Any:
    """The value so many rows ago, or the newest that is at least `lag` old and less than twice that."""
    q = t.series[s]
    for k in range(q.count - 1, -1, -1):
        old = t.ring[q.offset + ((q.start + k) & (q.capacity - 1))]
        if program.lag > 0:
            if old.time <= time - program.lag:
                return old.value if old.time > time - 2 * program.lag else np.nan
        elif old.row <= row - program.lag_rows:
            return old.value if old.row == row - program.lag_rows else np.nan
    return np.nan


@inner
def _statistic(t: Tables, program: Any, s: int, after: int, until: int, time: int) -> Any:
    """A statistic of the values with after < time ≤ until, in the order of time."""
    q = t.series[s]
    mask = q.capacity - 1
    high = q.count
    while high > 0 and t.ring[q.offset + ((q.start + high - 1) & mask)].time > until:
        high -= 1
    low = high
    while low > 0 and t.ring[q.offset + ((q.start + low - 1) & mask)].time > after:
        low -= 1
    n = high - low
    if n == 0:
        return np.nan
    for k in range(n):
        t.scratch[k] = t.ring[q.offset + ((q.start + low + k) & mask)].value
    x = t.scratch[:n]
    if program.do == MEAN:
        return _mean(x)
    if program.do == STD:
        return _std(x)
    if program.do == SLOPE:
        return _slope(t, x, q.offset, q.start + low, mask, time)
    if program.do == QUANTILE:
        return quantile(x, program.q)
    best = x[0]
    for k in range(1, n):
        if (x[k] < best) == (program.do == MIN):
            best = x[k]
    return best


@inner
def _mean(x: Any) -> Any:
    total = 0.0
    for one in x:
        total += one
    return total / len(x)


@inner
def _std(x: Any) -> Any:
    """Of the values as they are (divided by n), from their mean."""
    mean, total = _mean(x), 0.0
    for one in x:
        total += (one - mean) * (one - mean)
    return np.sqrt(total / len(x))


@inner
def _slope(t: Tables, x: Any, offset: int, start: int, mask: int, time: int) -> Any:
    """Least squares, per second; NaN of fewer than two times."""
    mean, middle = _mean(x), 0.0
    for k in range(len(x)):
        middle += (t.ring[offset + ((start + k) & mask)].time - time) / 1e9
    middle /= len(x)
    above, below = 0.0, 0.0
    for k in range(len(x)):
        apart = (t.ring[offset + ((start + k) & mask)].time - time) / 1e9 - middle
        above += apart * (x[k] - mean)
        below += apart * apart
    return above / below if below > 0 else np.nan


@inner
def quantile(x: Any, q: float) -> Any:
    """Linear between order statistics (type 7 of Hyndman and Fan 1996); puts `x` into another order."""
    place = q * (len(x) - 1)
    k = int(place)
    low = _select(x, k)
    if k + 1 >= len(x) or place == k:
        return low
    high = x[k + 1]
    for i in range(k + 2, len(x)):
        high = min(high, x[i])
    return low + (place - k) * (high - low)


@inner
def _select(x: Any, k: int) -> Any:
    """The k-th smallest (Hoare 1961): smaller ones stand before it, larger ones behind."""
    left, right = 0, len(x) - 1
    while left < right:
        pivot, i, j = x[(left + right) // 2], left, right
        while i <= j:
            while x[i] < pivot:
                i += 1
            while x[j] > pivot:
                j -= 1
            if i <= j:
                x[i], x[j] = x[j], x[i]
                i += 1
                j -= 1
        if k <= j:
            right = j
        elif k >= i:
            left = i
        else:
            return x[k]
    return x[k]
