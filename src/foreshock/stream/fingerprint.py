"""Operator: calls between services → samples of fingerprints, one window of a service, an edge, the environment each.

`docs/explanation/calls.md` says in words what is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.errors import PermanentError
from foreshock.state import Registry, SlotTable, State
from foreshock.stream import fingerprint_kernel as kernel
from foreshock.stream import fingerprint_tables as tables
from foreshock.stream.align import SourceTime
from foreshock.stream.endpoints import PREFIXES, endpoint_text
from foreshock.stream.fingerprint_tables import (
    EDGE,
    ENVIRONMENT,
    FOREVER,
    REASONS,
    SERVICE,
    TIME_LIMIT,
    CallRecord,
    Tables,
)
from foreshock.stream.sketch import BUCKETS
from foreshock.telemetry import drop
from foreshock.types import Calls, Columns, Intake, Labels, Samples, Series
from foreshock.types.units import Options, Seconds

SOURCE = "fingerprints"
"""The source that alignment sees."""

_VERSION = 2
_OUT, _NAMING = 4096, 256
_MOST_OPEN = 64

_NAMES: dict[int, tuple[str, str, Labels]] = {
    tables.RATE: ("calls.rate", "1/s", ()),
    tables.ERRORS: ("calls.error_ratio", "1", ()),
    tables.UNANSWERED: ("calls.no_answer_ratio", "1", ()),
    tables.OK: ("calls.status_ratio", "1", (("class", "2xx"),)),
    tables.REDIRECTED: ("calls.status_ratio", "1", (("class", "3xx"),)),
    tables.CLIENT: ("calls.status_ratio", "1", (("class", "4xx"),)),
    tables.SERVER: ("calls.status_ratio", "1", (("class", "5xx"),)),
    tables.P50: ("calls.duration.p50", "s", ()),
    tables.P95: ("calls.duration.p95", "s", ()),
    tables.P99: ("calls.duration.p99", "s", ()),
    tables.NEW_ENDPOINTS: ("calls.new_endpoints", "{endpoint}", ()),
    tables.NEW_CALLERS: ("calls.new_callers", "{caller}", ()),
    tables.NEW_EDGES: ("calls.new_edges", "{edge}", ()),
    tables.ACTIVE: ("calls.active_edges", "{edge}", ()),
    tables.MIX: ("calls.endpoint_mix.distance", "1", ()),
    tables.OTHERS: ("calls.endpoint.rate", "1/s", (("endpoint", "others"),)),
}
"""Features by number: name, unit, attributes. All are gauges."""

_EDGE_MIX = ("calls.edge_mix.distance", "1", ())

LEAST_CHANGES = {
    "calls.rate": 0.5,
    "calls.endpoint.rate": 0.5,
    "calls.*_ratio*": 0.05,
    "calls.*.distance": 0.1,
    "calls.new_endpoints": 5.0,
    "calls.new_*": 2.0,
    "calls.active_edges": 5.0,
}
"""Changes of features that are worth an alert at the least, where the settings (`min_change`) say nothing else."""


class CallOptions(Options):
    """How calls between services become fingerprints."""

    window: Annotated[Seconds, Field(ge=0.1, le=3600)] = Field(5.0, description="Length of the windows.")
    edges: bool = Field(True, description="Whether each pair of caller and called service has fingerprints.")
    environment: bool = Field(True, description="Whether all calls together have fingerprints.")
    least: int = Field(
        5,
        ge=1,
        le=20,
        description="Ratios and medians of fewer calls than this within `lookback` are missing.",
    )
    lookback: Annotated[Seconds, Field(gt=0)] = Field(
        300.0, description="How far back ratios and quantiles look for enough calls; 60 windows at most."
    )
    learn: Annotated[Seconds, Field(ge=0)] = Field(
        600.0, description="For so long from an entity's first call on, no endpoint, caller or edge counts as new."
    )
    entities: int = Field(
        2000, ge=1, description="Services and edges that may be known at a time; calls of further ones are dropped."
    )


class Fingerprint:
    """Operator: the calls in `Columns.intakes` → samples of the source `fingerprints`, for alignment.

    Windows of an entity close by its own clock (largest time − lateness of its sources) or by a watermark. `hold` is
    that of alignment (seconds). `counts` says what was not used and why.
    """

    name = "fingerprint"

    def __init__(
        self,
        registry: Registry,
        options: CallOptions,
        sources: Mapping[str, SourceTime],
        environment: str = "default",
        hold: float = 30.0,
        default: SourceTime | None = None,
    ) -> None:
        self.registry, self.options = registry, options
        self._times, self._default = dict(sources), default or SourceTime()
        self._entity = SlotTable(tables.ENTITY, tables.NEW_ENTITY, 1)
        self._window = SlotTable(tables.WINDOW, tables.NEW_WINDOW, 1)
        self._service = SlotTable(tables.SERVICE_ROW, capacity=1)
        self._known = SlotTable(tables.KNOWN, capacity=1)
        self._number = self._settings(hold)
        self._count: NDArray[np.int64] = np.zeros(len(REASONS), np.int64)
        self._told = self._count.copy()
        self._out: NDArray[Any] = np.empty(_OUT, tables.OUT)
        self._naming: NDArray[Any] = np.empty(_NAMING, tables.NAMING)
        self._scratch = np.zeros(BUCKETS, np.uint32), np.zeros((3, PREFIXES), np.uint64)
        self._labels: list[Labels] = []
        self._slot: dict[Labels, int] = {}
        self._texts: dict[tuple[int, int], str] = {}
        self._series: list[Series] = []
        self._told_series: tuple[Series, ...] = ()
        self._place: NDArray[np.int32] = np.full((0, tables.FEATURES), -1, np.int32)
        self._all: Labels = (("deployment.environment.name", environment),)

    def _settings(self, hold: float) -> NDArray[np.int64]:
        own = self.options
        step = _nano(own.window)
        longest = max((one.lateness_seconds for one in (*self._times.values(), self._default)), default=0.0)
        windows = min(-(-_nano(longest) // step) + 2, _MOST_OPEN)
        lookback = min(max(round(own.lookback / own.window), 1), tables.HISTORY)
        return np.array(
            [0, 0, tables.NEVER, step, windows, own.least, lookback, _nano(own.learn), _nano(hold), -1], np.int64
        )  # fmt: skip

    @property
    def counts(self) -> dict[str, int]:
        """How many calls were not used, or not wholly, by reason."""
        return {name: int(n) for name, n in zip(REASONS, self._count, strict=True) if n}

    def process(self, columns: Columns) -> Columns:
        """Take the calls of intakes; in their place stands what their windows gave."""
        if all(intake.calls is None for intake in columns.intakes):
            return columns
        out: list[Intake] = []
        for intake in columns.intakes:
            if intake.calls is None:
                out.append(intake)
            elif len(intake.calls):
                self._take(intake, intake.calls)
                self._tell(intake.source)
                out += self._intakes(intake.received_unix_nano)
        return replace(columns, intakes=tuple(out))

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Nothing older than this will come; at the end of time all that is open is closed."""
        if time_unix_nano < FOREVER:
            if time_unix_nano <= self._number[tables.WATERMARK]:
                return Columns()
            self._number[tables.WATERMARK] = time_unix_nano
        if not self._entity.used:
            return Columns()
        closed = self._entity.rows["closed_end"][: self._entity.used]
        due = (closed != tables.NEVER) & (closed <= time_unix_nano - self._number[tables.STEP])
        self._touch(np.flatnonzero(due), known=False)
        first = kernel.advance(self._tables(), time_unix_nano, 0)
        while first < self._entity.used:
            self._grow()
            first = kernel.advance(self._tables(), time_unix_nano, first)
        return Columns(intakes=tuple(self._intakes(time_unix_nano)))

    def forget(self, entity: int, series: NDArray[np.int32]) -> None:
        """Give an entity a fresh start: its windows, what it has seen, its endpoints."""
        slot = self._slot.get(self.registry.entities[entity])
        if slot is None:
            return
        slots = np.array([slot])
        self._touch(slots, known=True)
        row = self._entity.rows[slot]
        kind, service = int(row["kind"]), int(row["service"])
        self._entity.reset(slots)
        self._window.reset(self._windows_of(slots))
        row["kind"], row["service"] = kind, service
        if service >= 0:
            self._service.reset(np.array([service]))
        if kind == ENVIRONMENT:
            self._known.reset(np.zeros(1, np.int64))
        for key in [key for key in self._texts if key[0] == slot]:
            del self._texts[key]
        self._place[slot] = -1

    def state(self) -> State:
        """All it remembers."""
        meta = {
            "watermark": int(self._number[tables.WATERMARK]),
            "counts": self._count.tolist(),
            "layout": self._layout(),
        }
        texts = [(slot, name, text) for (slot, name), text in self._texts.items()]
        blobs = {"names": [msgspec.msgpack.encode([self._labels, texts])]}
        whole = {"entity": self._entity, "window": self._window, "service": self._service, "known": self._known}
        return State(_VERSION, meta, {}, whole, blobs)

    def load(self, state: State) -> None:
        """Take over what `state` gave.

        Raises PermanentError if the state is of another version, or of windows of another length or number.
        """
        if state.version != _VERSION or state.meta["layout"] != self._layout():
            raise PermanentError(
                f"state of fingerprints has version {state.version} and windows {state.meta.get('layout')}, this "
                f"program reads version {_VERSION} and {self._layout()}"
            )
        self._number[tables.WATERMARK] = state.meta["watermark"]
        self._count[:] = state.meta["counts"]
        self._told[:] = self._count
        for name in ("entity", "window", "service", "known"):
            getattr(self, f"_{name}").load(state.arrays[name])
        self._labels, texts = _names.decode(state.blobs["names"][0])
        self._slot = {labels: slot for slot, labels in enumerate(self._labels)}
        self._texts = {(slot, name): text for slot, name, text in texts}
        self._number[tables.ENVIRONMENT_SLOT] = self._slot.get(self._all, -1)
        self._series, self._told_series = [], ()
        self._place = np.full((len(self._entity.rows), tables.FEATURES), -1, np.int32)

    def _layout(self) -> list[int]:
        """What the ring of windows hangs on: their length (ns) and how many may be open."""
        return [int(self._number[tables.STEP]), int(self._number[tables.OPEN])]

    def _take(self, intake: Intake, calls: Calls) -> None:
        record = self._record(calls)
        time = self._times.get(intake.source, self._default)
        skew = time.max_skew_seconds
        limit = TIME_LIMIT if skew is None else min(intake.received_unix_nano + _nano(skew), TIME_LIMIT)
        self._touch(np.r_[record.service[record.service >= 0], record.edge[record.edge >= 0]], known=True)
        first = 0
        while True:
            first = kernel.take(
                self._tables(), record, _nano(time.lateness_seconds), intake.received_unix_nano, limit, first
            )
            self._name(record, calls)
            if first == len(calls):
                return
            self._grow()

    def _record(self, calls: Calls) -> CallRecord:
        """The calls of a record with what is known of their names; services and edges that are new get slots."""
        rows = np.ascontiguousarray(calls.rows).view()
        rows.flags.writeable = False
        n, names = len(rows), calls.names
        encoded = [name.encode("utf-8", "surrogatepass") for name in names]
        start = np.zeros(len(names) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(names)), out=start[1:])
        data = np.frombuffer(b"".join(encoded) + b"\0", np.uint8)
        nowhere = next((at for at, name in enumerate(names) if not name), -1)
        used, hashes = np.zeros(len(names), np.uint8), np.zeros(len(names), np.uint64)
        table = np.full((2, max(2, 1 << (2 * n - 1).bit_length())), -1, np.int64)
        edge_of, path_of, firsts = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int64)
        edges, paths = kernel.survey(rows, data, start, used, hashes, nowhere, table, edge_of, firsts, path_of)
        if self.options.environment and self._number[tables.ENVIRONMENT_SLOT] < 0:
            self._number[tables.ENVIRONMENT_SLOT] = self._add(self._all, ENVIRONMENT)
        service = np.full(len(names), kernel.NO_ROOM, np.int32)
        for at in np.flatnonzero(used & kernel.TARGET).tolist():
            service[at] = self._slot_of((("service.name", names[at]),), SERVICE)
        edge = np.full(edges, kernel.NOT_ASKED, np.int32)
        if self.options.edges:
            distinct = rows[["source", "target"]][firsts[:edges]].tolist()
            for k, (source, target) in enumerate(distinct):
                if service[target] >= 0:
                    edge[k] = self._slot_of((("client", names[source]), ("server", names[target])), EDGE)
        return CallRecord(
            rows, data, start, hashes, service, edge_of, edge, np.zeros(edges, np.uint8), np.zeros(edges, np.int64),
            path_of, np.zeros(paths, np.uint8), np.zeros(paths, np.uint64), np.zeros(paths, np.int64),
            np.full(paths, -1, np.int32),
        )  # fmt: skip

    def _slot_of(self, labels: Labels, kind: int) -> int:
        """The slot of a service or edge; NO_ROOM where it is new and there is no room."""
        slot = self._slot.get(labels)
        if slot is not None:
            return slot
        own = self._number[tables.ENVIRONMENT_SLOT] >= 0
        return kernel.NO_ROOM if len(self._labels) - own >= self.options.entities else self._add(labels, kind)

    def _add(self, labels: Labels, kind: int) -> int:
        slot = self._slot[labels] = len(self._labels)
        self._labels.append(labels)
        self._entity.ensure(slot)
        self._window.ensure((slot + 1) * int(self._number[tables.OPEN]) - 1)
        self._known.ensure(0)
        row = self._entity.rows[slot]
        row["kind"] = kind
        if kind == SERVICE:
            row["service"] = self._service.used
            self._service.ensure(self._service.used)
        if slot >= len(self._place):
            place = np.full((len(self._entity.rows), tables.FEATURES), -1, np.int32)
            place[: len(self._place)] = self._place
            self._place = place
        return slot

    def _name(self, record: CallRecord, calls: Calls) -> None:
        """Put the endpoints that were given a place into words."""
        for one in self._naming[: self._number[tables.NAMED]]:
            row = record.rows[one["row"]]
            endpoint, method = calls.names[row["endpoint"]], calls.names[row["method"]]
            self._texts[int(one["entity"]), int(one["name"])] = endpoint_text(endpoint, int(one["ids"]), method)
        self._number[tables.NAMED] = 0

    def _touch(self, slots: NDArray[Any], known: bool) -> None:
        """Say what will be written."""
        if not (self._entity.copying or self._window.copying or self._service.copying or self._known.copying):
            return
        environment = int(self._number[tables.ENVIRONMENT_SLOT])
        slots = np.unique(np.append(slots, environment) if environment >= 0 else slots)
        self._entity.touch(slots)
        self._window.touch(self._windows_of(slots))
        services = self._entity.rows["service"][slots]
        self._service.touch(services[services >= 0])
        if known:
            self._known.touch(np.zeros(1, np.int64))

    def _windows_of(self, slots: NDArray[Any]) -> NDArray[Any]:
        windows = int(self._number[tables.OPEN])
        return (slots[:, None] * windows + np.arange(windows)).ravel()

    def _tables(self) -> Tables:
        return Tables(
            self._entity.rows[: self._entity.used], self._window.rows, self._service.rows, self._known.rows,
            self._number, self._count, self._out, self._naming, *self._scratch,
        )  # fmt: skip

    def _grow(self) -> None:
        """Make room where a kernel stopped; what was named is in words already."""
        if int(self._number[tables.EMITTED]) + tables.MOST_EMITTED > len(self._out):
            grown = np.empty(2 * len(self._out), tables.OUT)
            grown[: len(self._out)] = self._out
            self._out = grown

    def _intakes(self, received: int) -> Sequence[Intake]:
        """What windows gave since it was asked, as an intake for alignment; none if nothing."""
        n = int(self._number[tables.EMITTED])
        if not n:
            return ()
        self._number[tables.EMITTED] = 0
        out = self._out[:n]
        if out["first"].any():
            # Alignment closes a row once all features that it waits for are there: new ones have to come before.
            window = np.cumsum(np.r_[0, (np.diff(out["entity"]) != 0) | (np.diff(out["time"]) != 0)])
            out = out[np.lexsort((out["first"] == 0, window))]
        entity, feature = out["entity"], out["feature"]
        index = self._place[entity, feature]
        for at in np.flatnonzero(index < 0).tolist():
            slot, number = int(entity[at]), int(feature[at])
            if self._place[slot, number] < 0:
                self._place[slot, number] = len(self._series)
                self._series.append(self._make(slot, number))
        if len(self._series) > len(self._told_series):
            self._told_series = tuple(self._series)
            index = self._place[entity, feature]
        samples = Samples(self._told_series, index, out["time"].copy(), out["value"].copy(), np.zeros(n, np.uint64), {})
        return (Intake(SOURCE, received, samples),)

    def _make(self, slot: int, feature: int) -> Series:
        """The series of a feature of an entity."""
        labels = self._labels[slot]
        if feature >= tables.ENDPOINTS:
            text = self._texts[slot, feature - tables.ENDPOINTS]
            return Series("calls.endpoint.rate", labels, (("endpoint", text),), "1/s")
        named = _NAMES[feature]
        if feature == tables.MIX and self._entity.rows[slot]["kind"] == ENVIRONMENT:
            named = _EDGE_MIX
        name, unit, attributes = named
        return Series(name, labels, attributes, unit)

    def _tell(self, source: str) -> None:
        """Bring what a source's calls added to the counts to the metrics."""
        for place in np.flatnonzero(self._count != self._told):
            drop(source, REASONS[place], int(self._count[place] - self._told[place]))
        self._told[:] = self._count


_names = msgspec.msgpack.Decoder(tuple[list[Labels], list[tuple[int, int, str]]])


def _nano(seconds: float) -> int:
    return min(round(seconds * 1e9), TIME_LIMIT)
