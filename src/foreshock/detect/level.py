"""A bar for pooled scores: the level follows the root of what its hours reach, and rises with each notification.

The maxima of a sum of squares over many features are far more uneven than those of one series, and the two-sided bar
of `bar` either cries or falls deaf on them. This one is drawn towards a level common to all keys, which holds from the
first day, and leaves it to the notifications themselves to say where that is too low.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.bar import (
    BLOCK_ROWS,
    DAY,
    HOUR,
    LEAST_STRENGTH,
    PRIOR_BLOCKS,
    SCORED,
    TALLY_DAYS,
    WARMING_UP,
    Bar,
    BarOptions,
    arrive,
    log_rate,
)
from foreshock.detect.histogram import LN2, bin_of, exp, ln, scale_weights, total_weight, upper_quantile
from foreshock.state import SlotTable
from foreshock.state.jit import entry, inner

SIZE, LOW, PER = 80, -2, 6
"""Block maxima in units of the prior score: 2^-2 … and beyond."""
MEMORY_DAYS = 30.0
SHARE = 0.03
"""Of hours that reach higher than what the level is made of."""
LEAST_REACH = 0.25
"""A key's hours count as if they reached this share of the prior score at least."""
SPAN = 2.0
"""The level over the root of prior score × what hours reach: between the two, and above either."""
LIFT = 0.15
"""What a notification adds to the logarithm of the level."""
LIFT_ROWS, LIFT_DAYS = 3600.0, 2.5
"""After so many rows, and at least so many days, half of it is left."""
HOLD_ROWS = 20
"""Rows for which an alarm lasts at most while the score is above the level without what it added."""

ROW = np.dtype([
    ("last", "i8"), ("block_start", "i8"), ("decayed", "i8"), ("alarm", "i8"), ("lifted", "i8"),
    ("interval", "f8"), ("block_max", "f8"), ("level", "f8"), ("lift", "f8"),
    ("prior", "f4"), ("rows", "i4"), ("block_rows", "i4"), ("since", "i4"), ("held", "i4"), ("day", "i4"),
    ("tops", "f4", (SIZE,)),
])  # fmt: skip
"""A slot: `level` without lift, a score (0: none yet); `lift` the logarithm added to it at `lifted`; `held` rows that
the alarm may still last."""


class Level(Bar):
    """Pooled scores → strength and anomalous, as `Bar` gives them.

    A key is anomalous from its level times e^lift on, and goes on being so for a few rows while above the level itself.
    """

    def __init__(self, prior_score: float, budget_per_day: float, options: BarOptions | None = None) -> None:
        super().__init__(prior_score, budget_per_day, options)
        self.table = SlotTable(ROW, {"day": np.iinfo(np.int32).min, "prior": PRIOR_BLOCKS})

    def step(
        self,
        key: NDArray[np.int32],
        time_unix_nano: NDArray[np.int64],
        score: NDArray[np.float64],
        status: NDArray[np.uint8],
        learn: NDArray[np.bool_],
        count: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """As `Bar.step`; rows that do not count neither open an alarm nor raise the level."""
        strength, over = np.full(len(key), np.nan), np.zeros(len(key), np.bool_)
        if len(key):
            self.table.ensure(int(key.max()))
            self.table.touch(key)
            _step(
                self.table.rows, self.tally, key, time_unix_nano, score, status, learn,
                np.ones(len(key), np.bool_) if count is None else count,
                (self.prior_score, self.budget_per_day, self.options.min_rows), strength, over,
            )  # fmt: skip
        return strength, over

    def score_levels(self, keys: NDArray[np.int32]) -> NDArray[np.float64]:
        """The score at which each key was anomalous when it was last raised: float64[n], NaN where there is none."""
        known = keys < self.table.used
        out = np.full(len(keys), np.nan)
        rows = self.table.rows[keys[known]]
        out[known] = np.where(rows["level"] > 0, rows["level"] * np.exp(rows["lift"]), np.nan)
        return out


@entry
def _step(
    rows: NDArray[Any],
    tally: NDArray[np.int64],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    score: NDArray[np.float64],
    status: NDArray[np.uint8],
    learn: NDArray[np.bool_],
    count: NDArray[np.bool_],
    settings: tuple[float, float, int],
    strength: NDArray[np.float64],
    over: NDArray[np.bool_],
) -> None:
    unit, budget, min_rows = settings
    for i in range(len(key)):
        if status[i] != SCORED and status[i] != WARMING_UP:
            continue
        row, now = rows[key[i]], time[i]
        arrive(row, now)
        if status[i] != SCORED or score[i] != score[i]:
            continue
        if row.block_rows >= BLOCK_ROWS and now - row.block_start >= HOUR:
            _close(row, now, unit, budget)
        elif row.level == 0.0 and row.rows > min_rows:
            _refresh(row, unit, budget)
            row.decayed = now
        if learn[i]:
            if row.block_rows == 0:
                row.block_start, row.block_max = now, 0.0
            row.block_rows += 1
            row.block_max = max(row.block_max, score[i])
        if row.rows > min_rows:
            strength[i], over[i] = _judge(row, tally, now, score[i], count[i])


@inner
def _judge(row: Any, tally: NDArray[np.int64], now: int, score: float, count: bool) -> tuple[float, bool]:
    """Strength of a row and whether it alarms; an alarm that opens is counted, and lifts the level."""
    half_life = max(LIFT_ROWS * row.interval, LIFT_DAYS * DAY / 1e9)
    lift = row.lift * exp(-LN2 * max(now - row.lifted, 0) / 1e9 / half_life)
    strength = -LEAST_STRENGTH
    if score > 0.0:
        strength = min(max(ln(score / row.level) - lift, -LEAST_STRENGTH), LEAST_STRENGTH)
    if count:
        _count_day(row, tally, now)
    row.held = max(row.held - 1, 0) if score > row.level else 0
    if row.held > 0 or not count:
        return strength, row.held > 0
    if strength < 0.0:
        return strength, False
    row.lift, row.lifted, row.held = lift + LIFT, now, HOLD_ROWS
    day = now // DAY
    if (row.alarm == 0 or now - row.alarm > HOUR) and row.since > BLOCK_ROWS and day == tally[0, day % TALLY_DAYS]:
        tally[1, day % TALLY_DAYS] += 1
    row.alarm, row.since = now, 0
    return strength, True


@inner
def _count_day(row: Any, tally: NDArray[np.int64], now: int) -> None:
    day = now // DAY
    at = day % TALLY_DAYS
    if day > tally[0, at]:
        tally[0, at], tally[1, at], tally[2, at] = day, 0, 0
    if day != row.day:
        row.day = day
        if day == tally[0, at]:
            tally[2, at] += 1


@inner
def _close(row: Any, now: int, unit: float, budget: float) -> None:
    """End a block: its maximum goes into the histogram, and the level is found anew."""
    factor = exp(-LN2 * max(now - row.decayed, 0) / DAY / MEMORY_DAYS)
    row.decayed = now
    scale_weights(row.tops, factor)
    row.prior = max(row.prior * factor, PRIOR_BLOCKS - total_weight(row.tops))
    row.tops[bin_of(row.block_max / unit, LOW, PER, SIZE)] += 1.0
    row.block_rows = 0
    _refresh(row, unit, budget)


@inner
def _refresh(row: Any, unit: float, budget: float) -> None:
    weight = SHARE * (total_weight(row.tops) + row.prior)
    reach = max(upper_quantile(row.tops, LOW, PER, row.prior, 1.0, weight), LEAST_REACH)
    # As with `Bar`: the measured figures are for .2 alarms a day at a row a minute.
    rate = log_rate(row.interval, budget) / log_rate(row.interval, 0.2)
    row.level = SPAN * unit * np.sqrt(reach) * rate * rate
