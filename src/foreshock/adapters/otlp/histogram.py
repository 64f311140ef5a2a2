"""Quantiles of what OTLP histograms counted in one interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from foreshock.adapters.prometheus.columns import QUANTILES, quantiles
from foreshock.types import Labels

Counted = tuple[tuple[float, ...], list[int]]
"""Upper bounds of the buckets, the last infinite, and how many observations lay below each."""

_MOST_BUCKETS = 2000
_LARGEST_POWER = 1000.0


class Buckets(NamedTuple):
    """The observations of one data point, and the series that their quantiles belong to."""

    bounds: tuple[float, ...]
    below: list[int]
    name: str
    attributes: Labels
    unit: str
    entity: Labels
    time_unix_nano: int


def explicit(point: Any) -> Counted | None:
    """The buckets of a HistogramDataPoint; None where it has none. ValueError where they contradict themselves."""
    bounds, counts = tuple(point.explicit_bounds), list(point.bucket_counts)
    if not counts and not bounds:
        return None
    rising = all(low < high for low, high in pairwise(bounds))
    if len(counts) != len(bounds) + 1 or not rising or not all(map(math.isfinite, bounds)):
        raise ValueError("bounds and counts do not fit together")
    below = list(accumulate(counts))
    if below[-1] != point.count:
        raise ValueError("the buckets do not add up to the count")
    return ((*bounds, math.inf), below) if bounds and len(bounds) <= _MOST_BUCKETS else None


def exponential(point: Any) -> Counted | None:
    """The buckets of an ExponentialHistogramDataPoint; None with negative values, or beyond what a double holds.

    ValueError where the counts do not add up.
    """
    positive = point.positive
    counts = list(positive.bucket_counts)
    if point.zero_count + sum(counts) + sum(point.negative.bucket_counts) != point.count:
        raise ValueError("the buckets do not add up to the count")
    if any(point.negative.bucket_counts) or len(counts) > _MOST_BUCKETS or not -10 <= point.scale <= 20:
        return None
    power = 2.0**-point.scale
    if max(abs(positive.offset), abs(positive.offset + len(counts))) * power > _LARGEST_POWER:
        return None
    bounds = [2.0 ** ((positive.offset + at) * power) for at in range(len(counts) + 1)]
    # Of what counts as zero nothing is known but that it lies below the first bucket.
    return (*bounds, math.inf), [*accumulate([point.zero_count, *counts]), int(point.count)]


def quantile_values(points: Sequence[Buckets]) -> Iterator[tuple[Buckets, float, float]]:
    """Each point with each of the usual quantiles and its value; points with the same bounds are worked out at once."""
    alike: dict[tuple[float, ...], list[Buckets]] = {}
    for one in points:
        alike.setdefault(one.bounds, []).append(one)
    for bounds, group in alike.items():
        counts = np.array([one.below for one in group], np.float64)[:, None, :]
        found = quantiles(np.array(bounds), counts, QUANTILES)[:, 0]
        for one, row in zip(group, found.tolist(), strict=True):
            for q, value in zip(QUANTILES, row, strict=True):
                yield one, q, value
