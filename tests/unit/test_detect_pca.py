"""`pca`: its contract and twin, scikit-learn's own components, what it blames, missing and new features, cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from foreshock.detect.bank import Bank
from foreshock.detect.pca import Pca
from foreshock.errors import ConfigError, PermanentError
from foreshock.state import Registry, State, pack, unpack
from foreshock.testing import check_detector, check_names
from foreshock.testing.frames import DAY, MINUTE, START, hard, make
from foreshock.types import Columns, Frame, Rows, Series, Status, labels
from tests.unit.pca_twin import PcaTwin

QUICK = {"warm_up_rows": 200, "warm_up_seconds": 0}


def together(rows: int, width: int = 10, rank: int = 3, seed: int = 0, noise: float = 0.3) -> NDArray[np.float64]:
    """Features that follow a few sources of unequal size, each with noise of its own."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(7).normal(size=(rank, width)) * np.linspace(1.5, 0.7, rank)[:, None]
    values = rng.normal(size=(rows, rank)) @ mix + noise * rng.normal(size=(rows, width))
    out: NDArray[np.float64] = 20 + values * np.linspace(0.1, 1000, width)
    return out


def frame(values: NDArray[np.float64], start: int = START, key: int = 0, learn: bool = True) -> Frame:
    return make(np.full(len(values), key), start + MINUTE * np.arange(len(values)), values, learn=learn)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config",
    [
        {"warm_up_rows": 30, "warm_up_seconds": 0},
        {"warm_up_rows": 5, "warm_up_seconds": 1200, "components": 2, "statistic": "q"},
        {"warm_up_rows": 70, "warm_up_seconds": 0, "statistic": "t2", "memory_seconds": "2h", "explained": 0.5},
    ],
    ids=str,
)
def test_it_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(Pca, config=config, univariate=False, twin=PcaTwin, seed=seed)


def test_it_keeps_the_contract_as_it_ships() -> None:
    slow = ("score_first", "slots_independent", "batch_cuts")
    check_detector(Pca, univariate=False, only=[name for name in check_names() if name not in slow])


@pytest.mark.parametrize("width", [1, 2, 9])
def test_the_twin_agrees_over_spikes_gaps_and_missing_features(width: int) -> None:
    rows = hard(np.random.default_rng(width), 3000, 2, width)
    seen, twin = Pca(QUICK).step(rows), PcaTwin(QUICK)
    values = [row[:width] for row in rows.values.tolist()]
    score, status = twin.step(
        rows.key.tolist(), rows.time_unix_nano.tolist(), values, rows.learn.tolist(), rows.status.tolist()
    )
    np.testing.assert_array_equal(seen.status, status)
    np.testing.assert_array_equal(seen.score, score)
    assert np.isfinite(seen.score).sum() > 1000


@pytest.mark.parametrize(("width", "rank"), [(6, 2), (12, 3), (40, 5)])
def test_what_is_left_is_what_the_components_of_scikit_learn_leave(width: int, rank: int) -> None:
    """On a stationary window: the mean square within 2 %, row by row correlated to .995."""
    values = together(8500, width, rank)
    past, later = values[:8000], values[8000:]
    detector = Pca({**QUICK, "components": rank, "explained": 1.0, "memory_seconds": "30d"})
    detector.step(frame(past))
    assert detector.heads.rows[0]["used"] == rank
    contribution = detector.score(frame(later, START + 8000 * MINUTE)).contribution
    assert contribution is not None
    ours = contribution[:, :width].sum(1)
    mean, deviation = past.mean(0), past.std(0)
    peer = PCA(rank, svd_solver="full").fit((past - mean) / deviation)
    scaled = (later - mean) / deviation
    theirs = ((scaled - peer.inverse_transform(peer.transform(scaled))) ** 2).sum(1)
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.02)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.995


def test_components_span_what_those_of_scikit_learn_span_and_are_as_long_as_their_variance() -> None:
    values = together(8000, 12, 3)
    detector = Pca({**QUICK, "components": 3, "memory_seconds": "30d"})
    detector.step(frame(values))
    found = detector.bodies[1].rows["number"][0].reshape(-1, 16)[5:8, :12]
    peer = PCA(3, svd_solver="full").fit((values - values.mean(0)) / values.std(0))
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths, peer.explained_variance_, rtol=0.1)
    cosines = np.linalg.svd(np.linalg.qr(found.T)[0].T @ peer.components_.T)[1]
    assert cosines.min() > 0.999


def test_a_row_in_a_thousand_is_over_the_limit() -> None:
    seen = Pca({**QUICK, "statistic": "q"}).step(frame(together(20_000))).score[2000:]
    assert 0.0002 < np.mean(seen > 1.0) < 0.004
    assert seen.max() < 1.5 * 1.2


def test_features_that_part_are_seen_where_each_alone_is_usual() -> None:
    values = together(3001, noise=0.05)
    away = values[:, 4] - values[:3000, 4].mean()
    farthest = int(np.argmax(np.abs(away[:3000])))
    values[3000] = values[farthest]
    values[3000, 4] -= 1.8 * away[farthest]
    assert abs(values[3000, 4] - values[:3000, 4].mean()) < abs(away[farthest])
    detector = Pca(QUICK)
    detector.contributions = True
    seen = detector.step(frame(values))
    assert seen.score[3000] > 3.0
    assert np.nanmax(seen.score[1000:3000]) < 2.0
    assert seen.contribution is not None
    assert np.nanargmax(seen.contribution[3000]) == 4
    assert np.isnan(seen.contribution[3000, 10:]).all()
    assert np.isnan(seen.contribution[:200]).all()


def test_far_along_the_usual_directions_is_for_t2_alone() -> None:
    rng = np.random.default_rng(3)
    source = rng.normal(size=3001)
    source[3000] = 9.0
    values = source[:, None] * np.array([1.0, 2.0, -1.0, 3.0, 0.5]) + 0.1 * rng.normal(size=(3001, 5))
    scores = {kind: Pca({**QUICK, "statistic": kind}).step(frame(values)).score[3000] for kind in ("q", "t2", "both")}
    assert scores["q"] < 1.5 < scores["t2"]
    assert scores["both"] == scores["t2"]


def test_contributions_are_exact_parts_of_q() -> None:
    detector = Pca({**QUICK, "statistic": "q"})
    detector.step(frame(together(1000)))
    seen = detector.score(frame(together(50, seed=9), START + DAY))
    assert seen.contribution is not None
    q = np.nansum(seen.contribution.astype(float), axis=1) / 10
    ratio = seen.score**2 / q
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_a_missing_feature_neither_cries_nor_hides_the_others() -> None:
    """Two features that are one: without either of them a large common move is no break between them."""
    rng = np.random.default_rng(4)
    source = rng.normal(size=2000)
    values = np.stack([source, source, source, rng.normal(size=2000)], 1) + 0.05 * rng.normal(size=(2000, 4))
    detector = Pca({**QUICK, "components": 1, "statistic": "q"})
    detector.step(frame(values))
    rows = np.array([[2.0, 2.0, 2.0, 0.0], [2.0, np.nan, 2.0, 0.0], [2.0, np.nan, -2.0, 0.0]])
    seen = detector.score(frame(rows, START + 2000 * MINUTE))
    assert seen.contribution is not None
    assert seen.contribution[:2, 0].max() < 0.1
    assert np.isnan(seen.contribution[1, 1])
    assert seen.score[2] > 5 * seen.score[1]


def test_a_feature_that_appears_waits_and_then_belongs() -> None:
    values = together(3000, 9)
    detector = Pca({**QUICK, "components": 3})
    detector.contributions = True
    first = detector.step(frame(values[:1000, :6]))
    second = detector.step(frame(values[1000:], START + 1000 * MINUTE))
    assert first.contribution is not None
    assert second.contribution is not None
    assert np.isnan(second.contribution[:200, 6:9]).all()
    assert np.isfinite(second.contribution[200:, :9]).all()
    assert np.nanmax(second.score) < 2.0
    at_once = Pca({**QUICK, "components": 3})
    at_once.contributions = True
    whole = at_once.step(frame(values)).contribution
    assert whole is not None
    new, old = second.contribution[-500:, 6:9].mean(), whole[-500:, 6:9].mean()
    assert new == pytest.approx(old, rel=0.2)


def test_a_feature_that_vanishes_leaves_the_others_judged() -> None:
    values = together(3000)
    values[2000:, 3] = np.nan
    seen = Pca(QUICK).step(frame(values))
    assert (seen.status[200:] == Status.SCORED).all()
    assert np.nanmax(seen.score[1000:]) < 2.0


def test_a_burst_does_not_become_a_direction() -> None:
    values = together(4000)
    for start in (2000, 3000):
        values[start : start + 30, 2] += 40 * values[:, 2].std()
    seen = Pca(QUICK).step(frame(values)).score
    assert seen[3000:3010].max() > seen[2000:2010].max() / 3


def test_an_entity_grows_from_body_to_body_and_places_are_used_again() -> None:
    values = together(900, 70)
    detector = Pca(QUICK)
    parts = [frame(values[a:b, :w], START + a * MINUTE) for a, b, w in ((0, 300, 3), (300, 600, 9), (600, 900, 70))]
    scores = np.concatenate([detector.step(part).score for part in parts])
    assert np.isfinite(scores[200:]).all()
    assert detector.heads.rows[0]["room"] == 128
    detector.step(frame(values[:1, :3], key=1))
    assert detector.heads.rows["slot"][1] == 0
    assert detector.bodies[0].used == 1
    again = Pca.restore(QUICK, unpack(pack(detector.state())))
    more = frame(together(50, 70, seed=5), START + 900 * MINUTE)
    by_row = np.concatenate([again.step(more.take(np.array([i]))).score for i in range(50)])
    np.testing.assert_array_equal(by_row, detector.step(more).score)


def test_growth_in_the_middle_of_a_batch_is_growth_between_batches() -> None:
    rows = frame(together(900, 12))
    narrow = np.arange(900) < 500
    rows = replace(rows, width=np.where(narrow, 5, 12).astype(np.int16), values=rows.values.copy())
    rows.values[narrow, 5:] = np.nan
    once, twice = Pca(QUICK), Pca(QUICK)
    seen = once.step(rows).score
    parts = np.concatenate([twice.step(rows.take(slice(a, b))).score for a, b in ((0, 500), (500, 900))])
    np.testing.assert_array_equal(seen, parts)
    assert pack(once.state()) == pack(twice.state())


def test_a_row_costs_less_than_a_millisecond_however_wide() -> None:
    """1,000 features and all 32 components; the least of rows one by one, so that a busy machine does not decide."""
    detector = Pca({**QUICK, "components": 32})
    values = np.random.default_rng(0).normal(size=(300, 1000))
    detector.step(frame(values))
    assert detector.heads.rows[0]["used"] == 32
    rows = [frame(values[i : i + 1], START + (300 + i) * MINUTE) for i in range(100)]
    spent = []
    for row in rows:
        started = time.perf_counter()
        detector.step(row)
        spent.append(time.perf_counter() - started)
    assert np.median(spent) < 1e-3


def test_the_bank_runs_it_and_names_the_feature() -> None:
    registry = Registry()
    for j in range(10):
        registry.intern(Series(f"m{j}", labels({"host.name": "a"})))
    n = 3000
    values = together(n)
    values[2900:2903, 6] += 8 * values[:, 6].std()
    rows = Rows(
        np.zeros(n, np.int32), START + MINUTE * np.arange(n), START + MINUTE * np.arange(1, n + 1),
        np.ones(n, np.bool_),
        np.zeros(n, np.uint8), 10 * np.arange(n + 1), np.tile(np.arange(10, dtype=np.int32), n), values.ravel(),
    )  # fmt: skip
    verdict = Bank(registry, {"pca": Pca(QUICK)}, 0.2).process(Columns(rows=rows)).verdicts[0]
    found = np.flatnonzero(verdict.anomalous)
    assert found[0] == 2900
    assert verdict.contribution is not None
    assert np.nanargmax(verdict.contribution.reshape(n, 10)[2900]) == 6


def test_wrong_options_foreign_states_and_keys_are_told() -> None:
    with pytest.raises(ConfigError, match="component: unknown option; did you mean 'components'"):
        Pca({"component": 3})
    with pytest.raises(ConfigError, match="components: Input should be less than or equal to 32"):
        Pca({"components": 33})
    with pytest.raises(ConfigError, match="statistic: Input should be 'both', 'q' or 't2'"):
        Pca({"statistic": "spe"})
    with pytest.raises(PermanentError, match="cannot be restored as 'pca' version 1"):
        Pca.restore({}, State(1, {"detector": "linear"}))
    detector = Pca({"components": 3})
    detector.step(frame(np.ones((1, 3))))
    with pytest.raises(PermanentError, match="another number of components"):
        Pca.restore({"components": 4}, detector.state())
    for ask in (Pca().step, Pca().score):
        with pytest.raises(ValueError, match="-1 is negative"):
            ask(make([-1], START, [[1.0, 2.0]]))
