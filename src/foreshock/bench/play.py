"""A shop through a task of its own, in simulated time: what would have been said, as fast as it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from foreshock.adapters.decode import decode
from foreshock.adapters.metrics import METRICS, encode_metrics
from foreshock.config import Config, load
from foreshock.runtime.task import Outputs, Task, Watermark, encode_json
from foreshock.shop.faults import Fault, Truth
from foreshock.shop.settings import Settings
from foreshock.shop.shop import Shop
from foreshock.types import Alert, Record
from foreshock.types.record import CALLS, WATERMARK

NANO = 1_000_000_000
SLICE_SECONDS = 5
"""So much is played at a time, as the live shop does: calls, then the reading of the same seconds."""
SOURCE = "shop"


@dataclass(slots=True)
class Played:
    """What was said of a stretch of the shop's time, and what was true.

    `alerts` = the latest state of each episode, by id; `decided` = when each was first decided (Unix ns).
    """

    truths: tuple[Truth, ...] = ()
    alerts: dict[str, Alert] = field(default_factory=dict)
    decided: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    rows: int = 0

    @property
    def notified(self) -> list[Alert]:
        """The episodes that somebody was told of."""
        return [alert for alert in self.alerts.values() if alert.notified]


@cache
def settings() -> Config:
    """The config that all is measured with: the defaults, in steps of 5 s."""
    overrides = {"sources": [{"type": SOURCE, "name": SOURCE}], "stream": {"step": 5.0}}
    return load([], environ={}, overrides=overrides)


def play(
    shop_settings: Settings,
    start_unix_nano: int,
    seconds: int,
    faults: Iterable[Fault] = (),
    config: Config | None = None,
    progress: Callable[[int], None] = lambda seconds: None,
) -> Played:
    """Play a shop for so many seconds and judge it; `progress(seconds)` tells how far it has come."""
    shop, task, out = Shop(shop_settings, start_unix_nano, faults), Task(config or settings()), Played()
    mapping = task.config.mapping
    while (done := (shop.now_unix_nano - shop.start_unix_nano) // NANO) < seconds:
        telemetry = shop.advance(min(SLICE_SECONDS, seconds - done))
        now = shop.now_unix_nano
        out.calls += len(telemetry.calls)
        records = [(Record("default", SOURCE, CALLS, now, b""), telemetry.calls)] if len(telemetry.calls) else []
        for record, decoded in records:
            _note(out, task.process(record, decoded))
        if telemetry.readings:
            record = Record("default", SOURCE, METRICS, now, encode_metrics(telemetry.readings))
            _note(out, task.process(record, decode(record, mapping)))
        # A call that began in these seconds may end in the next: what ended in them is all here.
        _note(out, task.process(Record("default", SOURCE, WATERMARK, now, encode_json(Watermark(now)))))
        progress(int(done))
    out.truths = shop.truths
    return out


def _note(out: Played, outputs: Outputs) -> None:
    for alert in outputs.alerts:
        out.alerts[alert.episode] = alert
        out.decided.setdefault(alert.episode, alert.decided_unix_nano)
    out.rows += sum(len(columns.rows) for columns in outputs.columns)
