"""Alerts in plain English: names, numbers, sentences."""

from __future__ import annotations

import math

import pytest

from foreshock.incident import words
from foreshock.incident.words import Band
from foreshock.types import Series

NAN = math.nan
NOON = 43_450_000_000_000
"""12:04:10 UTC."""


@pytest.mark.parametrize(
    ("name", "attributes", "wanted"),
    [
        ("system.cpu.utilization", (), "cpu utilization"),
        ("system.network.io", (("direction", "receive"),), "network io (receive)"),
        ("system.cpu.utilization", (("cpu", "0"), ("state", "user")), "cpu utilization (cpu 0, user)"),
        ("http_requests_total", (), "http requests total"),
        ("responseTime", (), "response time"),
        ("system", (), "system"),
        ("17", (), "metric 17"),
        ("—", (), "—"),
    ],
)
def test_metrics(name: str, attributes: tuple[tuple[str, str], ...], wanted: str) -> None:
    assert words.metric(Series(name, (), attributes)) == wanted


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ((("host.name", "a1"),), "host a1"),
        ((("service.name", "cart"),), "service cart"),
        ((("userId", "u-7"),), "user u-7"),
        ((("entity", "x"),), "x"),
        ((("id", "x"),), "x"),
        ((("k8s.pod.name", "cart-0"),), "pod cart-0"),
        ((("host.name", "a1"), ("service.name", "cart")), "host a1, service cart"),
        ((("client", "checkout"), ("server", "payment")), "calls from checkout to payment"),
        ((("deployment.environment.name", "prod"),), "environment prod"),
        ((("deployment", "blue"),), "deployment blue"),
        ((), "the system"),
    ],
)
def test_entities(labels: tuple[tuple[str, str], ...], wanted: str) -> None:
    assert words.entity(labels) == wanted


@pytest.mark.parametrize(
    ("value", "unit", "wanted"),
    [
        (0.98, "1", "0.98"),
        (0.05, "", "0.05"),
        (0.0, "1", "0"),
        (5.0, "1", "5"),
        (1.2345, "1", "1.23"),
        (123.4, "1", "123"),
        (1234.0, "1", "1234"),
        (12_345.0, "1", "12.3 k"),
        (2_345_678.0, "{request}", "2.35 M"),
        (3.0, "{request}/s", "3/s"),
        (512.0, "By", "512 B"),
        (5_120_000.0, "By/s", "5.12 MB/s"),
        (1.5e13, "By", "15 TB"),
        (2.4e9, "Hz", "2.4 GHz"),
        (0.0123, "s", "12.3 ms"),
        (2.9, "s", "2.9 s"),
        (250.0, "ms", "250 ms"),
        (2500.0, "ms", "2.5 s"),
        (90_000.0, "s", "25 h"),
        (0.0, "s", "0 s"),
        (4.2e-7, "s", "420 ns"),
        (12.0, "%", "12 %"),
        (21.5, "Cel", "21.5 °C"),
        (-3.456, "1", "-3.46"),
        (-0.0, "1", "0"),
        (0.00001234, "1", "1.2e-05"),
        (NAN, "1", "unknown"),
        (math.inf, "1", "infinite"),
        (0.5, "1/s", "0.5/s"),
    ],
)
def test_quantities(value: float, unit: str, wanted: str) -> None:
    assert words.quantity(value, unit) == wanted


@pytest.mark.parametrize(
    ("band", "unit", "wanted"),
    [
        (Band(0.03, 0.22), "1", "0.03–0.22"),
        (Band(0.1, 0.2), "1", "0.1–0.2"),
        (Band(0.1, 0.22), "1", "0.10–0.22"),
        (Band(5.0, 7.0), "1", "5–7"),
        (Band(1.2e6, 3.4e6), "By/s", "1.2–3.4 MB/s"),
        (Band(200.0, 3.4e6), "By", "0–3.4 MB"),
        (Band(-3.0, 5.0), "1", "-3 to 5"),
        (Band(0.0, 0.0), "1", "0"),
        (Band(NAN, 5.0), "s", "at most 5 s"),
        (Band(5.0, NAN), "s", "at least 5 s"),
        (Band(NAN, NAN, 3.0), "1", "usually about 3"),
        (Band(), "1", ""),
    ],
)
def test_bands(band: Band, unit: str, wanted: str) -> None:
    assert words.span(band, unit) == wanted


def test_the_direction_follows_the_bounds_then_the_middle() -> None:
    assert Band(1, 2).direction(3) == "above"
    assert Band(1, 2).direction(0) == "below"
    assert Band(1, 2, 1.5).direction(1.2) == "below"
    assert Band(NAN, NAN, 5).direction(4) == "below"
    assert Band().direction(4) == "above"


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(62, "1 min 2 s"), (944, "15 min 44 s"), (0.82, "820 ms"), (5, "5 s"), (60, "1 min"), (7500, "2 h 5 min"),
     (86_400 * 3 + 4 * 3600, "3 d 4 h"), (86_400 + 59, "1 d")],
)  # fmt: skip
def test_durations(seconds: float, wanted: str) -> None:
    assert words.duration(seconds) == wanted


def test_what_is_noticed() -> None:
    say = words.noticed
    assert say("load of host a1", 9.0, Band(0.2, 4.0), "1", NOON) == (
        "load of host a1 is 9, expected 0.2–4.0, since 12:04:10 UTC"
    )
    assert say("load", 9.0, Band(expected=1.0), "1", NOON) == "load is 9, usually about 1, since 12:04:10 UTC"
    assert say("load", 9.0, Band(), "1", NOON) == "load is 9, which is unusual, since 12:04:10 UTC"


def test_observed_and_bound_are_never_the_same_text() -> None:
    said = words.noticed("pressure", 100.31, Band(99.8, 100.2), "1", NOON)
    assert said.startswith("pressure is 100.3, expected 99.8–100.2, since")


def test_limits() -> None:
    assert (
        words.over_limit("load", 0.1, Band(0.5, NAN), "1", 0)
        == "load is 0.1, under its limit of 0.5, since 00:00:00 UTC"
    )
    assert words.over_limit("load", 9.0, Band(), "1", 0) == "load is 9, over its limit, since 00:00:00 UTC"


def test_what_is_measured() -> None:
    say = words.measured
    assert say("pause", "load", 9.0, "1", 90.0, 0.0, NOON) == (
        "load has not moved from 9 since 12:02:40 UTC (1 min 30 s); it usually moves all the time"
    )
    assert say("variation", "load", 9.0, "1", 5.6, 1.5, NOON) == (
        "load varies over 5.0 × as much as usual, rarely over 1.5 ×, since 12:04:10 UTC; it is 9"
    )
    assert say("variation", "load", 9.0, "1", 0.02, 1.5, NOON) == (
        "load varies only 0.1 × as much as usual, since 12:04:10 UTC; it is 9"
    )
    assert say("departure", "load", 9.0, "1", 2.34, 1.0, NOON) == (
        "load goes its own way, 2.3 × as far as it rarely does, since 12:04:10 UTC; it is 9"
    )
    assert words.as_usual("variation", "load", NAN, "1", 62) == "load varies as usual again after 1 min 2 s"


def test_ends() -> None:
    assert words.resolved("load", 1.0, "1", 62, True) == "load is back to 1 after 1 min 2 s"
    assert words.resolved("load", 9.0, "1", 62, False) == "load is 9, which no longer stands out, after 1 min 2 s"
    assert words.resolved("load", NAN, "1", 62, True) == "load is back to what is usual after 1 min 2 s"
    assert words.heard("host a1", 62) == "host a1 reports again after 1 min 2 s"


def test_silence_without_a_known_interval() -> None:
    assert words.silent("host a1", NOON, 0.0) == "host a1 has sent nothing since 12:04:10 UTC"


def test_label_names_are_prometheus_safe() -> None:
    assert [words.safe_name(name) for name in ("host.name", "a-b/c", "9x", "", "größe")] == [
        "host_name", "a_b_c", "_9x", "_", "gr__e"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "attributes", "entity", "wanted"),
    [
        ("calls.error_ratio", (), (("service.name", "pay"),), "calls error ratio of service pay"),
        ("calls.error_ratio", (), (("client", "a"), ("server", "b")), "error ratio of calls from a to b"),
        ("latency", (), (("client", "a"), ("server", "b")), "latency of calls from a to b"),
        ("calls.duration.p95", (), (("deployment.environment.name", "x"),), "calls duration p95 of environment x"),
        ("calls.status_ratio", (("class", "5xx"),), (("service.name", "pay"),),
         "calls status ratio (class 5xx) of service pay"),
        ("calls.endpoint.rate", (("endpoint", "GET /cart/{id}"),), (("service.name", "cart"),),
         "calls endpoint rate (GET /cart/{id}) of service cart"),
    ],
)  # fmt: skip
def test_titles_of_fingerprints(
    name: str, attributes: tuple[tuple[str, str], ...], entity: tuple[tuple[str, str], ...], wanted: str
) -> None:
    assert words.title(Series(name, entity, attributes)) == wanted
