"""The sweep of `isolation_forest`: rows of entities in their order, scored by each key's own forest and then kept.

A key is kept a sample of its rows since the last fit, each as likely as any other to be in it (algorithm R, Vitter
1985), from numbers that follow from the seed and the count of rows. When it is time for a fit the sweep stops.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.entity import Given, Out, any_finite
from foreshock.detect.histogram import LN2, exp
from foreshock.detect.isolation_model import LARGEST_VALUE
from foreshock.state.jit import entry, inner
from foreshock.types import Status

TIME, ROWS, SEEN, FITTED, FEATURES, VARIED, COLUMNS, SLOT, SIZE = range(9)
"""Whole numbers of a slot: time of the last row; rows learnt; rows since the last fit; its time; features of the forest
(0: there is none), and how many of them were not constant; columns seen; where the sample lies: its row in the table of
the `SIZE`th class of widths (0: nowhere)."""
AVERAGE, LIMIT = 10, 11
MODEL = 12
"""Words of a slot at which the model begins: values, then thresholds, then features."""
NARROWEST = 8
"""Columns of the first class of samples; each further one has twice as many."""

DONE, ROOM, FIT = 0, 1, 2
"""Why the sweep stopped: the next row needs a place for its columns, or the key of the last one a fit."""

SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)
ANOMALY, ORDINARY = -1, 1
"""scikit-learn's predictions."""
f4 = np.float32
i8: Any = np.int64
"""A whole number wide enough to count with."""


class Settings(NamedTuple):
    """What the sweep needs to know of the options; `period` ns between fits, 0 where there is only one."""

    trees: int
    depth: int
    window: int
    warm_up: int
    expiry: int
    period: int
    seed: np.uint64
    constants: bool


class Slots(NamedTuple):
    """The memory of the slots, one row each: as whole numbers, as numbers, as float32 and as uint16."""

    whole: NDArray[np.int64]
    number: NDArray[np.float64]
    single: NDArray[np.float32]
    short: NDArray[np.uint16]


class Work(NamedTuple):
    """Scratch: a row as the forest sees it, the node of each tree it falls into, contributions; why it stopped."""

    x: NDArray[np.float32]
    leaf: NDArray[np.int32]
    share: NDArray[np.float64]
    why: NDArray[np.int64]


@entry
def sweep(slots: Slots, samples: Any, given: Given, first: int, settings: Settings, work: Work, out: Out) -> int:
    """Judge and keep rows of a frame from `first` on, in `out` as `blank` made it.

    `samples` are the tables of samples by class, float32[slots, (1 + window) · columns]: the levels of features that
    were constant, then rows. Returns how many rows are done; `work.why` says why not all.
    """
    work.why[0] = DONE
    for i in range(first, len(given.key)):
        if given.status[i] != SCORED:
            continue
        values, width = given.values[i], i8(given.width[i])
        if not any_finite(values, width):
            out.status[i] = MISSING
            continue
        key = np.uint32(given.key[i])
        whole = slots.whole[key]
        now, learn = given.time[i], given.learn[i]
        fresh = whole[ROWS] == 0 or now - whole[TIME] > settings.expiry
        if learn and (whole[SIZE] == 0 or width > NARROWEST << (whole[SIZE] - 1)):
            work.why[0] = ROOM
            return i
        if fresh or whole[FEATURES] == 0:
            out.status[i] = WARMING_UP
        else:
            _judge(slots, samples, key, values, width, settings, work, out, i)
        if learn:
            if fresh:
                whole[ROWS], whole[SEEN], whole[FEATURES], whole[FITTED], whole[COLUMNS] = 0, 0, 0, 0, 0
            _keep(whole, samples[whole[SIZE] - 1][np.uint32(whole[SLOT])], values, width, now, settings)
            if _due(whole, settings):
                work.why[0] = FIT
                return i + 1
    return len(given.key)


@inner
def _due(whole: NDArray[np.int64], settings: Settings) -> bool:
    """Whether it is time for a fit: the first once warm, the next at the first row of another period."""
    if whole[SEEN] < settings.warm_up:
        return False
    if whole[FEATURES] == 0:
        return True
    return settings.period > 0 and whole[TIME] // settings.period > whole[FITTED] // settings.period


@inner
def _number(value: float) -> np.float32:
    """A value as float32, NaN where it is missing."""
    return f4(min(max(value, -LARGEST_VALUE), LARGEST_VALUE)) if abs(value) < np.inf else f4(np.nan)


@inner
def _keep(
    whole: NDArray[np.int64],
    sample: NDArray[np.float32],
    values: NDArray[np.float64],
    width: int,
    now: int,
    settings: Settings,
) -> None:
    """Count a row and, where its number says so, take it into the sample."""
    place = whole[SEEN]
    if place >= settings.window:
        place = i8(_mixed(np.uint64(whole[ROWS]) + settings.seed) % np.uint64(whole[SEEN] + 1))
    if place < settings.window:
        columns = i8(NARROWEST) << (whole[SIZE] - 1)
        start = (1 + place) * columns
        for j in range(columns):
            sample[start + j] = _number(values[j]) if j < width else f4(np.nan)
    whole[TIME] = now if whole[ROWS] == 0 else max(now, whole[TIME])
    whole[COLUMNS] = max(whole[COLUMNS], width)
    whole[ROWS] += 1
    whole[SEEN] += 1


@inner
def _mixed(number: np.uint64) -> np.uint64:
    """A number without any pattern, by splitmix64 (Steele, Lea & Flood 2014)."""
    z = number * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner
def _judge(
    slots: Slots,
    samples: Any,
    key: np.uint32,
    values: NDArray[np.float64],
    width: int,
    settings: Settings,
    work: Work,
    out: Out,
    i: int,
) -> None:
    """Score and prediction of a row, and if they are asked for the contributions of its features."""
    whole, single, short = slots.whole[key], slots.single[key], slots.short[key]
    trees, depth, features = settings.trees, settings.depth, whole[FEATURES]
    places = trees << depth
    value = single[2 * MODEL : 2 * MODEL + 2 * places]
    threshold = single[2 * MODEL + 2 * places : 2 * MODEL + 3 * places]
    feature = short[4 * MODEL + 6 * places : 4 * MODEL + 7 * places]
    level = samples[whole[SIZE] - 1][np.uint32(whole[SLOT])]
    x, complete = work.x, True
    for j in range(features):
        x[j] = _number(values[j]) if j < width else f4(np.nan)
        complete &= x[j] == x[j]
    if complete:
        _fall(x, feature, threshold, trees, depth, work.leaf)
    else:
        _fall_with_gaps(x, feature, threshold, value, trees, depth, work.leaf)
    total = 0.0
    for t in range(trees):
        total += float(value[np.uintp((t << (depth + 1)) + work.leaf[t])])
    average = slots.number[key][AVERAGE]
    moved = 0.0
    if settings.constants or whole[VARIED] == 0:
        moved = _moved(x, level, features)
    # A feature that stood still is split off at once where it moves: a path of one step.
    path = (1.0 - moved) * (total / trees) + moved
    score = exp(-LN2 * path / average)
    out.score[i] = score
    out.prediction[i] = ANOMALY if score > slots.number[key][LIMIT] else ORDINARY
    if out.contribution.shape[1] > 0:
        _contribute(x, feature, value, level, moved, average, settings, features, work, out.contribution[i])


@inner
def _fall(
    x: NDArray[np.float32],
    feature: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    trees: int,
    depth: int,
    leaf: NDArray[np.int32],
) -> None:
    """All trees level by level: steps of one tree wait for each other, those of many do not."""
    for t in range(trees):
        leaf[t] = 1
    for _ in range(depth):
        for t in range(trees):
            node = i8(leaf[t])
            at = np.uintp((t << depth) + node)
            leaf[t] = 2 * node + (0 if x[feature[at]] <= threshold[at] else 1)


@inner
def _fall_with_gaps(
    x: NDArray[np.float32],
    feature: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    value: NDArray[np.float32],
    trees: int,
    depth: int,
    leaf: NDArray[np.int32],
) -> None:
    """Where the feature of a split is missing: to the child that was fitted on more rows, right if they are equal."""
    for t in range(trees):
        node = i8(1)
        for _ in range(depth):
            at = np.uintp((t << depth) + node)
            right = not x[feature[at]] <= threshold[at]
            if x[feature[at]] != x[feature[at]]:
                below = np.uintp((t << (depth + 1)) + 2 * node)
                right = value[below] <= value[below + np.uintp(1)]
            node = 2 * node + (1 if right else 0)
        leaf[t] = node


@inner
def _moved(x: NDArray[np.float32], level: NDArray[np.float32], features: int) -> float:
    """Which share of the features that are there were constant and are not where they stood."""
    there, moved = 0.0, 0.0
    for j in range(features):
        if x[j] == x[j]:
            there += 1.0
            if level[j] == level[j] and x[j] != level[j]:
                moved += 1.0
    return moved / there if there > 0.0 else 0.0


@inner
def _contribute(
    x: NDArray[np.float32],
    feature: NDArray[np.uint16],
    value: NDArray[np.float32],
    level: NDArray[np.float32],
    moved: float,
    average: float,
    settings: Settings,
    features: int,
    work: Work,
    contribution: NDArray[np.float32],
) -> None:
    """By how many steps each feature shortens the row's path, on average over trees: what splits on it save.

    A split from n rows to m saves c(n) − c(m) − 1; all together save c(rows of a tree) − path length.
    """
    trees, depth, share = settings.trees, settings.depth, work.share
    there, constants = 0.0, settings.constants or moved > 0.0
    for j in range(features):
        share[j] = 0.0
        if x[j] == x[j]:
            there += 1.0
    for t in range(trees):
        leaf, base = i8(work.leaf[t]), t << (depth + 1)
        for d in range(depth):
            node = leaf >> (depth - d)
            child = leaf >> (depth - d - 1)
            saved = float(value[np.uintp(base + node)]) - float(value[np.uintp(base + child)])
            share[feature[np.uintp((t << depth) + node)]] += saved
    for j in range(min(features, len(contribution))):
        if x[j] == x[j]:
            part = (1.0 - moved) * share[j] / trees
            if constants and level[j] == level[j] and x[j] != level[j]:
                part += (average - 1.0) / there
            contribution[j] = part
