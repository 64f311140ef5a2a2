"""The switch by which a process of the shop is broken: what is on, what it changes, and that it ends by itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import msgspec

from foreshock.errors import BadInputError

VERSION = "1.0.0"
BAD_VERSION = "1.1.0"

USUAL_SECONDS = 60.0
MOST_SECONDS = 3600.0
MORE_RETRIES = 3
BAD_DEPLOY_SLOWER = 2.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it does, and its magnitude: the usual one, the least and the most."""

    does: str
    usual: float
    least: float
    most: float


KINDS: Mapping[str, Kind] = {
    "error_spike": Kind("this share of the answers is 500", 0.5, 0.001, 1),
    "latency": Kind("every request waits so many seconds more, and holds its worker", 0.5, 0.001, 30),
    "cpu_hog": Kind("something else burns this share of the service's cores", 0.8, 0.01, 0.95),
    "memory_leak": Kind("memory grows by so many MiB a second, to 256 MiB at most", 4, 0.1, 64),
    "crash": Kind("the process dies; it is back after `seconds`", 1, 1, 1),
    "traffic_surge": Kind("so many times as many requests come from outside", 4, 1, 20),
    "slow_dependency": Kind("the service's own work takes so many times as long", 10, 1, 100),
    "retry_storm": Kind(f"its calls give up so many times sooner, and are tried {MORE_RETRIES} times more", 20, 1, 1000),
    "disk_fill": Kind("so many MiB of its disk are taken a second; once it is full, writes fail", 4, 0.1, 64),
    "pool_exhaustion": Kind("this share of its connections to each other service is held", 1, 0.01, 1),
    "bad_deploy": Kind(
        f"a new version: this share of its answers is 500, its work takes {BAD_DEPLOY_SLOWER:g} times as long",
        0.2, 0.001, 1,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is on, or is to be: `seconds` is how long."""

    kind: str
    magnitude: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the faults that are on change for requests and calls."""

    error_ratio: float = 0.0
    added_seconds: float = 0.0
    slower_work: float = 1.0
    slower_cores: float = 1.0
    timeout_divisor: float = 1.0
    more_retries: int = 0
    version: str = VERSION
    traffic: float = 1.0


def conditions(faults: Iterable[Fault]) -> Conditions:
    """All that is on, taken together.

    >>> both = conditions([Fault("error_spike", 0.5, 60), Fault("bad_deploy", 0.5, 60)])
    >>> both.error_ratio, both.slower_work, both.version
    (0.75, 2.0, '1.1.0')
    """
    on = {fault.kind: fault.magnitude for fault in faults}
    good = (1.0 - on.get("error_spike", 0.0)) * (1.0 - on.get("bad_deploy", 0.0))
    bad_deploy = "bad_deploy" in on
    return Conditions(
        error_ratio=1.0 - good,
        added_seconds=on.get("latency", 0.0),
        slower_work=on.get("slow_dependency", 1.0) * (BAD_DEPLOY_SLOWER if bad_deploy else 1.0),
        slower_cores=1.0 / (1.0 - on.get("cpu_hog", 0.0)),
        timeout_divisor=on.get("retry_storm", 1.0),
        more_retries=MORE_RETRIES if "retry_storm" in on else 0,
        version=BAD_VERSION if bad_deploy else VERSION,
        traffic=on.get("traffic_surge", 1.0),
    )


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    magnitude: float | None = None
    seconds: float = USUAL_SECONDS


def parse(body: bytes, offered: Iterable[str]) -> Fault:
    """The fault that a request asks for; BadInputError if it is none of those offered, or out of its bounds."""
    kinds = {name: KINDS[name] for name in KINDS if name in set(offered)}
    try:
        asked = msgspec.json.decode(body, type=_Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        example = '{"kind": "error_spike", "magnitude": 0.5, "seconds": 60}'
        raise BadInputError("bad_fault", f"not a fault: {error}; such as {example}") from error
    kind = kinds.get(asked.kind)
    if kind is None:
        what = "cannot happen here" if asked.kind in KINDS else "is no kind of fault"
        raise BadInputError("bad_fault", f"{asked.kind[:40]} {what}: there are {', '.join(kinds)}")
    magnitude = kind.usual if asked.magnitude is None else asked.magnitude
    if not kind.least <= magnitude <= kind.most:
        bounds = f"{kind.least:g} to {kind.most:g}" if kind.least < kind.most else f"{kind.least:g}"
        raise BadInputError("bad_fault", f"the magnitude of {asked.kind} is {bounds}: {kind.does}")
    if not (math.isfinite(asked.seconds) and 0.0 < asked.seconds <= MOST_SECONDS):
        raise BadInputError("bad_fault", f"seconds must be more than 0, and {MOST_SECONDS:g} at most")
    return Fault(asked.kind, magnitude, asked.seconds)


Effect = Callable[[Fault], AbstractAsyncContextManager[None]]
"""What a fault does beyond the conditions: begins on entering, and is cleaned up on leaving."""


class Switch:
    """The faults of one process. Each is a task that breaks something, waits, and mends it.

    A kind that is on already is replaced. `effects` are what kinds do beyond `conditions`, by kind.
    """

    def __init__(self, offered: Iterable[str], effects: Mapping[str, Effect]) -> None:
        self.offered = tuple(offered)
        self.conditions = Conditions()
        self._effects = effects
        self._on: dict[str, tuple[Fault, float]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def put(self, fault: Fault) -> None:
        """Begin a fault; returns when it is on, raises what its beginning raised."""
        await self._end(fault.kind)
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks[fault.kind] = asyncio.create_task(self._run(fault, begun))
        await begun

    async def clear(self) -> None:
        """End all faults; returns when they are cleaned up."""
        for kind in tuple(self._tasks):
            await self._end(kind)

    def on(self) -> list[dict[str, Any]]:
        """The faults that are on, with the seconds that each still has."""
        now = asyncio.get_running_loop().time()
        return [
            {"kind": fault.kind, "magnitude": fault.magnitude, "seconds": fault.seconds, "left": round(until - now, 3)}
            for fault, until in self._on.values()
        ]

    async def _end(self, kind: str) -> None:
        task = self._tasks.pop(kind, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, fault: Fault, begun: asyncio.Future[None]) -> None:
        effect = self._effects.get(fault.kind)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(effect(fault) if effect else nullcontext())
            except (OSError, BadInputError) as error:
                begun.set_exception(error)
                return
            stack.callback(self._off, fault.kind)
            self._on[fault.kind] = fault, asyncio.get_running_loop().time() + fault.seconds
            self._judge()
            begun.set_result(None)
            await asyncio.sleep(fault.seconds)

    def _off(self, kind: str) -> None:
        del self._on[kind]
        self._judge()

    def _judge(self) -> None:
        self.conditions = conditions(fault for fault, _ in self._on.values())
