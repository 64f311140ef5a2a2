"""The switch by which a process of the shop is broken: what is on, what it changes, and that it ends by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import msgspec

from foreshock.errors import BadInputError
from foreshock.shop.topology import Edge

VERSION = "1.0.0"
BAD_VERSION = "1.1.0"

USUAL_SECONDS = 60.0
MOST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it does, its two named magnitudes (`large` is the usual one), the least and the most.

    Where the simulated shop has the same, `small` and `large` are the same.
    """

    does: str
    small: float
    large: float
    least: float
    most: float


KINDS: Mapping[str, Kind] = {
    "error_spike": Kind("this share of its answers is 500", 0.08, 0.4, 0.001, 1),
    "latency": Kind("every request waits so many seconds more, and holds its worker", 0.1, 0.5, 0.001, 30),
    "cpu_hog": Kind("something else takes this share of its cores", 0.6, 0.92, 0.01, 0.95),
    "memory_leak": Kind("its memory grows by so many MiB a second, by 256 MiB at most", 0.5, 2.5, 0.1, 64),
    "crash": Kind("the process dies; it is back after `seconds`", 1, 1, 1, 1),
    "traffic_surge": Kind("so many times as many requests come from outside and reach it", 2.5, 6, 1, 20),
    "slow_dependency": Kind("its own work takes so many times as long", 3, 10, 1, 100),
    "retry_storm": Kind(
        "its callers give up after so many times what it takes when all is quiet, and try 3 times more (8 below 1)",
        1, 0.5, 0.01, 10,
    ),
    "disk_fill": Kind("so many MiB of its disk are taken a second; once it is full, writes fail", 0.05, 0.5, 0.01, 64),
    "pool_exhaustion": Kind("this share of its connections to others is not given back", 0.9, 1, 0.01, 1),
    "bad_deploy": Kind("a new version fails this share of its requests, and does more work", 0.06, 0.3, 0.001, 1),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is on, or is to be: `seconds` is how long.

    What happens to a service by what others do (`traffic_surge`, `retry_storm`) those others are told: theirs is
    `towards` it, and changes only what goes there.
    """

    kind: str
    magnitude: float
    seconds: float
    towards: str = ""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the faults that are on change for requests and calls.

    `impatience` = by callee, after how many times what it takes when all is quiet it is given up; `traffic` = by
    service, how many times as many requests from outside reach it.
    """

    error_ratio: float = 0.0
    added_seconds: float = 0.0
    slower_work: float = 1.0
    slower_cores: float = 1.0
    version: str = VERSION
    impatience: Mapping[str, float] = field(default_factory=dict)
    traffic: Mapping[str, float] = field(default_factory=dict)

    def tries(self, edge: Edge, quiet_seconds: float) -> tuple[float, int]:
        """How long a call over this edge is waited for, and how often it is tried again."""
        patience = self.impatience.get(edge.callee)
        if patience is None:
            return edge.timeout_seconds, edge.retries
        retries = max(edge.retries, 8 if patience < 1.0 else 3)
        return min(patience * quiet_seconds, edge.timeout_seconds), retries


def conditions(faults: Iterable[Fault]) -> Conditions:
    """All that is on, taken together.

    >>> both = conditions([Fault("error_spike", 0.5, 60), Fault("bad_deploy", 0.3, 60)])
    >>> round(both.error_ratio, 9), both.slower_work, both.version
    (0.65, 3.0, '1.1.0')
    """
    on = {(fault.kind, fault.towards): fault.magnitude for fault in faults}
    bad_deploy = on.get(("bad_deploy", ""), 0.0)
    good = (1.0 - on.get(("error_spike", ""), 0.0)) * (1.0 - bad_deploy)
    return Conditions(
        error_ratio=1.0 - good,
        added_seconds=on.get(("latency", ""), 0.0),
        slower_work=on.get(("slow_dependency", ""), 1.0) * (1.0 + bad_deploy / 0.15),
        slower_cores=1.0 / (1.0 - on.get(("cpu_hog", ""), 0.0)),
        version=BAD_VERSION if bad_deploy else VERSION,
        impatience={towards: size for (kind, towards), size in on.items() if kind == "retry_storm" and towards},
        traffic={towards: size for (kind, towards), size in on.items() if kind == "traffic_surge" and towards},
    )


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    magnitude: float | Literal["small", "large"] = "large"
    seconds: float = USUAL_SECONDS
    towards: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be broken in a process: kinds, and those kinds that can be `towards` others, with the others' names."""

    kinds: tuple[str, ...]
    towards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def fault(self, body: bytes) -> Fault:
        """The fault that a request asks for; BadInputError if it is none of those offered, or out of its bounds."""
        try:
            asked = msgspec.json.decode(body, type=_Asked)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _bad(f"not a fault: {error}; such as {_EXAMPLE}") from error
        kind = self._kind(asked)
        magnitude = getattr(kind, asked.magnitude) if isinstance(asked.magnitude, str) else asked.magnitude
        if not kind.least <= magnitude <= kind.most:
            bounds = f"{kind.least:g} to {kind.most:g}, small or large"
            raise _bad(f"the magnitude of {asked.kind} is {bounds}: {kind.does}")
        if not 0.0 < asked.seconds <= MOST_SECONDS:
            raise _bad(f"seconds must be more than 0, and {MOST_SECONDS:g} at most")
        return Fault(asked.kind, magnitude, asked.seconds, asked.towards)

    def _kind(self, asked: _Asked) -> Kind:
        others = self.towards.get(asked.kind, ())
        if asked.towards in others or (asked.kind in self.kinds and not asked.towards):
            return KINDS[asked.kind]
        if asked.towards or others:
            raise _bad(f"{asked.kind[:40]} can be towards {', '.join(others) or 'nobody'} here")
        what = "cannot happen here" if asked.kind in KINDS else "is no kind of fault"
        raise _bad(f"{asked.kind[:40]} {what}: there are {', '.join(self.kinds)}")


_EXAMPLE = '{"kind": "error_spike", "magnitude": 0.4, "seconds": 60}'


def _bad(says: str) -> BadInputError:
    return BadInputError("bad_fault", says)


_Key = tuple[str, str]

Effect = Callable[[Fault], AbstractAsyncContextManager[None]]
"""What a fault does beyond the conditions: begins on entering, and is cleaned up on leaving."""


class Switch:
    """The faults of one process. Each is a task that breaks something, waits, and mends it.

    One that is on already (of the same kind, towards the same service) is replaced. `effects` are what kinds do beyond
    `conditions`, by kind; they are left out for a fault that is towards others.
    """

    def __init__(self, offer: Offer, effects: Mapping[str, Effect]) -> None:
        self.offer = offer
        self.conditions = Conditions()
        self._effects = effects
        self._changing = asyncio.Lock()
        self._on: dict[_Key, tuple[Fault, float]] = {}
        self._tasks: dict[_Key, asyncio.Task[None]] = {}

    async def put(self, fault: Fault) -> None:
        """Begin a fault; returns when it is on, raises what its beginning raised."""
        key = (fault.kind, fault.towards)
        async with self._changing:
            await self._end(key)
            begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._tasks[key] = asyncio.create_task(self._run(key, fault, begun))
            await begun

    async def clear(self, kind: str = "", towards: str = "") -> None:
        """End all faults, or those of this kind and towards this service; returns when they are cleaned up."""
        async with self._changing:
            for key in tuple(self._tasks):
                if kind in ("", key[0]) and towards in ("", key[1]):
                    await self._end(key)

    def on(self) -> list[dict[str, Any]]:
        """The faults that are on, with the seconds that each still has."""
        now = time.monotonic()
        return [asdict(fault) | {"left": round(max(until - now, 0.0), 3)} for fault, until in self._on.values()]

    async def _end(self, key: _Key) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, key: _Key, fault: Fault, begun: asyncio.Future[None]) -> None:
        effect = None if fault.towards else self._effects.get(fault.kind)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(effect(fault) if effect else nullcontext())
            except (OSError, BadInputError) as error:
                begun.set_exception(error)
                return
            except BaseException:
                begun.cancel()
                raise
            stack.callback(self._off, key)
            self._on[key] = fault, time.monotonic() + fault.seconds
            self._judge()
            begun.set_result(None)
            await asyncio.sleep(fault.seconds)

    def _off(self, key: _Key) -> None:
        del self._on[key]
        self._judge()

    def _judge(self) -> None:
        self.conditions = conditions(fault for fault, _ in self._on.values())
