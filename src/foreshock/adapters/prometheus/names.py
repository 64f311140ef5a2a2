"""What Prometheus' names say: kind and unit of a metric, entity and attributes of its label sets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

from foreshock.types import Labels


class Kind(StrEnum):
    """How a metric of Prometheus is read."""

    GAUGE = "gauge"
    COUNTER = "counter"
    BUCKET = "bucket"
    UNKNOWN = "unknown"
    """Behaviour decides between gauge and counter."""
    SKIP = "skip"


ENTITY_LABELS = ("service.name", "service_name", "service", "app")
"""What names an entity, the first one first; then a pod's workload, then `job` and `instance`."""

LEAST_CHANGES = {
    "process_cpu_seconds_total": 0.05,
    "container_cpu_usage_seconds_total": 0.05,
    "node_cpu_seconds_total": 0.05,
}
"""Changes of well-known rates that are worth an alert at the least (cores), where the settings say nothing else: CPU
time is counted in ticks of 10 ms, of which a quiet process takes one now and then."""

REPLICA_LABELS = ("__replica__", "prometheus_replica")
"""What tells the two of a highly available pair of Prometheus servers apart."""

_OF_HISTOGRAM = {"bucket": Kind.BUCKET, "sum": Kind.SKIP, "count": Kind.COUNTER}
_INNER = frozenset({"__name__", "le"})
_OF_ONE_COPY = frozenset(
    {"job", "instance", "pod", "pod_name", "pod_ip", "host_ip", "node", "uid", "container_id", "image", "image_id",
     "pod_template_hash"}
)  # fmt: skip
"""Labels that tell copies of one service apart; an entity that is the service has the copies together."""
_OF_ONE_CONTAINER = frozenset({"id", "name"})
_NEVER = re.compile(r".*_created|.*_info|scrape_.*|ALERTS(_FOR_STATE)?|.*_timestamp(_seconds)?|.*_(start|boot)_time.*")
_STATES = re.compile(r"up|.*(_|:)(up|success|ready|available|healthy|alive|connected)|.*_replicas(_.*)?")
_UNITS = {
    "seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns", "minutes": "min", "hours": "h",
    "days": "d", "bytes": "By", "bits": "bit", "ratio": "1", "percent": "%", "celsius": "Cel", "volts": "V",
    "amperes": "A", "joules": "J", "watts": "W", "hertz": "Hz", "meters": "m", "grams": "g",
}  # fmt: skip
_HASH = "[bcdfghjklmnpqrstvwxz2456789]"
"""The characters of which Kubernetes makes the random parts of names."""
_PODS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(.+?)-(?:{_HASH}{{5,10}}|\d{{8,10}})-{_HASH}{{5}}",  # a replica set's, or a cron job's, hash and the pod's
        rf"(.+?)-{_HASH}{{5}}",  # a daemon set's or job's pod
        r"(.+?)-\d{1,4}",  # a stateful set's ordinal
    )
)


def kind_of(name: str, types: Mapping[str, str], known: Collection[str]) -> Kind:
    """How a metric is read, by its name, the types that Prometheus' metadata gives, and the names `known` beside it.

    Of histograms the buckets and the count are read, of summaries the quantiles and the count.

    >>> types = {"app_requests": "counter", "latency_seconds": "histogram"}
    >>> [str(kind_of(name, types, ())) for name in ("app_requests_total", "latency_seconds_sum", "queue_length")]
    ['counter', 'skip', 'unknown']
    """
    if _NEVER.fullmatch(name):
        return Kind.SKIP
    base, _, end = name.rpartition("_")
    together = f"{base}_count" in known and (f"{base}_bucket" in known or f"{base}_sum" in known)
    if end in _OF_HISTOGRAM and (together or types.get(base) in ("histogram", "summary")):
        return _OF_HISTOGRAM[end]
    said = types.get(name) or (types.get(base) if end == "total" else None)
    if said in ("info", "stateset"):
        return Kind.SKIP
    if said == "counter" or (said in (None, "unknown") and end == "total"):
        return Kind.COUNTER
    # Recording rules are made of what was counted: rates and ratios, levels.
    return Kind.GAUGE if said in ("gauge", "summary") or ":" in name or is_state(name) else Kind.UNKNOWN


def is_state(name: str) -> bool:
    """Whether a metric says that something is well: watched though it never moved.

    >>> is_state("up"), is_state("redis_up"), is_state("node_memory_MemTotal_bytes")
    (True, True, False)
    """
    return _STATES.fullmatch(name) is not None


def unit_of(name: str, per_second: bool = False) -> str:
    """The unit that a name ends in, as in OpenTelemetry; of a counter's rate with `per_second`.

    >>> unit_of("disk_written_bytes_total", per_second=True), unit_of("process_cpu_seconds_total", per_second=True)
    ('By/s', '1')
    >>> unit_of("app_requests_total", per_second=True), unit_of("queue_length")
    ('1/s', '')
    """
    # What `_count` counts are observations, whatever they are in.
    unit = _UNITS.get(name.removesuffix("_total").rpartition("_")[2], "")
    if not per_second:
        return unit
    return "1" if unit == "s" else f"{unit or '1'}/s"


def workload(pod: str) -> str:
    """The workload that a pod belongs to, by the pod's name.

    >>> workload("cart-7d9f8b6c5d-x2x9q"), workload("db-0"), workload("log-agent-x2x9q"), workload("frontend")
    ('cart', 'db', 'log-agent', 'frontend')
    """
    found = next((match for pattern in _PODS if (match := pattern.fullmatch(pod))), None)
    return found[1] if found else pod


def identify(
    labels: Mapping[str, str], wanted: Sequence[str], replicas: Collection[str], nobody: Labels
) -> tuple[Labels, Labels]:
    """Entity and attributes of a label set: the labels `wanted` for the entity that are there, else the usual ones.

    An entity is the first of `ENTITY_LABELS`, a pod's workload, or job and instance; with its namespace. What tells
    copies of one entity apart is left out of the attributes. `nobody` is the entity of label sets that name none.

    >>> identify({"service": "cart", "instance": "a:80", "job": "shop", "method": "GET"}, (), (), ())
    ((('service', 'cart'),), (('method', 'GET'),))
    >>> identify({"job": "node", "instance": "a:9100", "cpu": "0"}, (), (), ())
    ((('instance', 'a:9100'), ('job', 'node')), (('cpu', '0'),))
    >>> identify({"namespace": "shop", "pod": "cart-7d9f8b6c5d-x2x9q", "job": "kubelet", "instance": "n1"}, (), (), ())
    ((('namespace', 'shop'), ('workload', 'cart')), ())
    """
    entity = {name: labels[name] for name in wanted if labels.get(name)}
    left_out = {*_INNER, *replicas}
    pod = labels.get("pod") or labels.get("pod_name")
    if not entity and (name := next((one for one in ENTITY_LABELS if labels.get(one)), None)):
        entity = {name: labels[name]}
    elif not entity and pod:
        entity = {"workload": workload(pod)}
    elif not entity:
        entity = {name: labels[name] for name in ("job", "instance") if labels.get(name)}
    if not wanted and "instance" not in entity and labels.get("namespace"):
        entity["namespace"] = labels["namespace"]
    if entity and "instance" not in entity:
        left_out |= _OF_ONE_COPY
        left_out |= _OF_ONE_CONTAINER if pod else set()
    attributes = {name: text for name, text in labels.items() if name not in left_out and name not in entity and text}
    return tuple(sorted(entity.items())) or nobody, tuple(sorted(attributes.items()))
