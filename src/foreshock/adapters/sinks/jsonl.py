"""Alerts as a file of JSON lines, each transition exactly once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from foreshock.adapters.sinks import wanted
from foreshock.adapters.sinks.stdout import json_line
from foreshock.errors import RetryableError
from foreshock.types import Alert
from foreshock.types.units import Options


class JsonlOptions(Options):
    """Options of the sink `jsonl`."""

    path: str = Field(default="alerts.jsonl", description="File that the lines are appended to.")
    all: bool = Field(default=True, description="Write alerts that do not notify, too.")


class Jsonl:
    """Appends one Alertmanager JSON object a line for each transition.

    Its state is the length of the file up to the last delivery that counts. What stands behind it was written by a
    delivery whose cursor was lost in a crash: it is cut off and written again, so that the file is the same as
    without the crash. A file that is there before the first delivery is kept and appended to; one that is shorter
    than the state was moved away by somebody, and a new one begins.
    """

    batch_size = 256

    def __init__(self, name: str, options: JsonlOptions | None = None) -> None:
        self.name = name
        self._options = options or JsonlOptions()
        self._path = Path(self._options.path)
        self._state = ""

    def begin(self) -> str:
        """The length of what is there already."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                return str(file.tell())
        except OSError as error:
            raise RetryableError(f"sink {self.name}: {self._path} cannot be written: {error}") from error

    def send_from(self, state: str, alerts: Sequence[Alert]) -> str:
        """Cut the file to `state`, append, and reach the disk before saying so; RetryableError if that fails."""
        data = "".join(json_line(alert) for alert in wanted(alerts, self._options.all)).encode()
        try:
            with self._path.open("ab") as file:
                length = min(int(state), file.tell())
                file.truncate(length)
                if data:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RetryableError(f"sink {self.name}: {self._path} cannot be written: {error}") from error
        return str(length + len(data))

    def send(self, alerts: Sequence[Alert]) -> None:
        """Append without an outbox: exactly once as long as this object lives."""
        self._state = self.send_from(self._state or self.begin(), alerts)

    def close(self) -> None:
        """Nothing is held open between deliveries."""
