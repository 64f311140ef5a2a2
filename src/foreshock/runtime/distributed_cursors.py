"""Reading partitions of Kafka from given offsets on, as a restore does: one after the other, by few consumers."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import methodcaller
from typing import Any

from foreshock.adapters.kafka.client import library, make, settings, translate
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.errors import RetryableError
from foreshock.telemetry import KAFKA_LOST

logger = logging.getLogger(__name__)

MOST_READ, WAIT_SECONDS = 2000, 0.05
STALL_SECONDS, ASK_SECONDS = 60.0, 5.0
_OFFSET, _ERROR = methodcaller("offset"), methodcaller("error")


class Cursor:
    """Reads one partition from an offset on, committed messages only, in order."""

    def __init__(self, consumer: Any, topic: str, partition: int, offset: int) -> None:
        self._consumer, self._topic, self.next = consumer, topic, offset
        self._queue: list[Any] = []
        self._place, self._end = 0, -1
        self._at = library().TopicPartition(topic, partition, offset)
        self._consumer.assign([self._at])

    def say_lost(self) -> None:
        """Count what is gone already of what is to be read."""
        kafka = library()
        try:
            low, _ = self._consumer.get_watermark_offsets(self._at, timeout=ASK_SECONDS)
        except kafka.KafkaException as error:
            raise translate(error, f"{self._topic} cannot be asked for its offsets") from error
        if low > self.next:
            KAFKA_LOST.labels(self._topic).inc(low - self.next)
            logger.error("%s: offsets %d to %d are gone: what they held is left out", self._topic, self.next, low)

    def until(self, end: int) -> list[Any]:
        """The messages from where it stands up to offset `end`; counted where some are gone.

        Raises RetryableError where they do not come.
        """
        out: list[Any] = []
        while self.next < end:
            message = self._first(end)
            if message is None or message.offset() >= end:
                KAFKA_LOST.labels(self._topic).inc(end - self.next)
                logger.error("%s: offsets %d to %d are gone: what they held is left out", self._topic, self.next, end)
                self.next = end
                break
            first, self._place = self._place, bisect_left(self._queue, end, self._place, key=_OFFSET)
            out += self._queue[first : self._place]
            self.next = out[-1].offset() + 1
        return out

    def rest(self, last: Callable[[Any], bool]) -> Iterator[Any]:
        """Messages from where it stands up to the one that `last` says yes to; to the end, if it never does."""
        while (message := self._first(0)) is not None:
            self._place += 1
            self.next = message.offset() + 1
            yield message
            if last(message):
                return

    def _first(self, end: int) -> Any:
        """The next message; None where the partition ends before there is one."""
        deadline = time.monotonic() + STALL_SECONDS
        while self._place == len(self._queue):
            if self._end >= end:
                return None
            self._queue, self._place = self._come(), 0
            if not self._queue and time.monotonic() > deadline:
                raise RetryableError(f"{self._topic} does not give its messages from offset {self.next} on")
        return self._queue[self._place]

    def _come(self) -> list[Any]:
        """Messages that have come; waits for the first only, not for as many as may be read at once."""
        first = self._consumer.poll(WAIT_SECONDS)
        come = [] if first is None else [first, *self._consumer.consume(MOST_READ - 1, 0)]
        if come:
            self._end = -1
        if not any(map(_ERROR, come)):
            return come
        for message in come:
            error = message.error()
            if error is None:
                self._end = -1
            elif error.name() == "_PARTITION_EOF":
                self._end = message.offset()
            elif not error.retriable() and error.fatal():
                raise RetryableError(f"{self._topic} cannot be read: {error.str()}")
        return [message for message in come if message.error() is None]


class Cursors:
    """Opens cursors; the consumer of one that was read without trouble reads the next of that topic.

    Of another topic it might see nothing for a second: librdkafka looks that often for topics that a consumer comes
    to know late.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._spare: dict[str, list[Any]] = {}

    @contextmanager
    def at(self, topic: str, partition: int, offset: int) -> Iterator[Cursor]:
        """A cursor, closed at the end."""
        spare = self._spare.setdefault(topic, [])
        consumer = spare.pop() if spare else self._made()
        try:
            yield Cursor(consumer, topic, partition, offset)
            consumer.unassign()
        except BaseException:
            # One that has met a dead leader may not see the next.
            consumer.close()
            raise
        spare.append(consumer)

    def close(self) -> None:
        """Let go of all consumers."""
        while self._spare:
            for consumer in self._spare.popitem()[1]:
                consumer.close()

    def _made(self) -> Any:
        return make(
            "Consumer",
            settings(
                self._options,
                group_id=f"{self._options.group}-restore",
                enable_auto_commit=False,
                isolation_level="read_committed",
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                fetch_wait_max_ms=5,
                fetch_queue_backoff_ms=10,
            ),
        )
