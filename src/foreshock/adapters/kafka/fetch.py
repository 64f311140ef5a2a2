"""A consumer of inputs whose messages come in columns, a stretch for each partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.kafka.fetch_kernel import ODD, copy, destroy, link, look
from foreshock.adapters.kafka.librdkafka import CMessage, Consumer, bytes_at, error_of, functions, headers_of
from foreshock.adapters.kafka.stretch import Message, Plain, Stretch, before


class Inputs(Consumer):
    """A plain consumer that reads up to `most` messages at once."""

    def __init__(self, values: Mapping[str, Any], most: int) -> None:
        link()
        super().__init__(values)
        self._pointers = np.zeros(most, np.uint64)
        self._scratch = np.zeros(1, np.uint64)

    def read(self, wait_seconds: float) -> list[Stretch]:
        """What has come; waits at most so long where nothing is there."""
        found = self.fetch(self._pointers, 0.0)
        if not found and wait_seconds > 0:
            found = self.fetch(self._pointers[:1], wait_seconds)
            found += self.fetch(self._pointers[found:], 0.0) if found else 0
        pointers = self._pointers[:found]
        try:
            return self._stretches(pointers) if found else []
        finally:
            destroy(pointers)

    def _stretches(self, pointers: NDArray[np.uint64]) -> list[Stretch]:
        n = len(pointers)
        error, partition = np.empty((2, n), np.int32)
        topic, kind = np.empty(n, np.uint64), np.empty(n, np.uint8)
        offset, stamp, size, key_size = np.empty((4, n), np.int64)
        look(pointers, self._scratch.ctypes.data, error, topic, partition, offset, stamp, size, key_size, kind)
        order = _together(topic, partition)
        start, key_start = before(size[order] + 1), before(np.maximum(key_size[order], 0))
        values = np.empty(int(size.sum()) + n, np.uint8)
        keys = np.empty(int(np.maximum(key_size, 0).sum()), np.uint8)
        copy(pointers, order, size, key_size, values, keys)
        topic, partition, kind = topic[order], partition[order], kind[order]
        new = (topic[1:] != topic[:-1]) | (partition[1:] != partition[:-1])
        ends = [*(np.flatnonzero(new) + 1).tolist(), n]
        out, first = [], 0
        for last in ends:
            at, mine = (_name(int(topic[first])), int(partition[first])), order[first:last]
            odd = {
                place: _message(at, int(pointers[mine[place]]), int(stamp[mine[place]]))
                for place in np.flatnonzero(kind[first:last] == ODD).tolist()
            }
            one = slice(first, last)
            out.append(
                Stretch(at, offset[mine], stamp[mine], values, start[one], size[mine], keys, key_start[one],
                        key_size[mine], odd)
            )  # fmt: skip
            first = last
        return out


def _together(topic: NDArray[np.uint64], partition: NDArray[np.int32]) -> NDArray[np.int64]:
    """An order in which the messages of a partition stand together, in their order."""
    out: NDArray[np.int64] = np.lexsort((partition, topic))
    return out


def _name(topic: int) -> str:
    return functions().rd_kafka_topic_name(topic).decode() if topic else ""


def _message(at: tuple[str, int], pointer: int, millis: int) -> Message:
    """A message that is not like most, as an object."""
    one = CMessage.from_address(pointer)
    error = error_of(one, pointer)
    value = None if error is not None or not one.payload else bytes_at(one.payload, one.size)
    key = None if not one.key else bytes_at(one.key, one.key_size)
    return Plain(at, one.offset, millis, key, value, headers_of(pointer), error)
