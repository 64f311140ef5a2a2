"""`isolation_forest`: scikit-learn's numbers, its contract and its twin, when it is fitted, what it blames."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.forest_shap import explain
from foreshock.detect.isolation_forest import IsolationForest
from foreshock.detect.isolation_model import ForestSettings, average_path, fit, fitted, rounded_down
from foreshock.errors import ConfigError, PermanentError
from foreshock.state import pack, unpack
from foreshock.testing import check_detector, check_names
from foreshock.testing.frames import DAY, MINUTE, START, cuts, make
from foreshock.types import Frame, Status
from tests.unit.forest_twins import IsolationForestTwin, path_length

ensemble = pytest.importorskip("sklearn.ensemble")

SMALL: dict[str, Any] = {"n_estimators": 5, "max_samples": 20, "window": 30, "warm_up_rows": 25}
MIDNIGHT = START - START % DAY + DAY
FIVE_SECONDS = 5 * 10**9


def frame(values: NDArray[np.float64], start: int = START, step: int = MINUTE, key: int = 0) -> Frame:
    return make(np.full(len(values), key), start + step * np.arange(len(values)), values)


def rows_of(rng: np.random.Generator, rows: int, width: int = 8) -> NDArray[np.float64]:
    """Numbers of very different sizes, some of them far out."""
    values = rng.normal(size=(rows, width)) * 10.0 ** np.linspace(-2, 4, width) + np.linspace(-3, 30, width)
    values[rng.random(rows) < 0.1] *= 3
    return values


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(
    ("config", "of_sklearn"),
    [
        ({}, {"n_estimators": 100, "max_samples": 60}),
        ({"n_estimators": 30, "max_samples": 256, "window": 300, "warm_up_rows": 300}, {"n_estimators": 30}),
        ({"n_estimators": 17, "max_samples": 33, "contamination": 0.1}, {"n_estimators": 17, "max_samples": 33,
                                                                         "contamination": 0.1}),
    ],
    ids=["as it ships", "scikit-learn's default", "smaller"],
)  # fmt: skip
def test_it_gives_the_numbers_of_scikit_learn(config: Any, of_sklearn: Any, seed: int) -> None:
    values = rows_of(np.random.default_rng(seed), 900)
    detector = IsolationForest({**config, "seed": seed, "refit_seconds": 0})
    n = detector.info.warm_up_rows
    seen = detector.step(frame(values))
    assert (seen.status[:n] == Status.WARMING_UP).all()
    peer = ensemble.IsolationForest(random_state=seed, **of_sklearn).fit(values[:n].astype(np.float32))
    wanted = -peer.score_samples(values[n:].astype(np.float32))
    np.testing.assert_allclose(seen.score[n:], wanted, rtol=0, atol=1e-6)
    assert np.ptp(wanted) > 0.1
    assert seen.prediction is not None
    sure = np.abs(wanted + peer.offset_) > 1e-6
    np.testing.assert_array_equal(seen.prediction[n:][sure], peer.predict(values[n:].astype(np.float32))[sure])
    assert set(seen.prediction[n:].tolist()) == {-1, 1}
    assert (seen.prediction[:n] == 0).all()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config",
    [
        {**SMALL, "refit_seconds": 0},
        {**SMALL, "n_estimators": 2, "max_samples": 3, "count_constants": True, "refit_seconds": 0},
    ],
    ids=str,
)
def test_it_keeps_the_contract_and_agrees_with_its_twin(config: Mapping[str, Any], seed: int) -> None:
    check_detector(
        IsolationForest, config=config, univariate=False, twin=IsolationForestTwin, twin_tolerance=1e-6, seed=seed
    )


@pytest.mark.parametrize("config", [SMALL, {**SMALL, "max_samples": 8, "refit_seconds": 3600}], ids=str)
def test_it_keeps_the_contract_while_it_is_fitted_again(config: Mapping[str, Any]) -> None:
    """All but that a step makes no objects: scikit-learn does, in each fit, as long as that is in line."""
    checks = [name for name in check_names() if name != "no_object_per_row"]
    check_detector(
        IsolationForest, config=config, univariate=False, twin=IsolationForestTwin, twin_tolerance=1e-6, only=checks
    )


def test_it_keeps_the_contract_as_it_ships() -> None:
    check_detector(
        IsolationForest, univariate=False, only=["info", "warm_up", "constants", "bytes_per_slot", "results"]
    )


def test_the_first_window_is_fitted_at_once_and_the_next_at_the_first_row_of_another_day() -> None:
    values = rows_of(np.random.default_rng(1), 400, 3)
    detector = IsolationForest({**SMALL, "window": 100})
    start = MIDNIGHT - 200 * MINUTE
    fitted_at = []
    for i in range(400):
        detector.step(frame(values[i : i + 1], start + MINUTE * i))
        fitted_at.append(int(detector.table.rows["fitted"][0]))
    changes = [i for i in range(1, 400) if fitted_at[i] != fitted_at[i - 1]]
    assert changes == [24, 200]
    assert fitted_at[-1] == MIDNIGHT


def test_a_fit_waits_until_there_are_enough_new_rows() -> None:
    values = rows_of(np.random.default_rng(2), 60, 2)
    detector = IsolationForest(SMALL)
    detector.step(frame(values[:25], MIDNIGHT - 25 * MINUTE))
    first = int(detector.table.rows["fitted"][0])
    detector.step(frame(values[25:49], MIDNIGHT))
    assert int(detector.table.rows["fitted"][0]) == first
    detector.step(frame(values[49:50], MIDNIGHT + 24 * MINUTE))
    assert int(detector.table.rows["fitted"][0]) == MIDNIGHT + 24 * MINUTE


def test_the_cut_of_batches_does_not_move_a_fit() -> None:
    values = rows_of(np.random.default_rng(3), 300, 3)
    whole, cut = IsolationForest({**SMALL, "refit_seconds": 3000}), IsolationForest({**SMALL, "refit_seconds": 3000})
    rows = frame(values)
    wanted = whole.step(rows).score
    seen = np.concatenate([cut.step(piece).score for piece in cuts(np.random.default_rng(0), rows)])
    np.testing.assert_array_equal(seen, wanted)
    assert pack(whole.state()) == pack(cut.state())


def test_rows_not_to_be_learnt_stay_out_of_fits() -> None:
    values = rows_of(np.random.default_rng(4), 50, 3)
    odd = np.insert(values, 10, 1e6, axis=0)
    learn = np.arange(51) != 10
    spared, clean = IsolationForest(SMALL), IsolationForest(SMALL)
    spared.step(make(np.zeros(51), START + MINUTE * np.arange(51), odd, learn=learn))
    clean.step(frame(values))
    one, other = spared.model(0), clean.model(0)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.threshold, other.threshold)
    np.testing.assert_array_equal(one.value, other.value)


def test_the_sample_is_spread_evenly_over_the_rows_since_the_last_fit() -> None:
    detector = IsolationForest({"n_estimators": 1, "window": 100, "refit_seconds": 0})
    detector.step(frame(np.arange(10_060.0).reshape(-1, 1)))
    kept = np.sort(detector._sample_of(detector.table.rows[0])[1:, 0])
    assert kept[0] >= 60, "all are of rows after the fit"
    assert abs(np.mean(kept) - 5060) < 900
    assert len(np.unique(kept)) == 100


def test_fit_is_a_function_of_history_and_seed() -> None:
    history = rows_of(np.random.default_rng(5), 80, 4).astype(np.float32)
    history[::7, 1] = np.nan
    history[:, 3] = np.nan
    before, settings = history.copy(), ForestSettings(10, 64)
    np.random.seed(1)
    first = fit(history, 3, settings)
    np.random.seed(2)
    second, other = fit(history, 3, settings), fit(history, 4, settings)
    np.testing.assert_array_equal(history, before)
    for name in ("feature", "threshold", "value", "level"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (first.threshold != other.threshold).any()
    assert first.level.tolist()[3] == 0.0
    assert np.isnan(first.level[:3]).all()


def test_trees_are_laid_out_as_scikit_learn_has_them() -> None:
    history = rows_of(np.random.default_rng(6), 64, 3).astype(np.float32)
    settings = ForestSettings(4, 64)
    model, forest = fit(history, 0, settings), fitted(history, 0, settings)
    for t, tree in enumerate(forest.estimators_):
        for x in rows_of(np.random.default_rng(7), 50, 3).astype(np.float32):
            node = 1
            while 2 * node < model.value.shape[1]:
                node = 2 * node + (0 if x[model.feature[t, node]] <= model.threshold[t, node] else 1)
            assert model.value[t, node] == pytest.approx(path_length(tree.tree_, x.tolist()), rel=1e-6)


def test_thresholds_round_so_that_comparisons_stay() -> None:
    rng = np.random.default_rng(8)
    threshold = rng.normal(size=1000) * 10.0 ** rng.uniform(-20, 20, 1000)
    near = threshold.astype(np.float32)
    for x in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
        np.testing.assert_array_equal(x <= rounded_down(threshold), x.astype(np.float64) <= threshold)


@pytest.mark.parametrize("feature", [0, 3])
def test_contributions_add_up_and_name_the_feature_that_moved(feature: int) -> None:
    rng = np.random.default_rng(9)
    values = rng.normal(size=(80, 5))
    values[79, feature] = 12.0
    detector = IsolationForest()
    detector.contributions = True
    seen = detector.step(frame(values))
    assert seen.contribution is not None
    average = average_path(60)
    for i in range(60, 80):
        path = -np.log2(seen.score[i]) * average
        assert seen.contribution[i, :5].sum() == pytest.approx(average - path, abs=1e-4)
    assert np.argmax(seen.contribution[79, :5]) == feature
    assert np.isnan(seen.contribution[:60]).all()
    assert np.isnan(seen.contribution[:, 5:]).all()


def test_a_missing_feature_is_left_out() -> None:
    rng = np.random.default_rng(10)
    values = rng.normal(size=(62, 4))
    values[60:] = 0.0
    values[60, 2] = 50.0
    values[61, 2] = np.nan
    seen = IsolationForest().step(frame(values))
    assert seen.score[60] > seen.score[61] + 0.05
    assert seen.score[61] < 0.5


def test_a_constant_feature_that_moves_counts_where_it_is_asked_to() -> None:
    values = np.random.default_rng(11).normal(size=(62, 4))
    values[:61, 1] = 3.0
    values[61] = values[60]
    values[61, 1] = 3.5
    plain = IsolationForest().step(frame(values)).score
    assert plain[61] == plain[60], "scikit-learn's forests cannot see it"
    detector = IsolationForest({"count_constants": True})
    detector.contributions = True
    counted = detector.step(frame(values))
    assert counted.score[60] == plain[60]
    assert counted.score[61] > plain[61] + 0.05
    assert counted.contribution is not None
    assert np.argmax(counted.contribution[61, :4]) == 1
    path = -np.log2(counted.score[61]) * average_path(60)
    assert counted.contribution[61, :4].sum() == pytest.approx(average_path(60) - path, abs=1e-4)


def test_odd_entities_get_a_status_or_a_number() -> None:
    detector = IsolationForest(SMALL)
    rng = np.random.default_rng(12)
    wide = detector.step(frame(rng.normal(size=(40, 1000))))
    assert np.isfinite(wide.score[25:]).all()
    assert (detector.step(frame(np.full((30, 3), np.nan), key=1)).status == Status.MISSING).all()
    constant = detector.step(frame(np.full((40, 1), 3.0), key=2))
    assert np.isfinite(constant.score[25:]).all()
    huge = detector.step(frame(10.0 ** rng.uniform(-308, 308, (90, 4)) * rng.choice([-1, 1], (90, 4)), key=3))
    assert np.isfinite(huge.score[25:]).all()
    assert IsolationForest.restore(SMALL, unpack(pack(detector.state()))).model(0) is not None


def test_an_entity_grows_and_keeps_its_forest_and_its_sample() -> None:
    values = rows_of(np.random.default_rng(13), 200, 40)
    detector = IsolationForest({**SMALL, "refit_seconds": 3600})
    detector.step(frame(values[:40, :5]))
    before = detector.model(0)
    kept = detector._sample_of(detector.table.rows[0])[1:16, :5].copy()
    detector.step(frame(values[40:41], START + 40 * MINUTE))
    after = detector.model(0)
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before.value, after.value)
    sample = detector._sample_of(detector.table.rows[0])
    np.testing.assert_array_equal(sample[1:16, :5], kept)
    assert np.isnan(sample[1:16, 5:]).all()
    detector.step(frame(values[41:], START + 41 * MINUTE))
    assert int(detector.table.rows["features"][0]) == 40
    detector.forget(np.array([0, 9], np.int32))
    assert detector.model(0) is None
    assert detector.model(9) is None


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"isolation_forest needs scikit-learn.*pip install 'foreshock\[forest\]'"):
        IsolationForest()


def test_shapley_values_add_up_and_name_the_feature_that_moved() -> None:
    pytest.importorskip("shap")
    rng = np.random.default_rng(14)
    history = rng.normal(size=(64, 4)).astype(np.float32)
    model = fit(history, 0, ForestSettings(20, 64))
    forest = fitted(history, 0, ForestSettings(20, 64))
    rows = np.array([[0.0, 9.0, 0.1, 0.0], [0.2, -0.1, 0.0, -8.0]])
    values = explain(model, rows)
    assert values.shape == (2, 4)
    assert values.argmax(axis=1).tolist() == [1, 3]
    trees = [one.tree_ for one in forest.estimators_]
    own = [sum(path_length(tree, x) for tree in trees) / 20 for x in rows.astype(np.float32).tolist()]
    np.testing.assert_allclose(np.diff(values.sum(axis=1)), -np.diff(own), atol=1e-5)
    assert (values.sum(axis=1) > 0).all()


def test_without_shap_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)
    model = fit(np.random.default_rng(15).normal(size=(20, 2)).astype(np.float32), 0, ForestSettings(2, 16))
    with pytest.raises(ConfigError, match=r"pip install 'foreshock\[shap\]'"):
        explain(model, np.zeros((1, 2)))


def test_a_state_of_another_forest_is_refused() -> None:
    detector = IsolationForest(SMALL)
    detector.step(frame(np.ones((1, 2))))
    with pytest.raises(PermanentError, match=r"bytes a slot, its config asks for"):
        IsolationForest.restore({}, detector.state())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_estimator": 3}, r"n_estimator: unknown option; did you mean 'n_estimators'\?"),
        ({"window": 50}, r"warm_up_rows \(60\) must not be above window \(50\)"),
        ({"n_estimators": 1000, "max_samples": 4096, "window": 5000}, r"1000 trees of 4096 rows have too many nodes"),
        ({"contamination": 0.7}, r"contamination: Input should be less than or equal to 0.5"),
    ],
)
def test_wrong_options_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message):
        IsolationForest(config)
