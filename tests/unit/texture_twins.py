"""The slow, obvious twins of `stuck` and `noise`: plain Python, one memory a key, equal to the kernels bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from foreshock.detect import histogram
from foreshock.detect.histogram import LN2, exp
from foreshock.detect.noise import NoiseOptions
from foreshock.detect.stuck import StuckOptions
from foreshock.types import Status
from tests.unit.kernels import called

NAN = float("nan")
SECOND = 10**9
HOUR, DAY = 3600 * SECOND, 86400 * SECOND
_ln, _bin_of, _quantile = called(histogram.ln), called(histogram.bin_of), called(histogram.upper_quantile)


def f4(x: float) -> float:
    """What four bytes keep of a number."""
    return float(np.float32(x))


class KeyTwin:
    """Rows one by one; a subclass judges and learns a number."""

    def __init__(self, warm_up_rows: int, expiry_nanos: int) -> None:
        self.warm_up_rows, self.expiry_nanos = warm_up_rows, expiry_nanos
        self.memories: dict[int, dict[str, Any]] = {}

    def fresh(self, memory: dict[str, Any], now: int) -> bool:
        return bool(now - memory["time"] > self.expiry_nanos)

    def begin(self, x: float, now: int) -> dict[str, Any]:
        raise NotImplementedError

    def see(self, memory: dict[str, Any], x: float, now: int) -> Any:
        """What a row shows beside a memory."""
        raise NotImplementedError

    def judge(self, memory: dict[str, Any], x: float, now: int, seen: Any) -> float:
        raise NotImplementedError

    def remember(self, memory: dict[str, Any], x: float, now: int, seen: Any, warm: bool) -> None:
        raise NotImplementedError

    def step(
        self, keys: list[int], times: list[int], values: list[list[float]], learn: list[bool], status: list[int]
    ) -> tuple[list[float], list[int]]:
        rows = zip(keys, times, values, learn, status, strict=True)
        out = [self.row(key, time, value[0], learns, given) for key, time, value, learns, given in rows]
        return [score for score, _ in out], [given for _, given in out]

    def row(self, key: int, now: int, x: float, learn: bool, status: int) -> tuple[float, int]:
        if status != Status.SCORED:
            return NAN, status
        if not math.isfinite(x):
            return NAN, Status.MISSING
        x = min(max(x, -1e100), 1e100) + 0.0
        memory = self.memories.get(key)
        if memory is None or self.fresh(memory, now):
            if learn:
                self.memories[key] = self.begin(x, now)
            return NAN, Status.WARMING_UP
        seen = self.see(memory, x, now)
        warm = memory["count"] >= self.warm_up_rows
        score = min(self.judge(memory, x, now, seen), 1e9) if warm else NAN
        if learn:
            self.remember(memory, x, now, seen, warm)
            memory["time"] = max(now, memory["time"])
            memory["count"] += 1
        return score, Status.SCORED if warm else Status.WARMING_UP


class StuckTwin(KeyTwin):
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = StuckOptions.model_validate(dict(config))
        super().__init__(self.options.warm_up_rows, self.options.expiry_nanos)

    def begin(self, x: float, now: int) -> dict[str, Any]:
        return {
            "time": now, "first": now, "count": 1, "anchor": x, "run": 0.0, "moves": 0, "change": 0.0, "interval": 0.0,
            "still": 0.0, "zeros": 0, "hour": [], "hour_start": 0, "closed": 0, "runs": np.zeros(32, np.float32),
            "longest": 0.0, "held": 0,
        }  # fmt: skip

    def see(self, memory: dict[str, Any], x: float, now: int) -> tuple[float, bool, float]:
        past = max(now - memory["time"], 0) / SECOND
        same = abs(x - memory["anchor"]) <= 1e-3 * memory["change"]
        return past, same, memory["run"] + min(past, 1.5 * memory["interval"]) if same else 0.0

    def judge(self, memory: dict[str, Any], x: float, now: int, seen: tuple[float, bool, float]) -> float:
        _, same, run = seen
        if same and (1.0 - memory["still"] < self.options.least_moves or (x == 0.0 and memory["zeros"] >= 3)):
            return 0.0
        by_chance = 6.0 * memory["interval"] / -_ln(min(max(memory["still"], 0.05), 0.95))
        reach = max(by_chance, 2.0 * memory["longest"], 1e-9)
        if now - memory["first"] < round(self.options.young_seconds * 1e9):
            reach = max(reach, self.options.young_reach)
        far = run / reach if run > 1.5 * memory["interval"] else 0.0
        ratio = float((far + 0.65) / (1.0 + 0.65))
        return ratio * ratio

    def remember(self, memory: dict[str, Any], x: float, now: int, seen: tuple[float, bool, float], warm: bool) -> None:
        past, same, run = seen
        most = max(2 * 86400.0 / memory["interval"], 500.0) if memory["interval"] else 500.0
        weight = min(float(memory["count"]), most)
        if past > 0.0:
            if memory["interval"]:
                memory["interval"] += (min(past, 5.0 * memory["interval"]) - memory["interval"]) / weight
            else:
                memory["interval"] = past
        memory["still"] += (float(same) - memory["still"]) / weight
        if not same:
            change = abs(x - memory["anchor"])
            if memory["moves"]:
                change = min(change, 6.0 * memory["change"])
            memory["moves"] = min(memory["moves"] + 1, 500)
            memory["change"] += (change - memory["change"]) / memory["moves"]
            memory["zeros"] += memory["anchor"] == 0.0
            memory["anchor"] = x
            n, last = memory["held"], memory["run"]
            if n:
                self.learn(memory, now, [last * (k + 1.0) / n for k in range(n)])
                memory["held"] = 0
        memory["run"] = run
        if len(memory["hour"]) >= 10 and now - memory["hour_start"] >= HOUR:
            if same and max(memory["hour"]) <= run:
                memory["held"] += 1
            else:
                self.learn(memory, now, [max(memory["hour"])])
            memory["hour"] = []
        if not memory["hour"]:
            memory["hour_start"] = now
        memory["hour"].append(run)

    def learn(self, memory: dict[str, Any], now: int, longest: list[float]) -> None:
        runs = memory["runs"]
        if memory["closed"]:
            factor = exp(-LN2 * max(now - memory["closed"], 0) / DAY / 14.0)
            for b in range(32):
                runs[b] = f4(float(runs[b]) * factor)
        memory["closed"] = now
        for run in longest:
            runs[_bin_of(run, 2, 2, 32)] += np.float32(1.0)
        weight = 0.0
        for b in range(32):
            weight += float(runs[b])
        memory["longest"] = _quantile(runs, 2, 2, 0.0, 0.0, max(0.012 * weight, 2.4))


class NoiseTwin(KeyTwin):
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = NoiseOptions.model_validate(dict(config))
        super().__init__(self.options.warm_up_rows, self.options.expiry_nanos)

    def fresh(self, memory: dict[str, Any], now: int) -> bool:
        step, interval = memory["step"], memory["interval"]
        other = step > 0.0 and (interval > 2.0 * step or step > 2.0 * interval)
        return bool(other) or super().fresh(memory, now)

    def begin(self, x: float, now: int) -> dict[str, Any]:
        return {
            "time": now, "first": now, "count": 1, "lags": [x], "scale": 0.0, "mean": 0.0, "moved": 0.0,
            "interval": 0.0, "step": 0.0, "texture": [0.0, 0.0], "top": [0.0] * 4, "usual": [f4(0.7), f4(0.4)] * 2,
            "rows": 0, "start": 0, "blocks": 0, "hour": -1, "parts": [], "sum": 0.0, "factor": [1.0] * 24,
            "visits": [0] * 24,
        }  # fmt: skip

    def factor(self, memory: dict[str, Any], now: int) -> float:
        place = (now % DAY) / HOUR
        hour = min(int(place), 23)
        beside = place - hour - 0.5
        other = (hour + (1 if beside > 0.0 else 23)) % 24
        here, there = (memory["factor"][h] if memory["visits"][h] >= 2 else 1.0 for h in (hour, other))
        return float(here + abs(beside) * (there - here))

    def see(self, memory: dict[str, Any], x: float, now: int) -> dict[str, Any]:
        past, interval = max(now - memory["time"], 0) / SECOND, memory["interval"]
        apart = interval > 0.0 and (past > 2.5 * interval or past < 0.4 * interval)
        seen = {"past": past, "apart": apart, "residual": None, "texture": list(memory["texture"])}
        if not apart and len(memory["lags"]) == 3:
            residual = abs(x - sorted(memory["lags"])[1])
            part = min(residual / max(memory["scale"] * self.factor(memory, now), self.options.min_change, 1e-9), 6.0)
            seen |= {"residual": residual, "part": part}
            gains = zip(memory["texture"], (2 / 9, 2 / 25), strict=True)
            seen["texture"] = [t + gain * (part - t) for t, gain in gains]
        return seen

    def departures(self, memory: dict[str, Any], seen: dict[str, Any]) -> list[float]:
        life = min((memory["moved"] + 0.002) / 0.2, 1.0)
        unit = max(self.options.min_change, 1e-9)
        least = max(0.1, unit / max(memory["scale"], unit)) if memory["scale"] else 0.1
        noisier = [life * _ln((t + least) / (memory["mean"] + least)) for t in seen["texture"]]
        return [*noisier, *(-one for one in noisier)]

    def judge(self, memory: dict[str, Any], x: float, now: int, seen: dict[str, Any]) -> float:
        old = now - memory["first"] >= round(self.options.young_seconds * 1e9)
        largest = 0.0
        for k, departure in enumerate(self.departures(memory, seen)):
            reach = max(memory["usual"][k], 0.5 * (0.7, 0.4)[k % 2]) * (1.0 + 40.0 / memory["count"])
            counts = 1.0 if k < 2 else 0.5 * old
            largest = max(largest, counts * departure / reach)
        return largest * largest

    def remember(self, memory: dict[str, Any], x: float, now: int, seen: dict[str, Any], warm: bool) -> None:
        if seen["residual"] is not None:
            if warm:
                self.learn_usual(memory, now, self.departures(memory, seen))
            self.learn_texture(memory, now, seen)
        past = seen["past"]
        if past > 0.0:
            if memory["interval"]:
                past = min(past, 5.0 * memory["interval"]) - memory["interval"]
                memory["interval"] += past / min(float(memory["count"]), 200.0)
            else:
                memory["interval"] = past
        memory["lags"] = [x] if seen["apart"] else [x, *memory["lags"]][:3]
        if memory["count"] + 1 == 200:
            memory["step"] = memory["interval"]

    def learn_texture(self, memory: dict[str, Any], now: int, seen: dict[str, Any]) -> None:
        memory["texture"] = seen["texture"]
        most = max(2 * 86400.0 / memory["interval"], 200.0) if memory["interval"] else 200.0
        weight = max(min(memory["count"] - 2.0, most), 1.0)
        part, moved = seen["part"], float(seen["residual"] > 0.0)
        if moved and memory["scale"] == 0.0:
            memory["scale"], part = max(seen["residual"], 1e-9), 1.0
        elif moved:
            memory["scale"] = max(memory["scale"] * (1.0 + (part - 1.0) / (weight + 1.0)), 1e-9)
        memory["mean"] += (part - memory["mean"]) / weight
        memory["moved"] += (moved - memory["moved"]) / weight
        hour = now // HOUR % 24
        if hour != memory["hour"]:
            self.close_hour(memory)
            memory["hour"], memory["sum"], memory["parts"] = hour, 0.0, []
        memory["sum"] += part
        memory["parts"].append(part)

    def close_hour(self, memory: dict[str, Any]) -> None:
        n, at = len(memory["parts"]), memory["hour"]
        if at < 0 or n == 0:
            return
        ratio = (memory["sum"] / n + 0.1) / (memory["mean"] + 0.1)
        gain = max(0.3, 1.0 / (memory["visits"][at] + 1.0)) * min(n / 10.0, 1.0)
        memory["factor"][at] = f4(min(max(memory["factor"][at] * (1.0 + gain * (ratio - 1.0)), 0.2), 5.0))
        memory["visits"][at] = min(memory["visits"][at] + 1, 255)

    def learn_usual(self, memory: dict[str, Any], now: int, departures: list[float]) -> None:
        if memory["rows"] >= 10 and now - memory["start"] >= HOUR:
            memory["blocks"] += 1
            gain = max(0.1, 1.0 / memory["blocks"])
            for k in range(4):
                up = memory["top"][k] > memory["usual"][k]
                usual = memory["usual"][k] * exp(gain * 0.95 if up else -gain * (1.0 - 0.95))
                memory["usual"][k], memory["top"][k] = f4(max(usual, 0.5 * (0.7, 0.4)[k % 2])), 0.0
            memory["rows"] = 0
        if memory["rows"] == 0:
            memory["start"] = now
        memory["rows"] += 1
        memory["top"] = [f4(max(top, one)) for top, one in zip(memory["top"], departures, strict=True)]
