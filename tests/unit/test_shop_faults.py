"""Each fault moves what its truth says, where it says, and nobody else; then the shop recovers."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from foreshock.errors import ConfigError
from foreshock.shop.effects import mean_quiet_seconds
from foreshock.shop.faults import (
    CATALOGUE,
    KINDS,
    MAGNITUDES,
    Effect,
    Fault,
    FaultKind,
    Magnitude,
    check,
    schedule,
    suffering,
)
from foreshock.shop.shop import Shop
from foreshock.shop.topology import SHOP
from tests.unit.shop_cases import NANO, QUIET, START, Seen, played, seen

SINCE = 60
TARGETS: dict[FaultKind, tuple[str, ...]] = {
    "error_spike": ("search", "payment"), "latency": ("catalog", "cart"), "cpu_hog": ("recommend", "search"),
    "memory_leak": ("catalog", "cart"), "crash": ("inventory", "redis"), "traffic_surge": ("search", "gateway"),
    "slow_dependency": ("postgres", "inventory"), "retry_storm": ("catalog", "recommend"),
    "disk_fill": ("postgres", "payment"), "pool_exhaustion": ("inventory", "auth"),
    "bad_deploy": ("checkout", "search"),
}  # fmt: skip
CASES = [
    Fault(kind, service, magnitude, SINCE)
    for kind in KINDS
    for service in TARGETS[kind]
    for magnitude in MAGNITUDES
]  # fmt: skip


def name(fault: Fault) -> str:
    return f"{fault.kind}-{fault.service}-{fault.magnitude}"


def both(fault: Fault, since: float, until: float, service: str) -> tuple[Seen, Seen]:
    """What was seen of a service with the fault and without."""
    seconds = SINCE + int(fault.lasts_seconds) + 240
    return seen(played(fault, seconds)[1], service, since, until), seen(played(None, seconds)[1], service, since, until)


def moved(fault: Fault, now: Seen, calm: Seen) -> bool:
    """Whether the fault's feature family has moved, far beyond what it does by itself."""
    service = SHOP.service(fault.service)
    match CATALOGUE[fault.kind].feature:
        case "errors":
            return now.errors > calm.errors + 0.4 * fault.effect.errors
        case "latency":
            return now.latency > 1.4 * calm.latency
        case "cpu":
            return now.cpu > calm.cpu + 0.3
        case "memory":
            return now.memory > calm.memory + 0.15 * service.memory_limit_bytes
        case "availability":
            return now.ready < calm.ready
        case "traffic":
            return now.rate > 1.5 * calm.rate
        case "disk":
            return now.disk > calm.disk + 0.1 * service.disk_limit_bytes
        case "pool":
            return now.pool > calm.pool + 4


@pytest.mark.parametrize("fault", CASES, ids=name)
def test_a_fault_moves_what_its_truth_says_and_the_shop_recovers(fault: Fault) -> None:
    until = SINCE + fault.lasts_seconds
    now, calm = both(fault, SINCE + 2, until, fault.service)
    assert moved(fault, now, calm), (now, calm)
    before, calm_before = both(fault, 0, SINCE, fault.service)
    assert before == calm_before
    after, calm_after = both(fault, until + 120, until + 240, fault.service)
    assert not moved(fault, after, calm_after), (after, calm_after)
    assert after.errors < calm_after.errors + 0.03
    assert after.latency < 1.25 * calm_after.latency
    assert after.ready == SHOP.service(fault.service).replicas


def apart(fault: Fault) -> set[str]:
    """Services that no way through calls leads to from the fault's own, but through the gateway."""
    reached = {fault.service, *SHOP.upstream(fault.service)}
    for service in reached - {"gateway"}:
        reached |= set(SHOP.downstream(service))
    if fault.effect.surge > 1 or fault.effect.retries:  # more work for those below, which their other callers feel
        for service in SHOP.downstream(fault.service):
            reached |= set(SHOP.upstream(service))
    return set(SHOP.names) - reached


@pytest.mark.parametrize("fault", [one for one in CASES if one.service not in ("gateway", "auth", "redis")], ids=name)
def test_a_fault_leaves_the_others_alone(fault: Fault) -> None:
    others = apart(fault)
    assert len(others) >= 3
    for service in others:
        now, calm = both(fault, SINCE, SINCE + fault.lasts_seconds, service)
        assert now.rate == pytest.approx(calm.rate, rel=0.1), service
        assert now.errors == pytest.approx(calm.errors, abs=0.01), service
        assert now.latency == pytest.approx(calm.latency, rel=0.1), service
        assert now.cpu == pytest.approx(calm.cpu, rel=0.1, abs=0.01), service
        assert now.ready == calm.ready, service


@pytest.mark.parametrize("kind", KINDS)
def test_large_is_worse_than_small(kind: FaultKind) -> None:
    small, large = (Fault(kind, TARGETS[kind][0], magnitude, SINCE) for magnitude in MAGNITUDES)
    one, other = (both(fault, SINCE + 2, SINCE + small.lasts_seconds, small.service)[0] for fault in (small, large))
    feature = CATALOGUE[kind].feature
    values = {
        "errors": "errors", "latency": "latency", "cpu": "cpu", "memory": "memory", "traffic": "rate", "disk": "disk",
        "pool": "pool",
    }  # fmt: skip
    if feature == "availability":
        assert other.ready < one.ready
    else:
        assert getattr(other, values[feature]) > getattr(one, values[feature])


# -- what follows ----------------------------------------------------------------------------------------------------


def test_a_slow_store_is_felt_by_its_callers_and_their_time_outs() -> None:
    fault = Fault("slow_dependency", "inventory", "large", SINCE)
    until = SINCE + fault.lasts_seconds
    for service in ("catalog", "checkout", "gateway"):
        now, calm = both(fault, SINCE + 10, until, service)
        assert now.latency > 1.5 * calm.latency, service
        assert now.errors > 0.2, service
    now, calm = both(fault, SINCE + 10, until, "inventory")
    assert now.rate > 1.5 * calm.rate, "callers try again"
    rows = played(fault, SINCE + int(fault.lasts_seconds) + 240)[1].calls.rows
    assert (rows["duration_seconds"][rows["status"] == 0] > 0.4).any(), "given up at the time-out"


def test_a_memory_leak_ends_in_a_kill_and_begins_again() -> None:
    fault = Fault("memory_leak", "catalog", "large", SINCE)
    telemetry = played(fault, SINCE + int(fault.lasts_seconds) + 240)[1]
    killed = [line for line in telemetry.logs if line.body.endswith("killed: out of memory")]
    assert {line.service for line in killed} == {"catalog"}
    assert len(killed) >= 3
    memory = [
        metric.value
        for reading in telemetry.readings
        if reading.entity["service.name"] == "catalog"
        for metric in reading.metrics
        if metric.name == "container.memory.usage"
    ]
    falls = [
        one for one, other in pairwise(memory) if other is not None and one is not None and other < one - 50 * 2**20
    ]
    assert len(falls) >= 2
    assert max(value for value in memory if value) > 0.9 * SHOP.service("catalog").memory_limit_bytes


def test_a_full_disk_fails_writes_and_no_reads() -> None:
    fault = Fault("disk_fill", "payment", "large", SINCE)
    telemetry = played(fault, SINCE + int(fault.lasts_seconds) + 240)[1]
    rows, names = telemetry.calls.rows, list(telemetry.calls.names)
    seconds = (rows["time_unix_nano"] - START) / NANO
    rows = rows[
        (seconds > SINCE + 65) & (seconds < SINCE + fault.lasts_seconds) & (rows["target"] == names.index("payment"))
    ]
    posts = rows["method"] == names.index("POST")
    assert (rows["status"][posts] == 500).all()
    assert len(rows[posts]) > 20
    rows = telemetry.calls.rows[(seconds < SINCE + 50) & (telemetry.calls.rows["target"] == names.index("payment"))]
    assert (rows["status"] == 500).mean() < 0.05, "not before it is full"


def test_a_retry_storm_goes_on_while_callers_try_again() -> None:
    fault = Fault("retry_storm", "recommend", "large", SINCE)
    now, calm = both(fault, SINCE + 30, SINCE + fault.lasts_seconds, "recommend")
    assert now.rate > 4 * calm.rate
    assert now.cpu > 0.95
    assert now.errors > 0.9
    quick = round(0.5 * mean_quiet_seconds(SHOP, "recommend") * NANO)
    shop = Shop(QUIET, START, [Fault("retry_storm", "recommend", "large", 0)])
    shop.advance(1)
    edges = [edge.callee == "recommend" for edge in SHOP.edges]
    assert set(shop.tables.edge["timeout"][edges].tolist()) == {quick}


def test_a_bad_deploy_comes_and_goes_replica_by_replica() -> None:
    shop = Shop(QUIET, START, [Fault("bad_deploy", "search", "large", 10, 60)])
    shop.advance(11)
    assert (shop.versions["search"], float(shop.tables.service["errors"].max())) == (1, 0.0)
    shop.advance(8)
    half = float(shop.tables.service["errors"].max())
    shop.advance(12)
    assert 0 < half < float(shop.tables.service["errors"].max()) == pytest.approx(0.3)
    shop.advance(40)
    assert (shop.versions["search"], float(shop.tables.service["errors"].max())) == (0, 0.0)


def test_faults_at_once_add_up_and_end_by_themselves() -> None:
    shop = Shop(
        QUIET, START, [Fault("error_spike", "cart", "large", 5, 20), Fault("error_spike", "cart", "small", 10, 30)]
    )
    errors = []
    for _ in range(5):
        shop.advance(10)
        errors.append(round(float(shop.tables.service["errors"].max()), 3))
    assert errors == [0.4, 0.448, 0.08, 0.08, 0.0]


# -- the truth -------------------------------------------------------------------------------------------------------


def test_the_truth_says_what_where_since_when_and_who_suffers() -> None:
    shop = Shop(QUIET, START)
    shop.advance(30)
    truth = shop.inject(Fault("latency", "payment", "small", 15, 45))
    assert (truth.kind, truth.service, truth.feature, truth.magnitude) == ("latency", "payment", "latency", "small")
    assert (truth.since_unix_nano, truth.until_unix_nano) == (START + 45 * NANO, START + 90 * NANO)
    assert truth.suffers == ("checkout", "gateway")
    assert shop.truths == (truth,)
    assert set(suffering(Fault("traffic_surge", "search"))) == {"gateway", "recommend", "postgres"}
    assert set(suffering(Fault("crash", "redis"))) == {"cart", "auth", "gateway"}


def test_every_kind_has_targets_that_can_have_it() -> None:
    for kind, one in CATALOGUE.items():
        assert one.small != one.large
        for service in one.targets:
            check(Fault(kind, service))


@pytest.mark.parametrize(
    ("kind", "service", "said"),
    [
        ("latency", "sarch", "no service 'sarch'"), ("pool_exhaustion", "search", "no pool"),
        ("disk_fill", "search", "writes nothing"), ("bad_deploy", "redis", "is a store"),
        ("retry_storm", "gateway", "do not try again"),
    ],
)  # fmt: skip
def test_what_cannot_break_is_refused(kind: FaultKind, service: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Shop(QUIET, START).inject(Fault(kind, service))


def test_unknown_kinds_and_magnitudes_are_refused() -> None:
    with pytest.raises(ConfigError, match="there is no fault 'flood'"):
        Fault("flood", "cart")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="small or large"):
        Fault("crash", "cart", "huge")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 s or longer"):
        Fault("crash", "cart", after_seconds=-1)


# -- schedules -------------------------------------------------------------------------------------------------------


def test_a_schedule_has_every_kind_with_room_to_recover() -> None:
    faults = schedule(7, gap_seconds=90, rounds=2)
    assert sorted(fault.kind for fault in faults) == sorted([*KINDS, *KINDS])
    assert faults[0].after_seconds == 20
    assert not CATALOGUE[faults[0].kind].gradual
    for one, other in pairwise(faults):
        assert other.after_seconds == one.after_seconds + one.lasts_seconds + 90
    for fault in faults:
        check(fault)
    assert schedule(7, gap_seconds=90, rounds=2) == faults
    assert [fault.kind for fault in schedule(8)] != [fault.kind for fault in schedule(7)]
    assert len({fault.service for seed in range(20) for fault in schedule(seed)}) >= 11


def test_a_tour_of_all_faults_leaves_a_shop_as_it_was() -> None:
    faults = schedule(1, first_seconds=60, gap_seconds=120)
    shop, calm = Shop(QUIET, START, faults), Shop(QUIET, START)
    last = faults[-1].after_seconds + faults[-1].lasts_seconds + 120
    shop.advance(int(last))
    calm.advance(int(last))
    one, other = shop.advance(120), calm.advance(120)
    for service in SHOP.names:
        since = last, last + 120
        assert seen(one, service, *since).rate == pytest.approx(seen(other, service, *since).rate, rel=0.1)
        assert seen(one, service, *since).latency == pytest.approx(seen(other, service, *since).latency, rel=0.15)
    for name in ("errors", "work", "wait", "leak", "fill", "filled"):
        assert np.array_equal(shop.tables.service[name], calm.tables.service[name])
    for name in ("timeout", "retries", "lost"):
        assert np.array_equal(shop.tables.edge[name], calm.tables.edge[name])


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_a_larger_shop_breaks_alike(magnitude: Magnitude) -> None:
    fault = Fault("cpu_hog", "search", magnitude, 30, 60)
    for rate in (10.0, 50.0):
        telemetry = Shop(replace(QUIET, rate=rate), START, [fault]).advance(90)
        now, before = (seen(telemetry, "search", *stretch) for stretch in ((40, 90), (0, 30)))
        assert now.latency > 1.4 * before.latency
        assert before.rate == pytest.approx(0.23 * rate, rel=0.25)


def test_the_page_about_the_shop_has_every_kind_with_its_magnitudes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "shop.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    for kind, one in CATALOGUE.items():
        for effect in (one.small, one.large):
            for number in stated(effect):
                assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", rows[kind]), (kind, number)
        lasts = (
            f"{one.duration_seconds / 60:g} min" if one.duration_seconds % 60 == 0 else f"{one.duration_seconds:g} s"
        )
        assert rows[kind].endswith(f"| {one.feature} | {lasts} |")


def stated(effect: Effect) -> list[str]:
    """The numbers of an effect as the page writes them."""
    share = [f"{value * 100:g} %" for value in (effect.errors, effect.stolen) if value]
    factor = [f"× {value:g}" for value in (effect.work, effect.surge) if value != 1]
    plain = [f"{value:g}" for value in (effect.wait, effect.timeout, effect.retries) if value]
    seconds = [value for value in (effect.memory_full_seconds, effect.disk_full_seconds) if value]
    spans = ["10 min" if value == 600 else f"{value:g} s" for value in seconds]
    left = [f"{effect.connections_left}"] if effect.connections_left >= 0 else []
    return [*share, *factor, *plain, *spans, *left]
