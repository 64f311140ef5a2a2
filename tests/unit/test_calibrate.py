"""p-values: uniform on clean data, conservative with little past, the same for every cut of the batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.calibrate import LOW, PER, ROW, SIZE, Calibrator, CalibratorOptions
from foreshock.state import pack, unpack
from foreshock.types import Status

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
DRAWS: dict[str, Draw] = {
    "half_normal": lambda rng, n: np.abs(rng.normal(size=n)),
    "lognormal": lambda rng, n: np.exp(rng.normal(size=n)),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "heavy_tail": lambda rng, n: np.abs(rng.standard_t(2, size=n)),
}
UNIT = 6.0


def run(
    calibrator: Calibrator, key: NDArray[np.int32], score: NDArray[np.float64], learn: bool = True
) -> NDArray[np.float64]:
    n = len(score)
    return calibrator.step(key, score, np.zeros(n, np.uint8), np.full(n, learn))


def one_key(n: int) -> NDArray[np.int32]:
    return np.zeros(n, np.int32)


class Twin:
    """The slow, obvious calibrator of one key: all rows kept, weights by age, every sum from scratch."""

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self.bins: list[int] = []
        self.learnt = 0

    def weights(self) -> list[float]:
        hist = [0.0] * SIZE
        for age, b in enumerate(reversed(self.bins)):
            hist[b] += 0.5 ** ((age + 1) / self.half_life)
        return hist

    def edge(self, b: int) -> float:
        return 0.0 if b == 0 else 2.0 ** (LOW + b // PER) * (1 + b % PER / PER)

    def bin_of(self, x: float) -> int:
        return max(b for b in range(SIZE) if self.edge(b) <= x)

    def step(self, x: float) -> float:
        hist, b = self.weights(), self.bin_of(x)
        total = sum(hist)
        near = max(hist[b - 1] if b else 0.0, hist[b + 1] if b + 1 < SIZE else 0.0)
        spread = min(hist[b], 2 * near)
        left, right = self.edge(b), self.edge(b + 1)
        above = sum(hist[b + 1 :]) + hist[b] - spread + spread * min(max((right - x) / (right - left), 0), 1)
        p = (above + 1) / (total + 1)
        if above < 10 and total >= 100:
            p = min(p, max(self.tail(x, hist, total), above / (total + 1)))
        self.bins.append(b)
        return max(p, 1e-15)

    def level(self, hist: list[float], weight: float) -> float:
        above = 0.0
        for b in range(SIZE - 1, 0, -1):
            if above + hist[b] >= weight and hist[b]:
                return self.edge(b + 1) - (self.edge(b + 1) - self.edge(b)) * (weight - above) / hist[b]
            above += hist[b]
        return 0.0

    def tail(self, x: float, hist: list[float], total: float) -> float:
        anchor, start = self.level(hist, 10), self.level(hist, 0.1 * total)
        if start == 0 or x <= anchor:
            return 1.0
        logs, count = 0.0, 0.0
        for b in range(SIZE - 1, 0, -1):
            if self.edge(b + 1) <= start:
                break
            low = max(self.edge(b), start)
            part = hist[b] * (self.edge(b + 1) - low) / (self.edge(b + 1) - self.edge(b))
            logs += part * math.log((low + self.edge(b + 1)) / 2 / start)
            count += part
        index = (logs + 5) / (count + 5)
        return 11 / (total + 1) * math.pow(x / anchor, -1 / index)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_uniform_on_clean_data(draw: Draw) -> None:
    p = run(Calibrator(UNIT), one_key(40_000), draw(np.random.default_rng(1), 40_000))[5_000:]
    rank = np.arange(1, len(p) + 1) / len(p)
    assert np.max(np.abs(np.sort(p) - rank)) <= 0.03
    for level in (0.1, 0.01, 0.001):
        assert np.mean(p <= level) <= 1.3 * level
    assert np.mean(p <= 0.01) >= 0.005


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_conservative_with_little_past(draw: Draw) -> None:
    rows, keys = 100, 3_000
    score = draw(np.random.default_rng(2), rows * keys)
    p = run(Calibrator(UNIT), np.tile(np.arange(keys, dtype=np.int32), rows), score).reshape(rows, keys)
    for part in (p[:20], p[20:50], p[50:]):
        for level in (0.5, 0.1, 0.05, 0.01, 0.001):
            assert np.mean(part <= level) <= 1.02 * level
    assert np.all(p[0] == 1.0)


def test_higher_scores_have_lower_p_and_never_zero() -> None:
    calibrator = Calibrator(UNIT)
    run(calibrator, one_key(5_000), DRAWS["half_normal"](np.random.default_rng(3), 5_000))
    score = np.concatenate([np.linspace(0, 12, 400), [1e3, 1e9, np.inf]])
    p = run(calibrator, one_key(len(score)), score, learn=False)
    assert np.all(np.diff(p) <= 0)
    assert p[0] == pytest.approx(1, abs=0.01)
    assert 1e-4 > p[399] > 0
    assert p[-1] > 0


def test_a_value_that_keeps_coming_back_is_not_rare() -> None:
    calibrator = Calibrator(UNIT)
    edge_of_a_bin = UNIT * np.nextafter(2.0, 0.0)
    p = run(calibrator, one_key(1_000), np.full(1_000, edge_of_a_bin))
    assert np.all(p > 0.99999)
    assert np.all(run(Calibrator(UNIT), one_key(500), np.zeros(500)) > 0.99999)


def test_what_was_never_seen_after_a_flat_past_is_as_rare_as_the_past_is_long() -> None:
    calibrator = Calibrator(UNIT)
    run(calibrator, one_key(1_000), np.zeros(1_000))
    p = run(calibrator, one_key(2), np.array([3.0, 300.0]), learn=False)
    assert p[0] == p[1] == pytest.approx(1 / 850, rel=0.05)


def test_the_past_fades() -> None:
    calibrator = Calibrator(UNIT, CalibratorOptions(half_life_rows=100))
    rng = np.random.default_rng(4)
    run(calibrator, one_key(3_000), np.abs(rng.normal(size=3_000)))
    p = run(calibrator, one_key(3_000), np.abs(rng.normal(size=3_000)) * 3)
    assert np.mean(p[:50] < 0.05) > 0.15
    assert np.mean(p[1_500:] < 0.05) < 0.07


def test_only_clean_scored_rows_are_learnt() -> None:
    calibrator = Calibrator(UNIT)
    run(calibrator, one_key(500), DRAWS["half_normal"](np.random.default_rng(5), 500))
    before = calibrator.table.copy()
    status = np.array([Status.SCORED, Status.MISSING, Status.EXCLUDED, Status.WARMING_UP, Status.SCORED], np.uint8)
    score = np.array([50.0, 1.0, 1.0, 1.0, np.nan])
    p = calibrator.step(one_key(5), score, status, np.array([False, True, True, True, True]))
    assert np.array_equal(np.isnan(p), [False, True, True, True, True])
    assert np.array_equal(calibrator.table.copy(), before)


def test_agrees_with_its_twin() -> None:
    rng = np.random.default_rng(6)
    half_life, n = 60.0, 900
    calibrator = Calibrator(UNIT, CalibratorOptions(half_life_rows=half_life))
    key = rng.integers(0, 2, n).astype(np.int32)
    score = np.where(rng.random(n) < 0.02, 30.0, np.abs(rng.standard_t(3, n)))
    p = run(calibrator, key, score)
    twins = [Twin(half_life), Twin(half_life)]
    slow = np.array([twins[k].step(x / UNIT) for k, x in zip(key.tolist(), score.tolist(), strict=True)])
    np.testing.assert_allclose(p, slow, rtol=2e-4)
    assert len(twins[0].bins) > 10.5 * half_life / 2, "long enough for the weights to be divided"
    assert (p < 0.03).sum() > 5


def test_every_cut_gives_the_same_bits_also_across_a_restore() -> None:
    rng = np.random.default_rng(7)
    n = 4_000
    key = rng.integers(0, 5, n).astype(np.int32)
    score, learn = np.abs(rng.standard_t(3, n)), rng.random(n) < 0.9
    status = np.where(rng.random(n) < 0.9, Status.SCORED, Status.MISSING).astype(np.uint8)
    options = CalibratorOptions(half_life_rows=50)
    whole = Calibrator(UNIT, options)
    expected = whole.step(key, score, status, learn)
    parts = Calibrator(UNIT, options)
    pieces = []
    for piece in np.split(np.arange(n), np.sort(rng.integers(0, n, 25))):
        pieces.append(parts.step(key[piece], score[piece], status[piece], learn[piece]))
        fresh = Calibrator(UNIT, options)
        fresh.load(unpack(pack(parts.state())))
        parts = fresh
    np.testing.assert_array_equal(np.concatenate(pieces), expected)
    assert pack(parts.state()) == pack(whole.state())


def test_forget_and_size() -> None:
    calibrator = Calibrator(UNIT)
    run(calibrator, np.repeat(np.arange(2, dtype=np.int32), 300), np.ones(600))
    calibrator.forget(np.array([1, 7], np.int32))
    p = run(calibrator, np.array([0, 1], np.int32), np.array([5.0, 5.0]), learn=False)
    assert p[0] < 0.01
    assert p[1] == 1.0
    assert ROW.itemsize <= 640
