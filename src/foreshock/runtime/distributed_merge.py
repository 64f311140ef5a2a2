"""Event time over all partitions of the inputs, and re-keyed messages in its order.

An origin is a partition of an input. Its messages, where they are passed on, and its marks, which say how far it has
come, stand in each partition of the keyed topic in its own order; those of different origins lie beside one another as
chance will have it. What is released is a function of that one log, however it was cut when it was read.

An origin is past an event time if it has brought it, or if it was at its end when others had brought it already: what
it brings later was written later. So an origin that brings nothing holds nobody, one that is not read holds everybody,
and a past that is read faster than it happened keeps its order.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterator

import msgspec

from foreshock.adapters.kafka.messages import NEVER, Forward
from foreshock.telemetry import DROPPED

QUIET_NANO, BEHIND_NANO = 5_000_000_000, 60_000_000_000
"""An input to which nothing was written for so long does not hold others if it is so far behind the newest."""
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
    """How far an origin has come (`time`, None = nothing yet); all that was written before `until` has been read."""

    source: str
    of: int
    time: int | None = None
    until: int = 0


class _Memory(msgspec.Struct):
    origins: dict[str, Origin]
    held: list[Held]
    reached: dict[str, tuple[list[int], list[int]]]
    clock: int
    order: int


_decode = msgspec.msgpack.Decoder(_Memory).decode


class Merge:
    """Origins and what is held; `lateness_nano(source)` of each source."""

    def __init__(self, lateness_nano: Callable[[str], int]) -> None:
        self.origins: dict[str, Origin] = {}
        self._lateness = lateness_nano
        self._held: list[tuple[int, int, Held]] = []
        # By source: times of writing, and the event time that all messages written up to then had reached.
        self._reached: dict[str, tuple[list[int], list[int]]] = {}
        self._clock = self._order = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, forward: Forward, payload: bytes) -> None:
        """Take a message, or each line of one that holds several."""
        self._hear(forward)
        if not forward.times:
            self._hold(NEVER if forward.time is None else forward.time, forward, payload)
            return
        for time, line in zip(forward.times, payload.split(b"\n"), strict=True):
            self._hold(time, forward, line)

    def _hold(self, time: int, forward: Forward, payload: bytes) -> None:
        self._order += 1
        held = Held(time, self._order, forward.source, forward.content_type, forward.received, payload)
        heapq.heappush(self._held, (time, self._order, held))

    def mark(self, forward: Forward, clock: int) -> None:
        """Take a mark, which was appended at `clock` (Unix ns)."""
        self._clock = max(self._clock, clock)
        origin = self._hear(forward)
        # Not ahead of the broker's clock: a worker whose clock has leapt has not read the future.
        origin.until = max(origin.until, min(forward.until, clock))
        self._forget(forward.source)

    def release(self) -> Iterator[Held]:
        """What nothing older can come before, in order."""
        level = self.level()
        while self._held:
            if level is None or self._held[0][0] > level:
                if len(self._held) <= MOST_HELD:
                    return
                DROPPED.labels("merge_full").inc()
            yield heapq.heappop(self._held)[2]

    def level(self) -> int | None:
        """The event time that all origins are past; None = not known yet."""
        return self._least(lambda source: 0)

    def watermark(self) -> int | None:
        """Nothing older than this comes any more, lateness allowed for; None = not known yet."""
        return self._least(self._lateness)

    def _least(self, less: Callable[[str], int]) -> int | None:
        sources: dict[str, list[Origin]] = {}
        for origin in self.origins.values():
            sources.setdefault(origin.source, []).append(origin)
        past: list[tuple[int, bool]] = []
        for source, origins in sources.items():
            if len(origins) < origins[0].of:
                return None
            read = min(origin.until for origin in origins)
            if source not in self._reached and read:
                continue  # nothing was ever written to it
            times = [self._past(origin) for origin in origins]
            known = [time for time in times if time is not None]
            if len(known) < len(times):
                return None
            last = self._reached[source][0][-1] if source in self._reached else 0
            quiet = read >= last + QUIET_NANO and read >= self._clock - QUIET_NANO
            past.append((min(known) - less(source), quiet))
        if not past:
            return None
        behind = max(time for time, _ in past) - BEHIND_NANO
        return min(time for time, quiet in past if time >= behind or not quiet)

    def _past(self, origin: Origin) -> int | None:
        """The event time that an origin is past."""
        written, times = self._reached.get(origin.source, ([], []))
        at = bisect_right(written, origin.until)
        if not at:
            return origin.time
        return times[at - 1] if origin.time is None else max(origin.time, times[at - 1])

    def _hear(self, forward: Forward) -> Origin:
        origin = self.origins.get(forward.origin)
        if origin is None:
            origin = self.origins[forward.origin] = Origin(forward.source, forward.of)
        origin.of = forward.of
        if forward.time is not None:
            origin.time = forward.time if origin.time is None else max(origin.time, forward.time)
            self._reach(forward.source, forward.written, origin.time)
        return origin

    def _reach(self, source: str, written: int, time: int) -> None:
        """Messages written up to then have reached that event time."""
        at, times = self._reached.setdefault(source, ([], []))
        place = bisect_right(at, written)
        if place and times[place - 1] >= time:
            return
        end = place
        while end < len(at) and times[end] <= time:
            end += 1
        if place and at[place - 1] == written:
            place -= 1
        at[place:end], times[place:end] = [written], [time]

    def _forget(self, source: str) -> None:
        """Let go of what no origin will ask for any more."""
        at, times = self._reached.get(source, ([], []))
        least = min(origin.until for origin in self.origins.values() if origin.source == source)
        old = bisect_right(at, least) - 1
        if old > 0:
            del at[:old], times[:old]

    def encode(self) -> bytes:
        """All of it."""
        held = [entry[2] for entry in sorted(self._held, key=lambda entry: entry[:2])]
        return msgspec.msgpack.encode(_Memory(self.origins, held, self._reached, self._clock, self._order))

    def decode(self, data: bytes) -> None:
        """Take over what `encode` gave."""
        memory = _decode(data)
        self.origins, self._clock, self._order = memory.origins, memory.clock, memory.order
        self._reached = memory.reached
        self._held = [(held.time, held.order, held) for held in memory.held]
