"""Everything at a glance: the strip of all entities, and who calls whom."""

from __future__ import annotations

from msgspec import Struct

from foreshock.api.answers.words import Number, StatusName


class StripRow(Struct):
    """An entity over the last minutes.

    `ratio` = the greatest score ÷ bar of each minute, `status` of each minute (null = nothing came), `alarmed` =
    minutes (places in the lists) over the level of an alarm.
    """

    entity: str
    labels: dict[str, str]
    status: StatusName
    ratio: list[Number]
    minutes: list[StatusName | None]
    alarmed: list[int]


class StripView(Struct):
    """All entities over the last minutes; the last column is the minute that begins at `last_unix_seconds`."""

    last_unix_seconds: float
    minutes: int
    rows: list[StripRow]


class MapNode(Struct):
    """A service, by its last fingerprint; `outside` = it calls, and nobody calls it."""

    name: str
    entity: str | None
    outside: bool
    status: StatusName
    rate: Number
    error_ratio: Number
    p95_seconds: Number


class MapEdge(Struct):
    """Calls from one service to another, by the last fingerprint."""

    client: str
    server: str
    entity: str
    rate: Number
    error_ratio: Number
    p95_seconds: Number


class ServiceMap(Struct):
    """Who calls whom."""

    nodes: list[MapNode]
    edges: list[MapEdge]
