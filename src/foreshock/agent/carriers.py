"""How the records of sources become messages."""

from __future__ import annotations

from collections.abc import Sequence

from foreshock.adapters.decode import decode_samples
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS, Reading, decode_readings
from foreshock.agent.outgoing import Outgoing, of_readings, readings_of
from foreshock.types import Record
from foreshock.types.record import ARROW

_NO_MAPPING = MappingOptions.model_validate({})


class Readings:
    """Readings, each of `every_seconds`, gathered for `batch_seconds` of their own time and then sent, one message an
    entity.

    Records that hold no samples (watermarks of the past) are left out: behind Kafka, time follows from the messages.
    """

    def __init__(self, topic: str, source: str, batch_seconds: float = 0.0, every_seconds: float = 0.0) -> None:
        self.topic, self.source = topic, source
        self._batch, self._every = round(batch_seconds * 1e9), round(every_seconds * 1e9)
        self._held: list[Reading] = []
        self.newest = 0
        """The newest time of a reading (Unix ns)."""

    def take(self, record: Record) -> Sequence[Outgoing]:
        """The messages that are due."""
        if record.content_type == METRICS:
            fresh = decode_readings(record.payload)
        elif record.content_type == ARROW:
            fresh = readings_of(decode_samples(record, _NO_MAPPING))
        else:
            return ()
        self._held += fresh
        if not self._held:
            return ()
        self.newest = max(self.newest, self._held[-1].time)
        if self._held[-1].time + self._every - self._held[0].time < self._batch:
            return ()
        return self.rest()

    def rest(self) -> Sequence[Outgoing]:
        """What is held back."""
        held, self._held = self._held, []
        return of_readings(self.topic, self.source, held)
