"""The settings that count, as YAML, each with where it came from."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml
from pydantic.fields import FieldInfo

from foreshock.config._model import Config, as_data
from foreshock.config._reference import type_text, written
from foreshock.config._tree import DEFAULT, Loc, Value
from foreshock.config._walk import below, fields_of, models


def show(config: Config, sources: bool = False) -> str:
    """The resolved config as YAML, secrets as `***`; with `sources`, each value says where it came from.

    That is `default`, `preset NAME`, `FILE:LINE`, `env VARIABLE` or `command line`; a config that was
    not loaded from anywhere says `default` throughout.
    """
    origins = config.origins if sources else None
    lines = _mapping(as_data(config), (), origins or Value({}, DEFAULT), sources)
    return "\n".join(lines) + "\n"


def _mapping(data: dict[str, Any], loc: Loc, origins: Value, sources: bool) -> list[str]:
    lines: list[str] = []
    for key, value in data.items():
        lines += _entry(f"{_scalar(key)}:", value, (*loc, key), origins, sources)
    return lines


def _entry(head: str, value: Any, loc: Loc, origins: Value, sources: bool) -> list[str]:
    """The lines of `key: value` or `- value`; what is nested stands two further in."""
    if isinstance(value, dict) and value:
        inner = _mapping(value, loc, origins, sources)
        if head == "-":
            return [f"- {inner[0]}", *[f"  {line}" for line in inner[1:]]]
        return [head, *[f"  {line}" for line in inner]]
    if isinstance(value, list) and value:
        inner = [line for at, item in enumerate(value) for line in _entry("-", item, (*loc, at), origins, sources)]
        return [head, *[f"  {line}" for line in inner]]
    text = {"{}": "{}", "[]": "[]"}.get(str(value)) if isinstance(value, dict | list) else _scalar(value)
    return [f"{head} {text}" + (f"  # {_origin(loc, origins)}" if sources else "")]


def _scalar(value: Any) -> str:
    """One value on one line, in quotes where it needs them."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _origin(loc: Loc, origins: Value) -> str:
    """Where the value at a path was given: there, or as part of what stands above it in a short form."""
    for depth, node in origins.walk(loc):
        if depth == len(loc):
            return str(node.origin)
    return str(DEFAULT)


class Shown(NamedTuple):
    """A setting that counts: its path, its value as it would be written, where it came from and what it means."""

    key: str
    value: str
    origin: str
    says: str


def settings_of(config: Config) -> list[Shown]:
    """Every setting, in order; secrets are `***`, durations and sizes have units."""
    origins = config.origins or Value({}, DEFAULT)
    out: list[Shown] = []

    def walk(data: Any, loc: Loc, annotations: list[Any], field: FieldInfo | None) -> None:
        items = list(data.items()) if isinstance(data, dict) else list(enumerate(data))
        fields = {
            key: one
            for annotation in annotations
            for model in models(annotation)
            for key, one in fields_of(model, data).items()
        }
        for key, value in items:
            here, own = (*loc, key), fields.get(str(key), field)
            if isinstance(value, dict | list) and value:
                walk(value, here, [one for annotation in annotations for one in below(annotation, key, data)], own)
            else:
                name, says = ".".join(str(part) for part in here), " ".join(((own and own.description) or "").split())
                out.append(Shown(name, _in_words(value, own), _origin(here, origins), says))

    walk(as_data(config), (), [Config], None)
    return out


def _in_words(value: Any, field: FieldInfo | None) -> str:
    """A value of a setting, on one line: durations and sizes with units."""
    kind = type_text(field.annotation, field.metadata) if field is not None else ""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return written(value, kind) if number and ("duration" in kind or "size" in kind) else _scalar(value)
