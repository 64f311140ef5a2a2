"""Watermarks of sources: what may be said about time when nothing comes."""

from __future__ import annotations

from dataclasses import dataclass, field

IDLE_SECONDS = 30.0
"""After so long without data the clock takes a source's place."""

BEHIND_SECONDS = 60.0
"""A source whose watermark is so far behind the newest does not hold the others back."""

CATCH_UP_SECONDS = 120.0
"""A source that brings its past, and at its pace will be here this soon, is waited for, at most so long."""

LEAP_SECONDS = 10.0
"""The most that counts as passed between two looks at the clock: more is a clock that was set, or a machine asleep."""


@dataclass(slots=True)
class _Seen:
    largest: int
    arrived: int
    first: int
    began: int


@dataclass(slots=True)
class Ticker:
    """Largest event time and last arrival of each source → the watermark of the task, which never falls.

    A source's watermark is its largest event time less its lateness; once it has been idle for 30 s it moves on with
    the clock, at the source's own offset to it, so that a replay of old times is not taken for silence. The clock may
    be set: steps back count as no time, leaps ahead as 10 s. Somebody has to look (`saw`, `tick`) more often than that.

    A source far behind the newest does not hold the others back, unless it is catching up: a watermark that leapt over
    the rest of its past would make that late or missing.
    """

    lateness_nano: dict[str, int]
    default_lateness_nano: int
    watermark: int = 0
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _clock: int | None = None
    _passed: int = 0

    def saw(self, source: str, largest: int, now: int) -> None:
        """A source brought data up to event time `largest`."""
        passed = self._pass(now)
        seen = self._seen.get(source)
        if seen is None:
            self._seen[source] = _Seen(largest, passed, largest, passed)
        else:
            seen.largest, seen.arrived = max(seen.largest, largest), passed

    def tick(self, now: int) -> int | None:
        """The task's new watermark, or None if it has not risen."""
        passed = self._pass(now)
        if not self._seen:
            return None
        marks = {source: self._of(source, seen, passed) for source, seen in self._seen.items()}
        newest = max(marks.values())
        least = newest - int(BEHIND_SECONDS * 1e9)
        mark = min(m for source, m in marks.items() if m >= least or self._catches_up(source, newest, passed))
        if mark <= self.watermark:
            return None
        self.watermark = mark
        return mark

    def newest(self, source: str) -> int | None:
        """The largest event time that a source has brought; None before the first."""
        seen = self._seen.get(source)
        return None if seen is None else seen.largest

    def lateness(self, source: str) -> int:
        """The lateness of a source in nanoseconds."""
        return self.lateness_nano.get(source, self.default_lateness_nano)

    def longest_lateness(self) -> int:
        """The longest lateness of the sources that are configured or have been seen, in nanoseconds."""
        return max((self.lateness(source) for source in [*self.lateness_nano, *self._seen]), default=0)

    def silent_seconds(self) -> dict[str, float]:
        """Seconds since each source last brought data, as of the last look at the clock."""
        return {source: (self._passed - seen.arrived) / 1e9 for source, seen in list(self._seen.items())}

    def _of(self, source: str, seen: _Seen, passed: int) -> int:
        idle = passed - seen.arrived - int(IDLE_SECONDS * 1e9)
        return seen.largest - self.lateness(source) + max(0, idle)

    def _catches_up(self, source: str, newest: int, passed: int) -> bool:
        """Whether a source that is behind will be here soon, going by how fast it has come so far."""
        seen, limit = self._seen[source], int(CATCH_UP_SECONDS * 1e9)
        gained, took = seen.largest - seen.first, seen.arrived - seen.began
        return gained > 0 and passed - seen.began < limit and (newest - seen.largest) * took <= limit * gained

    def _pass(self, now: int) -> int:
        """Time that has passed since the first look, in nanoseconds."""
        if self._clock is not None:
            self._passed += min(max(now - self._clock, 0), int(LEAP_SECONDS * 1e9))
        self._clock = now
        return self._passed
