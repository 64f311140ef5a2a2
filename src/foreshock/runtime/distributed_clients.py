"""The clients of a worker: a transactional producer, and a member of the group with a reader of inputs beside it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from foreshock.adapters.kafka.client import comes_back, library, make, producer_settings, settings, translate
from foreshock.adapters.kafka.fetch import Inputs
from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.adapters.kafka.stretch import At, Message
from foreshock.errors import ConfigError, PermanentError, RetryableError
from foreshock.telemetry import KAFKA_TRANSACTION_SECONDS, KAFKA_TRANSACTIONS

logger = logging.getLogger(__name__)

CALL_SECONDS = 30.0
MOST_FENCED, FENCED_SECONDS = 3, 60.0
MOST_OPENED = 10
MOST_READ, MOST_FETCHED = 4096, 16_384
"""Messages of our own topics and of inputs that are taken at once: what a batch costs is shared by what is in it."""
ASK_NANO = 200_000_000
OLDEST = 2, 5
"""The first version of Kafka in which offsets of a transaction are refused by member and generation (KIP-447)."""


class AbortedError(RetryableError):
    """A transaction was given up. If that is `sure`, what it held has not happened and may be sent again."""

    def __init__(self, message: str, *, sure: bool) -> None:
        self.sure = sure
        super().__init__(message)


class Transactions:
    """One transactional producer, made anew when it was fenced.

    `name` is its transactional id: stable, so that a worker that comes back ends what its predecessor left open.
    """

    def __init__(self, options: KafkaOptions, name: str, timeout_seconds: float) -> None:
        self._options, self._name = options, name
        self._timeout = int(timeout_seconds * 1000)
        self._fenced: list[float] = []
        self._started = 0.0
        self._open()

    def _open(self) -> None:
        kafka = library()
        self._producer = make(
            "Producer",
            producer_settings(
                self._options,
                transactional_id=self._name,
                transaction_timeout_ms=self._timeout,
                linger_ms=1,
                # The first answer to offsets is often that the markers of the last transaction are not written yet.
                retry_backoff_ms=5,
                queue_buffering_max_messages=1_000_000,
            ),
        )
        try:
            self._try(lambda: self._producer.init_transactions(CALL_SECONDS))
        except kafka.KafkaException as error:
            if error.args[0].name() == "_UNSUPPORTED_FEATURE":
                raise PermanentError(f"these brokers are too old for transactions: {error.args[0].str()}") from error
            raise translate(error, f"transactions as {self._name!r} cannot be begun") from error

    def begin(self) -> None:
        """Begin one."""
        self._started = time.perf_counter()
        self._guarded(self._producer.begin_transaction)

    def send(self, out: Out, written: Callable[[int], None] | None = None) -> None:
        """Add a message; `written` is told its offset."""
        more: dict[str, Any] = {} if out.partition < 0 else {"partition": out.partition}
        if written is not None:
            more["on_delivery"] = lambda error, message: written(message.offset()) if error is None else None
        kafka = library()
        while True:
            try:
                self._producer.produce(out.topic, out.value, out.key, headers=list(out.headers), **more)
            except BufferError:
                self._producer.poll(0.1)
            except kafka.KafkaException as error:
                if error.args[0].name() == "MSG_SIZE_TOO_LARGE":
                    # It would be so each time.
                    raise PermanentError(
                        f"a message of {len(out.value or b'')} bytes for {out.topic} is larger than kafka.client's "
                        "message.max.bytes: allow more there and on the brokers"
                    ) from error
                self._over(error)
            else:
                self._producer.poll(0)
                return

    def send_all(self, messages: Iterable[Out]) -> None:
        """Add messages."""
        for out in messages:
            self.send(out)

    def flush(self) -> None:
        """Wait until all messages are written, and their offsets told."""
        self._producer.flush(CALL_SECONDS)

    def commit(self, offsets: Sequence[Any], group: Any) -> None:
        """Commit messages and offsets; AbortedError where that cannot be."""
        self._guarded(lambda: self._producer.send_offsets_to_transaction(list(offsets), group, CALL_SECONDS))
        self._guarded(lambda: self._producer.commit_transaction(CALL_SECONDS))
        KAFKA_TRANSACTIONS.labels("committed").inc()
        KAFKA_TRANSACTION_SECONDS.observe(time.perf_counter() - self._started)

    def give_up(self, why: str) -> NoReturn:
        """Abort, and raise AbortedError."""
        raise AbortedError(f"the transaction was given up: {why}", sure=self._abort())

    def close(self) -> None:
        """Let go of what is not committed."""
        self._producer.purge()

    def _try(self, call: Callable[[], None]) -> None:
        """Call, again while that may help."""
        kafka = library()
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                with comes_back("a call to the brokers"):
                    call()
                return
            except kafka.KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _guarded(self, call: Callable[[], None]) -> None:
        """Call within a transaction; where it fails the transaction is over, and AbortedError says so."""
        kafka = library()
        try:
            self._try(call)
        except kafka.KafkaException as error:
            self._over(error)

    def _over(self, error: Any) -> NoReturn:
        """End a transaction in which something failed."""
        inner = error.args[0]
        sure = not inner.fatal() and inner.txn_requires_abort() and self._abort()
        if not sure:
            self._renew(inner)
        raise AbortedError(f"the transaction was given up: {inner.str()}", sure=sure) from error

    def _abort(self) -> bool:
        """Abort; whether that is sure."""
        kafka = library()
        try:
            self._try(lambda: self._producer.abort_transaction(CALL_SECONDS))
        except kafka.KafkaException:
            return False
        KAFKA_TRANSACTIONS.labels("aborted").inc()
        return True

    def _renew(self, why: Any) -> None:
        """A new producer of the same name: the old one was fenced, or cannot go on."""
        KAFKA_TRANSACTIONS.labels("fenced").inc()
        logger.warning("the producer is made anew: %s", why.str())
        now = time.monotonic()
        self._fenced = [*(at for at in self._fenced if now - at < FENCED_SECONDS), now]
        if len(self._fenced) > MOST_FENCED:
            raise PermanentError(
                f"another worker is called {self._name!r} too: give each its own kafka.worker ({why.str()})"
            )
        self._producer.purge()
        for _ in range(MOST_OPENED):
            try:
                self._open()
            except RetryableError as error:
                logger.warning("trying again: %s", error)
            else:
                return
        raise RetryableError("transactions cannot be begun any more: the brokers do not answer")


class Reader:
    """A group member, whose partitions Kafka assigns, and a plain consumer of the inputs that follow them."""

    def __init__(self, options: KafkaOptions, protocol: str, read: dict[str, Any]) -> None:
        common: dict[str, Any] = {
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "enable_partition_eof": True,
            "auto_offset_reset": "error",
            "fetch_wait_max_ms": 100,
            "fetch_queue_backoff_ms": 10,
            "max_poll_interval_ms": 900_000,
            "queued_max_messages_kbytes": 65_536,
        }
        own: dict[str, Any] = {"group_protocol": protocol}
        if protocol == "classic":
            timeout = int(options.session_timeout * 1000)
            own |= {
                "partition_assignment_strategy": "cooperative-sticky",
                "session_timeout_ms": timeout,
                "heartbeat_interval_ms": max(100, timeout // 5),
            }
        self._kafka = library()
        self._options = options
        self._asking: Any = None
        self.group = make("Consumer", settings(options, group_id=options.group, **common, **own))
        self.inputs = Inputs(settings(options, group_id=f"{options.group}-inputs", **common), MOST_FETCHED)
        self.group.subscribe(read["topics"], on_assign=read["assign"], on_revoke=read["revoke"], on_lost=read["lost"])

    def read(self, wait_seconds: float) -> list[tuple[At, Sequence[Message]]]:
        """What has come, of both, by partition; waits at most so long for the first. Rebalances happen here."""
        messages = self.group.consume(MOST_READ, 0)
        inputs = self.inputs.read(0.0 if messages else wait_seconds)
        return [*_together(messages), *((one.at, one) for one in inputs)]

    def committed(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Any]:
        """Committed offsets with their metadata; waits for open transactions that hold some."""
        asked = [self._kafka.TopicPartition(*at) for at in partitions]
        try:
            found = self.group.committed(asked, timeout=CALL_SECONDS)
        except self._kafka.KafkaException as error:
            raise translate(error, "committed offsets cannot be read") from error
        for one in found:
            if one.error is not None:
                raise RetryableError(f"the committed offset of {one.topic}/{one.partition}: {one.error.str()}")
        return {(one.topic, one.partition): one for one in found}

    def bounds(self, at: tuple[str, int]) -> tuple[int, int]:
        """The first offset of a partition and the one behind its last."""
        if self._asking is None:
            # Of its own, and made anew after trouble: one that has met a dead leader may not see the next.
            self._asking = make("Consumer", settings(self._options, group_id=f"{self._options.group}-inputs"))
        try:
            low, high = self._asking.get_watermark_offsets(self._kafka.TopicPartition(*at), timeout=5.0)
        except self._kafka.KafkaException as error:
            self._asking.close()
            self._asking = None
            raise translate(error, f"{at[0]}/{at[1]} cannot be asked for its offsets") from error
        return low, high

    def lag(self, consumer: Any, at: tuple[str, int], position: int) -> int | None:
        """How many offsets are left, by what the last answer said."""
        try:
            _, high = consumer.get_watermark_offsets(self._kafka.TopicPartition(*at), cached=True)
        except self._kafka.KafkaException:
            return None
        return max(0, high - position) if high >= 0 else None

    def close(self) -> None:
        """Leave the group."""
        self.group.close()
        self.inputs.close()
        if self._asking is not None:
            self._asking.close()


def _together(messages: Sequence[Message]) -> Iterable[tuple[At, list[Message]]]:
    """Messages by their partition, in their order."""
    out: dict[At, list[Message]] = {}
    for message in messages:
        out.setdefault((message.topic(), message.partition()), []).append(message)
    return out.items()


class Ends:
    """Asks the brokers, a few times a second and without waiting, where partitions end.

    That a partition has brought nothing does not say that there is nothing: its broker may be out of reach. Nor does it
    where a transaction is open: what it holds was written before what others bring, and will be read long after.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._kafka = library()
        self._admin = make("AdminClient", settings(options))
        self._asked: dict[tuple[str, int], Any] = {}
        self._when = 0

    def ask(self, partitions: Iterable[tuple[str, int]], now: int) -> None:
        """Ask, unless answers are outstanding or it was a moment ago (`now` Unix ns)."""
        if self._asked or self._when <= now < self._when + ASK_NANO:
            return
        latest = self._kafka.admin.OffsetSpec.latest()
        wanted = {self._kafka.TopicPartition(*at): latest for at in partitions}
        self._when = now
        if wanted:
            found = self._admin.list_offsets(
                wanted, isolation_level=self._kafka.IsolationLevel.READ_UNCOMMITTED, request_timeout=2.0
            )
            self._asked = {(one.topic, one.partition): future for one, future in found.items()}

    def answers(self) -> dict[tuple[str, int], tuple[int, int]]:
        """What was answered: the offset behind all messages, committed or not, and when that was asked (Unix ns)."""
        if not self._asked or not all(future.done() for future in self._asked.values()):
            return {}
        asked, self._asked = self._asked, {}
        return {at: (one.result().offset, self._when) for at, one in asked.items() if one.exception() is None}


def find_protocol(options: KafkaOptions) -> tuple[str, float]:
    """The group protocol to speak and its session timeout (s).

    With `auto` the brokers are asked; who may not ask speaks `classic`. Raises ConfigError for `consumer` where the
    brokers do not have it, PermanentError where they are too old.
    """
    known = _broker_settings(options)
    _check_age(known.get("inter.broker.protocol.version", ""))
    if options.protocol == "classic":
        return "classic", options.session_timeout
    if "consumer" in known.get("group.coordinator.rebalance.protocols", ""):
        timeout = int(known.get("group.consumer.session.timeout.ms", "45000")) / 1000
        return "consumer", min(timeout, options.session_timeout)
    if options.protocol == "consumer":
        raise ConfigError("the brokers do not have the group protocol consumer (KIP-848)", key="kafka.protocol")
    return "classic", options.session_timeout


def _check_age(version: str) -> None:
    """PermanentError for brokers (`2.4-IV1`; those without ZooKeeper say nothing) that do not fence by member."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is not None and tuple(map(int, found.groups())) < OLDEST:
        raise PermanentError(
            f"the brokers speak Kafka {version}: they do not refuse what a worker that was replaced commits, so that "
            f"alerts could be doubled; {'.'.join(map(str, OLDEST))} is the oldest that does"
        )


def _broker_settings(options: KafkaOptions) -> dict[str, str]:
    """The brokers' settings; none where they may not be read."""
    kafka = library()
    admin = make("AdminClient", settings(options))
    try:
        broker = next(iter(admin.list_topics(timeout=CALL_SECONDS).brokers))
        resource = kafka.admin.ConfigResource(kafka.admin.ConfigResource.Type.BROKER, str(broker))
        found = admin.describe_configs([resource], request_timeout=CALL_SECONDS)[resource].result()
    except (kafka.KafkaException, StopIteration, KeyError) as error:
        logger.info("the brokers' settings cannot be read (%s): they are taken to be old, but not too old", error)
        return {}
    return {name: str(entry.value) for name, entry in found.items()}
