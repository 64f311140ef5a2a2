"""What the simulated shop remembers between two events, as arrays that its kernel works on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from foreshock.shop.settings import Settings
from foreshock.shop.topology import WEB, Topology
from foreshock.types import CALL

Int = Any
Real = Any
Flag = Any
"""Numbers and truth values in a kernel; numba knows their kinds."""

NANO = 1_000_000_000
DAY = 86_400
MAX_REPLICAS = 8

SERVICE = np.dtype(
    [
        ("memory", "f8"),  # bytes of a replica at rest, and the most it may have
        ("memory_limit", "f8"),
        ("disk", "f8"),
        ("disk_limit", "f8"),
        ("cores", "f8"),  # of a replica
        ("cpu_ratio", "f8"),  # how much of the work needs a core
        ("spread", "f8"),  # sigma of the lognormal work
        ("start", "i8"),  # nanoseconds a replica takes to come back
        ("workers", "i8"),  # of a replica
        ("queue_limit", "i8"),
        ("errors", "f8"),  # what faults and actions change: share of answers that fail,
        ("work", "f8"),  # factor on the work,
        ("wait", "f8"),  # wait that uses no core, in means of the work,
        ("leak", "f8"),  # bytes of memory lost a second, of each replica,
        ("fill", "f8"),  # bytes of disk filled a second,
        ("limit", "f8"),  # requests let in a second, 0 = all
        ("tokens", "f8"),
        ("filled", "f8"),  # bytes of disk that `fill` took
        ("written", "f8"),  # bytes of disk that requests took since the last rotation
        ("queue_area", "f8"),  # seconds × requests since the last reading
        ("flight_area", "f8"),
        ("cpu", "f8"),  # use of the cores at the last reading
        ("since", "i8"),  # up to where the areas are counted
        ("restarts", "i8"),
        ("head", "i8"),  # requests that wait for a worker: first, last, how many
        ("tail", "i8"),
        ("queued", "i8"),
        ("flight", "i8"),  # requests that are here
        ("turn", "i8"),  # the replica that is asked next
        ("logged", "i8"),  # lines of this second
    ],
    align=True,
)

GONE, DOWN, UP = range(3)
"""States of a replica: not there; there but not serving, until `back`; serving."""

NO_ORDER, STOP, LEAVE = range(3)
"""Orders to a replica, which finishes what it has begun: start anew; go for good."""

REPLICA = np.dtype(
    [
        ("back", "i8"),  # when a replica that is down serves again
        ("up_since", "i8"),
        ("since", "i8"),
        ("cpu_area", "f8"),  # core seconds used since the last reading, and core seconds there were
        ("core_area", "f8"),
        ("leaked", "f8"),
        ("garbage", "f8"),
        ("using", "f8"),  # cores that those who compute use
        ("stolen", "f8"),  # share of its cores that somebody else takes
        ("busy", "i8"),  # workers
        ("computing", "i8"),  # workers that do work of their own rather than wait
        ("state", "i8"),
        ("held", "i8"),  # it falls over as soon as it is up
        ("order", "i8"),  # what it is told to do
    ],
    align=True,
)

EDGE = np.dtype(
    [
        ("timeout", "i8"),
        ("backoff", "i8"),
        ("since", "i8"),
        ("lost", "f8"),  # connections that nobody gives back, how many more a second, up to how many
        ("losing", "f8"),
        ("lost_most", "f8"),
        ("limit", "f8"),  # calls let through a second, 0 = all
        ("tokens", "f8"),
        ("used_area", "f8"),
        ("waiting_area", "f8"),
        ("caller", "i8"),  # -1 = from outside
        ("callee", "i8"),
        ("source", "i8"),  # places in the names of calls
        ("target", "i8"),
        ("retries", "i8"),
        ("pool", "i8"),  # connections of each of the caller's replicas, 0 = no limit
        ("used", "i8"),
        ("head", "i8"),  # calls that wait for a connection: first, last, how many
        ("tail", "i8"),
        ("waiting", "i8"),
    ],
    align=True,
)

ENDPOINT = np.dtype(
    [
        ("work", "f8"),
        ("share", "f8"),
        ("surge", "f8"),  # factor on the share
        ("error_ratio", "f8"),
        ("not_found_ratio", "f8"),
        ("ids", "i8"),
        ("service", "i8"),
        ("method", "i8"),
        ("first_step", "i8"),
        ("steps", "i8"),
        ("writes", "i8"),
    ],
    align=True,
)
STEP = np.dtype([("probability", "f8"), ("edge", "i8"), ("endpoint", "i8"), ("times", "i8"), ("required", "i8")])

FREE, POOLED, SENT, QUEUED, WORKING, IDLING, CALLING, BACKING_OFF, ANSWERED, KILLED = range(10)
"""States of a request: waits for a connection; on its way; waits for a worker; does its own work; waits where no core
is used; waits for a callee; is about to try again; its answer is on its way; its replica died."""

REQUEST = np.dtype(
    [
        ("seed", "u8"),  # all its chances are drawn from it
        ("trace", "u8"),  # the seed of the request from outside that it belongs to
        ("parent_span", "u8"),
        ("using", "f8"),  # cores, while it computes
        ("started", "i8"),  # when the caller made it
        ("arrived", "i8"),
        ("life", "i8"),  # tells this use of the slot from earlier ones
        ("edge", "i8"),
        ("endpoint", "i8"),
        ("id", "i8"),
        ("parent", "i8"),  # the request that waits for it, -1 = none, or none any more
        ("replica", "i8"),
        ("step", "i8"),  # where it is in its endpoint's steps
        ("turn", "i8"),  # how many times it has made this step
        ("tries", "i8"),
        ("children", "i8"),
        ("next", "i8"),
        ("previous", "i8"),
        ("status", "i8"),
        ("state", "i8"),
        ("abandoned", "i8"),  # the caller waits no more
        ("connected", "i8"),  # holds a connection of the pool
        ("sampled", "i8"),
    ],
    align=True,
)

COME, ARRIVE, WORKED, RESPOND, TIME_OUT, RETRY = range(6)
"""What happens to a request: it is made, from outside; reaches its service; its work is done; its answer reaches the
caller; the caller gives up; the caller tries again."""

EVENT = np.dtype([("time", "i8"), ("order", "i8"), ("life", "i8"), ("slot", "i8"), ("kind", "i8")], align=True)

SPAN = np.dtype(
    [
        ("trace", "u8"),
        ("span", "u8"),
        ("parent", "u8"),
        ("start_unix_nano", "i8"),
        ("duration_seconds", "f8"),
        ("endpoint", "i8"),
        ("status", "i8"),
    ],
    align=True,
)
LOG = np.dtype([("time_unix_nano", "i8"), ("service", "i8"), ("code", "i8"), ("endpoint", "i8"), ("detail", "i8")])

(
    FAILED, TIMED_OUT, REFUSED, NO_CONNECTION, QUEUE_FULL, LIMITED, DISK_FULL, OUT_OF_MEMORY, STARTED, STOPPED, CRASHED,
    DEPLOYED,
) = range(12)  # fmt: skip
"""What a log line says."""

(
    NOW, OPEN, SEED, EVERY, READ, WAVES, EVENTS, ORDER, LIFE, LIVE, FREE_HEAD, HIGH, CALLS, SPANS, LOGS, GAUGES,
    TURNED_AWAY, LOGS_LEFT_OUT, BURST_FROM, BURST_UNTIL, BATCH_ENDPOINT, BATCH_EDGE, ENTRY_EDGE, ENTRY_FIRST,
    ENTRY_COUNT,
) = range(25)  # fmt: skip
"""Places in `Tables.number`."""

RATE, NOISE, BURST, BATCH, TRACE_RATIO = range(5)
"""Places in `Tables.real`."""

CPU, MEMORY, DISK, QUEUE, FLIGHT, READY, RESTARTS = range(7)
SERVICE_GAUGES = 7
POOL_USED, POOL_WAITING = range(2)
POOL_GAUGES = 2
"""Columns of a reading: seven a service, then two an edge."""

REQUESTS = 1 << 15
"""Requests in the shop at once, at most: what is more is turned away at the door and counted."""


class Tables(NamedTuple):
    """All arrays that the kernel works on."""

    service: Any
    """SERVICE."""
    replica: Any
    """REPLICA, MAX_REPLICAS a service."""
    edge: Any
    """EDGE."""
    endpoint: Any
    """ENDPOINT, in the order of the services."""
    step: Any
    """STEP."""
    request: Any
    """REQUEST: a try of a call, as both ends see it."""
    event: Any
    """EVENT: a binary heap by (time, order)."""
    number: Any
    real: Any
    calls: Any
    """CALL; `source`, `target`, `method` are places in `call_names`, `endpoint` is a place in `endpoint`."""
    ids: Any
    """int32: the id in the path of each call."""
    spans: Any
    """SPAN."""
    logs: Any
    """LOG."""
    gauges: Any
    """float64[readings, columns]."""
    gauge_times: Any
    """int64[readings]: Unix ns."""


def call_names(topology: Topology) -> list[str]:
    """The names that rows of calls point to before paths: "", web, the services, the methods."""
    return ["", WEB, *topology.names, *_methods(topology)]


def endpoint_places(topology: Topology) -> dict[tuple[str, str, str], int]:
    """(service, method, path) → place in `Tables.endpoint`."""
    keys = [(service.name, one.method, one.path) for service in topology.services for one in service.endpoints]
    return {key: at for at, key in enumerate(keys)}


def new_tables(topology: Topology, settings: Settings, start_unix_nano: int) -> Tables:
    """The shop at rest at `start_unix_nano` (a whole second): all replicas up and warm, nobody in it."""
    endpoints = endpoint_places(topology)
    service, replica = _services(topology, start_unix_nano)
    edge = _edges(topology, start_unix_nano)
    endpoint, step = _endpoints(topology, endpoints)
    number, real = np.zeros(25, np.int64), np.zeros(5)
    entry = topology.names.index(topology.entry)
    ours = np.flatnonzero(endpoint["service"] == entry)
    number[[NOW, READ]] = start_unix_nano
    number[[SEED, EVERY, WAVES]] = settings.seed, settings.every_seconds * NANO, settings.waves
    number[[FREE_HEAD, BATCH_ENDPOINT, BATCH_EDGE]] = -1
    number[[ENTRY_FIRST, ENTRY_COUNT]] = ours[0], len(ours)
    number[ENTRY_EDGE] = next(at for at, one in enumerate(topology.edges) if one.callee == topology.entry)
    real[[RATE, TRACE_RATIO]] = settings.rate, settings.trace_ratio
    columns = SERVICE_GAUGES * len(service) + POOL_GAUGES * len(edge)
    return Tables(
        service, replica, edge, endpoint, step, np.zeros(REQUESTS, REQUEST), np.zeros(8 * REQUESTS, EVENT),
        number, real, np.zeros(1024, CALL), np.zeros(1024, np.int32), np.zeros(256, SPAN), np.zeros(256, LOG),
        np.zeros((16, columns)), np.zeros(16, np.int64),
    )  # fmt: skip


def _services(topology: Topology, start: int) -> tuple[Any, Any]:
    service = np.zeros(len(topology.services), SERVICE)
    replica = np.zeros(len(service) * MAX_REPLICAS, REPLICA)
    replica["since"] = start
    for at, one in enumerate(topology.services):
        row = service[at]
        row["memory"], row["memory_limit"] = one.memory_bytes, one.memory_limit_bytes
        row["disk"], row["disk_limit"] = one.disk_bytes, one.disk_limit_bytes
        row["cores"], row["cpu_ratio"], row["spread"] = one.cores, one.cpu_ratio, one.spread
        row["workers"], row["queue_limit"] = one.workers, one.queue_limit
        row["start"], row["since"], row["work"] = round(one.start_seconds * NANO), start, 1.0
        row["head"] = row["tail"] = -1
        there = replica[at * MAX_REPLICAS : at * MAX_REPLICAS + one.replicas]
        there["state"], there["up_since"] = UP, start - 3600 * NANO
    return service, replica


def _edges(topology: Topology, start: int) -> Any:
    names = call_names(topology)
    edge = np.zeros(len(topology.edges), EDGE)
    for row, one in zip(edge, topology.edges, strict=True):
        row["timeout"], row["backoff"] = round(one.timeout_seconds * NANO), round(one.backoff_seconds * NANO)
        row["retries"], row["pool"], row["since"] = one.retries, one.pool, start
        row["caller"] = -1 if one.caller == WEB else topology.names.index(one.caller)
        row["callee"] = topology.names.index(one.callee)
        row["source"], row["target"] = names.index(one.caller), names.index(one.callee)
        row["head"] = row["tail"] = -1
    return edge


def _endpoints(topology: Topology, places: dict[tuple[str, str, str], int]) -> tuple[Any, Any]:
    names, edges = call_names(topology), [(one.caller, one.callee) for one in topology.edges]
    endpoint = np.zeros(len(places), ENDPOINT)
    steps: list[tuple[float, int, int, int, int]] = []
    for (name, method, path), at in places.items():
        one, row = topology.endpoint(name, method, path), endpoint[at]
        row["work"], row["share"], row["surge"] = one.work_seconds, one.share, 1.0
        row["error_ratio"], row["not_found_ratio"] = one.error_ratio, one.not_found_ratio
        row["ids"], row["writes"] = one.ids, one.writes
        row["service"], row["method"] = topology.names.index(name), names.index(method)
        row["first_step"], row["steps"] = len(steps), len(one.steps)
        steps += [
            (s.probability, edges.index((name, s.service)), places[s.service, s.method, s.path], s.times, s.required)
            for s in one.steps
        ]
    return endpoint, np.array(steps, STEP)


def _methods(topology: Topology) -> list[str]:
    return sorted({one.method for service in topology.services for one in service.endpoints})
