"""`linear`: its contract and its twin, what it sees that no feature shows alone, what it blames, growth and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.level import Level
from foreshock.detect.linear import Linear, LinearOptions, features_of, grow
from foreshock.detect.linear_layout import MATRICES, SQUARES, body, bytes_of
from foreshock.errors import ConfigError, PermanentError
from foreshock.state import State, pack, unpack
from foreshock.testing import check_detector
from foreshock.testing.frames import MINUTE, START, make
from foreshock.types import Frame, Status
from tests.unit.linear_twin import LinearTwin

QUICK = {"warm_up_rows": 400, "warm_up_seconds": 0}


def together(rng: np.random.Generator, rows: int, width: int = 6) -> NDArray[np.float64]:
    """Features that follow two slow waves and each other, with a little noise of their own."""
    hours = np.arange(rows) / 60
    waves = np.stack([np.sin(hours), np.cos(1.7 * hours)]) + 0.1 * rng.normal(size=(2, rows)).cumsum(1) / rows**0.5
    mix = np.random.default_rng(5).normal(size=(width, 2))
    out: NDArray[np.float64] = 50 + 10 * (mix @ waves).T + 0.5 * rng.normal(size=(rows, width))
    return out


def frame(values: NDArray[np.float64], start: int = START, step: int = MINUTE, key: int = 0) -> Frame:
    return make(np.full(len(values), key), start + step * np.arange(len(values)), values)


def scores(detector: Linear, rows: Frame) -> NDArray[np.float64]:
    out: NDArray[np.float64] = detector.step(rows).score
    return out


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config", [{"warm_up_rows": 30, "warm_up_seconds": 0}, {"warm_up_rows": 5, "warm_up_seconds": 1200}], ids=str
)
def test_it_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(Linear, config=config, univariate=False, twin=LinearTwin, seed=seed)


def test_it_keeps_the_contract_as_it_ships() -> None:
    check_detector(Linear, univariate=False, only=["info", "warm_up", "duplicate_times", "bytes_per_slot", "forget"])


def test_the_twin_agrees_over_fits_gaps_and_sparing() -> None:
    """Long enough for several fits, scales that are settled, and covariances that follow only windows of rows."""
    rng = np.random.default_rng(3)
    values = together(rng, 4600, 3)
    values[900:, 2] += 30
    values[4300:4330:3, 0] += 9
    values[rng.random(values.shape) < 0.02] = np.nan
    values[:700, 1] = 3.0
    time = START + MINUTE * np.arange(len(values))
    time[2000:] += 40 * MINUTE
    learn = np.ones(len(values), np.bool_)
    learn[1500:1520] = False
    rows = replace(frame(values), time_unix_nano=time, learn=learn)
    seen = Linear(QUICK).step(rows)
    twin = LinearTwin(QUICK)
    score, status = twin.step([0] * len(values), time.tolist(), values.tolist(), learn.tolist(), [0] * len(values))
    assert np.array_equal(seen.status, status)
    assert seen.ranking is not None
    assert np.array_equal(seen.score, score, equal_nan=True)
    assert np.array_equal(seen.ranking, twin.ranks, equal_nan=True)
    assert np.isfinite(seen.score).sum() > 4000
    assert seen.apart is not None
    said = [(i, j) for i, row in enumerate(twin.apart) for j in row]
    assert [tuple(one) for one in np.argwhere(np.isfinite(seen.apart)).tolist()] == said
    assert [float(seen.apart[one]) for one in said] == [twin.apart[i][j] for i, j in said]
    assert len(said) > 5


def departures(values: NDArray[np.float64]) -> NDArray[np.float32]:
    apart = Linear(QUICK).step(frame(values)).apart
    assert apart is not None
    return apart


def test_a_feature_that_departs_alone_is_told_from_all_that_depart() -> None:
    values = together(np.random.default_rng(8), 6000)
    alone, every = values.copy(), values.copy()
    alone[5900:5910, 2] += 6
    every[5900:5910] += 6
    seen = departures(alone)[5900:5910]
    assert seen[2, 2] > 1, "what ten features in e hours do not reach"
    assert np.nanargmax(seen[2]) == 2
    assert not (departures(every)[5900:5910] > 0).any()
    assert np.isnan(departures(values)[:3000]).all(), "nothing is said before two days of hours"
    assert (departures(values)[5000:] > 1).mean() < 1e-4


def test_a_feature_that_varies_more_departs() -> None:
    values = together(np.random.default_rng(9), 6000)
    noisy = np.random.default_rng(10).normal(size=30)
    values[5900:5930, 4] += 5 * noisy
    assert np.nanmax(departures(values)[5900:5930, 4]) > 1


def test_departures_do_not_hang_on_cuts_and_come_back_from_a_state() -> None:
    rows = frame(together(np.random.default_rng(11), 4000))
    whole = Linear(QUICK)
    wanted = whole.step(rows).apart
    detector, parts = Linear(QUICK), []
    for low in range(0, 4000, 733):
        parts.append(detector.step(rows.take(slice(low, low + 733))).apart)
        detector = Linear.restore(QUICK, unpack(pack(detector.state())))
    assert wanted is not None
    assert np.array_equal(np.concatenate([part for part in parts if part is not None]), wanted, equal_nan=True)


def test_features_that_part_are_seen_where_none_is_far_from_its_own_past() -> None:
    rng = np.random.default_rng(1)
    values = together(rng, 3100)
    values[3000:, 2] = 2 * values[3000:, 2].mean() - values[3000:, 2]
    assert np.ptp(values[3000:, 2]) < np.ptp(values[:3000, 2])
    seen = scores(Linear(QUICK), frame(values))
    assert np.nanmax(seen[2000:3000]) < 15
    assert np.max(seen[3000:3010]) > 50


@pytest.mark.parametrize("feature", [0, 3, 5])
def test_the_feature_that_moved_has_the_largest_contribution(feature: int) -> None:
    values = together(np.random.default_rng(2), 2001)
    values[2000, feature] += 8
    values[2000, (feature + 1) % 6] = np.nan
    detector = Linear(QUICK)
    detector.contributions = True
    given = detector.step(frame(values)).contribution
    assert given is not None
    assert given.shape == (2001, 8)
    last = given[2000]
    assert np.nanargmax(last) == feature
    assert last[feature] > 2 * np.nanmax(np.delete(last, feature))
    assert np.isnan(last[[(feature + 1) % 6, 6, 7]]).all(), "what is missing, or no feature, has no part"
    assert np.isnan(given[:400]).all(), "nor has anything before it is warm"


def test_a_constant_feature_that_moves_stands_out_once() -> None:
    values = together(np.random.default_rng(4), 2400)
    values[:, 1] = 7.0
    values[2000:, 1] = 7.001
    detector = Linear(QUICK)
    detector.contributions = True
    given = detector.step(frame(values))
    assert given.contribution is not None
    assert np.argmax(given.contribution[2000, :6]) == 1
    assert given.score[2000] > 10 * np.nanmedian(given.score)
    assert given.contribution[2399, 1] < given.contribution[2000, 1]


def test_an_incident_does_not_become_the_measure_of_the_next() -> None:
    """A burst of 30 minutes leaves the score of a like burst a day later above a third of the first."""
    values = together(np.random.default_rng(6), 5000)
    for start in (3000, 4440):
        values[start : start + 30, :3] += 15
    seen = scores(Linear(QUICK), frame(values))
    assert np.max(seen[4440:4470]) > np.max(seen[3000:3030]) / 3


def test_an_entity_grows_and_keeps_what_it_learnt() -> None:
    """From 3 features to 9 (a larger body) and 70 (a second one), in one batch and row by row alike."""
    rng = np.random.default_rng(7)
    values = together(rng, 2400, 70)
    frames = [frame(values[:1000, :3])]
    frames += [frame(values[1000:1600, :9], START + 1000 * MINUTE), frame(values[1600:], START + 1600 * MINUTE)]
    detector = Linear(QUICK)
    seen = np.concatenate([scores(detector, one) for one in frames])
    assert np.isfinite(seen[400:]).all()
    head = detector.heads.rows[0]
    assert (head["width"], head["room"], head["size"].tolist()[:3]) == (70, 72, [8, 1, 0])
    restored = Linear.restore(QUICK, unpack(pack(detector.state())))
    more = frame(together(np.random.default_rng(8), 50, 70), START + 2400 * MINUTE)
    by_row = np.concatenate([scores(restored, more.take(np.array([i]))) for i in range(50)])
    assert np.array_equal(by_row, scores(detector, more))


@pytest.mark.parametrize("seed", [7, 8, 9, 10, 11])
def test_new_features_warm_up_alone(seed: int) -> None:
    values = together(np.random.default_rng(seed), 2400, 70)
    detector = Linear(QUICK)
    parts = (values[:1000, :3], 0), (values[1000:1600, :9], 1000), (values[1600:], 1600)
    seen = np.concatenate([scores(detector, frame(part, START + at * MINUTE)) for part, at in parts])
    assert np.max(seen[450:]) < 25


def test_growth_in_the_middle_of_a_batch_is_growth_between_batches() -> None:
    values = together(np.random.default_rng(9), 900, 12)
    rows = frame(values)
    narrow = np.arange(900) < 500
    rows = replace(rows, width=np.where(narrow, 5, 12).astype(np.int16), values=rows.values.copy())
    rows.values[narrow, 5:] = np.nan
    once, twice = Linear(QUICK), Linear(QUICK)
    seen = scores(once, rows)
    parts = [scores(twice, rows.take(slice(a, b))) for a, b in ((0, 500), (500, 900))]
    assert np.array_equal(seen, np.concatenate(parts), equal_nan=True)
    assert pack(once.state()) == pack(twice.state())


def test_rows_of_many_keys_in_one_frame_are_those_of_each_alone() -> None:
    """Rows of a key are taken together where they come in one frame: with gaps, first moves, and rows not to learn."""
    rng = np.random.default_rng(12)
    rows, keys = 6000, 3
    key, values = rng.integers(0, keys, rows), together(rng, rows, 9)
    values[:, 4] = np.where(np.arange(rows) < 2500, 1.0, values[:, 4])
    values[rng.random(values.shape) < 0.01] = np.nan
    values[rng.random(rows) < 0.01] = np.nan
    time = START + MINUTE * (np.arange(rows) + 90 * (rng.random(rows) < 0.002).cumsum())
    mixed = replace(make(key, time, values), learn=rng.random(rows) > 0.01)
    detector = Linear(QUICK)
    cuts = [0, *np.sort(rng.integers(1, rows, 9)).tolist(), rows]
    seen = np.concatenate([scores(detector, mixed.take(slice(a, b))) for a, b in pairwise(cuts)])
    for one in range(keys):
        alone, own = Linear(QUICK), np.flatnonzero(key == one)
        by_row = [
            scores(alone, replace(mixed.take(own[i : i + 1]), key=np.zeros(1, np.int32))) for i in range(len(own))
        ]
        assert np.array_equal(np.concatenate(by_row), seen[own], equal_nan=True)
        slot = detector.heads.rows["slot"][one, 0]
        assert np.array_equal(detector.bodies[1].rows["number"][slot], alone.bodies[1].rows["number"][0])
    assert np.isfinite(seen).sum() > rows / 2


def test_places_that_are_left_are_used_again() -> None:
    detector = Linear(QUICK)
    for width, key in ((5, 0), (12, 0), (5, 1), (5, 2)):
        detector.step(frame(np.ones((1, width)), key=key))
    assert [table.used for table in detector.bodies[:2]] == [2, 1]
    assert detector.heads.rows["slot"][[1, 2], 0].tolist() == [0, 1]


def test_a_body_keeps_all_its_parts_when_it_grows() -> None:
    narrow, wide = (np.zeros(1, body(b))["number"][0] for b in (8, 24))
    narrow[:] = np.arange(1, len(narrow) + 1)
    grow(narrow, wide)
    assert (features_of(narrow), features_of(wide)) == (8, 24)
    parts = narrow[64 : SQUARES * 8].reshape(-1, 8), wide[192 : SQUARES * 24].reshape(-1, 24)
    assert np.array_equal(parts[0], parts[1][:, :8])
    assert np.array_equal(narrow[:64].view(np.float64).reshape(4, 8), wide[:192].view(np.float64).reshape(4, 24)[:, :8])
    squares = narrow[SQUARES * 8 :].reshape(MATRICES, 8, 8), wide[SQUARES * 24 :].reshape(MATRICES, 24, 24)
    assert np.array_equal(squares[0], squares[1][:, :8, :8])
    assert np.count_nonzero(wide) == np.count_nonzero(narrow)


def test_it_is_silent_until_rows_and_time_are_enough() -> None:
    """864 rows at 5 minutes; two days at 5 seconds."""
    for step, wanted in ((300, 864), (5, 2 * 17_280)):
        rng = np.random.default_rng(0)
        status = Linear().step(frame(rng.normal(size=(wanted + 40, 3)), step=step * 10**9)).status
        first = int(np.flatnonzero(status == Status.SCORED)[0])
        assert wanted - 12 <= first <= wanted + 12


def test_a_gap_is_not_looked_across() -> None:
    values = together(np.random.default_rng(10), 2000)
    apart = frame(values, START)
    time = apart.time_unix_nano.copy()
    time[1990:] += 120 * MINUTE
    before, after = Linear(QUICK), Linear(QUICK)
    together_seen = scores(before, apart)
    gap_seen = scores(after, replace(apart, time_unix_nano=time))
    assert np.array_equal(together_seen[:1990], gap_seen[:1990], equal_nan=True)
    assert not np.array_equal(together_seen[1990:], gap_seen[1990:])


def test_a_thousand_features_cost_less_than_a_millisecond_a_row_in_state_and_fits() -> None:
    """What bounds it: bodies of 64 features, each of fixed size, and four features fitted every fourth row."""
    detector = Linear(QUICK)
    detector.step(frame(np.random.default_rng(0).normal(size=(200, 1000))))
    head = detector.heads.rows[0]
    assert head["cursor"] == 200 - 128 + 4, "a fit goes on four features at a time, every fourth row"
    assert [table.used for table in detector.bodies] == [0, 0, 0, 0, 1, 0, 0, 15]
    assert bytes_of(8) < 7_000
    assert bytes_of(38) < 140_000


def test_a_fit_goes_on_from_any_feature() -> None:
    """States may have been saved where the next feature is not the first of four."""
    values = together(np.random.default_rng(13), 200, 8)
    seen = []
    for cursor in (4, 5, 7):
        detector = Linear(QUICK)
        detector.step(frame(values[:129]))
        assert detector.heads.rows["cursor"][0] == 4
        detector.heads.rows["cursor"][0] = cursor
        detector.step(frame(values[129:], START + 129 * MINUTE))
        seen.append(pack(detector.state()))
    assert seen[0] == seen[1] == seen[2]


def test_its_bar_is_the_one_for_pools() -> None:
    from foreshock.detect.bar import BarOptions

    made = Linear().make_bar(0.5, BarOptions(min_rows=7))
    assert isinstance(made, Level)
    assert (made.budget_per_day, made.options.min_rows) == (0.5, 7)


def test_a_foreign_state_and_a_wrong_option_are_told() -> None:
    with pytest.raises(PermanentError, match="state of detector 'zscore' version 1 cannot be restored as 'linear'"):
        Linear.restore({}, State(1, {"detector": "zscore"}))
    with pytest.raises(ConfigError, match="did you mean 'warm_up_rows'"):
        Linear({"warmup_rows": 3})
    with pytest.raises(ValueError, match="-1 is negative"):
        Linear().step(make([-1], START, [[1.0, 2.0]]))
    assert Linear(LinearOptions(forecast_ridge=1.0)).options.forecast_ridge == 1.0
