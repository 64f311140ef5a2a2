"""What an operator does to the shop changes its dynamics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foreshock.errors import BadInputError
from foreshock.shop.actions import limit, restart, roll_back, scale
from foreshock.shop.faults import Fault
from foreshock.shop.output import Telemetry
from foreshock.shop.shop import Shop
from foreshock.shop.topology import SHOP
from tests.unit.shop_cases import NANO, QUIET, START, Seen, seen


def after(shop: Shop, service: str, seconds: int) -> Seen:
    since = (shop.now_unix_nano - START) / NANO
    return seen(shop.advance(seconds), service, since, since + seconds)


def test_scaling_relieves_a_service_that_is_short_of_cores() -> None:
    shop = Shop(QUIET, START, [Fault("cpu_hog", "search", "large", 10, 600)])
    shop.advance(40)
    bad = after(shop, "search", 60)
    change = scale(shop, "search", 6)
    assert (change.action, change.service, change.before, change.after) == ("scale", "search", 2, 6)
    shop.advance(60)
    good = after(shop, "search", 60)
    assert bad.errors > 0.9
    assert good.errors < 0.1
    assert good.ready == 6
    assert scale(shop, "search", 2).before == 6
    shop.advance(60)
    assert after(shop, "search", 60).errors > 0.9


def test_scaling_relieves_a_surge() -> None:
    surge = Fault("traffic_surge", "gateway", "large", 10, 600)
    shop = Shop(QUIET, START, [surge])
    shop.advance(60)
    bad = after(shop, "recommend", 60)
    scale(shop, "recommend", 6)
    scale(shop, "search", 4)
    shop.advance(60)
    good = after(shop, "recommend", 60)
    assert good.latency < 0.4 * bad.latency
    assert good.cpu < 0.7 < bad.cpu


def test_a_replica_that_goes_finishes_its_work() -> None:
    shop = Shop(replace(QUIET, rate=20.0), START)
    shop.advance(30)
    scale(shop, "checkout", 1)
    statuses = shop.advance(30).calls.rows["status"]
    assert not (statuses == 0).any()
    assert shop.tables.replica["busy"].max() < 48


def test_a_replica_that_went_in_the_middle_of_a_restart_stays_away() -> None:
    shop = Shop(QUIET, START)
    restart(shop, "cart")
    shop.advance(2)
    scale(shop, "cart", 1)
    shop.advance(60)
    assert len(shop.replicas("cart")) == 1
    assert after(shop, "cart", 30).ready == 1


def test_rolling_back_ends_a_bad_deploy() -> None:
    shop = Shop(QUIET, START, [Fault("bad_deploy", "catalog", "large", 10, 600)])
    shop.advance(50)
    bad = after(shop, "catalog", 60)
    assert shop.versions["catalog"] == 1
    change = roll_back(shop, "catalog")
    assert (change.before, change.after) == (1, 0)
    assert shop.truths[0].until_unix_nano == START + 110 * NANO
    shop.advance(40)
    good = after(shop, "catalog", 60)
    assert bad.errors > 0.2
    assert good.errors < 0.02
    assert good.latency < 0.6 * bad.latency
    shop.advance(600)
    assert shop.versions["catalog"] == 0, "its own end finds nothing to end"


def test_rolling_back_a_good_version_only_restarts() -> None:
    shop = Shop(QUIET, START, [Fault("error_spike", "catalog", "large", 10, 600)])
    shop.advance(30)
    assert roll_back(shop, "catalog").after == 0
    assert after(shop, "catalog", 60).errors > 0.3


def test_a_restart_ends_a_leak_for_a_while() -> None:
    shop = Shop(QUIET, START, [Fault("memory_leak", "cart", "small", 10, 900)])
    telemetry = shop.advance(300)
    before = memory(telemetry, "cart")
    restart(shop, "cart")
    telemetry = shop.advance(60)
    assert memory(telemetry, "cart") < 0.7 * before
    assert memory(shop.advance(240), "cart") > 0.9 * before
    assert not any("out of memory" in line.body for line in telemetry.logs)


def memory(telemetry: Telemetry, service: str) -> float:
    """Bytes at the last reading."""
    return next(
        metric.value or np.nan
        for reading in reversed(telemetry.readings)
        if reading.entity["service.name"] == service
        for metric in reading.metrics
        if metric.name == "container.memory.usage"
    )


def test_a_restart_brings_a_crashed_service_back_and_frees_connections() -> None:
    shop = Shop(
        QUIET, START, [Fault("crash", "payment", "large", 10, 600), Fault("pool_exhaustion", "cart", "large", 10, 600)]
    )
    shop.advance(40)
    assert after(shop, "payment", 20).errors == 1.0
    restart(shop, "payment")
    restart(shop, "cart")
    lost = shop.tables.edge["lost"][SHOP.edges.index(SHOP.edge("cart", "redis"))]
    assert lost == 0
    assert shop.truths[0].until_unix_nano == START + 60 * NANO
    shop.advance(30)
    assert after(shop, "payment", 30).errors < 0.1


@pytest.mark.parametrize("caller", ["", "gateway"])
def test_a_limit_turns_the_rest_away_with_429(caller: str) -> None:
    shop = Shop(QUIET, START, [Fault("traffic_surge", "search", "large", 5, 600)])
    shop.advance(30)
    change = limit(shop, "search", 3.0, caller)
    assert (change.before, change.after) == (0.0, 3.0)
    telemetry = shop.advance(100)
    rows = telemetry.calls.rows[telemetry.calls.rows["target"] == telemetry.calls.names.index("search")]
    assert (rows["status"] == 200).sum() == pytest.approx(300, rel=0.1)
    assert (rows["status"] == 429).sum() > 500
    assert rows["duration_seconds"][rows["status"] == 429].max() < 0.01
    assert limit(shop, "search", 0.0, caller).before == 3.0
    assert (shop.advance(60).calls.rows["status"] != 429)[-1000:].all()


def test_the_autoscaler_follows_the_use_of_cores() -> None:
    shop = Shop(replace(QUIET, autoscale=True), START, [Fault("traffic_surge", "gateway", "large", 30, 300)])
    shop.advance(30)
    assert len(shop.replicas("recommend")) == 2
    shop.advance(200)
    assert len(shop.replicas("recommend")) > 3
    assert len(shop.replicas("postgres")) == 1
    shop.advance(2400)
    assert len(shop.replicas("recommend")) in (2, 3)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda shop: scale(shop, "nobody", 3), "unknown_service"),
        (lambda shop: restart(shop, "nobody"), "unknown_service"),
        (lambda shop: roll_back(shop, "web"), "unknown_service"), (lambda shop: scale(shop, "cart", 9), "bad_replicas"),
        (lambda shop: scale(shop, "cart", 0), "bad_replicas"), (lambda shop: limit(shop, "cart", -1.0), "bad_limit"),
        (lambda shop: limit(shop, "cart", 5.0, "search"), "unknown_edge"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(action: object, reason: str) -> None:
    with pytest.raises(BadInputError) as error:
        action(Shop(QUIET, START))  # type: ignore[operator]
    assert error.value.reason == reason
