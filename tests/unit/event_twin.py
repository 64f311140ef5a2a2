"""The slow, obvious twin of the event channel: plain Python, one memory a key; its bar is the real one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect import histogram
from foreshock.detect.bar import Bar
from foreshock.detect.histogram import LN2, exp
from tests.unit.kernels import called

LN = called(histogram.ln)
SECOND = 10**9
HOUR, DAY = 3600 * SECOND, 86400 * SECOND
SPANS = ((3.0, 6), (8.0, 8), (24.0, 12))


def f4(x: float) -> float:
    return float(np.float32(x))


def usual(least: float) -> dict[str, Any]:
    return {"hist": [0.0] * 96, "prior": 5.0, "usual": f4(least), "top": 0.0}


class EventTwin:
    """Rows of one key with their scores → events."""

    def __init__(self, budget: float = 0.2) -> None:
        self.bar = Bar(1.0, budget, in_reach=True)
        self.memory: dict[str, Any] | None = None

    def step(self, time: NDArray[np.int64], value: NDArray[np.float64], score: Any, status: Any) -> list[float]:
        n = len(time)
        strength, _ = self.bar.step(np.zeros(n, np.int32), time, score, status, np.ones(n, np.bool_))
        return [
            self.row(int(t), float(x), float(m), float(s)) if given in (0, 1) else math.nan
            for t, x, m, s, given in zip(time, value, score, strength, status, strict=True)
        ]

    def row(self, now: int, x: float, score: float, strength: float) -> float:
        m = self.memory
        if m is None:
            spans = [
                {"hours": hours, "width": width, "start": now, "values": [x], "means": [], "shapes": [], **usual(0.3)}
                for hours, width in SPANS
            ]
            self.memory = {
                "first": now, "time": now, "last": x, "level": x, "deviation": 0.0, "weight": 1.0, "change": 0.0,
                "changed": 0, "interval": 0.0, "count": 1, "hour": now, "decayed": now, "until": now, "rows": 0,
                "peak": 0.0, "spans": spans, "lasting": {"rows": 0, **usual(0.5)},
                "day": now, "day_top": 0.0, "best": [0.0] * 6,
            }  # fmt: skip
            return 0.0
        self.learn(m, now, x)
        scale, total = self.scale(m), 0.0
        for span in m["spans"]:
            distance = self.add(m, span, now, x, scale)
            share = self.in_usual(span, distance, 0.3)
            total += share * share
        lasting = self.lasting(m, now, score) / 2.0 if score == score else 0.0
        if now - m["hour"] >= HOUR:
            self.close_hour(m, now)
        novelty, over = math.sqrt(total / 3.0) / 0.9, (exp(strength) if strength == strength else 0.0) / 1.05
        margin = self.among_best(m, now, math.sqrt(novelty * novelty + over * over + lasting * lasting) / 1.1)
        quiet = now < m["until"] or m["rows"] > 0
        m["rows"] = max(m["rows"] - 1, 0)
        if margin < 1.0 or (quiet and margin <= 2.0 * m["peak"]):
            return 0.0
        m["peak"], m["rows"] = margin, 10
        m["until"] = now + min(4 * DAY, int(0.06 * (now - m["first"])))
        return margin / (1.0 + margin)

    def in_usual(self, measure: dict[str, Any], much: float, least: float) -> float:
        measure["top"] = f4(max(measure["top"], much))
        return float(much / max(measure["usual"], least))

    def lasting(self, m: dict[str, Any], now: int, score: float) -> float:
        k, size = m["lasting"], LN(max(score, 0.05))
        k["rows"] += 1
        if k["rows"] == 1:
            k |= {"now": size, "mean": size, "variance": 0.0, "weight": 1.0, "time": now}
            return 0.0
        past = max(now - k["time"], 0) / SECOND
        k["time"] = max(now, k["time"])
        gain = min(1.0 - exp(-past / max(1800.0, 3.0 * m["interval"])), 0.5)
        k["now"] += max(gain, 1.0 / k["rows"]) * (size - k["now"])
        spread, surprise, above = max(math.sqrt(k["variance"]), 1e-3), size - k["mean"], 0.0
        if k["rows"] > 50:
            above = max(k["now"] - k["mean"], 0.0) / spread
            surprise = min(max(surprise, -4.0 * spread), 4.0 * spread)
        seconds = max(4 * 86400.0, 48.0 * m["interval"])
        k["weight"] = k["weight"] * (seconds / (seconds + past)) + 1.0
        k["mean"] += surprise / k["weight"]
        k["variance"] += (surprise * surprise - k["variance"]) / k["weight"]
        return self.in_usual(k, above, 0.5)

    def among_best(self, m: dict[str, Any], now: int, margin: float) -> float:
        out = margin / max(min(m["best"]), 1.0)
        m["day_top"] = max(m["day_top"], margin)
        if now - m["day"] >= DAY:
            factor = exp(-LN2 * ((now - m["day"]) / DAY) / 90.0)
            m["best"] = sorted([one * factor for one in m["best"]] + [m["day_top"]])[1:]
            m["day"], m["day_top"] = now, 0.0
        return float(out)

    def scale(self, m: dict[str, Any]) -> float:
        return float(max(m["deviation"], 0.5 * m["change"] * (min(m["changed"], 8) / 8), 1e-9))

    def learn(self, m: dict[str, Any], now: int, x: float) -> None:
        past = max(now - m["time"], 0) / SECOND
        most = 5.0 * self.scale(m)
        seconds = max(2 * 86400.0, 48.0 * m["interval"])
        m["weight"] = m["weight"] * (seconds / (seconds + past)) + 1.0
        surprise, weight = x - m["level"], m["weight"]
        if abs(surprise) > most:
            surprise = min(max(surprise, -most), most)
            weight = max(weight, 1800.0 / max(m["interval"], 1.0))
        m["level"] += surprise / weight
        m["deviation"] += (abs(surprise) - m["deviation"]) / max(weight - 1.0, 1.0)
        change = abs(x - m["last"])
        if change > 0:
            change = min(change, 6.0 * m["change"]) if m["changed"] else change
            m["changed"] = min(m["changed"] + 1, 500)
            m["change"] += (change - m["change"]) / m["changed"]
        if past > 0:
            if not m["interval"]:
                m["interval"] = past
            else:
                m["interval"] += (min(past, 5.0 * m["interval"]) - m["interval"]) / min(m["count"], 200)
        m["last"], m["time"], m["count"] = x, max(now, m["time"]), m["count"] + 1

    def add(self, m: dict[str, Any], span: dict[str, Any], now: int, x: float, scale: float) -> float:
        block = int(max(span["hours"] * 3600.0 / span["width"], m["interval"]) * SECOND)
        distance = 0.0
        if now // block != span["start"] // block:
            total = 0.0
            for one in span["values"]:
                total += one
            span["means"].insert(0, total / len(span["values"]))
            if len(span["means"]) >= span["width"]:
                distance = self.compare(span, scale)
            span["start"], span["values"] = now, []
        span["values"].append(x)
        return distance

    def window(self, span: dict[str, Any], at: int) -> list[float]:
        means = span["means"][at : at + span["width"]]
        total = 0.0
        for one in means:
            total += one
        middle = 0.5 * total / span["width"]
        return [one - middle for one in means]

    def nearest(self, span: dict[str, Any], window: list[float]) -> tuple[int, float]:
        best, least = -1, math.inf
        for i, (shape, _) in enumerate(span["shapes"]):
            total = 0.0
            for a, b in zip(window, shape, strict=True):
                total += abs(a - b)
            if total < least:
                best, least = i, total
        return best, least / span["width"]

    def compare(self, span: dict[str, Any], scale: float) -> float:
        best, least = self.nearest(span, self.window(span, 0))
        distance = least / scale if best >= 0 else 0.0
        count = len(span["means"])
        if count >= 2 * span["width"]:
            window = self.window(span, span["width"])
            best, least = self.nearest(span, window)
            if best < 0 or least > 0.1 * scale:
                entry = [[f4(one) for one in window], count]
                if len(span["shapes"]) < 256:
                    span["shapes"].append(entry)
                else:
                    met = [when for _, when in span["shapes"]]
                    span["shapes"][met.index(min(met))] = entry
            else:
                span["shapes"][best][1] = count
        return distance

    def close_hour(self, m: dict[str, Any], now: int) -> None:
        factor = exp(-LN2 * (max(now - m["decayed"], 0) / DAY) / 7.0)
        edges = [0.0] + [2.0 ** (-6 + b // 8) * (1 + b % 8 / 8) for b in range(1, 97)]
        for span, first in [*((span, 0.21) for span in m["spans"]), (m["lasting"], 1.0)]:
            hist = span["hist"] = [f4(weight * factor) for weight in span["hist"]]
            at = max(b for b in range(96) if edges[b] <= span["top"])
            hist[at] = f4(hist[at] + 1.0)
            seen = 0.0
            for weight in hist:
                seen += weight
            span["prior"] = f4(max(span["prior"] * factor, 5.0 - seen))
            span["usual"], span["top"] = f4(self.quantile(hist, edges, span["prior"], seen, first)), 0.0
        m["hour"] = m["decayed"] = now

    def quantile(self, hist: list[float], edges: list[float], prior: float, seen: float, first: float) -> float:
        """The novelty with a twentieth of the hours above it; what is believed first is a point."""
        wanted, above = 0.05 * (seen + prior), 0.0
        for b in range(95, -1, -1):
            left, right, part = edges[b], edges[b + 1], hist[b]
            if left <= first < right:
                upper = part * (right - first) / (right - left)
                if above + upper >= wanted and upper > 0:
                    return right - (right - first) * (wanted - above) / upper
                above += upper + prior
                if above >= wanted:
                    return first
                right, part = first, part - upper
            if above + part >= wanted and part > 0:
                return right - (right - left) * (wanted - above) / part
            above += part
        return 0.0
