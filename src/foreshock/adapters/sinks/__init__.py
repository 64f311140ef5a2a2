"""Ways out for alerts: what the sinks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from foreshock.errors import RetryableError
from foreshock.types import Alert


class RetryLaterError(RetryableError):
    """The receiver said when to come back: not before `seconds` from now."""

    def __init__(self, message: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)


@runtime_checkable
class Resumable(Protocol):
    """A sink that can deliver exactly once: its state is kept with the outbox's cursor, in one transaction."""

    name: str

    def begin(self) -> str:
        """The state before anything is sent."""
        ...

    def send_from(self, state: str, alerts: Sequence[Alert]) -> str:
        """Undo whatever was sent after `state`, deliver these, and give the state after them."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


def wanted(alerts: Sequence[Alert], all_alerts: bool) -> list[Alert]:
    """The alerts that a sink takes: those that notify, or all."""
    return [alert for alert in alerts if all_alerts or alert.notified]
