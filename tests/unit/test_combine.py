"""Combined p-values: the Cauchy combination, row by row, over cells and over detectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.combine import across, cauchy, combine
from foreshock.types import Verdict


def test_cauchy_combination() -> None:
    assert cauchy(np.array([0.2])) == pytest.approx(0.2)
    assert cauchy(np.array([0.3, 0.3, np.nan])) == pytest.approx(0.3)
    assert cauchy(np.array([1e-10, 0.5])) == pytest.approx(2e-10, rel=1e-6)
    assert cauchy(np.array([1e-6, 1.0, 1.0])) == pytest.approx(3e-6, rel=1e-3)
    assert 0 < cauchy(np.array([0.0, 0.5])) < 1e-290
    assert math.isnan(cauchy(np.array([np.nan])))
    assert math.isnan(cauchy(np.zeros(0)))


def test_combine_is_cauchy_row_by_row() -> None:
    rng = np.random.default_rng(8)
    p = np.where(rng.random(500) < 0.1, np.nan, rng.random(500) ** 3)
    start = np.concatenate([[0], np.sort(rng.integers(0, 500, 60)), [500]]).astype(np.int64)
    found = combine(p, start)
    for row, value in enumerate(found):
        cells = p[start[row] : start[row + 1]]
        cells = np.minimum(cells[~np.isnan(cells)], 0.99)
        slow = 0.5 - math.atan(np.mean(np.tan((0.5 - cells) * math.pi))) / math.pi if len(cells) else math.nan
        assert value == pytest.approx(slow, rel=1e-9, nan_ok=True)


def test_combined_p_values_hold_under_dependence() -> None:
    rng = np.random.default_rng(9)
    shared = rng.normal(size=(20_000, 1))
    z = 0.7 * shared + math.sqrt(0.51) * rng.normal(size=(20_000, 8))
    p = np.array([0.5 * math.erfc(v / math.sqrt(2)) for v in z.ravel()])
    combined = combine(p, np.arange(0, len(p) + 1, 8))
    assert np.mean(combined < 0.01) == pytest.approx(0.01, abs=0.004)


def test_the_far_tail_keeps_its_digits() -> None:
    """Where ½ − arctan(T)/π would be rounded to 0: k equal p-values combine to themselves, from 1e-300 to .99."""
    for p in (1e-300, 1e-200, 1e-15, 1e-9, 1e-3, 0.3, 0.5, 0.7, 0.98):
        assert cauchy(np.full(5, p)) == pytest.approx(p, rel=1e-12)


def verdict(p: NDArray[np.float64], whole: bool = False) -> Verdict:
    nothing = np.full(len(p), np.nan)
    status = np.zeros(len(p), np.uint8)
    return Verdict("d", nothing, status, p, nothing, status > 0, nothing, nothing, nothing, whole)


def test_detectors_weigh_the_same_however_many_series_they_see() -> None:
    start = np.array([0, 4, 4, 6], np.int64)
    cells = verdict(np.array([1e-6, 0.5, 0.5, 0.5, np.nan, 0.2]))
    rows = verdict(np.array([0.4, 0.3, np.nan]), whole=True)
    found = across([cells, rows], start)
    assert found[0] == pytest.approx(cauchy(np.array([cauchy(cells.p_value[:4]), 0.4])), rel=1e-12)
    assert found[0] == pytest.approx(8e-6, rel=1e-3), "an eighth of the weight, not a fifth"
    assert found[1:] == pytest.approx([0.3, 0.2], rel=1e-12), "what was not judged is left out"
    assert across([cells], start) == pytest.approx([4e-6, np.nan, 0.2], rel=1e-3, nan_ok=True)
    assert np.isnan(across([], start)).all()
