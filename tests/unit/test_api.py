from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.routing import Route

from foreshock import telemetry
from foreshock.adapters.decode import decode
from foreshock.adapters.http import inflate
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.adapters.sql import Store
from foreshock.api import ingest
from foreshock.api.auth import Doorkeeper, Permission, Role, Token, check_bind, identify, is_loopback
from foreshock.api.server import create_app, serve
from foreshock.api.services import Health, Services
from foreshock.errors import BadInputError, ConfigError, PermanentError, RetryableError
from foreshock.runtime.views import Views
from foreshock.state import Registry
from foreshock.testing.check_store import sample_alert, sample_verdicts
from foreshock.types import Control, Decoded, Record, Rows, Samples, Series, Verdict, labels
from foreshock.types.record import CALLS

NOW = 1_700_000_000 * 10**9
EVENT = b'{"eventId": "e-1", "timestamp": 1640000000, "userId": "u-7", "value": 12.5}'


class FixedClock:
    now = NOW

    def now_unix_nano(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        raise AssertionError("no handler sleeps")


@dataclass
class Runtime:
    """Stands where the runtime does, and notes what happens in which order."""

    events: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    full: bool = False
    refuse: Exception | None = None
    threads: set[int] = field(default_factory=set)
    drop: int = 0

    def reserve(self, size: int) -> AbstractContextManager[object]:
        self.events.append("reserve")
        if self.full:
            raise RetryableError("the queue is full")
        return nullcontext()

    def decode(self, record: Record) -> Samples:
        self.events.append("decode")
        self.threads.add(threading.get_ident())
        if self.refuse is not None:
            raise self.refuse
        n = record.payload.count(b"value")
        columns = (np.zeros(n, np.int32), np.zeros(n, np.int64), np.zeros(n), np.zeros(n, np.uint64))
        return Samples((), *columns, {"no_time": self.drop} if self.drop else {}, ("time=timestamp (unit s)",))

    def submit(self, record: Record, samples: Decoded) -> int:
        self.events.append("submit")
        self.records.append(record)
        return len(samples)

    def control(self, control: Control) -> Control:
        stamped = Control(control.kind, control.id, control.effective_unix_nano + 5, matchers=control.matchers,
                          author=control.author)  # fmt: skip
        self.controls.append(stamped)
        return stamped


Answer = httpx.Response


class Client:
    """Asks the application itself, without a socket."""

    def __init__(self, services: Services) -> None:
        self.app = create_app(services)

    def __call__(self, method: str, path: str, **more: Any) -> Answer:
        async def ask() -> Answer:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str, **more: Any) -> Any:
        answer = self("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, content: Any = EVENT, content_type: str = "application/json", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self("POST", "/api/v1/events", content=content, headers={"Content-Type": content_type} | named)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def services(tmp_path: Path, runtime: Runtime) -> Iterator[Services]:
    store = Store(f"sqlite:///{tmp_path}/s.db")
    yield Services(
        version="1.2.3",
        clock=FixedClock(),
        decode=runtime.decode,
        submit=runtime.submit,
        control=runtime.control,
        views=Views(10, 8),
        store=store,
        status=lambda: {"position": 7},
        health=Health,
        reserve=runtime.reserve,
        max_body_bytes=200_000,
    )
    store.close()


@pytest.fixture
def client(services: Services) -> Client:
    return Client(services)


def _is_problem(answer: Answer, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def _dropped(reason: str) -> float:
    return telemetry.REGISTRY.get_sample_value("foreshock_dropped_total", {"reason": reason}) or 0.0


# Events


def test_events_are_accepted_in_the_order_of_the_contract(client: Client, runtime: Runtime) -> None:
    answer = client.post()
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 1, "dropped": {}, "notes": ["time=timestamp (unit s)"]}
    assert runtime.events == ["reserve", "decode", "submit"]
    assert runtime.records == [Record("default", "http", "application/json", NOW, EVENT)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("application/json; charset=UTF-8", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/jsonl", "application/x-ndjson"),
        ("application/x-www-form-urlencoded", "application/json"),
        ("", "application/json"),
    ],
)
def test_content_types(given: str, kept: str, client: Client, runtime: Runtime) -> None:
    assert client.post(content_type=given).status_code == 202
    assert runtime.records[0].content_type == kept


@pytest.mark.parametrize(
    "given", ["text/xml", "application/json; charset=latin-1", "application/vnd.foreshock.control+json"]
)
def test_other_content_types_are_refused(given: str, client: Client, runtime: Runtime) -> None:
    before = _dropped("unknown_content_type")
    assert _is_problem(client.post(content_type=given), 415)["reason"] == "unknown_content_type"
    assert runtime.events == []
    assert _dropped("unknown_content_type") == before + 1


def test_what_says_nothing_of_its_type_is_taken(client: Client, runtime: Runtime) -> None:
    assert client("POST", "/api/v1/events", content=EVENT).status_code == 202
    assert runtime.records[0].content_type == "application/json"


def test_readings_in_our_own_form_are_taken(services: Services, runtime: Runtime) -> None:
    client = Client(replace(services, decode=lambda record: decode(record, MappingOptions())))
    body = encode_metrics(
        [Reading(NOW, {"host.name": "a"}, [Metric("cpu", {}, "1", 0.5), Metric("mem", {}, "By", 7.0)])]
    )
    assert client.post(body, METRICS).json()["accepted"] == 2
    assert runtime.records == [Record("default", "http", METRICS, NOW, body)]
    assert _is_problem(client.post(EVENT, METRICS), 400)["reason"] == "bad_json"


def test_records_bear_the_name_of_the_source(services: Services, runtime: Runtime) -> None:
    Client(replace(services, source="shop", environment="east")).post()
    assert [(record.source, record.environment) for record in runtime.records] == [("shop", "east")]


def test_a_full_queue_is_429_before_anything_is_parsed(client: Client, runtime: Runtime) -> None:
    before = _dropped("queue_full")
    runtime.full = True
    answer = client.post()
    _is_problem(answer, 429)
    assert answer.headers["retry-after"] == "1"
    assert runtime.events == ["reserve"]
    assert _dropped("queue_full") == before + 1


def test_no_space_while_the_runtime_has_problems_is_503(services: Services, runtime: Runtime) -> None:
    before = _dropped("unavailable")
    problems: tuple[str, ...] = ("starting: the log is being read",)
    client = Client(replace(services, health=lambda: Health(problems=problems)))
    runtime.full = True
    answer = client.post()
    _is_problem(answer, 503)
    assert answer.headers["retry-after"] == "1"
    assert runtime.events == ["reserve"]
    assert _dropped("unavailable") == before + 1
    problems = ()
    _is_problem(client.post(), 429)
    runtime.full = False
    problems = ("the pipeline has stopped",)
    assert client.post().status_code == 202, "what has space is logged, whatever else is wrong"


def test_a_watermark_that_lags_is_no_reason_for_503(services: Services, runtime: Runtime) -> None:
    runtime.full = True
    client = Client(replace(services, health=lambda: Health(watermark_unix_nano=1)))
    _is_problem(client("GET", "/readyz"), 503)
    _is_problem(client.post(), 429)


def test_a_log_that_cannot_be_written_is_503(services: Services) -> None:
    def full(record: Record, samples: Decoded) -> None:
        raise RetryableError("the disk is full")

    before = _dropped("unavailable")
    answer = Client(replace(services, submit=full)).post()
    assert "disk" in _is_problem(answer, 503)["detail"]
    assert answer.headers["retry-after"] == "1"
    assert _dropped("unavailable") == before + 1


def test_space_is_given_back_however_it_ends(services: Services, runtime: Runtime) -> None:
    held: list[int] = []

    @contextmanager
    def reserve(size: int) -> Iterator[None]:
        held.append(size)
        try:
            yield
        finally:
            held.remove(size)

    def submit(record: Record, samples: Decoded) -> None:
        assert held == [len(EVENT)]
        raise RetryableError("the disk is full")

    client = Client(replace(services, reserve=reserve))
    assert client.post().status_code == 202
    _is_problem(Client(replace(services, reserve=reserve, submit=submit)).post(), 503)
    runtime.refuse = BadInputError("bad_json", "not JSON")
    _is_problem(client.post(), 400)
    assert held == []


def test_what_cannot_be_parsed_is_400_with_its_reason_and_not_in_the_log(client: Client, runtime: Runtime) -> None:
    before = _dropped("bad_json")
    runtime.refuse = BadInputError("bad_json", "line 1: not JSON")
    assert _is_problem(client.post(), 400)["reason"] == "bad_json"
    assert runtime.events == ["reserve", "decode"]
    assert _dropped("bad_json") == before + 1


def test_what_is_dropped_is_said_and_a_body_without_a_sample_is_not_appended(client: Client, runtime: Runtime) -> None:
    runtime.drop = 2
    assert client.post().json()["dropped"] == {"no_time": 2}
    assert _is_problem(client.post(b"[{}, {}]"), 400)["reason"] == "no_time"
    runtime.drop = 0
    assert client.post(b"[]").json()["accepted"] == 0
    assert len(runtime.records) == 1


def test_gzip_is_unpacked_within_the_limit(client: Client, runtime: Runtime) -> None:
    two = gzip.compress(EVENT + b"\n") + gzip.compress(EVENT)
    assert client.post(two, "application/x-ndjson", Content_Encoding="gzip").json()["accepted"] == 2
    assert runtime.records[0].payload == EVENT + b"\n" + EVENT
    _is_problem(client.post(gzip.compress(b" " * 200_001), Content_Encoding="gzip"), 413)
    assert client.post(gzip.compress(EVENT.ljust(200_000)), Content_Encoding="gzip").status_code == 202
    for broken in (b"not gzip", gzip.compress(EVENT)[:-9]):
        assert _is_problem(client.post(broken, Content_Encoding="gzip"), 400)["reason"] == "bad_gzip"
    assert _is_problem(client.post(Content_Encoding="br"), 415)["reason"] == "unknown_encoding"
    assert client.post(zlib.compress(EVENT), Content_Encoding="deflate").status_code == 202


def test_bodies_over_the_limit_are_413_said_or_not(client: Client, runtime: Runtime) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 50_000

    for body in (b"x" * 200_001, chunks()):
        answer = client.post(body)
        assert _is_problem(answer, 413)["reason"] == "too_large"
        assert answer.headers["connection"] == "close"
    assert runtime.events == []
    assert client.post(EVENT.ljust(200_000)).status_code == 202


def test_large_bodies_are_decoded_beside_the_event_loop(services: Services, runtime: Runtime) -> None:
    loops: set[int] = set()

    def reserve(size: int) -> AbstractContextManager[object]:
        loops.add(threading.get_ident())
        return nullcontext()

    client = Client(replace(services, reserve=reserve))
    client.post()
    assert runtime.threads == loops
    runtime.threads.clear()
    client.post(EVENT.ljust(70_000))
    assert len(runtime.threads) == 1
    assert runtime.threads.isdisjoint(loops)


def test_large_packed_bodies_are_unpacked_beside_the_event_loop(
    services: Services, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def watched(body: bytes, encoding: str, limit: int) -> bytes:
        threads.append(threading.get_ident())
        return inflate(body, encoding, limit)

    monkeypatch.setattr(ingest, "inflate", watched)
    client = Client(services)
    noise = np.random.default_rng(7).integers(33, 91, 40_000, np.uint8).tobytes()
    for body in (EVENT, EVENT + noise):
        assert client.post(gzip.compress(body), Content_Encoding="gzip").status_code == 202
        assert runtime.records[-1].payload == body
    small, large = threads
    assert small == threading.get_ident() != large


def test_an_unexpected_error_is_500_counted_and_says_nothing_of_itself(
    client: Client, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    def errors() -> float:
        return telemetry.REGISTRY.get_sample_value("foreshock_errors_total", {"part": "api"}) or 0.0

    before = errors()
    runtime.refuse = ZeroDivisionError("secret detail")
    answer = client.post()
    _is_problem(answer, 500)
    assert "secret" not in answer.text
    assert errors() == before + 1
    assert "secret detail" in caplog.text


# Calls

CALL = b'{"source": "checkout", "target": "payment", "endpoint": "/charge?card=1", "status": 200, "duration": 0.1}'


@pytest.fixture
def collector(services: Services) -> Callable[..., Answer]:
    """Posts to /collect, where calls are really decoded."""
    client = Client(replace(services, decode=lambda record: decode(record, MappingOptions())))
    return lambda body, content_type="application/json", path="/collect", **headers: client(
        "POST", path, content=body, headers={"Content-Type": content_type} | headers
    )


@pytest.mark.parametrize("path", ["/collect", "/api/v1/collect"])
@pytest.mark.parametrize(
    "given", ["application/json", "application/x-ndjson", "text/plain", "application/x-www-form-urlencoded", "", CALLS]
)
def test_calls_are_accepted(path: str, given: str, collector: Callable[..., Answer], runtime: Runtime) -> None:
    answer = collector(CALL, given, path)
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 1, "dropped": {}, "notes": ["time = when it was received"]}
    assert runtime.events == ["reserve", "submit"]
    assert runtime.records == [Record("default", "calls", CALLS, NOW, CALL)]


def test_calls_bear_the_name_of_their_source(services: Services, runtime: Runtime) -> None:
    Client(replace(services, source="feed", calls_source="mesh"))("POST", "/collect", content=b"value")
    assert [record.source for record in runtime.records] == ["mesh"]


def test_many_calls_packed_or_not(collector: Callable[..., Answer], runtime: Runtime) -> None:
    lines = b"\n".join([CALL, b"{oops", CALL, b'{"status": 200}'])
    said = collector(gzip.compress(lines), "application/x-ndjson", **{"Content-Encoding": "gzip"}).json()
    assert (said["accepted"], said["dropped"]) == (2, {"bad_json": 1, "no_target": 1})
    assert runtime.records[0].payload == lines


def test_calls_that_are_none_are_400_and_not_in_the_log(collector: Callable[..., Answer], runtime: Runtime) -> None:
    garbage = np.random.default_rng(3).bytes(5000)
    for body, reason in ((b"{", "bad_json"), (b"[]", "empty"), (b"{}", "no_target"), (b"[1]", "not_an_object")):
        assert _is_problem(collector(body), 400)["reason"] == reason
    _is_problem(collector(garbage), 400)
    assert _is_problem(collector(CALL, "text/xml"), 415)["reason"] == "unknown_content_type"
    assert _is_problem(collector(CALL, METRICS), 415)["reason"] == "unknown_content_type"
    assert _is_problem(collector(CALL.ljust(200_001)), 413)["reason"] == "too_large"
    runtime.full = True
    assert _is_problem(collector(CALL), 429)["status"] == 429
    assert runtime.records == []


# Control


def _control(client: Client, body: object, **headers: str) -> Answer:
    return client("POST", "/api/v1/control", json=body, headers=headers)


def test_control_records_are_completed_stamped_and_returned(services: Services, runtime: Runtime) -> None:
    client = Client(replace(services, tokens=(Token.of("ann", Role.OPERATOR, "s"),)))
    body = {"kind": "deploy", "matchers": {"service.name": "pay"}, "author": "somebody else"}
    answer = _control(client, body, Authorization="Bearer s")
    assert answer.status_code == 202
    (kept,) = runtime.controls
    assert answer.json() == {
        "kind": "deploy", "id": kept.id, "effective_unix_nano": NOW + 5, "matchers": {"service.name": "pay"},
        "author": "ann",
    }  # fmt: skip
    assert len(kept.id) == 32
    _control(client, {"kind": "deploy"}, **{"Authorization": "Bearer s", "Idempotency-Key": "k-1"})
    assert runtime.controls[1].id == "k-1"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "nonsense"},
        {"kind": "deploy", "extra": 1},
        {"kind": "deploy", "effective_unix_nano": "now"},
        {"kind": "deploy", "effective_unix_nano": 9, "until_unix_nano": 9},
        {"kind": "label", "label": "true"},
        {"kind": "label", "matchers": {"service.name": "pay"}},
        {"kind": "forget"},
        [],
    ],
)
def test_control_records_that_make_no_sense(body: object, client: Client, runtime: Runtime) -> None:
    assert _is_problem(_control(client, body), 400)["reason"] == "bad_control"
    assert runtime.controls == []


@pytest.mark.parametrize(
    "given", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_control_records_must_say_that_they_are_json(given: str, client: Client, runtime: Runtime) -> None:
    answer = client("POST", "/api/v1/control", content=b'{"kind": "deploy"}', headers={"Content-Type": given})
    assert _is_problem(answer, 415)["reason"] == "unknown_content_type"
    assert runtime.controls == []


def test_control_records_are_bounded_and_may_be_packed(client: Client, runtime: Runtime) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8", "Content-Encoding": "gzip"}
    for body, status in ((b'{"kind": "deploy"}', 202), (b'{"kind": "deploy"}'.ljust(200_001), 413)):
        answer = client("POST", "/api/v1/control", content=gzip.compress(body), headers=headers)
        assert answer.status_code == status
    assert len(runtime.controls) == 1


def test_a_control_record_that_finds_no_room_is_503(services: Services) -> None:
    def full(control: Control) -> Control:
        raise RetryableError("starting")

    answer = _control(Client(replace(services, control=full)), {"kind": "deploy"})
    _is_problem(answer, 503)
    assert answer.headers["retry-after"] == "1"


# Reading


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
    assert _is_problem(answer, 503)["reasons"] == reasons
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
    _is_problem(client("GET", "/api/v1/alerts/none"), 404)


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
        "alerts?entity=%7B", "alerts?colour=red", "alerts?limit=1&limit=2", "entities?offset=-1",
        "series?points=9", "series?entity=a", "series?detectors=yes", "entities?order=name", "verdicts?until=never",
        "verdicts?limit=1001", "verdicts?entity=a",
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense(path: str, client: Client) -> None:
    assert _is_problem(client("GET", f"/api/v1/{path}"), 400)["reason"].startswith("bad_")


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
    views.feed_source("host", NOW, 3)


def test_entities_series_and_status(client: Client, services: Services) -> None:
    _feed(services.views)
    host = {
        "entity": '{host.name="h0"}', "labels": {"host.name": "h0"}, "last_seen": "2023-11-14T22:13:21Z",
        "status": "scored", "series": 1, "strength": None, "p_value": None,
    }  # fmt: skip
    found = client.get("/api/v1/entities?limit=1")
    assert found == {"entities": [host], "next_offset": 1}
    found = client.get("/api/v1/entities?offset=1")
    assert [one["status"] for one in found["entities"]] == ["warming_up"]
    assert found["next_offset"] is None
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
    assert client.get("/api/v1/series?limit=1")["next_offset"] == 1
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
    assert order("order=p_value&limit=1&offset=1") == ["h1"]


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
    _is_problem(client("GET", "/api/v1/nothing"), 404)
    answer = client("DELETE", "/api/v1/events")
    _is_problem(answer, 405)
    assert answer.headers["allow"] == "POST"


# Who may


ROUTES: Sequence[tuple[str, str, Permission | None]] = (
    ("GET", "/health", None), ("GET", "/readyz", None), ("GET", "/metrics", Permission.READ),
    ("GET", "/api/v1/alerts", Permission.READ), ("GET", "/api/v1/alerts/x", Permission.READ),
    ("GET", "/api/v1/entities", Permission.READ), ("GET", "/api/v1/series", Permission.READ),
    ("GET", "/api/v1/verdicts", Permission.READ),
    ("GET", "/api/v1/status", Permission.READ), ("POST", "/api/v1/events", Permission.INGEST),
    ("POST", "/collect", Permission.INGEST), ("POST", "/api/v1/collect", Permission.INGEST),
    ("POST", "/api/v1/control", Permission.CONTROL), ("GET", "/api/v1/control", Permission.READ),
    ("GET", "/actuator/health", None), ("GET", "/openapi.json", None), ("GET", "/api/v1/stream", Permission.READ),
    ("GET", "/api/v1/series/points", Permission.READ), ("GET", "/api/v1/strip", Permission.READ),
    ("GET", "/api/v1/map", Permission.READ), ("GET", "/api/v1/detectors", Permission.READ),
    ("GET", "/api/v1/sources", Permission.READ), ("GET", "/api/v1/budget", Permission.READ),
    ("GET", "/api/v1/config", Permission.READ), ("GET", "/api/v1/demo/faults", Permission.READ),
    ("POST", "/api/v1/demo/faults", Permission.CONTROL), ("DELETE", "/api/v1/demo/faults", Permission.CONTROL),
    ("POST", "/api/v1/alerts/x/label", Permission.CONTROL), ("POST", "/v1/metrics", Permission.INGEST),
)  # fmt: skip

MAY = {
    Role.VIEWER: {Permission.READ},
    Role.INGEST: {Permission.INGEST},
    Role.OPERATOR: set(Permission),
    Role.ADMIN: set(Permission),
}


def test_every_route_asks_for_its_role(services: Services) -> None:
    tokens = tuple(Token.of(role, role, f"secret-{role}") for role in Role)
    client = Client(replace(services, tokens=tokens))
    for method, route, permission in ROUTES:
        # An answer that never ends is not asked for.
        path = route + ("?after=x" if route.endswith("/stream") else "")
        bare = client(method, path)
        if permission is None:
            assert bare.status_code == 200
            continue
        _is_problem(bare, 401)
        assert bare.headers["www-authenticate"] == "Bearer"
        _is_problem(client(method, path, headers={"Authorization": "Bearer secret-"}), 401)
        _is_problem(client(method, path, headers={"Authorization": "Basic secret-admin"}), 401)
        for role in Role:
            answer = client(method, path, headers={"Authorization": f"Bearer secret-{role}"})
            assert (answer.status_code == 403) == (permission not in MAY[role]), (role, path)
            assert answer.status_code != 401


def test_every_route_of_the_application_is_in_the_table_and_in_the_reference(client: Client) -> None:
    reference = (Path(__file__).parents[2] / "docs/reference/http.md").read_text()
    routes = [route for route in client.app.routes if isinstance(route, Route)]
    served = {(method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    table = {(method, path.replace("/x", "/{episode}")) for method, path, _ in ROUTES}
    assert table == served - {("GET", one) for one in ("/", "/assets/{path:path}", "/theme.js", "/favicon.svg")}
    for method, path in table:
        assert f"`{method} {path}`" in reference


def test_tokens_are_not_kept_nor_shown() -> None:
    token = Token.of("t", Role.VIEWER, "hush")
    assert "hush" not in repr(token)
    assert identify([token], "Bearer hush") is not None
    assert identify([token], "bearer  hush ") is not None
    assert identify([token], "Bearer ☃") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_token(host: str) -> None:
    check_bind(host, ())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "a1.example", "localhost.example"])
def test_other_binds_want_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="wants an API token with a role"):
        check_bind(host, ())
    check_bind(host, [Token.of("t", Role.VIEWER, "s")])
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "origin", "admitted"),
    [
        ("127.0.0.1:8080", None, True),
        ("localhost", None, True),
        ("[::1]:8080", None, True),
        ("watch.example", None, True),
        ("evil.example", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("", None, False),
        ("[::1", None, False),
        ("localhost", "http://localhost:3000", True),
        ("localhost", "https://evil.example", False),
        ("localhost", "null", False),
    ],
)
def test_who_is_let_in_on_loopback(host: str, origin: str | None, admitted: bool, services: Services) -> None:
    client = Client(replace(services, hosts=frozenset({"watch.example"})))
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = client("GET", "/health", headers=headers)
    assert answer.status_code == (200 if admitted else 403)


def test_who_is_let_in_elsewhere() -> None:
    assert Doorkeeper(False).admits("anything", "https://other.example")
    assert Doorkeeper(False, frozenset({"w.example"})).admits("w.example:80", "https://other.example")
    assert not Doorkeeper(False, frozenset({"w.example"})).admits("other.example", None)
    assert not Doorkeeper(False, frozenset({"w.example"})).admits("localhost", None)


# The real server


@pytest.fixture
def start(services: Services) -> Iterator[Callable[..., str]]:
    servers = []

    def one(**changes: Any) -> str:
        server = serve(create_app(replace(services, **changes)), "127.0.0.1", 0)
        servers.append(server)
        server.start()
        return f"http://127.0.0.1:{server.port}"

    yield one
    for server in servers:
        server.stop()


def test_the_server_serves_over_a_socket(start: Callable[..., str], runtime: Runtime) -> None:
    with httpx.Client(base_url=start(), trust_env=False) as http:
        for _ in range(3):
            answer = http.post("/api/v1/events", content=EVENT, headers={"Content-Type": "application/json"})
            assert answer.status_code == 202
        assert json.loads(http.get("/health").content)["status"] == "ok"
        assert "server" not in answer.headers
        large = http.post("/api/v1/events", content=b"x" * 300_000, headers={"Content-Type": "application/json"})
        _is_problem(large, 413)
        assert http.get("/health", headers={"Host": "evil.example"}).status_code == 403
    assert len(runtime.records) == 3


def test_a_body_that_does_not_come_is_given_up(start: Callable[..., str]) -> None:
    url = httpx.URL(start(body_seconds=0.05))
    assert url.port is not None
    head = b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", url.port), 10.0) as raw:
        raw.sendall(head + b"Content-Length: 100\r\n\r\n{")
        answer = b""
        while part := raw.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer


def test_a_port_in_use_is_said(services: Services) -> None:
    app = create_app(services)
    first = serve(app, "127.0.0.1", 0)
    with pytest.raises(PermanentError, match=rf"cannot listen on 127.0.0.1:{first.port}.*http\.listen"):
        serve(app, "127.0.0.1", first.port)
    first.stop()


def test_a_bind_that_others_reach_fails_without_a_token(services: Services) -> None:
    with pytest.raises(ConfigError, match="wants an API token"):
        serve(create_app(services), "0.0.0.0", 0)
