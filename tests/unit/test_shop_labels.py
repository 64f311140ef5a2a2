"""The shop's truth as labels in its data."""

from __future__ import annotations

import msgspec

from foreshock.shop.faults import Truth
from foreshock.shop.judge import NANO, RECOVERY_SECONDS
from foreshock.shop.labels import all_well, broken
from foreshock.shop.topology import SHOP
from foreshock.types import Control, ControlKind
from foreshock.types.record import CONTROL
from tests.unit.test_shop_source import BEGIN, play


def test_a_fault_is_labelled_where_it_is_felt_until_the_shop_has_recovered() -> None:
    truth = Truth("crash", "payment", "availability", "large", 5 * NANO, 60 * NANO, SHOP.upstream("payment"))
    found = list(broken(truth, "prod"))
    assert {one.label for one in found} == {"true"}
    assert {(one.effective_unix_nano, one.until_unix_nano) for one in found} == {
        (5 * NANO, 60 * NANO + round(RECOVERY_SECONDS * NANO))
    }
    named = [pair for one in found for pair in one.matchers.items()]
    assert ("deployment.environment.name", "prod") in named
    for name in ("service.name", "client", "server"):
        services = {value for key, value in named if key == name}
        assert {"payment", "checkout", "gateway"} <= services
        assert "search" not in services
    assert len({one.id for one in found}) == len(found)


def test_all_is_well_with_every_service_unless_something_else_is_said() -> None:
    found = list(all_well(7, "prod"))
    assert {(one.label, one.effective_unix_nano, one.until_unix_nano) for one in found} == {("false", 7, 0)}
    assert {one.matchers.get("server") for one in found} - {None} == set(SHOP.names)
    assert not any(one.matchers == {} for one in found), "the machine beside the shop is not labelled"


def test_the_source_says_what_is_broken_when_it_breaks_and_nothing_unless_asked() -> None:
    fault = {"kind": "crash", "service": "payment", "after": 4, "duration": 30}
    assert all(record.content_type != CONTROL for record in play(8.0, faults=[fault])[1])
    _, records = play(8.0, faults=[fault], labels=True)
    said = [
        (at, msgspec.json.decode(record.payload, type=Control))
        for at, record in enumerate(records)
        if record.content_type == CONTROL
    ]
    assert {one.kind for _, one in said} == {ControlKind.LABEL}
    first = [at for at, one in said if one.label == "false"]
    assert first == list(range(len(first))), "before anything else"
    true = [(at, one) for at, one in said if one.label == "true"]
    assert {one.effective_unix_nano for _, one in true} == {BEGIN + 4 * NANO}
    assert min(at for at, _ in true) > 3 + len(first)
