"""Where state lives: slot tables, the registry of names, and their bytes. No I/O."""

from foreshock.state.registry import Registry
from foreshock.state.slots import SlotTable
from foreshock.state.state import State, pack, unpack

__all__ = ["Registry", "SlotTable", "State", "pack", "unpack"]
