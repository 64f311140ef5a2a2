"""How calls travel to Foreshock: in columns of JSON, by a POST of its own each."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

CONTENT_TYPE = "application/vnd.foreshock.calls+json"
GZIP_BYTES = 4096
"""Batches over this size are packed."""

LONGEST_SECONDS = 86_400.0

Call = tuple[int, int, float, str, str, str, str, int]
"""Number, when it ended (Unix ns), duration (s), source, target, method, endpoint, status."""


class Later(Exception):
    """The batch has not been taken, and can be sent again after `seconds`."""

    def __init__(self, problem: str, seconds: float = 0.0) -> None:
        self.seconds = seconds
        super().__init__(problem)


class Lost(Exception):
    """The batch is not to be sent again: `reason` is `refused` or `no_answer` (it may have arrived)."""

    def __init__(self, reason: str, problem: str) -> None:
        self.reason = reason
        super().__init__(problem)


def encode(calls: Iterable[Call]) -> tuple[bytes, int]:
    """The body for calls, and how many of them are in it; what makes no sense is left out.

    Queries are cut off the endpoints: what stands in them is nobody's business.
    """
    names: dict[str, int] = {}
    paths: dict[str, int] = {}
    times, durations, statuses = [], [], []
    places: tuple[list[int], ...] = ([], [], [], [])
    for _, ended, duration, source, target, method, endpoint, status in calls:
        if not _sensible(duration, source, target, method, endpoint, status):
            continue
        if endpoint not in paths:
            paths[endpoint] = names.setdefault(endpoint.partition("?")[0], len(names))
        times.append(ended)
        durations.append(round(float(duration), 6))
        statuses.append(int(status))
        for column, text in zip(places, (source, target, method), strict=False):
            column.append(names.setdefault(text, len(names)))
        places[3].append(paths[endpoint])
    columns = {
        # Half a surrogate pair, which a path may hold, has no place in UTF-8.
        "names": [name.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for name in names],
        "time_unix_nano": times,
        "duration_seconds": durations,
        **dict(zip(("source", "target", "method", "endpoint"), places, strict=True)),
        "status": statuses,
    }
    return json.dumps(columns, separators=(",", ":")).encode(), len(times)


def _sensible(duration: object, source: object, target: object, method: object, path: object, status: object) -> bool:
    texts = isinstance(source, str) and isinstance(target, str) and isinstance(method, str) and isinstance(path, str)
    numbers = isinstance(duration, (int, float)) and 0 <= duration <= LONGEST_SECONDS and isinstance(status, int)
    return texts and numbers and bool(target)


class Endpoint:
    """Where batches are posted to. Raises ValueError for a URL that is none."""

    def __init__(self, url: str, token: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address to send calls to: write http://HOST:PORT/collect")
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path if parts.path not in ("", "/") else "/collect"
        self._timeout = timeout_seconds
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._headers = {"Content-Type": CONTENT_TYPE, "Connection": "close", "User-Agent": "foreshock-instrument"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self.place = parts.netloc.rpartition("@")[2]

    def post(self, body: bytes) -> None:
        """Deliver a body. Raises Later or Lost.

        A connection a batch: one that was kept might be closed by the other side just when it is used, and then nobody
        knows whether the batch has arrived.
        """
        headers = self._headers
        if len(body) > GZIP_BYTES:
            body, headers = gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"}
        connection = self._connection()
        try:
            try:
                connection.connect()
            except (OSError, UnicodeError) as error:
                raise Later(f"cannot connect to {self.place}: {error}") from error
            try:
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
            except (OSError, HTTPException, ValueError) as error:
                raise Lost("no_answer", f"no answer from {self.place}: {type(error).__name__}: {error}") from error
            self._judge(response.status, response.getheader("Retry-After", ""))
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=self._timeout)
        return HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)

    def _judge(self, status: int, retry_after: str) -> None:
        if 200 <= status < 300:
            return
        problem = f"{self.place} answers {status}"
        if status in (429, 503):
            raise Later(problem, float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0)
        raise Lost("refused", problem)
