"""What a commit writes, table by table, in the transaction that is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, func, select, update
from sqlalchemy.dialects import sqlite

from foreshock.adapters.sql.rows import alert_row, event_text
from foreshock.adapters.sql.schema import ALERT, ALERT_EVENT, ALERT_LABEL, COMMIT
from foreshock.types import Alert, Control
from foreshock.types.record import FORMAT_VERSION


def put_alerts(connection: Connection, alerts: Sequence[Alert]) -> None:
    """Keep the latest state of each episode, its labels, and every transition as an event."""
    if not alerts:
        return
    put(connection, ALERT, [alert_row(alert) for alert in alerts])
    pairs = [{"name": n, "value": v, "episode": alert.episode} for alert in alerts for n, v in alert.labels]
    if pairs:
        connection.execute(sqlite.insert(ALERT_LABEL).on_conflict_do_nothing(), pairs)
    events = [{"episode": alert.episode, "status": alert.status, "json": event_text(alert)} for alert in alerts]
    connection.execute(ALERT_EVENT.insert(), events)


def put(connection: Connection, table: Table, values: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or replace those of the same key."""
    insert = sqlite.insert(table)
    rest = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
    statement = insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=rest)
    connection.execute(statement, list(values))


def committed(connection: Connection, task: str) -> int:
    """The position up to which a task has committed; 0 = nothing yet."""
    return connection.execute(select(func.max(COMMIT.c.to_position)).where(COMMIT.c.task == task)).scalar() or 0


def lengthen(connection: Connection, task: str, from_position: int, to_position: int) -> None:
    """Note that a task consumed the run [from, to): the last run goes on, or another begins."""
    same = (COMMIT.c.task == task, COMMIT.c.to_position == from_position, COMMIT.c.format == FORMAT_VERSION)
    longer = connection.execute(update(COMMIT).where(*same).values(to_position=to_position))
    if not longer.rowcount:
        row = {"task": task, "from_position": from_position, "to_position": to_position, "format": FORMAT_VERSION}
        connection.execute(COMMIT.insert(), row)


def control_row(control: Control) -> dict[str, Any]:
    """The row of a control record."""
    return {
        "id": control.id,
        "kind": str(control.kind),
        "effective_unix_nano": control.effective_unix_nano,
        "until_unix_nano": control.until_unix_nano,
        "json": msgspec.json.encode(control).decode(),
    }
