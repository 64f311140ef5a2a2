"""Parts of the shop's kernel: events in order, requests in slots, lists of those who wait, areas under the gauges."""

from __future__ import annotations

from typing import Any

from foreshock.shop.dynamics_tables import (
    CALLS,
    EVENTS,
    FREE,
    FREE_HEAD,
    HIGH,
    LIFE,
    LIVE,
    LOGS,
    LOGS_LEFT_OUT,
    MAX_REPLICAS,
    NANO,
    ORDER,
    SPANS,
    UP,
    Flag,
    Int,
    Real,
    Tables,
)
from foreshock.state.jit import inner

LINES_A_SECOND = 5
"""Log lines of a service in a second, at most; the others are counted."""

_REQUEST_BYTES = 1.5 * 2**20
_WAITING_BYTES = 0.1 * 2**20


@inner
def push(t: Tables, time: Int, kind: Int, slot: Int) -> None:
    """Note what happens to a request, and when."""
    number, events = t.number, t.event
    at = number[EVENTS]
    order = number[ORDER]
    number[EVENTS] += 1
    number[ORDER] += 1
    while at > 0:
        above = (at - 1) >> 1
        if events[above].time <= time:  # equal times keep their order: the new one is the later
            break
        events[at] = events[above]
        at = above
    event = events[at]
    event.time, event.order, event.kind, event.slot = time, order, kind, slot
    event.life = t.request[slot].life


@inner
def pop(t: Tables) -> tuple[Int, Int, Int, Int]:
    """Take the earliest event: (time, kind, slot, life)."""
    number, events = t.number, t.event
    first = events[0]
    time, kind, slot, life = first.time, first.kind, first.slot, first.life
    number[EVENTS] -= 1
    n = number[EVENTS]
    last_time, last_order = events[n].time, events[n].order
    at = 0
    while True:
        below = 2 * at + 1
        if below >= n:
            break
        if below + 1 < n and _before(events[below + 1], events[below].time, events[below].order):
            below += 1
        if not _before(events[below], last_time, last_order):
            break
        events[at] = events[below]
        at = below
    if at != n:
        events[at] = events[n]
    return time, kind, slot, life


@inner
def _before(event: Any, time: Int, order: Int) -> Flag:
    return event.time < time or (event.time == time and event.order < order)


@inner
def take_slot(t: Tables, seed: Int, edge: Int, endpoint: Int) -> Int:
    """A slot for a new request, or -1 if the shop can hold no more."""
    number = t.number
    capacity = len(t.request)
    # Every request has at most one event coming and one time-out: what is left of the heap always holds them.
    if number[EVENTS] > len(t.event) - 2 * capacity:
        return -1
    slot = number[FREE_HEAD]
    if slot >= 0:
        number[FREE_HEAD] = t.request[slot].next
    elif number[HIGH] < capacity:
        slot = number[HIGH]
        number[HIGH] += 1
    else:
        return -1
    number[LIVE] += 1
    number[LIFE] += 1
    r = t.request[slot]
    r.seed, r.life, r.edge, r.endpoint = seed, number[LIFE], edge, endpoint
    r.parent, r.replica, r.next, r.previous = -1, -1, -1, -1
    r.step, r.turn, r.tries, r.children = 0, 0, 0, 0
    r.id, r.status, r.state, r.abandoned, r.connected, r.sampled = 0, 0, FREE, 0, 0, 0
    r.started, r.arrived, r.parent_span, r.trace, r.using = 0, 0, 0, 0, 0.0
    return slot


@inner
def free_slot(t: Tables, slot: Int) -> None:
    """Give a slot back; events that still name it find another life, or none."""
    r = t.request[slot]
    r.state, r.life = FREE, 0
    r.next = t.number[FREE_HEAD]
    t.number[FREE_HEAD] = slot
    t.number[LIVE] -= 1


@inner
def append(t: Tables, queue: Any, slot: Int) -> None:
    """Put a request at the end of a list: `queue` is a row with `head` and `tail`."""
    r = t.request[slot]
    r.next, r.previous = -1, queue.tail
    if queue.tail >= 0:
        t.request[queue.tail].next = slot
    else:
        queue.head = slot
    queue.tail = slot


@inner
def remove(t: Tables, queue: Any, slot: Int) -> None:
    """Take a request out of a list, wherever it stands."""
    r = t.request[slot]
    if r.previous >= 0:
        t.request[r.previous].next = r.next
    else:
        queue.head = r.next
    if r.next >= 0:
        t.request[r.next].previous = r.previous
    else:
        queue.tail = r.previous
    r.next, r.previous = -1, -1


@inner
def count_service(t: Tables, s: Int, now: Int) -> None:
    """Add what has passed to a service's areas; called before one of its numbers changes."""
    service = t.service[s]
    seconds = (now - service.since) / NANO
    service.queue_area += service.queued * seconds
    service.flight_area += service.flight * seconds
    service.since = now


@inner
def count_replica(t: Tables, s: Int, r: Int, now: Int) -> None:
    """Add what has passed to a replica's use of its cores; called before one of its numbers changes."""
    service, replica = t.service[s], t.replica[s * MAX_REPLICAS + r]
    seconds = (now - replica.since) / NANO
    if replica.state == UP:
        replica.cpu_area += seconds * (replica.using + service.cores * replica.stolen)
        replica.core_area += seconds * service.cores
    replica.since = now


@inner
def count_edge(t: Tables, e: Int, now: Int) -> None:
    """Add what has passed to the areas of an edge's pool."""
    edge = t.edge[e]
    seconds = (now - edge.since) / NANO
    edge.used_area += min(edge.used + edge.lost, float(connections(t, e))) * seconds
    edge.waiting_area += edge.waiting * seconds
    edge.since = now


@inner
def connections(t: Tables, e: Int) -> Int:
    """Connections of an edge's pool, the lost ones among them."""
    edge = t.edge[e]
    total = 0
    for r in range(MAX_REPLICAS):
        if t.replica[edge.caller * MAX_REPLICAS + r].state == UP:
            total += edge.pool
    return total


@inner
def memory_of(t: Tables, s: Int, r: Int) -> Real:
    """Bytes of memory that a replica uses."""
    service, replica = t.service[s], t.replica[s * MAX_REPLICAS + r]
    held = replica.busy * _REQUEST_BYTES + service.queued * _WAITING_BYTES
    return min(service.memory + replica.leaked + replica.garbage + held, service.memory_limit)


@inner
def disk_of(t: Tables, s: Int) -> Real:
    """Bytes of disk that a service uses."""
    service = t.service[s]
    return min(service.disk + service.written + service.filled, service.disk_limit)


@inner
def log(t: Tables, time: Int, s: Int, code: Int, endpoint: Int, detail: Int) -> None:
    """A line of a service, unless it has said enough this second."""
    service, number = t.service[s], t.number
    if service.logged >= LINES_A_SECOND or number[LOGS] >= len(t.logs):
        number[LOGS_LEFT_OUT] += 1
        return
    service.logged += 1
    line = t.logs[number[LOGS]]
    number[LOGS] += 1
    line.time_unix_nano, line.service, line.code, line.endpoint, line.detail = time, s, code, endpoint, detail


@inner
def emit_call(t: Tables, slot: Int, status: Int, now: Int) -> None:
    """A call as its caller saw it; there is room."""
    r = t.request[slot]
    edge, at = t.edge[r.edge], t.number[CALLS]
    row = t.calls[at]
    row.time_unix_nano, row.duration_seconds = now, (now - r.started) / NANO
    row.source, row.target, row.method = edge.source, edge.target, t.endpoint[r.endpoint].method
    row.endpoint, row.status = r.endpoint, status
    t.ids[at] = r.id
    t.number[CALLS] += 1


@inner
def emit_span(t: Tables, slot: Int, status: Int, now: Int) -> None:
    """A request as its service saw it; there is room."""
    r = t.request[slot]
    span = t.spans[t.number[SPANS]]
    span.trace, span.span, span.parent = r.trace, r.seed, r.parent_span
    span.start_unix_nano, span.duration_seconds = r.arrived, (now - r.arrived) / NANO
    span.endpoint, span.status = r.endpoint, status
    t.number[SPANS] += 1
