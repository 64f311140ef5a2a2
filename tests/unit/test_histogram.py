"""The functions of a real number, and histograms against sorted samples."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from foreshock.detect import histogram
from tests.unit.kernels import called

h = SimpleNamespace(**{
    name: called(getattr(histogram, name))
    for name in ("ln", "exp", "cotangent_of_pi", "arctangent", "bin_of", "edge", "upper_quantile")
})  # fmt: skip
LOW, PER, SIZE = -3, 6, 60


def naive_bin(x: float, low: int, per: int, size: int) -> int:
    if x < 2.0**low:
        return 0
    octave = math.floor(math.log2(x))
    if 2.0**octave > x:
        octave -= 1
    return min((octave - low) * per + math.floor((x / 2.0**octave - 1) * per), size - 1)


def test_functions_agree_with_libm() -> None:
    rng = np.random.default_rng(1)
    for x in np.exp(rng.uniform(-600, 600, 2000)):
        assert h.ln(x) == pytest.approx(math.log(x), rel=1e-14)
    for x in rng.uniform(-690, 690, 2000):
        assert h.exp(x) == pytest.approx(math.exp(x), rel=1e-14)
    for p in (*rng.uniform(0.001, 0.999, 2000), 1e-300, 1e-12, 0.5):
        assert h.cotangent_of_pi(p) == pytest.approx(
            math.cos(math.pi * p) / math.sin(math.pi * p), rel=1e-12, abs=1e-15
        )
    for t in (*rng.standard_cauchy(2000), 0.0, 1e300, -1e300):
        assert h.arctangent(t) == pytest.approx(math.atan(t), rel=1e-14)


def test_the_sign_of_ln_is_exact_next_to_one() -> None:
    below = above = 1.0
    for _ in range(100):
        below, above = np.nextafter(below, 0.0), np.nextafter(above, 2.0)
        assert h.ln(below) < 0.0 < h.ln(above)
    assert h.ln(1.0) == 0.0


def test_bins_and_edges() -> None:
    rng = np.random.default_rng(2)
    for x in (*np.exp(rng.uniform(-5, 8, 3000)), 0.0, 1e-320, 1.0, 2.0, 0.125, 1e300, math.inf):
        b = h.bin_of(x, LOW, PER, SIZE)
        assert b == (SIZE - 1 if x == math.inf else naive_bin(x, LOW, PER, SIZE))
        assert b == 0 or h.edge(b, LOW, PER) <= x
        assert b == SIZE - 1 or x < h.edge(b + 1, LOW, PER)


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05, 0.012])
def test_quantiles_come_near_those_of_the_sample(share: float) -> None:
    x = np.exp(np.random.default_rng(3).normal(0, 0.5, 20_000))
    hist = np.zeros(SIZE, np.float32)
    for one in x:
        hist[h.bin_of(one, LOW, PER, SIZE)] += 1
    assert h.upper_quantile(hist, LOW, PER, 0.0, 1.0, share * len(x)) == pytest.approx(
        np.quantile(x, 1 - share), rel=0.02
    )


def test_a_point_mass_stands_at_its_own_place() -> None:
    hist = np.zeros(SIZE, np.float32)
    for weight in (0.1, 2.5, 4.9):
        assert h.upper_quantile(hist, LOW, PER, 5.0, 1.6, weight) == 1.6
    hist[h.bin_of(4.0, LOW, PER, SIZE)] = 5
    hist[h.bin_of(0.3, LOW, PER, SIZE)] = 5
    assert 4.0 <= h.upper_quantile(hist, LOW, PER, 5.0, 1.6, 4.0) < 4.7
    assert h.upper_quantile(hist, LOW, PER, 5.0, 1.6, 9.9) == 1.6
    assert h.upper_quantile(hist, LOW, PER, 5.0, 1.6, 11.0) < 0.34


def test_a_point_mass_shares_its_bin() -> None:
    hist = np.zeros(SIZE, np.float32)
    b = h.bin_of(1.6, LOW, PER, SIZE)
    left, right = h.edge(b, LOW, PER), h.edge(b + 1, LOW, PER)
    hist[b] = 10
    middle = 0.5 * (left + right)
    assert h.upper_quantile(hist, LOW, PER, 4.0, middle, 2.5) == pytest.approx(right - 0.25 * (right - left))
    assert h.upper_quantile(hist, LOW, PER, 4.0, middle, 7.0) == middle
    assert h.upper_quantile(hist, LOW, PER, 4.0, middle, 11.5) == pytest.approx(left + 0.25 * (right - left))
