"""Whether the process lives and keeps up, and what an error says."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class Problem(Struct):
    """An error, as RFC 9457 describes them."""

    type: str
    title: str
    status: int
    detail: str
    reason: str | UnsetType = UNSET
    reasons: list[str] | UnsetType = UNSET


class Alive(Struct):
    """The process lives."""

    status: str
    version: str
    uptime_seconds: float


class Ready(Struct):
    """It takes in data and keeps up."""

    status: str


class ActuatorHealth(Struct):
    """Health in the words of Spring Boot."""

    status: Literal["UP", "DOWN"]


class Runtime(Struct):
    """The runtime in numbers; further keys may stand beside these."""

    version: str
    time: str
    not_ready: list[str]
    views: dict[str, int]
    sources: list[dict[str, Any]]


class Accepted(Struct):
    """What became of a body: samples taken, dropped by reason, and what was guessed."""

    accepted: int
    dropped: dict[str, int]
    notes: list[str]
