"""Summaries of bounded size for what has no bound: quantiles, frequencies, and what was ever seen.

Each is a plain array, so that it is copied and restored as it is, and a function of what was put in and in which order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from foreshock.state.arithmetic import LN2, ln
from foreshock.state.jit import entry, inner

Int = Any
"""An integer in a kernel; numba knows its width."""

# -- hashes ------------------------------------------------------------------------------------------------------


@inner
def mixed(x: Int) -> Int:
    """Spread a 64-bit number over 64 bits: the finalizer of SplitMix64 (Steele et al. 2014); one to one."""
    x = np.uint64(x)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inner
def joined(a: Int, b: Int) -> Int:
    """One hash of two, in their order; never 0."""
    return mixed(np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b)) | np.uint64(1)


@inner
def text_hash(data: Any, start: Int, end: Int) -> Int:
    """A hash of the bytes `data[start:end]`: FNV-1a, spread."""
    h = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        h = (h ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    return mixed(h)


# -- quantiles ---------------------------------------------------------------------------------------------------

BUCKETS = 1024
ACCURACY = 0.01
"""A quantile is at most so far, relative, from the value that has its rank."""

LEAST_SECONDS = 1e-6
"""Durations below count as this; the last bucket ends at `LARGEST_SECONDS` and holds all that is longer."""

_GROWTH = (1 + ACCURACY) / (1 - ACCURACY)
BOUNDS = np.multiply.accumulate(np.r_[LEAST_SECONDS, np.full(BUCKETS - 1, _GROWTH)])
"""Upper ends of the buckets, float64[BUCKETS], seconds: each (1 + α) / (1 − α) times the one before."""

LARGEST_SECONDS = float(BOUNDS[-1])
"""Nearly 13 minutes."""

_MIDDLE = 2 / (1 + _GROWTH)


@inner
def bucket_of(seconds: float) -> Int:
    """The bucket (below[i − 1], below[i]] of a duration ≥ 0."""
    low, n = 0, BUCKETS
    while n > 1:
        half = n // 2
        low += half if BOUNDS[low + half - 1] < seconds else 0
        n -= half
    return min(low + (1 if BOUNDS[low] < seconds else 0), BUCKETS - 1)


@inner
def quantile_of(buckets: Any, count: Int, q: float) -> float:
    """The q-quantile of `count` > 0 durations in `buckets`: the value of rank ⌊q (count − 1)⌋, within `ACCURACY`.

    DDSketch (Masson, Rim & Lee 2019): buckets that grow geometrically, without collapsing, for the range is bounded.
    """
    rank = math.floor(q * (count - 1))
    seen = 0
    for i in range(BUCKETS):
        seen += buckets[i]
        if seen > rank:
            return BOUNDS[i] * _MIDDLE if i else LEAST_SECONDS
    return LARGEST_SECONDS


@entry
def fill_buckets(buckets: Any, seconds: Any) -> None:
    """Put durations float64[n] into buckets uint32[BUCKETS]."""
    for i in range(len(seconds)):
        buckets[bucket_of(seconds[i])] += 1


@entry
def read_quantile(buckets: Any, count: Int, q: float) -> float:
    """`quantile_of`, for Python."""
    return quantile_of(buckets, count, q)


# -- frequencies -------------------------------------------------------------------------------------------------

DEPTH, WIDTH = 4, 256
CELLS = DEPTH * WIDTH


@inner
def count_key(cells: Any, key: Int) -> Int:
    """Count a key (a spread 64-bit hash) once more in cells uint32[CELLS]; how often it was counted, never too low.

    Count-min (Cormode & Muthukrishnan 2005): of N counted in all, the answer is too high by more than e/256 · N = 1.1 %
    of N with a chance of at most e⁻⁴ = 1.8 %. Only cells that stand at the answer are raised (Estan & Varghese 2002),
    which makes it better and the bound no worse.
    """
    least = np.uint32(0xFFFFFFFF)
    for d in range(DEPTH):
        least = min(least, cells[_cell(key, d)])
    if least == np.uint32(0xFFFFFFFF):
        return np.int64(least)
    for d in range(DEPTH):
        at = _cell(key, d)
        if cells[at] == least:
            cells[at] = least + 1
    return np.int64(least) + 1


@inner
def _cell(key: Int, d: Int) -> Int:
    return d * WIDTH + np.int64((np.uint64(key) >> np.uint64(16 * d)) & np.uint64(WIDTH - 1))


@inner
def halve(cells: Any) -> None:
    """Let all that was counted count half: what is frequent now overtakes what was."""
    for i in range(len(cells)):
        cells[i] >>= np.uint32(1)


@entry
def count_keys(cells: Any, keys: Any, out: Any) -> None:
    """Count keys uint64[n] one after another; `out` int64[n] takes the answers."""
    for i in range(len(keys)):
        out[i] = count_key(cells, keys[i])


# -- what was ever seen ------------------------------------------------------------------------------------------

WAYS = 4
_KICKS = 500
KNOWN, NEW, FULL = range(3)


def filter_cells(buckets: int) -> int:
    """Length of the uint16 array of a filter with so many buckets (a power of two up to 65,536)."""
    return WAYS * buckets + 4


@inner
def remember(cells: Any, key: Int) -> Int:
    """Whether a key (a spread 64-bit hash) was seen before; it is from now on. `KNOWN`, `NEW`, or `FULL`: not kept.

    Cuckoo filter (Fan, Andersen, Kaminsky & Mitzenmacher 2014) with buckets of 4 and 16 bits a key. What was kept is
    always `KNOWN`; what never came is taken for `KNOWN` with a chance of at most 8 ÷ 65,535 = 0.013 %. It takes about
    95 % of its cells. The key that finds no place at last stays beside them, and then the filter is full.
    """
    stash = len(cells) - 4
    mask = np.uint64(stash // WAYS - 1)
    print_ = np.uint64(key) >> np.uint64(48)
    print_ = print_ if print_ != 0 else np.uint64(1)
    first = np.uint64(key) & mask
    second = _other(first, print_, mask)
    if _holds(cells, first, print_) or _holds(cells, second, print_) or _stashed(cells, first, second, print_):
        return KNOWN
    if cells[stash] != 0:
        return FULL
    if _put(cells, first, print_) or _put(cells, second, print_):
        return NEW
    at = first
    for kick in range(_KICKS):
        place = np.int64(at) * WAYS + kick % WAYS
        moved = np.uint64(cells[place])
        cells[place] = print_
        print_ = moved
        at = _other(at, print_, mask)
        if _put(cells, at, print_):
            return NEW
    cells[stash], cells[stash + 1] = print_, at
    return NEW


@inner
def _other(bucket: Int, print_: Int, mask: Int) -> Int:
    return (bucket ^ mixed(print_)) & mask


@inner
def _holds(cells: Any, bucket: Int, print_: Int) -> Any:
    at = np.int64(bucket) * WAYS
    found = False
    for k in range(WAYS):
        found = found or cells[at + k] == print_
    return found


@inner
def _stashed(cells: Any, first: Int, second: Int, print_: Int) -> Any:
    stash = len(cells) - 4
    return cells[stash] == print_ and (cells[stash + 1] == first or cells[stash + 1] == second)


@inner
def _put(cells: Any, bucket: Int, print_: Int) -> Any:
    at = np.int64(bucket) * WAYS
    for k in range(WAYS):
        if cells[at + k] == 0:
            cells[at + k] = print_
            return True
    return False


@entry
def remember_keys(cells: Any, keys: Any, out: Any) -> None:
    """`remember` keys uint64[n] one after another; `out` uint8[n] takes the answers."""
    for i in range(len(keys)):
        out[i] = remember(cells, keys[i])


# -- mixes -------------------------------------------------------------------------------------------------------


@inner
def mix_distance(a: Any, b: Any) -> float:
    """Distance in [0, 1] of two mixes, counts float64[n] ≥ 0 each with a sum above 0.

    The square root of the Jensen–Shannon divergence to base 2 (Endres & Schindelin 2003): 0 for the same shares, 1 for
    mixes that have nothing in common.
    """
    of_a, of_b = 0.0, 0.0
    for k in range(len(a)):
        of_a += a[k]
        of_b += b[k]
    total = 0.0
    for k in range(len(a)):
        p, q = a[k] / of_a, b[k] / of_b
        if p > 0.0:
            total += p * ln(2.0 * p / (p + q))
        if q > 0.0:
            total += q * ln(2.0 * q / (p + q))
    return math.sqrt(min(max(total / (2.0 * LN2), 0.0), 1.0))
