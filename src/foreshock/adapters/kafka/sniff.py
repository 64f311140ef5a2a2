"""What a message holds, told by its first bytes where nobody says it."""

from __future__ import annotations

from foreshock.errors import BadInputError
from foreshock.types.record import ARROW, JSON, OTLP

_ARROW = (bytes.fromhex("ffffffff"), bytes.fromhex("28b52ffd"))
"""How an Arrow stream begins, plain and packed with zstd."""

_RESOURCE_METRICS = 0x0A
"""Field 1 of an OTLP request, the only one that it has, as protobuf writes it."""

_MOST_PARTS = 64


def sniff(value: bytes) -> str:
    """The content type of a message: JSON, OTLP protobuf or an Arrow stream.

    Raises BadInputError (`empty`, `unknown_format`).

    >>> sniff(b' {"value": 1}')
    'application/json'
    """
    if not value:
        raise BadInputError("empty", "the message is empty")
    if value.startswith(_ARROW):
        return ARROW
    if value[0] == _RESOURCE_METRICS and is_repeated(value):
        return OTLP
    if value.lstrip()[:1] in (b"{", b"[") or value.startswith(b"\xef\xbb\xbf"):
        return JSON
    raise BadInputError("unknown_format", f"neither JSON, OTLP protobuf nor an Arrow stream: begins {value[:8].hex()}")


def is_repeated(value: bytes) -> bool:
    """Whether bytes are a protobuf message of field 1 alone, each time a message: lengths lead from one to the next.

    A newline before JSON looks the same at first, and never in the end.
    """
    at = 0
    for _ in range(_MOST_PARTS):
        if at == len(value):
            return True
        if value[at] != _RESOURCE_METRICS:
            return False
        length, at = _varint(value, at + 1)
        if length < 0 or at + length > len(value):
            return False
        at += length
    return True


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """A length and where it ends; −1 if it is none."""
    out = 0
    for shift in range(0, 35, 7):
        if at >= len(value):
            break
        byte = value[at]
        at += 1
        out |= (byte & 0x7F) << shift
        if byte < 0x80:
            return out, at
    return -1, at
