"""Settings from environment variables: `FORESHOCK__SECTION__KEY`, lists by index (`FORESHOCK__SINKS__0__URL`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from foreshock.config._tree import DEFAULT, Loc, Origin, Problem, Value, overlay, spread_parts
from foreshock.config._yaml import parse

PREFIX = "FORESHOCK__"


def variables(environ: Mapping[str, str]) -> list[str]:
    """The variables that are settings, outer ones first, so that `…__HTTP__LISTEN` goes over `…__HTTP`.

    Lists go by index, and a part's type before its options, so that these are not taken for a short form.
    """
    found = [name for name in environ if name.upper().startswith(PREFIX)]
    return sorted(found, key=lambda name: (name.count("__"), [_rank(part) for part in name.upper().split("__")]))


def _rank(part: str) -> tuple[int, str]:
    if part.isascii() and part.isdigit():
        return int(part), ""
    return -2 if part == "TYPE" else -1, part


def apply(
    tree: Value, environ: Mapping[str, str], defaults: Callable[[], Mapping[str, Any]], problems: list[Problem]
) -> Value:
    """The tree with what the variables say over it; `defaults` gives the lists that an index may point into."""
    for name in variables(environ):
        value = _value(name, environ[name])
        keys = name[len(PREFIX) :].split("__")
        if not all(keys):
            problems.append(Problem.at(value.origin, "an empty name between two __"))
            continue
        section = keys[0].lower()
        if len(keys) > 1 and keys[1].isdigit() and tree.child(section) is None:
            _add_default(tree, section, defaults())
        spread_parts(tree)
        tree = _set(tree, keys, value, (), problems)
    return tree


def _value(name: str, text: str) -> Value:
    """A variable's value: YAML, or else its text as it is; `raw` keeps the text for where text is wanted."""
    origin = Origin("env", name)
    value = parse(text, origin)
    if isinstance(value, Problem):
        value = Value(text, origin)
    value.raw = text
    return value


def _add_default(tree: Value, section: str, defaults: Mapping[str, Any]) -> None:
    if isinstance(tree.data, dict) and isinstance(defaults.get(section), list):
        tree.data[section] = Value.of(defaults[section], DEFAULT)


def _set(node: Value | None, keys: list[str], value: Value, loc: Loc, problems: list[Problem]) -> Value:
    """The node with the value put in at the end of the keys; where there is none yet, an index makes a list."""
    if not keys:
        return overlay(node, value) if node and isinstance(value.data, dict) else value
    key, rest = keys[0], keys[1:]
    index = int(key) if key.isascii() and key.isdigit() else None
    if node is None:
        node = Value({} if index is None else [], value.origin)
    if isinstance(node.data, list):
        if index is None or index > len(node.data):
            wanted = "the next name must be an index" if index is None else f"wants an index from 0 to {len(node.data)}"
            problems.append(Problem.at(value.origin, f"is a list, which has no item {key}: {wanted}", loc))
            return node
        item = _set(node.child(index), rest, value, (*loc, index), problems)
        return Value([*node.data[:index], item, *node.data[index + 1 :]], node.origin)
    entries = dict(node.data) if isinstance(node.data, dict) else {}
    name = next((known for known in entries if known.lower() == key.lower()), key.lower())
    entries[name] = _set(entries.get(name), rest, value, (*loc, name), problems)
    return Value(entries, node.origin if isinstance(node.data, dict) else value.origin)


def use_raw_text(tree: Value, locs: list[Loc]) -> bool:
    """Where text was wanted and a variable's value was read as something else, take its text; whether any was."""
    changed = False
    for loc in locs:
        for depth, node in tree.walk(loc):
            if depth == len(loc) and node.raw is not None and node.data != node.raw:
                node.data = node.raw
                changed = True
    return changed
