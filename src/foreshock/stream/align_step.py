"""At which step an entity speaks, found from the times of its first samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.state.jit import inner
from foreshock.stream.align_tables import IRREGULAR, NEVER, Int, Tables

DISTINCT_TIMES = 10
"""So many distinct times decide."""

LONGEST_STEP = 31 * 86400 * 1_000_000_000
"""Times further apart have no step (nanoseconds); it also keeps sums of times within int64."""

_SECOND = 1_000_000_000
_NICE = np.array(
    [100_000_000, 200_000_000, 500_000_000]
    + [_SECOND * n for n in (1, 2, 5, 10, 15, 20, 30)]
    + [_SECOND * 60 * n for n in (1, 2, 5, 10, 15, 30)]
    + [_SECOND * 3600 * n for n in (1, 2, 3, 4, 6, 8, 12, 24)],
    np.int64,
)
_FEWEST = 4
"""Intervals within series that say anything."""


@inner
def step_of(intervals: Any) -> Int:
    """The step in intervals `int64[n]` (positive, nanoseconds), or IRREGULAR; sorts them in place.

    Regular = at least 70 % lie within 20 % of the median of 1, 2 or 3 times the (lower) median; the step is the
    median, or the usual value within 5 % of it.
    """
    n = len(intervals)
    if n == 0:
        return IRREGULAR
    for i in range(1, n):
        one, k = intervals[i], i
        while k > 0 and intervals[k - 1] > one:
            intervals[k] = intervals[k - 1]
            k -= 1
        intervals[k] = one
    median = intervals[(n - 1) // 2]
    fitting = 0
    for i in range(n):
        for times in range(1, 4):
            if abs(intervals[i] - times * median) <= median // 5:
                fitting += 1
                break
    if 10 * fitting < 7 * n or median > LONGEST_STEP:
        return IRREGULAR
    for i in range(len(_NICE)):
        if abs(median - _NICE[i]) <= _NICE[i] // 20:
            return _NICE[i]
    return median


@inner
def find_step(t: Tables, e: Int) -> Int:
    """The step of an entity from its pending samples, or IRREGULAR.

    First from the intervals between its distinct times. If these are irregular, from the intervals within each of its
    series: sources that report in step but at different moments look irregular only when taken together.
    """
    count = 0
    n = t.entity[e].head
    before = NEVER
    while n >= 0 and count < len(t.scratch):
        when = t.pool[n].time
        if before != NEVER and when != before:
            t.scratch[count] = when - before
            count += 1
        before = when
        n = t.pool[n].next
    step = step_of(t.scratch[:count])
    if step != IRREGULAR:
        return step
    count = _within_series(t, e)
    return step_of(t.scratch[:count]) if count >= _FEWEST else IRREGULAR


@inner
def _within_series(t: Tables, e: Int) -> Int:
    """Fill in intervals within each series; how many. `last_time` is free to use: no row was made yet."""
    count = 0
    n = t.entity[e].head
    while n >= 0 and count < len(t.scratch):
        p = t.pool[n]
        q = t.series[p.series]
        if q.last_time != NEVER and p.time != q.last_time:
            t.scratch[count] = p.time - q.last_time
            count += 1
        q.last_time = p.time
        n = p.next
    n = t.entity[e].head
    while n >= 0:
        t.series[t.pool[n].series].last_time = NEVER
        n = t.pool[n].next
    return count
