from __future__ import annotations

import gzip
import hashlib
import json
import threading
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from foreshock import plugins
from foreshock.adapters import identities
from foreshock.adapters.decode import decode
from foreshock.adapters.decode_json import decode_json
from foreshock.adapters.http import CONTENT_TYPES, HttpSource, HttpSourceOptions, inflate, record_type
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.errors import BadInputError
from foreshock.types import Record, Samples
from foreshock.types.record import JSON, NDJSON

NANO = 1_000_000_000
DEFAULT = (("entity", "http"),)
EVENT = {"eventId": "e-1", "timestamp": 1640000000, "userId": "u-7", "value": 12.5}


def read(body: Any, kind: str = JSON, **options: Any) -> Samples:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_json(data, kind, MappingOptions(**options), DEFAULT)


def tuples(samples: Samples) -> list[tuple[str, int, float]]:
    series = [one.text for one in samples.series]
    columns = zip(samples.index.tolist(), samples.time_unix_nano.tolist(), samples.value.tolist(), strict=True)
    return [(series[index], when, value) for index, when, value in columns]


def refused(body: Any, kind: str = JSON, **options: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        read(body, kind, **options)
    return caught.value.reason


# -- what is taken -----------------------------------------------------------------------------------------------


def test_an_event() -> None:
    samples = read(EVENT)
    assert tuples(samples) == [('value@{userId="u-7"}', 1640000000 * NANO, 12.5)]
    assert samples.event_id[0] == int.from_bytes(hashlib.blake2b(b"e-1", digest_size=8).digest(), "little")
    assert samples.notes == ("time = timestamp (s)", "entity = userId", "values = value", "id = eventId")


@pytest.mark.parametrize("name", ["series", "name", "metric"])
@pytest.mark.parametrize("tags", ["labels", "attributes", "tags"])
def test_a_sample(name: str, tags: str) -> None:
    samples = read({name: "cpu", "time": "2021-12-20T11:33:20Z", "value": 1, tags: {"host": "a1", "core": "0"}})
    assert tuples(samples) == [('cpu{core="0"}@{host="a1"}', 1640000000 * NANO, 1.0)]


def test_a_sample_that_names_its_entity() -> None:
    body = {"metric": "cpu", "time": 5, "value": 1, "labels": {"host": "a1"}, "entity": {"service.name": "pay"}}
    assert tuples(read(body))[0][0] == 'cpu{host="a1"}@{service.name="pay"}'
    assert tuples(read(body | {"entity": "pay"}))[0][0] == 'cpu{host="a1"}@{entity="pay"}'


def test_a_wide_row() -> None:
    row = {"time": 1640000000123, "host": "a1", "cpu": 0.3, "mem": {"used": 5, "free": None}, "up": True, "zone": "eu"}
    samples = read([row, row | {"mem": {"used": None, "free": 2}}])
    assert repr([(name, value) for name, _, value in tuples(samples)]) == repr(
        [('cpu@{host="a1"}', 0.3), ('mem.used@{host="a1"}', 5.0), ('mem.free@{host="a1"}', float("nan")),
         ('cpu@{host="a1"}', 0.3), ('mem.used@{host="a1"}', float("nan")), ('mem.free@{host="a1"}', 2.0)]
    )  # fmt: skip
    assert "not used = up, zone" in samples.notes


@pytest.mark.parametrize(
    "body",
    [
        [EVENT, EVENT],
        {"events": [EVENT, EVENT]},
        {"samples": [EVENT, EVENT]},
        {"rows": [EVENT, EVENT]},
        {"data": [EVENT, EVENT]},
        (json.dumps(EVENT) + "\n\n" + json.dumps(EVENT) + "\r\n").encode(),
        b"\xef\xbb\xbf" + json.dumps([EVENT, EVENT], indent=2).encode(),
    ],
)
def test_bodies_of_every_form(body: Any) -> None:
    assert len(read(body)) == 2


def test_no_entity_named_means_the_source() -> None:
    assert tuples(read({"t": 1, "x": 2})) == [('x@{entity="http"}', NANO, 2.0)]


def test_paths_reach_into_objects() -> None:
    body = {"meta": {"at": 7, "who": {"id": 9}}, "data": {"x": 1, "y": 2}}
    samples = read(body, time="meta.at", entity="meta.who.id", values="data.x", entity_name="who", id="meta.at")
    assert tuples(samples) == [('data.x@{who="9"}', 7 * NANO, 1.0)]
    assert samples.event_id[0] != 0


def test_numbers_and_booleans_name_things_as_text() -> None:
    rows = [{"t": 1, "user": user, "x": 1} for user in (1, 1.0, "1", True, 2.5)]
    assert [one.entity_text for one in read(rows).series] == ['{user="1"}', '{user="true"}', '{user="2.5"}']


def test_rows_of_many_shapes_keep_their_order() -> None:
    rng = np.random.default_rng(3)
    rows = []
    for at in range(200):
        row: dict[str, Any] = {"time": at, "host": f"h{rng.integers(3)}"}
        row |= {f"m{j}": float(rng.normal()) for j in rng.permutation(4)[: rng.integers(1, 5)]}
        rows.append(row)
    expected = [
        (f'{key}@{{host="{row["host"]}"}}', row["time"] * NANO, row[key])
        for row in rows
        for key in row
        if key not in ("time", "host")
    ]
    together = read(rows)
    assert tuples(together) == expected
    assert len(set(together.series)) == len(together.series)
    lines = "\n".join(map(json.dumps, rows)).encode()
    assert tuples(read(lines, NDJSON)) == expected
    alone = [one for row in rows for one in tuples(read(row))]
    assert alone == expected, "how rows are cut into payloads changes nothing"


# -- what is not -------------------------------------------------------------------------------------------------


def test_broken_lines_are_counted_with_the_first_of_them() -> None:
    good = json.dumps(EVENT).encode()
    lines = [good, b"", b"{oops", good, b'{"a": NaN}', b"\xff\xfe", b"[1]", b"7", good]
    samples = read(b"\n".join(lines), NDJSON)
    assert len(samples) == 3
    assert samples.dropped == {"bad_json": 2, "not_utf8": 1, "not_an_object": 2}
    assert "bad_json: 2 dropped, first at line 3" in samples.notes
    assert "not_an_object: 2 dropped, first at line 7" in samples.notes


@pytest.mark.parametrize("value", ["12.5", True, [1], "x"])
def test_what_is_no_number_is_no_value(value: Any) -> None:
    assert refused(EVENT | {"value": value}) == "no_values"
    samples = read([EVENT, EVENT | {"value": value}])
    assert samples.dropped == {"not_a_number": 1, "no_values": 1}
    assert len(samples) == 1


@pytest.mark.parametrize("when", [-1, "soon", "1640000000", None, True, 9.9e9, 2**64, "2300-01-01"])
def test_what_is_no_time_drops_the_row(when: Any) -> None:
    assert refused(EVENT | {"timestamp": when}) == "bad_time"
    samples = read([EVENT, EVENT | {"timestamp": when}])
    assert (len(samples), samples.dropped) == (1, {"bad_time": 1})


def test_null_is_missing() -> None:
    samples = read([EVENT, EVENT | {"value": None}])
    assert np.isnan(samples.value).tolist() == [False, True]
    assert samples.dropped == {}


def test_rows_without_entity_or_name_are_dropped() -> None:
    assert read([EVENT, EVENT | {"userId": None}, EVENT | {"userId": ""}]).dropped == {"no_entity": 2}
    sample = {"metric": "cpu", "t": 1, "value": 2}
    assert read([sample, sample | {"metric": ""}]).dropped == {"no_name": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b'{"timestamp": 1, "value": Infinity}', "bad_json"),
        (b'{"timestamp": 1, "value": 1e999}', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"timestamp": 1, "x": "\xff"}', "not_utf8"),
        (b'"text"', "bad_json"),
        (b"[]", "empty"),
        (b"[1, 2]", "not_an_object"),
        (b'{"value": 1}', "no_time"),
        (b'{"timestamp": 1}', "no_values"),
        (b"{}", "no_time"),
    ],
)
def test_bodies_of_which_nothing_can_be_used(body: bytes, reason: str) -> None:
    assert refused(body) == reason


def test_a_missing_column_of_the_mapping_is_named() -> None:
    with pytest.raises(BadInputError, match="did you mean 'userId'"):
        read(EVENT, entity="userid")


def test_huge_numbers_are_no_trap() -> None:
    samples = read(b'[{"t": 1, "x": 2, "y": 123456789012345678901234567890}, {"t": 2, "x": 1e308, "y": -0.0}]')
    assert samples.value.tolist() == [2.0, 123456789012345678901234567890.0, 1e308, -0.0]
    assert refused(b'{"t": 1, "x": ' + b"9" * 5000 + b"}") == "bad_json"


def test_deep_objects_are_cut_off() -> None:
    deep: dict[str, Any] = {"x": 1}
    for _ in range(50):
        deep = {"d": deep}
    assert tuples(read({"t": 1, "y": 2, "deep": deep})) == [('y@{entity="http"}', NANO, 2.0)]


# -- the way through HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("application/json", JSON),
        ("Application/JSON; charset=UTF-8", JSON),
        ('text/plain;charset="utf-8"; format=flowed', JSON),
        ("application/x-www-form-urlencoded", JSON),
        ("", JSON),
        ("application/x-ndjson", NDJSON),
        ("application/jsonl ; charset=us-ascii", NDJSON),
        ("Application/NDJSON", NDJSON),
        (METRICS, METRICS),
    ],
)
def test_content_types_by_their_many_names(given: str, kind: str) -> None:
    assert record_type(given) == kind


@pytest.mark.parametrize(
    "given",
    ["text/xml", "application/jsonx", "application/vnd.foreshock.control+json", "text/plain; charset=latin-1",
     "application/json; version=1; charset=utf-16"],
)  # fmt: skip
def test_unknown_content_types(given: str) -> None:
    with pytest.raises(BadInputError) as caught:
        record_type(given)
    assert caught.value.reason == "unknown_content_type"


def test_an_unknown_content_type_says_what_is_known() -> None:
    with pytest.raises(BadInputError, match=r"'text/xml'.*application/x-ndjson"):
        record_type("text/xml")
    with pytest.raises(BadInputError, match=r"utf-16.*UTF-8"):
        record_type("application/json; charset=utf-16")


def test_every_record_that_is_taken_can_be_decoded_from_the_log() -> None:
    event = json.dumps(EVENT).encode()
    reading = encode_metrics(Reading(5, {"host.name": "a"}, [Metric("cpu", {}, "1", 0.5)]))
    bodies = {JSON: event, NDJSON: event + b"\n", METRICS: reading}
    for kind in CONTENT_TYPES.values():
        assert len(decode(Record("default", "http", kind, 99, bodies[kind]), MappingOptions())) == 1


def test_bodies_are_unpacked() -> None:
    body = json.dumps(EVENT).encode() * 10_000
    for packed, encoding in (
        (body, ""), (body, "identity"), (gzip.compress(body), "gzip"), (gzip.compress(body), " X-GZIP "),
        (zlib.compress(body), "deflate"), (gzip.compress(body[:9]) + gzip.compress(body[9:]), "gzip"),
    ):  # fmt: skip
        assert inflate(packed, encoding, len(body)) == body
    noise = np.random.default_rng(1).bytes(5_000_000)
    assert inflate(gzip.compress(noise), "gzip", len(noise)) == noise, "of more parts than one"
    assert inflate(b"", "gzip", 1) == b""


def test_members_of_every_length_join() -> None:
    pieces = [b"x" * (97 * at) for at in range(300)]
    packed = b"".join(gzip.compress(piece, 0) for piece in pieces)
    assert inflate(packed, "gzip", 10_000_000) == b"".join(pieces)


@pytest.mark.parametrize(
    ("body", "encoding", "limit"),
    [
        (gzip.compress(b"0" * 5_000_000, mtime=0), "gzip", 1_000_000),
        (zlib.compress(b"0" * 5_000_000), "deflate", 1_000_000),
        (gzip.compress(b"0" * 600_000, mtime=0) * 2, "gzip", 1_199_999),
        (b"0" * 11, "", 10),
    ],
)
def test_a_bomb_is_stopped_at_the_limit(body: bytes, encoding: str, limit: int) -> None:
    with pytest.raises(BadInputError, match=rf"may have {limit} bytes") as caught:
        inflate(body, encoding, limit)
    assert caught.value.reason == "too_large"


def test_the_limit_itself_is_allowed() -> None:
    assert len(inflate(gzip.compress(b"0" * 600_000) * 2, "gzip", 1_200_000)) == 1_200_000
    assert inflate(b"0" * 10, "", 10) == b"0" * 10


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (b"no gzip", "gzip", "bad_gzip"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip", "bad_gzip"),
        (gzip.compress(b"x" * 100, mtime=0) + b"more", "gzip", "bad_gzip"),
        (zlib.compress(b"x" * 100), "gzip", "bad_gzip"),
        (zlib.compress(b"x" * 100)[:-1], "deflate", "bad_gzip"),
        (b"{}", "br", "unknown_encoding"),
        (b"{}", "gzip, gzip", "unknown_encoding"),
    ],
)
def test_broken_encodings(body: bytes, encoding: str, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        inflate(body, encoding, 1000)
    assert caught.value.reason == reason


# -- the source that stands for it -------------------------------------------------------------------------------


def test_the_source_waits_until_it_is_stopped() -> None:
    source = HttpSource()

    def submit(record: Record) -> None:
        raise AssertionError("the server submits, not the source")

    thread = threading.Thread(target=source.run, args=(submit, None), daemon=True)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    source.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_config_names_the_source_and_its_lateness() -> None:
    part = SimpleNamespace(type="http", name="shop", options=HttpSourceOptions())
    source = plugins.build("source", part, environment="e", lateness_seconds=60.0, mapping=MappingOptions())
    assert isinstance(source, HttpSource)
    assert (source.name, source.lateness_seconds) == ("shop", 60.0)
    assert plugins.options_model(HttpSource) is HttpSourceOptions


def test_identities_are_remembered_up_to_a_bound_of_all_shapes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "_MOST_KNOWN", 10)
    for number in range(40):
        body = {"timestamp": 1, "userId": f"u-{number}", f"value{number % 4}": 2.0}
        assert [series.entity for series in read(body).series] == [(("userId", f"u-{number}"),)]
        assert sum(map(len, identities._SHAPES.values())) <= 10
