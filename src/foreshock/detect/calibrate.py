"""From a detector's score to a p-value: how often a score this high came up lately, when all was well.

Weighted conformal rank (Barber et al. 2023, weights that decay with age) over a histogram of the series' own clean
past, with a Pareto tail (Hill 1975) beyond what was seen; `combine` makes one of those of several detectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.histogram import LN2, bin_of, edge, exp, ln, total_weight
from foreshock.state import SlotTable, State
from foreshock.state.jit import entry, inner
from foreshock.types import Status
from foreshock.types.units import Options

PER = 8
"""Bins an octave."""
OCTAVES = 16
"""Octaves of the histogram: from 2^-10 to 2^6 times the detector's prior score."""
SIZE = PER * OCTAVES
LOW = -10

SCORED = int(Status.SCORED)
TAIL_ROWS = 10.0
TAIL_SHARE = 0.1
PRIOR_ROWS, PRIOR_INDEX = 5.0, 1.0
LEAST_P = 1e-15
LARGEST_GAIN = 1024.0

ROW = np.dtype([("total", "f8"), ("gain", "f8"), ("octaves", "f4", (OCTAVES,)), ("bins", "f4", (SIZE,))])


class CalibratorOptions(Options):
    """How p-values are made of scores."""

    half_life_rows: float = Field(
        default=2000.0, gt=0, description="Rows of a series after which a score counts half in its p-values."
    )


class Calibrator:
    """Scores → p-values, one histogram of the clean past a slot; score, then learn.

    `unit` is the detector's `prior_score`: the histogram spans 2^-10 to 2^6 times it.
    """

    def __init__(self, unit: float, options: CalibratorOptions | None = None) -> None:
        self.unit = float(unit)
        self.options = options or CalibratorOptions()
        self._growth = float(exp(LN2 / self.options.half_life_rows))
        self.table = SlotTable(ROW, {"gain": 1.0})

    def step(
        self, key: NDArray[np.int32], score: NDArray[np.float64], status: NDArray[np.uint8], learn: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """p-values of rows: float64[n] in (0, 1], NaN where a row is not scored.

        Parameters
            key    int32[n] slots
            score  float64[n] of the detector, higher is worse; below 0 counts as 0
            status uint8[n] (`Status`); only `SCORED` rows get a p-value or are learnt
            learn  bool[n] whether the row belongs to the clean past (not anomalous, not excluded)
        """
        p = np.full(len(key), np.nan)
        if len(key):
            self.table.ensure(int(key.max()))
            self.table.touch(key)
            _step(self.table.rows, key, score, status, learn, self.unit, self._growth, p)
        return p

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these slots a fresh start."""
        self.table.reset(keys)

    def state(self) -> State:
        """All histograms."""
        return State(1, {}, {}, {"slots": self.table})

    def load(self, state: State) -> None:
        """Take over what `state` gave."""
        self.table.load(state.arrays["slots"])


@entry
def _step(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    score: NDArray[np.float64],
    status: NDArray[np.uint8],
    learn: NDArray[np.bool_],
    unit: float,
    growth: float,
    p: NDArray[np.float64],
) -> None:
    for i in range(len(key)):
        if status[i] != SCORED or score[i] != score[i]:
            continue
        row = rows[key[i]]
        x = max(score[i] / unit, 0.0)
        p[i] = _p_value(row, x)
        if learn[i]:
            _learn(row, x, growth)


@inner
def _p_value(row: Any, x: float) -> float:
    gain, total = row.gain, row.total
    above = _weight_above(row, x)
    p = (above + gain) / (total + gain)
    if above < TAIL_ROWS * gain and TAIL_SHARE * total >= TAIL_ROWS * gain:
        p = min(p, max(_tail(row, x), above / (total + gain)))
    return float(min(max(p, LEAST_P), 1.0))


@inner
def _weight_above(row: Any, x: float) -> float:
    """Weight of scores at or above x: inside its bin in proportion, save for what stands out as one repeated value."""
    bins, octaves = row.bins, row.octaves
    b = bin_of(x, LOW, PER, SIZE)
    octave = b // PER
    above = 0.0
    for o in range(OCTAVES - 1, octave, -1):
        above += octaves[o]
    for other in range(octave * PER + PER - 1, b, -1):
        above += bins[other]
    neighbour = 0.0
    if b > 0:
        neighbour = max(neighbour, float(bins[b - 1]))
    if b < SIZE - 1:
        neighbour = max(neighbour, float(bins[b + 1]))
    spread = min(float(bins[b]), 2.0 * neighbour)
    left, right = edge(b, LOW, PER), edge(b + 1, LOW, PER)
    share = min(max((right - x) / (right - left), 0.0), 1.0)
    return float(above + (float(bins[b]) - spread) + spread * share)


@inner
def _tail(row: Any, x: float) -> float:
    """p by a Pareto tail through the ten highest rows, its index from the top tenth, shrunk towards 1."""
    bins, gain, total = row.bins, row.gain, row.total
    above, anchor = 0.0, 0.0
    wanted = TAIL_ROWS * gain
    logs = 0.0
    for b in range(SIZE - 1, 0, -1):
        left, right, weight = edge(b, LOW, PER), edge(b + 1, LOW, PER), float(bins[b])
        if weight <= 0.0:
            continue
        if anchor == 0.0 and above + weight >= wanted:
            anchor = right - (right - left) * (wanted - above) / weight
        if above + weight >= TAIL_SHARE * total:
            part = TAIL_SHARE * total - above
            start = right - (right - left) * part / weight
            logs += part * ln(0.5 * (start + right))
            count = TAIL_SHARE * total / gain
            excess = logs / gain - count * ln(start)
            index = (excess + PRIOR_ROWS * PRIOR_INDEX) / (count + PRIOR_ROWS)
            if x <= anchor:
                return 1.0
            return float((wanted + gain) / (total + gain) * exp(-ln(x / anchor) / index))
        logs += weight * ln(0.5 * (left + right))
        above += weight
    return 1.0


@inner
def _learn(row: Any, x: float, growth: float) -> None:
    """Later rows weigh more instead of earlier ones less; now and then all weights are divided."""
    b = bin_of(x, LOW, PER, SIZE)
    row.bins[b] += row.gain
    row.octaves[b // PER] += row.gain
    row.total += row.gain
    row.gain *= growth
    if row.gain > LARGEST_GAIN:
        for o in range(OCTAVES):
            for j in range(o * PER, o * PER + PER):
                row.bins[j] /= row.gain
            row.octaves[o] = total_weight(row.bins[o * PER : o * PER + PER])
        row.total = total_weight(row.octaves)
        row.gain = 1.0


__all__ = ["Calibrator", "CalibratorOptions"]
