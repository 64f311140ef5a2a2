"""The agent's Prometheus endpoint."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.agent.exposition import LastReading, prometheus_name, serve
from foreshock.errors import PermanentError
from foreshock.types import Record
from foreshock.types.record import CALLS


def record(*metrics: Metric, host: str = "a1") -> Record:
    return Record("e", "host", METRICS, 0, encode_metrics(Reading(1, {"host.name": host}, list(metrics))))


@pytest.fixture
def last() -> LastReading:
    return LastReading()


@pytest.fixture
def server(last: LastReading) -> Iterator[Any]:
    one = serve(last, "127.0.0.1", 0)
    yield one
    one.shutdown()
    one.server_close()


def scraped(server: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = httpx.get(f"http://127.0.0.1:{server.server_port}/metrics", trust_env=False).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (Metric("system.cpu.utilization", {}, "1", 0.5), "system_cpu_utilization_ratio"),
        (Metric("system.memory.usage", {}, "By", 0.5), "system_memory_usage_bytes"),
        (Metric("system.disk.io", {}, "By/s", 0.5), "system_disk_io_bytes_per_second"),
        (Metric("system.network.packets", {}, "{packet}/s", 0.5), "system_network_packets_per_second"),
        (Metric("restarts", {}, "1", 3.0, True), "restarts"),
        (Metric("a b-c", {}, "", 3.0), "a_b_c"),
    ],
)
def test_names_are_those_of_prometheus(metric: Metric, name: str) -> None:
    assert prometheus_name(metric) == name


def test_the_last_reading_is_shown(last: LastReading, server: Any) -> None:
    last.take(record(Metric("system.cpu.utilization", {}, "1", 0.9)))
    last.take(record(Metric("system.cpu.utilization", {}, "1", 0.5), Metric("system.cpu.utilization", {"state": "user"},
              "1", 0.4), Metric("gone", {}, "1", None), Metric("restarts", {}, "{restart}", 3.0, True)))  # fmt: skip
    last.take(record(Metric("system.cpu.utilization", {}, "1", 0.1), host="b2"))
    last.take(Record("e", "x", CALLS, 0, b"{}"))
    found = scraped(server)
    name = "system_cpu_utilization_ratio"
    assert found[name, (("host_name", "a1"),)] == 0.5
    assert found[name, (("host_name", "a1"), ("state", "user"))] == 0.4
    assert found[name, (("host_name", "b2"),)] == 0.1
    assert found["restarts_total", (("host_name", "a1"),)] == 3.0
    assert not any(one.startswith("gone") for one, _ in found)
    assert any(one.startswith("foreshock_agent_buffered_messages") for one, _ in found)


def test_a_port_that_is_taken_is_said(last: LastReading) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PermanentError, match="--listen"):
            serve(last, "127.0.0.1", other.getsockname()[1])
