"""Slot tables of this stage."""

from __future__ import annotations

from foreshock.state import SlotTable


class Table(SlotTable):
    """A slot table that says whether it is being copied: working out what will be written is spared otherwise."""

    @property
    def copying(self) -> bool:
        """Whether a copy is under way."""
        return self._copy is not None
