"""The rank of an entity's rows, where many of its features stand out by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.bank import Bank
from foreshock.detect.crowd import GAIN, WEIGHT, Crowd, share_of
from foreshock.ports import DetectorInfo
from foreshock.state import Registry, State
from foreshock.types import Columns, Frame, Rows, Scores, Series, Status

MINUTE = 60_000_000_000


def rows(status: list[int], entities: int = 1, cells: int = 4) -> Rows:
    n = len(status)
    entity = (np.arange(n) % entities).astype(np.int32)
    time = np.arange(n, dtype=np.int64) * MINUTE
    series = np.concatenate([entity[i] * cells + np.arange(cells) for i in range(n)]).astype(np.int32)
    return Rows(
        entity, time, time + MINUTE, np.ones(n, np.bool_), np.array(status, np.uint8),
        np.arange(n + 1, dtype=np.int64) * cells, series, np.ones(n * cells),
    )  # fmt: skip


def test_the_share_is_of_what_is_judged() -> None:
    some = rows([Status.SCORED] * 3)
    strength = np.array([0.5, -0.6, -0.8, -3.0, np.nan, np.nan, 1.0, -9.0, *[np.nan] * 4])
    assert share_of(some, strength).tolist() == [0.5, 0.5, 0.0]


def test_it_smooths_and_rows_that_are_not_scored_or_learnt_leave_no_trace() -> None:
    status = np.array([Status.SCORED, Status.MISSING, Status.SCORED, Status.EXCLUDED, Status.SCORED], np.uint8)
    learn = np.array([True, True, False, True, True])
    share = np.array([0.5, 1.0, 1.0, 1.0, 0.0])
    factor = Crowd().step(np.zeros(5, np.int32), share, status, learn)
    first = GAIN * 0.5
    wanted = [first, 0.0, first + GAIN * (1 - first), 0.0, first * (1 - GAIN)]
    assert factor == pytest.approx([1 + WEIGHT * one for one in wanted])


def test_cuts_restarts_and_other_entities_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    n = 400
    key, share = rng.integers(0, 5, n).astype(np.int32), rng.random(n)
    status = rng.choice(np.array([Status.SCORED, Status.MISSING], np.uint8), n, p=[0.9, 0.1])
    learn = rng.random(n) < 0.9
    whole = Crowd().step(key, share, status, learn)
    crowd, parts = Crowd(), []
    for part in np.array_split(np.arange(n), 37):
        fresh = Crowd()
        fresh.load(State(1, {}, crowd.state().frozen().arrays))
        crowd = fresh
        parts.append(crowd.step(key[part], share[part], status[part], learn[part]))
    assert np.array_equal(np.concatenate(parts), whole)
    alone = Crowd().step(key[key == 2], share[key == 2], status[key == 2], learn[key == 2])
    assert np.array_equal(alone, whole[key == 2])
    crowd.forget(np.array([2]))
    every = np.array([2], np.int32), np.zeros(1), np.zeros(1, np.uint8), np.ones(1, np.bool_)
    assert crowd.step(*every)[0] == 1.0


class Fixed:
    """A detector that scores every row the same, and ranks likewise if it is of entities and asked to."""

    def __init__(self, kind: Any, ranks: bool = False, score: float = 40.0) -> None:
        self.info = DetectorInfo("fixed", 1, kind, 0, 8, 1.0)
        self.ranks, self.given = ranks, score

    def step(self, frame: Frame) -> Scores:
        score: NDArray[np.float64] = np.full(len(frame), self.given)
        return Scores(score, frame.status, ranking=np.full(len(frame), 7.0) if self.ranks else None)

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Nothing is known."""

    def state(self) -> State:
        return State(1, {})


def bank(shadow: bool, **parts: Any) -> Bank:
    registry = Registry()
    for j in range(4):
        registry.intern(Series(f"m{j}", (("host", "a"),)))
    return Bank(registry, parts, 0.2, shadows={"single"} if shadow else ())


@pytest.mark.parametrize(
    ("ranks", "shadow", "rises"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_only_what_ranks_apart_from_its_score_rises_with_singles_that_are_heard(
    ranks: bool, shadow: bool, rises: bool
) -> None:
    whole = Fixed("multivariate", ranks)
    one = bank(shadow, whole=whole, single=Fixed("univariate"))
    verdicts = one.process(Columns(rows=rows([Status.SCORED] * 200))).verdicts
    assert [verdict.detector for verdict in verdicts] == ["whole", "single"]
    score = verdicts[0].score[verdicts[0].status == Status.SCORED]
    assert len(score)
    assert (score.max() > 3 * score.min()) == rises
    assert rises or len(set(score.tolist())) == 1
    assert np.array_equal(verdicts[0].strength, bank(True, whole=whole, single=Fixed("univariate")).process(
        Columns(rows=rows([Status.SCORED] * 200))).verdicts[0].strength, equal_nan=True)  # fmt: skip
