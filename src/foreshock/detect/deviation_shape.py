"""The event channel of `deviation`: a memory of shapes, what lasts, and when it is an event (compiled).

A shape is a window of block means less half of their mean. How far the newest lies from the nearest that is
remembered, in long scales, is its novelty; a window is remembered as many blocks after it ended as it holds, so that
none is compared with a part of itself. What lasts is the mean logarithm of half an hour's scores against
that of four days.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.deviation_near import (
    clip,
    elapsed,
    faded,
    learn_change,
    learn_interval,
    learn_long,
    long_scale,
    memory,
    narrow,
)
from foreshock.detect.deviation_row import DAY, HOUR, SECOND
from foreshock.detect.histogram import LN2, bin_of, exp, ln, scale_weights, total_weight, upper_quantile
from foreshock.detect.kernels import LARGEST_VALUE
from foreshock.state.jit import entry, inner
from foreshock.types import Status

SCORED, WARMING_UP = int(Status.SCORED), int(Status.WARMING_UP)
HOUR_NANOS, DAY_NANOS = int(HOUR) * SECOND, int(DAY) * SECOND

SPANS = (3.0, 8.0, 24.0)
"""Windows, in hours."""
BLOCKS = (6, 8, 12)
"""Blocks of a window; one lasts an interval at least."""
OFFSETS = (0, 6, 14)
WIDTH = 26
"""Blocks of all windows, and where each window begins among them."""
SHAPES = 256
"""Shapes that are remembered of each span; the one that was longest not met goes."""
SAME = 0.1
"""Nearer than this to one that is remembered, a window is the same."""
LEVEL_SHARE = 0.5

NOVELTY_LOW, NOVELTY_PER, NOVELTY_SIZE = -6, 8, 96
NOVELTY_DAYS, NOVELTY_SHARE, NOVELTY_BLOCKS = 7.0, 0.05, 5.0
PRIOR = (0.21, 0.21, 0.21, 1.0)
LEAST = (0.3, 0.3, 0.3, 0.5)
"""The novelty of each span, and what lasts, are measured by what one hour in twenty reaches, half-life 7 days, and at
least by this."""
LASTING = 3
"""What lasts comes after the spans."""
NOW_SECONDS, NOW_ROWS, LONG_SECONDS = 1800.0, 3.0, 4 * DAY
LEAST_SCORE, SCORE_CLIP, LEAST_SPREAD = 0.05, 4.0, 1e-3
LASTING_ROWS = 50
"""Rows with a score before anything lasts."""

NOVELTY_UNIT, SCORE_UNIT, LASTING_UNIT, MARGIN_UNIT = 0.9, 1.05, 2.0, 1.1
AGAIN = 2.0
BEST, BEST_DAYS = 6, 90.0
"""An event reaches what one day fewer than these has passed; what the best days reached fades with this half-life."""
QUIET_ROWS, QUIET_SHARE, QUIET_MOST = 10, 0.06, 4 * DAY_NANOS
"""After an event nothing is told for so many rows, and so much of the time seen, but no longer than so many ns, unless
it grows `AGAIN` times."""

ROW = np.dtype([
    ("time", "i8"), ("first", "i8"), ("hour_start", "i8"), ("decayed", "i8"), ("until", "i8"), ("day_start", "i8"),
    ("scored", "i8"), ("block", "i8", (3,)),
    ("last", "f8"), ("change", "f8"), ("interval", "f8"), ("level", "f8"), ("deviation", "f8"), ("weight", "f8"),
    ("peak", "f8"), ("now", "f8"), ("mean", "f8"), ("variance", "f8"), ("mass", "f8"), ("day_top", "f8"),
    ("best", "f8", (BEST,)), ("sums", "f8", (3,)), ("recent", "f8", (2 * WIDTH,)),
    ("count", "i4"), ("changed", "i4"), ("quiet_rows", "i4"), ("scores", "i4"),
    ("block_rows", "i4", (3,)), ("blocks", "i4", (3,)), ("used", "i4", (3,)),
    ("top", "f4", (4,)), ("usual", "f4", (4,)), ("prior", "f4", (4,)), ("hist", "f4", (4, NOVELTY_SIZE)),
    ("met", "i4", (3, SHAPES)), ("shapes", "f4", (SHAPES * WIDTH,)),
])  # fmt: skip


@entry
def event_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    score: NDArray[np.float64],
    strength: NDArray[np.float64],
    expiry: int,
    event: NDArray[np.float64],
) -> None:
    """Events among rows of series in their order.

    Parameters
        rows          slots of `ROW`
        key … status  the columns of a frame, its status as the detector gave it, each [n]
        score         float64[n] of the detector, NaN where there is none
        strength      float64[n] ln(score / bar) of the rows, NaN where there is none
        expiry        ns without a learnt row after which a slot starts afresh
        event         out: float64[n], margin/(1 + margin) at an event, 0 at other rows, NaN at rows without a value

    Rows that are not learnt are no events: what is excluded is no news.
    """
    for i in range(len(key)):
        event[i] = np.nan
        if status[i] != SCORED and status[i] != WARMING_UP:
            continue
        event[i] = 0.0
        if not learn[i]:
            continue
        row, now = rows[np.uint32(key[i])], time[i]
        x = float(min(max(value[i], -LARGEST_VALUE), LARGEST_VALUE) + 0.0)
        if row.count == 0 or now - row.time > expiry:
            _begin(row, x, now)
            continue
        _learn(row, x, now)
        shape = _novelty(row, x, now) / NOVELTY_UNIT
        over = exp(strength[i]) / SCORE_UNIT if strength[i] == strength[i] else 0.0
        lasting = _lasting(row, score[i], now) / LASTING_UNIT if score[i] == score[i] else 0.0
        if now - row.hour_start >= HOUR_NANOS:
            _close_hour(row, now)
        margin = math.sqrt(shape * shape + over * over + lasting * lasting) / MARGIN_UNIT
        event[i] = _announce(row, _among_best(row, margin, now), now)


@inner
def _begin(row: Any, x: float, now: int) -> None:
    row.time = row.first = row.hour_start = row.decayed = now
    row.until, row.quiet_rows, row.peak = now, 0, 0.0
    row.day_start, row.day_top = now, 0.0
    row.scored = row.scores = 0
    row.now = row.mean = row.variance = row.mass = 0.0
    for j in range(BEST):
        row.best[j] = 0.0
    row.last = row.level = x
    row.change = row.interval = row.deviation = 0.0
    row.weight, row.count, row.changed = 1.0, 1, 0
    for k in range(3):
        row.block[k], row.sums[k], row.block_rows[k] = now, x, 1
        row.blocks[k] = row.used[k] = 0
    for k in range(4):
        row.top[k], row.usual[k], row.prior[k] = 0.0, LEAST[k], NOVELTY_BLOCKS
        for b in range(NOVELTY_SIZE):
            row.hist[k, b] = 0.0


@inner
def _learn(row: Any, x: float, now: int) -> None:
    past = elapsed(row, now)
    learn_long(row, x, past)
    learn_change(row, abs(x - row.last))
    learn_interval(row, past)
    row.last, row.time = x, max(now, row.time)
    if row.count < 2147483647:
        row.count += 1


@inner
def _novelty(row: Any, x: float, now: int) -> float:
    """Novelty of the windows that end with this row, in what is usual: 0 between the ends of blocks."""
    scale, total = long_scale(row), 0.0
    for k in range(3):
        share = _in_usual(row, k, _add(row, k, x, now, scale))
        total += share * share
    return math.sqrt(total / 3.0)


@inner
def _in_usual(row: Any, k: int, much: float) -> float:
    """A measure in what its hours usually reach; the hour's greatest is kept."""
    row.top[k] = max(np.float64(row.top[k]), narrow(much))
    return much / max(np.float64(row.usual[k]), LEAST[k])


@inner
def _lasting(row: Any, score: float, now: int) -> float:
    """How far the mean logarithm of the last half hour's scores lies above that of days, in spreads and what is usual.

    A single row moves it little, as its logarithm counts. The days learn a row as at most 4 spreads away.
    """
    size = ln(max(score, LEAST_SCORE))
    if row.scores == 0:
        row.now = row.mean = size
        row.mass, row.scores, row.scored = 1.0, 1, now
        return 0.0
    past = max(now - row.scored, 0) / SECOND
    row.scored, row.scores = max(now, row.scored), min(row.scores + 1, 2147483646)
    gain = min(1.0 - exp(-past / max(NOW_SECONDS, NOW_ROWS * row.interval)), 0.5)
    row.now += max(gain, 1.0 / row.scores) * (size - row.now)
    spread, surprise, above = max(math.sqrt(row.variance), LEAST_SPREAD), size - row.mean, 0.0
    if row.scores > LASTING_ROWS:
        above = max(row.now - row.mean, 0.0) / spread
        surprise = clip(surprise, SCORE_CLIP * spread)
    row.mass = faded(row.mass, memory(row, LONG_SECONDS), past)
    row.mean += surprise / row.mass
    row.variance += (surprise * surprise - row.variance) / row.mass
    return _in_usual(row, LASTING, above)


@inner
def _among_best(row: Any, margin: float, now: int) -> float:
    """The margin in what the last of the best days reached, where that is more than 1; a day that ends may join them.

    A fixed level is passed the more often the longer a series is known; the sixth best day is passed ever more rarely.
    """
    out = float(margin / max(row.best[BEST - 1], 1.0))
    row.day_top = max(row.day_top, margin)
    past = now - row.day_start
    if past >= DAY_NANOS:
        factor = exp(-LN2 * (past / DAY_NANOS) / BEST_DAYS)
        for j in range(BEST):
            row.best[j] *= factor
        at = BEST - 1
        if row.day_top > row.best[at]:
            while at > 0 and row.best[at - 1] < row.day_top:
                row.best[at] = row.best[at - 1]
                at -= 1
            row.best[at] = row.day_top
        row.day_start, row.day_top = now, 0.0
    return out


@inner
def _add(row: Any, k: int, x: float, now: int, scale: float) -> float:
    """Add a value to a span's block; where that ends the block before, the novelty of the window that ends there."""
    seconds = max(SPANS[k] * HOUR / BLOCKS[k], row.interval)
    distance = 0.0
    if now // int(seconds * SECOND) != row.block[k] // int(seconds * SECOND):
        first = 2 * OFFSETS[k]
        for j in range(2 * BLOCKS[k] - 1, 0, -1):
            row.recent[first + j] = row.recent[first + j - 1]
        row.recent[first] = row.sums[k] / row.block_rows[k]
        row.blocks[k] = min(row.blocks[k] + 1, 2147483646)
        if row.blocks[k] >= BLOCKS[k]:
            distance = _compare(row, k, scale)
        row.block[k], row.sums[k], row.block_rows[k] = now, 0.0, 0
    row.sums[k] += x
    row.block_rows[k] += 1
    return distance


@inner
def _middle(row: Any, first: int, width: int) -> float:
    total = 0.0
    for j in range(width):
        total += row.recent[first + j]
    return LEVEL_SHARE * total / width


@inner
def _nearest(row: Any, k: int, first: int) -> tuple[int, float]:
    """The shape nearest to the window that begins at `first` of the recent blocks, and its distance; −1 without any."""
    width, base = BLOCKS[k], SHAPES * OFFSETS[k]
    middle = _middle(row, first, width)
    best, least = -1, np.inf
    for m in range(row.used[k]):
        total = 0.0
        for j in range(width):
            total += abs(row.recent[first + j] - middle - np.float64(row.shapes[base + m * width + j]))
        if total < least:
            best, least = m, total
    return best, least / width


@inner
def _compare(row: Any, k: int, scale: float) -> float:
    """Novelty of the newest window; one that ended as many blocks ago as it holds is remembered."""
    width, base = BLOCKS[k], SHAPES * OFFSETS[k]
    best, least = _nearest(row, k, 2 * OFFSETS[k])
    distance = least / scale if best >= 0 else 0.0
    if row.blocks[k] >= 2 * width:
        first = 2 * OFFSETS[k] + width
        best, least = _nearest(row, k, first)
        if best < 0 or least > SAME * scale:
            best = row.used[k]
            if best < SHAPES:
                row.used[k] += 1
            else:
                best = 0
                for m in range(SHAPES):
                    if row.met[k, m] < row.met[k, best]:
                        best = m
            middle = _middle(row, first, width)
            for j in range(width):
                row.shapes[base + best * width + j] = narrow(row.recent[first + j] - middle)
        row.met[k, best] = row.blocks[k]
    return distance


@inner
def _close_hour(row: Any, now: int) -> None:
    """The hour's greatest novelties go into the histograms, and what is usual is found anew."""
    factor = exp(-LN2 * (max(now - row.decayed, 0) / DAY_NANOS) / NOVELTY_DAYS)
    for k in range(4):
        hist = row.hist[k]
        scale_weights(hist, factor)
        hist[bin_of(np.float64(row.top[k]), NOVELTY_LOW, NOVELTY_PER, NOVELTY_SIZE)] += 1.0
        seen = total_weight(hist)
        row.prior[k] = max(np.float64(row.prior[k]) * factor, NOVELTY_BLOCKS - seen)
        prior = np.float64(row.prior[k])
        tops = NOVELTY_SHARE * (seen + prior)
        row.usual[k] = upper_quantile(hist, NOVELTY_LOW, NOVELTY_PER, prior, PRIOR[k], tops)
        row.top[k] = 0.0
    row.hour_start, row.decayed = now, now


@inner
def _announce(row: Any, margin: float, now: int) -> float:
    """margin/(1 + margin) where it is an event, else 0; what is none leaves nothing behind."""
    quiet = now < row.until or row.quiet_rows > 0
    row.quiet_rows = max(row.quiet_rows - 1, 0)
    if margin < 1.0 or (quiet and margin <= AGAIN * row.peak):
        return 0.0
    row.peak = margin
    row.until = now + min(QUIET_MOST, int(QUIET_SHARE * (now - row.first)))
    row.quiet_rows = QUIET_ROWS
    return margin / (1.0 + margin)
