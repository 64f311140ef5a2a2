"""Calls between services, as senders write them or in columns → Calls. Pure: the body and when it came decide all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType, field
from numpy.typing import NDArray

from foreshock.adapters.assemble import MAX_NAME, Drops
from foreshock.adapters.decode_json import numbers_of
from foreshock.adapters.identities import text_of
from foreshock.adapters.times import times_of_values
from foreshock.errors import BadInputError
from foreshock.types import CALL, Calls

MAX_CALLS = 500_000
"""Most calls of one body."""

MAX_NAMES = 100_000
"""Most distinct services, methods and endpoints of one body."""

MAX_SECONDS = 86_400.0
"""Longest duration that is believed."""

NO_ANSWER = frozenset({"", "timeout", "error", "refused", "reset", "cancelled"})
"""What senders write for the status of a call that had no answer."""

_BOM = b"\xef\xbb\xbf"
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_FIRST_ROW, _FIRST_LINES = 4096, 1000
_MOST_SHOWN = 12
_TOO_LONG, _TOO_MANY = -1, -2


class _Row(msgspec.Struct, gc=False):
    """A call with each field by all of its names; of any type, so that a wrong one costs its own row only."""

    source: Any = UNSET
    client: Any = UNSET
    caller: Any = UNSET
    origin: Any = field(default=UNSET, name="from")
    target: Any = UNSET
    server: Any = UNSET
    callee: Any = UNSET
    to: Any = UNSET
    service: Any = UNSET
    method: Any = UNSET
    endpoint: Any = UNSET
    path: Any = UNSET
    url: Any = UNSET
    status: Any = UNSET
    status_code: Any = UNSET
    duration: Any = UNSET
    duration_seconds: Any = UNSET
    duration_ms: Any = UNSET
    latency_ms: Any = UNSET
    timestamp: Any = UNSET
    time: Any = UNSET
    time_unix_nano: Any = UNSET


class _Document(_Row):
    """The first object of a body: a call, many under `calls`, or with `names` the columns of many."""

    calls: Raw = Raw(b"")
    names: Any = UNSET


_FIELDS = {
    "source": ("source", "client", "caller", "origin"),
    "target": ("target", "server", "callee", "to", "service"),
    "method": ("method",),
    "endpoint": ("endpoint", "path", "url"),
    "status": ("status", "status_code"),
    "seconds": ("duration", "duration_seconds"),
    "milliseconds": ("duration_ms", "latency_ms"),
    "time": ("timestamp", "time"),
    "nanoseconds": ("time_unix_nano",),
}
"""What is known of a call → the attributes of `_Row` that may hold it; the first that is there counts."""

_KEYS = {one.name: one.encode_name for one in msgspec.structs.fields(_Row)}
_DOCUMENT = msgspec.json.Decoder(_Document)
_ROW = msgspec.json.Decoder(_Row)
_ROWS = msgspec.json.Decoder(list[_Row])

Names = dict[str, int]
"""Texts and their places, in the order of the places."""


def decode_calls(payload: bytes, received_unix_nano: int) -> Calls:
    """Calls of one JSON object, an array, `{"calls": […]}`, NDJSON, or the columns that `encode_calls` writes.

    A call without a time has `received_unix_nano`. What cannot be used is counted in `dropped`: `bad_json`, `not_utf8`,
    `not_an_object`, `no_target`, `name_too_long`, `too_many_names`, `bad_status`, `bad_duration`, `bad_time`. Raises
    BadInputError if the body is broken as a whole (also `bad_columns`, `too_many_calls`), or if not one call can be
    used.
    """
    drops = Drops()
    body = payload.removeprefix(_BOM).strip()
    document = _document(body)
    if document is not None and bytes(document.calls)[:1] == b"[":
        body, document = bytes(document.calls), None
    if document is None:
        rows, numbers = _rows(body, drops)
    elif document.names is not UNSET:
        return _of_columns(document, received_unix_nano, drops)
    else:
        rows, numbers = [document], np.ones(1, np.int64)
    names: Names = {}
    places = {name: _places(_texts(_column(rows, name)), clean, names) for name, clean in _CLEAN.items()}
    return _calls(names, places, partial(_column, rows), received_unix_nano, numbers, drops, _notes(body))


def encode_calls(calls: Calls) -> bytes:
    """The columns of calls as JSON, with the texts that they point to; what was dropped before is not in it."""
    columns = {name: calls.rows[name].tolist() for name in CALL.names or ()}
    return msgspec.json.encode({"names": list(calls.names), **columns})


# -- the body ----------------------------------------------------------------------------------------------------


def _document(body: bytes) -> _Document | None:
    """The one object that a body is; None if it is something else, such as several."""
    if body[:1] != b"{":
        return None
    try:
        return _DOCUMENT.decode(body)
    except _BROKEN as error:
        if b"\n" not in body:
            raise BadInputError(*_trouble(error)) from error
        return None


def _rows(body: bytes, drops: Drops) -> tuple[Sequence[_Row], NDArray[np.int64]]:
    """The rows of an array or of lines, and their numbers, from 1; blank lines have none."""
    array = body[:1] == b"["
    _bound(body.count(b"{"))
    try:
        rows = _ROWS.decode(body) if array else _ROW.decode_lines(body)
        return rows, np.arange(1, len(rows) + 1)
    except _BROKEN:
        return _objects(body, drops) if array else _lines(body, drops)


def _objects(body: bytes, drops: Drops) -> tuple[Sequence[_Row], NDArray[np.int64]]:
    """The objects of an array that holds other things too."""
    try:
        values = msgspec.json.decode(body)
    except _BROKEN as error:
        raise BadInputError(*_trouble(error)) from error
    fine = np.fromiter((type(value) is dict for value in values), np.bool_, len(values))
    numbers = np.arange(1, len(values) + 1)
    drops.add_rows("not_an_object", numbers[~fine])
    return msgspec.convert([value for value in values if type(value) is dict], list[_Row]), numbers[fine]


def _lines(body: bytes, drops: Drops) -> tuple[Sequence[_Row], NDArray[np.int64]]:
    """The rows of lines of which some are broken; BadInputError where most are: that is something else."""
    rows: list[_Row] = []
    numbers: list[int] = []
    number = 0
    for line in io.BytesIO(body):
        if not line.strip():
            continue
        number += 1
        try:
            rows.append(_ROW.decode(line))
            numbers.append(number)
        except _BROKEN as error:
            drops.add(_trouble(error)[0], 1, number)
            if number > _FIRST_LINES and len(rows) < number / 2:
                raise BadInputError(
                    drops.worst(), f"most of its lines are broken ({'; '.join(drops.notes())})"
                ) from error
    return rows, np.array(numbers, np.int64)


def _bound(count: int) -> None:
    if count > MAX_CALLS:
        raise BadInputError("too_many_calls", f"a body may have {MAX_CALLS} calls: send several smaller ones")


def _trouble(error: Exception) -> tuple[str, str]:
    """Reason and message of what could not be decoded."""
    if isinstance(error, UnicodeDecodeError):
        return "not_utf8", f"the text is not UTF-8: {error.reason}"
    if isinstance(error, RecursionError):
        return "bad_json", "the JSON is nested too deeply"
    if isinstance(error, msgspec.ValidationError) and "Expected" in str(error):
        return "not_an_object", f"a call is a JSON object: {error}"
    return "bad_json", f"the JSON is broken: {error}"


def _notes(body: bytes) -> tuple[str, ...]:
    """How the first row was read, where that is not plain, and which of its fields were not."""
    text = body[:_FIRST_ROW].decode(errors="ignore")
    try:
        first, _ = json.JSONDecoder().raw_decode(text, max(text.find("{"), 0))
    except (ValueError, RecursionError):
        return ()
    if not isinstance(first, dict):
        return ()
    notes = []
    for name, attributes in _FIELDS.items():
        used = next((_KEYS[one] for one in attributes if _KEYS[one] in first), None)
        if used not in (None, _KEYS[attributes[0]]):
            notes.append(f"{'duration' if name == 'milliseconds' else _KEYS[attributes[0]]} = {used}")
    if not any(_KEYS[one] in first for one in (*_FIELDS["time"], *_FIELDS["nanoseconds"])):
        notes.append("time = when it was received")
    unknown = [key[:64] for key in first if key not in _KEYS.values()]
    if unknown:
        notes.append(f"not used = {', '.join(unknown[:_MOST_SHOWN])}")
    return tuple(notes)


# -- columns -----------------------------------------------------------------------------------------------------


def _of_columns(document: _Document, received_unix_nano: int, drops: Drops) -> Calls:
    texts = document.names
    if type(texts) is not list or set(map(type, texts)) - {str}:
        raise BadInputError("bad_columns", "`names` is not an array of texts")
    if len(texts) > MAX_NAMES:
        raise BadInputError("too_many_names", f"a body may have {MAX_NAMES} names")
    given = {name: _column([document], name)[0] for name in _FIELDS}
    columns = {name: column for name, column in given.items() if column is not UNSET}
    if set(map(type, columns.values())) - {list} or len({*map(len, columns.values())}) != 1:
        raise BadInputError("bad_columns", "beside `names` stand arrays of one length, one a field")
    n = len(next(iter(columns.values())))
    _bound(n)
    names: Names = {}
    for text in texts:
        names.setdefault(text, len(names))
    places = {name: _moved(columns.get(name), n, texts, clean, names) for name, clean in _CLEAN.items()}
    return _calls(
        names, places, lambda name: columns.get(name, [UNSET] * n), received_unix_nano, np.arange(1, n + 1), drops, ()
    )


def _moved(column: Any, n: int, texts: Sequence[str], clean: Callable[[str], str], names: Names) -> NDArray[np.int32]:
    """Places of the cleaned texts that a column of places points to: int32[n]."""
    if column is None:
        return np.full(n, _places([""], clean, names)[0], np.int32)
    if set(map(type, column)) - {int} or (n and not (min(column) >= 0 and max(column) < len(texts))):
        raise BadInputError("bad_columns", "a place is no whole number from 0 to the last of `names`")
    at = np.array(column, np.int64)
    used = np.flatnonzero(np.bincount(at, minlength=len(texts)))
    to = np.zeros(len(texts), np.int32)
    to[used] = _places([texts[place] for place in used.tolist()], clean, names)
    return to[at]


def _column(rows: Sequence[_Row], name: str) -> list[Any]:
    """The values of a field, by the first of its attributes that a row has; UNSET where it has none."""
    first, *others = _FIELDS[name]
    column = list(map(attrgetter(first), rows))
    for other in others:
        if UnsetType not in set(map(type, column)):
            break
        column = [
            value if value is not UNSET else further
            for value, further in zip(column, map(attrgetter(other), rows), strict=True)
        ]
    return column


def _texts(values: list[Any]) -> list[str]:
    if set(map(type, values)) == {str}:
        return values
    return [text_of(value) or "" for value in values]


def _places(texts: Sequence[str], clean: Callable[[str], str], names: Names) -> NDArray[np.int32]:
    """The places of cleaned texts in `names`, which grows: int32[n]; below 0 for what is too long or one too many."""
    place: dict[str, int] = {}
    for text in dict.fromkeys(texts):
        name = clean(text)
        if len(name) > MAX_NAME:
            place[text] = _TOO_LONG
        elif name in names or len(names) < MAX_NAMES:
            place[text] = names.setdefault(name, len(names))
        else:
            place[text] = _TOO_MANY
    return np.fromiter(map(place.__getitem__, texts), np.int32, len(texts))


def _method(text: str) -> str:
    return text.strip().upper()


def _path(text: str) -> str:
    """A path without what comes before and behind it.

    >>> _path("https://pay.example:8443/charge?id=7#top"), _path("https://pay.example?id=7"), _path("shop.Cart/Add")
    ('/charge', '/', 'shop.Cart/Add')
    """
    path = text.partition("?")[0].partition("#")[0].strip()
    scheme, found, rest = path.partition("://")
    if found and scheme.isalnum():
        _, slash, tail = rest.partition("/")
        path = slash + tail
    return path or ("/" if text else "")


def _calls(
    names: Names, places: dict[str, NDArray[np.int32]], given: Callable[[str], list[Any]], received_unix_nano: int,
    numbers: NDArray[np.int64], drops: Drops, notes: tuple[str, ...],
) -> Calls:  # fmt: skip
    """The calls of columns: `places` point into `names`, `given` gives the values of a field as they were decoded."""
    rows = np.zeros(len(numbers), CALL)
    for name, column in places.items():
        rows[name] = column
    rows["status"], answered = _statuses(given("status"))
    rows["duration_seconds"], lasted = _seconds(given)
    rows["time_unix_nano"], timed = _times(given, received_unix_nano)
    keep = np.ones(len(rows), np.bool_)
    least = np.minimum.reduce([*places.values()])
    for reason, wrong in (
        ("name_too_long", least == _TOO_LONG),
        ("too_many_names", least == _TOO_MANY),
        ("no_target", rows["target"] == names.get("", _TOO_LONG)),
        ("bad_status", ~answered),
        ("bad_duration", ~lasted),
        ("bad_time", ~timed),
    ):
        drops.add_rows(reason, numbers[keep & wrong])
        keep &= ~wrong
    if not keep.any():
        detail = "; ".join(drops.notes()) or "the body holds no calls"
        raise BadInputError(drops.worst(), f"nothing in the body can be used ({detail})")
    return Calls(list(names), rows if keep.all() else rows[keep], drops.counts, (*notes, *drops.notes()))


def _statuses(values: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """HTTP statuses int64[n], 0 where there was no answer, and which of them can be believed."""
    if set(map(type, values)) != {int}:
        values = [_status(value) for value in values]
    out = np.array([value if -1 <= value <= 1000 else -1 for value in values], np.int64)
    fine = (out == 0) | ((out >= 100) & (out < 1000))
    return np.where(fine, out, 0), fine


def _status(value: Any) -> int:
    if value is UNSET or value is None:
        return 0
    if type(value) is str:
        text = value.strip().lower()
        return 0 if text in NO_ANSWER else int(text) if len(text) <= 3 and text.isascii() and text.isdigit() else -1
    if type(value) is float:
        return int(value) if value.is_integer() else -1
    return value if type(value) is int else -1


def _seconds(given: Callable[[str], list[Any]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Durations float64[n] in seconds, NaN where there is none, and which of them can be believed."""
    values = given("seconds")
    missing = _missing(values)
    if missing is None:
        out, fine = numbers_of(values)
    else:
        out, fine = numbers_of([None if value is UNSET else value for value in values])
        other, good = numbers_of([None if value is UNSET else value for value in given("milliseconds")])
        out, fine = np.where(missing, other / 1e3, out), np.where(missing, good, fine)
    return out, fine & ~((out < 0) | (out > MAX_SECONDS))


def _times(given: Callable[[str], list[Any]], received_unix_nano: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times int64[n] in Unix ns, and which of them are some; those that were not given are when it was received."""
    out, timed = times_of_values(values := given("time"), "auto")
    missing = _missing(values)
    if missing is not None:
        others, good = times_of_values(values := given("nanoseconds"), "ns")
        out, timed = np.where(missing, others, out), np.where(missing, good, timed)
        neither = _missing(values)
        if neither is not None:
            neither &= missing
            out, timed = np.where(neither, received_unix_nano, out), timed | neither
    return out, timed


def _missing(values: list[Any]) -> NDArray[np.bool_] | None:
    """Where nothing was given: bool[n]; None = nowhere."""
    if not set(map(type, values)) & {UnsetType, type(None)}:
        return None
    return np.array([value is UNSET or value is None for value in values])


_CLEAN: dict[str, Callable[[str], str]] = {
    "source": str.strip, "target": str.strip, "method": _method, "endpoint": _path,
}  # fmt: skip
"""Fields that are texts, and what is made of what a sender writes."""
