from __future__ import annotations

import gzip
from dataclasses import replace

import pytest

from foreshock.api.auth import Role, Token
from foreshock.api.services import Services
from foreshock.errors import RetryableError
from foreshock.types import Control, ControlKind
from tests.unit.api.rig import NOW, Answer, Client, Runtime, is_problem


def _control(client: Client, body: object, **headers: str) -> Answer:
    return client("POST", "/api/v1/control", json=body, headers=headers)


def test_control_records_are_completed_stamped_and_returned(services: Services, runtime: Runtime) -> None:
    client = Client(replace(services, tokens=(Token.of("ann", Role.OPERATOR, "s"),)))
    body = {"kind": "deploy", "matchers": {"service.name": "pay"}, "author": "somebody else"}
    answer = _control(client, body, Authorization="Bearer s")
    assert answer.status_code == 202
    (kept,) = runtime.controls
    assert answer.json() == {
        "kind": "deploy", "id": kept.id, "effective_unix_nano": NOW + 5, "matchers": {"service.name": "pay"},
        "author": "ann",
    }  # fmt: skip
    assert len(kept.id) == 32
    _control(client, {"kind": "deploy"}, **{"Authorization": "Bearer s", "Idempotency-Key": "k-1"})
    assert runtime.controls[1].id == "k-1"


def test_a_request_sent_again_is_told_once_and_answered_alike(services: Services, runtime: Runtime) -> None:
    tokens = (Token.of("ann", Role.OPERATOR, "s"), Token.of("bob", Role.OPERATOR, "t"))
    client = Client(replace(services, tokens=tokens))
    ann = {"Authorization": "Bearer s", "Idempotency-Key": "k"}
    first = _control(client, {"kind": "silence"}, **ann)
    services.clock.now += 10**9  # type: ignore[attr-defined]
    again = _control(client, {"kind": "silence"}, **ann)
    assert (again.status_code, again.json()) == (202, first.json()), "its beginning is not moved"
    assert len(runtime.controls) == 1
    _control(client, {"kind": "silence", "until_unix_nano": NOW + 10**11}, **ann)
    _control(client, {"kind": "silence"}, **{**ann, "Authorization": "Bearer t"})
    assert len(runtime.controls) == 3, "another request, and another caller"
    refused = {"kind": "deploy", "until_unix_nano": 9}
    assert [_control(client, refused, **ann).status_code for _ in range(2)] == [400, 400]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "nonsense"},
        {"kind": "deploy", "extra": 1},
        {"kind": "deploy", "effective_unix_nano": "now"},
        {"kind": "deploy", "effective_unix_nano": 9, "until_unix_nano": 9},
        {"kind": "label", "label": "true"},
        {"kind": "label", "matchers": {"service.name": "pay"}},
        {"kind": "forget"},
        [],
    ],
)
def test_control_records_that_make_no_sense(body: object, client: Client, runtime: Runtime) -> None:
    assert is_problem(_control(client, body), 400)["reason"] == "bad_control"
    assert runtime.controls == []


@pytest.mark.parametrize(
    "given", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_control_records_must_say_that_they_are_json(given: str, client: Client, runtime: Runtime) -> None:
    answer = client("POST", "/api/v1/control", content=b'{"kind": "deploy"}', headers={"Content-Type": given})
    assert is_problem(answer, 415)["reason"] == "unknown_content_type"
    assert runtime.controls == []


def test_control_records_are_bounded_and_may_be_packed(client: Client, runtime: Runtime) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8", "Content-Encoding": "gzip"}
    for body, status in ((b'{"kind": "deploy"}', 202), (b'{"kind": "deploy"}'.ljust(200_001), 413)):
        answer = client("POST", "/api/v1/control", content=gzip.compress(body), headers=headers)
        assert answer.status_code == status
    assert len(runtime.controls) == 1


def test_a_control_record_that_finds_no_room_is_503(services: Services) -> None:
    def full(control: Control) -> Control:
        raise RetryableError("starting")

    answer = _control(Client(replace(services, control=full)), {"kind": "deploy"})
    is_problem(answer, 503)
    assert answer.headers["retry-after"] == "1"


def test_numbers_and_texts_are_bounded(client: Client, runtime: Runtime) -> None:
    for more in (
        {"until_unix_nano": 1 << 63}, {"effective_unix_nano": -1}, {"comment": "x" * 2001}, {"id": "i" * 201},
        {"matchers": {f"l{n}": "v" for n in range(51)}},
    ):  # fmt: skip
        assert is_problem(_control(client, {"kind": "deploy", **more}), 400)["reason"] == "bad_control", more
    assert runtime.controls == []


def test_an_interval_is_ended_in_the_name_of_who_asks(services: Services) -> None:
    known = Control(ControlKind.SILENCE, "night watch", NOW - 5, NOW, {"service.name": "pay"}, author="ann")
    asked: list[tuple[str, str]] = []

    def end(name: str, author: str) -> Control | None:
        asked.append((name, author))
        return known if name == known.id else None

    tokens = (Token.of("ann", Role.OPERATOR, "s"), Token.of("vic", Role.VIEWER, "v"))
    client = Client(replace(services, tokens=tokens, end_control=end))
    path, ann = "/api/v1/control/night%20watch", {"Authorization": "Bearer s"}
    is_problem(client("DELETE", path), 401)
    is_problem(client("DELETE", path, headers={"Authorization": "Bearer v"}), 403)
    assert asked == []
    answer = client("DELETE", path, headers=ann)
    assert (answer.status_code, answer.json()["until_unix_nano"]) == (202, NOW)
    assert asked == [("night watch", "ann")]
    is_problem(client("DELETE", "/api/v1/control/none", headers=ann), 404)


def test_who_asks_is_told_what_they_may(services: Services) -> None:
    everybody = Client(services).get("/api/v1/me")
    assert everybody == {"name": "", "role": "admin", "may": ["read", "ingest", "control"]}
    client = Client(replace(services, tokens=(Token.of("vic", Role.VIEWER, "v"),)))
    assert client.get("/api/v1/me", headers={"Authorization": "Bearer v"}) == {
        "name": "vic", "role": "viewer", "may": ["read"],
    }  # fmt: skip
