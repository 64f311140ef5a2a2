"""The compiled sweep of `static_threshold`: row by row, score and only then remember (CONTRACTS §4).

It has a slow, obvious twin in `tests/unit`, equal to it bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.deviation_near import elapsed, learn_interval
from foreshock.detect.kernels import LARGEST_SCORE, LARGEST_VALUE
from foreshock.state.jit import entry, inner
from foreshock.types import Status

AT_LIMIT = 1.0
"""The score from which on a series is in breach."""
BELOW_LIMIT = 0.9999999999999999
"""The largest number below it."""
GAP_STEPS = 5.0
"""A breach that has yet to hold starts anew behind a gap of more mean intervals than this."""
SECOND = 1_000_000_000

WITHIN, WAITING, FIRING = 0, 1, 2

SCORED, MISSING, EXCLUDED = int(Status.SCORED), int(Status.MISSING), int(Status.EXCLUDED)

ROW = np.dtype([
    ("time", "i8"), ("since", "i8"), ("hold", "i8"), ("interval", "f8"), ("low", "f8"), ("high", "f8"),
    ("clear_low", "f8"), ("clear_high", "f8"), ("count", "i4"), ("phase", "i4"), ("met", "i4"), ("spare", "i4"),
])  # fmt: skip
"""A slot: `since` when the present breach began (ns); `phase` within, waiting or firing; where `met`, its own bounds,
levels that end a breach, and ns that one must `hold`."""


class Levels(NamedTuple):
    """Bounds in a series' unit, what ends a breach of each, and ns that one must hold; NaN: no limit at all."""

    low: float
    high: float
    clear_low: float
    clear_high: float
    hold: int


@entry
def threshold_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    expiry: int,
    common: Levels,
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    band: NDArray[np.float64],
) -> None:
    """How far values are beyond limits, for rows of series in their order.

    Parameters
        rows          slots of `ROW`
        key … status  the columns of a frame, each [n]
        expiry        ns without a row after which a slot starts afresh
        common        limits of slots that have none of their own
        score, given  out: float64[n], uint8[n]
        band          out: float64[3, n] expected (NaN), low, high; or float64[3, 0] where nobody asks for it
    """
    for i in range(len(key)):
        score[i], given[i] = np.nan, status[i]
        if band.shape[1]:
            band[0, i], band[1, i], band[2, i] = np.nan, np.nan, np.nan
        if status[i] != SCORED:
            continue
        if not abs(value[i]) < np.inf:
            given[i] = MISSING
            continue
        row, now = rows[np.uint32(key[i])], time[i]
        low, high = (row.low, row.high) if row.met else (common.low, common.high)
        if low != low:
            given[i] = EXCLUDED
            continue
        x = min(max(value[i], -LARGEST_VALUE), LARGEST_VALUE)
        fresh = row.count == 0 or now - row.time > expiry
        phase, since = _judge(row, x, now, fresh, common)
        found = min(max(_beyond(x, low, high), -LARGEST_SCORE), LARGEST_SCORE)
        score[i] = max(found, AT_LIMIT) if phase == FIRING else min(found, BELOW_LIMIT)
        if band.shape[1]:
            band[1, i] = low if low > -np.inf else np.nan
            band[2, i] = high if high < np.inf else np.nan
        if learn[i]:
            if fresh:
                row.count, row.interval, row.time = 0, 0.0, now
            else:
                learn_interval(row, elapsed(row, now))
            row.phase, row.since, row.time = phase, since, max(now, row.time)
            if row.count < 2147483647:
                row.count += 1


@inner
def _judge(row: Any, x: float, now: int, fresh: bool, common: Levels) -> tuple[int, int]:
    """The phase after a value, and since when the breach has lasted."""
    low, high = (row.low, row.high) if row.met else (common.low, common.high)
    hold = row.hold if row.met else common.hold
    before = WITHIN if fresh else row.phase
    if before == FIRING:
        least = row.clear_low if row.met else common.clear_low
        most = row.clear_high if row.met else common.clear_high
        return (WITHIN if least <= x <= most else FIRING), row.since
    if not (x > high or x < low):
        return WITHIN, now
    since = now if before == WITHIN else row.since
    if before == WAITING:
        past = elapsed(row, now)
        if row.interval > 0.0 and past > hold / SECOND and past > GAP_STEPS * row.interval:
            since = now
    return (FIRING if now - since >= hold else WAITING), since


@inner
def _beyond(x: float, low: float, high: float) -> float:
    """1 at the nearer of two bounds, and more by how far a value is beyond it, in parts of the bound."""
    over = -np.inf
    if high < np.inf:
        over = AT_LIMIT + (x - high) / (abs(high) if high != 0.0 else 1.0)
    if low > -np.inf:
        over = max(over, AT_LIMIT + (low - x) / (abs(low) if low != 0.0 else 1.0))
    return over
