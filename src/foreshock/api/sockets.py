"""Live updates over a WebSocket, and as server-sent events for proxies that let no WebSocket through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from foreshock.api.ask import asked
from foreshock.api.auth import Permission, identify
from foreshock.api.live import Full, Hub, Listener, Subscribe
from foreshock.api.services import Services, problem
from foreshock.errors import BadInputError

FIRST_MESSAGE_SECONDS = 10.0
"""A listener that has not said what it wants by then is let go."""
MOST_MESSAGE_BYTES = 64 * 1024
_subscribe = msgspec.json.Decoder(Subscribe)
_pairs = msgspec.json.Decoder(list[tuple[str, str]])

POLICY, BAD, AGAIN = 1008, 1003, 1013


async def listen(socket: WebSocket) -> None:
    """`/ws`: what is new, as messages; the listener says what it wants, see `Subscribe`."""
    services: Services = socket.app.state.services
    hub: Hub = socket.app.state.hub
    await socket.accept()
    try:
        first = await asyncio.wait_for(_asked(socket), FIRST_MESSAGE_SECONDS)
        caller = identify(services.tokens, f"Bearer {first.token}" if first.token else _authorization(socket))
        if caller is None or not caller.may(Permission.READ):
            await socket.close(POLICY, "send a token that this server knows and that may read")
            return
        listener = await hub.join()
    except Full:
        await socket.close(AGAIN, "too many listen already")
        return
    except TimeoutError:
        await socket.close(POLICY, "nothing was asked for")
        return
    except BadInputError as error:
        await socket.close(BAD, str(error)[:100])
        return
    except WebSocketDisconnect:
        return
    hub.subscribe(listener, first)
    sending = asyncio.create_task(_send(socket, hub, listener))
    try:
        while True:
            hub.subscribe(listener, await _asked(socket))
    except BadInputError as error:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(BAD, str(error)[:100])
    except WebSocketDisconnect:
        pass
    finally:
        hub.leave(listener)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


async def _asked(socket: WebSocket) -> Subscribe:
    text = await socket.receive_text()
    if len(text) > MOST_MESSAGE_BYTES:
        raise BadInputError("too_large", "the message is too long")
    try:
        return _subscribe.decode(text)
    except msgspec.MsgspecError as error:
        raise BadInputError("bad_message", f"not a subscription: {error}") from error


async def _send(socket: WebSocket, hub: Hub, listener: Listener) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has gone
        async for _, message in hub.updates(listener):
            await socket.send_text(message.decode())


def _authorization(socket: WebSocket) -> str:
    return socket.headers.get("authorization", "")


async def stream(request: Request) -> Response:
    """`GET /api/v1/stream`: what is new, as server-sent events; `Last-Event-ID` goes on where it ended."""
    query = asked(request, ("topics", "series", "after"))
    wanted = query.get("topics", "alerts,entities").split(",")
    after = request.headers.get("last-event-id") or query.get("after")
    if after is not None and not after.isdigit():
        raise BadInputError("bad_parameter", f"after is the id of an event, not {after!r}")
    try:
        series = _pairs.decode(query.get("series", "[]"))
    except msgspec.MsgspecError as error:
        raise BadInputError("bad_parameter", f"series are pairs of entity and feature, as JSON: {error}") from error
    hub: Hub = request.app.state.hub
    try:
        listener = await hub.join()
    except Full:
        return problem(503, "Not now", "too many listen already", {"Retry-After": "5"})
    hub.subscribe(listener, Subscribe(wanted, series, after=None if after is None else int(after)))

    async def events() -> AsyncIterator[bytes]:
        try:
            async for seq, message in hub.updates(listener):
                head = b"" if seq is None else b"id: %d\n" % seq
                yield head + b"data: " + message + b"\n\n"
        finally:
            hub.leave(listener)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def hub_of(services: Services) -> Hub:
    """The hub that was given, or one of its own."""
    return services.hub or Hub(services.views, services.store)
