"""The slow, obvious twins of `rate_of_change`, `static_threshold` and `seasonal`: plain Python, equal bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from foreshock.detect.rate_of_change import RateOfChangeOptions
from foreshock.detect.seasonal import SeasonalOptions
from foreshock.detect.static_threshold import StaticThresholdOptions
from foreshock.types import Status
from tests.unit.deviation_twin import DeviationTwin, clip

NAN, INF = math.nan, math.inf
DAY, SECOND = 86400.0, 10**9


class RowByRow:
    """Rows one by one; a subclass judges and learns one."""

    def step(
        self, keys: list[int], times: list[int], values: list[list[float]], learn: list[bool], status: list[int]
    ) -> tuple[list[float], list[int]]:
        rows = zip(keys, times, values, learn, status, strict=True)
        out = [self.any_row(key, time, value[0], learns, given) for key, time, value, learns, given in rows]
        return [score for score, _ in out], [given for _, given in out]

    def any_row(self, key: int, now: int, x: float, learn: bool, status: int) -> tuple[float, int]:
        if status != Status.SCORED:
            return NAN, status
        if not math.isfinite(x):
            return NAN, Status.MISSING
        return self.row(key, now, min(max(x, -1e100), 1e100) + 0.0, learn)

    def row(self, key: int, now: int, x: float, learn: bool) -> tuple[float, int]:
        raise NotImplementedError


def next_interval(interval: float, count: int, past: float) -> float:
    if past <= 0:
        return interval
    if not interval:
        return past
    return interval + (min(past, 5.0 * interval) - interval) / min(count, 200)


class RateTwin(RowByRow):
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = RateOfChangeOptions.model_validate(dict(config))
        self.limit = None if self.options.measure is None else self.options.measure.number
        self.warm_up = self.options.warm_up_rows if self.limit is None else 1
        self.memories: dict[int, dict[str, Any]] = {}

    def row(self, key: int, now: int, x: float, learn: bool) -> tuple[float, int]:
        m = self.memories.get(key)
        if m is None or now - m["time"] > self.options.expiry_nanos:
            if learn:
                self.memories[key] = {"time": now, "last": x, "count": 1, "changed": 0, "interval": 0.0, "size": 0.0,
                                      "weight": 0.0, "center": 0.0, "scale": 0.0}  # fmt: skip
            return NAN, Status.WARMING_UP
        past = max(now - m["time"], 0) / SECOND
        apart = bool(m["interval"]) and past > self.options.max_gap_steps * m["interval"]
        span = 1.0
        if self.options.per == "second":
            span = max(past, 0.5 * m["interval"]) or 1.0
        rate = (x - m["last"]) / span
        score, status = NAN, Status.WARMING_UP
        if m["count"] >= self.warm_up:
            status = Status.MISSING if apart else Status.SCORED
            score = NAN if apart else self.judge(m, rate, span)
        if learn:
            if not apart:
                self.learn(m, rate, past, span)
            m["interval"] = next_interval(m["interval"], m["count"], past)
            m["last"], m["time"], m["count"] = x, max(now, m["time"]), m["count"] + 1
        return score, status

    def scale(self, m: dict[str, Any], span: float) -> float:
        least = max(self.options.min_change / 12.0, 1e-9) / span
        return float(max(1.2533141373155001 * m["scale"], 0.5 * m["size"], least))

    def judge(self, m: dict[str, Any], rate: float, span: float) -> float:
        if self.limit is not None:
            return min(abs(rate) / max(self.limit, 1e-9 / span), 1e9)
        score = abs(rate - m["center"]) / self.scale(m, span)
        if not m["changed"]:
            score = min(score, 8.0 * math.sqrt(math.sqrt(m["count"] / 60.0)))
        return float(min(score, 1e9))

    def learn(self, m: dict[str, Any], rate: float, past: float, span: float) -> None:
        if rate:
            size = abs(rate - m["center"])
            size = min(size, 6.0 * m["size"]) if m["changed"] else size
            m["changed"] = min(m["changed"] + 1, 500)
            m["size"] += (size - m["size"]) / m["changed"]
        most = 5.0 * self.scale(m, span)
        memory = max(self.options.memory_seconds, 48.0 * m["interval"])
        m["weight"] = m["weight"] * (memory / (memory + past)) + 1.0
        surprise = rate - m["center"]
        if m["count"] >= self.warm_up:
            surprise = clip(surprise, most)
        m["center"] += surprise / m["weight"]
        m["scale"] += (abs(surprise) - m["scale"]) / max(m["weight"] - 1.0, 1.0)


class ThresholdTwin(RowByRow):
    """Of a detector with one limit for all features, in the series' own unit."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        options = StaticThresholdOptions.model_validate(dict(config))
        self.above, self.below, self.hold = options.above, options.below, options.hold
        self.expiry = round(options.expiry_seconds * 1e9)
        self.clears = options.clear or [one for one in (self.below, self.above) if one is not None]
        self.memories: dict[int, dict[str, Any]] = {}

    def row(self, key: int, now: int, x: float, learn: bool) -> tuple[float, int]:
        m = self.memories.get(key)
        if m is None or now - m["time"] > self.expiry:
            m = {"time": now, "since": now, "phase": "within", "interval": 0.0, "count": 0}
        phase, since = self.judge(m, now, x)
        score = clip(max(self.distances(x)), 1e9)
        score = max(score, 1.0) if phase == "firing" else min(score, math.nextafter(1.0, 0.0))
        if learn:
            interval = next_interval(m["interval"], m["count"], max(now - m["time"], 0) / SECOND)
            self.memories[key] = {
                "time": max(now, m["time"]), "since": since, "phase": phase, "interval": interval,
                "count": m["count"] + 1,
            }  # fmt: skip
        return score, Status.SCORED

    def distances(self, x: float) -> list[float]:
        """How far beyond each bound, 1 at the bound."""
        out = []
        if self.above is not None:
            out.append(1.0 + (x - float(self.above)) / (abs(float(self.above)) or 1.0))
        if self.below is not None:
            out.append(1.0 + (float(self.below) - x) / (abs(float(self.below)) or 1.0))
        return out

    def judge(self, m: dict[str, Any], now: int, x: float) -> tuple[str, int]:
        over = self.above is not None and x > float(self.above)
        under = self.below is not None and x < float(self.below)
        if m["phase"] == "firing":
            back = (self.above is None or x <= float(self.clears[-1])) and (
                self.below is None or x >= float(self.clears[0])
            )
            return ("within" if back else "firing"), m["since"]
        if not (over or under):
            return "within", now
        since = m["since"] if m["phase"] == "waiting" else now
        past = max(now - m["time"], 0) / SECOND
        if m["interval"] and past > self.hold and past > 5.0 * m["interval"]:
            since = now
        return ("firing" if now - since >= round(self.hold * 1e9) else "waiting"), since


class SeasonalTwin(DeviationTwin):
    """The season of the deviation's twin, with a trend, and nothing else."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__({"warm_up_rows": config.get("warm_up_rows", 20)})
        self.seasonal = SeasonalOptions.model_validate(dict(config))
        self.expected = NAN

    def row(self, key: int, now: int, x: float, learn: bool, status: int) -> tuple[float, int]:
        if status != Status.SCORED:
            return NAN, status
        if not math.isfinite(x):
            return NAN, Status.MISSING
        x = min(max(x, -1e100), 1e100) + 0.0
        m = self.memories.get(key)
        if m is None or now - m["time"] > self.seasonal.expiry_nanos:
            if learn:
                self.memories[key] = self.begin(x, now)
            return NAN, Status.WARMING_UP
        if m["count"] < self.start:
            if learn:
                self.collect(m, x, now)
            return NAN, Status.WARMING_UP
        past = max(now - m["time"], 0) / SECOND
        drift = m["trend"] * (min(past, DAY) / DAY)
        warm = m["count"] >= self.seasonal.warm_up_rows and m["elapsed"] >= self.seasonal.warm_up_seconds
        score = self.residual(m, x, now, drift) if warm else NAN
        if learn:
            self.learn_all(m, x, now, past)
        return score, Status.SCORED if warm else Status.WARMING_UP

    def residual(self, m: dict[str, Any], x: float, now: int, drift: float) -> float:
        day = self.daily(m, now)
        if day is None:
            self.expected, scale = m["level"], self.long_scale(m)
        else:
            self.expected, scale = m["offset"] + drift + day + self.weekly(m, now), self.season_scale(m, now)
        score = abs(x - self.expected) / max(scale, self.seasonal.min_change / (2.0 * 6.5))
        if not m["changed"]:
            score = min(score, 6.5 * (4.0 / 3.0) * math.sqrt(math.sqrt(min(m["count"], 360) / 60.0)))
        return float(min(score, 1e9))

    def open_season(self, m: dict[str, Any]) -> None:
        super().open_season(m)
        m.update(elapsed=0.0, trend=0.0, day=-2, day_offset=0.0)

    def learn_all(self, m: dict[str, Any], x: float, now: int, past: float) -> None:
        if self.slots_of(m["interval"]) > 2 * m["slots"]:
            self.open_season(m)
        m["offset"] += m["trend"] * (min(past, DAY) / DAY)
        self.learn_season(m, x, now, past)
        today = now // (86400 * SECOND)
        if today > m["day"] and m["elapsed"] >= 2 * DAY:
            if today == m["day"] + 1:
                moved = clip(m["offset"] - m["day_offset"], 5.0 * m["season_scale"])
                m["trend"] += 0.2 * (moved - m["trend"])
            m["day"], m["day_offset"] = today, m["offset"]
        most, surprise = 5.0 * self.long_scale(m), x - m["level"]
        weight = m["weight"] = self.faded(m, m["weight"], 2 * DAY, past)
        if abs(surprise) > most:
            surprise, weight = clip(surprise, most), max(weight, 1800.0 / max(m["interval"], 1.0))
        m["level"] += surprise / weight
        m["deviation"] += (abs(surprise) - m["deviation"]) / max(weight - 1.0, 1.0)
        self.learn_change(m, abs(x - m["last"]))
        self.learn_interval(m, past)
        m["elapsed"] += past if past > 0 else 60.0
        m["last"], m["time"], m["count"] = x, max(now, m["time"]), m["count"] + 1
