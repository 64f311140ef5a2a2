"""What a detector of whole entities says of single features: departures → a verdict over the cells."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.bar import LEAST_RATE, LN_REFERENCE
from foreshock.types import Rows, Status, Verdict

MARGIN = 0.8
"""Departures are over their bar from 2.2 times what they rarely pass on, at .2 alarms a day."""
ROWS_PER_DAY = 1440.0


def apart_verdict(
    rows: Rows, whole: Verdict, pieces: list[tuple[NDArray[np.int64], NDArray[np.float32]]], budget_per_day: float
) -> Verdict | None:
    """A verdict over the cells of `rows`: strength = departure less margin, where one was said and the row is judged.

    None where nothing was said.

    `pieces` are numbers of rows with their `Scores.apart` float32[k, D]. What it measures is how many times as far as
    it rarely does a feature departs.
    """
    said = [np.nonzero(apart == apart) for _, apart in pieces]
    if not any(len(row) for row, _ in said):
        return None
    departure = np.full(len(rows.series), np.nan)
    for (at, apart), (row, column) in zip(pieces, said, strict=True):
        departure[rows.start[at[row]] + column] = apart[row, column]
    judged = np.isfinite(departure) & (whole.status[rows.row_of_cell()] == Status.SCORED)
    departure[~judged] = np.nan
    strength = departure - _margin(budget_per_day)
    unknown = np.full(len(departure), np.nan)
    times = np.exp(0.5 * departure)
    status = np.where(judged, np.uint8(Status.SCORED), np.uint8(Status.EXCLUDED))
    return Verdict(
        whole.detector, np.exp(departure), status, unknown, strength, strength >= 0.0, unknown, unknown, unknown,
        shadow=whole.shadow, measure="departure", measured=np.stack([times, np.ones(len(times))]),
    )  # fmt: skip


def _margin(budget_per_day: float) -> float:
    """The margin at a budget: it moves as the bars of single series do, for a row a minute.

    >>> round(_margin(0.2), 12), round(_margin(2.0), 2)
    (0.8, 0.2)
    """
    return MARGIN + 2.0 * math.log(max(math.log(ROWS_PER_DAY / budget_per_day) / LN_REFERENCE, LEAST_RATE))
