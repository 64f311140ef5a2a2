"""Pictures of alerts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from foreshock.config import load
from foreshock.errors import ConfigError
from foreshock.runtime.plots import Pictures, draw
from foreshock.runtime.task import Task
from foreshock.runtime.views import POINT
from foreshock.runtime.warm import readings, warm
from foreshock.types import Alert, Status

START = 1_700_000_000_000_000_000
MINUTE = 60_000_000_000


def points(count: int = 100, first: int = 60, last: int = 70) -> np.ndarray:
    out = np.zeros(count, POINT)
    out["time_unix_nano"] = START + MINUTE * np.arange(count)
    out["value"], out["low"], out["high"] = 10.0, 8.0, 12.0
    out["value"][first:last], out["anomalous"][first:last] = 40.0, True
    out["status"][20:25] = Status.MISSING
    return out


def test_the_band_the_gap_and_the_alert_are_in_the_picture() -> None:
    axes = Figure().add_subplot()
    alert = Alert((("feature", "cpu"),), (), START + 60 * MINUTE, START, ends_unix_nano=START + 75 * MINUTE)
    draw(axes, points(), alert)
    line, over = axes.lines[0].get_ydata(), axes.lines[1].get_ydata()
    assert np.flatnonzero(np.isnan(line)).tolist() == list(range(20, 25)), "gaps are not joined"
    assert np.flatnonzero(~np.isnan(over)).tolist() == list(range(60, 70))
    (shade,) = axes.patches
    left, right = shade.get_xy()[0], shade.get_xy()[0] + shade.get_width()
    assert (right - left) * 24 * 60 == pytest.approx(15)
    assert len(axes.collections) == 1, "the band"


def test_an_open_alert_is_shaded_to_the_end_and_none_is_fine() -> None:
    axes = Figure().add_subplot()
    draw(axes, points())
    assert not axes.patches
    draw(axes, points(), Alert((("feature", "cpu"),), (), START + 60 * MINUTE, START))
    assert axes.patches[0].get_width() * 24 * 60 == pytest.approx(39)


def test_each_alert_of_a_run_has_a_picture(tmp_path: Path) -> None:
    config = load([], environ={}, overrides={"detectors": ["zscore"], "stream": {"step": 5}})
    pictures = Pictures(tmp_path / "plots")
    task = Task(config, bands=True)
    alerts = 0
    records = list(readings(2, 2, 400, 5.0))
    loud = list(readings(2, 2, 400, 5.0, seed=1))
    for k, record in enumerate(records):
        if 600 <= k < 640 and record.content_type == loud[k].content_type:
            record = type(record)(
                record.environment, record.source, record.content_type, record.received_unix_nano,
                record.payload.replace(b'"metric_0","value":1', b'"metric_0","value":91').replace(b"1e", b"9e"),
            )  # fmt: skip
        outputs = task.process(record)
        alerts += sum(alert.ends_unix_nano is None for alert in outputs.alerts)
        pictures.feed(outputs, task.pipeline.registry)
    pictures.feed(task.finish(), task.pipeline.registry)
    paths = pictures.finish()
    assert len(paths) == alerts
    assert pictures.finish() == paths, "each once"


def test_without_matplotlib_it_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.runtime.plots.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'foreshock\[data\]'"):
        Pictures(tmp_path)


def test_warming_leaves_nothing_uncompiled() -> None:
    config = load([], environ={}, overrides={"detectors": ["zscore", "robust_z"], "stream": {"step": 5}})
    task = warm(config)
    assert task.watermark > START
    assert len(task.pipeline.registry) == 6
