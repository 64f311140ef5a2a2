"""Calls between services, in columns, before any window sums them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALL = np.dtype(
    [
        ("time_unix_nano", "i8"),
        ("duration_seconds", "f8"),
        ("source", "i4"),
        ("target", "i4"),
        ("method", "i4"),
        ("endpoint", "i4"),
        ("status", "i2"),
    ]
)
"""A call: when it ended (Unix ns), how long it took (s, NaN = not known), who called whom and for what (each a place in
`Calls.names`), and the HTTP status of the answer, 0 where there was none: a timeout, a connection refused."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What decoding calls yields, without touching any slot.

    `rows CALL[n]` in the order they came in; `names` the texts that they point to, "" among them where a part is not
    known. Endpoints are as they were sent, not yet templated. `notes` and `dropped` are as in `Samples`.
    """

    names: Sequence[str]
    rows: NDArray[np.void]
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def time_unix_nano(self) -> NDArray[np.int64]:
        """When each call ended: int64[n], Unix ns."""
        times: NDArray[np.int64] = self.rows["time_unix_nano"]
        return times
