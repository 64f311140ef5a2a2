"""What faults really do to a process: burn its CPU, eat its memory, fill its disk, hold its connections, end it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx

from foreshock.errors import BadInputError
from foreshock.shop.http.background import Background
from foreshock.shop.http.calling import Pool, new_client
from foreshock.shop.http.capacity import Disk, burn
from foreshock.shop.http.faults import Effect, Fault

MOST_LEAKED_BYTES = 256 << 20
_MIB = 1 << 20
_TICK_SECONDS = 0.25
_SLICE_SECONDS = 0.05
_LAST_ANSWER_SECONDS = 0.1
_ASK_SECONDS = 5.0


@asynccontextmanager
async def cpu_hog(fault: Fault) -> AsyncIterator[None]:
    """A thread computes for this share of the time: of one core at most."""
    stop = threading.Event()
    threading.Thread(target=_burn, args=(fault.magnitude, stop), name="cpu-hog", daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _burn(share: float, stop: threading.Event) -> None:
    while not stop.wait(_SLICE_SECONDS * (1.0 - share)):
        burn(_SLICE_SECONDS * share)


@asynccontextmanager
async def memory_leak(fault: Fault) -> AsyncIterator[None]:
    """Memory is taken, and written to, so that it is really there; it is given back at the end."""
    chunk = int(fault.magnitude * _MIB * _TICK_SECONDS)
    held: list[bytes] = []

    async def grow() -> None:
        while (len(held) + 1) * chunk <= MOST_LEAKED_BYTES:
            held.append(b"\x01" * chunk)
            await asyncio.sleep(_TICK_SECONDS)

    try:
        async with Background() as work:
            work.start(grow())
            yield
    finally:
        held.clear()


def disk_fill(disk: Disk) -> Effect:
    """The disk fills up; it is emptied at the end."""

    @asynccontextmanager
    async def effect(fault: Fault) -> AsyncIterator[None]:
        async def grow() -> None:
            while True:
                with suppress(OSError):  # a machine whose own disk is full: then it is full
                    disk.fill(int(fault.magnitude * _MIB * _TICK_SECONDS))
                await asyncio.sleep(_TICK_SECONDS)

        try:
            async with Background() as work:
                work.start(grow())
                yield
        finally:
            disk.empty()

    return effect


def pool_exhaustion(pools: Sequence[Pool]) -> Effect:
    """Connections are taken and not given back until the end."""

    @asynccontextmanager
    async def effect(fault: Fault) -> AsyncIterator[None]:
        async with Background() as work:
            for pool in pools:
                work.start(pool.take_for_good(fault.magnitude))
            yield

    return effect


def crash(tell_down: Callable[[float], None]) -> Effect:
    """The process dies, just after it has answered the request that wanted it; `tell_down` hears for how long."""

    @asynccontextmanager
    async def effect(fault: Fault) -> AsyncIterator[None]:
        tell_down(fault.seconds)
        asyncio.get_running_loop().call_later(_LAST_ANSWER_SECONDS, os._exit, 1)
        yield

    return effect


def elsewhere(service: str, others: Sequence[str]) -> Effect:
    """Others, at these addresses, are told to do it towards this service, and at the end to stop."""

    @asynccontextmanager
    async def effect(fault: Fault) -> AsyncIterator[None]:
        asked = {"kind": fault.kind, "magnitude": fault.magnitude, "seconds": fault.seconds, "towards": service}
        which = {"kind": fault.kind, "towards": service}
        async with new_client() as client, AsyncExitStack() as stack:
            for url in others:
                stack.push_async_callback(_stop, client, url, which)
                try:
                    answer = await client.post(f"{url}/faults", json=asked, timeout=_ASK_SECONDS)
                    answer.raise_for_status()
                except httpx.HTTPError as error:
                    raise BadInputError("bad_fault", f"{url} did not take part: {error!r}") from error
            yield

    return effect


async def _stop(client: httpx.AsyncClient, url: str, which: dict[str, str]) -> None:
    with suppress(httpx.TransportError):  # who does not answer has ended, and with it what it did
        await client.delete(f"{url}/faults", params=which, timeout=_ASK_SECONDS)
