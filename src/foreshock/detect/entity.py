"""What detectors of whole entities share: the columns they are given, those they fill in, and their saved state."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.kernels import highest_key
from foreshock.errors import PermanentError
from foreshock.ports import DetectorInfo
from foreshock.state import SlotTable, State
from foreshock.state.jit import inner
from foreshock.types import Frame, Scores

MOST_FEATURES = 1024
"""Columns of the widest frames."""

_HIGHEST = np.iinfo(np.int32).max


class Given(NamedTuple):
    """The columns of a frame, each contiguous and writable: one layout, one compiled kernel."""

    key: NDArray[np.int32]
    time: NDArray[np.int64]
    values: NDArray[np.float64]
    width: NDArray[np.int16]
    learn: NDArray[np.bool_]
    status: NDArray[np.uint8]


class Out(NamedTuple):
    """What is filled in, row by row: contribution is float32[n, D], or [n, 0] where nobody asks for it."""

    score: NDArray[np.float64]
    status: NDArray[np.uint8]
    contribution: NDArray[np.float32]
    prediction: NDArray[np.int8]


def columns_of(frame: Frame) -> Given:
    """The columns of a frame in the layout that kernels are compiled for."""
    return Given(
        _ready(frame.key, np.int32),
        _ready(frame.time_unix_nano, np.int64),
        _ready(frame.values, np.float64),
        _ready(frame.width, np.int16),
        _ready(frame.learn, np.bool_),
        _ready(frame.status, np.uint8),
    )


def _ready(column: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """The column itself where it will do, which `np.require` takes ten times as long to find out."""
    return column if column.flags.carray and column.dtype == dtype else np.require(column, dtype, ("C", "W"))


def blank(frame: Frame, contributions: bool) -> Out:
    """Room for what is said of a frame's rows: no scores, no contributions, no predictions yet."""
    n = len(frame)
    score, contribution = np.empty(n), np.empty(frame.values.shape if contributions else (n, 0), np.float32)
    score.fill(np.nan)
    contribution.fill(np.nan)
    return Out(score, np.array(frame.status, np.uint8), contribution, np.zeros(n, np.int8))


def scores_of(out: Out, contributions: bool, predictions: bool = False) -> Scores:
    """What was filled in, as a detector gives it."""
    return Scores(
        out.score, out.status, out.contribution if contributions else None,
        prediction=out.prediction if predictions else None,
    )  # fmt: skip


def make_room(table: SlotTable, key: NDArray[np.int32]) -> None:
    """Have rows for these slots, about to be written; ValueError where one is negative."""
    highest = highest_key(key)
    if highest > _HIGHEST:
        raise ValueError(f"keys are slots, and {int(key.min())} is negative")
    if highest >= table.used:
        table.ensure(highest)
    table.touch(key)


def copy_of(table: SlotTable, given: Given) -> tuple[NDArray[Any], Given]:
    """Copies of the rows that a frame asks for, and the frame over them, nothing of it to be learnt.

    Slots that were never seen get a row of zeros. Raises ValueError where a key is negative.
    """
    keys, place = np.unique(given.key, return_inverse=True)
    if len(keys) and keys[0] < 0:
        raise ValueError(f"keys are slots, and {keys[0]} is negative")
    copy = SlotTable(table.dtype, capacity=max(len(keys), 1))
    known = keys < table.used
    copy.rows[: len(keys)][known] = table.rows[keys[known]]
    return copy.rows, given._replace(key=place.astype(np.int32), learn=np.zeros(len(place), np.bool_))


def own_state(state: State, info: DetectorInfo, dtype: np.dtype[Any]) -> State:
    """A saved state, its tables as arrays; PermanentError where it is another detector's or of another shape."""
    state = state.frozen()
    name, rows = state.meta.get("detector"), state.arrays.get("slots")
    if name != info.name or state.version != info.version or rows is None:
        raise PermanentError(
            f"state of detector {name!r} version {state.version} cannot be restored as {info.name!r} "
            f"version {info.version}"
        )
    if rows.dtype != dtype:
        raise PermanentError(
            f"state of detector {name!r} has {rows.dtype.itemsize} bytes a slot, its config asks for "
            f"{dtype.itemsize}: give it the config that it was learnt under, or start afresh"
        )
    return state


@inner
def any_finite(values: NDArray[np.float64], width: int) -> bool:
    """Whether one of the first `width` values is a number."""
    there = False
    for j in range(width):
        there |= abs(values[j]) < np.inf
    return there
