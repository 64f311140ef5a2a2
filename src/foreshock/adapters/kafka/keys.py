"""Where an entity's messages belong: its key, and the partition in which Java's clients put that key."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from foreshock.types import Labels, Samples, label_text

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
