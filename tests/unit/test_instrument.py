"""The middlewares and clients against real servers: uvicorn with Starlette, wsgiref, httpx and requests."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import httpx
import pytest
import requests as requests_
from requests.adapters import HTTPAdapter
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from foreshock.instrument import Recorder, asgi, requests, wsgi
from foreshock.instrument import httpx as httpx_
from foreshock.instrument.names import HEADER
from tests.unit.receivers import dead_port, rude
from tests.unit.serve import WAIT, served, wsgi_served

Recorded = tuple[str, str, str, str, int]


class Notes(Recorder):
    """A recorder that keeps what it is told, and sends nothing."""

    def __init__(self, service: str) -> None:
        super().__init__(service)
        self.calls: list[Recorded] = []
        self.seconds: list[float] = []
        self._came = threading.Condition()

    def record(
        self, source: str, target: str, method: str, endpoint: str, status: int, duration_seconds: float
    ) -> None:
        with self._came:
            self.calls.append((source, target, method, endpoint, status))
            self.seconds.append(duration_seconds)
            self._came.notify_all()

    def wait(self, count: int = 1) -> list[Recorded]:
        """The calls, once there are so many."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.calls) >= count, WAIT), self.calls
            return self.calls


@pytest.fixture
def notes() -> Notes:
    return Notes("shop")


# -- ASGI --------------------------------------------------------------------------------------------------------


class Events:
    """What the application of these tests waits for and says."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.done = threading.Event()
        self.started = False


def application(events: Events) -> Starlette:
    async def item(request: Request) -> Response:
        return JSONResponse({"id": request.path_params["id"], "source": request.headers.get(HEADER)})

    async def status(request: Request) -> Response:
        return Response(status_code=int(request.path_params["status"]))

    async def broken(request: Request) -> Response:
        raise ZeroDivisionError("a mistake of the application")

    async def parts(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            while not events.go.is_set():
                await asyncio.sleep(0.002)
            yield b"last"

        return StreamingResponse(body(), headers={"Content-Length": "9"})

    async def endless(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 1000
                    await asyncio.sleep(0.002)
            finally:
                events.done.set()

        return StreamingResponse(body())

    async def breaks_off(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            raise ZeroDivisionError("in the middle")

        return StreamingResponse(body())

    async def background(request: Request) -> Response:
        async def slow() -> None:
            while not events.go.is_set():
                await asyncio.sleep(0.002)

        return PlainTextResponse("ok", background=BackgroundTask(slow))

    async def upload(request: Request) -> Response:
        return JSONResponse(len(await request.body()))

    async def file(request: Request) -> Response:
        return FileResponse(Path(__file__))

    async def socket_(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.started = True
        yield

    routes = [
        Route("/items/{id:int}", item), Route("/status/{status}", status), Route("/broken", broken),
        Route("/parts", parts), Route("/endless", endless), Route("/breaks-off", breaks_off),
        Route("/background", background), Route("/upload", upload, methods=["POST"]), Route("/file", file),
        Mount("/admin", routes=[Route("/users/{name}", item_of_name), Mount("/raw", app=raw)]),
        WebSocketRoute("/ws", socket_),
    ]  # fmt: skip
    return Starlette(routes=routes, lifespan=lifespan)


async def item_of_name(request: Request) -> Response:
    return PlainTextResponse(request.path_params["name"])


async def raw(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("raw")(scope, receive, send)


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def shop(notes: Notes, events: Events) -> Iterator[str]:
    with served(asgi.CallMiddleware(application(events), notes)) as url:
        yield url


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "status"),
    [
        ("GET", "/items/7?secret=1", "/items/{id}", 200),
        ("HEAD", "/items/8", "/items/{id}", 200),
        ("POST", "/items/8", "/items/{id}", 405),
        ("POST", "/upload", "/upload", 200),
        ("GET", "/status/404", "/status/{status}", 404),
        ("GET", "/status/204", "/status/{status}", 204),
        ("GET", "/file", "/file", 200),
        ("GET", "/nowhere/x%20y", "/nowhere/x y", 404),
        ("GET", "/admin/users/ann", "/admin/users/{name}", 200),
        ("GET", "/admin/raw/a/b", "/admin/raw/a/b", 200),
        ("GET", "/broken", "/broken", 500),
    ],
)
def test_asgi_calls(shop: str, notes: Notes, method: str, path: str, endpoint: str, status: int) -> None:
    answer = httpx.request(method, shop + path, content=b"x" * 100_000 if method == "POST" else None)
    assert answer.status_code == status
    assert notes.wait() == [("unknown", "shop", method, endpoint, status)]
    assert 0 <= notes.seconds[0] < WAIT


def test_asgi_passes_parts_on_as_they_come_and_counts_until_the_last(shop: str, notes: Notes, events: Events) -> None:
    with httpx.stream("GET", shop + "/parts") as answer:
        stream = answer.iter_raw()
        assert next(stream) == b"first", "nothing is held back"
        assert notes.calls == []
        time.sleep(0.05)
        events.go.set()
        assert b"".join(stream) == b"last"
    assert notes.wait() == [("unknown", "shop", "GET", "/parts", 200)]
    assert notes.seconds[0] >= 0.05


def test_asgi_does_not_count_what_is_done_after_the_answer(shop: str, notes: Notes, events: Events) -> None:
    assert httpx.get(shop + "/background").text == "ok"
    assert notes.wait() == [("unknown", "shop", "GET", "/background", 200)], "while the task still runs"
    events.go.set()


def test_asgi_a_client_that_hangs_up(shop: str, notes: Notes, events: Events) -> None:
    with httpx.stream("GET", shop + "/endless") as answer:
        next(answer.iter_raw())
    assert notes.wait() == [("unknown", "shop", "GET", "/endless", 499)]
    assert events.done.wait(WAIT), "the application learns of it as ever"


def test_asgi_an_answer_that_breaks_off(shop: str, notes: Notes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(shop + "/breaks-off")
    assert notes.wait() == [("unknown", "shop", "GET", "/breaks-off", 500)]


def test_asgi_lifespan_passes_through(shop: str, events: Events) -> None:
    assert events.started


def drive(app: Any, scope: dict[str, Any], *incoming: dict[str, Any]) -> list[dict[str, Any]]:
    """What an ASGI application sends, without a server."""
    out: list[dict[str, Any]] = []
    queue = list(incoming)

    async def receive() -> dict[str, Any]:
        return queue.pop(0)

    async def send(message: dict[str, Any]) -> None:
        out.append(message)

    asyncio.run(app(scope, receive, send))
    return out


HTTP = {"type": "http", "method": "GET", "path": "/x", "headers": []}


def test_asgi_websockets_pass_through(notes: Notes, events: Events) -> None:
    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": []}
    said = drive(
        asgi.CallMiddleware(application(events), notes), scope,
        {"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"},
    )  # fmt: skip
    assert [message["type"] for message in said] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert notes.calls == []


def test_asgi_errors_reach_the_server_untouched(notes: Notes) -> None:
    error = ZeroDivisionError()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        drive(asgi.CallMiddleware(app, notes), HTTP)
    assert caught.value is error
    assert notes.calls == [("unknown", "shop", "GET", "/x", 500)]


def test_asgi_cancelled(notes: Notes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        drive(asgi.CallMiddleware(app, notes), HTTP)
    assert notes.calls == [("unknown", "shop", "GET", "/x", 499)]


def test_asgi_a_server_that_says_by_an_error_that_nobody_listens(notes: Notes) -> None:
    async def send(message: Any) -> None:
        raise OSError

    async def run() -> None:
        with pytest.raises(OSError, match="^$"):
            await asgi.CallMiddleware(raw, notes)(dict(HTTP), None, send)  # type: ignore[arg-type]

    asyncio.run(run())
    assert notes.calls == [("unknown", "shop", "GET", "/x", 499)]


def test_asgi_an_application_that_says_nothing(notes: Notes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    drive(asgi.CallMiddleware(app, notes), HTTP, {"type": "http.request"})
    drive(asgi.CallMiddleware(app, notes), HTTP, {"type": "http.disconnect"})
    assert [call[4] for call in notes.calls] == [500, 499]


# -- WSGI --------------------------------------------------------------------------------------------------------


class Closed:
    """A body that notes what becomes of it."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.parts, self.taken, self.closed = iter(parts), 0, 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self.parts)
        self.taken += 1
        return part

    def close(self) -> None:
        self.closed += 1


def environ(**more: Any) -> dict[str, Any]:
    return {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/x", **more}


def answered(app: Any, notes: Notes, **more: Any) -> Any:
    """What the middleware hands to the server, and what it was told before: `(body, started)`."""
    started: list[Any] = []

    def start_response(*arguments: Any) -> Callable[[bytes], None]:
        started.append(arguments)
        return lambda data: None

    return wsgi.CallMiddleware(app, notes)(environ(**more), start_response), started


def wsgi_application(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = env["PATH_INFO"]
    if path == "/broken":
        raise ZeroDivisionError("a mistake of the application")
    if path == "/late":  # a generator that starts its answer when it is first asked for a part
        return late(start_response)
    if path == "/breaks-off":
        return breaks_off(start_response)
    start_response("404 Not Found" if path == "/nowhere" else "200 OK", [("Content-Type", "text/plain")])
    if path == "/file":
        return env["wsgi.file_wrapper"](open(__file__, "rb"))  # type: ignore[no-any-return]
    return [b"hello"]


def late(start_response: Any) -> Iterator[bytes]:
    start_response("201 Created", [("Content-Type", "text/plain")])
    yield b"first"
    yield b"last"


def breaks_off(start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first"
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "status"),
    [
        ("GET", "/?secret=1", "/", 200),
        ("POST", "/caf%C3%A9/7", "/café/7", 200),
        ("GET", "/nowhere", "/nowhere", 404),
        ("GET", "/late", "/late", 201),
        ("GET", "/file", "/file", 200),
        ("HEAD", "/late", "/late", 201),
        ("GET", "/broken", "/broken", 500),
        ("GET", "/breaks-off", "/breaks-off", 500),
    ],
)
def test_wsgi_calls(notes: Notes, method: str, path: str, endpoint: str, status: int) -> None:
    bare: list[Any] = []
    there: list[Any] = []
    for app, answers in ((wsgi_application, bare), (wsgi.CallMiddleware(wsgi_application, notes), there)):
        with wsgi_served(app) as url:
            try:
                answer = httpx.request(method, url + path)
                headers = {name: value for name, value in answer.headers.items() if name != "date"}
                answers.append((answer.status_code, answer.content, headers))
            except httpx.RemoteProtocolError as error:
                answers.append(str(error))
    assert there == bare, "to the client it is as if nothing were there"
    assert notes.wait() == [("unknown", "shop", method, endpoint, status)]


def test_wsgi_keeps_to_the_rules_of_wsgi(notes: Notes) -> None:
    def app(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Closed([b"a", b"b"])

    with wsgi_served(validator(wsgi.CallMiddleware(validator(app), notes))) as url:
        assert httpx.get(url).text == "ab"
    assert notes.calls == [("unknown", "shop", "GET", "/", 200)]


def test_wsgi_bodies_pass_part_by_part_and_are_closed_once(notes: Notes) -> None:
    given = Closed([b"a", b"b"])

    def app(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return given

    body, _ = answered(app, notes)
    assert given.taken == 0
    assert next(iter(body)) == b"a"
    assert given.taken == 1, "nothing is taken ahead"
    assert list(body) == [b"b"]
    assert notes.calls == [("unknown", "shop", "GET", "/x", 200)]
    body.close()
    assert given.closed == 1
    assert len(notes.calls) == 1


@pytest.mark.parametrize(("method", "status"), [("GET", 499), ("HEAD", 200)])
def test_wsgi_a_body_that_is_given_up(notes: Notes, method: str, status: int) -> None:
    given = Closed([b"a", b"b"])

    def app(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return given

    body, _ = answered(app, notes, REQUEST_METHOD=method)
    next(iter(body))
    body.close()
    assert given.closed == 1
    assert notes.calls == [("unknown", "shop", method, "/x", status)]


def test_wsgi_a_body_that_cannot_be_closed(notes: Notes) -> None:
    class Broken(Closed):
        def close(self) -> None:
            raise ZeroDivisionError

    def app(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Broken([])

    body, _ = answered(app, notes)
    with pytest.raises(ZeroDivisionError):
        body.close()
    assert len(notes.calls) == 1


def test_wsgi_lists_and_files_reach_the_server_as_they_are(notes: Notes) -> None:
    for given in ([b"a"], (b"a",), FileWrapper(io.BytesIO(b"a"))):

        def app(env: dict[str, Any], start_response: Any, given: Any = given) -> Iterable[bytes]:
            start_response("200 OK", [])
            return given  # type: ignore[no-any-return]

        body, _ = answered(app, notes, **{"wsgi.file_wrapper": FileWrapper})
        assert body is given
    assert [call[4] for call in notes.calls] == [200] * 3


def test_wsgi_bodies_keep_their_length(notes: Notes) -> None:
    class Sized(list[bytes]):
        pass

    def app(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Sized([b"a"])

    body, _ = answered(app, notes)
    assert (len(body), list(body)) == (1, [b"a"])
    assert not hasattr(answered(lambda *_: iter([b"a"]), notes)[0], "__len__")


def test_wsgi_start_response_as_it_was_called(notes: Notes) -> None:
    trouble = (ValueError, ValueError(), None)

    def app(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("A", "b")])
        start_response("503 Busy", [], trouble)
        start_response("503 Busy", [], None)
        return []

    _, started = answered(app, notes)
    assert started == [("200 OK", [("A", "b")]), ("503 Busy", [], trouble), ("503 Busy", [], None)]
    assert notes.calls[0][4] == 503


def test_wsgi_start_response_may_raise(notes: Notes) -> None:
    """With `exc_info`, after the head of the answer has been sent, that is what a server does."""
    error = ValueError()

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info:
            raise exc_info[1]

    def app(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        start_response("500 Oh", [], (ValueError, error, None))
        return []

    with pytest.raises(ValueError, match="^$") as caught:
        wsgi.CallMiddleware(app, notes)(environ(), start_response)
    assert caught.value is error
    assert notes.calls[0][4] == 500


# -- clients -----------------------------------------------------------------------------------------------------

Ask = Callable[..., tuple[int, bytes]]
"""One request with each client: method, URL and, where there is one, the time that it may take → status and body."""


def with_httpx(notes: Notes, method: str, url: str, timeout: float = WAIT, **more: Any) -> tuple[int, bytes]:
    with httpx_.Client(notes, timeout=timeout, follow_redirects=True, **more) as client:
        answer = client.request(method, url)
        return answer.status_code, answer.content


def with_async_httpx(notes: Notes, method: str, url: str, timeout: float = WAIT, **more: Any) -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        async with httpx_.AsyncClient(notes, timeout=timeout, follow_redirects=True, **more) as client:
            answer = await client.request(method, url)
            return answer.status_code, answer.content

    return asyncio.run(ask())


def with_requests(notes: Notes, method: str, url: str, timeout: float = WAIT, **more: Any) -> tuple[int, bytes]:
    with requests.Session(notes, **more) as session:
        answer = session.request(method, url, timeout=timeout)
        return answer.status_code, answer.content


CLIENTS = pytest.mark.parametrize("ask", [with_httpx, with_async_httpx, with_requests])
ERRORS = (httpx.TransportError, requests_.RequestException)


@pytest.fixture
def bare(events: Events) -> Iterator[str]:
    """The application without a middleware."""
    with served(application(events)) as url:
        yield url


@CLIENTS
def test_outbound_calls(bare: str, notes: Notes, ask: Ask) -> None:
    place = bare[7:]
    status, body = ask(notes, "GET", bare + "/items/7?secret=1")
    assert (status, body) == (200, b'{"id":7,"source":"shop"}')
    ask(notes, "POST", bare + "/status/503", services={place: "payment"})
    ask(notes, "GET", bare + "/status/404", services={"127.0.0.1": "any"})
    assert ask(notes, "GET", bare + "/items/7", header=None)[1] == b'{"id":7,"source":null}'
    assert notes.calls == [
        ("shop", place, "GET", "/items/7", 200), ("shop", "payment", "POST", "/status/503", 405),
        ("shop", "any", "GET", "/status/404", 404), ("shop", place, "GET", "/items/7", 200),
    ]  # fmt: skip


@CLIENTS
def test_nobody_there(notes: Notes, ask: Ask) -> None:
    port = dead_port()
    with pytest.raises(ERRORS) as caught:
        ask(notes, "GET", f"http://127.0.0.1:{port}/x")
    assert type(caught.value) in (httpx.ConnectError, requests_.ConnectionError)
    assert notes.calls == [("shop", f"127.0.0.1:{port}", "GET", "/x", 0)]


@CLIENTS
def test_no_answer_in_time(notes: Notes, ask: Ask) -> None:
    with rude(None) as url, pytest.raises(ERRORS) as caught:
        ask(notes, "GET", url, timeout=0.1)
    assert type(caught.value) in (httpx.ReadTimeout, requests_.ReadTimeout)
    assert [call[3:] for call in notes.calls] == [("/collect", 0)]
    assert 0.1 <= notes.seconds[0] < WAIT


@CLIENTS
def test_redirects_are_calls_of_their_own(notes: Notes, ask: Ask) -> None:
    async def moved(request: Request) -> Response:
        return RedirectResponse("/there")

    async def there(request: Request) -> Response:
        return PlainTextResponse("here I am")

    with served(Starlette(routes=[Route("/moved", moved), Route("/there", there)])) as url:
        assert ask(notes, "GET", url + "/moved") == (200, b"here I am")
    assert [call[3:] for call in notes.calls] == [("/moved", 307), ("/there", 200)]


@pytest.mark.parametrize("ask", [with_httpx, with_async_httpx])
def test_an_answer_of_which_the_end_is_missing_is_none(bare: str, notes: Notes, ask: Ask) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        ask(notes, "GET", bare + "/breaks-off")
    assert [call[3:] for call in notes.calls] == [("/breaks-off", 0)]


def test_httpx_streams_pass_and_count_until_they_end(bare: str, notes: Notes, events: Events) -> None:
    with httpx_.Client(notes) as client, client.stream("GET", bare + "/parts") as answer:
        stream = answer.iter_raw()
        assert next(stream) == b"first"
        assert notes.calls == []
        time.sleep(0.05)
        events.go.set()
        assert list(stream) == [b"last"]
    assert [call[4] for call in notes.calls] == [200]
    assert notes.seconds[0] >= 0.05


def test_httpx_a_stream_that_is_left_is_no_failure(bare: str, notes: Notes) -> None:
    with httpx_.Client(notes) as client, client.stream("GET", bare + "/endless") as answer:
        next(answer.iter_raw())
    assert [call[4] for call in notes.calls] == [200]

    async def leave() -> None:
        async with httpx_.AsyncClient(notes) as client, client.stream("GET", bare + "/endless") as answer:
            async for _ in answer.aiter_raw():
                break

    asyncio.run(leave())
    assert [call[4] for call in notes.calls] == [200, 200]


def test_httpx_a_body_that_is_left_before_it_is_closed(notes: Notes) -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x"

    async def leave() -> None:
        transport = httpx_.AsyncTransport(notes, httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless())))
        answer = await transport.handle_async_request(httpx.Request("GET", "http://payment/x"))
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        async with aclosing(answer.stream.__aiter__()) as parts:  # type: ignore[type-var]
            assert await anext(parts) == b"x"
        await answer.aclose()

    asyncio.run(leave())
    assert notes.calls == [("shop", "payment", "GET", "/x", 200)]


def test_httpx_a_call_that_is_cancelled_had_no_answer(notes: Notes) -> None:
    async def cancel(url: str) -> None:
        async with httpx_.AsyncClient(notes) as client:
            async with asyncio.timeout(0.05):
                await client.get(url)

    with rude(None) as url, pytest.raises(TimeoutError):
        asyncio.run(cancel(url))
    assert [call[4] for call in notes.calls] == [0]


def test_httpx_transports_and_mounts_are_recorded_too(notes: Notes) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(418, text=request.headers[HEADER])

    mock = httpx.MockTransport(answer)
    with httpx_.Client(notes, transport=mock, mounts={"https://cart": mock, "https://none": None}) as client:
        assert client.get("http://payment:8080/x").text == "shop"
        client.get("https://cart/y")
        client.get("https://none/z")
    with httpx.Client(transport=httpx_.Transport(notes, mock)) as plain:
        plain.get("http://payment:8080/x")
    assert notes.calls == [
        ("shop", "payment", "GET", "/x", 418), ("shop", "cart", "GET", "/y", 418), ("shop", "none", "GET", "/z", 418),
        ("shop", "payment", "GET", "/x", 418),
    ]  # fmt: skip


def test_requests_whatever_is_mounted_is_recorded(bare: str, notes: Notes) -> None:
    with requests.Session(notes) as session:
        session.mount("http://127.0.0.1", HTTPAdapter(max_retries=1))
        with closing(session.get(bare + "/endless", stream=True, timeout=WAIT)) as answer:
            assert answer.raw.read(10) == b"x" * 10
    assert [call[3:] for call in notes.calls] == [("/endless", 200)]


def test_a_service_of_any_name_can_be_said(bare: str) -> None:
    odd = Notes("café\r\nX: y")
    for ask in (with_httpx, with_requests):
        assert ask(odd, "GET", bare + "/items/7") == (200, b'{"id":7,"source":"caf???X: y"}')
    assert {call[0] for call in odd.calls} == {odd.service}


# -- an edge counts once -----------------------------------------------------------------------------------------


@CLIENTS
def test_a_call_that_both_sides_see_counts_once(events: Events, ask: Ask) -> None:
    caller, callee = Notes("checkout"), Notes("shop")
    with served(asgi.CallMiddleware(application(events), callee)) as url:
        assert ask(caller, "GET", url + "/items/7", services={url[7:]: "shop"})[0] == 200
        httpx.get(url + "/items/8")
        callee.wait()
    assert caller.calls == [("checkout", "shop", "GET", "/items/7", 200)]
    assert callee.calls == [("unknown", "shop", "GET", "/items/{id}", 200)], "only what no caller records"


def test_callers_that_say_who_they_are_and_do_not_record(events: Events, notes: Notes) -> None:
    app = asgi.CallMiddleware(application(events), notes, callers_record=False)
    with served(app) as url:
        httpx.get(url + "/items/7", headers={HEADER: "checkout"})
        notes.wait()
    wrapped = wsgi.CallMiddleware(wsgi_application, notes, callers_record=False)
    with wsgi_served(wrapped) as url:
        httpx.get(url + "/", headers={HEADER: "checkout"})
    assert notes.calls == [
        ("checkout", "shop", "GET", "/items/{id}", 200), ("checkout", "shop", "GET", "/", 200),
    ]  # fmt: skip


def test_a_header_of_ones_own_and_none_at_all(events: Events) -> None:
    ours, nobody = Notes("shop"), Notes("shop")
    app = asgi.CallMiddleware(asgi.CallMiddleware(application(events), ours, header="X-Who"), nobody, header=None)
    with served(app) as url:
        httpx.get(url + "/items/7", headers={"x-who": "checkout"})
        httpx.get(url + "/items/8", headers={HEADER: "checkout"})
        nobody.wait(2)
    assert [call[0] for call in ours.calls] == ["unknown"]
    assert [call[0] for call in nobody.calls] == ["unknown", "unknown"]


def test_wsgi_leaves_it_to_the_caller(notes: Notes) -> None:
    with wsgi_served(wsgi.CallMiddleware(wsgi_application, notes)) as url:
        assert httpx.get(url + "/", headers={HEADER: "checkout"}).text == "hello"
    assert notes.calls == []


# -- and Foreshock is away ---------------------------------------------------------------------------------------


def test_the_application_does_not_notice_that_nobody_listens(events: Events) -> None:
    with rude(None) as hole:
        for url in (f"http://127.0.0.1:{dead_port()}", hole):
            with Recorder("shop", url, capacity=50, batch=10, timeout_seconds=0.2, exit_seconds=0) as ours:
                with served(asgi.CallMiddleware(application(events), ours)) as shop, httpx.Client() as client:
                    started = time.perf_counter()
                    for at in range(200):
                        assert client.get(f"{shop}/items/{at}").json() == {"id": at, "source": None}
                    assert time.perf_counter() - started < 5.0
                stats = ours.stats()
                assert stats.sent == 0
                assert stats.waiting <= 60
