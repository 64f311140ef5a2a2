"""How long the last steps of a detector took, and how much it got through in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KEPT = 1024


class Speeds(NamedTuple):
    """Seconds that half of the steps, and 99 of 100, took at most; rows a second while at work. NaN = no step yet."""

    p50_seconds: float
    p99_seconds: float
    rows_per_second: float


class Speed:
    """The last 1,024 steps of a detector; what it says is never part of its state.

    >>> speed = Speed()
    >>> for seconds in (0.001, 0.003, 0.002):
    ...     speed.note(seconds, rows=10)
    >>> [round(one, 6) for one in speed.figures()]
    [0.002, 0.003, 5000.0]
    """

    def __init__(self) -> None:
        self._seconds: NDArray[np.float64] = np.zeros(KEPT)
        self._rows: NDArray[np.int64] = np.zeros(KEPT, np.int64)
        self._steps = 0

    def note(self, seconds: float, rows: int) -> None:
        """One more step."""
        at = self._steps % KEPT
        self._seconds[at], self._rows[at] = seconds, rows
        self._steps += 1

    def figures(self) -> Speeds:
        """The steps that are kept, in three numbers."""
        kept = min(self._steps, KEPT)
        if not kept:
            return Speeds(np.nan, np.nan, np.nan)
        seconds = np.sort(self._seconds[:kept])
        spent = float(seconds.sum())
        return Speeds(
            float(seconds[(kept - 1) // 2]),
            float(seconds[-(-99 * kept // 100) - 1]),
            float(self._rows[:kept].sum()) / spent if spent else np.nan,
        )
