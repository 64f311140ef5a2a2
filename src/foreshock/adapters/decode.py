"""A record of the log → Samples or Calls: by content type, without a look at anything else.

pyarrow is imported where Arrow is met: a process that never meets it starts a fifth of a second sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from foreshock.adapters.calls import decode_calls
from foreshock.adapters.decode_json import decode_json
from foreshock.adapters.mapping import MappingOptions, Plan
from foreshock.adapters.metrics import METRICS, decode_metrics
from foreshock.adapters.otlp.decode import decode_otlp
from foreshock.errors import BadInputError
from foreshock.types import Decoded, Kind, Labels, Record, Samples, Series
from foreshock.types.record import ARROW, CALLS, JSON, NDJSON, OTLP, OTLP_JSON

_HEADER = b"foreshock"
_ZSTD = bytes.fromhex("28b52ffd")
"""What a packed payload begins with."""
MAX_UNPACKED_BYTES = 256 << 20
"""Largest Arrow stream, unpacked: what senders pack must not fill the memory."""
_LARGE = 32 << 10
"""Headers from this size on are those of thousands of series: few are kept."""


class _Header(msgspec.Struct, omit_defaults=True):
    """What stands in the schema of an Arrow payload: the plan of a table, or the series of samples."""

    plan: Plan | None = None
    entity: Labels = ()
    series: list[tuple[str, Labels, Labels, str, Kind]] | None = None


def decode(record: Record, mapping: MappingOptions) -> Decoded:
    """The samples or calls of a telemetry record; rows that name no entity belong to `entity=<source>`.

    Raises BadInputError; `unknown_content_type` for a record that holds no telemetry.
    """
    default = (("entity", record.source),)
    match record.content_type:
        case "application/json" | "application/x-ndjson":
            return decode_json(record.payload, record.content_type, mapping, default)
        case _ if record.content_type == METRICS:
            return decode_metrics(record.payload)
        case _ if record.content_type == CALLS:
            return decode_calls(record.payload, record.received_unix_nano)
        case _ if record.content_type == ARROW:
            return decode_arrow(record.payload, mapping, default)
        case _ if record.content_type in (OTLP, OTLP_JSON):
            return decode_otlp(record.payload, record.content_type, mapping, default)
    known = ", ".join((JSON, NDJSON, METRICS, CALLS, ARROW, OTLP, OTLP_JSON))
    raise BadInputError("unknown_content_type", f"cannot read {record.content_type!r}; known are {known}")


def decode_samples(record: Record, mapping: MappingOptions) -> Samples:
    """As `decode`, of a record that does not hold calls.

    Raises BadInputError, also where it does.
    """
    found = decode(record, mapping)
    if not isinstance(found, Samples):
        raise BadInputError("unknown_content_type", f"{record.content_type!r} holds calls, where samples are wanted")
    return found


def encode_table(table: Any, plan: Plan, entity_default: Labels) -> bytes:
    """Arrow stream of a flat table together with its plan, so that nothing has to be guessed again."""
    return _stream(table, _Header(plan=plan, entity=entity_default))


def encode_samples(samples: Samples, pack: bool = False) -> bytes:
    """Arrow stream of samples and their series, packed (zstd) where asked; what was dropped before is not in it."""
    import pyarrow as pa

    series = [(one.name, one.entity, one.attributes, one.unit, one.kind) for one in samples.series]
    columns = {"index": samples.index, "time": samples.time_unix_nano, "value": samples.value}
    if samples.event_id.any():
        columns["id"] = samples.event_id
    payload = _stream(pa.table(columns), _Header(series=series))
    return bytes(pa.compress(payload, codec="zstd", asbytes=True)) if pack else payload


def decode_arrow(payload: bytes, options: MappingOptions, entity_default: Labels = ()) -> Samples:
    """Samples of an Arrow stream: of `encode_table`, `encode_samples`, or of any table that the options fit.

    Raises BadInputError (`bad_arrow`, or what `decode_table` raises).
    """
    import pyarrow as pa

    from foreshock.adapters.decode_table import decode_planned, decode_table

    try:
        table = _table(pa, payload)
        data = (table.schema.metadata or {}).get(_HEADER, b"{}")
        header = _header(data) if len(data) < _LARGE else _large_header(data)
        if header.plan is not None:
            return decode_planned(table, header.plan, options, header.entity)
        if header.series is None:
            return decode_table(table, options, entity_default)
        return _samples(table, _series_of(data))
    except (pa.ArrowException, OSError, KeyError, ValueError, msgspec.MsgspecError) as error:
        raise BadInputError("bad_arrow", f"the Arrow stream cannot be read: {error}") from error


def _table(pa: Any, payload: bytes) -> Any:
    """The table of a stream, packed or not; what it says of itself holds, and it is no larger than it may be."""
    from foreshock.adapters.arrow_size import unpacked_bytes

    if payload.startswith(_ZSTD):
        payload = pa.CompressedInputStream(pa.BufferReader(payload), "zstd").read(MAX_UNPACKED_BYTES + 1)
    if len(payload) > MAX_UNPACKED_BYTES or unpacked_bytes(payload) > MAX_UNPACKED_BYTES:
        raise BadInputError("too_large", f"an Arrow stream may unpack to {MAX_UNPACKED_BYTES} bytes: send several")
    table = pa.ipc.open_stream(payload).read_all()
    table.validate(full=True)
    return table


def _samples(table: Any, series: Sequence[Series]) -> Samples:
    """The samples of a table of `encode_samples`."""
    wanted = {"index": np.int32, "time": np.int64, "value": np.float64}
    if "id" in table.column_names:
        wanted["id"] = np.uint64
    columns = {name: table[name].to_numpy() for name in wanted}
    wrong = [name for name, kind in wanted.items() if columns[name].dtype != kind]
    index = columns["index"]
    if not wrong and len(index):
        good = {"index": 0 <= index.min() <= index.max() < len(series), "time": columns["time"].min() >= 0}
        wrong = [name for name, fine in good.items() if not fine]
    if wrong:
        raise BadInputError("bad_arrow", f"samples with a wrong column {wrong[0]!r}")
    ids = columns.get("id")
    return Samples(
        series, index, columns["time"], columns["value"],
        np.zeros(len(index), np.uint64) if ids is None else ids, {},
    )  # fmt: skip


def _stream(table: Any, header: _Header) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({_HEADER: msgspec.json.encode(header)})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    payload: bytes = sink.getvalue().to_pybytes()
    return payload


@lru_cache(maxsize=256)
def _header(data: bytes) -> _Header:
    return msgspec.json.decode(data, type=_Header)


@lru_cache(maxsize=2)
def _large_header(data: bytes) -> _Header:
    return msgspec.json.decode(data, type=_Header)


@lru_cache(maxsize=4)
def _series_of(data: bytes) -> tuple[Series, ...]:
    # The same tuple for the same header: whoever has looked its series up knows it again.
    header = _header(data) if len(data) < _LARGE else _large_header(data)
    return tuple(Series(*fields) for fields in header.series or ())
