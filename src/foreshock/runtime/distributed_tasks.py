"""Tasks over Kafka: what stands around the state machines so that they can be told again what they were told.

A task takes messages in the order in which they were consumed and notes it as steps. The steps between two transactions
are a run; repeating the runs gives the same state (CONTRACTS §1). What a task has to say gathers in `outbox`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from foreshock import pipeline as pipes
from foreshock.adapters.kafka.dead import LARGEST, dead_letter
from foreshock.adapters.kafka.messages import FORWARD, Forward, Out
from foreshock.adapters.kafka.stretch import At, Message, span
from foreshock.adapters.kafka.topics import Layout
from foreshock.config import Config, parse_resolved
from foreshock.runtime.distributed_format import CONFIG, Run, Step, Word, decode_word, encode
from foreshock.runtime.stamp import Told, stamped
from foreshock.runtime.task import decode_control, encode_json, same
from foreshock.state import State
from foreshock.telemetry import ALERTS, DROPPED
from foreshock.types import Alert, Columns, Control
from foreshock.types.record import CONTROL


class _Own(msgspec.Struct):
    """What a task remembers beside its operators."""

    sequence: int
    positions: list[tuple[str, int, int]]
    more: bytes
    newest: list[tuple[str, int, int]] = []


_decode_own = msgspec.msgpack.Decoder(_Own).decode


class KafkaTask:
    """What keyed and environment tasks share: positions, steps, the outbox.

    `lead` is the partition that the group assigns, `followers` those of inputs that go with it; `partition` is its own
    in the topics of runs and snapshots. `positions` are offsets to go on from.
    """

    config: Config
    watermark: int
    sources: dict[str, int]

    def __init__(self, name: str, lead: At, followers: list[At], partition: int) -> None:
        self.name, self.lead, self.followers, self.partition = name, lead, followers, partition
        self.positions: dict[At, int] = {}
        # Event time (Unix ns) that partitions of inputs have come to.
        self.newest: dict[At, int] = {}
        self.sequence = 0
        self.steps: list[Step] = []
        self.outbox: list[Out] = []
        # Verdicts, and lines passed on, since it last said its words.
        self.rows = 0
        # How long it took to take what came since the newest snapshot was begun.
        self.repeat_seconds = 0.0
        # The clock (Unix ns), as the worker last told it.
        self.now = 0
        # The offset of the end of an input, where that has been seen since its last message.
        self.ended: dict[At, int] = {}

    @property
    def inputs(self) -> list[At]:
        """All that it reads."""
        return [self.lead, *self.followers]

    def take(self, messages: Sequence[Message], *, emit: bool = True) -> None:
        """Take messages of one partition, in order; `emit` = False where what they bring about has been said."""
        at, first, last = span(messages)
        known = self.positions.get(at, 0)
        if first < known:
            # Fetched before a change of tasks, and read since.
            messages = [message for message in messages if message.offset() >= known]
            if not messages:
                return
            first = messages[0].offset()
        end = last + 1
        if self.steps and (self.steps[-1].input, self.steps[-1].partition) == at:
            self.steps[-1].end = end
        else:
            self.steps.append(Step(*at, first, end))
        self.positions[at] = end
        self.ended.pop(at, None)
        started = perf_counter()
        self._take(messages, emit)
        self.repeat_seconds += perf_counter() - started

    def repeat(self, step: Step) -> None:
        """Go on again under the config of a step."""
        self._use(parse_resolved(step.config), emit=False)

    def use(self, config: Config) -> bool:
        """Go on under another config, if it is another; whether it was."""
        if config.digest == self.config.digest:
            return False
        self.steps.append(Step(CONFIG, config=config.resolved()))
        self._use(config, emit=True)
        return True

    def begin_run(self) -> None:
        """Forget the steps: they have been repeated, or stand in a run."""
        self.steps = []

    def run(self) -> Run:
        """The run that the steps are, which is over with this."""
        self.sequence += 1
        steps, self.steps = self.steps, []
        return Run(self.sequence, steps)

    def states(self) -> dict[str, State]:
        """All state, tables live."""
        own = encode(_Own(self.sequence, _listed(self.positions), self._more(), _listed(self.newest)))
        return self._states() | {"kafka": State(1, blobs={"own": [own]})}

    def load(self, saved: dict[str, State], config: bytes, watermark: int, sources: dict[str, int]) -> None:
        """Take over what `states` gave; PermanentError if this version cannot."""
        own = _decode_own(saved["kafka"].blobs["own"][0])
        self.sequence = own.sequence
        self.positions = {(topic, partition): offset for topic, partition, offset in own.positions}
        self.newest = {(topic, partition): time for topic, partition, time in own.newest}
        self._load(saved, parse_resolved(config), watermark, sources, own.more)

    def asked(self, at: At, end: int, when: int) -> None:
        """An input ended at offset `end` when it was asked for that (Unix ns)."""

    def anomalies(self) -> list[Out]:
        """Verdicts that have come since they were last asked for; what is not asked for goes into the outbox."""
        return []

    def words(self) -> None:
        """Put what belongs at the end of a transaction into the outbox."""

    def restored(self) -> None:
        """All that was committed has been repeated: the clock counts from here on."""

    def _take(self, messages: Sequence[Message], emit: bool) -> None:
        raise NotImplementedError

    def _use(self, config: Config, *, emit: bool) -> None:
        raise NotImplementedError

    def _states(self) -> dict[str, State]:
        raise NotImplementedError

    def _more(self) -> bytes:
        return b""

    def _load(
        self, saved: dict[str, State], config: Config, watermark: int, sources: dict[str, int], more: bytes
    ) -> None:
        raise NotImplementedError


class _Heard(msgspec.Struct):
    """The last word of a keyed task and when it was appended (Unix ns)."""

    watermark: int
    clock: int


class _Listened(msgspec.Struct):
    heard: dict[int, _Heard]
    of: int
    clock: int
    first: int
    told: list[Control] = []


_decode_listened = msgspec.msgpack.Decoder(_Listened).decode


class EnvironmentTask(KafkaTask):
    """Takes what keyed tasks say and decides on alerts in order, behind the least of their watermarks; passes on to all
    of them what it is told in control records, of which it is the one writer.

    A keyed task that has said nothing for `kafka.leave_out`, by the broker's clock in the log, is not waited for; what
    it says later is late, taken as it comes, and counted.
    """

    def __init__(self, config: Config, layout: Layout, leave_out_seconds: float) -> None:
        super().__init__("environment", (layout.environment, 0), [(layout.control, 0)], layout.tasks)
        self.config, self.watermark, self.sources = config, 0, {}
        self._layout = layout
        self._leave_out = int(leave_out_seconds * 1e9)
        self._budget = pipes.build(config).budget
        self._heard: dict[int, _Heard] = {}
        self._of, self._clock, self._first = layout.tasks, 0, 0
        self._told = Told()

    @property
    def budget(self) -> Any:
        """The operator."""
        return self._budget

    def _take(self, messages: Sequence[Message], emit: bool) -> None:
        if messages[0].topic() == self._layout.control:
            for message in messages:
                self._take_control(message, emit)
            return
        alerts: list[Alert] = []
        for message in messages:
            try:
                word = decode_word(message.value() or b"")
            except msgspec.MsgspecError:
                DROPPED.labels("bad_word").inc()
                continue
            self._clock = max(self._clock, message.timestamp()[1] * 1_000_000)
            self._first = self._first or self._clock
            self._of = word.of
            self._heard[word.task] = _Heard(word.watermark, self._clock)
            self._budget.process(Columns(alerts=tuple(word.alerts), presence=tuple(word.presence)))
            mark = self._least()
            if mark is not None and mark > self.watermark:
                self.watermark = mark
                alerts += self._budget.on_watermark(mark).alerts
        if emit:
            self._say(alerts)

    def _take_control(self, message: Message, emit: bool) -> None:
        """Take a control record and send it on, so that it takes effect where nothing is decided yet."""
        try:
            asked = decode_control(message.value() or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if emit:
                self.outbox.append(dead_letter(message, "bad_control", f"not a control record: {error}"))
            return
        newest = max((one.watermark for one in self._heard.values()), default=0)
        lateness = max((one.lateness for one in self.config.kafka.inputs), default=0.0)
        control = stamped(asked, self._told.of(asked.id), newest + int(lateness * 1e9))
        self._told.note(control)
        alerts = self._budget.process(Columns(controls=(control,))).alerts
        if emit:
            self._say(alerts)
            told = encode(Forward("", 0, "control", content_type=CONTROL))
            value = encode_json(control)
            self.outbox += [
                Out(self._layout.keyed, value, None, ((FORWARD, told),), one) for one in range(self._layout.tasks)
            ]

    def _least(self) -> int | None:
        """The time up to which alerts are decided on: the least of those that are waited for."""
        limit = self._clock - self._leave_out
        if len(self._heard) < self._of and self._first > limit:
            return None
        least = min((one.watermark for one in self._heard.values() if one.clock >= limit), default=0)
        return least or None

    def _say(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            if alert.ends_unix_nano is None:
                ALERTS.labels(str(alert.kind), str(bool(alert.notified)).lower()).inc()
            self.outbox.append(alert_message(alert, self._layout.alerts, self.config.environment))

    def _use(self, config: Config, *, emit: bool) -> None:
        before, self.config = self.config, config
        state = self._budget.state().frozen()
        self._budget = pipes.build(config).budget
        if same("budget", before, config):
            self._budget.load(state)

    def _states(self) -> dict[str, State]:
        return {"budget": self._budget.state()}

    def _more(self) -> bytes:
        return encode(_Listened(self._heard, self._of, self._clock, self._first, self._told.own))

    def _load(
        self, saved: dict[str, State], config: Config, watermark: int, sources: dict[str, int], more: bytes
    ) -> None:
        self.config, self.watermark = config, watermark
        self._budget = pipes.build(config).budget
        self._budget.load(saved["budget"])
        listened = _decode_listened(more)
        self._heard, self._of, self._clock, self._first = listened.heard, listened.of, listened.clock, listened.first
        self._told = Told(own=listened.told)


def _listed(by_partition: dict[At, int]) -> list[tuple[str, int, int]]:
    return [(topic, partition, number) for (topic, partition), number in by_partition.items()]


def alert_message(alert: Alert, topic: str, environment: str) -> Out:
    """An alert as users read it: Alertmanager's JSON, keyed by the alert, CloudEvents attributes in the headers."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{alert.episode}-{alert.status}-{alert.decided_unix_nano}",
        "ce_source": f"/foreshock/{environment}",
        "ce_type": f"dev.foreshock.alert.{alert.status}",
        "content-type": "application/json",
    }
    value = msgspec.json.encode(alert.to_json(), order="sorted")
    return Out(topic, value, alert.key.encode(), tuple((name, text.encode()) for name, text in headers.items()))


def word_messages(word: Word, before: int, layout: Layout, environment: str) -> list[Out]:
    """What a keyed task says, as messages to the environment task.

    Where it is too large for one, only the last says the watermark; the others that of `before`, which decides nothing.
    """
    return [Out(layout.environment, value, environment.encode(), (), 0) for value in _pieces(word, before)]


def _pieces(word: Word, before: int) -> Iterator[bytes]:
    value, alerts, presence = encode(word), word.alerts, word.presence
    half = (len(alerts) + len(presence)) // 2
    if len(value) <= LARGEST or not half:
        yield value
        return
    rest = max(0, half - len(alerts))
    yield from _pieces(Word(word.task, word.of, before, alerts[:half], presence[:rest]), before)
    yield from _pieces(Word(word.task, word.of, word.watermark, alerts[half:], presence[rest:]), before)


def anomaly_messages(verdicts: dict[str, list[Any]], topic: str) -> list[Out]:
    """Anomalous verdicts, one JSON object each, keyed by the entity."""
    names = list(verdicts)
    out = []
    for values in zip(*verdicts.values(), strict=True):
        row = {name: _plain(value) for name, value in zip(names, values, strict=True)}
        row["notes"] = msgspec.json.decode(row["notes"])
        out.append(Out(topic, encode_json(row), str(row["entity"]).encode(), (("content-type", b"application/json"),)))
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
