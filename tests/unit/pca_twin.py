"""The slow, obvious twin of `pca`: one entity at a time, a dictionary a feature, equal to the kernel bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from foreshock.detect.pca import PcaOptions
from foreshock.types import Status
from tests.unit.deviation_twin import clip

NAN = math.nan
SECOND = 10**9


class PcaTwin:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = PcaOptions(**config)
        self.memories: dict[int, dict[str, Any]] = {}

    def step(
        self, keys: list[int], times: list[int], values: list[list[float]], learn: list[bool], status: list[int]
    ) -> tuple[list[float], list[int]]:
        out = [self.row(*one) for one in zip(keys, times, values, learn, status, strict=True)]
        return [score for score, _ in out], [given for _, given in out]

    def row(self, key: int, now: int, values: list[float], learn: bool, status: int) -> tuple[float, int]:
        if status != Status.SCORED:
            return NAN, status
        if not any(map(math.isfinite, values)):
            return NAN, Status.MISSING
        options, m = self.options, self.memories.get(key)
        fresh = m is None or not m["count"] or now - m["time"] > round(options.expiry_seconds * 1e9)
        if fresh or m is None:
            if not learn:
                return NAN, Status.WARMING_UP
            m = self.memories[key] = fresh_memory(now, options.components)
        warm = m["count"] >= options.warm_up_rows and m["elapsed"] >= options.warm_up_seconds
        row = self.look(m, values, min(options.warm_up_rows, m["count"]), 30.0)
        used = m["used"]
        inside, factors = 0.0, [0.0] * used
        for _ in range(2):
            inside = 0.0
            for c, vector in enumerate(m["vectors"][:used]):
                factor, square = along(vector, row)
                if not square:
                    break
                take_out(row, vector, factor)
                factors[c] += factor
                inside += factors[c] * factors[c] * math.sqrt(square)
        outside = 0.0
        for u in row.values():
            outside += u * u
        q = outside / float(len(row)) if row else 0.0
        t2 = inside / used if used else 0.0
        score = self.judge(m, q, t2)
        if learn:
            self.learn(m, values, now, q, t2, bool(row), score if warm else 0.0)
        if warm and row:
            return score, Status.SCORED
        return NAN, Status.WARMING_UP

    def look(self, m: dict[str, Any], values: list[float], least: int, most: float) -> dict[int, float]:
        """The features that take part, in units."""
        row = {}
        for j, value in enumerate(values):
            feature = m["features"].get(j)
            if feature is None or not math.isfinite(value) or feature["count"] < max(least, 1):
                continue
            x, last = clip(value, 1e100), feature["last"]
            if feature["changes"]:
                row[j] = clip((x - feature["mean"]) / unit_of(feature), most)
            else:
                row[j] = clip(0.0 if x == last else math.copysign(8.0, x - last), most)
        return row

    def judge(self, m: dict[str, Any], q: float, t2: float) -> float:
        found = 0.0
        if self.options.statistic != "t2" or not m["used"]:
            found = q / limit_of(*m["left"])
        if self.options.statistic != "q" and m["used"]:
            found = max(found, t2 / limit_of(*m["within"]))
        return min(math.sqrt(found), 1e9)

    def learn(
        self, m: dict[str, Any], values: list[float], now: int, q: float, t2: float, judged: bool, score: float
    ) -> None:
        past = max(now - m["time"], 0) / SECOND
        if m["count"] and past > 0:
            if not m["interval"]:
                m["interval"] = past
            else:
                m["interval"] += (min(past, 5.0 * m["interval"]) - m["interval"]) / min(m["count"], 200)
        m["elapsed"] += past if past > 0 else 60.0
        memory = max(self.options.memory_seconds, 48.0 * m["interval"])
        m["weight"] = m["weight"] * (memory / (memory + past)) + 1.0
        row = self.look(m, values, 20, 4.0)
        n = m["width"] = max(m["width"], len(values))
        if row:
            gain = max(2.0 / (m["fits"] + 2.0), 1.0 / m["weight"])
            if judged and m["fits"]:
                learn_moments(m["left"], q, gain, score > 0)
                if m["used"]:
                    learn_moments(m["within"], t2, gain, score > 0)
            bounded = 1.0 / (score * score) if score > 1 else 1.0
            for vector in m["vectors"]:
                factor, square = along(vector, row)
                if not square:
                    vector.update({j: row.get(j, 0.0) for j in range(n)})
                    break
                t = factor * math.sqrt(square)
                for j in range(n):
                    v = vector.get(j, 0.0)
                    u = row.get(j, factor * v)
                    count = m["features"][j]["count"] if j in m["features"] else 0
                    g = bounded * max(gain, 2.0 / (max(count - 20.0, 0.0) + 2.0))
                    vector[j] = (1.0 - g) * v + g * (t * u)
                    if j in row:
                        row[j] -= factor * v
            m["fits"] += 1
        for j, value in enumerate(values):
            if math.isfinite(value):
                learn_feature(m["features"], j, clip(value, 1e100), m["weight"])
        m["time"], m["count"] = max(now, m["time"]), m["count"] + 1
        if m["count"] % 64 == 0:
            self.choose(m)

    def choose(self, m: dict[str, Any]) -> None:
        moving = sum(feature["count"] >= 20 and feature["changes"] > 0 for feature in m["features"].values())
        explained, used = 0.0, 0
        while used < min(self.options.components, moving - 1) and explained < self.options.explained * moving:
            square = 0.0
            for j in range(m["width"]):
                v = m["vectors"][used].get(j, 0.0)
                square += v * v
            explained += math.sqrt(square)
            used += 1
        m["used"] = used


def fresh_memory(now: int, components: int) -> dict[str, Any]:
    return {
        "time": now, "count": 0, "fits": 0, "interval": 0.0, "elapsed": 0.0, "weight": 0.0, "left": [0.0, 0.0],
        "within": [0.0, 0.0], "used": 0, "width": 0, "features": {}, "vectors": [{} for _ in range(components)],
    }  # fmt: skip


def unit_of(feature: dict[str, float]) -> float:
    return max(math.sqrt(feature["variance"]), 1e-3 * abs(feature["mean"]), 1e-9)


def along(vector: dict[int, float], row: dict[int, float]) -> tuple[float, float]:
    """The factor of a component in a row, and the square of the component."""
    product, observed, square = 0.0, 0.0, 0.0
    for j in sorted(vector):
        v = vector[j]
        product += v * row.get(j, 0.0)
        observed += v * v if j in row else 0.0
        square += v * v
    if square < 1e-12:
        return 0.0, 0.0
    return product / max(observed, 0.1 * square), square


def take_out(row: dict[int, float], vector: dict[int, float], factor: float) -> None:
    for j in row:
        row[j] -= factor * vector.get(j, 0.0)


def limit_of(mean: float, variance: float) -> float:
    mean = max(mean, 0.0025)
    freedom = min(max(2.0 * mean * mean / variance, 0.5), 1e4) if variance > 0 else 1e4
    spread = 2.0 / (9.0 * freedom)
    root = 1.0 - spread + 3.0902323061678132 * math.sqrt(spread)
    return mean * root * root * root


def learn_moments(moments: list[float], value: float, gain: float, warm: bool) -> None:
    if warm:
        value = min(value, 4.0 * limit_of(*moments))
    surprise = value - moments[0]
    moments[0] += gain * surprise
    moments[1] = (1.0 - gain) * (moments[1] + gain * surprise * surprise)


def learn_feature(features: dict[int, dict[str, float]], j: int, x: float, weight: float) -> None:
    if j not in features:
        features[j] = {"last": x, "mean": x, "variance": 0.0, "count": 0.0, "changes": 0.0}
    f = features[j]
    if f["count"] and x != f["last"]:
        if not f["changes"]:
            move = abs(x - f["last"]) / 8.0
            f["variance"] = move * move
        f["changes"] += 1.0
    surprise = x - f["mean"]
    if f["count"] >= 20:
        surprise = clip(surprise, 10.0 * unit_of(f))
    gain = max(1.0 / (f["count"] + 1.0), 1.0 / weight)
    f["mean"] += gain * surprise
    f["variance"] = (1.0 - gain) * (f["variance"] + gain * surprise * surprise)
    f["last"], f["count"] = x, f["count"] + 1.0
