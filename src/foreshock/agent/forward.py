"""From the buffer on disk to Kafka: in order, idempotently, for as long as it takes."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol

from foreshock.agent.outgoing import Outgoing
from foreshock.agent.spool import Batch, Spool
from foreshock.errors import ConfigError, ForeshockError, PermanentError, RetryableError
from foreshock.telemetry import AGENT_SENT, DROPPED, ERRORS

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 20_000
"""Messages handed to the client and not acknowledged yet; the rest waits on disk."""

_IDLE_SECONDS = 0.05
_FLUSH_SECONDS = 10.0
_SILENT_SECONDS = 10.0
_LONGEST_BACKOFF = 30.0
_DRAIN_SECONDS = 5.0
_TOO_LARGE = ("MSG_SIZE_TOO_LARGE", "_INVALID_ARG", "INVALID_RECORD", "RECORD_LIST_TOO_LARGE")
"""What no second try will mend. Brokers say it of all that came in one request with it: each is tried once more by
itself, and then dropped and counted; the others go on."""


class Client(Protocol):
    """What is used of confluent_kafka.Producer."""

    def produce(self, topic: str, value: bytes | None = None, key: bytes | None = None, **more: Any) -> None:
        """Queue a message; BufferError where there is no room."""
        ...

    def poll(self, timeout: float) -> int:
        """Wait for acknowledgements, and call back for each."""
        ...

    def flush(self, timeout: float) -> int:
        """Wait until all is acknowledged; how many messages are not."""
        ...

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        """Forget what waits."""
        ...


class _Sent:
    """A batch that was handed to the client: how many of its messages are not acknowledged yet."""

    __slots__ = ("_forwarder", "left", "next_position")

    def __init__(self, forwarder: Forwarder, batch: Batch) -> None:
        self.next_position, self.left = batch.next_position, len(batch.messages)
        self._forwarder: Forwarder | None = forwarder

    def done(self, message: Outgoing, alone: bool, error: Any, _: Any) -> None:
        """A message of the batch was acknowledged, or given up; `alone`: it was sent by itself."""
        if self._forwarder is not None:
            self._forwarder.delivered(self, message, alone, error)

    def forget(self) -> None:
        """What still becomes of its messages is of no interest: they are sent again."""
        self._forwarder = None


class Forwarder:
    """Sends what the buffer holds; `connect` makes a client, and what it needs to be there, anew after trouble.

    A message is acknowledged by all replicas in sync before it counts as sent. While Kafka is away everything waits,
    in its order; a client that has failed for good is replaced, and what was not acknowledged is sent again.
    """

    def __init__(self, spool: Spool, connect: Callable[[], Client]) -> None:
        self.spool = spool
        self.sent = 0
        self._trouble = ""
        self._heard = monotonic()
        self._connect = connect
        self._drain_seconds = _DRAIN_SECONDS
        self._client: Client | None = None
        self._next = spool.position
        self._flight: deque[_Sent] = deque()
        self._alone: deque[tuple[_Sent, Outgoing]] = deque()
        self._acknowledged: Counter[str] = Counter()
        self._in_flight = 0
        self._failed: str = ""
        self._failures = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="foreshock-forward", daemon=True)

    def start(self) -> None:
        """Send from now on, in a thread of its own."""
        self._thread.start()

    def stop(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Send what waits, for so long at most, and end; what is left stays in the buffer."""
        self._drain_seconds = drain_seconds
        self._stopping.set()
        self._thread.join(drain_seconds + 10.0)

    @property
    def problem(self) -> str:
        """Why nothing is sent, in words; empty while all is well."""
        silent = monotonic() - self._heard
        if self._trouble or not self._in_flight or silent < _SILENT_SECONDS:
            return self._trouble
        return f"Kafka has acknowledged nothing for {silent:.0f} s"

    def step(self) -> bool:
        """Hand the next batches over and take acknowledgements; False where there was nothing to hand over.

        Raises ForeshockError where the client must be made anew.
        """
        if self._client is None:
            self._client = self._connect()
        moved = False
        if self._in_flight < MAX_IN_FLIGHT:
            for batch in self.spool.read(self._next):
                self._heard = self._heard if self._in_flight else monotonic()
                self._hand_over(self._client, batch)
                self._next, moved = batch.next_position, True
                if self._in_flight >= MAX_IN_FLIGHT:
                    break
        self._client.poll(0 if moved else _IDLE_SECONDS if self._in_flight else 0)
        self._send_alone(self._client)
        if self._failed:
            raise RetryableError(self._failed)
        self._settle()
        return moved

    def delivered(self, sent: _Sent, message: Outgoing, alone: bool, error: Any) -> None:
        """The client has come to an end with a message."""
        self._in_flight -= 1
        if error is None:
            sent.left -= 1
            self._acknowledged[message.topic] += 1
            self._heard = monotonic()
            if self._trouble:
                logger.warning("Kafka takes messages again")
                self._trouble, self._failures = "", 0
        elif error.name() not in _TOO_LARGE:
            self._failed = self._failed or f"a message to {message.topic} was not taken: {error.str()}"
        elif alone:
            self._drop(sent, message, error)
        else:
            self._alone.append((sent, message))

    # -- inside --------------------------------------------------------------------------------------------------

    def _hand_over(self, client: Client, batch: Batch) -> None:
        sent = _Sent(self, batch)
        self._flight.append(sent)
        for message in batch.messages:
            self._produce(client, message, sent)

    def _produce(self, client: Client, message: Outgoing, sent: _Sent, alone: bool = False) -> None:
        self._in_flight += 1
        while True:
            try:
                client.produce(
                    message.topic,
                    message.value,
                    message.key,
                    headers=message.headers,
                    timestamp=message.time_unix_nano // 1_000_000,
                    on_delivery=partial(sent.done, message, alone),
                )
                return
            except BufferError:
                if self._failed or self._stopping.is_set():
                    raise RetryableError(self._failed or "ending, and Kafka takes nothing") from None
                client.poll(_IDLE_SECONDS)
            except Exception as error:
                if type(error).__name__ != "KafkaException":
                    raise
                self._refused(message, sent, error.args[0])
                return

    def _refused(self, message: Outgoing, sent: _Sent, error: Any) -> None:
        """The client does not even queue a message: by itself, or because it has failed."""
        if error.name() not in _TOO_LARGE:
            raise RetryableError(f"a message to {message.topic} was not taken: {error.str()}")
        self._in_flight -= 1
        self._drop(sent, message, error)

    def _drop(self, sent: _Sent, message: Outgoing, error: Any) -> None:
        sent.left -= 1
        DROPPED.labels("kafka_refused").inc()
        logger.warning("a message to %s is dropped: %s", message.topic, error.str())

    def _send_alone(self, client: Client) -> None:
        """Send what came back with others, each by itself: their order is lost, and nothing else."""
        while self._alone and not self._failed:
            sent, message = self._alone.popleft()
            client.flush(_FLUSH_SECONDS)
            self._produce(client, message, sent, alone=True)
            client.flush(_FLUSH_SECONDS)

    def _settle(self) -> None:
        """Count what was acknowledged, and tell the buffer how far Kafka has everything."""
        for topic, count in self._acknowledged.items():
            self.sent += count
            AGENT_SENT.labels(topic).inc(count)
        self._acknowledged.clear()
        position = 0
        while self._flight and self._flight[0].left == 0:
            position = self._flight.popleft().next_position
        if position:
            self.spool.done(position)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self.step():
                    self.spool.wait(_IDLE_SECONDS)
            except (ConfigError, PermanentError, RetryableError) as error:
                self._begin_again(error)
        self._drain()

    def _begin_again(self, error: ForeshockError) -> None:
        """Say what is wrong, once, and begin where Kafka has everything; after a while."""
        ERRORS.labels("agent").inc()
        if str(error) != self._trouble:
            logger.warning("%s; what is read waits on disk", error)
        self._trouble = str(error)
        self._let_go()
        self._failures += 1
        seconds = min(_LONGEST_BACKOFF, 0.5 * 2.0 ** min(self._failures, 10))
        self._stopping.wait(seconds)

    def _let_go(self) -> None:
        self._settle()
        for sent in self._flight:
            sent.forget()
        self._flight.clear()
        self._alone.clear()
        if self._client is not None:
            self._client.purge()
        self._client, self._failed, self._in_flight = None, "", 0
        self._next = self.spool.position

    def _drain(self) -> None:
        """Send what is left, for a moment."""
        if self._client is None:
            return
        try:
            while self.step():
                pass
            self._client.flush(self._drain_seconds)
        except ForeshockError as error:
            logger.warning("%s", error)
        self._settle()
        if left := self.spool.waiting:
            logger.warning("%d messages wait on disk for the next time (%s)", left, self.spool.folder)
