"""The two-sided bar: its first level, what moves it and what must not, the rate it keeps, and its slow twin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect import bar as bars
from foreshock.detect.bar import Bar, BarOptions
from foreshock.errors import ConfigError
from foreshock.state import pack, unpack
from foreshock.types import Status

SECOND, MINUTE, HOUR = 10**9, 60 * 10**9, 3600 * 10**9
START = 19_723 * 86_400 * SECOND
Z0, BUDGET = 5.0, 0.2
DAY0 = 19_723


def one_key(n: int) -> NDArray[np.int32]:
    return np.zeros(n, np.int32)


def times(n: int, step: float, start: int = START) -> NDArray[np.int64]:
    return start + np.arange(n, dtype=np.int64) * int(step * SECOND)


def feed(
    bar: Bar, time: NDArray[np.int64], score: NDArray[np.float64], learn: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    n = len(score)
    return bar.step(one_key(n), time, score, np.zeros(n, np.uint8), np.full(n, learn))


def level(bar: Bar) -> float:
    return float(bar.score_levels(one_key(1))[0])


class Twin:
    """The slow, obvious bar of one key: every block kept with its weight, every quantile from scratch."""

    def __init__(self, min_rows: int) -> None:
        self.min_rows = min_rows
        self.rows = 0
        self.last = 0
        self.interval = 0.0
        self.block: list[tuple[int, float]] = []
        self.scale, self.level, self.decayed = Z0, 0.0, 0
        self.hists: list[dict[str, Any]] = [
            {"days": days, "low": low, "per": per, "prior": 0.0, "blocks": []}
            for days, low, per in ((7, -2, 4), (30, -3, 6), (14, -3, 6))
        ]

    def step(self, now: int, score: float, status: int, learn: bool) -> float:
        if status not in (Status.SCORED, Status.WARMING_UP):
            return math.nan
        if self.rows and now > self.last:
            seconds = (now - self.last) / SECOND
            if self.interval == 0:
                self.interval = seconds
            else:
                self.interval += (min(seconds, 5 * self.interval) - self.interval) / min(self.rows, 200)
        self.rows, self.last = self.rows + 1, now
        if status != Status.SCORED:
            return math.nan
        if len(self.block) >= 10 and now - self.block[0][0] >= HOUR:
            top = max(value for _, value in self.block)
            self.fade(now)
            for hist, value in zip(self.hists, (top / Z0, top / self.scale, top / self.scale), strict=True):
                hist["blocks"].append([value, 1.0])
            self.block = []
            self.refresh()
        elif self.level == 0 and self.rows > self.min_rows:
            self.fade(now)
            self.refresh()
        if learn:
            self.block.append((now, score))
        if self.rows <= self.min_rows:
            return math.nan
        margin = score / self.scale
        return max(math.log(margin / self.level), -50) if margin > 0 else -50.0

    def fade(self, now: int) -> None:
        days = (now - self.decayed) / (24 * HOUR) if self.level else 0
        self.decayed = now
        for hist in self.hists:
            factor = 0.5 ** (days / hist["days"])
            for block in hist["blocks"]:
                block[1] *= factor
            hist["prior"] = max(hist["prior"] * factor, 5 - sum(weight for _, weight in hist["blocks"]))

    def quantile(self, which: int, point: float, share: Callable[[float], float]) -> float:
        hist = self.hists[which]
        low, per = hist["low"], hist["per"]
        edges = [0.0] + [2.0 ** (low + b // per) * (1 + b % per / per) for b in range(1, 61)]
        weights = [0.0] * 60
        for value, weight in hist["blocks"]:
            weights[max(b for b in range(60) if edges[b] <= value)] += weight
        pieces: list[tuple[float, float, float]] = []
        for b, weight in enumerate(weights):
            left, right = edges[b], edges[b + 1]
            if left <= point < right:
                at = (point - left) / (right - left)
                pieces += [(left, point, weight * at), (point, point, hist["prior"]), (point, right, weight * (1 - at))]
            else:
                pieces.append((left, right, weight))
        total = sum(weight for _, _, weight in pieces)
        wanted = share(total) * total
        above = 0.0
        for left, right, weight in reversed(pieces):
            if weight and above + weight >= wanted:
                return right - (right - left) * (wanted - above) / weight
            above += weight
        return 0.0

    def refresh(self) -> None:
        rate = math.log(86_400 / self.interval / BUDGET) / math.log(7200)
        self.scale = Z0 * max(self.quantile(0, 0.7, lambda total: max(0.05, 2.4 / total)), 1)
        seen = self.quantile(1, 1.6 * rate, lambda total: min(max(4 / total, 0.012), 0.1))
        half = self.quantile(2, 1.6 * rate, lambda _: 0.5)
        fifth = self.quantile(2, 1.6 * rate, lambda total: max(0.2, 2.4 / total))
        cap = max(1.4 * min(rate, rate**2), 0.85 * half * (fifth / half) ** 4.2)
        self.level = max(min(1.3 * seen, cap), 1.2 * min(rate, rate**2))


def stream(rng: np.random.Generator, n: int, keys: int) -> tuple[NDArray[Any], ...]:
    """Irregular rows of several keys in time order: gaps, all statuses, excluded rows, a heavy tail."""
    gap = np.where(rng.random(n) < 0.002, 30 * 3600.0, rng.exponential(200.0, n))
    time = START + (np.cumsum(gap) * SECOND).astype(np.int64)
    key = rng.integers(0, keys, n).astype(np.int32)
    status = rng.choice([0, 0, 0, 0, 0, 0, 0, 1, 2, 4], n).astype(np.uint8)
    return key, time, np.abs(rng.standard_t(3, n)) * (1 + key), status, rng.random(n) < 0.9


def test_agrees_with_its_twin() -> None:
    key, time, score, status, learn = stream(np.random.default_rng(1), 4_500, 2)
    strength, anomalous = Bar(Z0, BUDGET).step(key, time, score, status, learn)
    twins = [Twin(20), Twin(20)]
    slow = np.array([
        twins[k].step(t, x, s, bool(u))
        for k, t, x, s, u in zip(key.tolist(), time.tolist(), score.tolist(), status.tolist(), learn, strict=True)
    ])  # fmt: skip
    np.testing.assert_allclose(strength, slow, atol=1e-4)
    clear = np.abs(slow) > 1e-4
    assert np.array_equal(anomalous[clear], slow[clear] >= 0)
    assert anomalous.sum() > 0
    assert all(len(twin.hists[0]["blocks"]) > 100 for twin in twins)


def test_every_cut_gives_the_same_bits_also_across_a_restore() -> None:
    rng = np.random.default_rng(2)
    key, time, score, status, learn = stream(rng, 12_000, 4)
    count = rng.random(len(key)) < 0.8
    whole, parts = Bar(Z0, BUDGET), Bar(Z0, BUDGET)
    expected = whole.step(key, time, score, status, learn, count)
    strength, anomalous = [], []
    for piece in np.split(np.arange(len(key)), np.sort(rng.integers(0, len(key), 30))):
        found = parts.step(key[piece], time[piece], score[piece], status[piece], learn[piece], count[piece])
        strength.append(found[0])
        anomalous.append(found[1])
        fresh = Bar(Z0, BUDGET)
        fresh.load(unpack(pack(parts.state())))
        parts = fresh
    np.testing.assert_array_equal(np.concatenate(strength), expected[0])
    np.testing.assert_array_equal(np.concatenate(anomalous), expected[1])
    assert pack(parts.state()) == pack(whole.state())
    assert whole.tally[1].sum() > 0


def test_keys_do_not_know_of_each_other() -> None:
    key, time, score, status, learn = stream(np.random.default_rng(3), 6_000, 3)
    together, _ = Bar(Z0, BUDGET).step(key, time, score, status, learn)
    for k in range(3):
        own = key == k
        alone, _ = Bar(Z0, BUDGET).step(key[own], time[own], score[own], status[own], learn[own])
        np.testing.assert_array_equal(together[own], alone)


@pytest.mark.parametrize(("step", "reach"), [(60, 1.0), (300, math.log(1440) / math.log(7200))])
def test_the_first_bar_comes_from_the_priors(step: float, reach: float) -> None:
    bar = Bar(Z0, BUDGET, BarOptions(min_rows=11))
    feed(bar, times(12, step), np.ones(12))
    expected = max(
        min(1.3 * 1.6 * reach, max(1.4 * min(reach, reach**2), 0.85 * 1.6 * reach)), 1.2 * min(reach, reach**2)
    )
    assert level(bar) == pytest.approx(Z0 * expected, rel=1e-6)


def test_a_series_of_five_second_steps_is_judged_within_two_minutes_and_not_in_its_first_rows() -> None:
    score = np.full(24, 100.0 * Z0)
    strength, anomalous = feed(Bar(Z0, BUDGET), times(24, 5), score)
    assert not anomalous[:20].any()
    assert np.isnan(strength[:20]).all()
    assert anomalous[20:].all()


def test_rows_of_the_detectors_own_warm_up_count() -> None:
    bar = Bar(Z0, BUDGET, BarOptions(min_rows=20))
    status = np.full(25, Status.WARMING_UP, np.uint8)
    status[20:] = Status.SCORED
    score = np.where(status == Status.SCORED, 100.0 * Z0, np.nan)
    _, anomalous = bar.step(one_key(25), times(25, 5), score, status, np.ones(25, np.bool_))
    assert np.array_equal(anomalous, np.arange(25) >= 20)


def test_a_noisy_series_raises_its_own_bar_and_a_quiet_one_lets_it_fall() -> None:
    rng = np.random.default_rng(4)
    noisy, quiet = Bar(Z0, BUDGET), Bar(Z0, BUDGET)
    n = 20 * 1440
    feed(noisy, times(n, 60), np.abs(rng.standard_t(3, n)))
    feed(quiet, times(n, 60), np.abs(rng.normal(size=n)))
    assert level(quiet) == pytest.approx(1.2 * Z0, rel=1e-3)
    assert level(noisy) > 2 * level(quiet)


def test_frequent_incidents_do_not_deafen() -> None:
    rng = np.random.default_rng(5)
    n = 30 * 1440
    score = np.abs(rng.normal(size=n))
    incident = (np.arange(n) % 1440 >= 600) & (np.arange(n) % 1440 < 640)
    score[incident] *= 20
    bar = Bar(Z0, BUDGET)
    _, anomalous = feed(bar, times(n, 60), score)
    found = [anomalous[day * 1440 + 600 : day * 1440 + 640].any() for day in range(30)]
    assert np.mean(found) == 1.0


def test_an_incident_in_the_first_hours_does_not_deafen_for_the_day() -> None:
    score = np.ones(600)
    score[100:130] = score[500:530] = 6 * Z0
    _, anomalous = feed(Bar(Z0, BUDGET), times(600, 60), score)
    assert anomalous[100:130].all()
    assert anomalous[500:530].all()


def test_a_score_in_reach_is_the_margin_whatever_the_past_reached() -> None:
    rng = np.random.default_rng(10)
    n = 10 * 1440
    score = Z0 * np.abs(rng.standard_t(3, n))
    plain, in_reach = Bar(Z0, BUDGET), Bar(Z0, BUDGET, in_reach=True)
    for bar in (plain, in_reach):
        feed(bar, times(n, 60), score)
    assert plain.table.rows["scale"][0] > 2 * Z0
    assert in_reach.table.rows["scale"][0] == Z0


def test_a_series_that_stands_still_in_most_hours_has_no_cap() -> None:
    rng = np.random.default_rng(11)
    n = 40 * 1440
    still, moving = np.zeros(n), np.abs(rng.normal(size=n))
    burst = rng.choice(n // 60, n // 60 // 8, replace=False) * 60
    still[burst] = moving[burst] = rng.uniform(10, 60, len(burst))
    levels = []
    for score in (still, moving):
        bar = Bar(Z0, BUDGET, in_reach=True)
        feed(bar, times(n, 60), score)
        levels.append(level(bar))
    assert levels[0] > 45.0
    assert levels[1] < 0.5 * levels[0]


def test_excluded_rows_are_judged_but_stay_out_of_the_blocks() -> None:
    rng = np.random.default_rng(6)
    n = 5 * 1440
    score = np.abs(rng.normal(size=n))
    bar, other = Bar(Z0, BUDGET), Bar(Z0, BUDGET)
    feed(bar, times(n, 60), score)
    feed(other, times(n, 60), score)
    later = times(600, 60, START + n * MINUTE)
    _, anomalous = feed(bar, later, np.full(600, 40.0), learn=False)
    assert anomalous.all()
    feed(other, later, np.full(600, 40.0))
    for one in (bar, other):
        feed(one, times(200, 60, int(later[-1]) + MINUTE), np.ones(200))
    assert 2 * level(bar) < level(other)


def test_a_budget_moves_the_bar_and_irregular_records_count_by_their_mean_rate() -> None:
    rng = np.random.default_rng(7)
    tight, loose, ragged = Bar(Z0, 0.02), Bar(Z0, 2.0), Bar(Z0, BUDGET)
    regular = Bar(Z0, BUDGET)
    n = 4_000
    for bar in (tight, loose, regular):
        feed(bar, times(n, 60), np.ones(n))
    feed(ragged, START + np.cumsum((rng.exponential(60, n) * SECOND).astype(np.int64)), np.ones(n))
    assert level(tight) > level(regular) > level(loose)
    assert level(ragged) == pytest.approx(level(regular), rel=0.03)


def test_a_long_gap_leaves_a_sane_bar() -> None:
    rng = np.random.default_rng(8)
    bar = Bar(Z0, BUDGET)
    n = 3 * 1440
    feed(bar, times(n, 60), np.abs(rng.normal(size=n)))
    feed(bar, times(400, 60, START + 800 * 24 * HOUR), np.abs(rng.normal(size=400)))
    assert 1.15 * Z0 < level(bar) < 2.1 * Z0
    assert np.isfinite(bar.table.rows["levels"][0]).all()


def alarm_at(minutes: list[int], height: list[float], n: int = 3_000) -> Bar:
    bar = Bar(Z0, BUDGET)
    score = np.ones(n)
    score[minutes] = np.array(height) * Z0
    feed(bar, times(n, 60), score)
    return bar


def test_notifications_are_episodes() -> None:
    run = list(range(1_000, 1_200))
    assert alarm_at(run, [9.0] * len(run)).tally[1].sum() == 1, "one long alarm"
    assert alarm_at([1_000, 1_030], [9.0, 9.0]).tally[1].sum() == 1, "half an hour later: the same"
    assert alarm_at([1_000, 1_100], [9.0, 8.0]).tally[1].sum() == 2, "at ≥ .7 of the peak, more than an hour later"
    assert alarm_at([1_000, 1_100], [9.0, 5.0]).tally[1].sum() == 1, "below .7 of the peak within six hours"
    assert alarm_at([1_000, 1_400], [9.0, 5.0]).tally[1].sum() == 2, "and after them"


def test_achieved_counts_days_of_judged_rows() -> None:
    bar = alarm_at([1_000, 2_500], [9.0, 9.0])
    assert bar.tally[2].sum() == 3
    assert bar.achieved(DAY0 + 2) == pytest.approx(2 / 3)
    assert bar.achieved(DAY0, 1) == 1.0
    assert bar.achieved(DAY0 + 2, 1) == 0.0
    assert math.isnan(bar.achieved(DAY0 + 40, 30))
    assert math.isnan(bar.achieved(DAY0 - 1))


def test_uncounted_rows_leave_no_trace_in_the_achieved_rate() -> None:
    bar = Bar(Z0, BUDGET)
    n = 100
    _, anomalous = bar.step(
        one_key(n), times(n, 60), np.full(n, 99.0), np.zeros(n, np.uint8), np.ones(n, np.bool_), np.zeros(n, np.bool_)
    )
    assert anomalous.any()
    assert bar.tally[1:].sum() == 0


def test_the_achieved_rate_remembers_64_days() -> None:
    bar = Bar(Z0, BUDGET)
    n = 100 * 24
    feed(bar, times(n, 3600), np.ones(n))
    assert bar.tally[2].sum() == 64
    assert bar.tally[0].min() == DAY0 + 36


def test_a_users_threshold_is_the_bar() -> None:
    bar = Bar(Z0, BUDGET, threshold=3.0)
    score = np.array([0.0, 1.5, np.nextafter(3.0, 0.0), 3.0, 6.0, 1e300, np.inf, np.nan, 9.0])
    status = np.array([0, 0, 0, 0, 0, 0, 0, 0, Status.MISSING], np.uint8)
    strength, anomalous = bar.step(one_key(9), times(9, 60), score, status, np.ones(9, np.bool_))
    assert np.array_equal(anomalous, [False, False, False, True, True, True, True, False, False])
    np.testing.assert_allclose(strength[[0, 1, 3, 4, 5, 6]], [-50, math.log(0.5), 0, math.log(2), 50, 50])
    assert np.isnan(strength[7:]).all()
    assert math.isnan(bar.achieved(DAY0))
    assert level(bar) == 3.0
    assert bar.table.used == 0


def test_forget_size_and_wrong_settings() -> None:
    bar = Bar(Z0, BUDGET)
    feed(bar, times(50, 60), np.ones(50))
    assert level(bar) > 0
    bar.forget(one_key(1))
    assert math.isnan(level(bar))
    assert np.isnan(bar.score_levels(np.array([500], np.int32))).all()
    assert bars.ROW.itemsize <= 1024
    for arguments in ((0.0, 0.2, None), (5.0, 0.0, None), (5.0, 0.2, -1.0), (math.nan, 0.2, None)):
        with pytest.raises(ConfigError, match="must be above 0"):
            Bar(arguments[0], arguments[1], threshold=arguments[2])


def robust_z(x: NDArray[np.float64], window: int = 240, hop: int = 30) -> NDArray[np.float64]:
    """|x − median| / 1.4826·MAD over the last `window` values, refitted every `hop`."""
    at = np.arange(window, len(x), hop)
    past = np.lib.stride_tricks.sliding_window_view(x, window)[at - window]
    median = np.median(past, axis=1)
    spread = 1.4826 * np.median(np.abs(past - median[:, None]), axis=1)
    of = np.minimum(np.arange(len(x) - window) // hop, len(at) - 1)
    return np.concatenate([np.zeros(window), np.abs(x[window:] - median[of]) / spread[of]])


def quiet_series(kind: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal, AR(1), Student-t with 4 degrees of freedom, or a daily season in noise."""
    noise = rng.normal(size=n)
    if kind == 1:
        for i in range(1, n):
            noise[i] = 0.8 * noise[i - 1] + 0.6 * noise[i]
    if kind == 2:
        noise = rng.standard_t(4, n)
    if kind == 3:
        noise += 3 * np.sin(2 * np.pi * np.arange(n) / 1440)
    return noise


def test_quiet_series_stay_within_budget_and_shifts_are_found() -> None:
    rng = np.random.default_rng(9)
    days, shift_at, shift_rows = 30, 25 * 1440 + 500, 30
    time, rates, found = times(days * 1440, 60), [], []
    for series in range(24):
        x = quiet_series(series % 4, days * 1440, rng)
        bar = Bar(Z0, BUDGET)
        feed(bar, time, robust_z(x))
        rates.append(bar.achieved(DAY0 + days - 1, days - 10) / BUDGET)
        shifted = x.copy()
        shifted[shift_at : shift_at + shift_rows] += 8 * (math.sqrt(2) if series % 4 == 2 else 1)
        _, anomalous = feed(Bar(Z0, BUDGET), time, robust_z(shifted))
        found.append(anomalous[shift_at : shift_at + shift_rows].any())
    assert np.mean(rates) <= 1.2
    assert np.mean(found) >= 0.7
