"""OTLP metrics: what each kind becomes, whose it is, and what is left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from foreshock.adapters.decode import decode
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.otlp import answers
from foreshock.adapters.otlp import decode as otlp
from foreshock.errors import BadInputError
from foreshock.types import Kind, Record, Samples
from foreshock.types.record import OTLP, OTLP_JSON
from tests.unit.made_otlp import (
    CUMULATIVE,
    DELTA,
    SECOND,
    T,
    any_value,
    gauge,
    histogram,
    number,
    pairs,
    request,
    total,
)

NOBODY = (("entity", "http"),)


def taken(message: Any, options: MappingOptions | None = None) -> Samples:
    return otlp.decode_otlp(message.SerializeToString(), OTLP, options or MappingOptions(), NOBODY)


def values(samples: Samples) -> dict[str, float]:
    """Feature → its value, of samples of one time each."""
    return {
        samples.series[at].feature: value
        for at, value in zip(samples.index.tolist(), samples.value.tolist(), strict=True)
    }


def test_a_gauge_is_taken_as_it_is() -> None:
    samples = taken(request(gauge("cpu", number(0.3, core="0"), number(7, core="1"), unit="1"), service_name="cart"))
    assert values(samples) == {'cpu{core="0"}': 0.3, 'cpu{core="1"}': 7.0}
    first = samples.series[0]
    assert (first.entity, first.unit, first.kind) == ((("service.name", "cart"),), "1", Kind.GAUGE)
    assert samples.time_unix_nano.tolist() == [T, T]
    assert not samples.dropped
    assert "entity = service.name" in samples.notes


def test_sums_become_counters_gauges_or_rates() -> None:
    start = T - 10 * SECOND
    samples = taken(
        request(
            total("read", CUMULATIVE, number(500)),
            total("open", CUMULATIVE, number(4), monotonic=False),
            total("sent", DELTA, number(500, start=start)),
            total("busy", DELTA, number(2.5, start=start), unit="s"),
            total("moved", DELTA, number(-20, start=start), unit="", monotonic=False),
        )
    )
    found = {one.name: (one.kind, one.unit) for one in samples.series}
    assert found == {
        "read": (Kind.COUNTER, "By"), "open": (Kind.GAUGE, "By"), "sent": (Kind.GAUGE, "By/s"),
        "busy": (Kind.GAUGE, "1"), "moved": (Kind.GAUGE, "1/s"),
    }  # fmt: skip
    assert values(samples) == {"read": 500.0, "open": 4.0, "sent": 50.0, "busy": 0.25, "moved": -2.0}


def test_a_delta_histogram_gives_rates_and_quantiles() -> None:
    samples = taken(request(histogram("latency", DELTA, [0.1, 0.2, 0.4], [50, 40, 10, 0], 12.0), service_name="a"))
    found = values(samples)
    assert found["latency.count"] == 10.0
    assert found["latency.sum"] == 1.2
    assert found['latency{quantile="0.5"}'] == pytest.approx(0.1)
    assert found['latency{quantile="0.95"}'] == pytest.approx(0.2 + 0.2 * 5 / 10)
    assert found['latency{quantile="0.99"}'] == pytest.approx(0.2 + 0.2 * 9 / 10)


def test_a_cumulative_histogram_gives_counters_alone() -> None:
    samples = taken(request(histogram("latency", CUMULATIVE, [0.1], [5, 1], 0.7)))
    assert values(samples) == {"latency.count": 6.0, "latency.sum": 0.7}
    assert {one.kind for one in samples.series} == {Kind.COUNTER}


def exponential(
    scale: int, offset: int, counts: list[int], zero: int = 0, negative: list[int] | None = None
) -> pb.Metric:
    point = pb.ExponentialHistogramDataPoint(
        time_unix_nano=T, start_time_unix_nano=T - SECOND, scale=scale, zero_count=zero,
        count=zero + sum(counts) + sum(negative or []), sum=1.0,
    )  # fmt: skip
    point.positive.offset = offset
    point.positive.bucket_counts.extend(counts)
    point.negative.bucket_counts.extend(negative or [])
    data = pb.ExponentialHistogram(data_points=[point], aggregation_temporality=DELTA)
    return pb.Metric(name="size", unit="By", exponential_histogram=data)


def test_an_exponential_histogram_has_the_quantiles_of_its_buckets() -> None:
    # Scale 0: the buckets are (1, 2], (2, 4], (4, 8].
    found = values(taken(request(exponential(0, 0, [0, 100, 0]))))
    assert found['size{quantile="0.5"}'] == pytest.approx(3.0)
    # Half of them 0: the median is at most where the first bucket begins.
    assert values(taken(request(exponential(0, 0, [10], zero=10))))['size{quantile="0.5"}'] <= 1.0


@pytest.mark.parametrize(
    "metric", [exponential(0, 0, [1], negative=[1]), exponential(-10, 2000, [1]), exponential(20, -(2**31), [1])]
)
def test_buckets_that_cannot_be_used_cost_only_the_quantiles(metric: pb.Metric) -> None:
    assert set(values(taken(request(metric)))) == {"size.count", "size.sum"}


def test_a_summary_is_its_quantiles_and_counters() -> None:
    point = pb.SummaryDataPoint(time_unix_nano=T, count=9, sum=3.0)
    point.quantile_values.add(quantile=0.9, value=0.5)
    samples = taken(request(pb.Metric(name="took", unit="s", summary=pb.Summary(data_points=[point]))))
    assert values(samples) == {"took.count": 9.0, "took.sum": 3.0, 'took{quantile="0.9"}': 0.5}


def test_no_recorded_value_is_missing() -> None:
    point = pb.NumberDataPoint(time_unix_nano=T, flags=1)
    samples = taken(request(gauge("cpu", point), total("read", CUMULATIVE, point)))
    assert np.isnan(samples.value).all()
    assert len(samples) == 2


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (gauge("", number(1.0)), "no_name"),
        (gauge("x" * 2000, number(1.0)), "name_too_long"),
        (gauge("cpu", number(1.0, a="x" * 2000)), "name_too_long"),
        (gauge("cpu", number(1.0, time=0)), "bad_time"),
        (gauge("cpu", number(1.0, time=2**63)), "bad_time"),
        (gauge("cpu", pb.NumberDataPoint(time_unix_nano=T)), "no_values"),
        (total("read", DELTA, number(1)), "no_start"),
        (total("read", DELTA, number(1, start=T)), "no_start"),
        (total("read", 0, number(1)), "no_temporality"),
        (histogram("h", DELTA, [0.1], [1], 0.1), "bad_histogram"),
        (histogram("h", DELTA, [0.2, 0.1], [1, 1, 1], 0.1), "bad_histogram"),
        (histogram("h", DELTA, [0.1, math.inf], [1, 1, 1], 0.1), "bad_histogram"),
        (histogram("h", DELTA, [0.1], [1, 1], 0.1, count=7), "bad_histogram"),
        (pb.Metric(name="nothing"), "not_supported"),
    ],
)
def test_what_cannot_be_used_is_counted_by_reason(metric: pb.Metric, reason: str) -> None:
    samples = taken(request(metric, gauge("good", number(1.0))))
    assert samples.dropped == {reason: 1}
    assert values(samples) == {"good": 1.0}
    with pytest.raises(BadInputError) as caught:
        taken(request(metric))
    assert caught.value.reason == reason


# -- whose it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "entity", "attributes"),
    [
        ({"service_name": "cart", "service_namespace": "shop", "os_type": "linux"},
         {"service.name": "cart", "service.namespace": "shop"}, {}),
        ({"service_name": "cart", "host_name": "a1"}, {"service.name": "cart"}, {"host.name": "a1"}),
        ({"service_name": "cart", "service_instance_id": "7", "host_name": "a1"},
         {"service.name": "cart", "service.instance.id": "7"}, {}),
        ({"k8s_pod_name": "p", "k8s_namespace_name": "n", "host_name": "a1"},
         {"k8s.pod.name": "p", "k8s.namespace.name": "n"}, {}),
        ({"host_name": "a1", "host_id": "x"}, {"host.name": "a1"}, {}),
        ({"os_type": "linux"}, {"entity": "http"}, {}),
        ({"service_name": ""}, {"entity": "http"}, {}),
    ],
)  # fmt: skip
def test_the_entity_is_named_by_the_resource(
    resource: dict[str, str], entity: dict[str, str], attributes: dict[str, str]
) -> None:
    (series,) = taken(request(gauge("cpu", number(1.0)), **resource)).series
    assert dict(series.entity) == entity
    assert dict(series.attributes) == attributes


def test_the_settings_may_name_the_entity_and_instances_stay_apart() -> None:
    options = MappingOptions(entity=("service.name",))
    message = request(gauge("cpu", number(1.0)), service_name="cart", service_instance_id="7")
    (series,) = taken(message, options).series
    assert series.entity == (("service.name", "cart"),)
    assert series.attributes == (("service.instance.id", "7"),)
    # What the settings name is not there: as if they had not named it.
    (series,) = taken(message, MappingOptions(entity=("userId",))).series
    assert dict(series.entity) == {"service.name": "cart", "service.instance.id": "7"}


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (True, "true"), (7, "7"), (2.0, "2"), (2.5, "2.5"), ([1, "a"], "[1,a]"), ({"b": 1, "a": False},
     "{a=false,b=1}"), (b"\x01\xff", "01ff")],
)  # fmt: skip
def test_attributes_of_every_kind_have_a_text(value: Any, text: str) -> None:
    from foreshock.adapters.otlp.resource import text_of

    assert text_of(any_value(value)) == text


# -- encodings -----------------------------------------------------------------------------------------------------


def test_json_means_the_same_as_protobuf() -> None:
    message = request(
        gauge("cpu", number(0.5, core="0")), total("read", CUMULATIVE, number(2**53)),
        histogram("latency", DELTA, [0.1, 0.2], [5, 4, 1], 1.0), service_name="cart",
    )  # fmt: skip
    text = json_format.MessageToJson(message).encode()
    as_json = otlp.decode_otlp(text, OTLP_JSON, MappingOptions(), NOBODY)
    as_protobuf = taken(message)
    assert values(as_json) == values(as_protobuf)
    assert tuple(as_json.series) == tuple(as_protobuf.series)


def test_json_may_say_more_than_is_known() -> None:
    body = b"""{"resourceMetrics": [{"resource": {}, "new": 1, "scopeMetrics": [{"metrics": [{"name": "cpu", "gauge":
      {"dataPoints": [{"timeUnixNano": "1700000000000000000", "asDouble": 0.5, "later": {}, "exemplars": [{"traceId":
      "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "asDouble": 1}]}]}}]}]}]}"""
    assert values(otlp.decode_otlp(body, OTLP_JSON, MappingOptions(), NOBODY)) == {"cpu": 0.5}


def test_it_is_a_record_like_any_other() -> None:
    payload = request(gauge("cpu", number(0.5))).SerializeToString()
    samples = decode(Record("e", "agent", OTLP, 0, payload), MappingOptions())
    assert isinstance(samples, Samples)
    assert samples.series[0].entity == (("entity", "agent"),)


def test_an_empty_request_holds_nothing() -> None:
    assert not len(otlp.decode_otlp(b"", OTLP, MappingOptions(), NOBODY))
    assert not len(otlp.decode_otlp(b"{}", OTLP_JSON, MappingOptions(), NOBODY))


# -- hostile -------------------------------------------------------------------------------------------------------


def whole() -> bytes:
    message = request(
        gauge("cpu", number(0.5, core="0")), total("read", DELTA, number(5, start=T - SECOND)),
        histogram("latency", DELTA, [0.1, 0.2], [5, 4, 1], 1.0), exponential(3, -5, [1, 2, 3]), service_name="cart",
    )  # fmt: skip
    return bytes(message.SerializeToString())


def test_cut_anywhere_it_is_refused_or_understood_and_nothing_else() -> None:
    payload = whole()
    refused = 0
    for end in range(len(payload)):
        try:
            otlp.decode_otlp(payload[:end], OTLP, MappingOptions(), NOBODY)
        except BadInputError:
            refused += 1
    assert refused > len(payload) // 2


def test_flipped_bytes_are_refused_or_understood_and_nothing_else() -> None:
    payload, random = whole(), np.random.default_rng(7)
    outcomes = set()
    for _ in range(2000):
        hurt = bytearray(payload)
        for at in random.integers(0, len(hurt), 3).tolist():
            hurt[at] = int(random.integers(0, 256))
        try:
            samples = otlp.decode_otlp(bytes(hurt), OTLP, MappingOptions(), NOBODY)
            outcomes.add("some" if len(samples) else "none")
            assert (samples.index < len(samples.series)).all()
        except BadInputError as error:
            outcomes.add(error.reason)
    assert {"some", "bad_otlp"} <= outcomes


@pytest.mark.parametrize("body", [b"\xff" * 100, b"{", b'{"resourceMetrics": 5}', b"[" * 100_000, b"\xff\xfe{}"])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    for kind in (OTLP, OTLP_JSON):
        with pytest.raises(BadInputError) as caught:
            otlp.decode_otlp(body, kind, MappingOptions(), NOBODY)
        assert caught.value.reason == "bad_otlp"


@pytest.mark.parametrize("depth", [40, 5000])
def test_nested_attributes_do_not_overflow_the_stack(depth: int) -> None:
    def within(field: int, value: bytes) -> bytes:
        return bytes((field << 3 | 2,)) + answers._varint(len(value)) + value

    value = within(1, b"x")
    for _ in range(depth):
        value = within(5, within(1, value))
    point = within(7, within(1, b"deep") + within(2, value)) + number(0.5).SerializeToString()
    metric = within(1, b"cpu") + within(5, within(1, point))
    payload = within(1, within(2, within(2, metric)))
    if depth == 40:
        (series,) = otlp.decode_otlp(payload, OTLP, MappingOptions(), NOBODY).series
        assert series.attributes == (("deep", "[" * 40 + "x" + "]" * 40),)
        return
    text = b'{"arrayValue": {"values": [' * depth + b'{"stringValue": "x"}' + b"]}}" * depth
    as_json = b'{"resourceMetrics": [{"resource": {"attributes": [{"key": "a", "value": ' + text + b"}]}}]}"
    for body, kind in ((payload, OTLP), (as_json, OTLP_JSON)):
        with pytest.raises(BadInputError) as caught:
            otlp.decode_otlp(body, kind, MappingOptions(), NOBODY)
        assert caught.value.reason == "bad_otlp"


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "MAX_POINTS", 13)
    assert len(taken(request(gauge("cpu", *[number(0.5)] * 10)))) == 10
    many = request(gauge("cpu", *[number(0.5)] * 6), gauge("mem", *[number(0.5)] * 5))
    attributes = request(
        gauge(
            "cpu", pb.NumberDataPoint(time_unix_nano=T, as_int=1, attributes=pairs({f"a{at}": "x" for at in range(20)}))
        )
    )
    resources = request()
    for _ in range(20):
        resources.resource_metrics.add()
    for one in (many, attributes, resources, request(*[gauge("cpu")] * 20)):
        with pytest.raises(BadInputError) as caught:
            taken(one)
        assert caught.value.reason == "too_many_points"
    monkeypatch.setattr(otlp, "MAX_BYTES", 50)
    with pytest.raises(BadInputError) as caught:
        taken(many)
    assert caught.value.reason == "too_large"


# -- answers -------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_the_protocol() -> None:
    for rejected, message in ((0, ""), (3, "bad_time: 3"), (300, "é" * 200)):
        response = ExportMetricsServiceResponse()
        response.ParseFromString(answers.success(rejected, message, as_json=False))
        assert response.partial_success.rejected_data_points == rejected
        assert response.partial_success.error_message == message
        again = ExportMetricsServiceResponse()
        json_format.Parse(answers.success(rejected, message, as_json=True), again)
        assert again == response
    assert answers.status("no", as_json=True) == b'{"message":"no"}'
    assert answers.status("no", as_json=False) == b"\x12\x02no"
