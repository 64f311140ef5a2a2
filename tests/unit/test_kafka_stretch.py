"""Messages of a partition in columns: the same as they are one by one."""

from __future__ import annotations

import numpy as np
import pytest

from foreshock.adapters.kafka.decoding import decode_messages, decode_stretch
from foreshock.adapters.kafka.keys import Keys
from foreshock.adapters.kafka.schemas import schema_of
from foreshock.adapters.kafka.stretch import Plain, Stretch
from foreshock.adapters.mapping import MappingOptions
from foreshock.runtime.distributed import _between_errors
from foreshock.types import Series
from tests.unit.kafka_message import Message

AT = "telemetry", 3
HEADERS = [("ce_id", b"1")]
MESSAGES = [
    Message(b'{"a": 1}', b"k", offset=5, time=1000),
    Message(None, b"k", offset=6, time=1001),
    Message(b"", None, offset=8, time=1002),
    Message(b"x\ny", b"", headers=HEADERS, offset=9, time=1003),
    Message(b"\xff", b"long key", offset=10, time=999),
]


class Failure:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


def shown(messages: list[Message] | Stretch) -> list[tuple[object, ...]]:
    return [
        (one.offset(), one.timestamp()[1], one.key(), one.value(), one.headers(), one.topic(), one.partition())
        for one in messages
    ]


def test_messages_come_out_as_they_went_in() -> None:
    found = Stretch.of(MESSAGES)
    assert Stretch.of(found) is found
    assert (len(found), found.at) == (5, ("anomaly-events", 3))
    assert shown(found) == shown(MESSAGES)
    assert found[-1].value() == b"\xff"
    assert isinstance(found[0], Plain)
    assert found[0].error() is None
    assert found[1] is MESSAGES[1]
    with pytest.raises(IndexError):
        found[5]


@pytest.mark.parametrize("part", [slice(1, 4), slice(3, None), slice(2, 2), slice(-2, None)])
def test_a_part_of_them(part: slice) -> None:
    assert shown(Stretch.of(MESSAGES)[part]) == shown(MESSAGES[part])
    assert Stretch.of(MESSAGES)[part].bodies() == [one.value() for one in MESSAGES[part]]
    assert Stretch.of(MESSAGES)[part].headers() == [one.headers() for one in MESSAGES[part]]


def test_what_they_hold_in_lines_where_nothing_is_odd() -> None:
    plain = Stretch.of([MESSAGES[0], MESSAGES[2], MESSAGES[4]])
    assert plain.body() == b'{"a": 1}\n\n\xff'
    assert plain[:2].body() == b'{"a": 1}\n'
    assert plain[1:].body() is None
    assert plain.only(np.array([0, 2])).body() is None
    assert plain[:0].body() is None
    assert Stretch.of(MESSAGES).body() is None


def test_whether_messages_have_the_keys_that_they_should() -> None:
    names = Keys()
    series = [Series("v", (("user", name),)) for name in ("k", "long key", "other")]
    numbers = names.numbers(series)[:3]
    assert [names[at] for at in numbers] == [b"k", b"long key", b"other"]
    found = Stretch.of(MESSAGES).keyed(np.arange(5), np.array([0, -1, 1, 0, 1]), names)
    assert found.tolist() == [True, False, False, False, True]
    assert Stretch.of(MESSAGES).keyed(np.array([4, 0]), np.array([1, 2]), names).tolist() == [True, False]


def test_a_stretch_is_decoded_as_its_messages_are() -> None:
    values = [b'{"timestamp": 1640000000, "user": "u-%d", "v": %d}' % (at % 3, at) for at in range(70)]
    for odd in (None, b"nothing", b'{"timestamp": 1, "user": ""}'):
        if odd is not None:
            values[9] = odd
        messages = [Message(value, offset=at) for at, value in enumerate(values)]
        one = decode_stretch(Stretch.of(messages), schema_of("telemetry"), MappingOptions())
        other = decode_messages(values, [None] * len(values), schema_of("telemetry"), MappingOptions())
        assert one.samples.value.tolist() == other.samples.value.tolist()
        assert [one.samples.series[at] for at in one.samples.index] == [
            other.samples.series[at] for at in other.samples.index
        ]
        assert (one.message.tolist(), one.refused) == (other.message.tolist(), other.refused)


def test_errors_stand_behind_what_came_before_them() -> None:
    plain = [Plain(AT, at, 1000, b"k", b"v%d" % at) for at in range(4)]
    end = Plain(AT, 9, 0, None, None, None, Failure("_PARTITION_EOF"))
    bad = Plain(AT, 9, 0, None, None, None, Failure("_TRANSPORT"))

    def told(group: list[Plain]) -> list[tuple[list[int], object]]:
        odd = {at: one for at, one in enumerate(group) if one.error() is not None}
        columns = Stretch.of([Plain(AT, one.number, 0, one.name, one.body or b"") for one in group])
        columns.odd = odd
        found = [([one.offset() for one in stretch], behind) for stretch, behind in _between_errors(columns)]
        assert found == [([one.offset() for one in stretch], behind) for stretch, behind in _between_errors(group)]
        return found

    assert told(plain) == [([0, 1, 2, 3], None)]
    assert told([*plain, end]) == [([0, 1, 2, 3], end)]
    assert told([plain[0], end, plain[1]]) == [([0, 1], None)]
    assert told([plain[0], bad, end, plain[1], bad]) == [([0], bad), ([1], bad), ([], None)]
    assert told([end]) == [([], end)]
