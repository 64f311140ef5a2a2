"""`zscore`: how far a value lies from the mean, in standard deviations. The light tier: 32 bytes a series."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.histogram import LN2, exp
from foreshock.detect.kernels import zscore_sweep
from foreshock.detect.univariate import Univariate, UnivariateOptions, read_options
from foreshock.ports import DetectorInfo
from foreshock.types import Frame

PRIOR_SCORE = 6.0
ROW = np.dtype([("mean", "f8"), ("variance", "f8"), ("time", "i8"), ("count", "i4"), ("spare", "i4")])


class ZScoreOptions(UnivariateOptions):
    """How the mean and the deviation are learnt, and what counts as too far."""

    half_life_rows: float = Field(
        default=500.0,
        ge=1,
        le=1e8,
        description="Rows of a series after which one counts half. Until there are as many as it remembers, about 1.44 "
        "half-lives, all count the same.",
    )
    threshold: float | None = Field(
        default=None,
        gt=0,
        description="A plain bar in standard deviations, such as 1.5 or 3, in place of one that follows the budget.",
    )


class ZScore(Univariate):
    """|x − mean| / deviation of each series, both exponentially weighted; score, then learn.

    The deviation is floored at a millionth of |mean| and at 1e-9, scores are at most 1e9. Once warm, what is learnt of
    a value is bounded to 4 deviations (Huber 1964), so that a spike does not poison the mean. Welford's update
    (1962) gives the exact mean and variance of all rows until the weights become exponential.

    >>> ZScore({"threshold": 3}).threshold
    3.0
    """

    options: Any = ZScoreOptions

    def __init__(self, options: Mapping[str, Any] | ZScoreOptions | None = None) -> None:
        own = read_options(ZScoreOptions, options)
        self.options = own
        super().__init__(DetectorInfo("zscore", 1, "univariate", own.warm_up_rows, ROW.itemsize, PRIOR_SCORE), ROW)
        self.threshold = own.threshold
        gain = 1.0 - exp(-LN2 / own.half_life_rows)
        full = max(math.ceil(1.0 / gain), own.warm_up_rows)
        width = PRIOR_SCORE if own.threshold is None else own.threshold
        self._constants = (own.warm_up_rows, full, gain, own.expiry_nanos, width)

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
        zscore_sweep(
            rows,
            key,
            frame.time_unix_nano,
            frame.values[:, 0],
            learn,
            frame.status,
            *self._constants,
            score,
            given,
            band,
        )
