"""The shop's kernel: repeatable, exact against a plain queue, near the textbook, and it loses nobody."""

from __future__ import annotations

import heapq
from dataclasses import replace
from math import exp, factorial

import numpy as np
import pytest

from foreshock.shop.dynamics_chance import lognormal, normal, uniform
from foreshock.shop.dynamics_second import wave
from foreshock.shop.dynamics_tables import EVENTS, LIVE, RATE, TURNED_AWAY
from foreshock.shop.faults import CATALOGUE, KINDS, Fault, FaultKind
from foreshock.shop.output import Telemetry
from foreshock.shop.settings import Settings
from foreshock.shop.shop import Shop
from foreshock.shop.topology import SHOP, WEB
from tests.unit.kernels import called
from tests.unit.shop_cases import NANO, QUIET, START, columns, lone, played

FAULTS = (
    Fault("bad_deploy", "catalog", "large", 20, 60), Fault("retry_storm", "inventory", "large", 60, 40),
    Fault("memory_leak", "cart", "large", 10, 150), Fault("crash", "redis", "large", 130, 20),
    Fault("pool_exhaustion", "payment", "large", 150, 30),
)  # fmt: skip


# -- repeatable ------------------------------------------------------------------------------------------------------


def test_a_seed_makes_a_run_repeatable() -> None:
    one, same, other = (
        columns([Shop(Settings(seed=seed, trace_ratio=0.1), START, FAULTS).advance(200)]) for seed in (5, 5, 6)
    )
    assert one == same
    assert one["time_unix_nano"] != other["time_unix_nano"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_cut_of_advance_changes_nothing(seed: int) -> None:
    settings = Settings(seed=seed, trace_ratio=0.1, autoscale=True)
    start = START - START % (86_400 * NANO) + 2 * 3600 * NANO  # the nightly batch begins in it
    whole = columns([Shop(settings, start, FAULTS).advance(900)])
    shop, chance, left = Shop(settings, start, FAULTS), np.random.default_rng(seed), 900
    parts = []
    while left:
        seconds = min(left, int(chance.integers(1, 40)))
        parts.append(shop.advance(seconds))
        left -= seconds
    assert len(whole["logs"]) > 20
    assert len(whole["spans"]) > 100
    assert columns(parts) == whole


def test_times_are_in_order_and_inside() -> None:
    shop = Shop(QUIET, START + 123)
    assert shop.start_unix_nano == START
    shop.advance(60)
    telemetry = shop.advance(7)
    times = telemetry.calls.time_unix_nano
    assert (telemetry.since_unix_nano, telemetry.until_unix_nano) == (START + 60 * NANO, START + 67 * NANO)
    assert (np.diff(times) >= 0).all()
    assert START + 60 * NANO <= times[0] <= times[-1] < START + 67 * NANO
    assert telemetry.gauge_times.tolist() == [START + 65 * NANO]


def test_chances_are_even_and_alike_on_every_seed() -> None:
    draw, bell, work = called(uniform), called(normal), called(lognormal)
    numbers = np.array([draw(np.uint64(seed), number) for seed in range(200) for number in range(100)])
    assert abs(numbers.mean() - 0.5) < 0.01
    assert np.bincount((numbers * 20).astype(int)).min() > 900
    normals = np.array([bell(np.uint64(seed), 0) for seed in range(20_000)])
    assert abs(normals.mean()) < 0.02
    assert abs(normals.std() - 1) < 0.02
    works = np.array([work(np.uint64(seed), 0, 0.6) for seed in range(50_000)])
    assert abs(works.mean() - 1) < 0.02


def test_the_load_follows_the_day_and_the_week() -> None:
    factor = called(wave)
    week = np.array([factor(second) for second in range(0, 7 * 86_400, 600)])
    assert abs(week.mean() - 1) < 0.01
    hours = week.reshape(7, 24, 6).mean((0, 2))
    assert hours.argmin() in (3, 4, 5, 6)
    assert hours.argmax() in (18, 19, 20, 21)
    assert 1.8 < hours.max() / hours.min() < 3.0
    days = week.reshape(7, -1).mean(1)
    assert days.argmax() in (2, 3)  # the epoch was a Thursday


# -- queues ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "work_seconds"), [(1, 0.07), (3, 0.25), (2, 0.19)])
def test_waits_are_those_of_a_plain_first_come_first_served_queue(workers: int, work_seconds: float) -> None:
    """With workers for all, a span is the work alone; fewer workers must give what Kiefer and Wolfowitz say."""
    settings = Settings(seed=11, waves=False, bursts=False, deploys=False, trace_ratio=1.0)
    free = list(Shop(settings, START, topology=lone(work_seconds, 2000, 0.7)).advance(400).spans)
    full = {
        span.span: span for span in Shop(settings, START, topology=lone(work_seconds, workers, 0.7)).advance(400).spans
    }
    at = [0] * workers  # when each worker is free
    waited, compared = 0, 0
    for span in sorted(free, key=lambda span: span.start_unix_nano):
        begun = max(span.start_unix_nano, heapq.heappop(at))
        heapq.heappush(at, begun + round(span.duration_seconds * NANO))
        if span.span in full:
            one = full[span.span]
            assert one.start_unix_nano == span.start_unix_nano
            ended = begun - span.start_unix_nano + span.duration_seconds * NANO
            assert abs(one.duration_seconds * NANO - ended) <= 3 * (1 + compared)  # rounding to ns adds up
            waited += begun > span.start_unix_nano
            compared += 1
    assert compared > 3500
    assert waited > compared / 4


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_latency_follows_from_utilisation_as_in_the_textbook(workers: int, utilisation: float) -> None:
    """M/G/1: Pollaczek and Khinchine. M/G/c: Erlang C times (1 + cv²)/2 (Lee and Longton), good to a few per cent."""
    rate, spread = 10.0, 0.5
    work = utilisation * workers / rate
    settings = Settings(seed=2, rate=rate, waves=False, bursts=False, deploys=False)
    rows = Shop(settings, START, topology=lone(work, workers, spread)).advance(20_000).calls.rows
    offered = utilisation * workers
    busy = offered**workers / (factorial(workers) * (1 - utilisation))
    erlang = busy / (sum(offered**k / factorial(k) for k in range(workers)) + busy)
    expected = erlang * work / (workers * (1 - utilisation)) * exp(spread**2) / 2  # 1 + cv² of a lognormal
    waited = float(rows["duration_seconds"].mean()) - 2 * 0.0003 - work
    assert waited == pytest.approx(expected, rel=0.12, abs=0.0005)


def test_cores_are_shared_when_more_compute_than_there_are() -> None:
    """Four workers on one core: no request waits for a worker, but work takes longer; the core is not used above 1."""
    one = lone(0.06, 4, 0.3)
    crowded = replace(one, services=(replace(one.services[0], cores=1.0),))
    settings = Settings(seed=2, waves=False, bursts=False, deploys=False)
    alone, shared = (Shop(settings, START, topology=topology).advance(2000) for topology in (one, crowded))
    assert alone.calls.rows["duration_seconds"].mean() == pytest.approx(0.0606, rel=0.03)
    assert shared.calls.rows["duration_seconds"].mean() > 0.075
    assert shared.gauges[:, 0].mean() == pytest.approx(0.6, rel=0.06)
    assert shared.gauges[:, 0].max() <= 1.0


# -- nobody is lost --------------------------------------------------------------------------------------------------


def drained(faults: tuple[Fault, ...], seconds: int) -> tuple[Shop, list[Telemetry]]:
    """A shop played with faults, then without customers until everybody has left."""
    shop = Shop(replace(QUIET, trace_ratio=1.0), START, faults)
    parts = [shop.advance(seconds)]
    shop.tables.real[RATE] = 0.0
    parts.append(shop.advance(60))
    return shop, parts


def test_what_callers_send_is_what_callees_get() -> None:
    shop, parts = drained((), 300)
    everything = columns(parts)
    for service in SHOP.names:
        calls = everything["target"].count(service)
        spans = [span for span in everything["spans"] if span.service == service]
        assert calls == len(spans) > 100
    by_id = {span.span: span for span in everything["spans"]}
    sent = sum(
        (source, target) == ("checkout", "payment")
        for source, target in zip(everything["source"], everything["target"], strict=True)
    )
    got = sum(span.service == "payment" and by_id[span.parent].service == "checkout" for span in everything["spans"])
    assert sent == got
    assert everything["source"].count(WEB) == sum(span.parent == "" for span in everything["spans"])
    assert shop.tables.number[TURNED_AWAY] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_when_all_is_over_nobody_is_left(kind: FaultKind) -> None:
    faults = tuple(
        Fault(kind, service, "large", 20 + 10 * at, 40) for at, service in enumerate(CATALOGUE[kind].targets)
    )
    shop, _ = drained(faults, 300)
    t = shop.tables
    assert t.number[LIVE] == t.number[EVENTS] == 0
    for name in ("queued", "flight"):
        assert not t.service[name].any()
    assert not t.replica["busy"].any()
    assert not t.replica["computing"].any()
    assert not t.edge["used"].any()
    assert not t.edge["waiting"].any()


def test_a_shop_that_is_overrun_turns_customers_away_and_stays_within_its_bounds() -> None:
    one = lone(1.0, 1, 0.5)
    endless = replace(one, services=(replace(one.services[0], queue_limit=10**6, memory_limit_bytes=2**40),))
    shop = Shop(Settings(rate=10.0, waves=False, bursts=False, deploys=False), START, topology=endless)
    shop.tables.real[RATE] = 1000.0
    calls = shop.advance(60).calls
    assert 0.99 * len(shop.tables.request) < shop.tables.number[LIVE] <= len(shop.tables.request)
    assert shop.left_out["shop_turned_away"] == pytest.approx(60_000 - len(shop.tables.request), rel=0.05)
    assert len(calls) == pytest.approx(60, rel=0.3)  # it still does what it can


# -- what it looks like ----------------------------------------------------------------------------------------------


def test_rates_and_latencies_are_those_of_the_topology() -> None:
    telemetry = Shop(replace(QUIET, waves=False), START).advance(3000)
    everything = columns([telemetry])
    templates = dict.fromkeys(SHOP.rates(), 0)
    for target, method, path in zip(everything["target"], everything["method"], everything["endpoint"], strict=True):
        parts = ["{id}" if part.isdigit() else part for part in path.split("/")]
        templates[target, method, "/".join(parts)] += 1
    for key, rate in SHOP.rates().items():
        assert templates[key] / 3000 == pytest.approx(rate, rel=0.12, abs=0.01), key
    latency = telemetry.calls.rows["duration_seconds"][telemetry.calls.rows["source"] == 1].mean()
    quiet = sum(
        one.share * SHOP.quiet_seconds("gateway", one.method, one.path) for one in SHOP.service("gateway").endpoints
    )
    assert quiet < latency < 1.25 * quiet


def test_a_shop_for_more_customers_is_as_quick() -> None:
    quiet = replace(QUIET, waves=False)
    small, large = (Shop(replace(quiet, rate=rate), START).advance(seconds) for rate, seconds in ((10, 600), (300, 60)))
    for one in (small, large):
        assert (one.calls.rows["status"] >= 500).mean() < 0.003
        assert not (one.calls.rows["status"] == 0).any()
    assert len(large.calls) == pytest.approx(3 * len(small.calls), rel=0.05)
    latencies = [one.calls.rows["duration_seconds"].mean() for one in (small, large)]
    assert latencies[1] == pytest.approx(latencies[0], rel=0.1)


def test_readings_have_the_names_of_opentelemetry_and_a_missing_service_is_missing() -> None:
    _, telemetry = played(Fault("crash", "auth", "large", 12), 30)
    last = {reading.entity["service.name"]: reading for reading in telemetry.readings[-len(SHOP.names) :]}
    assert set(last) == set(SHOP.names)
    values = {metric.name: metric for metric in last["auth"].metrics}
    assert np.isnan(values["container.cpu.utilization"].value or 0.0)
    assert values["service.replicas.ready"].value == 0
    assert values["service.restarts"].counter
    assert values["service.restarts"].value == 4
    pool = values["db.client.connections.usage"]
    assert (pool.attributes, pool.unit) == ({"pool.name": "redis"}, "{connection}")
    assert 0 < ({m.name: m.value for m in last["search"].metrics}["container.memory.usage"] or 0) < 2**30


def test_spans_make_trees_and_logs_say_what_went_wrong() -> None:
    shop = Shop(replace(QUIET, trace_ratio=1.0), START, [Fault("crash", "redis", "large", 20)])
    telemetry = shop.advance(40)
    spans = {span.span: span for span in telemetry.spans}
    children = [span for span in spans.values() if span.parent in spans]
    assert len(children) > 500
    for span in children:
        parent = spans[span.parent]
        assert span.trace == parent.trace
        assert parent.start_unix_nano < span.start_unix_nano
        assert span.service in SHOP.callees(parent.service)
    bodies = {(line.service, line.level, line.body) for line in telemetry.logs}
    assert ("redis", "ERROR", "replica 0 exited unexpectedly") in bodies
    assert ("auth", "ERROR", "connection to redis refused or reset") in bodies


def test_ordinary_days_have_bursts_deploys_and_a_batch() -> None:
    day = START - START % (86_400 * NANO)
    calm = Shop(replace(QUIET, seed=5, rate=2.0), day).advance(14 * 3600)
    usual = Shop(Settings(seed=5, rate=2.0), day).advance(14 * 3600)
    batch = usual.calls.rows["endpoint"] == usual.calls.names.index("/stock/bulk")
    hours = (usual.calls.time_unix_nano[batch] - day) / (3600 * NANO)
    assert 200 < len(hours) < 600
    assert 2.0 < hours.min() < hours.max() < 2.7
    assert any("version 1.1.0 is rolled out" in line.body for line in usual.logs)
    assert not any("rolled out" in line.body for line in calm.logs)
    counts = []
    for part in (calm, usual):
        times = part.calls.time_unix_nano[part.calls.rows["source"] == 1] - day
        counts.append(np.bincount(times // (120 * NANO), minlength=420)[:420])
    factor = counts[1] / counts[0]
    assert 1.15 < factor.max() < 1.8
    assert np.median(factor) == pytest.approx(1.0, abs=0.01)
