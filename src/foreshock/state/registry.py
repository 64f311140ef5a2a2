"""Which slot belongs to which series and entity."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.state.state import State
from foreshock.types import Kind, Labels, Series

_CHUNK = 1 << 20


class Registry:
    """Slots of series and entities of one task, bounded; columns of an entity are append-only.

    `series_entity int32[capacity]` and `series_column int16[capacity]` are indexed by series slot;
    `entity_width int16[capacity]` by entity slot. Slots are process-local: durable names are the canonical texts.
    """

    def __init__(self, max_series: int = 1_000_000) -> None:
        self.max_series = max_series
        self.series: list[Series] = []
        self.entities: list[Labels] = []
        self.columns: list[list[int]] = []
        self.series_entity: NDArray[np.int32] = np.zeros(64, np.int32)
        self.series_column: NDArray[np.int16] = np.zeros(64, np.int16)
        self.counter: NDArray[np.bool_] = np.zeros(64, np.bool_)
        self.derived: NDArray[np.bool_] = np.zeros(64, np.bool_)
        self._slot: dict[Series, int] = {}
        self._entity_slot: dict[Labels, int] = {}
        self._sealed: list[bytes] = []
        self._open = bytearray()
        self._encode = msgspec.json.Encoder().encode

    def __len__(self) -> int:
        return len(self.series)

    def find(self, series: Series) -> int:
        """The slot of a known series, else -1."""
        return self._slot.get(series, -1)

    def entity_slot(self, entity: Labels) -> int:
        """The slot of a known entity, else -1."""
        return self._entity_slot.get(entity, -1)

    def intern(self, series: Series, derived: bool = False) -> int:
        """The slot of a series, a new one if it is new; -1 if there is no room.

        `derived` marks features computed from others: they follow their entity's rows, not samples.
        """
        slot = self._slot.get(series)
        if slot is None:
            if len(self.series) >= self.max_series:
                return -1
            slot = self._add(series, derived)
            entry = [series.name, series.entity, series.attributes, series.unit, str(series.kind), derived]
            self._open += self._encode(entry) + b"\n"
            if len(self._open) > _CHUNK:
                self._sealed.append(bytes(self._open))
                self._open.clear()
        return slot

    def intern_all(self, series: Iterable[Series]) -> NDArray[np.int32]:
        """Slots of many series, -1 where there is no room: int32[n]."""
        series = list(series)
        known = list(map(self._slot.get, series))
        if None in known:
            known = [self.intern(one) for one in series]
        return np.array(known, np.int32)

    def _add(self, series: Series, derived: bool) -> int:
        slot = len(self.series)
        self.series.append(series)
        self._slot[series] = slot
        entity = self._entity_slot.get(series.entity)
        if entity is None:
            entity = self._entity_slot[series.entity] = len(self.entities)
            self.entities.append(series.entity)
            self.columns.append([])
        if slot >= len(self.series_entity):
            for name in ("series_entity", "series_column", "counter", "derived"):
                old = getattr(self, name)
                grown = np.zeros(2 * len(old), old.dtype)
                grown[: len(old)] = old
                setattr(self, name, grown)
        self.series_entity[slot] = entity
        self.series_column[slot] = len(self.columns[entity])
        self.counter[slot] = series.kind is Kind.COUNTER
        self.derived[slot] = derived
        self.columns[entity].append(slot)
        return slot

    def state(self) -> State:
        """All names, in slot order."""
        return State(1, {}, {}, {}, {"names": [*self._sealed, bytes(self._open)]})

    def load(self, state: State) -> None:
        """Take over the names of a saved registry, into an empty one; slots are the same."""
        chunks = list(map(bytes, state.blobs["names"]))
        with _uncollected():
            for chunk in chunks:
                for name, entity, attributes, unit, kind, derived in _ENTRIES.decode_lines(chunk):
                    self._add(Series(name, entity, attributes, unit, kind), derived)
        self._sealed, self._open = chunks[:-1], bytearray(b"".join(chunks[-1:]))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through all names again and again while they become more."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


_ENTRIES = msgspec.json.Decoder(tuple[str, Labels, Labels, str, Kind, bool])
