"""How alerts meet the truth: which faults were found, when, and by what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from foreshock.shop.faults import Feature, Truth
from foreshock.shop.topology import SHOP, Topology
from foreshock.types import Alert

NANO = 1_000_000_000

RECOVERY_SECONDS = 180.0
"""After a fault the shop is still unlike itself for so long: queues empty, replicas start again."""
COINCIDENCE_SECONDS = 60.0
"""An alert that the shop without the fault raises as well, with the same labels and so close in time, is no finding."""

FEATURES: dict[Feature, tuple[str, ...]] = {
    "errors": ("calls.error_ratio", "calls.status_ratio*", "calls.no_answer_ratio"),
    "latency": ("calls.duration.*", "service.queue.length", "http.server.active_requests"),
    "cpu": ("container.cpu.*",),
    "memory": ("container.memory.*", "service.restarts"),
    "availability": ("service.replicas.ready", "service.restarts", "calls.no_answer_ratio", "calls.error_ratio",
                     "calls.status_ratio*", "calls.rate"),
    "traffic": ("calls.rate", "calls.endpoint.rate*", "http.server.active_requests"),
    "disk": ("container.filesystem.*",),
    "pool": ("db.client.connections.*",),
}  # fmt: skip
"""What a family of features is called in telemetry: an alert that names one names what the fault moves first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a fault.

    `alerts` are the episodes that belong to it, the first decided first; `delay_seconds` from its start to the first
    decision. `service` and `feature` are named by the first alert about the true service, or, where there is none, by
    the first of all; "" = nothing was noticed. `right_feature`: an alert about the true service names, as its feature
    or among what contributes most, what the fault moves first.
    """

    truth: Truth
    alerts: tuple[Alert, ...] = ()
    delay_seconds: float = float("nan")
    service: str = ""
    feature: str = ""
    right_feature: bool = False

    @property
    def found(self) -> bool:
        """Whether anything was noticed."""
        return bool(self.alerts)

    @property
    def right_service(self) -> bool:
        """Whether the true service is among those that were named."""
        return self.service == self.truth.service

    @property
    def notified(self) -> bool:
        """Whether somebody was told."""
        return any(alert.notified for alert in self.alerts)


def judge(
    truths: Sequence[Truth], alerts: Iterable[Alert], decided: Mapping[str, int], ordinary: Iterable[Alert] = ()
) -> tuple[list[Finding], list[Alert]]:
    """The finding of each fault, and the alerts that belong to none; `decided` = episode → when it was first decided.

    An alert belongs to a fault if it is decided after the fault's start, starts no later than `RECOVERY_SECONDS` after
    its end, and is about one of `touched`, a call to or from one of them, or the shop as a whole. `alerts` hold each
    episode once. `ordinary` = alerts of the same shop, of the same seed, in which nothing broke: what they say too was
    not found by the fault.
    """
    episodes = sorted(alerts, key=lambda alert: (decided[alert.episode], alert.key))
    anyway: dict[str, list[int]] = {}
    for alert in ordinary:
        anyway.setdefault(alert.key, []).append(alert.starts_unix_nano)
    findings: list[Finding] = []
    taken: set[str] = set()
    for truth in truths:
        mine = tuple(
            alert
            for alert in episodes
            if _belongs(alert, decided[alert.episode], truth) and not _coincides(alert, anyway.get(alert.key, ()))
        )
        taken |= {alert.episode for alert in mine}
        findings.append(_finding(truth, mine, decided))
    return findings, [alert for alert in episodes if alert.episode not in taken]


@cache
def touched(truth: Truth, topology: Topology = SHOP) -> frozenset[str]:
    """Services that a fault reaches: its own, those that feel it, and those that have less or more to do because of it.

    >>> from foreshock.shop.faults import Truth
    >>> sorted(touched(Truth("crash", "payment", "availability", "large", 0, 1, SHOP.upstream("payment"))))
    ['checkout', 'gateway', 'inventory', 'payment', 'postgres', 'shipping']
    """
    through = [truth.service, *(one for one in truth.suffers if one != topology.entry)]
    return frozenset(
        (truth.service, *truth.suffers, *(callee for one in through for callee in topology.downstream(one)))
    )


def services_of(alert: Alert) -> tuple[str, ...]:
    """The services that an alert names: its own, or both ends of calls; none for an alert about something else."""
    labels = dict(alert.labels)
    return tuple(labels[name] for name in ("service_name", "server", "client") if name in labels)


def about_shop(alert: Alert) -> bool:
    """Whether an alert is about the shop, and not about the machine or about Foreshock."""
    return bool(services_of(alert)) or "deployment_environment_name" in dict(alert.labels)


def _belongs(alert: Alert, decided: int, truth: Truth) -> bool:
    until = truth.until_unix_nano + round(RECOVERY_SECONDS * NANO)
    # A window that holds the start of a fault begins before it.
    if decided <= truth.since_unix_nano or alert.starts_unix_nano >= until:
        return False
    named = services_of(alert)
    return not touched(truth).isdisjoint(named) if named else about_shop(alert)


def _coincides(alert: Alert, starts: Iterable[int]) -> bool:
    return any(abs(alert.starts_unix_nano - start) <= COINCIDENCE_SECONDS * NANO for start in starts)


def _finding(truth: Truth, alerts: tuple[Alert, ...], decided: Mapping[str, int]) -> Finding:
    if not alerts:
        return Finding(truth)
    right = [alert for alert in alerts if truth.service in services_of(alert)]
    shown = (right or alerts)[0]
    named = services_of(shown)
    return Finding(
        truth,
        alerts,
        (decided[alerts[0].episode] - truth.since_unix_nano) / 1e9,
        truth.service if right else (named[0] if named else ""),
        _feature(shown),
        any(_names(alert, FEATURES[truth.feature]) for alert in right),
    )


def _feature(alert: Alert) -> str:
    return dict(alert.labels).get("feature", "")


def _names(alert: Alert, globs: tuple[str, ...]) -> bool:
    """Whether an alert names one of these features; a contribution is written `name=12 %`."""
    contributions = dict(alert.annotations).get("contributions", "")
    named = [_feature(alert), *(part.rpartition("=")[0] for part in contributions.split(", "))]
    return any(fnmatchcase(one, glob) for one in named for glob in globs)
