"""Brings what charts need further back than memory into the store: chunks of roll-ups, and points while they are new.

All of it happens in the writer thread, in its turn; only `full` is called by the pipeline thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from foreshock.adapters.sql.stretches import Packed, Stretches
from foreshock.runtime.rollups import Full
from foreshock.runtime.stretch import Stretch, pack, pack_chunks
from foreshock.runtime.view_types import Names
from foreshock.runtime.views import Views
from foreshock.types import Series

MOST_SERIES = 500
"""Series whose points are stored in one turn: nobody waits for more."""
_TOGETHER = 200
"""Rows of one transaction."""
_SECOND = 1_000_000_000


class Keeper:
    """Stores what views hand on."""

    def __init__(self, views: Views, stretches: Stretches) -> None:
        self.views, self.stretches = views, stretches
        # So many points of a series are stored together: a third of what its ring holds.
        self._least_points = max(1, views.points // 3)
        # Handed on by the views, and not stored yet: a write that fails is tried again.
        self._waiting: list[Packed] = []

    def full(self, names: Names) -> list[tuple[Full, list[Series]]]:
        """Chunks that are full, with the series (or entities, as series without a name) they are of."""
        rollups = self.views.rollups
        if rollups is None:
            return []
        return [
            (one, [Series("", names.entities[slot]) if one.whole else names.series[slot] for slot in one.slots])
            for one in rollups.full()
        ]

    def put(self, full: Sequence[tuple[Full, Sequence[Series]]]) -> None:
        """Store chunks; called again after a failure, it writes the same rows."""
        detectors = self.views.rollups.detectors if self.views.rollups is not None else ()
        waiting: list[Packed] = []
        for one, series in full:
            seconds, span = one.tier.seconds, one.tier.seconds * one.tier.buckets * _SECOND
            starts, rows = (one.chunks["chunk"] * span).tolist(), one.chunks["rows"].sum(axis=1).tolist()
            data = pack_chunks(one.chunks, one.tier, detectors)
            waiting += [
                Packed(of, seconds, start, start + span, count, bytes_)
                for of, start, count, bytes_ in zip(series, starts, rows, data, strict=True)
            ]
            while len(waiting) >= _TOGETHER:
                self.stretches.put(waiting[:_TOGETHER])
                del waiting[:_TOGETHER]
        self.stretches.put(waiting)

    def keep_points(self) -> None:
        """Store the points of series that have enough of them."""
        self._store(self.views.unkept(self._least_points, MOST_SERIES))

    def keep_all_points(self) -> None:
        """Store all points that are not stored yet: the end of a run."""
        self._store([])
        while found := self.views.unkept(1, MOST_SERIES):
            self._store(found)

    def _store(self, found: Sequence[tuple[Series, Stretch]]) -> None:
        self._waiting += [packed(series, stretch) for series, stretch in found]
        while self._waiting:
            self.stretches.put(self._waiting[:_TOGETHER])
            del self._waiting[:_TOGETHER]


def packed(series: Series, points: Stretch) -> Packed:
    """Points, at least one, as the store takes them."""
    first, last = int(points.time_unix_nano[0]), int(points.time_unix_nano[-1])
    return Packed(series, 0, first, last + 1, len(points), pack(points))
