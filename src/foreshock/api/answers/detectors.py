"""Detectors side by side, and the budget that they spend."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from foreshock.api.answers.words import Number


class DetectorState(Struct):
    """A detector: what it is, how many it judges now, what it spent of its budget, and how right it was.

    `model` is its name among the metrics. `achieved_per_day` and `budget_per_day` are notifications a series (or
    entity) and day, `achieved_ratio` their quotient; null = no scored day yet, or no budget. `episodes` it found, how
    many of them are `open` now, and how many labels confirm and deny. A step took `latency_seconds` on average since
    the start; half of the last 1,024 took `latency_p50_seconds` at most, 99 of 100 `latency_p99_seconds`, at
    `rows_per_second` while it worked.
    """

    name: str
    model: str
    type: str
    version: int
    kind: Literal["univariate", "multivariate"]
    role: Literal["primary", "shadow"]
    warm_up_rows: int
    warm_up_seconds: Number
    judging: int
    of: int
    budget_per_day: Number
    achieved_per_day: Number
    achieved_ratio: Number
    anomalies: int
    episodes: int
    open: int
    true_positives: int
    false_positives: int
    latency_seconds: Number
    latency_p50_seconds: Number
    latency_p99_seconds: Number
    rows_per_second: Number


class Detectors(Struct):
    """All detectors, in the order of the settings."""

    detectors: list[DetectorState]


class Day(Struct):
    """What was announced on one UTC day, by label."""

    day: str
    notified: int
    true_alerts: int
    false_alerts: int
    held_back: int


class BudgetView(Struct):
    """Notifications against the budget; `achieved_ratio` = achieved ÷ budget, by level."""

    environment_per_day: float
    entity_per_day: float
    achieved_ratio: dict[str, float]
    notified_today: int
    held_back_today: int
    days: list[Day]
