"""Which features are declared, and which series they are computed from and named."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from foreshock.types import Kind, Series
from foreshock.types.units import Options, Seconds

Do = Literal[
    "rate", "ratio", "mean", "std", "min", "max", "quantile", "lag", "slope", "share", "hour_of_day", "day_of_week"
]

WINDOWED = ("mean", "std", "min", "max", "quantile", "slope")
CALENDAR = ("hour_of_day", "day_of_week")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))

Window = Annotated[Seconds, Field(ge=1e-3, le=31 * 86400)]
Windows = Annotated[tuple[Window, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,))]


class FeatureOptions(Options):
    """A feature computed from the series of an entity, once a row."""

    name: str | None = Field(
        None, description="How the result is called behind the name of its series; default: made of what it does."
    )
    of: str = Field("*", description="Glob of the features it is computed from, one result each.")
    do: Do = Field(
        "mean",
        description="`mean`, `std`, `min`, `max`, `quantile`, `slope` (per second): over a window of time; "
        "`rate`: change per second since the row before; `ratio`: divided by another feature; `lag`: an earlier value; "
        "`share`: of the sum over the entity's series of the same name; "
        "`hour_of_day`, `day_of_week` (UTC, Monday = 0): once there are two days or weeks of history.",
    )
    over: Windows = Field(
        (10.0, 60.0, 300.0), min_length=1, description="Length of the window; several give a result each."
    )
    sliding: bool = Field(
        True,
        description="The window ends at each row; otherwise the result is that of the last whole window of the clock.",
    )
    by: str | None = Field(
        None, description="The feature that `ratio` divides by; a bare name takes the series of the same attributes."
    )
    q: float = Field(0.95, ge=0, le=1, description="Which `quantile`.")
    lag: Annotated[int, Field(ge=1, le=4000)] | Window = Field(
        1, description="How long ago `lag` looks: a whole number of rows, or a duration such as 5m."
    )

    @model_validator(mode="after")
    def _has_denominator(self) -> Self:
        if self.do == "ratio" and not self.by:
            raise ValueError("a ratio needs `by`, the feature to divide by")
        return self

    def matches(self, series: Series) -> bool:
        """Whether the feature is computed from this series."""
        return fnmatchcase(series.name, self.of) or fnmatchcase(series.feature, self.of)

    def divides(self, above: Series, below: Series) -> bool:
        """Whether the ratio of `above` is taken by `below`, a series of the same entity."""
        if above is below or not self.matches(above):
            return False
        return below.feature == self.by or (below.name == self.by and below.attributes == above.attributes)

    def windows(self) -> tuple[float, ...]:
        """Windows, one a result; one of 0 where there is none."""
        return self.over if self.do in WINDOWED else (0.0,)


def derived_series(base: Series, options: FeatureOptions, over: float) -> Series:
    """The series of a result: named after its base, with its entity and attributes."""
    return Series(f"{base.name}.{_suffix(options, over)}", base.entity, base.attributes, _unit(base, options))


def calendar_series(base: Series, options: FeatureOptions) -> Series:
    """The series of the hour or day, one an entity."""
    return Series(options.name or options.do, base.entity, (), "h" if options.do == "hour_of_day" else "d")


def duration_text(seconds: float) -> str:
    """A duration as it is written in names.

    >>> duration_text(60.0), duration_text(90.0), duration_text(0.25)
    ('1m', '90s', '0.25s')
    """
    for unit, size in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


def _suffix(options: FeatureOptions, over: float) -> str:
    window = f"{'' if options.sliding else 'every_'}{duration_text(over)}" if options.do in WINDOWED else ""
    if options.name:
        return f"{options.name}_{window}" if window and len(options.over) > 1 else options.name
    if options.do == "quantile":
        return f"p{100 * options.q:g}_{window}"
    if options.do == "lag":
        return f"lag_{options.lag}" if isinstance(options.lag, int) else f"lag_{duration_text(options.lag)}"
    if options.do == "ratio":
        return f"per_{options.by}"
    return f"{options.do}_{window}" if window else options.do


def _unit(base: Series, options: FeatureOptions) -> str:
    unit = f"{base.unit}/s" if base.unit and base.kind is Kind.COUNTER else base.unit
    if options.do in ("ratio", "share"):
        return "1"
    return f"{unit}/s" if unit and options.do in ("rate", "slope") else unit
