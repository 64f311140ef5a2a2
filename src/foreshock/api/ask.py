"""What a query asks for."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime

from starlette.requests import Request

from foreshock.adapters.sql.text import parse_labels
from foreshock.errors import BadInputError
from foreshock.types import label_text

_LARGEST_SECONDS = 1 << 33
_FAR = 1 << 62
"""Nanoseconds: a time further off is as good as this one, and this one fits wherever it goes."""


def asked(request: Request, known: Collection[str]) -> dict[str, str]:
    """The query's parameters; BadInputError for one that is not known or is given twice."""
    out: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise BadInputError("bad_parameter", f"there is no parameter {name!r}; there are {', '.join(known)}")
        if name in out:
            raise BadInputError("bad_parameter", f"{name} is given twice")
        out[name] = value
    return out


def number(asked: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    """A whole number within bounds."""
    text = asked.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise BadInputError("bad_parameter", f"{name} is a whole number from {low} to {high}, not {text!r}")
    return value


def place(asked: dict[str, str]) -> int:
    """How many come before a page of a list, by its cursor; 0 where none is given."""
    return number(asked, "cursor", 0, 0, 1 << 31)


def following(place: int, limit: int, found: int) -> str | None:
    """The cursor of the page behind one from `place` on, of which one more than `limit` was asked for."""
    return str(place + limit) if found > limit else None


def one_of(asked: dict[str, str], name: str, choices: Collection[str]) -> str | None:
    """One of these words, or None where it is not given."""
    text = asked.get(name)
    if text is not None and text not in choices:
        raise BadInputError("bad_parameter", f"{name} is {' or '.join(choices)}, not {text!r}")
    return text


def needed(asked: dict[str, str], name: str) -> str:
    """A parameter that must be there."""
    if name not in asked:
        raise BadInputError("bad_parameter", f"{name} is needed")
    return asked[name]


def entity_of(asked: dict[str, str], name: str = "entity") -> str | None:
    """The canonical text of an entity, or None where none is given."""
    text = asked.get(name)
    if text is None:
        return None
    found = parse_labels(text)
    if not found:
        raise BadInputError("bad_entity", f"{name} has at least one label, such as host.name=a1")
    return label_text(found)


def time_of(asked: dict[str, str], name: str) -> int | None:
    """Nanoseconds of RFC 3339 text or Unix seconds."""
    text = asked.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(seconds) and 0 <= seconds < _LARGEST_SECONDS:
            return round(seconds * 1e9)
    try:
        # A plus sign in a query arrives as a space.
        when = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise BadInputError(
            "bad_parameter", f"{name} is a time such as 2026-01-31T12:00:00Z or Unix seconds, not {text!r}"
        )
    return max(-_FAR, min(_FAR, round(when.timestamp() * 1e6) * 1000))
