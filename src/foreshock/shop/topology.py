"""What the shop is built of: services, who calls whom and for what, and how much each can bear.

The simulation and the HTTP services are both made from this. Nothing here says how long a request takes under load:
that follows from the work it brings, the workers there are, and those who want them at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

WEB = "web"
"""Who calls from outside: the customers, no service of ours."""

REQUESTS_PER_SECOND = 10.0
"""Requests of the customers that the shop is built for, on average over a week."""

_MIB = 2**20
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Step:
    """A call that an endpoint makes: to which `service`, and for what.

    It is made with `probability` (a cache answers the others), `times` in a row. Where it fails and is `required`, the
    endpoint fails too; otherwise the answer goes out without what the call would have brought.
    """

    service: str
    method: str
    path: str
    probability: float = 1.0
    times: int = 1
    required: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a service can be asked for.

    `path` is a template (`/cart/{id}`), `ids` how many different ids there are. `work_seconds` is its own work, the
    mean of a lognormal distribution, on a replica that does nothing else; `share` its part of the requests from outside
    (gateway only). Of its answers `error_ratio` are 500 and `not_found_ratio` 404 when all is well. `writes` = it
    needs room on its service's disk.
    """

    method: str
    path: str
    work_seconds: float
    steps: tuple[Step, ...] = ()
    share: float = 0.0
    ids: int = 0
    writes: bool = False
    error_ratio: float = 0.001
    not_found_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service: `replicas` alike, each with `workers` (requests at once) on `cores`.

    A worker is held from the start of a request to its end, the waits for other services included. `spread` is the
    sigma of the lognormal distribution of its work, `cpu_ratio` how much of the work needs a core (the rest waits for
    a disk or for somebody outside). Requests that find all workers busy wait, at most `queue_limit`; the others are
    refused. Memory and disk are a replica's, in bytes: at rest, and at most. A replica is back `start_seconds` after
    it was stopped.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    replicas: int = 2
    workers: int = 8
    cores: float = 1.0
    spread: float = 0.6
    cpu_ratio: float = 0.9
    queue_limit: int = 200
    memory_bytes: int = 220 * _MIB
    memory_limit_bytes: int = 512 * _MIB
    disk_bytes: int = 2 * _GIB
    disk_limit_bytes: int = 10 * _GIB
    start_seconds: float = 8.0
    store: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """How one service calls another.

    A try is given up after `timeout_seconds` (the callee does not notice); one that failed is repeated up to `retries`
    times, about `backoff_seconds` later. `pool` = connections of each of the caller's replicas, 0 = as many as are
    wanted; a call that gets none within `timeout_seconds` fails.
    """

    caller: str
    callee: str
    timeout_seconds: float = 2.0
    retries: int = 1
    backoff_seconds: float = 0.05
    pool: int = 0


@dataclass(frozen=True)
class Topology:
    """Services and edges; `entry` is the service that customers call."""

    services: tuple[Service, ...]
    edges: tuple[Edge, ...]
    entry: str = "gateway"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The services' names, in order."""
        return tuple(service.name for service in self.services)

    def service(self, name: str) -> Service:
        """The service of this name; KeyError if there is none."""
        return self._by_name[name]

    def endpoint(self, service: str, method: str, path: str) -> Endpoint:
        """What a step points to; KeyError if there is none."""
        for one in self._by_name[service].endpoints:
            if (one.method, one.path) == (method, path):
                return one
        raise KeyError((service, method, path))

    def edge(self, caller: str, callee: str) -> Edge:
        """How one calls the other; KeyError if it does not."""
        return self._by_ends[caller, callee]

    def callees(self, name: str) -> tuple[str, ...]:
        """Whom a service calls."""
        return tuple(edge.callee for edge in self.edges if edge.caller == name)

    def callers(self, name: str) -> tuple[str, ...]:
        """Which services call this one, `web` left out."""
        return tuple(edge.caller for edge in self.edges if edge.callee == name and edge.caller != WEB)

    def upstream(self, name: str) -> tuple[str, ...]:
        """All services that reach this one by calls, nearest first: those that can suffer when it does.

        >>> SHOP.upstream("payment")
        ('checkout', 'gateway')
        """
        found: dict[str, None] = {}
        ring = [name]
        while ring:
            ring = [caller for one in ring for caller in self.callers(one) if caller not in found]
            found.update(dict.fromkeys(ring))
        return tuple(one for one in found if one != name)

    def downstream(self, name: str) -> tuple[str, ...]:
        """All services that this one reaches by calls, nearest first.

        >>> SHOP.downstream("checkout")
        ('inventory', 'payment', 'shipping', 'postgres')
        """
        found: dict[str, None] = {}
        ring = [name]
        while ring:
            ring = list(dict.fromkeys(callee for one in ring for callee in self.callees(one) if callee not in found))
            found.update(dict.fromkeys(ring))
        return tuple(found)

    def quiet_seconds(self, service: str, method: str, path: str) -> float:
        """How long a request takes on average when nobody else is there, the calls that it makes included."""
        endpoint = self.endpoint(service, method, path)
        return endpoint.work_seconds + sum(
            step.probability * step.times * self.quiet_seconds(step.service, step.method, step.path)
            for step in endpoint.steps
        )

    def rates(self, requests_per_second: float = REQUESTS_PER_SECOND) -> dict[tuple[str, str, str], float]:
        """Calls per second that each (service, method, path) gets when all goes well."""
        out = {(service.name, one.method, one.path): 0.0 for service in self.services for one in service.endpoints}

        def add(service: str, endpoint: Endpoint, rate: float) -> None:
            out[service, endpoint.method, endpoint.path] += rate
            for step in endpoint.steps:
                called = self.endpoint(step.service, step.method, step.path)
                add(step.service, called, rate * step.probability * step.times)

        for endpoint in self._by_name[self.entry].endpoints:
            add(self.entry, endpoint, requests_per_second * endpoint.share)
        return out

    def scaled(self, factor: float) -> Topology:
        """The same shop built for so many times the requests: larger replicas, pools and queues, no more of them."""
        if factor == 1.0:
            return self
        services = tuple(
            replace(
                one, workers=round(one.workers * factor), cores=one.cores * factor,
                queue_limit=round(one.queue_limit * factor), memory_bytes=round(one.memory_bytes * factor),
                memory_limit_bytes=round(one.memory_limit_bytes * factor), disk_bytes=round(one.disk_bytes * factor),
                disk_limit_bytes=round(one.disk_limit_bytes * factor),
            )
            for one in self.services
        )  # fmt: skip
        edges = tuple(replace(one, pool=round(one.pool * factor)) for one in self.edges)
        return replace(self, services=services, edges=edges)

    @cached_property
    def _by_name(self) -> dict[str, Service]:
        return {service.name: service for service in self.services}

    @cached_property
    def _by_ends(self) -> dict[tuple[str, str], Edge]:
        return {(edge.caller, edge.callee): edge for edge in self.edges}


_SESSION = Step("auth", "GET", "/sessions/{id}")

_GATEWAY = Service(
    "gateway",
    (
        Endpoint("GET", "/search", 0.020, (Step("search", "GET", "/search"),), share=0.21),
        Endpoint("GET", "/products/{id}", 0.016, (Step("catalog", "GET", "/products/{id}"),), share=0.30, ids=5000),
        Endpoint("GET", "/categories/{id}", 0.016, (Step("catalog", "GET", "/categories/{id}"),), share=0.11, ids=60),
        Endpoint("GET", "/cart/{id}", 0.016, (_SESSION, Step("cart", "GET", "/cart/{id}")), share=0.12, ids=20000),
        Endpoint(
            "POST", "/cart/{id}/items", 0.020, (_SESSION, Step("cart", "POST", "/cart/{id}/items")), share=0.09,
            ids=20000,
        ),
        Endpoint("POST", "/checkout", 0.024, (_SESSION, Step("checkout", "POST", "/orders")), share=0.10),
        Endpoint("POST", "/login", 0.018, (Step("auth", "POST", "/login"),), share=0.07),
    ),
    workers=48,
    queue_limit=400,
)  # fmt: skip

_SEARCH = Service(
    "search",
    (Endpoint("GET", "/search", 0.120, (Step("recommend", "GET", "/similar", 0.9, required=False),)),),
    spread=0.7,
    memory_bytes=340 * _MIB,
    memory_limit_bytes=768 * _MIB,
)

_CATALOG = Service(
    "catalog",
    (
        Endpoint(
            "GET", "/products/{id}", 0.060,
            (Step("inventory", "GET", "/stock/{id}", 0.7), Step("recommend", "GET", "/similar", 0.5, required=False)),
            ids=5000, not_found_ratio=0.01,
        ),
        Endpoint("GET", "/categories/{id}", 0.080, (Step("inventory", "GET", "/stock/{id}", 0.5),), ids=60),
    ),
)  # fmt: skip

_CHECKOUT = Service(
    "checkout",
    (
        Endpoint(
            "POST", "/orders", 0.090,
            (
                Step("inventory", "POST", "/reservations"),
                Step("payment", "POST", "/charges"),
                Step("shipping", "POST", "/shipments"),
                Step("payment", "GET", "/charges/{id}"),
                Step("inventory", "GET", "/stock/{id}"),
                Step("shipping", "GET", "/rates/{id}", required=False),
            ),
            writes=True,
        ),
    ),
)  # fmt: skip

_CART = Service(
    "cart",
    (
        Endpoint("GET", "/cart/{id}", 0.035, (Step("redis", "GET", "/keys/{id}", times=2),), ids=20000),
        Endpoint(
            "POST", "/cart/{id}/items", 0.045, (Step("redis", "GET", "/keys/{id}"), Step("redis", "PUT", "/keys/{id}")),
            ids=20000,
        ),
    ),
)  # fmt: skip

_AUTH = Service(
    "auth",
    (
        Endpoint("GET", "/sessions/{id}", 0.025, (Step("redis", "GET", "/keys/{id}"),), ids=8000),
        Endpoint("POST", "/login", 0.180, (Step("redis", "PUT", "/keys/{id}"),)),
    ),
    spread=0.4,
)

_RECOMMEND = Service(
    "recommend",
    (Endpoint("GET", "/similar", 0.110, (Step("postgres", "GET", "/products/{id}", 0.6),)),),
    spread=0.7,
    memory_bytes=480 * _MIB,
    memory_limit_bytes=1024 * _MIB,
)

_INVENTORY = Service(
    "inventory",
    (
        Endpoint("GET", "/stock/{id}", 0.040, (Step("postgres", "GET", "/stock/{id}"),), ids=5000),
        Endpoint("POST", "/reservations", 0.060, (Step("postgres", "PUT", "/stock/{id}", times=2),), writes=True),
    ),
)

_PAYMENT = Service(
    "payment",
    (
        Endpoint(
            "POST", "/charges", 0.170,
            (Step("postgres", "POST", "/payments"), Step("postgres", "PUT", "/payments/{id}")),
            writes=True, error_ratio=0.003,
        ),
        Endpoint("GET", "/charges/{id}", 0.040, (Step("postgres", "GET", "/payments/{id}"),), ids=20000),
    ),
    cpu_ratio=0.5,
)  # fmt: skip

_SHIPPING = Service(
    "shipping",
    (
        Endpoint("POST", "/shipments", 0.090, (Step("postgres", "POST", "/shipments"),), writes=True),
        Endpoint("GET", "/rates/{id}", 0.050, (Step("postgres", "GET", "/shipments/{id}", 0.5),), ids=300),
    ),
    cpu_ratio=0.7,
)

_POSTGRES = Service(
    "postgres",
    (
        Endpoint("GET", "/products/{id}", 0.022, ids=5000, error_ratio=0.0),
        Endpoint("GET", "/stock/{id}", 0.014, ids=5000, error_ratio=0.0),
        Endpoint("PUT", "/stock/{id}", 0.024, ids=5000, writes=True, error_ratio=0.0),
        Endpoint("POST", "/stock/bulk", 0.120, writes=True, error_ratio=0.0),
        Endpoint("GET", "/payments/{id}", 0.012, ids=20000, error_ratio=0.0),
        Endpoint("POST", "/payments", 0.026, writes=True, error_ratio=0.0),
        Endpoint("PUT", "/payments/{id}", 0.022, ids=20000, writes=True, error_ratio=0.0),
        Endpoint("GET", "/shipments/{id}", 0.014, ids=20000, error_ratio=0.0),
        Endpoint("POST", "/shipments", 0.024, writes=True, error_ratio=0.0),
    ),
    replicas=1,
    workers=60,
    cores=2.0,
    spread=0.8,
    cpu_ratio=0.7,
    memory_bytes=1536 * _MIB,
    memory_limit_bytes=4096 * _MIB,
    disk_bytes=40 * _GIB,
    disk_limit_bytes=100 * _GIB,
    start_seconds=12.0,
    store=True,
)

_REDIS = Service(
    "redis",
    (
        Endpoint("GET", "/keys/{id}", 0.003, ids=30000, error_ratio=0.0),
        Endpoint("PUT", "/keys/{id}", 0.004, ids=30000, writes=True, error_ratio=0.0),
    ),
    replicas=1,
    workers=32,
    spread=0.4,
    memory_bytes=700 * _MIB,
    memory_limit_bytes=2048 * _MIB,
    disk_bytes=1 * _GIB,
    disk_limit_bytes=8 * _GIB,
    start_seconds=4.0,
    store=True,
)

SHOP = Topology(
    services=(
        _GATEWAY, _SEARCH, _CATALOG, _CHECKOUT, _CART, _AUTH, _RECOMMEND, _INVENTORY, _PAYMENT, _SHIPPING,
        _POSTGRES, _REDIS,
    ),
    edges=(
        Edge(WEB, "gateway", timeout_seconds=10.0, retries=0),
        Edge("gateway", "search", timeout_seconds=3.0),
        Edge("gateway", "catalog", timeout_seconds=3.0),
        Edge("gateway", "checkout", timeout_seconds=6.0, retries=0),
        Edge("gateway", "cart", timeout_seconds=2.0),
        Edge("gateway", "auth", timeout_seconds=2.0),
        Edge("search", "recommend", timeout_seconds=2.0, retries=0),
        Edge("catalog", "recommend", timeout_seconds=2.0, retries=0),
        Edge("catalog", "inventory", timeout_seconds=2.0),
        Edge("checkout", "inventory", timeout_seconds=2.0),
        Edge("checkout", "payment", timeout_seconds=3.0),
        Edge("checkout", "shipping", timeout_seconds=2.0),
        Edge("cart", "redis", timeout_seconds=0.5, pool=8),
        Edge("auth", "redis", timeout_seconds=0.5, pool=8),
        Edge("recommend", "postgres", timeout_seconds=1.0, pool=5),
        Edge("inventory", "postgres", timeout_seconds=1.0, pool=5),
        Edge("payment", "postgres", timeout_seconds=1.0, pool=5),
        Edge("shipping", "postgres", timeout_seconds=1.0, pool=5),
    ),
)  # fmt: skip
"""The shop."""
