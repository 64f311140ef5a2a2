"""What is new, for those who listen: alerts, how entities stand, points of series.

A listener that cannot keep up gets fewer, newer updates and is told how many it did not get (`skipped`); alerts are
never skipped: they are sent on from the store, by their place in the alert stream. Nobody waits for anybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import msgspec
import numpy as np
from starlette.concurrency import run_in_threadpool

from foreshock.adapters.sql import Store
from foreshock.errors import ForeshockError
from foreshock.runtime.views import Views
from foreshock.types import Alert, label_text

TICK_SECONDS = 0.25
"""How often points are looked for."""
ENTITIES_SECONDS = 1.0
"""How often it is told how entities stand."""
MOST_CLIENTS = 1200
MOST_SERIES = 64
MOST_ENTITIES = 2000
KEPT_ALERTS = 1000
"""Transitions that are kept in memory; older ones come from the store."""

_encode = msgspec.json.Encoder().encode


class Subscribe(msgspec.Struct, forbid_unknown_fields=True):
    """What a listener asks for; each such message takes the place of the last.

    `topics` are `alerts` and `entities`; `series` are (entity, feature) pairs; `after` the last id of an alert that it
    has, so that it misses none; without, it gets those that are new from now on. `token` says who it is.
    """

    topics: list[str] = []
    series: list[tuple[str, str]] = []
    after: int | None = None
    token: str = ""


def plainly(alerts: Sequence[Alert]) -> list[dict[str, Any]]:
    """Alerts as JSON, with nothing beside them."""
    return [alert.to_json() for alert in alerts]


@dataclass(slots=True, eq=False)
class Listener:
    """One who listens; `wake` is set when there may be something for it."""

    topics: frozenset[str] = frozenset()
    series: dict[tuple[str, str], int] = field(default_factory=dict)
    alerts_after: int = 0
    entities_version: int = 0
    points_version: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Full(Exception):
    """There are too many listeners."""


class Hub:
    """Looks for what is new, in the server's event loop, while anybody listens.

    `standing` is told with the entities: how the process stands. `told` writes alerts as the API does.
    """

    def __init__(
        self,
        views: Views,
        store: Store,
        standing: Callable[[], dict[str, Any]] = dict,
        told: Callable[[Sequence[Alert]], list[dict[str, Any]]] = plainly,
        most: int = MOST_CLIENTS,
    ) -> None:
        self.views, self.store, self.standing, self.told, self.most = views, store, standing, told, most
        self._listeners: set[Listener] = set()
        self._alerts: deque[tuple[int, bytes]] = deque(maxlen=KEPT_ALERTS)
        self._seq = 0
        self._entities = b""
        self._version = self._ticks = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    def woken(self) -> None:
        """Alerts were committed; called from any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just closed
                loop.call_soon_threadsafe(self._new.set)

    def close(self) -> None:
        """Let everybody go; called from any thread."""
        self._closed = True
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just closed
                loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for listener in list(self._listeners):
            listener.wake.set()

    @property
    def count(self) -> int:
        """How many listen."""
        return len(self._listeners)

    async def join(self) -> Listener:
        """A new listener, who has asked for nothing yet. Raises Full."""
        if len(self._listeners) >= self.most:
            raise Full
        listener = Listener()
        self._listeners.add(listener)
        if self._pump is None or self._pump.done():
            self._loop, self._new = asyncio.get_running_loop(), asyncio.Event()
            self._alerts.clear()
            self._seq = await run_in_threadpool(self._begin)
            if self._pump is None or self._pump.done():  # none was started meanwhile
                self._pump = asyncio.create_task(self._run())
        listener.alerts_after = self._seq
        return listener

    def _begin(self) -> int:
        """What the first listener is told at once, and the id that alerts go on from; runs in a worker thread."""
        self._take_entities()
        return self.store.last_event()

    def leave(self, listener: Listener) -> None:
        """It listens no more."""
        self._listeners.discard(listener)

    def subscribe(self, listener: Listener, asked: Subscribe) -> None:
        """From now on it is told this; series begin with what comes next."""
        listener.topics = frozenset(asked.topics)
        now = self.views.newest()
        wanted = [(entity, feature) for entity, feature in asked.series[:MOST_SERIES]]
        listener.series = {pair: listener.series.get(pair, now) for pair in wanted}
        if asked.after is not None:
            listener.alerts_after = min(asked.after, self._seq)  # a store that began anew counts anew
        listener.entities_version = 0
        listener.wake.set()

    async def updates(self, listener: Listener) -> AsyncIterator[tuple[int | None, bytes]]:
        """Messages for a listener with the id of the alert that they carry, until it is no longer asked for."""
        yield None, _encode({"topic": "hello", "id": listener.alerts_after})
        while True:
            await listener.wake.wait()
            listener.wake.clear()
            if self._closed:
                return
            if "alerts" in listener.topics:
                async for seq, message in self._alerts_for(listener):
                    yield seq, message
            if "entities" in listener.topics and listener.entities_version != self._version:
                before, listener.entities_version = listener.entities_version, self._version
                skipped = self._version - before - 1 if before else 0
                yield None, self._entities.replace(b'"skipped":0', b'"skipped":%d' % skipped, 1)
            if listener.series:
                points = self._points_for(listener)
                if points is not None:
                    yield None, points

    async def _alerts_for(self, listener: Listener) -> AsyncIterator[tuple[int, bytes]]:
        """Every transition that it does not have, oldest first: from memory, or where that is too new, the store."""
        while listener.alerts_after < self._seq:
            oldest = self._alerts[0][0] if self._alerts else self._seq + 1
            if oldest <= listener.alerts_after + 1:
                found = self._newer(listener.alerts_after)
            else:
                try:
                    found = await run_in_threadpool(self._read, listener.alerts_after)
                except ForeshockError:
                    return  # the next tick tries again
            if not found:
                listener.alerts_after = self._seq
                return
            for seq, message in found:
                listener.alerts_after = seq
                yield seq, message

    def _newer(self, after: int) -> list[tuple[int, bytes]]:
        """Kept transitions behind `after`; looked for from the end, since most listeners have all but the last."""
        return list(takewhile(lambda one: one[0] > after, reversed(self._alerts)))[::-1]

    def _read(self, after: int) -> list[tuple[int, bytes]]:
        """Transitions behind `after`, written; runs in a worker thread."""
        events = self.store.events(after, KEPT_ALERTS)
        written = self.told([alert for _, alert in events]) if events else []
        return [
            (seq, _encode({"topic": "alerts", "id": seq, "alert": alert}))
            for (seq, _), alert in zip(events, written, strict=True)
        ]

    def _points_for(self, listener: Listener) -> bytes | None:
        """Points of its series since those that it has; one message, however many ticks it did not take."""
        skipped = max(0, self._ticks - listener.points_version - 1) if listener.points_version else 0
        listener.points_version = self._ticks
        found = []
        for (entity, feature), after in list(listener.series.items()):
            detail = self.views.since(entity, feature, after)
            if detail is None or not len(detail.points):
                continue
            points = detail.points
            listener.series[entity, feature] = int(points["time_unix_nano"][-1])
            found.append(
                {
                    "entity": entity,
                    "feature": feature,
                    "time_unix_seconds": (points["time_unix_nano"] / 1e9).tolist(),
                    **{name: points[name].tolist() for name in ("value", "expected", "low", "high", "anomalous")},
                    "status": points["status"].tolist(),
                    "detectors": {name: np.exp(one["strength"]).tolist() for name, one in detail.opinions.items()},
                }
            )
        return _encode({"topic": "series", "skipped": skipped, "series": found}) if found else None

    async def _run(self) -> None:
        """Look for what is new until nobody listens."""
        loop = asyncio.get_running_loop()
        due = loop.time() + ENTITIES_SECONDS
        while self._listeners:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._new.wait(), TICK_SECONDS)
            self._new.clear()
            await self._take_alerts()
            self._ticks += 1
            if loop.time() >= due:
                due = loop.time() + ENTITIES_SECONDS
                await run_in_threadpool(self._take_entities)
            self._wake_all()

    async def _take_alerts(self) -> None:
        try:
            found = await run_in_threadpool(self._read, self._seq)
        except ForeshockError:
            return  # the next tick tries again
        self._alerts.extend(found)
        if found:
            self._seq = found[-1][0]

    def _take_entities(self) -> None:
        self._entities = self.entities_now()
        self._version += 1

    def entities_now(self) -> bytes:
        """How the process and every entity stand, as the message that listeners get."""
        found = self.views.entities(MOST_ENTITIES)
        ratio = np.exp([one.strength for one in found]).round(3).tolist()
        rows = [
            [label_text(one.entity), one.status.name.lower(), above, one.last_seen_unix_nano / 1e9, one.series]
            for one, above in zip(found, ratio, strict=True)
        ]
        return _encode({"topic": "entities", "skipped": 0, "standing": self.standing(), "entities": rows})
