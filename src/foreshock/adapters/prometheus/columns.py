"""Raw series on a grid of times → features: counters as rates, copies together, quantiles of histograms.

Everything here is arithmetic on columns `float64[rows, series]`, NaN = no sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.prometheus.names import Kind, unit_of
from foreshock.types import Labels, Series

QUANTILES = (0.5, 0.95, 0.99)
LEAST_BEYOND = 5.0
"""Observations that lie beyond a quantile, at least: with fewer it leaps from bucket to bucket with each of them."""
WINDOW_SECONDS = 60.0
"""Quantiles are those of the observations of so long, and of at least one step."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Raw:
    """One series of Prometheus and what it is a part of.

    `metric` is the name it is read by; `feature`, `entity`, `attributes` and `unit` name what it goes into; `le` is the
    upper bound of a bucket. The same series of several servers has one `identity` and differs in `replica`. `stride` is
    the steps between two scrapes.
    """

    kind: Kind
    metric: str
    feature: str
    entity: Labels
    attributes: Labels
    unit: str = ""
    le: float = 0.0
    replica: str = ""
    identity: tuple[Any, ...] = ()
    stride: int = 1

    @property
    def group(self) -> tuple[Labels, str, Labels]:
        """What it is one of the parts of."""
        return self.entity, self.feature, self.attributes


@dataclass(frozen=True, slots=True)
class _Sum:
    """Columns in the order of their groups, and where each group starts."""

    order: Ints
    starts: Ints

    def __call__(self, values: Floats) -> tuple[Floats, Ints]:
        """Sum and count of what is there, by group."""
        there = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            sums = np.add.reduceat(np.where(there, values, 0.0), self.starts, axis=1)
        return sums, np.add.reduceat(there.astype(np.int64), self.starts, axis=1)


@dataclass(frozen=True, slots=True)
class _Histograms:
    """Histograms of the same bounds `float64[b]`; `place int64[g, b]` are their sums among those of all buckets."""

    bounds: Floats
    place: Ints


class Columns:
    """What raw series become, and the past that this needs: rows go in in order, a step apart.

    `features` are the columns that come out, those of an entity side by side, from `starts` on. Gauges are the mean of
    their copies, counters the sum of their rates, histograms their quantiles. Of replicas the one that was used
    before goes on until it is gone.
    """

    def __init__(self, raws: Sequence[Raw], step_seconds: float) -> None:
        self.raws, self._step = list(raws), step_seconds
        strides = [raw.stride for raw in raws]
        self._window = max([1, round(WINDOW_SECONDS / step_seconds), *strides])
        self._reach = self._window + 5
        self.lead = self._window + self._reach
        """Rows before the first that are needed for what looks back."""
        self._past: Floats = np.full((self.lead, len(raws)), np.nan)
        numbered = list(enumerate(raws))
        self._replicas = [
            np.array([at for _, at in sorted((raws[at].replica, at) for at in found)], np.int64)
            for found in _grouped([pair for pair in numbered if pair[1].replica], "identity")
            if len(found) > 1
        ]
        self._chosen = [0] * len(self._replicas)
        self._gauges, gauges = _sums(numbered, Kind.GAUGE)
        self._counters, counters = _sums(numbered, Kind.COUNTER)
        self._buckets, self._histograms, histograms = _bucket_sums(numbered)
        features = [_series(raws[at], Kind.GAUGE) for at in gauges]
        features += [_series(raws[at], Kind.COUNTER) for at in counters]
        features += [_quantile(raws[at], q) for at in histograms for q in QUANTILES]
        order = sorted(range(len(features)), key=lambda at: (features[at].entity, features[at].feature))
        self.features = tuple(features[at] for at in order)
        self._order = np.array(order, np.int64)
        entities = [series.entity for series in self.features]
        self.starts = np.array([i for i, one in enumerate(entities) if not i or one != entities[i - 1]], np.int64)
        self._lag = np.array(strides, np.int64)

    def look_back(self, values: Floats) -> None:
        """Take rows `float64[r, s]` as what was before, giving nothing."""
        self._remember(np.concatenate([self._past, self._without_replicas(values)]))

    def take(self, values: Floats) -> Floats:
        """Features `float64[r, f]` of the next rows `float64[r, s]`."""
        whole = np.concatenate([self._past, self._without_replicas(values)])
        out = np.full((len(values), len(self.features)), np.nan)
        parts = [self._of_gauges(whole), *self._of_counters(whole)]
        if parts:
            out = np.concatenate([part for part in parts if part.shape[1]] or [out], axis=1)[:, self._order]
        self._remember(whole)
        return out

    def inherit(self, before: Columns, places: Iterable[tuple[int, int]]) -> None:
        """Take over the past of other columns: pairs (here, there) of the raw series that both have."""
        pairs = np.array(list(places), np.int64).reshape(-1, 2)
        rows = min(self.lead, before.lead)
        self._past[self.lead - rows :, pairs[:, 0]] = before._past[before.lead - rows :, pairs[:, 1]]
        chosen = {before.raws[int(c[at])].replica for c, at in zip(before._replicas, before._chosen, strict=True)}
        for number, columns in enumerate(self._replicas):
            known = [at for at, column in enumerate(columns.tolist()) if self.raws[column].replica in chosen]
            self._chosen[number] = known[0] if known else 0

    def _remember(self, whole: Floats) -> None:
        self._past = whole[len(whole) - self.lead :].copy()

    def _of_gauges(self, whole: Floats) -> Floats:
        if self._gauges is None:
            return np.empty((len(whole) - self.lead, 0))
        sums, counts = self._gauges(whole[self.lead :, self._gauges.order])
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def _of_counters(self, whole: Floats) -> list[Floats]:
        out: list[Floats] = []
        if self._counters is not None:
            order = self._counters.order
            found = rates(whole[:, order], self._lag[order], self._step, self._reach)
            sums, counts = self._counters(found[self.lead :])
            out.append(np.where(counts > 0, sums, np.nan))
        if self._buckets is not None:
            grown, _ = increases(whole[:, self._buckets.order], self._reach)
            gone = np.isnan(whole[self.lead :, self._buckets.order])
            fresh = np.where(gone, np.nan, grown[self.lead :] - grown[self.lead - self._window : -self._window])
            sums, counts = self._buckets(fresh)
            sums[counts == 0] = np.nan
            for one in self._histograms:
                found = quantiles(one.bounds, sums[:, one.place], QUANTILES)
                beyond = sums[:, one.place[:, -1], None] * (1.0 - np.array(QUANTILES))
                found[beyond < LEAST_BEYOND] = np.nan
                out.append(found.reshape(len(found), found.shape[1] * found.shape[2]))
        return out

    def _without_replicas(self, values: Floats) -> Floats:
        """The rows with each set of replicas in the first of its columns, the others empty."""
        if not self._replicas:
            return values
        values = values.copy()
        for number, columns in enumerate(self._replicas):
            last = _last_of(self._past[:, columns[0]])
            grows = self.raws[columns[0]].kind is not Kind.GAUGE
            one, self._chosen[number] = choose(values[:, columns], self._chosen[number], last if grows else np.nan)
            values[:, columns] = np.nan
            values[:, columns[0]] = one
        return values


def increases(values: Floats, reach: int) -> tuple[Floats, Ints]:
    """Of counters `float64[r, s]`: how much each has grown since the first row, and the row of its last sample (−1).

    A counter that fell began again at 0, as in PromQL's `increase`. Growth over a gap counts where the gap ends; over
    more than `reach` rows it does not count.
    """
    there = np.isfinite(values)
    row = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(there, row, -1), axis=0)
    filled = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    grown = np.zeros_like(values)
    steps = filled[1:] - filled[:-1]
    steps = np.where(steps < 0, filled[1:], steps)
    counts = (last[:-1] >= 0) & (row[1:] - last[:-1] <= reach)
    grown[1:] = np.cumsum(np.where(counts, steps, 0.0), axis=0)
    return grown, last


def rates(values: Floats, lag: Ints, step_seconds: float, reach: int) -> Floats:
    """Growth per second of counters `float64[r, s]` over the last `lag int64[s]` rows; behind a gap, over all of it.

    NaN where there is no sample, or none in the `reach` rows before.
    """
    grown, last = increases(values, reach)
    row = np.arange(len(values))[:, None]
    earlier = row - lag[None, :]
    before = np.where(earlier >= 0, np.take_along_axis(last, np.maximum(earlier, 0), axis=0), -1)
    growth = grown - np.take_along_axis(grown, np.maximum(before, 0), axis=0)
    known = (before >= 0) & (row - before <= reach) & np.isfinite(values)
    return np.where(known, growth / ((row - before) * step_seconds), np.nan)


def quantiles(bounds: Floats, counts: Floats, wanted: Sequence[float]) -> Floats:
    """Quantiles `float64[r, g, q]` of cumulative counts `float64[r, g, b]` below rising `bounds float64[b]`.

    As PromQL's `histogram_quantile`: linear within a bucket, from 0 in the first; beyond the last finite bound, that
    bound; NaN without observations, without two buckets, or where the last bound is not infinite.
    """
    out = np.full((*counts.shape[:2], len(wanted)), np.nan)
    if len(bounds) < 2 or not np.isposinf(bounds[-1]):
        return out
    counts = np.maximum.accumulate(counts, axis=2)
    total = counts[..., -1]
    for number, q in enumerate(wanted):
        rank = q * total
        at = (counts[..., :-1] < rank[..., None]).sum(axis=2)
        inside = np.minimum(at, len(bounds) - 2)
        end, first = bounds[inside], inside == 0
        below = np.maximum(inside - 1, 0)
        start = np.where(first, 0.0, bounds[below])
        before = np.where(first, 0.0, np.take_along_axis(counts, below[..., None], axis=2)[..., 0])
        width = np.take_along_axis(counts, inside[..., None], axis=2)[..., 0] - before
        with np.errstate(invalid="ignore", divide="ignore"):
            found = start + (end - start) * ((rank - before) / width)
        found = np.where(first & (end <= 0), end, found)
        found = np.where(at > inside, bounds[-2], found)
        out[..., number] = np.where(total > 0, found, np.nan)
    return out


def choose(values: Floats, current: int, last: float) -> tuple[Floats, int]:
    """One column of those of replicas `float64[r, k]`: the current one until it is gone; and which it is at the end.

    `last` is the last value taken where it is a counter's, else NaN: one that is a little behind the one before has
    no value until it has come up to it, for its fall would look like a restart.
    """
    out = np.full(len(values), np.nan)
    there, row = ~np.isnan(values), 0
    while row < len(values):
        here = there[row:, current]
        run = len(here) if here.all() else int(np.argmin(here))
        out[row : row + run] = values[row : row + run, current]
        if run:
            last = _caught_up(out[row : row + run], last)
        row += run
        if row < len(values):
            if there[row].any():
                current = int(np.argmax(there[row]))
            else:
                row += 1
    return out, current


def _caught_up(values: Floats, last: float) -> float:
    """Empty, in place, what another replica had before `last`, and give the last value."""
    behind = np.isfinite(last) & (values < last) & (values > 0.5 * last)
    run = len(values) if behind.all() else int(np.argmin(behind))
    values[:run] = np.nan
    return last if run == len(values) or np.isnan(last) else float(values[-1])


def _last_of(values: Floats) -> float:
    there = np.flatnonzero(np.isfinite(values))
    return float(values[there[-1]]) if len(there) else -np.inf


def _grouped(numbered: Iterable[tuple[int, Raw]], by: str) -> list[list[int]]:
    """Numbers of the raw series of each group, groups in order."""
    key = attrgetter(by)
    ordered = sorted(numbered, key=lambda pair: (key(pair[1]), pair[1].le, pair[0]))
    return [[at for at, _ in found] for _, found in groupby(ordered, key=lambda pair: key(pair[1]))]


def _sums(numbered: Sequence[tuple[int, Raw]], kind: Kind) -> tuple[_Sum | None, list[int]]:
    """How the series of a kind are summed, and one series of each group."""
    groups = _grouped([pair for pair in numbered if pair[1].kind is kind], "group")
    return _sum_of(groups), [group[0] for group in groups]


def _sum_of(groups: Sequence[Sequence[int]]) -> _Sum | None:
    if not groups:
        return None
    lengths = [0, *(len(group) for group in groups[:-1])]
    return _Sum(np.array([at for group in groups for at in group], np.int64), np.cumsum(lengths, dtype=np.int64))


def _bucket_sums(numbered: Sequence[tuple[int, Raw]]) -> tuple[_Sum | None, list[_Histograms], list[int]]:
    """How buckets are summed, the histograms by their bounds, and one series of each in that order."""
    raws = dict(numbered)
    sums: list[list[int]] = []
    alike: dict[tuple[float, ...], list[tuple[int, list[int]]]] = {}
    for group in _grouped([pair for pair in numbered if pair[1].kind is Kind.BUCKET], "group"):
        buckets = [list(found) for _, found in groupby(group, key=lambda at: raws[at].le)]
        places = list(range(len(sums), len(sums) + len(buckets)))
        sums += buckets
        alike.setdefault(tuple(raws[bucket[0]].le for bucket in buckets), []).append((group[0], places))
    found = [
        _Histograms(np.array(bounds), np.array([places for _, places in several], np.int64))
        for bounds, several in alike.items()
    ]
    return _sum_of(sums), found, [at for several in alike.values() for at, _ in several]


def _series(raw: Raw, kind: Kind) -> Series:
    unit = raw.unit or unit_of(raw.feature, per_second=kind is Kind.COUNTER)
    return Series(raw.feature, raw.entity, raw.attributes, unit)


def _quantile(raw: Raw, q: float) -> Series:
    attributes = tuple(sorted((*raw.attributes, ("quantile", f"{q:g}"))))
    return Series(raw.feature, raw.entity, attributes, raw.unit or unit_of(raw.feature))
