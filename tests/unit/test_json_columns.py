"""Messages that are alike, read in columns: the same as one by one, whatever stands in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.adapters import decode_json as decode_json_module
from foreshock.adapters import identities, json_columns
from foreshock.adapters.decode_json import decode_json, event_ids
from foreshock.adapters.json_columns import FEWEST, columns_of
from foreshock.adapters.kafka import decoding
from foreshock.adapters.kafka.decoding import Decoding, decode_messages
from foreshock.adapters.kafka.keys import partition_of
from foreshock.adapters.kafka.schemas import TOPICS, TopicSchema, schema_of
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.texts import Texts
from foreshock.errors import BadInputError
from foreshock.state.blake2b import blake2b_64
from foreshock.types import Dictionary
from foreshock.types.record import NDJSON

T = 1_640_000_000
STRICT, ANY = TOPICS["anomaly-events"], schema_of("telemetry")
MAPPING = MappingOptions()


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "eventId": f"e-{number}",
        "timestamp": T + number,
        "userId": f"u-{number % 3}",
        "value": number + 0.5,
    } | more


def written(events: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(one).encode() for one in events]


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """What takes seconds the first time."""
    with by_kernel():
        columns_of(b'{"a":1.5,"b":1,"c":"x","d":true}', 1, {"a": 1.5, "b": 1, "c": "x", "d": True}, ())
    event_ids(["a"] * 64)


@contextmanager
def one_by_one() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "FEWEST", 1 << 60)
        patch.setattr(decode_json_module, "FEWEST", 1 << 60)
        yield


@contextmanager
def by_kernel(few: int = 0) -> Iterator[None]:
    """So many objects are enough for the kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_columns, "MANY", few)
        yield


def shown(found: Decoding) -> dict[str, Any]:
    """All of it, so that NaN equals NaN."""
    samples = found.samples
    return {
        "series": [samples.series[at] for at in samples.index],
        "time": samples.time_unix_nano.tolist(),
        "value": samples.value.tobytes(),
        "id": samples.event_id.tolist(),
        "message": found.message.tolist(),
        "dropped": samples.dropped,
        "notes": samples.notes,
        "refused": found.refused,
    }


def same(values: list[bytes], topic: TopicSchema, mapping: MappingOptions = MAPPING) -> Decoding:
    """Read at once, by the kernel and by structs, and one by one: as messages, which is given back, and as lines."""
    headers = [None] * len(values)
    body = b"\n".join(values)
    with one_by_one():
        found = decode_messages(values, headers, topic, mapping)
        lines = in_body(body, topic.mapping or mapping)
    for few in (0, 1 << 60):
        with by_kernel(few):
            assert shown(found) == shown(decode_messages(values, headers, topic, mapping))
            assert lines == in_body(body, topic.mapping or mapping)
    return found


def in_body(body: bytes, mapping: MappingOptions) -> dict[str, Any] | tuple[str, str]:
    try:
        samples = decode_json(body, NDJSON, mapping, (("source", "s"),))
    except BadInputError as error:
        return error.reason, str(error)
    return shown(Decoding(samples, np.zeros(0, np.int64)))


def in_columns(values: list[bytes], numbers: tuple[str, ...] = ("value",)) -> bool:
    """Whether both ways at once take them; where one does, the other has to."""
    body = b"\n".join(values)
    found = []
    for few in (0, 1 << 60):
        with by_kernel(few):
            found.append(columns_of(body, len(values), json.loads(values[0]), numbers) is not None)
    assert found[0] == found[1]
    return found[0]


def read_by_kernel(numbers: list[str]) -> list[float] | None:
    """What the kernel makes of numbers as they are written; None where it leaves one."""
    body = "\n".join(f'{{"v":{one}}}' for one in numbers).encode()
    with pytest.MonkeyPatch.context() as patch, by_kernel():
        patch.setattr(json_columns, "_by_struct", lambda *_: None)
        found = columns_of(body, len(numbers), {"v": 1.0}, ("v",))
    return None if found is None else list(found["v"])


@pytest.mark.parametrize("topic", [STRICT, ANY])
def test_events_that_are_alike_are_read_in_columns(topic: TopicSchema) -> None:
    values = written([event(number) for number in range(FEWEST)])
    assert in_columns(values)
    found = same(values, topic)
    assert found.samples.value.tolist() == [number + 0.5 for number in range(FEWEST)]
    assert found.samples.event_id.tolist() == event_ids([f"e-{number}" for number in range(FEWEST)]).tolist()


def test_two_objects_in_one_message_and_one_in_two_are_not_taken_for_one_each() -> None:
    values = written([event(number) for number in range(FEWEST)])
    values[3] += values[4]
    first, second = values[5][:-20], values[5][-20:]
    values[4:6] = [first, second]
    assert not in_columns(values)
    assert {one.message for one in same(values, STRICT).refused} == {3, 4, 5}
    values[4:6] = [b"", values[6]]
    assert not in_columns(values)
    same(values, STRICT)


@pytest.mark.parametrize(
    "odd",
    [
        {"value": None}, {"value": "7"}, {"value": True}, {"value": [1]}, {"value": {"a": 1}}, {"more": 2}, {},
        {"timestamp": T + 0.25}, {"timestamp": "2021-12-20T11:33:20Z"}, {"userId": 7}, {"userId": ""}, {"eventId": ""},
        {"timestamp": -1}, {"value": 10**400}, {"value": 2**63}, {"timestamp": 2**63}, {"userId": "x" * 2000},
        {"userId": "\u00e9\u6f22\U0001f600"}, {"userId": "a\\b\n"}, {"userId": "2020-01-01"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("at", [0, 7])
@pytest.mark.parametrize("topic", [STRICT, ANY])
def test_one_that_is_not_like_the_others_changes_nothing(odd: dict[str, Any], at: int, topic: TopicSchema) -> None:
    events = [event(number) for number in range(FEWEST)]
    events[at] = events[at] | odd if odd else {}
    same(written(events), topic)


@pytest.mark.parametrize(
    "text",
    [
        b"nothing", b'{"eventId":"e","timestamp":1640000000,"userId":"u-1","value":NaN}', b"{}", b"",
        b'{"eventId":"e","timestamp":1640000000,"userId":"u-1","value":1e999}',
        b'{"eventId":"e","timestamp":1640000000,"userId":"u-1","value":1,"value":2}',
        b'{"eventId":"e","timestamp":1640000000,"userId":"u-\xff","value":1}',
        b'{"eventId":"e","timestamp":1640000000,"userId":"u-\\ud800","value":1}',
        b'{"eventId":"e","timestamp":1640000000,"userId":"u-\\u0041","value":01}',
        b'{"value":1, "userId":"u-1" ,"timestamp" : 1640000000.5,"eventId":"e"} ',
        b'{"eventId":"e\x00","timestamp":1640000000,"userId":"u-1","value":1}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("topic", [STRICT, ANY])
def test_broken_text_is_refused_where_it_stands(text: bytes, topic: TopicSchema) -> None:
    values = written([event(number) for number in range(FEWEST)])
    values[5] = text
    same(values, topic)


def test_times_in_nanoseconds_keep_their_digits() -> None:
    exact = [T * 10**9 + 7 + number for number in range(FEWEST)]
    events = [event(number, timestamp=exact[number]) for number in range(FEWEST)]
    assert in_columns(written(events))
    assert same(written(events), STRICT).samples.time_unix_nano.tolist() == exact
    events[0]["timestamp"] = float(exact[0])
    assert same(written(events), STRICT).samples.time_unix_nano.tolist()[1:] == exact[1:]


def test_labels_names_and_booleans_are_read_as_they_are_one_by_one() -> None:
    mapping = MappingOptions(entity=("userId", "region"), labels=("zone",), form="long", name="kind", value="value")
    more = (
        {"region": 3, "zone": number % 2 == 0, "kind": f"k{number % 2}", "note": "2020-01-01"} for number in range(64)
    )
    values = written([event(number, **each) for number, each in enumerate(more)])
    assert in_columns(values)
    found = same(values, ANY, mapping)
    assert {one.name for one in found.samples.series} == {"k0", "k1"}


_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_ODD = st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.lists(st.integers(), max_size=2)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["eventId", "timestamp", "userId", "value", "more"]), _ODD, max_size=2),
        min_size=FEWEST, max_size=FEWEST + 8,
    ),
    st.sampled_from([STRICT, ANY]),
    st.integers(0, 3),
)  # fmt: skip
def test_whatever_stands_in_them(odd: list[dict[str, Any]], topic: TopicSchema, every: int) -> None:
    same(written([event(at, **(one if at % 4 < every else {})) for at, one in enumerate(odd)]), topic)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=FEWEST, max_size=FEWEST))
def test_numbers_to_the_last_digit(values: list[float]) -> None:
    found = same(written([event(at, value=one) for at, one in enumerate(values)]), STRICT)
    assert found.samples.value.tolist() == values


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).filter(lambda one: one == 0 or abs(one) > 1e-300)))
def test_the_kernel_reads_a_double_as_python_writes_it(values: list[float]) -> None:
    assert read_by_kernel(["0", *map(repr, values)]) == [0.0, *values]


@given(st.integers(0, 10**19 - 1), st.integers(-300, 280))
def test_the_kernel_rounds_decimals_as_python_does(digits: int, power: int) -> None:
    text = f"{digits}e{power}"
    assert read_by_kernel([text, f"-{text}"]) == [float(text), -float(text)]


@given(st.integers(1 << 53, (1 << 54) - 1), st.integers(0, 3))
def test_the_kernel_rounds_halfway_to_the_even_one(digits: int, power: int) -> None:
    text = f"{digits * 5**power}e-{power}"
    assert read_by_kernel([text]) == [float(text)]


@pytest.mark.parametrize("text", ["5e-324", "1e309", "1" * 20, "1e-400", "1e99999", "1e999999999999"])
def test_the_kernel_leaves_numbers_it_cannot_decide(text: str) -> None:
    assert read_by_kernel([text]) is None


@pytest.mark.parametrize("text", ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "0x1", "1 2", "Infinity", "--1", "1_0"])
def test_the_kernel_takes_no_number_that_is_none(text: str) -> None:
    assert read_by_kernel([text]) is None


def test_digits_are_counted_without_the_zeros_before_them() -> None:
    assert read_by_kernel(["0.00012345678901234567", "-0.0", "-0"]) == [0.00012345678901234567, 0.0, 0.0]


def test_texts_are_numbered_as_they_come() -> None:
    words = ["b", "a", "b", "", "ab", "a", ""]
    data, size = np.frombuffer("".join(words).encode(), np.uint8), np.cumsum([0, *map(len, words)])
    texts = Texts(data, size[:-1], size[1:])
    code, known = texts.numbered()
    assert (code.tolist(), known) == ([0, 1, 0, 2, 3, 1, 2], ["b", "a", "", "ab"])
    assert list(texts) == list(texts[0:]) == words


def test_an_empty_id_is_none_whatever_stands_beside_it() -> None:
    assert event_ids(["", "a"]).tolist() == [event_ids([""])[0], event_ids(["a"])[0]]
    assert event_ids([""]).tolist() == [0]


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_hashes_of_many_texts_are_those_of_each(texts: list[bytes]) -> None:
    offsets = np.cumsum([0, *map(len, texts)])
    wanted = [int.from_bytes(hashlib.blake2b(one, digest_size=8).digest(), "little") for one in texts]
    assert blake2b_64(np.frombuffer(b"".join(texts), np.uint8), offsets[:-1], offsets[1:]).tolist() == wanted


@given(st.lists(_TEXT, min_size=1))
def test_ids_of_many_are_those_of_each(texts: list[str]) -> None:
    assert event_ids(texts * 64).tolist() == [event_ids([one])[0] for one in texts] * 64


def test_messages_share_a_dictionary_of_which_each_uses_a_part() -> None:
    def read(users: range) -> Decoding:
        values = written([event(number, userId=f"u-{number}") for number in users])
        with by_kernel():
            return decode_messages(values, [None] * len(values), STRICT, MAPPING)

    first, second, third = read(range(40)), read(range(20, 60)), read(range(40))
    series = first.samples.series
    assert isinstance(series, Dictionary)
    assert series is second.samples.series is third.samples.series
    for found, users in ((first, range(40)), (second, range(20, 60)), (third, range(40))):
        each = found.each(None)
        assert [series[at].entity for at in found.samples.index] == [(("userId", f"u-{user}"),) for user in users]
        assert [each.keys[at] for at in each.key] == [f"u-{user}".encode() for user in users]
        part = found.of(3, 5)
        assert [part.series[at].entity for at in part.index] == [(("userId", f"u-{user}"),) for user in users[3:5]]
        assert each.keys.partitions(each.key, 7).tolist() == [partition_of(f"u-{user}".encode(), 7) for user in users]


def test_a_name_that_cannot_be_leaves_the_dictionary_as_if_it_were_new() -> None:
    with by_kernel():
        for bad in ("", "x" * 2000):
            values = written([event(number, userId=f"v-{number}") for number in range(FEWEST)])
            before = decode_messages(values, [None] * FEWEST, STRICT, MAPPING)
            values[4] = written([event(4, userId=bad)])[0]
            found = same(values, STRICT)
            assert [one.message for one in found.refused] == [4]
            assert not isinstance(found.samples.series, Dictionary)
            assert len(before.samples.series) >= FEWEST


def test_many_names_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "_MOST_KNOWN", 100)
    for start in range(0, 400, 40):
        same(written([event(number, userId=f"w-{number}") for number in range(start, start + 40)]), STRICT)
        assert sum(map(len, identities._SHAPES.values())) <= 100


def test_different_features_of_the_same_entities() -> None:
    for number in range(40):
        name = f"value{number}"
        values = [json.dumps({"timestamp": T, "userId": f"u-{at}", name: 1.5, "b": 2}).encode() for at in range(FEWEST)]
        assert {one.name for one in same(values, ANY).samples.series} >= {name, "b"}
