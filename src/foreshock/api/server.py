"""The HTTP application: its door, its errors, and the server that runs it."""

from __future__ import annotations

import hashlib
import inspect
import logging
import socket
import threading
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foreshock import telemetry
from foreshock.api import otlp, page, sockets
from foreshock.api.auth import Doorkeeper, Permission, check_bind, identify, is_loopback
from foreshock.api.limits import Limiter
from foreshock.api.once import Once
from foreshock.api.openapi import document
from foreshock.api.routes import ROUTES
from foreshock.api.services import Guarded, Json, Services, error_answer, problem, services_of
from foreshock.errors import BadInputError, ForeshockError, PermanentError

logger = logging.getLogger(__name__)


def create_app(services: Services) -> Starlette:
    """The application with all routes of `docs/reference/http.md`."""
    limiter = Limiter(services.requests_per_second, 4 * services.requests_per_second)
    routes: list[BaseRoute] = [
        Route(route.path, _guarded(route, limiter), methods=[route.method]) for route in (*ROUTES, *_OWN)
    ]
    app = Starlette(
        routes=[*routes, WebSocketRoute("/ws", sockets.listen)],
        exception_handlers={HTTPException: _http_error, ForeshockError: _foreshock_error},
    )
    app.state.services = services
    app.state.hub = sockets.hub_of(services)
    app.state.once = Once()
    app.state.started_unix_nano = services.clock.now_unix_nano()
    app.add_middleware(_Door, services=services)
    return app


async def get_document(request: Request) -> Response:
    """`GET /openapi.json`: this API, described."""
    return Json(document(ROUTES, services_of(request).version))


_OWN = (
    Guarded("GET", "/openapi.json", get_document, None),
    Guarded("GET", "/api/v1/stream", sockets.stream, Permission.READ),
    Guarded("POST", "/v1/metrics", otlp.post_metrics, Permission.INGEST, limited=False),
    Guarded("GET", "/", page.get_page, None, limited=False),
    Guarded("GET", "/assets/{path:path}", page.get_asset, None, limited=False),
    Guarded("GET", "/theme.js", page.get_theme, None, limited=False),
    Guarded("GET", "/favicon.svg", page.get_icon, None, limited=False),
)
"""What the document does not describe: itself, the stream, OpenTelemetry's own protocol, the page."""


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return problem(error.status_code, error.detail, f"{request.method} {request.url.path}", headers)


def _methods(request: Request) -> set[str]:
    """What can be asked of a path: each method has a route of its own, and the first one knows only its own."""
    routes = (one for one in request.app.routes if isinstance(one, Route))
    found = (one.methods or () for one in routes if one.matches(request.scope)[0] is not Match.NONE)
    return {method for methods in found for method in methods}


async def _foreshock_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ForeshockError)
    if not isinstance(error, BadInputError):
        telemetry.ERRORS.labels("api").inc()
        logger.warning("%s %s: %s", request.method, request.url.path, error)
    return error_answer(error)


def _guarded(route: Guarded, limiter: Limiter) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a route behind the questions whether the caller may, and not too often."""
    asynchronous = inspect.iscoroutinefunction(route.endpoint)

    async def guarded(request: Request) -> Response:
        refusal = _refusal(request, route)
        if refusal is None and route.limited:
            refusal = _too_often(request, route, limiter)
        if refusal is not None:
            return refusal
        call = route.endpoint(request) if asynchronous else run_in_threadpool(route.endpoint, request)
        answer: Response = await call
        return _unless_known(request, answer)

    return guarded


def _refusal(request: Request, route: Guarded) -> Response | None:
    if route.permission is None:
        return None
    caller = identify(services_of(request).tokens, request.headers.get("authorization", ""))
    if caller is None:
        return problem(
            401, "Who are you?", "send a token that this server knows: Authorization: Bearer …",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    if not caller.may(route.permission):
        return problem(403, "Not with this token", f"role {caller.role} does not include {route.permission}")
    request.scope["foreshock.caller"] = caller
    return None


def _too_often(request: Request, route: Guarded, limiter: Limiter) -> Response | None:
    caller = request.scope.get("foreshock.caller")
    wait = limiter.wait(f"{caller.name if caller else ''} {route.method} {route.path}")
    if not wait:
        return None
    return problem(429, "Too often", f"ask again in {wait:g} s", {"Retry-After": f"{wait:g}"})


def _unless_known(request: Request, answer: Response) -> Response:
    """An answer to GET with its ETag, or 304 where the caller has it already."""
    if request.method != "GET" or not isinstance(answer, Json) or answer.status_code != 200:
        return answer
    tag = f'"{hashlib.blake2b(bytes(answer.body), digest_size=12).hexdigest()}"'
    answer.headers["ETag"], answer.headers["Cache-Control"] = tag, "no-cache"
    if tag not in request.headers.get("if-none-match", ""):
        return answer
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})


class _Door:
    """Refuses foreign hosts and origins, answers for what a handler did not expect, and keeps the page to itself."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._keeper = Doorkeeper(is_loopback(services.host), services.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if not self._keeper.admits(headers.get(b"host", ""), headers.get(b"origin")):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            answer = problem(403, "Not for this host", "the Host or Origin header names neither this machine nor "
                             "a host that the server was told to answer to")  # fmt: skip
            await answer(scope, receive, _with_headers(send))
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(page.secured(message))

        try:
            await self._app(scope, receive, watched)
        except Exception:
            telemetry.ERRORS.labels("api").inc()
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not begun:
                answer = problem(500, "Something broke here", "the log of the service says what")
                await answer(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def secured(message: Message) -> None:
        await send(page.secured(message))

    return secured


class _Uvicorn(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()


class Server:
    """uvicorn in a thread of its own; it takes no signals."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._hub = app.state.hub
        self._socket = _bind(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=sockets.MOST_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            server_header=False,
            proxy_headers=False,
            # Bounded: with more connections at once the next is answered 503.
            limit_concurrency=3000,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
        self._server = _Uvicorn(config)
        self._thread = threading.Thread(target=self._run, name="foreshock-http", daemon=True)

    def start(self) -> None:
        """Serve from now on; returns when requests are answered."""
        self._thread.start()
        if not self._server.answering.wait(10.0):
            raise PermanentError(f"the HTTP server on {self.host}:{self.port} did not start; the log says why")

    def stop(self) -> None:
        """Finish what is being answered, at most 5 s, and end."""
        self._hub.close()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(10.0)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def serve(app: Starlette, host: str, port: int) -> Server:
    """Bind a server for an app of `create_app`; `.start()` runs it, port 0 takes any free one (`.port` says which).

    Raises PermanentError if the port is in use, ConfigError if the bind wants a token and there is none.
    """
    services: Services = app.state.services
    check_bind(host, services.tokens)
    return Server(app, host, port)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PermanentError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            "end the program that has the port, or set another in http.listen"
        ) from error
    return listener
