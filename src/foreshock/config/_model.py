"""The settings as a whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, field_validator
from pydantic_core import to_jsonable_python

from foreshock.adapters.kafka.options import KafkaInput, KafkaOptions
from foreshock.adapters.mapping import MappingOptions
from foreshock.config._parts import DEFAULT_LATENESS_SECONDS, Detector, Sink, Source, named_apart
from foreshock.config._secrets import masked
from foreshock.config._sections import Http, Limits, Log, Snapshot, Store
from foreshock.config._tree import Value
from foreshock.errors import PermanentError
from foreshock.incident.alarm import AlarmOptions
from foreshock.incident.budget import BudgetOptions
from foreshock.stream.align import AlignOptions
from foreshock.stream.features import FeatureOptions
from foreshock.stream.fingerprint import CallOptions
from foreshock.types import digest
from foreshock.types.units import Options

Model = TypeVar("Model", bound=Options)


def _plain(model: type[Model]) -> Callable[[], Model]:
    """Makes a model of its defaults."""
    return lambda: model.model_validate({})


class Config(Options):
    """All settings, with every default filled in; values do not change. `model_copy(update=...)` makes another."""

    preset: str | None = Field(default=None, description="Settings to start from; what the file says goes over them.")
    environment: str = Field(
        default="default", min_length=1, description="What the watched system is called (the tenant)."
    )
    data_dir: Path = Field(default=Path(".foreshock"), description="Folder of the log, the snapshots and the database.")
    seed: int = Field(default=0, description="Seed of everything random.")
    sources: list[Source] = Field(default=[], description="Where telemetry comes from.")
    mapping: MappingOptions = Field(
        default_factory=_plain(MappingOptions), description="What columns and JSON paths of foreign data mean."
    )
    stream: AlignOptions = Field(default_factory=_plain(AlignOptions), description="How samples become rows in step.")
    calls: CallOptions = Field(
        default_factory=_plain(CallOptions), description="How calls between services become fingerprints."
    )
    features: list[FeatureOptions] = Field(default=[], description="Features to compute from the series.")
    detectors: list[Detector] = Field(
        default_factory=lambda: [Detector(type="deviation"), Detector(type="linear"), Detector(type="stuck")],
        description="What judges the rows.",
    )
    watch: list[str] = Field(default=["*"], description="Globs of the metrics that may raise alerts.")
    ignore: list[str] = Field(default=[], description="Globs of metrics that may not, though they are watched.")
    min_change: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={},
        description="Glob of metrics → the least change from what is expected that is worth an alert; the first that "
        "matches counts.",
    )
    alarm: AlarmOptions = Field(
        default_factory=_plain(AlarmOptions), description="When an alert opens, closes and notifies."
    )
    budget: BudgetOptions = Field(
        default_factory=_plain(BudgetOptions), description="How many notifications a day somebody will bear."
    )
    sinks: list[Sink] = Field(default=[], description="Where alerts go.")
    http: Http = Field(default_factory=Http, description="The HTTP server: ingest, API, health, metrics.")
    store: Store = Field(default_factory=Store, description="Where alerts and the outbox are kept.")
    log: Log = Field(default_factory=Log, description="The record log.")
    snapshot: Snapshot = Field(default_factory=Snapshot, description="Copies of the state for quick restarts.")
    kafka: KafkaOptions = Field(
        default_factory=_plain(KafkaOptions), description="Kafka as the engine, for `foreshock worker`."
    )
    limits: Limits = Field(default_factory=Limits, description="Bounds on memory.")
    train_until_unix_nano: int | None = Field(
        default=None, description="Rows before this time are only learnt from and raise nothing (for replays)."
    )

    _tree: Value | None = PrivateAttr(None)

    @field_validator("sources", "detectors", "sinks")
    @classmethod
    def _have_own_names(cls, parts: list[Any]) -> list[Any]:
        return named_apart(parts)

    @property
    def default_lateness_seconds(self) -> float:
        """The lateness of sources that the settings do not name."""
        return DEFAULT_LATENESS_SECONDS

    @property
    def inputs(self) -> tuple[Source | KafkaInput, ...]:
        """All that names a source of telemetry: the sources, and the topics that a worker reads."""
        return (*self.sources, *self.kafka.inputs)

    @property
    def database_url(self) -> str:
        """`store.url` with `{data_dir}` filled in."""
        return self.store.url.replace("{data_dir}", str(self.data_dir))

    @property
    def digest(self) -> str:
        """128 bits of `resolved()`, in hex: two configs of one digest mean the same."""
        return digest(self.resolved().decode())

    def resolved(self) -> bytes:
        """All settings as canonical JSON, every default filled in, secrets as `***`: the log's config record.

        Keys stand in the model's order, those of mappings in the order given, since globs are tried in that order.
        """
        return json.dumps(as_data(self), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    def with_origins(self, tree: Value) -> Self:
        """The same config, which also knows where its values came from."""
        self._tree = tree
        return self

    @property
    def origins(self) -> Value | None:
        """The tree that it was made from, if it was loaded."""
        return self._tree

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


def as_data(config: Config) -> dict[str, Any]:
    """All settings as plain JSON data; infinities as text, which reads back."""
    data: dict[str, Any] = _finite(to_jsonable_python(masked(config.model_dump(by_alias=True))))
    return data


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data


def parse_resolved(content: bytes) -> Config:
    """The config of a log's config record; secrets are `***`.

    Raises PermanentError where this version does not know its settings.
    """
    try:
        return Config.model_validate(json.loads(content))
    except ValidationError as error:
        keys = sorted({".".join(str(key) for key in one["loc"]) for one in error.errors(include_input=False)})
        raise PermanentError(f"the log's config record is not understood by this version: {', '.join(keys)}") from None
    except ValueError:
        raise PermanentError("the log's config record is not JSON") from None
