"""How often a caller may ask: a bucket of tokens for each caller and route."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic


class Limiter:
    """Each key may ask `burst` times at once and `rate` times a second from then on; the oldest keys are forgotten.

    >>> limiter = Limiter(rate=1.0, burst=2, clock=lambda: 0.0)
    >>> [limiter.wait("a") for _ in range(3)]
    [0.0, 0.0, 1.0]
    """

    def __init__(
        self, rate: float = 50.0, burst: float = 200.0, most_keys: int = 10_000, clock: Callable[[], float] = monotonic
    ) -> None:
        self._rate, self._burst, self._most, self._clock = rate, burst, most_keys, clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, key: str) -> float:
        """0 where the key may ask now, which counts; else whole seconds until it may."""
        now = self._clock()
        left, then = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1.0
        self._left[key] = (left - 1.0 if allowed else left, now)
        if len(self._left) > self._most:
            del self._left[next(iter(self._left))]
        return 0.0 if allowed else float(math.ceil((1.0 - left) / self._rate))
