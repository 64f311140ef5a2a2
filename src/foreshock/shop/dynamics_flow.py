"""The way of a request through the shop: connection, worker, work, calls of its own, answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.shop.dynamics_chance import exponential, lognormal, mixed, uniform
from foreshock.shop.dynamics_parts import (
    append,
    connections,
    count_edge,
    count_replica,
    count_service,
    disk_of,
    emit_call,
    emit_span,
    free_slot,
    log,
    memory_of,
    push,
    remove,
    take_slot,
)
from foreshock.shop.dynamics_tables import (
    ANSWERED,
    ARRIVE,
    BACKING_OFF,
    CALLING,
    DISK_FULL,
    FAILED,
    IDLING,
    LIMITED,
    MAX_REPLICAS,
    NANO,
    NO_CONNECTION,
    POOLED,
    QUEUE_FULL,
    QUEUED,
    REFUSED,
    RESPOND,
    RETRY,
    SENT,
    TIME_OUT,
    TIMED_OUT,
    UP,
    WORKED,
    WORKING,
    Flag,
    Int,
    Real,
    Tables,
)
from foreshock.state.jit import inner

NETWORK = 300_000
"""Nanoseconds from one service to another, one way."""

COLD_FACTOR, COLD_SECONDS = 0.6, 10.0
"""A replica that has just come up does its work so much more slowly, and for how long: its caches are empty."""

GC_FROM, GC_FACTOR = 0.85, 2.0
"""From this share of its memory on, a replica spends more and more of its time looking for free memory."""

_WRITTEN_BYTES, _LOGGED_BYTES = 6_000.0, 500.0
_GARBAGE_BYTES, _MOST_GARBAGE = 0.4 * 2**20, 24.0 * 2**20
_FIRST_ID = 1000

_WORK, _ERROR, _NOT_FOUND, _ID, _WAIT, _FAULT, _BACKOFF, _CHOICE, _CHILD = 0, 2, 3, 4, 5, 6, 8, 32, 1000
"""Numbers of a request's draws; `_WORK` takes two, `_BACKOFF` one a try, `_CHOICE` one a step."""


@inner
def choose_id(t: Tables, endpoint: Int, seed: Int) -> Int:
    """An id for the path: low ones are asked for more often."""
    u = uniform(seed, _ID)
    return _FIRST_ID + np.int64(t.endpoint[endpoint].ids * u * u)


@inner
def issue(t: Tables, slot: Int, now: Int) -> None:
    """The caller makes its call: it may first have to wait for a connection."""
    r = t.request[slot]
    e = r.edge
    edge = t.edge[e]
    r.started = now
    push(t, now + edge.timeout, TIME_OUT, slot)
    if edge.pool == 0:
        _send(t, slot, now)
        return
    count_edge(t, e, now)
    if edge.used < connections(t, e) - np.int64(edge.lost):
        edge.used += 1
        r.connected = 1
        _send(t, slot, now)
    else:
        r.state = POOLED
        append(t, edge, slot)
        edge.waiting += 1


@inner
def _send(t: Tables, slot: Int, now: Int) -> None:
    t.request[slot].state = SENT
    push(t, now + NETWORK, ARRIVE, slot)


@inner
def _disconnect(t: Tables, slot: Int, now: Int) -> None:
    """Give the connection back, if it holds one, and hand it to who waits."""
    r = t.request[slot]
    if r.connected == 0:
        return
    r.connected = 0
    e = r.edge
    count_edge(t, e, now)
    t.edge[e].used -= 1
    connect_next(t, e, now)


@inner
def connect_next(t: Tables, e: Int, now: Int) -> None:
    """Give free connections to those who wait for one; the areas are counted up to now."""
    edge = t.edge[e]
    while edge.waiting > 0 and edge.used < connections(t, e) - np.int64(edge.lost):
        slot = edge.head
        remove(t, edge, slot)
        edge.waiting -= 1
        edge.used += 1
        t.request[slot].connected = 1
        _send(t, slot, now)


@inner
def arrive(t: Tables, slot: Int, now: Int) -> None:
    """A request reaches its service: it is refused, begun or queued."""
    r = t.request[slot]
    edge = t.edge[r.edge]
    s = edge.callee
    service = t.service[s]
    r.arrived = now
    if not _admitted(edge) or not _admitted(service):
        log(t, now, s, LIMITED, r.endpoint, 429)
        answer(t, slot, 429, now)
        return
    replica = free_replica(t, s)
    if replica >= 0:
        count_service(t, s, now)
        service.flight += 1
        _begin(t, slot, s, replica, now)
    elif replica == -2:
        answer(t, slot, 0, now)
    elif service.queued >= service.queue_limit:
        log(t, now, s, QUEUE_FULL, r.endpoint, 503)
        answer(t, slot, 503, now)
    else:
        count_service(t, s, now)
        service.flight += 1
        service.queued += 1
        r.state = QUEUED
        append(t, service, slot)


@inner
def _admitted(gate: Any) -> Flag:
    """Take a token of a limit; True where there is no limit."""
    if gate.limit <= 0.0:
        return True
    if gate.tokens < 1.0:
        return False
    gate.tokens -= 1.0
    return True


@inner
def free_replica(t: Tables, s: Int) -> Int:
    """The replica with the fewest busy workers, asked in turn; -1 if none has a free one, -2 if none serves."""
    service = t.service[s]
    best, fewest, found = -2, service.workers, False
    for i in range(MAX_REPLICAS):
        r = (service.turn + i) % MAX_REPLICAS
        replica = t.replica[s * MAX_REPLICAS + r]
        if replica.state != UP:
            continue
        found = True
        if replica.busy < fewest:
            best, fewest = r, replica.busy
    if best >= 0:
        service.turn = (best + 1) % MAX_REPLICAS
    elif found:
        best = -1
    return best


@inner
def _begin(t: Tables, slot: Int, s: Int, replica: Int, now: Int) -> None:
    """A worker takes up a request: how long its own work takes depends on who else wants the cores."""
    r, one = t.request[slot], t.replica[s * MAX_REPLICAS + replica]
    count_replica(t, s, replica, now)
    one.busy += 1
    one.computing += 1
    r.state, r.replica = WORKING, replica
    # Cores are shared evenly among those who compute, as they were when this one began; what is stolen, of each core.
    ratio = t.service[s].cpu_ratio
    speed = (1.0 - one.stolen) * min(1.0, t.service[s].cores / (one.computing * ratio))
    stretch = 1.0 - ratio + ratio / speed
    r.using = ratio / stretch
    one.using += r.using
    push(t, now + np.int64(_work_seconds(t, slot, s, replica, now) * stretch * NANO), WORKED, slot)


@inner
def _work_seconds(t: Tables, slot: Int, s: Int, replica: Int, now: Int) -> Real:
    """How long a request's work takes with a core of its own."""
    r, service, one = t.request[slot], t.service[s], t.replica[s * MAX_REPLICAS + replica]
    work = t.endpoint[r.endpoint].work * service.work * lognormal(r.seed, _WORK, service.spread)
    work *= 1.0 + COLD_FACTOR * np.exp((one.up_since - now) / (COLD_SECONDS * NANO))
    pressure = memory_of(t, s, replica) / service.memory_limit - GC_FROM
    if pressure > 0.0:
        work *= 1.0 + GC_FACTOR * pressure / (1.0 - GC_FROM)
    return work


@inner
def worked(t: Tables, slot: Int, now: Int) -> None:
    """Its own work is done: it fails by itself, or goes on to its calls."""
    r = t.request[slot]
    s = t.edge[r.edge].callee
    service, endpoint = t.service[s], t.endpoint[r.endpoint]
    if r.state == WORKING:
        count_replica(t, s, r.replica, now)
        one = t.replica[s * MAX_REPLICAS + r.replica]
        one.computing -= 1
        one.using = one.using - r.using if one.computing > 0 else 0.0
        if service.wait > 0.0:
            r.state = IDLING
            wait = endpoint.work * service.wait * exponential(r.seed, _WAIT)
            push(t, now + np.int64(wait * NANO), WORKED, slot)
            return
    if uniform(r.seed, _ERROR) < endpoint.error_ratio or uniform(r.seed, _FAULT) < service.errors:
        log(t, now, s, FAILED, r.endpoint, 500)
        _finish(t, slot, 500, now)
    elif endpoint.writes != 0 and disk_of(t, s) >= service.disk_limit:
        log(t, now, s, DISK_FULL, r.endpoint, 500)
        _finish(t, slot, 500, now)
    elif uniform(r.seed, _NOT_FOUND) < endpoint.not_found_ratio:
        _finish(t, slot, 404, now)
    else:
        if endpoint.writes != 0:
            service.written += _WRITTEN_BYTES
        _go_on(t, slot, now)


@inner
def _go_on(t: Tables, slot: Int, now: Int) -> None:
    """Make the next call, or answer when there is none left."""
    r = t.request[slot]
    endpoint = t.endpoint[r.endpoint]
    while r.step < endpoint.steps:
        step = t.step[endpoint.first_step + r.step]
        made = r.turn < step.times and (r.turn > 0 or uniform(r.seed, _CHOICE + r.step) < step.probability)
        if made:
            call(t, slot, now)
            return
        r.step += 1
        r.turn = 0
    _finish(t, slot, 200, now)


@inner
def call(t: Tables, slot: Int, now: Int) -> None:
    """Make the call of the present step, for the first time or again."""
    r = t.request[slot]
    step = t.step[t.endpoint[r.endpoint].first_step + r.step]
    child = take_slot(t, mixed(r.seed, _CHILD + r.children), step.edge, step.endpoint)
    r.children += 1
    if child < 0:
        _finish(t, slot, 503, now)
        return
    r.state = CALLING
    c = t.request[child]
    same = t.endpoint[step.endpoint].ids == t.endpoint[r.endpoint].ids
    c.id = r.id if same else choose_id(t, step.endpoint, c.seed)
    c.parent, c.trace, c.parent_span, c.sampled = slot, r.trace, r.seed, r.sampled
    issue(t, child, now)


@inner
def _finish(t: Tables, slot: Int, status: Int, now: Int) -> None:
    """The service is done with a request: the worker is free for the next."""
    r = t.request[slot]
    s = t.edge[r.edge].callee
    service, one = t.service[s], t.replica[s * MAX_REPLICAS + r.replica]
    count_service(t, s, now)
    service.flight -= 1
    service.written += _LOGGED_BYTES
    one.busy -= 1
    one.garbage += _GARBAGE_BYTES
    if one.garbage > _MOST_GARBAGE:
        one.garbage = 0.0
    if r.sampled != 0:
        emit_span(t, slot, status, now)
    answer(t, slot, status, now)
    begin_next(t, s, now)


@inner
def begin_next(t: Tables, s: Int, now: Int) -> None:
    """Free workers take up those who wait; the areas are counted up to now."""
    service = t.service[s]
    while service.queued > 0:
        replica = free_replica(t, s)
        if replica < 0:
            return
        slot = service.head
        remove(t, service, slot)
        service.queued -= 1
        _begin(t, slot, s, replica, now)


@inner
def answer(t: Tables, slot: Int, status: Int, now: Int) -> None:
    """Send the answer to whoever still waits for it."""
    r = t.request[slot]
    if r.abandoned != 0:
        free_slot(t, slot)
        return
    r.state, r.status = ANSWERED, status
    push(t, now + NETWORK, RESPOND, slot)


@inner
def respond(t: Tables, slot: Int, now: Int) -> None:
    """The answer reaches the caller, if it still waits."""
    r = t.request[slot]
    if r.abandoned != 0:
        free_slot(t, slot)
        return
    parent, status, e = r.parent, r.status, r.edge
    emit_call(t, slot, status, now)
    _disconnect(t, slot, now)
    free_slot(t, slot)
    if status == 0 and t.edge[e].caller >= 0:
        log(t, now, t.edge[e].caller, REFUSED, -1, t.edge[e].callee)
    if parent >= 0:
        _settle(t, parent, status, False, now)


@inner
def time_out(t: Tables, slot: Int, now: Int) -> None:
    """The caller gives up. The callee does not notice and works on, for nobody."""
    r = t.request[slot]
    e, parent = r.edge, r.parent
    waited = r.state == POOLED
    emit_call(t, slot, 0, now)
    if t.edge[e].caller >= 0:
        log(t, now, t.edge[e].caller, NO_CONNECTION if waited else TIMED_OUT, -1, t.edge[e].callee)
    abandon(t, slot, now)
    if parent >= 0:
        _settle(t, parent, 0, True, now)


@inner
def abandon(t: Tables, slot: Int, now: Int) -> None:
    """Nobody waits for this request any more."""
    r = t.request[slot]
    if r.state == POOLED:
        edge = t.edge[r.edge]
        count_edge(t, r.edge, now)
        remove(t, edge, slot)
        edge.waiting -= 1
        free_slot(t, slot)
        return
    r.abandoned, r.parent = 1, -1
    _disconnect(t, slot, now)


@inner
def _settle(t: Tables, slot: Int, status: Int, timed_out: Flag, now: Int) -> None:
    """What a caller makes of the outcome of its call: go on, try again, or fail itself."""
    r = t.request[slot]
    step = t.step[t.endpoint[r.endpoint].first_step + r.step]
    edge = t.edge[step.edge]
    failed = status == 0 or status >= 500
    if failed and r.tries < edge.retries:
        r.tries += 1
        r.state = BACKING_OFF
        jitter = 0.5 + uniform(r.seed, _BACKOFF + min(r.tries, 16))
        push(t, now + np.int64(edge.backoff * jitter), RETRY, slot)
        return
    r.tries = 0
    if step.required != 0 and (failed or status >= 400):
        _finish(t, slot, _passed_on(status, timed_out), now)
        return
    r.turn += 1
    if failed:  # what could not be had is not asked for again
        r.turn = step.times
    _go_on(t, slot, now)


@inner
def _passed_on(status: Int, timed_out: Flag) -> Int:
    """How a service answers when what it needed failed."""
    if timed_out:
        return 504
    if status == 0:
        return 503
    if status == 500:
        return 502
    return status
