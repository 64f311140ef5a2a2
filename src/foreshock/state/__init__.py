"""Where state lives: slot tables, the registry of names, and their bytes. No I/O."""

from foreshock.state.registry import Registry
from foreshock.state.slots import SlotTable
from foreshock.state.state import CHUNK_BYTES, State, chunks, pack, unpack

__all__ = ["CHUNK_BYTES", "Registry", "SlotTable", "State", "chunks", "pack", "unpack"]
