"""The simulated shop: time passes when it is told to, things break when they are told to."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from foreshock.shop.dynamics import FULL, run
from foreshock.shop.dynamics_tables import (
    BATCH,
    BATCH_EDGE,
    BATCH_ENDPOINT,
    BURST,
    BURST_FROM,
    BURST_UNTIL,
    CALLS,
    DAY,
    DEPLOYED,
    DOWN,
    GAUGES,
    LEAVE,
    LOGS,
    LOGS_LEFT_OUT,
    MAX_REPLICAS,
    NANO,
    SPANS,
    STOP,
    TURNED_AWAY,
    endpoint_places,
    new_tables,
)
from foreshock.shop.effects import Active, apply, replicas_of
from foreshock.shop.faults import CATALOGUE, Fault, Truth, check, suffering
from foreshock.shop.output import Collector, Telemetry
from foreshock.shop.routine import BATCH_CALL, BATCH_SHARE, Happening, day_of
from foreshock.shop.settings import Settings
from foreshock.shop.topology import REQUESTS_PER_SECOND, SHOP, Topology

_BETWEEN_REPLICAS = 4 * NANO
"""Of a rolling restart: from when one replica serves again until the next one stops."""

SCALING_SECONDS, SCALE_DOWN_SECONDS = 15, 300
SCALE_UP_ABOVE, SCALE_DOWN_BELOW = 0.6, 0.15
"""Of the autoscaler: how often it looks, how long it waits to take a replica away; use of the cores that moves it."""


class Shop:
    """A shop from `start_unix_nano` (rounded down to a second) on; `faults` begin so long after the start.

    The same settings, faults and actions give the same telemetry, however `advance` is cut.

    >>> shop = Shop(Settings(seed=1))
    >>> telemetry = shop.advance(60)
    >>> 2000 < len(telemetry.calls) < 5000
    True
    """

    def __init__(
        self,
        settings: Settings | None = None,
        start_unix_nano: int = 1_700_000_000 * NANO,
        faults: Iterable[Fault] = (),
        topology: Topology = SHOP,
    ) -> None:
        self.settings = settings or Settings()
        self.start_unix_nano = start_unix_nano // NANO * NANO
        self.topology = topology.scaled(max(1.0, self.settings.rate / REQUESTS_PER_SECOND))
        self.tables = new_tables(self.topology, self.settings, self.start_unix_nano)
        self.versions = dict.fromkeys(topology.names, 0)
        self.active: list[Active] = []
        self._now = self.start_unix_nano
        self._truths: list[Truth] = []
        self._collector = Collector(self.topology)
        self._scaled: dict[str, int] = {}
        self._changes: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        run(self.tables, self.start_unix_nano)  # plays nothing, but compiles: once made, a shop keeps up
        self._set_batch_places()
        self._plan_day(self.start_unix_nano // NANO // DAY)
        if self.settings.autoscale:
            self.at(self._now, self._autoscale)
        for fault in faults:
            self.inject(fault)

    @property
    def now_unix_nano(self) -> int:
        """Up to where it has been played."""
        return self._now

    @property
    def truths(self) -> tuple[Truth, ...]:
        """What was, is and will be broken, in the order in which it was asked for."""
        return tuple(self._truths)

    @property
    def left_out(self) -> dict[str, int]:
        """What had no room so far: requests turned away at the door, lines not written."""
        number = self.tables.number
        return {"shop_turned_away": int(number[TURNED_AWAY]), "shop_log_lines": int(number[LOGS_LEFT_OUT])}

    def advance(self, seconds: int) -> Telemetry:
        """Let so many whole seconds pass; what was seen in them, a call at the time when it ended."""
        since, end = self._now, self._now + int(seconds) * NANO
        while self._now < end:
            while self._changes and self._changes[0][0] <= self._now:
                heapq.heappop(self._changes)[2]()
            stop = min(end, self._changes[0][0]) if self._changes else end
            while run(self.tables, stop) == FULL:
                self._grow()
            self._now = stop
        return self._collector.take(self.tables, since, end)

    def inject(self, fault: Fault) -> Truth:
        """Break something, `fault.after_seconds` from now. Raises ConfigError where it cannot be."""
        check(fault, self.topology)
        since = self._now + round(fault.after_seconds) * NANO
        until = since + max(1, round(fault.lasts_seconds)) * NANO
        truth = Truth(
            fault.kind, fault.service, CATALOGUE[fault.kind].feature, fault.magnitude, since, until,
            suffering(fault, self.topology),
        )  # fmt: skip
        self._truths.append(truth)
        place = len(self._truths) - 1
        self.at(since, partial(self._begin, fault, place))
        return truth

    def end(self, active: Active) -> None:
        """End a fault now, if it is still in force."""
        if active not in self.active:
            return
        self.active.remove(active)
        truth = self._truths[active.truth]
        self._truths[active.truth] = replace(truth, until_unix_nano=min(truth.until_unix_nano, self._now))
        apply(self.tables, self.topology, self.active)
        if active.fault.effect.down:
            for place in active.replicas:
                self.tables.replica["back"][place] = self._now + self._start_nano(active.fault.service)
        if active.fault.kind == "memory_leak":
            self.roll(active.fault.service)
        if active.fault.kind == "bad_deploy":
            self.deploy(active.fault.service, -1)

    def roll(self, service: str) -> list[int]:
        """Restart a service's replicas one after the other; when each serves again, Unix ns."""
        at, out = self._now, []
        for place in self.replicas(service):
            self.at(at, partial(self._order_to, place, STOP))
            out.append(at + self._start_nano(service))
            at = out[-1] + _BETWEEN_REPLICAS
        return out

    def deploy(self, service: str, step: int = 1) -> list[int]:
        """Roll out the next version of a service, or the one before (-1); when each replica has it, Unix ns."""
        self.versions[service] = max(0, self.versions[service] + step)
        self._say(service, DEPLOYED, self.versions[service])
        return self.roll(service)

    def replicas(self, service: str) -> list[int]:
        """The places in `tables.replica` of those that a service has."""
        return replicas_of(self.tables, self.topology.names.index(service))

    def resize(self, service: str, replicas: int) -> None:
        """Give a service so many replicas: new ones serve once they have started, those that go finish their work."""
        there = self.replicas(service)
        for place in there[replicas:]:
            self._order_to(place, LEAVE)
        first = self.topology.names.index(service) * MAX_REPLICAS
        spare = [first + r for r in range(MAX_REPLICAS) if first + r not in there]
        for place in spare[: max(0, replicas - len(there))]:
            self.tables.replica["state"][place] = DOWN
            self.tables.replica["back"][place] = self._now + self._start_nano(service)

    def at(self, time_unix_nano: int, change: Callable[[], None]) -> None:
        """Do something when that second begins."""
        self._order += 1
        heapq.heappush(self._changes, (time_unix_nano, self._order, change))

    # -- faults --------------------------------------------------------------------------------------------------

    def _begin(self, fault: Fault, truth: int) -> None:
        active = Active(fault, truth, tuple(self.replicas(fault.service)))
        self.active.append(active)
        if fault.kind == "bad_deploy":
            active.spread = 0.0
            rolled = self.deploy(fault.service)
            for done, time in enumerate(rolled, 1):
                self.at(time, partial(self._spread, active, done / len(rolled)))
        apply(self.tables, self.topology, self.active)
        self.at(self._truths[truth].until_unix_nano, partial(self.end, active))

    def _spread(self, active: Active, share: float) -> None:
        if active in self.active:
            active.spread = share
            apply(self.tables, self.topology, self.active)

    # -- ordinary days -------------------------------------------------------------------------------------------

    def _plan_day(self, day: int) -> None:
        has_batch = self.settings.batch and self.tables.number[BATCH_EDGE] >= 0
        wanted = {"burst": self.settings.bursts, "deploy": self.settings.deploys, "batch": has_batch}
        for one in day_of(self.settings.seed, day, self.topology):
            time = (day * DAY + one.second) * NANO
            if time >= self.start_unix_nano and wanted[one.kind]:
                self.at(time, partial(self._happen, one))
        self.at((day + 1) * DAY * NANO, partial(self._plan_day, day + 1))

    def _happen(self, one: Happening) -> None:
        number, real = self.tables.number, self.tables.real
        until = self._now + one.seconds * NANO
        if one.kind == "burst":
            number[BURST_FROM], number[BURST_UNTIL], real[BURST] = self._now, until, one.height
        elif one.kind == "batch":
            real[BATCH] = BATCH_SHARE * self.settings.rate
            self.at(until, partial(real.__setitem__, BATCH, 0.0))
        elif all(active.fault.service != one.service for active in self.active):
            self.deploy(one.service)

    def _autoscale(self) -> None:
        """One replica more where the cores are busy, one fewer where they have been idle and some are extra."""
        self.at(self._now + SCALING_SECONDS * NANO, self._autoscale)
        for at, service in enumerate(self.topology.services):
            there, cpu = len(self.replicas(service.name)), float(self.tables.service["cpu"][at])
            long_ago = self._now - self._scaled.get(service.name, 0) >= SCALE_DOWN_SECONDS * NANO
            if cpu > SCALE_UP_ABOVE and there < MAX_REPLICAS and not service.store:
                self.resize(service.name, there + 1)
            elif cpu < SCALE_DOWN_BELOW and there > service.replicas and long_ago:
                self.resize(service.name, there - 1)
            else:
                continue
            self._scaled[service.name] = self._now

    # -- tables --------------------------------------------------------------------------------------------------

    def _start_nano(self, service: str) -> int:
        return round(self.topology.service(service).start_seconds * NANO)

    def _order_to(self, place: int, order: int) -> None:
        self.tables.replica["order"][place] = order

    def _set_batch_places(self) -> None:
        caller, *called = BATCH_CALL
        edges = [(edge.caller, edge.callee) for edge in self.topology.edges]
        if (caller, called[0]) in edges:
            self.tables.number[BATCH_EDGE] = edges.index((caller, called[0]))
            self.tables.number[BATCH_ENDPOINT] = endpoint_places(self.topology)[called[0], called[1], called[2]]

    def _say(self, service: str, code: int, detail: int) -> None:
        """A log line that the kernel has no part in."""
        at = int(self.tables.number[LOGS])
        if at == len(self.tables.logs):
            self._grow()
        self.tables.logs[at] = (self._now, self.topology.names.index(service), code, -1, detail)
        self.tables.number[LOGS] += 1

    def _grow(self) -> None:
        """Make room for more output."""
        t, number = self.tables, self.tables.number
        larger = {
            name: np.concatenate([rows, np.zeros_like(rows)])
            for name, used in (("calls", CALLS), ("ids", CALLS), ("spans", SPANS), ("logs", LOGS), ("gauges", GAUGES),
                               ("gauge_times", GAUGES))
            for rows in (getattr(t, name),)
            if 2 * number[used] >= len(rows)
        }  # fmt: skip
        self.tables = t._replace(**larger)
