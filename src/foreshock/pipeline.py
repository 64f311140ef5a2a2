"""The one place that names all stages and joins them: config in, two plain lists of operators out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foreshock import plugins
from foreshock.adapters.prometheus import names
from foreshock.config import Config
from foreshock.detect.bank import Bank
from foreshock.incident.alarm import Alarm
from foreshock.incident.budget import Budget
from foreshock.incident.changes import Changes
from foreshock.incident.tally import Tally
from foreshock.ports import Operator
from foreshock.state import Registry, State
from foreshock.stream import fingerprint as calls
from foreshock.stream.align import Align, SourceTime
from foreshock.stream.features import Features
from foreshock.stream.fingerprint import SOURCE, Fingerprint
from foreshock.types import Alert, Columns, Control, ControlKind, Intake, Rows

LEAST_CHANGES = calls.LEAST_CHANGES | names.LEAST_CHANGES
"""Least changes that are worth an alert, where the settings say nothing else."""
END_OF_TIME = np.iinfo(np.int64).max
"""The watermark that closes everything: the end of a replay."""


@dataclass(slots=True)
class Pipeline:
    """The keyed part (everything up to the alert) and the environment part, with the registry of the keyed part."""

    registry: Registry
    keyed: list[Operator]
    environment: list[Operator]
    fingerprint: Fingerprint
    align: Align
    bank: Bank
    alarm: Alarm
    tally: Tally
    budget: Budget

    def operators(self) -> list[Operator]:
        """All operators, in order."""
        return [*self.keyed, *self.environment]

    def counts(self) -> dict[str, int]:
        """How many samples and calls were not used, by reason."""
        out = dict(self.align.counts)
        for reason, n in self.fingerprint.counts.items():
            out[reason] = out.get(reason, 0) + n
        return out


def build(config: Config, registry: Registry | None = None, *, bands: bool = False) -> Pipeline:
    """The pipeline of a config; `bands` asks detectors for the expected band of every row, not only of anomalous ones.

    Raises ConfigError where a part is unknown or its options are wrong.
    """
    registry = registry or Registry(config.limits.series)
    sources = {one.name: SourceTime(one.lateness_seconds, one.max_skew_seconds) for one in config.inputs}
    fingerprint = Fingerprint(registry, config.calls, sources, config.environment, config.stream.hold)
    # Fingerprints stand for whole windows, which have closed: alignment has nothing to wait for.
    closed = SourceTime(0.0, None, covers_seconds=config.calls.window)
    align = Align(registry, config.stream, sources | {SOURCE: closed})
    bank = Bank(
        registry,
        plugins.build_detectors(config.detectors),
        config.budget.entity,
        min_change=config.min_change | {k: v for k, v in LEAST_CHANGES.items() if k not in config.min_change},
        watch=config.watch,
        ignore=config.ignore,
        bands=bands,
        train_until_unix_nano=config.train_until_unix_nano,
        shadows=[part.name for part in config.detectors if part.role == "shadow"],
    )
    primary = frozenset(part.name for part in config.detectors if part.role == "primary")
    alarm = Alarm(
        registry,
        config.alarm,
        config.budget,
        thresholds=frozenset(name for name, part in bank.parts.items() if part.bar.threshold is not None) & primary,
        primary=primary,
    )
    tally = Tally(registry, bank.parts, config.alarm.close_after)
    budget = Budget(config.budget, config.environment)
    features, changes = Features(registry, tuple(config.features)), Changes(registry, primary)
    keyed: list[Operator] = [fingerprint, align, features, bank, alarm, changes, tally]
    return Pipeline(registry, keyed, [budget], fingerprint, align, bank, alarm, tally, budget)


def run(operators: Sequence[Operator], columns: Columns) -> Columns:
    """One step of columns through operators, in order."""
    for operator in operators:
        columns = operator.process(columns)
    return columns


def watermark(operators: Sequence[Operator], time_unix_nano: int) -> Columns:
    """What "nothing older will come" decides: each operator's own say, passed on through those after it."""
    columns = Columns()
    for operator in operators:
        columns = merge(operator.process(columns), operator.on_watermark(time_unix_nano))
    return columns


def merge(first: Columns, second: Columns) -> Columns:
    """Two steps as one, `first` before `second`; verdicts must belong to only one of them."""
    if len(first.rows) and len(second.rows):
        if first.verdicts or second.verdicts:
            raise AssertionError("two operators gave verdicts at one watermark")
        return replace(merge(replace(first, rows=Rows.empty()), second), rows=first.rows.then(second.rows))
    rows, verdicts = (first.rows, first.verdicts) if len(first.rows) else (second.rows, second.verdicts)
    return Columns(
        first.intakes + second.intakes,
        first.controls + second.controls,
        rows,
        verdicts or first.verdicts or second.verdicts,
        first.alerts + second.alerts,
        first.presence + second.presence,
        first.alarmed if len(first.rows) else second.alarmed,
    )


def states(pipeline: Pipeline) -> dict[str, State]:
    """The state of every operator and of the registry, by name."""
    return {"registry": pipeline.registry.state()} | {op.name: op.state() for op in pipeline.operators()}


def load(pipeline: Pipeline, saved: dict[str, State], wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Take over saved states; the registry first, since slots are its own."""
    pipeline.registry.load(saved["registry"])
    for operator in pipeline.operators():
        if operator.name in saved and wanted(operator.name):
            operator.load(saved[operator.name])


def control(pipeline: Pipeline, record: Control) -> Columns:
    """A control record through both parts; `expected` and `forget` give matching entities a fresh start."""
    if record.kind in (ControlKind.EXPECTED, ControlKind.FORGET):
        registry = pipeline.registry
        for slot, entity in enumerate(registry.entities):
            if record.matches(dict(entity)):
                series = np.array(registry.columns[slot], np.int32)
                for operator in pipeline.keyed:
                    if record.kind is ControlKind.FORGET or operator is pipeline.bank:
                        operator.forget(slot, series)
    columns = Columns(controls=(record,))
    return replace(run(pipeline.keyed, columns), controls=(record,))


__all__ = [
    "END_OF_TIME",
    "Alert",
    "Intake",
    "Pipeline",
    "Rows",
    "build",
    "control",
    "load",
    "merge",
    "run",
    "states",
    "watermark",
]
