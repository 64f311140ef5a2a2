"""Departures of an entity's features → a verdict over its cells."""

from __future__ import annotations

import numpy as np

from foreshock.detect.apart import MARGIN, apart_verdict
from foreshock.types import Rows, Status, Verdict

NONE = np.full(2, np.nan)


def rows() -> Rows:
    """Two rows of one entity, of three and two cells."""
    return Rows(
        np.zeros(2, np.int32), np.array([60, 120]), np.array([61, 121]), np.ones(2, np.bool_), np.zeros(2, np.uint8),
        np.array([0, 3, 5]), np.array([0, 1, 2, 0, 1], np.int32), np.zeros(5),
    )  # fmt: skip


def whole(*status: Status) -> Verdict:
    return Verdict("linear", NONE, np.array(status, np.uint8), NONE, NONE, NONE > 0, NONE, NONE, NONE, whole=True)


def test_what_was_said_stands_at_its_cells() -> None:
    apart = np.full((2, 4), np.nan, np.float32)
    apart[0, 2], apart[1, 1] = 2.0, -0.25
    seen = apart_verdict(rows(), whole(Status.SCORED, Status.SCORED), [(np.arange(2), apart)], 0.2)
    assert seen is not None
    assert np.array_equal(np.flatnonzero(seen.status == Status.SCORED), [2, 4])
    assert np.allclose(seen.strength, [np.nan, np.nan, 2 - MARGIN, np.nan, -0.25 - MARGIN], equal_nan=True)
    assert seen.anomalous.tolist() == [False, False, True, False, False]
    assert seen.measured is not None
    assert np.allclose(seen.measured[0, [2, 4]], np.exp([1.0, -0.125]))
    assert (seen.detector, seen.measure, seen.whole) == ("linear", "departure", False)


def test_rows_that_are_not_judged_say_nothing() -> None:
    apart = np.full((2, 4), 2.0, np.float32)[:, :2]
    seen = apart_verdict(rows(), whole(Status.WARMING_UP, Status.SCORED), [(np.arange(2), apart)], 0.2)
    assert seen is not None
    assert np.array_equal(np.flatnonzero(seen.status == Status.SCORED), [3, 4])
    assert np.isnan(seen.strength[:3]).all()


def test_nothing_said_is_no_verdict() -> None:
    nothing = [(np.arange(2), np.full((2, 4), np.nan, np.float32))]
    assert apart_verdict(rows(), whole(Status.SCORED, Status.SCORED), nothing, 0.2) is None


def test_a_larger_budget_asks_for_less() -> None:
    apart = [(np.arange(2), np.full((2, 2), 0.8, np.float32))]
    judged = whole(Status.SCORED, Status.SCORED)
    strict, loose = apart_verdict(rows(), judged, apart, 0.05), apart_verdict(rows(), judged, apart, 2.0)
    assert strict is not None
    assert loose is not None
    assert strict.strength[0] < 0 < loose.strength[0]
