"""Parts in the settings: which one, and its options, validated by the part's own model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    Field,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from foreshock import plugins
from foreshock.config._tree import spread
from foreshock.errors import ConfigError
from foreshock.types.units import Options, Seconds

DEFAULT_LATENESS_SECONDS = 5.0


def _options() -> Any:
    """The field `options`, which stands last in each part: its validation is told the other fields."""
    return Field(default_factory=dict, validate_default=True, description="The part's own options.")


class Part(Options):
    """A part: its type, its name, and in `options` what its class is given (a model, or a mapping if it has none).

    Written flat: `{type: host, every: 1s}`, or short: `host`, `{host: {every: 1s}}`. An option that has the name of a
    part's own key (`lateness`) gets that key's value. In Python, `options` may be a model.
    """

    kind: ClassVar[str]

    type: str = Field(description="Which part: a known name, or `package.module:Class`.")
    name: str = Field(
        default="", min_length=1, description="What it is called, in records and messages; by default its type."
    )
    if TYPE_CHECKING:
        options: Any

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if isinstance(data, Part):
            return data
        data = spread(data)
        if not isinstance(data, Mapping):
            raise PydanticCustomError("part", "must be the name of a part, or a mapping with its type")
        if "type" not in data:
            raise PydanticCustomError("part", "must say its type, such as type: {first}", {"first": cls.example()})
        own = {key: value for key, value in data.items() if key in cls.model_fields and key != "options"}
        rest: Any = {key: value for key, value in data.items() if key not in own}
        if rest.keys() == {"options"} and isinstance(rest["options"], BaseModel):
            rest = rest["options"]
        if isinstance(data["type"], str):
            own.setdefault("name", data["type"])
        return {**own, "options": rest}

    @field_validator("type")
    @classmethod
    def _exists(cls, value: str) -> str:
        try:
            plugins.find(cls.kind, value)
        except ConfigError as error:
            raise ValueError(error.message) from None
        return value

    @field_validator("options", mode="plain", check_fields=False)
    @classmethod
    def _are_valid(cls, value: Any, info: ValidationInfo) -> Any:
        if "type" not in info.data:
            return value
        model = plugins.options_model(plugins.find(cls.kind, info.data["type"]))
        if model is None or isinstance(value, BaseModel):
            return model.model_validate(value) if model else value
        shared = {key: info.data[key] for key in info.data if key in model.model_fields}
        return model.model_validate({**shared, **value}, context=info.context)

    @model_serializer
    def _flat(self, info: SerializationInfo) -> dict[str, Any]:
        options = self.options
        if isinstance(options, BaseModel):
            options = options.model_dump(mode=info.mode, by_alias=True)
        return {key: getattr(self, key) for key in type(self).model_fields if key != "options"} | dict(options)

    @classmethod
    def example(cls) -> str:
        """A type to name in a message."""
        return next(iter(plugins.BUILT_IN[cls.kind]))


class Source(Part):
    """Where telemetry comes from."""

    kind: ClassVar[str] = "source"

    lateness: Annotated[Seconds, Field(ge=0)] = Field(
        default=DEFAULT_LATENESS_SECONDS,
        description="How long after newer samples an older one may still come; by default 0 for `host`, `prometheus` "
        "and `shop`, which are never late, and 2 s for `calls`.",
    )
    max_skew: Annotated[Seconds, Field(ge=0)] = Field(
        default=60.0,
        description="How far ahead of our clock a sample's time may be; beyond, it is refused as `future`.",
    )
    options: Any = _options()

    @model_validator(mode="before")
    @classmethod
    def _knows_its_lateness(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "lateness" not in data and isinstance(data.get("type"), str):
            with suppress(ConfigError):
                own = getattr(plugins.find(cls.kind, data["type"]), "default_lateness_seconds", None)
                return data if own is None else {**data, "lateness": own}
        return data

    @property
    def lateness_seconds(self) -> float:
        """`lateness`, with its unit in the name."""
        return self.lateness

    @property
    def max_skew_seconds(self) -> float:
        """`max_skew`, with its unit in the name."""
        return self.max_skew


class Detector(Part):
    """What judges rows."""

    kind: ClassVar[str] = "detector"

    role: Literal["primary", "shadow"] = Field(
        default="primary", description="`primary` raises alerts; `shadow` only scores, to be compared."
    )
    options: Any = _options()


class Sink(Part):
    """Where alerts go."""

    kind: ClassVar[str] = "sink"

    options: Any = _options()


P = TypeVar("P", bound=Part)


def named_apart(parts: list[P]) -> list[P]:
    """The parts, if no two have the same name; else the error of the later one."""
    seen: dict[str, int] = {}
    errors: list[InitErrorDetails] = []
    for at, part in enumerate(parts):
        if part.name in seen:
            reason = PydanticCustomError(
                "same_name", "two of these are called {name}: give one another `name`", {"name": repr(part.name)}
            )
            errors.append(InitErrorDetails(type=reason, loc=(at, "name"), input=None))
        seen.setdefault(part.name, at)
    if errors:
        raise ValidationError.from_exception_data("parts", errors)
    return parts
