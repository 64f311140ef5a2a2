"""When snapshots are taken, and their copying in slices between records."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Protocol

from foreshock.config import Config, Snapshot
from foreshock.runtime.snapshot import SnapshotJob
from foreshock.runtime.writer import SnapshotWrite
from foreshock.state import State
from foreshock.telemetry import SNAPSHOT_STALL

SLICE_SECONDS = 0.002
"""How long copying may hold the pipeline at a time."""


class Copied(Protocol):
    """What is copied: a task, or what stands around one."""

    config: Config
    watermark: int
    sources: dict[str, int]

    def states(self) -> dict[str, State]:
        """State of every part, tables live."""
        ...


class Copier:
    """Copies the state of a task as it is at `begin`, a slice at each `advance`, while the task goes on.

    Snapshots come at most every `every` seconds and so rarely that copying takes no more than its `share` of the time.
    """

    def __init__(self, settings: Snapshot) -> None:
        self._settings = settings
        self._job: SnapshotJob | None = None
        self._position = self._watermark = 0
        self._config = b""
        self._sources: dict[str, int] = {}
        self._seconds = 0.0
        self._next = 0.0

    @property
    def busy(self) -> bool:
        """Whether a copy is under way."""
        return self._job is not None

    def due(self, now: float) -> bool:
        """Whether it is time for the next (`now` as of `perf_counter`)."""
        return self._job is None and now >= self._next

    def put_off(self, now: float) -> None:
        """Let the next be due as if one had just been taken."""
        self._next = now + self._settings.every

    def begin(self, task: Copied, position: int, beside: Mapping[str, State] | None = None) -> None:
        """Fix the moment: the state after all records below `position`, and what else is made of their outputs."""
        started = perf_counter()
        self._job = SnapshotJob(task.states() | dict(beside or {}))
        self._position, self._watermark = position, task.watermark
        self._config, self._sources = task.config.resolved(), dict(task.sources)
        self._seconds = perf_counter() - started
        SNAPSHOT_STALL.observe(self._seconds)

    def advance(self) -> SnapshotWrite | None:
        """Copy a slice; what is to be written once all is copied. Only while `busy`."""
        assert self._job is not None, "begin comes first"
        started = perf_counter()
        done = self._job.advance(SLICE_SECONDS)
        spent = perf_counter() - started
        SNAPSHOT_STALL.observe(spent)
        self._seconds += spent
        if not done:
            return None
        job, self._job = self._job, None
        self._next = perf_counter() + max(self._settings.every, self._seconds / self._settings.share)
        return SnapshotWrite(self._position, job, self._config, self._watermark, self._sources, self._seconds)
