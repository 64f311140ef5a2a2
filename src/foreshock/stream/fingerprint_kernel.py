"""From calls to the features of windows: one sequential kernel over calls, one over entities when a watermark passes.

A kernel stops where an array is full; the caller makes room and calls again with the place where it stopped.
`docs/explanation/calls.md` says what is done here in words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.state.jit import entry, inner
from foreshock.stream.endpoints import UNTOLD, template_of
from foreshock.stream.fingerprint_close import close_until, window_of
from foreshock.stream.fingerprint_tables import (
    CLASSES,
    DUPLICATE,
    EDGE_LIMIT,
    ENDPOINT_LIMIT,
    ENTITY_LIMIT,
    ENVIRONMENT_SLOT,
    FOREVER,
    FUTURE,
    HOLD,
    LATE,
    LATE_EDGE,
    LATE_ENVIRONMENT,
    LEARN,
    NAMED,
    NAMES,
    NEVER,
    OPEN,
    PLACES,
    PROMOTED,
    SHARES,
    STEP,
    TIME_LIMIT,
    WATERMARK,
    Flag,
    Int,
    CallRecord,
    Tables,
)
from foreshock.stream.sketch import BUCKETS, FULL, NEW, WAYS, bucket_of, count_key, joined, mixed, remember, text_hash

_MILLISECOND = 1_000_000
_CALLER = 7

TARGET, SOURCE = 1, 2
"""Marks of names: what they are used as."""


@entry
def survey(
    rows: Any, data: Any, start: Any, used: Any, hashes: Any, nowhere: Int, table: Any, edge_of: Any, edges: Any,
    path_of: Any,
) -> tuple[Int, Int]:  # fmt: skip
    """Look through the calls of a record; how many distinct edges and (target, endpoint) it has.

    In: `rows CALL[n]`, names as in `CallRecord`, `nowhere` the place of the empty name or -1, `table int64[2, 2^k]` filled
    with -1, 2^k ≥ 2n. Out: `used uint8[names]` (TARGET, SOURCE), `hashes uint64[names]`, `edge_of`, `path_of int32[n]`
    numbers, `edges int64[n]` the first call of each edge.
    """
    for i in range(len(hashes)):
        hashes[i] = text_hash(data, start[i], start[i + 1])
    n_edges, n_paths = 0, 0
    mask = table.shape[1] - 1
    for i in range(len(rows)):
        source, target = np.int64(rows[i].source), np.int64(rows[i].target)
        used[target] |= TARGET
        edge_of[i] = -1
        if source != nowhere:
            used[source] |= SOURCE
            key = source << 32 | target
            at = np.int64(mixed(key)) & mask
            while table[0, at] >= 0 and not (
                rows[edges[table[0, at]]].source == source and rows[edges[table[0, at]]].target == target
            ):
                at = (at + 1) & mask
            if table[0, at] < 0:
                table[0, at] = n_edges
                edges[n_edges] = i
                n_edges += 1
            edge_of[i] = table[0, at]
        key = target << 32 | np.int64(rows[i].endpoint)
        at = np.int64(mixed(key)) & mask
        # A place holds the first call that has this path; that call's number is known.
        while table[1, at] >= 0 and not (
            rows[table[1, at]].target == target and rows[table[1, at]].endpoint == rows[i].endpoint
        ):
            at = (at + 1) & mask
        if table[1, at] < 0:
            table[1, at] = i
            path_of[i] = n_paths
            n_paths += 1
        else:
            path_of[i] = path_of[table[1, at]]
    return n_edges, n_paths


@entry
def take(t: Tables, c: CallRecord, nowhere: Int, lateness: Int, received: Int, limit: Int, first: Int) -> Int:
    """Take calls of a record from `first` on; the next one, less than n where `out` or `naming` is full.

    `lateness` (ns) of their source; `limit` is the largest time that is not `future`.
    """
    environment = t.number[ENVIRONMENT_SLOT]
    for i in range(first, len(c.rows)):
        if t.number[NAMED] == len(t.naming):
            return i
        e = np.int64(c.service[c.rows[i].target])
        when = np.int64(c.rows[i].time_unix_nano)
        refused = _refuse(t, c, i, e, when, received, limit)
        if refused >= 0:
            t.counts[refused] += 1
            continue
        edge = np.int64(c.edge[c.edge_of[i]]) if c.edge_of[i] >= 0 else np.int64(-1)
        if not _advance_to(t, e, when, lateness):
            return i
        if edge >= 0 and not _advance_to(t, edge, when, lateness):
            return i
        if environment >= 0 and not _advance_to(t, environment, when, lateness):
            return i
        if c.edge_of[i] >= 0 and edge < 0 and c.edge[c.edge_of[i]] == -1:
            t.counts[EDGE_LIMIT] += 1
        _add(t, c, i, e, edge, environment, when)
    return len(c.rows)


@entry
def advance(t: Tables, watermark: Int, first: Int) -> Int:
    """Close what a watermark decides, from entity `first` on; the entity where `out` is full, or their number."""
    for e in range(first, len(t.entity)):
        r = t.entity[e]
        if watermark != FOREVER and watermark < r.hold:
            continue
        if not close_until(t, e, watermark):
            return e
    return len(t.entity)


@inner
def _refuse(t: Tables, c: CallRecord, i: Int, e: Int, when: Int, received: Int, limit: Int) -> Int:
    """Why a call is not taken, or -1."""
    if when > limit:
        return FUTURE
    if when < -TIME_LIMIT:
        return LATE
    if e < 0:
        return ENTITY_LIMIT
    r = t.entity[e]
    if r.closed_end != NEVER and when < r.closed_end:
        return LATE
    if when % _MILLISECOND != 0 and when != received and _is_repeated(t.service[r.service], _hash_of(c, i)):
        return DUPLICATE
    return -1


@inner
def _hash_of(c: CallRecord, i: Int) -> Int:
    """A hash of all fields of a call."""
    row = c.rows[i]
    seconds = row.duration_seconds
    h = joined(row.time_unix_nano, np.int64(seconds * 1e9) if seconds >= 0.0 and seconds < 1e9 else np.int64(-1))
    h = joined(h, c.hash[row.source])
    h = joined(h, c.hash[row.endpoint])
    return joined(joined(h, c.hash[row.method]), np.int64(row.status))


@inner
def _is_repeated(s: Any, h: Int) -> Flag:
    at = np.int64(h >> np.uint64(1)) & (len(s.seen) - 1)
    for k in range(WAYS):
        if s.seen[at, k] == h:
            return True
    return False


@inner
def _note(s: Any, h: Int) -> None:
    at = np.int64(h >> np.uint64(1)) & (len(s.seen) - 1)
    for k in range(WAYS - 1, 0, -1):
        s.seen[at, k] = s.seen[at, k - 1]
    s.seen[at, 0] = h


@inner
def _advance_to(t: Tables, e: Int, when: Int, lateness: Int) -> Flag:
    """Let an entity's clock follow a call, and close what it passes; False where `out` is full."""
    r = t.entity[e]
    step = t.number[STEP]
    # Beyond what its windows hold, nothing is waited for.
    r.lateness = max(r.lateness, min(lateness, (t.number[OPEN] - 2) * step))
    if r.closed_end == NEVER:
        start = when - r.lateness
        r.closed_end = start - start % step
        r.first, r.newest = when, when
        r.quiet_until = when + t.number[LEARN]
    r.newest = max(r.newest, when)
    return close_until(t, e, r.newest - r.lateness)


@inner
def _window(t: Tables, e: Int, when: Int) -> Int:
    """The open window of a time, made ready, or -1 if it has been closed."""
    r = t.entity[e]
    start = when - when % t.number[STEP]
    if start < r.closed_end:
        return -1
    if when < t.number[WATERMARK]:
        r.hold = t.number[WATERMARK] + t.number[HOLD]
    at = window_of(t, e, start)
    w = t.window[at]
    if w.start != start:
        w.start = start
        w.count, w.timed, w.mixed, w.new_endpoints, w.new_edges, w.active = 0, 0, 0, 0, 0, 0
        for k in range(CLASSES):
            w.calls[k] = 0
        for k in range(BUCKETS):
            w.buckets[k] = 0
        for k in range(SHARES):
            w.mix[k] = 0
        r.waiting += 1
    return at


@inner
def _add(t: Tables, c: CallRecord, i: Int, e: Int, edge: Int, environment: Int, when: Int) -> None:
    """Count a call for its service, its edge and the environment."""
    row = c.rows[i]
    s = t.service[t.entity[e].service]
    if when % _MILLISECOND != 0:
        _note(s, _hash_of(c, i))
    seconds = row.duration_seconds
    bucket = bucket_of(seconds) if seconds >= 0.0 and seconds < np.inf else -1
    status = row.status // 100
    status = status if 0 < status < CLASSES else 0
    key = _template(t, c, i, s, when, e)
    w = t.window[_window(t, e, when)]
    _count(w, status, bucket)
    if _has_endpoint(c, i):
        _count_endpoint(t, c, i, e, w, key, when)
    caller = c.hash[row.source]
    if c.edge_of[i] >= 0 and remember(s.known, joined(caller, _CALLER)) == NEW:
        w.new_edges += when >= t.entity[e].quiet_until
    first_of_edge = False
    if edge >= 0:
        at = _window(t, edge, when)
        if at >= 0:
            _count(t.window[at], status, bucket)
            first_of_edge = t.window[at].count == 1
        else:
            t.counts[LATE_EDGE] += 1
    if environment >= 0:
        _add_to_environment(t, c, i, environment, key, status, bucket, first_of_edge, when)


@inner
def _count(w: Any, status: Int, bucket: Int) -> None:
    w.count += 1
    w.calls[status] += 1
    if bucket >= 0:
        w.timed += 1
        w.buckets[bucket] += 1


@inner
def _has_endpoint(c: CallRecord, i: Int) -> Flag:
    at = c.rows[i].endpoint
    return c.start[at + 1] > c.start[at]


@inner
def _template(t: Tables, c: CallRecord, i: Int, s: Any, when: Int, e: Int) -> Int:
    """The template of a call's endpoint, with its method; found once a record while the service's do not change."""
    p = c.path_of[i]
    row = c.rows[i]
    if not _has_endpoint(c, i):
        return np.uint64(UNTOLD)
    if c.collapses[p] != s.collapses:
        before = s.collapses
        c.template[p], c.ids[p] = template_of(s, c.data, c.start[row.endpoint], c.start[row.endpoint + 1], t.prefixes)
        c.collapses[p] = s.collapses
        if s.collapses != before:
            # Templates have changed by our own doing: what looks new for that is not.
            quiet = when + t.number[LEARN]
            t.entity[e].quiet_until = max(t.entity[e].quiet_until, quiet)
            if t.number[ENVIRONMENT_SLOT] >= 0:
                environment = t.entity[t.number[ENVIRONMENT_SLOT]]
                environment.quiet_until = max(environment.quiet_until, quiet)
    if c.template[p] == UNTOLD:
        t.counts[ENDPOINT_LIMIT] += 1
        return np.uint64(UNTOLD)
    return joined(c.template[p], c.hash[row.method])


@inner
def _count_endpoint(t: Tables, c: CallRecord, i: Int, e: Int, w: Any, key: Int, when: Int) -> None:
    s = t.service[t.entity[e].service]
    place = PLACES
    if key != UNTOLD:
        seen = remember(s.known, key)
        if seen == NEW:
            w.new_endpoints += when >= t.entity[e].quiet_until
        elif seen == FULL:
            t.counts[ENDPOINT_LIMIT] += 1
        place = _place_of(t, c, i, e, key)
    w.mix[place] += 1
    w.mixed += 1


@inner
def _place_of(t: Tables, c: CallRecord, i: Int, e: Int, key: Int) -> Int:
    """The place of an endpoint among those counted by themselves, else `PLACES`; a frequent one is given a place."""
    s = t.service[t.entity[e].service]
    least = 0
    for k in range(PLACES):
        if s.place_key[k] == key:
            s.place_count[k] += 1
            return k
        if s.place_count[k] < s.place_count[least] or (s.place_key[k] == 0 and s.place_key[least] != 0):
            least = k
    often = count_key(s.frequency, key)
    if often < PROMOTED or s.names == NAMES:
        return PLACES
    if s.place_key[least] != 0:
        if often <= 2 * np.int64(s.place_count[least]):
            return PLACES
        _vacate(t, e, least)
    s.place_key[least], s.place_count[least], s.place_name[least] = key, often, s.names
    naming = t.naming[t.number[NAMED]]
    naming.row, naming.entity, naming.name, naming.ids = i, e, s.names, c.ids[c.path_of[i]]
    t.number[NAMED] += 1
    s.names += 1
    return least


@inner
def _vacate(t: Tables, e: Int, place: Int) -> None:
    """Count what an endpoint has among all others."""
    r = t.entity[e]
    for k in range(t.number[OPEN]):
        w = t.window[np.int64(e) * t.number[OPEN] + k]
        w.mix[PLACES] += w.mix[place]
        w.mix[place] = 0
    r.mix_usual[PLACES] += r.mix_usual[place]
    r.mix_now[PLACES] += r.mix_now[place]
    r.mix_usual[place], r.mix_now[place] = 0.0, 0.0


@inner
def _add_to_environment(
    t: Tables, c: CallRecord, i: Int, environment: Int, key: Int, status: Int, bucket: Int, first_of_edge: Flag, when: Int
) -> None:
    row = c.rows[i]
    at = _window(t, environment, when)
    if at < 0:
        t.counts[LATE_ENVIRONMENT] += 1
        return
    w = t.window[at]
    target = c.hash[row.target]
    quiet = when < t.entity[environment].quiet_until
    _count(w, status, bucket)
    if key != UNTOLD and remember(t.known[0].cells, joined(target, key)) == NEW:
        w.new_endpoints += not quiet
    if c.edge_of[i] >= 0:
        edge = joined(c.hash[row.source], target)
        if remember(t.known[0].cells, joined(edge, _CALLER)) == NEW:
            w.new_edges += not quiet
        w.mix[np.int64(edge >> np.uint64(1)) % SHARES] += 1
        w.mixed += 1
        w.active += first_of_edge
