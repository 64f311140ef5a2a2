"""How large an Arrow stream will be, told from its headers before anything is unpacked: a small one can unpack to much.

After the Arrow columnar format 1.5: encapsulated messages, whose flatbuffers say where each buffer lies; a compressed
buffer begins with its unpacked length.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import error as StructError
from struct import unpack_from
from typing import Any

import numpy as np

_DICTIONARY, _BATCH = 2, 3
_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DATA = 1
_BUFFERS, _COMPRESSION = 2, 3


def unpacked_bytes(payload: Any) -> int:
    """Size of all buffers of an Arrow stream once they are unpacked.

    Raises ValueError where the stream contradicts itself; what it does not look at, the reader of the stream does.
    """
    view = memoryview(payload)
    try:
        return sum(_unpacked(view, batch, body) for batch, body in _batches(view))
    except (StructError, IndexError) as error:
        raise ValueError(f"a header points outside of the stream: {error}") from error


def _batches(view: memoryview) -> Iterator[tuple[int, int]]:
    """Where the table of each record batch and its body begin."""
    at = 0
    while at + 8 <= len(view):
        mark, length = unpack_from("<Ii", view, at)
        start = at + 8
        if mark != 0xFFFFFFFF:  # written before Arrow 0.15, without the mark
            length, start = mark, at + 4
        if length == 0:
            return
        if length < 0 or start + length > len(view):
            raise ValueError("the stream ends inside a header")
        message = start + _u32(view, start)
        body_length = _number(view, message, _BODY_LENGTH, "<q")
        body = start + length
        if body_length < 0 or body + body_length > len(view):
            raise ValueError("the stream ends inside a body")
        header, kind = _field(view, message, _HEADER), _number(view, message, _TYPE, "<B")
        table = header + _u32(view, header) if header else 0
        if kind == _DICTIONARY and table:
            data = _field(view, table, _DATA)
            table = data + _u32(view, data) if data else 0
        if kind in (_DICTIONARY, _BATCH) and table:
            yield table, body
        at = body + body_length


def _unpacked(view: memoryview, batch: int, body: int) -> int:
    buffers = _field(view, batch, _BUFFERS)
    if not buffers:
        return 0
    vector = buffers + _u32(view, buffers)
    count = _u32(view, vector)
    if vector + 4 + 16 * count > len(view):
        raise ValueError("a header points outside of the stream")
    places = np.frombuffer(view, "<i8", 2 * count, vector + 4).reshape(-1, 2).tolist()
    if not _field(view, batch, _COMPRESSION):
        return sum(max(0, length) for _, length in places)
    sizes = ((unpack_from("<q", view, body + offset)[0], length) for offset, length in places if length >= 8)
    # A length of −1: this buffer was left as it was.
    return sum(length - 8 if size == -1 else abs(size) for size, length in sizes)


def _field(view: memoryview, table: int, number: int) -> int:
    """Where a field of a flatbuffers table lies; 0 if it has none."""
    vtable = table - unpack_from("<i", view, table)[0]
    place = 4 + 2 * number
    if vtable < 0 or place + 2 > unpack_from("<H", view, vtable)[0]:
        return 0
    offset = unpack_from("<H", view, vtable + place)[0]
    return table + offset if offset else 0


def _number(view: memoryview, table: int, number: int, form: str) -> int:
    place = _field(view, table, number)
    found: int = unpack_from(form, view, place)[0] if place else 0
    return found


def _u32(view: memoryview, at: int) -> int:
    found: int = unpack_from("<I", view, at)[0]
    return found
