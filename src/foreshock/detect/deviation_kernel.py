"""The compiled sweeps of `deviation`: row by row, score and only then learn (CONTRACTS §4).

Deviations of a value x from centers c_k, in units d_k, with shares w_k, are one number: M² = Σ w_k·((x − c_k)/d_k)² /
√Σw_k. That is a parabola in x, so what M allows of a value is an interval, the band, and its middle what is expected.
Each sweep has a slow, obvious twin in `tests/unit`, equal to it bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.deviation_forecast import (
    fill_inputs,
    forecast_of,
    forecast_scale,
    learn_forecast,
    open_forecast,
    push_lag,
)
from foreshock.detect.deviation_near import (
    begin,
    collect,
    elapsed,
    learn_change,
    learn_interval,
    learn_long,
    learn_near,
    long_scale,
    near_scale,
    stretch,
)
from foreshock.detect.deviation_row import (
    BLOCK_ROWS,
    BURST,
    FIRST,
    FIRST_MOVE_KNOWN,
    FIRST_MOVE_MOST,
    FIRST_MOVE_ROWS,
    FIRST_MOVE_SCORE,
    FORECAST_WARM_UP,
    HOUR,
    MIN_CHANGE_SCORE,
    MOST_BURST,
    MOVED_SHARE,
    PRIOR_SCORE,
    RANK_CAP,
    RANK_MEAN_CAP,
    RANK_MEAN_GAIN,
    RANK_MEAN_SHARE,
    RANK_ROWS,
    RANK_SECONDS,
    RANK_SHARE,
    REACH,
    SECOND,
    SHARE,
    USUAL_GAIN,
    USUAL_PRIOR,
    USUAL_SHARE,
    YOUNG_MOVES,
    YOUNG_SHARE,
)
from foreshock.detect.deviation_season import (
    daily,
    learn_season,
    open_season,
    season_scale,
    slots_of,
    weekly,
)
from foreshock.detect.histogram import LN2, exp, ln
from foreshock.detect.kernels import LARGEST_SCORE, LARGEST_VALUE
from foreshock.state.jit import entry, inner
from foreshock.types import Status

SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)
HOUR_NANOS = int(HOUR) * SECOND
LEAST_USUAL = 0.5
"""The usual reach does not fall below this share of its prior."""
LIGHT_RANK_SHARE = (1.0, 0.0, 1.0)


@entry
def light_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    settings: tuple[int, int, float],
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    band: NDArray[np.float64],
    ranking: NDArray[np.float64],
) -> None:
    """Deviations from the quick, short and long level, for rows of series in their order.

    Parameters
        rows          slots of `light_row`
        key … status  the columns of a frame, each [n]
        settings      rows before a slot is scored, ns without a learnt row after which it starts afresh, and the least
                      change of all slots
        score, given  out: float64[n], uint8[n]
        band          out: float64[3, n] expected, low, high; or float64[3, 0] where nobody asks for it
        ranking       out: float64[n], or float64[0] where nobody asks for it
    """
    warm_up, expiry, least_change = settings
    start = min(FIRST, warm_up)
    for i in range(len(key)):
        _blank(i, status, score, given, band, ranking)
        row, now = rows[np.uint32(key[i])], time[i]
        x = _read(value[i], i, given)
        if given[i] != SCORED:
            continue
        fresh = row.count == 0 or now - row.time > expiry
        if fresh or row.count < start:
            given[i] = WARMING_UP
            if learn[i]:
                _early(row, x, now, start, fresh)
            continue
        past = elapsed(row, now)
        wide = stretch(row, past)
        least = _least_unit(row, least_change, 2.0)
        centers = (row.quick, row.short, row.level)
        units = (
            _unit(row, 0, near_scale(row, row.quick_scale) * wide, least),
            _unit(row, 1, near_scale(row, row.short_scale) * wide, least),
            _unit(row, 2, long_scale(row), least),
        )
        warm = row.count >= warm_up
        if not warm:
            given[i] = WARMING_UP
        else:
            score[i], began = _score(row, x, centers, units, _known_change(row, least_change), learn[i])
            _band(row, i, centers, units, began, band)
            _rank(row, i, past, _size(row, x, centers, units, LIGHT_RANK_SHARE), learn[i], ranking)
        if learn[i]:
            if warm:
                _learn_usual(row, x, now, centers, units)
            _learn(row, x, now, past, wide)


@entry
def full_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    settings: tuple[int, int, float],
    work: NDArray[np.float64],
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    band: NDArray[np.float64],
    ranking: NDArray[np.float64],
) -> None:
    """All five deviations, for rows of series in their order: as `light_sweep`, with slots of `full_row`.

    `work` float64[2, 10] is written to.
    """
    warm_up, expiry, least_change = settings
    start = min(FIRST, warm_up)
    for i in range(len(key)):
        _blank(i, status, score, given, band, ranking)
        row, now = rows[np.uint32(key[i])], time[i]
        x = _read(value[i], i, given)
        if given[i] != SCORED:
            continue
        fresh = row.count == 0 or now - row.time > expiry
        if fresh or row.count < start:
            given[i] = WARMING_UP
            if learn[i]:
                _early(row, x, now, start, fresh)
                if row.count == start:
                    _open(row)
            continue
        past = elapsed(row, now)
        wide = stretch(row, past)
        day = daily(row, now)
        season = row.offset + day + weekly(row, now) if day == day else np.nan
        linear = fill_inputs(row, season, work)
        forecast = forecast_of(row, linear, work)
        mass = 2.0 + (1.0 if day == day else 0.0) + (1.0 if row.forecasts > FORECAST_WARM_UP else 0.0)
        least = _least_unit(row, least_change, mass)
        centers = (row.quick, row.short, row.level, season if day == day else row.level, forecast)
        units = (
            _unit(row, 0, near_scale(row, row.quick_scale) * wide, least),
            _unit(row, 1, near_scale(row, row.short_scale) * wide, least),
            _unit(row, 2, long_scale(row), least),
            _unit(row, 3, season_scale(row, now), least) if day == day else np.inf,
            _unit(row, 4, forecast_scale(row) * wide, least) if row.forecasts > FORECAST_WARM_UP else np.inf,
        )
        warm = row.count >= warm_up
        if not warm:
            given[i] = WARMING_UP
        else:
            score[i], began = _score(row, x, centers, units, _known_change(row, least_change), learn[i])
            _band(row, i, centers, units, began, band)
            _rank(row, i, past, _size(row, x, centers, units, RANK_SHARE), learn[i], ranking)
        if learn[i]:
            if warm:
                _learn_usual(row, x, now, centers, units)
            if slots_of(row.interval) > 2 * row.slots:  # it sends more often than when it began
                open_season(row)
            learn_season(row, x, now, past)
            learn_forecast(row, x, linear, forecast, work)
            push_lag(row, x)
            _learn(row, x, now, past, wide)


@inner
def _blank(
    i: int,
    status: NDArray[np.uint8],
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    band: NDArray[np.float64],
    ranking: NDArray[np.float64],
) -> None:
    score[i], given[i] = np.nan, status[i]
    if band.shape[1]:
        band[0, i], band[1, i], band[2, i] = np.nan, np.nan, np.nan
    if len(ranking):
        ranking[i] = np.nan


@inner
def _read(value: float, i: int, given: NDArray[np.uint8]) -> float:
    """The value of a row, held within what can be squared; one that is no number is missing."""
    if given[i] == SCORED and not abs(value) < np.inf:
        given[i] = MISSING
    return float(min(max(value, -LARGEST_VALUE), LARGEST_VALUE) + 0.0)  # + 0.0: there is one zero, not two


@inner
def _early(row: Any, x: float, now: int, start: int, fresh: bool) -> None:
    """Learn one of the first rows; a fresh slot may hold what was there before a gap."""
    if fresh:
        row.count = row.changed = row.block_rows = row.blocks = row.away = row.before = 0
        row.change = row.interval = row.deviation = row.weight = 0.0
        row.high = row.mean = row.burst = 0.0
        row.block_start = 0
        for j in range(FIRST):
            row.first[j] = 0.0
        begin(row, x, now)
    else:
        collect(row, x, now, start)
    if row.count == start:
        for k in range(len(row.usual)):
            row.top[k], row.usual[k] = 0.0, USUAL_PRIOR * REACH[k]


@inner
def _open(row: Any) -> None:
    """Begin with season and forecast: the first rows are their lags."""
    open_season(row)
    open_forecast(row)
    for j in range(len(row.lags)):
        row.lags[j] = row.last


@inner
def _learn(row: Any, x: float, now: int, past: float, wide: float) -> None:
    learn_near(row, x, row.count, wide)
    learn_long(row, x, past)
    learn_change(row, abs(x - row.last))
    learn_interval(row, past)
    row.last, row.least, row.time = x, min(row.least, x), max(now, row.time)
    if row.count < 2147483647:
        row.count += 1


@inner
def _least_unit(row: Any, least_change: float, mass: float) -> float:
    """The unit with which a change of the least size worth an alert scores `MIN_CHANGE_SCORE`, if all agree.

    In the first hour that is a share of the level at least: how far it wanders is not known yet.
    """
    young = YOUNG_SHARE * max(1.0 - row.count * row.interval / HOUR, 0.0) * abs(row.level)
    return float(max(_known_change(row, least_change), young) * math.sqrt(math.sqrt(mass)) / MIN_CHANGE_SCORE)


@inner
def _known_change(row: Any, least_change: float) -> float:
    """The least change that is worth an alert, as somebody has set it; 0 where nobody has."""
    return float(max(row.min_change, least_change))


@inner
def _reach(row: Any, k: int) -> float:
    """What a deviation usually reaches, in its scales."""
    return float(max(REACH[k], np.float64(row.usual[k])))


@inner
def _unit(row: Any, k: int, scale: float, least: float) -> float:
    return float(max(scale * _reach(row, k), least))


@inner
def _mass(units: Any) -> float:
    mass = 0.0
    for k in range(len(units)):
        mass += SHARE[k] if units[k] < np.inf else 0.0
    return mass


@inner
def _score(row: Any, x: float, centers: Any, units: Any, known: float, learn: bool) -> tuple[float, bool]:
    """M of a value, and whether it is one of a burst; the first moves of a series have a score of their own."""
    total = 0.0
    for k in range(len(units)):
        part = (x - centers[k]) / units[k]
        total += SHARE[k] * (part * part)
    score = math.sqrt(total / math.sqrt(_mass(units)))
    burst = 0.0
    if row.changed < YOUNG_MOVES:
        score, burst = _first_moves(row, score, known, learn), _burst(row, x, known, learn)
    return min(max(score, burst), LARGEST_SCORE), burst > max(score, PRIOR_SCORE)


@inner
def _first_moves(row: Any, score: float, known: float, learn: bool) -> float:
    """M of a young series: at most what a first move scores after so many rows, times the rows that it lasts.

    More where it is known which change matters.
    """
    away = row.away + 1 if score > PRIOR_SCORE else 0
    rows = min(row.count, FIRST_MOVE_MOST) / FIRST_MOVE_ROWS
    most = (FIRST_MOVE_KNOWN if known > 0.0 else FIRST_MOVE_SCORE) * math.sqrt(math.sqrt(rows)) * max(away, 1)
    if learn:
        row.away = min(away, FIRST_MOVE_MOST)
    return float(min(score, most))


@inner
def _burst(row: Any, x: float, known: float, learn: bool) -> float:
    """How sure it is that something began in a series that stood at zero: a CUSUM of the rows that are not (Page 1954).

    Each such row adds the logarithm of how much likelier it is when half of the rows are, than it was before; others
    take ln 2 away.
    """
    if abs(row.level) > MOVED_SHARE * row.change:
        return 0.0
    burst: Any = np.float64(row.burst)
    goes_on = burst > 0.0  # one row is no burst
    before, moved = row.before, abs(x) > max(MOVED_SHARE * row.change, known)
    if moved:
        before = before if goes_on else row.changed
        burst += ln(0.5 * (min(row.count, FIRST_MOVE_MOST) + 1.0) / (1.0 + 0.5 * before))
    else:
        burst = max(burst - LN2, 0.0)
    if learn:
        row.burst, row.before = min(burst, MOST_BURST), before
    return float(burst / BURST) if moved and goes_on else 0.0


@inner
def _band(row: Any, i: int, centers: Any, units: Any, began: bool, band: NDArray[np.float64]) -> None:
    """What scores at most `PRIOR_SCORE`, and its middle; what was never negative is not expected to be.

    Where something `began` in what stood at zero, zero is expected.
    """
    if not band.shape[1]:
        return
    if began:
        band[0, i], band[1, i], band[2, i] = 0.0, 0.0, 0.0
        return
    precision, moment, spread = 0.0, 0.0, 0.0
    for k in range(len(units)):
        weight = SHARE[k] / (units[k] * units[k])
        beside = centers[k] - centers[0]
        precision += weight
        moment += weight * beside
        spread += weight * beside * beside
    middle = moment / precision
    room = PRIOR_SCORE * PRIOR_SCORE * math.sqrt(_mass(units)) - (spread - moment * middle)
    half = math.sqrt(max(room, 0.0) / precision)
    expected = centers[0] + middle
    low, high = expected - half, expected + half
    if row.least >= 0.0:
        expected, low, high = max(expected, 0.0), max(low, 0.0), max(high, 0.0)
    band[0, i], band[1, i], band[2, i] = expected, low, high


@inner
def _size(row: Any, x: float, centers: Any, units: Any, shares: Any) -> float:
    """The mean deviation for the ranking, in scales, each at most `RANK_CAP`."""
    total, mass = 0.0, 0.0
    for k in range(len(units)):
        if units[k] < np.inf:
            z = min(abs(x - centers[k]) / units[k] * _reach(row, k), RANK_CAP)
            total += shares[k] * (z * z)
            mass += shares[k]
    return math.sqrt(total / mass)


@inner
def _rank(row: Any, i: int, past: float, size: float, learn: bool, ranking: NDArray[np.float64]) -> None:
    """The ranking: a maximum that fades, and a mean."""
    halves = max(1.0 / RANK_ROWS, past / RANK_SECONDS) * LN2
    keep = 1.0 / (1.0 + halves * (1.0 + halves * (0.5 + halves / 6.0)))
    high = max(size, np.float64(row.high) * keep)
    mean = np.float64(row.mean) + RANK_MEAN_GAIN * (min(size, RANK_MEAN_CAP) - np.float64(row.mean))
    if len(ranking):
        ranking[i] = high + RANK_MEAN_SHARE * mean
    if learn:
        row.high, row.mean = high, mean


@inner
def _learn_usual(row: Any, x: float, now: int, centers: Any, units: Any) -> None:
    """Learn how far each deviation reached: an hour of ten rows at least is a block, its maximum moves the usual."""
    if row.block_rows >= BLOCK_ROWS and now - row.block_start >= HOUR_NANOS:
        row.blocks += 1
        gain = max(USUAL_GAIN, 1.0 / row.blocks)
        above, below = exp(gain * USUAL_SHARE), exp(-gain * (1.0 - USUAL_SHARE))
        for k in range(len(units)):
            usual = np.float64(row.usual[k]) * (above if row.top[k] > row.usual[k] else below)
            row.usual[k], row.top[k] = max(usual, LEAST_USUAL * USUAL_PRIOR * REACH[k]), 0.0
        row.block_rows = 0
    if row.block_rows == 0:
        row.block_start = now
    row.block_rows += 1
    for k in range(len(units)):
        if units[k] < np.inf:
            reached = abs(x - centers[k]) / units[k] * _reach(row, k)
            row.top[k] = max(np.float64(row.top[k]), min(reached, LARGEST_SCORE))
