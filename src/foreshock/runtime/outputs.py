"""What goes to the store: alerts, anomalous verdicts and the position they belong to, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.runtime.task import Outputs
from foreshock.state import Registry
from foreshock.telemetry import ALERTS
from foreshock.types import Alert, Columns, Control, Rows, Status, Verdict, label_text

VERDICT_COLUMNS = (
    "entity", "feature", "time_unix_nano", "detector", "value", "score", "p_value", "strength", "expected", "low",
    "high", "notes",
)  # fmt: skip
TOP, LEAST_SHARE = 5, 0.01


class Notes(msgspec.Struct):
    """What the store keeps of an anomalous row beside its numbers.

    `top` = up to five features with their share in what the detector found in the row of the entity.
    """

    unit: str = ""
    shadow: bool = False
    top: list[tuple[str, float]] = []


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction: everything that records `start` to `end` brought about."""

    task: str
    start: int
    end: int
    alerts: list[Alert]
    verdicts: dict[str, list[Any]]
    controls: list[Control]


@dataclass(slots=True)
class CommitBuilder:
    """Gathers outputs between two commits; `keep_verdicts` = whether anomalous rows are among them."""

    task: str
    start: int = -1
    rows: int = 0
    last: float = 0.0
    keep_verdicts: bool = True
    alerts: list[Alert] = field(default_factory=list)
    verdicts: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in VERDICT_COLUMNS})
    controls: list[Control] = field(default_factory=list)

    def add(self, position: int, outputs: Outputs, registry: Registry) -> None:
        """Take the outputs of the record at `position`."""
        if self.start < 0:
            self.start = position
        for columns in outputs.columns:
            self.rows += len(columns.rows)
            for verdict in columns.verdicts if self.keep_verdicts else ():
                add_anomalous(self.verdicts, columns, verdict, registry)
        for alert in outputs.alerts:
            if alert.ends_unix_nano is None:
                ALERTS.labels(str(alert.kind), str(bool(alert.notified)).lower()).inc()
        self.alerts += outputs.alerts
        self.controls += outputs.controls

    def due(self, now: float, seconds: float, idle: bool) -> bool:
        """Whether it is time to commit: at once for alerts when nothing else waits, else every so often."""
        if self.start < 0:
            return False
        return (bool(self.alerts) and idle) or now - self.last >= seconds

    def take(self, end: int, now: float) -> Commit | None:
        """The commit up to `end`, and begin anew; None where there is nothing to commit."""
        if self.start < 0:
            return None
        commit = Commit(self.task, self.start, end, self.alerts, self.verdicts, self.controls)
        self.start, self.rows, self.last = -1, 0, now
        self.alerts, self.controls = [], []
        self.verdicts = {name: [] for name in VERDICT_COLUMNS}
        return commit


def add_anomalous(into: dict[str, list[Any]], columns: Columns, verdict: Verdict, registry: Registry) -> None:
    """Append the anomalous rows of one verdict, with their names, to columns of lists."""
    at = np.flatnonzero(verdict.anomalous)
    if not len(at):
        return
    rows = columns.rows
    row = at if verdict.whole else rows.row_of_cell()[at]
    into["entity"] += _entities(rows.entity[row].tolist(), registry)
    if verdict.whole:
        into["feature"] += [""] * len(at)
        into["value"] += [float("nan")] * len(at)
    else:
        into["feature"] += [registry.series[slot].feature for slot in rows.series[at].tolist()]
        into["value"] += rows.value[at].tolist()
    into["time_unix_nano"] += rows.time_unix_nano[row].tolist()
    into["detector"] += [verdict.detector] * len(at)
    into["notes"] += _notes(rows, verdict, at, row, registry)
    for name in ("score", "p_value", "strength", "expected", "low", "high"):
        into[name] += getattr(verdict, name)[at].tolist()


def _entities(slots: Iterable[int], registry: Registry) -> list[str]:
    return [label_text(registry.entities[slot]) for slot in slots]


def _notes(rows: Rows, verdict: Verdict, at: NDArray[np.intp], row: NDArray[Any], registry: Registry) -> list[str]:
    """The notes of anomalous cells or rows `at`, which stand in `row`, as JSON."""
    units = [""] * len(at) if verdict.whole else [registry.series[slot].unit for slot in rows.series[at].tolist()]
    top: dict[int, list[tuple[str, float]]] = {}
    for one in row.tolist():
        if one not in top:
            top[one] = contributions(rows, verdict, one, registry)
    return [
        msgspec.json.encode(Notes(unit, verdict.shadow, top[one])).decode()
        for unit, one in zip(units, row.tolist(), strict=True)
    ]


def contributions(rows: Rows, verdict: Verdict, row: int, registry: Registry) -> list[tuple[str, float]]:
    """The features with the largest part in what a detector found in a row, and their share of the sum of all.

    Of a detector of single series the parts are score ÷ bar; of one of entities, what it says itself, if it does.
    """
    cells = slice(int(rows.start[row]), int(rows.start[row + 1]))
    if not verdict.whole:
        scored = verdict.status[cells] == Status.SCORED
        parts = np.where(scored, np.exp(verdict.strength[cells]), 0.0)
    elif verdict.contribution is None:
        return []
    else:
        parts = verdict.contribution[cells].astype(np.float64)
    parts = np.nan_to_num(parts)
    total = float(parts.sum())
    largest = np.argsort(-parts, kind="stable")[:TOP]
    return [
        (registry.series[int(rows.series[cells][cell])].feature, round(float(parts[cell]) / total, 4))
        for cell in largest.tolist()
        if parts[cell] > 0 and parts[cell] >= LEAST_SHARE * total
    ]
