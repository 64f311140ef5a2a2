"""The shop as a source: its own seconds, the past first, nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from foreshock import plugins
from foreshock.adapters.decode import decode
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS
from foreshock.errors import BadInputError, ConfigError, RetryableError
from foreshock.shop.faults import CATALOGUE, KINDS, Fault
from foreshock.shop.settings import Settings
from foreshock.shop.shop import Shop
from foreshock.shop.source import ShopOptions, ShopSource
from foreshock.telemetry import REGISTRY
from foreshock.types import Calls, Record, Samples
from foreshock.types.record import CALLS

NANO = 1_000_000_000
START = 1_700_000_003 * NANO + 400_000_000
BEGIN = START // NANO * NANO


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now = START

    def now_unix_nano(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(1, round(seconds * 1e9))


def play(
    seconds: float,
    during: Callable[[ShopSource, Record, int], None] = lambda source, record, count: None,
    **options: Any,
) -> tuple[ShopSource, list[Record]]:
    """Records until the clock has gone so far."""
    source, clock, records = ShopSource(options=ShopOptions(**options)), Clock(), list[Record]()

    def submit(record: Record) -> None:
        during(source, record, len(records))
        records.append(record)

    def sleep(seconds_: float) -> None:
        Clock.sleep(clock, seconds_)
        if clock.now >= START + round(seconds * 1e9):
            source.stop()

    source.run(submit, SimpleNamespace(now_unix_nano=clock.now_unix_nano, sleep=sleep))
    return source, records


def calls_of(record: Record) -> Calls:
    decoded = decode(record, MappingOptions())
    assert isinstance(decoded, Calls)
    return decoded


def times(record: Record) -> Any:
    return decode(record, MappingOptions()).time_unix_nano


def test_each_second_brings_its_calls_and_every_fifth_a_reading() -> None:
    _, records = play(12.0)
    calls = [record for record in records if record.content_type == CALLS]
    readings = [record for record in records if record.content_type == METRICS]
    assert len(calls) == 12
    for second, record in enumerate(calls):
        since = BEGIN + second * NANO
        assert since <= times(record).min()
        assert times(record).max() < since + NANO
        assert since + NANO <= record.received_unix_nano < since + 2 * NANO
    assert [int(times(record)[0]) for record in readings] == [
        (BEGIN // NANO + 2) * NANO,
        (BEGIN // NANO + 7) * NANO,
        (BEGIN // NANO + 12) * NANO,
    ]
    samples = decode(readings[0], MappingOptions())
    assert isinstance(samples, Samples)
    assert (("service.name", "payment"),) in {series.entity for series in samples.series}
    assert {record.source for record in records} == {"shop"}


def test_the_calls_are_those_of_the_shop() -> None:
    _, records = play(6.0, seed=4, rate=20.0)
    sent = [calls_of(record) for record in records if record.content_type == CALLS]
    shop = Shop(Settings(seed=4, rate=20.0, trace_ratio=0.0), BEGIN).advance(6).calls
    assert np.concatenate([one.time_unix_nano for one in sent]).tolist() == shop.time_unix_nano.tolist()
    for name in ("source", "target", "method", "endpoint"):
        assert [one.names[i] for one in sent for i in one.rows[name]] == [shop.names[i] for i in shop.rows[name]]


def test_the_past_comes_first_in_order_and_without_faults() -> None:
    fault = {"kind": "crash", "service": "gateway", "after": 5, "duration": 30}
    source, records = play(10.0, history=600, faults=[fault])
    newest = 0
    for record in records:
        assert times(record).min() >= newest - 1
        newest = max(newest, int(times(record).max()))
    first = times(records[0])[0]
    assert BEGIN - 600 * NANO <= first < BEGIN - 599 * NANO
    past = [record for record in records if times(record).max() < BEGIN]
    assert all(record.received_unix_nano == START for record in past), "no time passes before all of it is there"
    assert 150 < len(past) < 260
    rows = np.concatenate([calls_of(record).rows for record in records if record.content_type == CALLS])
    broken = rows["time_unix_nano"] >= BEGIN + 5 * NANO
    assert (rows["status"][~broken] == 0).sum() == 0
    assert (rows["status"][broken] == 0).mean() > 0.5
    assert [truth.since_unix_nano for truth in source.truth()] == [BEGIN + 5 * NANO]


def test_where_there_is_no_room_it_waits_and_nothing_is_lost() -> None:
    refused = 0

    def full(source: ShopSource, record: Record, count: int) -> None:
        nonlocal refused
        refused += 1
        if refused % 7 < 5:
            raise RetryableError("full")

    _, records = play(30.0, full, history=60)
    _, calm = play(30.0, history=60)
    assert refused > len(records)
    payloads = [record.payload for record in records]
    assert payloads == [record.payload for record in calm][: len(payloads)]
    assert len(payloads) > len(calm) - 6


def test_what_is_not_understood_is_counted_and_the_shop_goes_on() -> None:
    def refuse(source: ShopSource, record: Record, count: int) -> None:
        if record.content_type == CALLS:
            raise BadInputError("no_calls_here", "only readings are understood")

    counted = REGISTRY.get_sample_value("foreshock_dropped_total", {"reason": "no_calls_here"}) or 0.0
    _, records = play(12.0, refuse)
    assert {record.content_type for record in records} == {METRICS}
    assert REGISTRY.get_sample_value("foreshock_dropped_total", {"reason": "no_calls_here"}) == counted + 12


def test_late_seconds_are_caught_up_one_by_one() -> None:
    def stall(source: ShopSource, record: Record, count: int) -> None:
        if count == 3:
            clock.now += 8 * NANO

    source, clock, records = ShopSource(), Clock(), list[Record]()

    def submit(record: Record) -> None:
        stall(source, record, len(records))
        records.append(record)
        if len(records) == 16:
            source.stop()

    source.run(submit, clock)
    seconds = [int(times(record)[0]) // NANO for record in records if record.content_type == CALLS]
    assert seconds == list(range(BEGIN // NANO, BEGIN // NANO + len(seconds)))


def test_things_can_be_broken_while_it_runs() -> None:
    said = []

    def breaks(source: ShopSource, record: Record, count: int) -> None:
        if count == 4:
            thread = threading.Thread(target=lambda: said.append(source.inject(Fault("crash", "redis"))))
            thread.start()
            thread.join()

    source, records = play(12.0, breaks)
    assert source.truth() == tuple(said)
    assert said[0].since_unix_nano == BEGIN + 4 * NANO
    statuses = [calls_of(record).rows["status"] for record in records if record.content_type == CALLS]
    assert not any((one == 0).any() for one in statuses[:4])
    assert any((one == 0).any() for one in statuses[5:])
    with pytest.raises(ConfigError, match="no service"):
        source.inject(Fault("crash", "nobody"))


def test_a_shop_that_is_not_open_cannot_be_broken() -> None:
    source = ShopSource()
    assert source.truth() == ()
    with pytest.raises(RetryableError, match="not open yet"):
        source.inject(Fault("crash", "redis"))


def test_a_tour_goes_through_all_kinds_and_begins_again() -> None:
    source, _ = play(3.0, tour=True, seed=2, history=10)
    truths = source.truth()
    assert sorted(truth.kind for truth in truths) == sorted(KINDS)
    assert truths[0].since_unix_nano == BEGIN + 20 * NANO
    lasts = sum(CATALOGUE[kind].duration_seconds for kind in KINDS)
    source, _ = play(20 + lasts + 120 * len(KINDS) + 10, tour=True, seed=2)
    assert len(source.truth()) == 2 * len(KINDS)
    assert [one.kind for one in source.truth()[len(KINDS) :]] != [one.kind for one in truths]
    assert all(other.since_unix_nano > one.until_unix_nano for one, other in pairwise(truths))


def test_it_is_a_source_by_name_and_its_options_are_checked() -> None:
    assert plugins.find("source", "shop") is ShopSource
    assert plugins.options_model(ShopSource) is ShopOptions
    assert ShopSource.default_lateness_seconds == 0.0
    fault = ShopOptions(history="2h", faults=[{"kind": "latency", "service": "cart", "after": "1m"}]).faults[0]  # type: ignore[arg-type]
    assert fault.fault() == Fault("latency", "cart", "large", 60.0)
    for wrong in (
        {"rate": 0}, {"history": -1}, {"tours": True}, {"faults": [{"kind": "flood", "service": "cart"}]},
        {"faults": [{"kind": "crash", "service": "nobody"}]},
        {"faults": [{"kind": "pool_exhaustion", "service": "search"}]},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            ShopOptions(**wrong)
