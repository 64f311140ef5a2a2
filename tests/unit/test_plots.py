"""Pictures of alerts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.config import load
from foreshock.errors import ConfigError
from foreshock.runtime.plots import Pictures, draw
from foreshock.runtime.rings import POINT
from foreshock.runtime.task import Task, Watermark, encode_json
from foreshock.runtime.warm import warm
from foreshock.types import Alert, Record, Status
from foreshock.types.record import WATERMARK

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
    assert isinstance(shade, Rectangle)
    assert shade.get_width() * 24 * 60 == pytest.approx(15)
    assert len(axes.collections) == 1, "the band"


def test_an_open_alert_is_shaded_to_the_end_and_none_is_fine() -> None:
    axes = Figure().add_subplot()
    draw(axes, points())
    assert not axes.patches
    draw(axes, points(), Alert((("feature", "cpu"),), (), START + 60 * MINUTE, START))
    (shade,) = axes.patches
    assert isinstance(shade, Rectangle)
    assert shade.get_width() * 24 * 60 == pytest.approx(39)


def faulty(rows: int, fault: range, fault_at_end: int) -> Iterator[Record]:
    """Readings of two hosts; `load` of the first is 100 higher during the fault, of the second from the end on."""
    rng = np.random.default_rng(0)
    for k in range(rows):
        now = START + k * 5_000_000_000
        for host, high in (("a", k in fault), ("b", k >= fault_at_end)):
            metrics = [Metric("load", {}, "1", rng.normal(10, 1) + 100 * high), Metric("temp", {}, "Cel", rng.normal())]
            reading = Reading(now, {"host.name": host}, metrics)
            yield Record("default", host, METRICS, now, encode_metrics(reading))
        yield Record("default", "foreshock", WATERMARK, now, encode_json(Watermark(now)))


def test_each_alert_of_a_run_has_a_picture(tmp_path: Path) -> None:
    config = load([], environ={}, overrides={"detectors": ["zscore"], "stream": {"step": 5}})
    pictures = Pictures(tmp_path / "plots")
    task = Task(config, bands=True)
    episodes: dict[str, Alert] = {}
    for record in faulty(600, range(300, 320), 590):
        outputs = task.process(record)
        episodes |= {alert.episode: alert for alert in outputs.alerts}
        pictures.feed(outputs, task.pipeline.registry)
    drawn = len(pictures.paths)
    paths = pictures.finish()
    assert drawn == 1, "one that ended is drawn during the run"
    assert {dict(alert.labels)["host_name"]: alert.status for alert in episodes.values()} == {
        "a": "resolved", "b": "firing",
    }  # fmt: skip
    assert [path.name.partition("-")[2] for path in paths] == ["_host.name_a_-load.png", "_host.name_b_-load.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
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
