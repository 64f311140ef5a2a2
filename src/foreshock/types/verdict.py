"""Scores of a detector and the verdicts that calibration makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scores:
    """What `Detector.step` returns, row for row of its frame.

    `score float64[n]`, higher is worse, NaN where `status uint8[n]` is not `SCORED`; `contribution float32[n, D]`,
    `expected`, `low`, `high` `float64[n]` (the band of what would have been normal; NaN = not known) on request;
    `ranking float64[n]`, of detectors for which what alarms first is not what ranks best, orders the rows of a key by
    how abnormal things are around them: where it is given it becomes the verdict's score; `event float64[n]` is above 0
    at the few rows where a slow change or a shape not seen before is reported; `prediction int8[n]`, of detectors that
    decide for themselves: −1 anomaly, 1 ordinary (as in scikit-learn), 0 not scored; `measured float64[2, n]`, of
    detectors that judge something other than the value (a pause, a texture): how much of it there is, and how much is
    usual; `apart float32[n, D]`, of
    multivariate detectors that see single features depart: ln(departure ÷ what it rarely passes), NaN where it is
    far below that.
    """

    score: NDArray[np.float64]
    status: NDArray[np.uint8]
    contribution: NDArray[np.float32] | None = None
    expected: NDArray[np.float64] | None = None
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    ranking: NDArray[np.float64] | None = None
    event: NDArray[np.float64] | None = None
    prediction: NDArray[np.int8] | None = None
    measured: NDArray[np.float64] | None = None
    apart: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Scores, calibrated, of one detector.

    All arrays follow the cells of the `Rows` they belong to, or where `whole` its rows: the detector is multivariate
    and judges entities as a whole. `p_value`: how often a score this high comes up when all is well; `strength` =
    ln(score / bar), comparable between series; `anomalous` = over the bar. `contribution float32[m]` of a `whole`
    verdict follows the cells: what each has in the score of its row, where that is anomalous and the detector says so,
    else NaN. `shadow`: the detector only scores, to be compared, and raises no alert. `event float64[m]`, of detectors
    that report them: above 0 at the few cells with a slow change or a shape not seen before. `prediction` is the
    detector's own, see `Scores`; 0 where the row is not judged. `measured float64[2, m]` where the detector judges
    something other than the value, which `measure` names: how much of it there is, and how much is usual. `singles`: a
    `whole` verdict of a detector that sees single features depart; `apart` what it says of the cells, as a verdict over
    these, None where it says nothing.
    """

    detector: str
    score: NDArray[np.float64]
    status: NDArray[np.uint8]
    p_value: NDArray[np.float64]
    strength: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    whole: bool = False
    contribution: NDArray[np.float32] | None = None
    shadow: bool = False
    event: NDArray[np.float64] | None = None
    prediction: NDArray[np.int8] | None = None
    measure: str = ""
    measured: NDArray[np.float64] | None = None
    singles: bool = False
    apart: Verdict | None = None


def leading(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that speak for an entity: those of primary detectors, or of all where none is primary."""
    return [one for one in verdicts if not one.shadow] or list(verdicts)
