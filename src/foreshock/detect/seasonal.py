"""`seasonal`: how far a value lies from the level, trend and season of its series."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.deviation_row import FIRST, seasonal_row
from foreshock.detect.seasonal_kernel import MINUTE, PRIOR_SCORE, Settings, seasonal_sweep
from foreshock.detect.univariate import LeastChange, UnivariateOptions, read_options
from foreshock.ports import DetectorInfo
from foreshock.types import Frame
from foreshock.types.units import Seconds


class SeasonalOptions(UnivariateOptions):
    """When a series is judged, and the least change."""

    warm_up_seconds: Seconds = Field(
        default=2 * 86400.0,
        ge=0,
        le=366 * 86400.0,
        description="Time of a series to see before it is scored: two days, so that each time of day came twice.",
    )
    min_change: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Least change worth an alert, in the series' own unit: a change of this size scores 13 at most.",
    )


class Seasonal(LeastChange):
    """|x − level − trend − season| / s of each series; score, then learn.

    The idea of STL (Cleveland et al. 1990) row by row: an offset that follows the level over two days and a trend that
    follows its moves from day to day; the day (UTC) in slots of 5 min or as long as rows are apart, each a mean of what
    its visits left over; and the hours of the week, which count once they were seen twice and leave less than .7 of the
    day's error. s is the mean |residual|, half of the slot's own and half of all, and at least half of the mean change.
    What is learnt of a value lies at most 5 scales away (Huber 1964).

    Until two days were seen it is silent. A time of day that was not seen twice by then (it fell into gaps) is judged
    by the long level and its wider scale. Scores are at most 1e9; the first move ever of a series scores at most
    8.7·(rows/60)^¼.
    """

    options: Any = SeasonalOptions

    def __init__(self, options: Mapping[str, Any] | SeasonalOptions | None = None) -> None:
        own = read_options(SeasonalOptions, options)
        self.options = own
        dtype = seasonal_row()
        first = min(FIRST, own.warm_up_rows)
        warm_up = max(own.warm_up_rows, first + math.ceil(own.warm_up_seconds / MINUTE))
        super().__init__(DetectorInfo("seasonal", 1, "univariate", warm_up, dtype.itemsize, PRIOR_SCORE), dtype)
        self._settings = Settings(own.warm_up_rows, own.warm_up_seconds, own.expiry_nanos, own.min_change)

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
        """As `Univariate.sweep`."""
        columns = (frame.time_unix_nano, frame.values[:, 0], learn, frame.status)
        seasonal_sweep(rows, key, *columns, self._settings, score, given, band)
