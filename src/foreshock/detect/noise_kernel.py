"""The compiled sweep of `noise`: row by row, score and only then learn (CONTRACTS §4).

The texture of a series is how far a row lies from the median of the three before it: a trend hardly shows in that, a
spike in one row, a step in two. Each such residual is measured in a scale of its own series and time of day, counts as
at most six of them, and goes into two short means. What the logarithm of a mean reaches beside its usual level is the
score. The sweep has a slow, obvious twin in `tests/unit`, equal to it bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.histogram import exp, ln
from foreshock.detect.kernels import LARGEST_SCORE, LARGEST_VALUE, LEAST_SCALE
from foreshock.state.jit import entry, inner
from foreshock.types import Status

SECOND = 1_000_000_000
DAY, HOUR = 86_400 * SECOND, 3600 * SECOND
SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)

SPANS = 2
SHORT_GAIN, LONG_GAIN = 2.0 / 9.0, 2.0 / 25.0
"""The means remember 8 and 24 rows."""
CLIP = 6.0
"""A residual counts as at most so many scales: a spike is not noise."""
LEAST_MEAN = 0.1
"""Added to both means before they are divided: where next to nothing moves, a little more is not much. The least
change worth an alarm, where that is more."""
MEMORY_SECONDS, MEMORY_ROWS = 2 * 86400.0, 200.0
"""What scale and usual mean remember, and how many rows at least."""
INTERVAL_ROWS, INTERVAL_JUMP = 200.0, 5.0
NEAR, FAR = 0.4, 2.5
"""Rows that are closer or further apart than these shares of the mean interval have no residual."""
OTHER_STEP = 2.0
"""A series whose interval has changed by this factor has another texture, and starts afresh."""
LAGS = 3
HOURS, HOUR_VISITS, HOUR_GAIN, HOUR_ROWS = 24, 2, 0.3, 10.0
"""The hours of the day; visits before one is used; what a visit of ten rows at least adds."""
LEAST_FACTOR, MOST_FACTOR = 0.2, 5.0
REACH = (0.7, 0.4)
"""What the logarithm of the short and the long mean rarely passes."""
USUAL_SHARE, USUAL_GAIN, LEAST_USUAL = 0.95, 0.1, 0.5
BLOCK_ROWS = 10
YOUNG_ROWS = 40.0
"""After so many rows what is known of the usual counts half."""
LIVE_MOVES, LEAST_LIFE = 0.2, 0.002
"""A series that moves in a smaller share of rows counts for so much less."""
QUIET = 0.5
"""How much a quieter texture counts beside a noisier one."""

ROW = np.dtype([
    ("time", "i8"), ("first", "i8"), ("block_start", "i8"), ("lag", "f8", (LAGS,)),
    ("scale", "f8"), ("mean", "f8"), ("moved", "f8"), ("interval", "f8"), ("step", "f8"), ("min_change", "f8"),
    ("texture", "f8", (SPANS,)), ("hour_sum", "f8"),
    ("count", "i4"), ("lags", "i4"), ("block_rows", "i4"), ("blocks", "i4"), ("hour", "i4"), ("hour_rows", "i4"),
    ("top", "f4", (2 * SPANS,)), ("usual", "f4", (2 * SPANS,)), ("factor", "f4", (HOURS,)), ("visits", "u1", (HOURS,)),
])  # fmt: skip
"""A slot: `lag` the last values, newest first; `scale` of residuals that are not 0; `mean` the usual mean; `moved` the
share of rows with a residual; `step` the interval that all this was learnt at; `texture` the short means; `top` and
`usual` what the logarithm reached in this hour and usually does: noisier by span, then quieter; `factor` of the scale
by hour of the day."""


@entry
def noise_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    settings: tuple[int, int, int, float],
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    measured: NDArray[np.float64],
) -> None:
    """How much noisier or quieter a series is than usual, in what that usually reaches, for rows in their order.

    Parameters
        rows          slots of `ROW`
        key … status  the columns of a frame, each [n]
        settings      rows before a slot is scored; ns without a learnt row after which it starts afresh; ns for which
                      a series is young, in which quiet says nothing; the least change of all slots
        score, given  out: float64[n], uint8[n]
        measured      out: float64[2, n] texture ÷ usual texture, and what that rarely passes; or float64[2, 0]
    """
    warm_up, expiry, young, least_change = settings
    for i in range(len(key)):
        score[i], given[i] = np.nan, status[i]
        if measured.shape[1]:
            measured[0, i], measured[1, i] = np.nan, np.nan
        if status[i] != SCORED:
            continue
        if not abs(value[i]) < np.inf:
            given[i] = MISSING
            continue
        x = min(max(value[i], -LARGEST_VALUE), LARGEST_VALUE) + 0.0  # + 0.0: there is one zero, not two
        row, now = rows[np.uint32(key[i])], time[i]
        fresh = row.count == 0 or now - row.time > expiry or _other_step(row)
        past = 0.0 if fresh else max(now - row.time, 0) / SECOND
        apart = not fresh and _apart(row, past)
        least_unit = max(row.min_change, least_change, LEAST_SCALE)
        least = max(LEAST_MEAN, least_unit / max(row.scale, least_unit)) if row.scale > 0.0 else LEAST_MEAN
        moved, part = 0.0, 0.0
        if not fresh and not apart and row.lags == LAGS:
            residual = abs(x - _middle(row.lag[0], row.lag[1], row.lag[2]))
            unit = max(row.scale * _factor(row, now), least_unit)
            moved, part = (1.0 if residual > 0.0 else 0.0), min(residual / unit, CLIP)
        used = not fresh and not apart and row.lags == LAGS
        short, long = row.texture[0], row.texture[1]
        if used:
            short += SHORT_GAIN * (part - short)
            long += LONG_GAIN * (part - long)
        warm = not fresh and row.count >= warm_up
        if not warm:
            given[i] = WARMING_UP
        else:
            quiet = QUIET if now - row.first >= young else 0.0
            score[i] = _score(row, short, long, quiet, least)
            if measured.shape[1]:
                _measure(row, i, short, long, quiet, least, measured)
        if learn[i]:
            if fresh:
                _begin(row, x, now)
                continue
            if used:
                if warm:
                    _learn_usual(row, now, short, long, least)
                _learn_texture(row, now, x, moved, part, short, long)
            _learn_row(row, x, now, past, apart)


@inner
def _middle(a: float, b: float, c: float) -> float:
    """The median of three."""
    return float(max(min(a, b), min(max(a, b), c)))


@inner
def _other_step(row: Any) -> bool:
    """Whether rows have come to follow one another at another pace than what was learnt."""
    return bool(row.step > 0.0 and (row.interval > OTHER_STEP * row.step or row.step > OTHER_STEP * row.interval))


@inner
def _apart(row: Any, past: float) -> bool:
    """Whether a row does not follow the one before it at the usual pace."""
    return bool(row.interval > 0.0 and (past > FAR * row.interval or past < NEAR * row.interval))


@inner
def _factor(row: Any, now: int) -> float:
    """What the time of day makes of the scale: joined by a line from the middle of an hour to that of the next."""
    place = (now % DAY) / HOUR
    hour = min(int(place), HOURS - 1)
    beside = place - hour - 0.5
    other = (hour + (1 if beside > 0.0 else HOURS - 1)) % HOURS
    here = _hour_factor(row, hour)
    return here + abs(beside) * (_hour_factor(row, other) - here)


@inner
def _hour_factor(row: Any, hour: int) -> float:
    return np.float64(row.factor[hour]) if row.visits[hour] >= HOUR_VISITS else 1.0


@inner
def _departure(row: Any, texture: float, least: float) -> float:
    """ln(texture / usual), above 0 where it is noisier; less where a series rarely moves at all."""
    life = min((row.moved + LEAST_LIFE) / LIVE_MOVES, 1.0)
    return float(life * ln((texture + least) / (row.mean + least)))


@inner
def _reach(row: Any, k: int) -> float:
    """What a departure usually reaches: of span k noisier, of span k − `SPANS` quieter."""
    reach = max(np.float64(row.usual[k]), LEAST_USUAL * REACH[k % SPANS])
    return float(reach * (1.0 + YOUNG_ROWS / row.count))


@inner
def _largest(row: Any, short: float, long: float, quiet: float, least: float) -> tuple[float, int]:
    """The largest departure ÷ reach, 0 at least, and which of the four it is."""
    a, b = _departure(row, short, least), _departure(row, long, least)
    largest, which = 0.0, 0
    for k in range(2 * SPANS):
        departure = a if k % SPANS == 0 else b
        part = (departure if k < SPANS else -quiet * departure) / _reach(row, k)
        if part > largest:
            largest, which = part, k
    return largest, which


@inner
def _score(row: Any, short: float, long: float, quiet: float, least: float) -> float:
    """Squared: a logarithm has thin tails, and bars are made for thick ones."""
    largest, _ = _largest(row, short, long, quiet, least)
    return float(min(largest * largest, LARGEST_SCORE))


@inner
def _measure(
    row: Any, i: int, short: float, long: float, quiet: float, least: float, measured: NDArray[np.float64]
) -> None:
    _, which = _largest(row, short, long, quiet, least)
    texture = short if which % SPANS == 0 else long
    measured[0, i] = (texture + least) / (row.mean + least)
    measured[1, i] = exp(_reach(row, which % SPANS))


@inner
def _begin(row: Any, x: float, now: int) -> None:
    row.time = row.first = now
    row.block_start = 0
    row.lag[0], row.lag[1], row.lag[2] = x, 0.0, 0.0
    row.scale = row.mean = row.moved = row.interval = row.step = row.hour_sum = 0.0
    row.texture[0] = row.texture[1] = 0.0
    row.count, row.lags, row.block_rows, row.blocks, row.hour, row.hour_rows = 1, 1, 0, 0, -1, 0
    for k in range(2 * SPANS):
        row.top[k], row.usual[k] = 0.0, REACH[k % SPANS]
    for hour in range(HOURS):
        row.factor[hour], row.visits[hour] = 1.0, 0


@inner
def _learn_row(row: Any, x: float, now: int, past: float, apart: bool) -> None:
    """Learn the value itself and the pace of rows; where a row does not follow at that pace, lags begin anew."""
    if past > 0.0:
        if row.interval == 0.0:
            row.interval = past
        else:
            past = min(past, INTERVAL_JUMP * row.interval)
            row.interval += (past - row.interval) / min(float(row.count), INTERVAL_ROWS)
    row.lag[2], row.lag[1], row.lag[0] = row.lag[1], row.lag[0], x
    row.lags = 1 if apart else min(row.lags + 1, LAGS)
    row.time = max(now, row.time)
    if row.count < 2147483647:
        row.count += 1
    if row.count == INTERVAL_ROWS:
        row.step = row.interval


@inner
def _learn_texture(row: Any, now: int, x: float, moved: float, part: float, short: float, long: float) -> None:
    """Learn the scale, which is where bounded residuals that are not 0 have the mean 1, and what is usual."""
    row.texture[0], row.texture[1] = short, long
    most = MEMORY_ROWS
    if row.interval > 0.0:
        most = max(MEMORY_SECONDS / row.interval, MEMORY_ROWS)
    weight = min(row.count - float(LAGS) + 1.0, most)
    weight = max(weight, 1.0)
    if moved > 0.0:
        if row.scale == 0.0:
            row.scale = max(abs(x - _middle(row.lag[0], row.lag[1], row.lag[2])), LEAST_SCALE)
            part = 1.0
        else:
            row.scale = max(row.scale * (1.0 + (part - 1.0) / (weight + 1.0)), LEAST_SCALE)
    row.mean += (part - row.mean) / weight
    row.moved += (moved - row.moved) / weight
    hour = now // HOUR % HOURS
    if hour != row.hour:
        _close_hour(row)
        row.hour, row.hour_sum, row.hour_rows = hour, 0.0, 0
    row.hour_sum += part
    row.hour_rows += 1


@inner
def _close_hour(row: Any) -> None:
    """A visit of an hour of the day ends: its mean beside the usual one moves the hour's factor."""
    if row.hour < 0 or row.hour_rows == 0:
        return
    visits, at = int(row.visits[row.hour]), row.hour
    ratio = (row.hour_sum / row.hour_rows + LEAST_MEAN) / (row.mean + LEAST_MEAN)
    gain = max(HOUR_GAIN, 1.0 / (visits + 1.0)) * min(row.hour_rows / HOUR_ROWS, 1.0)
    factor = np.float64(row.factor[at]) * (1.0 + gain * (ratio - 1.0))
    row.factor[at] = min(max(factor, LEAST_FACTOR), MOST_FACTOR)
    row.visits[at] = min(visits + 1, 255)


@inner
def _learn_usual(row: Any, now: int, short: float, long: float, least: float) -> None:
    """Learn how far departures reach: an hour of ten rows at least is a block, its maximum moves the usual."""
    if row.block_rows >= BLOCK_ROWS and now - row.block_start >= HOUR:
        row.blocks += 1
        gain = max(USUAL_GAIN, 1.0 / row.blocks)
        above, below = exp(gain * USUAL_SHARE), exp(-gain * (1.0 - USUAL_SHARE))
        for k in range(2 * SPANS):
            usual = np.float64(row.usual[k]) * (above if row.top[k] > row.usual[k] else below)
            row.usual[k], row.top[k] = max(usual, LEAST_USUAL * REACH[k % SPANS]), 0.0
        row.block_rows = 0
    if row.block_rows == 0:
        row.block_start = now
    row.block_rows += 1
    a, b = _departure(row, short, least), _departure(row, long, least)
    row.top[0], row.top[1] = max(np.float64(row.top[0]), a), max(np.float64(row.top[1]), b)
    row.top[2], row.top[3] = max(np.float64(row.top[2]), -a), max(np.float64(row.top[3]), -b)
