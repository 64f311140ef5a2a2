"""State in arrays indexed by slot, copied for snapshots block by block while work goes on."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.errors import PermanentError

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
        self.rows: NDArray[Any] = self._room(capacity, np.empty(0, dtype))
        self._per_block = max(1, BLOCK_BYTES // dtype.itemsize)
        self._copy: NDArray[Any] | None = None
        self._pending: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._next = 0
        self._spare: NDArray[Any] | None = None

    def ensure(self, highest: int) -> None:
        """Make slots up to and including `highest` usable."""
        if highest >= len(self.rows):
            self.rows = self._room(self._capacity(highest + 1), self.rows[: self.used])
        self.used = max(self.used, highest + 1)

    def _capacity(self, count: int) -> int:
        """Room for so many slots, the present one or doubled until it does."""
        capacity = len(self.rows)
        while capacity < count:
            capacity *= 2
        return capacity

    def _room(self, capacity: int, rows: NDArray[Any]) -> NDArray[Any]:
        """So many rows, the first of which are these; the others are initial.

        Where that is all zeros their memory is not touched: a fresh page costs more than what is written to it.
        """
        out = np.zeros(capacity, self.dtype)
        # As bytes: numpy would set a row field by field.
        flat = out.view(np.uint8).reshape(capacity, self.dtype.itemsize)
        flat[: len(rows)] = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), self.dtype.itemsize)
        initial = np.frombuffer(self._initial.tobytes(), np.uint8)
        if initial.any():
            flat[len(rows) :] = initial
        return out

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
        """Take over rows that `copy` made, with no room for more: fresh memory faults, page by page.

        Raises PermanentError if they are laid out otherwise.
        """
        if rows.dtype != self.dtype:
            raise PermanentError("rows of state are of another version")
        self.rows = self._room(max(len(rows), 1), rows)
        self.used = len(rows)
