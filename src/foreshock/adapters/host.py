"""This machine as a source: OpenTelemetry's `system.*` metrics, read at exact multiples of an interval."""

from __future__ import annotations

import socket
import threading
from typing import ClassVar

from pydantic import Field

from foreshock.adapters.host_reader import HostReader
from foreshock.adapters.metrics import METRICS, encode_metrics
from foreshock.errors import RetryableError
from foreshock.ports import Clock, Submit
from foreshock.telemetry import drop
from foreshock.types import Record
from foreshock.types.units import Options, Seconds

_LONGEST_SLEEP = 0.5


class HostOptions(Options):
    """Metrics of the machine that Foreshock runs on."""

    every: Seconds = Field(default=1.0, ge=0.1, le=3600, description="Time between two readings.")
    top_processes: int = Field(
        default=0, ge=0, le=100, description="Also the CPU use of so many programs, those that use most of it."
    )
    host_name: str = Field(default="", description="Name of the entity (`host.name`); default: this machine's own.")


class HostSource:
    """Reads the machine every `every` seconds and stamps each reading with the time it was due.

    A reading that comes too late is skipped and counted (`missed_reading`), never bunched with the next; one that the
    runtime has no room for is dropped and counted (`source_backpressure`).
    """

    options: ClassVar = HostOptions
    default_lateness_seconds: ClassVar = 0.0

    def __init__(
        self,
        name: str = "host",
        options: HostOptions | None = None,
        environment: str = "default",
        lateness_seconds: float = 0.0,
        reader: HostReader | None = None,
    ) -> None:
        self.name, self.lateness_seconds = name, lateness_seconds
        self._options = options or HostOptions()
        self._environment = environment
        self._entity = {"host.name": self._options.host_name or socket.gethostname()}
        self._reader = reader or HostReader(self._options.top_processes)
        self._stopped = threading.Event()

    def run(self, submit: Submit, clock: Clock) -> None:
        """Read and submit until `stop`."""
        every = round(self._options.every * 1e9)
        due = -(-clock.now_unix_nano() // every) * every
        while not self._stopped.is_set():
            now = clock.now_unix_nano()
            if due - now > 2 * every:  # the clock was set back
                due = -(-now // every) * every
            if now < due:
                clock.sleep(min((due - now) / 1e9, _LONGEST_SLEEP))
                continue
            tick = now // every * every
            if missed := (tick - due) // every:
                drop(self.name, "missed_reading", missed)
            self._bring(submit, tick, now)
            due = tick + every

    def stop(self) -> None:
        """End `run` within half a second."""
        self._stopped.set()

    def _bring(self, submit: Submit, time_unix_nano: int, now: int) -> None:
        reading = self._reader.read(time_unix_nano, now, self._entity)
        record = Record(self._environment, self.name, METRICS, now, encode_metrics(reading))
        try:
            submit(record)
        except RetryableError:
            drop(self.name, "source_backpressure", len(reading.metrics))
