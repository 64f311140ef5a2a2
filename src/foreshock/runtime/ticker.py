"""Watermarks of sources: what may be said about time when nothing comes."""

from __future__ import annotations

from dataclasses import dataclass, field

IDLE_SECONDS = 30.0
"""After so long without data the clock takes a source's place."""

BEHIND_SECONDS = 60.0
"""A source whose watermark is so far behind the newest does not hold the others back."""


@dataclass(slots=True)
class _Seen:
    largest: int
    wall: int


@dataclass(slots=True)
class Ticker:
    """Largest event time and last arrival of each source → the watermark of the task, which never falls.

    A source's watermark is its largest event time less its lateness; once it has been idle for 30 s it moves on with
    the clock, at the source's own offset to it, so that a replay of old times is not taken for silence.
    """

    lateness_nano: dict[str, int]
    default_lateness_nano: int
    watermark: int = 0
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def saw(self, source: str, largest: int, now: int) -> None:
        """A source brought data up to event time `largest`."""
        seen = self._seen.get(source)
        if seen is None:
            self._seen[source] = _Seen(largest, now)
        else:
            seen.largest, seen.wall = max(seen.largest, largest), now

    def of(self, source: str, now: int) -> int:
        """The watermark of one source that has been seen."""
        seen = self._seen[source]
        idle = now - seen.wall - int(IDLE_SECONDS * 1e9)
        return seen.largest - self.lateness_nano.get(source, self.default_lateness_nano) + max(0, idle)

    def tick(self, now: int) -> int | None:
        """The task's new watermark, or None if it has not risen."""
        if not self._seen:
            return None
        marks = [self.of(source, now) for source in self._seen]
        newest = max(marks)
        mark = min(m for m in marks if m >= newest - int(BEHIND_SECONDS * 1e9))
        if mark <= self.watermark:
            return None
        self.watermark = mark
        return mark

    def silent_seconds(self, now: int) -> dict[str, float]:
        """Seconds since each source last brought data."""
        return {source: max(0, now - seen.wall) / 1e9 for source, seen in self._seen.items()}
