"""Slow changes and shapes that a series has not had before: alerts milder than alarms, that notify nobody.

Some detectors report them beside their scores (`Scores.event`): each once, at the row where it is seen. The alert has
severity `info` and ends with the first row of its entity an hour after the last report. While the entity alarms there
is none: what is reported then has been said.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.incident import words
from foreshock.incident.alarm_prices import HOUR
from foreshock.incident.story import Story, alert_labels, band_of, figures, observed
from foreshock.state import Registry, State
from foreshock.types import Alert, AlertKind, Columns, Verdict

NAME = "ForeshockChange"


class Changes:
    """Operator: events of verdicts → alerts of the kind `change`, one a series at a time.

    `primary` names the detectors whose events count (default: all).
    """

    name = "changes"

    def __init__(self, registry: Registry, primary: frozenset[str] | None = None) -> None:
        self.registry, self.primary = registry, primary
        self._open: dict[int, Open] = {}

    def process(self, columns: Columns) -> Columns:
        """Add the alerts of events, and the ends of those that are over."""
        verdicts = [one for one in columns.verdicts if one.event is not None and self._counts(one)]
        if not verdicts and not self._open:
            return columns
        found = _strongest(verdicts, len(columns.rows.series))
        cells = np.flatnonzero(found > 0.0)
        if not len(cells) and not self._open:
            return columns
        alerts = self._walk(columns, found, cells, verdicts)
        for alert in alerts:
            columns.alerts += (alert,)
        return columns

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Nothing: rows alone decide."""
        return Columns()

    def forget(self, entity: int, series: NDArray[np.int32]) -> None:
        """Drop what is open of these series, unsaid."""
        for slot in series.tolist():
            self._open.pop(slot, None)

    def state(self) -> State:
        """What is open."""
        return State(1, {}, {}, {}, {"open": [msgspec.msgpack.encode(self._open)]})

    def load(self, state: State) -> None:
        """Take over what `state` gave."""
        self._open = _OPEN.decode(state.blobs["open"][0])

    def _counts(self, verdict: Verdict) -> bool:
        return self.primary is None or verdict.detector in self.primary

    def _walk(
        self, columns: Columns, found: NDArray[np.float64], cells: NDArray[np.int64], verdicts: list[Verdict]
    ) -> list[Alert]:
        """Go in order through the rows of entities with something open or new."""
        rows, alerts = columns.rows, list[Alert]()
        row_of_cell = rows.row_of_cell()
        by_row: dict[int, list[int]] = {}
        for cell in cells.tolist():
            by_row.setdefault(int(row_of_cell[cell]), []).append(cell)
        busy = {one.entity for one in self._open.values()} | {int(rows.entity[row]) for row in by_row}
        for row in np.flatnonzero(np.isin(rows.entity, sorted(busy))).tolist():
            entity, now = int(rows.entity[row]), int(rows.time_unix_nano[row])
            over = [slot for slot, one in self._open.items() if one.entity == entity and now >= one.until]
            alerts += [self._close(slot, columns, row) for slot in sorted(over)]
            if columns.alarmed[row]:
                continue
            for cell in by_row.get(row, ()):
                slot = int(rows.series[cell])
                if slot in self._open:
                    self._open[slot].until = now + HOUR
                    continue
                reporter = next(one for one in verdicts if one.event is not None and one.event[cell] == found[cell])
                alerts.append(self._tell(columns, row, cell, reporter, float(found[cell])))
        return alerts

    def _tell(self, columns: Columns, row: int, cell: int, verdict: Verdict, event: float) -> Alert:
        rows, slot = columns.rows, int(columns.rows.series[cell])
        series, value, band = self.registry.series[slot], float(rows.value[cell]), band_of(verdict, cell)
        own = {"alertname": NAME, "severity": "info", "feature": series.feature}
        starts, decided = int(rows.time_unix_nano[row]), int(rows.end_unix_nano[row])
        # An event is margin / (1 + margin), its margin 1 where it begins to be one.
        strength = math.log(max(event / (1.0 - min(event, 1.0 - 1e-9)), 1.0))
        notes = {
            "summary": words.changed(words.title(series), value, series.unit, starts),
            "description": words.change_description(starts, verdict.detector),
            "detector": verdict.detector,
            **figures(strength=strength, score=float(verdict.score[cell])),
            **observed(value, band, series.unit),
        }
        story = Story(
            str(AlertKind.CHANGE), alert_labels(series.entity, own), notes, starts, decided, strength, source=slot
        )
        self._open[slot] = Open(int(rows.entity[row]), starts + HOUR, story)
        return story.firing()

    def _close(self, slot: int, columns: Columns, row: int) -> Alert:
        story = self._open.pop(slot).story
        ends, decided = int(columns.rows.time_unix_nano[row]), int(columns.rows.end_unix_nano[row])
        story.annotations["duration_seconds"] = f"{(ends - story.starts) / 1e9:.12g}"
        story.annotations["summary"] = words.changed_no_more(words.title(self.registry.series[slot]))
        return story.resolved(ends, decided)


class Open(msgspec.Struct):
    """An open report: of which entity (slot), until when (Unix ns) unless more follows, and what has been said."""

    entity: int
    until: int
    story: Story


_OPEN = msgspec.msgpack.Decoder(dict[int, Open])


def _strongest(verdicts: list[Verdict], cells: int) -> NDArray[np.float64]:
    """The largest event of each cell, 0 without any: float64[m]."""
    found = np.zeros(cells)
    for verdict in verdicts:
        if verdict.event is not None:
            found = np.fmax(found, verdict.event)
    return found


__all__ = ["NAME", "Changes"]
