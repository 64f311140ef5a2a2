"""librdkafka's own consumer, through the C interface of the library that confluent-kafka brings (rdkafka.h).

It hands messages over as pointers: who reads them where they lie makes no Python object for each.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.kafka.client import library
from foreshock.errors import ConfigError, PermanentError

CONSUMER, OK, NOT_SET = 1, 0, -1001
SEEK_MILLIS = 1000
_ERROR_BYTES = 512
_POINTER, _TEXT, _INT, _LONG = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int64
_ERROR_CALL = ctypes.CFUNCTYPE(None, _POINTER, _INT, _TEXT, _POINTER)
_LOG_CALL = ctypes.CFUNCTYPE(None, _POINTER, _INT, _TEXT, _TEXT)
_LEVELS = (50, 50, 50, 40, 30, 20, 20, 10)
"""Levels of `logging` for those of syslog, as confluent-kafka has them."""

_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "rd_kafka_conf_new": (_POINTER, ()),
    "rd_kafka_conf_set": (_INT, (_POINTER, _TEXT, _TEXT, _TEXT, ctypes.c_size_t)),
    "rd_kafka_conf_set_error_cb": (None, (_POINTER, _ERROR_CALL)),
    "rd_kafka_conf_set_log_cb": (None, (_POINTER, _LOG_CALL)),
    "rd_kafka_conf_destroy": (None, (_POINTER,)),
    "rd_kafka_new": (_POINTER, (_INT, _POINTER, _TEXT, ctypes.c_size_t)),
    "rd_kafka_set_log_queue": (_INT, (_POINTER, _POINTER)),
    "rd_kafka_poll_set_consumer": (_INT, (_POINTER,)),
    "rd_kafka_queue_get_consumer": (_POINTER, (_POINTER,)),
    "rd_kafka_queue_destroy": (None, (_POINTER,)),
    "rd_kafka_consumer_close": (_INT, (_POINTER,)),
    "rd_kafka_destroy": (None, (_POINTER,)),
    "rd_kafka_consume_batch_queue": (ctypes.c_ssize_t, (_POINTER, _INT, _POINTER, ctypes.c_size_t)),
    "rd_kafka_topic_partition_list_new": (_POINTER, (_INT,)),
    "rd_kafka_topic_partition_list_add": (_POINTER, (_POINTER, _TEXT, ctypes.c_int32)),
    "rd_kafka_topic_partition_list_set_offset": (_INT, (_POINTER, _TEXT, ctypes.c_int32, _LONG)),
    "rd_kafka_topic_partition_list_destroy": (None, (_POINTER,)),
    "rd_kafka_incremental_assign": (_POINTER, (_POINTER, _POINTER)),
    "rd_kafka_incremental_unassign": (_POINTER, (_POINTER, _POINTER)),
    "rd_kafka_seek_partitions": (_POINTER, (_POINTER, _POINTER, _INT)),
    "rd_kafka_pause_partitions": (_INT, (_POINTER, _POINTER)),
    "rd_kafka_resume_partitions": (_INT, (_POINTER, _POINTER)),
    "rd_kafka_get_watermark_offsets": (_INT, (_POINTER, _TEXT, ctypes.c_int32, _POINTER, _POINTER)),
    "rd_kafka_error_code": (_INT, (_POINTER,)),
    "rd_kafka_error_string": (_TEXT, (_POINTER,)),
    "rd_kafka_error_destroy": (None, (_POINTER,)),
    "rd_kafka_err2str": (_TEXT, (_INT,)),
    "rd_kafka_topic_name": (_TEXT, (_POINTER,)),
    "rd_kafka_message_errstr": (_TEXT, (_POINTER,)),
    "rd_kafka_message_headers": (_INT, (_POINTER, _POINTER)),
    "rd_kafka_header_get_all": (_INT, (_POINTER, ctypes.c_size_t, _POINTER, _POINTER, _POINTER)),
    "rd_kafka_message_timestamp": (_LONG, (_POINTER, _POINTER)),
    "rd_kafka_message_destroy": (None, (_POINTER,)),
}


class CMessage(ctypes.Structure):
    """`rd_kafka_message_t`."""

    _fields_ = (
        ("err", _INT), ("topic", _POINTER), ("partition", ctypes.c_int32), ("payload", _POINTER),
        ("size", ctypes.c_size_t), ("key", _POINTER), ("key_size", ctypes.c_size_t), ("offset", _LONG),
        ("private", _POINTER),
    )  # fmt: skip


@cache
def functions() -> Any:
    """The library with the types of what is called of it; PermanentError where they cannot be reached."""
    library()
    from confluent_kafka import cimpl

    out = ctypes.CDLL(cimpl.__file__)
    try:
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(out, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise PermanentError(
            f"this build of confluent-kafka hides librdkafka's own functions ({error}): install it as a wheel"
        ) from error
    return out


def address_of(name: str) -> int:
    """Where a function is."""
    return int(ctypes.cast(getattr(functions(), name), _POINTER).value or 0)


class Consumer:
    """A consumer without a group, of what it is assigned.

    `values` are librdkafka's properties, beside them `error_cb` and `logger` as confluent-kafka takes them. Raises
    ConfigError where a property is wrong, KafkaException where a call fails.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._c = functions()
        self._kafka = library()
        said, logger = values.get("error_cb"), values.get("logger")

        def on_error(_: Any, code: int, text: bytes, __: Any) -> None:
            if said is not None:
                said(self._kafka.KafkaError(code, _shown(text)))

        def on_log(_: Any, level: int, what: bytes, text: bytes) -> None:
            if logger is not None:
                logger.log(_LEVELS[level & 7], "%s %s", _shown(what), _shown(text))

        self._calls = _ERROR_CALL(on_error), _LOG_CALL(on_log)
        self._handle = self._made({name: one for name, one in values.items() if name not in ("error_cb", "logger")})
        self._c.rd_kafka_set_log_queue(self._handle, None)
        self._c.rd_kafka_poll_set_consumer(self._handle)
        self._queue = self._c.rd_kafka_queue_get_consumer(self._handle)

    def _made(self, values: Mapping[str, Any]) -> Any:
        text = ctypes.create_string_buffer(_ERROR_BYTES)
        conf = self._c.rd_kafka_conf_new()
        for name, value in ({"log.queue": True} | dict(values)).items():
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            if self._c.rd_kafka_conf_set(conf, name.encode(), shown.encode(), text, _ERROR_BYTES) != OK:
                self._c.rd_kafka_conf_destroy(conf)
                raise _unusable(text)
        self._c.rd_kafka_conf_set_error_cb(conf, self._calls[0])
        self._c.rd_kafka_conf_set_log_cb(conf, self._calls[1])
        handle = self._c.rd_kafka_new(CONSUMER, conf, text, _ERROR_BYTES)
        if not handle:
            self._c.rd_kafka_conf_destroy(conf)
            raise _unusable(text)
        return handle

    def fetch(self, into: NDArray[np.uint64], wait_seconds: float) -> int:
        """Messages that are there, as pointers, into `uint64[most]`; waits at most so long for the first. How many.

        Each belongs to the caller, who has it destroyed.
        """
        address = into.ctypes.data
        found = int(self._c.rd_kafka_consume_batch_queue(self._queue, int(wait_seconds * 1000), address, len(into)))
        if found < 0:
            self._raise(self._kafka.KafkaError._FAIL, b"messages cannot be fetched")
        return found

    def incremental_assign(self, partitions: Iterable[Any]) -> None:
        """Read these too, from their offsets on."""
        with self._listed(partitions) as listed:
            self._check_error(self._c.rd_kafka_incremental_assign(self._handle, listed))

    def incremental_unassign(self, partitions: Iterable[Any]) -> None:
        """Read these no more."""
        with self._listed(partitions) as listed:
            self._check_error(self._c.rd_kafka_incremental_unassign(self._handle, listed))

    def seek(self, partition: Any) -> None:
        """Go on at its offset."""
        with self._listed([partition]) as listed:
            self._check_error(self._c.rd_kafka_seek_partitions(self._handle, listed, SEEK_MILLIS))

    def pause(self, partitions: Iterable[Any]) -> None:
        """Let them wait."""
        with self._listed(partitions) as listed:
            self._check(self._c.rd_kafka_pause_partitions(self._handle, listed))

    def resume(self, partitions: Iterable[Any]) -> None:
        """Let them wait no more."""
        with self._listed(partitions) as listed:
            self._check(self._c.rd_kafka_resume_partitions(self._handle, listed))

    def get_watermark_offsets(self, partition: Any, *, cached: bool = True) -> tuple[int, int]:
        """The first offset and the one behind the last, by what the last answer said; -1001 = not known."""
        low, high = _LONG(NOT_SET), _LONG(NOT_SET)
        at = partition.topic.encode(), partition.partition
        where = ctypes.addressof(low), ctypes.addressof(high)
        self._check(self._c.rd_kafka_get_watermark_offsets(self._handle, *at, *where))
        return low.value, high.value

    def close(self) -> None:
        """Let go of all."""
        if self._handle:
            self._c.rd_kafka_queue_destroy(self._queue)
            self._c.rd_kafka_consumer_close(self._handle)
            self._c.rd_kafka_destroy(self._handle)
            self._handle = None

    @contextmanager
    def _listed(self, partitions: Iterable[Any]) -> Iterator[Any]:
        """A list of partitions, and their offsets, as C has it."""
        asked = list(partitions)
        listed = self._c.rd_kafka_topic_partition_list_new(len(asked))
        try:
            for one in asked:
                at = one.topic.encode(), one.partition
                self._c.rd_kafka_topic_partition_list_add(listed, *at)
                self._c.rd_kafka_topic_partition_list_set_offset(listed, *at, one.offset)
            yield listed
        finally:
            self._c.rd_kafka_topic_partition_list_destroy(listed)

    def _check(self, code: int) -> None:
        if code != OK:
            self._raise(code, self._c.rd_kafka_err2str(code))

    def _check_error(self, error: Any) -> None:
        if error:
            code, text = self._c.rd_kafka_error_code(error), self._c.rd_kafka_error_string(error)
            self._c.rd_kafka_error_destroy(error)
            self._raise(code, text)

    def _raise(self, code: int, text: bytes) -> NoReturn:
        raise self._kafka.KafkaException(self._kafka.KafkaError(code, _shown(text)))


def error_of(message: CMessage, pointer: int) -> Any:
    """The KafkaError that stands in a message's place; None for a message."""
    if message.err == OK:
        return None
    return library().KafkaError(message.err, _shown(functions().rd_kafka_message_errstr(pointer)))


def bytes_at(address: int, size: int) -> bytes:
    """What is in memory."""
    out: bytes = ctypes.string_at(address, size)
    return out


def headers_of(pointer: int) -> list[tuple[str, bytes | None]] | None:
    """The headers of a message, as confluent-kafka gives them; None where it has none."""
    c, headers = functions(), _POINTER()
    if c.rd_kafka_message_headers(pointer, ctypes.addressof(headers)) != OK:
        return None
    name, value, size = _TEXT(), _POINTER(), ctypes.c_size_t()
    where = ctypes.addressof(name), ctypes.addressof(value), ctypes.addressof(size)
    out: list[tuple[str, bytes | None]] = []
    while c.rd_kafka_header_get_all(headers, len(out), *where) == OK:
        held = None if value.value is None else bytes_at(value.value, size.value)
        out.append((_shown(name.value or b""), held))
    return out


def _shown(text: bytes | None) -> str:
    return (text or b"").decode(errors="replace")


def _unusable(text: Any) -> ConfigError:
    return ConfigError(f"a Kafka client cannot be made of these properties: {_shown(text.value)}", key="kafka.client")
