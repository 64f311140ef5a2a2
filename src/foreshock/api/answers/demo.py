"""The demo's shop: what can break, and what did."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from foreshock.api.answers.words import Number


class FaultKindState(Struct):
    """A kind of fault, and the services that can have it."""

    kind: str
    words: str
    feature: str
    services: list[str]
    usual: list[str]
    duration_seconds: float


class FaultState(Struct):
    """What was broken: `[start, end)`; where it was noticed, when, and by which alert."""

    kind: str
    service: str
    magnitude: Literal["small", "large"]
    start: str
    end: str
    running: bool
    noticed: bool
    delay_seconds: Number
    found_service: str | None
    episode: str | None


class Faults(Struct):
    """The shop of the demo: what can break, and what did; the latest first."""

    kinds: list[FaultKindState]
    services: list[str]
    faults: list[FaultState]


class FaultRequest(Struct, forbid_unknown_fields=True):
    """Something to break now; `duration_seconds` 0 = as is usual for its kind."""

    kind: str
    service: str
    magnitude: Literal["small", "large"] = "large"
    duration_seconds: float = 0.0


class Healed(Struct):
    """How many faults were ended."""

    ended: int
