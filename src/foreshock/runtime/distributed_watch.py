"""What a worker watches beside its work: inputs that run ahead, how far behind it is, what it could not use."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from foreshock.adapters.kafka.client import library
from foreshock.runtime.distributed_clients import Reader
from foreshock.runtime.distributed_keyed import Keyed
from foreshock.runtime.distributed_tasks import KafkaTask
from foreshock.runtime.figures import Complaints
from foreshock.telemetry import KAFKA_LAG, KAFKA_PAUSED, KAFKA_TASKS

logger = logging.getLogger(__name__)

Tasks = Mapping[tuple[str, int], KafkaTask]


class Watch:
    """Back-pressure and figures of one worker."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._kafka = library()
        self._paused: set[tuple[str, int]] = set()
        self._complaints = Complaints()

    def forget(self, task: KafkaTask) -> None:
        """A task has gone, and its inputs with it."""
        self._paused -= set(task.followers)

    def balance(self, tasks: Tasks) -> None:
        """Let inputs wait that have come too far ahead of the slowest."""
        for task in tasks.values():
            if not isinstance(task, Keyed):
                continue
            for at in task.followers:
                ahead = task.ahead(at)
                one = [self._kafka.TopicPartition(*at)]
                if ahead and at not in self._paused:
                    self._reader.inputs.pause(one)
                    self._paused.add(at)
                elif ahead is False and at in self._paused:
                    self._reader.inputs.resume(one)
                    self._paused.discard(at)
        KAFKA_PAUSED.set(len(self._paused))

    def publish(self, tasks: Tasks, now: float) -> None:
        """Bring the metrics up to date, and say what was not used (`now` as of `perf_counter`)."""
        KAFKA_TASKS.set(len(tasks))
        counts: dict[str, int] = {}
        for task in tasks.values():
            for at, position in task.positions.items():
                consumer = self._reader.group if at == task.lead else self._reader.inputs
                lag = self._reader.lag(consumer, at, position)
                if lag is not None:
                    KAFKA_LAG.labels(at[0], str(at[1])).set(lag)
            if isinstance(task, Keyed):
                for reason, count in task.task.pipeline.counts().items():
                    counts[reason] = counts.get(reason, 0) + count
        for sentence in self._complaints.of(counts, now):
            logger.warning("%s", sentence)
