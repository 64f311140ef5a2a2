"""What runs where: the services of one running shop, and what each is told of the others."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foreshock.errors import BadInputError
from foreshock.shop.topology import SHOP, Edge, Endpoint, Step, Topology


@dataclass(frozen=True, slots=True)
class Site:
    """The running services, by name, with their addresses; `web` is the load generator.

    `collect` is where calls are recorded, "" = nowhere; `rate` how many requests a second come from outside.
    """

    urls: Mapping[str, str]
    collect: str = ""
    rate: float = 0.0
    topology: Topology = SHOP

    def edges(self, caller: str) -> tuple[Edge, ...]:
        """How a service, or `web`, calls those that run."""
        return tuple(one for one in self.topology.edges if one.caller == caller and one.callee in self.urls)

    def called(self, step: Step) -> tuple[Endpoint, float]:
        """What a step asks for, and how many seconds that takes when all is quiet."""
        key = (step.service, step.method, step.path)
        return self.topology.endpoint(*key), self.topology.quiet_seconds(*key)

    def heartbeat(self, edge: Edge) -> tuple[Endpoint, float]:
        """What one service asks another when it has had nothing to ask for a while: to read, where it can."""
        steps = [
            step
            for endpoint in self.topology.service(edge.caller).endpoints
            for step in endpoint.steps
            if step.service == edge.callee
        ]
        return self.called(min(steps, key=lambda one: one.method != "GET"))


def chosen(names: Iterable[str], topology: Topology = SHOP) -> tuple[str, ...]:
    """The services to run, in the shop's order: those named, all if none is; BadInputError for an unknown one."""
    wanted = {name.strip() for name in names} - {""}
    for name in sorted(wanted.difference(topology.names)):
        near = difflib.get_close_matches(name, topology.names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(topology.names)}"
        raise BadInputError("unknown_service", f"the shop has no service {name}: {hint}")
    return tuple(name for name in topology.names if name in wanted or not wanted)
