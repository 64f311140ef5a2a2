"""What the process says about itself: figures for the API and the metrics, and complaints for its log output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from foreshock.detect.speed import Speeds
from foreshock.runtime.task import Task
from foreshock.telemetry import model_of

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
class DetectorFigures:
    """How one detector does beside the others.

    `model` is its name among the metrics, `kind` `univariate` or `multivariate`. `episodes` it found, how many of them
    are `open` now, and how many labels confirm and deny; `achieved_ratio` = notifications a key and day of its own bar
    ÷ the entity's budget, None where it has no scored day or no budget.
    """

    name: str
    model: str
    type: str
    role: str
    kind: str
    episodes: int
    open: int
    true_positives: int
    false_positives: int
    achieved_ratio: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """State of a task in numbers, taken by its own thread: no other may look into operators.

    `budget` is achieved ÷ budget at each level that has a scored day; `counts` what was not used, by reason; `speeds`
    how fast each detector was lately, by name.
    """

    series: int = 0
    budget: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    detectors: tuple[DetectorFigures, ...] = ()
    speeds: Mapping[str, Speeds] = field(default_factory=dict)


def figures(task: Task, now_unix_nano: int | None = None) -> Figures:
    """The figures of a task, as of `now_unix_nano` (default: its watermark)."""
    pipeline = task.pipeline
    achieved = pipeline.budget.achieved()
    day = (task.watermark if now_unix_nano is None else now_unix_nano) // _DAY
    detectors = _detectors(task, int(day))
    loud = [one for one in detectors if one.role == "primary"]
    series = [one.achieved_ratio for one in loud or detectors if one.achieved_ratio is not None]
    levels = {
        "series": sum(series) / len(series) if series else float("nan"),
        "entity": achieved.entity_ratio,
        "environment": achieved.environment_ratio,
    }
    budget = {level: ratio for level, ratio in levels.items() if ratio == ratio}
    speeds = {name: part.speed.figures() for name, part in pipeline.bank.parts.items()}
    return Figures(len(pipeline.registry), budget, pipeline.counts(), detectors, speeds)


def _detectors(task: Task, day: int) -> tuple[DetectorFigures, ...]:
    """The detectors of a task, in the order of its settings."""
    pipeline, budget = task.pipeline, task.config.budget.entity
    rates, counts, ongoing = pipeline.bank.achieved(day), pipeline.tally.counts(), pipeline.tally.open()
    return tuple(
        DetectorFigures(
            part.name,
            model_of(part.name),
            part.type,
            part.role,
            pipeline.bank.parts[part.name].detector.info.kind,
            counts[part.name].episodes,
            ongoing[part.name],
            counts[part.name].true_positives,
            counts[part.name].false_positives,
            rates[part.name] / budget if rates[part.name] == rates[part.name] else None,
        )
        for part in task.config.detectors
    )


def budget_line(budget: Mapping[str, float]) -> str:
    """Achieved ÷ budget in a few words; empty where there is no scored day.

    >>> budget_line({"series": 0.013, "entity": 0.5, "environment": 1.25})
    'budget used: environment 125 %, entity 50 %, series 1 %'
    """
    known = [level for level in ("environment", "entity", "series") if level in budget]
    shares = ", ".join(f"{level} {100 * budget[level]:.0f} %" for level in known)
    return f"budget used: {shares}" if shares else ""


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
            some = "1 sample was" if count - before == 1 else f"{count - before:,} samples were"
            out.append(f"{some} not used ({reason}): {saying}")
        return out
