"""From raw series to features: against slow, obvious twins, and against what PromQL would say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foreshock.adapters.prometheus.columns import Columns, Raw, choose, quantiles, rates
from foreshock.adapters.prometheus.names import Kind
from foreshock.types import Labels

NAN = math.nan
CART: Labels = (("service", "cart"),)


def gauge(name: str = "queue", entity: Labels = CART, **more: object) -> Raw:
    return Raw(Kind.GAUGE, name, name, entity, (), **more)  # type: ignore[arg-type]


def counter(name: str = "requests_total", entity: Labels = CART, **more: object) -> Raw:
    return Raw(Kind.COUNTER, name, name, entity, (), **more)  # type: ignore[arg-type]


def buckets(bounds: list[float], entity: Labels = CART) -> list[Raw]:
    return [Raw(Kind.BUCKET, "d_seconds_bucket", "d_seconds", entity, (), le=bound) for bound in bounds]


def slow_rate(values: list[float], lag: int, step: float, reach: int) -> list[float]:
    """Growth since the last sample at least `lag` rows back, resets as from 0, by looking at every sample."""
    out = []
    for row, value in enumerate(values):
        before = next((at for at in range(row - lag, -1, -1) if not math.isnan(values[at])), None)
        if math.isnan(value) or before is None or row - before > reach:
            out.append(NAN)
            continue
        growth, last = 0.0, values[before]
        for one in values[before + 1 : row + 1]:
            if not math.isnan(one):
                growth += one - last if one >= last else one
                last = one
        out.append(growth / ((row - before) * step))
    return out


def slow_quantile(bounds: list[float], counts: list[float], q: float) -> float:
    """`histogram_quantile`, a bucket at a time."""
    if len(bounds) < 2 or bounds[-1] != math.inf or counts[-1] <= 0:
        return NAN
    rank, low, below = q * counts[-1], 0.0, 0.0
    for number, (bound, count) in enumerate(zip(bounds, counts, strict=True)):
        if bound == math.inf:
            return bounds[-2]
        if count >= rank:
            if number == 0 and bound <= 0:
                return bound
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    raise AssertionError("the last bound is infinite")


numbers = st.one_of(st.just(NAN), st.integers(0, 1000).map(float))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(numbers, min_size=12, max_size=12), min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 6)
)
def test_rates_are_those_of_the_twin(columns: list[list[float]], lag: int, reach: int) -> None:
    found = rates(np.array(columns).T, np.full(len(columns), lag), 5.0, lag + reach)
    wanted = np.array([slow_rate(column, lag, 5.0, lag + reach) for column in columns]).T
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=8),
    st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]),
    st.booleans(),
)
def test_quantiles_are_those_of_the_twin(fresh: list[int], q: float, negative: bool) -> None:
    bounds = [float(at - negative) for at in range(len(fresh) - 1)] + [math.inf]
    if not negative:
        bounds = [bound + 0.5 for bound in bounds]
    counts = np.cumsum(fresh).astype(float)
    [[[found]]] = quantiles(np.array(bounds), counts[None, None, :], [q])
    assert found == pytest.approx(slow_quantile(bounds, counts.tolist(), q), nan_ok=True)


def test_quantiles_of_what_is_no_histogram() -> None:
    assert np.isnan(quantiles(np.array([1.0, 2.0]), np.ones((1, 1, 2)), [0.5])).all()
    assert np.isnan(quantiles(np.array([math.inf]), np.ones((1, 1, 1)), [0.5])).all()


def feed(columns: Columns, rows: NDArray[np.float64], cuts: list[int]) -> NDArray[np.float64]:
    return np.concatenate([columns.take(part) for part in np.split(rows, cuts)])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 40), max_size=5))
def test_the_cut_of_the_chunks_makes_no_difference(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    raws = [
        gauge(), counter(), counter(stride=3), *buckets([0.1, 1.0, math.inf]),
        counter("ha_total", replica="a", identity=("ha",)), counter("ha_total", replica="b", identity=("ha",)),
    ]  # fmt: skip
    rows = np.cumsum(rng.integers(0, 9, (40, len(raws))), axis=0).astype(float)
    rows[rng.random(rows.shape) < 0.2] = NAN
    whole = Columns(raws, 10.0).take(rows)
    parts = feed(Columns(raws, 10.0), rows, sorted(cuts))
    # Sums that begin elsewhere may differ in the last digit.
    np.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-12)


def test_copies_together() -> None:
    raws = [gauge(), gauge(), counter(), counter(), gauge(entity=(("service", "pay"),))]
    columns = Columns(raws, 10.0)
    assert [(one.name, one.unit, one.entity[0][1]) for one in columns.features] == [
        ("queue", "", "cart"), ("requests_total", "1/s", "cart"), ("queue", "", "pay"),
    ]  # fmt: skip
    assert columns.starts.tolist() == [0, 2]
    rows = np.array([[2.0, 4.0, 100.0, 0.0, 7.0], [2.0, NAN, 150.0, 50.0, NAN], [3.0, 5.0, 10.0, NAN, 1.0]])
    # The mean of gauges, the sum of rates; a counter that fell began at 0; who is gone adds nothing.
    np.testing.assert_allclose(columns.take(rows), [[3.0, NAN, 7.0], [2.0, 10.0, NAN], [4.0, 1.0, 1.0]])


def test_a_scrape_every_third_step_gives_an_even_rate() -> None:
    columns = Columns([counter(stride=3)], 5.0)
    scraped = np.repeat(np.arange(10) * 30.0, 3)[:, None]
    found = columns.take(scraped)[:, 0]
    assert np.isnan(found[:3]).all()
    assert found[3:].tolist() == [2.0] * 27


def test_a_gap_is_spread_over_its_time() -> None:
    found = Columns([counter()], 10.0).take(np.array([[0.0], [10.0], [NAN], [NAN], [40.0]]))[:, 0]
    np.testing.assert_allclose(found, [NAN, 1.0, NAN, NAN, 1.0])


def test_quantiles_of_the_last_minute_over_all_pods() -> None:
    raws = [*buckets([0.1, 1.0, math.inf]), *buckets([0.1, 1.0, math.inf])]
    columns = Columns(raws, 30.0)
    assert [one.attributes[0][1] for one in columns.features] == ["0.5", "0.95", "0.99"]
    rows = np.zeros((4, 6))
    rows[1:] = [500, 500, 500, 0, 500, 500]
    found = columns.take(rows)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [0.1, 0.91, 0.982])
    np.testing.assert_allclose(found[2], found[1])
    assert np.isnan(found[3]).all(), "what is older than a minute counts no more"


def test_a_quantile_needs_a_few_observations_beyond_it() -> None:
    columns = Columns(buckets([0.1, 1.0, math.inf]), 30.0)
    rows = np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0], [90.0, 90.0, 90.0], [110.0, 110.0, 110.0]])
    found = columns.take(rows)
    assert np.isnan(found[1]).all(), "9 in the last minute"
    np.testing.assert_allclose(found[2], [0.05, NAN, NAN])
    np.testing.assert_allclose(found[3], [0.05, 0.095, NAN])


def test_one_of_a_pair_and_the_other_when_it_is_gone() -> None:
    values = np.array([[1.0, 9.0], [2.0, NAN], [NAN, 10.0], [3.0, 11.0], [NAN, NAN], [4.0, NAN]])
    taken, current = choose(values, 0, NAN)
    np.testing.assert_allclose(taken, [1.0, 2.0, 10.0, 11.0, NAN, 4.0])
    assert current == 0


def test_the_other_of_a_pair_is_a_little_behind() -> None:
    values = np.array([[100.0, 98.0], [110.0, 108.0], [NAN, 109.0], [NAN, 119.0], [NAN, 5.0]])
    taken, current = choose(values, 0, -math.inf)
    # 109 < 110 would look like a restart; 5 is one.
    np.testing.assert_allclose(taken, [100.0, 110.0, NAN, 119.0, 5.0])
    assert current == 1
    raws = [counter(replica=name, identity=("x",)) for name in "ab"]
    found = Columns(raws, 10.0).take(values)[:, 0]
    np.testing.assert_allclose(found, [NAN, 1.0, NAN, 0.45, 0.5])


def test_what_was_known_stays_known_when_series_come_and_go() -> None:
    a, b, c = counter("a_total"), counter("b_total"), counter("c_total")
    before = Columns([a, b], 10.0)
    before.take(np.array([[10.0, 0.0]]))
    after = Columns([c, a], 10.0)
    after.inherit(before, [(1, 0)])
    assert [one.name for one in after.features] == ["a_total", "c_total"]
    np.testing.assert_allclose(after.take(np.array([[5.0, 30.0]])), [[2.0, NAN]])


def test_infinity_is_no_count() -> None:
    found = Columns([counter(), gauge()], 1.0).take(np.array([[1.0, math.inf], [math.inf, 1.0], [3.0, -math.inf]]))
    np.testing.assert_allclose(found, [[math.inf, NAN], [1.0, NAN], [-math.inf, 1.0]])


def test_nothing_to_watch() -> None:
    assert Columns([], 1.0).take(np.zeros((3, 0))).shape == (3, 0)
