"""Series in buckets of time, for charts that reach further back than the rings; fed by outputs, never by state.

They are a function of the outputs: what goes on now is part of each snapshot, and after a restart the outputs behind
the snapshot are taken in again. Chunks that are full are handed on to be stored, each whole, so that one that comes
again takes the place of itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock import telemetry
from foreshock.runtime.rings import POINT
from foreshock.runtime.rollups_kernel import COARSE, FINE, TIERS, Tier, cold, hot, take
from foreshock.runtime.stretch import Stretch, empty, join, of_bucket, of_chunk
from foreshock.state import SlotTable, State
from foreshock.types import Rows, Verdict

MOST_SERIES = 5000
ROOM = 256
"""Full chunks that are handed out in one go of the kernel."""
_SKIPPED, _UNSEEN = -2, -1


class Full(NamedTuple):
    """Chunks that are full: `chunks` (rows of `cold`) of one tier, and the slots of their series or entities."""

    whole: bool
    tier: Tier
    slots: list[int]
    chunks: NDArray[Any]


class Rollups:
    """What is rolled up: each series with the detectors of single series, each entity with those of whole ones.

    `detectors` are the names that verdicts may have. Beyond `most` series (and as many entities) the next is not kept;
    `not_kept` counts them. A series has `bytes_per_series` in memory.
    """

    def __init__(self, detectors: Sequence[str], most: int = MOST_SERIES) -> None:
        self.detectors = tuple(detectors) or ("",)
        self._parts = (_Part(False, self.detectors, most), _Part(True, self.detectors, most))
        self._full: list[Full] = []

    @property
    def bytes_per_series(self) -> int:
        """Memory of a series; an entity has as much."""
        return self._parts[0].bytes_per_key

    @property
    def not_kept(self) -> int:
        """Series and entities that came when there was no room."""
        return sum(part.not_kept for part in self._parts)

    def keys(self) -> tuple[list[int], list[int]]:
        """Slots of the series and of the entities that are kept."""
        series, entities = (part.keys[part.keys >= 0].tolist() for part in self._parts)
        return series, entities

    def take(self, rows: Rows, points: NDArray[Any], verdicts: Sequence[Verdict]) -> None:
        """Take in rows with their cells as points (`POINT[m]`) and all verdicts on them."""
        single = [one for one in verdicts if not one.whole]
        self._full += self._parts[0].take(rows.series, points, single)
        whole = [one for one in verdicts if one.whole]
        if whole:
            self._full += self._parts[1].take(rows.entity, _entity_points(rows, whole), whole)

    def full(self) -> list[Full]:
        """Chunks that are full since the last call."""
        found, self._full = self._full, []
        return found

    def of_series(self, slot: int, seconds: int) -> Stretch:
        """The buckets of so many seconds of a series that are not handed out yet."""
        return self._parts[0].of(slot, seconds)

    def of_entity(self, slot: int, seconds: int) -> Stretch:
        """What detectors of whole entities said of one, likewise."""
        return self._parts[1].of(slot, seconds)

    def forget(self, series: Collection[int], entity: int) -> None:
        """Drop series and an entity (slots)."""
        self._parts[0].forget(series)
        self._parts[1].forget([entity])

    def state(self) -> State:
        """All that goes on now."""
        out = State(1, {"detectors": list(self.detectors)})
        for part in self._parts:
            out.tables |= part.tables()
            out.arrays[part.prefix + "keys"] = part.keys.copy()
        return out

    def load(self, state: State) -> None:
        """Take over what `state` gave; what detectors said that are no more is dropped."""
        names = tuple(str(one) for one in state.meta["detectors"])
        lanes = [names.index(one) if one in names else -1 for one in self.detectors]
        lanes = [] if names == self.detectors else lanes
        for part in self._parts:
            part.load(state.arrays, lanes)


class _Part:
    """The roll-ups of one kind of keys: rows are given out as keys come."""

    def __init__(self, whole: bool, detectors: Sequence[str], most: int) -> None:
        self.whole, self.detectors, self.most = whole, detectors, most
        self.prefix = "entity_" if whole else "series_"
        self.not_kept = 0
        # The key of each row that is given out; -1 = it is free again.
        self.keys: NDArray[np.int64] = np.zeros(0, np.int64)
        self._row_of: NDArray[np.int32] = np.full(64, _UNSEEN, np.int32)
        # Few different numbers of lanes: each is a kernel to compile.
        lanes = len(detectors) + len(detectors) % 2
        self._lanes = lanes
        self._hot = {tier: SlotTable(hot(lanes)) for tier in TIERS}
        self._cold = {tier: SlotTable(cold(tier, lanes)) for tier in TIERS}
        self._room = {tier: np.zeros(ROOM, cold(tier, lanes)) for tier in TIERS}
        self._rows = np.zeros((2, ROOM), np.int32)
        self._counts = np.zeros(3, np.int64)

    @property
    def bytes_per_key(self) -> int:
        """Memory of a key."""
        return sum(table.dtype.itemsize for table in (*self._hot.values(), *self._cold.values()))

    def tables(self) -> dict[str, SlotTable]:
        """The tables by name, live."""
        kinds = (("hot", self._hot), ("cold", self._cold))
        return {f"{self.prefix}{kind}_{tier.seconds}": each[tier] for kind, each in kinds for tier in TIERS}

    def take(self, key: NDArray[np.int32], points: NDArray[Any], verdicts: Sequence[Verdict]) -> list[Full]:
        """Take in cells or rows; the chunks that became full."""
        if not len(key):
            return []
        self._admit(key)
        strength = np.full((len(self.detectors), len(key)), np.nan)
        for one in verdicts:
            if one.detector in self.detectors:
                strength[self.detectors.index(one.detector)] = one.strength
        self._touch(key)
        out: list[Full] = []
        first = 0
        while first < len(key):
            first = take(
                self._hot[FINE].rows, self._cold[FINE].rows, self._hot[COARSE].rows, self._cold[COARSE].rows,
                self._row_of, key, points, strength, first, self._room[FINE], self._room[COARSE], self._rows,
                self._counts,
            )  # fmt: skip
            out += self._handed_out()
        if self._counts[2]:
            telemetry.DROPPED.labels("late_for_charts").inc(int(self._counts[2]))
            self._counts[2] = 0
        return out

    def _handed_out(self) -> list[Full]:
        out = []
        for k, tier in enumerate(TIERS):
            n = int(self._counts[k])
            if n:
                slots = self.keys[self._rows[k, :n]].tolist()
                out.append(Full(self.whole, tier, slots, self._room[tier][:n].copy()))
                self._counts[k] = 0
        return out

    def _touch(self, key: NDArray[np.int32]) -> None:
        if not any(table.copying for table in self.tables().values()):
            return
        rows = self._row_of[key]
        rows = np.unique(rows[rows >= 0])
        for table in self.tables().values():
            table.touch(rows)

    def _admit(self, key: NDArray[np.int32]) -> None:
        highest = int(key.max())
        if highest >= len(self._row_of):
            grown = np.full(max(2 * len(self._row_of), highest + 1), _UNSEEN, np.int32)
            grown[: len(self._row_of)] = self._row_of
            self._row_of = grown
        unseen = self._row_of[key] == _UNSEEN
        if not unseen.any():
            return
        new = np.array(list(dict.fromkeys(key[unseen].tolist())), np.int64)
        free = np.flatnonzero(self.keys < 0)[: len(new)]
        more = np.arange(len(self.keys), min(self.most, len(self.keys) + len(new) - len(free)))
        rows = np.concatenate([free, more])
        self._row_of[new[: len(rows)]] = rows
        self._row_of[new[len(rows) :]] = _SKIPPED
        self.keys = np.concatenate([self.keys, np.zeros(len(more), np.int64)])
        self.keys[rows] = new[: len(rows)]
        if len(rows) and int(rows.max()) >= self._hot[FINE].used:
            for table in self.tables().values():
                table.ensure(int(rows.max()))
        if len(new) > len(rows):
            self.not_kept += len(new) - len(rows)
            telemetry.DROPPED.labels("series_not_kept").inc(len(new) - len(rows))

    def of(self, key: int, seconds: int) -> Stretch:
        """The buckets of a key that are not handed out yet."""
        row = int(self._row_of[key]) if key < len(self._row_of) else _UNSEEN
        tier = next(one for one in TIERS if one.seconds == seconds)
        if row < 0:
            return empty()
        parts = [
            of_chunk(self._cold[tier].rows[row], tier, self.detectors),
            of_bucket(self._hot[tier].rows[row], tier, self.detectors),
        ]
        if tier is COARSE:
            # The minute that goes on is not in it yet.
            parts.append(_widened(of_bucket(self._hot[FINE].rows[row], FINE, self.detectors)))
        return join(parts)

    def forget(self, keys: Collection[int]) -> None:
        """Drop keys; their rows are free for others."""
        known = [key for key in keys if key < len(self._row_of) and self._row_of[key] >= 0]
        rows = self._row_of[known].astype(np.int64)
        for table in self.tables().values():
            table.reset(rows)
        self._row_of[known] = _UNSEEN
        self.keys[rows] = -1

    def load(self, arrays: dict[str, NDArray[Any]], lanes: Sequence[int]) -> None:
        """Take over the tables; `lanes` = where each detector's lane was (-1 = nowhere); none = as they are."""
        self.keys = arrays[self.prefix + "keys"].astype(np.int64)
        highest = int(self.keys.max(initial=-1))
        self._row_of = np.full(max(64, highest + 1), _UNSEEN, np.int32)
        rows = np.flatnonzero(self.keys >= 0)
        self._row_of[self.keys[rows]] = rows
        moved = [*lanes, *[-1] * (self._lanes - len(lanes))]
        for name, table in self.tables().items():
            table.load(_with_lanes(arrays[name], table.dtype, moved) if lanes else arrays[name])


def _with_lanes(saved: NDArray[Any], dtype: np.dtype[Any], lanes: Sequence[int]) -> NDArray[Any]:
    """Rows of `dtype` with what was saved, each detector's lane where it is now."""
    out = np.zeros(len(saved), dtype)
    if not len(saved):
        return out
    for name in dtype.names or ():
        if name != "strength":
            out[name] = saved[name]
    now = out["strength"].reshape(len(saved), len(lanes), -1)
    before = saved["strength"].reshape(len(saved), -1, now.shape[2])
    for lane, old in enumerate(lanes):
        now[:, lane] = before[:, old] if old >= 0 else np.nan
    return out


def _widened(minute: Stretch) -> Stretch:
    """The minute that goes on as a bucket of the coarser tier."""
    if len(minute):
        minute.seconds[:] = COARSE.seconds
        minute.time_unix_nano -= minute.time_unix_nano % (COARSE.seconds * 1_000_000_000)
    return minute


def _entity_points(rows: Rows, verdicts: Sequence[Verdict]) -> NDArray[Any]:
    """Rows as points without a value, with what detectors of whole entities say of them: `POINT[n]`."""
    out = np.zeros(len(rows), POINT)
    out["time_unix_nano"], out["status"] = rows.time_unix_nano, verdicts[0].status
    for name in ("value", "expected", "low", "high"):
        out[name] = np.nan
    for one in verdicts:
        out["anomalous"] |= one.anomalous
    return out
