"""`robust_z` against its twin and numpy; each floor of its scale by itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.kernels import median_distance
from foreshock.detect.robust_z import RobustZ
from foreshock.errors import ConfigError, PermanentError
from foreshock.testing import frames
from foreshock.testing.frames import DAY, MINUTE, START, make
from foreshock.types import Frame, Scores, Status
from tests.unit.detect_twins import RobustZTwin
from tests.unit.kernels import called

ZERO = np.zeros(1, np.int32)


def series(values: NDArray[np.float64] | list[float], start: int = START) -> Frame:
    """Rows of key 0, a minute apart."""
    return make(np.zeros(len(values)), start + MINUTE * np.arange(len(values)), values)


def scale(detector: RobustZ) -> float:
    """The scale of key 0 now."""
    seen: Scores = detector.score(series([0.0], START + DAY))
    assert seen.high is not None
    assert seen.expected is not None
    return float(seen.high[0] - seen.expected[0]) / 6.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", [{"window": 7, "warm_up_rows": 3}, {"window": 64}, {}], ids=str)
def test_long_awkward_frames_score_as_the_twin_says(config: dict[str, int], seed: int) -> None:
    frame = frames.hard(np.random.default_rng(seed), 2500, 3)
    detector, twin = RobustZ(config), RobustZTwin(config)
    detector.bands = True
    seen = detector.step(frame)
    score, status = twin.step(
        frame.key.tolist(), frame.time_unix_nano.tolist(), frame.values.tolist(), frame.learn.tolist(),
        frame.status.tolist(),
    )  # fmt: skip
    np.testing.assert_array_equal(seen.score, score)
    np.testing.assert_array_equal(seen.status, status)
    for key, memory in twin.memories.items():
        n = len(memory["window"])
        row = detector.table.rows[key]
        assert (row["count"], row["change"]) == (n, memory["change"])
        np.testing.assert_array_equal(row["sorted"][:n], sorted(memory["window"]))
        if n >= twin.warm_up_rows:
            center, width = twin.center_and_scale(memory, 1.0)
            low = center - 6.0 * width
            asked = detector.score(make([key], int(row["time"]), [1.0]))
            assert asked.expected is not None
            assert asked.low is not None
            assert (asked.expected[0], asked.low[0]) == (
                center,
                max(low, 0.0) if min(memory["window"]) >= 0.0 else low,
            )


def test_the_median_distance_is_that_of_numpy() -> None:
    rng, distance = np.random.default_rng(0), called(median_distance)
    for n in (*range(1, 60), 359, 360):
        for values in (rng.normal(size=n), rng.integers(0, 4, n).astype(float), rng.lognormal(0, 3, n), np.ones(n)):
            for center in (float(np.median(values)), float(values.min()), float(values.max()) + 1.0):
                wanted = np.median(np.abs(values - center))
                assert distance(np.sort(values), center) == wanted


def test_the_window_is_sliding_and_exact() -> None:
    x = np.random.default_rng(0).normal(size=1000)
    detector = RobustZ({"window": 100})
    detector.bands = True
    seen = detector.step(series(x))
    assert seen.expected is not None
    for i in (20, 99, 100, 101, 500, 999):
        assert seen.expected[i] == np.median(x[max(0, i - 100) : i])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.tile([100.0, 101.0, 99.0, 103.0, 97.0], 40), 5.0),
        (np.repeat([-3.0, -1.0, 0.0, 1.0, 3.0], 40), 1.4826),
        (np.tile(np.repeat([0.0, 3.0], [9, 1]), 20), 1.5),
        (np.concatenate([np.zeros(190), np.arange(1.0, 6.0), np.arange(5.0, 0.0, -1.0)]), 0.3),
        (np.concatenate([np.zeros(100), np.full(100, 1e-12)]), 1e-9),
    ],
    ids=["5% of the median", "MAD", "half the mean change", "a tenth of p1 to p99", "the least scale"],
)
def test_each_floor_of_the_scale_holds_alone(values: NDArray[np.float64], wanted: float) -> None:
    detector = RobustZ({"warm_up_rows": len(values)})
    detector.step(series(values))
    assert scale(detector) == pytest.approx(wanted, rel=1e-9)


def test_the_mean_change_is_not_carried_off_by_a_spike() -> None:
    detector = RobustZ()
    x = np.tile([0.0, 1.0], 100)
    detector.step(series(x))
    detector.step(series([1e6, 0.0], START + DAY))
    assert 1.0 < detector.table.rows[0]["change"] < 1.2


@pytest.mark.parametrize(("level", "rows"), [(0.0, 100), (40.0, 30), (-3.0, 2000)])
def test_the_first_move_of_a_constant_series_scores_by_how_long_it_stood(level: float, rows: int) -> None:
    detector = RobustZ()
    detector.step(series(np.full(rows, level)))
    seen = detector.score(series([1e3], START + 3 * DAY)).score[0]
    assert seen == pytest.approx(8.0 * (min(rows, 360) / 60) ** 0.25)


def test_a_constant_series_that_moves_and_stays_away_scores_high_from_its_second_row_on() -> None:
    detector = RobustZ()
    detector.step(series(np.zeros(100)))
    seen = detector.step(series([5.0, 6.0, 5.5, 5.2, 6.1, 5.4], START + DAY)).score
    assert seen[0] < 10.0
    assert (seen[1:] > 20.0).all()


def test_an_outlier_does_not_widen_the_scale_by_which_the_next_is_judged() -> None:
    detector = RobustZ({"window": 100})
    detector.step(series(np.random.default_rng(0).normal(50, 1, 400)))
    seen = detector.step(series(np.full(20, 90.0), START + DAY)).score
    assert seen.min() > 0.8 * seen[0]


def test_a_burst_while_warming_up_does_not_hide_the_next() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.01, 0.003, 24)
    values[5:9] = 0.6
    detector = RobustZ({"min_change": 0.15})
    detector.step(series(values))
    assert detector.score(series([0.51], START + DAY)).score[0] > 30.0


def test_what_was_never_negative_is_not_expected_to_be() -> None:
    rng = np.random.default_rng(0)
    for values, lowest in ((np.abs(rng.normal(size=200)), True), (rng.normal(size=200), False)):
        detector = RobustZ()
        detector.step(series(values))
        low = detector.score(series([0.0], START + DAY)).low
        assert low is not None
        assert (low[0] == 0.0) == lowest


def test_a_shift_is_normal_once_it_fills_half_of_the_window() -> None:
    rng = np.random.default_rng(0)
    detector = RobustZ({"window": 100})
    detector.step(series(rng.normal(50, 1, 400)))
    seen = detector.step(series(rng.normal(90, 1, 100), START + DAY)).score
    assert (seen[:10] > 6).all()
    assert (seen[60:] < 6).all()


def test_numbers_at_the_end_of_the_scale_stay_numbers() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000) * 10.0 ** rng.uniform(-308, 308, 3000)
    seen = RobustZ({"window": 30}).step(series(x)).score[20:]
    assert np.isfinite(seen).all()
    assert seen.max() <= 1e9


def test_the_least_change_is_per_key_and_outlives_forgetting_and_gaps() -> None:
    detector = RobustZ({"min_change": 0.5})
    detector.step(frames.round_robin(np.random.default_rng(0), 100, 2))
    x = np.tile([0.0, 1e-3], 50)
    detector.forget(ZERO)
    detector.configure_keys(np.array([0, 70], np.int32), np.array([8.0, 2.0]))
    for start in (START + DAY, START + 400 * DAY):
        detector.step(series(x, start))
        assert detector.score(series([16.0], start + DAY)).score[0] == pytest.approx(24.0, rel=1e-3)
        detector.forget(np.array([0, 500], np.int32))
        detector.step(series(x, start))
    detector.step(make(np.ones(100), START + 800 * DAY, x))
    assert detector.score(make([1], START + 800 * DAY, [16.0])).score[0] == pytest.approx(384.0, rel=1e-3)
    assert float(detector.table.rows[70]["min_change"]) == 2.0
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match=r"min_change: must be finite and at least 0"):
            detector.configure_keys(ZERO, np.array([wrong]))


def test_a_gap_starts_afresh_with_nothing_left_over() -> None:
    detector, new = RobustZ(), RobustZ()
    detector.step(series(np.random.default_rng(0).normal(size=500)))
    later = series(np.random.default_rng(1).normal(size=30), START + 400 * DAY)
    for one in (detector, new):
        one.step(later)
    assert detector.table.rows[0].tobytes() == new.table.rows[0].tobytes()


def test_a_state_of_another_window_is_refused() -> None:
    detector = RobustZ({"window": 30})
    detector.step(series([1.0]))
    with pytest.raises(PermanentError, match="has 536 bytes a slot, its config asks for 5816"):
        RobustZ.restore({}, detector.state())
    assert RobustZ.restore(detector.options, detector.state()).score(series([1.0])).status[0] == Status.WARMING_UP


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"min_chagne": 3}, r"min_chagne: unknown option; did you mean 'min_change'\?"),
        ({"window": 10}, r"warm_up_rows \(20\) must not be above window \(10\)"),
        ({"min_change": float("inf")}, r"min_change: Input should be a finite number"),
    ],
)
def test_wrong_options_are_named(config: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message):
        RobustZ(config)
