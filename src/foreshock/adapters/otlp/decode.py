"""OTLP metrics (`ExportMetricsServiceRequest`, protobuf or JSON) → Samples. Pure: the bytes and the options decide all.

A gauge is taken as it is. A cumulative monotonic sum is a counter, of which the stream layer makes a rate; a delta sum
is divided by its interval here, which gives the same. A histogram is its `.count` and `.sum`, treated like sums, and
where it is delta its quantiles too: those of a cumulative one need the histogram before it, which is not in the bytes.
A summary is its quantiles, `.count` and `.sum`. Exemplars are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from foreshock.adapters.assemble import Drops, identity
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import known_series
from foreshock.adapters.otlp.histogram import Buckets, explicit, exponential, quantile_values
from foreshock.adapters.otlp.resource import identify, texts_of
from foreshock.errors import BadInputError
from foreshock.types import Labels, Samples, Series
from foreshock.types.record import OTLP_JSON

MAX_BYTES = 8 << 20
"""Largest request, unpacked: parsed, what is sent to do harm can take forty times as much memory."""

MAX_POINTS = 500_000
"""Most data points of one request; attributes, metrics, scopes and resources count too."""

DELTA, CUMULATIVE = 1, 2
"""AggregationTemporality; 0 is unspecified."""

_NO_RECORDED_VALUE = 1
_LARGEST_TIME = 2**63
_MOST_NOTES = 12


def decode_otlp(payload: bytes, content_type: str, options: MappingOptions, nobody: Labels) -> Samples:
    """Samples of a request; `options.entity` may name the resource attributes that make the entity.

    `nobody` is the entity of resources that name none. Data points that cannot be used are counted in `dropped`:
    `no_name`, `name_too_long`, `bad_time`, `no_values`, `no_start` (a delta without an interval), `no_temporality`,
    `bad_histogram`, `not_supported` (a kind of metric that this version does not know). Raises BadInputError
    (`bad_otlp`, `too_many_points`) if the request cannot be read, or if it has points and none can be used.
    """
    if len(payload) > MAX_BYTES:
        raise BadInputError("too_large", f"an OTLP request may have {MAX_BYTES} bytes: send several smaller ones")
    request = _parse(payload, content_type)
    taken = _Taken(options, nobody)
    for resource in request.resource_metrics:
        taken.begin(resource.resource)
        for scope in resource.scope_metrics:
            taken.count(1)
            for metric in scope.metrics:
                taken.take(metric)
    samples = taken.samples()
    if taken.points and not len(samples):
        raise BadInputError(taken.drops.worst(), f"no data point can be used ({'; '.join(taken.drops.notes())})")
    return samples


def _parse(payload: bytes, content_type: str) -> Any:
    """The message; BadInputError where the bytes are none, or the extra that reads them is not installed."""
    try:
        from google.protobuf import json_format
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    except ModuleNotFoundError as error:
        raise BadInputError("not_installed", "OTLP needs pip install 'foreshock[otel]'") from error
    request = ExportMetricsServiceRequest()
    try:
        if content_type == OTLP_JSON:
            json_format.Parse(payload, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(payload)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadInputError("bad_otlp", f"not an OTLP metrics request: {error}") from error
    return request


class _Taken:
    """What has been taken of a request so far, and what was left out."""

    def __init__(self, options: MappingOptions, nobody: Labels) -> None:
        self.points = self._parts = 0
        self.drops = Drops("data point")
        self._options, self._nobody = options, nobody
        self._entity: Labels = nobody
        self._instance: Labels = ()
        self._attributes: Labels = ()
        self._known: dict[Series, int] = {}
        self._index: list[int] = []
        self._times: list[int] = []
        self._values: list[float] = []
        self._buckets: list[Buckets] = []
        self._notes: dict[str, None] = {}

    def count(self, parts: int) -> None:
        """So much more has to be looked at; BadInputError where it becomes too much."""
        self._parts += parts
        if self._parts > MAX_POINTS:
            raise BadInputError("too_many_points", f"a request may have {MAX_POINTS} data points: send several")

    def begin(self, resource: Any) -> None:
        """What follows belongs to this resource."""
        self.count(1 + len(resource.attributes))
        self._entity, self._instance = identify(texts_of(resource.attributes), self._options.entity, self._nobody)
        self._notes[f"entity = {', '.join(name for name, _ in self._entity)}"] = None

    def take(self, metric: Any) -> None:
        """Take the data points of a metric."""
        self.count(1)
        kind = metric.WhichOneof("data")
        read = _READERS.get(kind or "")
        if read is None:
            self.points += 1
            self.drops.add("not_supported", 1, self.points)
            return
        data = getattr(metric, kind)
        self.count(len(data.data_points))
        for point in data.data_points:
            self.points += 1
            self.count(len(point.attributes))
            pairs = tuple(texts_of(point.attributes).items()) if point.attributes else ()
            self._attributes = (*self._instance, *pairs)
            reason = self._refusal(metric, point) or read(self, metric, data, point)
            if reason:
                self.drops.add(reason, 1, self.points)

    def add(self, metric: Any, point: Any, value: float, *, end: str = "", unit: str, counter: bool = False) -> None:
        """Add a sample of a point; `end` stands behind the name of the metric."""
        series = known_series(metric.name + end, self._attributes, unit, counter, self._entity)
        self._put(series, point.time_unix_nano, value)

    def add_quantiles(self, metric: Any, point: Any, buckets: tuple[tuple[float, ...], list[int]]) -> None:
        """Add the quantiles of what a histogram counted in its interval."""
        self._buckets.append(
            Buckets(*buckets, metric.name, self._attributes, metric.unit, self._entity, point.time_unix_nano)
        )

    def add_quantile(self, metric: Any, point: Any, q: float, value: float) -> None:
        """Add one quantile that the sender worked out."""
        attributes = (*self._attributes, ("quantile", f"{q:g}"))
        series = known_series(metric.name, attributes, metric.unit, False, self._entity)
        self._put(series, point.time_unix_nano, value)

    def samples(self) -> Samples:
        """All that was taken."""
        for one, q, value in quantile_values(self._buckets):
            attributes = (*one.attributes, ("quantile", f"{q:g}"))
            self._put(known_series(one.name, attributes, one.unit, False, one.entity), one.time_unix_nano, value)
        return Samples(
            list(self._known),
            np.array(self._index, np.int32),
            np.array(self._times, np.int64),
            np.array(self._values, np.float64),
            np.zeros(len(self._index), np.uint64),
            self.drops.counts,
            (*list(self._notes)[:_MOST_NOTES], *self.drops.notes()),
        )

    def _put(self, series: Series, time_unix_nano: int, value: float) -> None:
        self._index.append(self._known.setdefault(series, len(self._known)))
        self._times.append(time_unix_nano)
        self._values.append(value)

    def _refusal(self, metric: Any, point: Any) -> str:
        """Why a point cannot be used whatever it holds."""
        if not metric.name:
            return "no_name"
        if not 0 < point.time_unix_nano < _LARGEST_TIME:
            return "bad_time"
        return _refused(self._entity, self._attributes, metric.name)


@lru_cache(maxsize=1 << 14)
def _refused(entity: Labels, attributes: Labels, name: str) -> str:
    return identity(entity, attributes, name).refused


def _gauge(taken: _Taken, metric: Any, data: Any, point: Any) -> str:
    value = _number(point)
    if value is None:
        return "no_values"
    taken.add(metric, point, value, unit=metric.unit)
    return ""


def _sum(taken: _Taken, metric: Any, data: Any, point: Any) -> str:
    value = _number(point)
    if value is None:
        return "no_values"
    if data.aggregation_temporality == CUMULATIVE and not data.is_monotonic:
        taken.add(metric, point, value, unit=metric.unit)
        return ""
    return _total(taken, metric, data.aggregation_temporality, point, value, "", metric.unit)


def _histogram(taken: _Taken, metric: Any, data: Any, point: Any) -> str:
    try:
        found = (explicit if hasattr(point, "explicit_bounds") else exponential)(point)
    except ValueError:
        return "bad_histogram"
    how = data.aggregation_temporality
    missing = point.flags & _NO_RECORDED_VALUE
    reason = _total(taken, metric, how, point, np.nan if missing else float(point.count), ".count", "1")
    if reason or missing:
        return reason
    if point.HasField("sum"):
        _total(taken, metric, how, point, point.sum, ".sum", metric.unit)
    if how == DELTA and found is not None and point.count:
        taken.add_quantiles(metric, point, found)
    return ""


def _summary(taken: _Taken, metric: Any, data: Any, point: Any) -> str:
    if point.flags & _NO_RECORDED_VALUE:
        taken.add(metric, point, np.nan, end=".count", unit="1", counter=True)
        return ""
    taken.add(metric, point, float(point.count), end=".count", unit="1", counter=True)
    taken.add(metric, point, point.sum, end=".sum", unit=metric.unit, counter=True)
    for one in point.quantile_values:
        taken.add_quantile(metric, point, one.quantile, one.value)
    return ""


def _total(taken: _Taken, metric: Any, how: int, point: Any, value: float, end: str, unit: str) -> str:
    """Take what only adds up: as a counter if it is cumulative, per second of its interval if it is delta."""
    if how == CUMULATIVE:
        taken.add(metric, point, value, end=end, unit=unit, counter=True)
        return ""
    if how != DELTA:
        return "no_temporality"
    seconds = (point.time_unix_nano - point.start_time_unix_nano) / 1e9
    if not point.start_time_unix_nano or seconds <= 0:
        return "no_start"
    taken.add(metric, point, value / seconds, end=end, unit="1" if unit == "s" else f"{unit or '1'}/s")
    return ""


def _number(point: Any) -> float | None:
    """The value of a number's point; NaN where its sender says that it had none, None where it says nothing."""
    if point.flags & _NO_RECORDED_VALUE:
        return float("nan")
    kind = point.WhichOneof("value")
    return None if kind is None else float(getattr(point, kind))


_READERS: dict[str, Callable[[_Taken, Any, Any, Any], str]] = {
    "gauge": _gauge,
    "sum": _sum,
    "histogram": _histogram,
    "exponential_histogram": _histogram,
    "summary": _summary,
}
"""Kind of a metric → what takes one of its points, and says why if it cannot."""
