"""What each feature has in a score: every detector says it on request, and `score` always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from foreshock.detect.deviation import Deviation
from foreshock.detect.linear import Linear
from foreshock.detect.robust_z import RobustZ
from foreshock.detect.zscore import ZScore
from foreshock.types import Frame

MINUTE = 60 * 10**9


def frame(values: Any, start: int = 0, width: int = 1) -> Frame:
    values = np.asarray(values, np.float64).reshape(-1, width)
    n = len(values)
    time = (start + np.arange(n, dtype=np.int64)) * MINUTE
    return Frame(
        np.zeros(n, np.int32), time, values, np.full(n, width, np.int16), np.ones(n, np.bool_), np.zeros(n, np.uint8)
    )


@pytest.mark.parametrize("make", [RobustZ, ZScore, Deviation, lambda: Deviation({"tier": "light"})])
def test_of_a_single_series_all_of_the_score_is_its_own(make: Callable[[], Any]) -> None:
    """Exact: the one feature there is contributes the score; and the band holds where the score is low."""
    detector = make()
    values = np.random.default_rng(1).normal(10.0, 1.0, 400)
    detector.step(frame(values))
    asked = frame([9.5, 10.0, 30.0], 400)
    scores = detector.score(asked)
    assert scores.contribution is not None
    assert scores.contribution.shape == (3, 1)
    np.testing.assert_array_equal(scores.contribution[:, 0], scores.score.astype(np.float32))
    assert (scores.low < scores.expected).all()
    assert (scores.expected < scores.high).all()
    assert (scores.low < 10.0).all()
    assert (scores.high < 30.0).all(), "what would have been normal leaves out what was found"
    limit = detector.info.prior_score
    at_bound = frame([float(scores.high[0])], 400)
    assert detector.score(at_bound).score[0] == pytest.approx(limit, rel=1e-6), "the band ends where the score is rare"


def test_of_an_entity_the_feature_that_stands_out_contributes_most() -> None:
    rng = np.random.default_rng(2)
    waves = np.sin(np.arange(1200) / 40)[:, None] + 0.1 * rng.normal(size=(1200, 5))
    detector = Linear({"warm_up_rows": 400, "warm_up_seconds": 0})
    values = np.full((1200, 8), np.nan)
    values[:, :5] = waves
    made = frame(values, 0, 8)
    detector.step(made)
    for feature in range(5):
        row = values[-1].copy()
        row[feature] += 5.0
        scores = detector.score(frame(row, 1200, 8))
        assert scores.contribution is not None
        given = scores.contribution[0]
        assert np.isnan(given[5:]).all(), "what is not there contributes nothing"
        assert (given[:5] >= 0).all()
        assert int(np.nanargmax(given)) == feature
        usual = detector.score(frame(values[-1], 1200, 8))
        assert usual.contribution is not None
        assert given[feature] > 3 * usual.contribution[0, feature]
        assert scores.score[0] > usual.score[0]
