"""Re-keyed messages in the order of event time: each is held until no older one can come of another origin.

An origin is a partition of an input. Its messages, and its marks, which say how far it has come, stand in each
partition of the keyed topic in its own order; those of different origins lie beside one another as chance will have it.
What is released is a function of that one log, however it was cut when it was read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import msgspec

from foreshock.adapters.kafka.messages import Forward
from foreshock.telemetry import DROPPED

GRACE_NANO = 2_000_000_000
"""An origin that was at its end holds nobody for so long after it last said so."""
MOST_HELD = 200_000
"""Messages held; beyond it the oldest go on, counted, though older ones may still come."""


class Held(msgspec.Struct, array_like=True):
    """A message that waits: its newest event time, its place among those of the same time, and what it holds."""

    time: int
    order: int
    source: str
    content_type: str
    received: int
    payload: bytes


class Origin(msgspec.Struct):
    """How far an origin has come (`time`, None = unknown), and when (`said`, Unix ns) it was at its end."""

    source: str
    of: int
    time: int | None = None
    ended: bool = False
    said: int = 0


class _Memory(msgspec.Struct):
    origins: dict[str, Origin]
    held: list[Held]
    clock: int
    order: int


_decode = msgspec.msgpack.Decoder(_Memory).decode


class Merge:
    """Origins and what is held; `lateness_nano(source)` of each source."""

    def __init__(self, lateness_nano: Callable[[str], int]) -> None:
        self.origins: dict[str, Origin] = {}
        self._lateness = lateness_nano
        self._held: list[tuple[int, int, Held]] = []
        self._clock = self._order = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, forward: Forward, payload: bytes, clock: int) -> None:
        """Take a message; `clock` is when it was appended (Unix ns)."""
        origin = self._origin(forward, clock)
        origin.ended = False
        # Whose time cannot be believed, or is not known, waits for nobody.
        time = forward.time if forward.time is not None else -(1 << 62)
        if forward.time is not None:
            origin.time = forward.time if origin.time is None else max(origin.time, forward.time)
        self._order += 1
        held = Held(time, self._order, forward.source, forward.content_type, forward.received, payload)
        heapq.heappush(self._held, (time, self._order, held))

    def mark(self, forward: Forward, clock: int) -> None:
        """Take a mark: how far an origin has come."""
        origin = self._origin(forward, clock)
        origin.ended = forward.ended
        if forward.time is not None:
            origin.time = forward.time if origin.time is None else max(origin.time, forward.time)

    def release(self) -> Iterator[Held]:
        """What nothing older can come before, in order."""
        level = self._least(lambda origin: 0)
        while self._held:
            over = len(self._held) > MOST_HELD
            if not over and (level is None or self._held[0][0] > level):
                return
            if over and (level is None or self._held[0][0] > level):
                DROPPED.labels("merge_full").inc()
            yield heapq.heappop(self._held)[2]

    def watermark(self) -> int | None:
        """Nothing older than this comes any more, lateness allowed for; None = not known yet."""
        return self._least(lambda origin: self._lateness(origin.source))

    def level(self) -> int | None:
        """The event time up to which messages are released."""
        return self._least(lambda origin: 0)

    def _least(self, less: Callable[[Origin], int]) -> int | None:
        """The least time of the origins that have to be waited for, else the greatest of all."""
        spoken: dict[str, int] = {}
        for origin in self.origins.values():
            spoken[origin.source] = spoken.get(origin.source, 0) + 1
        holding = [one for one in self.origins.values() if not self._at_end(one)]
        times = [one.time - less(one) for one in self.origins.values() if one.time is not None]
        if not times or any(one.time is None for one in holding):
            return None
        if any(spoken[one.source] < one.of for one in self.origins.values()):
            return None
        return min((one.time - less(one) for one in holding if one.time is not None), default=max(times))

    def _at_end(self, origin: Origin) -> bool:
        return origin.ended and origin.said >= self._clock - GRACE_NANO

    def _origin(self, forward: Forward, clock: int) -> Origin:
        self._clock = max(self._clock, clock)
        origin = self.origins.get(forward.origin)
        if origin is None:
            origin = self.origins[forward.origin] = Origin(forward.source, forward.of)
        origin.of, origin.said = forward.of, self._clock
        return origin

    def encode(self) -> bytes:
        """All of it."""
        held = [entry[2] for entry in sorted(self._held, key=lambda entry: entry[:2])]
        return msgspec.msgpack.encode(_Memory(self.origins, held, self._clock, self._order))

    def decode(self, data: bytes) -> None:
        """Take over what `encode` gave."""
        memory = _decode(data)
        self.origins, self._clock, self._order = memory.origins, memory.clock, memory.order
        self._held = [(held.time, held.order, held) for held in memory.held]
