"""`half_space_trees`: how little mass there was lately where a row lies, by random trees of half-spaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from foreshock.detect.entity import (
    MOST_FEATURES,
    Given,
    Out,
    blank,
    columns_of,
    copy_of,
    make_room,
    own_state,
    scores_of,
)
from foreshock.detect.half_space_kernel import Settings, Slots, Trees, Work, sweep
from foreshock.detect.half_space_range import LANE, WIDE, Wide
from foreshock.detect.half_space_splits import draws, grow
from foreshock.detect.histogram import LN2
from foreshock.detect.univariate import read_options
from foreshock.ports import DetectorInfo
from foreshock.state import SlotTable, State
from foreshock.types import Frame, Scores
from foreshock.types.units import Options, Seconds

PRIOR_SHARE = 0.0375
"""Of the largest odds that a score can have: what is rarely passed when all is well (0.95 for trees of height 8)."""
MOST_LEAVES = 1 << 20
"""Of all trees together: what the flip of a window costs grows with them."""


class HalfSpaceTreesOptions(Options):
    """How many trees, how deep, and how long a window is."""

    n_trees: int = Field(default=10, ge=1, le=1000, description="Trees.")
    height: int = Field(default=8, ge=1, le=15, description="Splits from the root of a tree to its leaves.")
    window_size: int = Field(
        default=250, ge=2, le=65_535, description="Rows of an entity whose masses the next rows are scored by."
    )
    seed: int = Field(default=42, ge=0, lt=2**63, description="What the splits are drawn from, for all entities alike.")
    scale: Literal["range", "none"] = Field(
        default="range",
        description="`range`: each feature is brought to [0, 1] by bounds that follow it; `none`: values are taken as "
        "they are, within `limits`.",
    )
    limits: tuple[float, float] = Field(
        default=(0.0, 1.0), description="With `scale: none`: between which values of every feature trees split."
    )
    range_half_life_seconds: Seconds = Field(
        default=86400.0,
        gt=0,
        le=10 * 365 * 86400.0,
        description="With `scale: range`: time in which bounds come half of the way to where a feature stays.",
    )
    warm_up_rows: int | None = Field(
        default=None, ge=2, le=10**6, description="Rows of an entity to learn before it is scored; default: one window."
    )
    expiry_seconds: Seconds = Field(
        default=7 * 86400.0,
        gt=0,
        le=10 * 365 * 86400.0,
        description="After a gap of an entity longer than this, what was learnt of it is forgotten.",
    )

    @model_validator(mode="after")
    def _fits(self) -> HalfSpaceTreesOptions:
        if self.warm_up_rows is not None and self.warm_up_rows < self.window_size:
            raise ValueError(f"warm_up_rows ({self.warm_up_rows}) must not be below window_size ({self.window_size})")
        if self.n_trees << self.height > MOST_LEAVES:
            raise ValueError(f"{self.n_trees} trees of height {self.height} have more than {MOST_LEAVES:,} leaves")
        if not self.limits[0] < self.limits[1] or not np.isfinite(self.limits).all():
            raise ValueError(f"limits {self.limits} are no range of numbers")
        if self.scale == "range" and self.limits != (0.0, 1.0):
            raise ValueError("limits need scale: none")
        return self


class HalfSpaceTrees:
    """Half-space trees (Tan, Ting & Liu 2011): how sparse the last window was where a row lies; score, then learn.

    The score is 1 − Σ mass · 2^depth / its largest value, over the nodes of each tree on the row's way down to its leaf
    or to the first with less than a tenth of the window: that of river's `HalfSpaceTrees`, number for number, where it
    has the same seed and is fed the same numbers (`scale: none`, or its features scaled alike). When a window is full,
    its masses become those that are scored by.

    A feature that is missing is left out: at a split on it the row takes the child with more rows of the current
    window, the left one if they are equal. Columns that are new to an entity are scored from the end of the next
    whole window on. A contribution is by how much the score would be lower on the other side of splits on the
    feature, each by itself, all told.

    An option `contributions` is set to True to have `step` give them.
    """

    options: Any = HalfSpaceTreesOptions
    contributions: bool = False

    def __init__(self, options: Mapping[str, Any] | HalfSpaceTreesOptions | None = None) -> None:
        own = read_options(HalfSpaceTreesOptions, options)
        self.options = own
        dtype = _row(own)
        warm_up = own.window_size if own.warm_up_rows is None else own.warm_up_rows
        odds = PRIOR_SHARE * ((2 << own.height) - 2)
        self.info = DetectorInfo(
            "half_space_trees", 2, "multivariate", warm_up, dtype.itemsize, odds / (1.0 + odds), bounded=True
        )
        self.table = SlotTable(dtype, capacity=max(1, min(64, (1 << 19) // dtype.itemsize)))
        self.wide = SlotTable(WIDE, capacity=1)
        self._rows, self._lanes = np.empty(0), np.empty(0)
        self._slots: Slots
        self._wide: Wide
        self._draws = draws(own.seed, own.n_trees, own.height)
        self._trees = Trees(
            np.full(MOST_FEATURES + 1, -1, np.int32),
            np.zeros((0, own.n_trees << own.height), np.uint16),
            np.zeros((0, own.n_trees << own.height)),
        )
        offsets = {name: field[1] for name, field in (dtype.fields or {}).items()}
        self._settings = Settings(
            own.n_trees, own.height, own.window_size, _least(own), _words(own), _places(own),
            offsets["starts"] // 8, offsets["last"] // np.dtype(_count(own)).itemsize,
            offsets["current"] // np.dtype(_mass(own)).itemsize,
            warm_up,
            round(own.expiry_seconds * 1e9), own.scale == "range", own.range_half_life_seconds / LN2,
            float(own.n_trees * own.window_size * (2 ** (own.height + 1) - 1)),
        )  # fmt: skip
        self._work = Work(
            np.zeros(MOST_FEATURES),
            np.zeros(own.n_trees, np.int32),
            np.zeros(4 * (own.height + 2), np.int64),
            np.zeros(MOST_FEATURES, np.int64),
        )

    def step(self, frame: Frame) -> Scores:
        """Score each row against what was learnt before it, then learn it where `frame.learn`.

        Raises ValueError where a key is negative.
        """
        given, out = columns_of(frame), blank(frame, self.contributions)
        if len(frame):
            make_room(self.table, given.key)
            if self.wide.copying:
                self.wide.touch(np.arange(self.wide.used))
            self._sweep(self.table.rows, given, out)
        return scores_of(out, self.contributions)

    def score(self, frame: Frame) -> Scores:
        """Score every row against the state as it is, with contributions, changing nothing."""
        copy, given = copy_of(self.table, columns_of(frame))
        out = blank(frame, True)
        self._sweep(copy, given, out)
        return scores_of(out, True)

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start; they keep the room for their bounds."""
        keys = np.asarray(keys)[np.asarray(keys) < self.table.used]
        self.table.touch(keys)
        self.table.rows["rows"][keys] = 0

    def state(self) -> State:
        """All it has learnt; where trees split follows from the seed."""
        return State(self.info.version, {"detector": self.info.name}, {}, {"slots": self.table, "wide": self.wide})

    @classmethod
    def restore(cls, config: Mapping[str, Any] | HalfSpaceTreesOptions | None, state: State) -> Self:
        """The detector that gave `state`, from its config.

        Raises PermanentError where the state is another detector's, or was learnt under another shape of slots.
        """
        detector = cls(config)
        state = own_state(state, detector.info, detector.table.dtype)
        detector.table.load(state.arrays["slots"])
        detector.wide.load(state.arrays["wide"])
        return detector

    def _sweep(self, rows: NDArray[Any], given: Given, out: Out) -> None:
        at = 0
        slots = self._slots if rows is self._rows else self._view(rows)
        while True:
            if self.wide.rows is not self._lanes:
                lanes = self.wide.rows.view(np.int64).reshape(len(self.wide.rows), -1)
                self._lanes, self._wide = self.wide.rows, Wide(lanes.view(np.float64), lanes)
            at = sweep(slots, self._wide, given, at, self._trees, self._settings, self._work, out)
            if at == len(given.key):
                return
            row, width = rows[given.key[at] : given.key[at] + 1], int(given.width[at])
            self._grow_trees({width, int(row["learning"][0]), int(row["scoring"][0])})
            if given.learn[at] and self._settings.scaled:
                self._add_lanes(row, width)

    def _view(self, rows: NDArray[Any]) -> Slots:
        """The memory of slots as kernels see it; that of its own table is kept, until the table is another one."""
        words = rows.view(np.int64).reshape(len(rows), -1)
        slots = Slots(words, words.view(np.float64), words.view(_count(self.options)), words.view(_mass(self.options)))
        if rows is self.table.rows:
            self._rows, self._slots = rows, slots
        return slots

    def _grow_trees(self, widths: set[int]) -> None:
        """Have splits for so many features."""
        own, trees = self.options, self._trees
        for features in sorted(widths - {0}):
            if trees.place[features] >= 0:
                continue
            feature, threshold = grow(self._draws, own.n_trees, own.height, features, own.limits)
            trees.place[features] = len(trees.feature)
            trees = Trees(trees.place, np.vstack([trees.feature, feature]), np.vstack([trees.threshold, threshold]))
        self._trees = trees

    def _add_lanes(self, row: NDArray[Any], width: int) -> None:
        """Have room for the bounds of so many columns: a chain of lanes."""
        more = -(-width // LANE) - 1 - int(row["lanes"][0])
        if more <= 0:
            return
        first, last = self.wide.used, int(row["next"][0])
        self.wide.ensure(first + more - 1)
        following = self.wide.rows["next"]
        following[first : first + more] = np.append(np.arange(first + 1, first + more) + 1, 0)
        while last and following[last - 1]:
            last = int(following[last - 1])
        if last:
            self.wide.touch(np.array([last - 1]))
            following[last - 1] = first + 1
        else:
            row["next"] = first + 1
        row["lanes"] += more


def _mass(own: HalfSpaceTreesOptions) -> Any:
    """The least whole number that holds a window."""
    return np.uint8 if own.window_size < 256 else np.uint16


def _count(own: HalfSpaceTreesOptions) -> Any:
    """The least whole number that holds what a leaf with a whole window counts."""
    return np.uint16 if own.window_size * ((1 << own.height) - 1) < 65_536 else np.uint32


def _least(own: HalfSpaceTreesOptions) -> int:
    """Rows of a window without which a node is not looked below."""
    return int(np.ceil(0.1 * own.window_size))


def _words(own: HalfSpaceTreesOptions) -> int:
    """Words of 32 bits that have a bit for each leaf of a tree."""
    return max(1 << own.height >> 5, 1)


def _places(own: HalfSpaceTreesOptions) -> int:
    """The most nodes of a tree that are not looked below: one more than of those that are, of which each has two."""
    return 1 + sum(min(1 << depth, own.window_size // _least(own)) for depth in range(own.height))


def _row(own: HalfSpaceTreesOptions) -> np.dtype[Any]:
    """A slot, see `half_space_kernel`: what leaves count by the last window, and their rows of the current one."""
    names = ("time", "rows", "count", "learning", "scoring", "width", "next", "lanes")
    totals = -(-own.n_trees * _places(own) // 8) * 8
    leaves = -(-(own.n_trees << own.height) // 8) * 8
    return np.dtype([
        *((name, "i8") for name in names), ("low", "f8", (LANE,)), ("high", "f8", (LANE,)),
        ("starts", "i8", (own.n_trees * _words(own),)), ("last", _count(own), (totals,)),
        ("current", _mass(own), (leaves,)),
    ])  # fmt: skip
