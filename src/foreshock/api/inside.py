"""What the process says about its own parts: detectors, sources, settings, and how it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from foreshock.api import answers
from foreshock.config import Config, settings_of
from foreshock.detect.speed import Speeds
from foreshock.ports import DetectorInfo, Source
from foreshock.runtime.figures import SAYINGS, DetectorFigures, Figures
from foreshock.runtime.source_views import SourceView
from foreshock.runtime.ticker import Ticker
from foreshock.runtime.views import Views
from foreshock.telemetry import model_of
from foreshock.types import rfc3339

NO_SPEED = Speeds(math.nan, math.nan, math.nan)
LATE_SECONDS = 60.0
"""A source whose newest sample is older than its lateness and this is late."""
SILENT_SECONDS = 30.0
"""A source that has sent nothing for so long, and for three of its readings, is silent."""
_DROPPED = "foreshock_source_dropped_total"


@dataclass(frozen=True, slots=True)
class Inside:
    """Where the figures of a running process are found; read by any thread, changes nothing."""

    config: Config
    views: Views
    registry: CollectorRegistry
    detectors_info: Callable[[], Mapping[str, DetectorInfo]]
    figures: Callable[[], Figures]
    ticker: Ticker
    sources: Sequence[Source]
    ended: Mapping[str, str]

    def detectors(self) -> list[answers.DetectorState]:
        """The detectors side by side, in the order of the settings."""
        info, judging = self.detectors_info(), self.views.judging()
        taken = self.figures()
        figures, speeds = {one.name: one for one in taken.detectors}, taken.speeds
        counts = self.views.counts()
        step = self.config.stream.step
        out = []
        for part in self.config.detectors:
            about = info.get(part.name)
            if about is None:
                continue
            whole = about.kind == "multivariate"
            limited = getattr(part.options, "threshold", None) is not None
            model = model_of(part.name)
            new = DetectorFigures(part.name, model, part.type, part.role, about.kind, 0, 0, 0, 0, None)
            own, budget = figures.get(part.name, new), self.config.budget.entity
            out.append(
                answers.DetectorState(
                    part.name,
                    model,
                    part.type,
                    about.version,
                    about.kind,  # type: ignore[arg-type]
                    part.role,
                    about.warm_up_rows,
                    about.warm_up_rows * step if isinstance(step, float) else None,
                    judging.get(part.name, 0),
                    counts["entities"] if whole else counts["series"],
                    None if limited else budget,
                    None if own.achieved_ratio is None else own.achieved_ratio * budget,
                    own.achieved_ratio,
                    int(self._sample("detector_anomalies_total", model) or 0),
                    own.episodes,
                    own.open,
                    own.true_positives,
                    own.false_positives,
                    self._latency(model),
                    *speeds.get(part.name, NO_SPEED),
                )
            )
        return out

    def _latency(self, model: str) -> float | None:
        count = self._sample("detector_latency_seconds_count", model)
        total = self._sample("detector_latency_seconds_sum", model)
        return total / count if count and total is not None else None

    def _sample(self, metric: str, model: str) -> float | None:
        return self.registry.get_sample_value(metric, {"model": model})

    def source_states(self, now_unix_nano: int) -> list[answers.SourceState]:
        """The sources of the settings, and whatever else has brought something."""
        brought = {one.source: one for one in self.views.sources.all()}
        silent = self.ticker.silent_seconds()
        types = {one.name: one.type for one in self.config.sources}
        running = {one.name: one for one in self.sources}
        dropped = self._dropped()
        names = dict.fromkeys([*types, *running, *brought])
        return [
            self._source(name, types.get(name, ""), running.get(name), brought.get(name), silent.get(name),
                         now_unix_nano, [answers.DroppedOfSource(reason, count)
                                         for (source, reason), count in dropped.items() if source == name])
            for name in names
        ]  # fmt: skip

    def _source(
        self, name: str, kind: str, source: Source | None, seen: SourceView | None, silent: float | None, now: int,
        dropped: list[answers.DroppedOfSource],
    ) -> answers.SourceState:  # fmt: skip
        pace = self.views.sources.pace(name, now)
        newest = self.ticker.newest(name)
        behind = None if newest is None else max(0.0, (now - newest) / 1e9)
        lateness = self.ticker.lateness(name) / 1e9
        every = float(getattr(source, "every_seconds", 0.0) or 0.0)
        problem = self.ended.get(name, "") or str(getattr(source, "problem", "") or "")
        state = "live"
        if name in self.ended:
            state = "ended"
        elif seen is None:
            state = "waiting"
        elif silent is not None and silent > max(SILENT_SECONDS, 3 * every):
            state = "silent"
        elif behind is not None and behind > lateness + LATE_SECONDS:
            state = "late"
        return answers.SourceState(
            name,
            kind,
            state,  # type: ignore[arg-type]
            problem,
            lateness,
            seen.records if seen else 0,
            seen.samples if seen else 0,
            pace[-2] / 60.0 if pace[-2] else pace[-1] / max(1.0, now / 1e9 % 60.0),
            behind,
            silent,
            seen.delay_p50_seconds if seen else None,
            seen.delay_p99_seconds if seen else None,
            rfc3339(seen.last_received_unix_nano) if seen else None,
            pace,
            dropped,
        )

    def dropped(self) -> list[answers.Dropped]:
        """Samples that were not used, by reason, the most first."""
        by_reason: dict[str, list[answers.DroppedFrom]] = {}
        for (source, reason), count in self._dropped().items():
            by_reason.setdefault(reason, []).append(answers.DroppedFrom(source, count))
        found = [
            answers.Dropped(reason, sum(one.count for one in whose), SAYINGS.get(reason, ""), whose)
            for reason, whose in by_reason.items()
        ]
        return sorted(found, key=lambda one: (-one.count, one.reason))

    def _dropped(self) -> dict[tuple[str, str], int]:
        """Samples that were not used since the start, by source and reason, the most first."""
        found = [
            ((sample.labels["source"], sample.labels["reason"]), int(sample.value))
            for metric in self.registry.restricted_registry([_DROPPED]).collect()
            for sample in metric.samples
            if sample.name == _DROPPED and sample.value
        ]
        return dict(sorted(found, key=lambda one: (-one[1], one[0])))

    def settings(self) -> list[answers.Setting]:
        """Every setting, with its source and what it means."""
        return [answers.Setting(*one) for one in settings_of(self.config)]
