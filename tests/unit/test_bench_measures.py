"""The measures of the quality bench: by hand where that can be done, and beside slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foreshock.bench import measures as m
from foreshock.bench import nab
from tests.unit import measure_twins as twins

Flags = m.Flags


def flags(n: int, *stretches: tuple[int, int]) -> Flags:
    out = np.zeros(n, bool)
    for start, end in stretches:
        out[start:end] = True
    return out


def a_case(seed: int) -> tuple[Flags, m.Reals]:
    """Random events and scores that know something of them; a third of the cases has many equal scores."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(40, 120))
    truth = np.zeros(n, bool)
    for _ in range(int(rng.integers(1, 5))):
        start = int(rng.integers(0, n - 1))
        truth[start : start + int(rng.integers(1, 12))] = True
    if seed == 1:
        truth[0] = truth[-1] = True
    score = rng.normal(size=n) + 1.5 * truth * rng.random(n)
    return truth, np.round(score, 1) if seed % 3 == 0 else score


@pytest.mark.parametrize("seed", range(12))
def test_vus_pr_is_its_slow_twin(seed: int) -> None:
    truth, score = a_case(seed)
    buffer = seed % 9
    wanted = twins.vus_pr(truth.tolist(), score.tolist(), buffer, 40)
    assert m.vus_pr(truth, score, buffer, 40) == pytest.approx(wanted, abs=1e-12)


def test_vus_pr_without_a_buffer_by_hand() -> None:
    # Thresholds 4, 3, 2, 1. Flagged 1, 2, 3, 4 rows, hits 1, 1, 2, 2; one event, touched from the first on:
    # recall ½, ½, 1, 1 and precision 1, ½, ⅔, ½.
    truth = np.array([False, True, True, False])
    assert m.vus_pr(truth, np.array([3.0, 4.0, 2.0, 1.0]), 0, 4) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_score_that_is_the_label_is_perfect_and_a_constant_is_the_share_of_labels() -> None:
    truth = flags(200, (50, 60), (150, 170))
    assert m.auc_pr(truth, truth.astype(float)) == 1.0
    assert m.vus_pr(truth, truth.astype(float), 0) == 1.0
    assert m.auc_pr(truth, np.zeros(200)) == pytest.approx(30 / 200)
    assert math.isnan(m.auc_pr(flags(5), np.zeros(5)))
    assert math.isnan(m.vus_pr(flags(5), np.zeros(5), 3))


def test_average_precision_by_hand() -> None:
    truth = np.array([True, False, True, False, False])
    # 3, 2, 2 (equal), 1, 0: first threshold 1 of 1, second 2 of 3.
    assert m.auc_pr(truth, np.array([3.0, 2.0, 2.0, 1.0, 0.0])) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_rules_in_rows() -> None:
    assert (m.cool_down(60.0), m.cool_down(300.0), m.cool_down(3600.0)) == (60, 12, 10)
    assert (m.slack(60.0), m.slack(300.0), m.slack(3600.0)) == (10, 2, 2)


def test_events_and_notifications_are_counted_by_hand() -> None:
    truth = flags(1000, (100, 130), (400, 420), (700, 701))
    # In the first event from its 5th row on; just before the second, which alone is no hit; a false alarm that lasts
    # 150 rows notifies at 500, 560 and 620; one within ten rows behind the last event is not false.
    alarm = flags(1000, (105, 200), (392, 395), (500, 650), (705, 706))
    counts = m.event_counts(truth, alarm, 60.0)
    assert counts.found == 1
    assert counts.missed == 2
    # Also from 140 on, ten rows behind the first event: once (to 199).
    assert counts.false == 4
    assert counts.delays_seconds == (300.0,)
    assert counts.days == pytest.approx(1000 / 1440)


def test_pools_weigh_events_not_series() -> None:
    online = m.pooled([m.Counts(9, 0, 0, 1.0, (60.0,) * 9), m.Counts(0, 1, 8, 1.0)])
    assert (online.events, online.found, online.false_alarms) == (10, 9, 8)
    assert (online.recall, online.precision) == (0.9, 9 / 17)
    assert online.f1 == pytest.approx(18 / 27)
    assert online.false_alarms_per_day == 4.0
    assert online.delay_seconds == 60.0
    nothing = m.pooled([m.Counts(0, 0, 0, 1.0)])
    assert (nothing.recall, nothing.precision) == (0.0, 0.0)
    assert math.isnan(nothing.f1)
    assert math.isnan(nothing.delay_seconds)


def test_the_buffer_is_the_period() -> None:
    t = np.arange(3000)
    rng = np.random.default_rng(0)
    assert m.buffer_length(np.sin(2 * np.pi * t / 48) + 0.1 * rng.normal(size=3000)) == pytest.approx(48, abs=1)
    assert m.buffer_length(np.ones(3000)) == 125
    assert m.buffer_length(np.ones(3)) == 125


# -- NAB ----------------------------------------------------------------------------------------------------------


def series(n: int, at: list[int], *windows: tuple[int, int]) -> nab.Scored:
    score = np.zeros(n)
    score[at] = 1.0
    return nab.Scored(np.arange(n, dtype=np.float64) * 300.0, score, [(a * 300.0, b * 300.0) for a, b in windows])


def test_nab_of_one_window_by_hand() -> None:
    found = (100, 199)
    assert nab.nab_score([series(400, [100], found)], threshold=1.0)[0] == pytest.approx(100.0)
    assert nab.nab_score([series(400, [], found)], threshold=1.0)[0] == pytest.approx(0.0)
    # The last row of the window: σ(−1/100)/σ(−1) of a true positive, in units of 2 (from −1 to 1), above −1.
    last = math.tanh(2.5 / 100) / math.tanh(2.5)
    assert nab.nab_score([series(400, [199], found)], threshold=1.0)[0] == pytest.approx(50 * (last + 1))
    # Only the first in a window counts, and each outside costs: before any window all of .11.
    both = nab.nab_score([series(400, [70, 100, 150], found)], threshold=1.0)[0]
    assert both == pytest.approx(100 * (2 - 0.11) / 2)
    # Among the first 15 % nothing counts.
    assert nab.nab_score([series(400, [10, 100], found)], threshold=1.0)[0] == pytest.approx(100.0)


@pytest.mark.parametrize("seed", range(6))
def test_nab_is_its_slow_twin_at_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corpus = []
    for _ in range(3):
        n = int(rng.integers(60, 200))
        left = int(rng.integers(0, n // 2))
        windows = [(left * 60.0, (left + 9) * 60.0), ((left + 20) * 60.0, (left + 24) * 60.0)]
        corpus.append(nab.Scored(np.arange(n, dtype=np.float64) * 60.0, np.round(rng.random(n), 2), windows))
    for profile in nab.PROFILES.values():
        thresholds, raw = nab.raw_scores(corpus, profile)
        for at in range(1, len(thresholds), 13):
            assert raw[at] == pytest.approx(twins.nab_raw(corpus, profile, float(thresholds[at])))
        best, threshold = nab.nab_score(corpus, profile)
        assert best >= nab.nab_score(corpus, profile, 0.9)[0]
        assert nab.nab_score(corpus, profile, threshold)[0] == best


def test_a_threshold_of_one_half_is_judged_on_the_other() -> None:
    good = [series(400, [100], (100, 199)) for _ in range(4)]
    score, spread = nab.halves(good, splits=4)
    assert score == pytest.approx(100.0)
    assert spread == 0.0
