"""Replay: the same results however often it is broken off, and files that agree with what was committed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from foreshock.adapters.metrics import METRICS, Reading, encode_metrics
from foreshock.errors import ConfigError, PermanentError
from foreshock.runtime.lock import lock_folder
from foreshock.runtime.replay import Replay
from foreshock.types import Columns, Control, ControlKind, Record
from foreshock.types.record import CONFIG, CONTROL
from tests.integration.rig import START, STEP, readings, settings

S = 1_000_000_000
STEPS, PACK = 150, 5
RECORDS = STEPS // PACK
FAULTS = (*range(60, 66), *range(90, 94), *range(120, 126))


def packed(step: int) -> list[Reading]:
    return [one for at in range(step, step + PACK) for one in readings(at, faults=FAULTS)]


class Killed(Exception):
    """Stands for a kill: nothing behind it runs but what the system does for a dead process."""


class Input:
    """Recorded steps; `kill` is the position at which the process dies."""

    def __init__(self, steps: int = STEPS, kill: int = -1, insert: dict[int, Record] | None = None) -> None:
        self.records = [
            Record("default", "feed", METRICS, (START + STEP * (step + PACK)) * S, encode_metrics(packed(step)))
            for step in range(0, steps, PACK)
        ]
        for position, record in sorted((insert or {}).items()):
            self.records.insert(position, record)
        self.kill = kill

    def read(self, position: int) -> Iterator[tuple[int, Record]]:
        for at in range(position, len(self.records)):
            if at == self.kill:
                raise Killed
            yield at + 1, self.records[at]


def replay(out: Path, source: Input, identity: str = "a", **more: Any) -> Replay:
    return Replay(settings(Path("unused"), snapshot={"share": 1.0}), source, out, {"input": identity}, **more)


def results(out: Path) -> tuple[bytes, Any]:
    assert sorted(path.name for path in out.iterdir()) == ["alerts.jsonl", "verdicts.parquet"]
    return (out / "alerts.jsonl").read_bytes(), pq.read_table(out / "verdicts.parquet")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit and a snapshot behind every record."""
    monkeypatch.setattr("foreshock.runtime.replay.COMMIT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    """Results of a replay that nothing happened to."""
    out = tmp_path_factory.mktemp("whole")
    report = replay(out, Input()).run()
    assert (report.records, report.resumed_from, report.alerts) == (RECORDS, 0, 3)
    alerts, verdicts = results(out)
    assert (alerts.count(b"\n"), verdicts.num_rows, report.rows) == (6, 3 * STEPS, 3 * STEPS)
    return alerts, verdicts


def broken_off(out: Path, kill: int) -> None:
    with pytest.raises(Killed):
        replay(out, Input(kill=kill)).run()


@pytest.mark.parametrize("kills", [(0,), (1,), (6, 7, 15), (14, 20, 29)])
def test_broken_off_and_called_again_it_gives_the_same(
    tmp_path: Path, whole: tuple[bytes, Any], kills: tuple[int, ...]
) -> None:
    out = tmp_path / "out"
    for kill in kills:
        broken_off(out, kill)
    report = replay(out, Input()).run()
    assert results(out) == whole
    assert report.records == RECORDS - report.resumed_from
    assert min(kills[-1], 1) <= report.resumed_from <= kills[-1]


def test_called_again_when_it_is_done_it_begins_anew(tmp_path: Path, whole: tuple[bytes, Any]) -> None:
    for _ in range(2):
        assert replay(tmp_path / "out", Input()).run().records == RECORDS
        assert results(tmp_path / "out") == whole


def test_an_unfinished_replay_of_something_else_is_not_mixed_in(tmp_path: Path, whole: tuple[bytes, Any]) -> None:
    out = tmp_path / "out"
    broken_off(out, 14)
    before = sorted(path.name for path in (out / ".replay").rglob("*"))
    with pytest.raises(ConfigError, match="unfinished replay of other input or settings.*pass --fresh"):
        replay(out, Input(), "b").run()
    other = Replay(settings(Path("unused"), budget={"environment": 9}), Input(), out, {"input": "a"})
    with pytest.raises(ConfigError, match="unfinished replay"):
        other.run()
    assert sorted(path.name for path in (out / ".replay").rglob("*")) == before
    report = replay(out, Input(), "b", fresh=True).run()
    assert (report.records, report.resumed_from) == (RECORDS, 0)
    assert results(out) == whole


def test_fresh_begins_anew_with_the_same_input_too(tmp_path: Path, whole: tuple[bytes, Any]) -> None:
    out = tmp_path / "out"
    broken_off(out, 14)
    assert replay(out, Input(), fresh=True).run().resumed_from == 0
    assert results(out) == whole


@pytest.mark.parametrize("cut", [1, 300, 10**9])
def test_alerts_are_brought_in_line_with_what_was_committed(tmp_path: Path, whole: tuple[bytes, Any], cut: int) -> None:
    out = tmp_path / "out"
    broken_off(out, 20)
    path = out / "alerts.jsonl"
    data = path.read_bytes()
    assert whole[0].startswith(data)
    path.write_bytes(data[: max(0, len(data) - cut)])  # torn, or far behind the commit
    replay(out, Input()).run()
    assert results(out) == whole


def test_parts_ahead_of_the_commit_go(tmp_path: Path, whole: tuple[bytes, Any]) -> None:
    out = tmp_path / "out"
    broken_off(out, 20)
    parts = out / ".replay" / "parts"
    last = sorted(parts.glob("*.arrow"))[-1]
    end = int(last.stem.split("-")[1])
    (parts / f"{end:015d}-{end + 9:015d}.arrow").write_bytes(last.read_bytes())  # written, and then the kill
    (parts / f"{end:015d}-{end + 5:015d}.tmp").write_bytes(b"half")
    replay(out, Input()).run()
    assert results(out) == whole


def test_killed_while_the_parts_are_joined(tmp_path: Path, whole: tuple[bytes, Any], monkeypatch: Any) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as broken:
        broken.setattr(Replay, "_join_parts", lambda self: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            replay(out, Input()).run()
    assert replay(out, Input()).run().rows == 0
    assert results(out) == whole


def test_killed_before_it_knew_what_it_replays(tmp_path: Path, whole: tuple[bytes, Any]) -> None:
    out = tmp_path / "out"
    (out / ".replay" / "parts").mkdir(parents=True)
    (out / ".replay" / "input.tmp").write_bytes(b"{")
    replay(out, Input()).run()
    assert results(out) == whole


def test_a_corrupt_snapshot_costs_time_only(tmp_path: Path, whole: tuple[bytes, Any]) -> None:
    out = tmp_path / "out"
    broken_off(out, 20)
    newest = sorted((out / ".replay" / "snapshots").glob("*.snapshot"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    assert 0 < replay(out, Input()).run().resumed_from < int(newest.stem)
    assert results(out) == whole


def test_two_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with lock_folder(out / ".lock"), pytest.raises(PermanentError, match="is in use by process"):
        replay(out, Input()).run()
    replay(out, Input(10)).run()


def test_a_defect_costs_the_record_as_it_did_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foreshock.incident.alarm import Alarm

    process = Alarm.process

    def fail(self: Alarm, columns: Columns) -> Columns:
        if (columns.rows.time_unix_nano == (START + STEP * 21) * S).any():
            raise KeyError("a defect")
        return process(self, columns)

    monkeypatch.setattr(Alarm, "process", fail)
    report = replay(tmp_path / "out", Input()).run()
    assert (report.records, report.rows, report.alerts) == (RECORDS, 3 * (STEPS - PACK), 3)


def test_a_detector_that_fails_ends_it_unless_the_log_goes_on_with_another_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foreshock.detect.robust_z import RobustZ

    step = RobustZ.step

    def fail(self: RobustZ, frame: Any) -> Any:
        if (frame.time_unix_nano == (START + STEP * 21) * S).any():
            raise ZeroDivisionError("mine")
        return step(self, frame)

    monkeypatch.setattr(RobustZ, "step", fail)
    with pytest.raises(PermanentError, match="ZeroDivisionError: mine"):
        replay(tmp_path / "out", Input(), recorded=True).run()
    answer = settings(Path("unused"), detectors=["zscore"]).resolved()
    log = Input(insert={6: Record("default", "foreshock", CONFIG, START * S, answer)})
    report = replay(tmp_path / "answered", log, recorded=True).run()
    assert (report.records, report.rows) == (RECORDS + 1, 3 * (STEPS - PACK))


def test_controls_of_a_log_are_obeyed(tmp_path: Path, whole: tuple[bytes, Any]) -> None:
    asked = Control(
        ControlKind.SILENCE, "s", (START + STEP * 50) * S, (START + STEP * 70) * S, {"host.name": "h1"}
    )  # fmt: skip
    record = Record("default", "foreshock", CONTROL, START * S, json.dumps(_plain(asked)).encode())
    replay(tmp_path / "out", Input(insert={9: record})).run()
    alerts = [json.loads(line) for line in (tmp_path / "out" / "alerts.jsonl").read_bytes().splitlines()]
    notified = [alert["foreshock"]["notified"] for alert in alerts if alert["status"] == "firing"]
    plain = [json.loads(line)["foreshock"]["notified"] for line in whole[0].splitlines()][::2]
    assert (plain[0], notified[0]) == (True, False)
    assert alerts[0]["annotations"]["silenced"] == "s"


def _plain(control: Control) -> dict[str, Any]:
    return {name: getattr(control, name) for name in control.__struct_fields__}
