"""Rings of recent rows, one a series or entity, and what the views keep in them beside the points."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.state.jit import entry
from foreshock.types import Rows, Verdict

POINT = np.dtype(
    [
        ("time_unix_nano", "i8"),
        ("value", "f8"),
        ("expected", "f8"),
        ("low", "f8"),
        ("high", "f8"),
        ("score", "f4"),
        ("p_value", "f4"),
        ("strength", "f4"),
        ("anomalous", "?"),
        ("status", "u1"),
    ]
)
"""One point of a series as the views keep it."""

OPINION = np.dtype([("strength", "f4"), ("p_value", "f4")])
"""What one detector says of one point: ln(score / bar) and the p-value; NaN = it did not judge."""

WHOLE_OPINION = np.dtype([("time_unix_nano", "i8"), ("strength", "f4"), ("p_value", "f4")])
"""What a detector of whole entities says of one row."""

MINUTE = 60_000_000_000
COLUMNS = 180
"""Minutes that the strip of an entity reaches back."""

CELL = np.dtype([("minute", "i8"), ("strength", "f4"), ("status", "u1"), ("alarmed", "?")])
"""One minute of an entity: the greatest strength in it, its status, whether it was over the level of an alarm."""


class Ring:
    """The last `points` cells of each of `rows` rows; memory is used as cells come in."""

    def __init__(self, dtype: np.dtype[Any], rows: int, points: int) -> None:
        self.cells: NDArray[Any] = np.zeros((rows, points), dtype)
        self.head: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.points = points

    def push(self, row_of: NDArray[np.int32], key: NDArray[np.int32], cells: NDArray[Any]) -> None:
        """Append each cell to the row of its key, in order; keys whose row is negative are passed over."""
        _push(self.cells, self.head, row_of, key, cells)

    def last(self, row: int, count: int) -> NDArray[Any]:
        """A copy of the last `count` cells of a row, oldest first."""
        head = int(self.head[row])
        count = min(count, head, self.points)
        first, end = (head - count) % self.points, head % self.points
        ring = self.cells[row]
        if count and first >= end:
            return np.concatenate((ring[first:], ring[:end]))
        copy: NDArray[Any] = ring[first : first + count].copy()
        return copy

    def newest(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The last cell of each of these rows; one that has none gives whatever stands there."""
        found: NDArray[Any] = self.cells[rows, (self.head[rows] - 1) % self.points]
        return found

    def clear(self, row: int) -> None:
        """Forget a row."""
        self.head[row] = 0


class Opinions:
    """What each detector said, one ring a detector.

    Rings of detectors over series go in step with the ring of points: equal heads are equal times. Those over entities
    have their own times, and hold `most_entities` entities.
    """

    def __init__(self, points: Ring, most_entities: int = 1000) -> None:
        self._points = points
        self._most_entities = most_entities
        self._cells: dict[str, Ring] = {}
        self._whole: dict[str, Ring] = {}
        self._rows: NDArray[np.int32] = np.arange(most_entities, dtype=np.int32)

    def take(self, rows: Rows, verdicts: Sequence[Verdict], view_of: NDArray[np.int32]) -> None:
        """Note the verdicts on rows whose points are pushed right after."""
        for one in verdicts:
            if one.whole:
                self._take_whole(rows, one)
                continue
            ring = self._cells.get(one.detector)
            if ring is None:
                ring = self._cells[one.detector] = self._late()
            cells = np.empty(len(rows.series), OPINION)
            cells["strength"], cells["p_value"] = one.strength, one.p_value
            ring.push(view_of, rows.series, cells)

    def _late(self) -> Ring:
        """A ring in step with the points; a detector that comes later has said nothing of what was before."""
        ring = Ring(OPINION, len(self._points.head), self._points.points)
        if self._points.head.any():
            ring.cells[:] = (np.nan, np.nan)
            ring.head[:] = self._points.head
        return ring

    def _take_whole(self, rows: Rows, verdict: Verdict) -> None:
        ring = self._whole.get(verdict.detector)
        if ring is None:
            ring = self._whole[verdict.detector] = Ring(WHOLE_OPINION, self._most_entities, self._points.points)
        highest = int(rows.entity.max(initial=-1))
        if highest >= len(self._rows):
            more = np.arange(max(2 * len(self._rows), highest + 1), dtype=np.int32)
            self._rows = np.where(more < self._most_entities, more, np.int32(-1)).astype(np.int32)
        cells = np.empty(len(rows), WHOLE_OPINION)
        cells["time_unix_nano"], cells["strength"] = rows.time_unix_nano, verdict.strength
        cells["p_value"] = verdict.p_value
        ring.push(self._rows, rows.entity, cells)

    def of_series(self, view: int, count: int) -> dict[str, NDArray[Any]]:
        """By detector, its opinions on the last `count` points of a viewed series (`OPINION[n]`)."""
        return {name: ring.last(view, count) for name, ring in self._cells.items()}

    def of_entity(self, slot: int, count: int) -> dict[str, NDArray[Any]]:
        """By detector of whole entities, its opinions on the last `count` rows (`WHOLE_OPINION[n]`)."""
        if slot >= self._most_entities:
            return {}
        return {name: ring.last(slot, count) for name, ring in self._whole.items()}

    def judging(self, views: int) -> dict[str, int]:
        """By detector, how many series (or entities, where it judges these) it judged in their last row."""
        out = {}
        for rings, count in ((self._cells, views), (self._whole, self._most_entities)):
            for name, ring in rings.items():
                rows = np.flatnonzero(ring.head[:count])
                last = ring.newest(rows)["strength"]
                out[name] = int(np.count_nonzero(~np.isnan(last)))
        return out

    def clear(self, views: Sequence[int], slot: int | None) -> None:
        """Forget series and an entity."""
        for ring in self._cells.values():
            for view in views:
                ring.clear(view)
        if slot is not None and slot < self._most_entities:
            for ring in self._whole.values():
                ring.clear(slot)


class Strip:
    """The last three hours of each entity, a minute a cell."""

    def __init__(self) -> None:
        self.cells: NDArray[Any] = np.zeros((0, COLUMNS), CELL)

    def take(self, rows: Rows, strength: NDArray[np.float64], alarmed: NDArray[np.bool_] | None) -> None:
        """Bring the strip up to these rows; `strength float64[n]`, NaN where nothing was judged."""
        highest = int(rows.entity.max(initial=-1))
        if highest >= len(self.cells):
            grown = np.zeros((max(2 * len(self.cells), highest + 1), COLUMNS), CELL)
            grown["minute"] = -1
            grown[: len(self.cells)] = self.cells
            self.cells = grown
        if alarmed is None or len(alarmed) != len(rows):
            alarmed = np.zeros(len(rows), np.bool_)
        _mark(self.cells, rows.entity, rows.time_unix_nano, rows.status, strength, alarmed)

    def read(self, slots: Sequence[int], last_minute: int, columns: int) -> NDArray[Any]:
        """The minutes up to `last_minute` of these entities: `CELL[k, columns]`; minute -1 = nothing came in it."""
        minutes = np.arange(last_minute - columns + 1, last_minute + 1)
        if not len(slots):
            return np.zeros((0, columns), CELL)
        found: NDArray[Any] = self.cells[np.asarray(slots)[:, None], (minutes % COLUMNS)[None, :]]
        found["minute"][found["minute"] != minutes[None, :]] = -1
        return found

    def clear(self, slot: int) -> None:
        """Forget an entity."""
        if slot < len(self.cells):
            self.cells["minute"][slot] = -1


class Pace:
    """How many samples each source brought in each minute of the last hour, by time of receipt."""

    minutes = 60

    def __init__(self) -> None:
        self._counts: dict[str, dict[int, int]] = {}

    def note(self, source: str, received_unix_nano: int, samples: int) -> None:
        """A source brought so many."""
        counts = self._counts.setdefault(source, {})
        minute = received_unix_nano // MINUTE
        counts[minute] = counts.get(minute, 0) + samples
        if len(counts) > 2 * self.minutes:
            for old in [one for one in counts if one < minute - self.minutes]:
                del counts[old]

    def of(self, source: str, now_unix_nano: int) -> list[int]:
        """The minutes of the last hour, oldest first; the last is the one that goes on now."""
        counts, last = self._counts.get(source, {}), now_unix_nano // MINUTE
        return [counts.get(minute, 0) for minute in range(last - self.minutes + 1, last + 1)]


class Delays:
    """How late the last 256 records of each source were: from the time of their oldest sample to their receipt.

    A source that catches up, each record less late than the one before, is late by what lies behind it: that is
    forgotten.
    """

    kept, watched = 256, 8
    fall_seconds, noise_seconds = 4.0, 0.5

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}
        self._course: dict[str, deque[float]] = {}

    def note(self, source: str, seconds: float) -> None:
        """A source brought a record so late; times ahead of the clock are not late."""
        seconds = max(0.0, seconds)
        known = self._seconds.setdefault(source, deque(maxlen=self.kept))
        course = self._course.setdefault(source, deque(maxlen=self.watched))
        course.append(seconds)
        falls = all(after <= before + self.noise_seconds for before, after in pairwise(course))
        if falls and course[0] - seconds > self.fall_seconds:
            known.clear()
        known.append(seconds)

    def of(self, source: str) -> tuple[float, float]:
        """Seconds that half of the records, and 99 of 100, were late at most; NaN before the first."""
        known = sorted(self._seconds.get(source, ()))
        if not known:
            return math.nan, math.nan
        return known[(len(known) - 1) // 2], known[-(-99 * len(known) // 100) - 1]


@entry
def _push(
    ring: NDArray[Any],
    head: NDArray[np.int64],
    row_of: NDArray[np.int32],
    key: NDArray[np.int32],
    cells: NDArray[Any],
) -> None:
    """Append each cell to the ring of its key, in order."""
    points = ring.shape[1]
    for i in range(len(key)):
        row = row_of[key[i]]
        if row >= 0:
            ring[row, head[row] % points] = cells[i]
            head[row] += 1


@entry
def _mark(
    cells: NDArray[Any],
    entity: NDArray[np.int32],
    time_unix_nano: NDArray[np.int64],
    status: NDArray[np.uint8],
    strength: NDArray[np.float64],
    alarmed: NDArray[np.bool_],
) -> None:
    """Raise the minute of each row: to the greatest strength, to `scored` (0) where one row was, to an alarm."""
    columns = cells.shape[1]
    for i in range(len(entity)):
        minute = time_unix_nano[i] // 60_000_000_000
        e, column = entity[i], minute % columns
        before = cells[e, column].minute
        if minute < before:
            continue
        if minute > before:
            cells[e, column].minute = minute
            cells[e, column].strength = strength[i]
            cells[e, column].status = status[i]
            cells[e, column].alarmed = alarmed[i]
            continue
        old = cells[e, column].strength
        if strength[i] > old or np.isnan(old):
            cells[e, column].strength = strength[i]
        if cells[e, column].status != 0:
            cells[e, column].status = status[i]
        if alarmed[i]:
            cells[e, column].alarmed = True


def row_strength(rows: Rows, verdicts: Sequence[Verdict]) -> NDArray[np.float64]:
    """The greatest strength of each row over all verdicts: float64[n], NaN where nothing was judged."""
    out = np.full(len(rows), np.nan)
    for one in verdicts:
        if one.whole:
            np.fmax(out, one.strength, out=out)
        else:
            _strongest(rows.start, one.strength, out)
    return out


@entry
def _strongest(start: NDArray[np.int64], strength: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Raise each row's strength to the greatest of its cells; NaN counts for nothing."""
    for row in range(len(out)):
        for cell in range(start[row], start[row + 1]):
            if strength[cell] > out[row] or np.isnan(out[row]):
                out[row] = strength[cell]


@entry
def stand(
    entity: NDArray[np.int32],
    time_unix_nano: NDArray[np.int64],
    status: NDArray[np.uint8],
    strength: NDArray[np.float64],
    seen: NDArray[np.int64],
    last_status: NDArray[np.uint8],
    last_strength: NDArray[np.float64],
) -> None:
    """Bring the table of entities up to their latest rows."""
    for row in range(len(entity)):
        e = entity[row]
        if time_unix_nano[row] >= seen[e]:
            seen[e] = time_unix_nano[row]
            last_status[e] = status[row]
            last_strength[e] = strength[row]
