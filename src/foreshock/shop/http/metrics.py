"""What a process of the shop tells Prometheus about itself. Nothing in it says which fault is on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Page:
    """The metrics of one process, with a registry of its own; every one has the label `service`."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        self.registry.register(_Process(service))

    def counter(self, name: str, says: str, *labels: str) -> Counter:
        """A counter with these labels after `service`."""
        return Counter(name, says, ["service", *labels], registry=self.registry)

    def gauge(self, name: str, says: str, value: Callable[[], float], **labels: str) -> None:
        """A number that is read when it is asked for."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, says, ["service", *labels], registry=self.registry)
        self._gauges[name].labels(self.service, *labels.values()).set_function(value)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)


class Metrics(Page):
    """What a service says. Every label set that errors can have is there from the start, at 0."""

    def __init__(self, service: str, endpoints: Iterable[tuple[str, str]], version: Callable[[], str]) -> None:
        super().__init__(service)
        each = ("method", "endpoint")
        self._requests = self.counter("app_requests", "Requests answered.", *each, "status")
        self._errors = self.counter("app_requests_errors", "Requests answered with a status of 500 or more.", *each)
        self._seconds = Histogram(
            "http_request_duration_seconds", "From a request to its answer.", ["service", *each],
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self._retries = self.counter("app_call_retries", "Calls to another service that were tried again.", "target")
        self._pool_timeouts = self.counter("app_pool_timeouts", "Calls that got no connection in time.", "target")
        self.registry.register(_BuildInfo(service, version))
        for method, endpoint in endpoints:
            self._errors.labels(service, method, endpoint)
            self._seconds.labels(service, method, endpoint)
            for status in (200, 500):
                self._requests.labels(service, method, endpoint, status)

    def answered(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(self.service, method, endpoint, status).inc()
        self._seconds.labels(self.service, method, endpoint).observe(seconds)
        if status >= 500:
            self._errors.labels(self.service, method, endpoint).inc()

    def calls(self, target: str, in_use: Callable[[], float], size: int) -> tuple[Counter, Counter]:
        """Counters of tries that were repeated, and of those that got none of `size` connections (0 = any number)."""
        if size:
            self.gauge("app_pool_in_use", "Connections in use.", in_use, target=target)
            self.gauge("app_pool_size", "Connections that there are.", lambda: size, target=target)
        return self._retries.labels(self.service, target), self._pool_timeouts.labels(self.service, target)


class _Process(Collector):
    """CPU, memory and open files of the process, with the service's name, so that they are found beside the rest."""

    def __init__(self, service: str) -> None:
        self._labels = {"service": service}
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        for family in self._process.collect():
            family.samples = [one._replace(labels=self._labels | one.labels) for one in family.samples]
            yield family


class _BuildInfo(Collector):
    """Which version runs; while another one does, the label changes."""

    def __init__(self, service: str, version: Callable[[], str]) -> None:
        self._service, self._version = service, version

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("app_build_info", "1, with the version that runs.", labels=["service", "version"])
        family.add_metric([self._service, self._version()], 1.0)
        yield family
