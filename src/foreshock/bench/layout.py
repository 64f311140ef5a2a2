"""Labelled series in folders: DATA/<set>/<half>/<series>.parquet, as the quality bench reads them.

Columns: `t` (Unix seconds, or a time), `value` or `m0`, `m1` … (the metrics of one entity), `label` (0/1), and where
the series has a train part `split` (0 = train, 1 = judged). Beside the series may stand `windows.json` (NAB's windows
by original name) and `interpretation.json` (which metrics explain an event, in rows of the judged part).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshock.bench.measures import Flags, Reals, near_events, warm_up_rows
from foreshock.bench.nab import Window
from foreshock.errors import BadInputError, ConfigError
from foreshock.plugins import nearest

METRIC = re.compile(r"value|m\d+")
LEAST_ROWS = 20
MOST_BEHIND = 0.01
"""Share of rows that may be earlier than one before them, as where a clock is put back."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a series lies."""

    dataset: str
    path: Path

    @property
    def series(self) -> str:
        """Its name: that of the file."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class Explained:
    """An event with the metrics that explain it; rows of the judged part, both ends belong to it."""

    start: int
    end: int
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A labelled series, or an entity with several metrics.

    `seconds float64[n]`, in order but for few, `values float64[n, J]` of `metrics` (NaN = missing), `truth bool[n]` the
    labels,
    `judged bool[n]` the rows that count. `windows` None where the set has none; `notes` what is odd about the labels.
    """

    dataset: str
    series: str
    seconds: Reals
    values: Reals
    metrics: tuple[str, ...]
    truth: Flags
    judged: Flags
    windows: tuple[Window, ...] | None = None
    explained: tuple[Explained, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def step_seconds(self) -> float:
        """The median time between rows."""
        return max(float(np.median(np.diff(self.seconds))), 1e-3)


def find(data: Path, half: str, datasets: Sequence[str] = ()) -> list[Place]:
    """The series of these sets, or of all sets in the layout, in the order of their names.

    Raises ConfigError where there is no such folder, set or half.
    """
    if not data.is_dir():
        raise ConfigError(f"{data} is no folder: --data wants one that holds <set>/<half>/<series>.parquet")
    there = sorted(folder.name for folder in data.iterdir() if folder.is_dir())
    if unknown := [name for name in datasets if name not in there]:
        raise ConfigError(f"{data} has no set {unknown[0]!r}{nearest(unknown[0], there)}")
    out = []
    for name in datasets or there:
        found = _files(data / name, half)
        if datasets and not found:
            halves = sorted({path.parent.name for path in (data / name).glob("*/*.parquet")})
            raise ConfigError(f"set {name!r} has no series in half {half!r}; halves: {', '.join(halves) or 'none'}")
        if datasets or (found and _is_labelled(found[0])):
            out += [Place(name, path) for path in found]
    if not out:
        raise ConfigError(f"no set in {data} has labelled series in half {half!r} (<set>/{half}/<series>.parquet)")
    return out


def _files(folder: Path, half: str) -> list[Path]:
    return sorted(folder.glob("*/*.parquet" if half == ALL else f"{half}/*.parquet"))


def _is_labelled(path: Path) -> bool:
    """Whether a file is of this layout; one that is broken is, so that it is told."""
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError):
        return True
    return "t" in names and "label" in names


def read(place: Place) -> Case:
    """Read a series with all that stands beside it.

    Raises BadInputError where the file cannot be used, with the reason.
    """
    table = _table(place.path)
    names = table.column_names
    metrics = tuple(name for name in names if METRIC.fullmatch(name))
    for wanted, there in (("t", "t" in names), ("value or m0, m1 …", metrics), ("label", "label" in names)):
        if not there:
            raise BadInputError("bad_series", f"no column {wanted}; there are {', '.join(names)}")
    seconds = _seconds(table.column("t"))
    if len(seconds) < LEAST_ROWS:
        raise BadInputError("bad_series", f"{len(seconds)} rows: at least {LEAST_ROWS} are needed")
    values = np.column_stack([_numbers(table.column(name), name) for name in metrics])
    if not np.isfinite(values).any():
        raise BadInputError("bad_series", "no value is a number")
    truth = _flags(table.column("label"), "label")
    judged = _judged(table, len(seconds))
    windows = _windows(place, seconds)
    notes = _oddities(seconds, truth, judged)
    return Case(
        place.dataset, place.series, seconds, values, metrics, truth, judged, windows,
        _explained(place, metrics, int(judged.sum())), notes,
    )  # fmt: skip


def _table(path: Path) -> Any:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadInputError("bad_file", f"not a Parquet file that can be read ({error})") from error


def _seconds(column: Any) -> Reals:
    if column.null_count:
        raise BadInputError("bad_series", f"t is empty in {column.null_count} rows")
    if pa.types.is_temporal(column.type):
        nanos = column.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy()
        seconds = nanos / 1e9
    else:
        seconds = _numbers(column, "t")
    if not np.isfinite(seconds).all() or (seconds < 0).any():
        raise BadInputError("bad_series", "t holds what is no time: seconds from 0 on are wanted")
    behind = np.flatnonzero(seconds < np.maximum.accumulate(seconds))
    if len(behind) > MOST_BEHIND * len(seconds):
        raise BadInputError("bad_series", f"row {behind[0] + 1} is earlier than one before it: sort the rows by t")
    if seconds.max() == seconds.min():
        raise BadInputError("bad_series", "all rows have the same t")
    out: Reals = seconds
    return out


def _numbers(column: Any, name: str) -> Reals:
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise BadInputError("bad_series", f"column {name} holds {kind}, not numbers")
    out: Reals = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return out


def _flags(column: Any, name: str) -> Flags:
    """A column of 0/1 or true/false."""
    if column.null_count:
        raise BadInputError("bad_labels", f"{name} is empty in {column.null_count} rows: write 0 or 1")
    if pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(), np.bool_)
    values = _numbers(column, name)
    odd = values[(values != 0) & (values != 1)]
    if len(odd):
        raise BadInputError("bad_labels", f"{name} holds {odd[0]:g}: it must be 0 or 1")
    return np.asarray(values == 1, np.bool_)


def _judged(table: Any, rows: int) -> Flags:
    if "split" not in table.column_names:
        return np.arange(rows) >= warm_up_rows(rows)
    judged = _flags(table.column("split"), "split")
    if not judged.any():
        raise BadInputError("bad_series", "split is 0 in all rows: nothing is to be judged")
    if (np.diff(judged.astype(np.int8)) < 0).any():
        raise BadInputError("bad_series", "split goes back from 1 to 0: the train part must come first")
    return judged


def _oddities(seconds: Reals, truth: Flags, judged: Flags) -> tuple[str, ...]:
    """What is odd about labels, though it can be used."""
    out = []
    if behind := int((seconds < np.maximum.accumulate(seconds)).sum()):
        out.append(f"{behind} rows are earlier than one before them: they come too late and are not judged")
    same = seconds[1:] == seconds[:-1]
    if torn := int((same & (truth[1:] != truth[:-1])).sum()):
        out.append(f"{torn} times stand there twice, labelled 0 and 1")
    if truth[judged].all():
        out.append("every judged row is labelled: there is nothing that a false alarm could be in")
    return tuple(out)


def _windows(place: Place, seconds: Reals) -> tuple[Window, ...] | None:
    """The windows of `windows.json`, in order; None where the set has none."""
    content = _json(place.path.parent / "windows.json")
    if content is None:
        return None
    names = {str(name).replace("/", "__").removesuffix(".csv"): name for name in content}
    if place.series not in names:
        raise BadInputError("bad_labels", f"windows.json does not name {place.series}")
    try:
        windows = sorted((_moment(begin), _moment(end)) for begin, end in content[names[place.series]])
    except (TypeError, ValueError) as error:
        raise BadInputError("bad_labels", f"windows.json: {place.series}: {error}") from error
    for begin, end in windows:
        if end < begin or end < seconds.min() or begin > seconds.max():
            raise BadInputError("bad_labels", f"windows.json: a window of {place.series} lies outside of its series")
    return tuple(windows)


def _moment(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return float(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


def _explained(place: Place, metrics: tuple[str, ...], judged: int) -> tuple[Explained, ...]:
    content = _json(place.path.parent / "interpretation.json")
    out = []
    for event in (content or {}).get(place.series, []):
        one = Explained(int(event["start"]), int(event["end"]), tuple(map(str, event["metrics"])))
        if not 0 <= one.start <= one.end < judged or not set(one.metrics) <= set(metrics):
            raise BadInputError(
                "bad_labels", f"interpretation.json: an event of {place.series} does not fit the series"
            )
        out.append(one)
    return tuple(out)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BadInputError("bad_labels", f"{path.name} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadInputError("bad_labels", f"{path.name} must hold an object, by series")
    return content


def quiet_rows(case: Case, rows: int) -> Flags:
    """The judged rows that lie farther than `rows` from every labelled one: bool[n]."""
    return case.judged & ~near_events(case.truth, rows)


__all__ = ["Case", "Explained", "Place", "find", "quiet_rows", "read"]
