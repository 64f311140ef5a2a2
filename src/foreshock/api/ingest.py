"""Telemetry that comes in over HTTP: events and calls; and bodies, for whoever reads one.

Acknowledged = appended (CONTRACTS §1): reserve queue space, else 429; parse and validate without touching a slot,
else 400; append and enqueue; only then 202. What cannot be taken now for another reason is 503.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from foreshock import telemetry
from foreshock.adapters.http import CALL_TYPES, CONTENT_TYPES, inflate, record_type, too_large
from foreshock.api.services import Json, QueueFull, Services, error_answer, services_of
from foreshock.errors import BadInputError, RetryableError
from foreshock.types import Decoded, Record
from foreshock.types.record import JSON

IN_LOOP_BYTES = 64 * 1024
"""Bodies up to this size are decoded in the event loop; a thread costs more than they do."""

INFLATE_IN_LOOP_BYTES = IN_LOOP_BYTES // 8
"""Packed bodies up to this size are unpacked in the event loop."""


async def post_events(request: Request) -> Response:
    """`POST /api/v1/events`."""
    return await _post(request, services_of(request).source, CONTENT_TYPES)


async def post_calls(request: Request) -> Response:
    """`POST /collect`."""
    return await _post(request, services_of(request).calls_source, CALL_TYPES)


async def _post(request: Request, source: str, types: Mapping[str, str]) -> Response:
    """Take a body in as a record of this source; `types` are the media types that it may have."""
    try:
        samples = await receive(request, source, types)
    except (BadInputError, RetryableError) as error:
        return error_answer(error)
    answer = {"accepted": len(samples), "dropped": samples.dropped, "notes": samples.notes}
    return Json(answer, 202)


async def receive(request: Request, source: str, types: Mapping[str, str]) -> Decoded:
    """What a body holds, once it is in the log; errors are counted and raised."""
    services = services_of(request)
    try:
        content_type = record_type(request.headers.get("content-type", ""), types)
        body = await body_of(request, services)
        record = Record(services.environment, source, content_type, services.clock.now_unix_nano(), body)
        return await _take(services, record)
    except BadInputError as error:
        telemetry.drop(source, error.reason)
        raise
    except RetryableError as error:
        telemetry.drop(source, "queue_full" if isinstance(error, QueueFull) else "unavailable")
        raise


async def _take(services: Services, record: Record) -> Decoded:
    with ExitStack() as held:
        _reserve(held, services, len(record.payload))
        if len(record.payload) <= IN_LOOP_BYTES:
            samples = services.decode(record)
        else:
            samples = await run_in_threadpool(services.decode, record)
        if len(samples):
            if services.submit_blocks:
                await run_in_threadpool(services.submit, record, samples)
            else:
                services.submit(record, samples)
        elif samples.dropped:
            reason = max(samples.dropped, key=lambda name: samples.dropped[name])
            counts = ", ".join(f"{name}: {count}" for name, count in sorted(samples.dropped.items()))
            raise BadInputError(reason, f"nothing in it can be used ({counts})")
    return samples


def _reserve(held: ExitStack, services: Services, size: int) -> None:
    """Hold queue space; QueueFull if there is none, the RetryableError as it is if the runtime has problems."""
    try:
        held.enter_context(services.reserve(size))
    except RetryableError as error:
        # A runtime that starts or has stopped is not asked too much by this sender.
        if services.health().problems:
            raise
        raise QueueFull(str(error)) from error


def must_be_json(request: Request) -> None:
    """Raise BadInputError where a body is not said to be JSON."""
    # A body that says nothing of itself is no control record: what it does cannot be taken back.
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != JSON or record_type(given) != JSON:
        raise BadInputError("unknown_content_type", f"{given or 'no Content-Type'}: a control record is {JSON}")


async def body_of(request: Request, services: Services) -> bytes:
    """The body, unpacked; BadInputError if it does not come whole or in time, is too large or cannot be unpacked."""
    limit, encoding = services.max_body_bytes, request.headers.get("content-encoding", "")
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)
    try:
        async with asyncio.timeout(services.body_seconds):
            body = await _received(request, limit)
    except TimeoutError as error:
        raise BadInputError("too_slow", f"the body took more than {services.body_seconds:g} s") from error
    except ClientDisconnect as error:
        raise BadInputError("incomplete", "the sender hung up") from error
    if not encoding or len(body) <= INFLATE_IN_LOOP_BYTES:
        return inflate(body, encoding, limit)
    return await run_in_threadpool(inflate, body, encoding, limit)


async def _received(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
    return b"".join(parts)
