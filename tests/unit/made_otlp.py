"""OTLP requests for tests."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

SECOND = 1_000_000_000
T = 1_700_000_000 * SECOND
DELTA, CUMULATIVE = pb.AGGREGATION_TEMPORALITY_DELTA, pb.AGGREGATION_TEMPORALITY_CUMULATIVE


def any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        out = AnyValue()
        out.array_value.values.extend([any_value(one) for one in value])
        return out
    if isinstance(value, dict):
        out = AnyValue()
        out.kvlist_value.values.extend(pairs(value))
        return out
    return AnyValue(string_value=value)


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=any_value(value)) for name, value in attributes.items()]


def number(value: float, time: int = T, start: int = 0, **attributes: Any) -> pb.NumberDataPoint:
    kind = {"as_int": value} if isinstance(value, int) else {"as_double": value}
    return pb.NumberDataPoint(time_unix_nano=time, start_time_unix_nano=start, attributes=pairs(attributes), **kind)


def gauge(name: str, *points: pb.NumberDataPoint, unit: str = "1") -> pb.Metric:
    return pb.Metric(name=name, unit=unit, gauge=pb.Gauge(data_points=points))


def total(name: str, how: Any, *points: pb.NumberDataPoint, unit: str = "By", monotonic: bool = True) -> pb.Metric:
    data = pb.Sum(data_points=points, aggregation_temporality=how, is_monotonic=monotonic)
    return pb.Metric(name=name, unit=unit, sum=data)


def histogram(
    name: str, how: Any, bounds: list[float], counts: list[int], total: float, start: int = T - 10 * SECOND, **more: Any
) -> pb.Metric:
    point = pb.HistogramDataPoint(
        time_unix_nano=T, start_time_unix_nano=start, explicit_bounds=bounds, bucket_counts=counts,
        count=more.pop("count", sum(counts)), sum=total, **more,
    )  # fmt: skip
    data = pb.Histogram(data_points=[point], aggregation_temporality=how)
    return pb.Metric(name=name, unit="s", histogram=data)


def request(*metrics: pb.Metric, **resource: Any) -> ExportMetricsServiceRequest:
    """One resource; its attributes have `_` for `.`."""
    out = ExportMetricsServiceRequest()
    one = out.resource_metrics.add()
    one.resource.attributes.extend(pairs({name.replace("_", "."): value for name, value in resource.items()}))
    one.scope_metrics.add().metrics.extend(metrics)
    return out
