"""What the univariate detectors share: options, slots, frames in and scores out. A detector adds its sweep."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from foreshock.detect.kernels import highest_key
from foreshock.errors import ConfigError, PermanentError
from foreshock.ports import DetectorInfo
from foreshock.state import SlotTable, State
from foreshock.types import Frame, Scores
from foreshock.types.units import Options, Seconds

Model = TypeVar("Model", bound=Options)

_HIGHEST = np.iinfo(np.int32).max
_NO_BAND: NDArray[np.float64] = np.empty((3, 0))
_NOTHING_MEASURED: NDArray[np.float64] = np.empty((2, 0))


class UnivariateOptions(Options):
    """What the options of univariate detectors have in common."""

    warm_up_rows: int = Field(default=20, ge=2, le=10**6, description="Rows of a series to learn before it is scored.")
    expiry_seconds: Seconds = Field(
        default=7 * 86400.0,
        gt=0,
        le=10 * 365 * 86400.0,
        description="After a gap of a series longer than this, what was learnt of it is forgotten.",
    )

    @property
    def expiry_nanos(self) -> int:
        """`expiry_seconds` in nanoseconds."""
        return round(self.expiry_seconds * 1e9)


def read_options(model: type[Model], given: Mapping[str, Any] | Options | None) -> Model:
    """Options as their model; ConfigError names a wrong key and the nearest right one.

    >>> read_options(UnivariateOptions, {"warmup_rows": 3})
    Traceback (most recent call last):
    foreshock.errors.ConfigError: warmup_rows: unknown option; did you mean 'warm_up_rows'?
    """
    if isinstance(given, model):
        return given
    try:
        return model.model_validate(dict(given or {}))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] != "extra_forbidden":
            raise ConfigError(first["msg"].removeprefix("Value error, "), key=key or None) from None
        known = sorted(field.alias or name for name, field in model.model_fields.items())
        close = difflib.get_close_matches(key, known, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"
        raise ConfigError(f"unknown option; {hint}", key=key) from None


class Univariate(ABC):
    """A detector of single series (frames of D = 1) with one row of state a slot.

    `options` is the model of its options on the class, and the options it has on a detector. Set `bands` to have
    `step` give expected, low and high too, from the state before the row was learnt. They are NaN where a row is not
    scored.
    """

    options: Any
    info: DetectorInfo
    bands: bool = False

    def __init__(self, info: DetectorInfo, dtype: np.dtype[Any]) -> None:
        self.info = info
        self.table = SlotTable(dtype)

    @abstractmethod
    def sweep(
        self,
        rows: NDArray[Any],
        key: NDArray[np.int32],
        frame: Frame,
        learn: NDArray[np.bool_],
        score: NDArray[np.float64],
        given: NDArray[np.uint8],
        band: NDArray[np.float64],
    ) -> None:
        """Score the rows of a frame against `rows[key]` in their order, and learn each where `learn`.

        All arrays are contiguous; out: score float64[n], given uint8[n], band float64[3, n] or [3, 0].
        """

    def step(self, frame: Frame) -> Scores:
        """Score each row against what was learnt before it, then learn it where `frame.learn`.

        Raises ValueError where the frame has more than one column or a negative key.
        """
        key = frame.key
        n = _rows(frame)
        if n:
            self._make_room(key)
        score, given = np.empty(n), np.empty(n, np.uint8)
        if self.bands:
            return self._with_bands(self.table.rows, key, frame, frame.learn, score, given)
        self.sweep(self.table.rows, key, frame, frame.learn, score, given, _NO_BAND)
        return Scores(score, given)

    def score(self, frame: Frame) -> Scores:
        """Score every row against the state as it is, with band and contribution, changing nothing."""
        n = _rows(frame)
        keys, place = np.unique(frame.key, return_inverse=True)
        if len(keys) and keys[0] < 0:
            raise ValueError(f"keys are slots, and {keys[0]} is negative")
        # What is scored is a copy of the rows asked for: keys that were never seen get a fresh one.
        copy = SlotTable(self.table.dtype, capacity=max(len(keys), 1))
        known = keys < self.table.used
        copy.rows[: len(keys)][known] = self.table.rows[keys[known]]
        learn = np.zeros(n, np.bool_)
        return self._with_bands(copy.rows, place.astype(np.int32), frame, learn, np.empty(n), np.empty(n, np.uint8))

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start."""
        self.table.reset(keys)

    def state(self) -> State:
        """All it has learnt."""
        return State(self.info.version, {"detector": self.info.name}, {}, {"slots": self.table})

    @classmethod
    def restore(cls, config: Mapping[str, Any] | Options | None, state: State) -> Self:
        """The detector that gave `state`, from its config (options as a mapping or as their model).

        Raises PermanentError where the state is another detector's, or was learnt under another shape of slots.
        """
        detector = cls(config)  # type: ignore[arg-type,call-arg]
        state = state.frozen()
        name, rows = state.meta.get("detector"), state.arrays.get("slots")
        info = detector.info
        if name != info.name or state.version != info.version or rows is None:
            raise PermanentError(
                f"state of detector {name!r} version {state.version} cannot be restored as {info.name!r} "
                f"version {info.version}"
            )
        if rows.dtype != detector.table.dtype:
            raise PermanentError(
                f"state of detector {name!r} has {rows.dtype.itemsize} bytes a slot, its config asks for "
                f"{detector.table.dtype.itemsize}: give it the config that it was learnt under, or start afresh"
            )
        detector.table.load(rows)
        return detector

    def _make_room(self, key: NDArray[np.int32]) -> None:
        highest = highest_key(key)
        if highest > _HIGHEST:
            raise ValueError(f"keys are slots, and {int(key.min())} is negative")
        if highest >= self.table.used:
            self.table.ensure(highest)
        self.table.touch(key)

    def _with_bands(
        self,
        rows: NDArray[Any],
        key: NDArray[np.int32],
        frame: Frame,
        learn: NDArray[np.bool_],
        score: NDArray[np.float64],
        given: NDArray[np.uint8],
    ) -> Scores:
        band = np.empty((3, len(key)))
        self.sweep(rows, key, frame, learn, score, given, band)
        return Scores(score, given, score.astype(np.float32).reshape(-1, 1), band[0], band[1], band[2])


class LeastChange(Univariate):
    """One whose slots have a field `min_change`: the least change worth an alarm, in the unit of each series."""

    def configure_keys(self, keys: NDArray[np.int32], min_change: NDArray[np.float64]) -> None:
        """Set the least change of slots: keys int32[k], min_change float64[k] in the unit of each series, ≥ 0.

        Raises ConfigError where one is negative or not finite. It outlives `forget` and expiry.
        """
        if not (np.isfinite(min_change) & (min_change >= 0)).all():
            raise ConfigError("must be finite and at least 0", key="min_change")
        if len(keys):
            self._make_room(np.ascontiguousarray(keys))
            self.table.rows["min_change"][keys] = min_change

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start, with the least change they were given."""
        known = keys[keys < self.table.used]
        least = self.table.rows["min_change"][known]
        super().forget(known)
        self.table.rows["min_change"][known] = least


class Measuring(Univariate):
    """One that judges something of a series other than its value: `measure` names what.

    Where `bands` is set, `step` also gives how much of it there is, and how much is usual: `Scores.measured`.
    """

    measure: str = ""
    _measured: NDArray[np.float64] = _NOTHING_MEASURED

    def step(self, frame: Frame) -> Scores:
        """As `Univariate.step`, with what was measured where `bands` is set."""
        if not self.bands:
            return super().step(frame)
        measured = self._measured = np.empty((2, len(frame)))
        try:
            return replace(super().step(frame), measured=measured)
        finally:
            self._measured = _NOTHING_MEASURED


def _rows(frame: Frame) -> int:
    n, columns = frame.values.shape
    if columns != 1:
        raise ValueError(f"a univariate detector sees frames of one column, not of {columns}")
    return int(n)
