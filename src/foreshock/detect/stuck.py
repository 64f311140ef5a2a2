"""`stuck`: a live series that stops moving, judged by how long its own runs are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.stuck_kernel import ROW, stuck_sweep
from foreshock.detect.univariate import Measuring, UnivariateOptions, read_options
from foreshock.ports import DetectorInfo
from foreshock.types import Frame
from foreshock.types.units import Seconds

PRIOR_SCORE = 1.0


class StuckOptions(UnivariateOptions):
    """Which series are live, and what is asked of one that is young."""

    least_moves: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of its rows in which a live series moves at least; others are never stuck.",
    )
    young_seconds: Seconds = Field(
        default=86400.0,
        ge=0,
        le=366 * 86400.0,
        description="For so long a series is young: it may stand still every night, and no night has been seen.",
    )
    young_reach: Seconds = Field(
        default=6 * 3600.0,
        ge=0,
        le=366 * 86400.0,
        description="A young series stands still for longer, or is not stuck.",
    )


class Stuck(Measuring):
    """((time without a move / what runs of the series reach + .65) / 1.65)²; score, then learn.

    A series moves where it leaves the value that its run began with by more than a thousandth of its mean move. What
    runs reach is the larger of two: twice the longest usual one, which 1.2 % of its hours exceed
    (half-life 14 days), and the length that chance gives once in e^6 rows, were each row still or not by itself. A run
    at 0 is idleness where three have ended before. Missing rows make no run: a row adds at most 1.5 intervals. One
    repeated value makes none either.

    There is no band: every value of a series that is stuck is usual. `measured` is the time without a move and the
    longest usual run, in seconds.

    >>> Stuck().info.bytes_per_slot
    240
    """

    options: Any = StuckOptions
    measure = "pause"

    def __init__(self, options: Mapping[str, Any] | StuckOptions | None = None) -> None:
        own = read_options(StuckOptions, options)
        self.options = own
        info = DetectorInfo("stuck", 1, "univariate", own.warm_up_rows, ROW.itemsize, PRIOR_SCORE, in_reach=True)
        super().__init__(info, ROW)
        young = round(own.young_seconds * 1e9)
        self._settings = (own.warm_up_rows, own.expiry_nanos, own.least_moves, young, own.young_reach)

    def sweep(
        self,
        rows: NDArray[Any],
        key: NDArray[np.int32],
        frame: Frame,
        learn: NDArray[np.bool_],
        score: NDArray[np.float64],
        given: NDArray[np.uint8],
        band: NDArray[np.float64],
    ) -> None:
        """As `Univariate.sweep`; the band is unknown."""
        band[:] = np.nan
        columns = (frame.time_unix_nano, frame.values[:, 0], learn, frame.status)
        stuck_sweep(rows, key, *columns, self._settings, score, given, self._measured)
