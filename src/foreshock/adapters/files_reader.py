"""Many recorded files as one log: merged by event time, block by block, with positions that can be resumed from."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from foreshock.adapters.file_streams import Chunk, Reading, Retime, Stream, format_of, open_stream, stem_of
from foreshock.adapters.mapping import MappingOptions, shortened
from foreshock.errors import BadInputError, ConfigError, PermanentError
from foreshock.types import Record
from foreshock.types.record import ARROW, WATERMARK


class TableReader:
    """Files as records in event time (ports.RecordReader).

    A position counts the rows given so far, and one for each watermark. A block ends at T, the least of the last
    times of what is buffered of each file: all rows up to T, one record for each chunk of each file, then a watermark
    T. The result depends on the files, their order of names, the options and `chunk_rows` alone.

    Raises ConfigError for paths without files and for files whose columns cannot be used, BadInputError for broken
    ones.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        mapping: MappingOptions | None = None,
        *,
        chunk_rows: int = 4096,
        entity: str = "column",
        environment: str = "default",
        name: str = "files",
        source: str | None = None,
    ) -> None:
        self.files = find_files(paths)
        self._reading = Reading(mapping or MappingOptions(), chunk_rows, entity == "column")
        self._environment, self._name = environment, name
        self._streams = [_open(path, self._reading) for path in self.files]
        # A file that is its entity is its own source. An entity of columns may stand in many files: they are one.
        self._sources = [
            source or (stem_of(path) if stream.own_entity else name)
            for path, stream in zip(self.files, self._streams, strict=True)
        ]
        if self.start_unix_nano is None:
            raise BadInputError("empty", f"no rows with a time in {shortened([str(path) for path in self.files])}")

    @property
    def start_unix_nano(self) -> int | None:
        """The first time of all files."""
        return min((one.start_unix_nano for one in self._streams if one.start_unix_nano is not None), default=None)

    def rows_total(self) -> int:
        """About how many rows there are: exact for Parquet, estimated for text."""
        return sum(stream.rows() for stream in self._streams)

    def describe(self) -> tuple[str, ...]:
        """What was guessed about the columns, and dropped by the last reading; files of the same kind together."""
        kinds: dict[tuple[str, ...], list[str]] = {}
        for path, stream in zip(self.files, self._streams, strict=True):
            kinds.setdefault(stream.notes(), []).append(path.name)
        return tuple(f"{shortened(names)}: {'; '.join(notes)}" for notes, names in kinds.items())

    def read(self, position: int) -> Iterator[tuple[int, Record]]:
        """Records from `position` on with the position after each.

        What lies before is passed over by its times alone. Raises PermanentError if `position` is none that this
        reader gave for these files.
        """
        return self.records(position)

    def records(
        self, position: int = 0, slice_nano: int = 0, retime: Retime | None = None
    ) -> Iterator[tuple[int, Record]]:
        """As `read`; no block longer than `slice_nano` of event time (0 = as it comes), times passed through `retime`.

        `received_unix_nano` of a record is the end of its block, before `retime`.
        """
        at, mark = 0, 0
        heads = [_Head(stream.chunks(lambda: at < position)) for stream in self._streams]
        while True:
            for head in heads:
                head.fill(self._reading.chunk_rows)
            live = [(head, source) for head, source in zip(heads, self._sources, strict=True) if head.buffer]
            if not live:
                break
            end = min(head.last for head, _ in live)
            if slice_nano:
                first = min(head.first for head, _ in live)
                end = min(end, (first // slice_nano + 1) * slice_nano - 1)
            mark = max(mark, end)
            for head, source in live:
                for chunk, low, high in head.take(mark):
                    before, at = at, at + high - low
                    if before < position < at:
                        raise PermanentError(_no_position(position))
                    if at > position:
                        yield at, Record(self._environment, source, ARROW, mark, chunk.payload(low, high, retime))
            at += 1
            if at > position:
                payload = msgspec.json.encode({"w": mark})
                yield at, Record(self._environment, self._name, WATERMARK, mark, payload)
        if position > at:
            raise PermanentError(_no_position(position))


class _Head:
    """Where the merge stands in one file: chunks read and not yet given, each with the first row to give."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._more = True
        self.buffer: list[tuple[Chunk, int]] = []

    @property
    def first(self) -> int:
        """The least time in the buffer."""
        return min(int(chunk.times[low]) for chunk, low in self.buffer)

    @property
    def last(self) -> int:
        """The largest time in the buffer."""
        return max(int(chunk.times[-1]) for chunk, _ in self.buffer)

    def fill(self, rows: int) -> None:
        """Read on until so many rows are buffered: files that end at slightly different times stay in step."""
        while self._more and sum(len(chunk.times) - low for chunk, low in self.buffer) < rows:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._more = False
            elif len(chunk.times):
                self.buffer.append((chunk, 0))

    def take(self, mark: int) -> list[tuple[Chunk, int, int]]:
        """The rows up to `mark`, taken out."""
        out, rest = [], []
        for chunk, low in self.buffer:
            high = int(np.searchsorted(chunk.times, mark, side="right"))
            if high > low:
                out.append((chunk, low, high))
            if high < len(chunk.times):
                rest.append((chunk, max(low, high)))
        self.buffer = rest
        return out


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files that paths, globs and folders (with all below, but for `.json`) stand for, sorted, each once.

    Raises ConfigError where a path stands for nothing that can be read.
    """
    found: dict[Path, None] = {}
    for path in map(str, paths):
        folder = Path(path)
        if folder.is_dir():
            # Single JSON documents beside data are mostly about it: they are read only when named.
            names = [one for one in folder.rglob("*") if one.is_file() and format_of(one) not in (None, ".json")]
            if not names:
                raise ConfigError(f"folder {path} holds no CSV, Parquet or NDJSON file", key="paths")
        else:
            names = [folder] if folder.exists() else sorted(map(Path, glob.glob(path, recursive=True)))
            names = [one for one in names if one.is_file()]
            if not names:
                raise ConfigError(f"no file {path}", key="paths")
            odd = next((one for one in names if not format_of(one)), None)
            if odd is not None:
                raise ConfigError(
                    f"cannot tell the format of {odd} by its name: it should end in .csv, .tsv, .parquet, .ndjson or "
                    ".json, text also with .gz, .zst or .bz2 behind that",
                    key="paths",
                )
        found |= dict.fromkeys(names)
    if not found:
        raise ConfigError("no paths: name files, folders or globs", key="paths")
    return sorted(found)


def _no_position(position: int) -> str:
    return f"there is no position {position} in these files: they, the mapping or chunk_rows have changed; start afresh"


def _open(path: Path, reading: Reading) -> Stream:
    try:
        return open_stream(path, reading)
    except BadInputError as error:
        if error.reason in ("bad_file", "not_utf8", "bad_json"):
            raise BadInputError(error.reason, f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
        raise ConfigError(str(error), file=str(path)) from error
    except OSError as error:
        raise BadInputError("bad_file", f"{path}: cannot be read: {error}") from error
