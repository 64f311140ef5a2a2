"""From calls to the features of windows: one sequential kernel over calls, one over entities when a watermark passes.

A kernel stops where an array is full; the caller makes room and calls again with the place where it stopped.
`docs/explanation/calls.md` says what is done here in words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from foreshock.state.jit import entry, inner
from foreshock.stream.endpoints import UNTOLD, template_of
from foreshock.stream.fingerprint_close import close_until
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

IN_SERVICE, IN_ENVIRONMENT = 1, 2
"""Marks of endpoints that are remembered."""

NO_ROOM, NOT_ASKED = -1, -2
"""In place of the slot of a service or edge."""


class Call(NamedTuple):
    """A call on its way into windows."""

    time: Int
    start: Int
    """Of its window."""
    ring: Int
    """Which of an entity's open windows that is."""
    status: Int
    """Its class, 0 = no answer."""
    bucket: Int
    """Of its duration, -1 = not known."""


@entry
def survey(
    rows: Any, data: Any, start: Any, used: Any, hashes: Any, nowhere: Int, table: Any, edge_of: Any, edges: Any,
    path_of: Any,
) -> tuple[Int, Int]:  # fmt: skip
    """Look through the calls of a record; how many distinct edges and (target, endpoint, method) it has.

    In: `rows CALL[n]`, names as in `CallRecord`, `nowhere` the place of the empty name or -1, `table int64[2, 2^k]`
    filled with -1, 2^k ≥ 2n. Out: `used uint8[names]` (TARGET, SOURCE), `hashes uint64[names]`, `edge_of`, `path_of
    int32[n]` numbers, `edges int64[n]` the first call of each edge.
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
            at = np.int64(mixed(source << 32 | target)) & mask
            # A place holds the first call of its edge or path.
            while table[0, at] >= 0 and not (rows[table[0, at]].source == source and rows[table[0, at]].target == target):
                at = (at + 1) & mask
            if table[0, at] < 0:
                table[0, at] = i
                edges[n_edges] = i
                edge_of[i] = n_edges
                n_edges += 1
            else:
                edge_of[i] = edge_of[table[0, at]]
        endpoint, method = np.int64(rows[i].endpoint), np.int64(rows[i].method)
        at = np.int64(mixed((target << 32 | endpoint) + (method << 17))) & mask
        while table[1, at] >= 0 and not (
            rows[table[1, at]].target == target
            and rows[table[1, at]].endpoint == endpoint
            and rows[table[1, at]].method == method
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
def take(t: Tables, c: CallRecord, lateness: Int, received: Int, limit: Int, first: Int) -> Int:
    """Take calls of a record from `first` on; the next one, less than n where `out` or `naming` is full.

    `lateness` (ns) of their source; `limit` is the largest time that is not `future`.
    """
    environment = t.number[ENVIRONMENT_SLOT]
    step = t.number[STEP]
    for i in range(first, len(c.rows)):
        if t.number[NAMED] == len(t.naming):
            return i
        e = np.int64(c.service[c.rows[i].target])
        when = np.int64(c.rows[i].time_unix_nano)
        # Coarse clocks give different calls the same time, and so does a sender that gives none.
        h = _hash_of(c, i) if when % _MILLISECOND != 0 and when != received else np.uint64(0)
        refused = _refuse(t, e, when, h, limit)
        if refused >= 0:
            t.counts[refused] += 1
            continue
        n = c.edge_of[i]
        edge = np.int64(c.edge[n]) if n >= 0 else np.int64(-1)
        if not _advance_to(t, e, when, lateness):
            return i
        if edge >= 0 and not _advance_to(t, edge, when, lateness):
            return i
        if environment >= 0 and not _advance_to(t, environment, when, lateness):
            return i
        if n >= 0 and edge == NO_ROOM:
            t.counts[EDGE_LIMIT] += 1
        if h != 0:
            _note(t.service[t.entity[e].service], h)
        seconds = c.rows[i].duration_seconds
        status = c.rows[i].status // 100
        number = when // step
        one = Call(
            when, number * step, number % t.number[OPEN], status if 0 < status < CLASSES else 0,
            bucket_of(seconds) if seconds >= 0.0 and seconds < np.inf else -1,
        )  # fmt: skip
        _add(t, c, i, one, e, edge, environment)
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
def _refuse(t: Tables, e: Int, when: Int, h: Int, limit: Int) -> Int:
    """Why a call is not taken, or -1; `h` is its hash if it can be told from others, else 0."""
    if when > limit:
        return FUTURE
    if when < -TIME_LIMIT:
        return LATE
    if e < 0:
        return ENTITY_LIMIT
    r = t.entity[e]
    if r.closed_end != NEVER and when < r.closed_end:
        return LATE
    if h != 0 and _is_repeated(t.service[r.service], h):
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
def _window(t: Tables, e: Int, one: Call) -> Int:
    """The row of the open window of a call, made ready, or -1 if it has been closed."""
    r = t.entity[e]
    if one.start < r.closed_end:
        return -1
    if one.time < t.number[WATERMARK]:
        r.hold = t.number[WATERMARK] + t.number[HOLD]
    at = e * t.number[OPEN] + one.ring
    if t.window[at].start != one.start:
        w = t.window[at]
        w.start = one.start
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
def _add(t: Tables, c: CallRecord, i: Int, one: Call, e: Int, edge: Int, environment: Int) -> None:
    """Count a call for its service, its edge and the environment."""
    n = c.edge_of[i]
    s = t.service[t.entity[e].service]
    w = t.window[_window(t, e, one)]
    _count(w, one)
    key = np.uint64(UNTOLD)
    if _has_endpoint(c, i):
        key = _template(t, c, i, one, e)
        _count_endpoint(t, c, i, one, e, w, key)
    if n >= 0 and not c.edge_seen[n]:
        new = remember(s.known, joined(c.hash[c.rows[i].source], _CALLER))
        if new == NEW:
            w.new_edges += one.time >= t.entity[e].quiet_until
    first_of_edge = False
    if edge >= 0:
        at = _window(t, edge, one)
        if at >= 0:
            _count(t.window[at], one)
            first_of_edge = t.window[at].count == 1
        else:
            t.counts[LATE_EDGE] += 1
    if environment >= 0:
        _add_to_environment(t, c, i, one, environment, key, first_of_edge)


@inner
def _count(w: Any, one: Call) -> None:
    w.count += 1
    w.calls[one.status] += 1
    if one.bucket >= 0:
        w.timed += 1
        w.buckets[one.bucket] += 1


@inner
def _has_endpoint(c: CallRecord, i: Int) -> Flag:
    at = c.rows[i].endpoint
    return c.start[at + 1] > c.start[at]


@inner
def _template(t: Tables, c: CallRecord, i: Int, one: Call, e: Int) -> Int:
    """The template of a call's endpoint, with its method; found once a record while the service's do not change."""
    p = c.path_of[i]
    s = t.service[t.entity[e].service]
    if c.collapses[p] != s.collapses:
        row = c.rows[i]
        before = s.collapses
        key, c.ids[p] = template_of(s, c.data, c.start[row.endpoint], c.start[row.endpoint + 1], t.prefixes)
        c.template[p] = joined(key, c.hash[row.method]) if key != UNTOLD else key
        c.collapses[p], c.path_seen[p] = s.collapses, 0
        if s.collapses != before:
            # Templates have changed by our own doing: what looks new for that is not.
            quiet = one.time + t.number[LEARN]
            t.entity[e].quiet_until = max(t.entity[e].quiet_until, quiet)
            if t.number[ENVIRONMENT_SLOT] >= 0:
                environment = t.entity[t.number[ENVIRONMENT_SLOT]]
                environment.quiet_until = max(environment.quiet_until, quiet)
    if c.template[p] == UNTOLD:
        t.counts[ENDPOINT_LIMIT] += 1
    return c.template[p]


@inner
def _count_endpoint(t: Tables, c: CallRecord, i: Int, one: Call, e: Int, w: Any, key: Int) -> None:
    s = t.service[t.entity[e].service]
    place = PLACES
    if key != UNTOLD:
        if not c.path_seen[c.path_of[i]] & IN_SERVICE:
            seen = remember(s.known, key)
            if seen == NEW:
                w.new_endpoints += one.time >= t.entity[e].quiet_until
            if seen == FULL:
                t.counts[ENDPOINT_LIMIT] += 1
            else:
                c.path_seen[c.path_of[i]] |= IN_SERVICE
        place = _place_of(t, c, i, e, key)
    w.mix[place] += 1
    w.mixed += 1


@inner
def _place_of(t: Tables, c: CallRecord, i: Int, e: Int, key: Int) -> Int:
    """The place of an endpoint among those counted by themselves, else `PLACES`; a frequent one is given a place."""
    s = t.service[t.entity[e].service]
    for k in range(PLACES):
        if s.place_key[k] == key:
            s.place_count[k] += 1
            return k
    least = 0
    for k in range(PLACES):
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
    t: Tables, c: CallRecord, i: Int, one: Call, environment: Int, key: Int, first_of_edge: Flag
) -> None:
    at = _window(t, environment, one)
    if at < 0:
        t.counts[LATE_ENVIRONMENT] += 1
        return
    w = t.window[at]
    target = c.hash[c.rows[i].target]
    told = one.time >= t.entity[environment].quiet_until
    _count(w, one)
    p, n = c.path_of[i], c.edge_of[i]
    if key != UNTOLD and not c.path_seen[p] & IN_ENVIRONMENT:
        c.path_seen[p] |= IN_ENVIRONMENT
        if remember(t.known[0].cells, joined(target, key)) == NEW:
            w.new_endpoints += told
    if n < 0:
        return
    if not c.edge_seen[n]:
        c.edge_seen[n] = 1
        edge = joined(c.hash[c.rows[i].source], target)
        c.share[n] = np.int64(edge >> np.uint64(1)) % SHARES
        if remember(t.known[0].cells, joined(edge, _CALLER)) == NEW:
            w.new_edges += told
    w.mix[c.share[n]] += 1
    w.mixed += 1
    w.active += first_of_edge
