"""Entities, their series, and what detectors found in them."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from foreshock.api.answers.words import Number, StatusName


class EntityState(Struct):
    """How an entity stands: its last row, and the greatest strength in it, ln(score / bar).

    `p_value` is of all primary detectors and features together: it ranks entities.
    """

    entity: str
    labels: dict[str, str]
    last_seen: str
    status: StatusName
    series: int
    strength: Number
    p_value: Number


class Entities(Struct):
    """A page of entities."""

    entities: list[EntityState]
    next: str | None


class Points(Struct):
    """Parallel lists, oldest first."""

    time_unix_seconds: list[float]
    value: list[Number]
    expected: list[Number]
    low: list[Number]
    high: list[Number]
    score: list[Number]
    p_value: list[Number]
    strength: list[Number]
    anomalous: list[bool]
    status: list[StatusName]


class LastVerdict(Struct):
    """The last thing that one detector said of a series."""

    role: Literal["primary", "shadow"]
    time_unix_seconds: float
    expected: Number
    low: Number
    high: Number
    score: Number
    p_value: Number
    strength: Number
    anomalous: bool
    status: StatusName


class SeriesState(Struct):
    """A series; its points, and the last verdict of each detector, when they are asked for."""

    entity: str
    feature: str
    name: str
    attributes: dict[str, str]
    unit: str
    kind: Literal["gauge", "counter"]
    points: Points | UnsetType = UNSET
    detectors: dict[str, LastVerdict] | UnsetType = UNSET


class SeriesPage(Struct):
    """A page of series; `not_viewed` are judged, but not shown."""

    series: list[SeriesState]
    next: str | None
    not_viewed: int


class Share(Struct):
    """A feature's share of a score."""

    feature: str
    share: float


class Finding(Struct):
    """What a detector found anomalous, and what would have been normal, as a sentence.

    `feature` is empty where it judges entities as a whole. `ratio` = score ÷ bar, `strength` its logarithm.
    """

    time: str
    time_unix_nano: int
    entity: str
    feature: str
    detector: str
    role: Literal["primary", "shadow"]
    value: Number
    score: Number
    p_value: Number
    strength: Number
    expected: Number
    low: Number
    high: Number
    unit: str
    ratio: Number
    contributions: list[Share]
    normal: str


class Findings(Struct):
    """What was found, the newest first; `more` = there are earlier ones."""

    verdicts: list[Finding]
    more: bool
