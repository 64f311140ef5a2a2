"""Alerts as lines on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec
from pydantic import Field

from foreshock.adapters.sinks import wanted
from foreshock.errors import RetryableError
from foreshock.types import Alert, rfc3339
from foreshock.types.units import Options


class StdoutOptions(Options):
    """Options of the sink `stdout`."""

    json_lines: bool = Field(default=False, alias="json", description="Write Alertmanager's JSON, one object a line.")
    all: bool = Field(default=False, description="Write alerts that do not notify, too.")


class Stdout:
    """One line an alert: when it was decided, FIRING or RESOLVED, and its summary.

    `stream` defaults to what `sys.stdout` is at the time of writing.
    """

    batch_size = 256

    def __init__(self, name: str, options: StdoutOptions | None = None, *, stream: TextIO | None = None) -> None:
        self.name = name
        self._options = options or StdoutOptions()
        self._stream = stream

    def send(self, alerts: Sequence[Alert]) -> None:
        """Write the lines; RetryableError if the stream cannot be written."""
        write = json_line if self._options.json_lines else text_line
        lines = [write(alert) for alert in wanted(alerts, self._options.all)]
        stream = self._stream or sys.stdout
        try:
            stream.write("".join(lines))
            stream.flush()
        except (OSError, ValueError) as error:
            raise RetryableError(f"sink {self.name}: standard output cannot be written: {error}") from error

    def close(self) -> None:
        """Nothing to let go of: the stream is not ours."""


def text_line(alert: Alert) -> str:
    """The line for people; control characters in it are written as escapes."""
    summary = dict(alert.annotations).get("summary") or alert.key
    safe = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in summary)
    return f"{rfc3339(alert.decided_unix_nano)} {alert.status.upper():8} {safe}\n"


def json_line(alert: Alert) -> str:
    """Alertmanager's JSON: compact, keys sorted, one line."""
    return msgspec.json.encode(alert.to_json(), order="sorted").decode() + "\n"
