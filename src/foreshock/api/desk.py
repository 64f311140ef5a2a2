"""The demo's shop, for the page: what can break, what is broken, and whether it was noticed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from foreshock.api import answers
from foreshock.errors import BadInputError, ConfigError, RetryableError
from foreshock.ports import Clock
from foreshock.shop.faults import CATALOGUE, KINDS, MAGNITUDES, Fault, FaultKind, Truth, check
from foreshock.shop.judge import judge
from foreshock.shop.topology import SHOP
from foreshock.types import Alert, rfc3339

LONGEST_SECONDS = 3600.0
MOST_FAULTS = 20
MOST_BEHIND_SECONDS = 15.0
"""What broke in the past would be over before anybody saw it."""


class Shop(Protocol):
    """What can be broken: the simulated shop, or one of real services."""

    @property
    def now_unix_nano(self) -> int:
        """Up to where things have happened; 0 before it is open."""
        ...

    def truth(self) -> tuple[Truth, ...]:
        """What was, is and will be broken."""
        ...

    def inject(self, fault: Fault) -> Truth:
        """Break something now; ConfigError or BadInputError where it cannot be, RetryableError where not now."""
        ...

    def heal(self) -> int:
        """End every fault that is in force now; how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """Breaks things in a shop; `said` and `decided` are the alerts of this run and when they were decided."""

    shop: Shop
    clock: Clock
    said: Callable[[], Mapping[str, Alert]]
    decided: Callable[[], Mapping[str, int]]

    def faults(self) -> answers.Faults:
        """What can break, and what did."""
        now = self.clock.now_unix_nano()
        truths = [one for one in self.shop.truth() if one.since_unix_nano <= now][-MOST_FAULTS:]
        decided = dict(self.decided())
        alerts = [alert for episode, alert in dict(self.said()).items() if episode in decided]
        found, _ = judge(truths, alerts, decided)
        states = [
            answers.FaultState(
                one.truth.kind,
                one.truth.service,
                one.truth.magnitude,
                rfc3339(one.truth.since_unix_nano),
                rfc3339(one.truth.until_unix_nano),
                now < one.truth.until_unix_nano,
                one.found,
                one.delay_seconds if one.found else None,
                one.service or None,
                _shown(one.alerts, one.service).episode if one.found else None,
            )
            for one in reversed(found)
        ]
        kinds = [
            answers.FaultKindState(
                kind, CATALOGUE[kind].words, CATALOGUE[kind].feature, _able(kind), list(CATALOGUE[kind].targets),
                CATALOGUE[kind].duration_seconds,
            )
            for kind in KINDS
        ]  # fmt: skip
        return answers.Faults(kinds, list(SHOP.names), states)

    def break_(self, asked: answers.FaultRequest) -> answers.FaultState:
        """Break something now; BadInputError where it cannot be, RetryableError while the shop is not open yet."""
        if asked.magnitude not in MAGNITUDES or not 0 <= asked.duration_seconds <= LONGEST_SECONDS:
            raise BadInputError("bad_fault", f"a fault lasts from 0 to {LONGEST_SECONDS:g} s")
        behind = (self.clock.now_unix_nano() - self.shop.now_unix_nano) / 1e9
        if self.shop.now_unix_nano and behind > MOST_BEHIND_SECONDS:
            raise RetryableError(f"the shop is {behind:.0f} s behind and catches up; try again in a moment")
        kind = cast("FaultKind", asked.kind)
        try:
            truth = self.shop.inject(
                Fault(kind, asked.service, asked.magnitude, duration_seconds=asked.duration_seconds)
            )
        except ConfigError as error:
            raise BadInputError("bad_fault", error.message) from error
        start, end = rfc3339(truth.since_unix_nano), rfc3339(truth.until_unix_nano)
        return answers.FaultState(truth.kind, truth.service, truth.magnitude, start, end, True, False, None, None, None)

    def heal(self) -> answers.Healed:
        """End every fault that is in force."""
        return answers.Healed(self.shop.heal())


def _able(kind: FaultKind) -> list[str]:
    """The services that can have a kind of fault."""
    out = []
    for service in SHOP.names:
        try:
            check(Fault(kind, service))
        except ConfigError:
            continue
        out.append(service)
    return out


def _shown(alerts: tuple[Alert, ...], service: str) -> Alert:
    """The alert about the service that was named, else the first."""
    labels = (dict(alert.labels) for alert in alerts)
    mine = (alert for alert, own in zip(alerts, labels, strict=True) if own.get("service_name") == service)
    return next(mine, alerts[0])
