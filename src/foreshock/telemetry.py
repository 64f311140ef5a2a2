"""Our own metrics, in Prometheus' words (DESIGN §7); one registry, read by `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

EVENTS = Counter("foreshock_events", "Samples taken in, by source.", ["source"], registry=REGISTRY)
DROPPED = Counter("foreshock_dropped", "Samples or records not used, by reason.", ["reason"], registry=REGISTRY)
SOURCE_DROPPED = Counter(
    "foreshock_source_dropped", "Samples or records not used, by their source and reason.", ["source", "reason"],
    registry=REGISTRY,
)  # fmt: skip
ERRORS = Counter("foreshock_errors", "Errors, by part.", ["part"], registry=REGISTRY)
EVENT_TO_VERDICT = Histogram(
    "foreshock_event_to_verdict_seconds",
    "From acceptance of a record to the end of the step that judged it.",
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
INFERENCE = Histogram("foreshock_inference_seconds", "One step of all operators over one record.", registry=REGISTRY)
QUEUE_RECORDS = Gauge("foreshock_queue_records", "Records accepted and not yet judged.", registry=REGISTRY)
SERIES = Gauge("foreshock_series", "Series known.", registry=REGISTRY)
ENTITIES = Gauge("foreshock_entities", "Entities known.", registry=REGISTRY)
WATERMARK = Gauge("foreshock_watermark_seconds", "Nothing older than this will come (Unix time).", registry=REGISTRY)
ALERTS = Counter("foreshock_alerts", "Episodes opened, by kind and whether they notified.", ["kind", "notified"],
                 registry=REGISTRY)  # fmt: skip
BUDGET_ACHIEVED = Gauge(
    "foreshock_budget_achieved_ratio",
    "Notifications a day over the last 30 days with scored rows ÷ budget, by level.",
    ["level"],
    registry=REGISTRY,
)
SNAPSHOT_SECONDS = Histogram("foreshock_snapshot_seconds", "Time to take and write a snapshot.", registry=REGISTRY)
SNAPSHOT_STALL = Histogram(
    "foreshock_snapshot_stall_seconds",
    "Longest time that one copying slice held the pipeline.",
    registry=REGISTRY,
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05),
)
OUTBOX = Gauge("foreshock_outbox_alerts", "Alerts that a sink has not taken yet.", ["sink"], registry=REGISTRY)
SINK_SENT = Counter("foreshock_sink_alerts", "Alerts delivered, by sink.", ["sink"], registry=REGISTRY)
LOG_BYTES = Gauge("foreshock_log_bytes", "Size of the log on disk.", registry=REGISTRY)
SECONDS_SILENT = Gauge("foreshock_source_silent_seconds", "Time since a source last brought data.", ["source"],
                       registry=REGISTRY)  # fmt: skip
AGENT_SENT = Counter("foreshock_agent_messages", "Messages that Kafka has acknowledged, by topic.", ["topic"],
                     registry=REGISTRY)  # fmt: skip
AGENT_BUFFERED = Gauge(
    "foreshock_agent_buffered_messages", "Messages on disk that Kafka has not acknowledged yet.", registry=REGISTRY
)
LATENCY = Histogram(
    "detector_latency_seconds", "One step of one detector.", ["model"], registry=REGISTRY,
    buckets=(1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1),
)  # fmt: skip
THROUGHPUT = Gauge("detector_throughput_mps", "Rows a second through one detector.", ["model"], registry=REGISTRY)
ANOMALIES = Counter("detector_anomalies", "Rows over the bar, by detector.", ["model"], registry=REGISTRY)
EPISODES = Counter(
    "detector_episodes", "Stretches in which a detector found an entity anomalous.", ["model"], registry=REGISTRY
)
TRUE_POSITIVES = Counter(
    "detector_true_positives", "Episodes of a detector that labels confirm.", ["model"], registry=REGISTRY
)
FALSE_POSITIVES = Counter(
    "detector_false_positives", "Episodes of a detector that labels deny.", ["model"], registry=REGISTRY
)
DETECTOR_ACHIEVED = Gauge(
    "detector_budget_achieved_ratio",
    "Notifications a key and day of a detector's own bar over the last 30 days ÷ the entity's budget.",
    ["model"],
    registry=REGISTRY,
)
KAFKA_LAG = Gauge(
    "foreshock_kafka_consumer_lag",
    "Messages of a partition not judged yet (transaction markers count), by topic and partition.",
    ["topic", "partition"],
    registry=REGISTRY,
)
KAFKA_REBALANCES = Counter(
    "foreshock_kafka_rebalances", "Changes of the tasks of this worker: assigned, revoked, lost.", ["kind"],
    registry=REGISTRY,
)  # fmt: skip
KAFKA_TASKS = Gauge("foreshock_kafka_tasks", "Tasks of this worker.", registry=REGISTRY)
KAFKA_TRANSACTIONS = Counter(
    "foreshock_kafka_transactions", "Transactions: committed, aborted, fenced.", ["outcome"], registry=REGISTRY
)
KAFKA_TRANSACTION_SECONDS = Histogram(
    "foreshock_kafka_transaction_seconds", "From the first message of a transaction to its end.", registry=REGISTRY
)
KAFKA_RESTORE_SECONDS = Histogram(
    "foreshock_kafka_restore_seconds", "Time to bring back the state of a task.", registry=REGISTRY
)
KAFKA_REKEYED = Counter(
    "foreshock_kafka_rekeyed", "Messages that were not keyed by their entity and were passed on, by topic.", ["topic"],
    registry=REGISTRY,
)  # fmt: skip
KAFKA_LOST = Counter(
    "foreshock_kafka_lost_messages", "Messages that were gone before they were read, by topic.", ["topic"],
    registry=REGISTRY,
)  # fmt: skip
KAFKA_PAUSED = Gauge("foreshock_kafka_paused_partitions", "Partitions that wait for slower ones.", registry=REGISTRY)
DEAD_LETTERS = Counter(
    "foreshock_kafka_dead_letters", "Messages that could not be used, by topic and reason.", ["topic", "reason"],
    registry=REGISTRY,
)  # fmt: skip


def drop(source: str, reason: str, count: int = 1) -> None:
    """Count samples or records of a source that are not used, in both metrics."""
    DROPPED.labels(reason).inc(count)
    SOURCE_DROPPED.labels(source, reason).inc(count)


MODELS = {"isolation_forest": "if", "autoencoder": "ae"}
"""Detectors that have a shorter name among the metrics."""


def model_of(detector: str) -> str:
    """The value of the label `model` for a detector: the name it has in the settings, or the published short one.

    >>> model_of("isolation_forest"), model_of("my_forest")
    ('if', 'my_forest')
    """
    return MODELS.get(detector, detector)
