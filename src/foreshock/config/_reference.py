"""The page of all settings, written from the models (docs/reference/configuration.md)."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from foreshock import plugins
from foreshock.config._load import presets
from foreshock.config._model import Config
from foreshock.config._parts import Part
from foreshock.config._schema import models_of_list
from foreshock.config._walk import fields_of, models
from foreshock.types.units import parse_duration, parse_quantity, parse_size

_DURATIONS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3), ("us", 1e-6))
_SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}

_HEAD = """\
# Configuration

Every setting has a default, and none is needed to start. This page is written from the settings' own models:
`python -m foreshock.config > docs/reference/configuration.md`.

## Where settings come from

Later ones win: defaults, a preset, files, the environment, the command line. `foreshock config show --sources` prints
what counts and where each value came from; `foreshock check PATH` names everything that is wrong at once.

**Files.** One YAML file, or a folder whose `*.yaml` files are read in name order as one: mappings merge, lists append,
and a value that two files set is an error that names both. An unknown key, a wrong type or unit stops the start with
file, line, key path and the nearest right key. YAML is read by its 1.2 core schema: only `true` and `false` are
booleans, and text that begins with `*` stands in quotes.

**Presets.** `preset: NAME` in the file, or the name on the command line. What the file says goes over the preset:
mappings merge, with the file's globs tried first; lists and values are replaced.

{presets}

**Environment.** `FORESHOCK__SECTION__KEY` sets `section.key`; `FORESHOCK__SINKS__0__URL` reaches into a list (the index
behind the last adds one). Upper and lower case are alike; values are read as YAML.

**Units.** A *duration* is a number of seconds or text such as `250ms`, `10s`, `5m`, `1h30m`, `14d`. A *size* is a
number of bytes or text such as `64MiB` or `2GB`. A *quantity* is a plain number, in the unit of the series that it is
compared with, or text with a unit such as `90 %`, `250 ms`, `2 GiB` or `5 MB/s`, which is put into that of the series;
one that says no unit is taken to be in seconds, bytes or ratios.

**Secrets.** A *secret* is text, `{{file: PATH}}` or `{{env: NAME}}`, looked up at start (paths are relative to the
working folder). It is never printed, and stands as `***` in `config show` and in the log.

**Parts.** `sources`, `detectors` and `sinks` list parts. `- host`, `- type: host` and `- host: {{every: 1s}}` are three
ways to write one. A part of your own is named by its entry point (groups `foreshock.sources`, `foreshock.detectors`,
`foreshock.sinks`) or as `package.module:Class`; its options are checked by the pydantic model that its constructor's
parameter `options` is annotated with.
"""


def reference() -> str:
    """The whole page, in Markdown; the same for the same models."""
    listed = "\n".join(f"- `{name}`: {text}" for name, text in presets().items())
    out = [_HEAD.format(presets=listed)]
    single = {key: field for key, field in Config.model_fields.items() if not _inner(field)}
    out += ["## At the top", _table(single)]
    for key, field in Config.model_fields.items():
        for model in _inner(field):
            out.append(f"## {key}\n\n{field.description}")
            out += _part(model) if issubclass(model, Part) else list(_section(model, key))
    return "\n\n".join(piece.strip("\n") for piece in out) + "\n"


def _inner(field: FieldInfo) -> list[type[BaseModel]]:
    return [model for one in (field.annotation, *get_args(field.annotation)) for model in models(one)]


def _part(part: type[Part]) -> Iterator[str]:
    """The keys that all parts of a kind have, and the options of each that is built in."""
    yield f"Each has these keys, beside its own options. {_default_text(part)}"
    yield _table({key: field for key, field in part.model_fields.items() if key != "options"})
    for name in sorted(plugins.BUILT_IN[part.kind]):
        model = plugins.options_model(plugins.find(part.kind, name))
        own = {key: one for key, one in fields_of(model).items() if key not in part.model_fields} if model else {}
        yield f"### {part.kind} `{name}`"
        yield from _fields(own, "") if own else ["No options."]


def _default_text(part: type[Part]) -> str:
    for key, field in Config.model_fields.items():
        if part in models_of_list(field.annotation):
            names = [one.name for one in field.get_default(call_default_factory=True)]
            return f"Default: `{key}: [{', '.join(names)}]`."
    return ""


def _section(model: type[BaseModel], path: str) -> Iterator[str]:
    yield from _fields(fields_of(model), path)


def _fields(fields: Mapping[str, FieldInfo], path: str) -> Iterator[str]:
    """A table of fields, and behind it one for each field that holds settings of its own."""
    yield _table(fields)
    for key, field in fields.items():
        for model in _inner(field):
            inner = f"{path}.{key}" if path else key
            yield f"`{inner}`"
            yield from _fields(fields_of(model), inner)


def _table(fields: Mapping[str, FieldInfo]) -> str:
    rows = [
        f"| `{key}` | {_type(field)} | {_default(field)} | {_cell(field.description or '')} |"
        for key, field in fields.items()
    ]
    return "\n".join(["| Key | Type | Default | Meaning |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(one, name):g}"
        for one in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(one, name, None) is not None
    ]
    return _cell(" ".join([type_text(field.annotation, field.metadata), ", ".join(bounds)]).strip())


def type_text(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type in words."""
    reads = [one.func for one in metadata if isinstance(one, BeforeValidator)]
    if parse_duration in reads:
        return "duration"
    if parse_size in reads:
        return "size"
    if parse_quantity in reads:
        return "quantity"
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0], inner[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(one) for one in inner if one is not type(None)))
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin in (list, tuple):
        return f"list of {type_text(inner[0])}"
    if origin is dict:
        return f"mapping of text to {type_text(inner[1])}"
    plain = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text", Path: "path",
             SecretStr: "secret"}  # fmt: skip
    return plain.get(annotation, "settings")


def _default(field: FieldInfo) -> str:
    """A default as it would be written."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    kind = type_text(field.annotation, field.metadata)
    if _inner(field):
        return "none" if value in (None, [], (), {}) else "see below"
    if value is None or value in ([], (), {}, ""):
        return "none"
    values = value if isinstance(value, list | tuple) else [value]
    return _cell(", ".join(f"`{written(one, kind)}`" for one in values))


def written(value: Any, kind: str) -> str:
    """One value, as it would be written for a type in words."""
    if isinstance(value, bool):
        return str(value).lower()
    if "duration" in kind and isinstance(value, float):
        return _in_units(value, _DURATIONS)
    if "size" in kind and isinstance(value, int):
        return _in_units(value, _SIZES)
    return str(value)


def _in_units(value: float, units: Sequence[tuple[str, float]]) -> str:
    """A number in the largest unit that leaves it whole.

    >>> _in_units(1209600.0, _DURATIONS), _in_units(0.25, _DURATIONS), _in_units(1 << 26, _SIZES)
    ('14d', '250ms', '64MiB')
    """
    for unit, size in units:
        count = value / size
        if count >= 1 and abs(count - round(count)) < 1e-9:
            return f"{round(count)}{unit}"
    return f"{value:g}"
