"""Times as senders write them → nanoseconds since the epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = Sequence[Any] | NDArray[Any]
"""The values of a field: an array of numbers, or a sequence of whatever they are."""
NANOS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_LIMITS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
_LARGEST = np.iinfo(np.int64).max
_MOST = 9.2e18
"""Nanoseconds in 2262, as a double."""


def unit_of_magnitude(value: float) -> str:
    """The unit in which a number is a plausible time.

    >>> [unit_of_magnitude(x) for x in (1.64e9, 1.64e12, 1.64e15, 1.64e18)]
    ['s', 'ms', 'us', 'ns']
    """
    return next((unit for limit, unit in _LIMITS if abs(value) < limit), "ns")


def numeric_times(numbers: NDArray[Any], unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Nanoseconds `int64[n]` of numbers `int64[n]` or `float64[n]`, and which of them are times.

    `unit` auto goes by each number's own magnitude, so that a time means the same in whatever company it comes.
    Fractions count to the microsecond: a double holds no more. Negative, NaN and beyond 2262 is no time.
    """
    if unit != "auto":
        return _scaled(numbers, unit)
    if not len(numbers):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    least, largest = float(numbers.min()), float(numbers.max())
    unit = unit_of_magnitude(largest)
    if math.isfinite(least) and math.isfinite(largest) and unit_of_magnitude(least) == unit:
        if least >= 0.0 and largest < _MOST / NANOS[unit]:
            return _nanos(numbers, NANOS[unit]), np.ones(len(numbers), np.bool_)
        return _scaled(numbers, unit)
    out, ok = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.bool_)
    floor = 0.0
    for limit, name in (*_LIMITS, (np.inf, "ns")):
        mine = (numbers >= floor) & (numbers < limit)
        out[mine], ok[mine] = _scaled(numbers[mine], name)
        floor = limit
    return out, ok


def _scaled(numbers: NDArray[Any], unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    factor = NANOS[unit]
    with np.errstate(invalid="ignore"):
        ok = (numbers >= 0) & (numbers <= _LARGEST // factor if numbers.dtype.kind != "f" else numbers < _MOST / factor)
    return _nanos(numbers if ok.all() else np.where(ok, numbers, 0), factor), ok


def _nanos(good: NDArray[Any], factor: int) -> NDArray[np.int64]:
    """Nanoseconds of numbers that are times."""
    if good.dtype.kind != "f":
        whole: NDArray[np.int64] = good.astype(np.int64) * factor
        return whole
    coarse = min(factor, 1_000)
    out: NDArray[np.int64] = np.rint(good * (factor // coarse)).astype(np.int64) * coarse
    return out


def parse_iso(text: str) -> int:
    """Nanoseconds of an ISO 8601 text (naive = UTC), -1 if it is none; digits beyond the microsecond are cut.

    >>> parse_iso("2021-12-20T11:33:20Z"), parse_iso("1640000000")
    (1640000000000000000, -1)
    """
    if text[4:5] != "-":
        return -1
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return -1
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        nanos = round(moment.timestamp() * 1e6) * 1_000
    except OverflowError:
        return -1
    return nanos if 0 <= nanos <= _LARGEST else -1


def times_of_values(values: Column, unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Nanoseconds of decoded JSON values: numbers or ISO texts; everything else is no time."""
    if isinstance(values, np.ndarray):
        return numeric_times(values, unit)
    kinds = set(map(type, values))
    if len(kinds) == 1:
        return _of_kind(values, kinds.pop(), unit)
    out, ok = np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_)
    for kind in (int, float, str):
        where = [at for at, value in enumerate(values) if type(value) is kind]
        if where:
            out[where], ok[where] = _of_kind([values[at] for at in where], kind, unit)
    return out, ok


def _of_kind(values: Sequence[Any], kind: type, unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if kind is int:
        try:
            return numeric_times(np.array(values, np.int64), unit)
        except OverflowError:
            return numeric_times(np.array([value if abs(value) < 2**63 else -1 for value in values], np.int64), unit)
    if kind is float:
        return numeric_times(np.array(values, np.float64), unit)
    if kind is str:
        out = np.array([parse_iso(value) for value in values], np.int64)
        return np.maximum(out, 0), out >= 0
    return np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_)
