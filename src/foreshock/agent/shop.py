"""The simulated shop on Kafka: its readings, and how each service did, with some rows made abnormal and labelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.calls import decode_calls
from foreshock.adapters.kafka.envelope import written
from foreshock.adapters.kafka.options import METRICS as METRICS_TOPIC
from foreshock.adapters.kafka.options import SERVICES
from foreshock.adapters.kafka.schemas import ServiceMetrics
from foreshock.adapters.metrics import METRICS, Reading, decode_readings
from foreshock.agent.outgoing import Outgoing, of_readings
from foreshock.shop.topology import SHOP
from foreshock.types import Calls, Control, ControlKind, Record, digest
from foreshock.types.record import CALLS, CONTROL, JSON

ROW_SECONDS = 5
"""Between two rows of a service."""

_LEAST_ROWS, _MOST_ROWS = 3, 9
"""Length of an abnormal stretch."""

_QUIET_ROWS = 60
"""A service is as it is for so long at first: whoever watches learns what is usual."""

_CPU, _MEMORY = "container.cpu.utilization", "container.memory.usage"


@dataclass(frozen=True, slots=True)
class Topics:
    """Where it all goes."""

    metrics: str = METRICS_TOPIC
    services: str = SERVICES
    control: str = "foreshock.control"


class ShopMessages:
    """Makes messages of what the shop brings: calls become means, readings and labels go on as they are.

    About a share `anomalies` of the rows of `service-metrics` is made abnormal: latency, CPU or memory of one service,
    for some rows in a row. What is abnormal when, and that all else is well, is said in control records.
    """

    def __init__(self, topics: Topics, environment: str, anomalies: float = 0.01, seed: int = 0) -> None:
        self._topics, self._environment = topics, environment
        self._names = SHOP.names
        self._spent = np.zeros(len(self._names))
        self._answered = np.zeros(len(self._names))
        self._disturbed = {name: Disturbance(anomalies, seed, at) for at, name in enumerate(self._names)}
        self._said_well = False
        self.rows = self.abnormal = 0

    def take(self, record: Record) -> Sequence[Outgoing]:
        """The messages of a record."""
        if record.content_type == CALLS:
            self._count(decode_calls(record.payload, record.received_unix_nano))
            return ()
        if record.content_type == CONTROL:
            return (self._control(record.payload, record.received_unix_nano),)
        if record.content_type != METRICS:
            return ()
        readings = decode_readings(record.payload)
        return [*self._well(readings), *of_readings(self._topics.metrics, "foreshock/shop", readings),
                *self._rows(readings)]  # fmt: skip

    def rest(self) -> Sequence[Outgoing]:
        """Nothing: all goes at once."""
        return ()

    def _count(self, calls: Calls) -> None:
        """Add up time and number of the calls that each service answered."""
        place = np.array([self._names.index(name) if name in self._names else -1 for name in calls.names], np.int64)
        targets: NDArray[np.int64] = place[calls.rows["target"]]
        seconds = calls.rows["duration_seconds"]
        good = (targets >= 0) & np.isfinite(seconds)
        self._spent += np.bincount(targets[good], seconds[good], len(self._names))
        self._answered += np.bincount(targets[good], minlength=len(self._names))

    def _rows(self, readings: Iterable[Reading]) -> list[Outgoing]:
        out: list[Outgoing] = []
        for one in readings:
            name = one.entity.get("service.name", "")
            values = {metric.name: metric.value for metric in one.metrics if not metric.attributes}
            if name not in self._disturbed or values.get(_CPU) is None or values.get(_MEMORY) is None:
                continue
            at = self._names.index(name)
            latency = float(self._spent[at] / self._answered[at]) if self._answered[at] else None
            usual = ServiceMetrics(
                timestamp=one.time // 1_000_000, service=name, latency=latency, cpu=values[_CPU] or 0.0,
                memory=values[_MEMORY] or 0.0,
            )  # fmt: skip
            row, rows_left = self._disturbed[name].apply(usual)
            out += self._row(row, one.time, rows_left)
        self._spent[:] = self._answered[:] = 0.0
        return out

    def _row(self, row: ServiceMetrics, time: int, rows_left: int) -> list[Outgoing]:
        """The message of a row; before it, where a stretch begins, the label of the stretch."""
        self.rows += 1
        self.abnormal += row.label
        headers = written(JSON, event_id=digest(row.service, str(time)), source="foreshock/shop",
                          kind="dev.foreshock.service-metrics")  # fmt: skip
        message = Outgoing(self._topics.services, row.service.encode(), msgspec.json.encode(row), headers, time)
        if not rows_left:
            return [message]
        until = time + rows_left * ROW_SECONDS * 1_000_000_000
        return [self._label(row.service, time, until, "true"), message]

    def _well(self, readings: Sequence[Reading]) -> list[Outgoing]:
        """Once: from now on all is well with each service, unless another label says that it is not."""
        if self._said_well or not readings:
            return []
        self._said_well = True
        return [self._label(name, readings[0].time, 0, "false") for name in self._names]

    def _label(self, service: str, since: int, until: int, label: str) -> Outgoing:
        name = digest("service-metrics", label, service, str(since))
        control = Control(
            ControlKind.LABEL, name, since, until, {"service": service}, label=label, author="shop"
        )  # fmt: skip
        return self._control(msgspec.json.encode(control), since)

    def _control(self, payload: bytes, time: int) -> Outgoing:
        return Outgoing(self._topics.control, self._environment.encode(), payload, written(CONTROL), time)


class Disturbance:
    """Makes rows of one service abnormal, now and then, so that a share of them is."""

    def __init__(self, share: float, seed: int, number: int) -> None:
        mean = (_LEAST_ROWS + _MOST_ROWS) / 2
        # Between two stretches lie on average so many rows that the share comes out.
        self._chance = share / (mean * (1.0 - share)) if 0.0 < share < 1.0 else 0.0
        self._random = np.random.default_rng((seed, number))
        self._left = 0
        self._what, self._factor = "latency", 1.0
        self._seen = 0

    def apply(self, row: ServiceMetrics) -> tuple[ServiceMetrics, int]:
        """The row as it is to be sent and, where a stretch begins with it, how many rows that has; else 0."""
        begins, self._seen = 0, self._seen + 1
        draw = self._random.random()
        if not self._left and self._seen > _QUIET_ROWS and draw < self._chance:
            self._left = begins = int(self._random.integers(_LEAST_ROWS, _MOST_ROWS + 1))
            self._what = ("latency", "cpu", "memory")[int(self._random.integers(3))]
            self._factor = float(self._random.uniform(3.0, 8.0))
        if not self._left:
            return row, 0
        self._left -= 1
        return self._changed(row), begins

    def _changed(self, row: ServiceMetrics) -> ServiceMetrics:
        change = msgspec.structs.replace
        if self._what == "latency" and row.latency is not None:
            return change(row, latency=row.latency * self._factor, label=1)
        if self._what == "memory":
            return change(row, memory=row.memory * (1.0 + self._factor / 4.0), label=1)
        return change(row, cpu=min(1.0, row.cpu * self._factor + 0.3), label=1)
