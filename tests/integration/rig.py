"""An engine in a folder, fed by hand: no HTTP, no sources, a clock that goes when it is told to."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copyfile
from typing import Any

import msgspec
import numpy as np

from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.adapters.sql import Store
from foreshock.config import Config, load
from foreshock.runtime.embedded import TASK, Embedded
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.rollups import Rollups
from foreshock.runtime.snapshot import SnapshotStore
from foreshock.runtime.views import Views
from foreshock.testing import FakeClock
from foreshock.types import Record

START = 1_700_000_000
STEP = 10
WAIT = 60.0
"""Seconds, by the real clock, that something that happens in another thread may take: it may compile kernels."""


def settings(folder: Path, **more: Any) -> Config:
    own = {
        "data_dir": str(folder),
        "sources": [{"type": "http", "name": "feed", "lateness": "0s"}],
        "stream": {"step": f"{STEP}s"},
        "http": {"enabled": False},
        "snapshot": {"every": 3600},
        "detectors": ["robust_z"],
    }
    return load([], preset="minimal", environ={}, overrides=own | more)


def eventually(holds: Callable[[], Any], what: str = "it did not come about") -> None:
    """Wait for another thread, no longer than it may take."""
    deadline = time.monotonic() + WAIT
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, what
        pause.wait(0.002)


def readings(step: int, entities: int = 3, faults: tuple[int, ...] = ()) -> list[Reading]:
    """One step: noise that is the same for the same step; `faults` are steps at which entity 1 jumps."""
    rng = np.random.default_rng(step)
    return [
        Reading(
            (START + STEP * step) * 10**9,
            {"host.name": f"h{e}"},
            [
                Metric("cpu", {}, "1", 20 + float(rng.normal()) + (60 if step in faults and e == 1 else 0)),
                Metric("memory", {}, "1", 50 + float(rng.normal())),
            ],
        )
        for e in range(entities)
    ]


def rows(
    step: int, entities: int = 3, faults: tuple[int, ...] = (), source: str = "feed", received: float = 0.0
) -> Record:
    """The record of one step, received at its time or when it is said."""
    at = int((received or START + STEP * step) * 1e9)
    return Record("default", source, METRICS, at, encode_metrics(readings(step, entities, faults)))


class Rig:
    """Log, store, snapshots and engine over one folder."""

    def __init__(self, config: Config, clock: FakeClock | None = None, busy_seconds: float = 0.05) -> None:
        self.config, self.clock = config, clock or FakeClock(START)
        self.folder = Path(config.data_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = Store(config.database_url, busy_timeout_seconds=busy_seconds)
        self.log = SegmentLog.open(self.folder / "log", self.store.committed(TASK))
        rollups = Rollups([one.name for one in config.detectors], 100)
        self.views = Views(max_series=100, points=10, rollups=rollups, keep_points=True)
        self.engine = Embedded(
            config, self.clock, self.log, self.store, SnapshotStore(self.folder / "snapshots"), self.views,
            tick_seconds=0,
        )  # fmt: skip

    def start(self) -> Rig:
        self.engine.start()
        assert self.engine.ready.wait(WAIT)
        return self

    def step(self, step: int, faults: tuple[int, ...] = (), entities: int = 3) -> None:
        """One step of data at its time, then the tick of that second."""
        self.clock.set(START + STEP * step)
        self.engine.submit(rows(step, entities, faults))
        self.engine.tick()

    def judged(self) -> None:
        """Wait until all that is in the log has been judged."""
        eventually(
            lambda: self.engine._position == self.log.end and not self.engine.inbox.records,
            f"the pipeline did not catch up: {self.engine.failed}",
        )

    def committed(self) -> None:
        """Wait until all that is in the log has been committed."""
        eventually(lambda: self.store.committed(TASK) == self.log.end, "the writer did not catch up")

    def alerts(self) -> list[bytes]:
        """The alert stream, as bytes."""
        return [msgspec.json.encode(alert.to_json(), order="sorted") for _, alert in self.store.events(0, 100_000)]

    def stop(self) -> None:
        self.engine.stop()
        self.close()

    def close(self) -> None:
        self.log.close()
        self.store.close()

    def copy(self, folder: Path) -> Path:
        """The folder as a kill at this moment would leave it.

        Snapshots first: each was written behind what the database holds of it, so none may be newer than the database.
        """
        folder.mkdir()
        self._copy(folder, "snapshots")
        source = sqlite3.connect(self.folder / "foreshock.db")
        target = sqlite3.connect(folder / "foreshock.db")
        source.backup(target)
        source.close()
        target.close()
        self._copy(folder, "log")
        return folder

    def _copy(self, folder: Path, name: str) -> None:
        (folder / name).mkdir()
        for path in sorted((self.folder / name).iterdir()):
            with suppress(FileNotFoundError):  # an old one may go meanwhile
                copyfile(path, folder / name / path.name)


@contextmanager
def running(config: Config, clock: FakeClock | None = None) -> Iterator[Rig]:
    """A started rig, stopped at the end."""
    rig = Rig(config, clock)
    try:
        yield rig.start()
    finally:
        rig.stop()
