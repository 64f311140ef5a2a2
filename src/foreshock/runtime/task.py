"""A task: the unit of state. Records go in, in order; outputs come out; no I/O, no clock."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import msgspec

from foreshock import pipeline as pipes
from foreshock.adapters.decode import decode
from foreshock.config import Config, parse_resolved
from foreshock.errors import BadInputError, ConfigError, PermanentError
from foreshock.incident.story import alert_labels
from foreshock.state import State
from foreshock.stream.align import SourceTime
from foreshock.telemetry import DROPPED, ERRORS, EVENTS, INFERENCE, drop
from foreshock.types import (
    Alert,
    Calls,
    Columns,
    Control,
    ControlKind,
    Decoded,
    Intake,
    Labels,
    Record,
    Samples,
    labels,
)
from foreshock.types.columns import Presence
from foreshock.types.record import CONFIG, CONTROL, GAP, UPGRADE, WATERMARK

logger = logging.getLogger(__name__)
decode_control = msgspec.json.Decoder(Control).decode
_alerts = msgspec.msgpack.Decoder(list[Alert])
_encode = msgspec.msgpack.Encoder().encode
_MOST_SAID = 100
MOST_OPEN = 10_000
"""Alerts that may fire at a time before the oldest are no longer followed."""


class Watermark(msgspec.Struct):
    """Payload of a watermark record: nothing older than `w` (Unix ns) will come."""

    w: int


_watermark = msgspec.json.Decoder(Watermark)
encode_json = msgspec.json.Encoder().encode


def decode_watermark(payload: bytes) -> int:
    """The time that a watermark record speaks of (Unix ns)."""
    return _watermark.decode(payload).w


@dataclass(slots=True)
class Outputs:
    """What one record brought about: rows with verdicts, alerts, controls taken.

    Alerts are decided by the environment's budget, except those of a `KeyedTask`, which gives `presence` with them.
    """

    columns: list[Columns] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    presence: list[Presence] = field(default_factory=list)


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
        # The alerts that fire, by episode: who takes their place says that they are over.
        self._open: dict[str, Alert] = {}
        self._said: set[str] = set()

    def process(self, record: Record, samples: Decoded | None = None) -> Outputs:
        """Take one record; `samples` spares decoding it again.

        Records that cannot be decoded are counted and skipped: they were refused or counted when they came in. What
        an operator raises by mistake is counted and the record passed over, so that a defect does not stop detection
        for everybody else; whoever reads the record again meets it again, and says the same. Raises PermanentError or
        ConfigError where going on would be wrong: a detector that fails, a config that cannot be used.
        """
        started = perf_counter()
        out = Outputs()
        try:
            self._take(record, samples, out)
        except (PermanentError, ConfigError, MemoryError):
            raise
        except Exception as error:
            ERRORS.labels("operator").inc()
            if self._is_new(error):
                logger.exception(
                    "a record of %s could not be judged and is passed over; more of this kind are only counted "
                    "(foreshock_errors_total)", record.source,
                )  # fmt: skip
        self._follow(out.alerts)
        INFERENCE.observe(perf_counter() - started)
        return out

    def _take(self, record: Record, samples: Decoded | None, out: Outputs) -> None:
        kind = record.content_type
        if kind == WATERMARK:
            self._on_watermark(decode_watermark(record.payload), out)
        elif kind == CONFIG:
            out.alerts += self.use(parse_resolved(record.payload))
        elif kind == CONTROL:
            self._on_control(decode_control(record.payload), out)
        elif kind not in (GAP, UPGRADE):
            self._on_data(record, samples, out)

    def _is_new(self, error: Exception) -> bool:
        """Whether a defect is met for the first time: one in every record must not fill the disk with its story."""
        kind = f"{type(error).__name__} in {_place(error)}"
        new = kind not in self._said and len(self._said) < _MOST_SAID
        if new:
            self._said.add(kind)
        return new

    def finish(self) -> Outputs:
        """Close all that is open: the end of a replay."""
        out = Outputs()
        self._on_watermark(pipes.END_OF_TIME, out)
        self._follow(out.alerts)
        return out

    def _follow(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            self._open.pop(alert.episode, None)
            if alert.ends_unix_nano is None:
                self._open[alert.episode] = alert
                if len(self._open) > MOST_OPEN:
                    del self._open[next(iter(self._open))]
                    DROPPED.labels("open_alert_forgotten").inc()

    def _on_data(self, record: Record, samples: Decoded | None, out: Outputs) -> None:
        if samples is None:
            try:
                samples = decode(record, self.config.mapping)
            except BadInputError as error:
                drop(record.source, error.reason)
                return
        EVENTS.labels(record.source).inc(len(samples))
        largest = newest(samples, record, self.config)
        if largest is not None:
            self.sources[record.source] = max(largest, self.sources.get(record.source, largest))
        intake = (
            Intake(record.source, record.received_unix_nano, Samples.empty(), samples)
            if isinstance(samples, Calls)
            else Intake(record.source, record.received_unix_nano, samples)
        )
        columns = Columns(intakes=(intake,))
        self._emit(pipes.run(self.pipeline.keyed, columns), out)

    def _on_watermark(self, time_unix_nano: int, out: Outputs) -> None:
        if time_unix_nano <= self.watermark:
            return
        self.watermark = time_unix_nano
        self._emit(pipes.watermark(self.pipeline.keyed, time_unix_nano), out)
        self._decide(time_unix_nano, out)

    def _on_control(self, control: Control, out: Outputs) -> None:
        self._emit(pipes.control(self.pipeline, control), out)
        out.controls.append(control)
        if control.kind is ControlKind.FORGET:
            gone = [one for one in self.pipeline.registry.entities if control.matches(dict(one))]
            self._open = {k: alert for k, alert in self._open.items() if not any(about(alert, one) for one in gone)}

    def _emit(self, columns: Columns, out: Outputs) -> None:
        if len(columns.rows):
            out.columns.append(columns)
        if columns.alerts or columns.presence or columns.controls:
            out.alerts += pipes.run(
                self.pipeline.environment,
                Columns(alerts=columns.alerts, presence=columns.presence, controls=columns.controls),
            ).alerts

    def _decide(self, time_unix_nano: int, out: Outputs) -> None:
        out.alerts += pipes.watermark(self.pipeline.environment, time_unix_nano).alerts

    def use(self, config: Config) -> list[Alert]:
        """Go on under another config; parts whose own settings did not change keep their state.

        Returns the ends of the alerts that fire and of which nobody knows any more.
        """
        if config.digest == self.config.digest:
            return []
        before, saved, tally = self.config, pipes.states(self.pipeline), self.pipeline.tally
        self.config = config
        self.pipeline = pipes.build(config, bands=self.bands)
        self._load({k: v.frozen() for k, v in saved.items()}, lambda op: same(op, before, config))
        if not same("tally", before, config):
            self.pipeline.tally.adopt(tally)
        return [] if same("alarm", before, config) else [self._ended(one) for one in self._open.values()]

    def _ended(self, alert: Alert) -> Alert:
        at = max(self.watermark, alert.decided_unix_nano)
        notes = labels(dict(alert.annotations) | {"ended": "the settings changed"})
        return replace(alert, annotations=notes, ends_unix_nano=at, decided_unix_nano=at)

    def states(self) -> dict[str, State]:
        """State of every part, tables live."""
        return pipes.states(self.pipeline) | {"task": State(1, blobs={"open": [_encode(list(self._open.values()))]})}

    def load(self, saved: dict[str, State], watermark: int) -> None:
        """Take over what `states` gave, under the same config."""
        self._load(saved, lambda op: True)
        self.watermark = watermark
        if "task" in saved:
            self._open = {alert.episode: alert for alert in _alerts.decode(saved["task"].blobs["open"][0])}

    def _load(self, saved: dict[str, State], wanted: Callable[[str], bool]) -> None:
        # Slots that are in use stay: a lower limit of series holds for new ones.
        registry = self.pipeline.registry
        limit, registry.max_series = registry.max_series, sys.maxsize
        pipes.load(self.pipeline, saved, wanted)
        registry.max_series = limit


class KeyedTask(Task):
    """The keyed operators alone: their alerts go out undecided, to an environment task that stands elsewhere."""

    def _emit(self, columns: Columns, out: Outputs) -> None:
        if len(columns.rows):
            out.columns.append(columns)
        out.alerts += columns.alerts
        out.presence += columns.presence

    def _decide(self, time_unix_nano: int, out: Outputs) -> None:
        """Nothing: the environment task does."""


def about(alert: Alert, entity: Labels) -> bool:
    """Whether an alert carries all labels of an entity, under the names that they have in alerts."""
    return bool(entity) and dict(alert_labels(entity, {})).items() <= dict(alert.labels).items()


def newest(samples: Decoded, record: Record, config: Config) -> int | None:
    """The largest event time that may move a clock (None: no sample is so early)."""
    if not len(samples):
        return None
    times, most = samples.time_unix_nano, latest(record.source, record.received_unix_nano, config)
    if most is not None:
        times = times[times <= most]
    return int(times.max()) if len(times) else None


def latest(source: str, received_unix_nano: int, config: Config) -> int | None:
    """What may move a clock: nothing beyond the receipt and the source's `max_skew` (None: anything may), so that one
    sender with a bad clock does not carry all others off."""
    named = (one.max_skew_seconds for one in config.inputs if one.name == source)
    skew = next(named, SourceTime().max_skew_seconds)
    return None if skew is None else received_unix_nano + int(skew * 1e9)


def _place(error: Exception) -> str:
    """Where an exception was raised: file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "nowhere" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


_SETTINGS: dict[str, Sequence[str]] = {
    "fingerprint": ("calls", "stream", "sources", "kafka", "environment"),
    "align": ("stream", "sources", "kafka", "calls"),
    "features": ("features",),
    "bank": ("detectors", "budget", "min_change", "watch", "ignore"),
    "alarm": ("alarm", "budget", "detectors"),
    "changes": ("detectors",),
    "tally": ("detectors", "budget", "min_change", "watch", "ignore", "alarm"),
    "budget": ("budget", "environment"),
}
"""Which settings an operator's state depends on."""


def same(operator: str, before: Config, after: Config) -> bool:
    """Whether an operator's settings are equal under two configs."""
    return all(_setting(operator, name, before) == _setting(operator, name, after) for name in _SETTINGS[operator])


def _setting(operator: str, name: str, config: Config) -> Any:
    """A setting as far as the operator depends on it: what is learnt is the same for a shadow and for a primary."""
    value = getattr(config, name)
    if name == "kafka":
        return [(one.topic, one.lateness, one.max_skew) for one in value.inputs]
    if name == "detectors" and operator != "alarm":
        return [(part.type, part.name, part.options) for part in value]
    return value
