from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from foreshock.adapters.decode import decode_arrow, encode_samples, encode_table
from foreshock.adapters.decode import decode_samples as decode
from foreshock.adapters.decode_table import decode_table, plan_table
from foreshock.adapters.mapping import MappingOptions, plan_columns
from foreshock.adapters.metrics import METRICS, Metric, Reading, decode_metrics, encode_metrics
from foreshock.adapters.times import numeric_times, parse_iso, times_of_values
from foreshock.errors import BadInputError
from foreshock.types import Kind, Record, Samples
from foreshock.types.record import ARROW

NANO = 1_000_000_000
DEFAULT = (("entity", "m1"),)
OPTIONS = MappingOptions()


def tuples(samples: Samples) -> list[tuple[str, int, float]]:
    """Samples as plain tuples: the slow, obvious form."""
    series = [one.text for one in samples.series]
    columns = zip(samples.index.tolist(), samples.time_unix_nano.tolist(), samples.value.tolist(), strict=True)
    return [(series[index], when, value) for index, when, value in columns]


# -- the plan ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "time", "entity"),
    [
        (("timestamp", "host", "cpu"), "timestamp", (("host", "host"),)),
        (("ts", "userId", "value"), "ts", (("userId", "userId"),)),
        (("@timestamp", "service.name", "latency"), "@timestamp", (("service.name", "service.name"),)),
        (("T", "m0", "m1"), "T", ()),
        (("t", "time", "x"), "time", ()),
        (("time_unix_nano", "labels.host", "labels.core", "value"), "time_unix_nano", (("host", "labels.host"),)),
        (("meta.timestamp", "sensorId", "temp"), "meta.timestamp", (("sensorId", "sensorId"),)),
        (("time", "entity.host.name", "entity.zone", "x"), "time",
         (("host.name", "entity.host.name"), ("zone", "entity.zone"))),
        (("time", "traceId", "x"), "time", ()),
    ],
)  # fmt: skip
def test_names_are_guessed(columns: tuple[str, ...], time: str, entity: Any) -> None:
    plan = plan_columns(columns, OPTIONS)
    assert (plan.time, plan.entity) == (time, entity)


def test_the_guess_does_not_depend_on_the_order_of_keys() -> None:
    columns = ("zoneId", "deskId", "t", "timestamp", "value", "node", "host")
    there, back = plan_columns(columns, OPTIONS), plan_columns(columns[::-1], OPTIONS)
    assert (there.time, there.entity, set(there.attributes)) == (back.time, back.entity, set(back.attributes))
    assert there.entity == (("host", "host"),)


def test_other_names_of_things_tell_series_apart() -> None:
    plan = plan_columns(("time", "host", "service", "cpu"), OPTIONS)
    assert plan.attributes == (("service", "service"),)
    assert plan.values == ("cpu",)


def test_labels_are_no_features_and_ids_are_none_either() -> None:
    plan = plan_columns(("t", "m0", "label", "split", "is_anomaly", "host", "order_id", "trace_id"), OPTIONS)
    assert plan.values == ("m0",)
    assert set(plan.skipped) == {"label", "split", "is_anomaly"}
    assert set(plan.unused) == {"order_id", "trace_id"}
    assert any(note == "skipped = label, split, is_anomaly" for note in plan.notes("s", ["m0"], "file"))


def test_options_override_the_guess() -> None:
    options = MappingOptions(time="at", entity=("room",), values=("temp*", "label"), entity_name="where", skip=())
    plan = plan_columns(("timestamp", "at", "host", "room", "temp_a", "temp_b", "label", "noise"), options)
    assert plan.time == "at"
    assert plan.entity == (("where", "room"),)
    assert plan.values == ("temp_a", "temp_b", "label")


def test_a_skipped_column_that_is_asked_for_by_name_is_a_feature() -> None:
    assert plan_columns(("t", "x", "label"), MappingOptions(values=("label",))).values == ("label",)
    assert plan_columns(("t", "x", "label"), MappingOptions(values=("*",))).values == ("x",)


def test_long_form_takes_exactly_one_name_and_one_value_column() -> None:
    assert plan_columns(("t", "host", "metric", "value"), OPTIONS).name == "metric"
    assert plan_columns(("t", "host", "value"), OPTIONS).name is None
    assert plan_columns(("t", "name", "metric", "value"), OPTIONS).name is None
    wide = plan_columns(("t", "host", "metric", "value"), MappingOptions(form="wide"))
    assert (wide.name, wide.values) == (None, ("metric", "value"))
    plan = plan_columns(("t", "what", "much"), MappingOptions(name="what", value="much"))
    assert (plan.name, plan.value) == ("what", "much")


@pytest.mark.parametrize(
    ("columns", "options", "reason", "words"),
    [
        (("a", "b"), OPTIONS, "no_time", "mapping.time"),
        (("timestamp", "x"), MappingOptions(time="timestmp"), "no_time", "did you mean 'timestamp'"),
        (("t", "hosts", "x"), MappingOptions(entity=("host",)), "no_column", "did you mean 'hosts'"),
        (("t", "x"), MappingOptions(values=("y*",)), "no_values", "mapping.values"),
        (("t", "x"), MappingOptions(form="long"), "no_values", "needs a name column"),
    ],
)
def test_a_plan_that_cannot_be_says_what_to_do(
    columns: tuple[str, ...], options: MappingOptions, reason: str, words: str
) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        plan_columns(columns, options)
    assert caught.value.reason == reason


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="entity_name"):
        MappingOptions(entity=("a", "b"), entity_name="c")
    with pytest.raises(ValidationError, match="long"):
        MappingOptions(form="wide", name="metric")


# -- times -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        (1_640_000_000, "auto", 1_640_000_000 * NANO),
        (1_640_000_000_123, "auto", 1_640_000_000_123_000_000),
        (1_640_000_000_123_456, "auto", 1_640_000_000_123_456_000),
        (1_640_000_000_123_456_789, "auto", 1_640_000_000_123_456_789),
        (0, "auto", 0),
        (300, "auto", 300 * NANO),
        (300, "ms", 300_000_000),
        (9_300_000_000, "auto", None),
        (-1, "auto", None),
        (2**63, "auto", None),
        (1_640_000_000.123, "auto", 1_640_000_000_123_000_000),
        (1_640_000_000_123.5, "auto", 1_640_000_000_123_500_000),
        (0.25, "s", 250_000_000),
        (float("nan"), "auto", None),
        (float("inf"), "auto", None),
        ("2021-12-20T11:33:20Z", "auto", 1_640_000_000 * NANO),
        ("2021-12-20 11:33:20", "auto", 1_640_000_000 * NANO),
        ("2021-12-20T12:33:20.5+01:00", "auto", 1_640_000_000 * NANO + 500_000_000),
        ("1640000000", "auto", None),
        ("9999-01-01", "auto", None),
        ("1950-01-01", "auto", None),
        (True, "auto", None),
        (None, "auto", None),
        ([1], "auto", None),
    ],
)
def test_times(number: Any, unit: str, expected: int | None) -> None:
    alone, ok = times_of_values([number], unit)
    assert (int(alone[0]) if ok[0] else None) == expected
    mixed, ok = times_of_values([5, "x", number, 1_640_000_000_123, 2.5], unit)
    assert (int(mixed[2]) if ok[2] else None) == expected, "a time means the same in any company"


def test_numeric_times_agree_with_one_by_one() -> None:
    rng = np.random.default_rng(1)
    numbers = np.floor(10 ** rng.uniform(0, 18.9, 500))
    together, ok = numeric_times(numbers, "auto")
    for at, number in enumerate(numbers):
        one, fine = numeric_times(np.array([number]), "auto")
        assert (together[at], ok[at]) == (one[0], fine[0])


def test_iso_agrees_with_the_calendar() -> None:
    moment = datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC)
    assert parse_iso(moment.isoformat()) == round(moment.timestamp() * 1e6) * 1_000
    assert parse_iso("2024-02-30") == -1


# -- tables ------------------------------------------------------------------------------------------------------


def test_a_wide_table_becomes_samples_row_by_row() -> None:
    table = pa.table({"t": [10, 20], "cpu": pa.array([0.5, None], pa.float32()), "mem": [3, 4], "label": [0, 1]})
    samples = decode_table(table, MappingOptions(units={"mem": "By"}, counters=("mem",)), DEFAULT)
    assert [str(value) for _, _, value in tuples(samples)] == ["0.5", "3.0", "nan", "4.0"]
    assert [when for _, when, _ in tuples(samples)] == [10 * NANO, 10 * NANO, 20 * NANO, 20 * NANO]
    mem = samples.series[1]
    assert (mem.name, mem.entity, mem.unit, mem.kind) == ("mem", DEFAULT, "By", Kind.COUNTER)
    assert "time = t (s)" in samples.notes
    assert "skipped = label" in samples.notes


def test_entity_columns_make_series_of_each_entity() -> None:
    table = pa.table({"time": [1, 1, 2], "host": pa.array(["b", "a", "b"]).dictionary_encode(), "cpu": [1.0, 2.0, 3.0]})
    assert tuples(decode_table(table, OPTIONS, DEFAULT)) == [
        ('cpu@{host="b"}', NANO, 1.0),
        ('cpu@{host="a"}', NANO, 2.0),
        ('cpu@{host="b"}', 2 * NANO, 3.0),
    ]
    by_file = decode_table(table, OPTIONS, DEFAULT, use_entity=False)
    assert {one.text for one in by_file.series} == {'cpu{host="a"}@{entity="m1"}', 'cpu{host="b"}@{entity="m1"}'}


def test_a_long_table_and_the_same_wide_one_agree() -> None:
    rng = np.random.default_rng(2)
    n, names = 50, ["cpu", "mem", "io"]
    values = rng.normal(size=(n, 3))
    hosts = rng.choice(["a", "b"], n)
    wide = pa.table({"t": np.arange(n), "host": hosts} | {name: values[:, at] for at, name in enumerate(names)})
    long = pa.table(
        {"t": np.repeat(np.arange(n), 3), "host": np.repeat(hosts, 3), "metric": names * n, "value": values.ravel()}
    )
    assert tuples(decode_table(wide, OPTIONS, DEFAULT)) == tuples(decode_table(long, OPTIONS, DEFAULT))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_640_000_000, 1_640_000_060]),
        pa.array([1_640_000_000_000, 1_640_000_060_000], pa.uint64()),
        pa.array([1_640_000_000.0, 1_640_000_060.0]),
        pa.array([datetime(2021, 12, 20, 11, 33, 20), datetime(2021, 12, 20, 11, 34, 20)], pa.timestamp("us")),
        pa.array([1_640_000_000, 1_640_000_060]).cast(pa.timestamp("s", "Europe/Berlin")),
        pa.array(["2021-12-20T11:33:20Z", "2021-12-20 11:34:20"]),
        pa.array(["1640000000", " 1640000060.0"]),
        pa.array(["1640000000", "2021-12-20T11:34:20Z"]).dictionary_encode(),
    ],
)
def test_time_columns_of_every_kind(column: Any) -> None:
    samples = decode_table(pa.table({"when": column, "x": [1.0, 2.0]}), MappingOptions(time="when"), DEFAULT)
    assert samples.time_unix_nano.tolist() == [1_640_000_000 * NANO, 1_640_000_060 * NANO]


def test_a_column_of_a_time_type_is_the_time_whatever_its_name() -> None:
    table = pa.table({"x": [1.0], "when": pa.array([date(2021, 12, 20)])})
    assert decode_table(table, OPTIONS, DEFAULT).time_unix_nano[0] == 1_639_958_400 * NANO


def test_rows_without_time_or_entity_are_counted() -> None:
    table = pa.table({"t": [1, None, -5, 4], "host": ["a", "a", "a", None], "x": [1.0, 2.0, 3.0, 4.0]})
    samples = decode_table(table, OPTIONS, DEFAULT)
    assert [value for *_, value in tuples(samples)] == [1.0]
    assert samples.dropped == {"bad_time": 2, "no_entity": 1}
    assert "bad_time: 2 dropped, first at row 2" in samples.notes


def test_nested_columns_are_reached_by_dotted_names() -> None:
    table = pa.table({"t": [1], "tags": [{"host": "a", "zone": "z"}], "mem": [{"used": 3, "free": 4}]})
    samples = decode_table(table, OPTIONS, DEFAULT)
    assert [one.text for one in samples.series] == [
        'mem.used{zone="z"}@{host="a"}', 'mem.free{zone="z"}@{host="a"}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pa.table({"x": [1.0]}), "no_time"),
        (pa.table({"t": [1], "x": ["a"]}), "no_values"),
        (pa.table({"t": [-1], "x": [1.0]}), "bad_time"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([1]), pa.array([1])], ["t", "x", "x"]), "duplicate_column"),
    ],
)
def test_tables_that_cannot_be_used_say_why(table: Any, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        decode_table(table, OPTIONS, DEFAULT)
    assert caught.value.reason == reason


def test_names_of_absurd_length_are_refused() -> None:
    table = pa.table({"t": [1, 2], "host": ["a", "a" * 2000], "x": [1.0, 2.0]})
    samples = decode_table(table, OPTIONS, DEFAULT)
    assert (len(samples), samples.dropped) == (1, {"name_too_long": 1})


# -- payloads ----------------------------------------------------------------------------------------------------


def test_arrow_payloads_carry_their_plan() -> None:
    table = pa.table({"t": [1 * NANO, 2 * NANO], "room": ["a", "b"], "x": [1.0, np.nan], "e": ["i", "j"]})
    options = MappingOptions(entity=("room",), id="e", unit="ns")
    expected = decode_table(table, options, DEFAULT)
    payload = encode_table(table, plan_table(table, options), DEFAULT)
    decoded = decode(Record("default", "f", ARROW, 0, payload), OPTIONS)
    assert repr(tuples(decoded)) == repr(tuples(expected))
    assert decoded.event_id.tolist() == expected.event_id.tolist()
    assert len(set(decoded.event_id.tolist()) - {0}) == 2


def test_samples_survive_arrow() -> None:
    table = pa.table({"t": [1, 2], "eventId": ["i", "j"], "x": [1.0, 2.0], "y": [3, None]})
    samples = decode_table(table, MappingOptions(units={"x": "s"}, counters=("y",)), DEFAULT)
    again = decode_arrow(encode_samples(samples), OPTIONS)
    assert list(again.series) == list(samples.series)
    assert repr(tuples(again)) == repr(tuples(samples))
    assert again.event_id.tolist() == samples.event_id.tolist()


def test_foreign_arrow_is_guessed_and_broken_arrow_refused() -> None:
    sink = pa.BufferOutputStream()
    table = pa.table({"t": [1], "x": [2.0]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    payload = sink.getvalue().to_pybytes()
    assert tuples(decode(Record("default", "src", ARROW, 0, payload), OPTIONS)) == [('x@{entity="src"}', NANO, 2.0)]
    with pytest.raises(BadInputError) as caught:
        decode_arrow(payload[:-40][:60], OPTIONS)
    assert caught.value.reason == "bad_arrow"


def test_metrics_there_and_back() -> None:
    readings = [
        Reading(5, {"host.name": "a"}, [Metric("cpu", {}, "1", 0.5), Metric("io", {"direction": "read"}, "By", None)]),
        Reading(6, {"host.name": "a"}, [Metric("cpu", {}, "1", 0.25), Metric("n", {}, "", 3, True)]),
    ]
    samples = decode(Record("default", "host", METRICS, 0, encode_metrics(readings)), OPTIONS)
    assert repr(tuples(samples)) == repr(
        [
            ('cpu@{host.name="a"}', 5, 0.5),
            ('io{direction="read"}@{host.name="a"}', 5, float("nan")),
            ('cpu@{host.name="a"}', 6, 0.25),
            ('n@{host.name="a"}', 6, 3.0),
        ]
    )
    assert [one.kind for one in samples.series] == [Kind.GAUGE, Kind.GAUGE, Kind.COUNTER]
    assert tuples(decode_metrics(encode_metrics(readings[0]))) != []


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "bad_json"),
        (b'{"time":1}', "bad_json"),
        (b"[]", "empty"),
        (b'{"time":-1,"entity":{},"metrics":[]}', "bad_time"),
        (b'{"time":1,"entity":{},"metrics":[["cpu",{},"1","x"]]}', "bad_json"),
    ],
)
def test_broken_metrics_are_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        decode_metrics(payload)
    assert caught.value.reason == reason


def test_an_unknown_content_type_is_refused() -> None:
    with pytest.raises(BadInputError) as caught:
        decode(Record("default", "x", "text/html", 0, b""), OPTIONS)
    assert caught.value.reason == "unknown_content_type"
