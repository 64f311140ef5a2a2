"""The compiled part of the roll-ups: cells into buckets, buckets into chunks, full chunks out.

A key has two tiers. The *hot* row of a tier is the bucket that goes on now; when a cell of a later one comes, it is
written into the *cold* row, the chunk that goes on now, and what it holds goes on into the bucket of the coarser tier.
A cold row is handed out when a bucket of a later chunk is closed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.state.jit import entry, inner
from foreshock.types import Status


class Tier(NamedTuple):
    """Buckets of `seconds`, of which `buckets` are a chunk."""

    seconds: int
    buckets: int


FINE, COARSE = Tier(60, 60), Tier(600, 36)
TIERS = (FINE, COARSE)

ANOMALOUS, UNKNOWN = 16, 32
"""Beside the status in the code of a bucket: one of its cells was anomalous; no value is known of it."""

_SCORED = int(Status.SCORED)
_FINE_NS, _FINE_BUCKETS = FINE.seconds * 1_000_000_000, FINE.buckets
_COARSE_BUCKETS, _FINE_A_COARSE = COARSE.buckets, COARSE.seconds // FINE.seconds
_STATUS = 15


def hot(lanes: int) -> np.dtype[Any]:
    """The bucket that goes on, with a strength for each of `lanes` detectors; `rows` 0 = nothing came yet.

    `known` of its rows have a value and `banded` a band; `total` to `high` are sums over these, but for the extremes.
    """
    return np.dtype(
        [
            ("bucket", "i8"), ("rows", "i4"), ("known", "i4"), ("banded", "i4"), ("code", "i4"), ("total", "f8"),
            ("least", "f8"), ("most", "f8"), ("expected", "f8"), ("low", "f8"), ("high", "f8"),
            ("strength", "f4", (lanes,)),
        ]
    )  # fmt: skip


def cold(tier: Tier, lanes: int) -> np.dtype[Any]:
    """The chunk that goes on: number `chunk` since the epoch, `used` buckets in it; `rows` 0 = nothing came in it.

    `mean` is of what is known; where nothing is, what was expected (or 0). The rest stands beside it as a distance from
    it, which keeps small changes of large values: `least` below, `most` above, the band as it lies. `strength` lane by
    lane.
    """
    n = (tier.buckets,)
    return np.dtype(
        [
            ("chunk", "i8"), ("used", "i8"), ("rows", "i4", n), ("mean", "f8", n), ("least", "f4", n),
            ("most", "f4", n), ("expected", "f4", n), ("low", "f4", n), ("high", "f4", n), ("code", "u1", n),
            ("strength", "f4", (lanes * tier.buckets,)),
        ]
    )  # fmt: skip


@inner
def _begin(h: Any, bucket: Any) -> None:
    h.bucket = bucket
    h.rows, h.known, h.banded, h.code = 0, 0, 0, 0
    h.total, h.least, h.most, h.expected, h.low, h.high = 0.0, math.inf, -math.inf, 0.0, 0.0, 0.0
    for lane in range(len(h.strength)):
        h.strength[lane] = np.nan


@inner
def _code(h: Any, code: Any) -> None:
    """Scored where one of its rows is, else what the first is; anomalous where one is."""
    if h.rows == 0:
        h.code = code
        return
    mark = (h.code | code) & ANOMALOUS
    status = _SCORED if code & _STATUS == _SCORED else h.code & _STATUS
    h.code = status | mark


@inner
def _strengthen(h: Any, lane: Any, strength: Any) -> None:
    if strength > h.strength[lane] or np.isnan(h.strength[lane]):
        h.strength[lane] = strength


@inner
def _add_cell(h: Any, value: Any, expected: Any, low: Any, high: Any, code: Any) -> None:
    _code(h, code)
    h.rows += 1
    if not np.isnan(value):
        h.known += 1
        h.total += value
        h.least, h.most = min(h.least, value), max(h.most, value)
    if not (np.isnan(expected) and np.isnan(low) and np.isnan(high)):
        h.banded += 1
        h.expected += expected
        h.low += low
        h.high += high


@inner
def _add_bucket(h: Any, fine: Any) -> None:
    _code(h, fine.code)
    h.rows += fine.rows
    h.known += fine.known
    h.total += fine.total
    h.least, h.most = min(h.least, fine.least), max(h.most, fine.most)
    h.banded += fine.banded
    h.expected += fine.expected
    h.low += fine.low
    h.high += fine.high
    for lane in range(len(h.strength)):
        _strengthen(h, lane, fine.strength[lane])


@inner
def _write(c: Any, h: Any, buckets: Any) -> None:
    """Write a closed bucket into its chunk."""
    s = h.bucket % buckets
    c.rows[s], c.code[s] = h.rows, h.code
    base = 0.0
    if h.known > 0:
        # A mean of equal values may miss them by a rounding.
        base = min(max(h.total / h.known, h.least), h.most)
        c.least[s], c.most[s] = base - h.least, h.most - base
    else:
        c.code[s] = h.code | UNKNOWN
        c.least[s], c.most[s] = np.nan, np.nan
        if h.banded > 0 and not np.isnan(h.expected):
            base = h.expected / h.banded
    c.mean[s] = base
    c.expected[s], c.low[s], c.high[s] = np.nan, np.nan, np.nan
    if h.banded > 0:
        c.expected[s], c.low[s], c.high[s] = (
            h.expected / h.banded - base, h.low / h.banded - base, h.high / h.banded - base,
        )  # fmt: skip
    for lane in range(len(h.strength)):
        c.strength[lane * buckets + s] = h.strength[lane]
    c.used += 1


@inner
def _close(h: Any, c: Any, buckets: Any, r: Any, tier: Any, full: Any, full_rows: Any, counts: Any) -> None:
    """Write a bucket that is over into the chunk that goes on; one that it does not belong to is handed out first."""
    chunk = h.bucket // buckets
    if c.used > 0 and c.chunk != chunk:
        full[counts[tier]] = c
        full_rows[tier, counts[tier]] = r
        counts[tier] += 1
        c.used = 0
    if c.used == 0:
        c.chunk = chunk
        for s in range(buckets):
            c.rows[s] = 0
    _write(c, h, buckets)


@entry
def take(
    hot_fine: NDArray[Any],
    cold_fine: NDArray[Any],
    hot_coarse: NDArray[Any],
    cold_coarse: NDArray[Any],
    row_of: NDArray[np.int32],
    key: NDArray[np.int32],
    cells: NDArray[Any],
    strength: NDArray[np.float64],
    first: int,
    full_fine: NDArray[Any],
    full_coarse: NDArray[Any],
    full_rows: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> int:
    """Take cells `first` and later, each key's in time order; the number of the first that was not taken.

    Parameters
        hot_…, cold_…   rows of the two tiers
        row_of          int32[k]: the row of each key, negative = it has none
        key, cells      int32[m], POINT[m]
        strength        float64[lanes, m] of each detector, NaN = it did not judge
        full_…          out: chunks that are full, as many as there is room for
        full_rows       out: int32[2, room], whose they are
        counts          in and out: int64[3] chunks in `full_…`, and cells passed over because they came too late
    """
    room = full_rows.shape[1]
    for i in range(first, len(key)):
        r = row_of[key[i]]
        if r < 0:
            continue
        if counts[0] == room or counts[1] == room:
            return i
        h = hot_fine[r]
        bucket = cells[i].time_unix_nano // _FINE_NS
        if h.rows > 0 and bucket < h.bucket:
            counts[2] += 1
            continue
        if h.rows > 0 and bucket > h.bucket:
            _close(h, cold_fine[r], _FINE_BUCKETS, r, 0, full_fine, full_rows, counts)
            w = hot_coarse[r]
            wide = h.bucket // _FINE_A_COARSE
            if w.rows > 0 and wide != w.bucket:
                _close(w, cold_coarse[r], _COARSE_BUCKETS, r, 1, full_coarse, full_rows, counts)
                w.rows = 0
            if w.rows == 0:
                _begin(w, wide)
            _add_bucket(w, h)
            h.rows = 0
        if h.rows == 0:
            _begin(h, bucket)
        cell = cells[i]
        code = int(cell.status) | (ANOMALOUS if cell.anomalous else 0)
        _add_cell(h, cell.value, cell.expected, cell.low, cell.high, code)
        for lane in range(strength.shape[0]):
            s = strength[lane, i]
            if not np.isnan(s):
                _strengthen(h, lane, s)
    return len(key)
