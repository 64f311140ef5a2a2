"""Dead letters read back: what lies in `<topic>.dlq`, and bringing letters to the topic that they came from.

That a letter has been redriven stands in the same topic, in a marker that is written in one transaction with the
message: after a crash either both are there or neither, so that no letter is redriven twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from foreshock.adapters.kafka.client import library, make, producer_settings, settings, translate
from foreshock.adapters.kafka.dead import CUT, ERROR, OFFSET, OWN, PARTITION, REASON, SUFFIX, TIME, TOPIC, header
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.errors import ConfigError, PermanentError, RetryableError

logger = logging.getLogger(__name__)

REDRIVEN = "foreshock-redriven"
"""Header of a marker, which has no value: `partition:offset` of the letter that has been redriven; and of the message
that was made of it, which says so where it dies again."""

MOST_IN_A_TRANSACTION = 500
WAIT_SECONDS = 15.0
TRANSACTION_SECONDS = 30.0
_POLL = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: where it lies, where it came from, why, and the message as it came.

    `cut` = bytes of the value that were too many to be kept (0 = it is whole).
    """

    dlq: str
    partition: int
    offset: int
    topic: str
    from_partition: int
    from_offset: int
    time_unix_ms: int
    reason: str
    error: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    cut: int = 0

    @property
    def place(self) -> str:
        """`partition:offset` in the topic of letters."""
        return f"{self.partition}:{self.offset}"


def letter_of(
    dlq: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]] | None,
) -> Letter | None:
    """The letter that a message is; None if it is a marker, or was written by something else and cannot be read."""
    if header(headers, REDRIVEN) and value is None and not header(headers, REASON):
        return None
    try:
        return Letter(
            dlq, partition, offset,
            header(headers, TOPIC) or dlq.removesuffix(SUFFIX),
            int(header(headers, PARTITION) or -1),
            int(header(headers, OFFSET) or -1),
            int(header(headers, TIME) or 0),
            header(headers, REASON) or "unknown",
            header(headers, ERROR),
            key,
            value,
            tuple((name, one or b"") for name, one in headers or () if name not in OWN),
            int(header(headers, CUT) or 0),
        )  # fmt: skip
    except ValueError:
        return None


class Letters:
    """The letters of one topic that have not been redriven; `topic` is the one that they came from.

    Raises ConfigError where there is no such topic of letters, RetryableError where the brokers cannot be asked.
    """

    def __init__(self, options: KafkaOptions, topic: str) -> None:
        self.dlq = topic if topic.endswith(SUFFIX) else topic + SUFFIX
        self._options = options

    def read(self) -> list[Letter]:
        """All that lie there, in the order in which they died; partition by partition."""
        kafka = library()
        consumer = make(
            "Consumer",
            settings(
                self._options,
                group_id=f"foreshock-dlq-{uuid4().hex}",
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                enable_partition_eof=True,
            ),
        )
        try:
            partitions = self._partitions(consumer)
            consumer.assign([kafka.TopicPartition(self.dlq, one, kafka.OFFSET_BEGINNING) for one in partitions])
            return _open(self.dlq, _messages(consumer, len(partitions)))
        except kafka.KafkaException as error:
            raise translate(error, f"{self.dlq} cannot be read") from error
        finally:
            consumer.close()

    def redrive(self, chosen: Callable[[Letter], bool], told: Callable[[int], object] = lambda count: None) -> Redriven:
        """Bring the chosen letters to their topics, and mark them; `told` hears how many are done.

        One at a time: whoever begins fences off another that is at it, which then ends with PermanentError. Letters
        whose value was cut cannot be redriven and stay.
        """
        kafka = library()
        producer = make("Producer", producer_settings(
            self._options,
            transactional_id=f"foreshock-redrive-{self.dlq}",
            transaction_timeout_ms=round(TRANSACTION_SECONDS * 1000),
        ))  # fmt: skip
        try:
            # Before reading: what another has begun is committed or aborted then, and nothing of his comes later.
            producer.init_transactions(WAIT_SECONDS)
            letters = [one for one in self.read() if chosen(one)]
            whole = [one for one in letters if not one.cut]
            done = 0
            for at in range(0, len(whole), MOST_IN_A_TRANSACTION):
                part = whole[at : at + MOST_IN_A_TRANSACTION]
                self._send(producer, part)
                done += len(part)
                told(done)
            return Redriven(done, len(letters) - len(whole))
        except kafka.KafkaException as error:
            # What is produced once it is fenced off fails by a code of its own, which does not say that it is fatal.
            if error.args[0].fatal() or error.args[0].name() == "_FATAL":
                raise PermanentError(f"another redrive of {self.dlq} has begun and goes on with it") from error
            raise translate(error, f"letters of {self.dlq} cannot be redriven") from error

    def _send(self, producer: Any, letters: Sequence[Letter]) -> None:
        """Send the messages and their markers, all or none."""
        failed: list[Any] = []

        def sent(error: Any, message: Any) -> None:
            if error is not None:
                failed.append(error)

        producer.begin_transaction()
        try:
            for one in letters:
                mark = (REDRIVEN, one.place.encode())
                headers = [pair for pair in one.headers if pair[0] != REDRIVEN]
                producer.produce(one.topic, one.value, one.key, headers=[*headers, mark], on_delivery=sent)
                producer.produce(
                    self.dlq, None, None, partition=one.partition, headers=[mark], on_delivery=sent
                )  # fmt: skip
            producer.flush(TRANSACTION_SECONDS)
            if failed:
                raise RetryableError(f"a letter of {self.dlq} was not taken: {failed[0].str()}")
            producer.commit_transaction(TRANSACTION_SECONDS)
        except BaseException:
            _abort(producer)
            raise

    def _partitions(self, consumer: Any) -> list[int]:
        found = consumer.list_topics(self.dlq, timeout=WAIT_SECONDS).topics.get(self.dlq)
        if found is None or found.error is not None or not found.partitions:
            raise ConfigError(f"there is no topic {self.dlq}: name the topic whose messages died, as it stands in "
                              "kafka.inputs")  # fmt: skip
        return sorted(found.partitions)


@dataclass(frozen=True, slots=True)
class Redriven:
    """How many letters went back to their topics, and how many could not, since they had been cut."""

    letters: int
    cut: int


def _messages(consumer: Any, partitions: int) -> Iterator[Any]:
    """All messages up to the ends of the partitions as they are now."""
    ended: set[int] = set()
    while len(ended) < partitions:
        first = consumer.poll(WAIT_SECONDS)
        if first is None:
            raise RetryableError(f"nothing came for {WAIT_SECONDS:g} s: are all brokers up?")
        for one in (first, *consumer.consume(_POLL, 0)):
            error = one.error()
            if error is None:
                yield one
            elif error.name() == "_PARTITION_EOF":
                ended.add(one.partition())
            else:
                raise RetryableError(error.str())


def _open(dlq: str, messages: Iterable[Any]) -> list[Letter]:
    """The letters among messages, without those that have been redriven."""
    letters: list[Letter] = []
    redriven: set[str] = set()
    for one in messages:
        letter = letter_of(dlq, one.partition(), one.offset(), one.key(), one.value(), one.headers())
        if letter is not None:
            letters.append(letter)
        elif mark := header(one.headers(), REDRIVEN):
            redriven.add(mark)
    return [one for one in letters if one.place not in redriven]


def _abort(producer: Any) -> None:
    try:
        producer.abort_transaction(WAIT_SECONDS)
    except library().KafkaException as error:
        # Whatever it was that failed is told; an open transaction ends by its timeout.
        logger.warning("the transaction could not be aborted: %s", error)
