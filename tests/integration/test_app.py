"""The process as a whole: ready or not and why, ended sources, one process a folder, what a broken folder is told."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from foreshock.app import App
from foreshock.config import Config
from foreshock.errors import PermanentError, RetryableError
from foreshock.ports import Clock, Submit
from foreshock.runtime.log import SegmentLog
from foreshock.testing import FakeClock
from tests.integration.rig import START, WAIT, eventually, rows, running, settings

S = 1_000_000_000


def host(folder: Path, step: float, every: str = "1s", **more: object) -> Config:
    sources = [{"type": "host", "every": every}, {"type": "http", "name": "feed"}]
    return settings(folder, sources=sources, stream={"step": step}, **more)


class Driven:
    """An app whose engine runs and whose sources are played by the test."""

    def __init__(self, config: Config) -> None:
        self.clock = FakeClock(START)
        self.app = App(config, self.clock)
        self.app.engine._tick_seconds = 0
        self.app.engine.start()
        assert self.app.engine.ready.wait(WAIT)

    def seconds(self, count: int, *sources: str) -> None:
        """So many seconds go by, in each of which these sources bring a reading."""
        for _ in range(count):
            self.clock.advance(1)
            now = self.clock.now_unix_nano()
            for source in sources:
                self.app.engine.submit(rows((now // S - START) // 10, source=source, received=now / S))
            self.app.engine.tick()
        app = self.app
        eventually(lambda: app.engine._position == app.log.end)

    def reasons(self) -> list[str]:
        return self.app.health().reasons(self.clock.now_unix_nano())

    def stop(self) -> None:
        self.clock.stop()
        self.app.stop()


@pytest.mark.parametrize(("step", "every", "limit"), [(1.0, "1s", 15), (10.0, "1s", 30), (1.0, "8s", 24)])
def test_ready_while_the_watermark_of_an_own_source_moves(tmp_path: Path, step: float, every: str, limit: int) -> None:
    driven = Driven(host(tmp_path / "data", step, every))
    assert driven.reasons() == []
    driven.seconds(limit, "feed")
    assert driven.reasons() == []
    # A foreign source does not stand for the host that owes a reading.
    driven.seconds(1, "feed")
    [reason] = driven.reasons()
    assert reason == f"the watermark is {limit + 1}.0 s old, more than 3 steps ({limit} s)"
    driven.seconds(60, "feed")
    assert len(driven.reasons()) == 1
    driven.seconds(1, "host", "feed")
    assert driven.reasons() == []
    # It goes silent once more: what the clock says in its place is no sign of life.
    driven.seconds(40)
    assert len(driven.reasons()) == 1
    driven.seconds(2, "host")
    assert driven.reasons() == []
    driven.stop()


def test_what_only_others_send_may_be_silent(tmp_path: Path) -> None:
    driven = Driven(settings(tmp_path / "data"))
    driven.seconds(200)
    assert driven.reasons() == []
    driven.stop()


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.runtime.embedded.COMMIT_SECONDS", 0.005)
    driven = Driven(settings(tmp_path / "data"))

    def refuse(*_: object) -> None:
        raise RetryableError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(driven.app.store, "commit", refuse)
        driven.seconds(1, "feed")
        eventually(driven.reasons)
        assert driven.reasons() == ["results cannot be stored now: the disk is full"]
    eventually(lambda: not driven.reasons())
    driven.stop()


class Ending:
    """A source with a defect."""

    name, lateness_seconds = "mine", 5.0

    def run(self, submit: Submit, clock: Clock) -> None:
        raise LookupError("no such sensor")

    def stop(self) -> None:
        pass


def test_a_source_that_fails_is_said_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(START)
    app = App(settings(tmp_path / "data"), clock)
    app.sources = [Ending()]
    with caplog.at_level(logging.ERROR):
        app.start()
        eventually(lambda: app.ended)
    assert app.health().reasons(clock.now_unix_nano()) == ["source mine has ended: LookupError: no such sensor"]
    assert app.engine.submit(rows(0)) > 0
    app.stop()


def test_it_ends_and_lets_go_though_the_store_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(settings(tmp_path / "data"), FakeClock(START))
    app.start()

    def refuse(**_: object) -> None:
        raise PermanentError("foreshock.db is corrupt")

    monkeypatch.setattr(app.store, "alerts", refuse)
    app.stop()
    assert [alert["labels"]["alertname"] for alert in app.final["alerts"]] == ["ForeshockWatchdog"]
    monkeypatch.undo()
    App(settings(tmp_path / "data"), FakeClock(START)).stop()


def test_the_watchdog_always_fires_and_what_is_posted_is_judged(tmp_path: Path) -> None:
    app = App(settings(tmp_path / "data", http={"enabled": True, "listen": "127.0.0.1:0"}))
    app.start()
    assert app.engine.ready.wait(WAIT)
    assert app.server is not None
    with httpx.Client(base_url=f"http://127.0.0.1:{app.server.port}", timeout=WAIT) as client:
        assert client.get("/readyz").status_code == 200
        body = {"time": app.clock.now_unix_nano() // S, "host": "a", "x": 1.5}
        assert client.post("/api/v1/events", json=body).status_code == 202
        answer = client.get("/api/v1/alerts").json()
        found = answer["alerts"] if isinstance(answer, dict) else answer
        assert [alert["labels"]["alertname"] for alert in found] == ["ForeshockWatchdog"]
        app.engine._failed = "the pipeline has stopped: a test"
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "a test" in answer.text
    app.stop()
    assert app.final["alerts"][0]["status"] == "firing"


def test_the_report_has_what_was_said_in_the_run_however_old_its_times(tmp_path: Path) -> None:
    faults = (*range(60, 66), *range(100, 104))

    def run(steps: range) -> list[tuple[str, str]]:
        driven = Driven(settings(tmp_path / "data"))
        driven.clock.advance(365 * 86400)
        for step in steps:
            driven.app.engine.submit(rows(step, 3, faults))
            driven.app.engine.tick()
        driven.stop()
        return [(alert["status"], alert["startsAt"]) for alert in driven.app.final["alerts"][1:]]

    first = run(range(80))
    assert [status for status, _ in first] == ["resolved"]
    second = run(range(80, 102))
    assert [status for status, _ in second] == ["firing"]
    assert run(range(102, 103)) == second
    assert run(range(103, 130)) == [("resolved", second[0][1])]


def test_figures_of_the_budget_are_those_of_the_pipeline(tmp_path: Path) -> None:
    driven = Driven(settings(tmp_path / "data"))
    for step in range(60):
        driven.clock.set(START + 10 * step)
        driven.app.engine.submit(rows(step))
        driven.app.engine.tick()
    driven.stop()
    assert set(driven.app.budget()) == {"series", "entity", "environment"}
    assert driven.app.final["status"]["budget_achieved_ratio"] == driven.app.budget()
    assert driven.app.final["status"]["counts"] == {}


# -- another process -------------------------------------------------------------------------------------------------


def run(folder: Path) -> tuple[int, str]:
    """Exit code and stderr of `foreshock run` on a data folder, which is expected to end by itself."""
    path = folder.parent / "config.yaml"
    path.write_text(f"data_dir: {folder}\nhttp: {{enabled: false}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "foreshock", "run", str(path), "--headless", "--seconds", "60"],
        capture_output=True, text=True, check=False, timeout=WAIT,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_second_process_on_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    app = App(settings(folder), FakeClock(START))
    code, said = run(folder)
    assert code == 3
    assert f"{folder} is in use by process {os.getpid()}: stop that one, or choose another data folder" in said
    assert "Traceback" not in said
    with pytest.raises(PermanentError, match="is in use by process"):
        App(settings(folder), FakeClock(START))
    app.stop()


def test_a_corrupt_database_is_told_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(settings(folder)) as rig:
        rig.step(0)
    data = bytearray((folder / "foreshock.db").read_bytes())
    data[100:3000] = bytes(2900)
    (folder / "foreshock.db").write_bytes(bytes(data))
    code, said = run(folder)
    assert code == 3
    assert "foreshock.db is corrupt" in said
    assert "Move it away" in said
    assert "Traceback" not in said


def test_a_damaged_log_is_told_at_the_start_with_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(settings(folder)) as rig:
        for step in range(20):
            rig.step(step)
    shutil.rmtree(folder / "snapshots")
    segment = next((folder / "log").glob("*.log"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(bytes(data))
    code, said = run(folder)
    assert code == 3
    assert f"the log is damaged: {segment}" in said
    assert "foreshock log verify" in said
    assert "Traceback" not in said
    with SegmentLog(folder / "log", read_only=True) as log:
        assert len(log.verify()) == 1
