"""How `linear` lies in memory: a head a key, and a body for each 64 of its features, in a table of the body's size.

A body of b features (8, 16 … 64) is one row of float32. Its first 4·b float64 are read through a second view.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
"""Most features whose maps see one another; wider entities have several bodies."""
STEP = 8
CLASSES = BLOCK // STEP
MOST_BLOCKS = 16
"""Bodies of a key: frames have 1,024 columns at most."""

LAGS = (1, 2, 3, 5, 10)
"""Rows back that forecasts look."""
RING = 16
"""Rows remembered: a power of two above the largest lag."""
TOGETHER = 4
"""Rows of a key that are taken together: maps are read once for all, and covariances moved once instead of four times.

They end where the row's number is one less than a multiple of it, however rows come in batches.
"""
ORDERS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 10)
"""Lags between two inputs of a map that can come up, so those whose covariances are kept."""
SUMS = 7
"""Sums of a row over its features, from which its pools are."""
ORDER_AT = np.array([0, 1, 2, 3, 4, 5, -1, 6, 7, 8, 9], np.int64)
"""Lag → place in `ORDERS`."""
FORECAST = np.array(LAGS, np.int64)
CROSS = np.array((0, 1, 2, 5), np.int64)
"""Lags of the inputs of the two maps; lag 0 is the other features of the same row."""

f4 = np.float32
ZERO, ONE, HALF = f4(0), f4(1), f4(0.5)
HALF_LIFE = 20_000.0
MEMORY_GAIN = 0.6931471805599453 / HALF_LIFE
"""What a row of a minute counts for, in means, scales and covariances that are old enough."""
YOUNG, EARLY = f4(20.0), f4(4.0)
"""The gain of means and squares with k rows seen is `EARLY`/(k + `YOUNG`) at least."""

HEAD = np.dtype([
    ("time", "i8"), ("rows", "i8"), ("next_fit", "i8"), ("spacing", "i8"),
    ("interval", "f8"), ("elapsed", "f8"), ("score", "f8"), ("rank", "f8"), ("typical", "f8", (4,)),
    ("width", "i4"), ("room", "i4"), ("cursor", "i4"), ("hours", "i4"), ("hour_start", "i8"), ("hour_rows", "i8"),
    ("slot", "i4", (MOST_BLOCKS,)), ("size", "u1", (MOST_BLOCKS,)),
])  # fmt: skip
"""`rows` learnt since the last fresh start; `elapsed` seconds they span; `interval` s between rows; `next_fit` row at
which the maps are fitted next, `spacing` rows after the last; `cursor` the column fitted next, −1 none; `score`, `rank`
smoothed; `typical` means of the four pools; `width` columns seen; `room` columns with a place; `hours` of the
departures that have ended, `hour_start`, `hour_rows` of the one that has not; `slot`, `size` where each body lies: its
row in the table of `size` × 8 features."""

LAST, MEAN, VARIANCE, UNIT = range(4)
"""Float64 of a body, times b."""
COUNT, CHANGES, LEVEL = 8, 9, 10
FORECASTS, CROSSES, LEVELS = 11, 15, 19
"""Float32 of a body, times b: rows seen, changes seen, slow level; then the scales of three residuals."""
SHIFT, SQUARE, SLOW, FAST = range(4)
"""Of a residual: its mean, its mean square, its slow scale, its fast scale, which that of the level has not."""
DEPARTURE, BEFORE, TOP, REACH = range(22, 26)
"""Float32 of a body, times b: how far a feature was from its maps one row and two rows ago; how far it has departed
from the others in this hour at most, and in its hours."""
PAST = 26
SQUARES = PAST + RING
"""Float32 of a body, times b; behind it ten covariances, five forecast and four cross maps of b × b."""
MATRICES = len(ORDERS) + len(FORECAST) + len(CROSS)


def body(b: int) -> np.dtype[Any]:
    """The row of a body of b features."""
    return np.dtype([("number", "f4", (SQUARES * b + MATRICES * b * b,))])


def bytes_of(b: int) -> int:
    """Bytes of a key with b ≤ 64 features."""
    return HEAD.itemsize + body(-(-b // STEP) * STEP).itemsize


_ROWS, _MAPS = (TOGETHER * BLOCK,), (TOGETHER * len(LAGS) * BLOCK,)
WORK = np.dtype([
    ("value", "f8", (BLOCK,)), ("moved", "i8", (BLOCK,)), ("row", "i8", (TOGETHER,)), ("time", "i8", (TOGETHER,)),
    ("pace", "f8", (TOGETHER,)), ("sums", "f8", (TOGETHER * SUMS,)), ("warm", "u1", (8,)),
    ("z", "f4", _ROWS), ("y", "f4", _ROWS), ("ahead", "f4", _ROWS), ("across", "f4", _ROWS), ("away", "f4", _ROWS),
    ("known", "f4", _ROWS), ("seen", "f4", _ROWS), ("live", "f4", _ROWS), ("youth", "f4", _ROWS), ("far", "f4", _ROWS),
    ("apart", "f4", (MOST_BLOCKS * BLOCK,)), ("gain", "f4", (BLOCK,)), ("ratio", "f4", (BLOCK,)),
    ("square", "f8", (TOGETHER,)), ("enough", "f8", (TOGETHER,)), ("told", "f4", (BLOCK,)),
    ("x", "f4", _MAPS), ("r", "f4", _MAPS), ("p", "f4", _MAPS), ("q", "f4", _MAPS),
    ("turned", "f4", (len(ORDERS) * BLOCK * BLOCK,)),
])  # fmt: skip
"""Scratch, as one record, which is cheap to hand on: of a body's part of `TOGETHER` rows, or of the last one.

`value` of the last row, where it is missing the one before; `moved` the places of features that have ever moved, the
only ones that inputs of maps can come from; of each row its place in the frame (`row`), its `time`, its `pace`, and
seven `sums` over its features: of either map those by fast scales, those by slow ones and the largest square; and how
much of it counts; whether it is `warm`. `z` in units, `y` as inputs of maps; what the two maps and the slow level leave
(`ahead`, `across`, `away`), which become standardised; rows seen of a feature (`known`); whether it is there (`seen`, 1
or 0) and how much it counts (`live`, up to 1); `youth` 1/(rows + 20); `far` the squares of what both maps leave, by
slow scales; `apart`, of the bodies of a row or of the rows of a body, how far features have departed. `gain` and
`ratio` of features; what follows is of fits."""
Work = Any
"""A record of `WORK`."""


class Settings(NamedTuple):
    """What the sweep needs to know of the options."""

    warm_up_rows: int
    warm_up_seconds: float
    expiry: int
    forecast_ridge: np.float32
    cross_ridge: np.float32


class Out(NamedTuple):
    """What is filled in: score, rank float64[n], status uint8[n], contribution float32[n, D] or [n, 0], apart
    float32[n, D], NaN until something is far apart."""

    score: NDArray[np.float64]
    rank: NDArray[np.float64]
    status: NDArray[np.uint8]
    contribution: NDArray[np.float32]
    apart: NDArray[np.float32]
