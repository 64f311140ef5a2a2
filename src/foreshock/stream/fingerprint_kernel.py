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
    AGE,
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
    CallRecord,
    Flag,
    Int,
    Tables,
)
from foreshock.stream.sketch import (
    BUCKETS,
    FULL,
    NEW,
    WAYS,
    bucket_of,
    count_key,
    halve,
    joined,
    mixed,
    remember,
    text_hash,
)

_MILLISECOND = 1_000_000
_CALLER = 7

TARGET, SOURCE = 1, 2
"""Marks of names: what they are used as."""

IN_SERVICE, IN_ENVIRONMENT = 1, 2
"""Marks of endpoints and edges: who has them remembered."""

NO_ROOM, NOT_ASKED = -1, -2
"""In place of the slot of a service or edge."""


class Call(NamedTuple):
    """A call on its way into windows."""

    time: Int
    start: Int
    """Of its window."""
    status: Int
    """Its class, 0 = no answer."""
    bucket: Int
    """Of its duration, -1 = not known."""
    watermark: Int
    hold: Int


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
            while table[0, at] >= 0 and (rows[table[0, at]].source != source or rows[table[0, at]].target != target):
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
    environment, step, open_ = t.number[ENVIRONMENT_SLOT], t.number[STEP], t.number[OPEN]
    # Beyond what its windows hold, an entity waits for nothing.
    lateness = min(lateness, (open_ - 2) * step)
    for i in range(first, len(c.rows)):
        if t.number[NAMED] == len(t.naming):
            return i
        row, n = c.rows[i], c.edge_of[i]
        e, when = np.int64(c.service[row.target]), np.int64(row.time_unix_nano)
        if when > limit or when < -TIME_LIMIT or e < 0:
            t.counts[FUTURE if when > limit else ENTITY_LIMIT if e < 0 else LATE] += 1
            continue
        r = t.entity[e]
        s = t.service[r.service]
        # Coarse clocks give different calls the same time, and so does a sender that gives none.
        h = np.uint64(0)
        if when % _MILLISECOND != 0 and when != received:
            h = _hash_of(row, c.hash[row.source], c.hash[row.endpoint], c.hash[row.method])
        if when < r.closed_end:
            t.counts[LATE] += 1
            continue
        if h != 0 and _is_repeated(s, h):
            t.counts[DUPLICATE] += 1
            continue
        edge = np.int64(c.edge[n]) if n >= 0 else np.int64(NOT_ASKED)
        # Kernels pass arrays by all their numbers, one by one: only what is rare is a function of all tables.
        for who in (e, edge, environment):
            if who >= 0:
                q = t.entity[who]
                moved = _move_clock(q, when, lateness, step, t.number[LEARN])
                if moved and not close_until(t, who, q.newest - q.lateness):
                    return i
        if h != 0:
            _note(s, h)
        seconds = row.duration_seconds
        status = row.status // 100
        number = when // step
        one = Call(
            when, number * step, status if 0 < status < CLASSES else 0,
            bucket_of(seconds) if seconds >= 0.0 and seconds < np.inf else -1, t.number[WATERMARK], t.number[HOLD],
        )  # fmt: skip
        ring = number % open_
        w = t.window[e * open_ + ring]
        _count(w, r, one)
        key = np.uint64(UNTOLD)
        if c.start[row.endpoint + 1] > c.start[row.endpoint]:
            p = c.path_of[i]
            if c.collapses[p] != s.collapses:
                _find_template(t, c, i, when, e)
            key = c.template[p]
            if not c.path_seen[p] & IN_SERVICE:
                _remember_endpoint(t, c, i, when, e, w)
            place = _place_of(s, key, one.start) if key != UNTOLD else PLACES
            if place < 0:
                place = _promoted(t, c, i, e, key, one.start)
            w.mix[place] += 1
            w.mixed += 1
        if n >= 0 and not c.edge_seen[n] & IN_SERVICE:
            c.edge_seen[n] |= IN_SERVICE
            if remember(s.known, joined(c.hash[row.source], _CALLER)) == NEW:
                w.new_edges += when >= r.quiet_until
        if edge >= 0 and not _count(t.window[edge * open_ + ring], t.entity[edge], one):
            t.counts[LATE_EDGE] += 1
        elif edge == NO_ROOM:
            t.counts[EDGE_LIMIT] += 1
        if environment >= 0:
            of_all = t.window[environment * open_ + ring]
            if _count(of_all, t.entity[environment], one):
                if edge >= 0 and t.window[edge * open_ + ring].active_in != one.start:
                    t.window[edge * open_ + ring].active_in = one.start
                    of_all.active += 1
                if key != UNTOLD and not c.path_seen[c.path_of[i]] & IN_ENVIRONMENT:
                    _remember_endpoint_of_all(t, c, i, when, environment, of_all)
                if n >= 0:
                    if not c.edge_seen[n] & IN_ENVIRONMENT:
                        _remember_edge_of_all(t, c, i, when, environment, of_all)
                    of_all.mix[c.share[n]] += 1
                    of_all.mixed += 1
            else:
                t.counts[LATE_ENVIRONMENT] += 1
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
def _hash_of(row: Any, source: Int, endpoint: Int, method: Int) -> Int:
    """A hash of all fields of a call but its target; of texts their hashes are given."""
    seconds = row.duration_seconds
    h = joined(row.time_unix_nano, np.int64(seconds * 1e9) if seconds >= 0.0 and seconds < 1e9 else np.int64(-1))
    return joined(joined(joined(h, source), endpoint), method + np.uint64(row.status))


@inner
def _is_repeated(s: Any, h: Int) -> Flag:
    at = np.int64(h >> np.uint64(1)) & (len(s.seen) - 1)
    found = False
    for k in range(WAYS):
        found = found or s.seen[at, k] == h
    return found


@inner
def _note(s: Any, h: Int) -> None:
    at = np.int64(h >> np.uint64(1)) & (len(s.seen) - 1)
    for k in range(WAYS - 1, 0, -1):
        s.seen[at, k] = s.seen[at, k - 1]
    s.seen[at, 0] = h


@inner
def _move_clock(r: Any, when: Int, lateness: Int, step: Int, learn: Int) -> Flag:
    """Let an entity's clock follow a call; whether it passes the end of a window."""
    r.lateness = max(r.lateness, lateness)
    if r.closed_end == NEVER:
        start = when - r.lateness
        r.closed_end = start - start % step
        r.newest, r.quiet_until = when, when + learn
    r.newest = max(r.newest, when)
    return r.closed_end + step <= r.newest - r.lateness


@inner
def _count(w: Any, r: Any, one: Call) -> Flag:
    """Count a call in its window, which is made ready for it; False if the window has been closed."""
    if w.start != one.start:
        if one.start < r.closed_end:
            return False
        w.start = one.start
        w.count, w.timed, w.mixed, w.new_endpoints, w.new_edges, w.active = 0, 0, 0, 0, 0, 0
        for k in range(CLASSES):
            w.calls[k] = 0
        for k in range(BUCKETS):
            w.buckets[k] = 0
        for k in range(SHARES):
            w.mix[k] = 0
        r.waiting += 1
    if one.time < one.watermark:
        r.hold = one.watermark + one.hold
    w.count += 1
    w.calls[one.status] += 1
    if one.bucket >= 0:
        w.timed += 1
        w.buckets[one.bucket] += 1
    return True


@inner
def _find_template(t: Tables, c: CallRecord, i: Int, when: Int, e: Int) -> None:
    """Find the template of a call's endpoint, with its method; it holds while the service's templates do not change."""
    p, row = c.path_of[i], c.rows[i]
    s = t.service[t.entity[e].service]
    before = s.collapses
    key, c.ids[p] = template_of(s, c.data, c.start[row.endpoint], c.start[row.endpoint + 1], t.prefixes)
    c.template[p] = joined(key, c.hash[row.method]) if key != UNTOLD else key
    c.collapses[p], c.path_seen[p] = s.collapses, 0
    if s.collapses != before:
        # Templates have changed by our own doing: what looks new for that is not.
        quiet = when + t.number[LEARN]
        t.entity[e].quiet_until = max(t.entity[e].quiet_until, quiet)
        if t.number[ENVIRONMENT_SLOT] >= 0:
            environment = t.entity[t.number[ENVIRONMENT_SLOT]]
            environment.quiet_until = max(environment.quiet_until, quiet)


@inner
def _remember_endpoint(t: Tables, c: CallRecord, i: Int, when: Int, e: Int, w: Any) -> None:
    """Note that a service has this endpoint; what cannot be told apart is counted, call by call."""
    p = c.path_of[i]
    r = t.entity[e]
    seen = remember(t.service[r.service].known, c.template[p]) if c.template[p] != UNTOLD else FULL
    if seen == FULL:
        t.counts[ENDPOINT_LIMIT] += 1
        return
    c.path_seen[p] |= IN_SERVICE
    if seen == NEW:
        w.new_endpoints += when >= r.quiet_until


@inner
def _remember_endpoint_of_all(t: Tables, c: CallRecord, i: Int, when: Int, e: Int, w: Any) -> None:
    p = c.path_of[i]
    c.path_seen[p] |= IN_ENVIRONMENT
    if remember(t.known[0].cells, joined(c.hash[c.rows[i].target], c.template[p])) == NEW:
        w.new_endpoints += when >= t.entity[e].quiet_until


@inner
def _remember_edge_of_all(t: Tables, c: CallRecord, i: Int, when: Int, e: Int, w: Any) -> None:
    n, row = c.edge_of[i], c.rows[i]
    c.edge_seen[n] |= IN_ENVIRONMENT
    edge = joined(c.hash[row.source], c.hash[row.target])
    c.share[n] = np.int64(edge >> np.uint64(1)) % SHARES
    if remember(t.known[0].cells, joined(edge, _CALLER)) == NEW:
        w.new_edges += when >= t.entity[e].quiet_until


@inner
def _place_of(s: Any, key: Int, start: Int) -> Int:
    """The place of an endpoint in the window that begins at `start`; `PLACES` if it has one only later, -1 if none."""
    for k in range(PLACES):
        if s.place_key[k] == key:
            s.place_count[k] += 1
            return k if start >= s.place_since[k] else PLACES
    for k in range(PLACES):
        if s.before_key[k] == key and start < s.place_since[k]:
            return k
    return -1


@inner
def _promoted(t: Tables, c: CallRecord, i: Int, e: Int, key: Int, start: Int) -> Int:
    """The place that an endpoint without one is given for being frequent, from this window on; else `PLACES`.

    What decides hangs on the service's calls alone, not on what watermarks have closed meanwhile.
    """
    r = t.entity[e]
    s = t.service[r.service]
    _grow_old(s, r.newest // (AGE * t.number[STEP]))
    often = count_key(s.frequency, key)
    if often < PROMOTED or s.names == NAMES:
        return PLACES
    least = 0
    for k in range(1, PLACES):
        is_free, free = s.place_key[k] == 0, s.place_key[least] == 0
        if not free and (is_free or s.place_count[k] < s.place_count[least]):
            least = k
    if s.place_key[least] != 0:
        settled = r.newest - r.lateness - t.number[STEP] >= s.place_since[least]
        if often <= 2 * np.int64(s.place_count[least]) or not settled:
            return PLACES
        _vacate(t, e, least, start)
        s.moving[least] = 1
    s.before_key[least], s.before_name[least] = s.place_key[least], s.place_name[least]
    s.place_key[least], s.place_count[least], s.place_name[least] = key, often, s.names
    s.place_since[least] = start
    naming = t.naming[t.number[NAMED]]
    naming.row, naming.entity, naming.name, naming.ids = i, e, s.names, c.ids[c.path_of[i]]
    t.number[NAMED] += 1
    s.names += 1
    return least


@inner
def _grow_old(s: Any, age: Int) -> None:
    """Let frequencies fade with the time of calls."""
    if s.age == 0:
        s.age = age
    for _ in range(min(age - s.age, 32)):
        halve(s.frequency)
        halve(s.place_count)
    s.age = max(s.age, age)


@inner
def _vacate(t: Tables, e: Int, place: Int, start: Int) -> None:
    """Count what an endpoint has among all others, from the window that begins at `start` on."""
    for k in range(t.number[OPEN]):
        w = t.window[np.int64(e) * t.number[OPEN] + k]
        if w.start >= start:
            w.mix[PLACES] += w.mix[place]
            w.mix[place] = 0
