"""JSON objects that are all alike → columns: what decoding them one by one gives, sooner.

They are decoded into structs that the garbage collector does not follow, of the fields and types of the first. Whatever
is out of the ordinary in one of them (another field, another type, null, something nested, broken text) is not decided
here: then the answer is None, and they are decoded one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

FEWEST = 16
"""Of fewer objects, one by one is as fast."""
_MOST_FIELDS = 256
_EXACT = 2.0**53
"""Below it a double holds every integer."""
_TYPES = {int, float, str, bool}


def apart(body: bytes, count: int) -> bool:
    """Whether `count` texts joined by newlines are one JSON object each, if what they are together can be read at all.

    `}`, a newline and `{` can stand in no object: where they do, one ends and the next begins.
    """
    return body[:1] == b"{" and body[-1:] == b"}" and body.count(b"}\n{") == count - 1


def columns_of(
    body: bytes, count: int, first: Mapping[str, Any], numbers: Collection[str]
) -> dict[str, list[Any]] | None:
    """The columns of `count` objects, which stand `apart` in `body` and all have the fields of the `first`; else None.

    Those in `numbers` are floats where the first has a number there.
    """
    kinds = tuple(map(type, first.values()))
    if not kinds or not _TYPES.issuperset(kinds) or len(kinds) > _MOST_FIELDS:
        return None
    types = tuple(float if kind is int and name in numbers else kind for name, kind in zip(first, kinds, strict=True))
    try:
        objects = _decoder(tuple(first), types).decode_lines(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if len(objects) != count:
        return None
    columns = {name: list(map(get, objects)) for name, get in zip(first, _GETTERS, strict=False)}
    mixed = (columns[name] for name, kind in zip(first, types, strict=True) if kind is float and name not in numbers)
    # Integers among them may have lost digits.
    return None if any(max(map(abs, column)) >= _EXACT for column in mixed) else columns


_GETTERS = tuple(attrgetter(f"f{at}") for at in range(_MOST_FIELDS))


@lru_cache(maxsize=256)
def _decoder(names: tuple[str, ...], types: tuple[type, ...]) -> Any:
    """Decodes objects of exactly these fields."""
    fields = [
        (f"f{at}", kind, msgspec.field(name=name)) for at, (name, kind) in enumerate(zip(names, types, strict=True))
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Alike", fields, gc=False, forbid_unknown_fields=True))
