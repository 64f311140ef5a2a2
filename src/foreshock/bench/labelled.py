"""A user's own labels: read from a column of the data or from a file, and met with what a replay said.

A labels file has either a time and a 0/1 column, or `start` and `end` of labelled stretches (both ends belong to them),
and in both cases the columns that name the entity, if there are several.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from foreshock.adapters.decode import decode_samples
from foreshock.adapters.decode_table import decode_planned, flat, is_number, plan_table, times_of_column
from foreshock.adapters.file_streams import CSV, PARQUET, format_of, stem_of
from foreshock.adapters.file_tables import CsvTables, ParquetTables
from foreshock.adapters.files_reader import TableReader, find_files
from foreshock.adapters.mapping import MappingOptions, Plan, matches
from foreshock.adapters.sql.text import parse_labels
from foreshock.adapters.times import NANOS
from foreshock.adapters.truth import Interval, runs
from foreshock.bench.measures import (
    Counts,
    Flags,
    Reals,
    auc_pr,
    cool_down,
    event_counts,
    mean,
    pooled,
    vus_pr,
    warm_up_rows,
)
from foreshock.errors import BadInputError
from foreshock.types import Labels, Samples, label_text
from foreshock.types.record import ARROW

Times = NDArray[np.int64]
USUAL_NAMES = ("label", "labels", "is_anomaly", "anomaly", "ground_truth")
"""Columns that are taken for labels where none is named."""
STARTS, ENDS = ("start", "starts", "begin", "start_time", "from"), ("end", "ends", "stop", "end_time", "until", "to")
TRUTH = "__truth"
_READ_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class Measures:
    """How a replay's scores and alarms meet labels, over all entities.

    An event is a run of labelled rows, found if its entity alarms inside it. An alarm notifies once, and while it goes
    on every hour (ten rows at least); a notification more than ten minutes (two rows) from every event is a false
    alarm. `recall` = found ÷ events, `precision` = found ÷ (found + false), `f1` of the two; `false_alarms_per_day`
    per entity; `delay_seconds` the median from an event's start to the first alarm in it. `vus_pr` (Paparrizos et al.
    2022) and `auc_pr` of the p-values, means over the entities that have events; NaN where nothing can be said.
    """

    events: int
    found: int
    false_alarms: int
    recall: float
    precision: float
    f1: float
    false_alarms_per_day: float
    delay_seconds: float
    vus_pr: float
    auc_pr: float


@dataclass(slots=True)
class Truth:
    """Labels by entity (None = every entity): moments with 0 or 1, and labelled stretches; both in nanoseconds.

    `torn` counts moments that are labelled both 0 and 1; they count as 1.
    """

    moments: dict[str | None, tuple[Times, Flags]] = field(default_factory=dict)
    stretches: dict[str | None, list[tuple[int, int]]] = field(default_factory=dict)
    torn: int = 0

    def add(self, entity: str | None, times: Times, flags: Flags, torn_counts: bool = True) -> None:
        """Take moments of an entity, in any order."""
        if entity in self.moments:
            before = self.moments[entity]
            times, flags = np.append(before[0], times), np.append(before[1], flags)
        moments, at, count = np.unique(times, return_inverse=True, return_counts=True)
        some = np.bincount(at, flags.astype(np.float64), len(moments))
        if torn_counts:
            self.torn += int(((some > 0) & (some < count)).sum())
        self.moments[entity] = moments, some > 0

    def take(self, samples: Samples, torn_counts: bool = True) -> None:
        """Take labels that were read as samples: above 0 is labelled."""
        entity = np.array([one.entity_text for one in samples.series], object)[samples.index]
        for name in dict.fromkeys(entity.tolist()):
            own = entity == name
            self.add(name, samples.time_unix_nano[own], samples.value[own] > 0, torn_counts)

    def of(self, entity: str, times: Times) -> Flags:
        """Whether each row of an entity is labelled: times int64[n] in order, those at which its rows begin."""
        out = np.zeros(len(times), np.bool_)
        if not len(times):
            return out
        step = max(int(np.median(np.diff(times))), 1) if len(times) > 1 else 1
        for name in (entity, None):
            moments, flags = self.moments.get(name, (np.zeros(0, np.int64), np.zeros(0, np.bool_)))
            labelled = moments[flags]
            at = np.searchsorted(times, labelled, side="right") - 1
            near = (at >= 0) & (labelled - times[np.maximum(at, 0)] < step)
            out[at[near]] = True
            for start, end in self.stretches.get(name, []):
                inside = (times >= start) & (times <= end)
                row = int(np.searchsorted(times, start, side="right")) - 1
                if not inside.any() and row >= 0 and start - times[row] < step:
                    # Shorter than a step: it lies in the row that began before it.
                    inside[row] = True
                out |= inside
        return out

    def intervals(self) -> list[Interval]:
        """When something was wrong with which entity, as a replay is told of it."""
        out = []
        for name, (moments, flags) in self.moments.items():
            out += [Interval(_matchers(name), since, until) for since, until in runs(moments, flags)]
        for name, stretches in self.stretches.items():
            out += [Interval(_matchers(name), start, end + 1) for start, end in stretches]
        return out

    def notes(self, entities: Iterable[str]) -> tuple[str, ...]:
        """What is odd about these labels, for people."""
        known = set(entities)
        named = [name for name in (*self.moments, *self.stretches) if name is not None]
        strangers = [name for name in dict.fromkeys(named) if name not in known]
        out = []
        if self.torn:
            out.append(f"{self.torn} moments are labelled both 0 and 1: they count as 1")
        if strangers:
            out.append(f"labels of {len(strangers)} entities that are not in the data: {strangers[0]} …")
        return tuple(out)


def _matchers(entity: str | None) -> Labels:
    return () if entity is None else parse_labels(entity)


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows of an entity as a replay judged them, in order: `times int64[n]`, `alarm bool[n]`, `score float64[n]`."""

    times: Times
    alarm: Flags
    score: Reals


def judged_by_entity(path: Path) -> dict[str, Judged]:
    """The rows of a `verdicts.parquet`, by entity; what ranks is −ln of the combined p-value."""
    table = pq.read_table(path, columns=["time", "entity", "p_value", "anomalous"])
    entity = table.column("entity").combine_chunks().dictionary_encode()
    code = np.asarray(entity.indices)
    times = table.column("time").cast(pa.int64()).to_numpy()
    alarm = np.asarray(table.column("anomalous").to_numpy(), np.bool_)
    p = table.column("p_value").to_numpy()
    score = np.nan_to_num(-np.log(np.where(p > 0, p, np.nan)), nan=0.0)
    out = {}
    for number, name in enumerate(entity.dictionary.to_pylist()):
        own = np.flatnonzero(code == number)
        out[name] = Judged(times[own], alarm[own], score[own])
    return out


def measure(judged: Mapping[str, Judged], truth: Truth, from_unix_nano: int | None = None) -> Measures:
    """How alarms and scores meet labels.

    What counts is from `from_unix_nano` on, or where that is None all but the first rows of each entity (15 %, at most
    750), which any detector needs to learn.
    """
    counts: list[Counts] = []
    vus: list[float] = []
    auc: list[float] = []
    for name, rows in judged.items():
        first = (
            warm_up_rows(len(rows.times))
            if from_unix_nano is None
            else int(np.searchsorted(rows.times, from_unix_nano))
        )
        times, alarm, score = rows.times[first:], rows.alarm[first:], rows.score[first:]
        if len(times) < 2:
            continue
        labelled = truth.of(name, rows.times)[first:]
        step = max(float(np.median(np.diff(times))) / 1e9, 1e-3)
        counts.append(event_counts(labelled, alarm, step))
        if labelled.any() and not labelled.all():
            vus.append(vus_pr(labelled, score, cool_down(step)))
            auc.append(auc_pr(labelled, score))
    online = pooled(counts)
    return Measures(
        online.events, online.found, online.false_alarms, online.recall, online.precision, online.f1,
        online.false_alarms_per_day, online.delay_seconds, mean(vus), mean(auc),
    )  # fmt: skip


def sentences(measures: Measures) -> list[str]:
    """The measures as lines for people."""
    if not measures.events:
        return [
            f"no labelled event in what was judged; {measures.false_alarms_per_day:.3g} false alarms an entity and day"
        ]
    delay = "" if measures.delay_seconds != measures.delay_seconds else f", median delay {measures.delay_seconds:.0f} s"
    return [
        f"{measures.found} of {measures.events} labelled events found{delay}; {measures.false_alarms} false alarms, "
        f"{measures.false_alarms_per_day:.3g} an entity and day",
        f"recall {measures.recall:.3f}, precision {measures.precision:.3f}, F1 {measures.f1:.3f}, "
        f"VUS-PR {measures.vus_pr:.3f}, AUC-PR {measures.auc_pr:.3f}",
    ]


# -- labels in the data -------------------------------------------------------------------------------------------


def label_column(paths: Sequence[str | Path], mapping: MappingOptions) -> str | None:
    """The column that is taken for labels where none is named: one of the usual names, left out of the features."""
    for path in find_files(paths):
        names = set(_names(path))
        for name in USUAL_NAMES:
            if name in names and matches(name, mapping.skip):
                return name
    return None


def _names(path: Path) -> list[str]:
    kind = format_of(path)
    if kind in PARQUET:
        return list(flat(ParquetTables(path, _READ_ROWS).schema.empty_table()).column_names)
    if kind in CSV:
        return list(CsvTables(path, _READ_ROWS).schema.names)
    return []


def labels_in_tables(paths: Sequence[str | Path], mapping: MappingOptions, column: str) -> Truth:
    """The labels in a column of tables, by entity, as the tables themselves are understood.

    Raises BadInputError (`bad_labels`) where there is no such column or where it holds something else than labels.
    """
    truth = Truth()
    for path in find_files(paths):
        kind = format_of(path)
        if kind in PARQUET or kind in CSV:
            tables = ParquetTables(path, _READ_ROWS) if kind in PARQUET else CsvTables(path, _READ_ROWS)
            for samples, long in _of_table(path, tables, mapping, column):
                truth.take(samples, torn_counts=not long)
        else:
            for samples in _of_json(path, mapping, column):
                truth.take(samples)
    return truth


def _of_table(path: Path, tables: Any, mapping: MappingOptions, column: str) -> Iterator[tuple[Samples, bool]]:
    empty = flat(tables.schema.empty_table())
    if column not in empty.column_names:
        raise BadInputError("bad_labels", f"{path}: no column {column!r} for the labels; "
                                          f"there are {', '.join(empty.column_names)}")  # fmt: skip
    plan = plan_table(with_truth(empty, np.zeros(0, np.bool_)), mapping)
    texts = [name for _, name in plan.entity]
    tables.prepare(texts, [], plan.time)
    entity: Labels = ((mapping.entity_name or "entity", stem_of(path)),)
    for table in tables.read(0, list(dict.fromkeys([plan.time, *texts, column]))):
        table = flat(table)
        flags = flags_of(table.column(column), f"{path}: column {column!r}")
        _, _, unit = times_of_column(table.column(plan.time), plan.unit)
        if unit in NANOS:
            plan = replace(plan, unit=unit)
        yield decode_flags(table, flags, plan, mapping, entity), plan.long


def decode_flags(table: Any, flags: Flags, plan: Plan, mapping: MappingOptions, entity: Labels) -> Samples:
    """Labels as samples of the entities of a flat table, one a row: bool[n] in the place of its numbers."""
    alone = replace(plan, values=(TRUTH,), name=None, value=None, attributes=(), id=None, wanted=frozenset())
    plain = mapping.model_copy(update={"counters": (), "units": {}})
    return decode_planned(with_truth(table, flags), alone, plain, entity)


def with_truth(table: Any, flags: Flags) -> Any:
    """The table with its labels as a column of numbers."""
    return table.append_column(TRUTH, pa.array(flags.astype(np.float64)))


def _of_json(path: Path, mapping: MappingOptions, column: str) -> Iterator[Samples]:
    asked = mapping.model_copy(
        update={
            "values": (column,),
            "skip": (),
            "counters": (),
            "form": "wide",
            "name": None,
            "value": None,
            "id": None,
        }
    )
    for _, record in TableReader([path], asked).read(0):
        if record.content_type == ARROW:
            yield decode_samples(record, asked)


def flags_of(column: Any, where: str) -> Flags:
    """A column of 0/1, true/false or texts of these as bool[n]; what is empty is 0.

    Raises BadInputError where it holds something else.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_null(kind):
        return np.zeros(len(column), np.bool_)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = pc.utf8_lower(pc.utf8_trim_whitespace(column.fill_null("")))
        yes = np.asarray(pc.is_in(text, value_set=pa.array(["1", "1.0", "true", "yes"])))
        no = np.asarray(pc.is_in(text, value_set=pa.array(["0", "0.0", "false", "no", ""])))
        if not (yes | no).all():
            odd = text[int(np.argmin(yes | no))].as_py()
            raise BadInputError("bad_labels", f"{where} holds {odd!r}: labels are 0 or 1, true or false")
        return np.asarray(yes, np.bool_)
    if not (is_number(kind) or pa.types.is_boolean(kind)):
        raise BadInputError("bad_labels", f"{where} holds {kind}: labels are 0 or 1, true or false")
    values = np.nan_to_num(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), nan=0.0)
    if odd := values[(values != 0) & (values != 1)].tolist():
        raise BadInputError("bad_labels", f"{where} holds {odd[0]:g}: labels are 0 or 1")
    return np.asarray(values == 1, np.bool_)


# -- labels in a file of their own --------------------------------------------------------------------------------


def labels_in_file(path: Path, mapping: MappingOptions, column: str | None = None) -> Truth:
    """The labels of a file of their own: stretches with a start and an end, or moments with a 0/1 column.

    Its entity columns are those of the mapping, where it has them, or what is guessed; without any it speaks of every
    entity. Raises BadInputError (`bad_labels`).
    """
    if format_of(path) not in (*PARQUET, *CSV):
        raise BadInputError("bad_labels", f"{path}: a labels file is CSV or Parquet")
    tables = ParquetTables(path, _READ_ROWS) if format_of(path) in PARQUET else CsvTables(path, _READ_ROWS)
    names = list(flat(tables.schema.empty_table()).column_names)
    own = mapping.model_copy(
        update={
            "entity": tuple(name for name in mapping.entity if name in names),
            "time": mapping.time if mapping.time in names else None,
            "entity_name": mapping.entity_name if set(mapping.entity) <= set(names) else None,
        }
    )
    start, end = _named(names, STARTS), _named(names, ENDS)
    if start is not None and end is not None:
        return _stretches(path, tables, own, start, end)
    column = column if column is not None else _named(names, USUAL_NAMES)
    if column is None:
        raise BadInputError(
            "bad_labels", f"{path}: neither start and end nor a column of labels; there are {', '.join(names)}"
        )
    truth = Truth()
    own = own.model_copy(update={"values": (TRUTH,), "form": "wide", "name": None, "value": None, "labels": ()})
    named = bool(plan_table(with_truth(flat(tables.schema.empty_table()), np.zeros(0, np.bool_)), own).entity)
    for samples, _ in _of_table(path, tables, own, column):
        if named:
            truth.take(samples)
        else:
            truth.add(None, samples.time_unix_nano, samples.value > 0)
    return truth


def _named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in names if name.lower() in wanted), None)


def _stretches(path: Path, tables: Any, mapping: MappingOptions, start: str, end: str) -> Truth:
    empty = with_truth(flat(tables.schema.empty_table()), np.zeros(0, np.bool_))
    asked = mapping.model_copy(update={"time": start, "values": (TRUTH,), "form": "wide"})
    plan = plan_table(empty.drop_columns([end]), asked)
    texts = [name for _, name in plan.entity]
    tables.prepare(texts, [], start)
    truth = Truth()
    for table in tables.read(0, list(dict.fromkeys([start, end, *texts]))):
        table = flat(table)
        begins, stops = (_moments(path, table.column(name), name, mapping.unit) for name in (start, end))
        if (back := stops < begins).any():
            raise BadInputError("bad_labels", f"{path}: row {int(np.argmax(back)) + 1} ends before it starts")
        columns = [(label, table.column(name).cast(pa.string()).to_pylist()) for label, name in plan.entity]
        for row, stretch in enumerate(zip(begins.tolist(), stops.tolist(), strict=True)):
            pairs = sorted((label, column[row]) for label, column in columns if column[row])
            truth.stretches.setdefault(label_text(tuple(pairs)) if pairs else None, []).append(stretch)
    return truth


def _moments(path: Path, column: Any, name: str, unit: str) -> Times:
    times, ok, _ = times_of_column(column, unit)
    if not ok.all():
        raise BadInputError("bad_labels", f"{path}: row {int(np.argmin(ok)) + 1}: {name} is no time")
    return times
