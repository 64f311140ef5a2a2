"""A small multivariate detector, right by the contract: the farthest of a row's features, in mean deviations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foreshock.ports import DetectorInfo
from foreshock.state import SlotTable, State
from foreshock.types import Frame, Scores, Status

MOST = 1024
WARM_UP = 20
EXPIRY = 7 * 86_400 * 10**9
ROW = np.dtype(
    [("time", "i8"), ("width", "i4"), ("count", "u2", (MOST,)), ("mean", "f8", (MOST,)), ("deviation", "f4", (MOST,))]
)


class Farthest:
    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.info = DetectorInfo("farthest", 1, "multivariate", WARM_UP, ROW.itemsize, 6.0)
        self.table = SlotTable(ROW, capacity=1)

    def step(self, frame: Frame) -> Scores:
        score, status = np.full(len(frame), np.nan), frame.status.copy()
        for i in np.flatnonzero(status == Status.SCORED):
            self.table.ensure(int(frame.key[i]))
            row = self.table.rows[frame.key[i] : frame.key[i] + 1]
            known = self.known(row, int(frame.time_unix_nano[i]), int(frame.width[i]))
            values = frame.values[i, : frame.width[i]]
            status[i], each = self.judge(known, values)
            if status[i] == Status.SCORED:
                score[i] = self.pool(each, frame)
            if frame.learn[i] and status[i] != Status.MISSING:
                row[:] = known
                self.learn(row[0], int(frame.time_unix_nano[i]), values)
        return Scores(score, status)

    def score(self, frame: Frame) -> Scores:
        score, status = np.full(len(frame), np.nan), frame.status.copy()
        contribution = np.full(frame.values.shape, np.nan, np.float32)
        for i in np.flatnonzero(status == Status.SCORED):
            key, width = int(frame.key[i]), int(frame.width[i])
            row = self.table.rows[key : key + 1] if key < self.table.used else np.zeros(1, ROW)
            known = self.known(row, int(frame.time_unix_nano[i]), width)
            status[i], each = self.judge(known, frame.values[i, :width])
            if status[i] == Status.SCORED:
                score[i], contribution[i, :width] = self.pool(each, frame), each
        return Scores(score, status, contribution)

    def known(self, row: NDArray[Any], time: int, width: int) -> NDArray[Any]:
        """What counts of what a slot knows: nothing after a gap."""
        return np.zeros(1, ROW) if time - int(row["time"][0]) > EXPIRY else row

    def judge(self, known: NDArray[Any], values: NDArray[np.float64]) -> tuple[Status, NDArray[np.float64]]:
        row, there = known[0], np.isfinite(values)
        if not there.any():
            return Status.MISSING, values
        warm = there & (row["count"][: len(values)] >= WARM_UP)
        if not warm.any():
            return Status.WARMING_UP, values
        distance = np.abs(np.where(warm, values, 0.0) - row["mean"][: len(values)])
        scale = np.maximum(row["deviation"][: len(values)], 1e-6)
        return Status.SCORED, np.where(warm, np.minimum(distance / scale, 1e9), 0.0)

    def pool(self, each: NDArray[np.float64], frame: Frame) -> float:
        return float(each.max())

    def learn(self, row: Any, time: int, values: NDArray[np.float64]) -> None:
        row["time"], row["width"] = max(time, int(row["time"])), len(values)
        there = np.flatnonzero(np.isfinite(values))
        count = np.minimum(row["count"][there] + 1, 500)
        mean = np.where(count == 1, values[there], row["mean"][there])
        distance, deviation = values[there] - mean, row["deviation"][there]
        row["count"][there] = count
        row["mean"][there] = mean + distance / count
        row["deviation"][there] = deviation + (np.abs(distance) - deviation) / count

    def forget(self, keys: NDArray[np.int32]) -> None:
        self.table.reset(np.asarray(keys))

    def state(self) -> State:
        return State(1, tables={"slots": self.table})

    @classmethod
    def restore(cls, config: Mapping[str, Any], state: State) -> Self:
        detector = cls(config)
        detector.table.load(state.frozen().arrays["slots"])
        return detector
