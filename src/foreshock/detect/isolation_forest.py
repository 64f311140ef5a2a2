"""`isolation_forest`: how few random splits set a row apart from its entity's past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

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
from foreshock.detect.isolation_kernel import DONE, FIT, MODEL, NARROWEST, Settings, Slots, Work, sweep
from foreshock.detect.isolation_model import ForestSettings, Model, depth_of, fit, need_scikit_learn
from foreshock.detect.univariate import read_options
from foreshock.ports import DetectorInfo
from foreshock.state import SlotTable, State
from foreshock.types import Frame, Scores
from foreshock.types.units import Options, Seconds

PRIOR_SCORE = 0.55
CLASSES = 8
"""Classes of samples: 8, 16, … 1024 columns."""
MOST_PLACES = 1 << 18


class IsolationForestOptions(Options):
    """How large the forest is, what it is fitted on, and when."""

    n_estimators: int = Field(default=100, ge=1, le=1000, description="Trees.")
    max_samples: int = Field(
        default=64, ge=3, le=4096, description="Rows that each tree is drawn from; fewer where there are not as many."
    )
    contamination: float | None = Field(
        default=None,
        gt=0,
        le=0.5,
        description="Share of the rows it is fitted on that are to be called anomalies by `prediction`; without, those "
        "that score above 0.5.",
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="`random_state` of every fit, for all entities alike.")
    warm_up_rows: int = Field(
        default=60, ge=3, le=10**6, description="Rows of an entity before it is scored: those of the first fit."
    )
    window: int = Field(
        default=256, ge=3, le=65_536, description="Rows since the last fit that are kept for the next, evenly spread."
    )
    refit_seconds: Seconds = Field(
        default=86400.0,
        ge=0,
        le=366 * 86400.0,
        description="Forests are fitted anew at the first row of each such period of event time; 0: never again.",
    )
    count_constants: bool = Field(
        default=False,
        description="Whether a feature that was constant when the forest was fitted counts, once it moves, as split "
        "off at once. scikit-learn's forests do not see it; where all features were constant it always counts.",
    )
    expiry_seconds: Seconds = Field(
        default=7 * 86400.0,
        gt=0,
        le=10 * 365 * 86400.0,
        description="After a gap of an entity longer than this, what was learnt of it is forgotten.",
    )

    @model_validator(mode="after")
    def _fits(self) -> IsolationForestOptions:
        if self.warm_up_rows > self.window:
            raise ValueError(f"warm_up_rows ({self.warm_up_rows}) must not be above window ({self.window})")
        if self.n_estimators << self.depth > MOST_PLACES:
            raise ValueError(f"{self.n_estimators} trees of {self.max_samples} rows have too many nodes")
        return self

    @property
    def depth(self) -> int:
        """Levels that trees have at most."""
        return depth_of(min(self.max_samples, self.window))


class IsolationForest:
    """Isolation forests (Liu, Ting & Zhou 2008), one an entity; score by the forest there is, then keep the row.

    The score is scikit-learn's `score_samples` with its sign turned, within 1e-6: 2^(−path length / c(rows of a tree)).
    `prediction` is scikit-learn's too: −1 above the limit (0.5, or by `contamination`), else 1. A forest is fitted by
    scikit-learn (extra `foreshock[forest]`) on the entity's first `warm_up_rows` rows, and again on a sample of those
    since the last fit at the first row of every period of `refit_seconds` of event time, always with the same seed.

    A fit takes some 100 ms, far more than the millisecond that a slot may take in `step`. It is a pure function of rows
    and seed (`isolation_model.fit`) so that it can run beside the stream; as long as there is no runtime that activates
    models by records, `step` calls it in line, at times that depend on the rows alone.

    A feature that is missing is left out: at a split on it the row takes the child that was fitted on more rows; in a
    fit it counts as its median. Columns that are new to an entity count from the next fit on. A contribution is by how
    many steps splits on the feature shorten the path of the row; those of a row add up to c(rows of a tree) − path.

    An option `contributions` is set to True to have `step` give them. Raises ConfigError where scikit-learn is missing.
    """

    options: Any = IsolationForestOptions
    contributions: bool = False

    def __init__(self, options: Mapping[str, Any] | IsolationForestOptions | None = None) -> None:
        own = read_options(IsolationForestOptions, options)
        need_scikit_learn()
        self.options = own
        dtype = _row(own)
        size = dtype.itemsize + _sample(own.window, NARROWEST).itemsize
        self.info = DetectorInfo(
            "isolation_forest", 1, "multivariate", own.warm_up_rows, size, PRIOR_SCORE, bounded=True
        )
        self.table = SlotTable(dtype, capacity=max(1, min(64, (1 << 19) // dtype.itemsize)))
        self.samples: dict[int, SlotTable] = {}
        self._free: dict[int, list[int]] = {}
        self._forest = ForestSettings(own.n_estimators, own.max_samples, own.contamination)
        self._settings = Settings(
            own.n_estimators, own.depth, own.window, own.warm_up_rows, round(own.expiry_seconds * 1e9),
            round(own.refit_seconds * 1e9), np.uint64(own.seed), own.count_constants,
        )  # fmt: skip
        self._work = Work(
            np.zeros(MOST_FEATURES, np.float32),
            np.zeros(own.n_estimators, np.int32),
            np.zeros(MOST_FEATURES),
            np.zeros(1, np.int64),
        )

    def step(self, frame: Frame) -> Scores:
        """Score each row by the forest there is, then keep it for the next where `frame.learn`; fit where it is time.

        Raises ValueError where a key is negative.
        """
        given, out = columns_of(frame), blank(frame, self.contributions)
        if len(frame):
            make_room(self.table, given.key)
            self._touch_samples(given.key)
            self._sweep(self.table.rows, given, out)
        return scores_of(out, self.contributions, True)

    def score(self, frame: Frame) -> Scores:
        """Score every row by the forests there are, with contributions, changing nothing."""
        copy, given = copy_of(self.table, columns_of(frame))
        out = blank(frame, True)
        self._sweep(copy, given, out)
        return scores_of(out, True, True)

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start; they keep the room for their samples."""
        keys = np.asarray(keys)[np.asarray(keys) < self.table.used]
        self.table.touch(keys)
        self.table.rows["rows"][keys] = 0

    def model(self, key: int) -> Model | None:
        """The forest of a key, as `fit` gave it; None while there is none."""
        if key >= self.table.used or not self.table.rows["features"][key] or not self.table.rows["rows"][key]:
            return None
        row, own = self.table.rows[key], self.options
        level = self._sample_of(row)[0, : row["features"]].copy()
        feature, threshold, value = (
            row[name].copy().reshape(own.n_estimators, -1) for name in ("feature", "threshold", "value")
        )
        return Model(feature, threshold, value, level, float(row["average"]), float(row["limit"]))

    def state(self) -> State:
        """All it has learnt: forests, and samples for the next ones."""
        free = {f"free{size}": np.array(slots, np.int32) for size, slots in sorted(self._free.items())}
        tables = {f"samples{size}": table for size, table in sorted(self.samples.items())}
        return State(self.info.version, {"detector": self.info.name}, free, {"slots": self.table, **tables})

    @classmethod
    def restore(cls, config: Mapping[str, Any] | IsolationForestOptions | None, state: State) -> Self:
        """The detector that gave `state`, from its config.

        Raises PermanentError where the state is another detector's, or was learnt under another shape of slots.
        """
        detector = cls(config)
        state = own_state(state, detector.info, detector.table.dtype)
        detector.table.load(state.arrays["slots"])
        for size in range(1, CLASSES + 1):
            if f"samples{size}" in state.arrays:
                detector._sample_table(size).load(state.arrays[f"samples{size}"])
                detector._free[size] = state.arrays[f"free{size}"].tolist()
        return detector

    def _sweep(self, rows: NDArray[Any], given: Given, out: Out) -> None:
        at, n = 0, len(given.key)
        whole = rows.view(np.int64).reshape(len(rows), -1)
        slots = Slots(whole, whole.view(np.float64), whole.view(np.float32), whole.view(np.uint16))
        none = np.empty((0, 1), np.float32)
        while True:
            tables = [self.samples.get(size) for size in range(1, CLASSES + 1)]
            samples = tuple(none if table is None else table.rows["value"] for table in tables)
            at = sweep(slots, samples, given, at, self._settings, self._work, out)
            why = int(self._work.why[0])
            if why == FIT:
                self._fit(int(given.key[at - 1]))
            elif why != DONE:
                self._make_room(int(given.key[at]), int(given.width[at]))
            if why == DONE or at == n:
                return

    def _fit(self, key: int) -> None:
        """Fit the forest of a key on its sample."""
        row, own = self.table.rows[key], self.options
        kept, features = min(int(row["seen"]), own.window), int(row["columns"])
        sample = self._sample_of(row)
        model = fit(sample[1 : 1 + kept, :features], own.seed, self._forest, own.depth)
        for name in ("feature", "threshold", "value"):
            row[name] = getattr(model, name).ravel()
        row["average"], row["limit"] = model.average, model.limit
        row["features"], row["varied"] = features, np.count_nonzero(np.isnan(model.level))
        row["fitted"], row["seen"] = row["time"], 0
        sample[0, :features] = model.level

    def _touch_samples(self, key: NDArray[np.int32]) -> None:
        if not any(table.copying for table in self.samples.values()):
            return
        rows = self.table.rows[np.unique(key)]
        for size, table in self.samples.items():
            table.touch(rows["slot"][rows["size"] == size])

    def _sample_table(self, size: int) -> SlotTable:
        """The table of samples of a class, made when it is first needed."""
        if size not in self.samples:
            self.samples[size] = SlotTable(_sample(self.options.window, NARROWEST << (size - 1)), capacity=1)
            self._free[size] = []
        return self.samples[size]

    def _sample_of(self, row: Any) -> NDArray[np.float32]:
        """The sample of a key, float32[1 + window, columns]: levels of constant features, then rows."""
        sample: NDArray[np.float32] = self.samples[int(row["size"])].rows["value"][int(row["slot"])]
        return sample.reshape(1 + self.options.window, -1)

    def _make_room(self, key: int, width: int) -> None:
        """Give a key's sample a place for so many columns; what there is moves along."""
        row = self.table.rows[key]
        old, size = int(row["size"]), (-(-width // NARROWEST) - 1).bit_length() + 1
        table = self._sample_table(size)
        slot = self._free[size].pop() if self._free[size] else table.used
        table.ensure(slot)
        table.touch(np.array([slot]))
        wider = table.rows["value"][slot].reshape(1 + self.options.window, -1)
        wider[:] = np.nan
        if old:
            narrow = self._sample_of(row)
            wider[:, : narrow.shape[1]] = narrow
            self._free[old].append(int(row["slot"]))
        row["size"], row["slot"] = size, slot


def _sample(window: int, columns: int) -> np.dtype[Any]:
    return np.dtype([("value", "f4", ((1 + window) * columns,))])


def _row(own: IsolationForestOptions) -> np.dtype[Any]:
    """A slot, see `isolation_kernel`: where its sample is, and its forest."""
    names = ("time", "rows", "seen", "fitted", "features", "varied", "columns", "slot", "size", "spare")
    places = own.n_estimators << own.depth
    fields: list[Any] = [*((name, "i8") for name in names), ("average", "f8"), ("limit", "f8")]
    fields += [("value", "f4", (2 * places,)), ("threshold", "f4", (places,)), ("feature", "u2", (places,))]
    dtype = np.dtype(fields)
    assert dtype.fields is not None
    assert dtype.fields["value"][1] == 8 * MODEL
    if dtype.itemsize % 8:
        dtype = np.dtype([*fields, ("end", "u1", (8 - dtype.itemsize % 8,))])
    return dtype
