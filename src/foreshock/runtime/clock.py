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
