"""`rate_of_change`: its contract and twin, event time, gaps, and limits in units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.bar import Bar
from foreshock.detect.rate_of_change import RateOfChange
from foreshock.errors import ConfigError, PermanentError
from foreshock.state import State, pack, unpack
from foreshock.testing import check_detector
from foreshock.testing.frames import DAY, MINUTE, START, make
from foreshock.types import Frame, Series, Status, labels
from tests.unit.standard_twins import RateTwin

SECOND = 10**9
HOST = labels({"host.name": "a"})


def series(values: Any, step: float = 60.0, start: int = START, key: int = 0) -> Frame:
    """Rows of one key, `step` seconds apart."""
    time = start + (np.arange(len(values)) * (step * SECOND)).astype(np.int64)
    return make(np.full(len(values), key), time, values)


def walk(rows: int, seed: int = 0) -> NDArray[np.float64]:
    out: NDArray[np.float64] = 100 + np.random.default_rng(seed).normal(size=rows).cumsum()
    return out


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config",
    [
        {}, {"per": "step", "warm_up_rows": 5}, {"threshold": 0.5}, {"max_gap_steps": 2, "memory_seconds": "1h"},
        {"min_change": 3.0},
    ],
    ids=str,
)  # fmt: skip
def test_it_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(RateOfChange, config=config, univariate=True, twin=RateTwin, seed=seed)


def test_a_slot_is_small() -> None:
    assert RateOfChange().info.bytes_per_slot == 96


def test_a_jump_in_a_walk_stands_out_and_noise_does_not() -> None:
    values = walk(3000)
    values[2900:] += 12.0
    seen = RateOfChange().step(series(values)).score
    assert seen[2900] > 10.0
    assert np.nanmax(np.delete(seen, 2900)) < 6.0
    assert 0.6 < np.nanmedian(seen) < 0.75, "a normal rate lies .67 deviations away in half of the rows"


def test_what_is_learnt_of_a_jump_is_bounded() -> None:
    quiet, jumped = walk(2000), walk(2000)
    jumped[1000:] += 1e6
    scales = []
    for values in (quiet, jumped):
        detector = RateOfChange()
        detector.step(series(values))
        scales.append(float(detector.table.rows[0]["scale"]))
    assert scales[1] == pytest.approx(scales[0], rel=0.02)


def test_a_steady_climb_is_usual_and_its_end_is_not() -> None:
    rng = np.random.default_rng(0)
    values = 5.0 * np.arange(2000) + rng.normal(size=2000) * 0.1
    values[1990:] = values[1990]
    seen = RateOfChange().step(series(values)).score
    assert np.nanmax(seen[100:1990]) < 6.0
    assert seen[1991] > 15.0


@pytest.mark.parametrize("step", [1.0, 10.0, 300.0, 3600.0])
def test_rates_are_per_second_at_every_step(step: float) -> None:
    """The same climb, seen at irregular times: twice the time is no surprise, twice the rate is."""
    rng = np.random.default_rng(1)
    time = START + (np.cumsum(rng.uniform(0.6, 1.8, 2000) * step) * SECOND).astype(np.int64)
    value = 3.0 * (time - START) / SECOND + 0.01 * step * rng.normal(size=2000)
    value[1500:] += 3.0 * step * 3
    by_time = RateOfChange().step(make(np.zeros(2000), time, value)).score
    by_row = RateOfChange({"per": "step"}).step(make(np.zeros(2000), time, value)).score
    assert by_time[1500] > 30.0
    assert np.nanmax(by_time[100:1500]) < 15.0
    assert np.nanmedian(by_row[100:1500]) > 0.5, "by row the same climb is as uneven as its times"
    assert by_row[1500] < by_time[1500] / 3


def test_rows_that_come_together_are_not_fast() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(50, 1, 1000)
    frame = series(values)
    frame.time_unix_nano[501::2] = frame.time_unix_nano[500:-1:2] + 1_000_000
    seen = RateOfChange().step(frame).score
    assert np.nanmax(seen[501:]) < 12.0


def test_a_rate_over_a_gap_is_missing_and_not_learnt() -> None:
    values = walk(400)
    values[300:] += 500.0
    frame = series(values)
    for gap, status in ((4, Status.SCORED), (6, Status.MISSING)):
        moved = frame.time_unix_nano.copy()
        moved[300:] += (gap - 1) * MINUTE
        detector = RateOfChange()
        before = detector.step(make(np.zeros(300), moved[:300], values[:300]))
        scale = float(detector.table.rows[0]["scale"])
        after = detector.step(make(np.zeros(100), moved[300:], values[300:]))
        assert (before.status[20:] == Status.SCORED).all()
        assert after.status[0] == status
        assert (after.status[1:] == Status.SCORED).all(), "what comes behind the gap starts from there"
        assert after.score[1] < 6.0
        if status == Status.MISSING:
            once = RateOfChange()
            once.step(make(np.zeros(301), moved[:301], values[:301]))
            assert once.table.rows[0]["scale"] == scale


def test_a_series_that_slows_down_is_judged_again() -> None:
    frame = series(walk(1500), step=10.0)
    frame.time_unix_nano[500:] += (np.arange(1000) * 190 * SECOND).astype(np.int64)
    status = RateOfChange().step(frame).status
    assert (status[900:] == Status.SCORED).all()
    assert 0 < np.count_nonzero(status == Status.MISSING) < 250


@pytest.mark.parametrize("level", [0.0, 7.0, -1e6])
def test_the_first_move_scores_by_how_long_it_stood(level: float) -> None:
    for rows in (30, 960):
        detector = RateOfChange()
        assert (detector.step(series(np.full(rows, level))).score[20:] == 0).all()
        moved = detector.score(series([level + 1e3], start=START + rows * MINUTE)).score[0]
        assert moved == pytest.approx(8 * (rows / 60) ** 0.25)


def test_the_least_change_scores_twelve_and_outlives_forgetting() -> None:
    detector = RateOfChange()
    detector.configure_keys(np.zeros(1, np.int32), np.array([5.0]))
    detector.step(series(50 + 0.01 * np.random.default_rng(0).normal(size=200)))
    detector.forget(np.array([0, 900], np.int32))
    detector.step(series(50 + 0.01 * np.random.default_rng(0).normal(size=200)))
    last = float(detector.table.rows[0]["last"])
    assert detector.score(series([last + 5.0], start=START + 200 * MINUTE)).score[0] == pytest.approx(12, rel=0.01)


def test_bands_hold_what_scores_less_than_their_width() -> None:
    detector = RateOfChange()
    detector.bands = True
    x = walk(500)
    seen = detector.step(series(x))
    assert seen.low is not None
    assert seen.high is not None
    warm = seen.status == Status.SCORED
    np.testing.assert_array_equal(((seen.low <= x) & (x <= seen.high))[warm], seen.score[warm] <= 6.0)


@pytest.mark.parametrize(
    ("threshold", "unit", "limit"),
    [
        ("5 MB/s", "By", 5e6),
        ("5 MB/s", "MBy", 5.0),
        ("5 MB/s", "", 5e6),
        (2, "By", 2.0),
        ("6 %/min", "1", 0.001),
        ("6 %/min", "%", 0.1),
        ("6 %/min", "", 0.001),
        ("600 ms/min", "s", 0.01),
    ],
)
def test_a_limit_in_units_is_kept_to_the_row(threshold: Any, unit: str, limit: float) -> None:
    detector = RateOfChange({"threshold": threshold})
    detector.meet(np.array([3], np.int32), [Series("x", HOST, unit=unit)])
    assert detector.threshold == 1.0
    rates = limit * np.array([0.0, 0.5, -0.99, 1.01, -1.01, 0.99])
    seen = detector.step(series(np.cumsum(rates * 10.0), step=10.0, key=3))
    assert seen.status.tolist() == [Status.WARMING_UP] + 5 * [Status.SCORED]
    np.testing.assert_allclose(seen.score[1:], [0.5, 0.99, 1.01, 1.01, 0.99], rtol=1e-6)
    bar = Bar(1.0, 0.2, threshold=detector.threshold)
    over = bar.step(np.full(6, 3, np.int32), np.zeros(6, np.int64), seen.score, seen.status, np.ones(6, np.bool_))[1]
    assert over.tolist() == [False, False, False, True, True, False]


def test_a_share_is_of_the_value_before() -> None:
    detector = RateOfChange({"threshold": "10 %/min"})
    detector.meet(np.zeros(1, np.int32), [Series("memory", HOST, unit="By")])
    gib = 2.0**30
    seen = detector.step(series(np.array([4.0, 4.2, 4.2 * 1.2, 0.0, 1.0]) * gib))
    np.testing.assert_allclose(seen.score[1:4], [0.5, 2.0, 10.0])
    assert seen.score[4] == 1e9, "any share of nothing"


def test_a_limit_that_measures_something_else_judges_nothing() -> None:
    detector = RateOfChange({"threshold": "5 MB/s"})
    detector.meet(np.arange(2, dtype=np.int32), [Series("latency", HOST, unit="s"), Series("io", HOST, unit="By")])
    seen = detector.step(make([0, 1, 0, 1], START + np.array([0, 0, 1, 1]) * MINUTE, [1.0, 1.0, 2.0, 2.0]))
    assert seen.status.tolist() == [Status.EXCLUDED, Status.WARMING_UP, Status.EXCLUDED, Status.SCORED]
    detector.forget(np.arange(2, dtype=np.int32))
    assert detector.step(make([0], START + DAY, [1.0])).status[0] == Status.EXCLUDED, "limits outlive forgetting"


def test_limits_are_saved_and_restored() -> None:
    config = {"threshold": "5 MB/s"}
    detector = RateOfChange(config)
    detector.meet(np.zeros(1, np.int32), [Series("io", HOST, unit="MBy")])
    detector.step(series([0.0, 1.0]))
    again = RateOfChange.restore(config, unpack(pack(detector.state())))
    later = series([301.0], start=START + 2 * MINUTE)
    assert again.score(later).score[0] == detector.score(later).score[0] == 1.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"threshold": "5 MB"}, "threshold is 5 MB: a change per second needs a limit such as 5 MB/s"),
        ({"threshold": "-5 MB/s"}, "threshold is -5 MB/s: it must be above 0"),
        ({"threshold": 0}, "threshold is 0.0: it must be above 0"),
        ({"threshold": "5 parsecs/s"}, "threshold: '5 parsecs/s' is in no known unit"),
        ({"per": "minute"}, "per: Input should be 'second' or 'step'"),
        ({"max_gap": 3}, "max_gap: unknown option; did you mean 'max_gap_steps'"),
        ({"max_gap_steps": 0.5}, "max_gap_steps: Input should be greater than or equal to 1"),
    ],
)
def test_wrong_options_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RateOfChange(config)
    assert message in str(caught.value)


def test_a_state_of_something_else_is_refused() -> None:
    with pytest.raises(PermanentError, match="cannot be restored as 'rate_of_change' version 1"):
        RateOfChange.restore({}, State(1, {"detector": "zscore"}))
