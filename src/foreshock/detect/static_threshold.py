"""`static_threshold`: limits that a user wrote, in units, with a time to hold and a level that clears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from foreshock.detect.threshold_kernel import AT_LIMIT, ROW, Levels, threshold_sweep
from foreshock.detect.univariate import Univariate, read_options
from foreshock.errors import ConfigError
from foreshock.ports import DetectorInfo
from foreshock.types import Frame, Series
from foreshock.types.units import Measure, Options, Quantity, Seconds, quantity

NO_LEVELS = Levels(np.nan, np.nan, np.nan, np.nan, 0)


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Quantities = Annotated[
    tuple[Quantity, ...], BeforeValidator(_several, json_schema_input_type=float | str | tuple[float | str, ...])
]


class Bounds(Options):
    """What a value must not pass; with both bounds, a range it must not leave."""

    model_config = ConfigDict(populate_by_name=True)

    above: Quantity | None = Field(
        default=None,
        description="A value above it is a breach. With a unit (`90 %`, `250 ms`, `2 GiB`) it is put into that of each "
        "series; a plain number is in the series' own.",
    )
    below: Quantity | None = Field(default=None, description="A value below it is a breach.")
    clear: Quantities = Field(
        default=(),
        description="What a value must come back to before a breach ends; of a range both, the lower one first. By "
        "default the bound itself.",
    )
    hold: Seconds = Field(
        default=0.0, ge=0, le=366 * 86400.0, alias="for", description="How long a breach must last before it counts."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Bounds:
        given = [one for one in (self.below, self.above) if one is not None]
        if self.clear and len(self.clear) != len(given):
            raise ValueError(f"clear needs one level for each bound: {len(self.clear)} for {len(given)}")
        measures = [quantity(one) for one in (*given, *self.clear)]
        if len({one.base for one in measures}) > 1:
            raise ValueError(f"{', '.join(str(one) for one in (*given, *self.clear))} do not measure the same")
        low, high, clear_low, clear_high = self._base_levels()
        if not low < high:
            raise ValueError(f"below ({self.below}) must be less than above ({self.above})")
        if not low <= clear_low <= clear_high <= high:
            raise ValueError("clear must lie within the bounds")
        return self

    def _base_levels(self) -> tuple[float, float, float, float]:
        """Low, high and what clears each, in base units."""
        below, above = (None if one is None else quantity(one).number for one in (self.below, self.above))
        low, high = -np.inf if below is None else below, np.inf if above is None else above
        clears = [quantity(one).number for one in self.clear]
        clear_low = clears[0] if clears and below is not None else low
        clear_high = clears[-1] if clears and above is not None else high
        return low, high, clear_low, clear_high

    def levels(self, unit: str) -> Levels | None:
        """The bounds in the unit of a series; None where there are none, or where they measure something else."""
        given = self.above if self.above is not None else self.below
        if given is None:
            return None
        base = quantity(given).base
        numbers = [Measure(number, base).within(unit) for number in self._base_levels()]
        if any(number is None for number in numbers):
            return None
        low, high, clear_low, clear_high = (float(number) for number in numbers if number is not None)
        return Levels(low, high, clear_low, clear_high, round(self.hold * 1e9))


class Limit(Bounds):
    """A limit on some features."""

    feature: str = Field(default="*", description="Glob of the features it is for; the first limit that fits counts.")

    @model_validator(mode="after")
    def _says_something(self) -> Limit:
        if self.above is None and self.below is None:
            raise ValueError("a limit needs `above` or `below`")
        return self

    def fits(self, series: Series) -> bool:
        """Whether it is for this series, by its feature (name and attributes) or its name alone."""
        return fnmatchcase(series.feature, self.feature) or fnmatchcase(series.name, self.feature)


class StaticThresholdOptions(Bounds):
    """Limits: one for all features, and others for some."""

    limits: tuple[Limit, ...] = Field(
        default=(), description="Limits on some features, tried in order before the one for all."
    )
    expiry_seconds: Seconds = Field(
        default=7 * 86400.0,
        gt=0,
        le=10 * 365 * 86400.0,
        description="After a gap of a series longer than this, what was remembered of it is forgotten.",
    )


class StaticThreshold(Univariate):
    """How far a value is beyond a limit, in parts of the limit: 1 and more is a breach, and alarms whatever the budget.

    The score is 1 + (value − above) / |above|, for a lower bound 1 + (below − value) / |below|, of both the larger; a
    bound of 0 counts as 1. A breach that has not held for long enough scores just below 1, and one that has ended but
    has not cleared just 1. There is no warm-up. A breach that waits starts anew behind a gap longer than `for` and
    five mean intervals.

    A series that no limit is for, or whose unit measures something else, is `excluded`.

    >>> StaticThreshold({"limits": [{"feature": "system.cpu.*", "above": "90 %", "for": "1m"}]}).threshold
    1.0
    """

    options: Any = StaticThresholdOptions

    def __init__(self, options: Mapping[str, Any] | StaticThresholdOptions | None = None) -> None:
        own = read_options(StaticThresholdOptions, options)
        self.options = own
        if own.above is None and own.below is None and not own.limits:
            raise ConfigError("static_threshold has no limit: give it `above`, `below` or `limits`", key="above")
        super().__init__(DetectorInfo("static_threshold", 1, "univariate", 0, ROW.itemsize, AT_LIMIT), ROW)
        self.threshold = AT_LIMIT
        self._expiry = round(own.expiry_seconds * 1e9)
        self._common = own.levels("") or NO_LEVELS

    def meet(self, keys: NDArray[np.int32], series: Sequence[Series]) -> None:
        """Find the limits of new series, in their units: keys int32[k] with the series of each."""
        if not len(keys):
            return
        self._make_room(np.ascontiguousarray(keys))
        found = [self._levels(one) for one in series]
        for name, values in zip(Levels._fields, zip(*found, strict=True), strict=True):
            self.table.rows[name][keys] = values
        self.table.rows["met"][keys] = 1

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start, with the limits they were given."""
        known = keys[keys < self.table.used]
        kept = {name: self.table.rows[name][known] for name in (*Levels._fields, "met")}
        super().forget(known)
        for name, values in kept.items():
            self.table.rows[name][known] = values

    def _levels(self, series: Series) -> Levels:
        for limit in self.options.limits:
            levels: Levels | None = limit.levels(series.unit) if limit.fits(series) else None
            if levels is not None:
                return levels
        return self.options.levels(series.unit) or NO_LEVELS

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
        threshold_sweep(rows, key, *columns, self._expiry, self._common, score, given, band)
