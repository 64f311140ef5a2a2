"""Puts a shop together: which services, on which ports, under one supervisor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from foreshock.errors import BadInputError, PermanentError
from foreshock.instrument import Recorder
from foreshock.shop.http import load, service
from foreshock.shop.http.process import HOST, reserve
from foreshock.shop.http.site import Site, chosen
from foreshock.shop.http.supervisor import Supervisor
from foreshock.shop.topology import SHOP, WEB

FIRST_PORT = 9701
_MOST_PORT = 65_535


class Shop:
    """The services `names` (none = all of them) on ports from `port` up, 0 = any free ones.

    Where the service that customers call is among them, so is the load generator, `web`, with `rate` requests a second.
    `collect` is where calls are recorded, "" = nowhere. `say` is told what happens to processes. Raises BadInputError
    for an unknown service, a URL that is none or a port that cannot be, PermanentError if a port is in use.
    """

    def __init__(
        self, names: Sequence[str] = (), *, port: int = FIRST_PORT, rate: float = 0.0, collect: str = "",
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        services = chosen(names)
        _check_url(collect)
        parts = (*services, *([WEB] if SHOP.entry in services else []))
        self._holders = _reserved(parts, port)
        ports = {name: int(holder.getsockname()[1]) for name, holder in self._holders.items()}
        self.site = Site({name: f"http://{HOST}:{ports[name]}" for name in parts}, collect, rate)
        builds = {name: partial(service.build, name, self.site) for name in services}
        if WEB in parts:
            builds[WEB] = partial(load.build, self.site)
        self._supervisor = Supervisor({name: (ports[name], builds[name]) for name in parts}, say)

    def describe(self) -> dict[str, Any]:
        """Where the services listen, and who they are, as JSON."""
        pids = self._supervisor.pids
        return {
            "services": [
                {"name": name, "url": url, "pid": pids[name], "calls": [edge.callee for edge in self.site.edges(name)]}
                for name, url in self.site.urls.items()
            ],
            "rate": self.site.rate if WEB in self.site.urls else 0.0,
            "collect": self.site.collect,
        }

    def run(self, started: Callable[[], None], seconds: float | None = None, lease: int | None = None) -> None:
        """Run it, as `Supervisor.run` says."""
        try:
            self._supervisor.run(started, seconds, lease)
        finally:
            for holder in self._holders.values():
                holder.close()


def _check_url(collect: str) -> None:
    try:
        if collect:
            Recorder(WEB, collect).close()
    except ValueError as error:
        raise BadInputError("bad_url", f"calls cannot be sent to {collect}: {error}") from error


def _reserved(parts: Sequence[str], first: int) -> dict[str, socket.socket]:
    if first and not 0 < first <= _MOST_PORT - len(parts) + 1:
        raise BadInputError("bad_port", f"{len(parts)} ports from {first} up are not to be had: 1 to {_MOST_PORT}")
    held: dict[str, socket.socket] = {}
    for place, name in enumerate(parts):
        port = first + place if first else 0
        try:
            held[name] = reserve(port)
        except OSError as error:
            for holder in held.values():
                holder.close()
            raise PermanentError(
                f"cannot listen on {HOST}:{port} for {name}: {error.strerror or error}; "
                f"end the program that has the port, or choose another --port (0 = any that are free)"
            ) from error
    return held
