from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest

from foreshock import telemetry
from foreshock.adapters.decode import decode
from foreshock.adapters.http import inflate
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.api import ingest
from foreshock.api.services import Health, Services
from foreshock.errors import BadInputError, RetryableError
from foreshock.types import Decoded, Record
from foreshock.types.record import CALLS
from tests.unit.api.rig import EVENT, NOW, Answer, Client, Runtime, dropped, is_problem


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
    before = dropped("unknown_content_type")
    assert is_problem(client.post(content_type=given), 415)["reason"] == "unknown_content_type"
    assert runtime.events == []
    assert dropped("unknown_content_type") == before + 1


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
    assert is_problem(client.post(EVENT, METRICS), 400)["reason"] == "bad_json"


def test_records_bear_the_name_of_the_source(services: Services, runtime: Runtime) -> None:
    Client(replace(services, source="shop", environment="east")).post()
    assert [(record.source, record.environment) for record in runtime.records] == [("shop", "east")]


def test_a_full_queue_is_429_before_anything_is_parsed(client: Client, runtime: Runtime) -> None:
    before = dropped("queue_full")
    runtime.full = True
    answer = client.post()
    is_problem(answer, 429)
    assert answer.headers["retry-after"] == "1"
    assert runtime.events == ["reserve"]
    assert dropped("queue_full") == before + 1


def test_no_space_while_the_runtime_has_problems_is_503(services: Services, runtime: Runtime) -> None:
    before = dropped("unavailable")
    problems: tuple[str, ...] = ("starting: the log is being read",)
    client = Client(replace(services, health=lambda: Health(problems=problems)))
    runtime.full = True
    answer = client.post()
    is_problem(answer, 503)
    assert answer.headers["retry-after"] == "1"
    assert runtime.events == ["reserve"]
    assert dropped("unavailable") == before + 1
    problems = ()
    is_problem(client.post(), 429)
    runtime.full = False
    problems = ("the pipeline has stopped",)
    assert client.post().status_code == 202, "what has space is logged, whatever else is wrong"


def test_a_watermark_that_lags_is_no_reason_for_503(services: Services, runtime: Runtime) -> None:
    runtime.full = True
    client = Client(replace(services, health=lambda: Health(watermark_unix_nano=1)))
    is_problem(client("GET", "/readyz"), 503)
    is_problem(client.post(), 429)


def test_a_log_that_cannot_be_written_is_503(services: Services) -> None:
    def full(record: Record, samples: Decoded) -> None:
        raise RetryableError("the disk is full")

    before = dropped("unavailable")
    answer = Client(replace(services, submit=full)).post()
    assert "disk" in is_problem(answer, 503)["detail"]
    assert answer.headers["retry-after"] == "1"
    assert dropped("unavailable") == before + 1


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
    is_problem(Client(replace(services, reserve=reserve, submit=submit)).post(), 503)
    runtime.refuse = BadInputError("bad_json", "not JSON")
    is_problem(client.post(), 400)
    assert held == []


def test_what_cannot_be_parsed_is_400_with_its_reason_and_not_in_the_log(client: Client, runtime: Runtime) -> None:
    before = dropped("bad_json")
    runtime.refuse = BadInputError("bad_json", "line 1: not JSON")
    assert is_problem(client.post(), 400)["reason"] == "bad_json"
    assert runtime.events == ["reserve", "decode"]
    assert dropped("bad_json") == before + 1


def test_what_is_dropped_is_said_and_a_body_without_a_sample_is_not_appended(client: Client, runtime: Runtime) -> None:
    runtime.drop = 2
    assert client.post().json()["dropped"] == {"no_time": 2}
    assert is_problem(client.post(b"[{}, {}]"), 400)["reason"] == "no_time"
    runtime.drop = 0
    assert client.post(b"[]").json()["accepted"] == 0
    assert len(runtime.records) == 1


def test_gzip_is_unpacked_within_the_limit(client: Client, runtime: Runtime) -> None:
    two = gzip.compress(EVENT + b"\n") + gzip.compress(EVENT)
    assert client.post(two, "application/x-ndjson", Content_Encoding="gzip").json()["accepted"] == 2
    assert runtime.records[0].payload == EVENT + b"\n" + EVENT
    is_problem(client.post(gzip.compress(b" " * 200_001), Content_Encoding="gzip"), 413)
    assert client.post(gzip.compress(EVENT.ljust(200_000)), Content_Encoding="gzip").status_code == 202
    for broken in (b"not gzip", gzip.compress(EVENT)[:-9]):
        assert is_problem(client.post(broken, Content_Encoding="gzip"), 400)["reason"] == "bad_gzip"
    assert is_problem(client.post(Content_Encoding="br"), 415)["reason"] == "unknown_encoding"
    assert client.post(zlib.compress(EVENT), Content_Encoding="deflate").status_code == 202


def test_bodies_over_the_limit_are_413_said_or_not(client: Client, runtime: Runtime) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 50_000

    for body in (b"x" * 200_001, chunks()):
        answer = client.post(body)
        assert is_problem(answer, 413)["reason"] == "too_large"
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
    is_problem(answer, 500)
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
        assert is_problem(collector(body), 400)["reason"] == reason
    is_problem(collector(garbage), 400)
    assert is_problem(collector(CALL, "text/xml"), 415)["reason"] == "unknown_content_type"
    assert is_problem(collector(CALL, METRICS), 415)["reason"] == "unknown_content_type"
    assert is_problem(collector(CALL.ljust(200_001)), 413)["reason"] == "too_large"
    runtime.full = True
    assert is_problem(collector(CALL), 429)["status"] == 429
    assert runtime.records == []
