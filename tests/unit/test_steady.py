"""Rates of calls: noise is left out, what has changed is there at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.made_calls import Call, Prints
from tests.unit.test_fingerprint_twin import Twin, plain

STEP = 5


def feed(prints: Prints, counts: list[int] | NDArray[np.int64], rng: np.random.Generator) -> dict[float, float]:
    """So many calls in each window, and then a watermark; the rates in calls a window, by window."""
    for window, count in enumerate(counts):
        at = np.sort(rng.random(int(count))) * (STEP - 0.01) + window * STEP
        prints.take(*(Call(float(one), nanos=k + 1) for k, one in enumerate(at)))
        prints.tick((window + 1) * STEP)
    return {at / STEP: value * STEP for at, value in prints.of("payment", "calls.rate").items()}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize("mean", [1.0, 5.0, 17.0])
def test_noise_is_left_out(mean: float, rng: np.random.Generator) -> None:
    counts = rng.poisson(mean, 500)
    counts[0] = 1
    rate = feed(Prints(), counts, rng)
    assert [rate[k] for k in range(32)] == pytest.approx(counts[:32].tolist())
    later = np.array([rate[k] for k in range(200, 500)])
    assert np.abs(later - mean).max() < 0.3 * mean + 0.1
    # It is as steady from window to window as a mean over hundreds of them.
    assert np.abs(np.diff(later)).max() < 0.03 * math.sqrt(mean) + 0.03


def test_a_fall_to_zero_is_zero_in_the_second_window(rng: np.random.Generator) -> None:
    rate = feed(Prints(), [*rng.poisson(17, 200), *[0] * 6, *rng.poisson(17, 10)], rng)
    assert 15 < rate[200] < 19
    assert [rate[k] for k in range(201, 206)] == [0.0] * 5
    # What is over is forgotten in the third window with calls at the latest.
    assert all(15 < rate[k] < 19 for k in range(208, 216))


def test_fewer_calls_take_as_long_as_they_need(rng: np.random.Generator) -> None:
    rate = feed(Prints(), [*rng.poisson(5, 300), *[0] * 8], rng)
    assert min(k for k in range(300, 308) if rate[k] == 0) in (303, 305)
    rare = feed(Prints(), [*rng.poisson(0.3, 300), *[0] * 8], rng)
    assert min(rare[k] for k in range(300, 308)) > 0.1


def test_a_surge_is_what_it_is_in_the_first_window(rng: np.random.Generator) -> None:
    counts = [*rng.poisson(17, 200), *rng.poisson(102, 40), *rng.poisson(17, 30)]
    rate = feed(Prints(), counts, rng)
    assert [rate[k] for k in range(200, 215)] == pytest.approx(counts[200:215])
    # It has not become usual meanwhile, and the end of it shows at once too.
    assert [rate[k] for k in range(215, 240)] == pytest.approx(counts[215:240], rel=0.1)
    assert all(rate[k] < 25 for k in range(242, 270))


def test_a_small_change_shows_once_enough_windows_agree(rng: np.random.Generator) -> None:
    rate = feed(Prints(), [*rng.poisson(17, 200), *rng.poisson(30, 20)], rng)
    assert rate[200] < 20
    assert all(25 < rate[k] < 36 for k in range(207, 220))


def test_clusters_scatter_more_and_are_noise_all_the_same(rng: np.random.Generator) -> None:
    """Five calls at a time: five times the variance of independent ones."""
    counts = 5 * rng.poisson(3, 500)
    rate = feed(Prints(), counts, rng)
    assert max(abs(rate[k] - 15) for k in range(100, 500)) < 6
    fall = feed(Prints(), [*counts[:300], *[0] * 12], rng)
    assert min(k for k in range(300, 312) if fall[k] == 0) <= 311


def test_the_rate_of_a_fast_service_follows_its_day(rng: np.random.Generator) -> None:
    """Sixty calls a window and a wave as steep as an hour's: neither far behind nor to and fro."""
    true = 60 * (1 + 0.5 * np.sin(np.arange(900) * 2 * np.pi / 5760))
    rate = feed(Prints(edges=False, environment=False), rng.poisson(true), rng)
    given = np.array([rate[k] for k in range(100, 900)])
    assert np.abs(given / true[100:] - 1).max() < 0.25
    assert np.median(np.abs(given / true[100:] - 1)) < 0.06
    # A step from window to window is less than what the floor of a detector's scale, 5 %, takes for three scales.
    assert np.abs(np.diff(given) / true[101:]).max() < 0.15


def test_what_is_called_once_a_minute_is_not_a_surge_at_its_second_call() -> None:
    prints = Prints()
    calls = [Call(60.0 * k + 1) for k in range(60)]
    prints.take(*calls[:40])
    prints.take(*(Call(2400.0 + 1 + k / 10) for k in range(2)), *(Call(2460.0 + 60 * k + 1) for k in range(3)))
    rate = prints.of("payment", "calls.rate")
    assert max(value for at, value in rate.items() if at > 600) < 0.03


def test_rates_of_endpoints_are_their_own(rng: np.random.Generator) -> None:
    """One falls to 0 while another takes its calls: the service's rate is as before."""
    prints = Prints()
    for window in range(220):
        for k, at in enumerate(np.sort(rng.random(rng.poisson(40)))):
            endpoint = "/a" if window < 200 and rng.random() < 0.5 else "/b"
            prints.take(Call(window * STEP + float(at) * 4.9, endpoint=endpoint, nanos=k + 1))
    a, b = (prints.of("payment", f'calls.endpoint.rate{{endpoint="POST /{name}"}}') for name in "ab")
    assert [a[1000.0 + 5 * k] for k in range(1, 10)] == [0.0] * 9
    assert 3.2 < a[995.0] < 4.8
    assert min(b[1000.0 + 5 * k] for k in range(2, 15)) > 6
    whole = prints.of("payment", "calls.rate")
    assert max(abs(whole[1000.0 + 5 * k] - 8) for k in range(15)) < 1


@pytest.mark.parametrize("seed", range(8))
def test_long_streams_are_those_of_the_twin(seed: int) -> None:
    """Rates that leap, endpoints that come and go, silences and restarts, long enough for a past to be there."""
    rng = np.random.default_rng(seed)
    prints = Prints(float(rng.choice([0, 2])), window=1, environment=bool(seed % 2))
    twin = Twin(prints)
    mean, weights, at = 3.0, rng.dirichlet(np.ones(26)), 0
    for second in range(360):
        if rng.random() < 0.03:
            mean, weights = float(rng.choice([0.0, 0.3, 3.0, 12.0])), rng.dirichlet(np.full(26, 0.2))
        if rng.random() < 0.004:
            at += 40
        at += 1
        for k, part in enumerate(np.sort(rng.random(rng.poisson(mean))).tolist()):
            endpoint = f"/{chr(97 + int(rng.choice(26, p=weights)))}"
            one = Call(at + round(part, 3), endpoint=endpoint, nanos=1000 * second + k + 1)
            prints.take(one)
            twin.take(one, "s", 1e6)
        if rng.random() < 0.5:
            prints.tick(at - 2)
            twin.on_watermark(prints_time(at - 2))
        if rng.random() < 0.02:
            prints.restart()
    prints.finish()
    twin.on_watermark(math.inf)
    assert plain(prints.out) == plain(twin.out)
    # Some rates are whole counts, and some are means.
    rates = [value for _, feature, _, value in prints.out if feature == "calls.rate"]
    assert any(value % 1 == 0 for value in rates)
    assert any(value % 1 != 0 for value in rates)


def prints_time(seconds: float) -> int:
    return Call(seconds).time
