"""What a config will cost, told before it runs: a small run of it is measured and scaled up."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time, sleep
from typing import Any

import psutil
from numpy.typing import NDArray

from foreshock.adapters.sql import Store
from foreshock.config import Config
from foreshock.errors import RetryableError
from foreshock.runtime.clock import SystemClock
from foreshock.runtime.embedded import Embedded
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.rings import OPINION, POINT
from foreshock.runtime.snapshot import SnapshotStore
from foreshock.runtime.task import Task
from foreshock.runtime.views import Views
from foreshock.runtime.warm import readings, warm
from foreshock.state import SlotTable
from foreshock.types import Record
from foreshock.types.record import WATERMARK

MOST_ENTITIES = 200
ROWS = 120
TICKS_SECONDS = 0.004
"""CPU a second that an idle process spends on ticks, commits and housekeeping (measured)."""

LOG_ENTRY_BYTES = 60
"""What the log adds to a payload."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`memory_bytes` of the whole process, `bytes_per_series` of that, `cpu_cores` used in the mean."""

    series: int
    memory_bytes: int
    bytes_per_series: float
    cpu_cores: float
    seconds_per_million: float
    log_bytes_per_day: float


def estimate(config: Config, entities: int, features: int, step_seconds: float) -> Estimate:
    """Memory, CPU and log of `entities` with `features` series each, a sample a series each `step_seconds`.

    One record is taken to bring one step of all entities that the small run has (200 at most). Views count as full, and
    what is imported when this is called counts as what the process will have imported.
    """
    warm(config)
    gc.collect()
    base = psutil.Process().memory_info().rss
    small = min(entities, MOST_ENTITIES)
    task, seconds, payload_bytes, objects = _small_run(config, small, features, step_seconds)
    samples = small * features * ROWS
    series, small_series = entities * features, small * features
    tables = _table_bytes(task, small, small_series, entities, series)
    opinions = OPINION.itemsize * len(config.detectors)
    views = min(series, Views().max_series) * Views().points * (POINT.itemsize + opinions)
    views += _rollup_bytes(config, entities, series)
    queue = config.limits.queue_bytes // 8
    memory = base + tables + views + int(objects / small_series * series) + queue
    per_million = seconds / samples * 1e6
    rate = series / step_seconds
    return Estimate(
        series,
        memory,
        (memory - base) / series,
        rate * per_million / 1e6 + TICKS_SECONDS,
        per_million,
        (payload_bytes / samples + LOG_ENTRY_BYTES / small_series) * rate * 86400,
    )


def _small_run(config: Config, entities: int, features: int, step_seconds: float) -> tuple[Task, float, int, int]:
    """The task after its rows, CPU seconds, bytes of payloads, and bytes of Python objects that stay."""
    records = list(readings(entities, features, ROWS, step_seconds))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    task = Task(config, bands=True)
    for record in records[: 2 * 10]:
        task.process(record)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    arrays = sum(_array_bytes(state.tables, state.arrays) for state in task.states().values())
    seconds = _cpu_seconds(config, records)
    for record in records[2 * 10 :]:
        task.process(record)
    payload = sum(len(record.payload) for record in records if record.content_type != WATERMARK)
    return task, seconds, payload, max(0, grown - arrays)


def _cpu_seconds(config: Config, records: list[Record]) -> float:
    """CPU of all threads of an engine that takes these records: decoding, log, judging, commits, views."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(f"sqlite:///{folder / 'plan.db'}")
        with SegmentLog.open(folder / "log") as log:
            engine = Embedded(config, SystemClock(), log, store, SnapshotStore(folder / "snapshots"), Views.of(config))
            engine.start()
            engine.ready.wait()
            started = process_time()
            for record in records:
                while True:
                    try:
                        engine.submit(record)
                        break
                    except RetryableError:
                        sleep(0.01)
            engine.stop()
            seconds = process_time() - started
        store.close()
    return seconds


def _rollup_bytes(config: Config, entities: int, series: int) -> int:
    rollups = Views.of(config).rollups
    most = config.store.series
    keys = _capacity(min(series, most)) + _capacity(min(entities, most))
    return 0 if rollups is None else keys * rollups.bytes_per_series


def _array_bytes(tables: dict[str, SlotTable], arrays: dict[str, NDArray[Any]]) -> int:
    return sum(table.rows.nbytes for table in tables.values()) + sum(array.nbytes for array in arrays.values())


def _table_bytes(task: Task, small: int, small_series: int, entities: int, series: int) -> int:
    """Bytes of all slot tables at full size: each is as long as the entities or the series it is keyed by."""
    total = 0
    for state in task.states().values():
        for table in state.tables.values():
            if not table.used:
                continue
            wanted = entities if table.used <= small < small_series else series
            total += _capacity(wanted) * table.dtype.itemsize
    return total


def _capacity(slots: int) -> int:
    capacity = 64
    while capacity < slots:
        capacity *= 2
    return capacity
