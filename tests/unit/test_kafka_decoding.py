"""Messages of a topic: each encoding, envelopes, the strict topic, and what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from foreshock.adapters.decode import encode_samples
from foreshock.adapters.decode_json import event_ids
from foreshock.adapters.kafka.decoding import Decoding, decode_messages
from foreshock.adapters.kafka.envelope import Envelope, Headers, envelope, is_trace_parent, trace_headers, written
from foreshock.adapters.kafka.schemas import TOPICS, TopicSchema, schema_of
from foreshock.adapters.kafka.sniff import sniff
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.errors import BadInputError
from foreshock.types import Samples, Series
from foreshock.types.record import ARROW, JSON, NDJSON, OTLP
from tests.unit.made_otlp import gauge, number, request

MAPPING = MappingOptions()
EVENTS = TOPICS["anomaly-events"]
ANY = schema_of("telemetry")
T = 1_640_000_000
NANO = 1_000_000_000


def decoded(
    values: Sequence[bytes | None],
    topic: TopicSchema = ANY,
    headers: Sequence[Headers | None] | None = None,
    mapping: MappingOptions = MAPPING,
    **more: int,
) -> Decoding:
    return decode_messages(values, headers or [None] * len(values), topic, mapping, **more)


def event(number: int, **more: Any) -> bytes:
    return json.dumps(
        {"eventId": f"e-{number}", "timestamp": T + number, "userId": "u-7", "value": 1.5} | more
    ).encode()


def rows(found: Decoding) -> list[tuple[int, str, str, int, float]]:
    """(message, entity, feature, time in s, value) of each sample."""
    series = found.samples.series
    return [
        (int(message), series[at].entity_text, series[at].feature, int(time) // NANO, float(value))
        for message, at, time, value in zip(
            found.message, found.samples.index, found.samples.time_unix_nano, found.samples.value, strict=True
        )
    ]


def reasons(found: Decoding) -> dict[int, str]:
    return {one.message: one.reason for one in found.refused}


# -- events --------------------------------------------------------------------------------------------------------


def test_events_one_a_message_are_decoded_together_and_known_apart() -> None:
    found = decoded([event(0), event(1, userId="u-8", other=4), event(2)], EVENTS)
    assert rows(found) == [
        (0, '{userId="u-7"}', "value", T, 1.5),
        (1, '{userId="u-8"}', "value", T + 1, 1.5),
        (1, '{userId="u-8"}', "other", T + 1, 4.0),
        (2, '{userId="u-7"}', "value", T + 2, 1.5),
    ]
    assert found.samples.event_id.tolist() == event_ids(["e-0", "e-1", "e-1", "e-2"]).tolist()
    assert not found.refused


def test_it_does_not_matter_what_comes_together() -> None:
    values = [
        event(0),
        b"{",
        event(1, value="high"),
        b'{"a": 1}',
        event(2, extra=3),
        None,
        event(3, timestamp=-1),
        event(4),
    ]
    whole = decoded(values, EVENTS)
    alone = [decoded([value], EVENTS) for value in values]
    assert rows(whole) == [(at, *row[1:]) for at, one in enumerate(alone) for row in rows(one)]
    assert reasons(whole) == {at: one.refused[0].reason for at, one in enumerate(alone) if one.refused}


def test_bad_events_are_refused_with_their_reason_and_the_others_go_on() -> None:
    values = [
        event(0), b"{", b"\xff", b'"text"', event(1, timestamp=-5), event(2, value="high"), b'{"eventId": "x"}',
        event(3, userId=""), b"", event(4, userId="u" * 2000),
    ]  # fmt: skip
    found = decoded(values, EVENTS)
    assert reasons(found) == {
        1: "bad_json", 2: "not_utf8", 3: "not_an_object", 4: "bad_time", 5: "no_values", 6: "no_column",
        7: "no_entity", 8: "bad_json", 9: "name_too_long",
    }  # fmt: skip
    assert [row[0] for row in rows(found)] == [0]
    assert all(one.detail for one in found.refused)


@pytest.mark.parametrize("missing", ["eventId", "timestamp", "userId", "value"])
def test_anomaly_events_takes_exactly_its_schema(missing: str) -> None:
    body = json.loads(event(0, other=3))
    del body[missing]
    found = decoded([msgspec.json.encode(body), event(1)], EVENTS)
    assert reasons(found) == {0: "no_column"}
    assert missing in found.refused[0].detail
    assert [row[0] for row in rows(found)] == [1]


def test_anomaly_events_makes_every_other_number_a_feature_and_nothing_else() -> None:
    found = decoded([event(0, latency=2, hostId=5, text="x", ok=True, label=1)], EVENTS)
    assert {row[2] for row in rows(found)} == {"value", "latency", "hostId"}


def test_the_strict_topic_wants_json_whatever_it_is() -> None:
    payload = request(gauge("cpu", number(0.5))).SerializeToString()
    assert reasons(decoded([payload], EVENTS)) == {0: "not_utf8"}
    assert reasons(decoded([b'{"events": [' + event(0) + b"]}"], EVENTS)) == {0: "no_column"}


def test_what_the_topic_does_not_say_the_settings_do() -> None:
    value = b'{"at": 1640000000, "who": "a", "n": 2}'
    assert reasons(decoded([value])) == {0: "no_time"}
    found = decoded([value], mapping=MappingOptions(time="at", entity=("who",)))
    assert rows(found) == [(0, '{who="a"}', "n", T, 2.0)]


def test_the_samples_of_some_messages_can_be_had() -> None:
    found = decoded([event(0), b"{", event(1, userId="u-8", other=4), event(2)], EVENTS)
    part = found.of(2, 3)
    assert [series.text for series in part.series] == ['value@{userId="u-8"}', 'other@{userId="u-8"}']
    assert (part.index.tolist(), part.value.tolist()) == ([0, 1], [1.5, 4.0])
    assert part.event_id.tolist() == event_ids(["e-1", "e-1"]).tolist()
    assert len(found.of(0, 4)) == len(found.samples)
    assert not len(found.of(1, 2))


def test_no_message_is_no_sample() -> None:
    assert decoded([]).refused == ()
    found = decoded([None, None], EVENTS)
    assert not len(found.samples)
    assert not found.refused


# -- encodings -----------------------------------------------------------------------------------------------------


def encodings() -> dict[str, bytes]:
    series = [Series("cpu", (("host", "a1"),))]
    arrays = np.zeros(1, np.int32), np.array([T * NANO]), np.array([0.5]), np.zeros(1, np.uint64)
    sink = pa.BufferOutputStream()
    table = pa.table({"time": [T], "host": ["a1"], "cpu": [0.5]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    point = number(0.5, time=T * NANO)
    return {
        "json": b'{"time": 1640000000, "host": "a1", "cpu": 0.5}',
        "array": b'[{"time": 1640000000, "host": "a1", "cpu": 0.5}]',
        "wrapped": b'{"events": [{"time": 1640000000, "host": "a1", "cpu": 0.5}]}',
        "ndjson": b'{"time": 1640000000, "host": "a1", "cpu": 0.5}\n',
        "reading": encode_metrics(Reading(T * NANO, {"host": "a1"}, [Metric("cpu", {}, "1", 0.5)])),
        "readings": encode_metrics([Reading(T * NANO, {"host": "a1"}, [Metric("cpu", {}, "1", 0.5)])]),
        "arrow": sink.getvalue().to_pybytes(),
        "samples": encode_samples(Samples(series, *arrays, {})),
        "packed": encode_samples(Samples(series, *arrays, {}), pack=True),
        "otlp": bytes(request(gauge("cpu", point), host="a1").SerializeToString()),
    }


@pytest.mark.parametrize("name", list(encodings()))
def test_each_encoding_is_told_by_its_bytes(name: str) -> None:
    options = MappingOptions(entity=("host",)) if name == "otlp" else MAPPING
    found = decoded([event(0), encodings()[name], event(1)], mapping=options if name == "otlp" else MAPPING)
    if name == "otlp":  # the settings that name its entity do not fit the events beside it
        found = decoded([encodings()[name]], mapping=options)
        assert rows(found) == [(0, '{host="a1"}', "cpu", T, 0.5)]
        return
    assert rows(found)[1] == (1, '{host="a1"}', "cpu", T, 0.5)
    assert [row[0] for row in rows(found)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "said"),
    [("json", "application/json; charset=utf-8"), ("ndjson", NDJSON), ("reading", METRICS), ("arrow", ARROW),
     ("otlp", "application/x-protobuf"), ("otlp", OTLP), ("json", "application/octet-stream"), ("json", "TEXT/PLAIN")],
)  # fmt: skip
def test_each_encoding_may_be_said_by_a_header_or_by_the_topic(name: str, said: str) -> None:
    options = MappingOptions(entity=("host",))
    by_header = decoded([encodings()[name]], headers=[[("Content-Type", said.encode())]], mapping=options)
    assert rows(by_header) == [(0, '{host="a1"}', "cpu", T, 0.5)]
    if "octet" not in said and "TEXT" not in said:
        by_topic = decoded([encodings()[name]], replace(ANY, content_type=said), mapping=options)
        assert rows(by_topic) == rows(by_header)


def test_a_message_with_several_rows_is_one_message() -> None:
    value = event(0) + b"\n" + event(1) + b"\nbroken\n" + event(2)
    found = decoded([event(9), value])
    assert [row[0] for row in rows(found)] == [0, 1, 1, 1]
    assert found.samples.dropped == {"bad_json": 1}
    assert not found.refused


@pytest.mark.parametrize("value", [b"\x00\x01\x02", b"PAR1....", b"\x0a\xff\xff", b"<xml/>", b"ARROW1\x00\x00"])
def test_what_is_none_of_them_is_refused(value: bytes) -> None:
    assert reasons(decoded([value])) == {0: "unknown_format"}


def test_a_newline_before_json_is_no_otlp() -> None:
    assert sniff(b'\n{"a": "' + b"x" * 200 + b'"}') == JSON
    with pytest.raises(BadInputError) as caught:
        sniff(b"")
    assert caught.value.reason == "empty"


def test_an_unknown_content_type_is_refused() -> None:
    found = decoded([event(0)], headers=[[("content-type", b"application/avro")]])
    assert reasons(found) == {0: "unknown_content_type"}


def test_an_oversized_message_is_refused() -> None:
    found = decoded([event(0), event(1, text="x" * 300)], most_bytes=200)
    assert reasons(found) == {1: "too_large"}
    assert [row[0] for row in rows(found)] == [0]


# -- Arrow ---------------------------------------------------------------------------------------------------------


def stream(table: pa.Table, codec: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_columns_may_be_packed(codec: str | None) -> None:
    table = pa.table({"time": [T, T + 1], "host": pa.array(["a1", "b2"]).dictionary_encode(), "cpu": [0.5, None]})
    found = decoded([stream(table, codec)])
    assert [row[1:4] for row in rows(found)] == [('{host="a1"}', "cpu", T), ('{host="b2"}', "cpu", T + 1)]


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_what_unpacks_to_too_much_is_refused_before_it_is(codec: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from foreshock.adapters import decode

    table = pa.table({"time": pa.array(np.full(100_000, T)), "cpu": np.zeros(100_000)})
    payload = stream(table, codec)
    assert len(decoded([payload]).samples) == 100_000
    monkeypatch.setattr(decode, "MAX_UNPACKED_BYTES", 1_000_000)
    assert reasons(decoded([payload])) == {0: "too_large"}
    assert reasons(decoded([bytes(pa.compress(payload, codec="zstd", asbytes=True))])) == {0: "too_large"}


def test_a_hurt_arrow_stream_is_refused_or_understood_and_nothing_else() -> None:
    random = np.random.default_rng(11)
    table = pa.table({"time": [T, T + 1], "host": ["a1", "b2"], "cpu": [0.5, 1.0]})
    outcomes = set()
    for payload in (encodings()["samples"], stream(table), stream(table, "zstd"), encodings()["packed"]):
        for _ in range(400):
            hurt = bytearray(payload)
            for at in random.integers(0, len(hurt), 2).tolist():
                hurt[at] = int(random.integers(0, 256))
            found = decoded([bytes(hurt[: int(random.integers(8, len(hurt) + 1))])])
            outcomes |= set(reasons(found).values()) or {"some"}
            assert (found.samples.index < len(found.samples.series)).all()
    assert "bad_arrow" in outcomes


@pytest.mark.parametrize(
    "columns",
    [
        {"index": [5], "time": [1], "value": [1.0]},
        {"index": [-1], "time": [1], "value": [1.0]},
        {"index": [0], "time": [-1], "value": [1.0]},
        {"index": [0], "value": [1.0]},
        {"index": [0], "time": [1], "value": ["x"]},
        {"index": [0], "time": [None], "value": [1.0]},
    ],
)
def test_samples_that_point_nowhere_are_refused(columns: dict[str, list[Any]]) -> None:
    schema = pa.ipc.open_stream(encodings()["samples"]).schema
    kinds = {"index": pa.int32(), "time": pa.int64(), "value": pa.float64()}
    arrays = {
        name: pa.array(values, None if isinstance(values[0], str) else kinds[name]) for name, values in columns.items()
    }
    payload = stream(pa.table(arrays).replace_schema_metadata(schema.metadata))
    assert reasons(decoded([payload])) == {0: "bad_arrow"}


# -- envelopes -----------------------------------------------------------------------------------------------------


def cloud(number: int, **more: str) -> Headers:
    said = {"ce_specversion": "1.0", "ce_id": f"c-{number}", "ce_source": "sensor/1", "ce_type": "t"} | more
    return [(name, text.encode()) for name, text in said.items()]


def test_a_cloud_event_lends_its_id_source_and_time() -> None:
    found = decoded(
        [b'{"cpu": 1.0}', b'{"time": 1640000001, "host": "a1", "cpu": 2.0}', event(3)],
        headers=[cloud(0, ce_time="2021-12-20T11:33:20Z"), cloud(1), cloud(2)],
    )
    assert rows(found) == [
        (0, '{entity="sensor/1"}', "cpu", T, 1.0),
        (1, '{host="a1"}', "cpu", T + 1, 2.0),
        (2, '{userId="u-7"}', "value", T + 3, 1.5),
    ]
    # An event's own id goes before that of its envelope.
    assert found.samples.event_id.tolist() == event_ids(["c-0", "c-1", "e-3"]).tolist()


def test_a_structured_cloud_event_is_opened() -> None:
    def opened(**more: Any) -> Decoding:
        body = {"specversion": "1.0", "id": "c-1", "source": "s", "type": "t", "time": "2021-12-20T11:33:20Z"} | more
        return decoded([json.dumps(body).encode()], headers=[[("content-type", b"application/cloudevents+json")]])

    found = opened(data={"host": "a1", "cpu": 1.0})
    assert rows(found) == [(0, '{host="a1"}', "cpu", T, 1.0)]
    assert found.samples.event_id.tolist() == event_ids(["c-1"]).tolist()
    packed = base64.b64encode(encodings()["arrow"]).decode()
    assert rows(opened(data_base64=packed, datacontenttype=ARROW)) == [(0, '{host="a1"}', "cpu", T, 0.5)]
    assert reasons(opened(data=[], datacontenttype="application/cloudevents+json")) == {0: "bad_cloudevent"}
    assert reasons(opened(data="text")) == {0: "not_an_object"}
    assert reasons(opened()) == {0: "bad_json"}


def test_a_strict_topic_takes_no_time_from_the_envelope() -> None:
    value = b'{"eventId": "e", "userId": "u", "value": 1}'
    assert reasons(decoded([value], EVENTS, [cloud(0, ce_time="2021-12-20T11:33:20Z")])) == {0: "no_column"}
    assert reasons(decoded([value], headers=[cloud(0, ce_time="yesterday")])) == {0: "no_time"}


def test_headers_are_read_as_they_come() -> None:
    said = envelope([("CE_ID", b"a"), ("ce_id", b"b"), ("ce_source", None), ("content-type", b"\xff"), ("x", b"y")])
    assert said == Envelope(event_id="b")
    assert envelope(None) == envelope([]) == Envelope()
    assert envelope([("ce_time", b"yesterday")]).time_unix_nano == 0


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (TRACE, True),
        ("cc" + TRACE[2:] + "-more", True),
        (TRACE + "-more", False),
        ("ff" + TRACE[2:], False),
        (TRACE.upper(), False),
        (TRACE.replace("b7ad6b7169203331", "0" * 16), False),
        (TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), False),
        ("", False),
    ],
)
def test_trace_context_is_carried_on_where_it_is_valid(text: str, good: bool) -> None:
    assert is_trace_parent(text) == good
    headers: Headers = [("traceparent", text.encode()), ("tracestate", b"a=1"), ("other", b"x")]
    assert [name for name, _ in trace_headers(headers)] == (["traceparent", "tracestate"] if good else [])


def test_what_is_written_is_read() -> None:
    headers = written(JSON, event_id="e", source="s", kind="t", time="2021-12-20T11:33:20Z", trace_parent=TRACE)
    assert envelope(headers) == Envelope(JSON, "e", "s", T * NANO, TRACE)
    assert dict(headers)["ce_specversion"] == b"1.0"
    assert written(JSON) == [("content-type", b"application/json")]


# -- hostile -------------------------------------------------------------------------------------------------------


def test_nothing_that_is_sent_raises() -> None:
    random = np.random.default_rng(3)
    values: list[bytes | None] = [
        b"[" * 50_000, b'{"a":' * 50_000, b'{"time": 1e999, "host": "a", "v": 1}', b'{"time": NaN}', b"null", b"[]",
        b"{}",
        b'{"events": {}}', b'{"time": {}, "entity": {}, "metrics": {}}', b'{"time": 1, "entity": {}, "metrics": [[]]}',
        b'{"timestamp": 1640000000, "host": "\\ud800", "v": 1}', b'{"time": "2021-13-45", "v": 1}', b"\xef\xbb\xbf{",
        b"28b52ffd", bytes.fromhex("28b52ffd"), bytes.fromhex("ffffffff"), b"\xff\xff\xff\xff\x00\x00\x00\x00",
        b'{"time": 1640000000, "v": ' + b"9" * 400 + b"}",
        *(random.bytes(int(size)) for size in random.integers(1, 200, 200)),
    ]  # fmt: skip
    kinds = (b"", JSON.encode(), NDJSON.encode(), METRICS.encode(), OTLP.encode(), ARROW.encode(), b"\xff", b"a;b",
             b"application/cloudevents+json", b"application/json; charset=latin-1")  # fmt: skip
    for kind in kinds:
        found = decoded(values, headers=[[("content-type", kind)]] * len(values))
        assert len(found.message) == len(found.samples)
        good = set(found.message.tolist())
        assert not good & set(reasons(found))
    for topic in (ANY, EVENTS):
        assert len(decoded(values, topic).refused) > 100
