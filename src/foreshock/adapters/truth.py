"""What was wrong when, of recorded data: from intervals to records of labels.

Labels reach the pipeline as control records (`types.Control`), as an operator's own would; no detector sees them. Of
data that is labelled at all everything else counts as well: one label says so of all time, and an interval in which
something was wrong goes before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.ports import RecordReader
from foreshock.types import Control, ControlKind, Labels, Record, digest, label_text
from foreshock.types.record import CONTROL


class Interval(NamedTuple):
    """Something was wrong with all that carries `matchers` in event time [since, until)."""

    matchers: Labels
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """A reader whose records come behind those of its labels; the position is that of the reader."""

    reader: RecordReader
    intervals: Sequence[Interval]
    environment: str = "default"

    def read(self, position: int) -> Iterator[tuple[int, Record]]:
        """As the reader's; from the beginning on the labels come first, which take no position."""
        if position == 0:
            for record in label_records(self.intervals, self.environment):
                yield 0, record
        yield from self.reader.read(position)


def label_records(intervals: Iterable[Interval], environment: str = "default") -> Iterator[Record]:
    """Control records that say of all time that all was well, and of these intervals that something was wrong."""
    yield _record(Control(ControlKind.LABEL, "truth", 0, label="false"), environment)
    for one in intervals:
        name = digest(label_text(one.matchers), str(one.since), str(one.until))
        yield _record(
            Control(ControlKind.LABEL, name, one.since, one.until, dict(one.matchers), label="true"), environment
        )


def runs(times: NDArray[np.int64], wrong: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches [first, just behind the last) of times that are marked, in order; of equal times one mark is enough.

    >>> runs(np.array([3, 1, 2, 5, 5]), np.array([True, False, True, False, True]))
    [(2, 6)]
    """
    unique, at = np.unique(times, return_inverse=True)
    marked = np.zeros(len(unique), np.int8)
    np.maximum.at(marked, at, wrong)
    edges = np.flatnonzero(np.diff(marked, prepend=0, append=0)).reshape(-1, 2)
    return [(int(unique[low]), int(unique[high - 1]) + 1) for low, high in edges.tolist()]


def _record(control: Control, environment: str) -> Record:
    return Record(environment, "labels", CONTROL, 0, msgspec.json.encode(control))
