"""Operator: the declared features, computed row by row from the rows' own values and appended to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.errors import PermanentError
from foreshock.state import Registry, SlotTable, State
from foreshock.state.slots import BLOCK_BYTES
from foreshock.stream import feature_kernel as kernel
from foreshock.stream.feature_plan import CALENDAR, WINDOWED, Do, FeatureOptions, calendar_series, derived_series
from foreshock.telemetry import DROPPED
from foreshock.types import Columns, Rows, Series

__all__ = ["FeatureOptions", "Features"]

_VERSION = 1
_DO: dict[Do, int] = {
    "rate": kernel.RATE, "ratio": kernel.RATIO, "mean": kernel.MEAN, "std": kernel.STD, "min": kernel.MIN,
    "max": kernel.MAX, "quantile": kernel.QUANTILE, "lag": kernel.LAG, "slope": kernel.SLOPE, "share": kernel.SHARE,
}  # fmt: skip


class Features:
    """Operator: `Columns.rows` → the same rows with derived cells behind their own.

    Derived cells stand in the order of the cells they come from and, of one, in the order declared. They are part of a
    row where their cell is; NaN where there is nothing to go by and in rows that are not scored, which do not count.
    """

    name = "features"

    def __init__(self, registry: Registry, options: Sequence[FeatureOptions]) -> None:
        self.registry, self.options = registry, tuple(options)
        self.refused = 0
        self._entity = SlotTable(kernel.ENTITY, {"first_time": kernel.NEVER})
        self._series = SlotTable(kernel.SERIES, {"before_time": kernel.NEVER})
        self._ring = SlotTable(kernel.RING, capacity=4 * kernel.SMALLEST)
        self._free: NDArray[np.int64] = np.full(16, -1, np.int64)
        self._number: NDArray[np.int64] = np.zeros(2, np.int64)
        self._scratch: NDArray[np.float64] = np.zeros(kernel.LARGEST)
        self._planned = 0
        self._plan: NDArray[Any] = np.zeros(0, kernel.PLAN)
        self._program: NDArray[Any] = np.zeros(16, kernel.PROGRAM)
        self._programs = 0
        self._calendar: NDArray[np.int32] = np.zeros((0, 2), np.int32)
        self._current: NDArray[np.float64] = np.zeros(0)
        self._stamp: NDArray[np.int64] = np.zeros(0, np.int64)
        self._groups: dict[tuple[int, str], int] = {}
        self._total: NDArray[np.float64] = np.zeros(16)

    def process(self, columns: Columns) -> Columns:
        """Append derived cells; without declared features the columns as they are."""
        if not self.options or not len(columns.rows):
            return columns
        self._prepare()
        return replace(columns, rows=self._derive(columns.rows))

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Nothing: features follow rows."""
        return Columns()

    def forget(self, entity: int, series: NDArray[np.int32]) -> None:
        """Give an entity and its series a fresh start."""
        if not self.options:
            return
        self._prepare()
        self._touch(np.array([entity], np.int32), series)
        for slot in series:
            kernel.drop_ring(self._tables(), slot)
        self._entity.reset(np.array([entity], np.int32))
        self._series.reset(series)

    def state(self) -> State:
        """All it remembers; which features there are follows from the options and the registry."""
        return State(_VERSION, {}, {}, {"entity": self._entity, "series": self._series, "ring": self._ring})

    def load(self, state: State) -> None:
        """Take over what `state` gave; the registry comes first.

        Raises PermanentError if the state is of another version.
        """
        if state.version != _VERSION:
            raise PermanentError(f"state of features has version {state.version}, this program reads {_VERSION}")
        self._entity.load(state.arrays["entity"])
        self._series.load(state.arrays["series"])
        self._free[:] = -1
        self._number[kernel.TOP] = 0
        self._ring.load(np.zeros(0, kernel.RING))
        if self.options:
            self._prepare()
            self._ring.ensure(max(1, int(self._series.rows["capacity"][: self._series.used].sum())) - 1)
            kernel.repack(self._tables(), state.arrays["ring"].copy())

    def _derive(self, rows: Rows) -> Rows:
        cells = len(rows.series) + int(self._plan["programs"][rows.series].sum()) + 2 * len(rows)
        start = np.zeros(len(rows) + 1, np.int64)
        series, value = np.empty(cells, np.int32), np.empty(cells, np.float64)
        self._touch(rows.entity, rows.series)
        first = 0
        while True:
            first = kernel.derive(
                self._tables(), rows.entity, rows.time_unix_nano, rows.status, rows.start, rows.series, rows.value,
                start, series, value, first,
            )  # fmt: skip
            if first == len(rows):
                break
            top = int(self._number[kernel.TOP])
            self._ring.ensure(top + max(kernel.LARGEST, top // 4) - 1)
        used = int(start[-1])
        return replace(rows, start=start, series=series[:used].copy(), value=value[:used].copy())

    def _touch(self, entities: NDArray[np.int32], series: NDArray[np.int32]) -> None:
        """Say what will be written; the whole rings, since what grows is moved."""
        if not (self._entity.copying or self._series.copying or self._ring.copying):
            return
        self._entity.touch(entities)
        self._series.touch(series)
        rings = self._series.rows[series]
        stride = BLOCK_BYTES // kernel.RING.itemsize
        for shift in range(0, kernel.LARGEST, stride):
            self._ring.touch(rings["offset"] + np.minimum(shift, np.maximum(rings["capacity"] - 1, 0)))
        self._ring.touch(rings["offset"] + np.maximum(rings["capacity"] - 1, 0))

    def _tables(self) -> kernel.Tables:
        return kernel.Tables(
            self._entity.rows, self._series.rows[: self._series.used], self._ring.rows[: self._ring.used], self._free,
            self._plan, self._program, self._calendar, self._number, self._current, self._stamp, self._total,
            self._scratch,
        )  # fmt: skip

    def _prepare(self) -> None:
        """Plan the series that are new, and make room for them."""
        if self._planned < len(self.registry):
            while self._planned < len(self.registry):
                slot = self._planned
                self._planned += 1
                self._make_slots(len(self.registry))
                if not self.registry.derived[slot]:
                    self._plan_series(slot)
            self._make_slots(len(self.registry))

    def _make_slots(self, size: int) -> None:
        self._series.ensure(size - 1)
        self._entity.ensure(len(self.registry.entities) - 1)
        if size > len(self._plan):
            new = max(64, size, 2 * len(self._plan))
            plan = np.zeros(new, kernel.PLAN)
            plan["first"], plan["group"] = -1, -1
            plan[: len(self._plan)] = self._plan
            self._plan = plan
            self._current, self._stamp = np.resize(self._current, new), np.zeros(new, np.int64)
        entities = len(self.registry.entities)
        if entities > len(self._calendar):
            calendar = np.full((max(64, 2 * entities), 2), -1, np.int32)
            calendar[: len(self._calendar)] = self._calendar
            self._calendar = calendar

    def _plan_series(self, slot: int) -> None:
        base, entity = self.registry.series[slot], int(self.registry.series_entity[slot])
        for order, options in enumerate(self.options):
            if options.do in CALENDAR:
                place = CALENDAR.index(options.do)
                if self._calendar[entity, place] < 0:
                    self._calendar[entity, place] = self._intern(calendar_series(base, options))
            elif options.do == "ratio":
                self._plan_ratios(slot, order, options)
            elif options.matches(base):
                for k, over in enumerate(options.windows()):
                    self._add_program(slot, (order << 8) + k, options, over)
                if options.do == "share":
                    self._open_group(entity, base.name)
        self._plan["group"][slot] = self._groups.get((entity, base.name), -1)

    def _plan_ratios(self, slot: int, order: int, options: FeatureOptions) -> None:
        """The ratios of a new series with those before it, as numerator and as denominator."""
        new = self.registry.series[slot]
        for other in list(self.registry.columns[int(self.registry.series_entity[slot])]):
            if other < slot and not self.registry.derived[other]:
                old = self.registry.series[other]
                if options.divides(new, old):
                    self._add_program(slot, order << 8, options, 0.0, other)
                if options.divides(old, new):
                    self._add_program(other, order << 8, options, 0.0, slot)

    def _open_group(self, entity: int, name: str) -> None:
        """Sum over the series of a name, also over those that came before."""
        if (entity, name) not in self._groups:
            group = self._groups[entity, name] = len(self._groups)
            if group >= len(self._total):
                self._total = np.zeros(2 * len(self._total))
            for slot in self.registry.columns[entity]:
                if slot < self._planned and self.registry.series[slot].name == name:
                    self._plan["group"][slot] = group

    def _intern(self, series: Series) -> int:
        """The slot of a result; -1 where there is no room, or where a series from outside has its name."""
        slot = self.registry.intern(series, derived=True)
        if slot >= 0 and self.registry.derived[slot]:
            return slot
        self.refused += 1
        DROPPED.labels("feature_refused").inc()
        return -1

    def _add_program(self, slot: int, order: int, options: FeatureOptions, over: float, by: int = -1) -> None:
        """Add a program to a series, in the order declared; not where its result is already made or has no room."""
        out = self._intern(derived_series(self.registry.series[slot], options, over))
        before, after = -1, int(self._plan["first"][slot])
        while after >= 0 and self._program["order"][after] <= order:
            before, after = after, int(self._program["next"][after])
        if out < 0 or out in self._outs(slot):
            return
        if self._programs == len(self._program):
            self._program = np.concatenate([self._program, np.zeros_like(self._program)])
        seconds = options.lag if isinstance(options.lag, float) else 0.0
        rows = options.lag if isinstance(options.lag, int) else 0
        window, lag = round(over * 1e9), round(seconds * 1e9)
        self._program[self._programs] = (
            window, lag, rows, options.q, _DO[options.do], out, by, not options.sliding, after, order,
        )  # fmt: skip
        if before < 0:
            self._plan["first"][slot] = self._programs
        else:
            self._program["next"][before] = self._programs
        self._programs += 1
        plan = self._plan[slot : slot + 1]
        plan["programs"] += 1
        if options.do in WINDOWED or options.do == "lag":
            is_lag = options.do == "lag"
            keep = 2 * lag if is_lag else window if options.sliding else 2 * window
            plan["ring"] = 1
            plan["keep"] = max(int(plan["keep"][0]), keep)
            plan["keep_rows"] = max(int(plan["keep_rows"][0]), rows if is_lag else 0)

    def _outs(self, slot: int) -> set[int]:
        """The results that a series already has."""
        out: set[int] = set()
        p = int(self._plan["first"][slot])
        while p >= 0:
            out.add(int(self._program["out"][p]))
            p = int(self._program["next"][p])
        return out
