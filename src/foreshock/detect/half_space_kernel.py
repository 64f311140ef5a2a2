"""The sweep of `half_space_trees`: rows of entities in their order, score and only then learn.

All trees are complete binary trees of one height, nodes numbered from the root, 1, so that the children of node i are
2i and 2i + 1. Where they split does not depend on the rows: keys with equally many features share them. Of its own a
key has the rows of the current window in each leaf, and what a row counts that falls into a leaf by the last whole
window: half of the sum of mass · 2^depth over its way from below the root down to the leaf, or to the first node of
little mass. All leaves below such a node count the same, and there are few such nodes: kept is where each begins, as a
bit a leaf, and what it counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.entity import Given, Out, any_finite
from foreshock.detect.half_space_range import LANE, Wide, follow, scale
from foreshock.state.bits import ones
from foreshock.state.jit import entry, inner
from foreshock.types import Status

TIME, ROWS, COUNT, LEARNING, SCORING, WIDTH, NEXT, LANES = range(8)
"""Whole numbers of a slot: time of the last row; rows learnt, and rows of the current window; how many features the
trees have that learn now, and those that score (0: none yet); columns seen; the first further lane of bounds (0: none)
and how many there are."""
LOW = 8
HIGH = LOW + LANE
"""Words of a slot at which bounds of the first eight columns begin."""

SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)
SECOND = 1_000_000_000
i8: Any = np.int64
"""A whole number wide enough to count with."""


class Settings(NamedTuple):
    """What the sweep needs to know of the options.

    `least`: a node of less mass is not looked below; `most` the largest sum of masses; `tau` seconds of memory of the
    bounds. `words` that a tree's bits fill, `places` for what its nodes count; `starts`, `table`, `rows` where in a
    slot, counted in numbers of their own size, those bits begin, what nodes count, and rows in leaves.
    """

    trees: int
    height: int
    window: int
    least: int
    words: int
    places: int
    starts: int
    table: int
    rows: int
    warm_up: int
    expiry: int
    scaled: bool
    tau: float
    most: float


class Trees(NamedTuple):
    """The splits: `place int32[1025]` by how many features there are, −1 where they are not made yet; `feature
    uint16[places, trees << height]`, `threshold float64` likewise."""

    place: NDArray[np.int32]
    feature: NDArray[np.uint16]
    threshold: NDArray[np.float64]


class Slots(NamedTuple):
    """The memory of the slots, one row each: as whole numbers, as numbers, as what nodes count (uint16 or uint32) and
    as rows in leaves (uint8 or uint16)."""

    whole: NDArray[np.int64]
    number: NDArray[np.float64]
    table: NDArray[Any]
    rows: NDArray[Any]


class Last(NamedTuple):
    """What the leaves of a key count by its last window, tree by tree: a bit where a node begins whose leaves count the
    same (`starts`), 32 in a word, below how many of the tree begin before it, and what they count (`total`), in their
    order."""

    starts: NDArray[np.int64]
    total: NDArray[Any]


class Work(NamedTuple):
    """Scratch: a row in units of its bounds, the node of each tree it falls into, nodes still to be done, shares."""

    x: NDArray[np.float64]
    leaf: NDArray[np.int32]
    stack: NDArray[np.int64]
    share: NDArray[np.int64]


@entry
def sweep(
    slots: Slots, wide: Wide, given: Given, first: int, trees: Trees, settings: Settings, work: Work, out: Out
) -> int:
    """Judge and learn rows of a frame from `first` on, in `out` as `blank` made it.

    Returns how many rows are done. If not all are, the next one needs splits for its number of features, or lanes for
    the bounds of its columns.
    """
    for i in range(first, len(given.key)):
        if given.status[i] != SCORED:
            continue
        values, width = given.values[i], i8(given.width[i])
        if not any_finite(values, width):
            out.status[i] = MISSING
            continue
        key = np.uint32(given.key[i])
        whole, number = slots.whole[key], slots.number[key]
        rows = slots.rows[key][settings.rows : settings.rows + (settings.trees << settings.height)]
        table = Last(whole[settings.starts :], slots.table[key][settings.table :])
        now, learn = given.time[i], given.learn[i]
        fresh = whole[ROWS] == 0 or now - whole[TIME] > settings.expiry
        if fresh and not learn:
            out.status[i] = WARMING_UP
            continue
        learning = width if fresh else whole[LEARNING]
        scoring = i8(0) if fresh else whole[SCORING]
        if trees.place[learning] < 0 or (scoring > 0 and trees.place[scoring] < 0):
            return i
        if settings.scaled and learn and width > LANE * (1 + whole[LANES]):
            return i
        if fresh:
            _start_afresh(whole, rows, width)
        if learn and width > whole[WIDTH]:
            _meet(whole, number, wide, width)
        complete = _look(whole, number, wide, values, width, max(learning, scoring), settings, work.x)
        warm = scoring > 0 and whole[ROWS] >= settings.warm_up
        if not warm:
            out.status[i] = WARMING_UP
        if warm and scoring != learning:
            _fall(trees, scoring, complete, rows, False, settings, work)
            _judge(trees, scoring, table, width, settings, work, out, i)
        if learn or (warm and scoring == learning):
            _fall(trees, learning, complete, rows, True, settings, work)
        if warm and scoring == learning:
            _judge(trees, scoring, table, width, settings, work, out, i)
        if learn:
            _learn(whole, number, table, rows, wide, values, width, now, settings, work)
    return len(given.key)


@inner
def _start_afresh(whole: NDArray[np.int64], rows: NDArray[Any], width: int) -> None:
    """Forget what was learnt of a key; its lanes stay its own."""
    whole[ROWS], whole[COUNT], whole[SCORING], whole[WIDTH] = 0, 0, 0, 0
    whole[LEARNING] = width
    for j in range(len(rows)):
        rows[j] = 0


@inner
def _meet(whole: NDArray[np.int64], number: NDArray[np.float64], wide: Wide, width: int) -> None:
    """Columns that are new have no bounds yet: the low one is above the high one."""
    for j in range(whole[WIDTH], min(width, LANE)):
        number[LOW + j], number[HIGH + j] = np.inf, -np.inf
    link, start = whole[NEXT], LANE
    while link > 0 and start < width:
        lane = wide.number[np.uint32(link - 1)]
        for j in range(LANE):
            if start + j >= whole[WIDTH]:
                lane[j], lane[LANE + j] = np.inf, -np.inf
        link, start = wide.whole[np.uint32(link - 1)][2 * LANE], start + LANE
    whole[WIDTH] = width


@inner
def _look(
    whole: NDArray[np.int64],
    number: NDArray[np.float64],
    wide: Wide,
    values: NDArray[np.float64],
    width: int,
    features: int,
    settings: Settings,
    x: NDArray[np.float64],
) -> bool:
    """The row as trees of so many `features` see it, NaN where it is missing; whether nothing is missing."""
    there = min(width, features)
    if settings.scaled:
        known = whole[WIDTH]
        scale(number[LOW : LOW + 2 * LANE], values, 0, min(there, LANE), known, x)
        link, start = whole[NEXT], LANE
        while start < there:
            lane = wide.number[np.uint32(max(link - 1, 0))] if link > 0 else number[LOW : LOW + 2 * LANE]
            scale(lane, values, start, min(there, start + LANE), known if link > 0 else 0, x)
            link, start = wide.whole[np.uint32(link - 1)][2 * LANE] if link > 0 else 0, start + LANE
    else:
        for j in range(there):
            x[j] = values[j] if abs(values[j]) < np.inf else np.nan
    for j in range(there, features):
        x[j] = np.nan
    complete = True
    for j in range(features):
        complete &= x[j] == x[j]
    return complete


@inner
def _fall(
    trees: Trees, features: int, complete: bool, rows: NDArray[Any], own: bool, settings: Settings, work: Work
) -> None:
    """The leaf of each tree that the row falls into; `own`: the rows in leaves are of these trees."""
    place = np.uint32(trees.place[features])
    feature, threshold = trees.feature[place], trees.threshold[place]
    if complete:
        _fall_freely(work.x, feature, threshold, settings, work.leaf)
    else:
        _fall_with_gaps(work.x, feature, threshold, rows, own, settings, work.leaf)


@inner
def _fall_freely(
    x: NDArray[np.float64],
    feature: NDArray[np.uint16],
    threshold: NDArray[np.float64],
    settings: Settings,
    leaf: NDArray[np.int32],
) -> None:
    """All trees level by level: steps of one tree wait for each other, those of many do not."""
    height = settings.height
    for t in range(settings.trees):
        leaf[t] = 1
    for _ in range(height):
        for t in range(settings.trees):
            node = i8(leaf[t])
            at = np.uintp((t << height) + node)
            leaf[t] = 2 * node + (0 if x[feature[at]] < threshold[at] else 1)


@inner
def _fall_with_gaps(
    x: NDArray[np.float64],
    feature: NDArray[np.uint16],
    threshold: NDArray[np.float64],
    rows: NDArray[Any],
    own: bool,
    settings: Settings,
    leaf: NDArray[np.int32],
) -> None:
    """Where the feature of a split is missing: to the child with more rows of the current window, left if equal.

    Trees that do not learn now have no rows of the current window.
    """
    height = settings.height
    for t in range(settings.trees):
        node = i8(1)
        for d in range(height):
            at = np.uintp((t << height) + node)
            value = x[feature[at]]
            right = value >= threshold[at]
            if own and value != value:
                size = 1 << (height - d - 1)
                start = (t << height) + (node << (height - d)) - (1 << height)
                right = _total(rows, start, size) < _total(rows, start + size, size)
            node = 2 * node + (1 if right else 0)
        leaf[t] = node


@inner
def _total(rows: NDArray[Any], start: int, size: int) -> int:
    total: int = i8(0)
    for j in range(start, start + size):
        total += i8(rows[np.uintp(j)])
    return total


@inner
def _judge(
    trees: Trees, features: int, table: Last, width: int, settings: Settings, work: Work, out: Out, i: int
) -> None:
    """The score of the row, and if they are asked for the contributions of its features."""
    total, leaves = i8(0), 1 << settings.height
    for t in range(settings.trees):
        total += _counts(table, t, i8(work.leaf[t]) - leaves, settings)
    out.score[i] = 1.0 - (settings.trees * settings.window + 2 * total) / settings.most
    if out.contribution.shape[1] == 0:
        return
    share = work.share
    for j in range(features):
        share[j] = 0
    _share(table, trees.feature[np.uint32(trees.place[features])], work.leaf, settings, share)
    for j in range(min(width, features)):
        if work.x[j] == work.x[j]:
            out.contribution[i, j] = 2 * share[j] / settings.most


@inner
def _counts(table: Last, t: int, leaf: int, settings: Settings) -> int:
    """What a leaf of a tree counts."""
    word = table.starts[np.uintp(t * settings.words + (leaf >> 5))]
    place = (word >> 32) + ones(word & ((i8(2) << (leaf & 31)) - 1)) - 1
    return i8(table.total[np.uintp(t * settings.places + place)])  # type: ignore[no-any-return]


@inner
def _share(
    table: Last,
    feature: NDArray[np.uint16],
    leaf: NDArray[np.int32],
    settings: Settings,
    share: NDArray[np.int64],
) -> None:
    """To each feature how much more the leaf on the other side of a split on it counts, all others as they are."""
    height, leaves = settings.height, 1 << settings.height
    for t in range(settings.trees):
        node, base = i8(leaf[t]), t << height
        own = _counts(table, t, node - leaves, settings)
        for d in range(height):
            other = _counts(table, t, (node ^ (1 << d)) - leaves, settings)
            if other > own:
                share[feature[np.uintp(base + (node >> (d + 1)))]] += other - own


@inner
def _learn(
    whole: NDArray[np.int64],
    number: NDArray[np.float64],
    table: Last,
    rows: NDArray[Any],
    wide: Wide,
    values: NDArray[np.float64],
    width: int,
    now: int,
    settings: Settings,
    work: Work,
) -> None:
    """One more row in its leaves, bounds that follow it, and the flip of masses when the window is full."""
    height, leaves = settings.height, 1 << settings.height
    for t in range(settings.trees):
        at = np.uintp((t << height) + i8(work.leaf[t]) - leaves)
        rows[at] = i8(rows[at]) + 1
    if settings.scaled:
        seconds = max(now - whole[TIME], 0) / SECOND if whole[ROWS] > 0 else 0.0
        gain, young = seconds / (seconds + settings.tau), whole[ROWS] < settings.window
        follow(number[LOW : LOW + 2 * LANE], values, 0, min(width, LANE), gain, young)
        link, column = whole[NEXT], LANE
        while column < width:
            follow(wide.number[np.uint32(link - 1)], values, column, min(width, column + LANE), gain, young)
            link, column = wide.whole[np.uint32(link - 1)][2 * LANE], column + LANE
    whole[TIME] = now if whole[ROWS] == 0 else max(now, whole[TIME])
    whole[ROWS] += 1
    whole[COUNT] += 1
    if whole[COUNT] == settings.window:
        for t in range(settings.trees):
            _flip(table, rows[t << height : (t + 1) << height], t, settings, work.stack)
        for j in range(len(rows)):
            rows[j] = 0
        whole[SCORING], whole[LEARNING], whole[COUNT] = whole[LEARNING], whole[WIDTH], 0


@inner
def _flip(table: Last, rows: NDArray[Any], t: int, settings: Settings, stack: NDArray[np.int64]) -> None:
    """What the leaves of a tree count, by their rows of the window that is full now.

    Only nodes with much mass are looked into, and of those there are ten a level at most.
    """
    height, first, place = settings.height, t * settings.words, i8(t * settings.places)
    for k in range(first, first + settings.words):
        table.starts[k] = 0
    stack[0], stack[1], stack[2], stack[3] = 0, 0, settings.window, 0
    top = 4
    while top > 0:
        top -= 4
        depth, start, here, total = stack[top], stack[top + 1], stack[top + 2], stack[top + 3]
        if depth == height or here < settings.least:
            table.starts[first + (start >> 5)] |= i8(1) << (start & 31)
            table.total[place] = total
            place += 1
            continue
        half = 1 << (height - depth - 1)
        left = _total(rows, start, half)
        stack[top], stack[top + 1], stack[top + 2] = depth + 1, start + half, here - left
        stack[top + 3] = total + ((here - left) << depth)
        top += 4
        stack[top], stack[top + 1], stack[top + 2] = depth + 1, start, left
        stack[top + 3] = total + (left << depth)
        top += 4
    for k in range(place, (t + 1) * settings.places):
        table.total[k] = 0
    begun = i8(0)
    for k in range(first, first + settings.words):
        bits = table.starts[k]
        table.starts[k] = begun << 32 | bits
        begun += ones(bits)
