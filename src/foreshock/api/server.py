"""The HTTP application: its door, its errors, and the server that runs it."""

from __future__ import annotations

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
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foreshock import telemetry
from foreshock.api import ingest, read
from foreshock.api.auth import Doorkeeper, check_bind, identify, is_loopback
from foreshock.api.services import Guarded, Services, error_answer, problem, services_of
from foreshock.errors import BadInputError, ForeshockError, PermanentError

logger = logging.getLogger(__name__)


def create_app(services: Services) -> Starlette:
    """The application with all routes of `docs/reference/http.md`."""
    app = Starlette(
        routes=[Route(route.path, _guarded(route), methods=[route.method]) for route in (*ingest.ROUTES, *read.ROUTES)],
        exception_handlers={HTTPException: _http_error, ForeshockError: _foreshock_error},
    )
    app.state.services = services
    app.state.started_unix_nano = services.clock.now_unix_nano()
    app.add_middleware(_Door, services=services)
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    return problem(error.status_code, error.detail, f"{request.method} {request.url.path}", headers)


async def _foreshock_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ForeshockError)
    if not isinstance(error, BadInputError):
        telemetry.ERRORS.labels("api").inc()
        logger.warning("%s %s: %s", request.method, request.url.path, error)
    return error_answer(error)


def _guarded(route: Guarded) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a route behind the question whether the caller may."""
    asynchronous = inspect.iscoroutinefunction(route.endpoint)

    async def guarded(request: Request) -> Response:
        refusal = _refusal(request, route)
        if refusal is not None:
            return refusal
        call = route.endpoint(request) if asynchronous else run_in_threadpool(route.endpoint, request)
        answer: Response = await call
        return answer

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


class _Door:
    """Refuses foreign hosts and origins, and answers for what a handler did not expect."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._keeper = Doorkeeper(is_loopback(services.host), services.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if not self._keeper.admits(headers.get(b"host", ""), headers.get(b"origin")):
            answer = problem(403, "Not for this host", "the Host or Origin header names neither this machine nor "
                             "a host that the server was told to answer to")  # fmt: skip
            await answer(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            telemetry.ERRORS.labels("api").inc()
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not begun:
                await problem(500, "Something broke here", "the log of the service says what")(scope, receive, send)


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
        self._socket = _bind(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            # Bounded: with more connections at once the next is answered 503.
            limit_concurrency=1000,
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
