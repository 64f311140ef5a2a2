"""Dead letters as messages show them; the rest needs a broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from foreshock.adapters.kafka import dead
from foreshock.adapters.kafka.letters import REDRIVEN, Letter, _open, letter_of
from foreshock.cli.dlq import _short, _text, as_data


@dataclass
class Message:
    """A message as the client gives it."""

    value_: bytes | None
    key_: bytes | None = None
    headers_: list[tuple[str, bytes]] = field(default_factory=list)
    at: tuple[str, int, int] = ("events", 3, 41)

    def value(self) -> bytes | None:
        return self.value_

    def key(self) -> bytes | None:
        return self.key_

    def headers(self) -> list[tuple[str, bytes]]:
        return self.headers_

    def topic(self) -> str:
        return self.at[0]

    def partition(self) -> int:
        return self.at[1]

    def offset(self) -> int:
        return self.at[2]

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_640_000_000_000


def died(message: Message, offset: int = 0, reason: str = "bad_json") -> Message:
    """The message in the topic of letters."""
    out = dead.dead_letter(message, reason, "the JSON is broken")
    return Message(out.value, out.key, list(out.headers), (out.topic, 0, offset))


def opened(message: Message) -> Letter:
    letter = letter_of("events.dlq", 0, message.offset(), message.key(), message.value(), message.headers())
    assert letter is not None
    return letter


def marker(place: str, offset: int) -> Message:
    return Message(None, None, [(REDRIVEN, place.encode())], ("events.dlq", 0, offset))


def test_a_letter_is_the_message_that_died_and_why() -> None:
    letter = opened(died(Message(b"{", b"u-7", [("traceparent", b"x"), ("a", b"b")]), 5))
    assert letter == Letter(
        "events.dlq", 0, 5, "events", 3, 41, 1_640_000_000_000, "bad_json", "the JSON is broken", b"u-7", b"{",
        (("traceparent", b"x"), ("a", b"b")), 0,
    )  # fmt: skip
    assert letter.place == "0:5"


def test_what_somebody_else_wrote_there_is_a_letter_without_a_reason() -> None:
    letter = opened(Message(b"x", None, [], ("events.dlq", 0, 1)))
    assert (letter.topic, letter.reason, letter.from_offset) == ("events", "unknown", -1)
    assert letter_of("events.dlq", 0, 1, None, b"x", [(dead.OFFSET, b"many")]) is None


def test_what_has_been_redriven_is_left_out_and_what_died_again_is_not() -> None:
    first, second = died(Message(b"1"), 0), died(Message(b"2"), 1)
    again = died(Message(b"1", None, [(REDRIVEN, b"0:0")]), 3)
    messages: list[Any] = [first, second, marker("0:0", 2), again]
    assert [one.place for one in _open("events.dlq", messages)] == ["0:1", "0:3"]
    # A marker may come before the letter when partitions are read: it counts all the same.
    assert [one.place for one in _open("events.dlq", messages[::-1])] == ["0:3", "0:1"]
    # A letter that had no value of its own is no marker.
    assert [
        one.place
        for one in _open("events.dlq", [died(Message(None), 0), died(Message(None, None, [(REDRIVEN, b"1:1")]), 1)])
    ] == ["0:0", "0:1"]


def test_a_cut_letter_says_so() -> None:
    letter = opened(died(Message(b"x" * (dead.LARGEST + 1))))
    assert letter.cut == dead.LARGEST + 1
    assert len(letter.value or b"") == dead.LARGEST


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "(none)"), (b"a\nb", "a\nb"), (b"\xff\x00", "(hex) ff00"), ("é".encode(), "é"), (b"\x1b[2J", "\\x1b[2J")],
)  # fmt: skip
def test_what_strangers_sent_is_shown_harmlessly(value: bytes | None, text: str) -> None:
    assert _text(value) == text


def test_a_letter_as_data_keeps_bytes_that_are_no_text() -> None:
    data = as_data(opened(died(Message(b"\xff", b"k", [("h", b"\xfe")]))))
    assert data["value_hex"] == "ff"
    assert "value" not in data
    assert data["key"] == "k"
    assert data["headers"] == {"h": "(hex) fe"}
    assert _short(opened(died(Message(b"x" * 1000)))) == "x" * 200 + "…"
