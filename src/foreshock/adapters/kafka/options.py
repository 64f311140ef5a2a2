"""The `kafka:` settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from foreshock.types.units import Options, Seconds

BROKERS = "127.0.0.1:9092"
EVENTS, METRICS, SERVICES = "anomaly-events", "metrics-topic", "service-metrics"
_SECRET = ("password", "secret", ".pem", "private.key.passphrase", "assertion.private.key")


class KafkaInput(Options):
    """A topic to read telemetry from."""

    topic: str = Field(min_length=1, description="Its name, which is also the name of the source.")
    content_type: str = Field(
        default="",
        description="What its messages are where their headers do not say; by default told by their first bytes.",
    )
    lateness: Annotated[Seconds, Field(ge=0)] = Field(
        default=5.0, description="How long after newer samples an older one may still come."
    )
    max_skew: Annotated[Seconds, Field(ge=0)] = Field(
        default=60.0, description="How far ahead of its message's time a sample's time may be."
    )

    @property
    def name(self) -> str:
        """What the source is called: its topic."""
        return self.topic

    @property
    def lateness_seconds(self) -> float:
        """`lateness`, with its unit in the name."""
        return self.lateness

    @property
    def max_skew_seconds(self) -> float:
        """`max_skew`, with its unit in the name."""
        return self.max_skew


def _input(value: Any) -> Any:
    return {"topic": value} if isinstance(value, str) else value


Input = Annotated[KafkaInput, BeforeValidator(_input, json_schema_input_type=str | KafkaInput)]


class KafkaOptions(Options):
    """Kafka as the engine: what `foreshock worker` reads and writes, and how it reaches the brokers."""

    brokers: str = Field(
        default="", description=f"host:port, several with commas; by default `KAFKA_BROKERS`, else `{BROKERS}`."
    )
    group: str = Field(default="foreshock", min_length=1, description="Consumer group, the same for all workers.")
    worker: str = Field(
        default="",
        description="Name of this worker, its own and the same after a restart; by default the host's name.",
    )
    inputs: list[Input] = Field(
        default=[],
        description=f"Topics to read, each as its name or with settings; by default `{EVENTS}`, `{METRICS}` "
        f"(or `KAFKA_TOPIC_METRICS`) and `{SERVICES}`.",
    )
    prefix: str = Field(default="foreshock.", description="What the names of Foreshock's own topics begin with.")
    partitions: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Keyed tasks, fixed by the first start; 0 = as many as the largest input has partitions.",
    )
    replication: int = Field(default=0, ge=0, description="Copies of topics that are made; 0 = the broker's default.")
    create_topics: bool = Field(
        default=True, description="Whether to make topics that are missing; else the start says which to make."
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest", description="Where a topic is read from the first time, or where its offset is lost."
    )
    protocol: Literal["auto", "consumer", "classic"] = Field(
        default="auto", description="Group protocol: `consumer` (KIP-848) where the broker has it, else `classic`."
    )
    commit_interval: Annotated[Seconds, Field(gt=0, le=5)] = Field(
        default=0.1, description="Time between two transactions."
    )
    verdicts: Literal["exactly_once", "at_least_once"] = Field(
        default="exactly_once",
        description="Anomalous verdicts: with the transaction of what brought them, or `at_least_once`, at once; "
        "alerts and state are exactly once either way.",
    )
    session_timeout: Annotated[Seconds, Field(ge=1, le=300)] = Field(
        default=10.0,
        description="A worker that is not heard of for so long is replaced (`consumer`: the broker's setting), and "
        "the longest that a transaction may stay open.",
    )
    idle: Annotated[Seconds, Field(gt=0)] = Field(
        default=30.0, description="After so long without messages the clock takes the place of an input's time."
    )
    leave_out: Annotated[Seconds, Field(gt=0)] = Field(
        default=5.0,
        description="A keyed task that has said nothing for so long is not waited for; its alerts are late then.",
    )
    client: dict[str, bool | int | float | str] = Field(
        default={}, description="Any property of librdkafka, for all clients (`security.protocol`, `ssl.ca.location`)."
    )
    secrets: dict[str, SecretStr] = Field(
        default={}, description="Properties of librdkafka that are secret (`sasl.password`, `ssl.key.password`)."
    )

    @field_validator("client")
    @classmethod
    def _holds_no_secret(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name.endswith(_SECRET):
                raise ValueError(f"{name} is a secret: it belongs under kafka.secrets")
        return value

    def filled(self, environ: Mapping[str, str]) -> Self:
        """The same with what the environment says, and defaults, in place of what is not set."""
        metrics = environ.get("KAFKA_TOPIC_METRICS") or METRICS
        inputs = self.inputs or [KafkaInput(topic=topic) for topic in (EVENTS, metrics, SERVICES)]
        brokers = self.brokers or environ.get("KAFKA_BROKERS") or BROKERS
        return self.model_copy(update={"inputs": inputs, "brokers": brokers})
