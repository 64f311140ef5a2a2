"""Columnar samples, before and after their series are known to a task; what a record may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foreshock.types.calls import Calls
from foreshock.types.series import Series


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of known series, in the order they came in.

    `series int32[n]` process-local slot, `time_unix_nano int64[n]`, `value float64[n]` (NaN = missing),
    `event_id uint64[n]` hash of the sender's event id, 0 = none.
    """

    series: NDArray[np.int32]
    time_unix_nano: NDArray[np.int64]
    value: NDArray[np.float64]
    event_id: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.series)


class Dictionary(list[Series]):
    """Series that samples of many payloads point into, those of other payloads among them; it only grows.

    Whoever has looked one of its series up may remember the answer under its number.
    """

    __slots__ = ("__weakref__",)

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True, slots=True)
class Samples:
    """What decoding a payload yields, without touching any slot: samples over a local dictionary of series.

    `index int32[n]` points into `series`, which are all used unless it is a `Dictionary`; the rest is as in `Batch`.
    `notes` says what the decoder guessed (`time=ts (unit ms)`), `dropped` counts rows it refused, by reason.
    """

    series: Sequence[Series]
    index: NDArray[np.int32]
    time_unix_nano: NDArray[np.int64]
    value: NDArray[np.float64]
    event_id: NDArray[np.uint64]
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    @staticmethod
    def empty() -> Samples:
        """No samples."""
        return Samples(
            (), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float64), np.zeros(0, np.uint64), {}
        )


Decoded = Samples | Calls
"""What a record of telemetry holds: both count their entries, have `time_unix_nano`, `dropped` and `notes`."""
