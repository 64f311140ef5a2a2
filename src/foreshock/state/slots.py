"""State in arrays indexed by slot, copied for snapshots block by block while work goes on."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 64 * 1024


class SlotTable:
    """One contiguous row of state a slot (structured dtype), capacity doubling.

    Kernels work on `rows` directly. Before they write, the owner calls `touch(slots)`: while a copy is under way,
    blocks about to be written are copied first, so that the copy is the state at `begin_copy`.

    >>> table = SlotTable(np.dtype([("mean", "f8")]), {"mean": 1.0})
    >>> table.ensure(3); float(table.rows[3]["mean"])
    1.0
    """

    def __init__(self, dtype: np.dtype[Any], initial: dict[str, Any] | None = None, capacity: int = 64) -> None:
        self.dtype = dtype
        self._initial = np.zeros((), dtype)
        for name, value in (initial or {}).items():
            self._initial[name] = value
        self.used = 0
        self.rows: NDArray[Any] = np.empty(capacity, dtype)
        self.rows[:] = self._initial
        self._per_block = max(1, BLOCK_BYTES // dtype.itemsize)
        self._copy: NDArray[Any] | None = None
        self._pending: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._next = 0
        self._spare: NDArray[Any] | None = None

    def ensure(self, highest: int) -> None:
        """Make slots up to and including `highest` usable."""
        if highest >= len(self.rows):
            capacity = len(self.rows)
            while capacity <= highest:
                capacity *= 2
            rows = np.empty(capacity, self.dtype)
            rows[: self.used] = self.rows[: self.used]
            rows[self.used :] = self._initial
            self.rows = rows
        self.used = max(self.used, highest + 1)

    @property
    def copying(self) -> bool:
        """Whether a copy is under way; else working out what will be written can be spared."""
        return self._copy is not None

    def touch(self, slots: NDArray[Any]) -> None:
        """Say that rows of these slots are about to be written."""
        if self._copy is None or not len(slots):
            return
        blocks = np.unique(slots // self._per_block)
        blocks = blocks[blocks < len(self._pending)]
        for block in blocks[self._pending[blocks]]:
            self._copy_block(int(block))

    def reset(self, slots: NDArray[Any]) -> None:
        """Give slots the initial state again."""
        slots = slots[slots < self.used]
        self.touch(slots)
        self.rows[slots] = self._initial

    def begin_copy(self) -> None:
        """Fix the moment of the copy; nothing is copied yet."""
        spare, self._spare = self._spare, None
        fits = spare is not None and self.used <= len(spare) <= 4 * self.used
        self._copy = spare[: self.used] if spare is not None and fits else np.empty(self.used, self.dtype)
        self._pending = np.ones(-(-self.used // self._per_block) if self.used else 0, np.bool_)
        self._next = 0

    def copy_some(self, deadline: float) -> NDArray[Any] | None:
        """Copy blocks until `deadline` (`time.perf_counter` seconds); the copy once it is whole."""
        assert self._copy is not None, "begin_copy comes first"
        while self._next < len(self._pending):
            if self._pending[self._next]:
                if time.perf_counter() > deadline:
                    return None
                self._copy_block(self._next)
            self._next += 1
        copy, self._copy, self._pending = self._copy, None, np.zeros(0, np.bool_)
        return copy

    def give_back(self, copy: NDArray[Any]) -> None:
        """Let the next copy use the memory of one that is no longer needed: fresh memory faults, page by page."""
        self._spare = copy if copy.base is None else copy.base

    def _copy_block(self, block: int) -> None:
        assert self._copy is not None
        part = slice(block * self._per_block, min((block + 1) * self._per_block, len(self._copy)))
        self._copy[part] = self.rows[part]
        self._pending[block] = False

    def copy(self) -> NDArray[Any]:
        """A whole copy at once."""
        return self.rows[: self.used].copy()

    def load(self, rows: NDArray[Any]) -> None:
        """Take over rows that `copy` made."""
        self.used = 0
        if len(rows):
            self.ensure(len(rows) - 1)
        self.rows[: len(rows)] = rows
