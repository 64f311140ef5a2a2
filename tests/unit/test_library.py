"""`foreshock.replay`: data frames in, data frames out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import foreshock
from foreshock.cli.replay import CHUNK_ROWS
from foreshock.config import load
from foreshock.errors import BadInputError, ConfigError

ROWS = 1500
FAULT = slice(1200, 1220)


def telemetry(seed: int = 0, fault: slice = FAULT, rows: int = ROWS) -> pd.DataFrame:
    """Two metrics a minute; `cpu` is 30 higher during the fault, which `bad` marks."""
    rng = np.random.default_rng(seed)
    cpu, bad = rng.normal(10, 1, rows), np.zeros(rows, int)
    cpu[fault] += 30
    bad[fault] = 1
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC")
    return pd.DataFrame({"cpu": cpu, "mem": rng.normal(50, 2, rows), "bad": bad}, index=index)


@pytest.fixture(scope="module")
def judged() -> foreshock.Replayed:
    return foreshock.replay(telemetry(), labels="bad")


def test_a_fault_becomes_an_alert_and_the_measures_say_so(judged: foreshock.Replayed) -> None:
    frame = telemetry()
    assert judged.alerts["feature"].tolist() == ["cpu"]
    alert = judged.alerts.iloc[0]
    assert alert["starts"] == frame.index[FAULT.start]
    assert frame.index[FAULT.stop] <= alert["ends"] < frame.index[FAULT.stop + 10]
    assert str(alert["summary"]).startswith("cpu of frame is ")
    assert ", expected " in str(alert["summary"])
    assert judged.measures is not None
    vus, auc = judged.measures.vus_pr, judged.measures.auc_pr
    assert judged.measures == foreshock.Measures(1, 1, 0, 1.0, 1.0, 1.0, 0.0, 0.0, vus, auc)
    assert min(vus, auc) > 0.9


def test_verdicts_have_one_row_per_input_row(judged: foreshock.Replayed) -> None:
    assert len(judged.verdicts) == ROWS
    assert judged.verdicts["time"].tolist() == telemetry().index.tolist()
    over = judged.verdicts["anomalous"].to_numpy()
    assert over[FAULT].all()
    assert not over[: FAULT.start].any()
    assert set(judged.verdicts["status"]) == {"warming_up", "scored"}


def test_labels_are_never_seen_by_a_detector(judged: foreshock.Replayed) -> None:
    assert judged.report.notes == ("frame.parquet: time = time (timestamp[us]); entity = file name; values = cpu, mem",)
    by_list = foreshock.replay(telemetry().drop(columns="bad"), labels=telemetry()["bad"].astype(bool).tolist())
    assert by_list.measures == judged.measures
    pd.testing.assert_frame_equal(by_list.verdicts, judged.verdicts)


def test_events_missed_and_false_alarms_are_counted() -> None:
    frame = telemetry()
    elsewhere = np.zeros(ROWS, bool)
    elsewhere[700:710] = True
    measures = foreshock.replay(frame.drop(columns="bad"), labels=elsewhere.tolist()).measures
    assert measures is not None
    assert (measures.events, measures.found, measures.false_alarms) == (1, 0, 1)
    assert (measures.recall, measures.precision, measures.f1) == (0.0, 0.0, 0.0)
    assert measures.false_alarms_per_day == pytest.approx(1440 / (ROWS - 225))
    assert np.isnan(measures.delay_seconds)


def test_entities_by_column_with_labels_in_any_order_of_rows() -> None:
    # All of one room after all of the other, and more rows than are read at a time.
    rooms = {"a": telemetry(1, rows=3000), "b": telemetry(2, slice(900, 920), rows=3000)}
    frame = pd.concat(rooms, names=["room", "when"]).reset_index()
    assert len(frame) > CHUNK_ROWS
    result = foreshock.replay(frame, labels="bad", time="when", entity="room", detectors=["zscore"])
    assert set(result.verdicts["entity"]) == {'{room="a"}', '{room="b"}'}
    assert sorted(result.alerts["entity"]) == ['{room="a"}', '{room="b"}']
    assert result.measures is not None
    assert (result.measures.events, result.measures.found, result.measures.false_alarms) == (2, 2, 0)


def test_long_form_with_several_columns_of_the_entity() -> None:
    wide = telemetry().rename_axis("time").reset_index()
    frame = wide.melt(id_vars=["time", "bad"], var_name="metric", value_name="value").assign(site="x", room="r")
    result = foreshock.replay(frame, labels="bad", entity=["site", "room"])
    assert set(result.verdicts["entity"]) == {'{room="r",site="x"}'}
    assert result.alerts["feature"].tolist() == ["cpu"]
    assert result.measures is not None
    assert (result.measures.events, result.measures.found) == (1, 1)


@pytest.mark.parametrize(
    "detectors",
    [
        ["tests.unit.own_detector:Jump"],
        [{"type": "tests.unit.own_detector:Jump", "name": "jump", "gain": 0.05}],
        [{"zscore": {"threshold": 5.0}}],
    ],
)
def test_detectors_as_in_a_config(detectors: Any) -> None:
    result = foreshock.replay(telemetry(), detectors, "bad")
    assert result.measures is not None
    assert result.measures.found == 1


def test_nothing_is_raised_nor_counted_before_train_until() -> None:
    frame = telemetry()
    until = frame.index[FAULT.stop + 50]
    for moment in (until, until.tz_localize(None), str(until)):
        result = foreshock.replay(frame, labels="bad", train_until=moment)
        assert result.alerts.empty
        assert result.measures is not None
        assert result.measures.events == 0


def test_a_config_counts_and_excludes_separate_settings() -> None:
    config = load([], environ={}, overrides={"ignore": ["cpu"]})
    assert foreshock.replay(telemetry(), config=config, labels="bad").alerts.empty
    with pytest.raises(ConfigError, match="not both"):
        foreshock.replay(telemetry(), ["zscore"], config=config)


def test_wrong_input_is_told() -> None:
    frame = telemetry()
    with pytest.raises(BadInputError, match="no column 'badd' for the labels; there are time, cpu, mem, bad"):
        foreshock.replay(frame, labels="badd")
    with pytest.raises(BadInputError, match="2 labels for 1500 rows"):
        foreshock.replay(frame, labels=[True, False])
    with pytest.raises(ConfigError, match="did you mean 'zscore'"):
        foreshock.replay(frame, ["zscor"])
    with pytest.raises(BadInputError, match="no column 'rooom': there are time, cpu, mem, bad"):
        foreshock.replay(frame, entity="rooom")
    with pytest.raises(BadInputError, match="called 'cpu'"):
        foreshock.replay(frame.rename_axis("cpu"))


def test_plot_draws_each_entity_with_its_alerts(judged: foreshock.Replayed) -> None:
    figure = judged.plot()
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == '{entity="frame"}'
    assert np.shape(axes.lines[0].get_xydata()) == (ROWS, 2)
    assert len(axes.patches) == len(judged.alerts)
    assert len(judged.plot('{entity="frame"}').axes) == 1


def test_without_pandas_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.testing.replay.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'foreshock\[data\]'"):
        foreshock.replay(telemetry())


def test_import_is_cheap_and_names_are_exported() -> None:
    code = "import sys, foreshock; print(sum('foreshock' in m for m in sys.modules), 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
    assert {"replay", "Replayed", "Measures", "__version__"} <= set(dir(foreshock))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = foreshock.nonsense  # type: ignore[attr-defined]


def test_detectors_are_counted_against_the_labels() -> None:
    detectors: list[Any] = ["robust_z", {"type": "zscore", "name": "jumpy", "threshold": 1.5, "role": "shadow"}]
    result = foreshock.replay(telemetry(), detectors, "bad")
    first, second = result.report.detectors
    assert (first["name"], first["role"], first["true_positives"], first["false_positives"]) == (
        "robust_z", "primary", 1, 0,
    )  # fmt: skip
    assert (second["role"], second["true_positives"]) == ("shadow", 1)
    assert second["false_positives"] > 20
    assert result.measures is not None
    assert result.measures.false_alarms == 0, "a shadow raises nothing"
    each = result.verdicts["detectors"].iloc[FAULT.start]
    assert [(one["detector"], one["anomalous"]) for one in each] == [("robust_z", True), ("jumpy", True)]


def test_labels_in_a_file_of_their_own(tmp_path: Path, judged: foreshock.Replayed) -> None:
    frame = telemetry()
    spans = pd.DataFrame({"start": [frame.index[FAULT.start]], "end": [frame.index[FAULT.stop - 1]]})
    spans.to_csv(tmp_path / "labels.csv", index=False)
    result = foreshock.replay(frame.drop(columns="bad"), labels=tmp_path / "labels.csv")
    assert result.measures == judged.measures
