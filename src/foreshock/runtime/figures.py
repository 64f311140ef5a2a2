"""What the process says about itself: figures for the API and the metrics, and complaints for its log output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from foreshock.runtime.task import Task

_DAY = 86_400_000_000_000
SAY_SECONDS = 60.0
SAYINGS = {
    "late": "they came later than the lateness of their source allows",
    "future": "their times are further ahead of the clock than max_skew allows; set the sender's clock",
    "series_limit": "there are more series than limits.series; known ones are judged as before",
    "pending_full": "more samples wait for their row than stream.max_pending",
    "source_limit": "an entity is fed by too many sources",
    "not_finite": "their values are no finite numbers",
    "entity_limit": "there are more services than calls.entities; known ones are judged as before",
    "edge_limit": "there are more services and edges than calls.entities; the edge has no fingerprints",
    "control_limit": "too many intervals of maintenance and deploys are open; the first to end was let go",
}
"""Why samples are not used, in words, by reason."""


@dataclass(frozen=True, slots=True)
class Figures:
    """State of a task in numbers, taken by its own thread: no other may look into operators.

    `budget` is achieved ÷ budget at each level that has a scored day; `achieved` the alarms a day and key of each
    detector that has scored days; `counts` what was not used, by reason.
    """

    series: int = 0
    budget: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    achieved: Mapping[str, float] = field(default_factory=dict)


def figures(task: Task) -> Figures:
    """The figures of a task, as of now."""
    pipeline, config = task.pipeline, task.config
    achieved = pipeline.budget.achieved()
    by_detector = pipeline.bank.achieved(int(task.watermark // _DAY))
    by_detector = {name: rate for name, rate in by_detector.items() if rate == rate}
    series = list(by_detector.values())
    levels = {
        "series": sum(series) / len(series) / config.budget.entity if series else float("nan"),
        "entity": achieved.entity_ratio,
        "environment": achieved.environment_ratio,
    }
    budget = {level: ratio for level, ratio in levels.items() if ratio == ratio}
    return Figures(len(pipeline.registry), budget, pipeline.counts(), by_detector)


class Complaints:
    """Sentences about samples that are not used: at most one a minute and reason, however many there are."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._next: dict[str, float] = {}

    def begin(self, counts: Mapping[str, int]) -> None:
        """What was counted before is not said again."""
        self._told = dict(counts)

    def of(self, counts: Mapping[str, int], now_seconds: float) -> list[str]:
        """What is to be said now."""
        out = []
        for reason, saying in SAYINGS.items():
            count, before = counts.get(reason, 0), self._told.get(reason, 0)
            if count < before:  # counted anew, by an operator built under another config
                before = self._told[reason] = 0
            if count == before or now_seconds < self._next.get(reason, now_seconds):
                continue
            self._told[reason], self._next[reason] = count, now_seconds + SAY_SECONDS
            out.append(f"{count - before} samples were not used ({reason}): {saying}")
        return out
