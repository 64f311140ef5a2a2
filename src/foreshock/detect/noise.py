"""`noise`: a series that varies more, or less, from row to row than it usually does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.noise_kernel import ROW, noise_sweep
from foreshock.detect.univariate import LeastChange, Measuring, UnivariateOptions, read_options
from foreshock.ports import DetectorInfo
from foreshock.types import Frame
from foreshock.types.units import Seconds

PRIOR_SCORE = 1.0


class NoiseOptions(UnivariateOptions):
    """Which changes of texture count."""

    young_seconds: Seconds = Field(
        default=86400.0,
        ge=0,
        le=366 * 86400.0,
        description="For so long a series is young, and being quieter than before says nothing: it may be the night.",
    )
    min_change: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Least change worth an alert, in the series' own unit: moves of this size count as usual ones.",
    )


class Noise(Measuring, LeastChange):
    """(|ln(texture / usual texture)| / what that usually reaches)²; score, then learn.

    The texture is the mean, over the last 8 and the last 24 rows, of |x − median of the three rows before|, in a scale
    in which these residuals, each bounded to six, have the mean 1 (Huber 1964): over two days, and by hour of the day
    from its third visit on. Of both spans the larger counts; being quieter counts half, and nothing in the first day.
    What a departure reaches is what 19 in 20 of its hourly maxima stay below. Rows that do not follow at the usual pace
    have no residual; at another pace the series starts afresh.

    There is no band: a value among wild ones may be usual itself. `measured` is texture ÷ usual texture (6 at most)
    and what that rarely passes.

    >>> Noise().info.bytes_per_slot
    296
    """

    options: Any = NoiseOptions
    measure = "variation"

    def __init__(self, options: Mapping[str, Any] | NoiseOptions | None = None) -> None:
        own = read_options(NoiseOptions, options)
        self.options = own
        info = DetectorInfo("noise", 1, "univariate", own.warm_up_rows, ROW.itemsize, PRIOR_SCORE, in_reach=True)
        super().__init__(info, ROW)
        self._settings = (own.warm_up_rows, own.expiry_nanos, round(own.young_seconds * 1e9), own.min_change)

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
        noise_sweep(rows, key, *columns, self._settings, score, given, self._measured)
