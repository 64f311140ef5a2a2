"""What `deviation` remembers of a series, and the constants of its recipe.

The constants were measured on series with steps of 1 min to 1 h; what each is worth stands in
`docs/explanation/deviation.md`. None is fitted to a series.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SECOND = 1_000_000_000
DAY, HOUR = 86400.0, 3600.0
"""Seconds."""

FIRST = 20
"""Rows that are kept until the first scales are found of all of them at once."""
CHANGES, CHANGE_CLIP = 500, 6.0
"""Changes that their mean size remembers; one counts as at most so many mean ones."""
CHANGE_SHARE = 0.5
"""No scale is below this share of the mean change."""
LONG_SHARE = 0.1
"""No near scale is below this share of the long deviation."""
LEAST_SCALE = 1e-9

QUICK_SPAN, SHORT_SPAN, SCALE_SPANS = 4.0, 20.0, 8.0
"""Rows that the near levels remember, and how many times as many their scales do."""
NEAR_CLIP, LONG_CLIP, SEASON_CLIP, FORECAST_CLIP = 4.0, 5.0, 5.0, 4.0
"""A deviation is learnt as if it were at most so many scales."""
LONG_MEMORY, LONG_YOUNG = 2 * DAY, 1800.0
LEAST_MEMORY_ROWS = 48.0
"""Memories in time are at least so many intervals."""
LONGEST_STRETCH = 8.0
"""After a gap of n intervals near scales count √n times, at most so much."""
INTERVAL_ROWS, INTERVAL_JUMP = 200, 5.0
"""Rows that the mean interval remembers; one counts as at most so many mean ones."""

SLOTS, SLOT_SECONDS = 288, 300.0
SLOT_GAIN, SLOT_VISITS = 0.15, 2
"""What a visit adds to a slot of the day, and visits before it is used."""
OFFSET_MEMORY, OFFSET_ROWS, SEASON_MEMORY = 2 * DAY, 20.0, 7 * DAY
WEEK_GAIN, WEEK_HOURS, WEEK_COMPARED = 0.3, 168, 24
WEEK_EARNS = 0.7
"""The hour of the week counts where it leaves less than this share of the error."""

LAGS, INPUTS = 8, 10
FORECAST_MEMORY, FORECAST_LEAST_ROWS, FORECAST_MOST_ROWS = 7 * DAY, 2000.0, 20000.0
FORECAST_WARM_UP = 30
FORECAST_START, FORECAST_TRACE = 10.0, 200.0
"""The inverse covariance of the inputs starts as a diagonal of this, and forgets only below this trace."""
LARGEST_INPUT = 1000.0
FORECAST_ROOM = 3.0
"""A forecast lies at most so many long scales beyond the lags and the season."""

REACH = (7.8, 6.5, 5.2, 6.5, 7.8)
"""What the deviations from the quick, short and long level, season and forecast rarely pass, in their scales."""
SHARE = (1.0, 0.5, 0.5, 1.0, 1.0)
"""How much each counts in the score."""
RANK_SHARE = (0.0, 0.0, 1.0, 1.5, 1.2)
USUAL_SHARE, USUAL_GAIN, USUAL_PRIOR = 0.95, 0.1, 0.7
"""The usual reach of a series is what its blocks stay below so often; it moves so fast, from this share of `REACH`."""
BLOCK_ROWS = 10

PRIOR_SCORE = 1.0
MIN_CHANGE_SCORE = 2.0
"""The score of a change of just `min_change`, at most."""
FIRST_MOVE_SCORE, FIRST_MOVE_ROWS, FIRST_MOVE_MOST = 4.0 / 3.0, 60.0, 360
"""The score of a series' first move ever after so many rows; it grows with the fourth root of the rows."""
FIRST_MOVE_KNOWN = 4.0
"""The same where a least change is set: then it is known which moves matter, before any has been seen."""
YOUNG_MOVES = 8
"""Moves that a series must have made before their size is believed to be its noise. Until then a score is at most that
of a first move times the rows that it lasts."""

YOUNG_SHARE = 0.05
"""Of its level: in its first hour, the less the older it is, no smaller change of a series is worth an alert."""
BURST, MOST_BURST = 2.0, 60.0
"""What a score of 1 is in the CUSUM of rows that are not zero, and its most."""
MOVED_SHARE = 0.25
"""Of the mean change: what is not further from zero than this is zero."""

RANK_CAP, RANK_MEAN_CAP, RANK_MEAN_SHARE = 100.0, 10.0, 1.5
RANK_MEAN_GAIN = 0.15910358474628547
"""1 − 2^(−1/4): the mean of the rank has a half-life of 4 rows."""
RANK_ROWS, RANK_SECONDS = 8.0, 2 * HOUR
"""Half-life of its maximum: so many rows, but no longer than so many seconds."""

_NEAR = [
    ("time", "i8"), ("block_start", "i8"),
    ("last", "f8"), ("least", "f8"), ("min_change", "f8"), ("change", "f8"), ("interval", "f8"),
    ("level", "f8"), ("deviation", "f8"), ("weight", "f8"),
    ("quick", "f8"), ("quick_scale", "f8"), ("short", "f8"), ("short_scale", "f8"),
    ("count", "i4"), ("changed", "i4"), ("block_rows", "i4"), ("blocks", "i4"), ("away", "i4"), ("before", "i4"),
    ("high", "f4"), ("mean", "f4"), ("first", "f4", (FIRST,)), ("burst", "f4"), ("spare", "f4"),
]  # fmt: skip
_SEASON = [
    ("offset", "f8"), ("offset_weight", "f8"), ("season_scale", "f8"), ("season_weight", "f8"),
    ("slot_sum", "f8"), ("slot_errors", "f8"), ("hour_sum", "f8"), ("hour_daily", "f8"), ("hour_weekly", "f8"),
    ("daily_error", "f8"), ("weekly_error", "f8"),
    ("slots", "i4"), ("slot", "i4"), ("slot_rows", "i4"), ("hour", "i4"), ("hour_rows", "i4"), ("hours", "i4"),
    ("slot_level", "f4", (SLOTS,)), ("slot_scale", "f4", (SLOTS,)), ("week_level", "f4", (WEEK_HOURS,)),
    ("slot_visits", "u1", (SLOTS,)), ("week_visits", "u1", (WEEK_HOURS,)),
]  # fmt: skip
_FORECAST = [
    ("forecast_scale", "f8"), ("lags", "f8", (LAGS,)), ("coefficients", "f8", (INPUTS,)),
    ("inverse", "f8", (INPUTS, INPUTS)), ("forecasts", "i8"),
]  # fmt: skip


def light_row() -> np.dtype[Any]:
    """A slot of the light tier: levels, scales and what three deviations usually reach."""
    return np.dtype([*_NEAR, ("top", "f4", (3,)), ("usual", "f4", (3,))])


def full_row() -> np.dtype[Any]:
    """A slot of the full tier: that, the day in slots, the week in hours and a forecast from eight lags."""
    return np.dtype([*_NEAR, ("top", "f4", (5,)), ("usual", "f4", (5,)), *_FORECAST, *_SEASON])


def seasonal_row() -> np.dtype[Any]:
    """A slot of `seasonal`: levels, the day in slots and the week in hours around an offset, and its trend.

    `elapsed` s of season seen; `trend` of the offset a day, from what it was (`day_offset`) when the `day` began.
    """
    trend = [("elapsed", "f8"), ("trend", "f8"), ("day_offset", "f8"), ("day", "i8")]
    return np.dtype([*_NEAR, *trend, *_SEASON])
