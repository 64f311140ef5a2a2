"""The source `prometheus` against a stand-in: what it reads, when, and what it makes of trouble."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pydantic import ValidationError

from foreshock.adapters.decode import decode, encode_samples
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.prometheus import api as api_module
from foreshock.adapters.prometheus.options import PrometheusOptions
from foreshock.adapters.prometheus.source import PrometheusSource
from foreshock.errors import BadInputError, ConfigError, RetryableError
from foreshock.telemetry import REGISTRY
from foreshock.types import Record, Samples, Series
from foreshock.types.record import ARROW, WATERMARK
from tests.services import free_port
from tests.unit.prometheus_stand_in import Answer, Clock, Labels, StandIn, Values, bad, good, serving

NANO = 1_000_000_000
START = 1_700_000_000.0
"""A multiple of ten."""


def label_set(name: str, **labels: str) -> Labels:
    return tuple(sorted({"__name__": name, "job": "shop", "instance": "a:80", **labels}.items()))


def shop() -> dict[Labels, Values]:
    """A service with a queue, requests and no errors, scraped every 10 s."""
    return {
        label_set("up"): lambda t: 1.0,
        label_set("queue_length", service="cart"): lambda t: float(t // 10 % 7),
        label_set("requests_total", service="cart"): lambda t: t // 10 * 50,
        label_set("errors_total", service="cart"): lambda t: 0.0,
    }


TYPES = {"up": "gauge", "queue_length": "gauge", "requests": "counter", "errors_total": "counter"}


class Run:
    """What a source brought until it was stopped."""

    def __init__(self, stand_in: StandIn, clock: Clock, **options: Any) -> None:
        self.stand_in, self.clock = stand_in, clock
        self.records: list[Record] = []
        self.source = PrometheusSource("prom", PrometheusOptions(**{"url": stand_in.url, "backfill": 0, **options}))
        self.refuse: Callable[[int], None] = lambda count: None
        self._samples: list[tuple[str, float, float]] = []
        self._read = 0

    def until(self, enough: Callable[[], bool], seconds: float = 3600.0) -> Run:
        """Run until there is enough, or so much time has passed by the clock."""
        end = self.clock.now + round(seconds * NANO)

        def submit(record: Record) -> None:
            self.refuse(len(self.records))
            self.records.append(record)
            if enough():
                self.source.stop()

        def look() -> None:
            if self.clock.now > end or enough():
                self.source.stop()

        self.clock.after_sleep = look
        self.source.run(submit, self.clock)
        return self

    def times(self, name: str = "") -> list[float]:
        """Times of the samples, those of one metric; in the order in which they came."""
        return [when for found, when, _ in self.samples() if not name or found == name]

    def values(self, name: str) -> list[float]:
        return [value for found, _, value in self.samples() if found == name]

    def samples(self) -> list[tuple[str, float, float]]:
        """Name, time and value of all samples that came."""
        for record in self.records[self._read :]:
            found = samples_of(record)
            for at, when, value in zip(found.index, found.time_unix_nano / NANO, found.value, strict=True):
                self._samples.append((found.series[at].name, float(when), float(value)))
        self._read = len(self.records)
        return self._samples


def samples_of(record: Record) -> Samples:
    if record.content_type == WATERMARK:
        return Samples.empty()
    assert record.content_type == ARROW
    found = decode(record, MappingOptions())
    assert isinstance(found, Samples)
    return found


@contextmanager
def running(
    series: Mapping[Labels, Values] | None = None, types: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Run]:
    clock = Clock(START)
    with serving(StandIn(clock, shop() if series is None else series, TYPES if types is None else types)) as stand_in:
        yield Run(stand_in, clock, **options)


def errors() -> float:
    return REGISTRY.get_sample_value("foreshock_errors_total", {"part": "source:prom"}) or 0.0


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


# -- reading ---------------------------------------------------------------------------------------------------------


def test_what_comes_is_read_once_in_order_at_exact_multiples() -> None:
    with running() as run:
        run.until(lambda: len(run.records) == 5)
    times = run.times("queue_length")
    assert times == [START + 10 * at for at in range(-1, 4)]
    assert run.values("queue_length") == [float(when // 10 % 7) for when in times]
    assert run.values("requests_total") == [5.0] * 5
    assert run.values("errors_total") == [0.0] * 5
    assert run.values("up") == [1.0] * 5
    single = [start for start, end in run.stand_in.ranges() if start == end]
    assert single == times, "each time is asked for once"
    late = [record.received_unix_nano / NANO - when for record, when in zip(run.records, times, strict=True)]
    assert late[0] <= 10
    assert late[1:] == [2.0] * 4


def test_the_past_is_read_first_in_order_and_is_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.adapters.prometheus.reader.CHUNK_CELLS", 400)
    problems = []
    with running(backfill="2h") as run:
        run.refuse = lambda count: problems.append(run.source.problem)
        run.until(lambda: len(run.records) == 12)
    mark, *records = run.records
    assert msgspec.json.decode(mark.payload) == {"w": round((START - 900) * NANO)}
    times = run.times("queue_length")
    assert times[0] == START - 7200
    assert times == [times[0] + 10 * at for at in range(len(times))]
    assert times[-1] > START
    assert len(records) == 11
    assert run.values("requests_total")[:3] == [5.0, 5.0, 5.0], "what lies before is looked at, for rates"
    assert all(end - start < 11_000 * 10 for start, end in run.stand_in.ranges())
    assert any("the past is being read, up to 20" in text for text in problems)
    assert run.source.problem == ""


def test_the_past_is_read_as_far_as_there_is_one() -> None:
    began = START - 1000
    series = {one: (lambda t, f=f: f(t) if t >= began else None) for one, f in shop().items()}
    with running(series, backfill="7d") as run:
        run.until(lambda: START in run.times("up"))
    times = run.times("up")
    assert times == [began + 10 * at for at in range(101)]


def test_it_goes_on_behind_what_the_log_has() -> None:
    with running(backfill="7d") as run:
        run.source.resume(round((START - 100) * NANO))
        run.until(lambda: START in run.times("up"))
    assert run.times("up") == [START - 90 + 10 * at for at in range(10)]
    assert run.records[0].content_type == ARROW, "a short absence is no history: what began in it notifies"
    assert run.values("requests_total")[0] == 5.0


def test_no_room_loses_nothing() -> None:
    refused: list[int] = []

    def refuse(count: int) -> None:
        if count == 2 and len(refused) < 3:
            refused.append(count)
            raise RetryableError("the queue is full")
        if count == 3 and len(refused) == 3:
            refused.append(count)
            raise BadInputError("empty", "nothing in it")

    with running() as run:
        run.refuse = refuse
        run.until(lambda: len(run.records) == 5)
    assert len(refused) == 4
    assert run.times("up") == [START + 10 * at for at in (-1, 0, 1, 3, 4)]


def test_a_missing_value_is_given_as_missing_and_silence_as_silence() -> None:
    series = shop()
    series[label_set("queue_length", service="cart")] = lambda t: None if START + 20 <= t < START + 40 else t
    series[label_set("up")] = lambda t: None if t >= START + 20 else 1.0
    with running(series) as run:
        run.until(lambda: len(run.records) == 6)
    queue = dict(zip(run.times("queue_length"), run.values("queue_length"), strict=True))
    assert [when - START for when, value in queue.items() if math.isnan(value)] == [20, 30]
    assert run.times("up") == [START - 10, START, START + 10], "an entity of which nothing is there is silent"


def test_what_is_scraped_less_often_has_an_even_rate() -> None:
    def scraped(t: float) -> float:
        return float(t // 30 * 30)

    series = shop() | {
        label_set("up", instance="slow:80"): lambda t: 1.0 if t % 30 == 0 else None,
        label_set("slow_total", instance="slow:80"): scraped,
    }
    with running(series) as run:
        run.until(lambda: len(run.records) == 6)
    assert run.times("queue_length") == [START + 10 * at for at in range(-1, 5)], "as often as most is scraped"
    assert run.values("slow_total") == [1.0] * 6


def test_texts_that_are_no_numbers() -> None:
    odd = {START: math.inf, START + 10: -math.inf, START + 20: math.nan}
    series = shop() | {label_set("queue_length", service="cart"): lambda t: odd.get(t, t // 10 % 3)}
    with running(series) as run:
        run.until(lambda: len(run.records) == 5)
    assert str(run.values("queue_length")[1:4]) == str([math.inf, -math.inf, math.nan])


# -- discovery -------------------------------------------------------------------------------------------------------


def test_what_is_worth_watching(caplog: pytest.LogCaptureFixture) -> None:
    series = shop() | {
        label_set("queue_limit", service="cart"): lambda t: 100.0,
        label_set("dead_letters", service="cart"): lambda t: 0.0,
        label_set("redis_up"): lambda t: 1.0,
        label_set("requests_created", service="cart"): lambda t: START - 5000,
        label_set("build_info", version="1"): lambda t: 1.0,
        label_set("scrape_duration_seconds"): lambda t: t % 3,
        label_set("job_last_time_seconds"): lambda t: t - 50,
        label_set("liar_total"): lambda t: 100 + t // 10 % 5,
        label_set("grower_total"): lambda t: t,
        label_set("untyped_packets"): lambda t: t * 3,
        label_set("untyped_level"): lambda t: 50 + t // 10 % 3,
        label_set("job:requests:rate5m"): lambda t: t // 10 % 3,
    }
    types = TYPES | {"queue_limit": "gauge", "dead_letters": "gauge", "liar_total": "counter", "grower_total": "gauge",
                     "job_last_time_seconds": "gauge"}  # fmt: skip
    with running(series, types, exclude=["errors_*"]) as run:
        run.until(lambda: len(run.records) == 3)
    found = {name: value for name, _, value in run.samples()}
    assert sorted(found) == [
        "dead_letters", "grower_total", "job:requests:rate5m", "liar_total", "queue_length", "redis_up",
        "requests_total", "untyped_level", "untyped_packets", "up",
    ]  # fmt: skip
    assert found["liar_total"] >= 100
    assert found["grower_total"] == 1.0
    assert found["untyped_packets"] == 3.0
    assert found["untyped_level"] >= 50
    lies = [text for text in said(caplog) if "not what its type" in text]
    assert sorted(text.partition(": ")[2] for text in lies) == [
        "grower_total is not what its type or name says: it only grows and is read as a counter",
        "liar_total is not what its type or name says: it falls and is read as a gauge",
    ]


def test_a_constant_that_begins_to_move_is_taken_up_and_new_series_too() -> None:
    moves = START + 60
    series = shop() | {
        # One of its copies moves: it is read anyway.
        label_set("pool_size", service="cart"): lambda t: 5.0 if t < moves else 6.0,
        label_set("pool_size", service="pay"): lambda t: t // 10 % 3,
        label_set("queue_length", service="pay"): lambda t: t if t >= moves else None,
        # Nothing of it is read: it is found by looking again.
        label_set("limit"): lambda t: 5.0 if t < moves else 6.0,
        label_set("late_total"): lambda t: t if t >= moves else None,
    }
    with running(series) as run:
        run.stand_in.types |= {"pool_size": "gauge", "limit": "gauge"}
        run.until(lambda: run.clock.now > (START + 500) * NANO)
    by = {
        (series.name, series.entity[0][1]): float(when) / NANO
        for record in reversed(run.records)
        for found in [samples_of(record)]
        for series, when in [(found.series[i], t) for i, t in zip(found.index, found.time_unix_nano, strict=True)]
    }
    assert by["pool_size", "pay"] == START - 10
    assert by["pool_size", "cart"] == moves
    assert by["queue_length", "pay"] == moves
    assert moves < by["limit", "a:80"] < moves + 330
    assert moves < by["late_total", "a:80"] < moves + 330


def test_constants_that_come_go_and_move_again_and_again() -> None:
    """Copies of gauges that rest for a while: nothing is forgotten wrongly, and nothing ends the source."""

    def pool(at: int) -> Values:
        def values(t: float) -> float | None:
            age = t - START
            if age < 0:
                return 5.0
            return None if (age // 700 + at) % 3 == 0 else 5.0 + (at == 1 and age // 900 % 4 == 3)

        return values

    copies = {label_set("pool_size", service="cart", instance=f"i{at}"): pool(at) for at in range(4)}
    lone = {label_set("lone", service=f"s{at}"): pool(at) for at in range(4)}
    with running(shop() | copies | lone, TYPES | {"pool_size": "gauge", "lone": "gauge"}) as run:
        run.until(lambda: run.clock.now > (START + 9000) * NANO, 20_000)
    times = run.times("up")
    assert times == [START - 10 + 10 * at for at in range(len(times))]
    assert times[-1] >= START + 8990
    assert {one for one in run.values("lone") if not math.isnan(one)} == {5.0, 6.0}
    pools = [one for one in run.values("pool_size") if not math.isnan(one)]
    assert min(pools) == 5.0
    assert 5.0 < max(pools) <= 5.5, "a mean of two or three copies"


def test_too_many_series_are_bounded_and_said(caplog: pytest.LogCaptureFixture) -> None:
    many = {label_set("sizes", service="cart", id=str(at)): (lambda t, at=at: t // 10 % 7 + at) for at in range(40)}
    with running(shop() | many, max_series=20) as run:
        run.until(lambda: len(run.records) == 3)
    assert {name for name, _, _ in run.samples()} == {"up", "queue_length", "requests_total", "errors_total"}
    [text] = said(caplog)
    assert "are left out, since together there are more series than max_series (20): sizes (40);" in text


def test_pairs_are_counted_once_and_pods_together() -> None:
    series = {
        label_set("up"): lambda t: 1.0,
        label_set("ha_total", app="pay", prometheus_replica="a"): lambda t: None if t > START + 15 else t,
        label_set("ha_total", app="pay", prometheus_replica="b"): lambda t: t - 3,
        label_set("pod_total", pod="cart-7d9f8b6c5d-x2x9q", namespace="shop"): lambda t: t * 2,
        label_set("pod_total", pod="cart-7d9f8b6c5d-bbbbb", namespace="shop"): lambda t: t * 3,
    }
    with running(series) as run:
        run.until(lambda: len(run.records) == 6)
    # The other of the pair is 3 s behind: its growth is spread over the step without a value.
    assert [round(value, 3) for value in run.values("ha_total")[:3]] == [1.0, 1.0, 1.0]
    assert [round(value, 3) for value in run.values("ha_total")[3:]] == [0.7, 1.0, 1.0]
    assert run.values("pod_total") == [5.0] * 6
    entities = {series.entity for record in run.records for series in samples_of(record).series}
    assert (("namespace", "shop"), ("workload", "cart")) in entities
    assert (("app", "pay"),) in entities


def test_queries_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    queries = [
        "requests_total",
        {"query": "queue_length", "name": "backlog", "unit": "{item}", "entity": ["instance"]},
        "no such query",
    ]
    with running(queries=queries, every="30s") as run:

        def refuse(path: str, asked: Mapping[str, str]) -> Answer | None:
            return bad(400, "bad_data", "1:4: parse error") if asked.get("query") == "no such query" else None

        run.stand_in.fault = refuse
        run.until(lambda: len(run.records) == 3)
    assert run.times("backlog") == [START - 20, START + 10, START + 40]
    assert run.values("requests_total") == [5.0] * 3
    found = {series for record in run.records for series in samples_of(record).series}
    assert {(one.name, one.entity, one.unit) for one in found} == {
        ("backlog", (("instance", "a:80"),), "{item}"),
        ("requests_total", (("service", "cart"),), "1/s"),
    }
    [text] = said(caplog)
    assert "query 'no such query' is left out" in text
    assert "parse error" in text


# -- trouble ---------------------------------------------------------------------------------------------------------

HTML: Answer = (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><title>Login</title>")
TROUBLE: list[tuple[str, Answer, str]] = [
    ("html", HTML, "is no Prometheus: it answered a page in HTML; set url to its base address"),
    ("no page", (404, {}, b"404 page not found"), "is no Prometheus: it answered 404"),
    ("other json", (200, {}, b"[1, 2]"), "is no Prometheus: it answered something that is not its JSON"),
    ("credentials", (401, {}, b"Unauthorized"), "it refuses our credentials (token, or username and password)"),
    ("forbidden", (403, {}, b""), "it refuses our credentials"),
    ("login", (302, {"Location": "http://u:p@login.example/x?secret=1"}, b""),
     "it sends us to http://login.example/x; is that a login page?"),
    ("5xx", (502, {}, b"<html>Bad Gateway"), "answered 502 Bad Gateway"),
    ("its own", bad(500, "internal", "storage is broken"), "storage is broken"),
    ("busy", (429, {}, b""), "answered 429"),
    ("no answer", (200, {"Content-Length": "999", "Connection": "close"}, b"{"), "cannot be reached"),
    ("packed", (200, {"Content-Encoding": "gzip"}, b"no gzip"), "sent a broken answer"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "sentence"), [one[1:] for one in TROUBLE], ids=[one[0] for one in TROUBLE])
@pytest.mark.parametrize("when", ["at the start", "later"])
def test_trouble_is_said_once_counted_and_survived(
    answer: Answer, sentence: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, problems = errors(), []
    begins = START if when == "at the start" else START + 25

    with running(backfill="1h", timeout=0.5) as run:

        def fault(path: str, asked: Mapping[str, str]) -> Answer | None:
            problems.append(run.source.problem)
            return answer if begins <= run.stand_in.now() < begins + 200 else None

        run.stand_in.fault = fault
        run.until(lambda: START + 300 in run.times("up"))
    assert run.times("up")[-40:] == [START - 90 + 10 * at for at in range(40)], "what was missed is read later"
    texts = said(caplog)
    assert len(texts) == 2, texts
    assert sentence in texts[0]
    assert "secret" not in texts[0]
    assert texts[0].startswith("source prom: ")
    assert texts[1].endswith("answers again")
    assert 5 < errors() - before < 30
    assert any(sentence in problem for problem in problems)
    assert run.source.problem == ""


def test_down_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(START)
    nowhere = StandIn(clock, {})
    nowhere.url = f"http://127.0.0.1:{free_port()}"
    run = Run(nowhere, clock).until(lambda: False, 120)
    assert run.records == []
    [text] = said(caplog)
    assert text == f"source prom: {nowhere.url} cannot be reached: Connection refused; trying again"
    assert run.source.problem == f"source prom: {nowhere.url} cannot be reached: Connection refused"


def test_too_much_at_a_time_is_asked_for_in_parts(caplog: pytest.LogCaptureFixture) -> None:
    text = "query processing would load too many samples into memory in query execution"
    with running(backfill="6h") as run:

        def limited(path: str, asked: Mapping[str, str]) -> Answer | None:
            if path != "query_range" or float(asked["step"]) > 10:
                return None
            points = (float(asked["end"]) - float(asked["start"])) / float(asked["step"]) + 1
            return bad(422, "execution", text) if points > 200 else None

        run.stand_in.fault = limited
        run.until(lambda: START in run.times("up"))
    times = run.times("up")
    assert times[0] == START - 6 * 3600
    assert times == [times[0] + 10 * at for at in range(len(times))], "nothing is lost and nothing read twice"
    assert len(said(caplog)) == 1
    assert any(text in one and one.endswith("; asking for less at a time") for one in said(caplog))


def test_what_is_refused_however_little_is_asked_keeps_nothing_else_waiting(caplog: pytest.LogCaptureFixture) -> None:
    heavy = {label_set("heavy_total", service="cart", id=str(at)): lambda t: t for at in range(3)}
    with running(shop() | heavy, backfill="1h", queries=["up", "heavy_total"]) as run:

        def limited(path: str, asked: Mapping[str, str]) -> Answer | None:
            return bad(422, "execution", "too many samples") if asked.get("query") == "heavy_total" else None

        run.stand_in.fault = limited
        run.until(lambda: START in run.times("up"))
    times = run.times("up")
    assert times == [START - 3600 + 10 * at for at in range(361)]
    assert any("query 'heavy_total' is left out" in text for text in said(caplog))


def test_metrics_that_cannot_even_be_counted_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with running() as run:

        def limited(path: str, asked: Mapping[str, str]) -> Answer | None:
            heavy = path == "query" and "queue_length" in asked["query"]
            return bad(422, "execution", "query processing would load too many samples") if heavy else None

        run.stand_in.fault = limited
        run.until(lambda: len(run.records) == 3)
    assert {name for name, _, _ in run.samples()} == {"up", "requests_total", "errors_total"}
    assert any("queue_length (too many)" in text for text in said(caplog))


def test_a_server_without_types() -> None:
    with running() as run:
        run.stand_in.fault = lambda path, asked: (404, {}, b"not found") if path == "metadata" else None
        run.until(lambda: len(run.records) == 3)
    assert {name for name, _, _ in run.samples()} == {"up", "queue_length", "requests_total", "errors_total"}


@pytest.mark.parametrize("path", ["metadata", "label/__name__/values", "query", "query_range"])
@pytest.mark.parametrize("data", [None, 3, [3], {"result": 3}, {"result": [{"metric": 3, "values": [[1, "x"]]}]}])
def test_answers_that_make_no_sense_end_nothing(path: str, data: Any) -> None:
    with running() as run:
        run.stand_in.fault = lambda asked_path, asked: (
            good(data) if asked_path == path and run.clock.now < (START + 100) * NANO else None
        )
        run.until(lambda: START + 400 in run.times("up"))
    assert START + 400 in run.times("up")


def test_answers_that_are_too_large(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "MAX_ANSWER_BYTES", 60_000)
    with running(backfill="6h") as run:
        run.until(lambda: START in run.times("up"))
    assert run.times("up") == [START - 6 * 3600 + 10 * at for at in range(2161)]
    assert any("is larger than" in one for one in said(caplog))


def test_warnings_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with running() as run:
        run.stand_in.warnings = ["partial answer: a store is away"]
        run.until(lambda: len(run.records) == 5)
    assert said(caplog) == [f"source prom: {run.stand_in.url} warns: partial answer: a store is away"]


def test_the_time_of_the_server_counts(caplog: pytest.LogCaptureFixture) -> None:
    with running() as run:
        run.stand_in.ahead_seconds = 500.0
        run.until(lambda: len(run.records) == 3)
    assert run.times("up") == [START + 490, START + 500, START + 510]
    assert said(caplog) == ["source prom: its clock is +500 s from ours: its times count"]


def test_a_clock_that_goes_back(caplog: pytest.LogCaptureFixture) -> None:
    with running() as run:

        def back(seconds: float) -> Callable[[], bool]:
            def enough() -> bool:
                if len(run.records) == 3:
                    run.records.append(run.records[0])
                    run.clock.now -= round(seconds * NANO)
                return len(run.records) == 6

            return enough

        run.until(back(200))
    assert run.times("up") == [START - 10, START, START + 10, START - 10, START + 20, START + 30]
    assert any("the clock went back by" in text and "has come up" in text for text in said(caplog))
    with running() as run:
        run.until(back(86400))
    assert run.times("up")[4:] == [START - 86400 + 20, START - 86400 + 30]


def test_a_long_absence_is_read_as_far_as_backfill(caplog: pytest.LogCaptureFixture) -> None:
    with running(backfill="10m") as run:

        def away() -> bool:
            if START in run.times("up") and run.clock.now < (START + 3600) * NANO:
                run.clock.now += 7200 * NANO
            return run.clock.now > (START + 7230) * NANO

        run.until(away, 10_000)
    times = run.times("up")
    later = [one for one in times if one > START]
    assert later[0] == pytest.approx(START + 7200 - 600, abs=20)
    assert later == [later[0] + 10 * at for at in range(len(later))]
    assert any("longer than backfill" in text for text in said(caplog))


# -- payloads --------------------------------------------------------------------------------------------------------


def test_packed_samples_are_the_same_and_smaller() -> None:
    rng = np.random.default_rng(3)
    series = [Series("m", (("service", f"s{at}"),), (("code", str(at)),), "1/s") for at in range(700)]
    samples = Samples(
        series, np.tile(np.arange(700, dtype=np.int32), 3), np.repeat(np.arange(3) * NANO, 700).astype(np.int64),
        rng.normal(size=2100), np.zeros(2100, np.uint64), {},
    )  # fmt: skip
    plain, packed = encode_samples(samples), encode_samples(samples, pack=True)
    assert len(packed) < len(plain) / 3
    for payload in (plain, packed):
        found = samples_of(Record("default", "prom", ARROW, 0, payload))
        assert list(found.series) == series
        for name in ("index", "time_unix_nano", "value"):
            np.testing.assert_array_equal(getattr(found, name), getattr(samples, name))
        assert samples_of(Record("default", "prom", ARROW, 1, payload)).series is found.series, "so that it is known"


def test_a_packed_payload_that_is_broken() -> None:
    packed = encode_samples(Samples.empty(), pack=True)
    for payload in (packed[:20], packed[:4] + b"x" * 40):
        with pytest.raises(BadInputError, match="cannot be read"):
            samples_of(Record("default", "prom", ARROW, 0, payload))


# -- settings --------------------------------------------------------------------------------------------------------


def test_credentials_and_headers_are_sent() -> None:
    with running(token="t0ken", headers={"X-Scope-OrgID": "shop"}) as run:
        run.until(lambda: len(run.records) == 1)
    assert run.stand_in.headers[0]["Authorization"] == "Bearer t0ken"
    assert run.stand_in.headers[0]["X-Scope-OrgID"] == "shop"
    with running(username="u", password="p") as run:
        run.until(lambda: len(run.records) == 1)
    assert run.stand_in.headers[0]["Authorization"] == "Basic dTpw"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:9090"}, "must begin with http:// or https://"),
        ({"url": "http://u:p@h"}, "must not hold a password"),
        ({"token": "a", "username": "b"}, "give one of them"),
        ({"password": "b"}, "password needs a username"),
        ({"every": "10ms"}, "greater than or equal to 1"),
        ({"queries": [{"promql": "up"}]}, "query"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PrometheusOptions(**options)


def test_the_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_URL", raising=False)
    assert PrometheusOptions().address == "http://127.0.0.1:9090"
    monkeypatch.setenv("PROMETHEUS_URL", "http://prom:9090/x")
    assert PrometheusOptions().address == "http://prom:9090/x"
    assert PrometheusOptions(url="http://other").address == "http://other"
    monkeypatch.setenv("PROMETHEUS_URL", "prom")
    with pytest.raises(ConfigError, match="PROMETHEUS_URL must begin with http"):
        PrometheusSource()


def test_a_file_of_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        PrometheusSource("p", PrometheusOptions(ca_file=str(tmp_path / "none.pem")))
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        PrometheusSource("p", PrometheusOptions(ca_file=str(tmp_path / "bad.pem")))
    assert isinstance(caught.value.__cause__, ssl.SSLError)
