"""Records the calls that an ASGI application answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from foreshock.instrument.names import CLIENT_GONE, FAILED, HEADER, UNKNOWN
from foreshock.instrument.recorder import Recorder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LAST = ("http.response.pathsend", "http.response.zerocopysend")
"""Extensions by which the server sends a body without it passing through here."""


class CallMiddleware:
    """Around an application: who called what, the status, and the time until the last byte was handed on.

    The source is what the caller says in `header` (None: nobody is believed), else `unknown`. With `callers_record` a
    call with that header is left to its caller, who records it too. Endpoints are route templates where the framework
    leaves them in the scope. An error of the application is status 500, a client that hung up 499. Bodies pass through
    as they come; websockets and lifespan events are none of our business.
    """

    def __init__(
        self, app: App, recorder: Recorder, *, header: str | None = HEADER, callers_record: bool = True
    ) -> None:
        self._app, self._recorder = app, recorder
        self._header = header.lower().encode("latin-1") if header else None
        self._callers_record = callers_record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        source = self._source(scope)
        if source and self._callers_record:
            await self._app(scope, receive, send)
            return
        call = _Call(self._recorder, scope, source or UNKNOWN, receive, send)
        try:
            await self._app(scope, call.receive, call.send)
        except Exception:
            call.end(CLIENT_GONE if call.gone else FAILED)
            raise
        except BaseException:
            call.end(CLIENT_GONE)  # cancelled
            raise
        call.end(CLIENT_GONE if call.gone or call.status else FAILED)

    def _source(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == self._header:
                source: str = value.decode("latin-1").strip()
                return source
        return ""


class _Call:
    """A call on its way; it is recorded once."""

    __slots__ = ("_receive", "_recorder", "_scope", "_send", "_source", "_started", "gone", "open", "status")

    def __init__(self, recorder: Recorder, scope: Scope, source: str, receive: Receive, send: Send) -> None:
        self._recorder, self._scope, self._source, self._receive, self._send = recorder, scope, source, receive, send
        self.status, self.gone, self.open = 0, False, True
        self._started = perf_counter()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise
        if kind in _LAST or (kind == "http.response.body" and not message.get("more_body", False)):
            self.end(self.status)

    def end(self, status: int) -> None:
        """The call is over; only the first end counts."""
        if self.open:
            self.open = False
            scope = self._scope
            self._recorder.record(
                self._source, self._recorder.service, scope["method"], _endpoint(scope), status,
                perf_counter() - self._started,
            )  # fmt: skip


def _endpoint(scope: Scope) -> str:
    """The template of the route that was taken, as its framework left it, else the path.

    A mounted application's routes know nothing of the path that it is mounted at: the framework adds that to
    `root_path`. The route of a mount itself leaves open what comes behind it.
    """
    route = scope.get("route")
    template = getattr(route, "path_format", None) or getattr(route, "path", None)
    if isinstance(template, str) and template and not hasattr(route, "routes"):
        return str(scope.get("root_path", "")).rstrip("/") + template
    return str(scope["path"])
