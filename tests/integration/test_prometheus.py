"""Against a real Prometheus that scrapes a small exporter: what is read is what PromQL says, and a fault is found."""

from __future__ import annotations

import math
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from foreshock.adapters.decode import decode
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.prometheus.options import PrometheusOptions
from foreshock.adapters.prometheus.source import PrometheusSource
from foreshock.app import App
from foreshock.config import load
from foreshock.runtime.clock import SystemClock
from foreshock.types import Alert, Record, Samples, Series
from foreshock.types.record import WATERMARK
from tests.services import Prometheus, binary, prometheus, wait_until

pytestmark = pytest.mark.services

HISTORY_SECONDS = 1800
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, math.inf)


class Liars:
    """Metrics whose types are wrong."""

    def collect(self) -> Iterator[Metric]:
        falls = CounterMetricFamily("liar", "Is called a counter and falls.")
        falls.add_metric([], 50 + random.random() * 10)
        yield falls
        yield GaugeMetricFamily("grower_total", "Is called a gauge and grows.", value=time.time() % 1e6)


class Exporter:
    """Two services and what else an exporter gives; `errors_per_second` of cart is the fault."""

    def __init__(self) -> None:
        self.registry, rng = CollectorRegistry(), random.Random(1)
        self.requests = Counter("app_requests", "Requests.", ["service", "method"], registry=self.registry)
        self.errors = Counter("app_requests_errors", "Errors.", ["service"], registry=self.registry)
        self.queue = Gauge("queue_length", "Waiting.", ["service"], registry=self.registry)
        limit = Gauge("queue_limit", "A constant.", ["service"], registry=self.registry)
        latency = Histogram(
            "http_request_duration_seconds", "Time.", ["service"], buckets=BOUNDS, registry=self.registry
        )
        self.registry.register(Liars())
        for service in ("cart", "pay"):
            limit.labels(service).set(100)
            self.errors.labels(service)
        self.errors_per_second = 0.0
        self._server, self._thread = start_http_server(0, "127.0.0.1", self.registry)
        self.port = self._server.server_port
        self._stop = threading.Event()

        def drive() -> None:
            while not self._stop.wait(0.05):
                self.errors.labels("cart").inc(self.errors_per_second * 0.05)
                for service in ("cart", "pay"):
                    self.requests.labels(service, "GET").inc(rng.randint(1, 3))
                    self.queue.labels(service).set(rng.uniform(3, 7))
                    for _ in range(3):
                        latency.labels(service).observe(rng.lognormvariate(-2.5, 0.5))

        self._driver = threading.Thread(target=drive, daemon=True)
        self._driver.start()

    def close(self) -> None:
        self._stop.set()
        self._driver.join()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def scrape_config(port: int) -> str:
    """The exporter as a job, and once more as two servers of a pair would have it."""
    target = f"static_configs: [{{targets: ['127.0.0.1:{port}']}}]"

    def replica(name: str) -> str:
        return (
            f"- job_name: pair-{name}\n  {target}\n  relabel_configs:\n"
            "  - {target_label: job, replacement: pair}\n  - {target_label: instance, replacement: 'pair:80'}\n"
            f"  - {{target_label: prometheus_replica, replacement: {name}}}\n"
            "  metric_relabel_configs:\n"
            "  - {source_labels: [__name__], regex: 'up|grower_total', action: keep}\n"
        )

    return (
        "global: {scrape_interval: 1s}\nscrape_configs:\n"
        f"- job_name: shop\n  {target}\n  relabel_configs:\n  - {{target_label: instance, replacement: 'shop:80'}}\n"
        + replica("a")
        + replica("b")
    )


def write_history(folder: Path, end: int) -> None:
    """Half an hour of the exporter's past, a second apart, as Prometheus' own blocks."""
    rng = np.random.default_rng(2)
    times = range(end - HISTORY_SECONDS, end)
    lines = []
    for name, kind in (("app_requests", "counter"), ("app_requests_errors", "counter"), ("queue_length", "gauge")):
        lines.append(f"# TYPE {name} {kind}")
        for service in ("cart", "pay"):
            method = ',method="GET"' if name == "app_requests" else ""
            labels = f'{{service="{service}"{method},job="shop",instance="shop:80"}}'
            total = 0
            for when in times:
                total += int(rng.integers(20, 61)) if name == "app_requests" else 0
                value = float(rng.uniform(3, 7)) if kind == "gauge" else total
                lines.append(f"{name}{'_total' if kind == 'counter' else ''}{labels} {value} {when}")
    lines.append("# TYPE http_request_duration_seconds histogram")
    for service in ("cart", "pay"):
        counts = np.zeros(len(BOUNDS), int)
        for when in times:
            counts += np.searchsorted(np.sort(rng.lognormal(-2.5, 0.5, 60)), BOUNDS)
            for bound, count in zip(BOUNDS, counts.tolist(), strict=True):
                le = "+Inf" if math.isinf(bound) else bound
                labels = f'{{service="{service}",job="shop",instance="shop:80",le="{le}"}}'
                lines.append(f"http_request_duration_seconds_bucket{labels} {count} {when}")
            labels = f'{{service="{service}",job="shop",instance="shop:80"}}'
            lines.append(f"http_request_duration_seconds_count{labels} {counts[-1]} {when}")
            lines.append(f"http_request_duration_seconds_sum{labels} {counts[-1] * 0.09} {when}")
    text = folder / "history.om"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    subprocess.run(
        [binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", "-q", str(text), str(folder / "data")],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    binary("prometheus")
    exporter = Exporter()
    yield exporter
    exporter.close()


@pytest.fixture(scope="module")
def fresh(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server that knows only what it has scraped; the first to start, so that this is something by and by."""
    with prometheus(tmp_path_factory.mktemp("fresh"), scrape_config(exporter.port)) as server:
        yield server


@pytest.fixture(scope="module")
def server(fresh: Prometheus, exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server that has half an hour of the past, too."""
    folder = tmp_path_factory.mktemp("past")
    write_history(folder, int(time.time()) - 2)
    with prometheus(folder, scrape_config(exporter.port)) as server:
        wait_until(lambda: len(server.query('count_over_time(up{job="shop"}[1m]) > 5')) == 1, "nothing was scraped")
        yield server


class Reading:
    """A source in a thread of its own, and what it brought."""

    def __init__(self, url: str, resume: int = 0, **options: Any) -> None:
        self.source = PrometheusSource("prometheus", PrometheusOptions.model_validate({"url": url, **options}))
        if resume:
            self.source.resume(resume)
        self.records: list[Record] = []
        self._clock = SystemClock()
        self._thread = threading.Thread(target=self.source.run, args=(self.records.append, self._clock))
        self._thread.start()

    def stop(self) -> None:
        self.source.stop()
        self._clock.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def series(self) -> dict[Series, dict[int, float]]:
        """Values by series and time (Unix seconds); fails where one came twice or out of order."""
        out: dict[Series, dict[int, float]] = {}
        newest = 0
        for record in list(self.records):
            if record.content_type == WATERMARK:
                continue
            found = decode(record, MappingOptions())
            assert isinstance(found, Samples)
            for at, when, value in zip(
                found.index.tolist(), found.time_unix_nano.tolist(), found.value.tolist(), strict=True
            ):
                assert when >= newest
                assert when % 1_000_000_000 == 0
                newest = when
                known = out.setdefault(found.series[at], {})
                assert when // 1_000_000_000 not in known
                known[when // 1_000_000_000] = value
        return out

    def find(self, name: str, service: str, **attributes: str) -> dict[int, float]:
        [found] = [
            values
            for series, values in self.series().items()
            if series.name == name
            and dict(series.entity).get("service") == service
            and attributes.items() <= dict(series.attributes).items()
        ]
        return found

    def newest(self) -> int:
        return max((when for values in self.series().values() for when in values), default=0)


def promql(server: Prometheus, query: str, times: list[int]) -> dict[int, float]:
    asked: dict[str, str | int] = {"query": query, "start": times[0], "end": times[-1], "step": 1}
    answer = httpx.get(f"{server.url}/api/v1/query_range", params=asked, trust_env=False).json()
    [found] = answer["data"]["result"]
    return {round(when): float(value) for when, value in found["values"]}


def test_what_is_read_is_what_promql_says(server: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.adapters.prometheus.columns.WINDOW_SECONDS", 3.0)
    monkeypatch.setattr("foreshock.adapters.prometheus.columns.LEAST_BEYOND", 0.0)
    reading = Reading(server.url, backfill=HISTORY_SECONDS)
    try:
        begun = int(time.time())
        wait_until(lambda: reading.newest() >= begun + 4, "it did not come to the present")
    finally:
        reading.stop()
    # Beside one another: what is read, and what PromQL says about the same seconds of the past and of now.
    past = list(range(begun - 1500, begun - 1400))
    for times in (past, list(range(begun, begun + 4))):
        for service in ("cart", "pay"):
            which = f'{{service="{service}"}}'
            requests = reading.find("app_requests_total", service, method="GET")
            assert [requests[t] for t in times] == pytest.approx(
                list(promql(server, f"app_requests_total{which} - app_requests_total{which} offset 1s", times).values())
            )
            queue = reading.find("queue_length", service)
            assert {t: queue[t] for t in times} == promql(server, f"queue_length{which}", times)
            for q in ("0.5", "0.95", "0.99"):
                bucket = f"http_request_duration_seconds_bucket{which}"
                expected = promql(server, f"histogram_quantile({q}, {bucket} - {bucket} offset 3s)", times)
                found = reading.find("http_request_duration_seconds", service, quantile=q)
                assert {t: found[t] for t in times} == pytest.approx(expected, rel=1e-9)
    names = {series.name for series in reading.series()}
    assert names == {
        "app_requests_total", "app_requests_errors_total", "queue_length", "http_request_duration_seconds",
        "http_request_duration_seconds_count", "liar_total", "grower_total", "up",
    }  # fmt: skip
    pair = [s for s in reading.series() if ("job", "pair") in s.entity]
    assert sorted(series.name for series in pair) == ["grower_total", "up"], "a pair counts once"
    [grower] = [values for s, values in reading.series().items() if s.name == "grower_total" and s in pair]
    assert list(grower.values())[-3:] == pytest.approx([1.0] * 3, abs=0.2)


def test_a_restart_goes_on_where_the_log_ends(server: Prometheus) -> None:
    end = int(time.time()) - 5
    reading = Reading(server.url, resume=end * 1_000_000_000, backfill="1h")
    try:
        wait_until(lambda: reading.newest() > end + 6, "it did not come to the present")
    finally:
        reading.stop()
    requests = reading.find("app_requests_total", "cart")
    assert list(requests) == list(range(end + 1, reading.newest() + 1))
    assert all(value > 0 for value in requests.values())


def test_a_server_that_goes_and_comes_back(
    exporter: Exporter, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshock.adapters.prometheus.source._LONGEST_BACKOFF", 1.0)
    server = Prometheus(tmp_path, scrape_config(exporter.port))
    server.start()
    reading = Reading(server.url)
    try:
        wait_until(lambda: reading.newest() > 0, "nothing was read")
        server.stop()
        wait_until(lambda: "cannot be reached" in reading.source.problem, "nobody said that it is gone")
        server.start()
        back = int(time.time())
        wait_until(lambda: reading.newest() > back + 1, "it was not read again")
        assert reading.source.problem == ""
        reading.series()  # in order, nothing twice
    finally:
        reading.stop()
        server.stop()
    said = [record.message for record in caplog.records if server.url in record.message]
    assert len([text for text in said if "cannot be reached" in text]) == 1
    assert len([text for text in said if text.endswith("answers again")]) == 1


FIVE_LINES = """\
sources:
  - prometheus:
      url: {url}
http:
  enabled: false
"""


def test_a_fault_is_found_within_15_seconds_and_resolves(
    fresh: Prometheus, exporter: Exporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wait_until(lambda: len(fresh.query('count_over_time(up{job="shop"}[5m]) > 32')) == 1, "it does not scrape", 60)
    config = tmp_path / "foreshock.yaml"
    config.write_text(FIVE_LINES.format(url=fresh.url))
    overrides = {"data_dir": str(tmp_path / "data")}
    app = App(load([config], environ={}, overrides=overrides))

    def alerts(status: str) -> list[Alert]:
        """Those about cart."""
        found = app.store.alerts(limit=1000, status=status).alerts
        return [one for one in found if dict(one.labels).get("service") == "cart"]

    def about_errors(status: str) -> bool:
        return any("app_requests_errors_total" in dict(one.labels).get("feature", "") for one in alerts(status))

    app.start()
    try:
        wait_until(lambda: app.engine.ready.is_set(), "the engine did not start", 60)
        [source] = app.sources
        wait_until(lambda: (app.engine.ticker.newest("prometheus") or 0) > time.time_ns() - 3 * 10**9,
                   "it did not come to the present", 60)  # fmt: skip
        assert getattr(source, "problem", "?") == ""
        assert app.health().problems == ()
        assert not alerts("firing")
        exporter.errors_per_second = 20.0
        wait_until(lambda: about_errors("firing"), "the fault was not found in time", 15)
        [alert] = alerts("firing")
        assert "app requests errors total of service cart is" in dict(alert.annotations)["summary"]
        exporter.errors_per_second = 0.0
        wait_until(lambda: about_errors("resolved"), "it did not resolve", 25)
    finally:
        exporter.errors_per_second = 0.0
        app.stop()
    told = [one.message for one in caplog.records if one.name == "foreshock.adapters.prometheus.source"]
    assert sorted(text.split(": ")[1].split(" ")[0] for text in told) == ["grower_total", "liar_total"]
