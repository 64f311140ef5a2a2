"""Eight numbers at a time are what single numbers are, to the last bit."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from numpy.typing import NDArray

from foreshock.state.lanes import (
    above,
    any_above,
    load,
    narrow,
    power_of_two,
    root,
    size,
    splat,
    spread,
    store,
    swap,
    total,
    wide,
)


def _work_out(x: NDArray[Any], y: NDArray[Any], out: NDArray[Any]) -> None:
    for j in range(0, len(x), 8):
        a, b = load(x, j), load(y, j)
        store(out[0], j, a + b)
        store(out[1], j, a - b)
        store(out[2], j, a * b)
        store(out[3], j, a / b)
        store(out[4], j, root(size(a)))
        store(out[5], j, above(a, b, b, a - b))
        store(out[6], j, (a * b + splat(x, 3)) * spread(y[5]))


def _cross_over(x: NDArray[np.float32], y: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    for j in range(0, len(x), 8):
        store(out, j, narrow(wide(load(x, j)) + load(y, j)))


def _powers(x: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    for j in range(0, len(x), 8):
        store(out, j, power_of_two(load(x, j)))


def _swaps(x: NDArray[Any], out: NDArray[Any]) -> None:
    store(out, 0, swap(load(x, 0), 4))
    store(out, 8, swap(load(x, 0), 2))
    store(out, 16, swap(load(x, 0), 1))


def _exceeds(x: NDArray[Any], y: NDArray[Any]) -> bool:
    return bool(any_above(load(x, 0), load(y, 0)))


def _sum_up(x: NDArray[np.float32]) -> float:
    return float(total(load(x, 0)))


njit: Any = numba.njit
work_out, cross_over, sum_up, powers = njit(_work_out), njit(_cross_over), njit(_sum_up), njit(_powers)
swaps, exceeds = njit(_swaps), njit(_exceeds)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_each_lane_is_rounded_on_its_own(kind: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40).astype(kind), rng.normal(size=40).astype(kind)
    x[7], y[9], x[11], y[12], x[17] = np.nan, np.nan, np.inf, 0.0, y[17]
    out = np.zeros((7, 40), kind)
    work_out(x, y, out)
    with np.errstate(all="ignore"):
        wanted = [
            x + y, x - y, x * y, x / y, np.sqrt(np.abs(x)), np.where(x > y, y, x - y), (x * y + x[3]) * y[5],
        ]  # fmt: skip
    for seen, want in zip(out, wanted, strict=True):
        assert np.array_equal(seen, want.astype(kind), equal_nan=True)


def test_widths_meet_and_sums_run_in_pairs() -> None:
    rng = np.random.default_rng(1)
    x, y, out = rng.normal(size=16).astype(np.float32), rng.normal(size=16), np.zeros(16, np.float32)
    cross_over(x, y, out)
    assert np.array_equal(out, (x.astype(np.float64) + y).astype(np.float32))
    assert sum_up(x) == float(((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])))


def test_powers_of_two_are_told() -> None:
    whole = np.r_[np.arange(1, 4096), 2**23 - 1, 2**23, 2**23 + 1, 2**24].astype(np.float32)
    whole = np.pad(whole, (0, -len(whole) % 8), constant_values=3)
    out = np.full(len(whole), np.nan, np.float32)
    powers(whole, out)
    assert out.tolist() == [float(n & (n - 1) == 0) for n in whole.astype(int).tolist()]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_lanes_change_places_in_pairs(kind: Any) -> None:
    out = np.zeros(24, kind)
    swaps(np.arange(8).astype(kind), out)
    assert out.reshape(3, 8).tolist() == [[4, 5, 6, 7, 0, 1, 2, 3], [2, 3, 0, 1, 6, 7, 4, 5], [1, 0, 3, 2, 5, 4, 7, 6]]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_one_lane_above_is_enough(kind: Any) -> None:
    x, y = np.zeros(8, kind), np.zeros(8, kind)
    y[3] = x[5] = np.nan
    assert exceeds(x, y) is False
    for k in (0, 4, 7):
        x[k] = 1
        assert exceeds(x, y) is True
        x[k] = 0


def test_only_contiguous_floats_have_lanes() -> None:
    with pytest.raises(TypingError, match="lanes are of contiguous arrays"):
        sum_up(np.zeros(32, np.float32)[::2])
    with pytest.raises(TypingError, match="lanes are of float32 or float64, not of int64"):
        sum_up(np.zeros(8, np.int64))
