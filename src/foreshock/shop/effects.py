"""Faults as numbers of the dynamics: what is in force is written anew whenever one begins, ends or spreads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from foreshock.shop.dynamics_tables import GONE, MAX_REPLICAS, NANO, Tables
from foreshock.shop.faults import Fault
from foreshock.shop.topology import Topology

_LOSING_SECONDS = 10.0
"""How long it takes until all connections that are to be lost are lost."""


@dataclass(slots=True)
class Active:
    """A fault in force: the places of the replicas that it struck, and how much of the service it has come to."""

    fault: Fault
    truth: int
    replicas: tuple[int, ...]
    spread: float = 1.0


def replicas_of(t: Tables, service: int) -> list[int]:
    """The places of the replicas that a service has."""
    first = service * MAX_REPLICAS
    return [first + r for r in range(MAX_REPLICAS) if t.replica["state"][first + r] != GONE]


def apply(t: Tables, topology: Topology, active: Iterable[Active]) -> None:
    """Write what these faults change into the tables; all else is as when nothing is wrong."""
    _reset(t, topology)
    for one in active:
        _apply(t, topology, one)
    t.edge["lost"] = np.minimum(t.edge["lost"], t.edge["lost_most"])
    t.service["filled"][t.service["fill"] == 0.0] = 0.0


def _reset(t: Tables, topology: Topology) -> None:
    t.service["errors"] = t.service["wait"] = t.service["leak"] = t.service["fill"] = 0.0
    t.service["work"] = t.endpoint["surge"] = 1.0
    t.replica["stolen"], t.replica["held"] = 0.0, 0
    t.edge["losing"] = t.edge["lost_most"] = 0.0
    t.edge["timeout"] = [round(edge.timeout_seconds * NANO) for edge in topology.edges]
    t.edge["retries"] = [edge.retries for edge in topology.edges]


def _apply(t: Tables, topology: Topology, active: Active) -> None:
    effect, name = active.fault.effect, active.fault.service
    row = t.service[topology.names.index(name)]
    row["errors"] = 1.0 - (1.0 - row["errors"]) * (1.0 - effect.errors * active.spread)
    row["work"] *= effect.work**active.spread
    row["wait"] += effect.wait
    if effect.memory_full_seconds:
        row["leak"] += (row["memory_limit"] - row["memory"]) / effect.memory_full_seconds
    if effect.disk_full_seconds:
        row["fill"] += (row["disk_limit"] - row["disk"]) / effect.disk_full_seconds
    struck = list(active.replicas)
    t.replica["stolen"][struck] = np.maximum(t.replica["stolen"][struck], effect.stolen)
    if effect.down:
        t.replica["held"][struck[: max(1, int(effect.down * len(struck)))]] = 1
    if effect.surge != 1.0:
        t.endpoint["surge"][entrances(t, topology, name)] *= effect.surge
    for edge, one in zip(t.edge, topology.edges, strict=True):
        if effect.timeout and one.callee == name:
            edge["timeout"] = round(effect.timeout * mean_quiet_seconds(topology, name) * NANO)
            edge["retries"] = effect.retries
        if effect.connections_left >= 0 and one.caller == name and one.pool:
            edge["lost_most"] = max(one.pool * len(struck) - effect.connections_left, 0)
            edge["losing"] = edge["lost_most"] / _LOSING_SECONDS


def entrances(t: Tables, topology: Topology, service: str) -> list[int]:
    """The places of the endpoints of the entry through which requests from outside can reach a service."""
    entry = topology.service(topology.entry)
    first = int(np.flatnonzero(t.endpoint["service"] == topology.names.index(topology.entry))[0])
    return [
        first + at
        for at, endpoint in enumerate(entry.endpoints)
        if service == topology.entry
        or any(step.service == service or service in topology.downstream(step.service) for step in endpoint.steps)
    ]


def mean_quiet_seconds(topology: Topology, service: str) -> float:
    """How long a request to a service takes on average when all is quiet, over the requests that it gets."""
    rates = {key: rate for key, rate in topology.rates().items() if key[0] == service}
    total = sum(rates.values())
    return sum(rate * topology.quiet_seconds(*key) for key, rate in rates.items()) / total
