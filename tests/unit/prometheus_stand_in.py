"""A server over HTTP that answers a few of Prometheus' requests from functions of time, and fails when told to."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Labels = tuple[tuple[str, str], ...]
Values = Callable[[float], float | None]
Answer = tuple[int, Mapping[str, str], bytes]
Fault = Callable[[str, Mapping[str, str]], Answer | None]
NANO = 1_000_000_000


class Clock:
    """Time that passes by sleeping; `after_sleep` is called then."""

    def __init__(self, unix_seconds: float = 1_700_000_000.0) -> None:
        self.now = round(unix_seconds * NANO)
        self.after_sleep: Callable[[], None] = lambda: None

    def now_unix_nano(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(1, round(seconds * NANO))
        self.after_sleep()


class StandIn:
    """`series` maps label sets to functions of Unix time (None = no sample); `fault` may answer in its place.

    `requests` are those that were made: path and parameters. `ahead_seconds` is how far its clock is ahead.
    """

    def __init__(self, clock: Clock, series: Mapping[Labels, Values], types: Mapping[str, str] | None = None) -> None:
        self.clock, self.series, self.types = clock, dict(series), dict(types or {})
        self.fault: Fault = lambda path, asked: None
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.headers: list[Mapping[str, str]] = []
        self.ahead_seconds = 0.0
        self.warnings: list[str] = []
        self.url = ""

    def now(self) -> float:
        return self.clock.now / NANO + self.ahead_seconds

    def answer(self, path: str, asked: dict[str, str]) -> Answer:
        self.requests.append((path, asked))
        instead = self.fault(path, asked)
        if instead is not None:
            return instead
        return good(self._data(path, asked), self.warnings)

    def ranges(self) -> list[tuple[float, float]]:
        """Start and end of each range asked for."""
        return [(float(a["start"]), float(a["end"])) for path, a in self.requests if path == "query_range"]

    def _data(self, path: str, asked: dict[str, str]) -> Any:
        match path:
            case "metadata":
                return {name: [{"type": kind, "help": "", "unit": ""}] for name, kind in self.types.items()}
            case "label/__name__/values":
                return sorted({dict(labels)["__name__"] for labels in self.series})
            case "query":
                return self._instant(asked["query"], float(asked["time"]))
            case "query_range":
                return self._range(asked)
        raise AssertionError(path)

    def _instant(self, query: str, at: float) -> Any:
        if query.startswith("up["):
            seconds = int(query[3:].split("s", maxsplit=1)[0])
            times = [float(t) for t in range(int(at) - seconds + 1, int(at) + 1) if t % 10 == 0]
            return _matrix({labels: self.series[labels] for labels in self._named("up")}, times)
        if query.startswith("count"):
            names: dict[str, int] = {}
            for labels in self._selected(query):
                names[dict(labels)["__name__"]] = names.get(dict(labels)["__name__"], 0) + 1
            return {"result": [{"metric": {"__name__": one}, "value": [at, str(n)]} for one, n in names.items()]}
        return {"result": [{"metric": {}, "value": [at, "1"]}]}

    def _range(self, asked: dict[str, str]) -> Any:
        start, end, step = (float(asked[key]) for key in ("start", "end", "step"))
        times = [start + step * i for i in range(int((end - start) / step + 1e-6) + 1)]
        # Nothing is known of times to come.
        times = [one for one in times if one <= self.now()]
        return _matrix({labels: self.series[labels] for labels in self._selected(asked["query"])}, times)

    def _named(self, name: str) -> Iterator[Labels]:
        return (labels for labels in self.series if dict(labels)["__name__"] == name)

    def _selected(self, query: str) -> Iterator[Labels]:
        found = re.search(r'__name__=~?"([^"]*)"', query)
        wanted = set(found[1].split("|")) if found else {query}
        return (labels for labels in self.series if dict(labels)["__name__"] in wanted)


def _matrix(series: Mapping[Labels, Values], times: list[float]) -> Any:
    result = []
    for labels, values in series.items():
        points = [[t, _text(value)] for t in times if (value := values(t)) is not None]
        if points:
            result.append({"metric": dict(labels), "values": points})
    return {"resultType": "matrix", "result": result}


def _text(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


def good(data: Any, warnings: list[str] | None = None) -> Answer:
    """An answer of success."""
    return 200, {}, json.dumps({"status": "success", "data": data, "warnings": warnings or []}).encode()


def bad(code: int, kind: str, text: str) -> Answer:
    """Prometheus' own answer of an error."""
    return code, {}, json.dumps({"status": "error", "errorType": kind, "error": text}).encode()


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """The stand-in behind an address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

        def _reply(self, form: dict[str, list[str]]) -> None:
            parts = urlsplit(self.path)
            asked = {key: values[0] for key, values in (parse_qs(parts.query) | form).items()}
            stand_in.headers.append(dict(self.headers))
            code, headers, body = stand_in.answer(parts.path.removeprefix("/api/v1/"), asked)
            self.send_response(code)
            for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(stand_in.now(), usegmt=True)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
