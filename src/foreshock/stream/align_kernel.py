"""From samples to rows: one sequential kernel over samples, one over entities when a watermark passes.

A kernel stops where an array is full and says so (`DONE` …); the caller makes room and calls again with the place where
it stopped. `docs/explanation/time.md` says what is done here in words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.state.jit import entry, inner
from foreshock.stream.align_close import count_in_head, drain, head_window
from foreshock.stream.align_step import DISTINCT_TIMES, find_step
from foreshock.stream.align_tables import (
    DUPLICATE,
    FOREVER,
    FUTURE,
    HOLD,
    LATE,
    LIVE_ROWS,
    MAX_PENDING,
    MAX_SOURCES,
    NEVER,
    NOT_FINITE,
    PENDING_FULL,
    SERIES_LIMIT,
    SOURCE_LIMIT,
    TIME_LIMIT,
    UNDECIDED_USED,
    USED,
    WATERMARK,
    Flag,
    Int,
    Real,
    Tables,
    has_event,
    insert,
    link,
    live_from,
    place,
)

DONE, ROOM_BEFORE, ROOM_AFTER, POOL = range(4)
"""Why a kernel stopped: all is done; rows or cells are full before or after a sample was put in; the pool is full."""


@entry
def take(
    t: Tables, slots: Any, index: Any, time: Any, value: Any, event: Any, source: Int, limit: Int, covers: Int,
    first: Int, stopped: Int, why: Int,
) -> tuple[Int, Int, Int]:  # fmt: skip
    """Take samples of one intake from `first` on; (next sample, entity stopped at, why).

    `slots int32[k]` series slots of the intake's dictionary (-1 = no room), `index int32[n]` into it; `limit` is the
    largest time that is not `future`, `covers` how long a sample stands. `stopped`, `why` are what the last call
    returned.
    """
    i, n = first, len(index)
    tried = first if why == ROOM_BEFORE else -1
    to_drain = np.int64(stopped) if why in (ROOM_BEFORE, ROOM_AFTER) else np.int64(-1)
    while True:
        if to_drain >= 0:
            if not drain(t, to_drain, t.entity[to_drain].clock, tried != i):
                return i, to_drain, ROOM_BEFORE if tried == i else ROOM_AFTER
            to_drain = np.int64(-1)
        if i == n:
            return n, -1, DONE
        s = slots[index[i]]
        if s < 0:
            t.counts[SERIES_LIMIT] += 1
            i += 1
            continue
        e = np.int64(t.series_entity[s])
        refused = _refuse(t, e, s, time[i], event[i], source, limit)
        if refused >= 0:
            if refused == LATE and time[i] >= -TIME_LIMIT:
                _note_source(t, e, source, time[i])
                _expect(t, e, s, time[i])
            if refused == LATE or (refused == DUPLICATE and event[i] != 0):
                _doubt(t.entity[e], time[i])
            t.counts[refused] += 1
            i += 1
            continue
        _raise_clock(t, e, source, time[i])
        if not _has_room(t, e):
            if tried != i:
                tried, to_drain = i, e
            else:
                t.counts[PENDING_FULL] += 1
                i += 1
            continue
        if t.number[USED] == len(t.pool):
            return i, -1, POOL
        accepted = _accept(t, e, s, time[i], value[i], event[i], source, time[i] + covers < t.number[WATERMARK])
        if accepted or t.entity[e].clock >= t.entity[e].due:
            to_drain = e
        i += 1


@inner
def _refuse(t: Tables, e: Int, s: Int, when: Int, event: Int, source: Int, limit: Int) -> Int:
    """Why a sample is not taken, or -1."""
    r = t.entity[e]
    if when > limit:
        return FUTURE
    if when < -TIME_LIMIT:
        return LATE
    late = when < r.clock or when < r.closed_end
    if late and when == t.series[s].last_time:
        return DUPLICATE
    if _repeats(t, e, s, when, event):
        return DUPLICATE
    if late:
        return LATE
    if r.sources == MAX_SOURCES and _source_place(t, e, source) == MAX_SOURCES:
        return SOURCE_LIMIT
    return -1


@inner
def _repeats(t: Tables, e: Int, s: Int, when: Int, event: Int) -> Flag:
    """Whether a pending sample is the same: by event id, or by time unless both have (different) ids."""
    if event != 0 and has_event(t, s, event):
        return True
    q = t.series[s]
    if when > q.max_time:
        return False
    if when == q.max_time:
        return event == 0 or q.max_id == 0
    n = place(t, e, when)
    while n >= 0 and t.pool[n].time == when:
        if t.pool[n].series == s and (event == 0 or t.pool[n].event == 0):
            return True
        n = t.pool[n].previous
    return False


@inner
def _source_place(t: Tables, e: Int, source: Int) -> Int:
    """Where a source stands among the entity's; their number if it is new."""
    r = t.entity[e]
    k = 0
    while k < r.sources and r.source[k] != source:
        k += 1
    return k


@inner
def _note_source(t: Tables, e: Int, source: Int, when: Int) -> Flag:
    """Follow how far a source of the entity has come; whether that is further than before.

    Also by late samples: the clock does not go back for them, but then waits for their source while it is live.
    """
    r = t.entity[e]
    k = _source_place(t, e, source)
    if k == MAX_SOURCES:
        return False
    if k == r.sources:
        r.sources = k + 1
        r.source[k] = source
    elif when <= r.source_time[k]:
        return False
    r.source_time[k] = when
    return True


@inner
def _expect(t: Tables, e: Int, s: Int, when: Int) -> None:
    """Let a column count as live that came just too late, so that the next window waits for it.

    A new feature stands behind those known in its sender's records: their window may be closed when it comes.
    """
    r, q = t.entity[e], t.series[s]
    if r.step < 0 or r.closed_end == NEVER or when < r.closed_end - LIVE_ROWS * r.step:
        return
    was_live = q.linked == 1 and r.rows + 1 - q.seen <= LIVE_ROWS
    if q.linked == 0:
        link(t, e, s)
    q.seen = r.rows
    if not was_live:
        r.live += 1
        r.head_live += r.head >= 0 and q.mark == r.generation


@inner
def _doubt(r: Any, when: Int) -> None:
    """Where a window closed before its time and a sample was still to come, have it shown anew that none comes."""
    if r.clock <= when < r.closed_end:
        r.single = 0


@inner
def _raise_clock(t: Tables, e: Int, source: Int, when: Int) -> None:
    r = t.entity[e]
    if not _note_source(t, e, source, when):
        return
    r.newest = max(r.newest, when)
    live = live_from(r)
    low = FOREVER
    for k in range(r.sources):
        if r.source_time[k] >= live:
            low = min(low, r.source_time[k] - t.lateness[r.source[k]])
    r.clock = max(r.clock, low)


@inner
def _has_room(t: Tables, e: Int) -> Flag:
    """Whether the pool may take one more; entities without a step get three quarters of it, new ones all told."""
    most = t.number[MAX_PENDING]
    if t.number[USED] >= most:
        return False
    return t.entity[e].step >= 0 or 4 * t.number[UNDECIDED_USED] < 3 * most


@inner
def _accept(t: Tables, e: Int, s: Int, when: Int, value: Real, event: Int, source: Int, is_old: Flag) -> Flag:
    """Put a sample among the pending ones; whether something may close for it before its time.

    Where this one was wanting, the step is found. `is_old`: it is behind the watermark.
    """
    r = t.entity[e]
    q = t.series[s]
    if np.isinf(value):
        t.counts[NOT_FINITE] += 1
        value = np.nan
    if is_old:
        r.hold = t.number[WATERMARK] + t.number[HOLD]
        t.due[e] = max(r.due, r.hold)
    if when > q.max_time:
        q.max_time = when
        q.max_id = event != 0
    n = insert(t, e, s, when, value, event, _source_place(t, e, source))
    if r.step < 0:
        t.number[UNDECIDED_USED] += 1
        before = t.pool[n].previous
        if before < 0 or t.pool[before].time != when:
            r.distinct += 1
        if r.distinct < DISTINCT_TIMES:
            return False
        decide(t, e, when)
        return True
    if r.head == r.tail or when < r.head_start:
        head_window(t, e)
        return True
    if when < r.head_end:
        count_in_head(t, e, n)
    # Also where it came later: its source may be the one that was waited for.
    return r.head_live >= r.live


@inner
def decide(t: Tables, e: Int, when: Int) -> None:
    """Find the entity's step from what is pending; `when` decided."""
    r = t.entity[e]
    r.step = find_step(t, e)
    r.decided = when
    t.number[UNDECIDED_USED] -= r.pending
    head_window(t, e)


@entry
def advance(t: Tables, watermark: Int, first: Int) -> Int:
    """Close what a watermark decides, from entity `first` on; the entity where rows or cells are full, or their number.

    At the end of time (FOREVER) all that is pending is closed, with steps found from what there is; that nothing
    follows then is no silence.
    """
    for e in range(first, len(t.due)):
        r = t.entity[e]
        if watermark == FOREVER:
            if r.head < 0:
                continue
            if r.step < 0:
                decide(t, e, NEVER)
        elif t.due[e] > watermark:
            continue
        if not drain(t, e, max(watermark, r.clock), True):
            return e
    return len(t.due)


@entry
def set_due(t: Tables) -> None:
    """Work out `due` of all entities, closing nothing."""
    for e in range(len(t.due)):
        drain(t, e, NEVER, False)
