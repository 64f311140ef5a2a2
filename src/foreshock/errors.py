"""The exception tree. The type says what to do; the message says what happened, to what, and what the user can do.

ForeshockError
├── ConfigError       fails at start: file, line, key path, nearest valid key
├── BadInputError     answered in the protocol's own words, counted by source and reason, never fatal
├── RetryableError    wait and try again (backoff with jitter and cap)
└── PermanentError    trying again cannot help: dead letter, or stop with the reason
"""

from __future__ import annotations


class ForeshockError(Exception):
    """Base of every error that Foreshock raises on purpose."""


class ConfigError(ForeshockError):
    """A setting is wrong; found at start, before anything runs."""

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        self.message, self.file, self.line, self.key = message, file, line, key
        where = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (where, key, message) if part))


class BadInputError(ForeshockError):
    """Input that can never be accepted as it is.

    `reason` is a short slug that is also the metric label (`bad_json`, `no_time`, …).
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class RetryableError(ForeshockError):
    """A passing fault: a lost connection, a full queue, a full disk."""


class PermanentError(ForeshockError):
    """A fault that a second try will not mend: a corrupt file, a refused credential."""
