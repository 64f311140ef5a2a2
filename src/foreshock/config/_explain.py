"""pydantic's errors as problems that name file, line, key path and the nearest right key."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from foreshock import plugins
from foreshock.config._model import Config
from foreshock.config._tree import PART_SECTIONS, Loc, Problem, Value
from foreshock.config._walk import keys_at, nodes, sections_with

_WANTED = {
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "dict_type": "must be a mapping (key: value)",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be text (put numbers in quotes)",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "missing": "is missing",
    "too_short": "is empty",
    "string_too_short": "is empty",
}
"""Error type → plain words; no message quotes the value, which may be a secret."""


def problems_of(error: ValidationError, tree: Value, without: str = "") -> list[Problem]:
    """All errors of a validation but those of type `without`, in the order of the places they stand at.

    Where a setting may be of several types, what each of them wants is one problem.
    """
    plain = tree.plain()
    messages: dict[Loc, list[str]] = {}
    for one in error.errors(include_url=False):
        if one["type"] != without:
            loc = user_loc(one["loc"], tree)
            messages.setdefault(loc, []).append(_message(one, loc, plain))
    found = [
        Problem.at(list(tree.walk(loc))[-1][1].origin, "; or ".join(dict.fromkeys(several)), loc)
        for loc, several in messages.items()
    ]
    return in_order(found)


def in_order(problems: list[Problem]) -> list[Problem]:
    """Problems by file and line."""
    return sorted(problems, key=lambda one: (one.file or "", one.line or 0))


def flags_for_numbers(tree: Value) -> list[Problem]:
    """`true` and `false` where a number is wanted, which pydantic would take for 1 and 0."""
    return [
        Problem.at(node.origin, "must be a number, not true or false", loc)
        for loc, node, allowed in nodes(Config, tree)
        if isinstance(node.data, bool) and bool not in allowed and (int in allowed or float in allowed)
    ]


def user_loc(loc: Loc, tree: Value) -> Loc:
    """The path as the user wrote it: without `options` of parts and without names of union members."""
    if loc[:1] and loc[0] in PART_SECTIONS and loc[2:3] == ("options",) and len(list(tree.walk(loc[:3]))) < 4:
        loc = (*loc[:2], *loc[3:])
    kept: list[int | str] = []
    node: Value | None = tree
    for at, key in enumerate(loc):
        below = node.child(key) if node else None
        if below is None and node is not None and _is_label(loc, at, node):
            continue
        kept.append(key)
        node = below
    return tuple(kept)


def _is_label(loc: Loc, at: int, node: Value) -> bool:
    """Whether a key that leads nowhere is pydantic's name for a member of a union: what follows it leads on."""
    if not isinstance(node.data, dict | list):
        return True
    return at < len(loc) - 1 and node.child(loc[at + 1]) is not None


def _message(error: ErrorDetails, loc: Loc, plain: Any) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "unknown key" + _suggestion(loc, plain)
    if kind in _WANTED:
        return _WANTED[kind]
    if kind == "literal_error" and isinstance(error["input"], str):
        choices = re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))
        close = plugins.nearest(error["input"], choices)
        return f"must be one of {', '.join(choices)}" + (close if "mean" in close else "")
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return message.replace("String should", "must").replace("List should", "must")


def _suggestion(loc: Loc, plain: Any) -> str:
    key, above = str(loc[-1]), loc[:-1]
    known = keys_at(Config, above, plain)
    near = plugins.nearest(key, known)
    if "mean" not in near and (sections := [name for name in sections_with(Config, key) if name not in above]):
        return f"; did you mean {sections[0]}.{key}?"
    return near
