"""Verdicts that do not wait for the transaction of what brought them: `kafka.verdicts: at_least_once`.

They are sent as soon as they are judged, and no transaction commits what they come of before the brokers have them. So
none is lost, and one whose transaction is given up is sent again: entity, feature, time and detector tell which.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from foreshock.adapters.kafka.client import make, producer_settings
from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.telemetry import ERRORS

WAIT_SECONDS = 0.01
MOST_QUEUED = 100_000
"""A full queue makes the worker wait: `send` blocks."""


class Prompt:
    """A producer without transactions. `send` is for the thread that judges, `have_arrived` for that which commits."""

    def __init__(self, options: KafkaOptions) -> None:
        self._producer = make(
            "Producer",
            producer_settings(
                options,
                enable_idempotence=False,
                acks="all",
                linger_ms=0,
                queue_buffering_max_messages=MOST_QUEUED,
            ),
        )
        self._lock = threading.Lock()
        # By number, in order, what the brokers have not said that they have; and what could not be delivered.
        self._open: dict[int, Out] = {}
        self._failed: list[int] = []
        self._next = 0

    @property
    def sent(self) -> int:
        """How many have been sent so far."""
        return self._next

    def send(self, messages: Iterable[Out]) -> None:
        """Send messages; waits where too many are on their way."""
        for out in messages:
            number, self._next = self._next, self._next + 1
            with self._lock:
                self._open[number] = out
            self._produce(number, out)
        self._producer.poll(0)

    def have_arrived(self, sent: int, seconds: float) -> bool:
        """Whether the brokers have the first `sent` messages; waits for that so long, and sends again what failed."""
        deadline = time.monotonic() + seconds
        while self._first() < sent:
            if time.monotonic() > deadline:
                return False
            self._producer.poll(WAIT_SECONDS)
            with self._lock:
                again, self._failed = [(number, self._open[number]) for number in self._failed], []
            for number, out in again:
                self._produce(number, out)
        return True

    def close(self) -> None:
        """Let go of what is on its way: it is not committed, so whoever goes on sends it again."""
        self._producer.purge()

    def _first(self) -> int:
        """The number of the first message that the brokers may not have."""
        with self._lock:
            return next(iter(self._open), self._next)

    def _produce(self, number: int, out: Out) -> None:
        told = partial(self._delivered, number)
        while True:
            try:
                self._producer.produce(out.topic, out.value, out.key, headers=list(out.headers), on_delivery=told)
            except BufferError:
                self._producer.poll(WAIT_SECONDS)
            else:
                return

    def _delivered(self, number: int, error: Any, _: Any) -> None:
        with self._lock:
            if error is None:
                del self._open[number]
                return
            self._failed.append(number)
        ERRORS.labels("kafka").inc()
