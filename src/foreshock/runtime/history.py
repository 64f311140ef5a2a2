"""A series over any time: what the rings, the roll-ups and the store hold of it, as one stretch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.sql import Store
from foreshock.runtime.rollups_kernel import COARSE, FINE
from foreshock.runtime.stretch import Stretch, empty, join, of_points, unpack
from foreshock.runtime.view_types import SeriesDetail
from foreshock.runtime.views import Views
from foreshock.types import Series

MOST_STRETCHES = 2000
"""Stretches of one resolution that are read for an answer: half a million points, or 83 days of minutes."""
_SECOND = 1_000_000_000
_END = (1 << 63) - 1
_COARSE_NS = COARSE.seconds * _SECOND


@dataclass(frozen=True, slots=True)
class Past:
    """A series and what is known of it; `whole` names the detectors that judge its entity."""

    series: Series
    stretch: Stretch
    whole: frozenset[str]


class History:
    """Answers what was, the finest that there is where it is asked for, coarser buckets where nothing finer is left."""

    def __init__(self, views: Views, store: Store) -> None:
        self.views, self.store = views, store

    def recent(self, entity: str, feature: str) -> Past | None:
        """All points of a series in the rings; None if it is not viewed."""
        found = self.views.find(entity, feature, self.views.points)
        if found is None:
            return None
        stretch = of_points(found.points, found.opinions)
        _ask_rings(found, stretch)
        return Past(found.series, stretch, frozenset(found.entity_opinions))

    def between(self, entity: str, feature: str, since: int, until: int, buckets: int) -> Past | None:
        """A series in [since, until) (Unix ns), in about `buckets` buckets or finer; None if nobody knows it."""
        recent = self.recent(entity, feature)
        series = recent.series if recent is not None else self._series(entity, feature)
        if series is None:
            return None
        wanted = (until - since) / _SECOND / buckets
        # Whole buckets, so that it is known how much of each finer ones hold.
        start, end = since - since % _COARSE_NS, until + -until % _COARSE_NS
        layers, seen = list[Stretch](), list[Stretch]()
        whole = set(recent.whole) if recent is not None else set()
        if wanted < FINE.seconds:
            layers.append(self._points(entity, feature, recent, start, end))
        for tier in (FINE, COARSE):
            if wanted < COARSE.seconds or tier is COARSE:
                own, of_entity = self._buckets(entity, feature, tier.seconds, start, end)
                layers.append(own)
                seen.append(of_entity)
        found = layered(layers)
        for of_entity in seen:
            whole |= of_entity.strength.keys()
            _ask_buckets(of_entity, found)
        inside = (found.time_unix_nano >= since) & (found.time_unix_nano < until)
        return Past(series, found.take(inside), frozenset(whole))

    def oldest(self, entity: str, feature: str) -> int | None:
        """When what is known of a series begins (Unix ns); None where nothing is."""
        firsts = list[NDArray[np.int64]]()
        for seconds in (0, FINE.seconds, COARSE.seconds):
            stored = self.store.stretches.read(entity, feature, seconds, 0, _END, 1)
            firsts += [unpack(one, seconds).time_unix_nano for one in stored]
            rolled = self.views.rolled(entity, feature, seconds) if seconds else None
            firsts += [rolled.own.time_unix_nano] if rolled is not None else []
        ring = self.views.find(entity, feature, self.views.points)
        firsts += [ring.points["time_unix_nano"]] if ring is not None else []
        return min((int(one[0]) for one in firsts if len(one)), default=None)

    def _series(self, entity: str, feature: str) -> Series | None:
        rolled = self.views.rolled(entity, feature, COARSE.seconds)
        return rolled.series if rolled is not None else self.store.stretches.series(entity, feature)

    def _points(self, entity: str, feature: str, recent: Past | None, since: int, until: int) -> Stretch:
        """Points of the ring, and older ones of the store."""
        ring = recent.stretch if recent is not None else empty()
        if len(ring) and ring.time_unix_nano[0] <= since:
            return _between(ring, since, until)
        return _between(join([ring, *self._stored(entity, feature, 0, since, until)]), since, until)

    def _buckets(self, entity: str, feature: str, seconds: int, since: int, until: int) -> tuple[Stretch, Stretch]:
        """Buckets of the series, and of its entity by the detectors that judge it as a whole."""
        rolled = self.views.rolled(entity, feature, seconds)
        own, of_entity = (rolled.own, rolled.entity) if rolled is not None else (empty(), empty())
        out = []
        for name, new in ((feature, own), ("", of_entity)):
            stored = self._stored(entity, name, seconds, since, until)
            out.append(_between(join([*stored, new]), since, until))
        return out[0], out[1]

    def _stored(self, entity: str, feature: str, seconds: int, since: int, until: int) -> list[Stretch]:
        """What the store has; nothing where it is too much for one answer: coarser buckets stand for it."""
        found = self.store.stretches.read(entity, feature, seconds, since, until, MOST_STRETCHES + 1)
        return [unpack(one, seconds) for one in found] if len(found) <= MOST_STRETCHES else []


def layered(layers: list[Stretch]) -> Stretch:
    """One stretch of several of the same series, the finest first, in which no row counts twice.

    A coarser bucket stands where the finer ones hold fewer than half of its rows, and takes their place there.
    """
    found = layers[0]
    for coarse in layers[1:]:
        if not len(coarse):
            continue
        begins = coarse.time_unix_nano
        ends = begins + coarse.seconds.astype(np.int64) * _SECOND
        rows = np.concatenate([[0], np.cumsum(found.rows)])
        first, last = np.searchsorted(found.time_unix_nano, begins), np.searchsorted(found.time_unix_nano, ends)
        keep = 2 * (rows[last] - rows[first]) < coarse.rows
        covered = np.zeros(len(found) + 1, np.int64)
        np.add.at(covered, first[keep], 1)
        np.add.at(covered, last[keep], -1)
        found = join([found.take(np.cumsum(covered)[:-1] == 0), coarse.take(keep)])
    return found


def _between(stretch: Stretch, since: int, until: int) -> Stretch:
    time = stretch.time_unix_nano
    return stretch.take(slice(np.searchsorted(time, since), np.searchsorted(time, until)))


def _ask_rings(found: SeriesDetail, stretch: Stretch) -> None:
    """Add what detectors of whole entities say at these very times."""
    time = stretch.time_unix_nano
    for name, rows in found.entity_opinions.items():
        place, same = _places(rows["time_unix_nano"], time)
        for by, column in ((stretch.strength, "strength"), (stretch.p_value, "p_value")):
            by[name] = np.full(len(time), np.nan)
            by[name][same] = rows[column][place[same]]


def _places(times: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where each wanted time stands in sorted times, and whether it does."""
    if not len(times):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), np.bool_)
    place = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
    return place, times[place] == wanted


def _ask_buckets(of_entity: Stretch, stretch: Stretch) -> None:
    """Where nothing is known of a detector of whole entities, add the greatest of the bucket that a time lies in."""
    if not len(of_entity) or not len(stretch):
        return
    place = np.searchsorted(of_entity.time_unix_nano, stretch.time_unix_nano, "right") - 1
    inside = place >= 0
    inside[inside] = stretch.time_unix_nano[inside] < (
        of_entity.time_unix_nano[place[inside]] + of_entity.seconds[place[inside]].astype(np.int64) * _SECOND
    )
    # A bucket longer than those of the entity would show only the first of them.
    inside &= stretch.seconds <= of_entity.seconds[place]
    for name, strength in of_entity.strength.items():
        own = stretch.strength.setdefault(name, np.full(len(stretch), np.nan))
        unknown = inside & np.isnan(own)
        own[unknown] = strength[place[unknown]]
