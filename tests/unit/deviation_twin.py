"""The slow, obvious twin of `deviation`: plain Python, one memory a key, equal to the kernels bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from foreshock.detect.deviation import DeviationOptions
from foreshock.detect.histogram import LN2, exp
from foreshock.types import Status

NAN, INF = float("nan"), float("inf")
DAY, HOUR = 86400.0, 3600.0
SECOND = 10**9
REACH = (7.8, 6.5, 5.2, 6.5, 7.8)
SHARE = (1.0, 0.5, 0.5, 1.0, 1.0)


def clip(x: float, most: float) -> float:
    return min(max(x, -most), most)


def f4(x: float) -> float:
    """What four bytes keep of a number."""
    return float(np.float32(clip(x, 3e38)))


def median(values: list[float]) -> float:
    ordered = sorted(values)
    return 0.5 * (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2])


class DeviationTwin:
    """Rows one by one; gives scores and statuses, and keeps the last ranking in `ranking`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = DeviationOptions.model_validate(dict(config))
        self.full = self.options.tier != "light"
        self.start = min(20, self.options.warm_up_rows)
        self.memories: dict[int, dict[str, Any]] = {}
        self.ranking = NAN

    def step(
        self, keys: list[int], times: list[int], values: list[list[float]], learn: list[bool], status: list[int]
    ) -> tuple[list[float], list[int]]:
        rows = zip(keys, times, values, learn, status, strict=True)
        out = [self.row(key, time, value[0], learns, given) for key, time, value, learns, given in rows]
        return [score for score, _ in out], [given for _, given in out]

    def row(self, key: int, now: int, x: float, learn: bool, status: int) -> tuple[float, int]:
        self.ranking = NAN
        if status != Status.SCORED:
            return NAN, status
        if not math.isfinite(x):
            return NAN, Status.MISSING
        x = min(max(x, -1e100), 1e100) + 0.0
        m = self.memories.get(key)
        if m is None or now - m["time"] > self.options.expiry_nanos:
            if learn:
                self.memories[key] = self.begin(x, now)
                if self.start == 1:
                    raise AssertionError("no detector starts with one row")
            return NAN, Status.WARMING_UP
        if m["count"] < self.start:
            if learn:
                self.collect(m, x, now)
            return NAN, Status.WARMING_UP
        past = max(now - m["time"], 0) / SECOND
        views = self.views(m, now, past)
        warm = m["count"] >= self.options.warm_up_rows
        score, high, mean = NAN, 0.0, 0.0
        if warm:
            score = self.judge(m, x, views, learn)
            high, mean = self.rank(m, x, past, views)
            self.ranking = high + 1.5 * mean
        if learn:
            if warm:
                m["high"], m["mean"] = f4(high), f4(mean)
                self.learn_usual(m, x, now, views)
            self.learn(m, x, now, past, views)
        return score, Status.SCORED if warm else Status.WARMING_UP

    def begin(self, x: float, now: int) -> dict[str, Any]:
        return {
            "time": now, "count": 1, "last": x, "level": x, "first": [0.0], "interval": 0.0, "change": 0.0,
            "changed": 0, "away": 0, "burst": 0.0, "before": 0,
            "high": 0.0, "mean": 0.0, "block": 0, "blocks": 0, "block_start": 0,
        }  # fmt: skip

    def collect(self, m: dict[str, Any], x: float, now: int) -> None:
        self.learn_interval(m, max(now - m["time"], 0) / SECOND)
        m["first"].append(f4(x - m["level"]))
        m["count"] += 1
        m["last"], m["time"] = x, max(now, m["time"])
        if m["count"] < self.start:
            return
        first, base = m["first"], m["level"]
        middle = median(first)
        m["level"] = base + middle
        m["deviation"] = 1.1829 * median([abs(one - middle) for one in first])
        m["weight"] = float(len(first))
        m["near"] = [[m["level"], m["deviation"]], [m["level"], m["deviation"]]]
        changes = [abs(b - a) for a, b in pairwise(first) if a != b]
        m["change"] = sorted(changes)[(len(changes) - 1) // 2] if changes else 0.0
        for j, one in enumerate(first):
            if j:
                self.learn_change(m, abs(one - first[j - 1]))
            self.learn_near(m, base + one, j, 1.0)
        m["usual"] = [f4(0.7 * reach) for reach in REACH]
        m["top"] = [0.0] * 5
        if self.full:
            self.open_season(m)
            m.update(lags=[x] * 8, coefficients=[0.0] * 10, forecasts=0, forecast_scale=0.0)
            m["inverse"] = [[10.0 if a == b else 0.0 for b in range(10)] for a in range(10)]

    def noise(self, m: dict[str, Any]) -> float:
        return float(max(0.5 * m["change"] * (min(m["changed"], 8) / 8), 1e-9))

    def long_scale(self, m: dict[str, Any]) -> float:
        return float(max(m["deviation"], self.noise(m)))

    def near_scale(self, m: dict[str, Any], scale: float) -> float:
        return float(max(scale, 0.1 * m["deviation"], self.noise(m)))

    def reach(self, m: dict[str, Any], k: int) -> float:
        return float(max(REACH[k], m["usual"][k]))

    def views(self, m: dict[str, Any], now: int, past: float) -> list[tuple[int, float, float]]:
        """The deviations there are: number, center, unit."""
        m["wide"] = wide = self.stretch(m, past)
        (quick, quick_scale), (short, short_scale) = m["near"]
        found = [
            (0, quick, self.near_scale(m, quick_scale) * wide),
            (1, short, self.near_scale(m, short_scale) * wide),
            (2, m["level"], self.long_scale(m)),
        ]
        if self.full:
            day = self.daily(m, now)
            season = NAN if day is None else m["offset"] + day + self.weekly(m, now)
            if day is not None:
                found.append((3, season, self.season_scale(m, now)))
            self.forecast(m, season)
            if m["forecasts"] > 30:
                found.append((4, m["bounded"], max(m["forecast_scale"], self.noise(m)) * wide))
        mass = sum(SHARE[k] for k, _, _ in found)
        young = 0.05 * max(1.0 - m["count"] * m["interval"] / 3600.0, 0.0) * abs(m["level"])
        least = max(self.options.min_change, young) * math.sqrt(math.sqrt(mass)) / 2.0
        return [(k, center, max(scale * self.reach(m, k), least)) for k, center, scale in found]

    def stretch(self, m: dict[str, Any], past: float) -> float:
        if past <= 1.5 * m["interval"]:
            return 1.0
        return min(math.sqrt(past / m["interval"]), 8.0) if m["interval"] else 8.0

    def judge(self, m: dict[str, Any], x: float, views: list[tuple[int, float, float]], learn: bool) -> float:
        total, mass = 0.0, 0.0
        for k, center, unit in views:
            part = (x - center) / unit
            total += SHARE[k] * (part * part)
            mass += SHARE[k]
        score = math.sqrt(total / math.sqrt(mass))
        if m["changed"] < 8:
            away = m["away"] + 1 if score > 1.0 else 0
            first = 4.0 if self.options.min_change else 4.0 / 3.0
            score = min(score, first * math.sqrt(math.sqrt(min(m["count"], 360.0) / 60.0)) * max(away, 1))
            score = max(score, self.burst(m, x, learn))
            if learn:
                m["away"] = min(away, 360)
        return min(score, 1e9)

    def burst(self, m: dict[str, Any], x: float, learn: bool) -> float:
        if abs(m["level"]) > 0.25 * m["change"]:
            return 0.0
        burst, before, moved = m["burst"], m["before"], abs(x) > max(0.25 * m["change"], self.options.min_change)
        goes_on = burst > 0.0
        if moved:
            before = before if goes_on else m["changed"]
            burst += math.log(0.5 * (min(m["count"], 360) + 1.0) / (1.0 + 0.5 * before))
        else:
            burst = max(burst - LN2, 0.0)
        if learn:
            m["burst"], m["before"] = f4(min(burst, 60.0)), before
        return burst / 2.0 if moved and goes_on else 0.0

    def rank(
        self, m: dict[str, Any], x: float, past: float, views: list[tuple[int, float, float]]
    ) -> tuple[float, float]:
        shares = (0.0, 0.0, 1.0, 1.5, 1.2) if self.full else (1.0, 0.0, 1.0)
        total, mass = 0.0, 0.0
        for k, center, unit in views:
            z = min(abs(x - center) / unit * self.reach(m, k), 100.0)
            total += shares[k] * (z * z)
            mass += shares[k]
        size = math.sqrt(total / mass)
        h = max(1.0 / 8.0, past / 7200.0) * LN2
        keep = 1.0 / (1.0 + h * (1.0 + h * (0.5 + h / 6.0)))
        return max(size, m["high"] * keep), m["mean"] + 0.15910358474628547 * (min(size, 10.0) - m["mean"])

    def learn_usual(self, m: dict[str, Any], x: float, now: int, views: list[tuple[int, float, float]]) -> None:
        if m["block"] >= 10 and now - m["block_start"] >= HOUR * SECOND:
            m["blocks"] += 1
            gain = max(0.1, 1.0 / m["blocks"])
            for k in range(5):
                factor = exp(gain * 0.95) if m["top"][k] > m["usual"][k] else exp(-gain * (1.0 - 0.95))
                m["usual"][k] = f4(max(m["usual"][k] * factor, 0.5 * 0.7 * REACH[k]))
            m["top"], m["block"] = [0.0] * 5, 0
        if not m["block"]:
            m["block_start"] = now
        m["block"] += 1
        for k, center, unit in views:
            m["top"][k] = f4(max(m["top"][k], min(abs(x - center) / unit * self.reach(m, k), 1e9)))

    def learn(self, m: dict[str, Any], x: float, now: int, past: float, views: list[tuple[int, float, float]]) -> None:
        if self.full:
            if self.slots_of(m["interval"]) > 2 * m["slots"]:
                self.open_season(m)
            self.learn_season(m, x, now, past)
            self.learn_forecast(m, x)
            m["lags"] = [x, *m["lags"][:7]]
        self.learn_near(m, x, m["count"], m["wide"])
        most, surprise = 5.0 * self.long_scale(m), x - m["level"]
        weight = m["weight"] = self.faded(m, m["weight"], 2 * DAY, past)
        if abs(surprise) > most:
            surprise, weight = clip(surprise, most), max(weight, 1800.0 / max(m["interval"], 1.0))
        m["level"] += surprise / weight
        m["deviation"] += (abs(surprise) - m["deviation"]) / max(weight - 1.0, 1.0)
        self.learn_change(m, abs(x - m["last"]))
        self.learn_interval(m, past)
        m["last"], m["time"], m["count"] = x, max(now, m["time"]), m["count"] + 1

    def faded(self, m: dict[str, Any], weight: float, memory: float, past: float) -> float:
        seconds = max(memory, 48.0 * m["interval"])
        return float(weight * (seconds / (seconds + past)) + 1.0)

    def learn_interval(self, m: dict[str, Any], past: float) -> None:
        if past > 0:
            if not m["interval"]:
                m["interval"] = past
            else:
                m["interval"] += (min(past, 5.0 * m["interval"]) - m["interval"]) / min(m["count"], 200)

    def learn_change(self, m: dict[str, Any], change: float) -> None:
        if change > 0:
            if m["changed"]:
                change = min(change, 6.0 * m["change"])
            m["changed"] = min(m["changed"] + 1, 500)
            m["change"] += (change - m["change"]) / m["changed"]

    def learn_near(self, m: dict[str, Any], x: float, count: int, wide: float) -> None:
        for near, span in zip(m["near"], (4.0, 20.0), strict=True):
            surprise = clip(x - near[0], 4.0 * self.near_scale(m, near[1]) * wide)
            near[0] += max(2.0 / (span + 1.0), 1.0 / (count + 1.0)) * surprise
            near[1] += max(2.0 / (span * 8.0 + 1.0), 1.0 / (count + 1.0)) * (abs(surprise) / wide - near[1])

    # The season.

    def slots_of(self, interval: float) -> int:
        for seconds in (300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0):
            if interval <= seconds / 0.9:
                return int(DAY / seconds)
        return 1

    def open_season(self, m: dict[str, Any]) -> None:
        n = self.slots_of(m["interval"])
        m.update(slots=n, slot=-1, hour=-1, offset=m["level"], offset_weight=0.0, season_scale=0.0, season_weight=0.0)
        m.update(slot_level=[0.0] * n, slot_scale=[0.0] * n, slot_visits=[0] * n, slot_lacks=[], slot_errors=0.0)
        m.update(
            week_level=[0.0] * 168, week_visits=[0] * 168, hours=0, daily_error=0.0, weekly_error=0.0, in_hour=None
        )

    def place(self, m: dict[str, Any], now: int) -> tuple[int, float]:
        place = (now % (86400 * SECOND)) / (86400 * SECOND) * m["slots"]
        slot = min(int(place), m["slots"] - 1)
        return slot, place - slot - 0.5

    def daily(self, m: dict[str, Any], now: int) -> float | None:
        slot, beside = self.place(m, now)
        if m["slot_visits"][slot] < 2:
            return None
        level = float(m["slot_level"][slot])
        if m["slots"] == 288 and m["interval"] < 0.75 * 300.0:
            other = (slot + (1 if beside > 0 else 287)) % 288
            if m["slot_visits"][other] >= 2:
                level += abs(beside) * (m["slot_level"][other] - level)
        return level

    def weekly(self, m: dict[str, Any], now: int) -> float:
        hour = now // (3600 * SECOND) % 168
        earned = m["hours"] >= 24 and m["weekly_error"] < 0.7 * m["daily_error"]
        return float(m["week_level"][hour]) if m["week_visits"][hour] >= 2 and earned else 0.0

    def season_scale(self, m: dict[str, Any], now: int) -> float:
        slot, _ = self.place(m, now)
        own = 0.5 * m["slot_scale"][slot] + 0.5 * m["season_scale"]
        return float(max(own * (1.0 + 2.0 / max(m["slot_visits"][slot] - 1.0, 1.0)), self.noise(m)))

    def learn_season(self, m: dict[str, Any], x: float, now: int, past: float) -> None:
        day, (slot, _) = self.daily(m, now), self.place(m, now)
        if day is None:
            lack = clip(x - m["offset"], 5.0 * self.long_scale(m)) - m["slot_level"][slot]
            self.enter_slot(m, slot)
        else:
            week = self.weekly(m, now)
            rest = x - m["offset"] - day
            most = 5.0 * self.season_scale(m, now) if m["season_weight"] > 50 else INF
            m["season_weight"] = self.faded(m, m["season_weight"], 7 * DAY, past)
            error = min(abs(rest - week), most)
            m["season_scale"] += (error - m["season_scale"]) / m["season_weight"]
            lack = clip(rest - week, most)
            self.enter_slot(m, slot)
            m["slot_errors"] += error
            self.learn_hour(m, rest, lack, week, now)
        m["slot_lacks"].append(lack)
        m["offset_weight"] = self.faded(m, m["offset_weight"], 2 * DAY, past)
        m["offset"] += lack / max(m["offset_weight"], 20.0)

    def enter_slot(self, m: dict[str, Any], slot: int) -> None:
        at = m["slot"]
        if slot == at:
            return
        if at >= 0 and m["slot_lacks"]:
            n, visits = len(m["slot_lacks"]), m["slot_visits"][at]
            lack = 0.0
            for one in m["slot_lacks"]:
                lack += one
            m["slot_level"][at] = f4(m["slot_level"][at] + max(0.15, 1.0 / (visits + 1.0)) * (lack / n))
            if visits >= 2:
                error, scale = m["slot_errors"] / n * (1.0 + 1.0 / n), m["slot_scale"][at]
                m["slot_scale"][at] = f4(scale + max(0.15, 1.0 / (visits - 1.0)) * (error - scale))
            m["slot_visits"][at] = min(visits + 1, 255)
        m["slot"], m["slot_lacks"], m["slot_errors"] = slot, [], 0.0

    def learn_hour(self, m: dict[str, Any], rest: float, lack: float, week: float, now: int) -> None:
        hour = now // (3600 * SECOND) % 168
        if hour != m["hour"]:
            if m["in_hour"]:
                self.close_hour(m)
            m["hour"], m["in_hour"] = hour, []
        level = m["week_level"][hour]
        most = INF if m["hours"] < 24 else 5.0 * max(m["daily_error"], self.noise(m))
        m["in_hour"].append((min(abs(rest), most), min(abs(rest - level), most), lack + week - level))

    def close_hour(self, m: dict[str, Any]) -> None:
        at, n = m["hour"], len(m["in_hour"])
        daily = weekly = lack = 0.0
        for one, other, third in m["in_hour"]:
            daily, weekly, lack = daily + one, weekly + other, lack + third
        visits = m["week_visits"][at]
        m["week_level"][at] = f4(m["week_level"][at] + max(0.3, 1.0 / (visits + 1.0)) * (lack / n))
        if visits >= 2:
            m["hours"] = min(m["hours"] + 1, 168)
            m["daily_error"] += (daily / n - m["daily_error"]) / m["hours"]
            m["weekly_error"] += (weekly / n - m["weekly_error"]) / m["hours"]
        m["week_visits"][at] = min(visits + 1, 255)

    # The forecast.

    def forecast(self, m: dict[str, Any], season: float) -> None:
        unit = self.long_scale(m)
        inputs = [clip((lag - m["level"]) / unit, 1000.0) for lag in m["lags"]]
        inputs += [0.0 if math.isnan(season) else clip((season - m["level"]) / unit, 1000.0), 1.0]
        linear = 0.0
        for coefficient, one in zip(m["coefficients"], inputs, strict=True):
            linear += coefficient * one
        low, high = min(0.0, *inputs) - 3.0, max(0.0, *inputs) + 3.0
        m["inputs"], m["linear"] = inputs, m["level"] + unit * linear
        m["bounded"] = m["level"] + unit * min(max(linear, low), high)

    def learn_forecast(self, m: dict[str, Any], x: float) -> None:
        unit, scale = self.long_scale(m), max(m["forecast_scale"], self.noise(m))
        error, surprise, inputs = x - m["bounded"], x - m["linear"], m["inputs"]
        if m["forecasts"] > 30:
            error, surprise = clip(error, 4.0 * scale), clip(surprise, 4.0 * scale)
        rows = min(max(7 * DAY / max(m["interval"], 1e-9), 2000.0), 20000.0)
        self.least_squares(m, inputs, clip(surprise / unit, 1000.0), 1.0 - 1.0 / rows)
        if m["forecasts"] > 8:
            m["forecast_scale"] += (abs(error) - m["forecast_scale"]) / max(1.0, min(m["forecasts"] - 8, 0.25 * rows))
        m["forecasts"] += 1

    def least_squares(self, m: dict[str, Any], inputs: list[float], error: float, keep: float) -> None:
        inverse, gain = m["inverse"], []
        power, trace = keep, 0.0
        for a in range(10):
            total = 0.0
            for b in range(10):
                total += inverse[a][b] * inputs[b]
            gain.append(total)
            power += inputs[a] * total
            trace += inverse[a][a]
        if power < 0.5 * keep:
            m["inverse"] = [[10.0 if a == b else 0.0 for b in range(10)] for a in range(10)]
            return
        grow = 1.0 / keep if trace < 200.0 else 1.0
        for a in range(10):
            share = gain[a] / power
            m["coefficients"][a] += share * error
            for b in range(10):
                inverse[a][b] = (inverse[a][b] - share * gain[b]) * grow
