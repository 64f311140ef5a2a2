"""The routes that every process of the shop has beside its work: `/health`, `/metrics` and `/faults`."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from foreshock.errors import BadInputError
from foreshock.shop.http.faults import KINDS, Switch
from foreshock.shop.http.metrics import Page

MOST_BODY_BYTES = 4096


def routes(name: str, metrics: Page, switch: Switch) -> list[Route]:
    """The routes, for a service of this name."""
    since = time.monotonic()

    async def health(request: Request) -> Response:
        version, uptime = switch.conditions.version, time.monotonic() - since
        return answer(
            {
                "status": "ok",
                "service": name,
                "version": version,
                "pid": os.getpid(),
                "uptime_seconds": round(uptime, 3),
            }
        )

    async def exposition(request: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def faults(request: Request) -> Response:
        try:
            if request.method == "POST":
                await switch.put(switch.offer.fault(await _body(request)))
            elif request.method == "DELETE":
                await switch.clear(request.query_params.get("kind", ""), request.query_params.get("towards", ""))
        except BadInputError as error:
            return _refusal(error, switch)
        return answer({"service": name, "faults": switch.on()}, 201 if request.method == "POST" else 200)

    return [
        Route("/health", health),
        Route("/metrics", exposition),
        Route("/faults", faults, methods=["GET", "POST", "DELETE"]),
    ]


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            raise BadInputError("bad_fault", f"a fault takes {MOST_BODY_BYTES} bytes at most")
    return body


def _refusal(error: BadInputError, switch: Switch) -> Response:
    problem = {
        "type": "about:blank", "title": "Not a fault", "status": 400, "detail": str(error), "reason": error.reason,
        "kinds": {name: {"does": KINDS[name].does, "small": KINDS[name].small, "large": KINDS[name].large}
                  for name in KINDS if name in switch.offer.kinds or name in switch.offer.towards},
    }  # fmt: skip
    return Response(msgspec.json.encode(problem), 400, media_type="application/problem+json")


def answer(content: dict[str, Any], status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
