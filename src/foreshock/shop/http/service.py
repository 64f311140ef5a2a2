"""One service of the shop as an HTTP application: it works, calls others, says how it is, and can be broken."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router

from foreshock.shop.http import effects
from foreshock.shop.http.background import Background
from foreshock.shop.http.calling import Callee, Pool, failed, new_client, new_transport
from foreshock.shop.http.capacity import Capacity, Disk, RefusedError
from foreshock.shop.http.control import answer, routes
from foreshock.shop.http.faults import KINDS, Effect, Offer, Switch
from foreshock.shop.http.metrics import Metrics
from foreshock.shop.http.process import Report, Reports
from foreshock.shop.http.recording import Recording
from foreshock.shop.http.site import Site
from foreshock.shop.topology import WEB, Endpoint

HEARTBEAT_SECONDS = 2.0
"""Each service calls each of its callees at least so often."""
ALWAYS_FAILS = "/api/error"
DISK_BYTES = 32 << 20
_ROW = b"." * 199 + b"\n"


class Running:
    """A service at work. One process stands for all its replicas."""

    def __init__(self, name: str, site: Site, folder: Path, reports: Reports) -> None:
        self.name = name
        self._site, self._service = site, site.topology.service(name)
        self._rng = random.Random()
        self._capacity = Capacity(self._service)
        self._disk = Disk(folder, DISK_BYTES)
        own = [(one.method, one.path) for one in self._service.endpoints]
        self.metrics = Metrics(name, [*own, ("GET", ALWAYS_FAILS)], lambda: self.switch.conditions.version)
        self.recording = Recording(name, site)
        self._client = new_client(self.recording.outbound(new_transport()))
        self._callees = dict(self._ways())
        self._called = {step: site.called(step) for one in self._service.endpoints for step in one.steps}
        self._heartbeats = {name: site.heartbeat(callee.edge) for name, callee in self._callees.items()}
        self.switch = Switch(*self._faults(reports))
        self._gauges()

    async def work(self, endpoint: Endpoint) -> int:
        """Do what a request wants; the status of its answer."""
        try:
            async with self._capacity.worker():
                return await self._work(endpoint)
        except RefusedError:
            return 503

    async def heartbeats(self) -> None:
        """Call every callee that has not been called for a while, until cancelled."""
        async with Background() as calls:
            while True:
                now = time.monotonic()
                for name, callee in self._callees.items():
                    if now - callee.last_call >= HEARTBEAT_SECONDS:
                        callee.last_call = now
                        # Not waited for: one that hangs must not hold up the others, nor its own next one.
                        calls.start(callee.call(*self._heartbeats[name]))
                due = min((callee.last_call for callee in self._callees.values()), default=now) + HEARTBEAT_SECONDS
                await asyncio.sleep(max(due - time.monotonic(), 0.01))

    async def close(self) -> None:
        """Mend what is broken, and let go of the others."""
        await self.switch.clear()
        await self._client.aclose()
        self.recording.close()

    async def _work(self, endpoint: Endpoint) -> int:
        now = self.switch.conditions
        sigma = self._service.spread
        seconds = endpoint.work_seconds * self._rng.lognormvariate(-sigma * sigma / 2, sigma)
        await self._capacity.work(seconds * now.slower_work, now.slower_cores)
        await asyncio.sleep(now.added_seconds)
        if self._rng.random() < endpoint.error_ratio or self._rng.random() < now.error_ratio:
            return 500
        if self._rng.random() < endpoint.not_found_ratio:
            return 404
        if endpoint.writes:
            try:
                self._disk.write(_ROW)
            except OSError:
                return 500
        return await self._ask_others(endpoint)

    async def _ask_others(self, endpoint: Endpoint) -> int:
        for step in endpoint.steps:
            callee = self._callees.get(step.service)
            if callee is None or self._rng.random() >= step.probability:
                continue
            for _ in range(step.times):
                status = await callee.call(*self._called[step])
                if failed(status) and step.required:
                    return 504 if status == 0 else 502
        return 200

    # -- what it is made of --------------------------------------------------------------------------------------------

    def _ways(self) -> Iterator[tuple[str, Callee]]:
        for edge in self._site.edges(self.name):
            pool = Pool(edge.pool * self._service.replicas)
            counters = self.metrics.calls(edge.callee, partial(getattr, pool, "in_use"), pool.limit)
            url = self._site.urls[edge.callee]
            yield edge.callee, Callee(edge, url, pool, self._client, lambda: self.switch.conditions, counters)

    def _faults(self, reports: Reports) -> tuple[Offer, dict[str, Effect]]:
        site, service = self._site, self._service
        callers = [site.urls[name] for name in site.topology.callers(self.name) if name in site.urls]
        generator = [site.urls[WEB]] if WEB in site.urls and not service.store else []
        pools = [one.pool for one in self._callees.values() if one.pool.limit]
        effect: dict[str, Effect] = {
            "cpu_hog": effects.cpu_hog,
            "memory_leak": effects.memory_leak,
            "crash": effects.crash(lambda seconds: reports.tell(Report(self.name, seconds))),
            "traffic_surge": effects.elsewhere(self.name, generator),
            "retry_storm": effects.elsewhere(self.name, callers),
            "disk_fill": effects.disk_fill(self._disk),
            "pool_exhaustion": effects.pool_exhaustion(pools),
        }
        can = {
            "traffic_surge": bool(generator),
            "retry_storm": bool(callers),
            "disk_fill": any(one.writes for one in service.endpoints),
            "pool_exhaustion": bool(pools),
            "bad_deploy": not service.store,
        }
        kinds = tuple(kind for kind in KINDS if can.get(kind, True))
        return Offer(kinds, {"retry_storm": tuple(self._callees)} if self._callees else {}), effect

    def _gauges(self) -> None:
        gauge, capacity = self.metrics.gauge, self._capacity
        gauge("app_requests_in_flight", "Requests that have a worker.", lambda: capacity.busy)
        gauge("app_queue_length", "Requests that wait for a worker.", lambda: capacity.waiting)
        gauge("app_disk_used_bytes", "Written to the service's own folder.", lambda: self._disk.used_bytes)
        gauge("app_disk_size_bytes", "Room in the service's own folder.", lambda: DISK_BYTES)


def build(name: str, site: Site, folder: Path, reports: Reports) -> Starlette:
    """The application of a service; to be called in the process that serves it."""
    service = Running(name, site, folder, reports)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Background() as work:
            work.start(service.heartbeats())
            yield
        await service.close()

    always = Endpoint("GET", ALWAYS_FAILS, 0.0, error_ratio=1.0)
    shop = Router([_route(service, one) for one in (*site.topology.service(name).endpoints, always)])
    control = routes(name, service.metrics, service.switch)
    return Starlette(routes=[*control, Mount("/", service.recording.inbound(shop))], lifespan=lifespan)


def _route(service: Running, endpoint: Endpoint) -> Route:
    async def respond(request: Request) -> Response:
        began = time.perf_counter()
        status = 500
        try:
            status = await service.work(endpoint)
        finally:
            service.metrics.answered(endpoint.method, endpoint.path, status, time.perf_counter() - began)
        return answer({"service": service.name, "status": status}, status)

    return Route(endpoint.path, respond, methods=[endpoint.method])
