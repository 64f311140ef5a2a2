"""Arrow tables → Samples, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from foreshock.adapters.assemble import Block, Drops, Identity, assemble, identity, join
from foreshock.adapters.decode_json import event_ids
from foreshock.adapters.identities import name_row
from foreshock.adapters.mapping import MappingOptions, Plan, plan_columns
from foreshock.adapters.times import numeric_times, parse_iso, unit_of_magnitude
from foreshock.errors import BadInputError
from foreshock.types import Labels, Samples

_NUMBER = r"^\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*$"


def decode_table(table: Any, options: MappingOptions, entity_default: Labels, use_entity: bool = True) -> Samples:
    """Samples of a pyarrow Table or RecordBatch in the wide or long form; null = NaN.

    `entity_default` is the entity where no column names one (or `use_entity` is False). Raises BadInputError if no
    column can be the time, if none holds numbers, or if not one row can be used.
    """
    table = flat(table)
    return decode_planned(table, plan_table(table, options, use_entity), options, entity_default)


def decode_planned(table: Any, plan: Plan, options: MappingOptions, entity_default: Labels) -> Samples:
    """Samples of a flat table whose plan is known; BadInputError if not one row can be used."""
    drops = Drops()
    block, unit, left = _block(table, plan, entity_default)
    default = ", ".join(f"{label}={value}" for label, value in entity_default)
    samples = join([assemble(block, options, drops)], drops, plan.notes(unit, block.features, default, left))
    if table.num_rows and not len(samples):
        raise BadInputError(drops.worst(), f"no row of the table can be used ({'; '.join(drops.notes())})")
    return samples


def flat(table: Any) -> Any:
    """A Table whose nested columns stand under dotted names."""
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise BadInputError("duplicate_column", f"column {twice[0]!r} stands in the table twice: rename one of them")
    return table


def plan_table(table: Any, options: MappingOptions, use_entity: bool = True) -> Plan:
    """The plan for a flat table: by names, and where no name is a time's, by the first column of a time type."""
    try:
        plan = plan_columns(table.column_names, options, use_entity)
    except BadInputError as error:
        typed = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
        if error.reason != "no_time" or options.time is not None or not typed:
            raise
        plan = plan_columns(table.column_names, options.model_copy(update={"time": typed[0]}), use_entity)
    if not any(is_number(table.schema.field(path).type) for path in plan.candidates):
        raise BadInputError(
            "no_values", f"no column with numbers beside the time {plan.time!r}: name one with mapping.values"
        )
    return plan


def is_number(kind: Any) -> bool:
    """Whether a column of this Arrow type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def numeric_columns(table: Any, plan: Plan) -> list[str]:
    """The candidates of the plan that hold numbers."""
    return [path for path in plan.candidates if is_number(table.schema.field(path).type)]


def _block(table: Any, plan: Plan, default: Labels) -> tuple[Block, str, list[str]]:
    features = numeric_columns(table, plan)
    values = np.empty((table.num_rows, len(features)), np.float64)
    for at, path in enumerate(features):
        values[:, at] = floats(table.column(path))
    times, timed, unit = times_of_column(table.column(plan.time), plan.unit)
    code, identities = _identities(table, plan, default)
    ids = event_ids(table.column(plan.id).to_pylist()) if plan.id else None
    rows = np.arange(1, table.num_rows + 1)
    block = Block(times, timed, code, identities, features, values, None, ids, rows, long=plan.long)
    return block, unit, [path for path in plan.candidates if path not in features]


def floats(column: Any) -> NDArray[np.float64]:
    """A numeric column as float64[n], null = NaN."""
    out: NDArray[np.float64] = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return out


def times_of_column(column: Any, unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_], str]:
    """Nanoseconds int64[n] of a time column, which of them are times bool[n], and the unit they were read in.

    Numbers of a column share one unit: under auto that of its largest. Text is ISO 8601 or a number.
    """
    if column.null_count:
        times, ok, unit = times_of_column(column.drop_null(), unit)
        out, timed = np.zeros(len(column), np.int64), np.asarray(column.is_valid())
        full = np.zeros(len(column), np.bool_)
        out[timed], full[timed] = times, ok
        return out, full, unit
    kind = column.type
    if pa.types.is_dictionary(kind):
        return times_of_column(column.cast(kind.value_type), unit)
    if pa.types.is_timestamp(kind):
        nanos, ok = numeric_times(np.asarray(column.cast(pa.int64())), kind.unit)
        return nanos, ok, f"timestamp[{kind.unit}]"
    if pa.types.is_date(kind):
        seconds = np.asarray(column.cast(pa.timestamp("s")).cast(pa.int64()))
        return (*numeric_times(seconds, "s"), "date")
    if is_number(kind):
        return _of_numbers(_plain(column), unit)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_texts(column, unit)
    raise BadInputError("no_time", f"a column of type {kind} is no time")


def _plain(column: Any) -> NDArray[Any]:
    if pa.types.is_integer(column.type) and column.type != pa.uint64():
        return np.asarray(column.cast(pa.int64()))
    return floats(column)


def _of_numbers(numbers: NDArray[Any], unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_], str]:
    if unit == "auto":
        finite = numbers[np.isfinite(numbers)]
        unit = unit_of_magnitude(float(finite.max())) if len(finite) else "s"
    return (*numeric_times(numbers, unit), unit)


def _of_texts(column: Any, unit: str) -> tuple[NDArray[np.int64], NDArray[np.bool_], str]:
    numeric = np.asarray(pc.match_substring_regex(column, _NUMBER))
    out, ok, shown = np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_), "ISO 8601"
    if numeric.any():
        texts = pc.utf8_trim_whitespace(column.filter(pa.array(numeric)))
        try:
            numbers = np.asarray(texts.cast(pa.int64()))
        except pa.ArrowInvalid:
            numbers = np.asarray(texts.cast(pa.float64()))
        out[numeric], ok[numeric], shown = _of_numbers(numbers, unit)
    if not numeric.all():
        nanos = np.array([parse_iso(text.strip()) for text in column.filter(pa.array(~numeric)).to_pylist()], np.int64)
        out[~numeric], ok[~numeric] = np.maximum(nanos, 0), nanos >= 0
    return out, ok, shown


def _identities(table: Any, plan: Plan, default: Labels) -> tuple[NDArray[np.int64], list[Identity]]:
    """Codes `int64[n]` of the rows and the identities they stand for."""
    paths = [path for _, path in (*plan.entity, *plan.attributes)]
    if plan.name is not None:
        paths.append(plan.name)
    if not paths:
        return np.zeros(table.num_rows, np.int64), [identity(default, (), "")]
    code, keys = np.zeros(table.num_rows, np.int64), [()]
    for path in paths:
        mine, texts = _dictionary(table.column(path))
        both, code = np.unique(code * len(texts) + mine, return_inverse=True)
        keys = [(*keys[one // len(texts)], texts[one % len(texts)]) for one in both.tolist()]
    return code.astype(np.int64), [name_row(key, plan, default) for key in keys]


def _dictionary(column: Any) -> tuple[NDArray[np.int64], Sequence[str | None]]:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(column, pa.ChunkedArray):
        column = (
            column.unify_dictionaries().chunk(0) if column.num_chunks else pa.array([], pa.string()).dictionary_encode()
        )
    texts = [None if text is None else str(text) for text in column.dictionary.to_pylist()]
    code = np.asarray(column.indices.fill_null(len(texts)), np.int64)
    return code, [*texts, None]
