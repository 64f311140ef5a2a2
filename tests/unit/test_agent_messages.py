"""What agents make of readings and samples; the shop's messages; generated load and its truth."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest

from foreshock.adapters.calls import encode_calls
from foreshock.adapters.decode import encode_samples
from foreshock.adapters.kafka.decoding import decode_messages
from foreshock.adapters.kafka.envelope import envelope
from foreshock.adapters.kafka.schemas import TOPICS, ServiceMetrics, schema_of
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS, Metric, Reading, decode_readings, encode_metrics
from foreshock.agent.carriers import Readings
from foreshock.agent.load import Events, LoadOptions, run
from foreshock.agent.outgoing import Outgoing, decode, encode, of_readings, readings_of
from foreshock.agent.shop import Disturbance, ShopMessages, Topics
from foreshock.shop.settings import Settings
from foreshock.shop.shop import Shop
from foreshock.testing.clock import FakeClock
from foreshock.types import Control, Kind, Record, Samples, Series
from foreshock.types.record import ARROW, CALLS, CONTROL, WATERMARK

NANO = 1_000_000_000
T = 1_700_000_000 * NANO


def reading(second: int, host: str = "a1") -> Reading:
    return Reading(T + second * NANO, {"host.name": host}, [Metric("cpu", {}, "1", float(second))])


def record(kind: str, payload: bytes) -> Record:
    return Record("e", "host", kind, T, payload)


def test_messages_survive_the_buffer() -> None:
    messages = [Outgoing("t", None, b"\xff", [("h", None)], 5), Outgoing("u", b"k", b"", [], 0)]
    assert decode(encode(messages)) == messages


def test_readings_become_one_message_an_entity() -> None:
    messages = of_readings("t", "agent", [reading(0), reading(0, "b2"), reading(1)])
    assert [(one.topic, one.key, one.time_unix_nano) for one in messages] == [("t", b"a1", T + NANO), ("t", b"b2", T)]
    assert decode_readings(messages[0].value) == [reading(0), reading(1)]
    said = envelope(messages[0].headers)
    assert (said.content_type, said.source, said.time_unix_nano) == (METRICS, "agent", T + NANO)
    assert said.event_id != envelope(messages[1].headers).event_id
    assert messages == of_readings("t", "agent", [reading(0), reading(0, "b2"), reading(1)])


def test_samples_become_readings_and_back() -> None:
    one, two = (("host.name", "a1"),), (("host.name", "b2"),)
    series = [Series("cpu", one, (), "1"), Series("io", two, (("d", "r"),), "By", Kind.COUNTER), Series("cpu", two)]
    samples = Samples(
        series, np.array([0, 1, 2, 0], np.int32), np.array([T + NANO, T, T, T], np.int64),
        np.array([1.0, 2.0, np.nan, 4.0]), np.zeros(4, np.uint64), {},
    )  # fmt: skip
    readings = readings_of(samples)
    assert [(one.time, one.entity, len(one.metrics)) for one in readings] == [
        (T, {"host.name": "a1"}, 1), (T, {"host.name": "b2"}, 2), (T + NANO, {"host.name": "a1"}, 1),
    ]  # fmt: skip
    values = [encode_metrics(readings)]
    back = decode_messages(values, [None], schema_of("x"), MappingOptions()).samples
    assert {(series.text, series.unit, series.kind) for series in back.series} == {
        (one.text, one.unit, one.kind) for one in series
    }
    assert sorted(zip(back.time_unix_nano, back.value, strict=True))[0] == (T, 2.0) or np.isnan(back.value).sum() == 1


def test_readings_are_gathered_by_their_own_time() -> None:
    carrier = Readings("t", "agent", batch_seconds=2.0, every_seconds=1.0)
    taken = [carrier.take(record(METRICS, encode_metrics(reading(second)))) for second in range(5)]
    assert [len(messages) for messages in taken] == [0, 1, 0, 1, 0]
    assert [len(decode_readings(one.value)) for messages in taken for one in messages] == [2, 2]
    (rest,) = carrier.rest()
    assert decode_readings(rest.value) == [reading(4)]
    assert not carrier.rest()
    assert carrier.newest == T + 4 * NANO


@pytest.mark.parametrize("batch", [0.0, 0.5, 1.0])
def test_a_batch_no_longer_than_a_reading_goes_at_once(batch: float) -> None:
    carrier = Readings("t", "agent", batch, 1.0)
    assert len(carrier.take(record(METRICS, encode_metrics(reading(0))))) == 1
    samples = Samples([Series("cpu", (("host", "a"),))], np.zeros(1, np.int32), np.array([T]), np.ones(1),
                      np.zeros(1, np.uint64), {})  # fmt: skip
    (message,) = carrier.take(record(ARROW, encode_samples(samples, pack=True)))
    assert message.key == b"a"
    assert not carrier.take(record(WATERMARK, b'{"w": 1}'))


# -- load ----------------------------------------------------------------------------------------------------------


def events(**options: Any) -> Events:
    return Events(LoadOptions(**options), T)


def all_of(one: Events, until: int) -> list[Outgoing]:
    out: list[Outgoing] = []
    while batch := one.take(until):
        out += batch
    return out


def test_events_are_due_by_the_clock_alone() -> None:
    one = events(rate=100.0, users=10)
    assert one.take(T) == []
    first = one.take(T + NANO // 2)
    assert len(first) == 50
    assert [message.time_unix_nano for message in first] == [T + n * NANO // 100 for n in range(50)]
    assert len(all_of(one, T + 3 * NANO)) == 250


def test_the_same_seed_gives_the_same_events_in_whatever_portions() -> None:
    whole = all_of(events(rate=500.0, users=20, seed=3), T + 10 * NANO)
    other = all_of(events(rate=500.0, users=20, seed=4), T + 10 * NANO)
    cut, parts = events(rate=500.0, users=20, seed=3), np.random.default_rng(0).random(60).cumsum()
    in_parts = [one for part in parts.tolist() for one in all_of(cut, min(T + int(part * NANO), T + 10 * NANO))]
    assert len(whole) == 5000
    assert whole == in_parts
    assert [one.value for one in whole] != [one.value for one in other]


def test_events_fit_the_topic_and_some_are_abnormal_as_the_truth_says() -> None:
    one = events(rate=1000.0, users=50, anomalies=0.02, seed=1)
    messages = all_of(one, T + 60 * NANO)
    found = decode_messages([m.value for m in messages], [None] * len(messages),
                            TOPICS["anomaly-events"], MappingOptions())  # fmt: skip
    assert len(found.samples) == 60_000
    assert not found.refused
    assert len(set(found.samples.event_id.tolist())) == 60_000
    assert 0.01 < one.abnormal / 60_000 < 0.03
    level: dict[str, list[float]] = {}
    abnormal: list[tuple[str, float]] = []
    for message in messages:
        event = json.loads(message.value)
        assert message.key == event["userId"].encode()
        within = any(
            dict(t.matchers)["userId"] == event["userId"] and t.since <= message.time_unix_nano < t.until
            for t in one.truth
        )
        if within:
            abnormal.append((event["userId"], event["value"]))
        else:
            level.setdefault(event["userId"], []).append(event["value"])
    assert len(abnormal) == one.abnormal
    assert all(value > 2 * np.median(level[user]) for user, value in abnormal)
    assert all(max(values) < 2 * np.median(values) for values in level.values())


def test_messages_may_have_no_key() -> None:
    assert {one.key for one in all_of(events(rate=10.0, users=5, key=False), T + NANO)} == {None}


def test_a_receiver_that_does_not_keep_up_is_not_spared() -> None:
    clock, stopped = FakeClock(T / NANO), threading.Event()
    got: list[Outgoing] = []

    def slow(batch: list[Outgoing]) -> None:
        got.extend(batch)
        clock.advance(0.5)

    one = events(rate=100.0, users=5, seconds=2.0)
    clock.advance(0.1)
    thread = threading.Thread(target=lambda: results.append(run(one, slow, clock, stopped)))
    results: list[Any] = []
    thread.start()
    while thread.is_alive():
        if clock.wait_for_sleepers(timeout_seconds=0.05):
            clock.advance(0.01)
    thread.join()
    assert len(got) == results[0].events == 200
    assert [m.time_unix_nano for m in got] == [T + n * NANO // 100 for n in range(200)]
    assert results[0].latest_seconds > 0.4


# -- the shop ------------------------------------------------------------------------------------------------------


def played(seconds: int, anomalies: float = 0.01, seed: int = 1) -> tuple[ShopMessages, list[Outgoing]]:
    shop = Shop(Settings(seed=seed, every_seconds=5), T)
    carrier = ShopMessages(Topics(), "prod", anomalies, seed)
    out: list[Outgoing] = []
    for _ in range(seconds // 5):
        seen = shop.advance(5)
        out += carrier.take(record(CALLS, encode_calls(seen.calls)))
        out += carrier.take(record(METRICS, encode_metrics(seen.readings)))
    return carrier, out


def test_the_shop_says_how_each_service_does() -> None:
    carrier, messages = played(60)
    count = Counter(one.topic for one in messages)
    assert count == {"metrics-topic": 12 * 12, "service-metrics": 12 * 12, "foreshock.control": 12}
    rows = [msgspec.json.decode(one.value, type=ServiceMetrics) for one in messages if one.topic == "service-metrics"]
    assert len({one.service for one in rows}) == 12
    gateway = [one for one in rows if one.service == "gateway"]
    assert all(one.latency is not None and 0.001 < one.latency < 5.0 for one in gateway)
    assert all(0 <= one.cpu <= 1 and one.memory > 1e6 for one in rows)
    assert [one.timestamp for one in gateway] == [T // 1_000_000 + 5000 * n for n in range(1, 13)]
    assert carrier.rows == 144
    values = [one.value for one in messages if one.topic == "service-metrics"]
    found = decode_messages(values, [None] * 144,
                            TOPICS["service-metrics"], MappingOptions())  # fmt: skip
    assert {series.name for series in found.samples.series} == {"latency", "cpu", "memory"}
    assert {series.entity[0][0] for series in found.samples.series} == {"service"}


def test_about_one_row_in_a_hundred_is_abnormal_and_labelled() -> None:
    """Of rows as they are; what the shop does is not needed for it."""
    label = []
    for number in range(12):
        one = Disturbance(0.01, 5, number)
        row = ServiceMetrics(timestamp=0, service="a", latency=0.01, cpu=0.2, memory=1e8)
        changed = [one.apply(row) for _ in range(20_000)]
        begins = [n for n, (_, rows) in enumerate(changed) if rows]
        marks = [bool(each.label) for each, _ in changed]
        assert not any(marks[:60])
        covered = {at for n in begins for at in range(n, n + changed[n][1])}
        assert covered >= {at for at, mark in enumerate(marks) if mark}
        assert all(each != row for each, _ in changed if each.label)
        label += marks
    assert 0.007 < np.mean(label) < 0.013


def test_labels_cover_what_is_abnormal_and_all_is_well_else() -> None:
    _, messages = played(1200, anomalies=0.1)
    controls = [msgspec.json.decode(one.value, type=Control) for one in messages if one.topic == "foreshock.control"]
    assert all(
        one.headers == [("content-type", CONTROL.encode())] for one in messages if one.topic == "foreshock.control"
    )
    well = [one for one in controls if one.label == "false"]
    wrong = [one for one in controls if one.label == "true"]
    assert len(well) == 12
    assert all(one.until_unix_nano == 0 for one in well)
    rows = [msgspec.json.decode(one.value, type=ServiceMetrics) for one in messages if one.topic == "service-metrics"]
    assert wrong
    for row in rows:
        covered = any(
            one.matchers == {"service": row.service} and one.covers(row.timestamp * 1_000_000) for one in wrong
        )
        assert covered == bool(row.label)


def test_what_people_say_goes_on_as_it_is() -> None:
    carrier = ShopMessages(Topics(control="c"), "prod")
    (message,) = carrier.take(record(CONTROL, b"{}"))
    assert (message.topic, message.key, message.value) == ("c", b"prod", b"{}")
    assert not carrier.take(record(WATERMARK, b"{}"))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_share_is_no_disturbance(share: float) -> None:
    one = Disturbance(share, 0, 0)
    row = ServiceMetrics(timestamp=0, service="a", latency=0.01, cpu=0.2, memory=1e8)
    assert all(one.apply(row) == (row, 0) for _ in range(1000))
