"""Where an entity's messages belong: its key, and the partition in which Java's clients put that key."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.texts import with_room
from foreshock.types import Labels, Samples, Series, label_text

_SEED, _M, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


@lru_cache(maxsize=200_000)
def entity_key(entity: Labels) -> bytes:
    """The message key of an entity: its value where it has one label, else its canonical text.

    >>> entity_key((("userId", "u-7"),)), entity_key((("a", "1"), ("b", "2")))
    (b'u-7', b'{a="1",b="2"}')
    """
    return (entity[0][1] if len(entity) == 1 else label_text(entity)).encode()


def murmur2(data: bytes) -> int:
    """The 32-bit hash of Kafka's default partitioner.

    >>> murmur2(b"21"), murmur2(b"foobar")
    (3321034988, 3504634814)
    """
    size = len(data)
    h = _SEED ^ size
    whole = size & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if size > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


class Keys:
    """Keys of entities, each known by its number; for series of a dictionary that grows, remembered by theirs."""

    def __init__(self) -> None:
        self._number: dict[bytes, int] = {}
        self._hash = np.zeros(64, np.int64)
        self._data, self._start, self._size = np.zeros(1024, np.uint8), np.zeros(64, np.int64), np.zeros(64, np.int64)
        self._of = np.zeros(64, np.int64)
        self._known = 0

    def __len__(self) -> int:
        return len(self._number)

    def __getitem__(self, number: int) -> bytes:
        start = self._start[number]
        return self._data[start : start + self._size[number]].tobytes()

    def numbers(self, series: Sequence[Series]) -> NDArray[np.int64]:
        """The number of the key of each series, of which those before the last answer are the same: int64[n]."""
        if self._known < len(series):
            self._of = with_room(self._of, len(series))
            for at in range(self._known, len(series)):
                key = entity_key(series[at].entity)
                number = self._number.get(key)
                self._of[at] = self._add(key) if number is None else number
            self._known = len(series)
        return self._of[: len(series)]

    def partitions(self, numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The partitions of keys among so many."""
        out: NDArray[np.int64] = self._hash[numbers] % count
        return out

    def texts(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """All keys: their bytes, and where each begins and how many it has."""
        return self._data, self._start, self._size

    def _add(self, key: bytes) -> int:
        number, first = len(self), int(self._start[len(self) - 1] + self._size[len(self) - 1]) if len(self) else 0
        self._number[key] = number
        self._data = with_room(self._data, first + len(key))
        for name in ("_start", "_size", "_hash"):
            setattr(self, name, with_room(getattr(self, name), number + 1))
        self._data[first : first + len(key)] = np.frombuffer(key, np.uint8)
        self._start[number], self._size[number] = first, len(key)
        self._hash[number] = murmur2(key) & 0x7FFFFFFF
        return number


@lru_cache(maxsize=200_000)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def split(samples: Samples, partitions: int) -> dict[int, Samples]:
    """Samples by the partition of their entity."""
    known: dict[Labels, int] = {}
    for one in samples.series:
        if one.entity not in known:
            known[one.entity] = partition_of(entity_key(one.entity), partitions)
    of_series = np.array([known[one.entity] for one in samples.series], np.int64)
    of_sample = of_series[samples.index]
    out = {}
    for partition in np.unique(of_sample).tolist():
        at = of_sample == partition
        series, index = np.unique(samples.index[at], return_inverse=True)
        out[partition] = Samples(
            tuple(samples.series[slot] for slot in series.tolist()), index.astype(np.int32),
            samples.time_unix_nano[at], samples.value[at], samples.event_id[at], {},
        )  # fmt: skip
    return out
