"""A message, without Kafka."""

from __future__ import annotations

from typing import Any


class Message:
    """A message as confluent-kafka gives it."""

    def __init__(
        self,
        value: bytes | None,
        key: bytes | None = None,
        headers: Any = None,
        offset: int = 7,
        time: int = 1000,
        topic: str = "anomaly-events",
        partition: int = 3,
    ) -> None:
        self._value, self._key, self._headers, self._offset, self._time = value, key, headers, offset, time
        self._topic, self._partition = topic, partition

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self._time
