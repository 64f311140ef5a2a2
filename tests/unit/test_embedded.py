"""The embedded runtime: taking in, order, controls, and what happens when something is full, broken or wrong."""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from foreshock.errors import BadInputError, PermanentError, RetryableError
from foreshock.runtime import disk
from foreshock.runtime.log import inspect_log
from foreshock.telemetry import DROPPED, ERRORS
from foreshock.types import AlertKind, Control, ControlKind, Record, Status
from foreshock.types.record import CONTROL, JSON, WATERMARK
from tests.integration.rig import START, STEP, WAIT, Rig, eventually, rows, running, settings

S = 1_000_000_000
FAULTS = (*range(60, 66), *range(100, 106))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.runtime.embedded.COMMIT_SECONDS", 0.005)
    monkeypatch.setattr("foreshock.runtime.embedded.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("foreshock.runtime.writer.FIRST_WAIT", 0.01)
    monkeypatch.setattr("foreshock.runtime.writer.LONGEST_WAIT", 0.05)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with running(settings(tmp_path / "data")) as one:
        yield one


class Held:
    """Holds the pipeline at its next record until `go`."""

    def __init__(self, rig: Rig) -> None:
        self.judge, self.task = rig.engine.task.process, rig.engine.task
        self.reached, self.free = threading.Event(), threading.Event()
        self.task.process = self  # type: ignore[method-assign, assignment]

    def __call__(self, *args: Any) -> Any:
        self.reached.set()
        assert self.free.wait(WAIT)
        return self.judge(*args)

    def go(self) -> None:
        self.free.set()


def event(text: str) -> Record:
    return Record("default", "feed", JSON, START * S, text.encode())


def point(step: int, value: float = 1.0, host: str = "a") -> Record:
    return event(f'{{"time": {START + STEP * step}, "host": "{host}", "x": {value}}}')


# -- taking in -------------------------------------------------------------------------------------------------------


def test_before_it_is_ready_and_while_it_stops_nothing_is_taken(tmp_path: Path) -> None:
    one = Rig(settings(tmp_path / "data"))
    for refused in (one.engine.tick, lambda: one.engine.submit(rows(0))):
        one.engine.ticker.saw("feed", START * S, START * S)
        with pytest.raises(RetryableError, match="starting"):
            refused()
    one.start()
    one.engine.submit(rows(0))
    one.engine.stop()
    with pytest.raises(RetryableError, match="stopping"):
        one.engine.submit(rows(1))
    assert one.log.end == 2  # the config and what was taken
    assert (one.engine.inbox.records, one.engine.inbox.bytes) == (0, 0)
    one.close()


def test_a_full_queue_refuses_and_says_so(tmp_path: Path) -> None:
    with running(settings(tmp_path / "data", limits={"queue_records": 3})) as rig:
        held = Held(rig)
        for step in range(3):
            assert rig.engine.submit(point(step)) == 1
        assert held.reached.wait(WAIT)
        with pytest.raises(RetryableError, match="queue is full: telemetry comes in faster"):
            rig.engine.submit(point(3))
        with pytest.raises(RetryableError), rig.engine.reserve(1):
            pass
        assert (rig.engine.inbox.records, rig.log.end) == (3, 4)
        held.go()
        rig.judged()
        eventually(lambda: rig.engine.inbox.records == 0)
        assert rig.engine.inbox.bytes == 0
        assert rig.engine.submit(point(3)) == 1


def test_a_queue_of_bytes_refuses_too_but_not_what_could_never_come_in(tmp_path: Path) -> None:
    size = len(point(0).payload)
    with running(settings(tmp_path / "data", limits={"queue_bytes": 2 * size + 1})) as rig:
        held = Held(rig)
        rig.engine.submit(point(0))
        rig.engine.submit(point(1))
        with pytest.raises(RetryableError, match="queue is full"):
            rig.engine.submit(point(2))
        assert (rig.engine.inbox.records, rig.engine.inbox.bytes) == (2, 2 * size)
        held.go()
        eventually(lambda: rig.engine.inbox.records == 0)
        large = ",".join(point(step).payload.decode() for step in range(2, 9))
        assert rig.engine.submit(event(f"[{large}]")) == 7
        eventually(lambda: rig.engine.inbox.bytes == 0)


def test_what_is_refused_leaves_nothing_behind(rig: Rig) -> None:
    end = rig.log.end
    with pytest.raises(BadInputError):
        rig.engine.submit(event("{"))
    with suppress(ZeroDivisionError), rig.engine.reserve(100):
        assert rig.engine.inbox.bytes == 100
        raise ZeroDivisionError
    assert (rig.engine.inbox.records, rig.engine.inbox.bytes, rig.log.end) == (0, 0, end)


def test_the_order_of_the_log_is_the_order_of_the_queue(rig: Rig) -> None:
    taken: list[int] = []
    judged: list[bytes] = []
    judge, take = rig.engine.task.process, rig.engine._take

    def watch_judge(record: Record, samples: Any = None) -> Any:
        judged.append(record.payload)
        return judge(record, samples)

    def watch_take(next_position: int, *args: Any, **more: Any) -> None:
        taken.append(next_position)
        take(next_position, *args, **more)

    rig.engine.task.process = watch_judge  # type: ignore[method-assign]
    rig.engine._take = watch_take  # type: ignore[method-assign]
    first = rig.log.end

    def send(sender: int) -> None:
        for n in range(60):
            rig.engine.submit(point(n, sender, f"h{sender}"))
            if n % 20 == 0:
                rig.engine.control(Control(ControlKind.DEPLOY, f"{sender}-{n}", START * S))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.judged()
    assert taken == list(range(first + 1, first + 1 + 8 * 63))
    assert judged == [record.payload for _, record in rig.log.read(first)]


# -- a disk that fills, a database that is locked --------------------------------------------------------------------


def refuse_writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A full disk under the log; returns what makes room again."""
    write = disk.write_at

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("foreshock.runtime.log.write_at", refuse)
    return lambda: monkeypatch.setattr("foreshock.runtime.log.write_at", write)


def test_a_full_disk_refuses_senders_and_goes_on_when_there_is_room(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.step(0)
    rig.judged()
    end, mark = rig.log.end, rig.engine.ticker.watermark
    make_room = refuse_writes(monkeypatch)
    rig.clock.advance(STEP)
    with pytest.raises(RetryableError, match="No space left.*make room"):
        rig.engine.submit(rows(1))
    rig.engine.ticker.saw("feed", (START + STEP) * S, rig.clock.now_unix_nano())
    with pytest.raises(RetryableError, match="No space left"):
        rig.engine.tick()
    with pytest.raises(RetryableError, match="No space left"):
        rig.engine.control(Control(ControlKind.SILENCE, "s", START * S))
    assert (rig.log.end, rig.engine.inbox.records, rig.engine.inbox.bytes) == (end, 0, 0)
    assert rig.engine.ticker.watermark == mark  # what could not be said is said by the next tick
    assert rig.engine.failed is None
    make_room()
    rig.engine.submit(rows(1))
    rig.engine.tick()
    assert rig.engine.ticker.watermark == (START + STEP) * S
    rig.judged()
    assert [position for position, _ in rig.log.read(0)] == list(range(1, end + 3))


def test_a_start_on_a_full_disk_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Rig(settings(tmp_path / "data"))
    make_room = refuse_writes(monkeypatch)
    before = ERRORS.labels("pipeline")._value.get()
    one.engine.start()
    eventually(lambda: ERRORS.labels("pipeline")._value.get() > before)
    assert not one.engine.ready.is_set()
    make_room()
    assert one.engine.ready.wait(WAIT)
    assert (one.engine.failed, one.log.end) == (None, 1)
    one.stop()


def test_a_start_on_a_full_disk_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Rig(settings(tmp_path / "data"))
    refuse_writes(monkeypatch)
    one.engine.start()
    one.engine.stop()
    assert one.log.end == 0
    one.close()


# -- defects ---------------------------------------------------------------------------------------------------------


def test_a_detector_that_fails_stops_the_pipeline_and_not_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foreshock.detect.robust_z import RobustZ

    folder = tmp_path / "data"
    step = RobustZ.step
    broken = [True]

    def fail(self: RobustZ, frame: Any) -> Any:
        if broken[0] and int(frame.time_unix_nano[0]) == (START + STEP * 80) * S:
            raise ZeroDivisionError("mine")
        return step(self, frame)

    monkeypatch.setattr(RobustZ, "step", fail)
    with running(settings(folder)) as rig:
        for n in range(80):
            rig.step(n, FAULTS)
        rig.judged()
        assert rig.engine.failed is None
        for n in range(80, 90):
            rig.step(n, FAULTS)
        eventually(lambda: rig.engine.failed)
        assert re.search("robust_z.*ZeroDivisionError: mine", str(rig.engine.failed))
        # What was decided before is said; what is taken is in the log as long as there is room.
        eventually(rig.engine.writer._ended.is_set)
        assert any(alert.ends_unix_nano is None for _, alert in rig.store.events())
        failed_at = rig.store.committed("embedded")
        end = rig.log.end
        rig.engine.submit(rows(90))
        assert rig.log.end == end + 1
        said = rig.alerts()
    assert inspect_log(folder / "log").end == end + 1

    # The same config meets the same record: it says so again, and nothing is committed beyond.
    with running(settings(folder)) as rig:
        assert "ZeroDivisionError" in str(rig.engine.failed)
        eventually(rig.engine.writer._ended.is_set)
        assert rig.store.committed("embedded") == failed_at

    # Another config answers: the records that the old one could not judge are passed over, said and counted.
    before = ERRORS.labels("detector")._value.get()
    with running(settings(folder, detectors=["zscore"])) as rig:
        assert rig.engine.failed is None
        assert ERRORS.labels("detector")._value.get() > before
        for n in range(91, 95):
            rig.step(n)
        rig.judged()
        assert rig.alerts()[: len(said)] == said
    # And once the code is mended, the whole log is read again without a stop.
    broken[0] = False
    with running(settings(folder, detectors=["zscore"])) as rig:
        assert rig.engine.failed is None


def test_a_commit_that_can_never_be_made_stops_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.step(0)
    rig.committed()

    def refuse(*_: Any) -> None:
        raise PermanentError("foreshock.db is corrupt")

    monkeypatch.setattr(rig.store, "commit", refuse)
    rig.step(1)
    eventually(lambda: rig.engine.failed)
    assert rig.engine.failed == "results cannot be stored: foreshock.db is corrupt"
    eventually(lambda: not rig.engine._threads[0].is_alive())
    rig.engine.submit(rows(2))  # still logged, and judged after the next start


def test_a_defect_in_the_writer_stops_it_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.store, "commit", lambda *_: 1 / 0)
    rig.step(0)
    eventually(lambda: rig.engine.failed)
    assert rig.engine.failed == "results cannot be stored: division by zero"


def test_a_snapshot_that_cannot_be_written_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(settings(tmp_path / "data", snapshot={"every": 0.001, "share": 1.0})) as rig:
        write = rig.engine.snapshots.write
        tries: list[int] = []

        def refuse(position: int, *_: Any) -> Path:
            tries.append(position)
            raise RetryableError("the disk refused it")

        monkeypatch.setattr(rig.engine.snapshots, "write", refuse)
        rig.step(0)
        eventually(lambda: len(tries) > 1, "no second snapshot was tried")
        rig.step(1)
        rig.committed()
        monkeypatch.setattr(rig.engine.snapshots, "write", write)
        eventually(lambda: rig.engine.snapshots.oldest_position() is not None)


# -- a million series, clocks that are wrong -------------------------------------------------------------------------


def test_series_without_end_are_bounded_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshock.runtime.embedded.FIGURES_SECONDS", 0.0)
    before = DROPPED.labels("series_limit")._value.get()
    with running(settings(tmp_path / "data", limits={"series": 1000})) as rig:
        rig.step(0, entities=2)
        with caplog.at_level(logging.WARNING):
            for block in range(50):
                body = ",".join(
                    f'{{"time": {START}, "host": "n{block * 100 + n}", "x": 1}}' for n in range(100)
                )  # fmt: skip
                rig.engine.submit(event(f"[{body}]"))
            for n in range(1, 40):
                rig.step(n, (35,), entities=2)
            rig.judged()
            rig.engine.stop()
        assert len(rig.engine.task.pipeline.registry) == 1000
        assert rig.engine.figures.series == 1000
        assert DROPPED.labels("series_limit")._value.get() == before + 5000 - 996
        said = [one.getMessage() for one in caplog.records if "series_limit" in one.getMessage()]
        assert len(said) == 1
        assert "limits.series; known ones are judged as before" in said[0]
        known = rig.views.series(entity='{host.name="h1"}', feature="cpu", points=10)[0]
        assert known.points["status"][-1] == Status.SCORED
        assert known.points["value"][-5] > 70
        assert rig.engine.failed is None


def test_a_sender_with_a_clock_far_ahead_does_not_carry_the_watermark_off(rig: Rig) -> None:
    for n in range(30):
        rig.step(n)
    rig.engine.submit(event(f'{{"time": {START + 10**7}, "host": "mad", "x": 1}}'))
    rig.engine.submit(
        event(f'[{{"time": {START + 10**7}, "host": "mad", "x": 1}}, {{"time": {START + 295}, "host": "b", "x": 1}}]')
    )
    rig.engine.tick()
    rig.step(30)
    rig.judged()
    assert rig.engine.ticker.watermark == rig.engine.task.watermark == (START + STEP * 30) * S
    assert rig.engine.task.sources == {"feed": (START + STEP * 30) * S}


def test_a_watermark_is_logged_only_where_time_has_moved(rig: Rig) -> None:
    rig.engine.tick()
    rig.step(0)
    rig.engine.tick()
    rig.clock.advance(5)
    rig.engine.tick()
    rig.judged()
    assert [record.content_type for _, record in rig.log.read(0)].count(WATERMARK) == 1


# -- control records -------------------------------------------------------------------------------------------------


def control(rig: Rig, kind: ControlKind, at: int, until: int = 0, **matchers: str) -> Control:
    names = {name.replace("_", "."): value for name, value in matchers.items()}
    return rig.engine.control(Control(kind, str(kind), at * S, until * S if until else 0, names))


def test_a_control_record_takes_effect_where_nothing_is_decided_yet(tmp_path: Path) -> None:
    late = [{"type": "http", "name": "feed", "lateness": "30s"}]
    with running(settings(tmp_path / "data", sources=late)) as rig:
        for n in range(5):
            rig.step(n)
        mark = rig.engine.ticker.watermark
        assert mark == (START + STEP * 4 - 30) * S
        asked = START - 100
        assert control(rig, ControlKind.SILENCE, asked).effective_unix_nano == mark + 30 * S
        assert control(rig, ControlKind.EXPECTED, START + 999).effective_unix_nano == (START + 999) * S
        assert control(rig, ControlKind.MAINTENANCE, asked).effective_unix_nano == asked * S
        rig.judged()
        logged = [record for _, record in rig.log.read(0) if record.content_type == CONTROL]
        assert len(logged) == 3


def test_maintenance_excludes_rows_and_notifies_nobody(rig: Rig) -> None:
    for n in range(55):
        rig.step(n)
    control(rig, ControlKind.MAINTENANCE, START + STEP * 55, START + STEP * 70, host_name="h1")
    for n in range(55, 90):
        rig.step(n, (*range(60, 66), 80, 81, 82))
    rig.judged()
    statuses = rig.views.series(entity='{host.name="h1"}', feature="cpu", points=10)[0].points["status"]
    assert set(statuses) == {Status.SCORED}
    rig.committed()
    starts = {alert.starts_unix_nano for _, alert in rig.store.events()}
    assert starts == {(START + STEP * 80) * S}
    assert rig.engine.task.pipeline.align.counts == {}


def test_maintenance_rows_are_shown_as_excluded(rig: Rig) -> None:
    for n in range(30):
        rig.step(n)
    control(rig, ControlKind.MAINTENANCE, START + STEP * 30, host_name="h1")
    for n in range(30, 36):
        rig.step(n)
    rig.judged()
    own = rig.views.series(entity='{host.name="h1"}', feature="cpu", points=3)[0].points["status"]
    other = rig.views.series(entity='{host.name="h0"}', feature="cpu", points=3)[0].points["status"]
    assert (set(own), set(other)) == ({Status.EXCLUDED}, {Status.SCORED})


def test_a_silence_lets_alerts_be_and_tells_nobody(rig: Rig) -> None:
    for n in range(55):
        rig.step(n)
    control(rig, ControlKind.SILENCE, START + STEP * 55, 0, host_name="h1")
    for n in range(55, 90):
        rig.step(n, FAULTS)
    rig.committed()
    alerts = [alert for _, alert in rig.store.events()]
    assert [(alert.kind, alert.notified) for alert in alerts] == [(AlertKind.ANOMALY, False)] * 2
    assert dict(alerts[0].annotations)["silenced"] == "silence"


def test_deploy_and_label_change_nothing_that_is_said(rig: Rig, tmp_path: Path) -> None:
    with running(settings(tmp_path / "other")) as other:
        for one in (rig, other):
            for n in range(90):
                if one is rig and n == 50:
                    control(one, ControlKind.LABEL, START)
                one.step(n, FAULTS)
            one.committed()
        assert rig.alerts() == other.alerts() != []
    assert rig.engine.failed is None


def stored(rig: Rig, entity: str) -> int:
    """How many anomalous rows of an entity are in the store."""
    return len(rig.store.verdicts(entity)["time_unix_nano"])


def test_what_is_forgotten_is_gone_from_state_store_and_views(rig: Rig) -> None:
    for n in range(63):
        rig.step(n, FAULTS)
    rig.committed()
    own, other = '{host.name="h1"}', '{host.name="h0"}'
    assert [dict(alert.labels)["host_name"] for alert in rig.views.alerts()] == ["h1"]
    assert stored(rig, own) > 0
    control(rig, ControlKind.FORGET, 0, host_name="h1")
    rig.judged()
    assert rig.views.alerts() == []
    assert len(rig.views.series(entity=own, feature="cpu", points=10)[0].points) == 0
    assert len(rig.views.series(entity=other, feature="cpu", points=10)[0].points) == 10
    assert [dict(one.entity)["host.name"] for one in rig.views.entities()] == ["h0", "h2"]
    rig.committed()
    assert rig.store.alerts().alerts == []
    assert stored(rig, own) == 0
    for n in range(63, 90):
        rig.step(n)
    rig.committed()
    assert rig.alerts() == []  # it warms up again
    assert rig.engine.failed is None


def test_forgetting_is_done_again_where_it_was_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(settings(tmp_path / "data")) as rig:
        for n in range(63):
            rig.step(n, FAULTS)
        rig.committed()
        forgotten: list[str] = []
        monkeypatch.setattr(rig.store, "forget", forgotten.append)
        control(rig, ControlKind.FORGET, 0, host_name="h1")
        before = rig.log.end - 1
        eventually(lambda: forgotten)
        rig.committed()
        assert forgotten == ['{host.name="h1"}', '{host_name="h1"}']
        runs = rig.store.runs("embedded")
        assert runs == [(0, before + 1)]

        # A kill between the two: the rows are there, the record is not committed.
        monkeypatch.undo()
        left = rig.copy(tmp_path / "left")
        _uncommit(left, before)
    with running(settings(left)) as again:
        again.committed()
        assert stored(again, '{host.name="h1"}') == 0
        assert again.store.alerts().alerts == []


def _uncommit(folder: Path, position: int) -> None:
    import sqlite3

    connection = sqlite3.connect(folder / "foreshock.db")
    connection.execute('UPDATE "commit" SET to_position = ?', (position,))
    connection.commit()
    connection.close()
