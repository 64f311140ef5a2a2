"""A task: the unit of state. Records go in, in order; outputs come out; no I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import msgspec

from foreshock import pipeline as pipes
from foreshock.adapters.decode import decode
from foreshock.config import Config, parse_resolved
from foreshock.errors import BadInputError
from foreshock.state import State
from foreshock.telemetry import DROPPED, EVENTS, INFERENCE
from foreshock.types import Alert, Columns, Control, Intake, Record, Samples
from foreshock.types.record import CONFIG, CONTROL, GAP, UPGRADE, WATERMARK

_control = msgspec.json.Decoder(Control)


class Watermark(msgspec.Struct):
    """Payload of a watermark record: nothing older than `w` (Unix ns) will come."""

    w: int


_watermark = msgspec.json.Decoder(Watermark)
encode_json = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Outputs:
    """What one record brought about: rows with verdicts, decided alerts, controls taken."""

    columns: list[Columns] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)


class Task:
    """Keyed operators and, behind them, the environment's, over one input.

    The config in force is itself part of the state: it changes where a config record stands in the input.
    """

    def __init__(self, config: Config, *, bands: bool = False) -> None:
        self.bands = bands
        self.config = config
        self.pipeline = pipes.build(config, bands=bands)
        self.watermark = 0
        self.sources: dict[str, int] = {}

    def process(self, record: Record, samples: Samples | None = None) -> Outputs:
        """Take one record; `samples` spares decoding it again.

        Records that cannot be decoded are counted and skipped: they were refused or counted when they came in.
        """
        started = perf_counter()
        out = Outputs()
        kind = record.content_type
        if kind == WATERMARK:
            self._on_watermark(_watermark.decode(record.payload).w, out)
        elif kind == CONFIG:
            self.use(parse_resolved(record.payload))
        elif kind == CONTROL:
            self._on_control(_control.decode(record.payload), out)
        elif kind not in (GAP, UPGRADE):
            self._on_data(record, samples, out)
        INFERENCE.observe(perf_counter() - started)
        return out

    def finish(self) -> Outputs:
        """Close all that is open: the end of a replay."""
        out = Outputs()
        self._on_watermark(pipes.END_OF_TIME, out)
        return out

    def _on_data(self, record: Record, samples: Samples | None, out: Outputs) -> None:
        if samples is None:
            try:
                samples = decode(record, self.config.mapping)
            except BadInputError as error:
                DROPPED.labels(error.reason).inc()
                return
        EVENTS.labels(record.source).inc(len(samples))
        if len(samples):
            largest = int(samples.time_unix_nano.max())
            self.sources[record.source] = max(largest, self.sources.get(record.source, largest))
        columns = Columns(intakes=(Intake(record.source, record.received_unix_nano, samples),))
        self._emit(pipes.run(self.pipeline.keyed, columns), out)

    def _on_watermark(self, time_unix_nano: int, out: Outputs) -> None:
        if time_unix_nano <= self.watermark:
            return
        self.watermark = time_unix_nano
        self._emit(pipes.watermark(self.pipeline.keyed, time_unix_nano), out)
        out.alerts += pipes.watermark(self.pipeline.environment, time_unix_nano).alerts

    def _on_control(self, control: Control, out: Outputs) -> None:
        self._emit(pipes.control(self.pipeline, control), out)
        out.controls.append(control)

    def _emit(self, columns: Columns, out: Outputs) -> None:
        if len(columns.rows):
            out.columns.append(columns)
        if columns.alerts or columns.presence or columns.controls:
            out.alerts += pipes.run(
                self.pipeline.environment,
                Columns(alerts=columns.alerts, presence=columns.presence, controls=columns.controls),
            ).alerts

    def use(self, config: Config) -> None:
        """Go on under another config; parts whose own settings did not change keep their state."""
        if config.digest == self.config.digest:
            return
        before, saved = self.config, pipes.states(self.pipeline)
        self.config = config
        self.pipeline = pipes.build(config, bands=self.bands)
        pipes.load(self.pipeline, {k: v.frozen() for k, v in saved.items()}, lambda op: same(op, before, config))

    def states(self) -> dict[str, State]:
        """State of every part, tables live."""
        return pipes.states(self.pipeline)

    def load(self, saved: dict[str, State], watermark: int) -> None:
        """Take over what `states` gave, under the same config."""
        pipes.load(self.pipeline, saved)
        self.watermark = watermark


_SETTINGS: dict[str, Sequence[str]] = {
    "align": ("stream", "sources"),
    "features": ("features",),
    "bank": ("detectors", "budget", "min_change", "watch", "ignore"),
    "alarm": ("alarm", "budget", "detectors"),
    "budget": ("budget", "environment"),
}
"""Which settings an operator's state depends on."""


def same(operator: str, before: Config, after: Config) -> bool:
    """Whether an operator's settings are equal under two configs."""
    return all(getattr(before, name) == getattr(after, name) for name in _SETTINGS[operator])
