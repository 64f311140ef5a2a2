"""JSON objects that are all alike → columns: what decoding them one by one gives, sooner.

Many of the same fields in the same order are read by a kernel; what it leaves is decoded into structs that the garbage
collector does not follow, of the fields and types of the first. Whatever is out of the ordinary in one of them (another
field, another type, null, something nested, broken text) is not decided here: then the answer is None, and they are
decoded one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.json_kernel import INTEGER, NUMBER, TEXT, TRUTH, read_alike
from foreshock.adapters.texts import Texts
from foreshock.adapters.times import Column

FEWEST = 16
"""Of fewer objects, one by one is as fast."""
MANY = 64
"""For fewer objects no kernel is called: what is compiled for many takes seconds to be made."""
_MOST_FIELDS = 256
_EXACT = 2.0**53
"""Below it a double holds every integer."""
_TYPES = {int, float, str, bool}
_KINDS = {float: NUMBER, int: INTEGER, str: TEXT, bool: TRUTH}


def apart(body: bytes, count: int) -> bool:
    """Whether `count` texts joined by newlines are one JSON object each, if what they are together can be read at all.

    `}`, a newline and `{` can stand in no object: where they do, one ends and the next begins.
    """
    return body[:1] == b"{" and body[-1:] == b"}" and body.count(b"}\n{") == count - 1


def columns_of(
    body: bytes, count: int, first: Mapping[str, Any], numbers: tuple[str, ...]
) -> Mapping[str, Column] | None:
    """The columns of `count` objects, one a line of `body`, which all have the fields of the `first`; else None.

    Those in `numbers` are floats where the first has a number there.
    """
    names = tuple(first)
    types = _types(tuple(map(type, first.values())), names, numbers)
    if types is None:
        return None
    columns = _by_kernel(body, count, names, types) if count >= MANY else None
    if columns is None:
        columns = _by_struct(body, count, names, types)
    if columns is None:
        return None
    mixed = (columns[name] for name, kind in zip(names, types, strict=True) if kind is float and name not in numbers)
    # Integers among them may have lost digits.
    return None if any(np.abs(column).max() >= _EXACT for column in mixed) else columns


def _by_kernel(body: bytes, count: int, names: tuple[str, ...], types: tuple[type, ...]) -> dict[str, Column] | None:
    """Columns of objects whose fields stand in the order of `names`, in plain letters; else None."""
    plan = _plan(names, types)
    if plan is None:
        return None
    real, whole = np.empty((plan.real, count)), np.empty((plan.whole, count), np.int64)
    start, end = np.empty((2, plan.texts, count), np.int64)
    data = np.frombuffer(body, np.uint8)
    if read_alike(data, plan.known, plan.ends, plan.kind, plan.place, real, whole, start, end) < 0:
        return None
    out: dict[str, Column] = {}
    for name, kind, at in zip(names, plan.kinds, plan.places, strict=True):
        if kind == TEXT:
            out[name] = Texts(data, start[at], end[at])
        elif kind == TRUTH:
            out[name] = (real[at] != 0.0).tolist()
        else:
            out[name] = whole[at] if kind == INTEGER else real[at]
    return out


def _by_struct(body: bytes, count: int, names: tuple[str, ...], types: tuple[type, ...]) -> dict[str, Column] | None:
    if not apart(body, count):
        return None
    try:
        objects = _decoder(names, types).decode_lines(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if len(objects) != count:
        return None
    return {name: list(map(get, objects)) for name, get in zip(names, _GETTERS, strict=False)}


class _Plan(NamedTuple):
    """What the kernel is told of fields: their names one behind the other, where each `ends`, its `kind`, and its
    `place` among those that are kept together, of which there are so many.
    """

    known: NDArray[np.uint8]
    ends: NDArray[np.int64]
    kind: NDArray[np.int8]
    place: NDArray[np.int64]
    kinds: list[int]
    places: list[int]
    real: int
    whole: int
    texts: int


@lru_cache(maxsize=256)
def _plan(names: tuple[str, ...], types: tuple[type, ...]) -> _Plan | None:
    """The plan of fields of these names and types; None where a name is not in plain letters."""
    if not "".join(names).isascii() or any(sign in name for name in names for sign in '"\\'):
        return None
    kinds = [_KINDS[kind] for kind in types]
    together = [kind if kind != TRUTH else NUMBER for kind in kinds]
    places = [together[:at].count(kind) for at, kind in enumerate(together)]
    return _Plan(
        np.frombuffer("".join(names).encode(), np.uint8), np.cumsum([len(name) for name in names]),
        np.array(kinds, np.int8), np.array(places), kinds, places,
        together.count(NUMBER), together.count(INTEGER), together.count(TEXT),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _types(kinds: tuple[type, ...], names: tuple[str, ...], numbers: tuple[str, ...]) -> tuple[type, ...] | None:
    """The types that columns are read as; None where a field is of no type that can be alike."""
    if not kinds or not _TYPES.issuperset(kinds) or len(kinds) > _MOST_FIELDS:
        return None
    return tuple(float if kind is int and name in numbers else kind for name, kind in zip(names, kinds, strict=True))


_GETTERS = tuple(attrgetter(f"f{at}") for at in range(_MOST_FIELDS))


@lru_cache(maxsize=256)
def _decoder(names: tuple[str, ...], types: tuple[type, ...]) -> Any:
    """Decodes objects of exactly these fields."""
    fields = [
        (f"f{at}", kind, msgspec.field(name=name)) for at, (name, kind) in enumerate(zip(names, types, strict=True))
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Alike", fields, gc=False, forbid_unknown_fields=True))
