"""Sketches: the bounds that their docstrings state, on random and on unkind input, and beside the libraries."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ddsketch import DDSketch
from numpy.typing import NDArray

from foreshock.stream import sketch
from foreshock.stream.sketch import ACCURACY, BOUNDS, BUCKETS, LARGEST_SECONDS, LEAST_SECONDS
from tests.unit.kernels import called

QS = (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


def durations(kind: str, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    made: dict[str, Callable[[], NDArray[np.float64]]] = {
        "lognormal": lambda: rng.lognormal(-3, 2, n),
        "pareto": lambda: 1e-4 * (1 + rng.pareto(0.7, n)),
        "two modes": lambda: np.where(rng.random(n) < 0.5, 0.001, 30.0),
        "constant": lambda: np.full(n, 0.25),
        "on the bounds": lambda: rng.choice(BOUNDS[1:], n),
        "just above the bounds": lambda: np.nextafter(rng.choice(BOUNDS[:-1], n), 1e9),
        "sorted, over all decades": lambda: np.geomspace(2e-6, 700.0, n),
    }
    values: NDArray[np.float64] = np.clip(made[kind](), 1.1 * LEAST_SECONDS, LARGEST_SECONDS)
    return values


@pytest.mark.parametrize("n", [1, 2, 7, 1000, 20_000])
@pytest.mark.parametrize(
    "kind",
    ["lognormal", "pareto", "two modes", "constant", "on the bounds", "just above the bounds",
     "sorted, over all decades"],
)  # fmt: skip
def test_quantiles_are_within_one_percent_of_the_value_of_their_rank(kind: str, n: int) -> None:
    values = durations(kind, np.random.default_rng(n), n)
    buckets = np.zeros(BUCKETS, np.uint32)
    sketch.fill_buckets(buckets, values)
    assert buckets.sum() == n
    for q in QS:
        exact = np.sort(values)[math.floor(q * (n - 1))]
        assert sketch.read_quantile(buckets, n, q) == pytest.approx(exact, rel=ACCURACY * (1 + 1e-9))


def test_quantiles_are_those_of_ddsketch() -> None:
    values = durations("lognormal", np.random.default_rng(3), 3000)
    peer = DDSketch(ACCURACY)
    for value in values.tolist():
        peer.add(value)
    buckets = np.zeros(BUCKETS, np.uint32)
    sketch.fill_buckets(buckets, values)
    for q in QS:
        assert sketch.read_quantile(buckets, len(values), q) == pytest.approx(
            peer.get_quantile_value(q), rel=2 * ACCURACY
        )


def test_what_is_too_short_or_too_long_counts_as_the_end() -> None:
    buckets = np.zeros(BUCKETS, np.uint32)
    sketch.fill_buckets(buckets, np.array([0.0, 1e-9, LEAST_SECONDS, 1e9, LARGEST_SECONDS * 2]))
    assert (buckets[0], buckets[-1], buckets.sum()) == (3, 2, 5)
    assert sketch.read_quantile(buckets, 5, 0.0) == LEAST_SECONDS
    assert LARGEST_SECONDS > 12 * 60


def test_buckets_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([BOUNDS, np.nextafter(BOUNDS, 0), np.nextafter(BOUNDS, 1e9), rng.lognormal(-3, 3, 5000)])
    buckets = np.zeros(BUCKETS, np.uint32)
    sketch.fill_buckets(buckets, values)
    plain = np.bincount(np.minimum(np.searchsorted(BOUNDS, values), BUCKETS - 1), minlength=BUCKETS)
    assert buckets.tolist() == plain.tolist()


def keys(values: Any) -> NDArray[np.uint64]:
    """Spread keys of whole numbers."""
    mixed = called(sketch.mixed)
    return np.array([mixed(np.uint64(value)) for value in values], np.uint64)


@pytest.mark.parametrize("kind", ["zipf", "uniform", "one by one, then one often"])
def test_frequencies_are_never_too_low_and_rarely_too_high(kind: str) -> None:
    rng = np.random.default_rng(7)
    n = 20_000
    values = {
        "zipf": rng.zipf(1.3, n) % 5000,
        "uniform": rng.integers(0, 3000, n),
        "one by one, then one often": np.r_[np.arange(n - 1000), np.full(1000, 10**6)],
    }[kind]
    cells, said = np.zeros(sketch.CELLS, np.uint32), np.zeros(n, np.int64)
    spread = keys(range(int(values.max()) + 1))[values] if kind != "one by one, then one often" else keys(values)
    sketch.count_keys(cells, spread, said)
    true: Counter[int] = Counter()
    exact = []
    for value in values.tolist():
        true[value] += 1
        exact.append(true[value])
    over = said - np.array(exact)
    assert over.min() >= 0
    counted = np.arange(1, n + 1)
    assert (over > math.e / sketch.WIDTH * counted).mean() <= math.exp(-sketch.DEPTH)


def test_halving_never_makes_a_frequency_too_low() -> None:
    cells, said = np.zeros(sketch.CELLS, np.uint32), np.zeros(4000, np.int64)
    values = np.random.default_rng(2).integers(0, 400, 4000)
    spread = keys(range(400))
    sketch.count_keys(cells, spread[values], said)
    called(sketch.halve)(cells)
    again = np.zeros(400, np.int64)
    sketch.count_keys(cells, spread, again)
    assert (again >= np.bincount(values, minlength=400) // 2 + 1).all()


@pytest.mark.parametrize("buckets", [64, 512, 16_384])
def test_a_filter_knows_all_that_it_kept_and_little_else(buckets: int) -> None:
    rng = np.random.default_rng(buckets)
    cells = np.zeros(sketch.filter_cells(buckets), np.uint16)
    room = sketch.WAYS * buckets
    mine = rng.integers(0, 1 << 64, 2 * room, np.uint64)
    said = np.zeros(len(mine), np.uint8)
    sketch.remember_keys(cells, mine, said)
    kept = mine[said == sketch.NEW]
    assert len(kept) >= 0.93 * room
    assert (said == sketch.FULL).any()
    # Not one that was kept is ever taken for new, not even after it was full.
    again = np.zeros(len(kept), np.uint8)
    sketch.remember_keys(cells, kept, again)
    assert (again == sketch.KNOWN).all()
    others = rng.integers(0, 1 << 64, 400_000, np.uint64)
    wrong = np.zeros(len(others), np.uint8)
    sketch.remember_keys(cells, others, wrong)
    bound = 2 * sketch.WAYS / 65_535
    assert (wrong == sketch.KNOWN).mean() <= bound + 4 * math.sqrt(bound / len(others))


def test_a_filter_that_is_full_stays_as_it_is() -> None:
    cells = np.zeros(sketch.filter_cells(64), np.uint16)
    mine = np.random.default_rng(5).integers(0, 1 << 64, 2000, np.uint64)
    said = np.zeros(len(mine), np.uint8)
    sketch.remember_keys(cells, mine, said)
    before = cells.copy()
    sketch.remember_keys(cells, mine[::-1].copy(), said)
    assert (cells == before).all()


def test_the_same_key_again_and_again_takes_one_place() -> None:
    cells, said = np.zeros(sketch.filter_cells(64), np.uint16), np.zeros(1000, np.uint8)
    sketch.remember_keys(cells, np.full(1000, 12345 << 40, np.uint64), said)
    assert (said == [sketch.NEW] + [sketch.KNOWN] * 999).all()
    assert (cells > 0).sum() == 1


def test_distances_of_mixes() -> None:
    distance = called(sketch.mix_distance)
    rng = np.random.default_rng(0)
    assert distance(np.array([1.0, 3.0, 0.0]), np.array([2.0, 6.0, 0.0])) == 0.0
    assert distance(np.array([5.0, 0.0]), np.array([0.0, 1.0])) == 1.0
    for _ in range(50):
        a, b = rng.gamma(0.5, 1, 8), rng.gamma(0.5, 1, 8)
        p, q = a / a.sum(), b / b.sum()
        m = (p + q) / 2
        wanted = math.sqrt(sum(0.5 * x * math.log2(x / z) for x, z in zip(np.r_[p, q], np.r_[m, m], strict=True)))
        assert distance(a, b) == pytest.approx(wanted, abs=1e-9)
        assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-9)


def test_hashes_spread_and_depend_on_the_order() -> None:
    joined, text_hash = called(sketch.joined), called(sketch.text_hash)
    assert joined(np.uint64(1), np.uint64(2)) != joined(np.uint64(2), np.uint64(1))
    data = np.frombuffer(b"abcdefgh", np.uint8)
    pieces = {text_hash(data, i, j) for i in range(8) for j in range(i, 9)}
    assert len(pieces) == 36 + 1
