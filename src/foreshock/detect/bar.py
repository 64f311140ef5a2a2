"""The two-sided alarm bar: the level a score must pass to be anomalous, per key, at a budget of alarms a day.

A key's score is measured in units of what its own past hours reach (`scale`). The bar on that margin follows the block
maxima seen (so that a noisy key does not cry), but never above a cap extrapolated from the middle of those maxima (so
that frequent real incidents cannot deafen it), nor below a floor that depends on the rate of records and the budget.
Everything goes by the event time of the key's own rows. Constants: measured, `detection.md` of the project's research.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.histogram import LN2, bin_of, exp, ln, scale_weights, total_weight, upper_quantile
from foreshock.errors import ConfigError
from foreshock.state import SlotTable, State
from foreshock.state.jit import entry, inner
from foreshock.types import Status
from foreshock.types.units import Options

SIZE = 60
SCALE_LOW, SCALE_PER = -2, 4
"""Block maxima of the score, in units of z0: 2^-2 to 2^13."""
MARGIN_LOW, MARGIN_PER = -3, 6
"""Block maxima of the margin: 2^-3 to 2^7."""

SCORED, WARMING_UP = int(Status.SCORED), int(Status.WARMING_UP)
SECOND = 1_000_000_000
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
BLOCK_ROWS = 10
EPISODE = 6 * HOUR
SCALE_DAYS, LEVEL_DAYS, CAP_DAYS = 7.0, 30.0, 14.0
PRIOR_BLOCKS = 5.0
PRIOR_SCALE, PRIOR_MARGIN = 0.7, 1.6
LEAST_BLOCKS = 2.4
"""Blocks above scale and cap: a single incident, which may lie across two, must not measure a key's first days."""
LEAST_MIDDLE = 0.125
"""A series whose middle block is below this (bin 0) stands still in most hours: nothing can be extrapolated from them,
and there is no cap."""
LN_REFERENCE = 8.881836305004146
"""ln 7200, the bar's own rate: a record a minute at a budget of one alarm in five days."""
LEAST_RATE = 0.15
INTERVAL_ROWS = 200
INTERVAL_JUMP = 5.0
LEAST_STRENGTH = 50.0
TALLY_DAYS = 64

ROW = np.dtype([
    ("last", "i8"), ("block_start", "i8"), ("decayed", "i8"), ("alarm", "i8"),
    ("interval", "f8"), ("block_max", "f8"), ("scale", "f8"), ("level", "f8"), ("peak", "f8"),
    ("scale_prior", "f4"), ("level_prior", "f4"), ("cap_prior", "f4"),
    ("rows", "i4"), ("block_rows", "i4"), ("blocks", "i4"), ("since", "i4"), ("day", "i4"),
    ("scales", "f4", (SIZE,)), ("levels", "f4", (SIZE,)), ("caps", "f4", (SIZE,)),
])  # fmt: skip
"""A slot: `interval` s between records; `scale` the unit of the margin, a score; `level` the bar on the margin (0: none
yet); `alarm`, `peak`, `since` the last alarm, its episode's peak, records since it; priors: weights of their points."""


class BarOptions(Options):
    """When a key may be anomalous at all."""

    min_rows: int = Field(
        default=20,
        ge=1,
        description="Rows of a series, those of the detector's own warm-up among them, before one may be anomalous.",
    )


class Bar:
    """Scores → strength and anomalous, for one detector, one bar a slot.

    `prior_score` (z0) is a score of the detector that is rarely passed when all is well; `budget_per_day` the alarms a
    day and key that somebody will bear. With a `threshold`, a user's own, the bar is that and nothing is learnt. With
    `in_reach` the score is a margin already: its unit stays `prior_score`, whatever the past hours reached.

    Raises ConfigError where one of them is not above 0.
    """

    def __init__(
        self,
        prior_score: float,
        budget_per_day: float,
        options: BarOptions | None = None,
        threshold: float | None = None,
        in_reach: bool = False,
    ) -> None:
        for name, value in (("prior_score", prior_score), ("budget", budget_per_day), ("threshold", threshold)):
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}: it must be above 0")
        self.prior_score, self.budget_per_day = float(prior_score), float(budget_per_day)
        self.threshold = None if threshold is None else float(threshold)
        self.options = options or BarOptions()
        self.in_reach = in_reach
        self.table = SlotTable(ROW, {"scale": prior_score, "day": np.iinfo(np.int32).min})
        self.tally: NDArray[np.int64] = _no_tally()

    def step(
        self,
        key: NDArray[np.int32],
        time_unix_nano: NDArray[np.int64],
        score: NDArray[np.float64],
        status: NDArray[np.uint8],
        learn: NDArray[np.bool_],
        count: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Judge rows against the bars of their keys, then learn them.

        Parameters
            key, time_unix_nano  int32[n] slots, int64[n]; rows of one key stand in time order
            score, status        as a detector gave them
            learn                bool[n]; others are judged, but stay out of the blocks
            count                bool[n] whether the row goes into the achieved rate; all by default

        Returns (strength float64[n] = ln(margin / bar) within ±50, anomalous bool[n]); strength is NaN where the row
        is not scored or its key has had fewer than `min_rows`.
        """
        if self.threshold is not None:
            return _over(score, status, self.threshold)
        strength = np.full(len(key), np.nan)
        if len(key):
            self.table.ensure(int(key.max()))
            self.table.touch(key)
            _step(
                self.table.rows, self.tally, key, time_unix_nano, score, status, learn,
                np.ones(len(key), np.bool_) if count is None else count,
                (self.prior_score, self.budget_per_day, self.options.min_rows, self.in_reach), strength,
            )  # fmt: skip
        return strength, strength >= 0.0

    def score_levels(self, keys: NDArray[np.int32]) -> NDArray[np.float64]:
        """The score at which each key is anomalous now: float64[n], NaN where there is no bar yet."""
        if self.threshold is not None:
            return np.full(len(keys), self.threshold)
        known = keys < self.table.used
        out = np.full(len(keys), np.nan)
        rows = self.table.rows[keys[known]]
        out[known] = np.where(rows["level"] > 0, rows["scale"] * rows["level"], np.nan)
        return out

    def achieved(self, now_day: int, days: int = 30) -> float:
        """Notifications a key and day with judged rows, over the event-days (now_day − days, now_day].

        Days since the epoch, at most 64 of them. NaN without such days, or where a user's threshold has no budget.
        """
        day, notified, judged = self.tally
        inside = (day > now_day - days) & (day <= now_day) & (judged > 0)
        return float(notified[inside].sum() / judged[inside].sum()) if inside.any() else float("nan")

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these slots a fresh start; what they did stays in the achieved rate."""
        self.table.reset(keys)

    def state(self) -> State:
        """All bars and the counts of the last 64 event-days."""
        return State(1, {}, {"tally": self.tally.copy()}, {"slots": self.table})

    def load(self, state: State) -> None:
        """Take over what `state` gave."""
        self.table.load(state.arrays["slots"])
        self.tally = state.arrays["tally"].copy()


def _no_tally() -> NDArray[np.int64]:
    """int64[3, 64], columns by day modulo 64: the day, its notifications, its keys with judged rows."""
    tally = np.zeros((3, TALLY_DAYS), np.int64)
    tally[0] = np.iinfo(np.int64).min
    return tally


def _over(
    score: NDArray[np.float64], status: NDArray[np.uint8], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    strength = np.full(len(score), np.nan)
    _strengths(score, status, threshold, strength)
    return strength, strength >= 0.0


@entry
def _strengths(
    score: NDArray[np.float64], status: NDArray[np.uint8], threshold: float, strength: NDArray[np.float64]
) -> None:
    for i in range(len(score)):
        if status[i] == SCORED and score[i] == score[i]:
            strength[i] = _strength(score[i], threshold)


@inner
def _strength(value: float, level: float) -> float:
    """ln(value / level) within ±50; at or above 0 exactly where value ≥ level."""
    if value <= 0.0:
        return -LEAST_STRENGTH
    return min(max(ln(value / level), -LEAST_STRENGTH), LEAST_STRENGTH)


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
    settings: tuple[float, float, int, bool],
    strength: NDArray[np.float64],
) -> None:
    unit, budget, min_rows, in_reach = settings
    for i in range(len(key)):
        if status[i] != SCORED and status[i] != WARMING_UP:
            continue
        row, now = rows[key[i]], time[i]
        arrive(row, now)
        if status[i] != SCORED or score[i] != score[i]:
            continue
        if row.block_rows >= BLOCK_ROWS and now - row.block_start >= HOUR:
            _close(row, now, unit, budget, in_reach)
        elif row.level == 0.0 and row.rows > min_rows:
            _refresh(row, now, unit, budget, in_reach)
        if learn[i]:
            if row.block_rows == 0:
                row.block_start, row.block_max = now, 0.0
            row.block_rows += 1
            row.block_max = max(row.block_max, score[i])
        if row.rows <= min_rows:
            continue
        margin = score[i] / row.scale
        strength[i] = _strength(margin, row.level)
        if count[i]:
            _count(row, tally, now, margin)


@inner
def arrive(row: Any, now: int) -> None:
    """Count a record and follow the mean interval; one gap moves it no more than five ordinary ones."""
    if row.rows > 0 and now > row.last:
        seconds = (now - row.last) / SECOND
        if row.interval == 0.0:
            row.interval = seconds
        else:
            seconds = min(seconds, INTERVAL_JUMP * row.interval)
            row.interval += (seconds - row.interval) / min(row.rows, INTERVAL_ROWS)
    row.last = now
    if row.rows < 2147483647:
        row.rows += 1
    row.since = min(row.since + 1, 2 * BLOCK_ROWS)


@inner
def _close(row: Any, now: int, unit: float, budget: float, in_reach: bool) -> None:
    """End a block: its maximum goes into the histograms, and the bar is found anew."""
    _decay(row, now)
    row.scales[bin_of(row.block_max / unit, SCALE_LOW, SCALE_PER, SIZE)] += 1.0
    b = bin_of(row.block_max / row.scale, MARGIN_LOW, MARGIN_PER, SIZE)
    row.levels[b] += 1.0
    row.caps[b] += 1.0
    row.blocks += 1
    row.block_rows = 0
    _refresh(row, now, unit, budget, in_reach)


@inner
def _decay(row: Any, now: int) -> None:
    """Let the past fade by event time, but the whole never below the weight of the prior."""
    days = max(now - row.decayed, 0) / DAY if row.level > 0.0 else 0.0
    row.decayed = now
    row.scale_prior = _fade(row.scales, row.scale_prior, days / SCALE_DAYS)
    row.level_prior = _fade(row.levels, row.level_prior, days / LEVEL_DAYS)
    row.cap_prior = _fade(row.caps, row.cap_prior, days / CAP_DAYS)


@inner
def _fade(hist: NDArray[np.float32], prior: float, half_lives: float) -> float:
    factor = exp(-LN2 * half_lives)
    scale_weights(hist, factor)
    prior *= factor
    return max(prior, PRIOR_BLOCKS - total_weight(hist))


@inner
def _refresh(row: Any, now: int, unit: float, budget: float, in_reach: bool) -> None:
    """Scale and bar of a key from its histograms."""
    if row.level == 0.0 and row.blocks == 0:
        _decay(row, now)
    weight = total_weight(row.scales) + row.scale_prior
    tops = max(0.05 * weight, LEAST_BLOCKS)
    typical = upper_quantile(row.scales, SCALE_LOW, SCALE_PER, row.scale_prior, PRIOR_SCALE, tops)
    row.scale = unit if in_reach else unit * max(typical, 1.0)
    rate = log_rate(row.interval, budget)
    prior = PRIOR_MARGIN * rate
    weight = total_weight(row.levels) + row.level_prior
    tops = min(max(4.0 / weight, 0.012), 0.1) * weight
    seen = upper_quantile(row.levels, MARGIN_LOW, MARGIN_PER, row.level_prior, prior, tops)
    weight = total_weight(row.caps) + row.cap_prior
    tops = max(0.2 * weight, LEAST_BLOCKS)
    fifth = upper_quantile(row.caps, MARGIN_LOW, MARGIN_PER, row.cap_prior, prior, tops)
    half = upper_quantile(row.caps, MARGIN_LOW, MARGIN_PER, row.cap_prior, prior, 0.5 * weight)
    half = max(half, 1e-9)
    tail = 0.85 * half * exp(4.2 * ln(max(fifth / half, 1.0)))
    # The recipe's square was measured from 1 min upwards, where rate <= 1. Maxima of an hour already grow with the
    # records in it: squared, a series a second would need 18 standard deviations.
    least = min(rate, rate * rate)
    cap = max(1.4 * least, tail)
    if half < LEAST_MIDDLE:
        cap = np.inf
    row.level = max(min(1.3 * seen, cap), 1.2 * least)


@inner
def log_rate(interval: float, budget: float) -> float:
    """ℓ = ln(records a day / budget) / ln 7200; a key with all its records at one time counts as one a minute."""
    seconds = interval if interval > 0.0 else 60.0
    return max(ln(86400.0 / seconds / budget) / LN_REFERENCE, LEAST_RATE)


@inner
def _count(row: Any, tally: NDArray[np.int64], now: int, margin: float) -> None:
    """Count the key's day, and a notification where an episode opens.

    Within max(6 h, 10 records) of its last alarm a key alarms again only from .7 of that episode's peak on; what comes
    within max(1 h, 10 records) of an alarm belongs to it.
    """
    day = now // DAY
    at = day % TALLY_DAYS
    if day > tally[0, at]:
        tally[0, at], tally[1, at], tally[2, at] = day, 0, 0
    if day != row.day:
        row.day = day
        if day == tally[0, at]:
            tally[2, at] += 1
    if margin < row.level:
        return
    gap = now - row.alarm
    fresh = row.peak == 0.0 or (gap > EPISODE and row.since > BLOCK_ROWS)
    if not fresh and margin < 0.7 * row.peak:
        return
    if (fresh or (gap > HOUR and row.since > BLOCK_ROWS)) and day == tally[0, at]:
        tally[1, at] += 1
    row.peak = margin if fresh else max(row.peak, margin)
    row.alarm, row.since = now, 0
