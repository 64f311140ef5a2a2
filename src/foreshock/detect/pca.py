"""`pca`: how far an entity's features together are from the few directions in which they usually move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.entity import columns_of
from foreshock.detect.kernels import highest_key
from foreshock.detect.linear_kernel import without_room
from foreshock.detect.pca_kernel import (
    BOTH,
    CLASSES,
    HEAD,
    LEAST_WIDTH,
    MINUTE,
    ONLY_Q,
    ONLY_T2,
    VECTORS,
    Out,
    Settings,
    Work,
    pca_sweep,
)
from foreshock.detect.univariate import read_options
from foreshock.errors import PermanentError
from foreshock.ports import DetectorInfo
from foreshock.state import SlotTable, State
from foreshock.types import Frame, Scores
from foreshock.types.units import Options, Seconds

PRIOR_SCORE = 1.5
_HIGHEST = np.iinfo(np.int32).max
_STATISTICS = {"both": BOTH, "q": ONLY_Q, "t2": ONLY_T2}


class PcaOptions(Options):
    """When an entity is judged, how many components there are, and what is looked at."""

    warm_up_rows: int = Field(
        default=300, ge=2, le=10**6, description="Rows of an entity to learn before it is judged, whatever the step."
    )
    warm_up_seconds: Seconds = Field(
        default=86400.0, ge=0, le=366 * 86400.0, description="Time that those rows span at least."
    )
    expiry_seconds: Seconds = Field(
        default=7 * 86400.0,
        gt=0,
        le=10 * 365 * 86400.0,
        description="After a gap of an entity longer than this, what was learnt of it is forgotten.",
    )
    memory_seconds: Seconds = Field(
        default=2 * 86400.0,
        gt=0,
        le=366 * 86400.0,
        description="Time over which means, units and components are remembered, at least 48 rows.",
    )
    components: int = Field(default=8, ge=1, le=32, description="Components that are followed.")
    explained: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="As many of them are used as explain this share of the variance, but never as many as features.",
    )
    statistic: Literal["both", "q", "t2"] = Field(
        default="both",
        description="What is judged: `q` what components leave, `t2` how far the row lies along them, "
        "or the worse. Without components in use it is `q`.",
    )


class Pca:
    """√max(Q/Q_limit, T²/T²_limit) of rows of entities, from components learnt row by row; score, then learn.

    Q is the mean square of what the used components leave of a row in standard deviations, T² its mean square along
    them (Jackson & Mudholkar 1979; Hotelling 1931). A limit is what their own moments let them pass in one row of a
    thousand, so 1 is at the limit. Components follow the rows by Weng, Zhang & Hwang's rule (CCIPCA, 2003): no
    covariances and no refits, so that a row never costs more than components × features, however wide the entity.
    What is learnt is bounded: deviations to 4, and a row over the limit counts by 1/score².

    A missing feature takes no part: the row is fitted to what was observed. One that appears takes part once it has had
    `warm_up_rows` rows. Contributions are exact: a feature's part of Q, its square of what is left, in squared standard
    deviations; what is missing or not warm has none.
    """

    options: Any = PcaOptions
    contributions: bool = False

    def __init__(self, options: Mapping[str, Any] | PcaOptions | None = None) -> None:
        own = read_options(PcaOptions, options)
        self.options = own
        warm_up = max(own.warm_up_rows, math.ceil(own.warm_up_seconds / MINUTE))
        self._rows = VECTORS + own.components
        size = HEAD.itemsize + 8 * self._rows * LEAST_WIDTH
        self.info = DetectorInfo("pca", 1, "multivariate", warm_up, size, PRIOR_SCORE)
        self.heads = SlotTable(HEAD)
        self.bodies = [
            SlotTable(np.dtype([("number", "f8", (self._rows * (LEAST_WIDTH << k),))]), capacity=1)
            for k in range(CLASSES)
        ]
        self._free: list[list[int]] = [[] for _ in range(CLASSES)]
        self._settings = Settings(
            own.warm_up_rows, own.warm_up_seconds, round(own.expiry_seconds * 1e9), own.memory_seconds, own.components,
            own.explained, _STATISTICS[own.statistic],
        )  # fmt: skip
        widest = LEAST_WIDTH << (CLASSES - 1)
        self._work = Work(np.zeros(widest), np.zeros(widest), np.zeros(own.components))

    def step(self, frame: Frame) -> Scores:
        """Score each row against what was learnt before it, then learn it where `frame.learn`.

        Raises ValueError where a key is negative.
        """
        given, out = columns_of(frame), _out(frame, self.contributions)
        if len(frame):
            highest = highest_key(given.key)
            if highest > _HIGHEST:
                raise ValueError(f"keys are slots, and {int(given.key.min())} is negative")
            if highest >= self.heads.used:
                self.heads.ensure(highest)
            self._touch(given.key)
            at = 0
            while (at := without_room(self.heads.rows, given, at)) < len(frame):
                self._make_room(int(given.key[at]), int(given.width[at]))
            pca_sweep(self.heads.rows, self._numbers(), given, self._settings, self._work, out)
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
        pca_sweep(copy.rows, self._numbers(), given, self._settings, self._work, out)
        return _scores(out, True)

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start; they keep their places."""
        keys = np.asarray(keys)[np.asarray(keys) < self.heads.used]
        self.heads.touch(keys)
        self.heads.rows["count"][keys] = 0

    def state(self) -> State:
        """All it has learnt."""
        tables = {"heads": self.heads} | {f"bodies{k}": table for k, table in enumerate(self.bodies)}
        free = {f"free{k}": np.array(slots, np.int32) for k, slots in enumerate(self._free)}
        return State(self.info.version, {"detector": self.info.name}, free, tables)

    @classmethod
    def restore(cls, config: Mapping[str, Any] | PcaOptions | None, state: State) -> Self:
        """The detector that gave `state`, from its config.

        Raises PermanentError where the state is another detector's, or has another number of components.
        """
        detector, state = cls(config), state.frozen()
        info = detector.info
        if state.meta.get("detector") != info.name or state.version != info.version:
            raise PermanentError(
                f"state of detector {state.meta.get('detector')!r} version {state.version} cannot be restored as "
                f"{info.name!r} version {info.version}"
            )
        detector.heads.load(state.arrays["heads"])
        for k, table in enumerate(detector.bodies):
            if state.arrays[f"bodies{k}"].dtype != table.dtype:
                raise PermanentError("state of detector 'pca' has another number of components than its config")
            table.load(state.arrays[f"bodies{k}"])
            detector._free[k] = state.arrays[f"free{k}"].tolist()
        return detector

    def _numbers(self) -> tuple[NDArray[np.float64], ...]:
        return tuple(table.rows["number"] for table in self.bodies)

    def _touch(self, key: NDArray[np.int32]) -> None:
        self.heads.touch(key)
        if not any(table.copying for table in self.bodies):
            return
        heads = self.heads.rows[np.unique(key)]
        for k, table in enumerate(self.bodies):
            table.touch(heads["slot"][heads["size"] == k + 1])

    def _make_room(self, key: int, width: int) -> None:
        """Give a key a place for `width` columns; what it has learnt moves to where there is more room."""
        self.heads.touch(np.array([key]))
        head = self.heads.rows[key]
        size, old = (max(width, LEAST_WIDTH) - 1).bit_length() - 2, int(head["size"])
        slot = self._new_slot(size - 1)
        if old:
            self.bodies[old - 1].touch(np.array([head["slot"]]))
            narrow = self.bodies[old - 1].rows["number"][head["slot"]].reshape(self._rows, -1)
            self.bodies[size - 1].rows["number"][slot].reshape(self._rows, -1)[:, : narrow.shape[1]] = narrow
            narrow[:] = 0.0  # what is saved must not depend on when a key grew
            self._free[old - 1].append(int(head["slot"]))
        head["slot"], head["size"], head["room"] = slot, size, LEAST_WIDTH << (size - 1)

    def _new_slot(self, k: int) -> int:
        table, free = self.bodies[k], self._free[k]
        slot = free.pop() if free else table.used
        table.ensure(slot)
        table.touch(np.array([slot]))
        table.rows[slot] = np.zeros((), table.dtype)
        return slot


def _out(frame: Frame, contributions: bool) -> Out:
    n = len(frame)
    return Out(
        np.empty(n), np.empty(n, np.uint8), np.empty(frame.values.shape if contributions else (n, 0), np.float32)
    )


def _scores(out: Out, contributions: bool) -> Scores:
    return Scores(out.score, out.status, out.contribution if contributions else None)
