"""How one service calls another: over pooled connections, with a limit of time, and again where that failed."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import Protocol

import httpx

from foreshock.shop.http.faults import Conditions
from foreshock.shop.topology import Edge, Endpoint

MOST_CONNECTIONS = 100
"""To one service, where the edge sets no limit of its own."""
_MOST_IDLE = 20


class Counts(Protocol):
    """A counter of Prometheus."""

    def inc(self, amount: float = 1) -> None:
        """Count one more."""


class Pool:
    """The connections to one service; `limit` 0 = as many as are wanted, up to 100."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._free = asyncio.Semaphore(limit or MOST_CONNECTIONS)

    async def take(self, seconds: float) -> bool:
        """Whether a connection came free in time; it is then to be given back."""
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError:
            return False
        self.in_use += 1
        return True

    def give(self) -> None:
        """Give a connection back."""
        self.in_use -= 1
        self._free.release()

    async def take_for_good(self, share: float) -> None:
        """Take this share of the connections, each as soon as it is free, and keep them until cancelled."""
        held = 0
        try:
            for _ in range(math.ceil(share * self.limit)):
                await self._free.acquire()
                held += 1
                self.in_use += 1
            await asyncio.get_running_loop().create_future()
        finally:
            for _ in range(held):
                self.give()


class Callee:
    """The way to one other service. `conditions` says what faults make of it at the moment."""

    def __init__(
        self,
        edge: Edge,
        url: str,
        pool: Pool,
        client: httpx.AsyncClient,
        conditions: Callable[[], Conditions],
        counters: tuple[Counts, Counts],
    ) -> None:
        self.edge, self.pool = edge, pool
        self.last_call = time.monotonic()
        self._url, self._client, self._conditions = url, client, conditions
        self._retried, self._pool_timeouts = counters

    async def call(self, endpoint: Endpoint, quiet_seconds: float) -> int:
        """Call, and call again as the edge says: the status of the last answer, 0 = there was none.

        `quiet_seconds` is what an answer takes when all is quiet.
        """
        _, retries = self._conditions().tries(self.edge, quiet_seconds)
        for left in range(retries, -1, -1):
            status = await self._try(endpoint, quiet_seconds)
            if not failed(status) or not left:
                break
            self._retried.inc()
            await asyncio.sleep(self.edge.backoff_seconds * random.uniform(0.5, 1.5))
        return status

    async def _try(self, endpoint: Endpoint, quiet_seconds: float) -> int:
        self.last_call = time.monotonic()
        seconds, _ = self._conditions().tries(self.edge, quiet_seconds)
        if not await self.pool.take(seconds):
            self._pool_timeouts.inc()
            return 0
        try:
            return await request(self._client, endpoint, self._url, seconds)
        finally:
            self.pool.give()


def failed(status: int) -> bool:
    """Whether a call did not do what it was made for."""
    return status == 0 or status >= 500


async def request(client: httpx.AsyncClient, endpoint: Endpoint, url: str, seconds: float) -> int:
    """One request with an id of the endpoint's: the status of its answer, 0 = there was none in time."""
    path = endpoint.path.replace("{id}", str(random.randint(1, max(1, endpoint.ids))))
    try:
        answer = await client.request(endpoint.method, url + path, timeout=seconds)
    except httpx.TransportError:
        return 0
    return answer.status_code


def new_transport() -> httpx.AsyncHTTPTransport:
    """Connections that are kept; how many there are at once is for pools to say. No proxies, no certificates."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=_MOST_IDLE, keepalive_expiry=10.0)
    return httpx.AsyncHTTPTransport(verify=False, trust_env=False, limits=limits)


def new_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for calls within the shop."""
    return httpx.AsyncClient(transport=transport or new_transport(), trust_env=False)
