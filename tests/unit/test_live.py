"""The live terminal view: the sentence first and whole, columns that stand still."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from foreshock.cli.live import Recent, Screen, Standing
from foreshock.config import load
from foreshock.runtime.figures import budget_line
from foreshock.runtime.views import Views
from foreshock.types import Samples, Series


def shown(screen: Screen, width: int, height: int) -> list[str]:
    with open(os.devnull, "w") as nothing:
        console = Console(width=width, height=height, record=True, file=nothing)
        console.print(screen)
        return console.export_text().splitlines()


@pytest.fixture(scope="module")
def picture() -> Screen:
    path = Path(__file__).parents[2] / "scripts" / "picture.py"
    spec = importlib.util.spec_from_file_location("picture", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    screen: Screen = module.screen(load([], preset="host", environ={}))
    return screen


@pytest.mark.parametrize(("width", "height"), [(40, 24), (80, 24), (120, 40), (200, 50)])
def test_the_alert_comes_first_and_whole(picture: Screen, width: int, height: int) -> None:
    lines = shown(picture, width, height)
    sentence = " ".join(line.strip() for line in lines[: lines.index("")])
    assert re.fullmatch(
        r"◆ cpu utilization of host web-1 is 0\.97, expected 0\.\d+–0\.\d+, since 10:50:00 UTC", sentence
    )
    assert len(lines) <= height
    assert all(len(line.rstrip()) <= width for line in lines)
    assert lines[-1].startswith("foreshock · 13 series")


def test_columns_stand_still_whatever_the_numbers(picture: Screen) -> None:
    before = shown(picture, 120, 40)
    header = next(line for line in before if "metric" in line)
    for series, values in picture.recent.values.items():
        values.append(-1.23456e9 if series.unit == "By/s" else float("nan"))
    after = shown(picture, 120, 40)
    for values in picture.recent.values.values():
        values.pop()
    assert next(line for line in after if "metric" in line) == header


def test_what_the_view_says_before_and_after(picture: Screen) -> None:
    problems: tuple[str, ...] = ()
    screen = Screen(Views(), Recent(), lambda: Standing(10**18, 10**18, "", problems), lambda episode: None)
    assert shown(screen, 80, 24)[0] == "Waiting for the first data"
    problems = ("the disk is full: make room",)
    assert shown(screen, 80, 24)[0].strip() == "✗ the disk is full: make room"

    alert = picture.views.alerts()[0]
    ended = replace(
        alert, ends_unix_nano=alert.starts_unix_nano + 10**9, annotations=(("summary", "cpu is back to 0.1"),)
    )
    again = Screen(picture.views, picture.recent, picture.standing, lambda episode: ended)
    shown(again, 80, 24)
    picture.views.feed_alerts([ended])
    lines = shown(again, 80, 24)
    picture.views.feed_alerts([alert])
    assert lines[0] == "cpu utilization is beyond what is usual, not enough for an alert"
    assert lines[1].strip() == "✓ cpu is back to 0.1"


@pytest.mark.parametrize(("width", "height"), [(60, 20), (120, 40)])
def test_what_was_used_of_the_budget_stands_above_the_foot(picture: Screen, width: int, height: int) -> None:
    line = budget_line({"environment": 0.4, "entity": 1.2, "series": 0.03})
    before = shown(picture, width, height)
    standing = replace(picture.standing(), budget=line)
    screen = Screen(picture.views, picture.recent, lambda: standing, lambda episode: None)
    lines = shown(screen, width, height)
    assert lines[-2] == "budget used: environment 40 %, entity 120 %, series 3 %"
    assert lines[-1] == before[-1]
    assert len(lines) <= height


def test_recent_values_are_bounded() -> None:
    recent = Recent()
    count = 6000
    samples = Samples(
        [Series("m", (("host", "a"),))], np.zeros(count, np.int32), np.arange(count), np.arange(float(count)),
        np.zeros(count, np.uint64), {},
    )  # fmt: skip
    recent.take(samples)
    (values,) = recent.values.values()
    assert len(values) == 120
    assert values[-1] == count - 1
