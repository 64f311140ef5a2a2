"""`robust_z`, the default: how far a value lies from the median of its series, in floored scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from foreshock.detect.kernels import robust_z_sweep
from foreshock.detect.univariate import LeastChange, UnivariateOptions, read_options
from foreshock.ports import DetectorInfo
from foreshock.types import Frame

PRIOR_SCORE = 6.0


def _row(window: int) -> np.dtype[Any]:
    whole = [(name, "i8") for name in ("time", "count", "head", "changed")]
    return np.dtype(
        [
            *whole,
            ("change", "f8"),
            ("min_change", "f8"),
            ("last", "f8"),
            ("ring", "f8", (window,)),
            ("sorted", "f8", (window,)),
        ]
    )


class RobustZOptions(UnivariateOptions):
    """The window that is remembered, and the least scale."""

    window: int = Field(default=360, ge=2, le=100_000, description="Learnt values of a series that are remembered.")
    min_change: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Least change worth an alert, in the series' own unit: a change of this size scores 12 at most.",
    )

    @model_validator(mode="after")
    def _warms_up(self) -> RobustZOptions:
        if self.warm_up_rows > self.window:
            raise ValueError(f"warm_up_rows ({self.warm_up_rows}) must not be above window ({self.window})")
        return self


class RobustZ(LeastChange):
    """|x − median| / s over the last `window` learnt values of each series, exactly; score, then learn.

    s = max(1.4826·MAD, .1·reach, .05·|median|, .5·N·min(changes/20, 1), min_change/12, 1e-9), N the mean size of a
    change: a scale of 0 is what breaks such scorers. The reach is p99 − p1, without at least four values at each end;
    the median is the mean of the middle two. The first move ever of a series scores at most 8·(rows/60)^¼.

    Everything is learnt, but as if it lay at most 6 s from the median: a spike does not widen the scale by which the
    next is judged, and a shift becomes normal after a little more than half of the window. Scores are at most 1e9.
    """

    options: Any = RobustZOptions

    def __init__(self, options: Mapping[str, Any] | RobustZOptions | None = None) -> None:
        own = read_options(RobustZOptions, options)
        self.options = own
        dtype = _row(own.window)
        info = DetectorInfo("robust_z", 1, "univariate", own.warm_up_rows, dtype.itemsize, PRIOR_SCORE)
        super().__init__(info, dtype)
        self._constants = (own.warm_up_rows, own.min_change, own.expiry_nanos, PRIOR_SCORE)

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
        numbers = rows.view(np.float64).reshape(len(rows), -1)
        robust_z_sweep(numbers, numbers.view(np.int64), key, *columns, *self._constants, score, given, band)
