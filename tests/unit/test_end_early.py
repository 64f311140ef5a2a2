"""Maintenance and silences that are ended early: by event time, whatever had been decided, and the same in a replay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from foreshock.runtime.task import Outputs, Task
from foreshock.types import Alert, Control, ControlKind, Status
from tests.integration.rig import START, STEP, Rig, running, settings

S = 1_000_000_000
LATENESS = 3 * STEP
FAULTS = tuple(range(60, 66))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    feed = {"type": "http", "name": "feed", "lateness": f"{LATENESS}s"}
    with running(settings(tmp_path / "data", sources=[feed])) as one:
        yield one


def at(step: int) -> int:
    return (START + STEP * step) * S


def told(rig: Rig, kind: ControlKind, since: int, until: int) -> Control:
    return rig.engine.control(Control(kind, "m", at(since), at(until), {"host.name": "h1"}))


def play(rig: Rig, first: int, last: int) -> None:
    for n in range(first, last):
        rig.step(n, FAULTS)
    rig.judged()


def statuses(rig: Rig) -> dict[int, Status]:
    """By step, the status of the rows of h1, as a replay of the whole log decides it."""
    task, found = Task(rig.config), dict[int, Status]()
    for _, record in rig.log.read(0):
        outputs = task.process(record)
        for columns in outputs.columns:
            rows, entities = columns.rows, task.pipeline.registry.entities
            for i, entity in enumerate(rows.entity.tolist()):
                if dict(entities[entity])["host.name"] == "h1":
                    step = (int(rows.time_unix_nano[i]) // S - START) // STEP
                    found[step] = Status(int(rows.status[i]))
    return found


def test_maintenance_that_is_ended_early_holds_up_to_there(rig: Rig) -> None:
    play(rig, 0, 40)
    told(rig, ControlKind.MAINTENANCE, 42, 100)
    play(rig, 40, 50)
    rig.clock.set(START + STEP * 45 + 1)  # asked for behind what is decided: it cannot be undone
    mark = rig.engine.ticker.watermark
    ended = rig.engine.end_control("m", "ann")
    assert ended is not None
    assert (ended.effective_unix_nano, ended.until_unix_nano) == (at(42), mark + LATENESS * S + 1)
    assert ended.author == "ann"
    play(rig, 50, 60)
    found = statuses(rig)
    assert {step for step, status in found.items() if status is Status.EXCLUDED} == {
        step for step in found if at(42) <= at(step) < ended.until_unix_nano
    }
    assert found[max(found)] is Status.SCORED
    rig.committed()
    assert [one.until_unix_nano for one in rig.store.controls()] == [ended.until_unix_nano], "one record, changed"


def test_an_alert_within_a_silence_stays_silenced_though_it_is_told_after_the_end(rig: Rig) -> None:
    play(rig, 0, 50)
    told(rig, ControlKind.SILENCE, 50, 100)
    play(rig, 50, 64)  # the alert is decided; the watermark, three steps behind, has yet to pass it
    ended = rig.engine.end_control("m")
    assert ended is not None
    play(rig, 64, 90)
    rig.committed()
    silenced = [alert for _, alert in rig.store.events() if dict(alert.labels).get("host_name") == "h1"]
    assert silenced
    first = silenced[0]
    assert first.decided_unix_nano < ended.until_unix_nano
    assert (dict(first.annotations).get("silenced"), first.notified) == ("m", False)


def test_what_has_yet_to_begin_is_withdrawn_and_what_is_over_is_left_alone(rig: Rig) -> None:
    play(rig, 0, 40)
    told(rig, ControlKind.MAINTENANCE, 55, 58)
    withdrawn = rig.engine.end_control("m")
    assert withdrawn is not None
    assert withdrawn.effective_unix_nano == withdrawn.until_unix_nano
    play(rig, 40, 60)
    assert Status.EXCLUDED not in statuses(rig).values()
    assert rig.engine.end_control("m") == withdrawn, "once more changes nothing"
    assert rig.engine.end_control("unknown") is None
    rig.engine.control(Control(ControlKind.LABEL, "l", at(1), label="true", matchers={"host.name": "h1"}))
    assert rig.engine.end_control("l") is None, "a label has no end"


def test_the_same_record_sent_twice_is_one(rig: Rig) -> None:
    play(rig, 0, 40)
    first = told(rig, ControlKind.SILENCE, 38, 60)
    play(rig, 40, 50)
    assert told(rig, ControlKind.SILENCE, 38, 60) == first
    rig.committed()
    assert rig.store.controls() == [first]


def test_a_restart_knows_what_can_be_ended_and_says_the_same(tmp_path: Path) -> None:
    config = settings(tmp_path / "data")
    with running(config) as rig:
        play(rig, 0, 40)
        told(rig, ControlKind.MAINTENANCE, 40, 100)
        play(rig, 40, 58)
        rig.committed()
    with running(config) as rig:
        rig.clock.set(START + STEP * 58)
        ended = rig.engine.end_control("m")
        assert ended is not None
        assert (ended.effective_unix_nano, ended.until_unix_nano) == (at(40), at(58))
        play(rig, 58, 90)
        rig.committed()
        said = [alert for _, alert in rig.store.events()]
        assert [alert for alert in said if alert.starts_unix_nano >= at(58)], "what comes after its end is told"
        assert replayed(rig) == said


def replayed(rig: Rig) -> list[Alert]:
    """The alerts of the whole log, read once more."""
    task, out = Task(rig.config), list[Alert]()
    for _, record in rig.log.read(0):
        outputs: Outputs = task.process(record)
        out += outputs.alerts
    return out
