"""Made-up telemetry of entities that are well, and of such that break: metrics of many kinds under one load."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

DAY_SECONDS = 86_400.0
Values = NDArray[np.float64]
Make = Callable[[np.random.Generator, Values], Values]
"""Draws a metric in units of its own, from the load of its entity."""


def entity(rng: np.random.Generator, metrics: int, seconds: Values) -> Values:
    """Metrics of an entity that is well, at these times (s, one step apart): float64[n, metrics].

    Each is of one of `KINDS`, all of which take their turn, at a level and in a unit of its own.
    """
    shared = _load(rng, seconds)
    kinds = [kind for _ in range(-(-metrics // len(KINDS))) for kind in rng.permutation(sorted(KINDS)).tolist()]
    columns = []
    for kind in kinds[:metrics]:
        unit = 10.0 ** rng.uniform(-2, 6)
        level = 0.0 if kind in POSITIVE else rng.uniform(0, 20)
        columns.append(unit * (level + KINDS[kind](rng, shared)))
    return np.stack(columns, axis=1)


def broken(rng: np.random.Generator, values: Values, rows: list[tuple[int, int]], metrics: int) -> Values:
    """The same entity with a shift of 8 standard deviations of as many metrics within each [first, last) of `rows`.

    The deviation is that of the metric's own changes and of its whole, whichever is smaller.
    """
    out = values.copy()
    spread = np.minimum(values.std(axis=0), np.diff(values, axis=0).std(axis=0))
    for first, last in rows:
        hit = rng.permutation(values.shape[1])[:metrics]
        out[first:last, hit] += 8.0 * spread[hit] * rng.choice([-1.0, 1.0], len(hit))
    return out


def _load(rng: np.random.Generator, seconds: Values) -> Values:
    """What all metrics of an entity may follow: a day with a peak, and an hour or so of memory; about 1 wide."""
    phase = 2 * math.pi * (seconds / DAY_SECONDS + rng.uniform())
    day = np.sin(phase) + 0.3 * np.sin(2 * phase + rng.uniform(0, 6))
    return day + rng.uniform(0.1, 0.5) * _ar1(rng, len(seconds), 0.9)


def _ar1(rng: np.random.Generator, n: int, memory: float) -> Values:
    """An AR(1) process of unit variance; what is older than its share of 1e-4 is cut off."""
    lags = max(2, math.ceil(math.log(1e-4) / math.log(memory)))
    weights = memory ** np.arange(lags) * math.sqrt(1 - memory**2)
    return np.asarray(np.convolve(rng.normal(size=n + lags), weights)[lags : lags + n])


def _normal(rng: np.random.Generator, load: Values) -> Values:
    return rng.normal(size=len(load))


def _autoregressive(rng: np.random.Generator, load: Values) -> Values:
    return _ar1(rng, len(load), rng.uniform(0.5, 0.95))


def _student(rng: np.random.Generator, load: Values) -> Values:
    return rng.standard_t(rng.uniform(4, 8), len(load))


def _season(rng: np.random.Generator, load: Values) -> Values:
    return rng.uniform(2, 6) * load + rng.normal(size=len(load))


def _multiplicative(rng: np.random.Generator, load: Values) -> Values:
    return np.exp(rng.uniform(0.2, 0.6) * load + rng.uniform(0.05, 0.2) * rng.normal(size=len(load)))


def _counts(rng: np.random.Generator, load: Values) -> Values:
    mean = 10 ** rng.uniform(-0.5, 2.5)
    return rng.poisson(mean * np.exp(0.4 * load)).astype(np.float64)


def _drift(rng: np.random.Generator, load: Values) -> Values:
    return rng.normal(size=len(load)) + 0.05 * np.cumsum(rng.normal(size=len(load)))


def _mostly_zero(rng: np.random.Generator, load: Values) -> Values:
    busy = rng.random(len(load)) < rng.uniform(0.005, 0.05)
    return np.where(busy, rng.exponential(size=len(load)), 0.0)


KINDS: dict[str, Make] = {
    "normal": _normal,
    "ar1": _autoregressive,
    "student": _student,
    "season": _season,
    "multiplicative": _multiplicative,
    "counts": _counts,
    "drift": _drift,
    "mostly_zero": _mostly_zero,
}
POSITIVE = frozenset({"multiplicative", "counts", "mostly_zero"})
"""Kinds that have a natural zero and stay there."""

__all__ = ["DAY_SECONDS", "KINDS", "broken", "entity"]
