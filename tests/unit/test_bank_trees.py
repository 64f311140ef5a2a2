"""The detectors of trees in the bank: scores that end at 1 are judged by their odds, predictions reach the verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from foreshock.detect.bank import Bank
from foreshock.detect.half_space_trees import HalfSpaceTrees
from foreshock.detect.isolation_forest import IsolationForest
from foreshock.ports import Detector
from foreshock.state import Registry, pack, unpack
from foreshock.types import Columns, Rows, Series, Status, Verdict, labels

MINUTE = 60 * 10**9
START = 19_723 * 1440 * MINUTE
WIDTH = 6


def registry() -> Registry:
    made = Registry()
    for name in range(WIDTH):
        made.intern(Series(f"m{name}", labels({"host.name": "h"})))
    return made


def rows_of(values: Any, start: int = START) -> Rows:
    n = len(values)
    time = start + MINUTE * np.arange(n, dtype=np.int64)
    return Rows(
        np.zeros(n, np.int32), time, time + MINUTE, np.ones(n, np.bool_), np.zeros(n, np.uint8),
        np.arange(n + 1, dtype=np.int64) * WIDTH, np.tile(np.arange(WIDTH, dtype=np.int32), n),
        np.asarray(values).ravel(),
    )  # fmt: skip


def judge(bank: Bank, rows: Rows) -> Verdict:
    (verdict,) = bank.process(Columns(rows=rows)).verdicts
    return verdict


@pytest.fixture(params=["half_space_trees", "isolation_forest"])
def detector(request: pytest.FixtureRequest) -> Detector:
    return HalfSpaceTrees({"n_trees": 25}) if request.param == "half_space_trees" else IsolationForest()


def test_quiet_days_stay_quiet_and_a_row_that_is_far_off_in_all_features_is_anomalous(detector: Detector) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3 * 1440, WIDTH))
    bank = Bank(registry(), {"d": detector}, 0.2)
    verdict = judge(bank, rows_of(values))
    scored = verdict.status == Status.SCORED
    assert scored.sum() > 4000
    assert np.count_nonzero(verdict.anomalous) <= 2
    p = verdict.p_value[scored][500:]
    assert np.abs(np.mean(p < 0.1) - 0.1) < 0.04
    assert np.abs(np.mean(p < 0.5) - 0.5) < 0.1
    assert ((verdict.score[scored] >= 0) & (verdict.score[scored] < 1)).all(), (
        "the verdict has the detector's own score"
    )
    far = judge(bank, rows_of(np.full((5, WIDTH), 12.0) + rng.normal(size=(5, WIDTH)), START + 3 * 1440 * MINUTE))
    assert far.anomalous.any()
    assert far.contribution is not None
    assert np.isfinite(far.contribution[:WIDTH][far.anomalous[0]]).all()


def test_predictions_reach_the_verdict_and_survive_a_restart() -> None:
    values = np.random.default_rng(1).normal(size=(300, WIDTH))
    values[250] = 9.0
    bank = Bank(registry(), {"if": IsolationForest()}, 0.2)
    verdict = judge(bank, rows_of(values))
    assert verdict.prediction is not None
    judged = verdict.status == Status.SCORED
    assert (verdict.prediction[~judged] == 0).all()
    np.testing.assert_array_equal(verdict.prediction[judged], np.where(verdict.score[judged] > 0.5, -1, 1))
    assert verdict.prediction[250] == -1
    other = Bank(registry(), {"if": IsolationForest()}, 0.2)
    other.load(unpack(pack(bank.state())))
    later = rows_of(np.random.default_rng(2).normal(size=(50, WIDTH)), START + 1440 * MINUTE)
    one, two = judge(bank, later), judge(other, later)
    np.testing.assert_array_equal(one.score, two.score)
    np.testing.assert_array_equal(one.strength, two.strength)


def test_detectors_that_predict_nothing_leave_it_out() -> None:
    verdict = judge(Bank(registry(), {"d": HalfSpaceTrees()}, 0.2), rows_of(np.zeros((30, WIDTH))))
    assert verdict.prediction is None
