"""Calls as tests write them, and what a fingerprint made of them, in plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foreshock.state import Registry
from foreshock.stream.align import SourceTime
from foreshock.stream.fingerprint import CallOptions, Fingerprint
from foreshock.types import CALL, Calls, Columns, Intake, Samples

S = 1_000_000_000
T0 = 1_700_000_000 * S
FOREVER = (1 << 63) - 1
Row = tuple[str, str, float, float]
"""Entity, feature, seconds after T0, value."""


@dataclass(frozen=True)
class Call:
    """A call that ended `at` seconds after T0."""

    at: float
    target: str = "payment"
    source: str = "checkout"
    endpoint: str = "/pay"
    status: int = 200
    seconds: float = 0.05
    method: str = "POST"
    nanos: int = 0
    """Of the time, beside `at`."""

    @property
    def time(self) -> int:
        return T0 + round(self.at * 1000) * 1_000_000 + self.nanos


def made(calls: Sequence[Call]) -> Calls:
    names: dict[str, int] = {"": 0}
    rows = np.zeros(len(calls), CALL)

    def place(text: str) -> int:
        return names.setdefault(text, len(names))

    for i, c in enumerate(calls):
        rows[i] = (
            c.time, c.seconds, place(c.source), place(c.target), place(c.method), place(c.endpoint), c.status,
        )  # fmt: skip
    return Calls(list(names), rows, {})


class Prints:
    """A fingerprint operator, fed with calls; `out` gathers what it gave."""

    def __init__(self, lateness: float = 0.0, skew: float | None = 60.0, **options: Any) -> None:
        self.times = {"s": SourceTime(lateness, skew), "slow": SourceTime(12.0, None)}
        self.options = CallOptions.model_validate(options)
        self.operator = self.fresh()
        self.out: list[Row] = []

    def fresh(self) -> Fingerprint:
        return Fingerprint(Registry(), self.options, self.times, "test", 30.0, SourceTime(0.0))

    def take(self, *calls: Call, source: str = "s", received: float = 1e6) -> list[Row]:
        if not calls:
            return []
        intake = Intake(source, T0 + round(received * S), Samples.empty(), made(calls))
        return self._rows(self.operator.process(Columns(intakes=(intake,))))

    def tick(self, seconds: float) -> list[Row]:
        return self._rows(self.operator.on_watermark(T0 + round(seconds * S)))

    def finish(self) -> list[Row]:
        return self._rows(self.operator.on_watermark(FOREVER))

    def restart(self) -> None:
        """Go on in a new operator, from the state."""
        saved = self.operator.state().frozen()
        self.operator = self.fresh()
        self.operator.load(saved)

    def of(self, entity: str, feature: str) -> dict[float, float]:
        """A feature's values by time."""
        return {at: value for e, f, at, value in self.out if (e, f) == (entity, feature)}

    def _rows(self, columns: Columns) -> list[Row]:
        rows = []
        for intake in columns.intakes:
            samples = intake.samples
            assert intake.calls is None
            assert intake.source == "fingerprints"
            for k in range(len(samples)):
                series = samples.series[samples.index[k]]
                entity = "→".join(value for _, value in series.entity)
                at = (int(samples.time_unix_nano[k]) - T0) / S
                rows.append((entity, series.feature, at, float(samples.value[k])))
        self.out += rows
        return rows
