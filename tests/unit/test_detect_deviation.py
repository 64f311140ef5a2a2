"""`deviation` against its twin over weeks of event time; what each part of it is for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.bar import Bar
from foreshock.detect.deviation import Deviation
from foreshock.errors import ConfigError, PermanentError
from foreshock.testing.frames import DAY, MINUTE, START, make
from foreshock.types import Frame, Status
from tests.unit.deviation_twin import DeviationTwin

SECOND, HOUR = 10**9, 60 * MINUTE
ZERO = np.zeros(1, np.int32)
MIDNIGHT = START // DAY * DAY
TIERS: list[dict[str, Any]] = [{"tier": "light"}, {"tier": "full"}]


def times(n: int, step: float, start: int = MIDNIGHT) -> NDArray[np.int64]:
    return start + (np.arange(n) * (step * SECOND)).astype(np.int64)


def series(values: Any, step: float = 60.0, start: int = MIDNIGHT) -> Frame:
    """Rows of key 0."""
    return make(np.zeros(len(values)), times(len(values), step, start), values)


def strengths(detector: Deviation, frame: Frame, budget: float = 0.2) -> NDArray[np.float64]:
    """ln(score / bar) of rows, as the bank would have it; −50 where there is none."""
    scores = detector.step(frame)
    bar = Bar(detector.info.prior_score, budget, in_reach=detector.info.in_reach)
    strength, _ = bar.step(frame.key, frame.time_unix_nano, scores.score, scores.status, frame.learn)
    return np.nan_to_num(strength, nan=-50.0)


def weeks(step: float, days: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Days and weeks in noise with spikes, at jittered times with gaps."""
    time = times(int(days * 86400 / step), step)
    time = time + (rng.uniform(0, 0.3, len(time)) * step * SECOND).astype(np.int64)
    time = time[rng.random(len(time)) > 0.03]
    time = time[(time < MIDNIGHT + 8 * DAY) | (time > MIDNIGHT + 8 * DAY + 9 * HOUR)]
    day = (time - MIDNIGHT) / DAY
    value = 100 + 30 * np.sin(2 * np.pi * day) * np.where(day % 7 < 2, 0.2, 1.0) + rng.normal(size=len(time))
    value[rng.random(len(time)) < 0.004] += 60
    return time, value


@pytest.mark.parametrize(("step", "days"), [(1800.0, 40), (60.0, 3), (7200.0, 60)], ids=str)
def test_weeks_of_event_time_score_and_rank_as_the_twin_says(step: float, days: int) -> None:
    time, value = weeks(step, days, np.random.default_rng(0))
    detector, twin = Deviation(), DeviationTwin({})
    detector.ranks = True
    seen = detector.step(make(np.zeros(len(time)), time, value))
    assert seen.ranking is not None
    for i, (now, x) in enumerate(zip(time.tolist(), value.tolist(), strict=True)):
        score, status = twin.row(0, now, x, True, 0)
        assert (score, status) == (seen.score[i], seen.status[i]) or math.isnan(score), i
        assert twin.ranking == seen.ranking[i] or math.isnan(twin.ranking), i
    row, memory = detector.table.rows[0], twin.memories[0]
    for name in ("level", "deviation", "weight", "change", "offset", "season_scale", "daily_error", "weekly_error"):
        assert row[name] == memory[name], name
    np.testing.assert_array_equal(row["inverse"], memory["inverse"])
    np.testing.assert_array_equal(row["usual"], np.array(memory["usual"], np.float32))
    assert (memory["weekly_error"] < 0.7 * memory["daily_error"]) == (days >= 40)


@pytest.mark.parametrize("least", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(4))
def test_what_stands_still_and_then_moves_scores_as_the_twin_says(seed: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    value = np.zeros(600)
    for start in rng.integers(25, 590, 3):
        stretch = slice(start, start + int(rng.integers(1, 12)))
        value[stretch] = np.where(rng.random(len(value[stretch])) < 0.7, rng.choice([0.02, 0.5, 1.0, 1.5]), 0.0)
    value += [0.0, 40.0, 0.0, 1.0][seed]
    time = times(len(value), 2.0)
    detector, twin = Deviation({"min_change": least}), DeviationTwin({"min_change": least})
    seen = detector.step(make(np.zeros(len(time)), time, value))
    told = [twin.row(0, now, x, True, 0)[0] for now, x in zip(time.tolist(), value.tolist(), strict=True)]
    # The logarithm of the kernels is their own.
    np.testing.assert_allclose(seen.score, told, rtol=1e-12)
    assert np.nanmax(seen.score) > 0.5


@pytest.mark.parametrize(("tier", "least", "most"), [("light", 128, 256), ("full", 4000, 8000)])
def test_a_tier_keeps_to_its_bytes(tier: str, least: int, most: int) -> None:
    assert least <= Deviation({"tier": tier}).info.bytes_per_slot <= most


@pytest.mark.parametrize("config", TIERS, ids=str)
@pytest.mark.parametrize("step", [1.0, 5.0, 60.0, 300.0, 3600.0])
def test_at_every_step_noise_is_quiet_and_a_lasting_shift_is_found_at_once(config: dict[str, Any], step: float) -> None:
    rng = np.random.default_rng(1)
    n = 4000 if step <= 60 else 2000
    for kind in (rng.normal(50, 1, n), rng.gamma(2.0, 1.0, n), np.round(rng.normal(5, 1, n))):
        quiet = strengths(Deviation(config), series(kind, step))
        assert (quiet < math.log(2)).all()
        shifted = kind.copy()
        shifted[n // 2 : n // 2 + 30] += 25 * kind.std()
        assert strengths(Deviation(config), series(shifted, step))[n // 2] > 0


@pytest.mark.parametrize("config", TIERS, ids=str)
@pytest.mark.parametrize("arrival", ["irregular", "gaps"])
def test_neither_irregular_arrival_nor_gaps_raise_an_alarm(config: dict[str, Any], arrival: str) -> None:
    rng = np.random.default_rng(2)
    n = 8000
    gap = rng.exponential(60.0, n) if arrival == "irregular" else np.where(rng.random(n) < 0.003, 3600.0, 60.0)
    time = MIDNIGHT + (np.cumsum(gap) * SECOND).astype(np.int64)
    walk = np.sin(2 * np.pi * time / DAY) * 10 + rng.normal(size=n)
    assert strengths(Deviation(config), make(np.zeros(n), time, walk)).max() < 0


def test_after_a_gap_no_single_row_counts_more_than_its_due() -> None:
    rng = np.random.default_rng(3)
    detector = Deviation()
    detector.step(series(rng.normal(50, 1, 3000)))
    before = detector.table.rows[0].copy()
    detector.step(series([60.0], start=MIDNIGHT + 5 * DAY))
    after = detector.table.rows[0]
    assert after["weight"] < 0.5 * before["weight"]
    assert 0 < after["level"] - before["level"] < 10 / 500


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_a_burst_while_warming_up_does_not_hide_the_next(config: dict[str, Any]) -> None:
    values = np.random.default_rng(0).normal(0.01, 0.003, 24)
    values[5:9] = 0.6
    detector = Deviation({**config, "min_change": 0.15})
    detector.step(series(values, 5.0))
    assert detector.score(series([0.51], start=MIDNIGHT + 2 * MINUTE)).score[0] > 4.0


@pytest.mark.parametrize("config", TIERS, ids=str)
@pytest.mark.parametrize(("level", "rows"), [(0.0, 100), (40.0, 30), (-3.0, 2000)])
def test_the_first_move_of_a_constant_series_scores_by_how_long_it_stood(
    config: dict[str, Any], level: float, rows: int
) -> None:
    detector = Deviation(config)
    assert (detector.step(series(np.full(rows, level))).score[20:] == 0.0).all()
    seen = detector.score(series([1e3], start=MIDNIGHT + 3 * DAY)).score[0]
    assert seen == pytest.approx(4 / 3 * (min(rows, 360) / 60) ** 0.25)


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_what_never_moved_and_stays_away_scores_more_with_each_row_until_it_has_moved_often(
    config: dict[str, Any],
) -> None:
    rng = np.random.default_rng(6)
    still, fault = np.zeros(48), 0.4 + rng.normal(0, 0.03, 12)
    seen = Deviation(config).step(series(np.concatenate([still, fault]), 5.0)).score[48:]
    first = 4 / 3 * (48 / 60) ** 0.25
    assert seen[0] == pytest.approx(first)
    assert (seen[:4] > first * 0.99).all()
    assert seen[:5].max() > 1.5 * first


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_single_moves_of_what_stands_still_score_no_more_than_the_first(config: dict[str, Any]) -> None:
    values = np.zeros(900)
    values[60::97] = 0.2
    seen = Deviation(config).step(series(values, 5.0)).score
    assert np.nanmax(seen) <= 4 / 3 * 6**0.25 + 1e-12


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_single_errors_that_begin_to_come_are_a_burst_whatever_their_sizes(config: dict[str, Any]) -> None:
    errors = np.array([1.5, 1.0, 0.0, 0.5, 0.0, 1.0, 0.5])
    seen = Deviation(config).step(series(np.concatenate([np.zeros(60), errors]), 2.0)).score[60:]
    gain = math.log(61 / 2)
    detector = Deviation(config)
    detector.bands = True
    told = detector.step(series(np.concatenate([np.zeros(60), errors]), 2.0))
    assert told.expected is not None
    assert told.low is not None
    assert told.high is not None
    assert (told.expected[-1], told.low[-1], told.high[-1]) == (0.0, 0.0, 0.0)
    assert seen[5] >= (4 * gain - 2 * math.log(2)) / 2 - 1e-6
    assert seen[6] > 6.0
    # Above a level of its own, a series may step.
    seen = Deviation(config).step(series(np.concatenate([np.zeros(60), errors]) + 40, 2.0)).score[60:]
    assert seen[6] < 2.0


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_where_a_least_change_is_set_the_first_move_need_not_wait(config: dict[str, Any]) -> None:
    ratio = np.concatenate([np.zeros(45), [0.24, 0.35]])
    blind = Deviation(config).step(series(ratio, 5.0)).score[45:]
    told = Deviation({**config, "min_change": 0.05}).step(series(ratio, 5.0)).score[45:]
    assert blind[0] < 1.3
    assert told[0] == pytest.approx(4 * (45 / 60) ** 0.25)
    assert told[1] > told[0]
    small = np.concatenate([np.zeros(45), np.full(8, 0.04)])
    assert Deviation({**config, "min_change": 0.05}).step(series(small, 5.0)).score[45:].max() < 2.0


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_in_its_first_hour_a_series_may_move_by_some_hundredths_of_its_level(config: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    for step, hourly in ((2.0, False), (300.0, True)):
        memory = 50e6 + np.cumsum(rng.integers(0, 2, 90)) * 4096.0
        memory[80:] += 0.6e6
        assert (Deviation(config).step(series(memory, step)).score[80] > 3.0) == hourly


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_a_change_of_the_least_size_scores_two_and_the_least_size_outlives_forgetting(config: dict[str, Any]) -> None:
    detector = Deviation(config)
    detector.configure_keys(np.array([0, 70], np.int32), np.array([8.0, 2.0]))
    x = np.tile([0.0, 1e-3], 20)
    for start in (MIDNIGHT, MIDNIGHT + 400 * DAY):
        detector.step(series(x, start=start))
        asked = detector.score(series([8.0], start=start + 40 * MINUTE))
        assert asked.score[0] == pytest.approx(2.0, rel=1e-3)
        detector.forget(np.array([0, 500], np.int32))
        detector.step(series(x, start=start))
    assert float(detector.table.rows[70]["min_change"]) == 2.0
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match=r"min_change: must be finite and at least 0"):
            detector.configure_keys(ZERO, np.array([wrong]))


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_the_band_is_where_the_score_is_at_most_one_and_its_middle_where_it_is_least(config: dict[str, Any]) -> None:
    time, value = weeks(600.0, 6, np.random.default_rng(4))
    detector = Deviation(config)
    for cut in range(400, len(value), 60):
        detector.step(make(np.zeros(60), time[cut - 60 : cut], value[cut - 60 : cut]))
        now = int(time[cut])
        asked = detector.score(make([0], now, [0.0]))
        assert asked.expected is not None
        assert asked.low is not None
        assert asked.high is not None
        low, expected, high = float(asked.low[0]), float(asked.expected[0]), float(asked.high[0])
        least = detector.score(make([0], now, [expected])).score[0]
        assert detector.score(make([0, 0], now, [expected - 1e-3, expected + 1e-3])).score.min() >= least
        if high > low:
            np.testing.assert_allclose(detector.score(make([0, 0], now, [low, high])).score, 1.0, rtol=1e-9)
        else:
            assert least >= 1.0


def test_what_was_never_negative_is_not_expected_to_be() -> None:
    rng = np.random.default_rng(0)
    for values, lowest in ((np.abs(rng.normal(size=200)), True), (rng.normal(size=200), False)):
        detector = Deviation()
        detector.step(series(values))
        low = detector.score(series([0.0], start=MIDNIGHT + DAY)).low
        assert low is not None
        assert (low[0] == 0.0) == lowest


def test_a_missing_cycle_is_found_by_the_day_and_not_by_the_levels() -> None:
    rng = np.random.default_rng(5)
    time = times(12 * 288, 300.0)
    value = 20 * np.maximum(np.sin(2 * np.pi * time / DAY), 0.0) ** 2 + rng.normal(size=len(time))
    flat = (time >= MIDNIGHT + 10 * DAY) & (time < MIDNIGHT + 11 * DAY)
    value[flat] = rng.normal(size=np.count_nonzero(flat))
    found = {}
    for tier in ("light", "full"):
        strength = strengths(Deviation({"tier": tier}), make(np.zeros(len(time)), time, value))
        found[tier] = bool((strength[flat] >= 0).any())
        assert (strength[(time > MIDNIGHT + 5 * DAY) & (time < MIDNIGHT + 10 * DAY)] < 0).all()
    assert found == {"light": False, "full": True}


def test_the_week_counts_where_it_explains_and_only_there() -> None:
    rng = np.random.default_rng(6)
    time = times(42 * 144, 600.0)
    day = (time - MIDNIGHT) / DAY
    daily = 10 * np.sin(2 * np.pi * day) + rng.normal(size=len(time))
    for values, earned in ((daily * np.where(day % 7 < 2, 0.1, 1.0), True), (daily, False)):
        detector = Deviation()
        detector.step(make(np.zeros(len(time)), time, values))
        row = detector.table.rows[0]
        assert row["hours"] >= 24
        assert (row["weekly_error"] < 0.7 * row["daily_error"]) == earned


def test_a_series_that_comes_to_send_more_often_gets_finer_slots() -> None:
    rng = np.random.default_rng(7)
    detector = Deviation()
    detector.step(series(rng.normal(size=100), 3600.0))
    assert detector.table.rows[0]["slots"] == 24
    detector.step(series(rng.normal(size=3000), 60.0, MIDNIGHT + 5 * DAY))
    assert detector.table.rows[0]["slots"] == 288


def test_a_forecast_stays_near_its_lags_however_young_its_coefficients() -> None:
    rng = np.random.default_rng(8)
    n = 400
    value = rng.exponential(1.0, n) + np.where(rng.random(n) < 0.01, rng.exponential(1e4, n), 0.0)
    detector = Deviation()
    detector.bands = True
    expected = detector.step(series(value, 5.0)).expected
    assert expected is not None
    assert np.nanmax(np.abs(expected)) < 2 * value.max()


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_a_shift_is_an_alarm_and_normal_after_two_days(config: dict[str, Any]) -> None:
    rng = np.random.default_rng(9)
    value = rng.normal(50, 1, 9 * 288)
    value[5 * 288 :] += 30
    strength = strengths(Deviation(config), series(value, 300.0))[5 * 288 :]
    assert (strength[:12] > 0).all()
    assert strength[2 * 288 :].max() < 0


def test_the_ranking_stays_high_as_long_as_an_anomaly_lasts_and_the_score_need_not() -> None:
    rng = np.random.default_rng(10)
    value = rng.normal(50, 1, 4 * 1440)
    value[4000:4040] += 12
    frame = series(value)
    plain, ranked = Deviation(), Deviation()
    ranked.ranks = True
    seen = ranked.step(frame)
    assert plain.step(frame).ranking is None
    assert plain.score(frame).ranking is None
    assert seen.ranking is not None
    quiet = np.nanmax(seen.ranking[2000:4000])
    assert seen.ranking[4000:4040].min() > quiet
    assert np.isnan(seen.ranking[:20]).all()
    again = Deviation.restore({}, plain.state())
    again.ranks = True
    later = series([50.0], start=MIDNIGHT + 4 * DAY)
    np.testing.assert_array_equal(again.step(later).ranking, ranked.step(later).ranking)


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_numbers_at_the_end_of_the_scale_stay_numbers(config: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000) * 10.0 ** rng.uniform(-308, 308, 3000)
    detector = Deviation(config)
    detector.ranks = detector.bands = True
    seen = detector.step(series(x, 300.0))
    assert seen.ranking is not None
    for numbers in (seen.score, seen.ranking, seen.expected):
        assert numbers is not None
        assert np.isfinite(numbers[20:]).all()
    assert seen.score[20:].max() <= 1e9
    row = detector.table.rows[0]
    assert all(np.isfinite(row[name]).all() for name in row.dtype.fields or ())


def test_a_gap_starts_afresh_with_nothing_left_over() -> None:
    for config in TIERS:
        detector, new = Deviation(config), Deviation(config)
        detector.step(series(np.random.default_rng(0).normal(size=3000)))
        later = series(np.random.default_rng(1).normal(size=100), start=MIDNIGHT + 400 * DAY)
        np.testing.assert_array_equal(detector.step(later).score, new.step(later).score)
        for name in detector.table.dtype.fields or ():
            np.testing.assert_array_equal(detector.table.rows[0][name], new.table.rows[0][name], err_msg=name)


def test_a_refused_frame_leaves_nothing_behind() -> None:
    detector = Deviation()
    detector.ranks = True
    with pytest.raises(ValueError, match="keys are slots, and -1 is negative"):
        detector.step(make([-1], MIDNIGHT, [1.0]))
    assert len(detector.score(series(np.zeros(500))).score) == 500
    assert len(detector.step(series(np.zeros(40))).score) == 40


def test_a_state_of_the_other_tier_is_refused() -> None:
    detector = Deviation({"tier": "light"})
    detector.step(series([1.0]))
    with pytest.raises(PermanentError, match="has 256 bytes a slot, its config asks for 4776"):
        Deviation.restore({}, detector.state())
    assert Deviation.restore(detector.options, detector.state()).score(series([1.0])).status[0] == Status.WARMING_UP


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"teir": "light"}, r"teir: unknown option; did you mean 'tier'\?"),
        ({"tier": "heavy"}, r"tier: Input should be 'light', 'full' or 'events'"),
        ({"min_change": float("inf")}, r"min_change: Input should be a finite number"),
    ],
)
def test_wrong_options_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message):
        Deviation(config)


def host(kind: str, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A host's metric in steps of 5 s, quiet."""
    if kind == "cpu":
        spikes = np.where(rng.random(n) < 0.03, rng.uniform(0, 0.1, n), 0.0)
        return np.abs(rng.normal(0.03, 0.01, n)) + spikes
    if kind == "memory":
        return 0.4 + np.cumsum(rng.normal(0, 2e-4, n)) + 1e-3 * rng.normal(size=n)
    if kind == "disk":
        return np.where(rng.random(n) < 0.2, rng.exponential(2e6, n), 0.0)
    if kind == "network":
        return rng.exponential(2e4, n) + np.where(rng.random(n) < 0.01, rng.exponential(2e6, n), 0.0)
    return 200.0 + np.asarray(np.round(np.cumsum(rng.normal(0, 0.3, n))), np.float64)


LEAST = {"cpu": 0.15, "memory": 0.1, "disk": 5e7, "network": 2e7, "processes": 30.0}
ENTITY_LEVEL = math.log(2)
"""An entity of several features alarms only from about twice a bar."""


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_thirty_quiet_minutes_of_a_host_raise_nothing(config: dict[str, Any]) -> None:
    rng = np.random.default_rng(11)
    for kind, least in LEAST.items():
        for _ in range(8):
            detector = Deviation({**config, "min_change": least})
            assert strengths(detector, series(host(kind, 360, rng), 5.0)).max() < ENTITY_LEVEL, kind


@pytest.mark.parametrize("config", TIERS, ids=str)
@pytest.mark.parametrize("at", [25, 300])
def test_a_busy_core_is_over_at_once_stays_so_for_a_minute_and_ends_within_one(config: dict[str, Any], at: int) -> None:
    rng = np.random.default_rng(12)
    for _ in range(10):
        value = host("cpu", at + 12 + 20, rng)
        value[at : at + 12] += 0.48
        strength = strengths(Deviation({**config, "min_change": LEAST["cpu"]}), series(value, 5.0))
        assert strength[:at].max() < ENTITY_LEVEL
        assert strength[at : at + 3].max() > ENTITY_LEVEL
        calm = strength[at + 12 :] < math.log(0.7)
        closed = next(j for j in range(4, 20) if calm[j - 4 : j + 1].all())
        assert closed + 1 <= 11


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_a_young_series_does_not_take_a_long_load_for_its_new_level(config: dict[str, Any]) -> None:
    value = host("cpu", 340, np.random.default_rng(13))
    value[200:320] += 0.48
    strength = strengths(Deviation({**config, "min_change": LEAST["cpu"]}), series(value, 5.0))
    held = strength[200:320] >= math.log(0.7)
    assert held.all()
    assert (strength[333:] < math.log(0.7)).all()


@pytest.mark.parametrize("config", TIERS, ids=str)
def test_quiet_series_stay_within_the_budget_and_shifts_are_found(config: dict[str, Any]) -> None:
    rng = np.random.default_rng(14)
    days, rates, found = 40, [], []
    time = times(days * 288, 300.0)
    wave = 3 * np.sin(2 * np.pi * time / DAY)
    at = 37 * 288 + 100
    for repeat in range(16):
        noise = rng.standard_t(4, len(time)) / math.sqrt(2) if repeat % 4 == 2 else rng.normal(size=len(time))
        value = 50 + noise + (wave if repeat % 4 == 3 else 0.0) + (np.cumsum(noise) * 0.02 if repeat % 4 == 1 else 0.0)
        for shift in (0.0, 8.0):
            shifted = value.copy()
            shifted[at : at + 6] += shift
            detector, bar = Deviation(config), Bar(1.0, 0.2, in_reach=True)
            scores = detector.step(make(np.zeros(len(time)), time, shifted))
            strength, _ = bar.step(np.zeros(len(time), np.int32), time, scores.score, scores.status, scores.status >= 0)
            if shift:
                found.append(bool((strength[at : at + 6] >= 0).any()))
            else:
                rates.append(bar.achieved(int(time[-1] // DAY), 30) / 0.2)
    assert np.mean(rates) <= 0.6
    assert np.mean(found) >= 0.8
