"""Detectors that each break one rule of the contract, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.zscore import ZScore
from foreshock.state import SlotTable, State
from foreshock.types import Frame, Scores, Status
from tests.conformance.multivariate import ROW, Farthest
from tests.unit.own_detector import Jump

NEVER = 3000 * 86_400.0


class RarelyPassedByNothing(Jump):
    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.info = replace(self.info, prior_score=float("nan"))


class ZeroWhileWarmingUp(Jump):
    def step(self, frame: Frame) -> Scores:
        scores = super().step(frame)
        return replace(scores, score=np.nan_to_num(scores.score))

    def score(self, frame: Frame) -> Scores:
        scores = super().score(frame)
        return replace(scores, score=np.nan_to_num(scores.score))


class NeedsARow(Jump):
    def step(self, frame: Frame) -> Scores:
        assert frame.key.max() >= 0
        return super().step(frame)


class ScoresEarly(Jump):
    def sweep(self, *columns: Any) -> None:
        told = self.info
        self.info = replace(told, warm_up_rows=told.warm_up_rows - 1)
        super().sweep(*columns)
        self.info = told


class LearnsAtTheEndOfABatch(Jump):
    def step(self, frame: Frame) -> Scores:
        scores = super().step(replace(frame, learn=np.zeros(len(frame), np.bool_)))
        super().step(frame)
        return scores


class CountsQuestions(Jump):
    asked = 0

    def score(self, frame: Frame) -> Scores:
        self.asked += len(frame)
        return super().score(frame)

    def state(self) -> State:
        state = super().state()
        state.meta["asked"] = self.asked
        return state


class ByRow(ZScore):
    """Goes row by row through `row`."""

    def row(self, frame: Frame) -> Scores:
        return super().step(frame)

    def step(self, frame: Frame) -> Scores:
        columns, status = np.full((4, len(frame)), np.nan), np.empty(len(frame), np.uint8)
        for i in range(len(frame)):
            seen = self.row(frame.take(np.array([i])))
            status[i], columns[0, i] = seen.status[0], seen.score[0]
            if seen.expected is not None and seen.low is not None and seen.high is not None:
                columns[1:, i] = seen.expected[0], seen.low[0], seen.high[0]
        return Scores(columns[0], status, None, *columns[1:])


class LearnsFirst(Jump):
    """Scores a row against a scale that has learnt it already."""

    def sweep(self, rows: Any, key: Any, frame: Frame, learn: Any, score: Any, *rest: Any) -> None:
        super().sweep(rows, key, frame, learn, score, *rest)
        score[learn] *= 1.0 - self.options.gain


class ScoresAsASequence(Jump):
    def score(self, frame: Frame) -> Scores:
        scores = super().score(frame)
        other = type(self).restore(self.options, self.state()).step(frame)
        return replace(scores, score=other.score, status=other.status)


class RestoresNothing(Jump):
    @classmethod
    def restore(cls, config: Any, state: State) -> Self:
        return cls(config)


class SharesSlots(Jump):
    def step(self, frame: Frame) -> Scores:
        shared = (frame.key >= 8) & (frame.key < 12)
        return super().step(replace(frame, key=np.where(shared, frame.key - 8, frame.key)))


class TakesInfinityForANumber(Jump):
    def step(self, frame: Frame) -> Scores:
        return super().step(replace(frame, values=np.clip(frame.values, -1e12, 1e12)))


class NoFloor(Jump):
    """A scale of 0, which `Jump` floors so that its scores meet their cap."""

    def sweep(self, rows: Any, key: Any, frame: Frame, learn: Any, score: Any, *rest: Any) -> None:
        super().sweep(rows, key, frame, learn, score, *rest)
        score[score >= 1e9] = np.inf


class Overflows(Jump):
    def sweep(self, rows: Any, key: Any, frame: Frame, learn: Any, score: Any, *rest: Any) -> None:
        super().sweep(rows, key, frame, learn, score, *rest)
        score[(score > 1e5) & (score < 9e8)] = np.inf


class IgnoresOldTimes(ByRow):
    def row(self, frame: Frame) -> Scores:
        self.table.ensure(int(frame.key[0]))
        new = frame.time_unix_nano > self.table.rows["time"][frame.key]
        return super().row(replace(frame, learn=frame.learn & new))


class LosesAllWhenItGrows(Jump):
    def step(self, frame: Frame) -> Scores:
        if frame.key.max(initial=0) >= len(self.table.rows):
            self.table = SlotTable(self.table.dtype)
        return super().step(frame)


class NeverForgets(Jump):
    def forget(self, keys: NDArray[np.int32]) -> None:
        pass


class NeverExpires(Jump):
    def __init__(self, options: Any = None) -> None:
        super().__init__({"expiry_seconds": NEVER})


class WritesIntoItsInput(Jump):
    def step(self, frame: Frame) -> Scores:
        frame.values[np.isinf(frame.values)] = np.nan
        return super().step(frame)


class TakesMoreThanItSays(Jump):
    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.info = replace(self.info, bytes_per_slot=self.info.bytes_per_slot // 2)


class KeepsObjectsBesideItsState(Jump):
    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.seen: dict[int, list[float]] = {}

    def step(self, frame: Frame) -> Scores:
        for key in frame.key[:: max(1, len(frame) // 1024)].tolist():
            self.seen.setdefault(key, [0.0] * 20)
        return super().step(frame)


class AlwaysLearns(Jump):
    def step(self, frame: Frame) -> Scores:
        return super().step(replace(frame, learn=np.ones(len(frame), np.bool_)))


class LearnsExcludedRows(Jump):
    def step(self, frame: Frame) -> Scores:
        excluded = frame.status == Status.EXCLUDED
        scores = super().step(replace(frame, status=np.where(excluded, np.uint8(Status.SCORED), frame.status)))
        status = np.where(excluded, np.uint8(Status.EXCLUDED), scores.status)
        return replace(scores, score=np.where(excluded, np.nan, scores.score), status=status)


class CallsStaleRowsMissing(Jump):
    def step(self, frame: Frame) -> Scores:
        scores = super().step(frame)
        stale = scores.status == Status.STALE
        return replace(scores, status=np.where(stale, np.uint8(Status.MISSING), scores.status))


class MakesAList(Jump):
    def step(self, frame: Frame) -> Scores:
        values = [float(value) for value in frame.values[:, 0]]
        scores = super().step(frame)
        assert len(values) == len(scores.score)
        return scores


class BandsAfterwards(Jump):
    def step(self, frame: Frame) -> Scores:
        scores = super().step(frame)
        after = super().score(frame) if self.bands else scores
        return replace(scores, expected=after.expected, low=after.low, high=after.high)


class OffByAHair(ZScore):
    def sweep(self, rows: Any, key: Any, frame: Frame, learn: Any, score: Any, *rest: Any) -> None:
        super().sweep(rows, key, frame, learn, score, *rest)
        score *= 1.0 + 1e-12


class CountsPadding(Farthest):
    def pool(self, each: NDArray[np.float64], frame: Frame) -> float:
        return float(each.sum() / frame.values.shape[1])


class StartsAfreshWithANewFeature(Farthest):
    def known(self, row: NDArray[Any], time: int, width: int) -> NDArray[Any]:
        return np.zeros(1, ROW) if width != row["width"][0] else super().known(row, time, width)


BROKEN: tuple[tuple[str, type[Any]], ...] = (
    ("info", RarelyPassedByNothing),
    ("results", ZeroWhileWarmingUp),
    ("zero_rows", NeedsARow),
    ("warm_up", ScoresEarly),
    ("batch_cuts", LearnsAtTheEndOfABatch),
    ("score_changes_nothing", CountsQuestions),
    ("score_first", LearnsFirst),
    ("score_rows_alone", ScoresAsASequence),
    ("restore", RestoresNothing),
    ("slots_independent", SharesSlots),
    ("missing_values", TakesInfinityForANumber),
    ("constants", NoFloor),
    ("scale_jumps", Overflows),
    ("duplicate_times", IgnoresOldTimes),
    ("growth", LosesAllWhenItGrows),
    ("forget", NeverForgets),
    ("expiry", NeverExpires),
    ("inputs_untouched", WritesIntoItsInput),
    ("bytes_per_slot", TakesMoreThanItSays),
    ("bytes_per_slot", KeepsObjectsBesideItsState),
    ("learn_false", AlwaysLearns),
    ("statuses_kept", LearnsExcludedRows),
    ("statuses_kept", CallsStaleRowsMissing),
    ("no_object_per_row", MakesAList),
    ("bands", BandsAfterwards),
    ("widths", CountsPadding),
    ("features_come_and_go", StartsAfreshWithANewFeature),
)
"""Check, and a detector that breaks its rule."""
