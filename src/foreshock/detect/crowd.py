"""How many features of an entity stand out by themselves at once: a second witness for the rank of its rows.

What pools all features ranks a row by how far they are from what they have to do with one another; detectors of single
series by how far each is from itself. Where many are, a row of the same rank is worth more. It ranks; nothing alarms
by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.state import SlotTable, State
from foreshock.state.jit import entry
from foreshock.types import Rows, Status

NEAR = -0.7
"""A feature stands out from half of its bar on."""
WEIGHT = 5.0
"""A row in which all features stand out ranks 1 + so many times as high."""
GAIN = 0.12944943670387588
"""Smoothing over rows, as `linear` smooths its rank: 1 − .5^(1/5)."""
SCORED = int(Status.SCORED)

ROW = np.dtype([("share", "f8")])


class Crowd:
    """Shares of features that stand out → what ranks of rows are multiplied by; one smoothed share an entity."""

    def __init__(self) -> None:
        self.table = SlotTable(ROW)

    def step(
        self, key: NDArray[np.int32], share: NDArray[np.float64], status: NDArray[np.uint8], learn: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Factors of rows, float64[n] ≥ 1; only rows that are `SCORED` count, and only `learn` ones are remembered."""
        factor = np.ones(len(key))
        if len(key):
            self.table.ensure(int(key.max()))
            self.table.touch(key)
            _step(self.table.rows, key, share, status, learn, factor)
        return factor

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these slots a fresh start."""
        self.table.reset(keys)

    def state(self) -> State:
        """All shares."""
        return State(1, {}, {}, {"slots": self.table})

    def load(self, state: State) -> None:
        """Take over what `state` gave."""
        self.table.load(state.arrays["slots"])


def share_of(rows: Rows, strength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which part of the judged cells of each row stands out, by strengths float64[m] (NaN = not judged): float64[n]."""
    row_of_cell = rows.row_of_cell()
    near = np.bincount(row_of_cell[strength >= NEAR], minlength=len(rows))
    judged = np.bincount(row_of_cell[strength == strength], minlength=len(rows))
    out: NDArray[np.float64] = near / np.maximum(judged, 1)
    return out


@entry
def _step(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    share: NDArray[np.float64],
    status: NDArray[np.uint8],
    learn: NDArray[np.bool_],
    factor: NDArray[np.float64],
) -> None:
    for i in range(len(key)):
        if status[i] != SCORED:
            continue
        row = rows[key[i]]
        smooth = row.share + GAIN * (share[i] - row.share)
        factor[i] = 1.0 + WEIGHT * smooth
        if learn[i]:
            row.share = smooth
