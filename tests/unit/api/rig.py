"""The application without a socket, on a runtime that notes what happens to it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from foreshock import telemetry
from foreshock.api.server import create_app
from foreshock.api.services import Services
from foreshock.errors import RetryableError
from foreshock.types import Control, Decoded, Record, Samples

NOW = 1_700_000_000 * 10**9
EVENT = b'{"eventId": "e-1", "timestamp": 1640000000, "userId": "u-7", "value": 12.5}'


class FixedClock:
    now = NOW

    def now_unix_nano(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        raise AssertionError("no handler sleeps")


@dataclass
class Runtime:
    """Stands where the runtime does, and notes what happens in which order."""

    events: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    full: bool = False
    refuse: Exception | None = None
    threads: set[int] = field(default_factory=set)
    drop: int = 0

    def reserve(self, size: int) -> AbstractContextManager[object]:
        self.events.append("reserve")
        if self.full:
            raise RetryableError("the queue is full")
        return nullcontext()

    def decode(self, record: Record) -> Samples:
        self.events.append("decode")
        self.threads.add(threading.get_ident())
        if self.refuse is not None:
            raise self.refuse
        n = record.payload.count(b"value")
        columns = (np.zeros(n, np.int32), np.zeros(n, np.int64), np.zeros(n), np.zeros(n, np.uint64))
        return Samples((), *columns, {"no_time": self.drop} if self.drop else {}, ("time=timestamp (unit s)",))

    def submit(self, record: Record, samples: Decoded) -> int:
        self.events.append("submit")
        self.records.append(record)
        return len(samples)

    def control(self, control: Control) -> Control:
        stamped = Control(control.kind, control.id, control.effective_unix_nano + 5, matchers=control.matchers,
                          author=control.author)  # fmt: skip
        self.controls.append(stamped)
        return stamped


Answer = httpx.Response


class Client:
    """Asks the application itself, without a socket."""

    def __init__(self, services: Services) -> None:
        self.app = create_app(services)

    def __call__(self, method: str, path: str, **more: Any) -> Answer:
        async def ask() -> Answer:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str, **more: Any) -> Any:
        answer = self("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, content: Any = EVENT, content_type: str = "application/json", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self("POST", "/api/v1/events", content=content, headers={"Content-Type": content_type} | named)


def is_problem(answer: Answer, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def dropped(reason: str) -> float:
    return telemetry.REGISTRY.get_sample_value("foreshock_dropped_total", {"reason": reason}) or 0.0
