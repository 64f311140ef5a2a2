"""One series as a chart shows it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from foreshock.api.answers.words import Number, StatusName


class ChartPoints(Struct):
    """Parallel lists, oldest first. Of a bucket, `value` is the mean, `least` and `most` bound it."""

    time_unix_seconds: list[float]
    value: list[Number]
    least: list[Number]
    most: list[Number]
    expected: list[Number]
    low: list[Number]
    high: list[Number]
    anomalous: list[bool]
    status: list[StatusName]


class Opinion(Struct):
    """What one detector says of each point: how many times its bar the score is, and the p-value.

    `whole` = it judges the entity, not the series alone. Null = it did not judge.
    """

    detector: str
    whole: bool
    ratio: list[Number]
    p_value: list[Number]


class ChartPart(Struct):
    """From this time on the answer is made of points (`kept_seconds` 0) or of buckets of so many seconds."""

    from_unix_seconds: float
    kept_seconds: float


class Chart(Struct):
    """A series as a chart shows it: `raw` points one by one, else in buckets.

    `bucket_seconds` = length of the buckets that it was thinned to, 0 = it was not; `parts` says of what it was made.
    `oldest_unix_seconds` = when what is known begins, told where `since` is given.
    """

    entity: str
    feature: str
    title: str
    unit: str
    kind: Literal["gauge", "counter"]
    raw: bool
    bucket_seconds: float
    oldest_unix_seconds: Number
    parts: list[ChartPart]
    points: ChartPoints
    detectors: list[Opinion]
