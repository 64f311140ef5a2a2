"""What the shop lets be seen: calls, readings, spans and log lines of a stretch of its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.metrics import Metric, Reading
from foreshock.shop.dynamics_tables import (
    CALLS,
    CPU,
    CRASHED,
    DEPLOYED,
    DISK,
    DISK_FULL,
    FAILED,
    FLIGHT,
    GAUGES,
    LIMITED,
    LOGS,
    MEMORY,
    NO_CONNECTION,
    OUT_OF_MEMORY,
    POOL_GAUGES,
    POOL_USED,
    POOL_WAITING,
    QUEUE,
    QUEUE_FULL,
    READY,
    REFUSED,
    RESTARTS,
    SERVICE_GAUGES,
    SPANS,
    STARTED,
    STOPPED,
    TIMED_OUT,
    Tables,
    call_names,
    endpoint_places,
)
from foreshock.shop.topology import Topology
from foreshock.types import Calls

_GAUGES = (
    (CPU, "container.cpu.utilization", "1", False),
    (MEMORY, "container.memory.usage", "By", False),
    (DISK, "container.filesystem.usage", "By", False),
    (QUEUE, "service.queue.length", "{request}", False),
    (FLIGHT, "http.server.active_requests", "{request}", False),
    (READY, "service.replicas.ready", "{replica}", False),
    (RESTARTS, "service.restarts", "{restart}", True),
)
_POOL = ((POOL_USED, "db.client.connections.usage"), (POOL_WAITING, "db.client.connections.pending_requests"))

_LINES = {
    FAILED: ("ERROR", "{endpoint} failed"),
    TIMED_OUT: ("ERROR", "call to {callee} timed out"),
    REFUSED: ("ERROR", "connection to {callee} refused or reset"),
    NO_CONNECTION: ("ERROR", "no connection to {callee} free in time"),
    QUEUE_FULL: ("WARN", "{endpoint} turned away: the queue is full"),
    LIMITED: ("WARN", "{endpoint} turned away: over its rate limit"),
    DISK_FULL: ("ERROR", "{endpoint} failed: no space left on device"),
    OUT_OF_MEMORY: ("ERROR", "replica {detail} killed: out of memory"),
    STARTED: ("INFO", "replica {detail} is up"),
    STOPPED: ("INFO", "replica {detail} stops"),
    CRASHED: ("ERROR", "replica {detail} exited unexpectedly"),
    DEPLOYED: ("INFO", "version 1.{detail}.0 is rolled out"),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A request as its service saw it: ids are lower-case hex as in OpenTelemetry, `parent` "" at the root."""

    trace: str
    span: str
    parent: str
    service: str
    name: str
    start_unix_nano: int
    duration_seconds: float
    status: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a service wrote."""

    time_unix_nano: int
    service: str
    level: str
    body: str


class _Gauges(NamedTuple):
    """What is read of a service: (name, attributes, unit, column, whether it is a counter)."""

    entity: dict[str, str]
    columns: list[tuple[str, dict[str, str], str, int, bool]]


@dataclass(frozen=True)
class Telemetry:
    """All that was seen in `[since, until)`, in the order of its times.

    Columns are made at once; readings, spans and lines become objects when they are asked for.
    """

    since_unix_nano: int
    until_unix_nano: int
    calls: Calls
    topology: Topology
    plan: tuple[_Gauges, ...]
    gauges: NDArray[np.float64]
    gauge_times: NDArray[np.int64]
    span_rows: NDArray[np.void]
    log_rows: NDArray[np.void]

    @cached_property
    def readings(self) -> list[Reading]:
        """One for each service and time: the mean over the time since the last, in the names of OpenTelemetry."""
        return [
            Reading(
                time,
                gauges.entity,
                [Metric(name, at, unit, row[i], counter) for name, at, unit, i, counter in gauges.columns],
            )
            for time, row in zip(self.gauge_times.tolist(), self.gauges.tolist(), strict=True)
            for gauges in self.plan
        ]

    @property
    def spans(self) -> Iterator[Span]:
        """Sampled requests, in the order in which they ended."""
        endpoints = list(endpoint_places(self.topology))
        for row in self.span_rows:
            service, method, path = endpoints[row["endpoint"]]
            yield Span(
                f"{int(row['trace']):032x}", f"{int(row['span']):016x}",
                f"{int(row['parent']):016x}" if row["parent"] else "", service, f"{method} {path}",
                int(row["start_unix_nano"]), float(row["duration_seconds"]), int(row["status"]),
            )  # fmt: skip

    @property
    def logs(self) -> Iterator[LogLine]:
        """What the services wrote."""
        endpoints = list(endpoint_places(self.topology))
        names = self.topology.names
        for row in self.log_rows:
            level, text = _LINES[int(row["code"])]
            detail, endpoint = int(row["detail"]), int(row["endpoint"])
            body = text.format(
                endpoint=" ".join(endpoints[endpoint][1:]), detail=detail, callee=names[detail % len(names)]
            )
            yield LogLine(int(row["time_unix_nano"]), names[row["service"]], level, body)


class Collector:
    """Takes what the kernel has put out since the last time."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._names = call_names(topology)
        self._plan = tuple(_gauges(topology, service) for service in topology.names)
        paths = [path for _, _, path in endpoint_places(topology)]
        # Services share paths: a text stands among the names once.
        self._paths = list(dict.fromkeys(paths))
        self._path_of = np.array([self._paths.index(path) for path in paths], np.int64)

    def take(self, t: Tables, since: int, until: int) -> Telemetry:
        """All of it, copied; the tables have room again."""
        n, spans, logs, gauges = t.number[[CALLS, SPANS, LOGS, GAUGES]].tolist()
        t.number[[CALLS, SPANS, LOGS, GAUGES]] = 0
        return Telemetry(
            since, until, self._calls(t.calls[:n].copy(), t.ids[:n]), self._topology, self._plan,
            t.gauges[:gauges].copy(), t.gauge_times[:gauges].copy(), t.spans[:spans].copy(), t.logs[:logs].copy(),
        )  # fmt: skip

    def _calls(self, rows: NDArray[Any], ids: NDArray[np.int32]) -> Calls:
        """Write out the paths: `rows` still point to endpoints."""
        codes, places = np.unique((self._path_of[rows["endpoint"]] << 32) | ids, return_inverse=True)
        rows["endpoint"] = len(self._names) + places
        paths = [self._path(code >> 32, code & 0xFFFFFFFF) for code in codes.tolist()]
        return Calls((*self._names, *paths), rows, {})

    def _path(self, path: int, number: int) -> str:
        return self._paths[path].replace("{id}", str(number))


def _gauges(topology: Topology, service: str) -> _Gauges:
    first, pools = topology.names.index(service) * SERVICE_GAUGES, len(topology.names) * SERVICE_GAUGES
    columns: list[tuple[str, dict[str, str], str, int, bool]] = [
        (name, {}, unit, first + i, counter) for i, name, unit, counter in _GAUGES
    ]
    for at, edge in enumerate(topology.edges):
        if edge.caller == service and edge.pool:
            pool = {"pool.name": edge.callee}
            columns += [(name, pool, "{connection}", pools + at * POOL_GAUGES + i, False) for i, name in _POOL]
    return _Gauges({"service.name": service}, columns)
