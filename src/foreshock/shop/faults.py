"""What can break in the shop, how badly, and the truth about it.

A fault changes numbers of the dynamics (how much work a request is, who holds the cores, how many connections are
left); what follows from it is left to the shop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from foreshock.errors import ConfigError
from foreshock.shop.topology import SHOP, Topology

FaultKind = Literal[
    "error_spike", "latency", "cpu_hog", "memory_leak", "crash", "traffic_surge", "slow_dependency", "retry_storm",
    "disk_fill", "pool_exhaustion", "bad_deploy",
]  # fmt: skip
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

Magnitude = Literal["small", "large"]
MAGNITUDES: tuple[Magnitude, ...] = get_args(Magnitude)

Feature = Literal["errors", "latency", "cpu", "memory", "availability", "traffic", "disk", "pool"]
"""What a fault moves first: a family of features."""

NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Effect:
    """What a fault changes while it lasts; the default is no change.

    `errors` = share of the service's answers that fail; `work` = factor on the work of each request; `wait` = wait
    that uses no core, exponential, its mean in means of the work; `stolen` = share of the cores of each replica;
    `memory_full_seconds`, `disk_full_seconds` = how long until a replica's memory, or the disk, is full; `surge` =
    factor on the requests from outside that reach the service; `timeout` = time-outs of its callers, in means of the
    time that it takes when all is quiet, with `retries`; `connections_left` of each pool of the service; `down` =
    share of its replicas.
    """

    errors: float = 0.0
    work: float = 1.0
    wait: float = 0.0
    stolen: float = 0.0
    memory_full_seconds: float = 0.0
    disk_full_seconds: float = 0.0
    surge: float = 1.0
    timeout: float = 0.0
    retries: int = 0
    connections_left: int = -1
    down: float = 0.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: the feature family it moves first, what it does at which magnitude, how long it usually lasts.

    `gradual` = it builds up, rather than being there at once. `targets` are services that suit it, for schedules;
    others that can have it may be given by hand.
    """

    feature: Feature
    small: Effect
    large: Effect
    words: str
    targets: tuple[str, ...]
    duration_seconds: float = 120.0
    gradual: bool = False

    def effect(self, magnitude: Magnitude) -> Effect:
        """What it changes."""
        return self.small if magnitude == "small" else self.large


_INSIDE = ("search", "catalog", "checkout", "cart", "auth", "recommend", "inventory", "payment", "shipping")

CATALOGUE: dict[FaultKind, Kind] = {
    "error_spike": Kind(
        "errors", Effect(errors=0.08), Effect(errors=0.4), "a share of the answers is 500", _INSIDE,
    ),
    "latency": Kind(
        "latency", Effect(wait=1.5), Effect(wait=6.0),
        "every request waits for something that uses no core, such as a lock", _INSIDE,
    ),
    "cpu_hog": Kind(
        "cpu", Effect(stolen=0.6), Effect(stolen=0.92), "another process takes a share of the cores",
        ("gateway", "search", "catalog", "recommend", "auth", "inventory"),
    ),
    "memory_leak": Kind(
        "memory", Effect(memory_full_seconds=600.0), Effect(memory_full_seconds=100.0),
        "memory is lost until the replica is killed for it, starts again and loses memory again",
        ("search", "catalog", "checkout", "cart", "recommend", "inventory"), 240.0, True,
    ),
    "crash": Kind(
        "availability", Effect(down=0.5), Effect(down=1.0),
        "half of the replicas, at least one, or all of them die and fall over each time they start",
        (*_INSIDE, "redis"), 60.0,
    ),
    "traffic_surge": Kind(
        "traffic", Effect(surge=2.5), Effect(surge=6.0), "requests from outside that reach the service are multiplied",
        ("gateway", "search", "catalog", "cart"),
    ),
    "slow_dependency": Kind(
        "latency", Effect(work=3.0), Effect(work=10.0),
        "a store, or a service behind others, has more work with each request",
        ("postgres", "redis", "recommend", "inventory"),
    ),
    "retry_storm": Kind(
        "traffic", Effect(timeout=1.0, retries=3), Effect(timeout=0.5, retries=8),
        "callers give up before the service can answer, and try again", ("catalog", "recommend", "inventory", "auth"),
    ),
    "disk_fill": Kind(
        "disk", Effect(disk_full_seconds=600.0), Effect(disk_full_seconds=60.0),
        "the disk fills up; once it is full, writes fail",
        ("postgres", "checkout", "payment", "shipping", "redis"), 150.0, True,
    ),
    "pool_exhaustion": Kind(
        "pool", Effect(connections_left=1), Effect(connections_left=0),
        "connections to its store are not given back until, after 10 s, one is left or none",
        ("cart", "auth", "recommend", "inventory", "payment", "shipping"),
    ),
    "bad_deploy": Kind(
        "errors", Effect(errors=0.06, work=1.4), Effect(errors=0.3, work=3.0),
        "a new version, rolled out replica by replica, fails more and does more work", _INSIDE, 180.0, True,
    ),
}  # fmt: skip
"""All kinds with their magnitudes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something to break: `after_seconds` from now (or from the start) for `duration_seconds` (0 = the kind's own).

    Raises ConfigError where there is no such kind, magnitude or service, or the service cannot have it.
    """

    kind: FaultKind
    service: str
    magnitude: Magnitude = "large"
    after_seconds: float = 0.0
    duration_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in CATALOGUE:
            raise ConfigError(f"there is no fault {self.kind!r}; there are {', '.join(KINDS)}")
        if self.magnitude not in MAGNITUDES:
            raise ConfigError(f"a fault is small or large, not {self.magnitude!r}")
        if not (0.0 <= self.after_seconds < 1e9 and 0.0 <= self.duration_seconds < 1e9):
            raise ConfigError(f"fault {self.kind}: it begins and lasts 0 s or longer")

    @property
    def lasts_seconds(self) -> float:
        """How long it lasts."""
        return self.duration_seconds or CATALOGUE[self.kind].duration_seconds

    @property
    def effect(self) -> Effect:
        """What it changes."""
        return CATALOGUE[self.kind].effect(self.magnitude)


@dataclass(frozen=True, slots=True)
class Truth:
    """What was really broken: the fault's `service` is the cause; `suffers` are those that can feel it besides.

    `[since, until)` in Unix nanoseconds is when it was in force; queues may take longer to empty.
    """

    kind: FaultKind
    service: str
    feature: Feature
    magnitude: Magnitude
    since_unix_nano: int
    until_unix_nano: int
    suffers: tuple[str, ...]


def check(fault: Fault, topology: Topology = SHOP) -> None:
    """Raise ConfigError where the topology has no such service, or the service nothing that could break so."""
    if fault.service not in topology.names:
        raise ConfigError(f"the shop has no service {fault.service!r}; it has {', '.join(topology.names)}")
    effect = fault.effect
    if effect.connections_left >= 0 and not any(e.pool for e in topology.edges if e.caller == fault.service):
        raise ConfigError(f"{fault.service} has no pool of connections that could be exhausted")
    if effect.disk_full_seconds and not any(e.writes for e in topology.service(fault.service).endpoints):
        raise ConfigError(f"{fault.service} writes nothing: a full disk would not be felt")
    if effect.retries and fault.service == topology.entry:
        raise ConfigError(f"{fault.service} is called by customers, who do not try again")
    if fault.kind == "bad_deploy" and topology.service(fault.service).store:
        raise ConfigError(f"{fault.service} is a store, which is not deployed")


def suffering(fault: Fault, topology: Topology = SHOP) -> tuple[str, ...]:
    """Services that can feel a fault besides its own: those that call it, directly or not.

    A traffic surge is felt by all whom the requests pass, a retry storm also by those that the service calls.
    """
    found = dict.fromkeys(topology.upstream(fault.service))
    if fault.effect.surge != 1.0 or fault.effect.retries:
        found.update(dict.fromkeys(topology.downstream(fault.service)))
    return tuple(found)


def schedule(
    seed: int,
    *,
    first_seconds: float = 20.0,
    gap_seconds: float = 120.0,
    rounds: int = 1,
    kinds: Sequence[FaultKind] = KINDS,
    magnitude: Magnitude = "large",
) -> list[Fault]:
    """Faults of all kinds, one after the other, in an order and on services that the seed chooses.

    Between the end of one and the start of the next the shop has `gap_seconds` to recover. Of the first round those
    come first that are there at once, so that a demo need not wait for the others to build up.
    """
    chance = np.random.default_rng([seed, 0xFA])
    out: list[Fault] = []
    at = first_seconds
    for _ in range(rounds):
        order = [kinds[i] for i in chance.permutation(len(kinds))]
        if not out:
            order.sort(key=lambda kind: CATALOGUE[kind].gradual)
        for kind in order:
            targets = CATALOGUE[kind].targets
            fault = Fault(kind, targets[int(chance.integers(len(targets)))], magnitude, at)
            out.append(fault)
            at += fault.lasts_seconds + gap_seconds
    return out
