"""`rate_of_change`: how fast a series moves, against how fast it has been moving, or against a limit of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from foreshock.detect.rate_kernel import PRIOR_SCORE, ROW, Settings, rate_sweep
from foreshock.detect.univariate import LeastChange, UnivariateOptions, read_options
from foreshock.ports import DetectorInfo
from foreshock.types import Frame, Series
from foreshock.types.units import Measure, Quantity, Seconds, quantity


class RateOfChangeOptions(UnivariateOptions):
    """What a change is measured by, how long it is remembered, and a limit in place of the past."""

    per: Literal["second", "step"] = Field(
        default="second", description="A change counts by the time it took, or as it is, from row to row."
    )
    memory_seconds: Seconds = Field(
        default=86400.0, gt=0, le=366 * 86400.0, description="Time over which changes are remembered, at least 48 rows."
    )
    max_gap_steps: float = Field(
        default=5.0,
        ge=1,
        le=1e6,
        description="A change over a gap longer than so many mean intervals of the series is not judged, nor learnt.",
    )
    min_change: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Least change worth an alert, in the series' own unit: a change of this size scores 12 at most.",
    )
    threshold: Quantity | None = Field(
        default=None,
        description="A plain limit on the change either way, such as `5 MB/s` or `10 %/min`, in place of a bar that "
        "follows the budget. A share per time is one of the value before, except of a series that is a share itself; "
        "a plain number is in the series' own unit.",
    )

    @model_validator(mode="after")
    def _threshold_is_a_rate(self) -> RateOfChangeOptions:
        measure = self.measure
        if measure is None:
            return self
        if not measure.number > 0:
            raise ValueError(f"threshold is {self.threshold}: it must be above 0")
        if measure.base is not None and self.per == "second" and not measure.base.endswith("/s"):
            raise ValueError(f"threshold is {self.threshold}: a change per second needs a limit such as 5 MB/s")
        return self

    @property
    def measure(self) -> Measure | None:
        """`threshold` as a number in base units."""
        return None if self.threshold is None else quantity(self.threshold)


class RateOfChange(LeastChange):
    """|rate − center| / s of each series, where a rate is a change over the time it took; score, then learn.

    Center and scale are means of the rates and of their distances from the center (Huber 1964: what is learnt lies at
    most 5 scales away), which fade with event time: s = max(1.2533 · mean distance, .5 · that of rates not 0,
    min_change/12 over the time, 1e-9). Rows closer than half the mean interval count as that far apart, so that what
    comes in a burst is not fast. A rate over a long gap is `missing`, and not learnt; the value behind it is where the
    next change starts. The first move ever of a series scores at most 8·(rows/60)^¼. Scores are at most 1e9.

    With a `threshold` the score is rate over limit, and a series needs one row before it is judged. A series whose
    unit the limit is not in is `excluded`.

    >>> RateOfChange({"threshold": "5 MB/s"}).threshold
    1.0
    """

    options: Any = RateOfChangeOptions

    def __init__(self, options: Mapping[str, Any] | RateOfChangeOptions | None = None) -> None:
        own = read_options(RateOfChangeOptions, options)
        self.options = own
        limited = own.measure is not None
        warm_up = 1 if limited else own.warm_up_rows
        info = DetectorInfo("rate_of_change", 1, "univariate", warm_up, ROW.itemsize, 1.0 if limited else PRIOR_SCORE)
        super().__init__(info, ROW)
        self.threshold = 1.0 if limited else None
        self._settings = Settings(
            warm_up, own.expiry_nanos, own.memory_seconds, own.max_gap_steps, own.min_change, own.per == "second",
            limited, *self._limit(""),
        )  # fmt: skip

    def meet(self, keys: NDArray[np.int32], series: Sequence[Series]) -> None:
        """Put the limit into the units of new series: keys int32[k] with the series of each."""
        if self.threshold is None or not len(keys):
            return
        self._make_room(np.ascontiguousarray(keys))
        limits = [self._limit(one.unit) for one in series]
        self.table.rows["limit"][keys] = [limit for limit, _ in limits]
        self.table.rows["share"][keys] = [share for _, share in limits]
        self.table.rows["met"][keys] = 1

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start, with the limits and the least change they were given."""
        known = keys[keys < self.table.used]
        kept = {name: self.table.rows[name][known] for name in ("limit", "share", "met")}
        super().forget(known)
        for name, values in kept.items():
            self.table.rows[name][known] = values

    def _limit(self, unit: str) -> tuple[float, float]:
        """The limit for series of a unit: (change, share of the value before), one of them 0; NaN where none fits."""
        measure = self.options.measure
        if measure is None:
            return 0.0, 0.0
        per = "/s" if self.options.per == "second" else ""
        number = measure.within(unit + per if unit else "")
        if number is not None:
            return number, 0.0
        return (0.0, measure.number) if measure.base == "1" + per else (np.nan, np.nan)

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
        rate_sweep(rows, key, *columns, self._settings, score, given, band)
