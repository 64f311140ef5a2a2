"""What OTLP/HTTP answers: `ExportMetricsServiceResponse`, and `google.rpc.Status` where a request is refused.

Both are so small that they are written by hand, and need no extra.
"""

from __future__ import annotations

import msgspec


def success(rejected: int, message: str, as_json: bool) -> bytes:
    """The answer to a request that was taken; `rejected` data points of it were not, and `message` says why."""
    if as_json:
        partial = {"rejectedDataPoints": str(rejected), "errorMessage": message}
        return msgspec.json.encode({"partialSuccess": partial} if rejected else {})
    if not rejected:
        return b""
    return _bytes(1, b"\x08" + _varint(rejected) + _bytes(2, message.encode()))


def status(message: str, as_json: bool) -> bytes:
    """Why a request was refused."""
    return msgspec.json.encode({"message": message}) if as_json else _bytes(2, message.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
