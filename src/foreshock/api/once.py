"""The same request, sent again with its `Idempotency-Key`, is done once and answered alike."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from foreshock.api.services import caller_of

MOST_KEYS = 1000
MOST_CHARACTERS = 200


class Once:
    """Answers by who asked, what, with which key and which body; the oldest are forgotten, and all of them at the end.

    One is made at a time, so that a request that comes while its twin is answered waits for that answer.
    """

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._most = most_keys
        self._kept: dict[tuple[str, str, str, bytes], Response] = {}
        self._lock = asyncio.Lock()

    async def answer(self, request: Request, body: bytes, make: Callable[[], Awaitable[Response]]) -> Response:
        """What `make` answers, or has answered to the same request; only what was done is kept."""
        key = request.headers.get("idempotency-key", "")[:MOST_CHARACTERS]
        if not key:
            return await make()
        name = (caller_of(request).name, request.url.path, key, hashlib.sha256(body).digest())
        async with self._lock:
            known = self._kept.get(name)
            if known is not None:
                return Response(known.body, known.status_code, dict(known.headers))
            made = await make()
            if made.status_code < 300:
                self._kept[name] = made
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
            return made


def once_of(request: Request) -> Once:
    """The one of the application."""
    once: Once = request.app.state.once
    return once
