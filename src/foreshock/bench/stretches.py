"""Labelled telemetry from a folder, and which of its time is quiet.

The layout: `DIR/<set>/…/<series>.parquet` with `t` (s), `value` or `m0`, `m1`, …, `label` (0 or 1) and, where a set
has a part to learn from, `split` (1 = to be judged). Other files are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from foreshock.bench.streams import DAY, HOUR, SECOND, Entity, Episode
from foreshock.errors import ConfigError

AFTER_HOURS, AFTER_ROWS = 6, 10
"""What follows an incident for so long is not quiet: the time in which a bar measures by the incident's peak."""
NEAR_SECONDS, NEAR_ROWS = 600, 2
"""An alert so near to an incident belongs to it, as in the scorer of online alarms."""
WARM_UP_SHARE, WARM_UP_ROWS = 0.15, 750
"""Without a `split`, so much at the start is not judged: the lesser of both."""
MOST_STEPS = 10
"""A gap of more steps than this is no time in which an entity was watched."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """An entity with its truth: `label bool[n]` in an incident, `judged bool[n]` counts."""

    set: str
    entity: Entity
    label: NDArray[np.bool_]
    judged: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Clock:
    """The quiet time of an entity, laid end to end: spans [first, last) of its own time (ns), int64[k]."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @property
    def length(self) -> int:
        """Quiet time in all, ns."""
        return int((self.last - self.first).sum())

    def place(self, time: int) -> int:
        """How much quiet time lies before a time (ns); -1 where that time is not quiet."""
        at = int(np.searchsorted(self.first, time, side="right")) - 1
        if at < 0 or time >= self.last[at]:
            return -1
        return int((self.last[:at] - self.first[:at]).sum()) + time - int(self.first[at])


def files(folder: Path) -> list[tuple[str, Path]]:
    """The labelled series of a folder: (set, file), in order.

    Raises ConfigError where there is none.
    """
    found = []
    for path in sorted(folder.rglob("*.parquet")):
        names = pq.read_schema(path).names
        if {"t", "label"} <= set(names) and _columns(names):
            found.append((path.relative_to(folder).parts[0], path))
    if not found:
        raise ConfigError(f"{folder} holds no labelled series: a Parquet file with t, label and value or m0, m1, …")
    return found


def read(name: str, path: Path) -> Labelled:
    """One labelled series or machine; rows in order of time, the first of those that share one."""
    table = pq.read_table(path)
    seconds = table["t"].cast(pa.float64()).to_numpy()
    _, order = np.unique(seconds, return_index=True)
    time = np.round(seconds[order] * 1e9).astype(np.int64)
    values = np.stack([_numbers(table[column]) for column in _columns(table.column_names)], axis=1)[order]
    label = _numbers(table["label"])[order] > 0
    if "split" in table.column_names:
        judged = _numbers(table["split"])[order] == 1
    else:
        judged = np.arange(len(time)) >= min(int(WARM_UP_SHARE * len(time)), WARM_UP_ROWS)
    # Whole days: the time of day and the week's rhythm stay as they are.
    time += -(time[0] // DAY) * DAY + START
    return Labelled(name, Entity(f"{name}-{path.stem}", time, values, step_of(time)), label, judged)


START = 19_676 * DAY
"""The first day of every series."""


def step_of(time: NDArray[np.int64]) -> int:
    """The usual time between rows, ns."""
    return int(np.median(np.diff(time))) if len(time) > 1 else 60 * SECOND


def incidents(one: Labelled) -> list[tuple[int, int]]:
    """The labelled runs that begin in what is judged: [start, end) in Unix ns."""
    edges = np.flatnonzero(np.diff(one.label.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    time, step = one.entity.time, one.entity.step
    return [(int(time[a]), int(time[b - 1]) + step) for a, b in edges.tolist() if one.judged[a]]


def quiet_clock(one: Labelled) -> Clock:
    """The judged time outside of incidents and of what follows them, without gaps."""
    time, step = one.entity.time, one.entity.step
    quiet = one.judged & ~one.label
    edges = np.flatnonzero(np.diff(one.label.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    near, after = _near(step), max(AFTER_HOURS * HOUR, AFTER_ROWS * step)
    for a, b in edges.tolist():
        quiet[(time >= time[a] - near) & (time <= time[b - 1] + after)] = False
    rows = np.flatnonzero(quiet)
    if not len(rows):
        return Clock(np.zeros(0, np.int64), np.zeros(0, np.int64))
    cut = np.flatnonzero((np.diff(rows) > 1) | (np.diff(time[rows]) > MOST_STEPS * step))
    first, last = rows[np.append(0, cut + 1)], rows[np.append(cut, len(rows) - 1)]
    return Clock(time[first], time[last] + step)


def belongs(episode: Episode, incident: tuple[int, int], step: int) -> bool:
    """Whether an alert was open during an incident, or so near that it counts as about it."""
    near = _near(step)
    return episode.starts < incident[1] + near and max(episode.ends, episode.starts + 1) > incident[0] - near


def _near(step: int) -> int:
    return max(NEAR_SECONDS * SECOND, NEAR_ROWS * step)


def _columns(names: Sequence[str]) -> list[str]:
    return [name for name in names if name == "value" or re.fullmatch(r"m\d+", name)]


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


__all__ = ["START", "Clock", "Labelled", "belongs", "files", "incidents", "quiet_clock", "read", "step_of"]
