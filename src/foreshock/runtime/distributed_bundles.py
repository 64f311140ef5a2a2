"""Events that are passed on to the keyed topic, many lines to a message: what a message costs is shared by them."""

from __future__ import annotations

import msgspec

from foreshock.adapters.kafka.messages import FORWARD, NEVER, Forward, Out, encode
from foreshock.adapters.kafka.topics import Layout

MOST_LINES, MOST_BYTES = 512, 256 << 10
"""Lines and bytes of a message, but for one line that has more by itself."""


class _Open(msgspec.Struct):
    """Lines for a partition, and the event time of each."""

    lines: list[bytes] = []
    times: list[int] = []
    size: int = 0


class Bundles:
    """Lines of one origin, gathered by the partition of the keyed topic that each is for, in their order there.

    `told` is what is told of each message beside its times. What is full, and the rest at `close`, goes to `out`.
    """

    def __init__(self, layout: Layout, told: Forward, out: list[Out]) -> None:
        self._layout, self._told, self._out = layout, told, out
        self._open: dict[int, _Open] = {}

    def add(self, partition: int, line: bytes, time: int) -> None:
        """Add a line of JSON of an event time (Unix ns; `NEVER` without one)."""
        one = self._open.get(partition)
        if one is None:
            one = self._open[partition] = _Open()
        elif len(one.lines) >= MOST_LINES or one.size + len(line) > MOST_BYTES:
            self._send(partition, one)
            one = self._open[partition] = _Open()
        one.lines.append(line)
        one.times.append(time)
        one.size += len(line)

    def close(self) -> None:
        """Send the rest."""
        for partition, one in self._open.items():
            self._send(partition, one)
        self._open = {}

    def _send(self, partition: int, one: _Open) -> None:
        # Not what others of the origin came to: they may stand behind this in the log.
        newest = max(one.times)
        told = msgspec.structs.replace(self._told, time=None if newest == NEVER else newest, times=one.times)
        self._out.append(Out(self._layout.keyed, b"\n".join(one.lines), None, ((FORWARD, encode(told)),), partition))
