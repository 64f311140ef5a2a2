"""What the columns of foreign data mean: the `mapping:` options, and a plan made of column names and options alone."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from foreshock.errors import BadInputError
from foreshock.types.units import Options

_SKIP = ("label", "labels", "is_anomaly", "anomaly", "ground_truth", "split")
_TIMES = ("time", "timestamp", "ts", "t", "@timestamp", "date", "datetime", "time_unix_nano", "timestamp_ms",
          "timestamp_ns", "time_ms", "event_time", "eventtime", "unix_time", "epoch")  # fmt: skip
_ENTITIES = ("entity", "host", "host.name", "hostname", "host_name", "instance", "server", "machine", "service",
             "service.name", "service_name", "userid", "user_id", "user.id", "user", "entity_id", "pod", "pod_name",
             "k8s.pod.name", "container", "container_name", "node", "node_name", "device")  # fmt: skip
_EVENT_IDS = ("eventid", "event_id", "event.id", "messageid", "message_id")
_ONE_OFF_IDS = ("traceid", "trace_id", "spanid", "span_id", "parentid", "parent_id", "requestid", "request_id",
                "sessionid", "session_id", "correlationid", "correlation_id", "transactionid", "transaction_id",
                "uuid", "guid")  # fmt: skip
_NAMES = ("name", "metric", "metric_name", "metricname", "series", "feature", "kpi", "variable", "__name__")
_VALUES = ("value", "val", "reading")
_ID_LIKE = re.compile(r"(?:[._]|\b)[iI][dD]$|[a-z0-9](?:Id|ID)$")
_CONTAINERS = ("labels.", "attributes.", "tags.")
_UNIT_OF_SUFFIX = (("_nano", "ns"), ("_nanos", "ns"), ("_ns", "ns"), ("_us", "us"), ("_ms", "ms"), ("_millis", "ms"))


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Paths = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])]
"""One path or several; nested JSON is written `a.b.c`."""


class MappingOptions(Options):
    """How columns or JSON paths become samples; what is not given is guessed from the names and shown."""

    time: str | None = Field(default=None, description="Column or JSON path of the time.")
    unit: Literal["auto", "s", "ms", "us", "ns"] = Field(
        default="auto",
        description="Unit of numeric times; auto goes by magnitude. Text is ISO 8601, UTC if it names no zone.",
    )
    entity: Paths = Field(default=(), description="Columns or paths that name what is watched (one or several).")
    entity_name: str | None = Field(
        default=None,
        description="Label of the entity's name; default: the column's own name, `entity` for files without one.",
    )
    values: Paths = Field(
        default=(), description="Columns, paths or globs that are features; default: every other number."
    )
    id: str | None = Field(
        default=None, description="Column or path of the sender's event id; repeated ids count once."
    )
    form: Literal["auto", "wide", "long"] = Field(
        default="auto",
        description="wide: one column a feature; long: one row a sample, with a name and a value column.",
    )
    name: str | None = Field(default=None, description="Long form: the column of the feature's name.")
    value: str | None = Field(default=None, description="Long form: the column of the value.")
    labels: Paths = Field(default=(), description="Further columns that tell series of the same name apart.")
    counters: Paths = Field(default=(), description="Globs of features that only grow (counters).")
    units: dict[str, str] = Field(
        default={}, description="Unit by glob of features, as in OpenTelemetry (`By`, `s`, `1`)."
    )
    skip: Paths = Field(default=_SKIP, description="Globs of columns to leave out.")

    @model_validator(mode="after")
    def _fits_together(self) -> MappingOptions:
        if self.entity_name and len(self.entity) > 1:
            raise ValueError("entity_name names the label of one entity column, and entity lists several")
        if self.form == "wide" and (self.name or self.value):
            raise ValueError("name and value belong to form: long")
        return self

    def unit_of(self, feature: str) -> str:
        """The unit given for a feature, else the empty string."""
        return next((unit for glob, unit in self.units.items() if matches(feature, (glob,))), "")

    def is_counter(self, feature: str) -> bool:
        """Whether the feature is among the counters."""
        return matches(feature, self.counters)


@dataclass(frozen=True, slots=True)
class Plan:
    """The role of each column of one shape of rows: a function of the column names and the options only.

    `entity` and `attributes` pair a label with its column; `values` are the candidates of the wide form, kept where
    they hold numbers, `wanted` those that options name. In the long form `name` and `value` are set.
    """

    time: str
    unit: str
    entity: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]
    id: str | None
    name: str | None
    value: str | None
    values: tuple[str, ...]
    wanted: frozenset[str]
    skipped: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def long(self) -> bool:
        """Whether a row is one sample, named by a column."""
        return self.name is not None

    @property
    def candidates(self) -> tuple[str, ...]:
        """Columns to take numbers from."""
        return (self.value,) if self.value is not None else self.values

    def notes(
        self, unit: str, features: Sequence[str], default_entity: str, left: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """What was decided, for people: `time = ts (ms)`, `entity = host`."""
        out = [f"time = {self.time} ({unit})"]
        out.append(f"entity = {', '.join(path for _, path in self.entity) or default_entity}")
        if self.long:
            out.append(f"name = {self.name}, value = {self.value}")
        else:
            out.append(f"values = {shortened(features)}")
        if self.attributes:
            out.append(f"labels = {shortened([path for _, path in self.attributes])}")
        if self.id:
            out.append(f"id = {self.id}")
        if self.skipped:
            out.append(f"skipped = {shortened(self.skipped)}")
        if left := (*self.unused, *left):
            out.append(f"not used = {shortened(left)}")
        return tuple(out)


def shortened(names: Sequence[str]) -> str:
    """A list of names that stays readable.

    >>> shortened(["a", "b"]), shortened([f"m{i}" for i in range(38)])
    ('a, b', 'm0, m1, m2 … m37 (38)')
    """
    if len(names) <= 6:
        return ", ".join(names)
    return f"{', '.join(names[:3])} … {names[-1]} ({len(names)})"


def matches(name: str, globs: Iterable[str]) -> bool:
    """Whether a name equals one of the globs or is covered by it."""
    return any(name == glob or fnmatchcase(name, glob) for glob in globs)


def plan_columns(columns: Sequence[str], options: MappingOptions, use_entity: bool = True) -> Plan:
    """The plan for rows with these columns (flat names; nested ones dotted).

    With `use_entity` False no column names the entity. Raises BadInputError (`no_time`, `no_column`, `no_values`).
    """
    present = set(columns)
    for asked in (options.time, options.id, options.name, options.value, *options.labels, *options.entity):
        if asked is not None and asked not in present:
            raise BadInputError("no_time" if asked == options.time else "no_column", _missing(asked, columns))
    time = options.time or _guess_time(columns)
    if time is None:
        raise BadInputError(
            "no_time",
            f"no column looks like a time among {shortened(list(columns)) or 'none'}: name it with mapping.time",
        )
    free = [column for column in columns if column != time and not matches(column, options.skip)]
    name, value = _long_form(free, options)
    id_ = options.id or _first([column for column in free if _bare(column) == column], _EVENT_IDS)
    taken = {time, id_, name, value}
    free = [column for column in free if column not in taken]
    entity = options.entity if use_entity else ()
    if use_entity and not entity:
        entity = _guess_entity([column for column in free if column not in options.labels])
    free = [column for column in free if column not in entity]
    labels = options.labels or tuple(
        column
        for column in free
        if _bare(column) != column or column in options.entity or (not options.entity and _named_entity(column))
    )
    values = () if name is not None else _wide_values(columns, free, labels, taken, options)
    idle = [column for column in columns if column not in {*taken, *values, *entity, *labels}]
    skipped = tuple(column for column in idle if matches(column, options.skip))
    return Plan(
        time=time,
        unit=options.unit if options.unit != "auto" else _unit_of_name(time),
        entity=tuple((_entity_label(path, entity, options), path) for path in entity),
        attributes=tuple((_bare(path), path) for path in labels),
        id=id_,
        name=name,
        value=value,
        values=values,
        wanted=frozenset(path for path in values if path in options.values) | {path for path in (value,) if path},
        skipped=skipped,
        unused=tuple(column for column in idle if column not in skipped),
    )


def _wide_values(
    columns: Sequence[str], free: list[str], labels: Sequence[str], taken: set[str | None], options: MappingOptions
) -> tuple[str, ...]:
    roles = set(labels) | taken
    if not options.values:
        return tuple(column for column in free if column not in roles and not _names_something(column))
    usable = [column for column in free if column not in roles]
    values = tuple(
        column
        for column in columns
        if column not in roles and (column in options.values or (column in usable and matches(column, options.values)))
    )
    if not values:
        raise BadInputError("no_values", f"no column matches mapping.values ({', '.join(options.values)}); "
                                         f"there are {shortened(list(columns))}")  # fmt: skip
    return values


def _long_form(free: list[str], options: MappingOptions) -> tuple[str | None, str | None]:
    if options.form == "wide" or (options.form == "auto" and options.values and not options.name):
        return None, None
    names = [options.name] if options.name else [column for column in free if column.lower() in _NAMES]
    values = [options.value] if options.value else [column for column in free if column.lower() in _VALUES]
    asked = options.form == "long" or options.name is not None or options.value is not None
    if asked and (not names or not values):
        missing = "name" if not names else "value"
        raise BadInputError("no_values", f"the long form needs a {missing} column: name it with mapping.{missing}")
    if asked or (len(names) == 1 and len(values) == 1):
        return names[0], values[0]
    return None, None


def _guess_time(columns: Sequence[str]) -> str | None:
    found = _first([column for column in columns if _bare(column) == column], _TIMES)
    if found is not None:
        return found
    ends = {column: column.rsplit(".", 1)[-1].lower() for column in columns if "." in column}
    ranked = sorted((_TIMES.index(end), column) for column, end in ends.items() if end in _TIMES)
    return ranked[0][1] if ranked else None


def _guess_entity(columns: Sequence[str]) -> tuple[str, ...]:
    nested = tuple(column for column in columns if column.startswith("entity."))
    if nested:
        return nested
    named = _first(columns, _ENTITIES)
    if named is not None:
        return (named,)
    ids = sorted(column for column in columns if _ID_LIKE.search(_bare(column)) and not _one_off(column))
    return tuple(ids[:1])


def _first(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column that stands first in a ranking of names, top-level before labels of the same name."""
    ranked = sorted(
        (names.index(bare), _bare(column) != column, column)
        for column in columns
        if (bare := _bare(column).lower()) in names
    )
    return ranked[0][2] if ranked else None


def _named_entity(column: str) -> bool:
    return column.lower() in _ENTITIES


def _one_off(column: str) -> bool:
    return _bare(column).lower() in _ONE_OFF_IDS


def _names_something(column: str) -> bool:
    """Ids and what hangs below an object of labels are no features, even where they are numbers."""
    return _bare(column) != column or _ID_LIKE.search(column) is not None or _one_off(column)


def _bare(column: str) -> str:
    """The name without the object that holds labels: `labels.host` → `host`."""
    for container in _CONTAINERS:
        if column.startswith(container) and len(column) > len(container):
            return column[len(container) :]
    return column


def _entity_label(path: str, entity: Sequence[str], options: MappingOptions) -> str:
    if options.entity_name and len(entity) == 1:
        return options.entity_name
    bare = _bare(path)
    return bare.removeprefix("entity.") if not options.entity else bare


def _unit_of_name(time: str) -> str:
    return next((unit for suffix, unit in _UNIT_OF_SUFFIX if time.lower().endswith(suffix)), "auto")


def _missing(asked: str, columns: Sequence[str]) -> str:
    near = difflib.get_close_matches(asked, columns, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {shortened(list(columns))}"
    return f"no column {asked!r}: {hint}"
