"""Records the calls that an application makes with httpx.

`Client` and `AsyncClient` stand in for httpx's own. They record in the transport, through which every request goes:
redirects, retries and authentication flows count as the calls that they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from time import perf_counter
from types import TracebackType
from typing import Any

import httpx

from foreshock.instrument.names import HEADER, NO_ANSWER, header_value, target_of
from foreshock.instrument.recorder import Recorder


class Client(httpx.Client):
    """`httpx.Client` whose calls are recorded. All else that it is given goes to httpx.

    `services` names what is called: `host:port` or `host` → service; others go by the name of their host. `header` is
    what tells the called service who calls, so that it leaves recording to the caller; None sends nothing.
    """

    def __init__(
        self, recorder: Recorder, *, services: Mapping[str, str] | None = None, header: str | None = HEADER,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self._transport = Transport(recorder, self._transport, services, header)
        self._mounts = {
            pattern: transport and Transport(recorder, transport, services, header)
            for pattern, transport in self._mounts.items()
        }


class AsyncClient(httpx.AsyncClient):
    """`httpx.AsyncClient` whose calls are recorded; see `Client`."""

    def __init__(
        self, recorder: Recorder, *, services: Mapping[str, str] | None = None, header: str | None = HEADER,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self._transport = AsyncTransport(recorder, self._transport, services, header)
        self._mounts = {
            pattern: transport and AsyncTransport(recorder, transport, services, header)
            for pattern, transport in self._mounts.items()
        }


class _Calls:
    """What both transports know."""

    def __init__(self, recorder: Recorder, services: Mapping[str, str] | None, header: str | None) -> None:
        self._recorder, self._services, self._header = recorder, services or {}, header
        self._name = header_value(recorder.service)

    def begin(self, request: httpx.Request) -> _Call:
        """A request is about to go out."""
        if self._header:
            request.headers[self._header] = self._name
        target = target_of(request.url.host, request.url.port, self._services)
        return _Call(self._recorder, target, request.method, request.url.path)


class _Call:
    """A call on its way; it is recorded once."""

    __slots__ = ("_endpoint", "_method", "_open", "_recorder", "_started", "_target", "status")

    def __init__(self, recorder: Recorder, target: str, method: str, endpoint: str) -> None:
        self._recorder, self._target, self._method, self._endpoint = recorder, target, method, endpoint
        self._open, self.status = True, NO_ANSWER
        self._started = perf_counter()

    def end(self, status: int) -> None:
        """The call is over; only the first end counts."""
        if self._open:
            self._open = False
            seconds = perf_counter() - self._started
            self._recorder.record(self._recorder.service, self._target, self._method, self._endpoint, status, seconds)


class Transport(httpx.BaseTransport):
    """Around a transport: each request is a call, until its body has been read or closed.

    Its status is 0 if there was no answer, or not all of it; the error goes on to whoever called.
    """

    def __init__(
        self, recorder: Recorder, transport: httpx.BaseTransport | None = None,
        services: Mapping[str, str] | None = None, header: str | None = HEADER,
    ) -> None:  # fmt: skip
        self._calls = _Calls(recorder, services, header)
        self._inner = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        call = self._calls.begin(request)
        try:
            response = self._inner.handle_request(request)
        except BaseException:
            call.end(NO_ANSWER)
            raise
        call.status = response.status_code
        if response.is_closed or not isinstance(response.stream, httpx.SyncByteStream):
            call.end(call.status)
        else:
            response.stream = _Body(response.stream, call)
        return response

    def close(self) -> None:
        """Close what is inside."""
        self._inner.close()

    def __enter__(self) -> Transport:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:  # fmt: skip
        self._inner.__exit__(kind, error, traceback)


class AsyncTransport(httpx.AsyncBaseTransport):
    """The same for an asynchronous transport; a call that is cancelled has status 0."""

    def __init__(
        self, recorder: Recorder, transport: httpx.AsyncBaseTransport | None = None,
        services: Mapping[str, str] | None = None, header: str | None = HEADER,
    ) -> None:  # fmt: skip
        self._calls = _Calls(recorder, services, header)
        self._inner = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        call = self._calls.begin(request)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException:
            call.end(NO_ANSWER)
            raise
        call.status = response.status_code
        if response.is_closed or not isinstance(response.stream, httpx.AsyncByteStream):
            call.end(call.status)
        else:
            response.stream = _AsyncBody(response.stream, call)
        return response

    async def aclose(self) -> None:
        """Close what is inside."""
        await self._inner.aclose()

    async def __aenter__(self) -> AsyncTransport:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:  # fmt: skip
        await self._inner.__aexit__(kind, error, traceback)


class _Body(httpx.SyncByteStream):
    """The body of an answer as it comes."""

    def __init__(self, stream: httpx.SyncByteStream, call: _Call) -> None:
        self._stream, self._call = stream, call

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except GeneratorExit:
            raise  # whoever reads has had enough
        except BaseException:
            self._call.end(NO_ANSWER)
            raise

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._call.end(self._call.status)


class _AsyncBody(httpx.AsyncByteStream):
    """The same, asynchronously."""

    def __init__(self, stream: httpx.AsyncByteStream, call: _Call) -> None:
        self._stream, self._call = stream, call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except GeneratorExit:
            raise
        except BaseException:
            self._call.end(NO_ANSWER)
            raise

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._call.end(self._call.status)
