"""The settings that count, as YAML, each with where it came from."""

from __future__ import annotations

from typing import Any

import yaml

from foreshock.config._model import Config, as_data
from foreshock.config._tree import DEFAULT, Loc, Value


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


def settings_of(config: Config) -> list[tuple[str, str, str]]:
    """Every setting as (path, value in YAML, where it came from), in order; secrets are `***`."""
    origins = config.origins or Value({}, DEFAULT)
    out: list[tuple[str, str, str]] = []

    def walk(data: Any, loc: Loc) -> None:
        items = list(data.items()) if isinstance(data, dict) else list(enumerate(data))
        for key, value in items:
            here = (*loc, key)
            if isinstance(value, dict | list) and value:
                walk(value, here)
            else:
                out.append((".".join(str(part) for part in here), _scalar(value), _origin(here, origins)))

    walk(as_data(config), ())
    return out
