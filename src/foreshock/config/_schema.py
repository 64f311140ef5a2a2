"""The JSON schema of the settings, for editors: parts in all their short forms, with their options."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from foreshock import plugins
from foreshock.config._load import presets
from foreshock.config._model import Config
from foreshock.config._parts import Part
from foreshock.config._walk import models
from foreshock.errors import ConfigError

Json = dict[str, Any]

_KEYWORDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
"""Bounds beside a type that is also read from text keep pydantic's own names."""

_REF = "#/$defs/{model}"

_OWN_CLASS: Json = {"type": "string", "pattern": r"[.:]", "description": "A class of your own, package.module:Class."}


def schema() -> Json:
    """JSON schema (draft 2020-12) of a settings file; parts that cannot be imported here are left out."""
    whole: Json = Config.model_json_schema(by_alias=True, ref_template=_REF)
    definitions: Json = whole["$defs"]
    for section, field in Config.model_fields.items():
        for part in models_of_list(field.annotation):
            definitions.pop(part.__name__, None)
            whole["properties"][section]["items"] = {"anyOf": _forms(part, definitions)}
    whole["properties"]["preset"] = {
        "description": Config.model_fields["preset"].description,
        "anyOf": [{"enum": list(presets())}, {"type": "null"}],
    }
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    whole["title"] = "Foreshock settings"
    whole.pop("description", None)
    opened: Json = _tidy(whole)
    return opened


def models_of_list(annotation: Any) -> list[type[Part]]:
    """The part model of a list of parts, else nothing."""
    inner = getattr(annotation, "__args__", ())
    return [model for one in inner for model in models(one) if issubclass(model, Part)]


def options_by_name(part: type[Part]) -> dict[str, type[BaseModel] | None]:
    """The parts of a kind that can be imported, by name, each with the model of its options."""
    found: dict[str, type[BaseModel] | None] = {}
    for name in plugins.names(part.kind):
        try:
            found[name] = plugins.options_model(plugins.find(part.kind, name))
        except ConfigError:
            continue
    return found


def _forms(part: type[Part], definitions: Json) -> list[Json]:
    """How a part of a kind may be written: its name, a mapping with its type, or its name over its options."""
    known = options_by_name(part)
    forms: list[Json] = [{"enum": list(known), "description": "A part with its default options."}]
    own: Json = part.model_json_schema(by_alias=True)["properties"]
    own.pop("options")
    own.pop("type")
    for name, model in known.items():
        properties = dict(own)
        if model:
            inner = model.model_json_schema(by_alias=True, ref_template=_REF)
            definitions.update(inner.pop("$defs", {}))
            properties = inner.get("properties", {}) | own
        closed = {"additionalProperties": model is None}
        forms.append(
            {"type": "object", "required": ["type"], "properties": {"type": {"const": name}, **properties}, **closed}
        )
        below = {"anyOf": [{"type": "object", "properties": properties, **closed}, {"type": "null"}]}
        forms.append({"type": "object", "required": [name], "properties": {name: below}, "additionalProperties": False})
    forms.append(_OWN_CLASS)
    forms.append({"type": "object", "required": ["type"], "properties": {"type": _OWN_CLASS}})
    return forms


def _tidy(node: Any) -> Any:
    """The schema with `{file: PATH}` and `{env: NAME}` allowed wherever a secret is, and bounds by their own names."""
    if isinstance(node, list):
        return [_tidy(one) for one in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") != "password":
        return {_KEYWORDS.get(key, key): _tidy(value) for key, value in node.items()}
    text = {key: node[key] for key in ("type", "format", "minLength") if key in node}
    rest = {key: value for key, value in node.items() if key not in text}
    return {**rest, "anyOf": [text, _reference("file"), _reference("env")]}


def _reference(key: str) -> Json:
    return {
        "type": "object",
        "required": [key],
        "properties": {key: {"type": "string"}},
        "additionalProperties": False,
    }
