"""The engine as a whole: decoded samples to verdicts, memory, start, snapshot and recovery."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil
from river import anomaly

from foreshock import pipeline as pipes
from foreshock.config import Config, load
from foreshock.runtime.snapshot import SnapshotJob, SnapshotStore
from foreshock.runtime.task import Task
from foreshock.runtime.warm import readings, warm
from foreshock.state import State
from foreshock.types import Columns, Intake, Samples, Series

IDS = (
    "engine.batch_to_verdict.zscore",
    "engine.batch_to_verdict.robust_z",
    "engine.memory.series",
    "engine.start",
    "engine.snapshot",
    "engine.recovery",
)
START = 1_700_000_000_000_000_000


def settings(detector: str, series: int = 1_000_000) -> Config:
    return load([], environ={}, overrides={
        "detectors": [detector], "stream": {"step": 10}, "limits": {"series": series},
        "sources": [{"type": "http", "lateness": 0}],
    })  # fmt: skip


def samples(entities: int, features: int, row: int, rng: np.random.Generator, names: list[Series]) -> Intake:
    count = entities * features
    now = START + row * 10_000_000_000
    return Intake("http", now, Samples(
        names, np.arange(count, dtype=np.int32), np.full(count, now), rng.normal(100, 5, count),
        np.zeros(count, np.uint64), {},
    ))  # fmt: skip


def series(entities: int, features: int) -> list[Series]:
    return [Series(f"metric_{j}", (("host.name", f"h{e}"),), (), "1") for e in range(entities) for j in range(features)]


def seconds_a_sample(detector: str, entities: int, features: int, rows: int = 60) -> float:
    """Median over the rows after warm-up of one step of all keyed operators ÷ samples."""
    pipeline = pipes.build(settings(detector))
    rng, names = np.random.default_rng(0), series(entities, features)
    times = []
    for row in range(rows):
        intake = samples(entities, features, row, rng, names)
        started = time.perf_counter()
        pipes.run(pipeline.keyed, Columns(intakes=(intake,)))
        times.append(time.perf_counter() - started)
    return median(times[rows // 2 :]) / (entities * features)


def seconds_a_sample_river(keys: int = 400, rows: int = 60) -> float:
    """The naive way: a scorer of river a series, in a dict, score then learn."""
    peer: Any = anomaly.GaussianScorer
    scorers = {key: peer() for key in range(keys)}
    values = np.random.default_rng(0).normal(100, 5, (rows, keys)).tolist()
    started = time.perf_counter()
    for row in values:
        for key, value in enumerate(row):
            scorers[key].score_one(None, value)
            scorers[key].learn_one(None, value)
    return (time.perf_counter() - started) / (rows * keys)


def speed() -> list[dict[str, Any]]:
    out = []
    peer = median(seconds_a_sample_river() for _ in range(3))
    for detector in ("zscore", "robust_z"):
        ours = median(seconds_a_sample(detector, 128, 32) for _ in range(3))
        out.append({
            "id": f"engine.batch_to_verdict.{detector}", "value": ours * 1e9, "unit": "ns/sample",
            "peer": "river GaussianScorer, dict", "peer_value": peer * 1e9, "ratio": peer / ours,
            "note": "align, score, p, bar, alarm; 4,096 samples a step; river only scores and learns",
        })  # fmt: skip
    return out


def memory(count: int, detector: str) -> float:
    """Growth of the process a series: names, alignment, detector, calibrator, bar, prices; without views."""
    entities = count // 20
    gc.collect()
    before = psutil.Process().memory_info().rss
    pipeline = pipes.build(settings(detector, 2 * count))
    rng, names = np.random.default_rng(0), series(entities, 20)
    for row in range(4):
        pipes.run(pipeline.keyed, Columns(intakes=(samples(entities, 20, row, rng, names),)))
    gc.collect()
    return (psutil.Process().memory_info().rss - before) / count


def in_a_process(function: Callable[..., float], *arguments: Any) -> float:
    """The result of a function of this module in a process of its own, so that memory is measured from the start."""
    code = (
        "from benchmarks.speed import engine; from foreshock.runtime.warm import warm; "
        f"warm(engine.settings({arguments[-1]!r})); print(engine.{function.__name__}(*{arguments!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def memories() -> list[dict[str, Any]]:
    return [
        {"id": f"engine.memory.series.{detector}.{count}", "value": in_a_process(memory, count, detector),
         "unit": "B/series", "note": "all operators, with label texts"}
        for detector, counts in (("zscore", (1_000, 100_000, 1_000_000)), ("robust_z", (1_000, 100_000)))
        for count in counts
    ]  # fmt: skip


def start_seconds(cache: str | None) -> float:
    """From exec to the first 200 of /readyz; `cache` is a folder for compiled kernels, None = as installed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        environ = {**os.environ, **({"NUMBA_CACHE_DIR": cache} if cache else {})}
        command = [sys.executable, "-m", "foreshock", "run", "--headless", "--data-dir", data, "--listen",
                   f"127.0.0.1:{port}"]  # fmt: skip
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while time.perf_counter() - started < 120:
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200:
                        return time.perf_counter() - started
                except httpx.HTTPError:
                    time.sleep(0.01)
            raise RuntimeError("not ready in 120 s")
        finally:
            process.terminate()
            process.wait()


def starts() -> list[dict[str, Any]]:
    start_seconds(None)
    cached = median(start_seconds(None) for _ in range(3))
    cold = []
    for _ in range(2):
        folder = tempfile.mkdtemp()
        cold.append(start_seconds(folder))
        shutil.rmtree(folder)
    return [
        {"id": "engine.start.cached", "value": cached, "unit": "s", "note": "exec to /readyz 200, kernels cached"},
        {"id": "engine.start.uncached", "value": median(cold), "unit": "s", "note": "the same, empty kernel cache"},
    ]


def restore(config: Config, states: dict[str, State], watermark: int) -> Task:
    task = Task(config)
    task.load(states, watermark)
    return task


def snapshots(entities: int = 500, features: int = 20, rows: int = 40) -> list[dict[str, Any]]:
    config = settings("robust_z")
    warm(config)
    task = Task(config)
    records = list(readings(entities, features, rows, 10.0))
    started = time.perf_counter()
    for record in records:
        task.process(record)
    judged = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        store = SnapshotStore(Path(folder))
        slices: list[float] = []
        for position in (1, 2):
            slices.clear()
            job = SnapshotJob(task.states())
            done = False
            while not done:
                began = time.perf_counter()
                done = job.advance(0.002)
                slices.append(time.perf_counter() - began)
            began = time.perf_counter()
            store.write(position, job.finish(), {})
            written = time.perf_counter() - began
            job.release()
        began = time.perf_counter()
        found = store.newest(2)
        assert found is not None
        restore(config, found.states, task.watermark)
        restored = time.perf_counter() - began
    note = f"{entities * features:,} series of robust_z"
    return [
        {"id": "engine.snapshot.longest_stall", "value": max(slices) * 1e3, "unit": "ms", "note": note},
        {"id": "engine.snapshot.copy", "value": sum(slices) * 1e3, "unit": "ms", "note": note},
        {"id": "engine.snapshot.write", "value": written * 1e3, "unit": "ms", "note": f"{note}; beside the pipeline"},
        {"id": "engine.recovery.restore", "value": restored * 1e3, "unit": "ms", "note": note},
        {"id": "engine.recovery.log", "value": judged / (entities * features * rows) * 1e9, "unit": "ns/sample",
         "note": "decode and judge again what stands behind the snapshot"},
    ]  # fmt: skip


def run() -> list[dict[str, Any]]:
    return [*speed(), *memories(), *snapshots(), *starts()]
