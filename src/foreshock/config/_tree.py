"""Settings as they were written: a tree of values, each with the place that it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foreshock.errors import ConfigError

Loc = tuple[int | str, ...]
"""A key path, as pydantic writes it."""

Scalar = str | int | float | bool | None

PART_SECTIONS = ("sources", "detectors", "sinks")
"""The lists whose items are parts: `host`, `{type: host, ...}` or `{host: {...}}`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from; `kind` is `default`, `preset`, `file`, `env` or `option` (of the command line)."""

    kind: str
    name: str = ""
    line: int | None = None

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.name}:{self.line}"
        if self.kind == "option":
            return "command line"
        return f"{self.kind} {self.name}".rstrip()

    @property
    def place(self) -> str | None:
        """The file, or in its place the preset, variable or option, to name in a message."""
        return self.name if self.kind == "file" else None if self.kind == "default" else str(self)


DEFAULT = Origin("default")


@dataclass(slots=True)
class Value:
    """A node: `data` is a mapping or list of nodes, or a scalar; `raw` the text of an environment variable.

    Both may be secrets, which its text leaves out.
    """

    data: dict[str, Value] | list[Value] | Scalar = field(repr=False)
    origin: Origin
    raw: str | None = field(default=None, repr=False)

    @staticmethod
    def of(data: Any, origin: Origin) -> Value:
        """Plain data with the same origin everywhere."""
        if isinstance(data, Mapping):
            return Value({str(key): Value.of(value, origin) for key, value in data.items()}, origin)
        if isinstance(data, Sequence) and not isinstance(data, str):
            return Value([Value.of(value, origin) for value in data], origin)
        return Value(data, origin)

    def plain(self) -> Any:
        """The data without origins."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data

    def child(self, key: int | str) -> Value | None:
        """The node below, if there is one."""
        if isinstance(self.data, dict):
            return self.data.get(key) if isinstance(key, str) else None
        if isinstance(self.data, list) and isinstance(key, int) and 0 <= key < len(self.data):
            return self.data[key]
        return None

    def walk(self, loc: Loc) -> Iterator[tuple[int, Value]]:
        """The nodes along a path, each with how many keys lead to it, as far as there are some."""
        node: Value | None = self
        for depth, key in enumerate((None, *loc)):
            node = self if key is None else node.child(key) if node else None
            if node is None:
                return
            yield depth, node


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in the settings; `file` may also name a preset, variable or option."""

    message: str
    file: str | None = None
    line: int | None = None
    key: str | None = None

    def error(self) -> ConfigError:
        """The same as an exception."""
        return ConfigError(self.message, file=self.file, line=self.line, key=self.key)

    def __str__(self) -> str:
        return str(self.error())

    @staticmethod
    def at(origin: Origin, message: str, loc: Loc = ()) -> Problem:
        """A problem of the value at a path."""
        return Problem(message, origin.place, origin.line, path_text(loc) or None)


def path_text(loc: Loc) -> str:
    """A path as people write it.

    >>> path_text(("sources", 0, "every")), path_text(("min_change", "system.*"))
    ('sources[0].every', 'min_change[system.*]')
    """
    text = ""
    for key in loc:
        if isinstance(key, int) or not key.isidentifier():
            text += f"[{key}]"
        else:
            text += f".{key}" if text else key
    return text


def overlay(base: Value, over: Value) -> Value:
    """`base` with what `over` says: mappings merge deep, all else is replaced.

    Keys of `over` come first: where globs are tried in order, they count before those of `base`.
    """
    if not (isinstance(base.data, dict) and isinstance(over.data, dict)):
        return over
    merged = {key: overlay(base.data[key], value) if key in base.data else value for key, value in over.data.items()}
    return Value(merged | {key: value for key, value in base.data.items() if key not in merged}, over.origin)


def join(first: Value, second: Value, problems: list[Problem], loc: Loc = ()) -> Value:
    """Two files as one: mappings merge deep, lists append; anything else that both set is a problem."""
    if isinstance(first.data, dict) and isinstance(second.data, dict):
        merged = dict(first.data)
        for key, value in second.data.items():
            merged[key] = join(merged[key], value, problems, (*loc, key)) if key in merged else value
        return Value(merged, first.origin)
    if isinstance(first.data, list) and isinstance(second.data, list):
        return Value([*first.data, *second.data], first.origin)
    problems.append(Problem.at(second.origin, f"is also set in {first.origin}: keep one of the two", loc))
    return first


def spread(part: Any) -> Any:
    """A part's short forms in full: `host` and `{host: {...}}` become `{type: host, ...}`; all else stays.

    >>> spread("host"), spread({"zscore": {"threshold": 3}}), spread({"zscore": None})
    ({'type': 'host'}, {'type': 'zscore', 'threshold': 3}, {'type': 'zscore'})
    """
    if isinstance(part, str):
        return {"type": part}
    if isinstance(part, Mapping) and "type" not in part and len(part) == 1:
        ((name, inner),) = part.items()
        if inner is None or isinstance(inner, Mapping):
            return {"type": name, **(inner or {})}
    return part


def spread_parts(tree: Value) -> None:
    """Write all parts of a tree in full, in place, so that paths lead to their options."""
    for section in PART_SECTIONS:
        node = tree.child(section)
        if node and isinstance(node.data, list):
            node.data = [_spread_node(part) for part in node.data]


def _spread_node(part: Value) -> Value:
    if isinstance(part.data, str):
        return Value({"type": part}, part.origin)
    if isinstance(part.data, dict) and "type" not in part.data and len(part.data) == 1:
        ((name, inner),) = part.data.items()
        if inner.data is None or isinstance(inner.data, dict):
            return Value({"type": Value(name, inner.origin), **(inner.data or {})}, part.origin)
    return part
