"""How alerts meet the truth."""

from __future__ import annotations

import math

from foreshock.shop.faults import Fault, Truth, suffering
from foreshock.shop.judge import RECOVERY_SECONDS, about_shop, judge, services_of, touched
from foreshock.types import Alert, labels

NANO = 1_000_000_000
SINCE, UNTIL = 1000 * NANO, 1120 * NANO


def truth(kind: str = "error_spike", service: str = "payment") -> Truth:
    fault = Fault(kind, service)  # type: ignore[arg-type]
    return Truth(fault.kind, service, "errors", "large", SINCE, UNTIL, suffering(fault))


def alert(at: float, feature: str = "calls.error_ratio", notified: bool = True, top: str = "", **own: str) -> Alert:
    notes = (("contributions", top),) if top else ()
    start = round(at * NANO)
    return Alert(labels({"feature": feature, **own}), notes, start, start + 5 * NANO, notified=notified)


def judged(*alerts: Alert, of: Truth | None = None) -> tuple[list[object], list[Alert]]:
    found, rest = judge([of or truth()], alerts, {one.episode: one.decided_unix_nano for one in alerts})
    return list(found), rest


def test_the_first_alert_about_the_true_service_is_shown() -> None:
    found, rest = judge(
        [truth()],
        alerts := [
            alert(1000, "calls.duration.p95", server="payment", client="checkout"),
            alert(1005, service_name="payment"),
        ],
        {one.episode: one.decided_unix_nano for one in alerts},
    )
    one = found[0]
    assert (one.found, one.right_service, one.service, one.feature) == (True, True, "payment", "calls.duration.p95")
    assert one.delay_seconds == 5.0
    assert one.right_feature, "the second alert names it"
    assert rest == []


def test_nothing_noticed_is_not_found() -> None:
    found, _ = judge([truth()], [], {})
    assert not found[0].found
    assert not found[0].right_service
    assert not found[0].right_feature
    assert math.isnan(found[0].delay_seconds)


def test_only_a_caller_was_named() -> None:
    one = alert(1030, service_name="gateway", notified=False)
    found, _ = judge([truth()], [one], {one.episode: one.decided_unix_nano})
    assert (found[0].found, found[0].right_service, found[0].service, found[0].notified) == (
        True,
        False,
        "gateway",
        False,
    )
    assert not found[0].right_feature, "what the fault moves has to be seen at its own service"


def test_what_is_elsewhere_or_at_another_time_belongs_to_nothing() -> None:
    early = alert(990, service_name="payment")
    late = alert(1120 + RECOVERY_SECONDS, service_name="payment")
    other = alert(1010, service_name="cart")
    host = alert(1010, "system.cpu.utilization", host_name="a1")
    found, rest = judged(early, late, other, host)
    assert rest == [early, other, host, late]
    assert [about_shop(one) for one in rest] == [True, True, False, True]
    assert not found[0].found  # type: ignore[attr-defined]


def test_a_window_that_holds_the_start_counts() -> None:
    found, rest = judged(alert(997, service_name="payment"))
    assert rest == []
    assert found[0].delay_seconds == 2.0  # type: ignore[attr-defined]


def test_contributions_and_the_whole_shop_count() -> None:
    top = "calls.rate=60 %, calls.error_ratio=30 %"
    found, rest = judged(
        alert(1000, "calls.rate", top=top, service_name="payment"), alert(1001, deployment_environment_name="default")
    )
    assert rest == []
    assert found[0].right_feature  # type: ignore[attr-defined]


def test_services_that_have_less_to_do_are_touched() -> None:
    assert touched(truth()) == {"payment", "checkout", "gateway", "inventory", "shipping", "postgres"}
    assert services_of(alert(0, client="web", server="gateway")) == ("gateway", "web")


def test_what_is_said_without_the_fault_too_is_no_finding() -> None:
    rotated = alert(1010, "container.filesystem.usage", service_name="payment")
    failing = alert(1020, service_name="payment")
    alerts = [rotated, failing]
    decided = {one.episode: one.decided_unix_nano for one in alerts}
    same = alert(1015, "container.filesystem.usage", service_name="payment")
    found, rest = judge([truth()], alerts, decided, [same])
    assert found[0].alerts == (failing,)
    assert rest == [rotated]
    another_day = alert(400, "container.filesystem.usage", service_name="payment")
    found, rest = judge([truth()], alerts, decided, [another_day])
    assert found[0].alerts == (rotated, failing)
