"""Messages of one partition, in columns: what most of them hold is looked at without an object for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.kafka.keys import Keys
from foreshock.state.jit import entry

Message = Any
"""A message of confluent-kafka, or a `Plain` one."""
At = tuple[str, int]
"""A partition: its topic and number."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A message as confluent-kafka gives it, or an error in a message's place."""

    at: At
    number: int
    millis: int
    name: bytes | None
    body: bytes | None
    said: Any = None
    trouble: Any = None

    def topic(self) -> str:
        """Where it is from."""
        return self.at[0]

    def partition(self) -> int:
        """Where it is from."""
        return self.at[1]

    def offset(self) -> int:
        """Its number in the partition."""
        return self.number

    def timestamp(self) -> tuple[int, int]:
        """When it was written (ms)."""
        return 1, self.millis

    def key(self) -> bytes | None:
        """Its key."""
        return self.name

    def value(self) -> bytes | None:
        """What it holds."""
        return self.body

    def headers(self) -> Any:
        """Pairs of a name and bytes; None without any."""
        return self.said

    def error(self) -> Any:
        """The error that stands in its place."""
        return self.trouble


_BRACE = ord("{")


class Stretch(Sequence[Message]):
    """n messages of the partition `at`, in order: `offset`, `stamp int64[n]` (ms).

    Message i holds `values[start[i]:start[i] + size[i]]`, with a line feed behind it, and its key is
    `keys[key_start[i]:key_start[i] + key_size[i]]`; sizes are -1 where there is none. Those with headers or without a
    value, and errors, stand in `odd` by their place.
    """

    __slots__ = ("at", "key_size", "key_start", "keys", "odd", "offset", "size", "stamp", "start", "values")

    def __init__(
        self, at: At, offset: NDArray[np.int64], stamp: NDArray[np.int64],
        values: NDArray[np.uint8], start: NDArray[np.int64], size: NDArray[np.int64],
        keys: NDArray[np.uint8], key_start: NDArray[np.int64], key_size: NDArray[np.int64], odd: dict[int, Message],
    ) -> None:  # fmt: skip
        self.at, self.offset, self.stamp, self.odd = at, offset, stamp, odd
        self.values, self.start, self.size = values, start, size
        self.keys, self.key_start, self.key_size = keys, key_start, key_size

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Stretch:
        """Messages of one partition, at least one, as a stretch."""
        if isinstance(messages, Stretch):
            return messages
        n = len(messages)
        values, keys = [one.value() for one in messages], [one.key() for one in messages]
        data = b"".join(b"%b\n" % one for one in values if one is not None)
        odd = {at: one for at, one in enumerate(messages) if values[at] is None or one.headers()}
        size = np.fromiter((-1 if one is None else len(one) for one in values), np.int64, n)
        key_size = np.fromiter((-1 if one is None else len(one) for one in keys), np.int64, n)
        return cls(
            (messages[0].topic(), messages[0].partition()),
            np.fromiter((one.offset() for one in messages), np.int64, n),
            np.fromiter((one.timestamp()[1] for one in messages), np.int64, n),
            np.frombuffer(data, np.uint8), before(size + 1), size,
            np.frombuffer(b"".join(filter(None, keys)), np.uint8), before(np.maximum(key_size, 0)), key_size, odd,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.offset)

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> Stretch: ...
    def __getitem__(self, place: int | slice) -> Message:
        if isinstance(place, slice):
            first, last, _ = place.indices(len(self))
            return self.only(np.arange(first, last))
        i = range(len(self))[place]
        if i in self.odd:
            return self.odd[i]
        key = None if self.key_size[i] < 0 else _cut(self.keys, self.key_start[i], self.key_size[i])
        value = _cut(self.values, self.start[i], self.size[i])
        return Plain(self.at, int(self.offset[i]), int(self.stamp[i]), key, value)

    def only(self, places: NDArray[np.int64]) -> Stretch:
        """Those of some places, which rise."""
        odd = {new: self.odd[old] for new, old in enumerate(places.tolist()) if old in self.odd} if self.odd else {}
        return Stretch(
            self.at, self.offset[places], self.stamp[places], self.values, self.start[places], self.size[places],
            self.keys, self.key_start[places], self.key_size[places], odd,
        )  # fmt: skip

    def body(self) -> bytes | None:
        """What all hold, a line each, if it may be JSON and nothing is odd, and they stand one behind the other."""
        if self.odd or not len(self) or not self.size[0] or self.values[self.start[0]] != _BRACE:
            return None
        first, last = int(self.start[0]), int(self.start[-1] + self.size[-1])
        whole = int(self.size.sum()) + len(self) - 1 == last - first
        return self.values[first:last].tobytes() if whole else None

    def bodies(self) -> list[bytes | None]:
        """What each holds."""
        data = self.values.data
        out: list[bytes | None] = [
            bytes(data[start : start + size]) if size >= 0 else None
            for start, size in zip(self.start.tolist(), self.size.tolist(), strict=True)
        ]
        return out

    def line(self, place: int) -> bytes | None:
        """What one holds, if that is one line of JSON and it says no more; else None."""
        first, size = int(self.start[place]), int(self.size[place])
        if place in self.odd or not size or self.values[first] != _BRACE:
            return None
        line = self.values[first : first + size].tobytes()
        return None if b"\n" in line else line

    def headers(self) -> list[Any]:
        """The headers of each."""
        out: list[Any] = [None] * len(self)
        for at, one in self.odd.items():
            out[at] = one.headers()
        return out

    def keyed(self, places: NDArray[np.int64], number: NDArray[np.int64], keys: Keys) -> NDArray[np.bool_]:
        """Whether messages have the keys of these numbers, -1 = none: bool[places]."""
        out = np.zeros(len(places), np.bool_)
        _compare(self.keys, self.key_start, self.key_size, places, *keys.texts(), number, out)
        return out


def span(messages: Sequence[Message]) -> tuple[At, int, int]:
    """The partition of messages, at least one, and the offsets of the first and the last."""
    if isinstance(messages, Stretch):
        return messages.at, int(messages.offset[0]), int(messages.offset[-1])
    return (messages[0].topic(), messages[0].partition()), messages[0].offset(), messages[-1].offset()


def before(size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each begins if they stand one behind the other."""
    out: NDArray[np.int64] = np.cumsum(size) - size
    return out


def _cut(data: NDArray[np.uint8], start: int, size: int) -> bytes:
    return data[start : start + size].tobytes()


@entry
def _compare(
    keys: Any, start: Any, size: Any, places: Any, names: Any, name_start: Any, name_size: Any, number: Any, out: Any
) -> None:
    for k in range(len(places)):
        i, name = places[k], number[k]
        if name < 0 or size[i] != name_size[name]:
            continue
        same = 0
        while same < size[i] and keys[start[i] + same] == names[name_start[name] + same]:
            same += 1
        out[k] = same == size[i]
