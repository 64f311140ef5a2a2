"""The bar for pooled scores: its first level, what moves it, what a notification adds, and its slow twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.bar import BarOptions
from foreshock.detect.level import Level
from foreshock.errors import ConfigError
from foreshock.state import pack, unpack
from foreshock.types import Status

SECOND = 10**9
DAY0 = 19_723
START = DAY0 * 86_400 * SECOND
Z0, BUDGET = 15.0, 0.2
A_DAY = 1440


def times(n: int, step: int = 60, start: int = START) -> NDArray[np.int64]:
    return start + np.arange(n, dtype=np.int64) * step * SECOND


def feed(bar: Level, time: NDArray[np.int64], score: NDArray[np.float64], **more: Any) -> Any:
    n = len(score)
    return bar.step(np.zeros(n, np.int32), time, score, np.zeros(n, np.uint8), np.ones(n, np.bool_), **more)


def quiet(rows: int, seed: int = 0) -> NDArray[np.float64]:
    """Scores near 2 with hours that reach about 6."""
    out: NDArray[np.float64] = np.random.default_rng(seed).gamma(4.0, 0.5, rows)
    return out


class Twin:
    """The level of one key with every hour kept; its quantile by sorting, so a bin's width from the histogram's."""

    def __init__(self) -> None:
        self.tops: list[tuple[int, float]] = []
        self.block: list[tuple[int, float]] = []
        self.rows = self.began = 0

    def step(self, now: int, score: float) -> float:
        self.rows += 1
        if self.rows == 21:
            self.began = now
        if len(self.block) >= 10 and now - self.block[0][0] >= 3600 * SECOND:
            self.tops.append((now, max(value for _, value in self.block)))
            self.block = []
        self.block.append((now, score))
        last = self.tops[-1][0] if self.tops else now
        weighted = [(top, 0.5 ** ((last - then) / SECOND / 86_400 / 30)) for then, top in self.tops]
        weighted.append((Z0, 5 * 0.5 ** ((last - self.began) / SECOND / 86_400 / 30)))
        weighted.sort(reverse=True)
        above = np.cumsum([weight for _, weight in weighted])
        reach = weighted[int(np.searchsorted(above, 0.03 * above[-1]))][0]
        return math.log(score / (2.0 * math.sqrt(Z0 * max(reach, 0.25 * Z0))))


def test_it_is_its_slow_twin_within_the_width_of_a_bin() -> None:
    score = quiet(6 * A_DAY) * np.repeat(np.random.default_rng(1).gamma(1, 4.0, 6 * 24), 60)
    time = times(len(score))
    strength, over = feed(Level(Z0, BUDGET), time, score, count=np.zeros(len(score), np.bool_))
    twin = Twin()
    wanted = np.array([twin.step(int(t), float(s)) for t, s in zip(time, score, strict=True)])
    assert np.isnan(strength[:20]).all()
    assert not over.any()
    off = np.abs(strength - wanted)[20:]
    assert off.max() < 0.13, "a bin is up to a sixth wide, and the level goes by the root of it"
    assert (wanted > 0).any()


def test_the_first_level_is_twice_the_prior_and_quiet_hours_bring_it_to_one() -> None:
    bar = Level(Z0, BUDGET)
    assert math.isnan(bar.score_levels(np.zeros(1, np.int32))[0])
    feed(bar, times(25), quiet(25))
    assert bar.score_levels(np.zeros(1, np.int32))[0] == pytest.approx(2 * Z0)
    feed(bar, times(30 * A_DAY, start=START + 25 * 60 * SECOND), quiet(30 * A_DAY))
    level = float(bar.score_levels(np.zeros(1, np.int32))[0])
    assert 2 * Z0 * 0.5 <= level < 2 * Z0 * 0.75


def test_hours_that_reach_further_raise_the_level_by_their_root() -> None:
    levels = []
    for size in (10.0, 40.0):
        bar = Level(Z0, BUDGET)
        feed(bar, times(20 * A_DAY), quiet(20 * A_DAY) * size, count=np.zeros(20 * A_DAY, np.bool_))
        levels.append(float(bar.score_levels(np.zeros(1, np.int32))[0]))
    assert levels[1] / levels[0] == pytest.approx(2.0, rel=0.1)


def test_each_notification_lifts_the_level_and_time_lets_it_down() -> None:
    bar = Level(Z0, BUDGET)
    feed(bar, times(5 * A_DAY), quiet(5 * A_DAY))
    start = START + 5 * A_DAY * 60 * SECOND
    score = np.full(4 * 120, 2.0)
    score[::120] = 100.0
    strength, over = feed(bar, times(len(score), start=start), score)
    assert np.flatnonzero(over).tolist() == [0, 120, 240, 360]
    steps = np.diff(strength[::120])
    assert (steps < -0.1).all()
    later = start + 30 * 86_400 * SECOND
    strength, _ = feed(bar, times(1, start=later), np.array([100.0]))
    bare = float(bar.table.rows["level"][0])
    assert strength[0] == pytest.approx(math.log(100 / bare), abs=0.01), "after a month nothing is left of the lift"


def test_an_alarm_goes_on_while_the_score_is_above_the_level_and_not_for_ever() -> None:
    bar = Level(Z0, BUDGET)
    feed(bar, times(5 * A_DAY), quiet(5 * A_DAY))
    score = np.full(60, 1.0)
    score[10:50] = float(bar.score_levels(np.zeros(1, np.int32))[0]) * 1.1
    _, over = feed(bar, times(60, start=START + 5 * A_DAY * 60 * SECOND), score)
    assert np.flatnonzero(over).tolist() == list(range(10, 30))


def test_a_smaller_budget_asks_for_more() -> None:
    levels = []
    for budget in (0.02, 0.2, 2.0):
        bar = Level(Z0, budget)
        feed(bar, times(5 * A_DAY), quiet(5 * A_DAY))
        levels.append(float(bar.score_levels(np.zeros(1, np.int32))[0]))
    assert levels[0] > levels[1] > levels[2]
    with pytest.raises(ConfigError, match="budget is 0"):
        Level(Z0, 0)


def test_rows_that_do_not_count_open_nothing_and_the_achieved_rate_counts_the_others() -> None:
    bar = Level(Z0, BUDGET)
    score = quiet(10 * A_DAY)
    score[3 * A_DAY :: 2 * A_DAY] = 500.0
    count = np.arange(len(score)) >= 6 * A_DAY
    _, over = feed(bar, times(len(score)), score, count=count)
    assert np.flatnonzero(over).tolist() == [7 * A_DAY, 9 * A_DAY]
    assert bar.achieved(DAY0 + 9) == pytest.approx(2 / 4)


def test_cuts_copies_and_other_keys_make_no_difference() -> None:
    rng = np.random.default_rng(2)
    n = 8000
    key = rng.integers(0, 3, n).astype(np.int32)
    score, status = rng.gamma(1.0, 6.0, n), rng.choice([0, 0, 0, 1, 2], n).astype(np.uint8)
    learn, time = rng.random(n) < 0.9, times(n, 120)
    whole, parts = (Level(Z0, BUDGET, BarOptions(min_rows=30)) for _ in range(2))
    expected = whole.step(key, time, score, status, learn)
    seen: list[Any] = []
    for piece in np.array_split(np.arange(n), 37):
        seen.append(parts.step(key[piece], time[piece], score[piece], status[piece], learn[piece]))
        copy = Level(Z0, BUDGET, BarOptions(min_rows=30))
        copy.load(unpack(pack(parts.state())))
        parts = copy
    for k in range(2):
        assert np.array_equal(np.concatenate([one[k] for one in seen]), expected[k], equal_nan=True)
    assert pack(parts.state()) == pack(whole.state())
    alone = Level(Z0, BUDGET, BarOptions(min_rows=30))
    mine = key == 1
    strength, _ = alone.step(key[mine], time[mine], score[mine], status[mine], learn[mine])
    assert np.array_equal(strength, expected[0][mine], equal_nan=True)
    assert np.isnan(expected[0][status != Status.SCORED]).all()
    whole.forget(np.array([1], np.int32))
    again, _ = whole.step(key[mine], time[mine], score[mine], status[mine], learn[mine])
    assert np.array_equal(again, strength, equal_nan=True)
