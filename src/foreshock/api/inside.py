"""What the process says about its own parts: detectors, sources, settings, and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from foreshock.api import answers
from foreshock.config import Config, settings_of
from foreshock.ports import DetectorInfo, Source
from foreshock.runtime.figures import SAYINGS, DetectorFigures, Figures
from foreshock.runtime.ticker import Ticker
from foreshock.runtime.views import SourceView, Views
from foreshock.telemetry import model_of
from foreshock.types import rfc3339

LATE_SECONDS = 60.0
"""A source whose newest sample is older than its lateness and this is late."""
SILENT_SECONDS = 30.0
"""A source that has sent nothing for so long, and for three of its readings, is silent."""


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
        figures = {one.name: one for one in self.figures().detectors}
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
                    self._sample("detector_throughput_mps", model),
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
        brought = {one.source: one for one in self.views.sources()}
        silent = self.ticker.silent_seconds()
        types = {one.name: one.type for one in self.config.sources}
        running = {one.name: one for one in self.sources}
        names = dict.fromkeys([*types, *running, *brought])
        return [
            self._source(name, types.get(name, ""), running.get(name), brought.get(name), silent.get(name),
                         now_unix_nano)
            for name in names
        ]  # fmt: skip

    def _source(
        self, name: str, kind: str, source: Source | None, seen: SourceView | None, silent: float | None, now: int
    ) -> answers.SourceState:
        pace = self.views.pace(name, now)
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
            rfc3339(seen.last_received_unix_nano) if seen else None,
            pace,
        )

    def dropped(self) -> list[answers.Dropped]:
        """Samples that were not used, by reason, most first."""
        counts = {reason: count for reason, count in self.figures().counts.items() if count}
        order = sorted(counts, key=lambda reason: (-counts[reason], reason))
        return [answers.Dropped(reason, counts[reason], SAYINGS.get(reason, "")) for reason in order]

    def settings(self) -> list[answers.Setting]:
        """Every setting, with its source."""
        return [answers.Setting(key, value, origin) for key, value, origin in settings_of(self.config)]
