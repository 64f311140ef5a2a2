"""What comes in, and what of it was not used."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from foreshock.api.answers.words import Number


class DroppedOfSource(Struct):
    """Samples of one source that were not used since the start, and why."""

    reason: str
    count: int


class SourceState(Struct):
    """A source: what it brings, how late, and what of it was not used.

    `behind_seconds` = how old its newest sample is, `silent_seconds` since it last sent; half of its last 256 records
    were `delay_p50_seconds` late at most, 99 of 100 `delay_p99_seconds`, from the time of their oldest sample to their
    receipt; samples that come more than `lateness_seconds` behind newer ones are too late. `pace` = samples in each
    minute of the last hour, the last one going on now.
    """

    name: str
    type: str
    state: Literal["live", "late", "silent", "waiting", "ended"]
    problem: str
    lateness_seconds: float
    records: int
    samples: int
    samples_per_second: float
    behind_seconds: Number
    silent_seconds: Number
    delay_p50_seconds: Number
    delay_p99_seconds: Number
    last_received: str | None
    pace: list[int]
    dropped: list[DroppedOfSource]


class DroppedFrom(Struct):
    """How many of these samples were a source's."""

    source: str
    count: int


class Dropped(Struct):
    """Samples that were not used since the start, why, and whose they were; the most first."""

    reason: str
    count: int
    says: str
    sources: list[DroppedFrom]


class Sources(Struct):
    """All sources, what was dropped of all together, and entities that have fallen silent."""

    sources: list[SourceState]
    dropped: list[Dropped]
