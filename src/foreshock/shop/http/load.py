"""Customers: requests that arrive when they arrive, whether or not the earlier ones have been answered."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette

from foreshock.shop.http.background import Background
from foreshock.shop.http.calling import new_client, new_transport, request
from foreshock.shop.http.control import routes
from foreshock.shop.http.faults import Offer, Switch
from foreshock.shop.http.metrics import Page
from foreshock.shop.http.process import Reports
from foreshock.shop.http.recording import Recording
from foreshock.shop.http.site import Site
from foreshock.shop.topology import WEB, Endpoint, Topology

MOST_IN_FLIGHT = 200
"""Requests that wait for an answer at once; those that come on top are dropped and counted."""
_ASK_AGAIN_SECONDS = 0.05


class Generator:
    """An open loop: arrivals are a Poisson process of the site's rate, from its own clock.

    So a shop that slows down does not get fewer requests, as it would from customers who wait their turn.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._edge = site.topology.edge(WEB, site.topology.entry)
        self._endpoints = site.topology.service(site.topology.entry).endpoints
        self._reached = {one.path: {self._edge.callee, *_reached(site.topology, one)} for one in self._endpoints}
        self._rng = random.Random()
        self._in_flight = Background()
        self.switch = Switch(Offer((), {"traffic_surge": site.topology.names}), {})
        self.page = Page(WEB)
        self._sent = self.page.counter("app_load_requests", "Requests sent, by the status of the answer.", "status")
        self._dropped = self.page.counter("app_load_dropped", "Requests not sent, for too many wait.").labels(WEB)
        self.page.gauge("app_load_in_flight", "Requests that wait for an answer.", lambda: len(self._in_flight))
        self.recording = Recording(WEB, site)
        self._client = new_client(self.recording.outbound(new_transport()))

    async def run(self) -> None:
        """Wait until all services answer, then send until cancelled."""
        await self._all_answer()
        due = time.monotonic()
        async with self._in_flight:
            while self._site.rate > 0.0:
                shares = self.shares()
                due += self._rng.expovariate(self._site.rate * sum(shares))
                await asyncio.sleep(max(due - time.monotonic(), 0.0))
                if len(self._in_flight) < MOST_IN_FLIGHT:
                    self._in_flight.start(self._send(self._rng.choices(self._endpoints, shares)[0]))
                else:
                    self._dropped.inc()

    def shares(self) -> list[float]:
        """The share of each endpoint in the usual load, times what surges make of it."""
        surges = self.switch.conditions.traffic
        return [
            one.share * math.prod(size for name, size in surges.items() if name in self._reached[one.path])
            for one in self._endpoints
        ]

    async def close(self) -> None:
        """Mend what is broken, and hang up."""
        await self.switch.clear()
        await self._client.aclose()
        self.recording.close()

    async def _send(self, endpoint: Endpoint) -> None:
        url = self._site.urls[self._site.topology.entry]
        status = await request(self._client, endpoint, url, self._edge.timeout_seconds)
        self._sent.labels(WEB, status).inc()

    async def _all_answer(self) -> None:
        async with new_client() as client:
            for name, url in self._site.urls.items():
                while name != WEB and not await _answers(client, url):
                    await asyncio.sleep(_ASK_AGAIN_SECONDS)


def _reached(topology: Topology, endpoint: Endpoint) -> set[str]:
    """The services that requests to this endpoint come to, whatever stands between."""
    out: set[str] = set()
    for step in endpoint.steps:
        out |= {step.service} | _reached(topology, topology.endpoint(step.service, step.method, step.path))
    return out


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/health", timeout=1.0)).is_success
    except httpx.TransportError:
        return False


def build(site: Site, folder: Path, reports: Reports) -> Starlette:
    """The application of the load generator; to be called in the process that serves it."""
    generator = Generator(site)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Background() as work:
            work.start(generator.run())
            yield
        await generator.close()

    return Starlette(routes=routes(WEB, generator.page, generator.switch), lifespan=lifespan)
