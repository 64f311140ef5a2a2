from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter

from foreshock.api.services import Health, Services
from foreshock.runtime.views import Views
from foreshock.state import Registry
from foreshock.testing.check_store import sample_alert, sample_verdicts
from foreshock.types import Rows, Series, Verdict, labels
from tests.unit.api.rig import NOW, Client, FixedClock, is_problem


def test_health_readiness_and_metrics(services: Services) -> None:
    clock = FixedClock()
    registry = CollectorRegistry()
    Counter("hits", "Hits.", registry=registry).inc(3)
    health = Health()
    client = Client(replace(services, clock=clock, registry=registry, health=lambda: health))
    clock.now += 2_500_000_000
    assert client.get("/health") == {"status": "ok", "version": "1.2.3", "uptime_seconds": 2.5}
    assert client.get("/readyz") == {"status": "ready"}
    health = Health(clock.now - 30 * 10**9, 10.0)
    assert client.get("/readyz") == {"status": "ready"}
    health = Health(clock.now - 30 * 10**9 - 1, 10.0, ("recovering: 1 of 9 records",))
    answer = client("GET", "/readyz")
    reasons = ["recovering: 1 of 9 records", "the watermark is 30.0 s old, more than 3 steps (30 s)"]
    assert is_problem(answer, 503)["reasons"] == reasons
    assert client.get("/health")["status"] == "ok"
    answer = client("GET", "/metrics")
    assert "hits_total 3.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


def _alerts(services: Services) -> list[Any]:
    alerts = [sample_alert(f"a{i}", NOW + i * 10**9) for i in range(3)]
    alerts[0] = replace(alerts[0], ends_unix_nano=NOW + 5 * 10**9)
    services.store.commit("t", 0, 1, alerts, None, [])
    return [alert.to_json() for alert in reversed(alerts)]


def test_alerts_are_listed_filtered_and_paged(client: Client, services: Services) -> None:
    newest, middle, oldest = _alerts(services)
    assert client.get("/api/v1/alerts") == {"alerts": [newest, middle, oldest], "next": None}
    first = client.get("/api/v1/alerts", params={"limit": 2})
    assert first["alerts"] == [newest, middle]
    assert client.get("/api/v1/alerts", params={"cursor": first["next"]})["alerts"] == [oldest]
    for params in (
        {"status": "resolved"},
        {"entity": "host.name=a0"},
        {"entity": '{host.name="a0"}', "since": "2023-11-14T22:13:25Z"},
        {"since": "1700000005", "status": "resolved"},
        {"since": "2023-11-14T23:13:25+01:00", "status": "resolved"},
    ):
        assert client.get("/api/v1/alerts", params=params)["alerts"] == [oldest], params
    after = client.get("/api/v1/alerts?since=2023-11-14T22:13:25.5Z")["alerts"]
    assert after == [newest, middle]
    episode = oldest["foreshock"]["episode"]
    assert client.get(f"/api/v1/alerts/{episode}") == oldest
    is_problem(client("GET", "/api/v1/alerts/none"), 404)


def test_the_watchdog_fires_always_before_the_others(services: Services) -> None:
    stored = _alerts(services)
    dog = sample_alert("none", 5, labels=labels({"alertname": "ForeshockWatchdog"}))
    client = Client(replace(services, watchdog=lambda: dog))
    assert client.get("/api/v1/alerts")["alerts"] == [dog.to_json(), *stored]
    assert client.get("/api/v1/alerts?status=firing&limit=1")["alerts"] == [dog.to_json(), stored[0]]
    assert dog.to_json() not in client.get("/api/v1/alerts?status=resolved")["alerts"]
    assert client.get(f"/api/v1/alerts/{dog.episode}") == dog.to_json()


@pytest.mark.parametrize(
    "path",
    [
        "alerts?limit=0", "alerts?limit=x", "alerts?limit=1001", "alerts?status=open", "alerts?since=yesterday",
        "alerts?since=2023-11-14T22:13:25", "alerts?since=nan", "alerts?since=-1", "alerts?cursor=%F0",
        "alerts?entity=%7B", "alerts?colour=red", "alerts?limit=1&limit=2", "entities?cursor=-1",
        "series?points=9", "series?entity=a", "series?detectors=yes", "entities?order=name", "verdicts?until=never",
        "verdicts?limit=1001", "verdicts?entity=a",
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense(path: str, client: Client) -> None:
    assert is_problem(client("GET", f"/api/v1/{path}"), 400)["reason"].startswith("bad_")


def _feed(views: Views) -> None:
    registry = Registry()
    for host in ("h0", "h1"):
        registry.intern(Series("cpu", labels({"host.name": host}), labels({"state": "user"}), "1"))
    time = np.array([NOW, NOW, NOW + 10**9])
    rows = Rows(
        np.array([0, 1, 0], np.int32), time, time, np.ones(3, np.bool_), np.array([0, 1, 0], np.uint8),
        np.arange(4), np.array([0, 1, 0], np.int32), np.array([1.5, 2.5, np.nan]),
    )  # fmt: skip
    views.feed(rows, [], registry)
    views.sources.feed("host", NOW, 3)


def test_entities_series_and_status(client: Client, services: Services) -> None:
    _feed(services.views)
    host = {
        "entity": '{host.name="h0"}', "labels": {"host.name": "h0"}, "last_seen": "2023-11-14T22:13:21Z",
        "status": "scored", "series": 1, "strength": None, "p_value": None,
    }  # fmt: skip
    found = client.get("/api/v1/entities?limit=1")
    assert found == {"entities": [host], "next": "1"}
    found = client.get("/api/v1/entities?cursor=1")
    assert [one["status"] for one in found["entities"]] == ["warming_up"]
    assert found["next"] is None
    listed = client.get("/api/v1/series")
    assert [one["feature"] for one in listed["series"]] == ['cpu{state="user"}'] * 2
    assert "points" not in listed["series"][0]
    params = {"entity": "host.name=h0", "feature": 'cpu{state="user"}', "points": 2}
    (one,) = client.get("/api/v1/series", params=params)["series"]
    assert one == {
        "entity": '{host.name="h0"}', "feature": 'cpu{state="user"}', "name": "cpu", "attributes": {"state": "user"},
        "unit": "1", "kind": "gauge",
        "points": {
            "time_unix_seconds": [1_700_000_000.0, 1_700_000_001.0], "value": [1.5, None], "expected": [None, None],
            "low": [None, None], "high": [None, None], "score": [None, None], "p_value": [None, None],
            "strength": [None, None],
            "anomalous": [False, False], "status": ["scored", "missing"],
        },
    }  # fmt: skip
    assert client.get("/api/v1/series?limit=1")["next"] == "1"
    status = client.get("/api/v1/status")
    assert status == {
        "position": 7, "version": "1.2.3", "time": "2023-11-14T22:13:20Z", "not_ready": [],
        "views": {"entities": 2, "series": 2, "series_not_viewed": 0, "open_alerts": 0},
        "sources": [{"source": "host", "last_received": "2023-11-14T22:13:20Z", "records": 1, "samples": 3}],
    }  # fmt: skip


def _verdict(name: str, p_value: float, strength: float, shadow: bool = False) -> Verdict:
    """Of two cells, of which the first is judged."""
    judged = np.array([1.0, np.nan])
    return Verdict(
        name, 3.0 * judged, np.array([0, 1], np.uint8), p_value * judged, strength * judged,
        np.array([strength > 0, False]), judged, 0.5 * judged, 2.0 * judged, False, None, shadow,
    )  # fmt: skip


def test_detectors_side_by_side(services: Services) -> None:
    registry = Registry()
    for host in ("h0", "h1"):
        registry.intern(Series("cpu", labels({"host.name": host})))
    rows = Rows(
        np.array([0, 1], np.int32), np.array([NOW, NOW]), np.array([NOW, NOW]), np.ones(2, np.bool_),
        np.zeros(2, np.uint8), np.arange(3), np.array([0, 1], np.int32), np.array([1.5, 2.5]),
    )  # fmt: skip
    services.views.feed(rows, [_verdict("loud", 0.25, -1.0), _verdict("quiet", 0.125, 1.0, True)], registry)
    client = Client(services)
    first, second = client.get("/api/v1/series?detectors=true")["series"]
    assert first["detectors"]["loud"] == {
        "role": "primary", "time_unix_seconds": 1_700_000_000.0, "expected": 1.0, "low": 0.5, "high": 2.0,
        "score": 3.0, "p_value": 0.25, "strength": -1.0, "anomalous": False, "status": "scored",
    }  # fmt: skip
    quiet = first["detectors"]["quiet"]
    assert (quiet["role"], quiet["p_value"], quiet["anomalous"]) == ("shadow", 0.125, True)
    assert second["detectors"]["loud"]["status"] == "warming_up"
    assert second["detectors"]["loud"]["p_value"] is None
    assert "detectors" not in client.get("/api/v1/series")["series"][0]
    (known, unknown) = client.get("/api/v1/entities")["entities"]
    assert known["p_value"] == pytest.approx(0.25), "a shadow has no part in it"
    assert known["strength"] == -1.0
    assert unknown["p_value"] is None


def test_entities_are_ranked_by_their_p_value(services: Services) -> None:
    registry = Registry()
    hosts = ("h0", "h1", "h2")
    for host in hosts:
        registry.intern(Series("cpu", labels({"host.name": host})))
    rows = Rows(
        np.arange(3, dtype=np.int32), np.full(3, NOW), np.full(3, NOW), np.ones(3, np.bool_), np.zeros(3, np.uint8),
        np.arange(4), np.arange(3, dtype=np.int32), np.arange(3.0),
    )  # fmt: skip
    nothing, p = np.full(3, np.nan), np.array([np.nan, 0.5, 0.125])
    verdict = Verdict(
        "d", p, np.zeros(3, np.uint8), p, p, np.zeros(3, np.bool_), nothing, nothing, nothing
    )  # fmt: skip
    services.views.feed(rows, [verdict], registry)
    client = Client(services)

    def order(query: str) -> list[str]:
        return [one["labels"]["host.name"] for one in client.get(f"/api/v1/entities?{query}")["entities"]]

    assert order("") == order("order=seen") == ["h0", "h1", "h2"]
    assert order("order=p_value") == ["h2", "h1", "h0"]
    assert order("order=p_value&limit=1&cursor=1") == ["h1"]


def test_anomalous_rows_are_explained_the_newest_first(client: Client, services: Services) -> None:
    rows = sample_verdicts(['{host.name="a1"}', '{host.name="a2"}', '{host.name="a1"}'])
    notes = '{"unit": "s", "shadow": true, "top": [["cpu", 0.75], ["memory", 0.25]]}'
    rows |= {"value": np.full(3, 0.0123), "low": np.full(3, 0.008), "high": np.full(3, 0.01)}
    rows["notes"] = [None, None, notes]
    services.store.commit("t", 0, 1, [], rows, [])
    found = client.get("/api/v1/verdicts")
    assert [one["time"][-3:] for one in found["verdicts"]] == ["22Z", "21Z", "20Z"]
    assert found["more"] is False
    newest = found["verdicts"][0]
    assert (newest["role"], newest["unit"]) == ("shadow", "s")
    assert newest["normal"] == "12.3 ms, between 8 and 10 ms would have been normal"
    assert newest["contributions"] == [{"feature": "cpu", "share": 0.75}, {"feature": "memory", "share": 0.25}]
    assert newest["ratio"] == pytest.approx(np.exp(newest["strength"]))
    assert found["verdicts"][1]["role"] == "primary"
    assert client.get("/api/v1/verdicts?limit=2")["more"] is True
    for query, count in (
        ("entity=host.name=a1", 2), ("entity=host.name=a1&limit=1", 1), ("entity=host.name=a9", 0),
        ("detector=robust_z", 3), ("detector=zscore", 0), ("feature=cpu", 3), ("feature=x", 0),
        ("since=2023-11-14T22:13:21Z", 2), ("until=2023-11-14T22:13:21Z", 1), ("since=1700000001&until=1700000002", 1),
    ):  # fmt: skip
        assert len(client.get(f"/api/v1/verdicts?{query}")["verdicts"]) == count, query


def test_unknown_paths_and_methods(client: Client) -> None:
    is_problem(client("GET", "/api/v1/nothing"), 404)
    answer = client("DELETE", "/api/v1/events")
    is_problem(answer, 405)
    assert answer.headers["allow"] == "POST"
