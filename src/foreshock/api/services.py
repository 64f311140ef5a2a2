"""What the routes stand on: the services that the application is given, and the shapes of its answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response

from foreshock import telemetry
from foreshock.adapters.sql import Store
from foreshock.api.auth import Caller, Permission, Token
from foreshock.api.inside import Inside
from foreshock.api.live import Hub
from foreshock.errors import BadInputError, ForeshockError, RetryableError
from foreshock.ports import Clock
from foreshock.runtime.views import Views
from foreshock.types import Alert, Control, Decoded, Record

if TYPE_CHECKING:
    from foreshock.api.desk import Desk

STEPS_BEHIND = 3
"""Ready means that the watermark is at most this many steps old."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the runtime is: what `/readyz` judges.

    `problems` are reasons of the runtime's own not to be ready ("recovering: 1200 of 9000 records", "the log cannot
    be written: disk full"); `watermark_unix_nano` 0 = there is none yet, which is no problem of its own.
    """

    watermark_unix_nano: int = 0
    step_seconds: float = 1.0
    problems: tuple[str, ...] = ()

    def reasons(self, now_unix_nano: int) -> list[str]:
        """Why the service is not ready; empty = it is."""
        out = list(self.problems)
        behind = (now_unix_nano - self.watermark_unix_nano) / 1e9
        limit = STEPS_BEHIND * self.step_seconds
        if self.watermark_unix_nano and behind > limit:
            out.append(f"the watermark is {behind:.1f} s old, more than {STEPS_BEHIND} steps ({limit:g} s)")
        return out


def _no_reservation(size: int) -> AbstractContextManager[object]:
    return nullcontext()


def _no_control(name: str, author: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes stand on.

    `reserve(bytes)` holds queue space while a request is parsed; `decode` parses and validates without touching a
    slot (BadInputError); `submit` appends and enqueues a record with its parsed samples, and counts what was dropped
    from them. `reserve` and `submit` raise RetryableError when there is no room: 429 where `reserve` does, but 503
    while `health` has problems or where `submit` does. `source` is the name that posted events have in records,
    `calls_source` that of posted calls. `control` stamps a control record, appends it and returns it. `status` is shown
    as it is; `health` is what readiness is judged by. `hosts` are further host names that the server answers to; `host`
    is what it binds to. `watchdog` gives the alert that always fires; it is shown before the others. `max_body_bytes`
    bounds a body, packed and unpacked. `submit_blocks` says that `submit` may wait for the disk: it then runs in a
    worker thread. `end_control` ends an interval early: its id and who asks → the record, None where there is none.
    `inside` tells of the parts of the process, `desk` of the simulated shop where there is one, `hub`
    sends what is new to those who listen; `page` is the folder of the built page; `requests_per_second` of one caller
    and route are answered in the long run (telemetry is bounded by `reserve` instead).
    """

    version: str
    clock: Clock
    decode: Callable[[Record], Decoded]
    submit: Callable[[Record, Decoded], object]
    control: Callable[[Control], Control]
    views: Views
    store: Store
    status: Callable[[], dict[str, Any]]
    health: Callable[[], Health]
    reserve: Callable[[int], AbstractContextManager[object]] = _no_reservation
    watchdog: Callable[[], Alert] | None = None
    registry: CollectorRegistry = field(default_factory=lambda: telemetry.REGISTRY)
    tokens: tuple[Token, ...] = ()
    host: str = "127.0.0.1"
    hosts: frozenset[str] = frozenset()
    environment: str = "default"
    source: str = "http"
    calls_source: str = "calls"
    max_body_bytes: int = 8 << 20
    body_seconds: float = 30.0
    submit_blocks: bool = False
    end_control: Callable[[str, str], Control | None] = _no_control
    inside: Inside | None = None
    desk: Desk | None = None
    hub: Hub | None = None
    page: Path | None = None
    requests_per_second: float = 50.0


class Json(Response):
    """An answer in JSON; numbers that JSON has no word for are null."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode."""
        return msgspec.json.encode(content)


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None, **more: object) -> Response:
    """An error as RFC 9457 describes them."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail} | more
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


_STATUS = {"too_slow": 408, "too_large": 413, "unknown_content_type": 415, "unknown_encoding": 415,
           "not_installed": 501}  # fmt: skip
_TITLE = {408: "Too slow", 413: "Too large", 415: "Not in this format", 501: "Not installed here"}
# What is still on its way is not read: the connection ends with the answer.
_UNREAD = {"Connection": "close"}


class QueueFull(RetryableError):
    """Telemetry comes in faster than it is judged."""


def error_answer(error: ForeshockError) -> Response:
    """What an error means over HTTP: by its type, and by the reason of bad input."""
    if isinstance(error, BadInputError):
        status = _STATUS.get(error.reason, 400)
        title = _TITLE.get(status, "The request cannot be accepted")
        return problem(status, title, str(error), _UNREAD if status in (408, 413) else None, reason=error.reason)
    if isinstance(error, QueueFull):
        return problem(429, "Too much at once", str(error), {"Retry-After": "1"})
    if isinstance(error, RetryableError):
        return problem(503, "Not now", str(error), {"Retry-After": "1"})
    return problem(500, "It cannot be done", str(error))


def services_of(request: Request) -> Services:
    """The services that `create_app` was given."""
    services: Services = request.app.state.services
    return services


def caller_of(request: Request) -> Caller:
    """Who asks, as the door found."""
    caller: Caller = request.scope["foreshock.caller"]
    return caller


class Guarded(NamedTuple):
    """A route and what a caller needs for it; None = nothing. Plain functions run in a worker thread.

    `answer` is the type of its answer, `body` that of what is sent (for the OpenAPI document), `query` the names of its
    parameters; `status` is that of success. Those that are `limited` are answered so often and no more.
    """

    method: str
    path: str
    endpoint: Callable[[Request], Any]
    permission: Permission | None
    answer: Any = None
    query: tuple[str, ...] = ()
    body: Any = None
    status: int = 200
    limited: bool = True
