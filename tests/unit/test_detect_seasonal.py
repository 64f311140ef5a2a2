"""`seasonal` against its twin over weeks of event time; what it finds that a level does not, and how it waits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.seasonal import Seasonal
from foreshock.errors import ConfigError, PermanentError
from foreshock.state import State
from foreshock.testing import check_detector, check_names
from foreshock.testing.frames import DAY, MINUTE, START, make
from foreshock.types import Frame, Status
from tests.unit.standard_twins import SeasonalTwin
from tests.unit.test_detect_deviation import weeks

SECOND, HOUR = 10**9, 60 * MINUTE
MIDNIGHT = START // DAY * DAY
QUICK = {"warm_up_seconds": 0}


def series(values: Any, step: float = 60.0, start: int = MIDNIGHT) -> Frame:
    """Rows of key 0."""
    return make(np.zeros(len(values)), start + (np.arange(len(values)) * (step * SECOND)).astype(np.int64), values)


def days(count: int, step: float, seed: int = 0, swing: float = 30.0) -> NDArray[np.float64]:
    """A sine a day with noise of 1."""
    n = int(count * 86400 / step)
    out: NDArray[np.float64] = 100 + swing * np.sin(2 * np.pi * np.arange(n) * step / 86400)
    return out + np.random.default_rng(seed).normal(size=n)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("config", [QUICK, {"warm_up_rows": 5, "warm_up_seconds": 1200, "min_change": 2.0}], ids=str)
def test_it_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(Seasonal, config=config, univariate=True, twin=SeasonalTwin, seed=seed)


def test_it_keeps_the_contract_as_it_ships() -> None:
    slow = ("score_first", "bands", "slots_independent", "batch_cuts")
    check_detector(Seasonal, univariate=True, only=[name for name in check_names() if name not in slow])


def test_a_slot_keeps_to_its_bytes() -> None:
    assert 3000 <= Seasonal().info.bytes_per_slot <= 4096


@pytest.mark.parametrize(("step", "length"), [(1800.0, 40), (60.0, 4), (7200.0, 60)], ids=str)
def test_weeks_of_event_time_score_as_the_twin_says(step: float, length: int) -> None:
    time, value = weeks(step, length, np.random.default_rng(0))
    value += 0.5 * (time - MIDNIGHT) / DAY
    detector, twin = Seasonal(), SeasonalTwin({})
    seen = detector.step(make(np.zeros(len(time)), time, value))
    for i, (now, x) in enumerate(zip(time.tolist(), value.tolist(), strict=True)):
        score, status = twin.row(0, now, x, True, 0)
        assert (score, status) == (seen.score[i], seen.status[i]) or (math.isnan(score) and status == seen.status[i]), i
    row, memory = detector.table.rows[0], twin.memories[0]
    for name in ("level", "offset", "trend", "season_scale", "daily_error", "weekly_error", "elapsed"):
        assert row[name] == memory[name], name
    assert row["trend"] != 0.0
    assert (seen.status[-100:] == Status.SCORED).all()


@pytest.mark.parametrize("step", [60.0, 300.0, 3600.0])
def test_it_is_silent_until_each_time_of_day_came_twice(step: float) -> None:
    status = Seasonal().step(series(days(4, step), step)).status
    first = int(np.flatnonzero(status == Status.SCORED)[0])
    assert first == 20 + 2 * 86400 / step
    assert (status[:first] == Status.WARMING_UP).all()
    assert (status[first:] == Status.SCORED).all()


@pytest.mark.parametrize("step", [60.0, 300.0, 3600.0])
def test_the_wrong_time_of_day_stands_out_where_its_level_is_usual(step: float) -> None:
    values = days(15, step, swing=30.0)
    hour = int(3600 / step)
    at = 14 * 24 * hour + 18 * hour
    values[at : at + hour] += 35.0
    assert values[at : at + hour].max() < values.max()
    seen = Seasonal().step(series(values, step)).score
    assert seen[at] > 12.0
    assert np.nanmax(seen[7 * 24 * hour : at]) < 12.0
    assert np.nanmedian(seen[7 * 24 * hour : at]) < 1.5


def test_a_weekend_is_learnt_once_it_came_twice() -> None:
    step, n = 600.0, 8 * 7 * 144
    day = np.arange(n) // 144
    time_of_day = 2 * np.pi * np.arange(n) / 144
    values = 100 + np.where(day % 7 < 5, 30.0, 5.0) * np.sin(time_of_day) + np.random.default_rng(0).normal(size=n)
    detector = Seasonal()
    detector.bands = True
    seen = detector.step(series(values, step))
    assert seen.expected is not None
    off = np.abs(values - seen.expected).reshape(8, 7, 144)
    assert np.median(off[1, 5:]) > 5.0
    assert np.median(off[6:, 5:]) < 2.0
    assert np.nanmedian(off[6:, :5]) < 2.0


def test_a_trend_is_followed_day_by_day() -> None:
    step = 600.0
    values = days(40, step, swing=5.0)
    values += 10.0 * np.arange(len(values)) / 144
    detector = Seasonal()
    detector.bands = True
    seen = detector.step(series(values, step))
    assert seen.expected is not None
    late = slice(30 * 144, None)
    assert detector.table.rows[0]["trend"] == pytest.approx(10.0, rel=0.15)
    assert abs(np.mean(values[late] - seen.expected[late])) < 3.0, "a day's growth is 10"


def test_a_spike_does_not_bend_season_or_scale() -> None:
    plain, spiked = days(10, 300.0), days(10, 300.0)
    spiked[7 * 288 + 100] += 1e5
    rows = []
    for values in (plain, spiked):
        detector = Seasonal()
        detector.step(series(values, 300.0))
        rows.append(detector.table.rows[0].copy())
    assert abs(rows[0]["offset"] - rows[1]["offset"]) < 0.1
    assert rows[1]["season_scale"] == pytest.approx(rows[0]["season_scale"], rel=0.02)


def test_a_time_of_day_that_was_never_seen_is_judged_by_the_long_level() -> None:
    """Nights are not reported: the first night row after days is not silent, and not far."""
    step = 300.0
    values, index = days(6, step, swing=10.0), np.arange(6 * 288)
    night = (index % 288 >= 200) & (index < 5 * 288)
    time = MIDNIGHT + index * int(step) * SECOND
    detector = Seasonal()
    detector.bands = True
    seen = detector.step(make(np.zeros((~night).sum()), time[~night], values[~night]))
    late = time[~night] >= MIDNIGHT + 5 * DAY + 200 * int(step) * SECOND
    assert (seen.status[late] == Status.SCORED).all()
    assert seen.low is not None
    assert seen.high is not None
    assert np.nanmin((seen.high - seen.low)[late]) > 2 * np.nanmedian((seen.high - seen.low)[~late])


def test_bands_hold_what_scores_less_than_their_width_and_do_not_go_below_nothing() -> None:
    detector = Seasonal()
    detector.bands = True
    x = np.abs(days(5, 600.0, swing=100.0))
    seen = detector.step(series(x, 600.0))
    assert seen.low is not None
    assert seen.high is not None
    warm = seen.status == Status.SCORED
    inside = (seen.low <= x) & (x <= seen.high)
    assert (inside[warm] >= (seen.score[warm] < detector.info.prior_score)).all()
    assert np.nanmin(seen.low) >= 0.0


def test_a_change_of_the_least_size_scores_thirteen() -> None:
    detector = Seasonal({"min_change": 5.0})
    detector.step(series(50 + 0.01 * np.random.default_rng(0).normal(size=4 * 1440)))
    found = detector.score(series([55.0], start=MIDNIGHT + 4 * DAY)).score[0]
    assert found == pytest.approx(13.0, rel=0.01)


def test_first_move_of_a_constant_series() -> None:
    detector = Seasonal()
    assert (detector.step(series(np.full(3000, 4.0))).score[2900:] == 0.0).all()
    moved = detector.score(series([5.0], start=MIDNIGHT + 3000 * MINUTE)).score[0]
    assert moved == pytest.approx(6.5 * 4 / 3 * 6**0.25)


def test_wrong_options_and_foreign_states_are_told() -> None:
    with pytest.raises(ConfigError, match="warm_up: unknown option; did you mean 'warm_up_rows'"):
        Seasonal({"warm_up": 3})
    with pytest.raises(ConfigError, match="warm_up_seconds: '2 parsecs' is not a duration"):
        Seasonal({"warm_up_seconds": "2 parsecs"})
    with pytest.raises(PermanentError, match="cannot be restored as 'seasonal' version 1"):
        Seasonal.restore({}, State(1, {"detector": "deviation"}))
