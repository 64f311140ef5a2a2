"""A task: records in order, state at any moment, configs in force one after another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreshock.config import Config, load
from foreshock.errors import PermanentError
from foreshock.runtime.recovery import Reader
from foreshock.runtime.snapshot import SnapshotJob
from foreshock.runtime.task import Task, Watermark, encode_json, newest, same
from foreshock.state import State, pack
from foreshock.telemetry import DROPPED, ERRORS
from foreshock.types import Columns, Control, ControlKind, Record, Samples
from foreshock.types.record import CONFIG, CONTROL, GAP, JSON, WATERMARK
from tests.integration.rig import START, STEP, rows, settings

S = 1_000_000_000
FAULTS = (*range(60, 66), *range(90, 95))


def config(**more: Any) -> Config:
    return settings(Path("unused"), features=[{"do": "mean", "over": "60s", "of": "cpu"}], **more)


def watermark(step: int) -> Record:
    at = (START + STEP * step) * S
    return Record("default", "foreshock", WATERMARK, at, encode_json(Watermark(at)))


def records(steps: range, entities: int = 3) -> list[Record]:
    return [
        record for step in steps for record in (rows(step, entities + (step // 40), FAULTS), watermark(step))
    ]  # fmt: skip


def packed(states: dict[str, State]) -> dict[str, bytes]:
    return {name: pack(state) for name, state in states.items()}


def laid_out(task: Task) -> dict[str, bytes]:
    """The states as a restart lays them out: what grows in rings is packed anew by `load`."""
    fresh = Task(task.config, bands=True)
    fresh.load({name: state.frozen() for name, state in task.states().items()}, task.watermark)
    return packed(fresh.states())


@pytest.mark.parametrize("seed", range(6))
def test_a_snapshot_taken_while_work_goes_on_is_the_state_at_its_position(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshock.state.slots.BLOCK_BYTES", 512)
    monkeypatch.setattr("foreshock.stream.features.BLOCK_BYTES", 512)
    rng = np.random.default_rng(seed)
    task = Task(config(), bands=True)
    stream = records(range(130))
    at = int(rng.integers(20, 200))
    for record in stream[:at]:
        task.process(record)
    frozen, mark = packed(task.states()), task.watermark
    job = SnapshotJob(task.states())
    copied = False
    for record in stream[at:]:
        task.process(record)
        if not copied and rng.random() < 0.7:
            copied = job.advance(float(rng.choice([0.0, 1e-5])))
    taken = job.finish()
    assert packed(taken) == frozen
    other = Task(config(), bands=True)
    other.load(taken, mark)
    said = [alert for record in stream[at:] for alert in other.process(record).alerts]
    assert laid_out(other) == laid_out(task)
    again = Task(config(), bands=True)
    whole = [alert for record in stream for alert in again.process(record).alerts]
    assert whole[len(whole) - len(said) :] == said
    assert whole


def test_times_too_far_ahead_move_no_clock() -> None:
    def samples(*seconds: int) -> Samples:
        times = np.array([(START + one) * S for one in seconds], np.int64)
        n = len(times)
        return Samples([], np.zeros(n, np.int32), times, np.zeros(n), np.zeros(n, np.uint64), {})

    record = Record("default", "feed", JSON, START * S, b"")
    settings = config(sources=[{"type": "http", "name": "feed", "max_skew": "10s"}])
    assert newest(samples(-5, 10, 11, 90_000), record, settings) == (START + 10) * S
    assert newest(samples(11, 12), record, settings) is None
    assert newest(samples(), record, settings) is None
    other = Record("default", "another", JSON, START * S, b"")
    assert newest(samples(-5, 60, 61), other, settings) == (START + 60) * S

    task = Task(settings)
    task.process(Record("default", "feed", JSON, START * S, b'{"time": %d, "host": "a", "x": 1}' % (START + 90_000)))
    assert task.sources == {}
    task.process(Record("default", "feed", JSON, START * S, b'{"time": %d, "host": "a", "x": 1}' % (START + 3)))
    assert task.sources == {"feed": (START + 3) * S}


def test_what_an_operator_raises_is_counted_and_the_record_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = Task(config(), bands=True)
    process = task.pipeline.alarm.process
    broken = {START + STEP * 30, START + STEP * 31, START + STEP * 32}

    def fail(columns: Columns) -> Columns:
        if len(columns.rows) and int(columns.rows.time_unix_nano[0]) // S in broken:
            raise KeyError("a defect")
        return process(columns)

    monkeypatch.setattr(task.pipeline.alarm, "process", fail)
    before = ERRORS.labels("operator")._value.get()
    with caplog.at_level(logging.ERROR):
        alerts = [alert for record in records(range(100)) for alert in task.process(record).alerts]
    assert ERRORS.labels("operator")._value.get() == before + 3
    assert len([one for one in caplog.records if "passed over" in one.message]) == 1
    assert {alert.status for alert in alerts} == {"firing", "resolved"}


def test_a_record_that_cannot_be_decoded_is_counted() -> None:
    task = Task(config())
    before = DROPPED.labels("bad_json")._value.get()
    task.process(Record("default", "feed", JSON, START * S, b"{"))
    assert DROPPED.labels("bad_json")._value.get() == before + 1


def test_own_records_of_any_content_do_no_harm() -> None:
    task = Task(config())
    before = ERRORS.labels("operator")._value.get()
    task.process(Record("default", "log", GAP, START * S, b'{"from": 1, "to": 5}'))
    task.process(Record("default", "log", WATERMARK, START * S, b"no number"))
    task.process(Record("default", "log", CONTROL, START * S, b"{}"))
    assert ERRORS.labels("operator")._value.get() == before + 2


def test_a_config_takes_effect_where_it_stands_and_keeps_what_it_does_not_change() -> None:
    before, after = config(), config(budget={"environment": 8}, sinks=["stdout"], http={"enabled": True})
    operators = ("fingerprint", "align", "features", "bank", "alarm", "tally", "budget")
    changed = {name for name in operators if not same(name, before, after)}
    assert changed == {"bank", "alarm", "tally", "budget"}
    assert all(same(name, before, config(sinks=["stdout"])) for name in ("align", "features", "bank", "alarm"))

    task = Task(before, bands=True)
    for record in records(range(40)):
        task.process(record)
    states = laid_out(task)
    fresh = packed(Task(after, bands=True).states())
    task.process(Record("default", "foreshock", CONFIG, START * S, config(sinks=["stdout"]).resolved()))
    assert packed(task.states()) == states
    task.process(Record("default", "foreshock", CONFIG, START * S, after.resolved()))
    now = packed(task.states())
    kept = {name for name in now if now[name] == states[name]}
    assert kept == {"registry", "fingerprint", "align", "features", "changes", "task", "tally"}, (
        "changes and tally have nothing to lose yet"
    )
    assert {name for name in now if now[name] == fresh[name]} == {
        "bank", "alarm", "changes", "tally", "budget", "task",
    }  # fmt: skip


def test_alerts_that_fire_end_where_the_alarm_begins_anew() -> None:
    """Nobody would ever end them else."""
    task = Task(config(), bands=True)
    said = [alert for record in records(range(63)) for alert in task.process(record).alerts]
    assert [alert.status for alert in said] == ["firing"]
    taken = {name: state.frozen() for name, state in task.states().items()}
    for change, ends in (({"sinks": ["stdout"]}, False), ({"budget": {"environment": 8}}, True)):
        other = Task(config(), bands=True)
        other.load(taken, task.watermark)
        new = Record("default", "foreshock", CONFIG, START * S, config(**change).resolved())
        over = other.process(new).alerts
        assert [(one.episode, one.status, one.notified) for one in over] == (
            [(said[0].episode, "resolved", said[0].notified)] if ends else []
        )
        assert all(one.ends_unix_nano == task.watermark for one in over)
        again = Record("default", "foreshock", CONFIG, START * S, config(budget={"environment": 9}).resolved())
        assert len(other.process(again).alerts) == (not ends)
    asked = Control(ControlKind.FORGET, "c", 0, matchers={"host.name": "h1"})
    task.process(Record("default", "foreshock", CONTROL, START * S, encode_json(asked)))
    assert (
        task.process(
            Record("default", "foreshock", CONFIG, START * S, config(budget={"environment": 8}).resolved())
        ).alerts
        == []
    )


def test_a_lower_limit_of_series_keeps_those_in_use() -> None:
    task = Task(config(), bands=True)
    for record in records(range(40)):
        task.process(record)
    known = list(task.pipeline.registry.series)
    lower = config(limits={"series": 2})
    task.process(Record("default", "foreshock", CONFIG, START * S, lower.resolved()))
    assert task.pipeline.registry.series == known
    task.process(rows(40, entities=9))
    assert task.pipeline.registry.series == known
    other = Task(lower, bands=True)
    other.load({name: state.frozen() for name, state in task.states().items()}, task.watermark)
    assert packed(other.states()) == packed(task.states())


def test_expected_is_a_new_baseline_and_forget_a_new_beginning() -> None:
    def after(kind: ControlKind) -> tuple[Task, dict[str, bytes]]:
        task = Task(config(), bands=True)
        for record in records(range(40)):
            task.process(record)
        before = packed(task.states())
        asked = Control(kind, "c1", 0, matchers={"host.name": "h1"})
        out = task.process(Record("default", "foreshock", CONTROL, START * S, encode_json(asked)))
        assert out.controls == [asked]
        now = packed(task.states())
        return task, {name: now[name] for name in now if now[name] != before[name]}

    expected, changed = after(ControlKind.EXPECTED)
    assert set(changed) == {"bank"}
    forgotten, changed = after(ControlKind.FORGET)
    assert {"align", "features", "bank", "alarm"} <= set(changed)
    for task in (expected, forgotten):
        table = task.pipeline.bank.parts["robust_z"].detector.table  # type: ignore[attr-defined]
        entity = task.pipeline.registry.entity_slot((("host.name", "h1"),))
        own = task.pipeline.registry.columns[entity]
        other = task.pipeline.registry.columns[1 - entity] if entity < 2 else task.pipeline.registry.columns[0]
        assert [int(table.rows[slot]["count"]) for slot in own] == [0] * len(own)
        assert all(int(table.rows[slot]["count"]) > 20 for slot in other)


class Failing:
    """Judges nothing from a given time on."""

    def __init__(self, task: Task, since: int) -> None:
        self.part = task.pipeline.bank.parts["robust_z"]
        self.step, self.since = self.part.detector.step, since
        self.part.detector.step = self  # type: ignore[method-assign]

    def __call__(self, frame: Any) -> Any:
        if int(frame.time_unix_nano[0]) // S >= self.since:
            raise ZeroDivisionError("mine")
        return self.step(frame)


class Recorded:
    """A log in memory."""

    def __init__(self, entries: list[Record]) -> None:
        self.entries, self.reads = entries, 0

    def read(self, position: int) -> Any:
        self.reads += 1
        return iter(list(enumerate(self.entries, 1))[position:])


def test_records_that_their_config_cannot_judge_stop_it_unless_another_config_follows() -> None:
    entries = records(range(10))
    task = Task(config(), bands=True)
    Failing(task, START + STEP * 6)
    for position, record in enumerate(entries[:12], 1):
        Reader(Recorded(entries)).judge(task, position, record)
    with pytest.raises(PermanentError, match="robust_z.*ZeroDivisionError: mine"):
        Reader(Recorded(entries)).judge(task, 13, entries[12])

    answer = Record("default", "foreshock", CONFIG, START * S, config(budget={"environment": 8}).resolved())
    log = Recorded([*entries, answer, *records(range(10, 40))])
    task = Task(config(), bands=True)
    Failing(task, START + STEP * 6)
    reader = Reader(log)
    judged = sum(
        len(columns.rows) for n, record in log.read(0) for columns in reader.judge(task, n, record).columns
    )  # fmt: skip
    # Steps 6 to 9, and all behind the answer, which is judged by detectors that work.
    assert judged == 3 * (6 + 30)
    assert log.reads == 2  # one of them is ours


def test_a_config_that_is_about_to_change_answers_too() -> None:
    entries = records(range(10))
    task = Task(config(), bands=True)
    Failing(task, START + STEP * 6)
    reader = Reader(Recorded(entries), lambda config: True)
    judged = sum(
        len(columns.rows) for n, one in enumerate(entries, 1) for columns in reader.judge(task, n, one).columns
    )
    assert judged == 3 * 6


def test_a_config_that_cannot_be_used_is_never_passed_over() -> None:
    answer = Record("default", "foreshock", CONFIG, START * S, load([], environ={}).resolved())
    broken = Record("default", "foreshock", CONFIG, START * S, b'{"detectors": ["nobody:Knows"]}')
    with pytest.raises(PermanentError, match="detectors"):
        Reader(Recorded([broken, answer])).judge(Task(config()), 1, broken)
