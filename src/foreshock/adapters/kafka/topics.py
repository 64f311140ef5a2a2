"""Our topics: their names, and that they are there and as they must be."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foreshock.adapters.kafka.client import library, make, settings, translate
from foreshock.adapters.kafka.dead import SUFFIX
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.errors import ConfigError, PermanentError, RetryableError

logger = logging.getLogger(__name__)

WAIT_SECONDS = 15.0
INPUT_PARTITIONS = 6
_WEEK, _MONTH = str(7 * 86_400_000), str(30 * 86_400_000)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it should be; `partitions` 0 = as many as there are."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)

    def command(self, replication: int) -> str:
        """How to make it by hand."""
        more = "".join(f" --config {key}={value}" for key, value in self.config.items())
        copies = f" --replication-factor {replication}" if replication else ""
        return f"kafka-topics.sh --create --topic {self.name} --partitions {self.partitions}{copies}{more}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of all topics and the number of partitions of those that are read.

    `tasks` keyed tasks: as many as `keyed` has partitions. Partition q of an input follows task q mod `tasks`.
    """

    prefix: str
    tasks: int
    inputs: Mapping[str, int]

    @property
    def keyed(self) -> str:
        """What arrived under another key, and how far its origins have come; its partitions are the keyed tasks."""
        return self.prefix + "keyed"

    @property
    def environment(self) -> str:
        """What keyed tasks say to the environment task."""
        return self.prefix + "environment"

    @property
    def control(self) -> str:
        """What people and other programs tell all tasks: labels, silences, maintenance, deploys."""
        return self.prefix + "control"

    @property
    def runs(self) -> str:
        """What each transaction consumed, in order; the last partition is that of the environment task."""
        return self.prefix + "runs"

    @property
    def snapshots(self) -> str:
        """States of tasks; partitions as in `runs`."""
        return self.prefix + "snapshots"

    @property
    def alerts(self) -> str:
        """The alerts that users read."""
        return self.prefix + "alerts"

    @property
    def anomalies(self) -> str:
        """Anomalous verdicts."""
        return self.prefix + "anomalies"

    def followers(self, task: int) -> list[tuple[str, int]]:
        """The partitions of inputs that a keyed task reads."""
        return [(topic, q) for topic, count in self.inputs.items() for q in range(task, count, self.tasks)]

    def topics(self) -> list[Topic]:
        """All of our own topics as they should be."""
        appended = {"message.timestamp.type": "LogAppendTime", "retention.ms": _WEEK}
        return [
            Topic(self.keyed, self.tasks, appended),
            Topic(self.environment, 1, appended),
            Topic(self.control, 1, {"retention.ms": _MONTH}),
            Topic(self.runs, self.tasks + 1, {"retention.ms": _WEEK}),
            Topic(self.snapshots, self.tasks + 1, {"cleanup.policy": "compact", "segment.ms": "3600000"}),
            Topic(self.alerts, 1, {"retention.ms": _MONTH}),
            Topic(self.anomalies, self.tasks, {"retention.ms": _WEEK}),
        ]


def prepare(options: KafkaOptions) -> Layout:
    """Find or make all topics; `options` filled.

    Raises ConfigError that names the fix where one is missing and may not be made, or is not as it must be;
    RetryableError or PermanentError where the brokers cannot be asked.
    """
    values = settings(options)
    admin = make("AdminClient", values)
    try:
        found = _partitions(admin)
    except RetryableError as error:
        admin.poll(0.1)  # what went wrong in the background is told now
        if refused := values["error_cb"].refused:
            raise PermanentError(f"Kafka refuses us: {refused} (kafka.client, kafka.secrets)") from error
        raise
    wanted = [one.topic for one in options.inputs]
    most = max((found[topic] for topic in wanted if topic in found), default=0)
    keyed = options.prefix + "keyed"
    tasks = found.get(keyed) or options.partitions or most or INPUT_PARTITIONS
    inputs = {topic: found.get(topic) or tasks for topic in wanted}
    layout = Layout(options.prefix, tasks, inputs)
    letters = [Topic(topic + SUFFIX, 1, {"retention.ms": _MONTH}) for topic in (*wanted, layout.control)]
    all_topics = [Topic(topic, count) for topic, count in inputs.items()] + letters + layout.topics()
    _check(all_topics, found, options)
    missing = [topic for topic in all_topics if topic.name not in found]
    if missing:
        _make(admin, missing, options)
    return layout


def ensure(options: KafkaOptions, topics: Iterable[Topic], wait_seconds: float = WAIT_SECONDS) -> None:
    """Find or make these topics, whatever partitions those have that are there; `options` filled.

    Raises as `prepare` does.
    """
    admin = make("AdminClient", settings(options))
    found = _partitions(admin, wait_seconds)
    missing = [topic for topic in topics if topic.name not in found]
    if missing:
        _make(admin, missing, options)


def _partitions(admin: Any, wait_seconds: float = WAIT_SECONDS) -> dict[str, int]:
    kafka = library()
    try:
        return {name: len(one.partitions) for name, one in admin.list_topics(timeout=wait_seconds).topics.items()}
    except kafka.KafkaException as error:
        raise translate(error, "the brokers cannot be asked for their topics") from error


def _check(topics: Iterable[Topic], found: Mapping[str, int], options: KafkaOptions) -> None:
    if options.partitions and found.get(options.prefix + "keyed", options.partitions) != options.partitions:
        raise ConfigError(
            f"{options.prefix}keyed has {found[options.prefix + 'keyed']} partitions and kafka.partitions says "
            f"{options.partitions}: the number of tasks of a running system is fixed; take another kafka.prefix and "
            "kafka.group to begin anew"
        )
    for topic in topics:
        count = found.get(topic.name)
        if count is not None and count != topic.partitions and not topic.name.endswith(SUFFIX):
            raise ConfigError(
                f"topic {topic.name} has {count} partitions where {topic.partitions} are needed: delete it and run "
                f"`{topic.command(options.replication)}`"
            )


def _make(admin: Any, missing: list[Topic], options: KafkaOptions) -> None:
    kafka = library()
    commands = "\n  ".join(topic.command(options.replication) for topic in missing)
    if not options.create_topics:
        raise ConfigError(f"topics are missing and kafka.create_topics is off; make them:\n  {commands}")
    new = [
        kafka.admin.NewTopic(topic.name, topic.partitions, options.replication or -1, config=dict(topic.config))
        for topic in missing
    ]
    for name, done in admin.create_topics(new, request_timeout=WAIT_SECONDS).items():
        try:
            done.result()
        except kafka.KafkaException as error:
            code = error.args[0].name()
            if code == "TOPIC_ALREADY_EXISTS":
                continue
            if code.endswith("AUTHORIZATION_FAILED"):
                raise ConfigError(f"this principal may not make topics; have them made:\n  {commands}") from error
            raise translate(error, f"topic {name} cannot be made") from error
    names = {topic.name for topic in missing}
    logger.info("made the topics %s", ", ".join(sorted(names)))
    deadline = time.monotonic() + WAIT_SECONDS
    while not names <= _partitions(admin).keys():
        if time.monotonic() > deadline:
            raise RetryableError("topics were made and are not seen yet: start again")
        time.sleep(0.05)
