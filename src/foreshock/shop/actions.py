"""What an operator can do to the shop, and what that changes."""

from __future__ import annotations

from dataclasses import dataclass

from foreshock.errors import BadInputError
from foreshock.shop.dynamics_tables import MAX_REPLICAS
from foreshock.shop.shop import Shop


@dataclass(frozen=True, slots=True)
class Change:
    """What an action changed: `before` and `after` are its number (replicas, requests per second, version)."""

    action: str
    service: str
    before: float
    after: float
    at_unix_nano: int
    words: str


def restart(shop: Shop, service: str) -> Change:
    """Restart the replicas one after the other: memory and connections are free again, one that is down comes back."""
    count = len(_replicas(shop, service))
    for active in [one for one in shop.active if one.fault.service == service and one.fault.effect.down]:
        shop.end(active)
    for edge, one in zip(shop.tables.edge, shop.topology.edges, strict=True):
        if one.caller == service:
            edge["lost"] = 0.0
    shop.roll(service)
    return Change("restart", service, count, count, shop.now_unix_nano, f"{count} replicas restart one by one")


def scale(shop: Shop, service: str, replicas: int) -> Change:
    """Give a service 1 to 8 replicas."""
    before = len(_replicas(shop, service))
    if not 1 <= replicas <= MAX_REPLICAS:
        raise BadInputError("bad_replicas", f"{service} can have 1 to {MAX_REPLICAS} replicas, not {replicas}")
    shop.resize(service, replicas)
    return Change("scale", service, before, replicas, shop.now_unix_nano, f"{before} → {replicas} replicas")


def limit(shop: Shop, service: str, per_second: float, caller: str = "") -> Change:
    """Let in so many requests a second, from one caller or from all; 0 = as many as come. The others get 429."""
    _replicas(shop, service)
    if not 0.0 <= per_second < 1e9:
        raise BadInputError("bad_limit", f"a limit is 0 or more requests a second, not {per_second:g}")
    if caller:
        ends = [(edge.caller, edge.callee) for edge in shop.topology.edges]
        if (caller, service) not in ends:
            raise BadInputError("unknown_edge", f"{caller} does not call {service}")
        gate = shop.tables.edge[ends.index((caller, service))]
    else:
        gate = shop.tables.service[shop.topology.names.index(service)]
    before = float(gate["limit"])
    gate["limit"] = gate["tokens"] = per_second
    words = f"{per_second:g} requests/s from {caller or 'all'}" if per_second else f"no limit for {caller or 'anybody'}"
    return Change("limit", service, before, per_second, shop.now_unix_nano, words)


def roll_back(shop: Shop, service: str) -> Change:
    """Bring back the version before: what a bad deploy brought goes with it, replica by replica."""
    _replicas(shop, service)
    before = shop.versions[service]
    bad = [one for one in shop.active if one.fault.service == service and one.fault.kind == "bad_deploy"]
    for active in bad:
        shop.end(active)
    if not bad:
        shop.deploy(service, -1)
    after = shop.versions[service]
    words = "the bad version is gone" if bad else "the version before is rolled out; nothing was wrong with this one"
    return Change("roll_back", service, before, after, shop.now_unix_nano, words)


def _replicas(shop: Shop, service: str) -> list[int]:
    if service not in shop.topology.names:
        raise BadInputError("unknown_service", f"the shop has no service {service!r}")
    return shop.replicas(service)
