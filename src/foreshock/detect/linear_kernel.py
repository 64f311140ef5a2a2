"""The sweep of `linear`: rows of entities in their order, score and only then learn.

All that a row costs is bounded: the maps are applied, covariances follow every fourth row once there are many, and one
feature's maps are fitted at most. Numbers are float32 where a body is concerned, in a fixed order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_layout import (
    BLOCK,
    CHANGES,
    COUNT,
    CROSS,
    CROSSES,
    FAST,
    FORECAST,
    FORECASTS,
    LAST,
    LEVEL,
    LEVELS,
    MEAN,
    ORDERS,
    PAST,
    RING,
    SHIFT,
    SLOW,
    SQUARE,
    UNIT,
    VARIANCE,
)
from foreshock.detect.linear_maps import change_units, dot, fit, learn_covariances, matrix_at, take_away, turn
from foreshock.state.jit import entry, inner
from foreshock.types import Status

f4 = np.float32

LARGEST_VALUE = 1e100
"""Finite values beyond it count as this, so that their squares stay finite."""
FARTHEST, CLIP = 30.0, f4(4.0)
"""Deviations count up to so many units as targets, and up to so many as inputs of maps."""
LEARNT = 1000.0
"""Deviations are learnt up to so many units: what moves rarely but far must not be far each time."""
FIRST_MOVE = 8.0
"""Units that the first move of a feature counts, which was constant until then."""
LEAST_UNIT, LEAST_RATIO = 1e-9, 1e-3
"""No unit is smaller, absolutely and as a share of |mean|."""
NEW_UNIT = 1.1
"""Units are renewed where they are off by this factor."""
MOST = f4(20.0)
"""Standardised residuals count up to this."""
LEAST_SCALE = f4(0.05)
"""No residual's scale is smaller, in units; half of it where a scale has come down."""
FAR, STEP_CLIP = f4(2.5), f4(3.0)
"""Scales of a residual: passed by one in a hundred rows; up to which its mean follows."""
UP, DOWN = f4(0.99), f4(-0.01)
"""Steps of a scale, in gains, when that is passed and when it is not: it stays where one in a hundred passes."""
ZERO, ONE, HALF = f4(0), f4(1), f4(0.5)
SHIFT_GAIN, FAST_GAIN, SLOW_GAIN = 0.0005, 0.015, 0.0005
HALF_LIFE = 20_000.0
MEMORY_GAIN = 0.6931471805599453 / HALF_LIFE
"""What a row of a minute counts for, in means, scales and covariances that are old enough."""
YOUNG, EARLY, TRACKED = f4(20.0), f4(4.0), f4(30.0)
"""Young gains, with k rows seen: `EARLY`/(k + `YOUNG`) of means and squares, `TRACKED`/(k + `YOUNG`) of scales."""
MANY = f4(16_000_000.0)
"""Rows and changes are counted up to here."""
RAMP = f4(512.0)
"""Rows over which a feature that is warm comes to count in full."""
SETTLED = f4(384.0)
"""Rows of a feature after which its scales leave the root mean square."""
LEVEL_GAIN = f4(0.022840034)
"""1 − .5^(1/30)."""
FIRST_FIT, MOST_SPACING = 128, 4096
"""Rows before the first fit; rows between fits, which double from there, at most (rows of a minute or more)."""
SPARING, WINDOW, EVERY = 4096, 256, 4
"""Rows after which covariances follow only one in `EVERY` windows of rows."""
TOP_OFF = 0.25
"""Share of the largest square that is left out of the pool that alarms: one feature alone should not."""
KEEP_SCORE, RANK_GAIN = 0.25, 0.12944943670387588
"""Smoothing over rows: .5^(1/.5) and 1 − .5^(1/5)."""
LEAST_TYPICAL = 0.01
USUAL, USUAL_ROWS = 10.0, 50
"""A pool is learnt as if it were at most so many times what is typical, from this row on."""
SECOND = 1_000_000_000
MINUTE = 60.0
GAP = 10.0
"""Mean intervals without a row after which rows before are not looked back at."""
INTERVAL_ROWS, INTERVAL_JUMP = 200, 5.0

SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)

_ORDERS = len(ORDERS)
_CROSS_AT = _ORDERS + len(FORECAST)


class Settings(NamedTuple):
    """What the sweep needs to know of the options."""

    warm_up_rows: int
    warm_up_seconds: float
    expiry: int
    forecast_ridge: np.float32
    cross_ridge: np.float32


class Given(NamedTuple):
    """The columns of a frame, contiguous, and from which row to which."""

    key: NDArray[np.int32]
    time: NDArray[np.int64]
    values: NDArray[np.float64]
    width: NDArray[np.int16]
    learn: NDArray[np.bool_]
    status: NDArray[np.uint8]


class Work(NamedTuple):
    """Scratch: a body's part of a row, each [64]; the last five of `fit`, float32[320] and [10·64·64].

    `value`, where it is missing the last one; `z` in units, `y` as inputs of maps; what the two maps and the slow level
    leave (`ahead`, `across`, `away`), which become standardised; whether a feature is there (`seen`) and counts
    (`live`), 1 or 0; `youth` 1/(rows + 20); others are named where they are used.
    """

    value: NDArray[np.float64]
    step: NDArray[np.float64]
    z: NDArray[np.float32]
    y: NDArray[np.float32]
    ahead: NDArray[np.float32]
    across: NDArray[np.float32]
    away: NDArray[np.float32]
    seen: NDArray[np.float32]
    live: NDArray[np.float32]
    youth: NDArray[np.float32]
    scale: NDArray[np.float32]
    slower: NDArray[np.float32]
    by_fast: NDArray[np.float32]
    by_slow: NDArray[np.float32]
    gain: NDArray[np.float32]
    ratio: NDArray[np.float32]
    x: NDArray[np.float32]
    r: NDArray[np.float32]
    p: NDArray[np.float32]
    q: NDArray[np.float32]
    turned: NDArray[np.float32]


class Out(NamedTuple):
    """What is filled in: score, rank float64[n], status uint8[n], contribution float32[n, D] or [n, 0]."""

    score: NDArray[np.float64]
    rank: NDArray[np.float64]
    status: NDArray[np.uint8]
    contribution: NDArray[np.float32]


@entry
def without_room(heads: NDArray[Any], given: Given, start: int) -> int:
    """The first row from `start` on that is to be learnt and has columns without a place; n if there is none."""
    for i in range(start, len(given.key)):
        if given.status[i] == SCORED and given.learn[i] and given.width[i] > heads[given.key[i]].room:
            for j in range(given.width[i]):
                if abs(given.values[i, j]) < np.inf:
                    return i
    return len(given.key)


@entry
def sweep(
    heads: NDArray[Any],
    bodies: Any,
    doubles: Any,
    given: Given,
    first: int,
    last: int,
    settings: Settings,
    work: Work,
    out: Out,
) -> None:
    """Judge and learn rows first ≤ i < last of a frame.

    Parameters
        heads            `HEAD` slots by key
        bodies, doubles  the tables of bodies by size as float32[slots, …], and the same memory as float64
        work             what is worked out on the way
    """
    for i in range(first, last):
        out.score[i], out.rank[i], out.status[i] = np.nan, np.nan, given.status[i]
        for j in range(out.contribution.shape[1]):
            out.contribution[i, j] = np.nan
        if given.status[i] != SCORED:
            continue
        values, width = given.values[i], int(given.width[i])
        if not _any_finite(values, width):
            out.status[i] = MISSING
            continue
        head, now = heads[given.key[i]], given.time[i]
        fresh = head.rows == 0 or now - head.time > settings.expiry
        warm = not fresh and head.rows >= settings.warm_up_rows and head.elapsed >= settings.warm_up_seconds
        if not warm:
            out.status[i] = WARMING_UP
        learn = given.learn[i]
        if head.room == 0 or (fresh and not learn):
            continue
        if fresh:
            start_afresh(head, bodies)
        cut = head.rows > 0 and (now - head.time) / SECOND > GAP * max(head.interval, 1e-9) and head.interval > 0.0
        if learn:
            _arrive(head, now, cut, bodies)
        _row(head, bodies, doubles, values, width, learn, cut, warm, settings, work, out, i)


@inner
def _any_finite(values: NDArray[np.float64], width: int) -> bool:
    there = False
    for j in range(width):
        there |= abs(values[j]) < np.inf
    return there


@inner
def start_afresh(head: Any, bodies: Any) -> None:
    """Forget what was learnt of a key; its bodies keep their places."""
    for k in range((head.room + BLOCK - 1) // BLOCK):
        bodies[head.size[k] - 1][head.slot[k]][:] = ZERO
    head.rows, head.width, head.cursor = 0, 0, -1
    head.next_fit, head.spacing = FIRST_FIT, FIRST_FIT
    head.interval, head.elapsed, head.score, head.rank = 0.0, 0.0, 0.0, 0.0
    head.typical[:] = 0.0


@inner
def _arrive(head: Any, now: int, cut: bool, bodies: Any) -> None:
    """Follow the time of a key; after a gap the rows before count as ordinary ones: zeros."""
    seconds = (now - head.time) / SECOND
    if head.rows == 0 or not seconds > 0.0:
        seconds = MINUTE
    elif head.interval == 0.0:
        head.interval = seconds
    else:
        seconds = min(seconds, INTERVAL_JUMP * head.interval)
        head.interval += (seconds - head.interval) / min(head.rows, INTERVAL_ROWS)
    head.elapsed += seconds
    head.time = now if head.rows == 0 else max(now, head.time)
    if cut:
        for k in range((head.room + BLOCK - 1) // BLOCK):
            body, b = bodies[head.size[k] - 1][head.slot[k]], 8 * int(head.size[k])
            body[PAST * b : (PAST + RING) * b] = ZERO


@inner
def _row(
    head: Any,
    bodies: Any,
    doubles: Any,
    values: NDArray[np.float64],
    width: int,
    learn: bool,
    cut: bool,
    warm: bool,
    settings: Settings,
    work: Work,
    out: Out,
    i: int,
) -> None:
    """One row of a key, body by body; then its pools."""
    width = min(width, head.room)
    if learn and width > head.width:
        if head.rows > 0:
            head.next_fit, head.spacing, head.cursor = head.rows + FIRST_FIT, FIRST_FIT, -1
        head.width = width
    pace = min(head.interval / MINUTE, 1.0) if head.interval > 0.0 else 1.0
    fitting = learn and head.cursor < 0 and head.rows + 1 >= head.next_fit
    if fitting:
        head.cursor = 0
    live = 0.0
    ahead, across, slow_ahead, slow_across, top_ahead, top_across = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range((head.width + BLOCK - 1) // BLOCK):
        b, slot, column = 8 * int(head.size[k]), head.slot[k], k * BLOCK
        body, double = bodies[head.size[k] - 1][slot], doubles[head.size[k] - 1][slot]
        n, part = min(head.width - column, b), values[min(column, width) : width]
        live += _look(body, double, b, part, min(settings.warm_up_rows, head.rows), work)
        _residuals(body, b, n, head.rows, cut, work)
        fast, slow, top = _pool(body, b, FORECASTS, work.ahead, pace, learn, work)
        ahead, slow_ahead, top_ahead = ahead + fast, slow_ahead + slow, max(top_ahead, top)
        fast, slow, top = _pool(body, b, CROSSES, work.across, pace, learn, work)
        across, slow_across, top_across = across + fast, slow_across + slow, max(top_across, top)
        _pool(body, b, LEVELS, work.away, pace, learn, work)
        if warm and out.contribution.shape[1]:
            _contribute(work, out.contribution[i, min(column, width) : width])
        if learn:
            _learn(head, body, double, b, n, part, pace, fitting, work)
    if learn and head.cursor >= 0:
        _fit_next(head, bodies, pace, settings, work)
    if live > 0.0:
        pools = (
            (ahead - TOP_OFF * top_ahead) / live, (across - TOP_OFF * top_across) / live,
            slow_ahead / live, slow_across / live,
        )  # fmt: skip
        _score(head, pools, pace, learn, cut, warm, out, i)
    elif warm:
        out.status[i] = WARMING_UP
    if learn:
        head.rows += 1


@inner
def _look(
    body: NDArray[np.float32],
    double: NDArray[np.float64],
    b: int,
    part: NDArray[np.float64],
    least: int,
    work: Work,
) -> float:
    """A body's part of the row in units, and how many features of it count; what is missing stays as it was.

    A feature counts from `least` rows on, and at first little, so that one that is new to an entity does not cry.
    """
    count, changes = body[COUNT * b : (COUNT + 1) * b], body[CHANGES * b : (CHANGES + 1) * b]
    last, mean = double[LAST * b : (LAST + 1) * b], double[MEAN * b : (MEAN + 1) * b]
    unit, x = double[UNIT * b : (UNIT + 1) * b], work.value[:b]
    z, y, seen, live, youth = work.z[:b], work.y[:b], work.seen[:b], work.live[:b], work.youth[:b]
    enough = f4(least)
    for j in range(b):
        x[j] = part[j] if j < len(part) else np.nan
    for j in range(b):
        seen[j] = ONE if abs(x[j]) < np.inf and count[j] > ZERO else ZERO
    for j in range(b):
        part_of = (count[j] - enough + ONE) / RAMP
        part_of = (part_of if part_of < ONE else ONE) if part_of > ZERO else ZERO
        live[j] = seen[j] * part_of
    for j in range(b):
        youth[j] = ONE / (count[j] + YOUNG)
    for j in range(b):
        held = x[j] if x[j] < LARGEST_VALUE else LARGEST_VALUE
        held = held if held > -LARGEST_VALUE else -LARGEST_VALUE
        x[j] = held if abs(x[j]) < np.inf else last[j]
    for j in range(b):
        move = 0.0 if x[j] == last[j] else (FIRST_MOVE if x[j] > last[j] else -FIRST_MOVE)
        away = (x[j] - mean[j]) / unit[j] if changes[j] > ZERO else move
        away = away if away < FARTHEST else FARTHEST
        away = away if away > -FARTHEST else -FARTHEST
        z[j] = away if count[j] > ZERO else 0.0
    for j in range(b):
        y[j] = (z[j] if z[j] < CLIP else CLIP) if z[j] > -CLIP else -CLIP
    return dot(live, seen)


@inner
def _residuals(body: NDArray[np.float32], b: int, n: int, row: int, cut: bool, work: Work) -> None:
    """What the maps and the slow level leave of a body's part of the row."""
    z, ahead, across, away = work.z[:b], work.ahead[:b], work.across[:b], work.away[:b]
    level = body[LEVEL * b : (LEVEL + 1) * b]
    for j in range(b):
        ahead[j], across[j], away[j] = z[j], z[j], z[j] - level[j]
    if not cut:
        for k in range(len(FORECAST)):
            start, place = matrix_at(b, _ORDERS + k), (PAST + (row - FORECAST[k]) % RING) * b
            take_away(ahead, body[start : start + b * b], body[place : place + b], n)
    for k in range(len(CROSS)):
        start, place = matrix_at(b, _CROSS_AT + k), (PAST + (row - CROSS[k]) % RING) * b
        if CROSS[k] == 0:
            take_away(across, body[start : start + b * b], work.y[:b], n)
        elif not cut:
            take_away(across, body[start : start + b * b], body[place : place + b], n)


@inner
def _pool(
    body: NDArray[np.float32], b: int, kind: int, residual: NDArray[np.float32], pace: float, learn: bool, work: Work
) -> tuple[float, float, float]:
    """Sums of squares of a body's standardised residuals, by fast and by slow scales, and the largest by fast ones.

    The residuals float32[≥ b] become standardised ones; their means and scales are learnt where `learn`. A scale is the
    .99 quantile of |residual| over 2.5, followed by multiplicative steps; the root mean square floors it.
    """
    shift, fast = body[(kind + SHIFT) * b : (kind + SHIFT + 1) * b], body[(kind + FAST) * b : (kind + FAST + 1) * b]
    square, slow = body[(kind + SQUARE) * b : (kind + SQUARE + 1) * b], body[(kind + SLOW) * b : (kind + SLOW + 1) * b]
    count, e, live = body[COUNT * b : (COUNT + 1) * b], residual[:b], work.live[:b]
    seen, youth = work.seen[:b], work.youth[:b]
    scale, slower, far, usual = work.scale[:b], work.slower[:b], work.by_fast[:b], work.by_slow[:b]
    # Loops that write one array each: of longer ones the compiler cannot tell that their arrays lie apart.
    for j in range(b):
        e[j] -= shift[j]
    for j in range(b):
        root = f4(math.sqrt(square[j]))
        floor = root if root > LEAST_SCALE else LEAST_SCALE
        least = HALF * (slow[j] if slow[j] > floor else floor)
        scale[j] = (fast[j] if fast[j] > least else least) if count[j] >= SETTLED else floor
    for j in range(b):
        root = f4(math.sqrt(square[j]))
        floor = root if root > LEAST_SCALE else LEAST_SCALE
        slower[j] = (slow[j] if slow[j] > HALF * floor else HALF * floor) if count[j] >= SETTLED else floor
    for j in range(b):
        by = abs(e[j]) / scale[j]
        by = by if by < MOST else MOST
        far[j] = live[j] * by * by
    for j in range(b):
        by = abs(e[j]) / slower[j]
        by = by if by < MOST else MOST
        usual[j] = live[j] * by * by
    if learn:
        gain_shift, gain_fast = f4(SHIFT_GAIN * pace), f4(FAST_GAIN * pace)
        gain_slow, gain_square = f4(SLOW_GAIN * pace), f4(MEMORY_GAIN * pace)
        for j in range(b):
            early, size, most = EARLY * youth[j], abs(e[j]), STEP_CLIP * scale[j]
            bounded = e[j] if size < most else (most if e[j] > ZERO else -most)
            shift[j] += seen[j] * (gain_shift if gain_shift > early else early) * bounded
        for j in range(b):
            early = EARLY * youth[j]
            gain = seen[j] * (gain_square if gain_square > early else early)
            square[j] += gain * (e[j] * e[j] - square[j])
        for j in range(b):
            tracked = TRACKED * youth[j]
            gain = seen[j] * (gain_fast if gain_fast > tracked else tracked)
            fast[j] = scale[j] * (ONE + (UP if abs(e[j]) > FAR * scale[j] else DOWN) * gain)
        for j in range(b):
            tracked = TRACKED * youth[j]
            gain = seen[j] * (gain_slow if gain_slow > tracked else tracked)
            slow[j] *= ONE + (UP if abs(e[j]) > FAR * slow[j] else DOWN) * gain
    # How far from its level a feature is must not shrink while an incident lasts: it is what names the feature.
    own = slower if kind == LEVELS else scale
    for j in range(b):
        e[j] /= own[j]
    return dot(far, seen), dot(usual, seen), _largest(far)


@inner
def _largest(x: NDArray[np.float32]) -> float:
    """The largest of numbers that are at least 0."""
    top = ZERO
    for j in range(len(x)):
        top = x[j] if x[j] > top else top
    return float(top)


@inner
def _contribute(work: Work, contribution: NDArray[np.float32]) -> None:
    """What each feature that counts has in a row's score: how far it is from its forecast and from its slow level."""
    for j in range(min(len(contribution), BLOCK)):
        if work.live[j] > 0:
            contribution[j] = min(abs(work.ahead[j]), MOST) + min(abs(work.away[j]), MOST)


@inner
def _learn(
    head: Any,
    body: NDArray[np.float32],
    double: NDArray[np.float64],
    b: int,
    n: int,
    part: NDArray[np.float64],
    pace: float,
    fitting: bool,
    work: Work,
) -> None:
    """Means, units, ring, level and covariances of a body."""
    y, level, row = work.y[:b], body[LEVEL * b : (LEVEL + 1) * b], head.rows
    past = body[(PAST + row % RING) * b : (PAST + row % RING + 1) * b]
    for j in range(b):
        past[j] = y[j]
        level[j] += LEVEL_GAIN * (work.z[j] - level[j])
    spared = row >= SPARING
    if not spared or row // WINDOW % EVERY == 0:
        # Rows that follow one another: a covariance at one lag must not be of other rows than one at the next.
        share = f4(EVERY if spared else 1)
        floor, most = f4(MEMORY_GAIN * pace) * share, f4(1)
        for j in range(b):
            gain = share / (body[COUNT * b + j] + ONE)
            gain = gain if gain > floor else floor
            work.gain[j] = gain if gain < most else most
        learn_covariances(body, b, n, row, work.gain[:b], y)
    if _learn_values(body, double, b, part, pace, fitting, work):
        change_units(body, b, n, work.ratio[:b])
        for j in range(n):
            ratio = work.ratio[j]
            level[j] *= ratio
            for kind in (FORECASTS, CROSSES, LEVELS):
                body[(kind + SHIFT) * b + j] *= ratio
                # A feature that spreads more than it did keeps its scales in units: they grow with it.
                if ratio > ONE:
                    body[(kind + FAST) * b + j] *= ratio
                    body[(kind + SQUARE) * b + j] *= ratio * ratio
                    body[(kind + SLOW) * b + j] *= ratio


@inner
def _learn_values(
    body: NDArray[np.float32],
    double: NDArray[np.float64],
    b: int,
    part: NDArray[np.float64],
    pace: float,
    fitting: bool,
    work: Work,
) -> bool:
    """Means and variances of a body's features; whether units are new, by `work.ratio`.

    Where something is to be decided a feature goes through `_learn_value`, all others in one loop.
    """
    changed = False
    ratio, x, plain = work.ratio[:b], work.value[:b], work.by_fast[:b]
    count, changes = body[COUNT * b : (COUNT + 1) * b], body[CHANGES * b : (CHANGES + 1) * b]
    last, mean = double[LAST * b : (LAST + 1) * b], double[MEAN * b : (MEAN + 1) * b]
    variance, unit = double[VARIANCE * b : (VARIANCE + 1) * b], double[UNIT * b : (UNIT + 1) * b]
    for j in range(b):
        ratio[j], plain[j] = ONE, ZERO
        if j < len(part) and abs(part[j]) < np.inf:
            whole = np.int64(count[j]) + 1
            if fitting or changes[j] == ZERO or whole & (whole - 1) == 0 or whole == SETTLED:
                ratio[j] = _learn_value(body, double, b, j, part[j], pace, fitting)
                changed |= ratio[j] != ONE
            else:
                plain[j] = ONE
    floor, gain = MEMORY_GAIN * pace, work.step[:b]
    for j in range(b):
        young = 1.0 / (count[j] + 1.0)
        gain[j] = plain[j] * (floor if floor > young else young)
    for j in range(b):
        most, d = LEARNT * unit[j], x[j] - mean[j]
        d = d if d < most else most
        d = d if d > -most else -most
        variance[j] = (1.0 - gain[j]) * (variance[j] + gain[j] * d * d)
    for j in range(b):
        most, d = LEARNT * unit[j], x[j] - mean[j]
        d = d if d < most else most
        d = d if d > -most else -most
        mean[j] += gain[j] * d
    for j in range(b):
        changes[j] += plain[j] if x[j] != last[j] and changes[j] < MANY else ZERO
    for j in range(b):
        count[j] += plain[j] if count[j] < MANY else ZERO
    for j in range(b):
        last[j] = x[j]
    return changed


@inner
def _learn_value(
    body: NDArray[np.float32], double: NDArray[np.float64], b: int, j: int, value: float, pace: float, fitting: bool
) -> np.float32:
    """Mean, variance and unit of a feature; by how much its numbers grow because its unit is a new one."""
    x = min(max(value, -LARGEST_VALUE), LARGEST_VALUE)
    count, unit, last = body[COUNT * b + j], double[UNIT * b + j], double[LAST * b + j]
    double[LAST * b + j] = x
    body[COUNT * b + j] = min(count + ONE, MANY)
    if count + ONE == SETTLED:
        for kind in (FORECASTS, CROSSES, LEVELS):
            body[(kind + SLOW) * b + j] = math.sqrt(body[(kind + SQUARE) * b + j])
            body[(kind + FAST) * b + j] = max(body[(kind + SLOW) * b + j], LEAST_SCALE)
    if count == 0:
        double[MEAN * b + j] = x
        double[UNIT * b + j] = max(LEAST_UNIT, LEAST_RATIO * abs(x))
        return ONE
    moved = x != last
    first = moved and body[CHANGES * b + j] == 0
    if moved:
        body[CHANGES * b + j] = min(body[CHANGES * b + j] + ONE, MANY)
    if first:
        unit = max(abs(x - last) / FIRST_MOVE, unit)
        double[VARIANCE * b + j] = unit * unit
        double[UNIT * b + j] = unit
        return ONE
    gain = max(MEMORY_GAIN * pace, 1.0 / (count + 1.0))
    d = min(max(x - double[MEAN * b + j], -LEARNT * unit), LEARNT * unit)
    double[MEAN * b + j] += gain * d
    double[VARIANCE * b + j] = (1.0 - gain) * (double[VARIANCE * b + j] + gain * d * d)
    whole = np.int64(count) + 1
    if body[CHANGES * b + j] == 0 or not (fitting or whole & (whole - 1) == 0):
        return ONE
    wanted = max(math.sqrt(double[VARIANCE * b + j]), LEAST_RATIO * abs(double[MEAN * b + j]))
    wanted = max(wanted, LEAST_UNIT)
    if wanted < unit * NEW_UNIT and unit < wanted * NEW_UNIT:
        return ONE
    double[UNIT * b + j] = wanted
    return f4(unit / wanted)


@inner
def _fit_next(head: Any, bodies: Any, pace: float, settings: Settings, work: Work) -> None:
    """Fit both maps of one feature; after the last one the next fit is set."""
    k, target = head.cursor // BLOCK, head.cursor % BLOCK
    body, b = bodies[head.size[k] - 1][head.slot[k]], 8 * int(head.size[k])
    n = min(head.width - k * BLOCK, b)
    turn(body, b, work.turned)
    fit(body, b, n, target, FORECAST, _ORDERS, settings.forecast_ridge, work)
    fit(body, b, n, target, CROSS, _CROSS_AT, settings.cross_ridge, work)
    head.cursor += 1
    if head.cursor >= head.width:
        head.cursor = -1
        head.spacing = min(2 * head.spacing, int(MOST_SPACING / max(pace, 1e-3)))
        head.next_fit = head.rows + head.spacing


@inner
def _score(
    head: Any,
    pools: tuple[float, float, float, float],
    pace: float,
    learn: bool,
    cut: bool,
    warm: bool,
    out: Out,
    i: int,
) -> None:
    """Both scores of a row: its pools in units of what is typical, smoothed over a few rows."""
    raw, slow = 0.0, 0.0
    gain = max(MEMORY_GAIN * pace, EARLY / (head.rows + YOUNG))
    for k in range(4):
        typical = max(head.typical[k], LEAST_TYPICAL)
        if k < 2:
            raw += pools[k] / typical
        else:
            slow += pools[k] / typical
        if learn:
            bounded = min(pools[k], USUAL * typical) if head.rows > USUAL_ROWS else pools[k]
            head.typical[k] += gain * (bounded - head.typical[k])
    score, rank = raw, slow
    if not cut:
        score += KEEP_SCORE * (head.score - raw)
        rank = head.rank + RANK_GAIN * (slow - head.rank)
    if learn:
        head.score, head.rank = score, rank
    if warm:
        out.score[i], out.rank[i] = score, rank
