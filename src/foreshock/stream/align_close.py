"""Closing windows: which is next, when it is sure, and its row."""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.state.jit import inner
from foreshock.stream.align_tables import (
    CELLS,
    COUNTER_RESET,
    EXPIRY,
    FOREVER,
    IRREGULAR,
    LIVE_ROWS,
    NEVER,
    ROWS,
    SILENCE_STEPS,
    Flag,
    Int,
    Real,
    Tables,
    clear_live,
    link,
    live_from,
    pop,
)
from foreshock.types import Status

_MISSING, _STALE, _SCORED = int(Status.MISSING), int(Status.STALE), int(Status.SCORED)
_SINGLE_ROWS = 3
"""So many rows with one sample a column before a window may close early."""
_SINGLE_EVENTS = 10
"""The same where samples have event ids: two of them may have one time, and neither repeats the other."""


@inner
def head_window(t: Tables, e: Int) -> None:
    """Look at the window of the earliest pending sample anew."""
    r = t.entity[e]
    r.generation += 1
    r.head_samples, r.head_columns, r.head_live, r.head_ids = 0, 0, 0, 0
    if r.head < 0:
        return
    when = t.pool[r.head].time
    r.head_start = when - when % r.step if r.step > 0 else when
    r.head_end = r.head_start + r.step if r.step > 0 else when + 1
    n = r.head
    while n >= 0 and t.pool[n].time < r.head_end:
        count_in_head(t, e, n)
        n = t.pool[n].next


@inner
def count_in_head(t: Tables, e: Int, n: Int) -> None:
    """Count a sample that lies in the head window."""
    r = t.entity[e]
    q = t.series[t.pool[n].series]
    r.head_samples += 1
    if t.pool[n].event != 0:
        r.head_ids = 1
    if q.mark != r.generation:
        q.mark = r.generation
        r.head_columns += 1
        if q.linked == 1 and r.rows + 1 - q.seen <= LIVE_ROWS:
            r.head_live += 1


@inner
def drain(t: Tables, e: Int, clock: Int, early: Flag) -> Flag:
    """Close all that ends at or before `clock`, and early what is complete; False where rows or cells are full."""
    r = t.entity[e]
    due = FOREVER
    while r.step >= 0:
        if _is_silent(t, e):
            if r.head < 0 and clock == FOREVER:
                break
            due = _next_silence(t, e)
            if clock < due:
                break
            if not _emit_silence(t, e):
                return False
        elif r.head >= 0:
            due = r.head_end
            if clock < due and not (early and _complete(t, e, clock)):
                break
            if not _close(t, e):
                return False
        else:
            break
        due = FOREVER
    r.due = due
    t.due[e] = max(due, r.hold)
    return True


@inner
def _complete(t: Tables, e: Int, clock: Int) -> Flag:
    """Whether the head window has all that is expected, so that it may close before its end.

    All live sources have come so far. Regular: the window before is closed, windows so far had one sample a column, and
    the next sample is expected behind the end by more than twice the jitter. Irregular: nothing earlier can come (which
    needs a lateness of 0), nor more of the same time (which event ids would tell apart).
    """
    r = t.entity[e]
    if r.live == 0 or r.head_live < r.live or r.head_columns < r.head_samples:
        return False
    live = live_from(r)
    for k in range(r.sources):
        if live <= r.source_time[k] < r.head_start:
            return False
    if r.step == IRREGULAR:
        return clock >= r.head_start and r.head_ids == 0
    if r.head_start != r.closed_end or r.single < (_SINGLE_EVENTS if r.head_ids else _SINGLE_ROWS):
        return False
    first = t.pool[r.head].time
    return first - r.head_start >= 2 * max(r.jitter, _off_step(r, first))


@inner
def _fits(t: Tables, cells: Int) -> Flag:
    return t.number[ROWS] < len(t.row) and t.number[CELLS] + cells <= len(t.cell_series)


@inner
def _emit_row(t: Tables, e: Int, when: Int, end: Int, status: Int) -> None:
    r = t.entity[e]
    row = t.row[t.number[ROWS]]
    row.entity, row.time, row.end, row.status, row.start = e, when, max(end, r.decided), status, t.number[CELLS]
    t.number[ROWS] += 1


@inner
def _emit_cell(t: Tables, s: Int, value: Real) -> None:
    at = t.number[CELLS]
    t.cell_series[at] = s
    t.cell_value[at] = value
    t.number[CELLS] = at + 1


@inner
def _is_silent(t: Tables, e: Int) -> Flag:
    """Whether an empty window, or the silence after `silence_steps` of them, is what comes next."""
    r = t.entity[e]
    if r.step <= 0 or r.closed_end == NEVER or r.stale == 1:
        return False
    return r.head < 0 or r.head_start > r.closed_end or r.missing == t.number[SILENCE_STEPS]


@inner
def _next_silence(t: Tables, e: Int) -> Int:
    """When the next empty window (MISSING) or the silence (STALE) is sure.

    The latter waits for the lateness of the sources unless a sample comes first; the row is the same.
    """
    r = t.entity[e]
    if r.missing < t.number[SILENCE_STEPS]:
        return r.closed_end + r.step
    at = _stale_end(t, e)
    return min(at, r.head_end) if r.head >= 0 else at


@inner
def _stale_end(t: Tables, e: Int) -> Int:
    """Last row + limit + the largest lateness of the sources that its rows came from, not before the last window."""
    r = t.entity[e]
    lateness = 0
    for k in range(r.sources):
        if (r.row_sources >> k) & 1:
            lateness = max(lateness, t.lateness[r.source[k]])
    return max(r.last_time + t.number[SILENCE_STEPS] * r.step + lateness, r.closed_end)


@inner
def _emit_silence(t: Tables, e: Int) -> Flag:
    """A MISSING row for the next empty window, or the STALE row behind the last of them."""
    r = t.entity[e]
    if not _fits(t, r.live_length):
        return False
    if r.missing < t.number[SILENCE_STEPS]:
        _emit_row(t, e, r.closed_end, r.closed_end + r.step, _MISSING)
        r.closed_end += r.step
        r.missing += 1
    else:
        _emit_row(t, e, r.last_time + t.number[SILENCE_STEPS] * r.step, _stale_end(t, e), _STALE)
        r.stale = 1
    s = r.live_head
    while s >= 0:
        if r.rows + 1 - t.series[s].seen <= LIVE_ROWS:
            _emit_cell(t, s, np.nan)
        s = t.series[s].next
    return True


@inner
def _close(t: Tables, e: Int) -> Flag:
    """Make the row of the head window."""
    r = t.entity[e]
    if not _fits(t, r.live_length + r.head_samples):
        return False
    if r.last_time != NEVER and r.head_start - r.last_time > t.number[EXPIRY]:
        clear_live(t, e)
        r.last_first, r.jitter, r.single, r.row_sources = NEVER, 0, 0, 0
    r.rows += 1
    first = t.pool[r.head].time
    last = first
    while r.head >= 0 and t.pool[r.head].time < r.head_end:
        last = t.pool[r.head].time
        _gather(t, e, pop(t, e))
    _estimate(t, e, first)
    r.last_time = first if first == last else r.head_start
    _emit_row(t, e, r.last_time, r.head_end, _SCORED)
    _emit_cells(t, e)
    r.closed_end = r.head_end
    r.missing, r.stale = 0, 0
    head_window(t, e)
    return True


@inner
def _gather(t: Tables, e: Int, n: Int) -> None:
    """Add a sample to its cell."""
    r = t.entity[e]
    p = t.pool[n]
    s = p.series
    q = t.series[s]
    value = _rate(t, s, p.time, p.value) if t.counter[s] else p.value
    if q.seen != r.rows:
        q.seen, q.sum, q.count = r.rows, 0.0, 0
    if q.linked == 0:
        link(t, e, s)
    if not np.isnan(value):
        q.sum += value
        q.count += 1
    q.last_time = p.time
    r.row_sources |= 1 << p.source


@inner
def _rate(t: Tables, s: Int, when: Int, value: Real) -> Real:
    """A counter's growth per second since its last sample; NaN without one.

    A counter that fell began again at 0 (as Prometheus' `rate` has it).
    """
    q = t.series[s]
    if np.isnan(value) or when == q.before_time:
        return np.nan
    before, since = q.before_value, q.before_time
    q.before_value, q.before_time = value, when
    if since == NEVER or when - since > t.number[EXPIRY]:
        return np.nan
    seconds = (when - since) / 1e9
    if value < before:
        t.counts[COUNTER_RESET] += 1
        return value / seconds
    return (value - before) / seconds


@inner
def _estimate(t: Tables, e: Int, first: Int) -> None:
    """Update what is expected of a window: one sample a column, how far off its time."""
    r = t.entity[e]
    if r.head_samples > r.head_columns:
        r.single = 0
    elif r.single < 255:
        r.single += 1
    if r.step > 0 and r.last_first != NEVER:
        r.jitter = max(_off_step(r, first), r.jitter - (r.jitter >> 6))
    r.last_first = first


@inner
def _off_step(r: Any, first: Int) -> Int:
    """How far the time since the last row's first sample is from whole steps."""
    apart = first - r.last_first
    return abs(apart - (apart + r.step // 2) // r.step * r.step)


@inner
def _emit_cells(t: Tables, e: Int) -> None:
    """The cells of the row just gathered; columns not seen for long are let go."""
    r = t.entity[e]
    before, s, r.live = -1, r.live_head, 0
    while s >= 0:
        q = t.series[s]
        after = q.next
        age = r.rows - q.seen
        if age > LIVE_ROWS:
            q.linked = 0
            r.live_length -= 1
            if before < 0:
                r.live_head = after
            else:
                t.series[before].next = after
            if after < 0:
                r.live_tail = before
        else:
            _emit_cell(t, s, q.sum / q.count if age == 0 and q.count > 0 else np.nan)
            r.live += age < LIVE_ROWS
            before = s
        s = after
