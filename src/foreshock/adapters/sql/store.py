"""The store of what Foreshock says: alerts, anomalous rows, control records, the position reached, the outbox.

Outputs, outbox and position of a commit are one transaction (CONTRACTS §1), so that after any crash they agree.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import sqlite

from foreshock.adapters.sql import rows as rows_
from foreshock.adapters.sql import write
from foreshock.adapters.sql.engine import Database
from foreshock.adapters.sql.schema import (
    ALERT,
    ALERT_EVENT,
    ALERT_LABEL,
    COMMIT,
    CONTROL,
    META,
    NAME,
    OUTBOX,
    OUTBOX_DEAD,
    VERDICT,
)
from foreshock.adapters.sql.stretches import Stretches
from foreshock.adapters.sql.text import parse_labels
from foreshock.errors import BadInputError, PermanentError
from foreshock.incident.words import safe_name
from foreshock.types import Alert, Control

CHUNK_ROWS = 1000
"""The most rows that one transaction of a clean-up deletes."""
_CHUNK_EPISODES = 50
_VARIABLES = 500
_FORGET_SECONDS = 60.0
_INSERT_VERDICTS = (
    "INSERT OR REPLACE INTO verdict (time_unix_nano, entity, feature, detector, "
    + ", ".join((*rows_.NUMBERS, "notes"))
    + ") VALUES ("
    + ", ".join("?" * (5 + len(rows_.NUMBERS)))
    + ")"
)


class Page(NamedTuple):
    """Alerts, newest first, and the cursor of the next page (None = that was all)."""

    alerts: list[Alert]
    cursor: str | None


class Told(NamedTuple):
    """An episode in short: when it began, and whether it was announced."""

    episode: str
    starts_unix_nano: int
    notified: bool


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sink has got: all events up to `seq` are out. `state` is the sink's own."""

    seq: int
    state: str = ""
    attempts: int = 0
    next_try_unix_nano: int = 0


@dataclass(frozen=True, slots=True)
class Dead:
    """An alert that a sink gave up, and why."""

    seq: int
    episode: str
    status: str
    reason: str
    at_unix_nano: int


class Store:
    """The relational store behind one address; safe to use from several threads.

    `url` as in SQLAlchemy (`sqlite:///data/foreshock.db`); the schema is created or migrated at once.
    `retention_seconds` is how long `expire` keeps what is over, `stretch_seconds` how long stretches of series whose
    buckets have so many seconds, where that is shorter. Every method may raise RetryableError (locked, disk full) or
    PermanentError (corrupt; the message says which file and what to do).
    """

    def __init__(
        self,
        url: str,
        retention_seconds: float = 30 * 86400.0,
        busy_timeout_seconds: float = 5.0,
        stretch_seconds: Mapping[int, float] | None = None,
    ) -> None:
        self.retention_seconds = retention_seconds
        self.stretch_seconds = dict(stretch_seconds or {})
        self._database = Database(url, busy_timeout_seconds)
        self.stretches = Stretches(self._database)
        # Names and their numbers; held over the whole of a commit, so that none is forgotten halfway.
        self._naming = threading.Lock()
        self._ids: dict[str, int] = {}

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    # Commit

    def commit(
        self,
        task: str,
        from_position: int,
        to_position: int,
        alerts: Sequence[Alert],
        verdict_rows: Mapping[str, Any] | None,
        controls: Sequence[Control],
    ) -> None:
        """Keep the outputs of the records in [from_position, to_position) and the position, all or nothing.

        A commit that is in already changes nothing. `verdict_rows` are columns of one length: `entity`, `feature`,
        `detector` (texts), `time_unix_nano int64[n]`, float64[n] for the rest of `rows.COLUMNS`, and `notes`, if any.
        Raises PermanentError if the run overlaps what is committed.
        """
        with self._naming:
            self._ids |= self._commit(task, from_position, to_position, alerts, verdict_rows, controls)

    def _commit(
        self,
        task: str,
        from_position: int,
        to_position: int,
        alerts: Sequence[Alert],
        verdict_rows: Mapping[str, Any] | None,
        controls: Sequence[Control],
    ) -> dict[str, int]:
        """The transaction of a commit; the names that it numbered, valid now that it is in."""
        with self._database.writing() as connection:
            done = write.committed(connection, task)
            if to_position <= done:
                return {}
            if from_position < done:
                raise PermanentError(
                    f"task {task}: a commit of {from_position} to {to_position} overlaps what is committed, {done}"
                )
            write.put_alerts(connection, [rows_.finite(alert) for alert in alerts])
            known = self._put_verdicts(connection, verdict_rows) if verdict_rows is not None else {}
            if controls:
                write.put(connection, CONTROL, [write.control_row(control) for control in controls])
            write.lengthen(connection, task, from_position, to_position)
        return known

    def committed(self, task: str) -> int:
        """The position up to which the outputs of `task` are in; 0 = nothing yet."""
        with self._database.reading() as connection:
            return write.committed(connection, task)

    def runs(self, task: str) -> list[tuple[int, int]]:
        """The runs [from, to) that `task` has consumed, in order."""
        query = select(COMMIT.c.from_position, COMMIT.c.to_position).where(COMMIT.c.task == task)
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(COMMIT.c.from_position)).all()
            return [(row.from_position, row.to_position) for row in found]

    def _put_verdicts(self, connection: Connection, columns: Mapping[str, Any]) -> dict[str, int]:
        wanted = set().union(*(columns[name] for name in rows_.TEXTS))
        new = sorted(wanted - self._ids.keys())
        known: dict[str, int] = {}
        if new:
            insert = sqlite.insert(NAME).on_conflict_do_nothing()
            connection.execute(insert, [{"text": text} for text in new])
            for at in range(0, len(new), _VARIABLES):
                query = select(NAME.c.text, NAME.c.id).where(NAME.c.text.in_(new[at : at + _VARIABLES]))
                known |= {row.text: row.id for row in connection.execute(query)}
        values = rows_.verdict_rows(columns, self._ids | known if known else self._ids)
        if values:
            connection.exec_driver_sql(_INSERT_VERDICTS, values)
        return known

    # Questions

    def alerts(
        self,
        limit: int = 100,
        status: str | None = None,
        since_unix_nano: int | None = None,
        entity: str | None = None,
        cursor: str | None = None,
        kind: str | None = None,
        text: str | None = None,
    ) -> Page:
        """Episodes, the latest start first.

        `status` is `firing` or `resolved`; `since_unix_nano` keeps those that fire still or ended at it or later;
        `entity` those that carry all of its labels (`{host.name="a1"}`); `kind` those of one kind; `text` those in
        whose labels or annotations it stands, large and small letters alike. Raises BadInputError for a bad cursor
        or entity.
        """
        found: list[ColumnElement[bool]] = []
        if status is not None:
            found.append(ALERT.c.status == status)
        if since_unix_nano is not None:
            found.append(or_(ALERT.c.ends_unix_nano.is_(None), ALERT.c.ends_unix_nano >= since_unix_nano))
        if entity is not None:
            found.append(_carries(entity))
        if kind is not None:
            found.append(ALERT.c.kind == kind)
        if text:
            notes = cast(ALERT.c.annotations, Text)
            found.append(or_(ALERT.c.key.icontains(text, autoescape=True), notes.icontains(text, autoescape=True)))
        if cursor is not None:
            found.append(tuple_(ALERT.c.starts_unix_nano, ALERT.c.episode) < _place(cursor))
        order = (ALERT.c.starts_unix_nano.desc(), ALERT.c.episode.desc())
        query = select(ALERT).where(*found).order_by(*order).limit(limit + 1)
        with self._database.reading() as connection:
            alerts = [rows_.alert_of(row) for row in connection.execute(query)]
        more = len(alerts) > limit
        alerts = alerts[:limit]
        return Page(alerts, f"{alerts[-1].starts_unix_nano}.{alerts[-1].episode}" if more and alerts else None)

    def alert(self, episode: str) -> Alert | None:
        """The latest state of an episode."""
        with self._database.reading() as connection:
            row = connection.execute(select(ALERT).where(ALERT.c.episode == episode)).one_or_none()
            return rows_.alert_of(row) if row is not None else None

    def verdicts(
        self,
        entity: str | None = None,
        feature: str | None = None,
        since_unix_nano: int = 0,
        until_unix_nano: int = (1 << 63) - 1,
        limit: int = 10_000,
        *,
        detector: str | None = None,
        newest: bool = False,
    ) -> dict[str, Any]:
        """Anomalous rows with time in [since, until), oldest first or `newest` first, at most `limit`.

        Columns as `commit` takes them. An entity, feature or detector that no row ever had has none.
        """
        names = {name: NAME.alias(name) for name in rows_.TEXTS}
        query = select(*(names[name].c.text.label(name) for name in rows_.TEXTS), VERDICT.c.time_unix_nano,
                       *(VERDICT.c[name] for name in rows_.NUMBERS), VERDICT.c.notes)  # fmt: skip
        for name, table in names.items():
            query = query.join(table, table.c.id == VERDICT.c[name])
        query = query.where(VERDICT.c.time_unix_nano >= since_unix_nano, VERDICT.c.time_unix_nano < until_unix_nano)
        for name, text in (("entity", entity), ("feature", feature), ("detector", detector)):
            if text is not None:
                query = query.where(VERDICT.c[name] == _number(text))
        first, *rest = VERDICT.c.time_unix_nano, VERDICT.c.entity, VERDICT.c.feature, VERDICT.c.detector
        order = (first.desc() if newest else first, *rest)
        with self._database.reading() as connection:
            return rows_.verdict_columns(connection.execute(query.order_by(*order).limit(limit)).all())

    def controls(self, since_unix_nano: int = 0, kind: str | None = None, limit: int = -1) -> list[Control]:
        """Control records that hold at `since_unix_nano` or later, in the order in which they take effect.

        `kind` keeps those of one kind, `limit` the last so many.
        """
        ends = CONTROL.c.until_unix_nano
        query = select(CONTROL.c.json).where(or_(ends == 0, ends > since_unix_nano))
        if kind is not None:
            query = query.where(CONTROL.c.kind == kind)
        query = query.order_by(CONTROL.c.effective_unix_nano.desc(), CONTROL.c.id.desc())
        if limit >= 0:
            query = query.limit(limit)
        with self._database.reading() as connection:
            found = connection.execute(query).scalars()
            return [msgspec.json.decode(text, type=Control) for text in found][::-1]

    def control(self, name: str) -> Control | None:
        """The control record of an id; None where there is none."""
        with self._database.reading() as connection:
            text = connection.execute(select(CONTROL.c.json).where(CONTROL.c.id == name)).scalar()
        return None if text is None else msgspec.json.decode(text, type=Control)

    def told(self, since_unix_nano: int, limit: int) -> list[Told]:
        """Episodes that began then or later, the latest first, at most `limit`; slow changes are left out."""
        columns = (ALERT.c.episode, ALERT.c.starts_unix_nano, ALERT.c.notified)
        query = select(*columns).where(ALERT.c.starts_unix_nano >= since_unix_nano, ALERT.c.kind != "change")
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(ALERT.c.starts_unix_nano.desc()).limit(limit)).all()
        return [Told(row.episode, row.starts_unix_nano, bool(row.notified)) for row in found]

    def labels(self, limit: int = 10_000) -> dict[str, str]:
        """The last opinion on each episode, of the last so many; what was taken back is left out.

        Labels of stretches of time name no episode and are not among them.
        """
        last = {one.episode: one.label for one in self.controls(kind="label", limit=limit)}
        return {episode: label for episode, label in last.items() if episode and label != "none"}

    def meta(self, name: str) -> str | None:
        """A note that `set_meta` made."""
        with self._database.reading() as connection:
            value: str | None = connection.execute(select(META.c.value).where(META.c.name == name)).scalar()
            return value

    def set_meta(self, name: str, value: str) -> None:
        """Note something about the store as a whole."""
        with self._database.writing() as connection:
            write.put(connection, META, [{"name": name, "value": value}])

    # Outbox

    def register(self, sink: str) -> Cursor:
        """The cursor of a sink; one that is new starts behind what is there now."""
        with self._database.writing() as connection:
            newest = connection.execute(select(func.max(ALERT_EVENT.c.seq))).scalar() or 0
            row = {"sink": sink, "seq": newest, "state": "", "attempts": 0, "next_try_unix_nano": 0}
            connection.execute(sqlite.insert(OUTBOX).on_conflict_do_nothing(), [row])
            found = connection.execute(select(OUTBOX).where(OUTBOX.c.sink == sink)).one()
            return Cursor(found.seq, found.state, found.attempts, found.next_try_unix_nano)

    def unregister(self, sink: str) -> None:
        """Forget a sink, so that it holds up no clean-up."""
        with self._database.writing() as connection:
            connection.execute(delete(OUTBOX).where(OUTBOX.c.sink == sink))

    def sinks(self) -> list[str]:
        """The sinks that have a cursor."""
        with self._database.reading() as connection:
            return list(connection.execute(select(OUTBOX.c.sink).order_by(OUTBOX.c.sink)).scalars())

    def events(self, after: int = 0, limit: int = 1000) -> list[tuple[int, Alert]]:
        """Transitions behind `after`, in order: (seq, alert as it was)."""
        query = select(ALERT_EVENT.c.seq, ALERT_EVENT.c.json).where(ALERT_EVENT.c.seq > after)
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(ALERT_EVENT.c.seq).limit(limit)).all()
            return [(row.seq, rows_.event_of(row.json)) for row in found]

    def last_event(self) -> int:
        """The `seq` of the latest transition; 0 = there was none."""
        with self._database.reading() as connection:
            return connection.execute(select(func.max(ALERT_EVENT.c.seq))).scalar() or 0

    def pending(self, sink: str) -> int:
        """How many events a sink has not taken yet."""
        at = select(OUTBOX.c.seq).where(OUTBOX.c.sink == sink).scalar_subquery()
        with self._database.reading() as connection:
            query = select(func.count()).select_from(ALERT_EVENT).where(ALERT_EVENT.c.seq > at)
            return connection.execute(query).scalar_one()

    def advance(self, sink: str, cursor: Cursor, dead: Sequence[Dead] = ()) -> None:
        """Move a sink's cursor and keep what it gave up, in one transaction."""
        with self._database.writing() as connection:
            moved = {
                "seq": cursor.seq,
                "state": cursor.state,
                "attempts": cursor.attempts,
                "next_try_unix_nano": cursor.next_try_unix_nano,
            }
            connection.execute(update(OUTBOX).where(OUTBOX.c.sink == sink).values(moved))
            if dead:
                values = [
                    {"sink": sink, "seq": one.seq, "episode": one.episode, "status": one.status, "reason": one.reason,
                     "at_unix_nano": one.at_unix_nano}
                    for one in dead
                ]  # fmt: skip
                write.put(connection, OUTBOX_DEAD, values)

    def dead(self, sink: str, limit: int = 1000) -> list[Dead]:
        """What a sink gave up, oldest first."""
        query = select(OUTBOX_DEAD).where(OUTBOX_DEAD.c.sink == sink).order_by(OUTBOX_DEAD.c.seq).limit(limit)
        with self._database.reading() as connection:
            return [
                Dead(row.seq, row.episode, row.status, row.reason, row.at_unix_nano)
                for row in connection.execute(query)
            ]

    # Clean-up

    def expire(self, now_unix_nano: int) -> int:
        """Delete what has been over for longer than the retention, in chunks; the number of rows deleted.

        An alert that fires, or that a sink has not taken yet, stays.
        """
        before = now_unix_nano - int(self.retention_seconds * 1e9)
        old = select(*VERDICT.primary_key.columns).where(VERDICT.c.time_unix_nano < before).limit(CHUNK_ROWS)
        gone = self._delete_chunks(VERDICT, old)
        dead = select(*OUTBOX_DEAD.primary_key.columns).where(OUTBOX_DEAD.c.at_unix_nano < before).limit(CHUNK_ROWS)
        gone += self._delete_chunks(OUTBOX_DEAD, dead)
        ends = CONTROL.c.until_unix_nano
        over = select(CONTROL.c.id).where(and_(ends > 0, ends < before)).limit(CHUNK_ROWS)
        gone += self._delete_chunks(CONTROL, over)
        waiting = select(func.coalesce(func.min(OUTBOX.c.seq), (1 << 62))).scalar_subquery()
        unsent = select(ALERT_EVENT.c.episode).where(ALERT_EVENT.c.seq > waiting)
        gone += self._delete_episodes(and_(ALERT.c.ends_unix_nano < before, ALERT.c.episode.not_in(unsent)))
        kept = {seconds: min(keep, self.retention_seconds) for seconds, keep in self.stretch_seconds.items()}
        return gone + self.stretches.expire({s: now_unix_nano - int(keep * 1e9) for s, keep in kept.items()})

    def forget(self, entity: str) -> int:
        """Delete all rows about an entity, its name too; the number of rows deleted."""
        gone = self.stretches.forget(entity) + self._delete_episodes(_carries(entity))
        with self._database.reading() as connection:
            number = connection.execute(select(NAME.c.id).where(NAME.c.text == entity)).scalar()
        if number is None:
            return gone
        gone += self._forget_verdicts(number)
        with self._naming, self._database.writing() as connection:
            connection.execute(delete(NAME).where(NAME.c.id == number))
            self._ids.pop(entity, None)
        return gone

    def _forget_verdicts(self, number: int) -> int:
        """Walk the table once, in its order, finding rows without the writer's lock and deleting them with it."""
        key = tuple(VERDICT.primary_key.columns)
        total, since = 0, 0
        while True:
            query = select(*key).where(VERDICT.c.entity == number, VERDICT.c.time_unix_nano >= since).order_by(*key)
            with self._database.reading(_FORGET_SECONDS) as connection:
                found = connection.execute(query.limit(CHUNK_ROWS)).all()
            if not found:
                return total
            with self._database.writing() as connection:
                for row in found:
                    same = (column == value for column, value in zip(key, row, strict=True))
                    total += connection.execute(delete(VERDICT).where(*same)).rowcount
            since = found[-1].time_unix_nano

    def _delete_chunks(self, table: Table, keys: Select[Any]) -> int:
        key = tuple_(*table.primary_key.columns)
        total = 0
        while True:
            with self._database.writing() as connection:
                gone = connection.execute(delete(table).where(key.in_(keys))).rowcount
            total += gone
            if gone < CHUNK_ROWS:
                return total

    def _delete_episodes(self, which: ColumnElement[bool]) -> int:
        total = 0
        while True:
            with self._database.writing() as connection:
                episodes = connection.execute(select(ALERT.c.episode).where(which).limit(_CHUNK_EPISODES)).scalars()
                chunk = list(episodes)
                for table in (ALERT_LABEL, ALERT_EVENT, ALERT):
                    total += connection.execute(delete(table).where(table.c.episode.in_(chunk))).rowcount
            if len(chunk) < _CHUNK_EPISODES:
                return total


def _carries(entity: str) -> ColumnElement[bool]:
    """Alerts that carry an entity's labels, by their own names or as alerts write them (`host_name`)."""
    pairs = parse_labels(entity)
    if not pairs:
        raise BadInputError("bad_entity", "an entity has at least one label")
    label = ALERT_LABEL.c
    return and_(
        *(
            ALERT.c.episode.in_(
                select(label.episode).where(label.name.in_((name, safe_name(name))), label.value == value)
            )
            for name, value in pairs
        )
    )


def _place(cursor: str) -> Any:
    starts, _, episode = cursor.partition(".")
    try:
        return tuple_(bindparam("at", int(starts)), bindparam("episode_at", episode))
    except ValueError as error:
        raise BadInputError("bad_cursor", f"{cursor!r} is not a cursor that this service gave") from error


def _number(text: str) -> Any:
    return select(NAME.c.id).where(NAME.c.text == text).scalar_subquery()
