"""The compiled sweeps of the univariate detectors: row by row, score and only then learn (CONTRACTS §4).

Each has a slow, obvious twin in `tests/unit`, equal to it bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from foreshock.state.jit import allocating, entry, inner
from foreshock.types import Status

LARGEST_SCORE = 1e9
LARGEST_VALUE = 1e100
"""Finite values beyond it count as this, so that their squares stay finite."""
LEAST_SCALE = 1e-9
"""No scale is smaller, in a series' own unit."""
LEAST_RATIO = 1e-6
"""No standard deviation is smaller as a share of |mean|."""
CLIP = 4.0
"""A surprise is learnt as if it were at most so many standard deviations."""
MAD_TO_SD = 1.4826
"""Standard deviations in the median absolute deviation of a normal distribution."""
CHANGES = 500
"""Changes that the mean change remembers."""
CHANGE_CLIP = 6.0
"""A change is learnt as if it were at most so many mean changes."""
OUTLIERS = 4
"""Values at each end of a window that do not count for its reach: 1 % of a full one, a burst in a young one."""
CHANGES_TRUSTED = 20
"""Changes after which the mean change counts in full as a floor; before, in proportion."""
VALUE_CLIP = 6.0
"""A value is learnt as if it lay at most so many scales from the median: an outlier does not widen the scale."""
MIN_CHANGE_SCORE = 12.0
"""The score of a change of just `min_change`, in a series that has no other scale."""
FIRST_MOVE_SCORE, FIRST_MOVE_ROWS = 8.0, 60.0
"""The score of a series' first move ever after so many rows; it grows with the fourth root of the rows."""

_SCORED, _WARMING_UP, _MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)
_BLOCK = 512
_AHEAD = 16

# Columns of a row of `robust_z`, read as numbers of eight bytes; the ring and its sorted copy follow.
TIME, COUNT, HEAD, CHANGED, CHANGE, MIN_CHANGE, LAST, RING = range(8)


def _prefetch_code(typing_context: Any, rows: Any, slot: Any) -> Any:
    """Ask the processor for the row of a slot, without waiting: most of a keyed step is waiting for memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        for_writing, keep_in_all_caches, data = word(1), word(3), word(1)
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(function, [place, for_writing, keep_in_all_caches, data])
        return context.get_dummy_value()

    return types.void(rows, slot), generate


_prefetch: Any = intrinsic(_prefetch_code)


@entry
def highest_key(key: NDArray[np.int32]) -> int:
    """The largest of int32[n] keys; 2^31 or more where one is negative; 0 without any."""
    highest = np.uint32(0)
    for i in range(len(key)):
        highest = max(highest, np.uint32(key[i]))
    return int(highest)


@allocating
def zscore_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    warm_up: int,
    full: int,
    gain: float,
    expiry: int,
    width: float,
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    band: NDArray[np.float64],
) -> None:
    """Distance from an exponentially weighted mean in standard deviations, for rows of series in their order.

    Parameters
        rows          slots with fields `mean`, `variance`, `time`, `count`
        key … status  the columns of a frame, each [n]
        warm_up       rows that a slot learns before it is scored
        full          rows from which on a slot learns each with weight `gain`; before, with 1/count
        expiry        ns without a learnt row after which a slot starts afresh
        width         half width of the band in standard deviations
        score, given  out: float64[n], uint8[n]
        band          out: float64[3, n] expected, low, high; or float64[3, 0] where nobody asks for it

    Rows of settled slots without surprise take a short path of some 35 instructions; all others go through
    `_zscore_row`, which is the whole rule. Square roots and divisions wait for the end of a block, where they are
    vectorised.
    """
    mean, variance = np.empty(_BLOCK), np.empty(_BLOCK)
    keep = 1.0 - gain
    for start in range(0, len(key), _BLOCK):
        n = min(_BLOCK, len(key) - start)
        keys, times, values = key[start : start + n], time[start : start + n], value[start : start + n]
        learns, statuses = learn[start : start + n], status[start : start + n]
        squares, states = score[start : start + n], given[start : start + n]
        for i in range(n):
            states[i] = statuses[i] | np.uint8(not abs(values[i]) <= LARGEST_VALUE) | np.uint8(not learns[i])
        for i in range(n):
            if i < n - _AHEAD:
                _prefetch(rows, np.uintp(np.uint32(keys[i + _AHEAD])))
            row = rows[np.uint32(keys[i])]
            now = times[i]
            gap = np.uint64(now - row.time)
            before, spread = row.mean, row.variance
            surprise = values[i] - before
            square = surprise * surprise
            if states[i] or row.count < full or gap > np.uint64(expiry) or square > CLIP * CLIP * spread:
                squares[i], states[i], mean[i], variance[i] = _zscore_row(
                    row, now, values[i], learns[i], statuses[i], warm_up, full, gain, expiry
                )
                continue
            squares[i], mean[i], variance[i] = square, before, spread
            row.mean = before + gain * surprise
            row.variance = keep * (spread + gain * square)
            row.time = now
        for i in range(n):
            result = math.sqrt(squares[i] / _floored(variance[i], mean[i]))
            squares[i] = LARGEST_SCORE if result > LARGEST_SCORE else result
        if band.shape[1]:
            for i in range(n):
                scored = states[i] == _SCORED
                half = width * math.sqrt(_floored(variance[i], mean[i]))
                band[0, start + i] = mean[i] if scored else np.nan
                band[1, start + i] = mean[i] - half if scored else np.nan
                band[2, start + i] = mean[i] + half if scored else np.nan


@inner
def _floored(variance: float, mean: float) -> float:
    floor = (LEAST_RATIO * LEAST_RATIO) * (mean * mean)
    larger = variance if variance > floor else floor
    return larger if larger > LEAST_SCALE * LEAST_SCALE else LEAST_SCALE * LEAST_SCALE


@inner
def _zscore_row(
    row: Any,
    time: int,
    value: float,
    learn: bool,
    status: int,
    warm_up: int,
    full: int,
    gain: float,
    expiry: int,
) -> tuple[float, Any, float, float]:
    """(squared surprise, status, mean, variance) of one row, which is learnt where `learn`; NaN = not scored."""
    if status != _SCORED:
        return np.nan, status, 0.0, 1.0
    if not abs(value) < np.inf:
        return np.nan, np.uint8(_MISSING), 0.0, 1.0
    value = min(max(value, -LARGEST_VALUE), LARGEST_VALUE)
    mean, variance, count, last = row.mean, row.variance, row.count, row.time
    if count == 0 or time - last > expiry:
        mean, variance, count, last = value, 0.0, 0, time
    surprise = value - mean
    square = surprise * surprise
    warm = count >= warm_up
    if learn:
        learnt, learnt_square = surprise, square
        most = CLIP * CLIP * _floored(variance, mean)
        if warm and square > most:
            learnt, learnt_square = math.copysign(math.sqrt(most), surprise), most
        count = min(count + 1, full)
        weight = max(1.0 / count, gain)
        row.mean = mean + weight * learnt
        row.variance = (1.0 - weight) * (variance + weight * learnt_square)
        row.count = count
        row.time = max(time, last)
    return (square if warm else np.nan), np.uint8(_SCORED if warm else _WARMING_UP), mean, variance


@entry
def robust_z_sweep(
    numbers: NDArray[np.float64],
    whole: NDArray[np.int64],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    warm_up: int,
    min_change: float,
    expiry: int,
    width: float,
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    band: NDArray[np.float64],
) -> None:
    """Distance from the median of a sliding window in floored scales, for rows of series in their order.

    `numbers` float64[slots, 7 + 2·window] and `whole` int64 of the same shape are two views of the same slots (see
    `TIME` … `RING`), so that one compiled kernel serves every length of window. The other parameters are those of
    `zscore_sweep`; `min_change` is the least scale of all slots. O(log window) a row, and one move of memory.
    """
    for i in range(len(key)):
        score[i], given[i] = np.nan, status[i]
        if band.shape[1]:
            band[0, i], band[1, i], band[2, i] = np.nan, np.nan, np.nan
        if status[i] != _SCORED:
            continue
        if not abs(value[i]) < np.inf:
            given[i] = _MISSING
            continue
        x = min(max(value[i], -LARGEST_VALUE), LARGEST_VALUE) + 0.0  # + 0.0: there is one zero, not two
        slot, counts = numbers[np.uint32(key[i])], whole[np.uint32(key[i])]
        fresh = counts[COUNT] == 0 or time[i] - counts[TIME] > expiry
        learnt = x
        if fresh or counts[COUNT] < warm_up:
            given[i] = _WARMING_UP
        else:
            center, scale, least = _center_and_scale(slot, counts, x, min_change)
            distance = abs(x - center) / scale
            score[i] = LARGEST_SCORE if distance > LARGEST_SCORE else distance
            learnt = min(max(x, center - VALUE_CLIP * scale), center + VALUE_CLIP * scale) + 0.0
            if band.shape[1]:
                low = center - width * scale
                # What has never been negative is not expected to be.
                band[0, i], band[1, i] = center, max(low, 0.0) if least >= 0.0 else low
                band[2, i] = center + width * scale
        if learn[i]:
            if fresh:
                _clear(slot, counts, time[i])
            _remember(slot, counts, x, learnt)
            counts[TIME] = max(time[i], counts[TIME])


@inner
def _clear(slot: NDArray[np.float64], counts: NDArray[np.int64], time: int) -> None:
    least = slot[MIN_CHANGE]
    slot[:] = 0.0
    slot[MIN_CHANGE] = least
    counts[TIME] = time


@inner
def _center_and_scale(
    slot: NDArray[np.float64], counts: NDArray[np.int64], x: float, min_change: float
) -> tuple[float, float, float]:
    """Median, floored scale and least value of a slot's window, for judging `x`."""
    window = (len(slot) - RING) // 2
    n = counts[COUNT]
    ordered = slot[RING + window : RING + window + n]
    median = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])
    outside = max((n - 1) // 100, min(OUTLIERS, (n - 1) // 4))
    reach = ordered[n - 1 - outside] - ordered[outside]
    scale = max(MAD_TO_SD * median_distance(ordered, median), 0.1 * reach)
    scale = max(scale, 0.05 * abs(median))
    trust = min(counts[CHANGED], CHANGES_TRUSTED) / CHANGES_TRUSTED
    scale = max(scale, 0.5 * slot[CHANGE] * trust)
    if counts[CHANGED] == 0:
        scale = max(scale, abs(x - median) / (FIRST_MOVE_SCORE * math.sqrt(math.sqrt(n / FIRST_MOVE_ROWS))))
    scale = max(scale, max(slot[MIN_CHANGE], min_change) / MIN_CHANGE_SCORE)
    return median, max(scale, LEAST_SCALE), ordered[0]


@inner
def median_distance(ordered: NDArray[np.float64], center: float) -> float:
    """Median of |x − center| over sorted values float64[n], n > 0, in O(log n).

    The k values nearest to the center stand side by side, so their place is found by bisection.
    """
    n = len(ordered)
    k = (n + 1) // 2
    low, left = 0, n - k
    while left > 0:
        half = (left + 1) // 2
        middle = low + half - 1
        low += half if center - ordered[middle] > ordered[middle + k] - center else 0
        left -= half
    near: float = max(center - ordered[low], ordered[low + k - 1] - center)
    if n % 2:
        return near
    below = center - ordered[low - 1] if low > 0 else np.inf
    above = ordered[low + k] - center if low + k < n else np.inf
    second: float = min(below, above)
    return 0.5 * (near + second)


@inner
def _remember(slot: NDArray[np.float64], counts: NDArray[np.int64], seen: float, x: float) -> None:
    """Put `x`, learnt of the value `seen`, into the ring and its sorted copy; the oldest makes room."""
    window = (len(slot) - RING) // 2
    ring, ordered = slot[RING : RING + window], slot[RING + window :]
    n, head = counts[COUNT], counts[HEAD]
    if n:
        change = abs(seen - slot[LAST])
        if change > 0.0:
            if counts[CHANGED]:
                change = min(change, CHANGE_CLIP * slot[CHANGE])
            counts[CHANGED] = min(counts[CHANGED] + 1, CHANGES)
            slot[CHANGE] += (change - slot[CHANGE]) / counts[CHANGED]
    slot[LAST] = seen
    to = _first_not_below(ordered, n, x)
    if n < window:
        counts[COUNT] = n + 1
        gone = n
    else:
        gone = _first_not_below(ordered, n, ring[head])
    if to > gone:
        to -= 1
    _move(ordered, np.uintp(gone), np.uintp(to))
    ordered[to] = x
    ring[head] = x
    counts[HEAD] = head + 1 if head + 1 < window else 0


@inner
def _move(ordered: NDArray[np.float64], gone: Any, to: Any) -> None:
    """Close the gap at `gone` and open one at `to`; places are unsigned, so that the loops become vector moves."""
    one = np.uintp(1)
    if to > gone:
        for j in range(gone, to):
            ordered[j] = ordered[j + one]
    else:
        for j in range(np.uintp(0), gone - to):
            ordered[gone - j] = ordered[gone - j - one]


@inner
def _first_not_below(ordered: NDArray[np.float64], n: int, x: float) -> int:
    """Bisection without a branch that depends on the data: the processor would guess half of them wrong."""
    low = 0
    while n > 1:
        half = n // 2
        low += half if ordered[low + half - 1] < x else 0
        n -= half
    return low + (1 if n == 1 and ordered[low] < x else 0)
