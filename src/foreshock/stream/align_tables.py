"""What alignment remembers, as arrays, and the pool of samples that wait: a sorted linked list an entity."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from foreshock.state.jit import allocating, entry, inner

NEVER = -(1 << 63)
"""A time before all others."""

FOREVER = (1 << 63) - 1
"""A time after all others; as a watermark the end of a replay."""

TIME_LIMIT = 1 << 62
"""Times further than this from the epoch (146 years) are not believed."""

UNDECIDED, IRREGULAR = -1, 0
"""`step` of an entity before it is found, and of one whose every distinct time is a row."""

MAX_SOURCES = 8
LIVE_ROWS = 5
"""A column is live while it was seen in one of so many last rows."""

_LIVE_STEPS, _LIVE_LEAST = 5, 60_000_000_000
"""A source is live within so many steps, and at least so long, of the entity's newest sample."""

ENTITY = np.dtype(
    [
        ("step", "i8"),  # nanoseconds between rows, or UNDECIDED or IRREGULAR
        ("clock", "i8"),  # the entity's own clock; never falls
        ("newest", "i8"),  # largest event time
        ("hold", "i8"),  # watermarks below this close nothing of it
        ("due", "i8"),  # the clock at which something closes
        ("closed_end", "i8"),  # end of the last closed window: samples before it are late
        ("last_time", "i8"),  # time of the last row with samples
        ("last_first", "i8"),  # its earliest sample
        ("decided", "i8"),  # time of the sample that decided the step: no row was decided before it
        ("jitter", "i8"),  # how far from whole steps rows lie apart, decaying
        ("head_start", "i8"),  # the window of the earliest pending sample
        ("head_end", "i8"),
        ("source_time", "i8", (MAX_SOURCES,)),  # largest event time by source
        ("source", "i4", (MAX_SOURCES,)),
        ("head", "i4"),  # pending samples in time order: first, last, last inserted, how many, distinct times
        ("tail", "i4"),
        ("hint", "i4"),
        ("pending", "i4"),
        ("distinct", "i4"),
        ("live_head", "i4"),  # live columns in order: first, last, how many, how many in the next row
        ("live_tail", "i4"),
        ("live_length", "i4"),
        ("live", "i4"),
        ("generation", "i4"),  # number of the head window; the columns counted in it carry it as `mark`
        ("head_samples", "i4"),  # samples, columns and live columns in the head window
        ("head_columns", "i4"),
        ("head_live", "i4"),
        ("rows", "i4"),  # rows with samples so far
        ("missing", "u2"),  # MISSING rows since the last of them
        ("sources", "u1"),
        ("row_sources", "u1"),  # bit mask: sources that rows came from
        ("single", "u1"),  # rows in a row with at most one sample a column
        ("stale", "u1"),
        ("head_ids", "u1"),  # the head window has samples with event ids
        ("spare", "u1"),  # no gaps between fields: equal states have equal bytes
    ],
    align=True,
)
NEW_ENTITY = {
    "step": UNDECIDED, "clock": NEVER, "newest": NEVER, "hold": NEVER, "due": FOREVER, "closed_end": NEVER,
    "last_time": NEVER, "last_first": NEVER, "decided": NEVER, "head": -1, "tail": -1, "hint": -1,
    "live_head": -1, "live_tail": -1,
}  # fmt: skip

SERIES = np.dtype(
    [
        ("last_time", "i8"),  # newest sample that is in a row
        ("max_time", "i8"),  # newest sample, pending or in a row
        ("before_time", "i8"),  # a counter's last sample
        ("before_value", "f8"),
        ("sum", "f8"),  # of the row being made
        ("count", "i4"),
        ("seen", "i4"),  # number of the last row it was in
        ("mark", "i4"),
        ("next", "i4"),  # next live column of the entity
        ("linked", "i4"),
        ("max_id", "i4"),  # the sample at `max_time` has an event id
    ],
    align=True,
)
NEW_SERIES = {"last_time": NEVER, "max_time": NEVER, "before_time": NEVER, "next": -1}

NODE = np.dtype(
    [
        ("time", "i8"),
        ("value", "f8"),
        ("event", "u8"),
        ("series", "i4"),
        ("next", "i4"),
        ("previous", "i4"),
        ("chain", "i4"),  # next of the same hash bucket
        ("source", "i4"),
        ("spare", "i4"),
    ],
    align=True,
)
PENDING = np.dtype([("time", "i8"), ("value", "f8"), ("event", "u8"), ("series", "i4"), ("source", "i4")], align=True)
ROW = np.dtype([("time", "i8"), ("end", "i8"), ("start", "i8"), ("entity", "i4"), ("status", "u1")], align=True)

FREE, USED, UNDECIDED_USED, ROWS, CELLS, WATERMARK, MAX_PENDING, SILENCE_STEPS, EXPIRY, HOLD = range(10)
"""Places in `Tables.number`; from MAX_PENDING on they are settings."""

REASONS = (
    "late", "future", "duplicate", "series_limit", "pending_full", "source_limit", "not_finite", "counter_reset",
)  # fmt: skip
LATE, FUTURE, DUPLICATE, SERIES_LIMIT, PENDING_FULL, SOURCE_LIMIT, NOT_FINITE, COUNTER_RESET = range(8)
"""Places in `Tables.counts`."""


Int = Any
"""An integer in a kernel; numba knows its width."""

Real = Any
"""A floating point number in a kernel."""

Flag = Any
"""A truth value in a kernel."""


class Tables(NamedTuple):
    """All arrays that the kernels work on."""

    entity: Any
    """ENTITY, by entity slot."""
    series: Any
    """SERIES, by series slot."""
    due: Any
    """int64 by entity slot: the watermark that would close something (`due`, not below `hold`)."""
    pool: Any
    """NODE."""
    buckets: Any
    """int32, a power of two: heads of the hash chains of samples with event ids."""
    number: Any
    """int64: counters and settings, see FREE …"""
    counts: Any
    """int64: what was dropped, see REASONS."""
    lateness: Any
    """int64 nanoseconds by source."""
    row: Any
    """ROW: rows decided."""
    cell_series: Any
    """int32: their cells."""
    cell_value: Any
    """float64."""
    series_entity: Any
    """int32, the registry's."""
    counter: Any
    """bool, the registry's."""
    scratch: Any
    """int64: intervals between samples."""


@inner
def bucket_of(buckets: Any, series: Int, event: Int) -> Int:
    """Where the hash chain of (series, event id) begins."""
    mixed = (np.uint64(event) + np.uint64(series) * np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(len(buckets) - 1))


@inner
def has_event(t: Tables, series: Int, event: Int) -> Flag:
    """Whether a sample of this series and event id is pending."""
    n = t.buckets[bucket_of(t.buckets, series, event)]
    while n >= 0:
        if t.pool[n].series == series and t.pool[n].event == event:
            return True
        n = t.pool[n].chain
    return False


@inner
def add_event(t: Tables, n: Int) -> None:
    """Put a node with an event id into the hash."""
    b = bucket_of(t.buckets, t.pool[n].series, t.pool[n].event)
    t.pool[n].chain = t.buckets[b]
    t.buckets[b] = n


@inner
def drop_event(t: Tables, n: Int) -> None:
    """Take a node with an event id out of the hash."""
    b = bucket_of(t.buckets, t.pool[n].series, t.pool[n].event)
    at = t.buckets[b]
    if at == n:
        t.buckets[b] = t.pool[n].chain
        return
    while t.pool[at].chain != n:
        at = t.pool[at].chain
    t.pool[at].chain = t.pool[n].chain


@inner
def place(t: Tables, e: Int, when: Int) -> Int:
    """The last pending node of the entity that is not after `when`, or -1.

    The walk starts where the last sample went in: sources that lag behind the others stay cheap.
    """
    r = t.entity[e]
    n = r.tail
    if n < 0 or t.pool[n].time <= when:
        return n
    if r.hint >= 0:
        n = r.hint
    while t.pool[n].time <= when:
        after = t.pool[n].next
        if after < 0 or t.pool[after].time > when:
            return n
        n = after
    while n >= 0 and t.pool[n].time > when:
        n = t.pool[n].previous
    return n


@inner
def insert(t: Tables, e: Int, series: Int, when: Int, value: Real, event: Int, source: Int) -> Int:
    """Put a sample behind those of its time; its node. The pool must have a free one."""
    before = place(t, e, when)
    n = t.number[FREE]
    t.number[FREE] = t.pool[n].next
    t.number[USED] += 1
    r = t.entity[e]
    p = t.pool[n]
    p.time, p.value, p.event, p.series, p.source = when, value, event, series, source
    after = r.head if before < 0 else t.pool[before].next
    p.previous, p.next = before, after
    if before < 0:
        r.head = n
    else:
        t.pool[before].next = n
    if after < 0:
        r.tail = n
    else:
        t.pool[after].previous = n
    r.hint = n
    r.pending += 1
    if event != 0:
        add_event(t, n)
    return n


@inner
def pop(t: Tables, e: Int) -> Int:
    """Take the earliest pending sample out; its node stays readable until the next insertion."""
    r = t.entity[e]
    n = r.head
    p = t.pool[n]
    if p.event != 0:
        drop_event(t, n)
    r.head = p.next
    if r.head < 0:
        r.tail = -1
    else:
        t.pool[r.head].previous = -1
    if r.hint == n:
        r.hint = r.head
    r.pending -= 1
    p.next = t.number[FREE]
    t.number[FREE] = n
    t.number[USED] -= 1
    return n


@inner
def link(t: Tables, e: Int, s: Int) -> None:
    """Put a series among the live columns of its entity, in column order (slots of an entity only grow)."""
    r = t.entity[e]
    q = t.series[s]
    q.linked = 1
    r.live_length += 1
    if r.live_tail < 0 or s > r.live_tail:
        q.next = -1
        if r.live_tail < 0:
            r.live_head = s
        else:
            t.series[r.live_tail].next = s
        r.live_tail = s
        return
    if s < r.live_head:
        q.next = r.live_head
        r.live_head = s
        return
    at = r.live_head
    while t.series[at].next < s:
        at = t.series[at].next
    q.next = t.series[at].next
    t.series[at].next = s


@inner
def live_from(r: Any) -> Int:
    """From which time on a source of an entity is live, by how far it has come."""
    return r.newest - max(_LIVE_STEPS * r.step, _LIVE_LEAST)


@inner
def clear_live(t: Tables, e: Int) -> None:
    """Let no column of the entity be live."""
    r = t.entity[e]
    s = r.live_head
    while s >= 0:
        t.series[s].linked = 0
        s = t.series[s].next
    r.live_head, r.live_tail, r.live_length, r.live = -1, -1, 0, 0


def new_pool(size: int) -> tuple[Any, Any]:
    """An empty pool of `size` nodes (a power of two) and its hash."""
    pool = np.zeros(size, NODE)
    pool["next"] = np.arange(1, size + 1)
    pool["next"][-1] = -1
    return pool, np.full(size, -1, np.int32)


@entry
def release(t: Tables, slot: Int) -> None:
    """Let go of an entity's pending samples."""
    e = np.int64(slot)
    if t.entity[e].step < 0:
        t.number[UNDECIDED_USED] -= t.entity[e].pending
    while t.entity[e].head >= 0:
        pop(t, e)


@allocating
def save(t: Tables) -> Any:
    """The pending samples of all entities, PENDING, in the order of their lists."""
    out = np.empty(t.number[USED], PENDING)
    count = 0
    for e in range(len(t.due)):
        n = t.entity[e].head
        while n >= 0:
            p = t.pool[n]
            o = out[count]
            o.time, o.value, o.event, o.series, o.source = p.time, p.value, p.event, p.series, p.source
            count += 1
            n = p.next
    return out


@entry
def restore(t: Tables, pending: Any) -> None:
    """Put back what `save` gave into an empty pool that has room for it."""
    for e in range(len(t.due)):
        r = t.entity[e]
        r.head, r.tail, r.hint, r.pending = -1, -1, -1, 0
    for i in range(len(pending)):
        p = pending[i]
        slot = np.int64(t.series_entity[p.series])
        insert(t, slot, p.series, p.time, p.value, p.event, p.source)
        if t.entity[slot].step < 0:
            t.number[UNDECIDED_USED] += 1


@allocating
def reach(t: Tables, entities: Any) -> Any:
    """The series that closing rows of these entities may write to: int32[n], some more than once."""
    count = 0
    for e in entities:
        count += t.entity[e].live_length + t.entity[e].pending
    out = np.empty(count, np.int32)
    at = 0
    for e in entities:
        s = t.entity[e].live_head
        while s >= 0:
            out[at] = s
            at += 1
            s = t.series[s].next
        n = t.entity[e].head
        while n >= 0:
            out[at] = t.pool[n].series
            at += 1
            n = t.pool[n].next
    return out
