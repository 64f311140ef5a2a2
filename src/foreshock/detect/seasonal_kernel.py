"""The compiled sweep of `seasonal`: row by row, score and only then learn (CONTRACTS §4).

Levels, scales and the season are those of `deviation`; the trend of the offset is added. It has a slow, obvious twin in
`tests/unit`, equal to it bit for bit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.deviation_near import (
    begin,
    clip,
    collect,
    elapsed,
    learn_change,
    learn_interval,
    learn_long,
    long_scale,
)
from foreshock.detect.deviation_row import (
    DAY,
    FIRST,
    FIRST_MOVE_MOST,
    FIRST_MOVE_ROWS,
    FIRST_MOVE_SCORE,
    MIN_CHANGE_SCORE,
    REACH,
    SEASON_CLIP,
)
from foreshock.detect.deviation_season import (
    DAY_NANOS,
    daily,
    learn_season,
    open_season,
    season_scale,
    slots_of,
    weekly,
)
from foreshock.detect.kernels import LARGEST_SCORE, LARGEST_VALUE
from foreshock.state.jit import entry, inner
from foreshock.types import Status

PRIOR_SCORE = REACH[3]
"""What the residual of a season rarely passes, in its scales."""
TREND_GAIN = 0.2
"""What a day's move of the offset adds to its trend."""
MINUTE = 60.0
"""Seconds that a row counts for the warm-up where its time does not tell."""

SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)


class Settings(NamedTuple):
    """What the sweep needs to know of the options."""

    warm_up_rows: int
    warm_up_seconds: float
    expiry: int
    min_change: float


@entry
def seasonal_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    settings: Settings,
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    band: NDArray[np.float64],
) -> None:
    """Distances from level, trend and season in the scale of what those leave, for rows of series in their order.

    Parameters
        rows          slots of `seasonal_row`
        key … status  the columns of a frame, each [n]
        score, given  out: float64[n], uint8[n]
        band          out: float64[3, n] expected, low, high; or float64[3, 0] where nobody asks for it
    """
    start = min(FIRST, settings.warm_up_rows)
    for i in range(len(key)):
        score[i], given[i] = np.nan, status[i]
        if band.shape[1]:
            band[0, i], band[1, i], band[2, i] = np.nan, np.nan, np.nan
        if status[i] != SCORED:
            continue
        if not abs(value[i]) < np.inf:
            given[i] = MISSING
            continue
        x = min(max(value[i], -LARGEST_VALUE), LARGEST_VALUE) + 0.0  # + 0.0: there is one zero, not two
        row, now = rows[np.uint32(key[i])], time[i]
        fresh = row.count == 0 or now - row.time > settings.expiry
        if fresh or row.count < start:
            given[i] = WARMING_UP
            if learn[i]:
                _early(row, x, now, start, fresh)
            continue
        past = elapsed(row, now)
        if row.count < settings.warm_up_rows or row.elapsed < settings.warm_up_seconds:
            given[i] = WARMING_UP
        else:
            center, scale = _expected(row, now, past)
            scale = max(scale, max(row.min_change, settings.min_change) / (MIN_CHANGE_SCORE * PRIOR_SCORE))
            score[i] = _score(row, x, center, scale)
            if band.shape[1]:
                low, high = center - PRIOR_SCORE * scale, center + PRIOR_SCORE * scale
                if row.least >= 0.0:  # what was never negative is not expected to be
                    center, low, high = max(center, 0.0), max(low, 0.0), max(high, 0.0)
                band[0, i], band[1, i], band[2, i] = center, low, high
        if learn[i]:
            _learn(row, x, now, past)


@inner
def _early(row: Any, x: float, now: int, start: int, fresh: bool) -> None:
    """Learn one of the first rows; a fresh slot may hold what was there before a gap."""
    if fresh:
        row.count = row.changed = 0
        row.change = row.interval = row.deviation = row.weight = 0.0
        for j in range(FIRST):
            row.first[j] = 0.0
        begin(row, x, now)
    else:
        collect(row, x, now, start)
    if row.count == start:
        _open(row)


@inner
def _open(row: Any) -> None:
    """Begin with the season, from nothing."""
    open_season(row)
    row.elapsed = row.trend = row.day_offset = 0.0
    row.day = -2


@inner
def _drift(row: Any, past: float) -> float:
    """How far the trend takes the offset in `past` seconds, a day at most."""
    return float(row.trend * (min(past, DAY) / DAY))


@inner
def _expected(row: Any, now: int, past: float) -> tuple[float, float]:
    """What a row should be, and the scale of what is left; the long level where the time of day is not known."""
    day = daily(row, now)
    if day != day:
        return row.level, long_scale(row)
    return row.offset + _drift(row, past) + day + weekly(row, now), season_scale(row, now)


@inner
def _score(row: Any, x: float, center: float, scale: float) -> float:
    """The residual in scales; the first move ever of a series has a score that goes by how long it stood."""
    found = abs(x - center) / scale
    if row.changed == 0:
        stood = min(row.count, FIRST_MOVE_MOST) / FIRST_MOVE_ROWS
        found = min(found, PRIOR_SCORE * FIRST_MOVE_SCORE * math.sqrt(math.sqrt(stood)))
    return min(found, LARGEST_SCORE)


@inner
def _learn(row: Any, x: float, now: int, past: float) -> None:
    if slots_of(row.interval) > 2 * row.slots:  # it sends more often than when it began
        _open(row)
    row.offset += _drift(row, past)
    learn_season(row, x, now, past)
    _learn_trend(row, now)
    learn_long(row, x, past)
    learn_change(row, abs(x - row.last))
    learn_interval(row, past)
    row.elapsed += past if past > 0.0 else MINUTE
    row.last, row.least, row.time = x, min(row.least, x), max(now, row.time)
    if row.count < 2147483647:
        row.count += 1


@inner
def _learn_trend(row: Any, now: int) -> None:
    """With a new day, learn how far the offset moved over the last; only once the day itself is known."""
    day = now // DAY_NANOS
    if day <= row.day or row.elapsed < 2.0 * DAY:
        return
    if day == row.day + 1:
        moved = clip(row.offset - row.day_offset, SEASON_CLIP * max(row.season_scale, 0.0))
        row.trend += TREND_GAIN * (moved - row.trend)
    row.day, row.day_offset = day, row.offset
