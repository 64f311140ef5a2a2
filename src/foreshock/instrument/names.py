"""Who calls whom: how services learn one another's names."""

from __future__ import annotations

from collections.abc import Mapping

HEADER = "x-foreshock-service"
"""Names the service that calls, and says that the caller records the call: so it is counted once."""

UNKNOWN = "unknown"
"""The source of a call whose caller does not say who it is."""

NO_ANSWER, FAILED, CLIENT_GONE = 0, 500, 499
"""Statuses of calls without an answer of their own: none came, the application broke, the client hung up."""


def header_value(service: str) -> str:
    """The name of a service as a header can carry it.

    >>> header_value("café\\n")
    'caf??'
    """
    return "".join(letter if " " <= letter <= "~" else "?" for letter in service)


def target_of(host: str, port: int | None, services: Mapping[str, str]) -> str:
    """The service at a host: by `services` (`host:port` or `host` → name), else the host's own name.

    An address tells services apart by the port alone, and so does `localhost`: there the port belongs to the name.

    >>> target_of("payment", 8080, {}), target_of("127.0.0.1", 8001, {}), target_of("a1", 80, {"a1:80": "cart"})
    ('payment', '127.0.0.1:8001', 'cart')
    """
    place = f"{host}:{port}" if port else host
    found = services.get(place) or services.get(host)
    if found:
        return found
    return place if host == "localhost" or ":" in host or host.replace(".", "").isdigit() else host
