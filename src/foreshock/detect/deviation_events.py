"""The event channel: rare reports of slow changes and of shapes that a series has not had, beside the alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.bar import ROW as BAR_ROW
from foreshock.detect.bar import Bar
from foreshock.detect.deviation_row import PRIOR_SCORE
from foreshock.detect.deviation_shape import ROW, event_sweep
from foreshock.state import SlotTable, State

EVENT_BYTES = ROW.itemsize + BAR_ROW.itemsize


class Events:
    """Scores of `deviation` and the values behind them → events: a shape memory and a bar of its own a slot.

    `budget_per_day` is that of the bar, which says how far a score is over what the series usually does. An event is
    told once; what follows it is silent for 6 % of the time seen (4 days at most), unless it grows.
    """

    def __init__(self, budget_per_day: float) -> None:
        self.bar = Bar(PRIOR_SCORE, budget_per_day, in_reach=True)
        self.table = SlotTable(ROW)

    def step(
        self,
        key: NDArray[np.int32],
        time: NDArray[np.int64],
        value: NDArray[np.float64],
        learn: NDArray[np.bool_],
        score: NDArray[np.float64],
        given: NDArray[np.uint8],
        expiry: int,
    ) -> NDArray[np.float64]:
        """Events among rows: float64[n], in (½, 1) at an event, 0 at other rows, NaN at rows without a value.

        `score` and `given` are what the detector gave the rows; `expiry` is in ns. Rows that are not learnt leave
        everything as it is.
        """
        event = np.empty(len(key))
        if len(key):
            self.table.ensure(int(key.max()))
            self.table.touch(key)
            strength = np.full(len(key), np.nan)
            rows = np.flatnonzero(learn)
            uncounted = np.zeros(len(rows), np.bool_)
            strength[rows], _ = self.bar.step(key[rows], time[rows], score[rows], given[rows], learn[rows], uncounted)
            event_sweep(self.table.rows, key, time, value, learn, given, score, strength, expiry, event)
        return event

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these slots a fresh start."""
        self.table.reset(keys)
        self.bar.forget(keys)

    def add_to(self, state: State) -> State:
        """The state of a detector, with this one's tables."""
        state.tables |= {"shapes": self.table, "bars": self.bar.table}
        return state

    def load(self, arrays: dict[str, Any]) -> None:
        """Take over what `add_to` added."""
        self.table.load(arrays["shapes"])
        self.bar.load(State(1, {}, {"slots": arrays["bars"], "tally": self.bar.tally}))
