"""Records the calls that a WSGI application answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

from foreshock.instrument.names import CLIENT_GONE, FAILED, HEADER, UNKNOWN
from foreshock.instrument.recorder import Recorder

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class CallMiddleware:
    """Around an application: who called what, the status, and the time until the last part of the body was taken.

    `header` and `callers_record` are as in `foreshock.instrument.asgi`. An error of the application is status 500, a
    body that the server gave up 499. A list, a tuple or the server's own `wsgi.file_wrapper` reaches the server as it
    is, with what it makes of them; its call ends when the application returns it.
    """

    def __init__(
        self, app: App, recorder: Recorder, *, header: str | None = HEADER, callers_record: bool = True
    ) -> None:
        self._app, self._recorder = app, recorder
        self._key = "HTTP_" + header.upper().replace("-", "_") if header else ""
        self._callers_record = callers_record

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        source = str(environ.get(self._key, "")).strip()
        if source and self._callers_record:
            return self._app(environ, start_response)
        call = _Call(self._recorder, environ, source or UNKNOWN)

        def start(status: str, *rest: Any) -> Callable[[bytes], object]:
            call.status = _number(status)
            return start_response(status, *rest)

        try:
            body = self._app(environ, start)
        except BaseException:
            call.end(FAILED)
            raise
        if type(body) in (list, tuple) or _is_file(body, environ):
            call.end(call.status)
            return body
        return (_SizedBody if hasattr(type(body), "__len__") else _Body)(body, call)


class _Call:
    """A call on its way; it is recorded once."""

    __slots__ = ("_method", "_open", "_path", "_recorder", "_source", "_started", "status")

    def __init__(self, recorder: Recorder, environ: Environ, source: str) -> None:
        self._recorder, self._source, self._open, self.status = recorder, source, True, FAILED
        # Read now: the application may change what it was given.
        self._method = environ["REQUEST_METHOD"]
        self._path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        self._started = perf_counter()

    def end(self, status: int) -> None:
        """The call is over; only the first end counts."""
        if self._open:
            self._open = False
            # WSGI gives the bytes of a path as if they were latin-1.
            path = self._path.encode("latin-1", "replace").decode("utf-8", "replace") or "/"
            seconds = perf_counter() - self._started
            self._recorder.record(self._source, self._recorder.service, self._method, path, status, seconds)

    def stop(self) -> None:
        """The server wants no more of the body: of an answer to HEAD it never wanted any."""
        self.end(self.status if self._method == "HEAD" else CLIENT_GONE)


class _Body:
    """The body of an answer, part by part as it comes."""

    def __init__(self, body: Iterable[bytes], call: _Call) -> None:
        self._body, self._call = body, call
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._parts is None:
                self._parts = iter(self._body)
            return next(self._parts)
        except StopIteration:
            self._call.end(self._call.status)
            raise
        except BaseException:
            self._call.end(FAILED)
            raise

    def close(self) -> None:
        """What the server calls at the end, however it came."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._call.stop()


class _SizedBody(_Body):
    """One whose parts are counted, from which a server may tell the length of the answer."""

    def __len__(self) -> int:
        size: int = self._body.__len__()  # type: ignore[attr-defined]
        return size


def _number(status: str) -> int:
    return int(status[:3]) if status[:3].isascii() and status[:3].isdigit() else FAILED


def _is_file(body: Iterable[bytes], environ: Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
