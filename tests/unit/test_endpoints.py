"""Endpoints as templates: what looks like an id, and what a service's paths teach."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from foreshock.stream import endpoints
from foreshock.stream.endpoints import DEPTH, PREFIX_FIELDS, PREFIXES, UNTOLD, VALUES, endpoint_text, is_id, template_of
from tests.unit.kernels import called

_is_id, _template_of = called(is_id), called(template_of)

IDS = [
    "8231", "7", "-5", "1.5", "2024-01-05", "20240105T120000Z", "550e8400-e29b-41d4-a716-446655440000",
    "deadbeef-cafe-1abc-aaaa-bbbbbbbbbbbb", "deadbe3f", "a1b2c3", "order-8231", "u4711x", "ada@example.org",
    "QmFzZTY0RGF0YXh4eA12", "5f4dcc3b5aa765d61d8327deb882cf99", "x" * 65, "1,2,3", "12:30",
]  # fmt: skip
WORDS = [
    "cart", "v1", "v2beta1", "V3", "v1.2.3", "users", "oauth2", "s3", "k8s", "utf8", "health-check", "deadbeef",
    "getUserProfileInformation", "hipstershop.CartService", "AddItem", "{id}", ":cart_id", "<user>", "*", "@me", "ü",
    "a", "2fa", "mp3", "GetCartV2", "_search", "favicon.ico", "index.html",
]  # fmt: skip


@dataclass
class Service:
    """Templates of a service, with a table of its own."""

    row: Any = field(default_factory=lambda: np.zeros(1, np.dtype([*PREFIX_FIELDS, ("collapses", "i4")], align=True)))
    scratch: Any = field(default_factory=lambda: np.zeros((3, PREFIXES), np.uint64))

    def template(self, endpoint: str) -> tuple[int, str]:
        data = np.frombuffer(endpoint.encode() + b"\0", np.uint8)
        key, ids = _template_of(self.row[0], data, 0, len(data) - 1, self.scratch)
        return int(key), endpoint_text(endpoint, int(ids))

    def text(self, endpoint: str) -> str:
        return self.template(endpoint)[1]


def looks_like_an_id(text: str) -> bool:
    """The rule in other words: `is_id`, slow and obvious."""
    if text[0] in "{:<*":
        return False
    if "@" in text[1:] or len(text.encode()) > endpoints.LONGEST:
        return True
    digits = sum(c in "0123456789" for c in text)
    letters = re.findall("[a-zA-Z]", text)
    if not digits or (re.match(r"[vV][0-9]", text) and len(text.encode()) <= 8):
        return False
    turns = len(re.findall(r"(?<=[0-9])[a-zA-Z]|(?<=[a-zA-Z])[0-9]", text))
    if digits >= 4 or turns >= 4 or (not letters and text.isascii()):
        return True
    if len(text.encode()) >= 8 and re.fullmatch(r"[0-9a-fA-F-]+", text):
        return True
    uppers = sum(c.isupper() for c in letters)
    return len(text.encode()) >= 16 and digits >= 2 and 0 < uppers < len(letters)


@pytest.mark.parametrize("text", IDS)
def test_ids(text: str) -> None:
    data = np.frombuffer(text.encode(), np.uint8)
    assert _is_id(data, 0, len(data))
    assert looks_like_an_id(text)


@pytest.mark.parametrize("text", WORDS)
def test_words(text: str) -> None:
    data = np.frombuffer(text.encode(), np.uint8)
    assert not _is_id(data, 0, len(data))
    assert not looks_like_an_id(text)


def test_the_rule_is_that_of_its_twin() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefxyzABCDEFXYZ0123456789--__..@{:éß%v"))
    for _ in range(4000):
        text = "".join(rng.choice(letters, int(rng.choice([1, 2, 3, 5, 8, 9, 16, 20, 70]))))
        data = np.frombuffer(text.encode(), np.uint8)
        assert bool(_is_id(data, 0, len(data))) == looks_like_an_id(text), text


@pytest.mark.parametrize(
    ("endpoint", "wanted"),
    [
        ("/cart/8231", "/cart/{id}"),
        ("/api/v2/users/42/orders/7", "/api/v2/users/{id}/orders/{id}"),
        ("/v1", "/v1"),
        ("/cart/8231?full=17#top", "/cart/{id}"),
        ("//cart///8231/", "/cart/{id}"),
        ("/", "/"),
        ("hipstershop.CartService/AddItem", "hipstershop.CartService/AddItem"),
        ("/users/ada@example.org/mail", "/users/{id}/mail"),
        ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/…"),
        ("/über/1", "/über/{id}"),
    ],
)
def test_templates(endpoint: str, wanted: str) -> None:
    assert Service().text(endpoint) == wanted


def test_paths_of_one_template_have_one_hash() -> None:
    service = Service()
    same = [service.template(path)[0] for path in ("/cart/1", "/cart/2/", "/cart/deadbe3f?x=1", "//cart/99")]
    others = [service.template(path)[0] for path in ("/cart", "/cart/1/items", "/carts/1", "/", "/1/cart", "/c/art/1")]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 1 + len(others)


def test_a_segment_that_takes_too_many_values_becomes_an_id() -> None:
    service = Service()
    words = [f"name{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(VALUES + 3)]
    texts = [service.text(f"/hello/{word}/mail") for word in words]
    assert texts[:VALUES] == [f"/hello/{word}/mail" for word in words[:VALUES]]
    assert texts[VALUES:] == ["/hello/{id}/mail"] * 3
    # Also those that were told apart before are one now, and their place in the table is free.
    assert service.text(f"/hello/{words[0]}/mail") == "/hello/{id}/mail"
    assert int(service.row[0]["collapses"]) == 1
    assert int(service.row[0]["prefixes"]) == 4
    assert service.text("/bye/namea") == "/bye/namea"


def test_ids_do_not_use_up_the_values_of_a_segment() -> None:
    service = Service()
    for k in range(1000):
        service.text(f"/cart/{k}")
    assert service.text("/cart/checkout") == "/cart/checkout"
    assert int(service.row[0]["collapses"]) == 0


def test_the_table_is_bounded_and_what_finds_no_room_is_untold() -> None:
    service = Service()
    letters = [chr(97 + k) for k in range(26)]
    keys = [service.template(f"/{a}/{b}/{c}")[0] for a in letters for b in letters for c in letters]
    assert UNTOLD in keys
    assert int(service.row[0]["prefixes"]) <= PREFIXES
    assert service.template("/a/a/a")[0] != UNTOLD


def test_what_was_learnt_is_what_a_plain_tree_learns() -> None:
    """Random paths against a tree of sets."""
    rng = np.random.default_rng(4)
    service = Service()
    children: dict[tuple[str, ...], set[str]] = {}
    collapsed: set[tuple[str, ...]] = set()
    for _ in range(6000):
        parts = [f"s{chr(97 + int(rng.integers(0, 26)))}" for _ in range(int(rng.integers(1, 3)))]
        if rng.random() < 0.5:
            parts[-1] += chr(97 + int(rng.integers(0, 26)))
        prefix: tuple[str, ...] = ()
        for part in parts:
            known = children.setdefault(prefix, set())
            if part not in known and prefix not in collapsed and len(known) == VALUES:
                collapsed.add(prefix)
                children = {p: c for p, c in children.items() if p[: len(prefix)] != prefix or p == prefix
                            or p[len(prefix)] == "{id}"}  # fmt: skip
            if prefix not in collapsed:
                known.add(part)
            prefix += ("{id}" if prefix in collapsed else part,)
        assert service.text("/" + "/".join(parts)) == "/" + "/".join(prefix)
    assert len(collapsed) >= 2


def test_no_path_is_longer_than_its_depth() -> None:
    text = Service().text("/" + "/".join("abcdefghijklmnop"))
    assert text.count("/") == DEPTH + 1
