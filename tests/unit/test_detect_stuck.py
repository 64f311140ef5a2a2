"""`stuck` against its twin over days of event time; which stillness alarms, and which is usual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.bar import Bar
from foreshock.detect.stuck import Stuck
from foreshock.errors import ConfigError
from foreshock.testing import frames
from foreshock.testing.frames import DAY, MINUTE, START, make
from foreshock.types import Frame, Status
from tests.unit.texture_twins import StuckTwin

SECOND, HOUR = 10**9, 60 * MINUTE
MIDNIGHT = START // DAY * DAY


def times(n: int, step: float = 60.0, start: int = MIDNIGHT) -> NDArray[np.int64]:
    return start + (np.arange(n) * (step * SECOND)).astype(np.int64)


def series(values: Any, step: float = 60.0, start: int = MIDNIGHT) -> Frame:
    """Rows of key 0."""
    return make(np.zeros(len(values)), times(len(values), step, start), values)


def strengths(frame: Frame, detector: Stuck | None = None) -> NDArray[np.float64]:
    """ln(score / bar) of rows, as the bank would have it; −50 where there is none."""
    detector = detector or Stuck()
    scores = detector.step(frame)
    bar = Bar(detector.info.prior_score, 0.2, in_reach=detector.info.in_reach)
    strength, _ = bar.step(frame.key, frame.time_unix_nano, scores.score, scores.status, frame.learn)
    return np.nan_to_num(strength, nan=-50.0)


def lively(days: float, seed: int = 0, step: float = 60.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(50.0, 3.0, round(days * 86400 / step))


@pytest.mark.parametrize("seed", range(3))
def test_long_awkward_frames_score_as_the_twin_says(seed: int) -> None:
    frame = frames.hard(np.random.default_rng(seed), 3000, 3)
    twin = StuckTwin({})
    seen = Stuck().step(frame)
    score, status = twin.step(
        frame.key.tolist(), frame.time_unix_nano.tolist(), frame.values.tolist(), frame.learn.tolist(),
        frame.status.tolist(),
    )  # fmt: skip
    np.testing.assert_array_equal(seen.score, score)
    np.testing.assert_array_equal(seen.status, status)


def test_days_of_runs_score_as_the_twin_says() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.integers(0, 5, 4000).astype(float), rng.geometric(0.6, 4000))
    x[4000:4300] = x[4000]
    detector, twin = Stuck({"young_seconds": 6 * 3600}), StuckTwin({"young_seconds": 6 * 3600})
    frame = series(x)
    seen = detector.step(frame)
    score, _ = twin.step(
        frame.key.tolist(), frame.time_unix_nano.tolist(), frame.values.tolist(), frame.learn.tolist(),
        frame.status.tolist(),
    )  # fmt: skip
    np.testing.assert_array_equal(seen.score, score)
    assert np.nanmax(seen.score) > 5.0
    assert float(detector.table.rows[0]["longest"]) == twin.memories[0]["longest"] > 0.0


@pytest.mark.parametrize(("step", "held"), [(1.0, 30), (5.0, 20), (60.0, 12), (300.0, 6)], ids=str)
def test_a_live_series_that_stops_alarms_and_ends_with_the_next_move(step: float, held: int) -> None:
    x = lively(3 if step >= 60 else 1.2, step=step)
    at = len(x) - 200
    x[at : at + held + 60] = x[at - 1]
    seen = strengths(series(x, step))
    assert seen[:at].max() < 0.0
    assert seen[at + held - 1] > 0.7
    assert seen[at + held + 60] < -1.5


@pytest.mark.parametrize("step", [60.0, 300.0, 3600.0])
def test_one_repeated_value_is_no_run_and_two_are_one_where_rows_are_few(step: float) -> None:
    x = lively(3 if step < 3600 else 30, step=step)
    x[-1] = x[-2]
    assert strengths(series(x, step)).max() < 0.0
    x[-3:] = x[-3]
    assert (strengths(series(x, step))[-1] > 0.0) == (step > 60.0)


@pytest.mark.parametrize("level", [0.0, 7.0, -1e6])
def test_a_constant_series_never_alarms_and_its_first_move_hardly_counts(level: float) -> None:
    x = np.full(5000, level)
    x[4000] += 1.0
    seen = Stuck().step(series(x)).score[20:]
    assert seen.max() < 0.2
    assert np.count_nonzero(seen) == 2


def test_counts_and_limits_that_rarely_move_never_alarm() -> None:
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.random(10 * 1440) < 0.02).astype(float)
    x[5 * 1440 : 6 * 1440] = x[5 * 1440]
    assert strengths(series(x)).max() < 0.0


@pytest.mark.parametrize("night", [0.0, 4.0])
def test_what_is_still_every_night_does_not_alarm(night: float) -> None:
    x = lively(6)
    hour = np.arange(len(x)) / 60 % 24
    x[(hour > 15) & (hour < 23)] = night
    seen = strengths(series(x))
    assert seen.max() < 0.0


def test_idle_at_zero_is_usual_once_it_was_seen_and_another_value_is_not() -> None:
    for value, alarms in ((0.0, False), (48.0, True)):
        x = lively(4)
        x[1000:1003] = x[1100:1103] = x[1200:1203] = 0.0
        x[-60:] = value
        assert (strengths(series(x))[-1] > 0.7) == alarms


def test_few_distinct_values_are_judged_by_how_often_they_repeat() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 5 * 1440).astype(float) + 1.0
    assert strengths(series(x)).max() < 0.0
    x[-40:] = 2.0
    assert strengths(series(x))[-1] > 0.25
    x[-40:] = np.tile([1.0, 2.0], 20)
    assert strengths(series(x)).max() < 0.0


def test_moves_within_a_thousandth_of_the_usual_are_none() -> None:
    x = lively(3)
    x[-40:] = x[-41] + np.tile([1e-4, -1e-4], 20)
    assert strengths(series(x))[-1] > 0.7
    x[-40:] = x[-41] + np.tile([0.1, -0.1], 20)
    assert strengths(series(x)).max() < 0.0


def test_missing_rows_are_no_stillness() -> None:
    x = lively(3)
    x[-2000:-1] = np.nan
    x[-1] = x[-2001]
    seen = Stuck().step(series(x))
    assert (seen.status[-2000:-1] == Status.MISSING).all()
    assert strengths(series(x))[-1] < 0.0
    time = times(len(x))
    kept = np.isfinite(x)
    assert strengths(make(np.zeros(kept.sum()), time[kept], x[kept]))[-1] < 0.0


def test_a_day_that_was_not_seen_may_be_still() -> None:
    x = lively(2)
    x[600:900] = x[599]
    assert strengths(series(x)).max() < 0.0
    assert strengths(series(x), Stuck({"young_seconds": "2h"}))[800] > 0.7


def test_a_series_that_comes_to_be_read_more_often_is_not_stuck() -> None:
    slow = lively(4, step=60.0)
    fast = np.repeat(lively(0.5, 1, step=60.0), 60)
    time = np.concatenate([times(len(slow)), times(len(fast), 1.0, MIDNIGHT + 4 * DAY)])
    seen = strengths(make(np.zeros(len(time)), time, np.concatenate([slow, fast])))
    assert seen.max() < 0.0


def test_one_incident_does_not_make_stillness_usual() -> None:
    x = lively(8)
    for at in (5 * 1440, 6 * 1440):
        x[at : at + 40] = x[at - 1]
    seen = strengths(series(x))
    assert seen[5 * 1440 + 39] > 0.7
    assert seen[6 * 1440 + 39] > 0.7


def test_after_a_restart_a_run_goes_on() -> None:
    x = lively(3)
    x[-40:] = x[-41]
    frame = series(x)
    whole, first = Stuck(), Stuck()
    wanted = whole.step(frame).score[-20:]
    first.step(frame.take(slice(0, len(x) - 20)))
    again = Stuck.restore({}, first.state())
    np.testing.assert_array_equal(again.step(frame.take(slice(len(x) - 20, len(x)))).score, wanted)


def test_what_is_measured_is_the_pause_and_the_usual_one() -> None:
    x = lively(3)
    x[-12:] = x[-13]
    detector = Stuck()
    assert detector.step(series(x[:100])).measured is None
    detector = Stuck()
    detector.bands = True
    seen = detector.step(series(x)).measured
    assert seen is not None
    assert seen[0, -1] == 12 * 60.0
    assert seen[1, -1] == pytest.approx(60.0)
    assert np.isnan(seen[:, :20]).all()


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^least_moves: Input should be less than or equal to 1"):
        Stuck({"least_moves": 2})
