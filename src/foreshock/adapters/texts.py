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
        code, first = np.empty(len(self), np.int64), np.empty(len(self), np.int64)
        table = np.full(1 << (2 * len(self) + 1).bit_length(), -1, np.int64)
        count = _numbered(self.data, self.start, self.end, _SEED, table, code, first)
        return code, [self[at] for at in first[:count].tolist()]


@entry
def _numbered(data: Any, start: Any, end: Any, seed: Any, table: Any, code: Any, first: Any) -> int:
    """Number texts; `table` has a power of two places, more than there are texts, -1 = free. How many there are."""
    count, mask = 0, np.uint64(len(table) - 1)
    for i in range(len(start)):
        place = _mixed(data, start[i], end[i], seed) & mask
        while table[place] >= 0:
            other = first[table[place]]
            if _equal(data, start[i], end[i], start[other], end[other]):
                break
            place = (place + np.uint64(1)) & mask
        if table[place] < 0:
            table[place], first[count] = count, i
            count += 1
        code[i] = table[place]
    return count


@inner
def _mixed(data: Any, start: Any, end: Any, seed: Any) -> Any:
    h = seed ^ np.uint64(end - start)
    for at in range(start, end):
        h = (h ^ np.uint64(data[at])) * _FACTOR
        h ^= h >> _SHIFT
    return h


@inner
def _equal(data: Any, start: Any, end: Any, other: Any, other_end: Any) -> Any:
    size = end - start
    k = 0 if size == other_end - other else size + 1
    while k < size and data[start + k] == data[other + k]:
        k += 1
    return k == size
