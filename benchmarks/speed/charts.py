"""What charts over long times cost: keeping series, and asking for a month of one through HTTP."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from time import process_time, sleep, thread_time
from typing import Any

import httpx
import numpy as np

from foreshock.adapters.sql import Store
from foreshock.app import App
from foreshock.config import Config, load
from foreshock.errors import RetryableError
from foreshock.runtime.clock import SystemClock
from foreshock.runtime.embedded import Embedded
from foreshock.runtime.keeper import Keeper, packed
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.rings import POINT
from foreshock.runtime.rollups import Rollups
from foreshock.runtime.snapshot import SnapshotStore
from foreshock.runtime.stretch import of_points
from foreshock.runtime.views import Views
from foreshock.runtime.warm import readings, warm
from foreshock.state import Registry
from foreshock.types import Record, Rows, Series, Verdict, labels

IDS = (
    "charts.query.30_days",
    "charts.query.7_days",
    "charts.query.points_100k",
    "charts.keep.pipeline",
    "charts.keep.writer",
    "charts.keep.process",
    "charts.bytes.minutes",
    "charts.bytes.ten_minutes",
    "charts.bytes.points",
)
SECOND, DAY = 1_000_000_000, 86_400
NAMES = ("deviation", "linear")
SERIES = 40
"""Of which a month is kept; one of them is asked for."""
ENTITIES, FEATURES, ROWS, RUNS = 50, 20, 490, 3


def points_of(n: int, end: int, step: float, seed: int) -> Any:
    """Points `POINT[n]` of a day that comes again, with noise and a band, up to `end` (Unix seconds)."""
    rng = np.random.default_rng(seed)
    out = np.zeros(n, POINT)
    at = end - step * np.arange(n)[::-1]
    out["time_unix_nano"] = (at * SECOND).astype(np.int64)
    level = 100 * (2 + np.sin(2 * np.pi * at / DAY))
    out["value"], out["expected"] = level + 5 * rng.normal(size=n), level
    out["low"], out["high"] = level - 15 - rng.random(n), level + 15 + rng.random(n)
    out["strength"], out["p_value"] = rng.normal(-2, 0.5, n), rng.random(n)
    return out


def of_rows(key: int, points: Any) -> tuple[Rows, list[Verdict]]:
    """The points of a series as rows with one cell, and the verdicts of both detectors on them."""
    n = len(points)
    rows = Rows(
        np.zeros(n, np.int32), points["time_unix_nano"], points["time_unix_nano"], np.ones(n, np.bool_),
        points["status"],
        np.arange(n + 1, dtype=np.int64), np.full(n, key, np.int32), points["value"],
    )  # fmt: skip
    strength, nothing = points["strength"].astype(np.float64), np.full(n, np.nan)
    said = (points["status"], nothing, strength, strength > 0, nothing, nothing, nothing)
    single, whole = Verdict(NAMES[0], strength, *said), Verdict(NAMES[1], strength, *said, True)
    return rows, [single, whole] if key == 0 else [single]


def month(store: Store, end: int) -> None:
    """Keep a month of a value a minute of some series, and 100,000 points of the first."""
    registry = Registry()
    for k in range(SERIES):
        registry.intern(Series(f"metric_{k}", labels({"host.name": "a1"}), unit="1"))
    views = Views(1, 1, rollups=Rollups(NAMES))
    keeper = Keeper(views, store.stretches)
    for key in range(SERIES):
        rows, verdicts = of_rows(key, points_of(30 * DAY // 60, end, 60.0, key))
        assert views.rollups is not None
        views.rollups.take(rows, points_of(30 * DAY // 60, end, 60.0, key), verdicts)
        keeper.put(keeper.full(registry))
    points = points_of(100_000, end, 1.0, 99)
    first = registry.series[0]
    store.stretches.put([packed(first, of_points(points[at : at + 240], {})) for at in range(0, len(points), 240)])


def queries() -> list[dict[str, Any]]:
    end = int(time.time())
    with tempfile.TemporaryDirectory() as name:
        config = load([], preset="minimal", environ={}, overrides={
            "data_dir": name, "sources": [{"type": "http"}], "http": {"listen": "127.0.0.1:0"},
            "store": {"points": "2d"},
        })  # fmt: skip
        store = Store(config.database_url)
        month(store, end)
        store.stretches.expire({60: (end - 3 * DAY) * SECOND})
        store.close()
        app = App(config)
        app.start()
        try:
            assert app.server is not None
            with httpx.Client(base_url=f"http://127.0.0.1:{app.server.port}", timeout=10, trust_env=False) as client:
                return [
                    asked(client, "30_days", end - 30 * DAY, end, 2000),
                    asked(client, "7_days", end - 7 * DAY, end, 2000),
                    asked(client, "points_100k", end - 100_000, end, 100_000),
                ]
        finally:
            app.stop()


def asked(client: httpx.Client, name: str, since: int, until: int, most: int) -> dict[str, Any]:
    """The median time of an answer, without an ETag that spares it."""
    query: dict[str, str | int] = {
        "entity": "host.name=a1",
        "feature": "metric_0",
        "since": since,
        "until": until,
        "most": most,
    }
    times, size, count = [], 0, 0
    for _ in range(15):
        started = time.perf_counter()
        answer = client.get("/api/v1/series/points", params=query)
        times.append(time.perf_counter() - started)
        assert answer.status_code == 200, answer.text
        size, count = len(answer.content), len(answer.json()["points"]["value"])
    assert count > 0.4 * most, count
    reach = f"of 15 the least {min(times) * 1e3:.0f}, the most {max(times) * 1e3:.0f}"
    note = f"{count:,} points, {size / 1e3:,.0f} kB through HTTP; {reach}"
    return {"id": f"charts.query.{name}", "value": median(times) * 1e3, "unit": "ms", "note": note}


def pipeline() -> dict[str, Any]:
    """CPU that keeping takes in the pipeline thread: the kernel, full chunks handed on now and then."""
    count = 4096
    registry = Registry()
    for k in range(count):
        registry.intern(Series(f"m{k % 32}", labels({"host.name": f"h{k // 32}"})))
    rollups = Rollups(NAMES)
    key = np.arange(count, dtype=np.int32)
    entity = np.arange(count // 32, dtype=np.int32)
    points, strength = points_of(count, 0, 0.0, 1), np.random.default_rng(0).normal(-2, 1, count)
    nothing, none = np.full(count, np.nan), np.zeros(count, np.bool_)
    verdict = Verdict(NAMES[0], strength, points["status"], nothing, strength, none, nothing, nothing, nothing)
    some = slice(count // 32)
    whole = Verdict(NAMES[1], strength[some], points["status"][some], nothing[some], strength[some], none[some],
                    nothing[some], nothing[some], nothing[some], True)  # fmt: skip
    times = []
    for step in range(1000):
        at = (1_700_000_000 + 10 * step) * SECOND
        points["time_unix_nano"] = at
        when = np.full(len(entity), at)
        rows = Rows(entity, when, when, np.ones(len(entity), np.bool_), np.zeros(len(entity), np.uint8),
                    np.arange(0, count + 1, 32), key, points["value"])  # fmt: skip
        started = thread_time()
        rollups.take(rows, points, [verdict, whole])
        times.append(thread_time() - started)
        rollups.full()
    return {"id": "charts.keep.pipeline", "value": sum(times[100:]) / 900 / count * 1e9, "unit": "ns/sample",
            "note": f"{count:,} series, a value each 10 s; longest step {max(times[100:]) * 1e3:.1f} ms"}  # fmt: skip


def writer(entities: int = 32, features: int = 20, rows: int = 1440, step: int = 10) -> dict[str, Any]:
    """CPU that keeping takes in the writer thread: packing chunks and points, and the database."""
    registry, count = Registry(), entities * features
    for k in range(count):
        registry.intern(Series(f"m{k % features}", labels({"host.name": f"h{k // features}"})))
    points = [points_of(count, 0, 0.0, seed) for seed in range(16)]
    key, entity = np.arange(count, dtype=np.int32), np.arange(entities, dtype=np.int32)
    nothing, spent = np.full(count, np.nan), 0.0
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/writer.db")
        views = Views(rollups=Rollups(NAMES), keep_points=True)
        keeper = Keeper(views, store.stretches)
        for k in range(rows):
            now = points[k % len(points)]
            when = np.full(entities, (1_700_000_000 + step * k) * SECOND)
            one = Rows(entity, when, when, np.ones(entities, np.bool_), np.zeros(entities, np.uint8),
                       np.arange(0, count + 1, features), key, now["value"])  # fmt: skip
            strength = now["strength"].astype(np.float64)
            verdict = Verdict(NAMES[0], strength, now["status"], now["p_value"].astype(np.float64), strength,
                              strength > 0, now["expected"], now["low"], now["high"])  # fmt: skip
            whole = Verdict(NAMES[1], strength[:entities], now["status"][:entities], nothing[:entities],
                            strength[:entities], strength[:entities] > 0, nothing[:entities], nothing[:entities],
                            nothing[:entities], True)  # fmt: skip
            views.feed(one, [verdict, whole], registry)
            full, started = keeper.full(registry), thread_time()
            keeper.put(full)
            if k % 60 == 0:
                keeper.keep_points()
            spent += thread_time() - started
        store.close()
    note = f"{count:,} series, a value each {step} s, over {rows * step // 3600} h; two detectors"
    return {"id": "charts.keep.writer", "value": spent / (rows * count) * 1e9, "unit": "ns/sample", "note": note}


def process() -> dict[str, Any]:
    """CPU of all threads a million samples, with and without keeping; in turn, the median of each."""
    config = load([], environ={}, overrides={"stream": {"step": 10}, "sources": [{"type": "http", "lateness": 0}]})
    warm(config)
    records = list(readings(ENTITIES, FEATURES, ROWS, 60.0))
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(RUNS):
        for kept in (False, True):
            seconds[kept].append(cpu_seconds(config, records, kept))
    samples = ENTITIES * FEATURES * ROWS / 1e6
    off, on = (median(seconds[kept]) / samples for kept in (False, True))
    note = (
        f"{ENTITIES * FEATURES:,} series of the default detectors, {ROWS} values a minute apart, points stored too; "
        f"runs without {spread(seconds[False], samples)}, with {spread(seconds[True], samples)}"
    )
    return {"id": "charts.keep.process", "value": on, "unit": "s/Msample", "peer": "the same without keeping",
            "peer_value": off, "ratio": off / on, "note": note}  # fmt: skip


def spread(seconds: list[float], samples: float) -> str:
    return f"{min(seconds) / samples:.2f} to {max(seconds) / samples:.2f}"


def cpu_seconds(config: Config, records: list[Record], kept: bool) -> float:
    """CPU of an engine that takes these records."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(f"sqlite:///{folder / 'charts.db'}")
        views = Views(rollups=Rollups([one.name for one in config.detectors]), keep_points=True) if kept else Views()
        with SegmentLog.open(folder / "log") as log:
            engine = Embedded(config, SystemClock(), log, store, SnapshotStore(folder / "snapshots"), views)
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
            spent = process_time() - started
        assert not engine.failed, engine.failed
        store.close()
    return spent


SIZED = (("minutes", 60, 23 / 24), ("ten_minutes", 600, 3 / 4), ("points", 0, 1.0))
"""What is kept, the seconds of its buckets, and the share of a day that is in full chunks at its end."""


def sizes(series: int = 20, step: float = 10.0) -> list[dict[str, Any]]:
    """Bytes on disk a series and day, with the database's own."""
    out = []
    for name, seconds, share in SIZED:
        with tempfile.TemporaryDirectory() as folder:
            empty, path = Path(folder) / "empty.db", Path(folder) / "size.db"
            Store(f"sqlite:///{empty}").close()
            store = Store(f"sqlite:///{path}")
            for key in range(series):
                keep_a_day(store, key, points_of(int(DAY / step), 1_700_006_400, step, key), seconds)
            store.close()
            size = (path.stat().st_size - empty.stat().st_size) / series / share
        out.append({"id": f"charts.bytes.{name}", "value": size, "unit": "B/series/day",
                    "note": f"a value each {step:g} s: noise on a daily wave, its band, one detector"})  # fmt: skip
    return out


def keep_a_day(store: Store, key: int, points: Any, seconds: int) -> None:
    """Keep a series point by point (0), or in buckets of so many seconds."""
    registry = Registry()
    for k in range(key + 1):
        registry.intern(Series(f"metric_{k}", labels({"host.name": "a1"}), unit="1"))
    if not seconds:
        parts = [points[at : at + 240] for at in range(0, len(points), 240)]
        one = registry.series[key]
        store.stretches.put([packed(one, of_points(part, {NAMES[0]: part[["strength", "p_value"]]})) for part in parts])
        return
    rollups = Rollups(NAMES)
    rows, verdicts = of_rows(key, points)
    rollups.take(rows, points, verdicts[:1])
    keeper = Keeper(Views(1, 1, rollups=rollups), store.stretches)
    keeper.put([full for full in keeper.full(registry) if full[0].tier.seconds == seconds])


def run() -> list[dict[str, Any]]:
    return [*queries(), pipeline(), writer(), process(), *sizes()]
