"""A keyed task over Kafka: a partition of the keyed topic, and the partitions of inputs that follow it.

A message that stands where its entity belongs (its key is the entity, its partition that of the key) is judged where
it is. Any other is passed on to the keyed topic, and judged there in the order of event time. Time itself comes by
marks in the keyed topic, which say how far each partition of each input has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.decode import decode, encode_samples
from foreshock.adapters.kafka.dead import LARGEST, dead_letter
from foreshock.adapters.kafka.decoding import Decoding, Each, decode_messages, decode_stretch
from foreshock.adapters.kafka.keys import partition_of, split
from foreshock.adapters.kafka.messages import (
    FORWARD,
    NEVER,
    Forward,
    Out,
    content_type_of,
    encode,
    forward_of,
    in_seconds,
    received_of,
    record_of,
)
from foreshock.adapters.kafka.options import KafkaInput
from foreshock.adapters.kafka.schemas import TopicSchema, schema_of
from foreshock.adapters.kafka.stretch import At, Message, Stretch, span
from foreshock.adapters.kafka.topics import Layout
from foreshock.config import Config
from foreshock.errors import BadInputError
from foreshock.runtime.distributed_bundles import Bundles
from foreshock.runtime.distributed_format import Word
from foreshock.runtime.distributed_merge import Held, Merge
from foreshock.runtime.distributed_tasks import KafkaTask, anomaly_messages, word_messages
from foreshock.runtime.outputs import CommitBuilder
from foreshock.runtime.task import KeyedTask, Outputs, Watermark, encode_json, latest, newest
from foreshock.runtime.ticker import LEAP_SECONDS
from foreshock.state import State
from foreshock.telemetry import DROPPED, ERRORS, KAFKA_REKEYED
from foreshock.types import Alert, Record, Samples
from foreshock.types.columns import Presence
from foreshock.types.record import ARROW, CALLS, CONTROL, JSON, WATERMARK

SECOND = 1_000_000_000
SAY_NANO, MARK_NANO = SECOND // 2, SECOND // 5
"""Longest time between two words to the environment task or two marks of an origin; shortest between two marks."""
MARGIN_NANO = SECOND
"""Longest that a message may be on its way to its broker, or clocks be apart."""
MOST_AHEAD, AHEAD_NANO = 5000, 10 * SECOND
"""With so many messages held, an input that is so far ahead of the slowest waits."""


class Keyed(KafkaTask):
    """Keyed task `number` of `layout.tasks`."""

    def __init__(self, config: Config, layout: Layout, number: int, idle_seconds: float, largest_bytes: int) -> None:
        super().__init__(f"keyed-{number}", (layout.keyed, number), layout.followers(number), number)
        self.layout, self.number = layout, number
        self.task = KeyedTask(config, bands=True)
        self.merge = Merge(self._lateness)
        self._idle, self._largest_bytes = int(idle_seconds * 1e9), largest_bytes
        # When what each partition of an input has come to was written, when it was brought, and when all that it held
        # had been read.
        self._written: dict[tuple[str, int], int] = {}
        self._brought: dict[tuple[str, int], int] = {}
        self._until: dict[tuple[str, int], int] = {}
        self._all_read: dict[tuple[str, int], int] = {}
        self._told: dict[str, tuple[int | None, int]] = {}
        self._marked = self._worded = 0
        # Time that has passed, whatever was done to the clock.
        self._passed = self._looked = 0
        self._last_word = -1
        self._verdicts = CommitBuilder(self.name)
        self._alerts: list[Alert] = []
        self._presence: list[Presence] = []

    @property
    def config(self) -> Config:  # type: ignore[override]
        """The config in force."""
        return self.task.config

    @property
    def watermark(self) -> int:  # type: ignore[override]
        """Nothing older will come (Unix ns)."""
        return self.task.watermark

    @property
    def sources(self) -> dict[str, int]:  # type: ignore[override]
        """The largest event time of each source."""
        return self.task.sources

    # -- messages ------------------------------------------------------------------------------------------------

    def _take(self, messages: Sequence[Message], emit: bool) -> None:
        (topic, _), *_ = span(messages)
        if topic == self.layout.keyed:
            for message in messages:
                self._take_keyed(message, emit)
            return
        source = self._input(topic)
        for group in in_seconds(Stretch.of(messages), source.content_type):
            said = group.odd.get(0)
            if (source.content_type if said is None else content_type_of(said, source.content_type)) == CALLS:
                self._take_calls(group[0], source, emit)
            else:
                self._take_group(group, source, emit)

    def _take_group(self, group: Stretch, source: KafkaInput, emit: bool) -> None:
        """Messages of one second: those in place are judged, as many at once as stand together."""
        found = decode_stretch(group, self._schema(source), self.config.mapping, self._largest_bytes)
        if emit:
            self.outbox += [dead_letter(group[one.message], one.reason, one.detail) for one in found.refused]
            for reason, count in found.samples.dropped.items():
                DROPPED.labels(reason).inc(count)
        record = self._record(group[-1], source)
        each = found.each(latest(record.source, record.received_unix_nano, self.config))
        stays = self._in_place(group, each)
        if stays.all() and len(stays):
            self._came(group.at, int(group.stamp[each.place[-1]]), int(each.newest.max()))
            self._gather(self.task.process(record, found.samples), emit)
            return
        changes = np.flatnonzero(stays[1:] != stays[:-1]) + 1
        for first, last in pairwise([0, *changes.tolist(), len(stays)] if len(stays) else []):
            if not stays[first]:
                self._forward(group, record, found, each, range(first, last), emit)
                continue
            place, end = int(each.place[first]), int(each.place[last - 1])
            self._came(group.at, int(group.stamp[end]), int(each.newest[first:last].max()))
            self._gather(self.task.process(record, found.of(place, end + 1)), emit)

    def _take_calls(self, message: Message, source: KafkaInput, emit: bool) -> None:
        record = record_of(message, self.config.environment, source.topic, CALLS)
        try:
            calls = decode(record, self.config.mapping)
        except BadInputError as error:
            if emit:
                self.outbox.append(dead_letter(message, error.reason, str(error)))
            return
        largest = newest(calls, record, self.config)
        self._came(_at(message), message.timestamp()[1], NEVER if largest is None else largest)
        if emit and self._may_pass_on(message):
            KAFKA_REKEYED.labels(record.source).inc()
            key = record.source.encode()
            told = self._told_of(_at(message), record, NEVER if largest is None else largest, CALLS)
            self._send(told, key, record.payload, partition_of(key, self.layout.tasks), message)

    def _record(self, message: Message, source: KafkaInput) -> Record:
        """What is known of a message beside its samples."""
        return Record(self.config.environment, source.topic, ARROW, received_of(message), b"")

    def _schema(self, source: KafkaInput) -> TopicSchema:
        schema = schema_of(source.topic)
        return replace(schema, content_type=source.content_type) if source.content_type else schema

    def _in_place(self, group: Stretch, each: Each) -> NDArray[np.bool_]:
        """Of each message with samples, whether it stands where the entity that it is about belongs."""
        tasks, (topic, partition) = self.layout.tasks, group.at
        if self.layout.inputs.get(topic) != tasks:
            return np.zeros(len(each.place), np.bool_)
        # -1, of several entities, is no place.
        here = (each.key >= 0) & (each.keys.partitions(each.key, tasks) == partition)
        return group.keyed(each.place, np.where(here, each.key, -1), each.keys)

    def _came(self, at: At, millis: int, largest: int) -> None:
        """A partition has brought event time `largest`, in a message written then (ms), or several with it the last."""
        self._brought[at] = self._passed
        if largest > NEVER:
            self.newest[at] = max(largest, self.newest.get(at, largest))
            # Who writes ahead of our clock must not make others wait for it.
            self._written[at] = max(min(millis * 1_000_000, self.now), self._written.get(at, 0))

    def ahead(self, at: At) -> bool | None:
        """Whether an input has come so far that it should wait for slower ones; None = let it be as it is."""
        if len(self.merge) < MOST_AHEAD // 2:
            return False
        level, time = self.merge.level(), self.newest.get(at)
        if time is None or (level is not None and time <= level + AHEAD_NANO // 2):
            return False
        if len(self.merge) >= MOST_AHEAD and (level is None or time > level + AHEAD_NANO):
            return True
        return None

    def asked(self, at: At, end: int, when: int) -> None:
        """All that an input held then has been read, if it has been read that far."""
        if max(self.positions.get(at, 0), self.ended.get(at, 0)) >= end:
            self._until[at] = max(self._until.get(at, 0), when - MARGIN_NANO)
            self._all_read[at] = self._passed

    # -- passing on ----------------------------------------------------------------------------------------------

    def _forward(self, group: Stretch, record: Record, found: Decoding, each: Each, at: range, emit: bool) -> None:
        """Pass messages on to the tasks of their entities; `at` are numbers in `each`."""
        own = slice(at.start, at.stop)
        places, keys, times = each.place[own], each.key[own], each.newest[own]
        self._came(group.at, int(group.stamp[places].max()), int(times.max()))
        if not emit:
            return
        KAFKA_REKEYED.labels(record.source).inc(len(at))
        self.rows += len(at)
        tasks = self.layout.tasks
        bundles = Bundles(self.layout, self._told_of(group.at, record, NEVER, JSON), self.outbox)
        partitions = each.keys.partitions(np.maximum(keys, 0), tasks)
        for place, key, time, partition in zip(
            places.tolist(), keys.tolist(), times.tolist(), partitions.tolist(), strict=True
        ):
            line = group.line(place) if key >= 0 else None
            if line is not None and len(line) <= LARGEST:
                bundles.add(partition, line, time)
            elif self._may_pass_on(message := group[place]):
                # In its own turn: what came before it goes before it.
                bundles.close()
                told = self._told_of(group.at, record, time, ARROW)
                for partition, part in split(found.of(place, place + 1), tasks).items():
                    self._send(told, None, encode_samples(part), partition, message)
        bundles.close()

    def _may_pass_on(self, message: Message) -> bool:
        """Whether a message is small enough; else it becomes a dead letter."""
        if len(message.value() or b"") <= LARGEST:
            return True
        self.outbox.append(dead_letter(message, "too_large", f"messages over {LARGEST} bytes cannot be passed on"))
        return False

    def _told_of(self, at: At, record: Record, time: int, content_type: str) -> Forward:
        """What is told of a message that is passed on, or of several; `time` the newest in it, NEVER without one."""
        return Forward(
            _origin(at), self.layout.inputs[at[0]], record.source, None if time == NEVER else time,
            self._written.get(at, self.now), record.received_unix_nano, content_type,
        )  # fmt: skip

    def _send(self, told: Forward, key: bytes | None, payload: bytes, partition: int, message: Any) -> None:
        headers = tuple((name, value or b"") for name, value in message.headers() or () if name != FORWARD)
        self.outbox.append(Out(self.layout.keyed, payload, key, ((FORWARD, encode(told)), *headers), partition))

    def _marks(self) -> None:
        """Say in every partition of the keyed topic how far the inputs of this task have come."""
        if _within(self.now, self._marked, MARK_NANO):
            return
        self._marked = self.now
        for at in self.followers:
            origin, time = _origin(at), self._time_of(at)
            before = self._told.get(origin)
            if before is not None and before[0] == time and _within(self.now, before[1], SAY_NANO):
                continue
            self._told[origin] = time, self.now
            # The time of one that is idle is that of the clock, which says nothing of what was written before.
            written = self._written.get(at, 0) if time == self.newest.get(at) else self.now
            mark = Forward(origin, self.layout.inputs[at[0]], at[0], time, written, until=self._until.get(at, 0))
            for partition in range(self.layout.tasks):
                self.outbox.append(Out(self.layout.keyed, None, None, ((FORWARD, encode(mark)),), partition))

    def _time_of(self, at: At) -> int | None:
        """How far an input has come; when it has been idle with nothing left to read, the clock takes its place."""
        time = self.newest.get(at)
        if time is None:
            return time
        return time + max(0, self._all_read.get(at, 0) - self._brought[at] - self._idle) // SECOND * SECOND

    # -- the keyed topic -----------------------------------------------------------------------------------------

    def _take_keyed(self, message: Any, emit: bool) -> None:
        forward, payload = forward_of(message), message.value()
        if forward is None or (forward.times and len(forward.times) != (payload or b"").count(b"\n") + 1):
            DROPPED.labels("not_forwarded").inc()
            return
        if payload is not None and forward.content_type == CONTROL:
            record = Record(
                self.config.environment, forward.source, CONTROL, message.timestamp()[1] * 1_000_000, payload
            )
            self._gather(self.task.process(record), emit)
            return
        if payload is not None:
            self.merge.hold(forward, payload)
            return
        self.merge.mark(forward, message.timestamp()[1] * 1_000_000)
        self._judge_held(list(self.merge.release()), emit)
        self._advance(emit)

    def _judge_held(self, released: list[Held], emit: bool) -> None:
        at = 0
        while at < len(released):
            first, end = released[at], at + 1
            if first.content_type == JSON:
                alike = (first.source, first.content_type, first.received)
                while end < len(released) and _like(released[end], alike):
                    end += 1
            group, at = released[at:end], end
            record = Record(self.config.environment, first.source, first.content_type, first.received, first.payload)
            samples: Samples | None = None
            if first.content_type == JSON:
                schema = self._schema(self._input(first.source))
                payloads = [one.payload for one in group]
                samples = decode_messages(payloads, [None] * len(payloads), schema, self.config.mapping).samples
            if samples is None or len(samples):
                self._gather(self.task.process(record, samples), emit)

    def _advance(self, emit: bool) -> None:
        """Tell the operators that nothing older will come."""
        mark = self.merge.watermark()
        if mark is not None and mark > self.task.watermark:
            record = Record(self.config.environment, "foreshock", WATERMARK, mark, encode_json(Watermark(mark)))
            self._gather(self.task.process(record), emit)

    # -- what is said --------------------------------------------------------------------------------------------

    def _gather(self, outputs: Outputs, emit: bool) -> None:
        if not emit:
            return
        before = self._verdicts.rows
        self._verdicts.add(0, Outputs(outputs.columns), self.task.pipeline.registry)
        self.rows += self._verdicts.rows - before
        self._alerts += outputs.alerts
        self._presence += outputs.presence

    def anomalies(self) -> list[Out]:
        """Verdicts that have come since they were last asked for."""
        commit = self._verdicts.take(0, 0.0)
        return [] if commit is None else anomaly_messages(commit.verdicts, self.layout.anomalies)

    def words(self) -> None:
        """Marks, anomalies and the word to the environment task."""
        if self._looked:
            self._passed += min(max(self.now - self._looked, 0), int(LEAP_SECONDS * 1e9))
        self._looked = self.now
        self._marks()
        self.outbox += self.anomalies()
        self.rows = 0
        said = self.task.watermark
        if (
            not self._alerts
            and not self._presence
            and said == self._last_word
            and _within(self.now, self._worded, SAY_NANO)
        ):
            return
        word = Word(self.number, self.layout.tasks, said, self._alerts, self._presence)
        self.outbox += word_messages(word, max(self._last_word, 0), self.layout, self.config.environment)
        self._alerts, self._presence, self._last_word = [], [], said
        self._worded = self.now

    # -- state ---------------------------------------------------------------------------------------------------

    def _use(self, config: Config, *, emit: bool) -> None:
        alerts = self.task.use(config)
        if emit:
            self._alerts += alerts

    def _states(self) -> dict[str, State]:
        return self.task.states()

    def _more(self) -> bytes:
        return self.merge.encode()

    def _load(
        self, saved: dict[str, State], config: Config, watermark: int, sources: dict[str, int], more: bytes
    ) -> None:
        self.task = KeyedTask(config, bands=True)
        self.task.load({name: state for name, state in saved.items() if name != "kafka"}, watermark)
        self.task.sources = dict(sources)
        self.merge.decode(more)

    def restored(self) -> None:
        """All that was committed has been repeated: the clock counts from here on."""
        for at in self.followers:
            origin = self.merge.origins.get(_origin(at))
            if origin is not None:
                self._until[at] = origin.until
                if origin.time is not None:
                    self.newest[at] = max(origin.time, self.newest.get(at, origin.time))
        self._brought = dict.fromkeys(self.newest, self._passed)
        # When it was written is not known any more, but that it was before now.
        self._written = dict.fromkeys(self.newest, self.now)

    def _lateness(self, source: str) -> int:
        for one in self.config.kafka.inputs:
            if one.topic == source:
                return int(one.lateness * 1e9)
        return int(self.config.default_lateness_seconds * 1e9)

    def _input(self, topic: str) -> KafkaInput:
        for one in self.config.kafka.inputs:
            if one.topic == topic:
                return one
        # A run of the past read a topic that is no input any more.
        ERRORS.labels("kafka").inc()
        return KafkaInput(topic=topic)


def _within(now: int, last: int, nano: int) -> bool:
    """Whether less than that has passed since; a clock that was set back says no."""
    return last <= now < last + nano


def _at(message: Message) -> tuple[str, int]:
    return message.topic(), message.partition()


def _origin(at: At) -> str:
    return f"{at[0]}/{at[1]}"


def _like(held: Held, alike: tuple[str, str, int]) -> bool:
    return (held.source, held.content_type, held.received) == alike
