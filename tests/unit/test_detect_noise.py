"""`noise` against its twin over days of event time; which change of texture alarms, and which is usual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.bar import Bar
from foreshock.detect.noise import Noise
from foreshock.errors import ConfigError
from foreshock.testing import frames
from foreshock.testing.frames import DAY, START, make
from foreshock.types import Frame, Status
from tests.unit.texture_twins import NoiseTwin

SECOND = 10**9
MIDNIGHT = START // DAY * DAY


def times(n: int, step: float = 60.0, start: int = MIDNIGHT) -> NDArray[np.int64]:
    return start + (np.arange(n) * (step * SECOND)).astype(np.int64)


def series(values: Any, step: float = 60.0, start: int = MIDNIGHT) -> Frame:
    """Rows of key 0."""
    return make(np.zeros(len(values)), times(len(values), step, start), values)


def strengths(frame: Frame, detector: Noise | None = None) -> NDArray[np.float64]:
    """ln(score / bar) of rows, as the bank would have it; −50 where there is none."""
    detector = detector or Noise()
    scores = detector.step(frame)
    bar = Bar(detector.info.prior_score, 0.2, in_reach=detector.info.in_reach)
    strength, _ = bar.step(frame.key, frame.time_unix_nano, scores.score, scores.status, frame.learn)
    return np.nan_to_num(strength, nan=-50.0)


def white(days: float, seed: int = 0, step: float = 60.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, 1.0, round(days * 86400 / step))


def twin_agrees(frame: Frame, config: dict[str, Any]) -> NDArray[np.float64]:
    seen = Noise(config).step(frame)
    score, status = NoiseTwin(config).step(
        frame.key.tolist(), frame.time_unix_nano.tolist(), frame.values.tolist(), frame.learn.tolist(),
        frame.status.tolist(),
    )  # fmt: skip
    np.testing.assert_array_equal(seen.score, score)
    np.testing.assert_array_equal(seen.status, status)
    return seen.score


@pytest.mark.parametrize("seed", range(3))
def test_long_awkward_frames_score_as_the_twin_says(seed: int) -> None:
    twin_agrees(frames.hard(np.random.default_rng(seed), 3000, 3), {})


def test_days_score_as_the_twin_says() -> None:
    day = np.arange(4 * 1440) / 1440 % 1
    x = 20 * np.sin(2 * np.pi * day) + (1 + 2 * (day > 0.4)) * white(4)
    x[3500:3560] *= 4
    x[4500:4900] *= 0.05
    x = np.where(np.arange(len(x)) % 3 == 0, np.round(x), x)
    score = twin_agrees(series(x), {"min_change": 0.1})
    assert np.nanmax(score[3500:3560]) > 2.0


def test_another_pace_starts_afresh_as_the_twin_says() -> None:
    time = np.concatenate([times(1500), times(2000, 10.0, MIDNIGHT + 2 * DAY)])
    frame = make(np.zeros(3500), time, white(10)[:3500])
    score = twin_agrees(frame, {})
    fresh = np.flatnonzero(np.isnan(score))
    assert 20 < len(fresh) <= 45
    assert fresh.max() < 1500 + 400


def test_five_times_the_noise_for_thirty_rows_alarms_and_its_end_is_seen() -> None:
    for seed in range(3):
        x = white(4, seed)
        at = len(x) - 300
        x[at : at + 30] *= 5.0
        seen = strengths(series(x))
        assert seen[at : at + 32].max() > 0.7
        assert seen[-100:].max() < 0.0


def test_a_texture_that_goes_wild_or_dies_down_alarms_for_certain() -> None:
    for factor, least in ((6.0, 0.7), (0.02, 0.0)):
        x = white(4)
        x[-60:] *= factor
        assert strengths(series(x))[-60:].max() > least


def test_a_constant_series_never_alarms() -> None:
    for level in (0.0, 5.0):
        x = np.full(5000, level)
        x[4000] += 1.0
        seen = strengths(series(x))
        assert seen.max() < 0.0
        assert Noise().step(series(x)).score[4000] > 0.0


def test_a_spike_and_a_step_are_no_noise() -> None:
    x = white(4)
    x[-900] += 1000.0
    x[-500:] += 1000.0
    assert strengths(series(x))[-1000:].max() < 0.0


@pytest.mark.parametrize("kind", ["slope", "day", "counts", "rare moves", "walk"])
def test_what_has_always_been_so_does_not_alarm(kind: str) -> None:
    rng = np.random.default_rng(0)
    n = 8 * 1440
    x = {
        "slope": np.arange(n) * 3.0 + white(8),
        "day": 100 * np.sin(np.arange(n) / 1440 * 2 * np.pi) + white(8),
        "counts": rng.poisson(2.0, n).astype(float),
        "rare moves": np.cumsum(rng.random(n) < 0.01).astype(float),
        "walk": np.cumsum(white(8)),
    }[kind]
    assert strengths(series(x)).max() < 0.6


def test_what_is_noisy_every_day_at_the_same_time_is_usual() -> None:
    hour = np.arange(9 * 1440) / 60 % 24
    x = white(9) * np.where((hour > 9) & (hour < 17), 3.0, 1.0)
    assert strengths(series(x))[4 * 1440 :].max() < 0.6
    detector = Noise()
    detector.step(series(x))
    factor = detector.table.rows[0]["factor"]
    assert factor[12] > 1.8 * factor[3]


def test_small_textures_are_bounded_by_the_least_change() -> None:
    x = white(4) * 1e-3
    x[-60:] *= 6.0
    assert strengths(series(x)).max() > 0.7
    detector = Noise()
    detector.configure_keys(np.zeros(1, np.int32), np.array([0.1]))
    assert strengths(series(x), detector).max() < 0.0
    assert strengths(series(x), Noise({"min_change": 0.1})).max() < 0.0
    detector.forget(np.zeros(1, np.int32))
    assert float(detector.table.rows[0]["min_change"]) == 0.1


def test_gaps_and_missing_rows_are_no_noise() -> None:
    x = np.cumsum(white(6))
    x[5000:5400] = np.nan
    time = times(len(x))
    time[7000:] += 5 * 3600 * SECOND
    frame = make(np.zeros(len(x)), time, x)
    assert (Noise().step(frame).status[5000:5400] == Status.MISSING).all()
    assert strengths(frame)[4900:].max() < 0.6


def test_quiet_says_nothing_in_the_first_day() -> None:
    x = white(1)
    x[900:] *= 0.01
    quiet = [Noise({"young_seconds": young}).step(series(x)).score[900:].max() for young in ("1d", "2h")]
    assert quiet[0] < 0.5 < 1.0 < quiet[1]


def test_after_a_restart_it_goes_on() -> None:
    frame = series(white(2))
    whole, first = Noise(), Noise()
    wanted = whole.step(frame).score[-500:]
    first.step(frame.take(slice(0, len(frame) - 500)))
    again = Noise.restore({}, first.state())
    np.testing.assert_array_equal(again.step(frame.take(slice(len(frame) - 500, len(frame)))).score, wanted)


def test_what_is_measured_is_the_texture_beside_the_usual_one() -> None:
    for factor, low, high in ((2.0, 1.4, 2.6), (0.1, 0.1, 0.4)):
        x = white(3)
        x[-60:] *= factor
        detector = Noise()
        detector.bands = True
        seen = detector.step(series(x)).measured
        assert seen is not None
        assert low < seen[0, -1] < high
        assert seen[1, -1] > 1.0


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^min_change: Input should be greater than or equal to 0"):
        Noise({"min_change": -1})
