"""JSON and NDJSON bodies → Samples. Pure: the body, the options and the default entity decide everything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.assemble import MAX_NAME, Block, Drops, assemble, join
from foreshock.adapters.identities import Columns, Shape, identities_of, shape_of, shared_of, texts_of
from foreshock.adapters.json_columns import FEWEST, MANY, columns_of
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.texts import Texts
from foreshock.adapters.times import Column, parse_iso, times_of_values, unit_of_magnitude
from foreshock.errors import BadInputError
from foreshock.types import Labels, Samples
from foreshock.types.record import NDJSON

_ANY = msgspec.json.Decoder()
WRAPPERS = ("events", "samples", "rows", "data")
_BOM = b"\xef\xbb\xbf"
_DEPTH = 8
BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MOST_NOTES = 12

Row = dict[str, Any]
Part = tuple[NDArray[np.int64], Samples]
"""The number of the row of each sample, and the samples."""


def decode_json(
    body: bytes,
    content_type: str,
    options: MappingOptions,
    source_defaults: Labels,
    use_entity: bool = True,
) -> Samples:
    """Samples of a JSON object, an array of them, `{"events": […]}`, or NDJSON.

    `source_defaults` is the entity of rows that name none. Broken lines and unusable rows are counted in `dropped`.
    Raises BadInputError if the JSON is broken as a whole, or if not one sample can be used.
    """
    lines = content_type == NDJSON
    drops = Drops("line" if lines else "row")
    body = body.removeprefix(_BOM)
    alike = _alike(body.removesuffix(b"\n"), options, source_defaults, drops, use_entity) if lines else None
    if alike is not None:
        return alike
    rows, numbers = _lines(body, drops) if lines else _document(body, drops)
    if not all_dicts(rows):
        where = [at for at, row in enumerate(rows) if type(row) is not dict]
        drops.add_rows("not_an_object", numbers[where])
        keep = [at for at, row in enumerate(rows) if type(row) is dict]
        rows, numbers = [rows[at] for at in keep], numbers[keep]
    parts, notes, trouble = decode_rows(rows, numbers, options, source_defaults, drops, use_entity)
    return _joined(parts, notes, trouble, drops)


def _joined(parts: list[Part], notes: Sequence[str], trouble: str, drops: Drops) -> Samples:
    """The samples of all parts; BadInputError where there is none."""
    samples = join(parts, drops, notes) if parts else None
    if samples is None or not len(samples):
        reason = drops.worst()
        detail = trouble or "; ".join(drops.notes()) or "the body holds no rows"
        raise BadInputError(reason, f"nothing in the body can be used ({detail})")
    return samples


def _alike(body: bytes, options: MappingOptions, default: Labels, drops: Drops, use_entity: bool) -> Samples | None:
    """The samples of lines that are all alike; else None."""
    count = body.count(b"\n") + 1
    if count < FEWEST:
        return None
    first = first_of(body)
    found = None if first is None else decode_alike(
        body, first, np.arange(1, count + 1), options, default, drops, use_entity
    )  # fmt: skip
    return None if found is None else _joined(*found, "", drops)


def first_of(body: bytes) -> Row | None:
    """The object on the first line; None if that is none."""
    try:
        first = _ANY.decode(body[: body.find(b"\n")])
    except BROKEN:
        return None
    return first if type(first) is dict else None


def all_dicts(rows: Sequence[Any]) -> bool:
    """Whether all rows are JSON objects."""
    return set(map(type, rows)) <= {dict}


def _document(body: bytes, drops: Drops) -> tuple[list[Any], NDArray[np.int64]]:
    try:
        document = _ANY.decode(body)
    except BROKEN as error:
        if _is_ndjson(body):
            return _lines(body, drops)
        raise trouble_of(body, error) from error
    if type(document) is dict:
        wrapped = next((document[key] for key in WRAPPERS if type(document.get(key)) is list), None)
        rows = [document] if wrapped is None else wrapped
    elif type(document) is list:
        rows = document
    else:
        raise BadInputError("bad_json", "the body is neither a JSON object nor an array of objects")
    return rows, np.arange(1, len(rows) + 1)


def _is_ndjson(body: bytes) -> bool:
    """Whether a body that is no JSON document begins with a line that is one, and has more lines."""
    first, _, rest = body.lstrip().partition(b"\n")
    if not rest.strip():
        return False
    try:
        return type(_ANY.decode(first)) is dict
    except BROKEN:
        return False


def _lines(body: bytes, drops: Drops) -> tuple[list[Any], NDArray[np.int64]]:
    try:
        rows = _ANY.decode_lines(body)
    except BROKEN:
        return _lines_one_by_one(body, drops)
    if len(rows) == body.count(b"\n") + (not body.endswith(b"\n")):
        return rows, np.arange(1, len(rows) + 1)
    filled = [at for at, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    return rows, np.array(filled, np.int64)


def _lines_one_by_one(body: bytes, drops: Drops) -> tuple[list[Any], NDArray[np.int64]]:
    rows, numbers = [], []
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(_ANY.decode(line))
            numbers.append(number)
        except BROKEN as error:
            drops.add(trouble_of(line, error).reason, 1, number)
    return rows, np.array(numbers, np.int64)


def trouble_of(body: bytes, error: Exception) -> BadInputError:
    """What is wrong with JSON that could not be decoded."""
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return BadInputError("not_utf8", f"the text is not UTF-8 (byte {wrong.start})")
    if isinstance(error, RecursionError):
        return BadInputError("bad_json", "the JSON is nested too deeply")
    return BadInputError("bad_json", f"the JSON is broken: {error}")


def decode_rows(
    rows: list[Row], numbers: NDArray[np.int64], options: MappingOptions, default: Labels, drops: Drops,
    use_entity: bool,
) -> tuple[list[Part], tuple[str, ...], str]:  # fmt: skip
    """Samples of JSON objects with these numbers, in parts for `join`, the notes on them, and the first trouble."""
    parts: list[Part] = []
    notes: dict[str, None] = {}
    trouble = ""
    for group, columns, where in _by_shape(rows, numbers):
        try:
            shape = shape_of(tuple(group[0]), options, use_entity)
        except BadInputError as error:
            drops.add_rows(error.reason, where)
            trouble = trouble or str(error)
            continue
        part, said = _part(columns, group[0], where, shape, default, drops)
        parts += part
        notes |= dict.fromkeys(said)
    return parts, tuple(notes)[:_MOST_NOTES], trouble


def decode_alike(
    body: bytes, first: Row, numbers: NDArray[np.int64], options: MappingOptions, default: Labels, drops: Drops,
    use_entity: bool, shared: bool = False,
) -> tuple[list[Part], tuple[str, ...]] | None:  # fmt: skip
    """What `decode_rows` makes of the objects on the lines of `body`, if all are like the `first`; else None.

    The samples of `shared` ones may point into a dictionary that they share with others.
    """
    try:
        shape = shape_of(tuple(first), options, use_entity)
    except BadInputError:
        return None
    columns = columns_of(body, len(numbers), first, shape.plan.candidates)
    if columns is None:
        return None
    parts, notes = _part(columns, first, numbers, shape, default, drops, shared)
    return parts, notes[:_MOST_NOTES]


def _part(
    columns: Columns,
    first: Row,
    numbers: NDArray[np.int64],
    shape: Shape,
    default: Labels,
    drops: Drops,
    shared: bool = False,
) -> tuple[list[Part], tuple[str, ...]]:
    """The samples of rows of one shape, if there are any, and the notes on them."""
    block, left = _block(columns, numbers, shape, default, drops, shared)
    if block is None:
        return [], ()
    plan = shape.plan
    unit = _unit_shown(first[plan.time], plan.unit)
    return [assemble(block, shape.options, drops)], plan.notes(unit, block.features, _entity_shown(default), left)


def _by_shape(rows: list[Row], numbers: NDArray[np.int64]) -> list[tuple[list[Row], Columns, NDArray[np.int64]]]:
    """Rows by their tuple of keys, nested objects made flat: within a group every row has the same columns."""
    out: list[tuple[list[Row], Columns, NDArray[np.int64]]] = []
    for group, where in _groups(rows, numbers):
        columns = _columns(group)
        if any(dict in set(map(type, column)) for column in columns.values()):
            out += [(flat, _columns(flat), at) for flat, at in _groups([_flat(row) for row in group], where)]
        else:
            out.append((group, columns, where))
    return out


def _columns(rows: list[Row]) -> Columns:
    """The values of rows of one shape, by column."""
    return dict(zip(rows[0], zip(*map(dict.values, rows), strict=True), strict=True)) if rows[0] else {}


def _groups(rows: list[Row], numbers: NDArray[np.int64]) -> list[tuple[list[Row], NDArray[np.int64]]]:
    if len(set(map(tuple, rows))) <= 1:
        return [(rows, numbers)] if rows else []
    groups: dict[tuple[str, ...], list[int]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(tuple(row), []).append(at)
    return [([rows[at] for at in where], numbers[where]) for where in groups.values()]


def _flat(row: Row, prefix: str = "", depth: int = 0) -> Row:
    """`{"a": {"b": 1}}` → `{"a.b": 1}`, to a bounded depth; what lies deeper is left out."""
    out: Row = {}
    for key, value in row.items():
        if type(value) is not dict:
            out[prefix + key] = value
        elif depth < _DEPTH:
            out |= _flat(value, f"{prefix}{key}.", depth + 1)
    return out


def _block(
    values: Columns, numbers: NDArray[np.int64], shape: Shape, default: Labels, drops: Drops, shared: bool
) -> tuple[Block | None, list[str]]:
    """The block of rows of one shape, and the candidates that held no number."""
    plan = shape.plan
    features, columns, masks, left, wrong, first_wrong = [], [], [], [], 0, 0
    for path in plan.candidates:
        column, mask = numbers_of(values[path])
        if path not in plan.wanted and np.isnan(column).all():
            left.append(path)
            continue
        if len(path) > MAX_NAME:
            drops.add("name_too_long", len(numbers), int(numbers[0]))
            continue
        if not mask.all():
            wrong += int((~mask).sum())
            first_wrong = min(first_wrong or int(numbers[-1]), int(numbers[~mask].min()))
        features.append(path)
        columns.append(column)
        masks.append(mask)
    if not features:
        drops.add_rows("no_values", numbers)
        return None, left
    found = shared_of(values, features, shape, default) if shared else None
    code, identities = identities_of(values, len(numbers), shape, default) if found is None else (found[0], [])
    times, timed = times_of_values(values[plan.time], plan.unit)
    present = None if all(mask.all() for mask in masks) else np.column_stack(masks)
    ids = event_ids(values[plan.id]) if plan.id else None
    return Block(times, timed, code, identities, features, np.column_stack(columns), present, ids, numbers, wrong,
                 first_wrong, plan.long, None if found is None else found[1]), left  # fmt: skip


def numbers_of(values: Column) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`float64[n]` of JSON values and which of them count: numbers, and null as NaN; texts and booleans do not."""
    if isinstance(values, Texts):
        return np.full(len(values), np.nan), np.zeros(len(values), np.bool_)
    if isinstance(values, np.ndarray):
        return values.astype(np.float64, copy=False), np.ones(len(values), np.bool_)
    if set(map(type, values)) <= {int, float}:
        try:
            return np.array(values, np.float64), np.ones(len(values), np.bool_)
        except OverflowError:
            pass
    out = np.full(len(values), np.nan)
    mask = np.zeros(len(values), np.bool_)
    for at, value in enumerate(values):
        if type(value) is float or (type(value) is int and abs(value) < 10**308):
            out[at], mask[at] = value, True
        elif value is None:
            mask[at] = True
    return out, mask


def event_ids(values: Column) -> NDArray[np.uint64]:
    """64-bit BLAKE2b of event ids, never 0; 0 where there is none: uint64[n]."""
    if isinstance(values, Texts):
        return np.where(values.start == values.end, np.uint64(0), np.maximum(values.hashes(), np.uint64(1)))
    texts = texts_of(values)
    named = [text for text in texts if text]
    hashes = np.maximum(_hashes(named), np.uint64(1)) if named else np.zeros(0, np.uint64)
    if len(named) == len(texts):
        return hashes
    out = np.zeros(len(texts), np.uint64)
    out[[at for at, text in enumerate(texts) if text]] = hashes
    return out


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The first 64 bits of BLAKE2b of each: uint64[n]."""
    if len(texts) < MANY:
        digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
        return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
    whole = "".join(texts)
    encoded: Sequence[str] | list[bytes] = texts if whole.isascii() else [text.encode() for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(list(map(len, encoded)), out=offsets[1:])
    return Texts(np.frombuffer(whole.encode(), np.uint8), offsets[:-1], offsets[1:]).hashes()


def _unit_shown(value: Any, unit: str) -> str:
    if type(value) is str:
        return "ISO 8601" if parse_iso(value) >= 0 else "not a time"
    if unit == "auto" and type(value) in (int, float):
        return unit_of_magnitude(float(min(abs(value), 1e30)))
    return unit


def _entity_shown(default: Labels) -> str:
    return ", ".join(f"{label}={value}" for label, value in default) + " (the source)"
