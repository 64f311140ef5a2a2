"""Intervals of maintenance and deploys, laid over rows."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.state import Registry
from foreshock.types import Control, ControlKind, Status

MAX_INTERVALS = 1000
_DAY = 86_400_000_000_000


class Exclusions:
    """The intervals in force, bounded: of too many, the one that ends first goes and is counted in `dropped`."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.dropped = 0
        self._controls: dict[str, Control] = {}

    def add(self, control: Control) -> None:
        """Take a control record of kind maintenance or deploy; the same id again replaces it."""
        if control.kind not in (ControlKind.MAINTENANCE, ControlKind.DEPLOY):
            return
        self._controls[control.id] = control
        if len(self._controls) > MAX_INTERVALS:
            del self._controls[
                min(self._controls.values(), key=lambda c: (not c.until_unix_nano, c.until_unix_nano)).id
            ]
            self.dropped += 1

    def forget_before(self, watermark: int) -> None:
        """Drop intervals that ended more than a day before the watermark."""
        for control in list(self._controls.values()):
            if control.until_unix_nano and control.until_unix_nano < watermark - _DAY:
                del self._controls[control.id]

    def apply(
        self, entity: NDArray[np.int32], time: NDArray[np.int64], status: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Status and learn of rows: scored rows become EXCLUDED in maintenance; no row of either is learnt.

        Rows that say that something is missing go on saying so.
        """
        learn = np.ones(len(entity), np.bool_)
        for control in self._controls.values():
            inside = time >= control.effective_unix_nano
            if control.until_unix_nano:
                inside &= time < control.until_unix_nano
            if inside.any():
                inside &= self._matching(control, entity, inside)
                learn &= ~inside
                if control.kind is ControlKind.MAINTENANCE:
                    status[inside & (status == Status.SCORED)] = Status.EXCLUDED
        return status, learn

    def _matching(self, control: Control, entity: NDArray[np.int32], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if not control.matchers:
            return inside
        slots = np.unique(entity[inside])
        matching = [slot for slot in slots if control.matches(dict(self.registry.entities[slot]))]
        return np.isin(entity, np.array(matching, np.int32))

    def plain(self) -> Any:
        """As plain data."""
        return {"dropped": self.dropped, "controls": [msgspec.to_builtins(c) for c in self._controls.values()]}

    def load(self, plain: Any) -> None:
        """Take over what `plain` gave."""
        self.dropped = plain["dropped"]
        self._controls = {c.id: c for c in (msgspec.convert(one, Control) for one in plain["controls"])}
