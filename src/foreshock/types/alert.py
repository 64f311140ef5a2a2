"""Alerts and their episodes, in Alertmanager's words and JSON."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from foreshock.types.series import Labels, label_text

_FNV_OFFSET, _FNV_PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, 0xFFFFFFFFFFFFFFFF


def fingerprint(pairs: Labels) -> str:
    """Alertmanager's fingerprint: FNV-1a 64 over the sorted labels, as in prometheus/common.

    >>> fingerprint(())
    'cbf29ce484222325'
    """
    value = _FNV_OFFSET
    for pair in sorted(pairs):
        for text in pair:
            for byte in (*text.encode(), 255):
                value = ((value ^ byte) * _FNV_PRIME) & _MASK
    return f"{value:016x}"


def rfc3339(time_unix_nano: int) -> str:
    """A time as Alertmanager writes it, in UTC with nanoseconds only where there are some.

    >>> rfc3339(1_640_000_000_500_000_000)
    '2021-12-20T11:33:20.5Z'
    """
    seconds, nanos = divmod(time_unix_nano, 1_000_000_000)
    base = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{base}{fraction}Z"


def digest(*parts: str) -> str:
    """A durable 128-bit id of canonical text parts, in hex."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


class AlertKind(StrEnum):
    """What raised an alert: the budgeted alarm, a limit that a user wrote, a source or entity gone silent, or, milder,
    a slow change or a shape not seen before."""

    ANOMALY = "anomaly"
    THRESHOLD = "threshold"
    SILENCE = "silence"
    CHANGE = "change"
    WATCHDOG = "watchdog"


@dataclass(frozen=True, slots=True)
class Alert:
    """One state of one episode: firing (`ends_unix_nano is None`) or resolved.

    `labels` are the identity, `annotations` everything else. `strength` = how far over its level, in natural
    logarithms. `decided_unix_nano` orders alerts across entities. `notified` is set by the environment's budget;
    an alert that does not notify stays visible. `group` is the incident-to-be it belongs to.
    """

    labels: Labels
    annotations: Labels
    starts_unix_nano: int
    decided_unix_nano: int
    kind: AlertKind = AlertKind.ANOMALY
    strength: float = 0.0
    ends_unix_nano: int | None = None
    notified: bool | None = None
    group: str = ""

    @property
    def key(self) -> str:
        """Canonical text of the labels: the same for every episode of this alert."""
        return label_text(self.labels)

    @property
    def episode(self) -> str:
        """Id of the episode: hash of (key, startsAt)."""
        return digest(self.key, str(self.starts_unix_nano))

    @property
    def status(self) -> str:
        """`firing` or `resolved`."""
        return "firing" if self.ends_unix_nano is None else "resolved"

    def with_verdict(self, notified: bool, group: str) -> Alert:
        """The alert as the environment decided on it."""
        return replace(self, notified=notified, group=group)

    def to_json(self) -> dict[str, Any]:
        """Alertmanager's v2 JSON, with what Foreshock adds under `foreshock`."""
        return {
            "status": self.status,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "startsAt": rfc3339(self.starts_unix_nano),
            "endsAt": rfc3339(self.ends_unix_nano) if self.ends_unix_nano is not None else "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": fingerprint(self.labels),
            "foreshock": {
                "episode": self.episode,
                "kind": str(self.kind),
                "strength": round(self.strength, 9),
                "notified": self.notified,
                "group": self.group,
                "decidedAt": rfc3339(self.decided_unix_nano),
            },
        }
