"""Who may do what, and which names this server answers to."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from foreshock.errors import ConfigError


class Role(StrEnum):
    """What a token may do.

    `viewer` reads; `ingest` posts events and nothing else; `operator` reads, posts events and control records;
    `admin` may do everything.
    """

    VIEWER = "viewer"
    INGEST = "ingest"
    OPERATOR = "operator"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a route asks for."""

    READ = "read"
    INGEST = "ingest"
    CONTROL = "control"


_MAY = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.INGEST: frozenset({Permission.INGEST}),
    Role.OPERATOR: frozenset(Permission),
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; its text never appears in messages or logs."""

    name: str
    role: Role
    digest: bytes

    @staticmethod
    def of(name: str, role: Role, secret: str) -> Token:
        """The token of a secret text; only its digest is kept."""
        return Token(name, role, hashlib.sha256(secret.encode()).digest())


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the token's name (empty without tokens) and role."""

    name: str
    role: Role

    def may(self, permission: Permission) -> bool:
        """Whether the role includes it."""
        return permission in _MAY[self.role]


def identify(tokens: Sequence[Token], authorization: str) -> Caller | None:
    """The caller of an `Authorization` header; without tokens everybody is admin, else None = not known.

    Every token is compared, in constant time, so that the answer's time tells nothing.
    """
    if not tokens:
        return Caller("", Role.ADMIN)
    scheme, _, secret = authorization.partition(" ")
    given = hashlib.sha256(secret.strip().encode("latin-1", "replace")).digest()
    found: Token | None = None
    for token in tokens:
        if hmac.compare_digest(token.digest, given):
            found = token
    if found is None or scheme.lower() != "bearer":
        return None
    return Caller(found.name, found.role)


def check_bind(host: str, tokens: Collection[Token]) -> None:
    """Raise ConfigError where others could reach the server and nothing would ask who they are."""
    if not is_loopback(host) and not tokens:
        raise ConfigError(
            f"binding to {host} wants an API token with a role: set one in http.tokens, or bind to 127.0.0.1",
            key="http.listen",
        )


def is_loopback(host: str) -> bool:
    """Whether a host, without port, is this machine and no other: `localhost`, `127.0.0.0/8`, `::1`."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Against DNS rebinding and foreign pages: which `Host` and `Origin` headers are let in.

    On a loopback bind a page of another site must not reach us through the visitor's browser: `Host` must name this
    machine or one of `hosts`, and so must `Origin` where there is one. On other binds `Host` must be one of `hosts`
    where there are any; there, tokens keep strangers out.
    """

    loopback: bool
    hosts: frozenset[str] = frozenset()

    def admits(self, host: str, origin: str | None) -> bool:
        """Whether a request with these headers is let in."""
        if not self.loopback and not self.hosts:
            return True
        if not self._known(_hostname("//" + host)):
            return False
        return origin is None or not self.loopback or self._known(_hostname(origin))

    def _known(self, name: str) -> bool:
        return bool(name) and (name in self.hosts or (self.loopback and is_loopback(name)))


def _hostname(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""
