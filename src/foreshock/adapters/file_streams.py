"""Recorded files as chunks of rows in event time: CSV, Parquet, NDJSON, plain or compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from foreshock.adapters.assemble import Drops
from foreshock.adapters.decode import encode_samples, encode_table
from foreshock.adapters.decode_json import decode_json
from foreshock.adapters.decode_table import flat, numeric_columns, plan_table, times_of_column
from foreshock.adapters.file_tables import (
    BROKEN,
    COMPRESSIONS,
    CsvTables,
    ParquetTables,
    SortedTables,
    Tables,
    estimate,
    open_bytes,
    sample_of,
)
from foreshock.adapters.mapping import MappingOptions, Plan
from foreshock.adapters.times import NANOS
from foreshock.errors import BadInputError
from foreshock.telemetry import DROPPED
from foreshock.types import Labels, Samples
from foreshock.types.record import JSON, NDJSON

CSV, PARQUET, JSON_LINES = (".csv", ".tsv"), (".parquet", ".pq"), (".ndjson", ".jsonl", ".json")
_READ_BYTES = 1 << 20

Retime = Callable[[NDArray[np.int64]], NDArray[np.int64]]


class Chunk(Protocol):
    """Some consecutive rows of a file, in event time: `times int64[n]`, sorted."""

    times: NDArray[np.int64]

    def payload(self, low: int, high: int, retime: Retime | None) -> bytes:
        """Arrow stream of the rows [low, high), their times passed through `retime`."""
        ...


class Stream(Protocol):
    """A file that can be read from its start any number of times, always in the same chunks.

    `own_entity`: the file as a whole is the entity; `start_unix_nano` its first time, None if it has no rows.
    """

    own_entity: bool
    start_unix_nano: int | None

    def chunks(self, skipping: Callable[[], bool]) -> Iterator[Chunk]:
        """All chunks; while `skipping()`, only their times are likely to be asked for."""
        ...

    def notes(self) -> tuple[str, ...]:
        """How its columns were understood, and what was dropped by the last reading."""
        ...

    def rows(self) -> int:
        """About how many rows it has."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read: what columns mean, rows a chunk, and whether columns may name the entity."""

    mapping: MappingOptions = field(default_factory=MappingOptions)
    chunk_rows: int = 4096
    entity_columns: bool = True


def stem_of(path: Path) -> str:
    """The name of a file without the ends that say its format.

    >>> stem_of(Path("a/machine-1.2.csv.gz"))
    'machine-1.2'
    """
    inner = Path(path.stem) if path.suffix.lower() in COMPRESSIONS else Path(path.name)
    return inner.stem if inner.suffix.lower() in (*CSV, *PARQUET, *JSON_LINES) else inner.name


def format_of(path: Path) -> str | None:
    """The suffix that says the format, without that of the compression; None if it is not a known one."""
    packed = path.suffix.lower() in COMPRESSIONS
    kind = (Path(path.stem) if packed else path).suffix.lower()
    known = (*CSV, *JSON_LINES) if packed else (*CSV, *JSON_LINES, *PARQUET)
    return kind if kind in known else None


def open_stream(path: Path, reading: Reading) -> Stream:
    """The stream of a file; BadInputError if it is empty, broken, or lacks a time or numbers."""
    if path.stat().st_size == 0:
        raise BadInputError("empty", "the file is empty: remove it, or leave it out of the paths")
    kind = format_of(path)
    if kind in PARQUET:
        return TableStream(path, ParquetTables(path, reading.chunk_rows), reading)
    if kind in CSV:
        return TableStream(path, CsvTables(path, reading.chunk_rows), reading)
    return JsonStream(path, reading)


class TableStream:
    """Chunks of a file of columns; one whose rows are out of order (sorted by entity, say) is sorted by time."""

    def __init__(self, path: Path, tables: Tables, reading: Reading) -> None:
        self._tables = tables
        self._drops = Drops()
        empty = flat(tables.schema.empty_table())
        self._plan = plan_table(empty, reading.mapping, reading.entity_columns)
        self.own_entity = not self._plan.entity
        self._entity: Labels = ((reading.mapping.entity_name or "entity", stem_of(path)),)
        self._features = numeric_columns(empty, self._plan)
        self._left = [column for column in self._plan.candidates if column not in self._features]
        named = [column for _, column in (*self._plan.entity, *self._plan.attributes)]
        texts = [*named, *(column for column in (self._plan.id, self._plan.name) if column)]
        self._columns = list(dict.fromkeys([self._plan.time, *texts, *self._features]))
        tables.prepare(texts, self._features, self._plan.time)
        self._unit, self._shown = self._plan.unit, "no rows"
        self.start_unix_nano: int | None = None
        self._sorted = not self._survey()
        if self._sorted:
            self._tables = SortedTables(tables, self._order)
        # Columns that turned out to hold no numbers are not sent, so whoever decodes must not look for them.
        self._sent = replace(
            self._plan, unit="ns", values=tuple(one for one in self._plan.values if one in self._features)
        )

    def _survey(self) -> bool:
        """Read all times once: their unit, the first of them, and whether they are in order from chunk to chunk."""
        last: int | None = None
        in_order = True
        for number, table in enumerate(self._tables.read(0, [self._plan.time])):
            times, ok, shown = times_of_column(flat(table).column(self._plan.time), self._unit)
            if not number:
                self._shown = shown
                self._unit = shown if shown in NANOS else self._unit
            if not ok.any():
                continue
            low, high = int(times[ok].min()), int(times[ok].max())
            in_order = in_order and (last is None or low >= last)
            last = high if last is None else max(last, high)
            self.start_unix_nano = low if self.start_unix_nano is None else min(self.start_unix_nano, low)
        return in_order

    def _order(self, table: Any) -> NDArray[np.intp]:
        """Rows by time, those of one time as they were; those without one where they stand, behind the row before."""
        times, ok, _ = times_of_column(flat(table).column(self._plan.time), self._unit)
        known = np.maximum.accumulate(np.where(ok, np.arange(len(times)), 0))
        return np.argsort(times[known], kind="stable")

    def chunks(self, skipping: Callable[[], bool]) -> Iterator[Chunk]:
        """All chunks; while `skipping()`, of Parquet only the time column is read."""
        self._drops = Drops()
        at = 0
        if self._tables.narrow and skipping():
            for table in self._tables.read(0, [self._plan.time]):
                yield self._chunk(table, at, lazy=True)
                at += 1
                if not skipping():
                    break
            else:
                return
        for number, table in enumerate(self._tables.read(at), at):
            yield self._chunk(table, number, lazy=False)
        for reason, count in self._tables.refused.items():
            DROPPED.labels(reason).inc(count)

    def _chunk(self, table: Any, number: int, lazy: bool) -> TableChunk:
        table = flat(table)
        times, ok, _ = times_of_column(table.column(self._plan.time), self._unit)
        if not ok.all():
            bad = np.flatnonzero(~ok)
            self._drops.add_rows("bad_time", bad + 1 + number * self._tables.chunk_rows)
            DROPPED.labels("bad_time").inc(len(bad))

        def load() -> Any:
            whole = flat(next(iter(self._tables.read(number)))) if lazy else table
            return _plain_texts(whole.select(self._columns))

        return TableChunk(times, ok, load, self._sent, self._entity)

    def notes(self) -> tuple[str, ...]:
        """How its columns were understood, and what was dropped by the last reading."""
        refused = tuple(f"{reason}: {count} dropped" for reason, count in sorted(self._tables.refused.items()))
        ordered = ("sorted by time",) if self._sorted else ()
        plan = self._plan.notes(self._shown, self._features, "file name", self._left)
        return (*plan, *ordered, *self._drops.notes(), *refused)

    def rows(self) -> int:
        """Exact for Parquet, estimated from its size for CSV."""
        return self._tables.rows()


def _plain_texts(table: Any) -> Any:
    """Dictionary columns as plain ones: a small cut would else carry the whole dictionary along."""
    for at, kind in enumerate(table.schema.types):
        if pa.types.is_dictionary(kind):
            table = table.set_column(at, table.column_names[at], pc.cast(table.column(at), kind.value_type))
    return table


class TableChunk:
    """Rows of a table in event time."""

    def __init__(
        self, times: NDArray[np.int64], ok: NDArray[np.bool_], load: Callable[[], Any], plan: Plan, entity: Labels
    ) -> None:
        ordered = bool(ok.all()) and bool((times[1:] >= times[:-1]).all())
        kept = np.flatnonzero(ok)
        self._order = None if ordered else kept[np.argsort(times[kept], kind="stable")]
        self.times = times if self._order is None else times[self._order]
        self._load = load
        self._table: Any = None
        self._plan, self._entity = plan, entity

    def payload(self, low: int, high: int, retime: Retime | None) -> bytes:
        """Arrow stream of the rows [low, high) with their times in nanoseconds."""
        if self._table is None:
            self._table = self._load()
        order = np.arange(low, high) if self._order is None else self._order[low:high]
        # Taken, not sliced: a copy has the same bytes wherever the table it comes from was cut.
        part = self._table.take(pa.array(order))
        times = self.times[low:high] if retime is None else retime(self.times[low:high])
        at = part.column_names.index(self._plan.time)
        return encode_table(part.set_column(at, self._plan.time, pa.array(times)), self._plan, self._entity)


class JsonStream:
    """Chunks of NDJSON, or of a file that is one JSON document; a row counts for each of its samples."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path, self._reading = path, reading
        self._entity: Labels = ((reading.mapping.entity_name or "entity", stem_of(path)),)
        self._kind, self._bad = NDJSON, 0
        sample = sample_of(path).lstrip()
        if format_of(path) == ".json" and not _is_object(sample.split(b"\n", 1)[0]):
            self._kind = JSON
        self._lines = estimate(path, len(sample) / max(1, sample.count(b"\n")), len(sample))
        body, count = next(self._bodies(), (b"", 0))
        samples = self._decode(body)
        self._notes = samples.notes
        self._rows = round((count if self._kind == JSON else self._lines) * len(samples) / max(1, count))
        self.own_entity = all(series.entity == self._entity for series in samples.series)
        self.start_unix_nano: int | None = int(samples.time_unix_nano.min())

    def _decode(self, body: bytes) -> Samples:
        return decode_json(body, self._kind, self._reading.mapping, self._entity, self._reading.entity_columns)

    def chunks(self, skipping: Callable[[], bool]) -> Iterator[Chunk]:
        """All chunks; the lines have to be decoded for their times in any case."""
        self._bad = 0
        for body, count in self._bodies():
            try:
                samples = self._decode(body)
            except BadInputError as error:
                self._refuse(error.reason, count)
                continue
            for reason, dropped in samples.dropped.items():
                self._refuse(reason, dropped)
            yield SamplesChunk(samples)

    def _refuse(self, reason: str, count: int) -> None:
        self._bad += count
        DROPPED.labels(reason).inc(count)

    def _bodies(self) -> Iterator[tuple[bytes, int]]:
        """Bodies of `chunk_rows` rows, and how many they have."""
        try:
            rows = self._rows_of_document() if self._kind == JSON else _lines(self._path)
            for chunk in _grouped(rows, self._reading.chunk_rows):
                joined = b"\n".join(chunk) if self._kind == NDJSON else b"[" + b",".join(chunk) + b"]"
                yield joined, len(chunk)
        except BROKEN as error:
            raise BadInputError("bad_file", f"{self._path}: cannot be read to its end: {error}") from error

    def _rows_of_document(self) -> Iterator[bytes]:
        with open_bytes(self._path) as file:
            data = file.read()
        try:
            if data.lstrip()[:1] == b"[":
                yield from map(bytes, msgspec.json.decode(data, type=list[msgspec.Raw]))
            else:
                wrapped = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
                rows = next((wrapped[key] for key in ("events", "samples", "rows", "data") if key in wrapped), None)
                yield from map(bytes, msgspec.json.decode(rows or b"[" + data + b"]", type=list[msgspec.Raw]))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadInputError("bad_json", f"neither NDJSON nor one JSON document: {error}") from error

    def notes(self) -> tuple[str, ...]:
        """How its keys were understood, and what was dropped by the last reading."""
        return (*self._notes, f"{self._bad} rows dropped") if self._bad else self._notes

    def rows(self) -> int:
        """About how many samples it has, estimated from its first chunk."""
        return self._rows


class SamplesChunk:
    """Decoded samples in event time."""

    def __init__(self, samples: Samples) -> None:
        self._order = np.argsort(samples.time_unix_nano, kind="stable")
        self._samples = samples
        self.times: NDArray[np.int64] = samples.time_unix_nano[self._order]

    def payload(self, low: int, high: int, retime: Retime | None) -> bytes:
        """Arrow stream of the samples [low, high) and their series."""
        all_, rows = self._samples, self._order[low:high]
        used, index = np.unique(all_.index[rows], return_inverse=True)
        times = self.times[low:high] if retime is None else retime(self.times[low:high])
        series = [all_.series[at] for at in used.tolist()]
        part = Samples(series, index.astype(np.int32), times, all_.value[rows], all_.event_id[rows], {})
        return encode_samples(part)


def _is_object(line: bytes) -> bool:
    try:
        return type(msgspec.json.decode(line)) is dict
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _lines(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        rest = b""
        while data := file.read(_READ_BYTES):
            *whole, rest = (rest + data).split(b"\n")
            yield from (line for line in whole if line.strip())
        if rest.strip():
            yield rest


def _grouped(rows: Iterator[bytes], count: int) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    for row in rows:
        held.append(row)
        if len(held) == count:
            yield held
            held = []
    if held:
        yield held
