"""The slow, obvious twin of `linear`: one entity at a time, without bodies, views or scratch, equal bit for bit.

It knows entities of up to 64 features. Arrays are as long as the features known, rounded up to eight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect import histogram, linear_feature, linear_row
from foreshock.detect import linear_apart as apart_of
from foreshock.detect import linear_kernel as kernel
from foreshock.detect import linear_layout as layout
from foreshock.detect import linear_scale as scale_of
from foreshock.detect.linear import LinearOptions
from foreshock.detect.linear_fit import GOOD_ENOUGH, ITERATIONS
from foreshock.types import Status
from tests.unit.kernels import called

f4 = np.float32
Array = NDArray[Any]
FORECAST, CROSS = (1, 2, 3, 5, 10), (0, 1, 2, 5)
LAGS_APART = sorted({abs(a - b) for lags in ((0, *FORECAST), CROSS) for a in lags for b in lags})
NOBODY: Any = SimpleNamespace(rows=0)
KINDS = ("ahead", "across", "away")
LN, EXP = called(histogram.ln), called(histogram.exp)


class LinearTwin:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = LinearOptions(**config)
        self.memories: dict[int, Any] = {}
        self.ranks: list[float] = []
        self.apart: list[dict[int, float]] = []

    def step(
        self, keys: list[int], times: list[int], values: list[list[float]], learn: list[bool], status: list[int]
    ) -> tuple[list[float], list[int]]:
        out, self.apart = [], []
        for one in zip(keys, times, values, learn, status, strict=True):
            self.apart.append({})
            out.append(self.row(*one))
        self.ranks = [rank for _, rank, _ in out]
        return [score for score, _, _ in out], [given for _, _, given in out]

    def row(self, key: int, time: int, values: list[float], learn: bool, status: int) -> tuple[float, float, int]:
        nothing = math.nan, math.nan
        if status != Status.SCORED:
            return *nothing, status
        if not any(map(math.isfinite, values)):
            return *nothing, int(Status.MISSING)
        options, memory = self.options, self.memories.get(key, NOBODY)
        fresh = memory.rows == 0 or time - memory.time > round(options.expiry_seconds * 1e9)
        warm = not fresh and memory.rows >= options.warm_up_rows and memory.elapsed >= options.warm_up_seconds
        if fresh and not learn:
            return *nothing, int(Status.WARMING_UP)
        if fresh:
            memory = self.memories[key] = fresh_memory()
        cut = memory.interval > 0 and (time - memory.time) / 1e9 > kernel.GAP * max(memory.interval, 1e-9)
        if learn:
            arrive(memory, time, cut)
        if warm and learn:
            close_hour(memory)
        score, rank = self.judge(memory, values, learn, cut, warm)
        if not warm or math.isnan(score):
            return *nothing, int(Status.WARMING_UP)
        return score, rank, int(Status.SCORED)

    def judge(self, m: Any, values: list[float], learn: bool, cut: bool, warm: bool) -> tuple[float, float]:
        if learn and len(values) > m.width:
            if m.rows:
                m.next_fit, m.spacing, m.cursor = m.rows + linear_row.FIRST_FIT, linear_row.FIRST_FIT, -1
            m.width = len(values)
            widen(m)
        pace = min(m.interval / 60.0, 1.0) if m.interval > 0 else 1.0
        fitting = learn and m.cursor < 0 and m.rows + 1 >= m.next_fit
        if fitting:
            m.cursor = 0
        x, z, y, seen, live = look(m, values, min(self.options.warm_up_rows, m.rows))
        moved = [j for j in range(len(z)) if m.changes[j] > 0 or (m.count[j] > 0 and x[j] != m.last[j])]
        left = residuals(m, z, y, cut, moved)
        sums = {kind: pool(m, kind, left[kind], seen, live, pace, learn) for kind in KINDS}
        departed = depart(m, sums["ahead"][3] + sums["across"][3], cut, learn)
        if warm and not cut:
            self.apart[-1] = compare(m, departed, values, self.options.warm_up_rows, learn)
        if learn:
            learn_row(m, x, z, y, values, pace, fitting, moved)
        if learn and m.cursor >= 0 and m.rows % 4 == 3:
            self.fit_next(m, pace)
        alive = dot(live, seen)
        out = (math.nan, math.nan)
        if alive > 0:
            (a, slow_a, top_a, _), (c, slow_c, top_c, _) = sums["ahead"], sums["across"]
            pools = [(a - 0.25 * top_a) / alive, (c - 0.25 * top_c) / alive, slow_a / alive, slow_c / alive]
            out = smooth(m, pools, pace, learn, cut)
        if learn:
            m.rows += 1
        return out

    def fit_next(self, m: Any, pace: float) -> None:
        for target in range(m.cursor, min(m.cursor + 4, m.width)):
            fit(m, target, FORECAST, m.forecast, f4(self.options.forecast_ridge))
            fit(m, target, CROSS, m.cross, f4(self.options.cross_ridge))
        m.cursor += 4
        if m.cursor >= m.width:
            m.cursor = -1
            m.spacing = min(2 * m.spacing, int(linear_row.MOST_SPACING / max(pace, 1e-3)))
            m.next_fit = m.rows + m.spacing


def fresh_memory() -> Any:
    zeros = np.zeros(0, f4)
    return SimpleNamespace(
        time=0, rows=0, width=0, cursor=-1, next_fit=linear_row.FIRST_FIT, spacing=linear_row.FIRST_FIT, interval=0.0,
        elapsed=0.0, score=0.0, rank=0.0, typical=[0.0] * 4,
        hours=0, hour_rows=0, hour_start=0, before=[zeros, zeros], top=zeros, reach=zeros,
        last=np.zeros(0), mean=np.zeros(0), variance=np.zeros(0), unit=np.zeros(0),
        count=zeros, changes=zeros, level=zeros,
        scales={kind: dict.fromkeys(("shift", "fast", "square", "slow"), zeros) for kind in KINDS},
        past=np.zeros((16, 0), f4),
        covariance={lag: np.zeros((0, 0), f4) for lag in LAGS_APART},
        forecast={lag: np.zeros((0, 0), f4) for lag in FORECAST},
        cross={lag: np.zeros((0, 0), f4) for lag in CROSS},
    )  # fmt: skip


def widen(m: Any) -> None:
    more = -(-m.width // 8) * 8 - len(m.count)
    m.before = [np.pad(array, (0, more)) for array in m.before]
    for name in ("last", "mean", "variance", "unit", "count", "changes", "level", "top", "reach"):
        setattr(m, name, np.pad(getattr(m, name), (0, more)))
    for scales in m.scales.values():
        scales |= {name: np.pad(array, (0, more)) for name, array in scales.items()}
    m.past = np.pad(m.past, ((0, 0), (0, more)))
    for matrices in (m.covariance, m.forecast, m.cross):
        matrices |= {lag: np.pad(array, ((0, more), (0, more))) for lag, array in matrices.items()}


def arrive(m: Any, now: int, cut: bool) -> None:
    seconds = (now - m.time) / 1e9
    if m.rows == 0 or seconds <= 0:
        seconds = 60.0
    elif m.interval == 0:
        m.interval = seconds
    else:
        seconds = min(seconds, 5 * m.interval)
        m.interval += (seconds - m.interval) / min(m.rows, 200)
    m.elapsed += seconds
    m.time = now if m.rows == 0 else max(now, m.time)
    if cut:
        m.past[:] = 0


def look(m: Any, values: list[float], least: int) -> tuple[Array, Array, Array, Array, Array]:
    x, z = m.last.copy(), np.zeros(len(m.last), f4)
    seen, live = np.zeros(len(z), f4), np.zeros(len(z), f4)
    for j in range(len(z)):
        there = j < len(values) and math.isfinite(values[j])
        if there:
            x[j] = min(max(values[j], -1e100), 1e100)
        if not m.count[j]:
            continue
        seen[j] = there
        live[j] = there * min(max((m.count[j] - f4(least) + f4(1)) / linear_feature.RAMP, f4(0)), f4(1))
        far = 8.0 * np.sign(x[j] - m.last[j]) if m.changes[j] == 0 else (x[j] - m.mean[j]) / m.unit[j]
        z[j] = min(max(far, -30.0), 30.0)
    return x, z, np.clip(z, f4(-4), f4(4)), seen, live


def residuals(m: Any, z: Array, y: Array, cut: bool, moved: list[int]) -> dict[str, Array]:
    out = {"ahead": z.copy(), "across": z.copy(), "away": z - m.level}
    for lag in () if cut else FORECAST:
        take_away(out["ahead"], m.forecast[lag], m.past[(m.rows - lag) % 16], moved)
    for lag in (0,) if cut else CROSS:
        take_away(out["across"], m.cross[lag], m.past[(m.rows - lag) % 16] if lag else y, moved)
    return out


def take_away(out: Array, matrix: Array, x: Array, moved: list[int]) -> None:
    fours = len(moved) // 4 * 4
    for k in range(0, fours, 4):
        part = [matrix[i] * x[i] for i in moved[k : k + 4]]
        out -= (part[0] + part[1]) + (part[2] + part[3])
    for i in moved[fours:]:
        out -= matrix[i] * x[i]


def pool(
    m: Any, kind: str, left: Array, seen: Array, live: Array, pace: float, learn: bool
) -> tuple[float, float, float, Array]:
    s = m.scales[kind]
    e = left - s["shift"]
    settled = m.count >= scale_of.SETTLED
    floor = np.maximum(np.sqrt(s["square"]), scale_of.LEAST_SCALE)
    slower = np.where(settled, np.maximum(s["slow"], f4(0.5) * floor), floor)
    scale = np.where(settled, np.maximum(s["fast"], f4(0.5) * np.maximum(s["slow"], floor)), floor)
    if kind == "away":
        scale = slower
    by_fast, by_slow = np.minimum(np.abs(e) / scale, f4(20)), np.minimum(np.abs(e) / slower, f4(20))
    far, usual = live * by_fast * by_fast, live * by_slow * by_slow
    if learn:
        youth = f4(1) / (m.count + f4(20))
        early, tracked = f4(4) * youth, f4(30) * youth
        size, up, down = np.abs(e), f4(0.99), f4(-0.01)
        s["shift"] = s["shift"] + seen * np.maximum(f4(0.0005 * pace), early) * np.clip(e, -3 * scale, 3 * scale)
        gain = seen * np.maximum(f4(layout.MEMORY_GAIN * pace), early)
        s["square"] = s["square"] + gain * (size * size - s["square"])
        gain = seen * np.maximum(f4(0.015 * pace), tracked)
        s["fast"] = scale * (f4(1) + np.where(size > f4(2.5) * scale, up, down) * gain)
        gain = seen * np.maximum(f4(0.0005 * pace), tracked)
        s["slow"] = s["slow"] * (f4(1) + np.where(size > f4(2.5) * s["slow"], up, down) * gain)
    return dot(far, seen), dot(usual, seen), float(far.max()), usual


def depart(m: Any, squares: Array, cut: bool, learn: bool) -> Array:
    """Mean squares of three rows, and .3."""
    now = f4(0) * squares if cut else f4(0.5) * squares
    if cut:
        m.before = [f4(0) * squares, f4(0) * squares]
    last, before = m.before
    if learn:
        m.before = [now, last]
    out: Array = f4(1.0 / 3.0) * ((now + last) + before) + f4(0.3)
    return out


def compare(m: Any, departed: Array, values: list[float], warm_up: int, learn: bool) -> dict[int, float]:
    """What is near its reach beside the largest of the others, by feature."""
    most = int(departed.argmax())
    others = [max(np.delete(departed, j).max() if j == most else departed[most], f4(1.3)) for j in range(len(departed))]
    ratio = departed / np.array(others, f4)
    if learn:
        m.top = np.maximum(m.top, ratio)
        m.hour_rows += 1
    if m.hours < apart_of.FIRST_HOURS:
        return {}
    reach = np.maximum(m.reach, apart_of.LEAST_REACH)
    full = m.count - f4(warm_up) + f4(1) >= linear_feature.RAMP
    said = [
        j for j in range(len(values)) if ratio[j] > apart_of.SAID * reach[j] and full[j] and math.isfinite(values[j])
    ]
    return {j: float(f4(LN(float(ratio[j] / reach[j])))) for j in said}


def close_hour(m: Any) -> None:
    if m.hours == 0 and m.hour_rows == 0:
        m.hour_start = m.time
    if m.hour_rows < 10 or m.time - m.hour_start < 3600 * 10**9:
        return
    m.hours += 1
    gain = max(0.3, 1 / m.hours)
    up, down = f4(EXP(gain * 0.99 * (2 if m.hours < 48 else 1))), f4(EXP(-gain * (1 - 0.99)))
    reach = np.maximum(m.reach, apart_of.LEAST_REACH)
    m.reach = np.where(m.top > reach, np.minimum(reach * up, m.top), np.maximum(reach * down, apart_of.LEAST_REACH))
    m.top, m.hour_start, m.hour_rows = f4(0) * m.top, m.time, 0


def dot(x: Array, y: Array) -> float:
    s = np.zeros(8, f4)
    for j in range(0, len(x), 8):
        s += x[j : j + 8] * y[j : j + 8]
    return float(((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])))


def learn_row(
    m: Any, x: Array, z: Array, y: Array, values: list[float], pace: float, fitting: bool, moved: list[int]
) -> None:
    m.past[m.rows % 16] = y
    m.level = m.level + linear_row.LEVEL_GAIN * (z - m.level)
    spared = m.rows >= linear_row.SPARING
    window = m.rows // linear_row.WINDOW
    if m.rows % 4 == 3 and (not spared or window % linear_row.EVERY == 0):
        share = f4(4 * (linear_row.EVERY if spared else 1))
        gain = np.maximum(share / (m.count + f4(1)), f4(layout.MEMORY_GAIN * pace) * share)
        gain = np.minimum(gain, f4(1))
        for lag, cov in m.covariance.items():
            for i in moved:
                part = [m.past[(m.rows - k) % 16][i] / f4(4) * m.past[(m.rows - k - lag) % 16] for k in (3, 2, 1, 0)]
                product = (part[0] + part[1]) + (part[2] + part[3])
                cov[i] += np.maximum(gain, gain[i]) * (product - cov[i])
    ratio = np.ones(len(z), f4)
    for j, value in enumerate(values):
        if math.isfinite(value):
            ratio[j] = learn_value(m, j, float(x[j]), pace, fitting)
    if (ratio != 1).any():
        change_units(m, ratio)


def learn_value(m: Any, j: int, x: float, pace: float, fitting: bool) -> Any:
    count, unit, last = int(m.count[j]), float(m.unit[j]), float(m.last[j])
    m.last[j] = x
    m.count[j] += 1
    if count + 1 == scale_of.SETTLED:
        for s in m.scales.values():
            s["slow"][j] = math.sqrt(s["square"][j])
            s["fast"][j] = max(s["slow"][j], scale_of.LEAST_SCALE)
    if count == 0:
        m.mean[j], m.unit[j] = x, max(1e-9, 1e-3 * abs(x))
        return f4(1)
    if x != last:
        m.changes[j] += 1
        if m.changes[j] == 1:
            m.unit[j] = max(abs(x - last) / 8, unit)
            m.variance[j] = m.unit[j] * m.unit[j]
            return f4(1)
    gain = max(layout.MEMORY_GAIN * pace, 1 / (count + 1.0))
    d = min(max(x - m.mean[j], -1000 * unit), 1000 * unit)
    m.mean[j] += gain * d
    m.variance[j] = (1 - gain) * (m.variance[j] + gain * d * d)
    power_of_two = (count + 1) & count == 0
    if m.changes[j] == 0 or not (fitting or power_of_two):
        return f4(1)
    wanted = max(math.sqrt(m.variance[j]), 1e-3 * abs(m.mean[j]), 1e-9)
    if wanted < unit * 1.1 and unit < wanted * 1.1:
        return f4(1)
    m.unit[j] = wanted
    return f4(unit / wanted)


def change_units(m: Any, ratio: Array) -> None:
    m.past *= ratio
    m.level = m.level * ratio
    for cov in m.covariance.values():
        cov *= ratio[:, None] * ratio
    for matrices in (m.forecast, m.cross):
        for matrix in matrices.values():
            matrix *= (f4(1) / ratio)[:, None] * ratio
    grown = np.where(ratio > 1, ratio, f4(1))
    for s in m.scales.values():
        s["shift"] = s["shift"] * ratio
        s["fast"], s["slow"], s["square"] = s["fast"] * grown, s["slow"] * grown, s["square"] * (grown * grown)


def fit(m: Any, target: int, lags: tuple[int, ...], maps: dict[int, Array], ridge: Any) -> None:
    b = len(m.count)
    told = (m.changes > 0) & (m.count >= f4(0.5) * min(max(m.count), f4(20_000)))
    inputs = np.tile(told, len(lags))
    x = np.where(inputs, np.concatenate([maps[lag][:, target] for lag in lags]), f4(0))
    wanted = np.where(inputs, np.concatenate([m.covariance[lag][target] for lag in lags]), f4(0))
    r = wanted + minus_times(m, lags, ridge, x, told)
    if lags[0] == 0:
        r[target] = 0
    p, square = r.copy(), dot(r, r)
    enough = float(GOOD_ENOUGH) * square
    for _ in range(ITERATIONS):
        if not square > enough:
            break
        q = minus_times(m, lags, ridge, p, told)
        if lags[0] == 0:
            q[target] = 0
        curve = -dot(p, q)
        if not curve > 0:
            break
        along = f4(square / curve)
        x = x + along * p
        r = r + along * q
        before, square = square, dot(r, r)
        p = r + f4(square / before) * p
    for a, lag in enumerate(lags):
        maps[lag][: m.width, target] = x[a * b : a * b + m.width]


def minus_times(m: Any, lags: tuple[int, ...], ridge: Any, x: Array, told: Array) -> Array:
    b, moved = len(m.count), np.flatnonzero(told).tolist()
    out: Array = -ridge * x
    for a, lag in enumerate(lags):
        for c, other in enumerate(lags):
            cov = m.covariance[abs(lag - other)]
            take_away(out[a * b : (a + 1) * b], cov.T if c >= a else cov, x[c * b : (c + 1) * b], moved)
    return out * np.tile(told, len(lags)).astype(np.float32)


def smooth(m: Any, pools: list[float], pace: float, learn: bool, cut: bool) -> tuple[float, float]:
    typical = [max(one, 0.01) for one in m.typical]
    raw, slow = pools[0] / typical[0] + pools[1] / typical[1], pools[2] / typical[2] + pools[3] / typical[3]
    gain = max(layout.MEMORY_GAIN * pace, 4 / (m.rows + 20.0))
    if learn:
        for k in range(4):
            seen = min(pools[k], 10 * typical[k]) if m.rows > 50 else pools[k]
            m.typical[k] += gain * (seen - m.typical[k])
    score, rank = raw, slow
    if not cut:
        score, rank = raw + 0.25 * (m.score - raw), m.rank + linear_row.RANK_GAIN * (slow - m.rank)
    if learn:
        m.score, m.rank = score, rank
    return score, rank
