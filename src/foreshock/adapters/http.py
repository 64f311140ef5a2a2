"""What senders of telemetry over HTTP may write: content types and encodings; and the sources that stand for them."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping
from typing import ClassVar

from foreshock.adapters.metrics import METRICS
from foreshock.errors import BadInputError
from foreshock.ports import Clock, Submit
from foreshock.types.record import CALLS, JSON, NDJSON, OTLP, OTLP_JSON
from foreshock.types.units import Options

CONTENT_TYPES = {
    JSON: JSON,
    "text/json": JSON,
    # Senders that do not say what they send: nothing at all, or what curl -d, browsers and simple clients put there.
    "": JSON,
    "text/plain": JSON,
    "application/x-www-form-urlencoded": JSON,
    "application/octet-stream": JSON,
    NDJSON: NDJSON,
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-jsonlines": NDJSON,
    "application/jsonlines": NDJSON,
    METRICS: METRICS,
}
"""Media type, in lower case and without parameters → content type of the record that goes into the log."""

CALL_TYPES = {name: CALLS for name, kind in CONTENT_TYPES.items() if kind in (JSON, NDJSON)} | {CALLS: CALLS}
"""The same where calls are posted."""

OTLP_TYPES = {"application/x-protobuf": OTLP, "application/json": OTLP_JSON}
"""The same where OTLP metrics are posted."""

_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_FIRST_PART = 4096
_LARGEST_PART = 1 << 20


class HttpSourceOptions(Options):
    """Telemetry that is posted to `/api/v1/events`; `limits.body_bytes` bounds the size of a request."""


class CallsSourceOptions(Options):
    """Calls that are posted to `/collect`; `limits.body_bytes` bounds the size of a request."""


class PostedSource:
    """A source that others push to: it gives what is posted a name and a lateness; the server brings the records."""

    def __init__(self, name: str, lateness_seconds: float) -> None:
        self.name, self.lateness_seconds = name, lateness_seconds
        self._stopped = threading.Event()

    def run(self, submit: Submit, clock: Clock) -> None:
        """Wait for `stop`: what is posted comes in through the server's own threads."""
        self._stopped.wait()

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()


class HttpSource(PostedSource):
    """What is posted to `/api/v1/events`."""

    options: ClassVar = HttpSourceOptions
    brings_calls: ClassVar = True

    def __init__(self, name: str = "http", lateness_seconds: float = 5.0) -> None:
        super().__init__(name, lateness_seconds)


class CallsSource(PostedSource):
    """What is posted to `/collect`: recorders send every second, so little of it is late."""

    options: ClassVar = CallsSourceOptions
    default_lateness_seconds: ClassVar = 2.0

    def __init__(self, name: str = "calls", lateness_seconds: float = default_lateness_seconds) -> None:
        super().__init__(name, lateness_seconds)


def record_type(content_type: str, known: Mapping[str, str] = CONTENT_TYPES) -> str:
    """The content type of the record for a body with this `Content-Type` header ("" = none was sent).

    Raises BadInputError (`unknown_content_type`), also for a charset other than UTF-8.
    """
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    found = known.get(media_type)
    if found is None:
        wanted = (JSON, NDJSON) if JSON in known.values() else tuple(known)
        raise BadInputError("unknown_content_type", f"cannot read {media_type!r}; send {' or '.join(wanted)}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise BadInputError("unknown_content_type", f"cannot read text in {parameter!r}; send UTF-8")
    return found


def inflate(body: bytes, content_encoding: str, limit: int) -> bytes:
    """The body without its content encoding (gzip, deflate or none), never more than `limit` bytes.

    Raises BadInputError (`unknown_encoding`, `too_large`, or `bad_gzip` for what is broken, ends too early or goes on
    behind its end).
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        if len(body) > limit:
            raise too_large(limit)
        return body
    if encoding not in _WINDOW:
        raise BadInputError("unknown_encoding", f"cannot read Content-Encoding {content_encoding!r}; gzip is known")
    try:
        return _unpack(memoryview(body), _WINDOW[encoding], limit)
    except zlib.error as error:
        raise BadInputError("bad_gzip", f"the {encoding} body is broken: {error}") from error
    except EOFError as error:
        raise BadInputError("bad_gzip", f"the {encoding} body ends too early") from error


def _unpack(packed: memoryview, window: int, limit: int) -> bytes:
    out = bytearray()
    while packed:
        member = zlib.decompressobj(window)
        # What follows a member is copied by zlib: small parts first, or a body of many tiny members costs its square.
        size = _FIRST_PART
        while not member.eof:
            if not packed:
                raise EOFError
            part = packed[:size]
            out += member.decompress(part, limit + 1 - len(out))
            if len(out) > limit:
                raise too_large(limit)
            packed = packed[len(part) - len(member.unused_data) :]
            size = min(2 * size, _LARGEST_PART)
    return bytes(out)


def too_large(limit: int) -> BadInputError:
    """The error of a body that has more than `limit` bytes, packed or unpacked."""
    return BadInputError(
        "too_large", f"a body may have {limit} bytes (limits.body_bytes), unpacked too: send several smaller ones"
    )
