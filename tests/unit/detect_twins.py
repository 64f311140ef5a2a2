"""The slow, obvious twins of the univariate detectors: plain Python over lists, equal to the kernels bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from foreshock.detect.histogram import LN2, exp
from foreshock.detect.robust_z import RobustZOptions
from foreshock.detect.zscore import ZScoreOptions
from foreshock.types import Status

NAN = float("nan")


class Twin:
    """Rows one by one; a subclass says what a value scores against a memory, and what the memory becomes."""

    def __init__(self, warm_up_rows: int, expiry_nanos: int) -> None:
        self.warm_up_rows, self.expiry_nanos = warm_up_rows, expiry_nanos
        self.memories: dict[int, Any] = {}
        self.last: dict[int, int] = {}

    def fresh(self) -> Any:
        raise NotImplementedError

    def count(self, memory: Any) -> int:
        raise NotImplementedError

    def judge(self, memory: Any, x: float) -> float:
        raise NotImplementedError

    def remember(self, memory: Any, x: float) -> None:
        raise NotImplementedError

    def step(
        self, keys: list[int], times: list[int], values: list[list[float]], learn: list[bool], status: list[int]
    ) -> tuple[list[float], list[int]]:
        rows = zip(keys, times, values, learn, status, strict=True)
        out = [self.row(key, time, value[0], learns, given) for key, time, value, learns, given in rows]
        return [score for score, _ in out], [given for _, given in out]

    def row(self, key: int, time: int, x: float, learn: bool, status: int) -> tuple[float, int]:
        if status != Status.SCORED:
            return NAN, status
        if not math.isfinite(x):
            return NAN, Status.MISSING
        x = min(max(x, -1e100), 1e100) + 0.0
        memory = self.memories.get(key)
        if memory is None or time - self.last[key] > self.expiry_nanos:
            memory = self.fresh()
        warm = self.count(memory) >= self.warm_up_rows
        score = min(self.judge(memory, x), 1e9) if warm else NAN
        if learn:
            self.last[key] = max(time, self.last[key]) if self.count(memory) else time
            self.remember(memory, x)
            self.memories[key] = memory
        return score, Status.SCORED if warm else Status.WARMING_UP


class ZScoreTwin(Twin):
    def __init__(self, config: Mapping[str, Any]) -> None:
        options = ZScoreOptions.model_validate(dict(config))
        super().__init__(options.warm_up_rows, options.expiry_nanos)
        self.gain = 1.0 - exp(-LN2 / options.half_life_rows)

    def fresh(self) -> dict[str, float]:
        return {"mean": 0.0, "variance": 0.0, "count": 0}

    def count(self, memory: dict[str, float]) -> int:
        return int(memory["count"])

    def floored(self, memory: dict[str, float]) -> float:
        return max(memory["variance"], 1e-6 * 1e-6 * (memory["mean"] * memory["mean"]), 1e-9 * 1e-9)

    def judge(self, memory: dict[str, float], x: float) -> float:
        surprise = x - memory["mean"]
        return math.sqrt(surprise * surprise / self.floored(memory))

    def remember(self, memory: dict[str, float], x: float) -> None:
        if not memory["count"]:
            memory["mean"] = x
        surprise = x - memory["mean"]
        square = surprise * surprise
        most = 16.0 * self.floored(memory)
        if self.count(memory) >= self.warm_up_rows and square > most:
            surprise, square = math.copysign(math.sqrt(most), surprise), most
        memory["count"] += 1
        weight = max(1.0 / memory["count"], self.gain)
        memory["mean"] += weight * surprise
        memory["variance"] = (1.0 - weight) * (memory["variance"] + weight * square)


class RobustZTwin(Twin):
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = RobustZOptions.model_validate(dict(config))
        super().__init__(self.options.warm_up_rows, self.options.expiry_nanos)

    def fresh(self) -> dict[str, Any]:
        return {"window": [], "change": 0.0, "changed": 0, "last": 0.0}

    def count(self, memory: dict[str, Any]) -> int:
        return len(memory["window"])

    def center_and_scale(self, memory: dict[str, Any], x: float) -> tuple[float, float]:
        window = np.array(memory["window"])
        n, ordered = len(window), sorted(memory["window"])
        median = float(np.median(window))
        mad = float(np.median(np.abs(window - median)))
        outside = max((n - 1) // 100, min(4, (n - 1) // 4))
        reach = ordered[-1 - outside] - ordered[outside]
        trust = min(memory["changed"], 20) / 20
        floors = [0.05 * abs(median), 0.5 * memory["change"] * trust, self.options.min_change / 12, 1e-9]
        if memory["changed"] == 0:
            floors.append(abs(x - median) / (8.0 * math.sqrt(math.sqrt(n / 60.0))))
        return median, max(1.4826 * mad, 0.1 * reach, *floors)

    def judge(self, memory: dict[str, Any], x: float) -> float:
        median, scale = self.center_and_scale(memory, x)
        return abs(x - median) / scale

    def remember(self, memory: dict[str, Any], x: float) -> None:
        window, learnt = memory["window"], x
        if len(window) >= self.warm_up_rows:
            median, scale = self.center_and_scale(memory, x)
            learnt = min(max(x, median - 6.0 * scale), median + 6.0 * scale) + 0.0
        if window and x != memory["last"]:
            change = abs(x - memory["last"])
            if memory["changed"]:
                change = min(change, 6.0 * memory["change"])
            memory["changed"] = min(memory["changed"] + 1, 500)
            memory["change"] += (change - memory["change"]) / memory["changed"]
        memory["last"] = x
        window.append(learnt)
        del window[: -self.options.window]
