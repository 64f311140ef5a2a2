"""`linear`: an entity's features together, by two linear maps: each from its own past, and from the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.bar import BarOptions
from foreshock.detect.entity import Given, columns_of
from foreshock.detect.kernels import highest_key
from foreshock.detect.level import Level
from foreshock.detect.linear_kernel import sweep, without_room
from foreshock.detect.linear_layout import (
    BLOCK,
    CLASSES,
    HEAD,
    LAST,
    MATRICES,
    SQUARES,
    STEP,
    WORK,
    Out,
    Settings,
    body,
    bytes_of,
)
from foreshock.detect.linear_row import MINUTE
from foreshock.detect.univariate import read_options
from foreshock.errors import PermanentError
from foreshock.ports import DetectorInfo
from foreshock.state import SlotTable, State
from foreshock.types import Frame, Scores
from foreshock.types.units import Options, Seconds

PRIOR_SCORE = 15.0
LEAST_FEATURES = 3
"""With fewer there is little to be told from one another, and `deviation` sees it all."""
_HIGHEST = np.iinfo(np.int32).max


class LinearOptions(Options):
    """When an entity is judged, and how the maps are held back."""

    warm_up_rows: int = Field(
        default=864, ge=2, le=10**6, description="Rows of an entity to learn before it is judged, whatever the step."
    )
    warm_up_seconds: Seconds = Field(
        default=2 * 86400.0, ge=0, le=366 * 86400.0, description="Time that those rows span at least."
    )
    expiry_seconds: Seconds = Field(
        default=7 * 86400.0,
        gt=0,
        le=10 * 365 * 86400.0,
        description="After a gap of an entity longer than this, what was learnt of it is forgotten.",
    )
    forecast_ridge: float = Field(
        default=0.03, gt=0, le=100, description="Ridge of the map from the past, in variances of a feature."
    )
    cross_ridge: float = Field(
        default=0.3, gt=0, le=100, description="Ridge of the map from the other features, in variances of a feature."
    )


class Linear:
    """How far rows of an entity are from what two linear maps expect, pooled over features; score, then learn.

    One map forecasts each feature from all features 1, 2, 3, 5 and 10 rows ago, the other tells it from the other
    features now and all features 1, 2 and 5 rows ago. What is left is standardised by means and scales that follow
    slowly, squared up to 20, averaged, and divided by what is typical: the score is near 2 when all is well.

    Beside the score stands, feature by feature, how far it has departed from the others (`Scores.apart`, see
    `linear_apart`).

    An option `contributions` is set to True to have `step` give them. Wide entities are cut into parts of 64 features.
    """

    options: Any = LinearOptions
    contributions: bool = False

    def __init__(self, options: Mapping[str, Any] | LinearOptions | None = None) -> None:
        own = read_options(LinearOptions, options)
        self.options = own
        warm_up = max(own.warm_up_rows, math.ceil(own.warm_up_seconds / MINUTE))
        self.info = DetectorInfo(
            "linear", 3, "multivariate", warm_up, bytes_of(8), PRIOR_SCORE, least_features=LEAST_FEATURES
        )
        self.heads = SlotTable(HEAD, {"cursor": -1})
        self.bodies = [SlotTable(body(STEP * (k + 1)), capacity=1) for k in range(CLASSES)]
        self._free: list[list[int]] = [[] for _ in range(CLASSES)]
        self._settings = Settings(
            own.warm_up_rows, own.warm_up_seconds, round(own.expiry_seconds * 1e9),
            np.float32(own.forecast_ridge), np.float32(own.cross_ridge),
        )  # fmt: skip
        self._work = np.zeros(1, WORK)
        self._coming = np.zeros(0, np.int32)

    def make_bar(self, budget_per_day: float, options: BarOptions) -> Level:
        """The bar for its scores, whose hours differ far more than those of a single series."""
        return Level(self.info.prior_score, budget_per_day, options)

    def step(self, frame: Frame) -> Scores:
        """Score each row against what was learnt before it, then learn it where `frame.learn`.

        Raises ValueError where a key is negative.
        """
        given = columns_of(frame)
        n = len(given.key)
        out = _out(frame, self.contributions)
        if not n:
            return _scores(out, self.contributions)
        highest = highest_key(given.key)
        if highest > _HIGHEST:
            raise ValueError(f"keys are slots, and {int(given.key.min())} is negative")
        if highest >= self.heads.used:
            self.heads.ensure(highest)
        self._touch(given.key)
        start = at = 0
        while (at := without_room(self.heads.rows, given, at)) < n:
            key = given.key[at]
            if self.heads.rows[key]["room"]:
                # What came before is learnt in the narrow place, and moves with it.
                self._sweep(self.heads.rows, given, start, at, out)
                start = at
            self._make_room(int(key), int(given.width[at]))
        self._sweep(self.heads.rows, given, start, n, out)
        return _scores(out, self.contributions)

    def score(self, frame: Frame) -> Scores:
        """Score every row against the state as it is, with contributions, changing nothing."""
        keys, place = np.unique(frame.key, return_inverse=True)
        if len(keys) and keys[0] < 0:
            raise ValueError(f"keys are slots, and {keys[0]} is negative")
        copy = SlotTable(HEAD, capacity=max(len(keys), 1))
        known = keys < self.heads.used
        copy.rows[: len(keys)][known] = self.heads.rows[keys[known]]
        given = columns_of(frame)._replace(key=place.astype(np.int32), learn=np.zeros(len(frame), np.bool_))
        out = _out(frame, True)
        self._sweep(copy.rows, given, 0, len(frame), out)
        return _scores(out, True)

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start; they keep their places."""
        keys = np.asarray(keys)[np.asarray(keys) < self.heads.used]
        self.heads.touch(keys)
        self.heads.rows["rows"][keys] = 0

    def state(self) -> State:
        """All it has learnt."""
        tables = {"heads": self.heads} | {f"bodies{k}": table for k, table in enumerate(self.bodies)}
        free = {f"free{k}": np.array(slots, np.int32) for k, slots in enumerate(self._free)}
        return State(self.info.version, {"detector": self.info.name}, free, tables)

    @classmethod
    def restore(cls, config: Mapping[str, Any] | LinearOptions | None, state: State) -> Self:
        """The detector that gave `state`, from its config.

        Raises PermanentError where the state is another detector's.
        """
        detector = cls(config)
        state = state.frozen()
        info = detector.info
        if state.meta.get("detector") != info.name or state.version != info.version:
            raise PermanentError(
                f"state of detector {state.meta.get('detector')!r} version {state.version} cannot be restored as "
                f"{info.name!r} version {info.version}"
            )
        detector.heads.load(state.arrays["heads"])
        for k, table in enumerate(detector.bodies):
            table.load(state.arrays[f"bodies{k}"])
            detector._free[k] = state.arrays[f"free{k}"].tolist()
        return detector

    def _sweep(self, heads: NDArray[Any], given: Given, first: int, last: int, out: Out) -> None:
        numbers = tuple(table.rows["number"] for table in self.bodies)
        doubles = tuple(number.view(np.float64) for number in numbers)
        if len(self._coming) < len(heads):
            self._coming = np.zeros(len(heads), np.int32)
        after = np.empty(last, np.int32)
        sweep(heads, numbers, doubles, given, self._coming, after, first, last, self._settings, self._work, out)

    def _touch(self, key: NDArray[np.int32]) -> None:
        self.heads.touch(key)
        if not any(table.copying for table in self.bodies):
            return
        heads = self.heads.rows[np.unique(key)]
        for k, table in enumerate(self.bodies):
            table.touch(heads["slot"][heads["size"] == k + 1])

    def _make_room(self, key: int, width: int) -> None:
        """Give a key places for `width` columns; what it has learnt moves to where there is more room."""
        self.heads.touch(np.array([key]))
        head = self.heads.rows[key]
        for k in range(-(-width // BLOCK)):
            size, old = -(-min(width - k * BLOCK, BLOCK) // STEP), int(head["size"][k])
            if size <= old:
                continue
            slot = self._new_slot(size)
            if old:
                grow(self.bodies[old - 1].rows["number"][head["slot"][k]], self.bodies[size - 1].rows["number"][slot])
                self._free[old - 1].append(int(head["slot"][k]))
            head["slot"][k], head["size"][k] = slot, size
        head["room"] = BLOCK * ((width - 1) // BLOCK) + STEP * int(head["size"][(width - 1) // BLOCK])

    def _new_slot(self, size: int) -> int:
        table, free = self.bodies[size - 1], self._free[size - 1]
        slot = free.pop() if free else table.used
        table.ensure(slot)
        table.touch(np.array([slot]))
        table.rows[slot] = np.zeros((), table.dtype)
        return slot


def grow(narrow: NDArray[np.float32], wide: NDArray[np.float32]) -> None:
    """Copy a body into one for more features, which is all zeros."""
    a, b = features_of(narrow), features_of(wide)
    for start, rows, kind in ((0, LAST + 4, np.float64), (8, SQUARES - 8, np.float32)):
        old, new = (x[start * n : (8 if start == 0 else SQUARES) * n].view(kind) for x, n in ((narrow, a), (wide, b)))
        new.reshape(rows, b)[:, :a] = old.reshape(rows, a)
    old, new = narrow[SQUARES * a :].reshape(MATRICES, a, a), wide[SQUARES * b :].reshape(MATRICES, b, b)
    new[:, :a, :a] = old


def features_of(number: NDArray[np.float32]) -> int:
    """How many features a body has room for."""
    return next(b for b in range(STEP, BLOCK + 1, STEP) if SQUARES * b + MATRICES * b * b == len(number))


def _scores(out: Out, contributions: bool) -> Scores:
    contribution = out.contribution if contributions else None
    return Scores(out.score, out.status, contribution, ranking=out.rank, apart=out.apart)


def _out(frame: Frame, contributions: bool) -> Out:
    n = len(frame)
    shape = frame.values.shape if contributions else (n, 0)
    apart = np.full(frame.values.shape, np.nan, np.float32)
    return Out(np.empty(n), np.empty(n), np.empty(n, np.uint8), np.empty(shape, np.float32), apart)
