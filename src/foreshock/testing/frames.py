"""Frames to try detectors on: seeded, small, and as awkward as real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foreshock.state import State, pack
from foreshock.types import WIDTHS, Frame, Scores, Status

MINUTE = 60 * 10**9
START = 1_700_000_000 * 10**9
DAY = 1440 * MINUTE


def make(
    key: ArrayLike,
    time_unix_nano: ArrayLike,
    values: ArrayLike,
    *,
    learn: ArrayLike = True,
    status: ArrayLike = Status.SCORED,
    columns: int | None = None,
) -> Frame:
    """A frame of keys [n], times [n] and values [n] or [n, w]; `learn` and `status` one for all rows or [n].

    `columns` is D; by default the least class of D that holds w. What lies beyond w is NaN.
    """
    keys = np.array(key, np.int32).reshape(-1)
    n = len(keys)
    given = np.array(values, np.float64).reshape(n, -1) if n else np.zeros((0, 1))
    width = given.shape[1]
    padded = np.full((n, columns or next(d for d in WIDTHS if d >= width)), np.nan)
    padded[:, :width] = given
    return Frame(
        keys,
        np.broadcast_to(np.array(time_unix_nano, np.int64), n).copy(),
        padded,
        np.full(n, width, np.int16),
        np.broadcast_to(np.array(learn, np.bool_), n).copy(),
        np.broadcast_to(np.array(status, np.uint8), n).copy(),
    )


def noise(rng: np.random.Generator, rows: int, keys: int, width: int = 1, start: int = START) -> Frame:
    """Rows a minute apart of `keys` keys in random order, each feature of each at a level of its own."""
    key = rng.integers(0, keys, rows)
    level = 10.0 * (1 + key)[:, None] + np.arange(width)
    return make(key, start + MINUTE * np.arange(rows), level + rng.normal(size=(rows, width)))


def round_robin(rng: np.random.Generator, rounds: int, keys: int, width: int = 1, start: int = START) -> Frame:
    """As `noise`, with every key once a round: each is warm after as many rounds as it needs rows."""
    frame = noise(rng, rounds * keys, keys, width, start)
    key = np.tile(np.arange(keys, dtype=np.int32), rounds)
    values = frame.values.copy()
    values[:, :width] += 10.0 * (key - frame.key)[:, None]
    return Frame(key, frame.time_unix_nano, values, frame.width, frame.learn, frame.status)


def hard(rng: np.random.Generator, rows: int, keys: int, width: int = 1) -> Frame:
    """Noise with all that happens: spikes, shifts, ties, constants, NaN, ±inf, gaps, excluded rows, old times."""
    frame = noise(rng, rows, keys, width)
    values = frame.values[:, :width].copy()
    values[rng.random(rows) < 0.02] *= 1e6
    values[rows // 2 : rows // 2 + rows // 8] += 25.0
    tied = rng.random(rows) < 0.3
    values[tied] = np.round(values[tied])
    values[frame.key == keys - 1] = 3.0
    odd = rng.random((rows, width)) < 0.06
    values[odd] = rng.choice([np.nan, np.inf, -np.inf, -0.0, 0.0], np.count_nonzero(odd))
    time = frame.time_unix_nano.copy()
    time[3 * rows // 4 :] += 400 * DAY
    back = rng.random(rows) < 0.05
    time[back] -= rng.integers(0, 5, np.count_nonzero(back)) * MINUTE
    status = rng.choice(np.arange(5, dtype=np.uint8), rows, p=[0.92, 0.02, 0.02, 0.02, 0.02])
    return make(frame.key, time, values, learn=rng.random(rows) < 0.9, status=status)


def join(*frames: Frame) -> Frame:
    """Frames of one D, one after the other."""
    return Frame(
        np.concatenate([f.key for f in frames]),
        np.concatenate([f.time_unix_nano for f in frames]),
        np.concatenate([f.values for f in frames]),
        np.concatenate([f.width for f in frames]),
        np.concatenate([f.learn for f in frames]),
        np.concatenate([f.status for f in frames]),
    )


def copy(frame: Frame) -> Frame:
    """The same frame in arrays of its own."""
    return frame.take(np.arange(len(frame)))


def cuts(rng: np.random.Generator, frame: Frame) -> list[Frame]:
    """The frame in pieces cut at random places."""
    places = np.sort(rng.integers(0, len(frame) + 1, max(2, len(frame) // 15)))
    return [frame.take(np.arange(a, b)) for a, b in zip([0, *places], [*places, len(frame)], strict=True) if a < b]


def merge(parts: Sequence[Scores]) -> Scores:
    """Scores, one after the other."""
    return Scores(np.concatenate([p.score for p in parts]), np.concatenate([p.status for p in parts]))


def difference(seen: Scores, wanted: Scores) -> str | None:
    """Where two scores differ in a bit (of numbers: NaN is NaN), in words; None where they do not."""
    a, b = np.asarray(seen.score, np.float64), np.asarray(wanted.score, np.float64)
    if len(a) != len(b) or len(seen.status) != len(wanted.status):
        return f"{len(a)} scores, not {len(b)}"
    other = (_bits(a) != _bits(b)) | (np.asarray(seen.status) != np.asarray(wanted.status))
    if not other.any():
        return None
    i = int(np.flatnonzero(other)[0])
    here, there = (f"score {float(x[i])!r} ({name_of(y.status[i])})" for x, y in ((a, seen), (b, wanted)))
    return f"row {i} has {here}, not {there}; {np.count_nonzero(other)} of {len(a)} rows differ"


def _bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.where(np.isnan(values), np.nan, values).view(np.int64)


def name_of(status: int) -> str:
    """A status in words."""
    return Status(status).name.lower() if 0 <= status <= max(Status) else f"status {status}"


def packed(state: State) -> bytes:
    """The bytes of a state, now."""
    return pack(state.frozen())
