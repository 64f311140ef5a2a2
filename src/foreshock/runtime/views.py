"""What the API shows live: recent values and bands, entities, sources, open alerts; fed by outputs, never by state.

The pipeline thread feeds, any thread reads; both hold one lock for no longer than a copy takes.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foreshock import telemetry
from foreshock.config import Config
from foreshock.detect.combine import combine, together
from foreshock.runtime.points import NO_POINTS, grown, grown_points, p_of, points_of, row_points
from foreshock.runtime.rings import MINUTE, POINT, Opinions, Ring, Strip, row_strength, stand
from foreshock.runtime.rollups import Rollups
from foreshock.runtime.source_views import SourceViews
from foreshock.runtime.stretch import Stretch, empty, of_points
from foreshock.runtime.view_types import EntityStrip, EntityView, Names, Role, Rolled, SeriesDetail, SeriesView
from foreshock.state import State
from foreshock.types import Alert, Labels, Rows, Series, Status, Verdict, label_text, leading

POINTS = 720
"""Points that are kept of a series."""

_SKIPPED = -2
_UNSEEN = -1
_FEW = 32


class Views:
    """Rings of the last `points` points of at most `max_series` series, and tables beside them.

    Memory is reserved at once and used as points come in: when all are full, `max_series * points * 54` bytes, and 8
    more for each detector. A series beyond `max_series` is judged like any other but has no view; `not_viewed` counts
    them. `rollups` go further back; with `keep_points` points are handed on before they fall out of the rings.
    """

    def __init__(
        self,
        max_series: int = 5000,
        points: int = POINTS,
        max_alerts: int = 10_000,
        rollups: Rollups | None = None,
        keep_points: bool = False,
    ) -> None:
        self.max_series, self.points, self.max_alerts, self.rollups = max_series, points, max_alerts, rollups
        self.keep_points = keep_points
        self.not_viewed = 0
        self._lock = threading.Lock()
        self._ring = Ring(POINT, max_series, points)
        self._opinions, self._strip = Opinions(self._ring), Strip()
        self.sources = SourceViews()
        self._viewed: list[Series] = []
        self._view_of: NDArray[np.int32] = np.full(64, _UNSEEN, np.int32)
        self._by_entity: dict[str, list[int]] = {}
        self._entities: list[Labels] = []
        self._entity_slot: dict[str, int] = {}
        self._seen: NDArray[np.int64] = np.zeros(64, np.int64)
        self._status: NDArray[np.uint8] = np.zeros(64, np.uint8)
        self._strength: NDArray[np.float64] = np.full(64, np.nan)
        self._widths: NDArray[np.int32] = np.zeros(64, np.int32)
        self._alerts: dict[str, Alert] = {}
        # The last point of each detector: of single series by view, where there are several; of entities by slot.
        self._last_of: dict[str, NDArray[Any]] = {}
        self._roles: dict[str, Role] = {}
        # What is rolled up, by entity and feature ("" = the entity itself), with its slot.
        self._rolled: dict[tuple[str, str], tuple[int, Series]] = {}
        # How many points of each view were handed on to be stored.
        self._kept: NDArray[np.int64] = np.zeros(max_series, np.int64)

    @classmethod
    def of(cls, config: Config) -> Self:
        """Views with room for what a config keeps."""
        rollups = Rollups([one.name for one in config.detectors], config.store.series)
        return cls(rollups=rollups, keep_points=config.store.points > 0)

    # Feeding: the pipeline thread

    def feed(
        self, rows: Rows, verdicts: Sequence[Verdict], names: Names, alarmed: NDArray[np.bool_] | None = None
    ) -> None:
        """Take in rows (n, of m cells) and their verdicts, one a detector, over cells or rows.

        `alarmed bool[n]` says of each row whether its entity is over the level of an alarm. A cell shows the verdict
        with the least p-value; its band is the first that is known. Shadows are shown beside the others, by their
        names, and speak for a cell only where there is nobody else.
        """
        if not len(rows):
            return
        single = [one for one in verdicts if not one.whole]
        cells = points_of(rows, leading(single))
        apart = [(one.detector, points_of(rows, [one])) for one in single] if len(single) > 1 else []
        strength = row_strength(rows, leading(verdicts))
        with self._lock:
            self._admit(rows, names)
            if self.rollups is not None:
                self.rollups.take(rows, cells, verdicts)
            self._opinions.take(rows, verdicts, self._view_of)
            self._ring.push(self._view_of, rows.series, cells)
            self._part(rows, verdicts, apart)
            self._strip.take(rows, strength, alarmed)
            stand(rows.entity, rows.time_unix_nano, rows.status, strength, self._seen, self._status, self._strength)

    def _part(self, rows: Rows, verdicts: Sequence[Verdict], apart: Sequence[tuple[str, NDArray[Any]]]) -> None:
        """Keep the last point of each detector (the lock is held); a single one of series has it in the ring."""
        self._roles = {one.detector: Role(one.shadow, one.whole) for one in verdicts}
        for one in verdicts:
            if one.whole:
                last = self._last_of.get(one.detector, NO_POINTS)
                last = self._last_of[one.detector] = grown_points(last, int(rows.entity.max()) + 1)
                # Of several rows of an entity the last one stays.
                last[rows.entity] = row_points(rows, one)
            elif not apart:
                self._last_of.pop(one.detector, None)
        if not apart:
            return
        view = self._view_of[rows.series]
        shown = view >= 0
        for name, cells in apart:
            if name not in self._last_of:
                self._last_of[name] = np.zeros(self.max_series, POINT)
            self._last_of[name][view[shown]] = cells[shown]

    def feed_alerts(self, alerts: Sequence[Alert]) -> None:
        """Take in transitions, or the open alerts of the store at start: what fires is open, what is resolved not."""
        with self._lock:
            for alert in alerts:
                if alert.ends_unix_nano is not None:
                    self._alerts.pop(alert.episode, None)
                elif alert.episode in self._alerts or len(self._alerts) < self.max_alerts:
                    self._alerts[alert.episode] = alert
                else:
                    telemetry.DROPPED.labels("alerts_not_viewed").inc()

    def forget(self, entity: str, rolled: Collection[int] = (), rolled_entity: int = -1) -> None:
        """Drop what is shown of an entity (canonical text); its series come again with their next points.

        `rolled` and `rolled_entity` are the slots of its series and its own, for the roll-ups.
        """
        with self._lock:
            if self.rollups is not None and rolled_entity >= 0:
                self.rollups.forget(rolled, rolled_entity)
            views = self._by_entity.get(entity, [])
            for view in views:
                self._ring.clear(view)
            self._kept[views] = 0
            slot = self._entity_slot.get(entity)
            self._opinions.clear(views, slot)
            if slot is not None:
                self._seen[slot] = 0
                self._strip.clear(slot)

    def _admit(self, rows: Rows, names: Names) -> None:
        self._view_of = grown(self._view_of, int(rows.series.max(initial=-1)), _UNSEEN)
        top = int(rows.entity.max(initial=-1))
        self._seen, self._status = grown(self._seen, top, 0), grown(self._status, top, 0)
        self._strength, self._widths = grown(self._strength, top, np.nan), grown(self._widths, top, 0)
        for slot in range(len(self._entities), top + 1):
            self._entities.append(names.entities[slot])
            text = label_text(names.entities[slot])
            self._entity_slot[text] = slot
            self._rolled[text, ""] = slot, Series("", names.entities[slot])
        for slot in dict.fromkeys(rows.series[self._view_of[rows.series] == _UNSEEN].tolist()):
            series = names.series[slot]
            self._rolled[series.entity_text, series.feature] = slot, series
            self._widths[self._entity_slot[series.entity_text]] += 1
            if len(self._viewed) == self.max_series:
                self._view_of[slot] = _SKIPPED
                self.not_viewed += 1
                telemetry.DROPPED.labels("series_not_viewed").inc()
                continue
            view = self._view_of[slot] = len(self._viewed)
            self._viewed.append(series)
            self._by_entity.setdefault(series.entity_text, []).append(int(view))

    # Roll-ups and points on their way to the store: the pipeline thread, but for `unkept`

    def rollups_state(self) -> dict[str, State]:
        """What goes on in the roll-ups, for a snapshot."""
        return {} if self.rollups is None else {"rollups": self.rollups.state()}

    def load_rollups(self, states: Mapping[str, State], names: Names) -> None:
        """Go on with the roll-ups of a snapshot, if there are any in it."""
        if self.rollups is None or "rollups" not in states:
            return
        with self._lock:
            self.rollups.load(states["rollups"])
            series, entities = self.rollups.keys()
            for slot in series:
                one = names.series[slot]
                self._rolled[one.entity_text, one.feature] = slot, one
            for slot in entities:
                self._rolled[label_text(names.entities[slot]), ""] = slot, Series("", names.entities[slot])

    def unkept(self, least: int, most: int) -> list[tuple[Series, Stretch]]:
        """Points that came since they were last asked for, of at most `most` series that have at least `least` of them.

        They count as handed on. Points that fell out of the ring meanwhile are lost: buckets stand for them.
        """
        if not self.keep_points:
            return []
        with self._lock:
            ready = np.flatnonzero(self._ring.head - self._kept >= max(least, 1))[:most].tolist()
        out = []
        for view in ready:
            # One at a time, so that it does not hold up the pipeline.
            with self._lock:
                count = int(self._ring.head[view] - self._kept[view])
                points, said = self._ring.last(view, count), self._opinions.of_series(view, count)
                self._kept[view] = self._ring.head[view]
            if len(points):
                out.append((self._viewed[view], of_points(points, said)))
        return out

    # Reading: any thread

    def series(
        self,
        entity: str | None = None,
        feature: str | None = None,
        points: int = 0,
        limit: int = 100,
        offset: int = 0,
        detectors: bool = False,
    ) -> list[SeriesView]:
        """Viewed series in the order they came up, with at most their last `points` points each.

        `entity` is canonical text; an unknown one has no series. `detectors` asks for the last point of each detector.
        """
        with self._lock:
            views = list(range(len(self._viewed))) if entity is None else list(self._by_entity.get(entity, ()))
        chosen = [view for view in views if feature is None or self._viewed[view].feature == feature]
        out: list[SeriesView] = []
        for view in chosen[offset : offset + limit]:
            # One at a time, so that a long answer does not hold up the pipeline.
            with self._lock:
                each = self._each(view) if detectors else {}
                out.append(SeriesView(self._viewed[view], self._ring.last(view, points), each))
        return out

    def entities(self, limit: int = 1000, offset: int = 0, ranked: bool = False) -> list[EntityView]:
        """Entities with at least one row, in the order they came up, or `ranked`: the least p-value first."""
        with self._lock:
            slots = np.flatnonzero(self._seen[: len(self._entities)])
            if not ranked:
                slots = slots[offset : offset + limit]
            p_value = self._p_values(slots)
            if ranked:
                order = np.argsort(np.where(np.isnan(p_value), np.inf, p_value), kind="stable")[offset : offset + limit]
                slots, p_value = slots[order], p_value[order]
            return [
                EntityView(
                    self._entities[slot],
                    int(self._seen[slot]),
                    Status(int(self._status[slot])),
                    int(self._widths[slot]),
                    float(self._strength[slot]),
                    p,
                )
                for slot, p in zip(slots.tolist(), p_value.tolist(), strict=True)
            ]

    def _p_values(self, slots: NDArray[np.intp]) -> NDArray[np.float64]:
        """The p-value of all leading detectors in the last row of each entity (the lock is held)."""
        roles = {name: role for name, role in self._roles.items() if not role.shadow} or self._roles
        own = [self._by_entity.get(label_text(self._entities[slot]), []) for slot in slots.tolist()]
        start = np.concatenate([[0], np.cumsum([len(one) for one in own])]).astype(np.int64)
        view = np.array([one for views in own for one in views], np.int64)
        seen = self._seen[slots]
        each: list[NDArray[np.float64]] = []
        for name, role in roles.items():
            if role.whole:
                last = grown_points(self._last_of[name], int(slots.max(initial=-1)) + 1)[slots]
                each.append(p_of(last, seen))
            else:
                each.append(combine(p_of(self._newest(name, view), np.repeat(seen, np.diff(start))), start))
        return together(each) if each else np.full(len(slots), np.nan)

    def _newest(self, name: str, view: NDArray[np.int64]) -> NDArray[Any]:
        """The last point of a detector of single series in each of these views: `POINT[k]`."""
        last = self._last_of.get(name)
        if last is not None:
            own: NDArray[Any] = last[view]
            return own
        return self._ring.newest(view)

    def _each(self, view: int) -> dict[str, NDArray[Any]]:
        """The last point of each detector of single series (the lock is held): `POINT[1]`, nothing before the first."""
        if not self._ring.head[view]:
            return {}
        names = [name for name, role in self._roles.items() if not role.whole]
        return {name: self._newest(name, np.array([view])) for name in names}

    def roles(self) -> dict[str, Role]:
        """The detectors whose verdicts were seen."""
        with self._lock:
            return dict(self._roles)

    def alerts(self) -> list[Alert]:
        """Open alerts, the latest start first."""
        with self._lock:
            alerts = list(self._alerts.values())
        return sorted(alerts, key=lambda alert: (-alert.starts_unix_nano, alert.key))

    def counts(self) -> dict[str, int]:
        """How much is in view: entities, series, series not viewed, open alerts."""
        with self._lock:
            return {
                "entities": int(np.count_nonzero(self._seen)),
                "series": len(self._viewed),
                "series_not_viewed": self.not_viewed,
                "open_alerts": len(self._alerts),
            }

    def find(self, entity: str, feature: str, points: int) -> SeriesDetail | None:
        """One series with its last points and what each detector says of them; None if it is not viewed."""
        with self._lock:
            views = self._by_entity.get(entity, [])
            view = next((one for one in views if self._viewed[one].feature == feature), None)
            if view is None:
                return None
            slot = self._entity_slot[entity]
            return SeriesDetail(
                self._viewed[view],
                self._ring.last(view, points),
                self._opinions.of_series(view, points),
                self._opinions.of_entity(slot, points),
            )

    def rolled(self, entity: str, feature: str, seconds: int) -> Rolled | None:
        """The buckets of so many seconds that are not stored yet; None if the series is not rolled up."""
        with self._lock:
            if self.rollups is None or (entity, feature) not in self._rolled:
                return None
            slot, series = self._rolled[entity, feature]
            if not feature:
                return Rolled(series, empty(), self.rollups.of_entity(slot, seconds))
            of = self._rolled.get((entity, ""))
            own = self.rollups.of_series(slot, seconds)
            return Rolled(series, own, empty() if of is None else self.rollups.of_entity(of[0], seconds))

    def newest(self) -> int:
        """The time of the newest row of all, Unix ns; 0 where there is none."""
        with self._lock:
            return int(self._seen.max(initial=0))

    def since(self, entity: str, feature: str, after_unix_nano: int) -> SeriesDetail | None:
        """One series with its points that are newer; None if it is not viewed."""
        found = self.find(entity, feature, _FEW)
        if found is not None and len(found.points) and found.points["time_unix_nano"][0] > after_unix_nano:
            found = self.find(entity, feature, self.points)
        if found is None:
            return None
        new = int(np.count_nonzero(found.points["time_unix_nano"] > after_unix_nano))
        last = slice(len(found.points) - new, None)
        return SeriesDetail(
            found.series, found.points[last], {name: one[last] for name, one in found.opinions.items()},
            found.entity_opinions,
        )  # fmt: skip

    def latest(self, features: Collection[str]) -> list[SeriesView]:
        """The last point of every viewed series of these features."""
        with self._lock:
            count = len(self._viewed)
            chosen = [view for view in range(count) if self._viewed[view].feature in features]
            return [SeriesView(self._viewed[view], self._ring.last(view, 1)) for view in chosen]

    def strip(self, now_unix_nano: int, columns: int) -> list[EntityStrip]:
        """The last minutes of every entity, up to the one of `now_unix_nano`."""
        with self._lock:
            slots = np.flatnonzero(self._seen[: len(self._entities)]).tolist()
            cells = self._strip.read(slots, now_unix_nano // MINUTE, columns)
            return [
                EntityStrip(self._entities[slot], Status(int(self._status[slot])), cells[i])
                for i, slot in enumerate(slots)
            ]

    def judging(self) -> dict[str, int]:
        """By detector, how many series or entities it judged in their last row."""
        with self._lock:
            return self._opinions.judging(len(self._viewed))
