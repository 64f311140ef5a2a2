"""What was wrong when, of recorded data: from a labelled column or a file of intervals to records of labels.

Labels reach the pipeline as control records (`types.Control`), as an operator's own would; no detector sees them. Of
data that is labelled at all everything else counts as well: one label says so of all time, and an interval in which
something was wrong goes before it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.decode import decode_samples
from foreshock.adapters.files_reader import TableReader
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.times import numeric_times, parse_iso
from foreshock.errors import BadInputError, ConfigError
from foreshock.ports import RecordReader
from foreshock.types import Control, ControlKind, Labels, Record, digest, label_text, labels
from foreshock.types.record import CONTROL, WATERMARK


class Interval(NamedTuple):
    """Something was wrong with all that carries `matchers` in event time [since, until)."""

    matchers: Labels
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """A reader whose records come behind those of its labels; the position is that of the reader."""

    reader: RecordReader
    intervals: Sequence[Interval]
    environment: str = "default"

    def read(self, position: int) -> Iterator[tuple[int, Record]]:
        """As the reader's; from the beginning on the labels come first, which take no position."""
        if position == 0:
            for record in label_records(self.intervals, self.environment):
                yield 0, record
        yield from self.reader.read(position)


def label_records(intervals: Iterable[Interval], environment: str = "default") -> Iterator[Record]:
    """Control records that say of all time that all was well, and of these intervals that something was wrong."""
    yield _record(Control(ControlKind.LABEL, "truth", 0, label="false"), environment)
    for one in intervals:
        name = digest(label_text(one.matchers), str(one.since), str(one.until))
        yield _record(
            Control(ControlKind.LABEL, name, one.since, one.until, dict(one.matchers), label="true"), environment
        )


def intervals_of_column(paths: Sequence[str], mapping: MappingOptions, column: str) -> list[Interval]:
    """The runs of rows in which a column of tables is above 0, entity by entity.

    Raises ConfigError where there is no such column of numbers, and what `TableReader` raises.
    """
    own = {"values": (column,), "counters": (), "form": "wide", "name": None, "value": None}
    options = mapping.model_copy(update=own)
    try:
        reader = TableReader(paths, options)
    except ConfigError as error:
        raise ConfigError(f"no labels in column {column!r}: {error.message}", file=error.file) from error
    found: dict[Labels, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
    for _, record in reader.read(0):
        if record.content_type == WATERMARK:
            continue
        samples = decode_samples(record, options)
        for index, series in enumerate(samples.series):
            own_rows = samples.index == index
            found.setdefault(series.entity, []).append((samples.time_unix_nano[own_rows], samples.value[own_rows]))
    if not found:
        raise ConfigError(f"column {column!r} holds no numbers to take labels from")
    return [
        Interval(entity, since, until)
        for entity, parts in found.items()
        for since, until in runs(np.concatenate([t for t, _ in parts]), np.concatenate([v for _, v in parts]) > 0)
    ]


def runs(times: NDArray[np.int64], wrong: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches [first, just behind the last) of times that are marked, in order; of equal times one mark is enough.

    >>> runs(np.array([3, 1, 2, 5, 5]), np.array([True, False, True, False, True]))
    [(2, 6)]
    """
    unique, at = np.unique(times, return_inverse=True)
    marked = np.zeros(len(unique), np.int8)
    np.maximum.at(marked, at, wrong)
    edges = np.flatnonzero(np.diff(marked, prepend=0, append=0)).reshape(-1, 2)
    return [(int(unique[low]), int(unique[high - 1]) + 1) for low, high in edges.tolist()]


def intervals_of_file(path: Path) -> list[Interval]:
    """The rows of a CSV file with the columns `start` and `end`; others name the entity, an empty cell anything.

    Raises BadInputError for a row that is none, ConfigError where a column is missing.
    """
    out = []
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        names = table.fieldnames or []
        missing = [name for name in ("start", "end") if name not in names]
        if missing:
            raise ConfigError(f"no column {missing[0]!r}: a file of labels has start, end and the entity's labels",
                              file=str(path))  # fmt: skip
        for number, row in enumerate(table, 2):
            since, until = _time(row["start"] or ""), _time(row["end"] or "")
            if since < 0 or until <= since:
                raise BadInputError("bad_labels", f"{path}:{number}: start and end are no interval")
            own = {name: row[name] for name in names if name not in ("start", "end") and row[name]}
            out.append(Interval(labels(own), since, until))
    return out


def _time(text: str) -> int:
    """Nanoseconds of ISO 8601 text or of a number whose magnitude tells its unit; −1 if it is none."""
    try:
        times, good = numeric_times(np.array([float(text)]), "auto")
    except ValueError:
        return parse_iso(text)
    return int(times[0]) if good[0] else -1


def _record(control: Control, environment: str) -> Record:
    return Record(environment, "labels", CONTROL, 0, msgspec.json.encode(control))
