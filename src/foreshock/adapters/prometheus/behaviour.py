"""What a metric is, by what it does: types may be missing, and may lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.prometheus.names import Kind

FEWEST_MOVES = 10
"""Moves of a metric before it is judged by them."""

_LIFETIME_SECONDS = 20 * 365 * 86400.0


@dataclass(slots=True)
class Behaviour:
    """How the series of a metric moved: moves, falls, falls to more than half of before; whether it tells the time."""

    moves: int = 0
    falls: int = 0
    partial: int = 0
    clock: bool = True

    def add(self, values: NDArray[np.float64], now: float) -> None:
        """Look at the values of a series in order of time, all finite."""
        change = np.diff(values)
        self.moves += int(np.count_nonzero(change))
        self.falls += int(np.count_nonzero(change < 0))
        self.partial += int(np.count_nonzero((change < 0) & (values[1:] > 0.5 * values[:-1])))
        self.clock = self.clock and bool((np.abs(values - now) < _LIFETIME_SECONDS).all())

    def kind(self, said: Kind, name: str, long: bool) -> Kind:
        """What a metric is that is `said` to be a gauge, a counter or unknown; SKIP if it tells the time.

        Resets of a counter leave next to nothing: what falls by less than half again and again is none. `long`: it
        was seen over a day or more.
        """
        if self.partial >= 2 and 10 * self.partial >= self.moves:
            return Kind.SKIP if self.clock else Kind.GAUGE
        grows = self.moves >= FEWEST_MOVES and self.partial == 0 and 20 * self.falls <= self.moves
        if said is Kind.COUNTER:
            return said
        if self.clock and "time" in name:
            return Kind.SKIP
        if said is Kind.UNKNOWN:
            return Kind.COUNTER if grows else Kind.GAUGE if self.moves >= FEWEST_MOVES or self.falls else said
        lies = grows and self.falls == 0 and self.moves >= 5 * FEWEST_MOVES
        return Kind.COUNTER if name.endswith("_total") or (long and lies) else said
