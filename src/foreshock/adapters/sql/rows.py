"""Alerts and verdicts as rows of tables, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row

from foreshock.types import Alert, AlertKind, labels

TEXTS = ("entity", "feature", "detector")
NUMBERS = ("value", "score", "p_value", "strength", "low", "high", "expected")
COLUMNS = ("entity", "feature", "detector", "time_unix_nano", *NUMBERS)
"""The columns of verdict rows, as `Store.commit` takes and `Store.verdicts` gives them; `notes` beside them, JSON texts
or None, says what else is known (`runtime.outputs.Notes`)."""

_LARGEST = 1e308
_KEY = itemgetter(0, 1, 2, 3)
_ALERT = msgspec.json.Decoder(Alert)


def finite(alert: Alert) -> Alert:
    """The alert with a strength that JSON and SQL can hold."""
    if math.isfinite(alert.strength):
        return alert
    return replace(alert, strength=0.0 if math.isnan(alert.strength) else math.copysign(_LARGEST, alert.strength))


def alert_row(alert: Alert) -> dict[str, Any]:
    """The row of `alert` in the table of the same name."""
    return {
        "episode": alert.episode,
        "key": alert.key,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "starts_unix_nano": alert.starts_unix_nano,
        "ends_unix_nano": alert.ends_unix_nano,
        "decided_unix_nano": alert.decided_unix_nano,
        "kind": str(alert.kind),
        "strength": alert.strength,
        "notified": alert.notified,
        "group": alert.group,
        "status": alert.status,
    }


def alert_of(row: Row[Any]) -> Alert:
    """The alert of a row of `alert`."""
    return Alert(
        labels=labels(row.labels),
        annotations=tuple(row.annotations.items()),
        starts_unix_nano=row.starts_unix_nano,
        decided_unix_nano=row.decided_unix_nano,
        kind=AlertKind(row.kind),
        strength=row.strength,
        ends_unix_nano=row.ends_unix_nano,
        notified=row.notified,
        group=row.group,
    )


def event_text(alert: Alert) -> str:
    """An alert as the event stream keeps it: every field, exactly."""
    return msgspec.json.encode(alert).decode()


def event_of(text: str) -> Alert:
    """The alert that `event_text` wrote."""
    return _ALERT.decode(text)


def verdict_rows(columns: Mapping[str, Any], ids: Mapping[str, int]) -> list[tuple[Any, ...]]:
    """Rows of `verdict` in the order of its key, from columns whose texts have the numbers `ids`.

    Raises ValueError if a column is missing or the columns are not of one length.
    """
    numbered = {name: [ids[text] for text in columns[name]] for name in TEXTS}
    times: NDArray[np.int64] = np.asarray(columns["time_unix_nano"], np.int64)
    lists = [numbered["entity"], numbered["feature"], numbered["detector"]]
    lists += [np.asarray(columns[name], np.float64).tolist() for name in NUMBERS]
    notes = columns.get("notes") or [None] * len(times)
    rows = list(zip(times.tolist(), *lists, notes, strict=True))
    # Rows that come in the order of the key go to the end of the table; any other order halves the speed.
    rows.sort(key=_KEY)
    return rows


def verdict_columns(rows: Sequence[Any]) -> dict[str, Any]:
    """Columns of verdict rows: texts and notes as lists, times int64[n], numbers float64[n], NaN = not known."""
    out: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in TEXTS}
    out["time_unix_nano"] = np.array([row.time_unix_nano for row in rows], np.int64)
    for name in NUMBERS:
        out[name] = np.array([getattr(row, name) for row in rows], np.float64)
    out["notes"] = [row.notes for row in rows]
    return out
