"""Rows of entities: what operators hand on (`Rows`) and what detectors see (`Frame`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

WIDTHS = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""The classes of D: entities of all shapes share few kernel calls."""


class Status(IntEnum):
    """Why a row or cell has the score it has; silence is never "normal"."""

    SCORED = 0
    WARMING_UP = 1
    MISSING = 2
    STALE = 3
    EXCLUDED = 4


_MISSING = np.uint8(Status.MISSING)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a detector sees.

    `key int32[n]` slot of a series (D = 1) or of an entity; `time_unix_nano int64[n]`; `values float64[n, D]`
    (NaN = missing); `width int16[n]` columns in use; `learn bool[n]`; `status uint8[n]` (`Status`).
    """

    key: NDArray[np.int32]
    time_unix_nano: NDArray[np.int64]
    values: NDArray[np.float64]
    width: NDArray[np.int16]
    learn: NDArray[np.bool_]
    status: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: slice | NDArray[np.intp]) -> Frame:
        """The same frame with only these rows, in this order."""
        return Frame(
            self.key[rows], self.time_unix_nano[rows], self.values[rows], self.width[rows], self.learn[rows],
            self.status[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rows:
    """Aligned rows of entities with their cells, in compressed-row form (no padding).

    Row i is (`entity int32`, `time_unix_nano int64`, `end_unix_nano int64` when it was decided, `learn`, `status`);
    its cells are `start[i]:start[i+1]` of `series int32[m]` and `value float64[m]`, in the entity's column order.
    Rows of one entity stand in time order; the order between entities means nothing.
    """

    entity: NDArray[np.int32]
    time_unix_nano: NDArray[np.int64]
    end_unix_nano: NDArray[np.int64]
    learn: NDArray[np.bool_]
    status: NDArray[np.uint8]
    start: NDArray[np.int64]
    series: NDArray[np.int32]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.entity)

    @staticmethod
    def empty() -> Rows:
        """No rows."""
        return Rows(
            np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_),
            np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float64),
        )  # fmt: skip

    def then(self, later: Rows) -> Rows:
        """These rows and, behind them, those of `later`."""
        return Rows(
            np.concatenate([self.entity, later.entity]),
            np.concatenate([self.time_unix_nano, later.time_unix_nano]),
            np.concatenate([self.end_unix_nano, later.end_unix_nano]),
            np.concatenate([self.learn, later.learn]),
            np.concatenate([self.status, later.status]),
            np.concatenate([self.start, later.start[1:] + self.start[-1]]),
            np.concatenate([self.series, later.series]),
            np.concatenate([self.value, later.value]),
        )

    def row_of_cell(self) -> NDArray[np.int64]:
        """For each cell the row it stands in: int64[m]."""
        return np.repeat(np.arange(len(self.entity)), self.start[1:] - self.start[:-1])

    def series_frame(self, row: NDArray[np.int64]) -> Frame:
        """The cells as a frame of series (D = 1), in cell order: what univariate detectors see; `row` of each cell."""
        m = len(self.series)
        status = np.where(np.isnan(self.value), _MISSING, self.status[row])
        return Frame(
            self.series, self.time_unix_nano[row], self.value.reshape(m, 1), np.ones(m, np.int16), self.learn[row],
            status,
        )  # fmt: skip

    def entity_frames(self) -> list[tuple[NDArray[np.int64], Frame]]:
        """The rows as padded frames of entities, one per class of D, each with the row numbers it holds."""
        width = np.diff(self.start)
        out: list[tuple[NDArray[np.int64], Frame]] = []
        low = 0
        for d in WIDTHS:
            rows = np.flatnonzero((width > low) & (width <= d))
            low = d
            if not len(rows):
                continue
            values = np.full((len(rows), d), np.nan)
            w = width[rows]
            lane = np.arange(d)[None, :]
            inside = lane < w[:, None]
            values[inside] = self.value[(self.start[rows][:, None] + lane)[inside]]
            out.append(
                (rows, Frame(self.entity[rows], self.time_unix_nano[rows], values, w.astype(np.int16),
                             self.learn[rows], self.status[rows]))
            )  # fmt: skip
        return out
