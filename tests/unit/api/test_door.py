from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from foreshock.api.auth import Doorkeeper, Permission, Role, Token, check_bind, identify, is_loopback
from foreshock.api.server import create_app, serve
from foreshock.api.services import Services
from foreshock.errors import ConfigError, PermanentError
from tests.unit.api.rig import EVENT, Client, Runtime, is_problem

ROUTES: Sequence[tuple[str, str, Permission | None]] = (
    ("GET", "/health", None), ("GET", "/readyz", None), ("GET", "/metrics", Permission.READ),
    ("GET", "/api/v1/alerts", Permission.READ), ("GET", "/api/v1/alerts/x", Permission.READ),
    ("GET", "/api/v1/entities", Permission.READ), ("GET", "/api/v1/series", Permission.READ),
    ("GET", "/api/v1/verdicts", Permission.READ),
    ("GET", "/api/v1/status", Permission.READ), ("POST", "/api/v1/events", Permission.INGEST),
    ("POST", "/collect", Permission.INGEST), ("POST", "/api/v1/collect", Permission.INGEST),
    ("POST", "/api/v1/control", Permission.CONTROL), ("GET", "/api/v1/control", Permission.READ),
    ("GET", "/actuator/health", None), ("GET", "/openapi.json", None), ("GET", "/api/v1/stream", Permission.READ),
    ("GET", "/api/v1/series/points", Permission.READ), ("GET", "/api/v1/strip", Permission.READ),
    ("GET", "/api/v1/map", Permission.READ), ("GET", "/api/v1/detectors", Permission.READ),
    ("GET", "/api/v1/sources", Permission.READ), ("GET", "/api/v1/budget", Permission.READ),
    ("GET", "/api/v1/config", Permission.READ), ("GET", "/api/v1/demo/faults", Permission.READ),
    ("POST", "/api/v1/demo/faults", Permission.CONTROL), ("DELETE", "/api/v1/demo/faults", Permission.CONTROL),
    ("POST", "/api/v1/alerts/x/label", Permission.CONTROL),
    ("DELETE", "/api/v1/control/y", Permission.CONTROL), ("GET", "/api/v1/me", Permission.READ),
    ("POST", "/v1/metrics", Permission.INGEST),
)  # fmt: skip

MAY = {
    Role.VIEWER: {Permission.READ},
    Role.INGEST: {Permission.INGEST},
    Role.OPERATOR: set(Permission),
    Role.ADMIN: set(Permission),
}


def test_every_route_asks_for_its_role(services: Services) -> None:
    tokens = tuple(Token.of(role, role, f"secret-{role}") for role in Role)
    client = Client(replace(services, tokens=tokens))
    for method, route, permission in ROUTES:
        # An answer that never ends is not asked for.
        path = route + ("?after=x" if route.endswith("/stream") else "")
        bare = client(method, path)
        if permission is None:
            assert bare.status_code == 200
            continue
        is_problem(bare, 401)
        assert bare.headers["www-authenticate"] == "Bearer"
        is_problem(client(method, path, headers={"Authorization": "Bearer secret-"}), 401)
        is_problem(client(method, path, headers={"Authorization": "Basic secret-admin"}), 401)
        for role in Role:
            answer = client(method, path, headers={"Authorization": f"Bearer secret-{role}"})
            assert (answer.status_code == 403) == (permission not in MAY[role]), (role, path)
            assert answer.status_code != 401


def test_every_route_of_the_application_is_in_the_table_and_in_the_reference(client: Client) -> None:
    reference = (Path(__file__).parents[3] / "docs/reference/http.md").read_text()
    routes = [route for route in client.app.routes if isinstance(route, Route)]
    served = {(method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    table = {(method, path.replace("/x", "/{episode}").replace("/y", "/{id}")) for method, path, _ in ROUTES}
    assert table == served - {("GET", one) for one in ("/", "/assets/{path:path}", "/theme.js", "/favicon.svg")}
    for method, path in table:
        assert f"`{method} {path}`" in reference


def test_tokens_are_not_kept_nor_shown() -> None:
    token = Token.of("t", Role.VIEWER, "hush")
    assert "hush" not in repr(token)
    assert identify([token], "Bearer hush") is not None
    assert identify([token], "bearer  hush ") is not None
    assert identify([token], "Bearer ☃") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_token(host: str) -> None:
    check_bind(host, ())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "a1.example", "localhost.example"])
def test_other_binds_want_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="wants an API token with a role"):
        check_bind(host, ())
    check_bind(host, [Token.of("t", Role.VIEWER, "s")])
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "origin", "admitted"),
    [
        ("127.0.0.1:8080", None, True),
        ("localhost", None, True),
        ("[::1]:8080", None, True),
        ("watch.example", None, True),
        ("evil.example", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("", None, False),
        ("[::1", None, False),
        ("localhost", "http://localhost:3000", True),
        ("localhost", "https://evil.example", False),
        ("localhost", "null", False),
    ],
)
def test_who_is_let_in_on_loopback(host: str, origin: str | None, admitted: bool, services: Services) -> None:
    client = Client(replace(services, hosts=frozenset({"watch.example"})))
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = client("GET", "/health", headers=headers)
    assert answer.status_code == (200 if admitted else 403)


def test_who_is_let_in_elsewhere() -> None:
    assert Doorkeeper(False).admits("anything", "https://other.example")
    assert Doorkeeper(False, frozenset({"w.example"})).admits("w.example:80", "https://other.example")
    assert not Doorkeeper(False, frozenset({"w.example"})).admits("other.example", None)
    assert not Doorkeeper(False, frozenset({"w.example"})).admits("localhost", None)


# The real server


@pytest.fixture
def start(services: Services) -> Iterator[Callable[..., str]]:
    servers = []

    def one(**changes: Any) -> str:
        server = serve(create_app(replace(services, **changes)), "127.0.0.1", 0)
        servers.append(server)
        server.start()
        return f"http://127.0.0.1:{server.port}"

    yield one
    for server in servers:
        server.stop()


def test_the_server_serves_over_a_socket(start: Callable[..., str], runtime: Runtime) -> None:
    with httpx.Client(base_url=start(), trust_env=False) as http:
        for _ in range(3):
            answer = http.post("/api/v1/events", content=EVENT, headers={"Content-Type": "application/json"})
            assert answer.status_code == 202
        assert json.loads(http.get("/health").content)["status"] == "ok"
        assert "server" not in answer.headers
        large = http.post("/api/v1/events", content=b"x" * 300_000, headers={"Content-Type": "application/json"})
        is_problem(large, 413)
        assert http.get("/health", headers={"Host": "evil.example"}).status_code == 403
    assert len(runtime.records) == 3


def test_a_body_that_does_not_come_is_given_up(start: Callable[..., str]) -> None:
    url = httpx.URL(start(body_seconds=0.05))
    assert url.port is not None
    head = b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", url.port), 10.0) as raw:
        raw.sendall(head + b"Content-Length: 100\r\n\r\n{")
        answer = b""
        while part := raw.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer


def test_a_port_in_use_is_said(services: Services) -> None:
    app = create_app(services)
    first = serve(app, "127.0.0.1", 0)
    with pytest.raises(PermanentError, match=rf"cannot listen on 127.0.0.1:{first.port}.*http\.listen"):
        serve(app, "127.0.0.1", first.port)
    first.stop()


def test_a_bind_that_others_reach_fails_without_a_token(services: Services) -> None:
    with pytest.raises(ConfigError, match="wants an API token"):
        serve(create_app(services), "0.0.0.0", 0)
