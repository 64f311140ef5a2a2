"""The quality bench: small sets through the whole pipeline, files as others read them, and bad input told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from foreshock.bench import faults, layout, peers, quality
from foreshock.bench.layout import Case, Place
from foreshock.bench.measures import event_counts, notifications
from foreshock.bench.quality_report import environment, hit_rate
from foreshock.bench.watched import rows_of_records, watch
from foreshock.cli import app
from foreshock.config import Config, load
from foreshock.errors import BadInputError, ConfigError

ROWS, STEP = 1500, 60
FAULT = slice(1200, 1230)


@pytest.fixture(scope="module")
def config() -> Config:
    return load([], environ={}, overrides={"detectors": ["zscore"]})


def columns(metrics: int, seed: int = 0, rows: int = ROWS) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    values = {f"m{j}": 10.0 + rng.normal(0, 1, rows) for j in range(metrics)}
    for one in list(values.values())[:2]:
        one[FAULT] += 40.0
    label = np.zeros(rows, np.int8)
    label[FAULT] = 1
    return {"t": STEP * np.arange(rows), **values, "label": label}


def write(folder: Path, name: str, table: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(table), path)
    return path


def a_case(metrics: int = 3, seed: int = 0) -> Case:
    made = columns(metrics, seed)
    judged = np.arange(ROWS) >= 500
    names = tuple(f"m{j}" for j in range(metrics))
    values = np.column_stack([made[name] for name in names])
    return Case("made", f"s{seed}", made["t"].astype(float), values, names, made["label"] == 1, judged)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", "quality", *map(str, arguments)])


# -- one series ---------------------------------------------------------------------------------------------------


def test_scores_and_alarms_stand_at_the_records_they_are_about(config: Config) -> None:
    case = a_case()
    watched = watch(case, config, explain=True)
    assert watched.score.shape == watched.alarm.shape == (ROWS,)
    assert watched.alarm[FAULT.start]
    assert not watched.alarm[500 : FAULT.start].any()
    assert watched.score[FAULT].min() > np.quantile(watched.score[500 : FAULT.start], 0.99)
    assert watched.over["zscore"][FAULT.start].tolist() == [True, True, False]
    assert set(np.argsort(-watched.blame[FAULT].max(0))[:2]) == {0, 1}
    assert watched.alerts[0].starts_unix_nano == FAULT.start * STEP * 10**9
    assert watched.event is None


def test_nothing_rests_on_later_records(config: Config) -> None:
    case = a_case()
    cut = FAULT.start + 5
    short = replace(
        case, seconds=case.seconds[:cut], values=case.values[:cut], truth=case.truth[:cut], judged=case.judged[:cut]
    )
    whole, part = watch(case, config), watch(short, config)
    np.testing.assert_array_equal(part.score, whole.score[:cut])
    np.testing.assert_array_equal(part.alarm, whole.alarm[:cut])


def test_two_records_in_one_step_wait_for_the_second() -> None:
    # Steps of 60 s: 60 and 75 share one, whose row stands at its start; 180 stands there twice.
    at = rows_of_records(np.array([0, 60, 121, 180]), np.array([0, 60, 75, 121, 180, 180]))
    assert at.tolist() == [0, 0, 1, 2, 3, 3]
    assert rows_of_records(np.array([60]), np.array([10, 60])).tolist() == [-1, 0]


def test_events_are_told_once(tmp_path: Path) -> None:
    made = a_case(1)
    t = np.arange(6000)
    values = np.sin(2 * np.pi * t / 288) + 0.05 * np.random.default_rng(3).normal(size=6000)
    values[5000:] += 12.0
    truth = np.zeros(6000, bool)
    truth[5000:5100] = True
    case = replace(
        made,
        seconds=300.0 * t.astype(np.float64),
        values=values[:, None],
        truth=truth,
        judged=t >= 900,
        windows=((1.5e6, 1.53e6),),
    )
    events = load([], environ={}, overrides={"detectors": [{"deviation": {"tier": "events"}}]})
    paging, told = quality.ours(case, events, tmp_path, None)
    assert (paging.method, told.method) == ("foreshock", "foreshock events")
    assert told.scored is not None
    rows = np.flatnonzero(told.scored.score)
    assert 5000 <= rows[rows >= 4900][0] <= 5003
    assert len(notifications(told.scored.score > 0, 1)) < 10
    assert pq.read_table(tmp_path / "made" / "foreshock_events" / "s0.parquet").num_rows == 6000


# -- faults -------------------------------------------------------------------------------------------------------


def test_faults_are_seeded_and_stay_in_quiet_parts() -> None:
    long = replace(
        a_case(4), seconds=60.0 * np.arange(20_000, dtype=np.float64),
        values=np.random.default_rng(0).normal(size=(20_000, 4)),
        truth=(np.arange(20_000) % 5000) < 10, judged=np.arange(20_000) > 2000,
    )  # fmt: skip
    planned = faults.plan(long, 0)
    assert planned == faults.plan(long, 0)
    assert planned != faults.plan(long, 1)
    assert len(planned) > 8
    assert {fault.kind for fault in planned} == set(faults.KINDS)
    for fault in planned:
        assert fault.end - fault.start == 30
        assert not long.truth[fault.start - 360 : fault.end + 360].any()
        assert long.judged[fault.start]


def test_what_is_put_in_is_what_was_said() -> None:
    case = replace(a_case(3), values=np.random.default_rng(1).normal(5, 2, (ROWS, 3)))
    rows = {"shift": (600, 630), "stuck": (700, 730), "noise": (800, 830)}
    planned = [faults.Fault(kind, *rows[kind], 1, -1.0) for kind in faults.KINDS]
    values = faults.inject(case, planned)
    before, after = case.values[:, 1], values[:, 1]
    day = np.std(before[0:600])
    np.testing.assert_allclose(after[600:630], before[600:630] - 8 * day)
    assert set(after[700:730]) == {before[699]}
    assert np.var(after[800:830]) == pytest.approx(4 * np.var(before[800:830]))
    assert after[800:830].mean() == pytest.approx(before[800:830].mean())
    touched = np.zeros(ROWS, bool)
    for start, end in rows.values():
        touched[start:end] = True
    np.testing.assert_array_equal(after[~touched], before[~touched])
    np.testing.assert_array_equal(values[:, [0, 2]], case.values[:, [0, 2]])


def test_a_metric_that_stands_still_cannot_be_stuck() -> None:
    long = replace(
        a_case(1), seconds=60.0 * np.arange(20_000, dtype=np.float64), truth=np.zeros(20_000, bool),
        judged=np.arange(20_000) > 2000,
        values=np.repeat(np.random.default_rng(0).normal(size=200), 100)[:, None],
    )  # fmt: skip
    assert {fault.kind for fault in faults.plan(long, 0)} == {"shift"}
    assert faults.plan(replace(long, values=np.ones((20_000, 1))), 0) == []


def test_only_new_alarms_find_a_fault() -> None:
    planned = [faults.Fault("shift", 10, 13, 0, 1.0), faults.Fault("shift", 20, 23, 0, 1.0)]
    alarm = np.zeros(30, bool)
    alarm[[11, 21]] = True
    without = np.zeros(30, bool)
    without[21] = True
    assert faults.tallies(planned, alarm, without)[0] == faults.Tally("shift", 2, 1)


# -- budgets ------------------------------------------------------------------------------------------------------


def test_series_of_other_times_are_one_environment(config: Config, tmp_path: Path) -> None:
    early, late = a_case(2, 0), a_case(2, 1)
    late = replace(late, seconds=late.seconds + 5e8 - 5e8 % 86400)
    # What is labelled here is elsewhere: both alerts are of quiet times.
    early, late = (replace(one, truth=np.arange(ROWS) < 600) for one in (early, late))
    owns = [quality.ours(one, config, tmp_path, None)[0].own for one in (early, late)]
    told, days = environment([own for own in owns if own is not None], config)
    assert told == [True]  # both begin in the same minute: one group, one notification
    assert days == pytest.approx((ROWS - 501) / 1440)
    assert owns[0] is not None
    assert owns[0].entity.notified == 1
    assert owns[0].entity.days == pytest.approx((ROWS - 610) / 1440)
    assert owns[0].series["zscore"].notified == 2


def test_hit_rates() -> None:
    assert hit_rate(["a", "b", "c"], ["c"], 1.0) == 0.0
    assert hit_rate(["a", "b", "c"], ["c", "b"], 1.5) == 1.0


# -- peers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [pytest.param(one, id=one.name) for one in peers.PEERS.values()])
@pytest.mark.parametrize("metrics", [1, 3])
def test_peers_see_a_large_fault_and_no_later_records(peer: peers.Peer, metrics: int) -> None:
    pytest.importorskip(peer.package)
    case = a_case(metrics)
    score, alarm, seconds = peers.run(peer, case)
    assert event_counts(case.truth[case.judged], alarm[case.judged], STEP).found == 1
    assert seconds > 0
    cut = FAULT.start + 10
    short = replace(
        case, seconds=case.seconds[:cut], values=case.values[:cut], truth=case.truth[:cut], judged=case.judged[:cut]
    )
    np.testing.assert_allclose(peers.run(peer, short)[0], score[:cut], rtol=1e-6, atol=1e-9)


def test_the_usual_alarm_of_peers_looks_back_only() -> None:
    score = np.r_[np.arange(200.0), 0.0, 500.0, np.zeros(98)]
    alarm = peers.alarms(score, 100)
    assert alarm[100:200].all()
    assert np.flatnonzero(alarm[200:]).tolist() == [1]


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    for seed in range(2):
        made = columns(3, seed)
        write(data / "fleet" / "dev", f"server-{seed}", made | {"split": (np.arange(ROWS) >= 400).astype(np.int8)})
    first = FAULT.start - 400
    explained = {"server-0": [{"start": first, "end": first + 29, "metrics": ["m0", "m1"]}]}
    (data / "fleet" / "dev" / "interpretation.json").write_text(json.dumps(explained))
    made = columns(1, 5)
    write(data / "clocks" / "dev", "real__a", {"t": made["t"], "value": made["m0"], "label": made["label"]})
    moments = ["1970-01-01 19:50:00.000000", "1970-01-01 20:40:00.000000"]
    (data / "clocks" / "dev" / "windows.json").write_text(json.dumps({"real/a.csv": [moments]}))
    write(data / "other" / "dev", "x", {"when": [1, 2], "y": [1.0, 2.0]})
    return data


def test_the_command_prints_and_writes_everything(data: Path, tmp_path: Path) -> None:
    ran = run("--data", data, "--out", tmp_path, "--detector", "zscore", "--no-peers", "--jobs", "1", "--json")
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    assert said == json.loads((tmp_path / "quality.json").read_text())
    assert list(said["sets"]) == ["clocks", "fleet"], "what is not of the layout is left alone"
    fleet = said["sets"]["fleet"]["foreshock"]
    assert (fleet["series"], fleet["metrics"], fleet["events"], fleet["found"]) == (2, 3, 2, 2)
    assert fleet["f1"] == 1.0
    assert fleet["cpu_seconds_per_million"] > fleet["detector_seconds_per_million"] > 0
    assert said["nab"]["clocks"]["foreshock"]["own_alarms"] > 90
    assert said["explained"]["fleet"]["hit_rate_100"] == 1.0
    assert set(said["budgets"]["fleet"]["series"]) == {"zscore"}
    assert said["budgets"]["fleet"]["entity"] == 0.0
    files = pq.read_table(tmp_path / "fleet" / "foreshock" / "server-0.parquet")
    assert (files.column_names, files.num_rows) == (["score", "alarm"], ROWS)
    assert json.loads((tmp_path / "fleet" / "explained.json").read_text())["server-0"][0][2] == "m2"


def test_bad_files_are_told_and_the_rest_is_run(data: Path, tmp_path: Path) -> None:
    made = columns(1)
    (tmp_path / "mine" / "dev").mkdir(parents=True)
    broken = tmp_path / "mine" / "dev" / "broken.parquet"
    broken.write_bytes(b"PAR1 no")
    write(tmp_path / "mine" / "dev", "fine", {"t": made["t"], "value": made["m0"], "label": made["label"]})
    where = ("--data", tmp_path, "--out", tmp_path / "out", "--detector", "zscore", "--no-peers", "--jobs", "2")
    ran = run(*where)
    assert ran.exit_code == 1
    assert "left out: mine/broken (foreshock): not a Parquet file that can be read" in ran.stdout
    assert "mine         foreshock" in ran.stdout


def test_a_peer_that_is_not_installed_is_said(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    ran = run("--data", data, "--dataset", "clocks", "--out", tmp_path, "--detector", "zscore", "--jobs", "1")
    assert ran.exit_code == 0, ran.output
    assert "river HST: not installed, left out (pip install river)" in ran.stdout
    assert "foreshock" in ran.stdout


def test_wrong_folders_are_told(data: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((data, "dev", ("fleets",)), "has no set 'fleets'; did you mean 'fleet'?"),
        ((data, "test", ("fleet",)), "no series in half 'test'; halves: dev"),
        ((data / "other", "dev"), "no set in .* has labelled series"),
        ((data / "nowhere", "dev"), "is no folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            layout.find(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": None}, "no column t; there are"),
        ({"label": None}, "no column label"),
        ({"m0": None}, "no column value or m0, m1 …"),
        ({"label": np.full(ROWS, 2)}, "label holds 2: it must be 0 or 1"),
        ({"label": ["no"] * ROWS}, "column label holds string, not numbers"),
        ({"label": pa.array([None] * ROWS, pa.int8())}, "label is empty in 1500 rows"),
        ({"t": np.arange(ROWS)[::-1]}, "row 2 is earlier than one before it"),
        ({"t": np.zeros(ROWS)}, "all rows have the same t"),
        ({"t": np.full(ROWS, np.nan)}, "t holds what is no time"),
        ({"m0": np.full(ROWS, np.nan)}, "no value is a number"),
        ({"m0": ["a"] * ROWS}, "column m0 holds string, not numbers"),
        ({"split": np.zeros(ROWS, int)}, "split is 0 in all rows"),
        ({"split": np.r_[1, np.zeros(ROWS - 1, int)]}, "split goes back from 1 to 0"),
    ],
)
def test_series_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    table = {name: one for name, one in (columns(1) | change).items() if one is not None}
    with pytest.raises(BadInputError, match=message.replace("(", r"\(")):
        layout.read(Place("made", write(tmp_path, "x", table)))


def test_odd_labels_are_said_and_used(tmp_path: Path) -> None:
    made = columns(1)
    made["t"][700] = made["t"][699]
    made["label"] = np.r_[np.zeros(700, int), np.ones(ROWS - 700, int)]
    case = layout.read(Place("made", write(tmp_path, "x", made)))
    assert case.notes == ("1 times stand there twice, labelled 0 and 1",)
    made["t"][900:903] -= 3600
    case = layout.read(Place("made", write(tmp_path, "x", made)))
    assert case.notes[0] == "3 rows are earlier than one before them: they come too late and are not judged"
    watched = watch(case, load([], environ={}))
    assert len(watched.score) == ROWS
    assert set(watched.score[900:903]) == {watched.score[899]}
    made["t"][900:903] += 3600
    made["label"][:] = 1
    case = layout.read(Place("made", write(tmp_path, "x", made)))
    assert case.notes == ("every judged row is labelled: there is nothing that a false alarm could be in",)
    assert case.judged.sum() == ROWS - 225


def test_what_stands_beside_a_series_must_fit_it(tmp_path: Path) -> None:
    place = Place("made", write(tmp_path, "x", columns(1)))
    for name, content, message in (
        ("windows.json", {"y.csv": []}, "does not name x"),
        ("windows.json", {"x.csv": [["2030-01-01 00:00:00", "2030-01-02 00:00:00"]]}, "outside of its series"),
        ("windows.json", {"x.csv": [["soon", "later"]]}, "windows.json: x: Invalid isoformat"),
        ("interpretation.json", {"x": [{"start": 5000, "end": 5001, "metrics": ["m0"]}]}, "does not fit the series"),
        ("interpretation.json", {"x": [{"start": 5, "end": 6, "metrics": ["m7"]}]}, "does not fit the series"),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        with pytest.raises(BadInputError, match=message):
            layout.read(place)
        (tmp_path / name).unlink()
    (tmp_path / "windows.json").write_text("{")
    with pytest.raises(BadInputError, match="is no JSON"):
        layout.read(place)


def test_times_may_be_timestamps(tmp_path: Path) -> None:
    made = columns(1)
    seconds = layout.read(Place("made", write(tmp_path, "x", made))).seconds
    made["t"] = pa.array(made["t"] * 1000, pa.timestamp("ms"))
    np.testing.assert_array_equal(layout.read(Place("made", write(tmp_path, "y", made))).seconds, seconds)
