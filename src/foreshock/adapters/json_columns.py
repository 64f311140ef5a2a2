"""Lines of JSON that are all alike → columns, by Arrow's reader: what decoding them one by one gives, sooner.

Whatever is out of the ordinary in one of them (another field, another type, null, something nested, broken text) is
not decided here: then the answer is None, and they are decoded one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

FEWEST = 32
"""Of fewer lines, one by one is as fast."""
_EXACT = 2.0**53
"""Below it a double holds every integer."""
_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}

Column = Any
"""int64[n] or float64[n], a pyarrow StringArray without nulls, or a list of booleans."""


def apart(body: bytes, count: int) -> bool:
    """Whether `count` texts joined by newlines are one JSON object each, if what they are together can be read at all.

    `}`, a newline and `{` can stand in no object: where they do, one ends and the next begins.
    """
    return body[:1] == b"{" and body[-1:] == b"}" and body.count(b"}\n{") == count - 1


def columns_of(body: bytes, count: int, first: Mapping[str, Any], numbers: Collection[str]) -> dict[str, Column] | None:
    """The columns of `count` objects, which stand `apart` in `body` and all have the fields of the `first`; else None.

    Those in `numbers` are float64 where the first has a number there; integers stand in int64 everywhere else.
    """
    kinds = tuple(map(type, first.values()))
    if not kinds or not set(kinds) <= _TYPES.keys() or not _is_text(body):
        return None
    floats = tuple(kind in (int, float) and name in numbers for name, kind in zip(first, kinds, strict=True))
    reading = pj.ReadOptions(use_threads=False, block_size=len(body) + 1)
    try:
        table = pj.read_json(pa.BufferReader(body), reading, _parsing(tuple(first), kinds, floats))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != count:
        return None
    out = {name: _column(table.column(name), name in numbers) for name in first}
    return None if any(column is None for column in out.values()) else out


def plain(column: Column) -> Sequence[Any]:
    """The values as Python has them."""
    if isinstance(column, np.ndarray | pa.Array):
        out: list[Any] = column.tolist()
        return out
    values: Sequence[Any] = column
    return values


@lru_cache(maxsize=256)
def _parsing(names: tuple[str, ...], kinds: tuple[type, ...], floats: tuple[bool, ...]) -> Any:
    """How objects of one shape are read; any other field is an error."""
    schema = pa.schema(
        [
            (name, pa.float64() if as_float else _TYPES[kind])
            for name, kind, as_float in zip(names, kinds, floats, strict=True)
        ]
    )
    return pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")


def _is_text(body: bytes) -> bool:
    """Whether it is UTF-8: Arrow does not look."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _column(column: Any, number: bool) -> Column | None:
    """A column as it is used; None where a value is missing, is no number of JSON, or may have lost digits."""
    if column.null_count:
        return None
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_boolean(array.type):
        return array.to_pylist()
    values = array.to_numpy()
    if pa.types.is_integer(array.type):
        return values
    return values if (np.isfinite(values) if number else np.abs(values) < _EXACT).all() else None
