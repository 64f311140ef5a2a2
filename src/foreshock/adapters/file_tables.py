"""CSV and Parquet files as Arrow tables of a fixed number of rows, always cut in the same places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from foreshock.errors import BadInputError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
BROKEN = (pa.ArrowException, OSError)
_SAMPLE = 1 << 18
_DELIMITERS = ",;\t|"
MOST_SORTED_BYTES = 4 << 30
"""Tables that are out of order are sorted in memory up to this size."""
_NULLS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "-")


class Tables(Protocol):
    """A file of columns, read in chunks of `chunk_rows` rows (the last one shorter)."""

    schema: Any
    chunk_rows: int
    narrow: bool
    """Whether reading few columns is much cheaper than reading all."""
    refused: dict[str, int]

    def prepare(self, texts: Sequence[str], numbers: Sequence[str], time: str) -> None:
        """Say which columns are needed, and which of them are read as text and as numbers."""
        ...

    def read(self, chunk: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The chunks from number `chunk` on, of these columns (dotted names of nested ones allowed) or all needed."""
        ...

    def rows(self) -> int:
        """About how many rows there are."""
        ...


def open_bytes(path: Path) -> Any:
    """The bytes of a file, decompressed by its suffix, as an Arrow input stream."""
    codec = COMPRESSIONS.get(path.suffix.lower())
    return pa.CompressedInputStream(pa.OSFile(str(path)), codec) if codec else pa.OSFile(str(path))


def estimate(path: Path, per_row: float, sample: int) -> int:
    """Rows of a file whose rows have `per_row` bytes, guessed from its size; `sample` bytes were looked at."""
    size = path.stat().st_size
    if path.suffix.lower() not in COMPRESSIONS:
        return max(1, round(size / per_row))
    # Tables of numbers shrink to about a fifth; a sample that is smaller than what was asked for is the whole file.
    return max(1, round((sample if sample < _SAMPLE else size * 5) / per_row))


def sample_of(path: Path) -> bytes:
    """The first part of a file, decompressed."""
    with open_bytes(path) as file:
        data: bytes = file.read(_SAMPLE)
    return data


def rechunk(tables: Iterator[Any], rows: int, skip: int = 0) -> Iterator[Any]:
    """The same rows without the first `skip`, in tables of exactly `rows` rows; the last may be shorter."""
    held: list[Any] = []
    count = 0
    for table in tables:
        if skip:
            gone = min(skip, table.num_rows)
            table, skip = table.slice(gone), skip - gone
        held.append(table)
        count += table.num_rows
        if count < rows:
            continue
        joined, at = pa.concat_tables(held), 0
        while count - at >= rows:
            yield joined.slice(at, rows)
            at += rows
        held, count = [joined.slice(at)], count - at
    if count:
        yield pa.concat_tables(held)


class ParquetTables:
    """A Parquet file; row groups that lie before what is asked for are not read."""

    narrow = True

    def __init__(self, path: Path, chunk_rows: int) -> None:
        self.chunk_rows = chunk_rows
        self.refused: dict[str, int] = {}
        self._path = path
        try:
            file = pq.ParquetFile(path)
        except BROKEN as error:
            raise BadInputError("bad_file", f"not a Parquet file that can be read ({error}): write it again") from error
        with file:
            self.schema = file.schema_arrow
            groups = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        self._ends = np.cumsum(groups, dtype=np.int64)
        self._columns: list[str] = list(self.schema.names)

    def prepare(self, texts: Sequence[str], numbers: Sequence[str], time: str) -> None:
        """Columns that are not needed are not read."""
        self._columns = self._tops([time, *texts, *numbers])

    def _tops(self, columns: Sequence[str]) -> list[str]:
        names = self.schema.names
        tops = [next(n for n in names if n == column or column.startswith(n + ".")) for column in columns]
        return list(dict.fromkeys(tops))

    def read(self, chunk: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The chunks from number `chunk` on."""
        start = chunk * self.chunk_rows
        group = int(np.searchsorted(self._ends, start, side="right"))
        if group == len(self._ends):
            return
        before = int(self._ends[group - 1]) if group else 0
        with pq.ParquetFile(self._path) as file:
            batches = file.iter_batches(
                batch_size=self.chunk_rows,
                row_groups=range(group, len(self._ends)),
                columns=self._tops(columns) if columns else self._columns,
            )
            tables = (pa.Table.from_batches([batch]) for batch in batches)
            yield from rechunk(tables, self.chunk_rows, start - before)

    def rows(self) -> int:
        """The number of rows."""
        return int(self._ends[-1]) if len(self._ends) else 0


class CsvTables:
    """A CSV file, plain or compressed, its delimiter found from the header.

    Rows with a wrong number of fields are left out and counted. Number columns are read as such; where a cell is no
    number the file is read again from there as text, and what cannot be read as a number becomes missing and counted.
    """

    narrow = False

    def __init__(self, path: Path, chunk_rows: int) -> None:
        self.chunk_rows = chunk_rows
        self.refused: dict[str, int] = {}
        self._path = path
        data = sample_of(path)
        header = data.split(b"\n", 1)[0].decode(errors="replace")
        self._delimiter = max(_DELIMITERS, key=lambda sign: (header.count(sign), -_DELIMITERS.index(sign)))
        lines = data.count(b"\n")
        self._rows = max(0, estimate(path, len(data) / max(1, lines), len(data)) - 1)
        self._types: dict[str, Any] = {}
        self._columns: list[str] | None = None
        self._numbers: list[str] = []
        try:
            with self._open({}, None) as reader:
                self.schema = pa.schema([_as_number(field) for field in reader.schema])
        except BROKEN as error:
            raise BadInputError("bad_file", f"not a CSV file that can be read ({error})") from error

    def prepare(self, texts: Sequence[str], numbers: Sequence[str], time: str) -> None:
        """Names and ids stay text (`007` is not 7); numbers become float64."""
        self._numbers = list(numbers)
        self._columns = list(dict.fromkeys([time, *texts, *numbers]))
        self._types = {time: self.schema.field(time).type} | dict.fromkeys(numbers, pa.float64())
        self._types |= dict.fromkeys(texts, pa.string())
        if time in texts:
            self._types[time] = pa.string()

    def read(self, chunk: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The chunks from number `chunk` on; what lies before is read and thrown away."""
        self.refused = {}
        given = chunk
        wanted = self._columns if columns is None else list(columns)
        try:
            for table in rechunk(self._batches(self._types, wanted), self.chunk_rows, chunk * self.chunk_rows):
                yield table
                given += 1
            return
        except pa.ArrowInvalid:
            self.refused = {}
        except BROKEN as error:
            raise self._broken(error) from error
        texts = dict.fromkeys(self._types, pa.string())
        try:
            for table in rechunk(self._batches(texts, wanted), self.chunk_rows, given * self.chunk_rows):
                yield self._numbers_of(table)
        except BROKEN as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> BadInputError:
        return BadInputError("bad_file", f"{self._path}: cannot be read to its end: {error}")

    def _batches(self, types: dict[str, Any], columns: list[str] | None) -> Iterator[Any]:
        with self._open(types, columns) as reader:
            while True:
                try:
                    yield pa.Table.from_batches([reader.read_next_batch()])
                except StopIteration:
                    return

    def _open(self, types: dict[str, Any], columns: list[str] | None) -> Any:
        def odd_row(row: Any) -> str:
            self._refuse("bad_row", 1)
            return "skip"

        return pcsv.open_csv(
            open_bytes(self._path),
            read_options=pcsv.ReadOptions(use_threads=False),
            parse_options=pcsv.ParseOptions(delimiter=self._delimiter, invalid_row_handler=odd_row),
            convert_options=pcsv.ConvertOptions(
                column_types=types, include_columns=columns, null_values=list(_NULLS), strings_can_be_null=False
            ),
        )

    def _numbers_of(self, table: Any) -> Any:
        for name in self._numbers:
            if name not in table.column_names:
                continue
            at = table.column_names.index(name)
            table = table.set_column(at, name, pa.array(self._floats(table.column(name).to_pylist())))
        return table

    def _floats(self, texts: list[str]) -> Any:
        out = np.full(len(texts), np.nan)
        wrong = 0
        for at, text in enumerate(texts):
            try:
                out[at] = float(text)
            except ValueError:
                wrong += text.strip() not in _NULLS
        self._refuse("not_a_number", wrong)
        return out

    def _refuse(self, reason: str, count: int) -> None:
        if count:
            self.refused[reason] = self.refused.get(reason, 0) + count

    def rows(self) -> int:
        """About how many rows there are, from the size of the file."""
        return self._rows


class SortedTables:
    """A file of columns whose rows are out of order, held in memory in the order that `order` gives of the whole.

    Raises BadInputError (`not_in_order`) where it is too large for that.
    """

    narrow = False

    def __init__(self, tables: Tables, order: Callable[[Any], NDArray[np.intp]]) -> None:
        self.chunk_rows, self.schema = tables.chunk_rows, tables.schema
        held: list[Any] = []
        size = 0
        for table in tables.read(0):
            held.append(table)
            size += table.nbytes
            if size > MOST_SORTED_BYTES:
                raise BadInputError(
                    "not_in_order",
                    f"its rows are not in the order of their times, and more than {MOST_SORTED_BYTES >> 30} GiB of "
                    "them cannot be sorted here: sort the file by time first",
                )
        whole = pa.concat_tables(held)
        self._table = whole.take(pa.array(order(whole)))
        self.refused = dict(tables.refused)

    def prepare(self, texts: Sequence[str], numbers: Sequence[str], time: str) -> None:
        """Nothing: what is needed has been read."""

    def read(self, chunk: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The chunks from number `chunk` on."""
        for at in range(chunk * self.chunk_rows, self._table.num_rows, self.chunk_rows):
            yield self._table.slice(at, self.chunk_rows)

    def rows(self) -> int:
        """The number of rows."""
        return int(self._table.num_rows)


def _as_number(field: Any) -> Any:
    """A column that is empty so far may hold numbers further down."""
    return field.with_type(pa.float64()) if pa.types.is_null(field.type) else field
