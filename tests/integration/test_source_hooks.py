"""What the process does for a source that says more than it must: where it goes on, its past, its trouble."""

from __future__ import annotations

import threading
from pathlib import Path

from foreshock.app import App
from foreshock.config import Config
from foreshock.ports import Clock, Submit
from foreshock.runtime.task import Watermark, encode_json
from foreshock.testing import FakeClock
from foreshock.types import Record
from foreshock.types.record import WATERMARK
from tests.integration.rig import START, STEP, WAIT, rows, running, settings

S = 1_000_000_000


class Resuming:
    """A source that is told where the log ends, and has trouble then."""

    name, lateness_seconds, every_seconds = "feed", 0.0, 30.0

    def __init__(self) -> None:
        self.newest: list[int] = []
        self.problem = ""
        self.runs = threading.Event()

    def resume(self, time_unix_nano: int) -> None:
        self.newest.append(time_unix_nano)

    def run(self, submit: Submit, clock: Clock) -> None:
        self.problem = "source feed: nobody answers"
        self.runs.set()

    def stop(self) -> None:
        pass


def start(config: Config, source: Resuming) -> App:
    app = App(config, FakeClock(START + 100))
    app.sources = [source]
    app.start()
    assert source.runs.wait(WAIT)
    return app


def test_a_source_is_told_where_the_log_ends_and_its_trouble_is_shown(tmp_path: Path) -> None:
    config = settings(tmp_path / "data")
    first = Resuming()
    app = start(config, first)
    assert first.newest == []
    assert app.health().problems == ("source feed: nobody answers",)
    app.engine.submit(rows(3))
    app.engine.submit(rows(2))
    app.clock.stop()
    app.stop()
    again = Resuming()
    app = start(config, again)
    app.clock.stop()
    app.stop()
    assert again.newest == [(START + 3 * STEP) * S]


def test_what_a_source_calls_its_past_notifies_nobody(tmp_path: Path) -> None:
    """The same fault, as history and as news."""
    notified: dict[bool, list[bool | None]] = {}
    for history in (False, True):
        with running(settings(tmp_path / str(history))) as rig:
            now = START + STEP * 200
            rig.clock.set(now)
            if history:
                rig.engine.submit(Record("default", "feed", WATERMARK, now * S, encode_json(Watermark(now * S))))
                assert rig.engine.ticker.watermark == now * S
            for step in range(200):
                rig.engine.submit(rows(step, faults=tuple(range(150, 160)), received=float(now)))
            position = rig.log.end
            rig.engine.tick()
            assert rig.log.end == position + (not history), "time that is over is not said again"
            rig.step(201)
            rig.judged()
            rig.committed()
            notified[history] = [alert.notified for alert in rig.store.alerts(limit=100).alerts]
    assert notified == {False: [True], True: [False]}
