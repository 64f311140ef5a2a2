"""A source whose records go to Kafka instead of into a pipeline."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from foreshock.agent.forward import Forwarder
from foreshock.agent.outgoing import Outgoing
from foreshock.agent.spool import Spool
from foreshock.errors import RetryableError
from foreshock.ports import Clock, Source
from foreshock.telemetry import ERRORS
from foreshock.types import Record

logger = logging.getLogger(__name__)


class StoppableClock(Clock, Protocol):
    """A clock that wakes its sleepers when it is told to."""

    def stop(self) -> None:
        """Wake everybody."""
        ...


class Carrier(Protocol):
    """Makes messages of the records of a source."""

    def take(self, record: Record) -> Sequence[Outgoing]:
        """The messages that are due with this record; some may be held back to go with later ones."""
        ...

    def rest(self) -> Sequence[Outgoing]:
        """What is held back."""
        ...


class Agent:
    """Runs a source, and takes what it brings to Kafka by way of the buffer on disk.

    `on_record` sees each record first. What the buffer's disk refuses is counted and lost; the source goes on.
    """

    def __init__(
        self,
        source: Source,
        carrier: Carrier,
        spool: Spool,
        forwarder: Forwarder,
        clock: StoppableClock,
        on_record: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self.source, self.carrier, self.spool, self.forwarder, self.clock = source, carrier, spool, forwarder, clock
        self.ended = threading.Event()
        self.failed = ""
        self._on_record = on_record
        self._thread = threading.Thread(target=self._run, name=f"foreshock-agent-{source.name}", daemon=True)

    @property
    def problem(self) -> str:
        """Why nothing new arrives, in words; empty while all is well."""
        return self.failed or str(getattr(self.source, "problem", "")) or self.forwarder.problem

    def start(self) -> None:
        """Read and send, in threads of their own."""
        self.forwarder.start()
        self._thread.start()

    def stop(self) -> None:
        """End the source, send what there is, and close the buffer."""
        self.source.stop()
        self.clock.stop()
        self._thread.join(10.0)
        self.spool.add(self.carrier.rest())
        self.forwarder.stop()
        self.spool.close()

    def _run(self) -> None:
        try:
            resume = getattr(self.source, "resume", None)
            if resume is not None and self.spool.newest_unix_nano:
                resume(self.spool.newest_unix_nano)
            self.source.run(self._submit, self.clock)
        except Exception as error:
            # A source is somebody's code: what it raises ends it, and the command says so.
            self.failed = f"source {self.source.name} has ended: {type(error).__name__}: {error}"
            ERRORS.labels(f"source:{self.source.name}").inc()
            logger.exception("source %s has ended", self.source.name)
        finally:
            self.ended.set()

    def _submit(self, record: Record) -> None:
        self._on_record(record)
        if not self.spool.add(self.carrier.take(record)):
            raise RetryableError("the agent's buffer on disk takes nothing")
