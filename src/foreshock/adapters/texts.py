"""Many texts in one piece of memory: a column of JSON, or the keys of messages, without an object each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from foreshock.state.blake2b import blake2b_64
from foreshock.state.jit import entry, inner

_SEED = np.uint64(secrets.randbits(64) | 1)
"""Of this process alone, so that nobody can choose texts that all fall into one place of a table."""
_FACTOR, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


class Texts(Sequence[str]):
    """n texts: text i is `data[start[i]:end[i]]`, in UTF-8; `data uint8[:]`, `start`, `end int64[n]`."""

    def __init__(self, data: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]) -> None:
        self.data, self.start, self.end = data, start, end

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Texts: ...
    def __getitem__(self, at: int | slice) -> str | Texts:
        if isinstance(at, slice):
            return Texts(self.data, self.start[at], self.end[at])
        return self.data[self.start[at] : self.end[at]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        data = self.data.tobytes()
        for start, end in zip(self.start.tolist(), self.end.tolist(), strict=True):
            yield data[start:end].decode()

    def hashes(self) -> NDArray[np.uint64]:
        """The first 64 bits of BLAKE2b of each: uint64[n]."""
        return blake2b_64(self.data, self.start, self.end)

    def numbered(self) -> tuple[NDArray[np.int64], list[str]]:
        """The number of each text `int64[n]`, and the texts by number, in the order of first appearance."""
        names = Names()
        return names.numbers(self), list(names)


class Names(Sequence[str]):
    """Different texts in the order of their first appearance, each known by its number."""

    def __init__(self) -> None:
        self._data, self._end = np.zeros(4096, np.uint8), np.zeros(64, np.int64)
        self._table = np.full(256, -1, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        if not 0 <= at < self._count:
            raise IndexError(at)
        return self._data[self._end[at - 1] if at else 0 : self._end[at]].tobytes().decode()

    def numbers(self, texts: Texts) -> NDArray[np.int64]:
        """The number of each text, new ones behind those that are known: int64[n]."""
        most = self._count + len(texts)
        used = int(self._end[self._count - 1]) if self._count else 0
        self._data = with_room(self._data, used + int((texts.end - texts.start).sum()))
        self._end = with_room(self._end, most)
        if 2 * most > len(self._table):
            self._table = np.full(1 << (2 * most).bit_length(), -1, np.int64)
            _put_all(self._data, self._end, self._count, _SEED, self._table)
        out = np.empty(len(texts), np.int64)
        self._count = _number(
            texts.data, texts.start, texts.end, self._data, self._end, self._count, _SEED, self._table, out
        )
        return out


def with_room(array: NDArray[Any], size: int) -> NDArray[Any]:
    """An array of at least so many, which begins with what is in `array`; zeros behind it."""
    if size <= len(array):
        return array
    out = np.zeros(1 << size.bit_length(), array.dtype)
    out[: len(array)] = array
    return out


@entry
def _number(
    data: Any, start: Any, end: Any, known: Any, known_end: Any, count: Any, seed: Any, table: Any, out: Any
) -> Any:
    """Number texts, `count` of which are known; there is room for all. `table` has a power of two places, -1 = free."""
    mask = np.uint64(len(table) - 1)
    for i in range(len(start)):
        place = _mixed(data, start[i], end[i], seed) & mask
        while table[place] >= 0:
            other = table[place]
            first = known_end[other - 1] if other > 0 else 0
            if _equal(data, start[i], end[i], known, first, known_end[other]):
                break
            place = (place + np.uint64(1)) & mask
        if table[place] < 0:
            to = known_end[count - 1] if count > 0 else 0
            for at in range(start[i], end[i]):
                known[to] = data[at]
                to += 1
            known_end[count], table[place] = to, count
            count += 1
        out[i] = table[place]
    return count


@entry
def _put_all(known: Any, known_end: Any, count: Any, seed: Any, table: Any) -> None:
    """Fill a free table."""
    first, mask = 0, np.uint64(len(table) - 1)
    for number in range(count):
        place = _mixed(known, first, known_end[number], seed) & mask
        while table[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table[place], first = number, known_end[number]


@inner
def _mixed(data: Any, start: Any, end: Any, seed: Any) -> Any:
    h = seed ^ np.uint64(end - start)
    for at in range(start, end):
        h = (h ^ np.uint64(data[at])) * _FACTOR
        h ^= h >> _SHIFT
    return h


@inner
def _equal(data: Any, start: Any, end: Any, other: Any, first: Any, last: Any) -> Any:
    size = end - start
    k = 0 if size == last - first else size + 1
    while k < size and data[start + k] == other[first + k]:
        k += 1
    return k == size
