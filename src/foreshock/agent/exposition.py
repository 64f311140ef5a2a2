"""The last reading as a Prometheus endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from foreshock.adapters.metrics import METRICS, Metric, Reading, decode_readings
from foreshock.errors import PermanentError
from foreshock.telemetry import REGISTRY
from foreshock.types import Record

_UNITS = {"1": "ratio", "By": "bytes", "s": "seconds", "ms": "milliseconds", "%": "percent", "Cel": "celsius",
          "bit": "bits", "Hz": "hertz"}  # fmt: skip
_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9_]+")


class LastReading(Collector):
    """Shows the last reading of each entity, in Prometheus' words for the names of OpenTelemetry."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._readings: dict[tuple[tuple[str, str], ...], Reading] = {}

    def take(self, record: Record) -> None:
        """Take what a source brings."""
        if record.content_type != METRICS:
            return
        with self._lock:
            for one in decode_readings(record.payload):
                self._readings[tuple(sorted(one.entity.items()))] = one

    def collect(self) -> Iterator[Family]:
        """The families of all metrics."""
        with self._lock:
            readings = list(self._readings.values())
        families: dict[str, Family] = {}
        for reading in readings:
            for metric in reading.metrics:
                if metric.value is None:
                    continue
                name = prometheus_name(metric)
                kind = "counter" if metric.counter else "gauge"
                family = families.setdefault(name, Family(name, f"{metric.name} ({metric.unit})", kind))
                labels = {_plain(key): text for key, text in (reading.entity | metric.attributes).items()}
                family.add_sample(name + "_total" * metric.counter, labels, metric.value)
        yield from families.values()


def prometheus_name(metric: Metric) -> str:
    """The name that a metric has in Prometheus, without `_total`.

    >>> prometheus_name(Metric("system.disk.io", {}, "By/s", 1.0)), prometheus_name(Metric("a.b", {}, "{thread}", 1.0))
    ('system_disk_io_bytes_per_second', 'a_b')
    """
    unit, _, per = metric.unit.partition("/")
    ends = [_UNITS.get(unit, "" if unit.startswith("{") else unit), "per_second" if per == "s" else per]
    if metric.counter and ends[0] == "ratio":
        ends[0] = ""
    return "_".join(_plain(part) for part in (metric.name, *ends) if part)


def _plain(text: str) -> str:
    return _NOT_A_NAME.sub("_", text).strip("_") or "_"


def serve(collector: LastReading, host: str, port: int) -> Any:
    """An HTTP server with `/metrics`: the last reading and, behind it, what Foreshock says of itself.

    Its `server_port` says where; `shutdown()` ends it. Raises PermanentError where the address cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    registry.register(_Own())
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise PermanentError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; end the program that has the port, or "
            "choose another with --listen"
        ) from error
    return server


class _Own(Collector):
    """What Foreshock says of itself."""

    def collect(self) -> Iterator[Family]:
        """The families of its registry."""
        yield from REGISTRY.collect()
