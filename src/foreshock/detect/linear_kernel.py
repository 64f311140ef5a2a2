"""The sweep of `linear`: rows of entities in their order, score and only then learn.

All that a row costs is bounded: the maps are applied, covariances follow one window of rows in four once there are
many, and one feature's maps are fitted at most. Numbers are float32 where a body is concerned, in a fixed order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_apart import close_hour, compare, depart
from foreshock.detect.linear_feature import fit_inputs, learn_values, look
from foreshock.detect.linear_layout import (
    BLOCK,
    COUNT,
    CROSS,
    CROSSES,
    EARLY,
    FORECAST,
    FORECASTS,
    LEVEL,
    MEMORY_GAIN,
    ONE,
    ORDERS,
    PAST,
    RING,
    YOUNG,
    ZERO,
    Work,
    f4,
)
from foreshock.detect.linear_maps import TOGETHER, change_units, fit, learn_covariances, matrix_at, take_away, turn
from foreshock.detect.linear_scale import MOST, pool, rescale, stray
from foreshock.state.jit import entry, inner
from foreshock.state.lanes import above, load, spread, store
from foreshock.types import Status

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
    """The columns of a frame, each contiguous and writable: one layout, one compiled kernel."""

    key: NDArray[np.int32]
    time: NDArray[np.int64]
    values: NDArray[np.float64]
    width: NDArray[np.int16]
    learn: NDArray[np.bool_]
    status: NDArray[np.uint8]


class Out(NamedTuple):
    """What is filled in: score, rank float64[n], status uint8[n], contribution float32[n, D] or [n, 0], apart
    float32[n, D], NaN until something is far apart."""

    score: NDArray[np.float64]
    rank: NDArray[np.float64]
    status: NDArray[np.uint8]
    contribution: NDArray[np.float32]
    apart: NDArray[np.float32]


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
    head.hours, head.hour_start, head.hour_rows = 0, 0, 0


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
    if learn and warm:
        close_hour(head, bodies)
    live = 0.0
    largest = second = ZERO
    ahead, across, slow_ahead, slow_across, top_ahead, top_across = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range((head.width + BLOCK - 1) // BLOCK):
        b, slot, column = 8 * int(head.size[k]), head.slot[k], k * BLOCK
        body, double = bodies[head.size[k] - 1][slot], doubles[head.size[k] - 1][slot]
        n, part = min(head.width - column, b), values[min(column, width) : width]
        alive, count = look(body, double, b, part, min(settings.warm_up_rows, head.rows), work)
        live, moved = live + alive, work.moved[:count]
        _residuals(body, b, head.rows, cut, moved, work)
        fast, slow, top = pool(body, b, FORECASTS, work.ahead, pace, learn, work)
        ahead, slow_ahead, top_ahead = ahead + fast, slow_ahead + slow, max(top_ahead, top)
        fast, slow, top = pool(body, b, CROSSES, work.across, pace, learn, work)
        across, slow_across, top_across = across + fast, slow_across + slow, max(top_across, top)
        stray(body, b, work.away, pace, learn, work)
        largest, second = depart(body, b, column, largest, second, cut, learn, work)
        if warm and out.contribution.shape[1]:
            _contribute(work, out.contribution[i, min(column, width) : width])
        if learn:
            _learn(head, body, double, b, n, part, pace, fitting, moved, work)
    if warm and not cut:
        compare(head, bodies, values[:width], settings.warm_up_rows, largest, second, learn, work, out.apart[i])
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
def _residuals(body: NDArray[np.float32], b: int, row: int, cut: bool, moved: NDArray[np.int64], work: Work) -> None:
    """What the maps and the slow level leave of a body's part of the row."""
    for j in range(0, b, 8):
        z = load(work.z, j)
        store(work.ahead, j, z)
        store(work.across, j, z)
        store(work.away, j, z - load(body, LEVEL * b + j))
    if not cut:
        for k in range(len(FORECAST)):
            place = (PAST + (row - FORECAST[k]) % RING) * b
            take_away(work.ahead, 0, body, matrix_at(b, _ORDERS + k), b, body, place, moved)
    for k in range(len(CROSS)):
        start, place = matrix_at(b, _CROSS_AT + k), (PAST + (row - CROSS[k]) % RING) * b
        if CROSS[k] == 0:
            take_away(work.across, 0, body, start, b, work.y, 0, moved)
        elif not cut:
            take_away(work.across, 0, body, start, b, body, place, moved)


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
    moved: NDArray[np.int64],
    work: Work,
) -> None:
    """Means, units, ring, level and covariances of a body."""
    row = head.rows
    place, level = (PAST + row % RING) * b, LEVEL * b
    for j in range(0, b, 8):
        store(body, place + j, load(work.y, j))
        before = load(body, level + j)
        store(body, level + j, before + spread(LEVEL_GAIN) * (load(work.z, j) - before))
    spared = row >= SPARING
    if row % TOGETHER == TOGETHER - 1 and (not spared or row // WINDOW % EVERY == 0):
        # Rows that follow one another: a covariance at one lag must not be of other rows than one at the next.
        share = f4(TOGETHER * (EVERY if spared else 1))
        floor, most = spread(f4(MEMORY_GAIN * pace) * share), spread(ONE)
        for j in range(0, b, 8):
            gain = spread(share) / (load(body, COUNT * b + j) + most)
            gain = above(gain, floor, gain, floor)
            store(work.gain, j, above(most, gain, gain, most))
        learn_covariances(body, b, row, work.gain, moved)
    if learn_values(body, double, b, part, pace, fitting, work):
        change_units(body, b, n, work.ratio[:b])
        for j in range(n):
            body[level + j] *= work.ratio[j]
            rescale(body, b, j, work.ratio[j])


@inner
def _fit_next(head: Any, bodies: Any, pace: float, settings: Settings, work: Work) -> None:
    """Fit both maps of one feature; after the last one the next fit is set."""
    k, target = head.cursor // BLOCK, head.cursor % BLOCK
    body, b = bodies[head.size[k] - 1][head.slot[k]], 8 * int(head.size[k])
    n = min(head.width - k * BLOCK, b)
    moved = work.moved[: fit_inputs(body, b, work)]
    turn(body, b, work.turned)
    fit(body, b, n, target, FORECAST, _ORDERS, settings.forecast_ridge, moved, work)
    fit(body, b, n, target, CROSS, _CROSS_AT, settings.cross_ridge, moved, work)
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
