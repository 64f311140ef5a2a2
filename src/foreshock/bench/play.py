"""A shop through a task of its own, in simulated time: what would have been said, as fast as it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from foreshock.adapters.metrics import METRICS, encode_metrics
from foreshock.config import Config, load
from foreshock.runtime.task import Outputs, Task, Watermark, encode_json
from foreshock.shop.faults import Fault, Truth
from foreshock.shop.settings import Settings
from foreshock.shop.shop import Shop
from foreshock.types import Alert, Decoded, Record
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
    return load([], environ={}, overrides={"sources": [{"type": SOURCE, "name": SOURCE}], "stream": {"step": 5.0}})


def play(
    shop_settings: Settings,
    start_unix_nano: int,
    seconds: int,
    faults: Iterable[Fault] = (),
    config: Config | None = None,
    see: Callable[[Outputs, Task], None] = lambda outputs, task: None,
) -> Played:
    """Play a shop for so many seconds and judge it; `see` is shown all that comes out of it."""
    shop, task, out = Shop(shop_settings, start_unix_nano, faults), Task(config or settings(), bands=True), Played()

    def judge(content_type: str, payload: bytes, decoded: Decoded | None = None) -> None:
        outputs = task.process(Record("default", SOURCE, content_type, shop.now_unix_nano, payload), decoded)
        for alert in outputs.alerts:
            out.alerts[alert.episode] = alert
            out.decided.setdefault(alert.episode, alert.decided_unix_nano)
        out.rows += sum(len(columns.rows) for columns in outputs.columns)
        see(outputs, task)

    while (done := (shop.now_unix_nano - shop.start_unix_nano) // NANO) < seconds:
        telemetry = shop.advance(min(SLICE_SECONDS, seconds - done))
        out.calls += len(telemetry.calls)
        if len(telemetry.calls):
            judge(CALLS, b"", telemetry.calls)
        if telemetry.readings:
            judge(METRICS, encode_metrics(telemetry.readings))
        judge(WATERMARK, encode_json(Watermark(shop.now_unix_nano)))
    out.truths = shop.truths
    return out
