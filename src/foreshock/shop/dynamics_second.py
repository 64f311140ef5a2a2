"""What happens to the shop once a second: customers, growth of memory and disk, replicas that come back, readings."""

from __future__ import annotations

import numpy as np

from foreshock.shop.dynamics_chance import exponential, mixed, normal, uniform
from foreshock.shop.dynamics_flow import abandon, answer, begin_next, choose_id, connect_next, free_replica
from foreshock.shop.dynamics_parts import (
    count_edge,
    count_replica,
    count_service,
    disk_of,
    log,
    memory_of,
    push,
    remove,
    take_slot,
)
from foreshock.shop.dynamics_tables import (
    BACKING_OFF,
    BATCH,
    BATCH_EDGE,
    BATCH_ENDPOINT,
    BURST,
    BURST_FROM,
    BURST_UNTIL,
    CALLING,
    COME,
    CPU,
    CRASHED,
    DAY,
    DISK,
    DOWN,
    ENTRY_COUNT,
    ENTRY_EDGE,
    ENTRY_FIRST,
    EVERY,
    FLIGHT,
    FREE,
    GAUGES,
    GONE,
    HIGH,
    IDLING,
    KILLED,
    LEAVE,
    MAX_REPLICAS,
    MEMORY,
    NANO,
    NO_ORDER,
    NOISE,
    NOW,
    OUT_OF_MEMORY,
    POOL_GAUGES,
    POOL_USED,
    POOL_WAITING,
    QUEUE,
    RATE,
    READ,
    READY,
    RESTARTS,
    SEED,
    SENT,
    SERVICE_GAUGES,
    STARTED,
    STOPPED,
    TRACE_RATIO,
    TURNED_AWAY,
    UP,
    WAVES,
    WORKING,
    Int,
    Real,
    Tables,
)
from foreshock.state.jit import inner

ROTATION = 3 * 3600
"""Second of the day (UTC) at which logs are rotated and the room they took is free again."""

BURST_RAMP = 30 * NANO

_LEAK_APART = 0.12

_NOISE_KEPT = 0.99833  # of the noise after a second: it forgets in about ten minutes
_NOISE_FRESH = 0.05 * (1.0 - _NOISE_KEPT**2) ** 0.5
_REQUEST_SEEDS, _LOAD, _TRACED = 1 << 20, 1 << 21, 7
_MOST_ARRIVALS = 20_000
"""Requests of a kind in a second, at most: what is more is turned away and counted."""


@inner
def begin_second(t: Tables) -> None:
    """All that changes at the start of the second at `NOW`."""
    now = t.number[NOW]
    for s in range(len(t.service)):
        _grow(t, s, now)
        for r in range(MAX_REPLICAS):
            _look_after(t, s, r, now)
    for e in range(len(t.edge)):
        edge = t.edge[e]
        edge.tokens = min(edge.tokens + edge.limit, 2.0 * edge.limit)
        if edge.lost < edge.lost_most:
            count_edge(t, e, now)
            edge.lost = min(edge.lost + edge.losing, edge.lost_most)
        if edge.waiting > 0:  # connections that came back without a call that ended
            count_edge(t, e, now)
            connect_next(t, e, now)
    _customers(t, now)


@inner
def _grow(t: Tables, s: Int, now: Int) -> None:
    service = t.service[s]
    service.logged = 0
    service.tokens = min(service.tokens + service.limit, 2.0 * service.limit)
    service.filled = min(service.filled + service.fill, service.disk_limit)
    if (now // NANO) % DAY == ROTATION:
        service.written = 0.0


@inner
def _look_after(t: Tables, s: Int, r: Int, now: Int) -> None:
    """A replica leaks, dies of it, or comes back."""
    service, one = t.service[s], t.replica[s * MAX_REPLICAS + r]
    if one.order != NO_ORDER:
        _obey(t, s, r, now)
    elif one.held != 0:
        _fall_over(t, s, r, now)
    elif one.state == UP:
        one.leaked += service.leak * (1.0 - _LEAK_APART * r)  # so that they do not all die at once
        if service.memory + one.leaked + one.garbage >= service.memory_limit:
            log(t, now, s, OUT_OF_MEMORY, -1, r)
            _kill(t, s, r, now)
    elif one.state == DOWN and now >= one.back:
        count_replica(t, s, r, now)
        count_service(t, s, now)
        one.state, one.up_since, one.leaked, one.garbage = UP, now, 0.0, 0.0
        log(t, now, s, STARTED, -1, r)
        begin_next(t, s, now)


@inner
def _kill(t: Tables, s: Int, replica: Int, now: Int) -> None:
    """A replica dies: what it worked on is lost, and those it called for work for nobody."""
    count_service(t, s, now)
    count_replica(t, s, replica, now)
    service, one = t.service[s], t.replica[s * MAX_REPLICAS + replica]
    one.state, one.busy, one.computing, one.using = DOWN, 0, 0, 0.0
    one.back = now + service.start
    service.restarts += 1
    high = t.number[HIGH]
    for slot in range(high):
        r = t.request[slot]
        here = r.state in (WORKING, IDLING, CALLING, BACKING_OFF) and t.edge[r.edge].callee == s
        if here and r.replica == replica:
            r.state = KILLED
    for slot in range(high):
        r = t.request[slot]
        if r.state != FREE and r.parent >= 0 and t.request[r.parent].state == KILLED:
            abandon(t, slot, now)
    for slot in range(high):
        if t.request[slot].state == KILLED:
            service.flight -= 1
            answer(t, slot, 0, now)
    if free_replica(t, s) == -2:
        while service.queued > 0:
            slot = service.head
            remove(t, service, slot)
            service.queued -= 1
            service.flight -= 1
            answer(t, slot, 0, now)


@inner
def _obey(t: Tables, s: Int, r: Int, now: Int) -> None:
    service, one = t.service[s], t.replica[s * MAX_REPLICAS + r]
    if one.state != GONE:
        count_replica(t, s, r, now)
        one.state, one.back = GONE if one.order == LEAVE else DOWN, now + service.start
        log(t, now, s, STOPPED, -1, r)
    one.order = NO_ORDER


@inner
def _fall_over(t: Tables, s: Int, r: Int, now: Int) -> None:
    """A replica that cannot run: it dies, and again each time it is started."""
    service, one = t.service[s], t.replica[s * MAX_REPLICAS + r]
    if one.state == UP:
        log(t, now, s, CRASHED, -1, r)
        _kill(t, s, r, now)
    elif one.state == DOWN and now >= one.back:
        log(t, now, s, CRASHED, -1, r)
        service.restarts += 1
        one.back = now + 2 * service.start


@inner
def wave(second: Int) -> Real:
    """The factor of day and week on the load: mean 1, least before dawn, most in the evening and at the weekend."""
    hour = (second % DAY) / 3600.0
    day = second / DAY + 3.0  # the epoch was a Thursday
    daily = 0.35 * np.cos((hour - 17.0) * np.pi / 12.0) + 0.12 * np.cos((hour - 20.5) * np.pi / 6.0)
    return (1.0 + daily) * (1.0 + 0.08 * np.cos((day - 6.0) * 2.0 * np.pi / 7.0))


@inner
def _burst(t: Tables, now: Int) -> Real:
    rise = min(max((now - t.number[BURST_FROM]) / BURST_RAMP, 0.0), 1.0)
    fall = min(max((t.number[BURST_UNTIL] - now) / BURST_RAMP, 0.0), 1.0)
    return 1.0 + t.real[BURST] * min(rise, fall)


@inner
def _customers(t: Tables, now: Int) -> None:
    """Requests from outside in this second, a Poisson process for each endpoint, and those of the nightly batch."""
    number, real = t.number, t.real
    second = now // NANO
    seed = mixed(number[SEED], second)
    rate = real[RATE] * _burst(t, now)
    if number[WAVES] != 0:
        real[NOISE] = _NOISE_KEPT * real[NOISE] + _NOISE_FRESH * normal(seed, _LOAD)
        rate *= wave(second) * np.exp(real[NOISE])
    for endpoint in range(number[ENTRY_FIRST], number[ENTRY_FIRST] + number[ENTRY_COUNT]):
        wanted = t.endpoint[endpoint].share * t.endpoint[endpoint].surge
        # Each endpoint has its own chances, so that a surge of one leaves the others' customers as they are.
        _come_at(t, rate * wanted, mixed(seed, endpoint), number[ENTRY_EDGE], endpoint, now)
    if real[BATCH] > 0.0:
        _come_at(t, real[BATCH], mixed(seed, number[BATCH_ENDPOINT]), number[BATCH_EDGE], number[BATCH_ENDPOINT], now)


@inner
def _come_at(t: Tables, rate: Real, seed: Int, edge: Int, endpoint: Int, now: Int) -> None:
    """Requests of one kind in the second that begins now."""
    at = exponential(seed, 0) / rate
    i = 1
    while at < 1.0:
        _come(t, mixed(seed, _REQUEST_SEEDS + i), edge, endpoint, now + np.int64(at * NANO))
        if i == _MOST_ARRIVALS:
            t.number[TURNED_AWAY] += 1
            return
        at += exponential(seed, i) / rate
        i += 1


@inner
def _come(t: Tables, seed: Int, edge: Int, endpoint: Int, time: Int) -> None:
    """A request that no request of ours asked for."""
    slot = take_slot(t, seed, edge, endpoint)
    if slot < 0:
        t.number[TURNED_AWAY] += 1
        return
    r = t.request[slot]
    r.id, r.trace, r.state = choose_id(t, endpoint, seed), seed, SENT
    if uniform(seed, _TRACED) < t.real[TRACE_RATIO]:
        r.sampled = 1
    push(t, time, COME, slot)


@inner
def end_second(t: Tables) -> None:
    """Read the gauges where it is time."""
    now = t.number[NOW]
    if now % t.number[EVERY] != 0:
        return
    row = t.number[GAUGES]
    t.number[GAUGES] += 1
    t.gauge_times[row] = now
    for s in range(len(t.service)):
        _read_service(t, s, row, now)
    for e in range(len(t.edge)):
        if t.edge[e].pool > 0:
            _read_edge(t, e, row, now)
    t.number[READ] = now


@inner
def _read_service(t: Tables, s: Int, row: Int, now: Int) -> None:
    """A service's gauges: means over its serving replicas and over the time since the last reading."""
    service, out, first = t.service[s], t.gauges, s * SERVICE_GAUGES
    used, there, memory, ready = 0.0, 0.0, 0.0, 0
    for r in range(MAX_REPLICAS):
        count_replica(t, s, r, now)
        one = t.replica[s * MAX_REPLICAS + r]
        used += one.cpu_area
        there += one.core_area
        one.cpu_area = one.core_area = 0.0
        if one.state == UP:
            ready += 1
            memory += memory_of(t, s, r)
    count_service(t, s, now)
    seconds = (now - t.number[READ]) / NANO
    service.cpu = min(used / there, 1.0) if there > 0.0 else 0.0
    out[row, first + CPU] = service.cpu if ready > 0 else np.nan  # nobody is there to say it
    out[row, first + MEMORY] = memory / ready if ready > 0 else np.nan
    out[row, first + DISK] = disk_of(t, s)
    out[row, first + QUEUE] = service.queue_area / seconds
    out[row, first + FLIGHT] = service.flight_area / seconds
    out[row, first + READY] = ready
    out[row, first + RESTARTS] = service.restarts
    service.queue_area = service.flight_area = 0.0


@inner
def _read_edge(t: Tables, e: Int, row: Int, now: Int) -> None:
    count_edge(t, e, now)
    edge, seconds = t.edge[e], (now - t.number[READ]) / NANO
    first = SERVICE_GAUGES * len(t.service) + POOL_GAUGES * e
    t.gauges[row, first + POOL_USED] = edge.used_area / seconds
    t.gauges[row, first + POOL_WAITING] = edge.waiting_area / seconds
    edge.used_area = edge.waiting_area = 0.0
