"""Stretches of series for charts, as the store keeps them: packed, one row each."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import sqlite

from foreshock.adapters.sql.engine import Database
from foreshock.adapters.sql.schema import SERIES, STRETCH
from foreshock.types import Kind, Labels, Series

CHUNK_ROWS = 1000
"""The most rows that one transaction of a clean-up deletes."""
_VARIABLES = 500
# One of fewer rows is of a log whose beginning is gone: what was made of all of it stays.
_PUT = (
    "INSERT INTO stretch (series, seconds, start_unix_nano, end_unix_nano, rows, data) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (series, seconds, start_unix_nano) DO UPDATE SET end_unix_nano = excluded.end_unix_nano, "
    "rows = excluded.rows, data = excluded.data WHERE excluded.rows >= stretch.rows"
)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, Labels, Labels, str, str]).decode


class Packed(NamedTuple):
    """A stretch [start, end) of a series: buckets of `seconds` (0 = points) made of `rows` aligned rows, as bytes."""

    series: Series
    seconds: int
    start_unix_nano: int
    end_unix_nano: int
    rows: int
    data: bytes


class Stretches:
    """The part of a store that keeps stretches; safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # The numbers of series; held while they are used, so that none is deleted halfway.
        self._naming = threading.Lock()
        self._ids: dict[tuple[str, str], int] = {}

    def put(self, packed: Sequence[Packed]) -> None:
        """Keep these, all or nothing; one that is there already is replaced where the new one has as many rows."""
        if not packed:
            return
        with self._naming:
            with self._database.writing() as connection:
                known = self._number(connection, packed)
                ids = self._ids | known if known else self._ids
                rows = [(ids[one.series.entity_text, one.series.feature], *one[1:]) for one in packed]
                connection.exec_driver_sql(_PUT, rows)
            self._ids |= known

    def _number(self, connection: Connection, packed: Iterable[Packed]) -> dict[tuple[str, str], int]:
        new = {(one.series.entity_text, one.series.feature): one.series for one in packed}
        new = {names: series for names, series in new.items() if names not in self._ids}
        known: dict[tuple[str, str], int] = {}
        if new:
            values = [{"entity": e, "feature": f, "json": _text(series)} for (e, f), series in new.items()]
            connection.execute(sqlite.insert(SERIES).on_conflict_do_nothing(), values)
            entities = sorted({entity for entity, _ in new})
            for at in range(0, len(entities), _VARIABLES):
                query = select(SERIES.c.id, SERIES.c.entity, SERIES.c.feature)
                query = query.where(SERIES.c.entity.in_(entities[at : at + _VARIABLES]))
                known |= {(row.entity, row.feature): row.id for row in connection.execute(query)}
        return known

    def series(self, entity: str, feature: str) -> Series | None:
        """A series of which something is kept, by the canonical text of its entity and its feature."""
        query = select(SERIES.c.json).where(SERIES.c.entity == entity, SERIES.c.feature == feature)
        with self._database.reading() as connection:
            found = connection.execute(query).scalar()
        if found is None:
            return None
        name, labels, attributes, unit, kind = _decode(found)
        return Series(name, labels, attributes, unit, Kind(kind))

    def read(
        self, entity: str, feature: str, seconds: int, since_unix_nano: int, until_unix_nano: int, limit: int = -1
    ) -> list[bytes]:
        """The stretches of a series that have something in [since, until), the oldest first, at most `limit`."""
        number = select(SERIES.c.id).where(SERIES.c.entity == entity, SERIES.c.feature == feature).scalar_subquery()
        query = select(STRETCH.c.data).where(
            STRETCH.c.series == number, STRETCH.c.seconds == seconds, STRETCH.c.start_unix_nano < until_unix_nano,
            STRETCH.c.end_unix_nano > since_unix_nano,
        )  # fmt: skip
        with self._database.reading() as connection:
            return list(connection.execute(query.order_by(STRETCH.c.start_unix_nano).limit(limit)).scalars())

    def expire(self, before_unix_nano: Mapping[int, int]) -> int:
        """Delete stretches that ended before these times, by the seconds of their buckets, in chunks.

        Series of which nothing is left go too. The number of rows deleted.
        """
        total = 0
        for seconds, before in before_unix_nano.items():
            old = (STRETCH.c.seconds == seconds, STRETCH.c.start_unix_nano < before, STRETCH.c.end_unix_nano <= before)
            key = (STRETCH.c.series, STRETCH.c.seconds, STRETCH.c.start_unix_nano)
            while True:
                with self._database.reading() as connection:
                    found = connection.execute(select(*key).where(*old).limit(CHUNK_ROWS)).all()
                total += self._delete([tuple(row) for row in found])
                if len(found) < CHUNK_ROWS:
                    break
        return total + self._drop_empty()

    def _delete(self, keys: Sequence[tuple[int, int, int]]) -> int:
        if not keys:
            return 0
        statement = "DELETE FROM stretch WHERE series = ? AND seconds = ? AND start_unix_nano = ?"
        with self._database.writing() as connection:
            connection.exec_driver_sql(statement, list(keys))
        return len(keys)

    def _drop_empty(self) -> int:
        kept = select(STRETCH.c.series).where(STRETCH.c.series == SERIES.c.id).exists()
        with self._naming, self._database.writing() as connection:
            gone = connection.execute(select(SERIES.c.id).where(~kept).limit(CHUNK_ROWS)).scalars().all()
            for at in range(0, len(gone), _VARIABLES):
                connection.execute(delete(SERIES).where(SERIES.c.id.in_(gone[at : at + _VARIABLES])))
            numbers = set(gone)
            self._ids = {names: number for names, number in self._ids.items() if number not in numbers}
        return len(gone)

    def forget(self, entity: str) -> int:
        """Delete all that is kept of an entity (canonical text); the number of rows deleted."""
        total = 0
        with self._database.reading() as connection:
            series = connection.execute(select(SERIES.c.id).where(SERIES.c.entity == entity)).scalars().all()
        for number in series:
            while True:
                with self._database.reading() as connection:
                    key = select(STRETCH.c.series, STRETCH.c.seconds, STRETCH.c.start_unix_nano)
                    found = connection.execute(key.where(STRETCH.c.series == number).limit(CHUNK_ROWS)).all()
                total += self._delete([tuple(row) for row in found])
                if len(found) < CHUNK_ROWS:
                    break
        with self._naming, self._database.writing() as connection:
            total += connection.execute(delete(SERIES).where(SERIES.c.entity == entity)).rowcount
            self._ids = {names: number for names, number in self._ids.items() if names[0] != entity}
        return total


def _text(series: Series) -> str:
    parts = (series.name, series.entity, series.attributes, series.unit, str(series.kind))
    return _encode(parts).decode()
