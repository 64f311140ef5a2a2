"""A clock for tests: it goes when it is told to."""

from __future__ import annotations

import threading


class FakeClock:
    """A `Clock` that stands still until `advance` or `set`; sleepers wake when their time has come, or at `stop`.

    >>> clock = FakeClock(1_700_000_000)
    >>> clock.advance(1.5); clock.now_unix_nano()
    1700000001500000000
    """

    def __init__(self, unix_seconds: float = 1_700_000_000.0) -> None:
        self.stopped = threading.Event()
        self._now = round(unix_seconds * 1e9)
        self._passed = 0
        self._changed = threading.Condition()
        self._sleeping = 0

    def now_unix_nano(self) -> int:
        """What it shows, nanoseconds since the epoch."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Wait until so much has been advanced, or until `stop`."""
        with self._changed:
            until = self._passed + round(seconds * 1e9)
            self._sleeping += 1
            self._changed.notify_all()
            try:
                while self._passed < until and not self.stopped.is_set():
                    self._changed.wait()
            finally:
                self._sleeping -= 1

    def advance(self, seconds: float) -> None:
        """Let time pass: what it shows moves on, and sleepers come nearer to their end."""
        with self._changed:
            self._now += round(seconds * 1e9)
            self._passed += round(seconds * 1e9)
            self._changed.notify_all()

    def set(self, unix_seconds: float) -> None:
        """Set what it shows, as an administrator does; no time passes."""
        with self._changed:
            self._now = round(unix_seconds * 1e9)

    def stop(self) -> None:
        """Wake everybody who sleeps, for good."""
        with self._changed:
            self.stopped.set()
            self._changed.notify_all()

    def wait_for_sleepers(self, count: int = 1, timeout_seconds: float = 5.0) -> bool:
        """Wait, by the real clock, until so many sleep; whether they do."""
        with self._changed:
            return self._changed.wait_for(lambda: self._sleeping >= count, timeout_seconds)
