"""Where half-space trees split: the same for every key with as many features, drawn once from a seed."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from foreshock.state.jit import entry, inner

PADDING = 0.15
"""No split lies nearer to either end of what its node has of a feature than this share of it."""


def draws(seed: int, trees: int, height: int) -> NDArray[np.float64]:
    """The random numbers that trees are made of, two a split: float64[2 · trees · (2^height − 1)]."""
    stream = random.Random(seed)
    return np.array([stream.random() for _ in range(2 * trees * ((1 << height) - 1))])


def grow(
    numbers: NDArray[np.float64], trees: int, height: int, features: int, limits: tuple[float, float]
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Features and thresholds of all splits: uint16 and float64[trees << height], node i of tree t at (t << height) + i

    The trees are those that river's HalfSpaceTrees makes of the same seed where its features, in their order, all have
    these limits: a feature is drawn by how much of it a node has, the threshold evenly from that, less its padding.
    """
    feature, threshold = np.zeros(trees << height, np.uint16), np.zeros(trees << height)
    bounds, path, side = np.empty((2, features)), np.zeros((3, height)), np.zeros(height + 1, np.int8)
    _grow(numbers, trees, height, limits, bounds, path, side, feature, threshold)
    return feature, threshold


@entry
def _grow(
    numbers: NDArray[np.float64],
    trees: int,
    height: int,
    limits: tuple[float, float],
    bounds: NDArray[np.float64],
    path: NDArray[np.float64],
    side: NDArray[np.int8],
    feature: NDArray[np.uint16],
    threshold: NDArray[np.float64],
) -> None:
    """Each node before its left and that before its right subtree.

    Of the nodes above, `path` has the feature and the bounds that it had, `side` what is done: nothing, left or both.
    """
    low, high = bounds[0], bounds[1]
    drawn = 0
    for t in range(trees):
        for j in range(len(low)):
            low[j], high[j] = limits[0], limits[1]
        depth, node = 0, 1
        side[0] = 0
        while depth >= 0:
            at = (t << height) + node
            if depth < height and side[depth] < 2:
                if side[depth] == 0:
                    on = _pick(numbers[drawn], low, high)
                    a, b = low[on], high[on]
                    start, end = a + PADDING * (b - a), b - PADDING * (b - a)
                    feature[at], threshold[at] = on, start + (end - start) * numbers[drawn + 1]
                    path[0, depth], path[1, depth], path[2, depth] = on, a, b
                    high[on] = threshold[at]
                    drawn += 2
                else:
                    on = int(path[0, depth])
                    low[on], high[on] = threshold[at], path[2, depth]
                node = 2 * node + side[depth]
                side[depth] += 1
                depth += 1
                side[depth] = 0
            else:
                if depth < height:
                    on = int(path[0, depth])
                    low[on], high[on] = path[1, depth], path[2, depth]
                node, depth = node >> 1, depth - 1


@inner
def _pick(number: float, low: NDArray[np.float64], high: NDArray[np.float64]) -> int:
    """The feature at a share `number` of the sum of what there is of each."""
    total = 0.0
    for j in range(len(low)):
        total += high[j] - low[j]
    wanted, above = number * total, 0.0
    for j in range(len(low) - 1):
        above += high[j] - low[j]
        if wanted < above:
            return j
    return len(low) - 1
