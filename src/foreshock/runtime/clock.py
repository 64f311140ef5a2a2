"""The world's clock; the pipeline never asks it."""

from __future__ import annotations

import threading
import time


class SystemClock:
    """Wall clock whose sleepers wake when it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def now_unix_nano(self) -> int:
        """Wall clock, nanoseconds since the epoch."""
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        """Wait, at most until `stop`."""
        self.stopped.wait(max(0.0, seconds))

    def stop(self) -> None:
        """Wake everybody who sleeps, for good."""
        self.stopped.set()


class FastClock(SystemClock):
    """A clock that shows the world's time when it is made, and goes `speed` times as fast from then on."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed
        self._made = time.time_ns()
        self._from = time.perf_counter_ns()

    def now_unix_nano(self) -> int:
        """What it shows, nanoseconds since the epoch."""
        return self._made + int((time.perf_counter_ns() - self._from) * self._speed)

    def sleep(self, seconds: float) -> None:
        """Wait for so many of its own seconds, at most until `stop`."""
        super().sleep(seconds / self._speed)
