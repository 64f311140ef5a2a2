"""What recording a call costs an application, and what reading it costs Foreshock.

The application's side is measured in process, without sockets: what a middleware or a client adds to a request, and
what the recorder's thread spends on a call. Nobody listens where the recorder sends to. Figures are medians of rounds
in which both ways take turns, in CPU time of the thread that works: the recorder's own thread counts by itself.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median
from typing import Any

import httpx
import requests
from prometheus_client import CollectorRegistry, Counter, Histogram
from requests.adapters import BaseAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from foreshock.adapters.calls import decode_calls, encode_calls
from foreshock.instrument import Recorder, asgi, wsgi
from foreshock.instrument import httpx as httpx_
from foreshock.instrument import requests as requests_
from foreshock.instrument.wire import encode

IDS = (
    "instrument.record",
    "instrument.asgi.overhead",
    "instrument.wsgi.overhead",
    "instrument.httpx.overhead",
    "instrument.requests.overhead",
    "instrument.encode",
    "calls.decode.rows",
    "calls.decode.lines",
    "calls.decode.columns",
)
ROUNDS = 9
REQUESTS = 2_000
CALLS = 20_000


def nanos(work: Callable[[], object], count: int) -> float:
    """Nanoseconds that each of `count` pieces of work takes, once."""
    started = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started) / count


def in_turns(*ways: Callable[[], object], count: int) -> list[float]:
    """The median of each way, nanoseconds a piece."""
    for way in ways:
        way()
    rounds = [[nanos(way, count) for way in ways] for _ in range(ROUNDS)]
    return [median(times) for times in zip(*rounds, strict=True)]


def away() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/collect"


def record(recorder: Recorder) -> list[dict[str, Any]]:
    registry = CollectorRegistry()
    labels = ["source", "target", "method", "endpoint", "status"]
    counter = Counter("calls", "Calls.", labels, registry=registry)
    histogram = Histogram("seconds", "Seconds.", labels, registry=registry)

    def ours() -> None:
        note = recorder.record
        for _ in range(CALLS):
            note("checkout", "payment", "POST", "/charge", 200, 0.012)

    def theirs() -> None:
        for _ in range(CALLS):
            counter.labels("checkout", "payment", "POST", "/charge", "200").inc()
            histogram.labels("checkout", "payment", "POST", "/charge", "200").observe(0.012)

    mine, peer = in_turns(ours, theirs, count=CALLS)
    return [row("instrument.record", mine, "ns/call", "prometheus-client, counter + histogram", peer)]


def asgi_overhead(recorder: Recorder) -> list[dict[str, Any]]:
    async def charge(request: Request) -> Response:
        return PlainTextResponse("charged")

    def way(app: Any) -> Callable[[], None]:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            pass

        headers = [(name, b"x" * 20) for name in (b"host", b"accept", b"user-agent", b"accept-encoding", b"cookie")]
        base = {"type": "http", "method": "GET", "path": "/charge/7", "headers": headers, "query_string": b"",
                "root_path": "", "scheme": "http", "server": ("a", 80), "client": ("b", 1), "http_version": "1.1",
                "app": None, "asgi": {"version": "3.0", "spec_version": "2.3"}}  # fmt: skip

        def go() -> None:
            for _ in range(REQUESTS):
                finish(app(dict(base), receive, send))

        return go

    app = Starlette(routes=[Route("/charge/{id}", charge)])
    bare, with_us = in_turns(way(app), way(asgi.CallMiddleware(app, recorder)), count=REQUESTS)
    return [overhead("asgi", bare, with_us, "a route of Starlette, no socket")]


def finish(coroutine: Any) -> None:
    """Drive a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("it waits")


def wsgi_overhead(recorder: Recorder) -> list[dict[str, Any]]:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"charged"])

    def way(app: Any) -> Callable[[], None]:
        environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/charge/7"}

        def go() -> None:
            for _ in range(REQUESTS):
                body = app(environ, lambda status, headers: None)
                b"".join(body)
                if hasattr(body, "close"):
                    body.close()

        return go

    bare, with_us = in_turns(way(app), way(wsgi.CallMiddleware(app, recorder)), count=REQUESTS)
    return [overhead("wsgi", bare, with_us, "an application that does nothing, no socket")]


def clients(recorder: Recorder) -> list[dict[str, Any]]:
    def stream() -> Iterable[bytes]:
        yield b"charged"

    class Parts(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            return iter(stream())

    mock = httpx.MockTransport(lambda request: httpx.Response(200, stream=Parts()))

    class Fake(BaseAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url or "", request
            answer._content = b"charged"
            return answer

        def close(self) -> None:
            pass

    def sessions() -> Iterable[requests.Session]:
        for session in (requests.Session(), requests_.Session(recorder)):
            session.trust_env = False
            session.mount("http://", Fake())
            yield session

    def way(client: Any) -> Callable[[], None]:
        def go() -> None:
            for _ in range(REQUESTS // 4):
                client.get("http://payment:8080/charge/7")

        return go

    bare, with_us = in_turns(
        way(httpx.Client(transport=mock)), way(httpx_.Client(recorder, transport=mock)), count=REQUESTS // 4
    )
    plain, recorded = in_turns(*(way(session) for session in sessions()), count=REQUESTS // 4)
    return [
        overhead("httpx", bare, with_us, "a transport that answers at once"),
        overhead("requests", plain, recorded, "an adapter that answers at once"),
    ]


def encoding() -> list[dict[str, Any]]:
    calls = [(at, 1_700_000_000_000_000_000 + at, 0.012 + at * 1e-6, "checkout", f"s{at % 8}", "POST",
              f"/charge/{at % 200}", 200) for at in range(500)]  # fmt: skip
    [mine] = in_turns(lambda: encode(calls), count=len(calls))
    note = f"in the recorder's thread, a batch of 500; {len(encode(calls)[0]) / 500:.0f} B a call before packing"
    return [row("instrument.encode", mine, "ns/call", note=note)]


def decoding() -> list[dict[str, Any]]:
    rows = [
        {"source": f"s{at % 8}", "target": f"s{at % 7}", "method": "GET", "endpoint": f"/item/{at % 500}",
         "status": 200, "duration": 0.012 + at * 1e-7, "time": 1_700_000_000 + at / 1000}
        for at in range(CALLS)
    ]  # fmt: skip
    array, lines = json.dumps(rows).encode(), "\n".join(map(json.dumps, rows)).encode()
    columns = encode_calls(decode_calls(array, 1))
    bodies: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
        "rows": (array, json.loads),
        "lines": (lines, lambda body: list(map(json.loads, body.split(b"\n")))),
        "columns": (columns, json.loads),
    }
    out = []
    for name, (body, plain) in bodies.items():
        mine, peer = in_turns(partial(decode_calls, body, 1), partial(plain, body), count=CALLS)
        out.append(row(f"calls.decode.{name}", mine, "ns/call", "json.loads alone, no columns", peer))
    return out


def row(
    name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None, note: str = ""
) -> dict[str, Any]:
    ratio = None if peer_value is None else peer_value / value
    return {"id": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio,
            "note": note}  # fmt: skip


def overhead(name: str, bare: float, recorded: float, note: str) -> dict[str, Any]:
    """What recording adds to a request, in µs, beside the whole request without it."""
    added = (recorded - bare) / 1e3
    return row(f"instrument.{name}.overhead", added, "us/request", "the request without", bare / 1e3, note)


def run() -> list[dict[str, Any]]:
    with Recorder("checkout", away(), exit_seconds=0.1) as recorder:
        out = record(recorder) + asgi_overhead(recorder) + wsgi_overhead(recorder) + clients(recorder)
    return out + encoding() + decoding()
