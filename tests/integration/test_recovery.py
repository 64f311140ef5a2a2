"""Killed at any moment and started again, the alert stream is the one of a run that was left alone."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import threading
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from foreshock.config import Config
from foreshock.errors import PermanentError, RetryableError
from foreshock.runtime.log import DamagedLogError, SegmentLog, verify_log
from foreshock.runtime.replay import Replay
from foreshock.state import pack
from foreshock.types.record import CONFIG, GAP, UPGRADE
from tests.integration.rig import START, Rig, eventually, running, settings

STEPS = 150
FAULTS = (*range(60, 66), *range(90, 94), *range(120, 126))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.runtime.embedded.COMMIT_SECONDS", 0.005)
    monkeypatch.setattr("foreshock.runtime.writer.FIRST_WAIT", 0.01)
    monkeypatch.setattr("foreshock.runtime.writer.LONGEST_WAIT", 0.05)


def config(folder: Path, **more: object) -> Config:
    return settings(folder, **{"snapshot": {"every": 0.02, "share": 1.0}} | more)


@cache
def undisturbed() -> tuple[bytes, ...]:
    """The alert stream of a run that nothing happened to."""
    with TemporaryDirectory() as folder, running(config(Path(folder) / "data")) as rig:
        feed(rig, range(STEPS))
        rig.committed()
        alerts = tuple(rig.alerts())
    assert len(alerts) >= 4
    return alerts


def feed(rig: Rig, steps: range) -> None:
    for step in steps:
        rig.step(step, FAULTS)


def finish(rig: Rig, first: int) -> tuple[bytes, ...]:
    feed(rig, range(first, STEPS))
    rig.committed()
    return tuple(rig.alerts())


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_moments(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stops = sorted(int(step) for step in rng.choice(np.arange(1, STEPS), 3, replace=False))
    folder, first, recovered = tmp_path / "0", 0, []
    for number, stop in enumerate(stops, 1):
        with running(config(folder)) as rig:
            recovered.append(rig.engine.recovered_records)
            feed(rig, range(first, stop))
            if rng.random() < 0.5:
                rig.committed()
            folder, first = rig.copy(tmp_path / str(number)), stop
    with running(config(folder)) as rig:
        recovered.append(rig.engine.recovered_records)
        assert finish(rig, first) == undisturbed()
        assert rig.store.committed("embedded") == rig.log.end
        runs = rig.store.runs("embedded")
        assert runs == [(0, rig.log.end)]
    assert recovered[0] == 0


def test_stopped_and_started_it_reads_nothing_again(tmp_path: Path) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(70))
        rig.judged()
        rig.engine.stop()
        before = {name: pack(state) for name, state in rig.engine.task.states().items()}
    with running(config(tmp_path / "data")) as rig:
        assert rig.engine.recovered_records == 0
        assert {name: pack(state) for name, state in rig.engine.task.states().items()} == before
        assert rig.engine.ticker.watermark == rig.engine.task.watermark
        assert [record.content_type for _, record in rig.log.read(0)].count(CONFIG) == 1
        assert finish(rig, 70) == undisturbed()


def test_a_corrupt_snapshot_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(40))
        rig.committed()
        eventually(lambda: rig.engine.snapshots.oldest_position())
        feed(rig, range(40, 100))
        rig.judged()
    found = sorted((tmp_path / "data" / "snapshots").iterdir())
    assert len(found) == 2
    data = bytearray(found[-1].read_bytes())
    data[len(data) // 2] ^= 1
    found[-1].write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING), running(config(tmp_path / "data")) as rig:
        assert "cannot be read and is passed over" in caplog.text
        assert rig.engine.recovered_records > 0
        assert finish(rig, 100) == undisturbed()


def test_without_any_snapshot_all_of_the_log_is_read(tmp_path: Path) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(100))
    shutil.rmtree(tmp_path / "data" / "snapshots")
    with running(config(tmp_path / "data")) as rig:
        assert rig.engine.recovered_records == 1 + 2 * 100
        assert finish(rig, 100) == undisturbed()


def test_a_lost_database_is_rebuilt_from_the_log(tmp_path: Path) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(100))
    for path in (tmp_path / "data").glob("foreshock.db*"):
        path.unlink()
    with running(config(tmp_path / "data")) as rig:
        assert finish(rig, 100) == undisturbed()


def test_a_lost_database_beside_a_log_that_was_trimmed_goes_on_from_the_snapshot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = config(tmp_path / "data", log={"segment_bytes": 4096, "max_bytes": 8192})
    with running(small) as rig:
        rig.log = rig.engine.log = _small_segments(rig)
        feed(rig, range(100))
        rig.judged()
        eventually(lambda: (rig.engine.snapshots.oldest_position() or 0) > 50)
        assert rig.log.trim(rig.clock.now_unix_nano(), rig.engine.snapshots.oldest_position() or 0) > 0
    for path in (tmp_path / "data").glob("foreshock.db*"):
        path.unlink()
    with caplog.at_level(logging.WARNING), running(small) as rig:
        assert rig.engine.failed is None
        assert "the database is new, the log is not" in caplog.text
        last = undisturbed()[-2:]  # the episode that began after the restart
        assert finish(rig, 100)[-2:] == last


def _small_segments(rig: Rig) -> SegmentLog:
    rig.log.close()
    return SegmentLog.open(rig.folder / "log", rig.store.committed("embedded"), segment_bytes=4096, max_bytes=8192)


def test_without_the_beginning_it_says_what_to_do(tmp_path: Path) -> None:
    with running(config(tmp_path / "data")) as rig:
        rig.log = rig.engine.log = _small_segments(rig)
        feed(rig, range(60))
        rig.judged()
        eventually(lambda: (rig.engine.snapshots.oldest_position() or 0) > 50)
        assert rig.log.trim(rig.clock.now_unix_nano(), rig.engine.snapshots.oldest_position() or 0) > 0
    shutil.rmtree(tmp_path / "data" / "snapshots")
    rig = Rig(config(tmp_path / "data"))
    with pytest.raises(PermanentError, match="no snapshot can be read: move the data folder away"):
        rig.engine.start()
    rig.engine.stop()
    rig.close()


@pytest.mark.parametrize("keep_snapshots", [True, False])
def test_a_log_that_lost_its_end_is_said_and_gone_on_behind(
    tmp_path: Path, keep_snapshots: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    with running(config(folder)) as rig:
        feed(rig, range(100))
        rig.judged()
        end = rig.log.end
    segment = next((folder / "log").glob("*.log"))
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size * 2 // 3)
    if not keep_snapshots:
        shutil.rmtree(folder / "snapshots")
    with caplog.at_level(logging.WARNING), running(config(folder)) as rig:
        assert "power loss" in caplog.text
        assert rig.engine.failed is None
        assert next(record.content_type for _, record in rig.log.read(end)) == GAP
        alerts = finish(rig, 100)
        assert len(set(alerts)) == len(alerts)
        if keep_snapshots:
            # The snapshot knows what the log has lost.
            assert rig.engine.recovered_records == 1
            assert alerts == undisturbed()
        else:
            assert 100 < rig.engine.recovered_records < end
            assert alerts[:4] == undisturbed()[:4]
        position = rig.log.end
    with running(config(folder)) as rig:
        assert (rig.engine.failed, rig.log.end) == (None, position)


def test_a_log_that_is_gone_is_gone_on_behind(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(config(folder)) as rig:
        feed(rig, range(100))
        rig.judged()
        end = rig.log.end
        left = rig.copy(tmp_path / "left")
    shutil.rmtree(left / "log")
    for path in sorted((left / "snapshots").iterdir())[1:]:
        path.unlink()
    with running(config(left)) as rig:
        assert (rig.engine.failed, rig.log.gap) == (None, (0, rig.log.start))
        assert 0 < rig.log.start <= end
        feed(rig, range(100, 110))
        rig.committed()
    # And once more, before the log is long enough to have another snapshot.
    for path in sorted((left / "snapshots").iterdir())[1:]:
        path.unlink()
    with running(config(left)) as rig:
        assert rig.engine.failed is None


def test_a_flipped_byte_where_it_must_be_read_stops_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(config(folder)) as rig:
        feed(rig, range(60))
    segment = next((folder / "log").glob("*.log"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(bytes(data))
    problem = verify_log(folder / "log")[0]
    assert problem.file == str(segment)

    # Behind the newest snapshot nobody needs it: the start is as ever.
    with running(config(folder)) as rig:
        assert rig.engine.failed is None

    shutil.rmtree(folder / "snapshots")
    rig = Rig(config(folder))
    with pytest.raises(DamagedLogError, match=f"position {problem.position}") as error:
        rig.engine.start()
    assert error.value.problem == problem
    assert "foreshock log verify" in str(error.value)
    rig.engine.stop()
    rig.close()
    out = tmp_path / "out"
    with SegmentLog(folder / "log", read_only=True) as log, pytest.raises(DamagedLogError):
        Replay(config(folder), log, out, {}, recorded=True).run()


def test_a_config_that_changes_what_does_not_judge_keeps_everything_warm(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(config(folder)) as rig:
        feed(rig, range(70))
    other = config(folder, sinks=["stdout"], http={"enabled": False, "listen": "127.0.0.1:9"}, limits={"series": 500})
    with running(other) as rig:
        assert rig.engine.task.config.digest == other.digest
        assert rig.engine.task.pipeline.registry.max_series == 500
        assert finish(rig, 70) == undisturbed()
        configs = [record for _, record in rig.log.read(0) if record.content_type == CONFIG]
        assert [json.loads(record.payload)["limits"]["series"] for record in configs] == [100_000, 500]
        # What was folded under each config is folded under it again.
        shutil.copytree(folder / "log", tmp_path / "log")
    with SegmentLog(tmp_path / "log", read_only=True) as log:
        Replay(config(folder), log, tmp_path / "out", {}, recorded=True).run()
    assert (tmp_path / "out" / "alerts.jsonl").read_bytes().splitlines() == list(undisturbed())


def test_a_config_that_changes_the_budget_begins_anew_and_is_killed(tmp_path: Path) -> None:
    def run(folder: Path, kill: bool) -> tuple[bytes, ...]:
        with running(config(folder)) as rig:
            feed(rig, range(70))
        other = config(folder, budget={"environment": 20, "entity": 2})
        with running(other) as rig:
            feed(rig, range(70, 100))
            rig.committed()
            if kill:
                folder = rig.copy(folder.with_suffix(".left"))
        with running(config(folder, budget={"environment": 20, "entity": 2})) as rig:
            return finish(rig, 100)

    assert run(tmp_path / "a", kill=True) == run(tmp_path / "b", kill=False)


def test_other_numerics_are_said_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(20))
    monkeypatch.setattr("foreshock.runtime.recovery.numerics_id", lambda: "another machine")
    with running(config(tmp_path / "data")) as rig:
        said = [json.loads(record.payload) for _, record in rig.log.read(0) if record.content_type == UPGRADE]
    assert [one["to"] for one in said] == ["another machine"]


# -- a database that cannot be written -------------------------------------------------------------------------------


class Locked:
    """Another process that writes to the database, until `free`."""

    def __init__(self, rig: Rig) -> None:
        self.connection = sqlite3.connect(rig.folder / "foreshock.db", check_same_thread=False)
        self.connection.execute("BEGIN IMMEDIATE")

    def free(self) -> None:
        self.connection.rollback()
        self.connection.close()


def test_a_locked_database_holds_the_pipeline_and_then_all_is_there(tmp_path: Path) -> None:
    with running(config(tmp_path / "data", limits={"queue_records": 12})) as rig:
        for step in range(58):
            rig.step(step, FAULTS)
            rig.judged()
        rig.committed()
        locked = Locked(rig)
        committed, step = rig.store.committed("embedded"), 58
        rig.step(step, FAULTS)
        eventually(lambda: rig.engine.writer.trouble)
        refused = None
        while refused is None:
            try:
                step += 1
                rig.step(step, FAULTS)
            except RetryableError as error:
                refused = error
        assert "results cannot be stored now" in str(refused)
        assert rig.engine.failed is None
        assert rig.store.committed("embedded") == committed
        assert rig.log.end >= committed + 12
        locked.free()
        rig.committed()
        assert rig.engine.writer.trouble is None
        # The refused step is sent again, as its sender was told; its ticks come by themselves.
        for again in range(step, STEPS):
            rig.step(again, FAULTS)
            rig.judged()
        rig.committed()
        assert tuple(rig.alerts()) == undisturbed()


def test_stopped_while_the_database_is_locked_it_ends_and_recovers(tmp_path: Path) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(58))
        rig.committed()
        locked = Locked(rig)
        feed(rig, range(58, 80))
        eventually(lambda: rig.engine.writer.trouble)
        ending = threading.Thread(target=rig.engine.stop)
        ending.start()
        ending.join(5.0)
        assert not ending.is_alive()
        assert rig.store.committed("embedded") < rig.log.end
        locked.free()
    with running(config(tmp_path / "data")) as rig:
        assert rig.engine.recovered_records > 0
        assert finish(rig, 80) == undisturbed()


def test_event_times_do_not_depend_on_the_clock(tmp_path: Path) -> None:
    """The same records a year later by the clock, with a clock that was set back in between."""
    with running(config(tmp_path / "data")) as rig:
        for step in range(STEPS):
            rig.step(step, FAULTS)
            rig.clock.set(START + 365 * 86400 - 1000 * step)
        rig.committed()
        assert tuple(rig.alerts()) == undisturbed()
