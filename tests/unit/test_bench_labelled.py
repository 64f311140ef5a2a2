"""A user's own labels: a column of the data, a file of moments, a file of stretches; met with what a replay said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from foreshock.adapters.mapping import MappingOptions
from foreshock.bench.labelled import Judged, Truth, labels_in_file, labels_in_tables, measure
from foreshock.cli import app
from foreshock.errors import BadInputError
from tests.telemetry import START, machine

S = 1_000_000_000
MAPPING = MappingOptions()


def written(path: Path, **columns: Any) -> Path:
    table = pa.table(columns)
    pq.write_table(table, path) if path.suffix == ".parquet" else pcsv.write_csv(table, path)
    return path


def truth_of(moments: list[int] = [], stretches: list[tuple[int, int]] = []) -> Truth:  # noqa: B006
    truth = Truth()
    if moments:
        truth.add("e", np.array(moments) * S, np.ones(len(moments), bool))
    truth.stretches["e"] = [(a * S, b * S) for a, b in stretches]
    return truth


def test_labels_meet_the_rows_they_lie_in() -> None:
    times = np.arange(0, 600, 60) * S
    assert np.flatnonzero(truth_of([0, 60, 130, 700]).of("e", times)).tolist() == [0, 1, 2], "700 is behind the rows"
    assert np.flatnonzero(truth_of(stretches=[(60, 180)]).of("e", times)).tolist() == [1, 2, 3]
    assert np.flatnonzero(truth_of(stretches=[(70, 80)]).of("e", times)).tolist() == [1], "shorter than a step"
    assert not truth_of([0]).of("another", times).any()


def test_measures_by_hand() -> None:
    times = np.arange(1000) * 60 * S
    alarm, score = np.zeros(1000, bool), np.zeros(1000)
    alarm[[405, 406, 700]] = True
    score[400:420], score[700] = 2.0, 1.0
    truth = truth_of(stretches=[(400 * 60, 419 * 60), (900 * 60, 909 * 60)])
    said = measure({"e": Judged(times, alarm, score)}, truth)
    assert (said.events, said.found, said.false_alarms) == (2, 1, 1)
    assert (said.recall, said.precision, said.f1) == (0.5, 0.5, 0.5)
    assert said.false_alarms_per_day == pytest.approx(1440 / 850)  # the first 150 rows are not judged
    assert said.delay_seconds == 300.0
    # 20 of 30 labelled rows at the first threshold, all at the last.
    assert said.auc_pr == pytest.approx(20 / 30 + 10 / 30 * 30 / 850)
    later = measure({"e": Judged(times, alarm, score)}, truth, 800 * 60 * S)
    assert (later.events, later.found, later.false_alarms) == (1, 0, 0)
    none = measure({"e": Judged(times, alarm, score)}, Truth())
    assert (none.events, none.false_alarms) == (0, 2)
    assert math.isnan(none.vus_pr)


def test_a_column_by_entity_in_csv_and_parquet(tmp_path: Path) -> None:
    columns = {"t": [10, 10, 20, 20], "service": ["007", "b", "007", "b"], "v": [1.0, 2.0, 3.0, 4.0]}
    for name, label in (("a.csv", [False, True, True, False]), ("b.parquet", [0, 1, 1, 0]), ("c.csv", [0, 1, None, 0])):
        path = written(tmp_path / name, **columns, bad=label)
        truth = labels_in_tables([path], MAPPING.model_copy(update={"skip": ("bad",)}), "bad")
        assert list(truth.moments) == ['{service="007"}', '{service="b"}']
        assert truth.moments['{service="b"}'][1].tolist() == [True, False]
        assert truth.moments['{service="007"}'][1].tolist() == [False, name != "c.csv"], name


def test_a_column_of_ndjson(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    rows = ({"time": START + 60 * k, "v": k, "label": int(k == 3)} for k in range(5))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    truth = labels_in_tables([path], MAPPING, "label")
    assert truth.moments['{entity="a"}'][1].tolist() == [False, False, False, True, False]


def test_labels_that_contradict_are_counted_and_count(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", t=[1, 1, 2], v=[1.0, 2.0, 3.0], label=[1, 0, 0])
    truth = labels_in_tables([path], MAPPING, "label")
    assert truth.moments['{entity="a"}'][1].tolist() == [True, False]
    assert truth.notes(['{entity="a"}']) == ("1 moments are labelled both 0 and 1: they count as 1",)


def test_files_of_moments_and_of_stretches(tmp_path: Path) -> None:
    moments = written(tmp_path / "m.csv", time=[60, 120], label=[0, 1])
    assert labels_in_file(moments, MAPPING).moments[None][0].tolist() == [60 * S, 120 * S]
    assert labels_in_file(moments, MAPPING).of("any", np.arange(0, 300, 60) * S).tolist() == [0, 0, 1, 0, 0]
    named = written(tmp_path / "n.csv", time=[60, 120], label=[1, 1], service=["a", "b"])
    assert list(labels_in_file(named, MAPPING).moments) == ['{service="a"}', '{service="b"}']
    stretches = written(tmp_path / "s.csv", start=["2026-03-01T00:00:00Z"], end=["2026-03-01T01:00:00Z"], host=["007"])
    truth = labels_in_file(stretches, MAPPING)
    (name, ((start, end),)) = next(iter(truth.stretches.items()))
    assert (name, end - start) == ('{host="007"}', 3600 * S)
    assert truth.notes(['{host="7"}']) == ('labels of 1 entities that are not in the data: {host="007"} …',)
    alone = written(tmp_path / "t.parquet", begin=[100.0], end=[100.0])
    assert labels_in_file(alone, MAPPING).stretches == {None: [(100 * S, 100 * S)]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"time": [1], "label": [3]}, "holds 3: labels are 0 or 1"),
        ({"time": [1], "label": ["maybe"]}, "holds 'maybe': labels are 0 or 1, true or false"),
        ({"time": [1], "v": [3]}, "neither start and end nor a column of labels; there are time, v"),
        ({"start": [5], "end": [4]}, "row 1 ends before it starts"),
        ({"start": ["soon"], "end": ["later"]}, "row 1: start is no time"),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        labels_in_file(written(tmp_path / "x.csv", **columns), MAPPING)


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine with shifts at 600 and 1300, labelled in a column `label` and, otherwise, in `wrong`."""
    columns = machine(0, 1500, metrics=2)
    rows = np.arange(1500)
    right = ((rows >= 600) & (rows < 620)) | ((rows >= 1300) & (rows < 1320))
    return written(
        tmp_path_factory.mktemp("labelled") / "m.parquet", **columns, label=right.astype(int), wrong=np.roll(right, 300)
    )


def replay(*arguments: object) -> Result:
    ran = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    assert ran.exit_code == 0, ran.output
    return ran


def test_replay_measures_by_the_usual_column(labelled: Path, tmp_path: Path) -> None:
    said = json.loads(replay(labelled, "--out", tmp_path, "--json").stdout)["measures"]
    assert (said["events"], said["found"], said["false_alarms"], said["f1"]) == (2, 2, 0, 1.0)
    assert said["vus_pr"] > 0.5
    text = replay(labelled, "--out", tmp_path).stdout
    assert "2 of 2 labelled events found, median delay 0 s; 0 false alarms, 0 an entity and day" in text
    assert "recall 1.000, precision 1.000, F1 1.000, VUS-PR " in text


def test_replay_measures_by_another_column_and_by_a_file(labelled: Path, tmp_path: Path) -> None:
    said = json.loads(replay(labelled, "--out", tmp_path, "--json", "--label", "wrong").stdout)
    assert (said["measures"]["found"], said["measures"]["false_alarms"]) == (0, 2)
    assert "skipped = label, wrong" in said["notes"][0]
    file = written(tmp_path / "l.csv", start=[START + 60 * 1300], end=[START + 60 * 1319])
    said = json.loads(replay(labelled, "--out", tmp_path, "--json", "--labels", file).stdout)["measures"]
    assert (said["events"], said["found"], said["false_alarms"]) == (1, 1, 1)


def test_a_label_that_is_none_is_said_and_nothing_measured(tmp_path: Path) -> None:
    columns = machine(0, 300, metrics=1)
    path = written(tmp_path / "m.csv", **columns, label=np.arange(300))
    said = json.loads(replay(path, "--out", tmp_path / "out", "--json").stdout)
    assert said["measures"] is None
    assert "not measured: " in said["notes"][-1]
    ran = CliRunner().invoke(app, ["replay", str(path), "--out", str(tmp_path / "out"), "--label", "labl"])
    assert isinstance(ran.exception, BadInputError)
    assert "no column 'labl' for the labels" in str(ran.exception)
