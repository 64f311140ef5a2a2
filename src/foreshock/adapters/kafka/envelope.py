"""What Kafka headers say of a message: its content type, CloudEvents attributes (binary mode), W3C trace context."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from foreshock.adapters.times import parse_iso

Headers = Sequence[tuple[str, bytes | None]]
"""Headers as the client gives them: a name may come up again, a value may be missing."""

CONTENT_TYPE, TRACE_PARENT, TRACE_STATE = "content-type", "traceparent", "tracestate"
EVENT_ID, EVENT_SOURCE, EVENT_TIME, EVENT_TYPE, EVENT_VERSION = (
    "ce_id", "ce_source", "ce_time", "ce_type", "ce_specversion",
)  # fmt: skip
CLOUDEVENTS_VERSION = "1.0"

_TRACE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KNOWN = frozenset({CONTENT_TYPE, TRACE_PARENT, EVENT_ID, EVENT_SOURCE, EVENT_TIME})


@dataclass(frozen=True, slots=True)
class Envelope:
    """What headers say: `content_type` as it was sent, `event_id`, `source` and `time_unix_nano` of a CloudEvent,
    `trace_parent` if it is a valid one; "" and 0 where they say nothing.
    """

    content_type: str = ""
    event_id: str = ""
    source: str = ""
    time_unix_nano: int = 0
    trace_parent: str = ""


NOTHING_SAID = Envelope()


def envelope(headers: Headers | None) -> Envelope:
    """What headers say; of a name that comes up twice the last one, and nothing of what is not UTF-8 or no value.

    >>> envelope([("content-type", b"application/json"), ("ce_id", b"e-1"), ("other", None)])
    Envelope(content_type='application/json', event_id='e-1', source='', time_unix_nano=0, trace_parent='')
    """
    if not headers:
        return NOTHING_SAID
    if len(headers) == 1:
        return _single(headers[0])
    return _of(headers)


@lru_cache(maxsize=1024)
def _single(header: tuple[str, bytes | None]) -> Envelope:
    # Most messages say their content type and nothing else, all of them the same.
    return _of((header,))


def _of(headers: Headers) -> Envelope:
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key in _KNOWN and value:
            try:
                found[key] = value.decode()
            except UnicodeDecodeError:
                continue
    if not found:
        return NOTHING_SAID
    trace = found.get(TRACE_PARENT, "")
    return Envelope(
        found.get(CONTENT_TYPE, ""),
        found.get(EVENT_ID, ""),
        found.get(EVENT_SOURCE, ""),
        max(0, parse_iso(found.get(EVENT_TIME, ""))),
        trace if is_trace_parent(trace) else "",
    )


def is_trace_parent(text: str) -> bool:
    """Whether a text is a `traceparent` of W3C trace context, level 1 or later.

    >>> is_trace_parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    True
    """
    match = _TRACE.fullmatch(text)
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5] is not None):
        return False
    return bool(match[2].strip("0")) and bool(match[3].strip("0"))


def trace_headers(headers: Headers | None) -> list[tuple[str, bytes | None]]:
    """The headers that carry a trace on, if they are valid: what is made of a message belongs to its trace."""
    if not envelope(headers).trace_parent:
        return []
    return [(name, value) for name, value in headers or () if name.lower() in (TRACE_PARENT, TRACE_STATE)]


def written(
    content_type: str, *, event_id: str = "", source: str = "", kind: str = "", time: str = "", trace_parent: str = ""
) -> list[tuple[str, bytes | None]]:
    """Headers of a message; with an `event_id` it is a CloudEvent, which needs `source` and `kind` (its type) too."""
    pairs: Iterable[tuple[str, str]] = [(CONTENT_TYPE, content_type), (TRACE_PARENT, trace_parent)]
    if event_id:
        pairs = [
            *pairs, (EVENT_VERSION, CLOUDEVENTS_VERSION), (EVENT_ID, event_id), (EVENT_SOURCE, source),
            (EVENT_TYPE, kind), (EVENT_TIME, time),
        ]  # fmt: skip
    return [(name, text.encode()) for name, text in pairs if text]
