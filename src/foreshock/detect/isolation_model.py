"""An isolation forest: fitted by scikit-learn, laid out as arrays of one size that kernels walk.

`fit` is a pure function of its arguments, so that it can run beside the stream; until models are activated by records,
`isolation_forest` calls it in line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.errors import ConfigError

LARGEST_VALUE = 1e30
"""Finite values beyond it count as this: scikit-learn's trees are of float32."""
EULER = 0.5772156649015329


class ForestSettings(NamedTuple):
    """What `fit` is told: trees, rows each is drawn from at most, and the share of anomalies (None: 0.5 decides)."""

    n_estimators: int
    max_samples: int
    contamination: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A forest of T trees whose nodes are numbered from the root, 1, so that the children of i are 2i and 2i + 1.

    `feature uint16[T, 2^d]`, `threshold float32[T, 2^d]`: to the left goes what is at most the threshold. A leaf above
    the last level has the threshold inf and hands on. `value float32[T, 2^(d+1)]`: the depth of a node plus the average
    path length among the rows it was given, so at a leaf the path length of a row. `level float32[D]`: the value of a
    feature that was constant, else NaN. `average`: the path length of an ordinary row. `limit`: a higher score is an
    anomaly.
    """

    feature: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    value: NDArray[np.float32]
    level: NDArray[np.float32]
    average: float
    limit: float


def need_scikit_learn() -> Any:
    """The module sklearn.ensemble; ConfigError says which extra brings it where it is missing."""
    try:
        from sklearn import ensemble
    except ImportError as error:
        raise ConfigError(
            f"isolation_forest needs scikit-learn, which cannot be imported ({error}): pip install 'foreshock[forest]'"
        ) from error
    return ensemble


def average_path(n: int) -> float:
    """Comparisons of an unsuccessful search in a binary tree of n rows, c(n) of Liu et al. 2008.

    >>> average_path(1), average_path(2), round(average_path(256), 4)
    (0.0, 1.0, 10.2448)
    """
    if n <= 2:
        return max(n - 1.0, 0.0)
    return 2.0 * (math.log(n - 1.0) + EULER) - 2.0 * (n - 1.0) / n


def depth_of(samples: int) -> int:
    """Levels of a tree over so many rows: it is not grown deeper than their logarithm."""
    return max((samples - 1).bit_length(), 1)


def fit(history: NDArray[np.float32], seed: int, settings: ForestSettings, depth: int | None = None) -> Model:
    """The forest that scikit-learn's IsolationForest makes of a history.

    Parameters
        history   float32[n, D] rows, oldest first, n ≥ 2; NaN = missing, which counts as the feature's median
        seed      its `random_state`
        settings  its `n_estimators`, `max_samples` (at most n) and `contamination`
        depth     levels to lay trees out for; by default as many as they can have

    Raises ConfigError where scikit-learn is not there. Pure: the same arguments give the same model.
    """
    forest = fitted(history, seed, settings)
    samples = min(settings.max_samples, len(history))
    depth = depth_of(samples) if depth is None else depth
    averages = np.array([average_path(n) for n in range(len(history) + 1)])
    feature, threshold, value = _lay_out([one.tree_ for one in forest.estimators_], averages, depth)
    filled = fill(history)
    level = np.where((filled == filled[:1]).all(axis=0), filled[0], np.float32(np.nan)).astype(np.float32)
    return Model(feature, threshold, value, level, average_path(samples), -float(forest.offset_))


def fitted(history: NDArray[np.float32], seed: int, settings: ForestSettings) -> Any:
    """scikit-learn's own forest, see `fit`."""
    forest = need_scikit_learn().IsolationForest(
        n_estimators=settings.n_estimators,
        max_samples=min(settings.max_samples, len(history)),
        contamination="auto" if settings.contamination is None else settings.contamination,
        random_state=seed,
    )
    return forest.fit(fill(history))


def fill(history: NDArray[np.float32]) -> NDArray[np.float32]:
    """The history with medians in place of what is missing, 0 for a feature that is missing throughout."""
    out = np.array(history, np.float32)
    for j in np.flatnonzero(np.isnan(out).any(axis=0)):
        there = ~np.isnan(out[:, j])
        out[~there, j] = np.median(out[there, j]) if there.any() else 0.0
    return out


def _lay_out(
    trees: list[Any], averages: NDArray[np.float64], depth: int
) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.float32]]:
    """Trees of scikit-learn, all together level by level; a leaf that comes early stands for all below it."""
    feature = np.zeros((len(trees), 1 << depth), np.uint16)
    threshold = np.full(feature.shape, np.inf, np.float32)
    value = np.zeros((len(trees), 2 << depth), np.float32)
    sizes = np.array([tree.node_count for tree in trees])
    first_node = np.cumsum(sizes) - sizes
    shift = np.repeat(first_node, sizes)
    left = np.concatenate([tree.children_left for tree in trees])
    right = np.concatenate([tree.children_right for tree in trees]) + shift
    leaves, left = left < 0, left + shift
    features = np.where(leaves, 0, np.concatenate([tree.feature for tree in trees]))
    thresholds = rounded_down(np.concatenate([tree.threshold for tree in trees]))
    thresholds[leaves] = np.inf
    path = averages[np.concatenate([tree.n_node_samples for tree in trees])]
    node, at = first_node[:, None], np.zeros((len(trees), 1), np.int64)
    value[:, 1] = path[first_node]
    for level in range(depth):
        first, leaf = 1 << level, leaves[node]
        feature[:, first : 2 * first], threshold[:, first : 2 * first] = features[node], thresholds[node]
        at = np.repeat(np.where(leaf, at, level + 1), 2, axis=1)
        both = np.where(leaf, node, left[node]), np.where(leaf, node, right[node])
        node = np.stack(both, axis=2).reshape(len(trees), 2 * first)
        value[:, 2 * first : 4 * first] = at + path[node]
    assert leaves[node].all(), "the trees are deeper than they are laid out for"
    return feature, threshold, value


def rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each: float32 values compare with it as with the float64.

    >>> [float(x) for x in rounded_down(np.array([0.5, 0.1]))]
    [0.5, 0.09999999403953552]
    """
    near = threshold.astype(np.float32)
    below: NDArray[np.float32] = np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
    return below
