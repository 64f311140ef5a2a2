"""`zscore` against its twin, against numpy, and at the edges of what floats can hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.zscore import ZScore
from foreshock.errors import ConfigError, PermanentError
from foreshock.state import State
from foreshock.testing import frames
from foreshock.testing.frames import DAY, MINUTE, START, make
from foreshock.types import Frame, Status
from tests.unit.detect_twins import ZScoreTwin


def series(values: NDArray[np.float64] | list[float], start: int = START) -> Frame:
    """Rows of key 0, a minute apart."""
    return make(np.zeros(len(values)), start + MINUTE * np.arange(len(values)), values)


def normal(rows: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(50.0, 2.0, rows)


def moments(detector: ZScore) -> tuple[float, float]:
    row = detector.table.rows[0]
    return float(row["mean"]), float(row["variance"])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("half_life", [1.0, 30.0, 500.0])
def test_long_awkward_frames_score_as_the_twin_says(half_life: float, seed: int) -> None:
    config = {"half_life_rows": half_life}
    frame = frames.hard(np.random.default_rng(seed), 4000, 3)
    detector, twin = ZScore(config), ZScoreTwin(config)
    seen = detector.step(frame)
    score, status = twin.step(
        frame.key.tolist(), frame.time_unix_nano.tolist(), frame.values.tolist(), frame.learn.tolist(),
        frame.status.tolist(),
    )  # fmt: skip
    np.testing.assert_array_equal(seen.score, score)
    np.testing.assert_array_equal(seen.status, status)
    for key, memory in twin.memories.items():
        row = detector.table.rows[key]
        assert (row["mean"], row["variance"]) == (memory["mean"], memory["variance"])


def test_mean_and_variance_are_exact_until_the_weights_become_exponential() -> None:
    detector, x = ZScore({"half_life_rows": 500}), normal(700)
    detector.step(series(x))
    np.testing.assert_allclose(moments(detector), (x.mean(), x.var()), rtol=1e-12)


def test_after_a_half_life_what_was_before_counts_half() -> None:
    detector = ZScore({"half_life_rows": 100})
    detector.step(series(normal(5000)))
    before, spread = moments(detector)
    level = before + 0.1 * spread**0.5
    detector.step(series(np.full(100, level), START + DAY))
    assert moments(detector)[0] == pytest.approx((before + level) / 2, rel=1e-9)


def test_a_spike_is_found_and_learnt_as_four_deviations_at_most() -> None:
    detector = ZScore()
    detector.step(series(normal(1000)))
    mean, variance = moments(detector)
    found = detector.step(series([1e7], START + DAY))
    assert found.score[0] > 1e6
    assert moments(detector)[0] - mean == pytest.approx(4 * variance**0.5 * (1 - 2 ** (-1 / 500)), rel=1e-9)
    assert moments(detector)[1] < 1.03 * variance


def test_a_step_becomes_normal() -> None:
    detector = ZScore({"half_life_rows": 50})
    detector.step(series(normal(500)))
    seen = detector.step(series(normal(500, seed=1) + 20.0, START + DAY))
    assert seen.score[0] > 5.0
    assert np.median(seen.score[-100:]) < 2.0


@pytest.mark.parametrize("level", [0.0, 1.0, -3e8])
def test_a_change_after_constancy_scores_by_the_floor(level: float) -> None:
    detector = ZScore()
    seen = detector.step(series(np.full(200, level)))
    assert (seen.score[20:] == 0.0).all()
    least = max(1e-6 * abs(level), 1e-9)
    changed = detector.step(series([level + 20 * least], START + DAY))
    assert changed.score[0] == pytest.approx(20.0, rel=1e-6)
    assert detector.step(series([1e18], START + DAY + MINUTE)).score[0] == 1e9


def test_numbers_at_the_end_of_the_scale_stay_numbers() -> None:
    detector = ZScore({"half_life_rows": 10})
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000) * 10.0 ** rng.uniform(-308, 308, 3000)
    seen = detector.step(series(x))
    assert np.isfinite(seen.score[20:]).all()
    assert seen.score.max(initial=0.0, where=np.isfinite(seen.score)) <= 1e9
    assert np.isfinite(moments(detector)).all()


def test_bands_hold_the_scores_that_are_below_their_width() -> None:
    for config, width in (({}, 6.0), ({"threshold": 1.5}, 1.5)):
        detector = ZScore(config)
        detector.bands = True
        x = normal(500)
        seen = detector.step(series(x))
        assert seen.expected is not None
        assert seen.low is not None
        assert seen.high is not None
        warm = seen.status == Status.SCORED
        assert np.isnan(seen.expected[~warm]).all()
        inside = (seen.low <= x) & (x <= seen.high)
        np.testing.assert_array_equal(inside[warm], seen.score[warm] <= width)
        np.testing.assert_allclose(seen.score[warm], width * np.abs(x - seen.expected)[warm]
                                   / (seen.high - seen.expected)[warm], rtol=1e-9)  # fmt: skip


def test_score_gives_the_score_as_contribution() -> None:
    detector = ZScore()
    detector.step(series(normal(100)))
    seen = detector.score(make([0, 5], START + DAY, [60.0, 60.0]))
    np.testing.assert_array_equal(seen.contribution, seen.score.astype(np.float32)[:, None])
    assert seen.status.tolist() == [Status.SCORED, Status.WARMING_UP]


def test_a_gap_counts_from_the_latest_learnt_row() -> None:
    detector = ZScore({"expiry_seconds": "2d", "half_life_rows": 5})
    detector.step(series(normal(50)))
    late = make([0, 0], [START - 3 * DAY, START + 60 * MINUTE], [50.0, 50.0])
    assert (detector.step(late).status == Status.SCORED).all()
    ignored = replace(series([50.0], START + DAY), learn=np.zeros(1, np.bool_))
    assert detector.step(ignored).status[0] == Status.SCORED
    after = START + 60 * MINUTE + 2 * DAY
    assert detector.score(series([50.0], after)).status[0] == Status.SCORED
    assert detector.step(series([50.0], after + 1)).status[0] == Status.WARMING_UP


def test_the_light_tier_is_light() -> None:
    assert ZScore().info.bytes_per_slot == 32


def test_the_threshold_is_kept_for_the_bank() -> None:
    assert ZScore().threshold is None
    assert ZScore({"threshold": "1.5"}).threshold == 1.5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"half_live_rows": 3}, r"half_live_rows: unknown option; did you mean 'half_life_rows'\?"),
        ({"x": 3}, r"x: unknown option; known are: expiry_seconds, half_life_rows, threshold, warm_up_rows"),
        ({"half_life_rows": 0.5}, r"half_life_rows: Input should be greater than or equal to 1"),
        ({"threshold": 0}, r"threshold: Input should be greater than 0"),
        ({"expiry_seconds": "5 parsecs"}, r"expiry_seconds: '5 parsecs' is not a duration"),
    ],
)
def test_wrong_options_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message):
        ZScore(config)


def test_frames_that_are_not_for_it_are_refused() -> None:
    with pytest.raises(ValueError, match="one column, not of 4"):
        ZScore().step(make([0], START, [[1.0, 2.0, 3.0]]))
    for ask in (ZScore().step, ZScore().score):
        with pytest.raises(ValueError, match="-1 is negative"):
            ask(make([3, -1], START, [1.0, 1.0]))


def test_a_state_of_something_else_is_refused() -> None:
    for state in (
        State(1, {"detector": "robust_z"}),
        State(2, {"detector": "zscore"}),
        State(1, {"detector": "zscore"}),
    ):
        with pytest.raises(PermanentError, match="cannot be restored as 'zscore' version 1"):
            ZScore.restore({}, state)
