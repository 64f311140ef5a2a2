"""From decoded samples to rows of entities in step: late, duplicate and missing samples, rates of counters, silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.errors import PermanentError
from foreshock.state import Registry, SlotTable, State
from foreshock.stream import align_kernel as kernel
from foreshock.stream.align_exclude import Exclusions
from foreshock.stream.align_step import LONGEST_STEP
from foreshock.stream.align_tables import (
    CELLS,
    COUNTER_RESET,
    ENTITY,
    FOREVER,
    IRREGULAR,
    NEVER,
    NEW_ENTITY,
    NEW_SERIES,
    REASONS,
    ROW,
    ROWS,
    SERIES,
    TIME_LIMIT,
    UNDECIDED,
    UNDECIDED_USED,
    WATERMARK,
    Tables,
    new_pool,
    reach,
    release,
    restore,
    save,
)  # fmt: skip
from foreshock.telemetry import drop
from foreshock.types import Columns, Dictionary, Intake, Rows, Samples, Series
from foreshock.types.units import Options, Seconds

_VERSION = 1
_MEMO = 256
_ROWS, _CELLS, _NODES = 1024, 8192, 1024


class AlignOptions(Options):
    """How samples become rows in step."""

    step: Literal["auto", "none"] | Annotated[Seconds, Field(gt=0, le=LONGEST_STEP / 1e9)] = Field(
        "auto",
        description="Time between rows of an entity; `auto` finds it from each entity's first samples, with `none` "
        "every distinct time is a row.",
    )
    expiry: Annotated[Seconds, Field(gt=0)] = Field(
        86400.0, description="An entity or counter not seen for longer begins afresh; its step is kept."
    )
    silence_steps: int = Field(
        5, ge=1, le=1000, description="So many steps without a sample are `missing` rows; then the entity is `stale`."
    )
    max_pending: int = Field(
        1_000_000, ge=1, description="Samples that may wait for their row, all told; more are dropped and counted."
    )
    hold: Annotated[Seconds, Field(ge=0)] = Field(
        30.0,
        description="For an entity that brings samples older than the watermark, a watermark counts so much later.",
    )


@dataclass(frozen=True, slots=True)
class SourceTime:
    """What may be said about the times of a source's samples.

    `lateness_seconds`: how long after newer samples an older one may still come; `max_skew_seconds`: how far ahead of
    the time of receipt a sample's time may be (None = any); `covers_seconds`: for how long from its time on a sample
    stands, which makes it so much younger beside a watermark.
    """

    lateness_seconds: float = 5.0
    max_skew_seconds: float | None = 60.0
    covers_seconds: float = 0.0


class Align:
    """Operator: `Columns.intakes` → `Columns.rows` (CONTRACTS §2; `docs/explanation/time.md`).

    Sources that `sources` does not name are treated as `default`. `counts` says what was not used and why.
    """

    name = "align"

    def __init__(
        self,
        registry: Registry,
        options: AlignOptions,
        sources: Mapping[str, SourceTime],
        default: SourceTime | None = None,
    ) -> None:
        self.registry, self.options = registry, options
        self._times, self._default = dict(sources), default or SourceTime()
        self._sources: dict[str, int] = {}
        self._lateness: NDArray[np.int64] = np.zeros(0, np.int64)
        step = {"auto": UNDECIDED, "none": IRREGULAR}.get(str(options.step))
        self._step = _nano(float(options.step)) if step is None else step
        self._entity = SlotTable(ENTITY, NEW_ENTITY | {"step": self._step})
        self._series = SlotTable(SERIES, NEW_SERIES)
        self._due: NDArray[np.int64] = np.full(64, FOREVER, np.int64)
        self._number = np.array(
            [0, 0, 0, 0, 0, NEVER, options.max_pending, options.silence_steps, _nano(options.expiry),
             _nano(options.hold)], np.int64
        )  # fmt: skip
        self._count: NDArray[np.int64] = np.zeros(len(REASONS), np.int64)
        self._told = self._count.copy()
        self._pool, self._buckets = new_pool(_NODES)
        self._scratch: NDArray[np.int64] = np.zeros(256, np.int64)
        self._row: NDArray[Any] = np.empty(_ROWS, ROW)
        self._cell_series: NDArray[np.int32] = np.empty(_CELLS, np.int32)
        self._cell_value: NDArray[np.float64] = np.empty(_CELLS, np.float64)
        self._shared: WeakKeyDictionary[Dictionary, NDArray[np.int32]] = WeakKeyDictionary()
        self._memo: dict[int, tuple[tuple[Series, ...], NDArray[np.int32]]] = {}
        self._exclusions = Exclusions(registry)

    @property
    def counts(self) -> dict[str, int]:
        """How many samples were not used, by reason, and how many counters fell (`counter_reset`)."""
        out = {name: int(n) for name, n in zip(REASONS, self._count, strict=True) if n}
        return out | ({"control_limit": self._exclusions.dropped} if self._exclusions.dropped else {})

    def process(self, columns: Columns) -> Columns:
        """Take intakes and controls; the rows they close, in the order in which they were decided."""
        for control in columns.controls:
            self._exclusions.add(control)
        for intake in columns.intakes:
            self._take(intake)
            self._tell(intake.source)
        return replace(columns, intakes=(), rows=self._rows())

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Nothing older than this will come; at the end of time all that is pending becomes rows."""
        if time_unix_nano >= FOREVER:
            self._sweep(FOREVER)
        elif time_unix_nano > self._number[WATERMARK]:
            self._number[WATERMARK] = time_unix_nano
            self._exclusions.forget_before(time_unix_nano)
            self._sweep(time_unix_nano)
        return Columns(rows=self._rows())

    def forget(self, entity: int, series: NDArray[np.int32]) -> None:
        """Give an entity and its series a fresh start; samples that wait are let go."""
        if entity < self._entity.used:
            slots = np.array([entity], np.int32)
            self._entity.touch(slots)
            release(self._tables(), entity)
            self._entity.reset(slots)
            self._due[entity] = FOREVER
        self._series.reset(series)

    def entity_last(self, entity: int) -> int | None:
        """Time of the entity's newest sample (Unix ns), None before the first."""
        return _known(self._entity, entity, "newest")

    def series_last(self, series: int) -> int | None:
        """Time of the series' newest sample (Unix ns), None before the first."""
        return _known(self._series, series, "max_time")

    def step_seconds(self, entity: int) -> float | None:
        """The entity's step; 0 = every distinct time is a row; None = not found yet."""
        step = int(self._entity.rows[entity]["step"]) if entity < self._entity.used else self._step
        return None if step == UNDECIDED else step / 1e9

    def entity_status(self, entity: int) -> str:
        """`warming` (no row yet), `live`, `missing` (the last window was empty) or `stale` (silent)."""
        if entity >= self._entity.used or not self._entity.rows[entity]["rows"]:
            return "warming"
        row = self._entity.rows[entity]
        return "stale" if row["stale"] else "missing" if row["missing"] else "live"

    def state(self) -> State:
        """All it remembers; pending samples as one array."""
        meta = {
            "watermark": int(self._number[WATERMARK]),
            "sources": list(self._sources),
            "counts": self._count.tolist(),
            "exclusions": self._exclusions.plain(),
        }
        tables = {"entity": self._entity, "series": self._series}
        return State(_VERSION, meta, {"pending": save(self._tables())}, tables)

    def load(self, state: State) -> None:
        """Take over what `state` gave; the registry comes first.

        Raises PermanentError if the state is of another version.
        """
        if state.version != _VERSION:
            raise PermanentError(f"state of alignment has version {state.version}, this program reads {_VERSION}")
        self._entity.load(state.arrays["entity"])
        self._series.load(state.arrays["series"])
        self._sources, self._lateness, self._memo = {}, np.zeros(0, np.int64), {}
        self._shared.clear()
        for source in state.meta["sources"]:
            self._source(source)
        self._number[: WATERMARK + 1] = [0, 0, 0, 0, 0, state.meta["watermark"]]
        self._count[:] = state.meta["counts"]
        self._told[:] = self._count
        self._exclusions.load(state.meta["exclusions"])
        pending = state.arrays["pending"].copy()
        self._pool, self._buckets = new_pool(_power(len(pending), _NODES))
        self._due = np.full(_power(self._entity.used, 64), FOREVER, np.int64)
        tables = self._tables()
        restore(tables, pending)
        kernel.set_due(tables)

    def _take(self, intake: Intake) -> None:
        samples = intake.samples
        slots = self._slots(samples)
        source = self._source(intake.source)
        self._ensure()
        if self._series.copying or self._entity.copying:
            used = np.unique(slots[samples.index])
            self._touch(np.unique(self.registry.series_entity[used[used >= 0]]), used[used >= 0])
        times = self._times.get(intake.source, self._default)
        skew, covers = times.max_skew_seconds, _nano(times.covers_seconds)
        limit = TIME_LIMIT if skew is None else min(intake.received_unix_nano + _nano(skew), TIME_LIMIT)
        index, time = _column(samples.index, np.int32), _column(samples.time_unix_nano, np.int64)
        value, event = _column(samples.value, np.float64), _column(samples.event_id, np.uint64)
        first, stopped, why = 0, -1, kernel.DONE
        while True:
            first, stopped, why = kernel.take(
                self._tables(), slots, index, time, value, event, source, limit, covers, first, stopped, why
            )
            if why == kernel.DONE:
                return
            if why == kernel.POOL:
                self._grow_pool()
            else:
                self._grow_buffers()

    def _sweep(self, watermark: int) -> None:
        """Close what a watermark decides for all entities."""
        used = self._entity.used
        if self._series.copying or self._entity.copying:
            self._touch(np.flatnonzero(self._due[:used] <= watermark), np.zeros(0, np.int32))
        first = kernel.advance(self._tables(), watermark, 0)
        while first < used:
            self._grow_buffers()
            first = kernel.advance(self._tables(), watermark, first)

    def _touch(self, entities: NDArray[Any], series: NDArray[np.int32]) -> None:
        self._entity.touch(entities)
        self._series.touch(series)
        self._series.touch(reach(self._tables(), entities))

    def _slots(self, samples: Samples) -> NDArray[np.int32]:
        """Slots of an intake's dictionary; decoders that hand out the same again spare looking it up."""
        series: Any = samples.series
        if isinstance(series, Dictionary):
            return self._shared_slots(series, samples.index)
        if not isinstance(series, tuple):
            return self._intern(series)
        memo = self._memo.get(id(series))
        if memo is None or memo[0] is not series:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            memo = self._memo[id(series)] = (series, self._intern(series))
        return memo[1]

    def _shared_slots(self, series: Dictionary, index: NDArray[np.int32]) -> NDArray[np.int32]:
        """Slots of those series that are used; -1 also for others that have not been."""
        slots = self._shared.get(series)
        if slots is None or len(slots) < len(series):
            slots = _grown(np.zeros(0, np.int32) if slots is None else slots, _power(2 * len(series), 64), -1)
            self._shared[series] = slots
        new = index[slots[index] < 0]
        if len(new):
            numbers = list(dict.fromkeys(new.tolist()))
            slots[numbers] = self._intern([series[number] for number in numbers])
        return slots

    def _intern(self, series: Any) -> NDArray[np.int32]:
        """Slots, -1 where there is no room or where a derived feature has the name."""
        slots = self.registry.intern_all(series)
        slots[(slots >= 0) & self.registry.derived[slots]] = -1
        return slots

    def _source(self, name: str) -> int:
        number = self._sources.get(name)
        if number is None:
            number = self._sources[name] = len(self._sources)
            lateness = _nano(self._times.get(name, self._default).lateness_seconds)
            self._lateness = np.append(self._lateness, np.int64(lateness))
        return number

    def _ensure(self) -> None:
        if len(self.registry):
            self._series.ensure(len(self.registry) - 1)
            self._entity.ensure(len(self.registry.entities) - 1)
            if self._entity.used > len(self._due):
                self._due = _grown(self._due, _power(self._entity.used, 64), FOREVER)

    def _tables(self) -> Tables:
        return Tables(
            self._entity.rows, self._series.rows, self._due[: self._entity.used], self._pool, self._buckets,
            self._number, self._count, self._lateness, self._row, self._cell_series, self._cell_value,
            self.registry.series_entity, self.registry.counter, self._scratch,
        )  # fmt: skip

    def _grow_pool(self) -> None:
        pending = save(self._tables())
        self._pool, self._buckets = new_pool(2 * len(self._pool))
        self._number[: UNDECIDED_USED + 1] = 0
        restore(self._tables(), pending)

    def _grow_buffers(self) -> None:
        self._row = _grown(self._row, 2 * len(self._row))
        self._cell_series = _grown(self._cell_series, 2 * len(self._cell_series))
        self._cell_value = _grown(self._cell_value, 2 * len(self._cell_value))

    def _rows(self) -> Rows:
        """The rows in the buffers, which are empty then."""
        n, m = int(self._number[ROWS]), int(self._number[CELLS])
        if not n:
            return Rows.empty()
        self._number[[ROWS, CELLS]] = 0
        row = self._row[:n]
        start = np.append(row["start"], m)
        entity, time = row["entity"].copy(), row["time"].copy()
        status, learn = self._exclusions.apply(entity, time, row["status"].copy())
        return Rows(
            entity, time, row["end"].copy(), learn, status, start, self._cell_series[:m].copy(),
            self._cell_value[:m].copy(),
        )  # fmt: skip

    def _tell(self, source: str) -> None:
        """Bring what a source's samples added to the counts to the metrics."""
        grown = self._count != self._told
        if not grown.any():
            return
        for place in np.flatnonzero(grown):
            if place != COUNTER_RESET:
                drop(source, REASONS[place], int(self._count[place] - self._told[place]))
        self._told[:] = self._count


def _column(values: NDArray[Any], kind: type[np.generic]) -> NDArray[Any]:
    """A column in the one shape that the kernel is compiled for: some decoders give arrays that are read-only."""
    out = np.ascontiguousarray(values, kind).view()
    out.flags.writeable = False
    return out


def _nano(seconds: float) -> int:
    return min(round(seconds * 1e9), TIME_LIMIT)


def _power(wanted: int, least: int) -> int:
    while least < wanted:
        least *= 2
    return least


def _grown(array: NDArray[Any], size: int, fill: int = 0) -> NDArray[Any]:
    out = np.full(size, fill, array.dtype) if array.dtype.names is None else np.empty(size, array.dtype)
    out[: len(array)] = array
    return out


def _known(table: SlotTable, slot: int, name: str) -> int | None:
    time = int(table.rows[slot][name]) if slot < table.used else NEVER
    return None if time == NEVER else time
