"""Settings of Kafka clients, made of the `kafka:` section and the environment; errors in our own words."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.errors import ConfigError, ForeshockError, PermanentError, RetryableError
from foreshock.telemetry import ERRORS

logger = logging.getLogger(__name__)

CLIENT = "foreshock"
STUCK_SECONDS = 120.0
REFUSED = ("_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED", "TOPIC_AUTHORIZATION_FAILED",
           "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED",
           "TRANSACTIONAL_ID_AUTHORIZATION_FAILED")  # fmt: skip


def library() -> Any:
    """The module `confluent_kafka`; ConfigError with the extra to install where it is missing."""
    try:
        import_module("confluent_kafka.admin")
        return import_module("confluent_kafka")
    except ImportError as error:
        raise ConfigError(f"Kafka needs confluent-kafka ({error}): pip install 'foreshock[kafka]'") from None


def settings(options: KafkaOptions, environ: Mapping[str, str] = os.environ, **own: Any) -> dict[str, Any]:
    """What librdkafka is given: defaults, `own` of the caller, then what the user set, which wins.

    Names in `own` are written with `_` for `.`: `client_id="x"`. What a user sets for all clients may be a property of
    consumers or of producers alone: librdkafka ignores it in the other with a warning, which is kept silent.
    """
    out: dict[str, Any] = {
        "bootstrap.servers": options.filled(environ).brokers,
        "client.id": CLIENT,
        "error_cb": Told(),
        "logger": _client_logger(),
    }
    out |= {name.replace("_", "."): value for name, value in own.items()}
    out |= options.client
    out |= {name: value.get_secret_value() for name, value in options.secrets.items()}
    return out


def producer_settings(options: KafkaOptions, environ: Mapping[str, str] = os.environ, **own: Any) -> dict[str, Any]:
    """Settings of an idempotent producer that puts keys where Java's clients put them."""
    usual = {
        "enable_idempotence": True,
        "partitioner": "murmur2_random",
        "compression_type": "lz4",
        "linger_ms": 5,
    }
    return settings(options, environ, **usual | own)


def _client_logger() -> logging.Logger:
    """Where librdkafka's own lines go, without those on foreign properties and on what is told by an exception."""
    out = logging.getLogger("foreshock.kafka")
    if not out.filters:
        out.addFilter(lambda record: not record.getMessage().startswith(("CONFWARN", "TXNERR", "GETPID")))
    return out


class Told:
    """Says what goes wrong in a client's background, each kind once a minute at most; keeps the last refusal."""

    def __init__(self) -> None:
        self.refused = ""
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def __call__(self, error: Any) -> None:
        """Take an error of librdkafka."""
        import time

        ERRORS.labels("kafka").inc()
        if error.name() in REFUSED:
            self.refused = f"{error.name()}: {error.str()}"
        with self._lock:
            now = time.monotonic()
            if now - self._last.get(error.name(), -60.0) < 60.0:
                return
            self._last[error.name()] = now
        logger.warning("Kafka: %s", error.str())


def translate(error: Any, what: str) -> ForeshockError:
    """A KafkaException or KafkaError in our words: whether to retry, what happened, what the user can do."""
    inner = error
    with suppress(AttributeError, IndexError):
        inner = error.args[0]
    name = inner.name() if hasattr(inner, "name") else ""
    text = f"{what}: {inner.str() if hasattr(inner, 'str') else inner}"
    if name in REFUSED:
        return PermanentError(f"{text} (Kafka refused: check kafka.client, kafka.secrets and the ACLs)")
    if name in ("_INVALID_ARG", "_UNKNOWN_PROPERTY"):
        return ConfigError(text, key="kafka.client")
    return RetryableError(text)


def make(kind: str, values: dict[str, Any]) -> Any:
    """A client: `kind` is `Consumer`, `Producer` or `AdminClient`; ConfigError where a property is wrong."""
    kafka = library()
    cls = kafka.admin.AdminClient if kind == "AdminClient" else getattr(kafka, kind)
    logger_ = values.get("logger")
    rest = {name: value for name, value in values.items() if name != "logger"}
    try:
        return cls(rest, logger=logger_) if logger_ is not None else cls(rest)
    except (kafka.KafkaException, TypeError, ValueError) as error:
        raise ConfigError(f"a Kafka client cannot be made of these properties: {error}", key="kafka.client") from error


@contextmanager
def comes_back(what: str) -> Iterator[None]:
    """End the process where a call does not come back for two minutes: librdkafka's own limits do not always hold.

    Seen in a commit whose brokers were all killed at once. Nothing is lost by it: what is not committed is done again.
    """
    timer = threading.Timer(STUCK_SECONDS, _end, (what,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(what: str) -> None:
    logger.critical("%s has not come back for %g s: the process ends, start it again", what, STUCK_SECONDS)
    logging.shutdown()
    os._exit(3)
