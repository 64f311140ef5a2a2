"""Telemetry made for tests: seeded, with faults at known places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = 1_700_000_000


def machine(seed: int, rows: int, metrics: int = 6, step: int = 60) -> dict[str, np.ndarray]:
    """Columns of one machine: noisy daily metrics; every 700 rows two of them shift for 20 rows."""
    rng = np.random.default_rng(seed)
    t = START + step * np.arange(rows)
    columns: dict[str, np.ndarray] = {"t": t.astype(np.int64)}
    for j in range(metrics):
        level = 10.0 * (j + 1)
        values = level + np.sin(2 * np.pi * t / 86400 + j) + rng.normal(0, 0.5, rows)
        if j < 2:
            for at in range(600, rows, 700):
                values[at : at + 20] += 25.0
        columns[f"m{j}"] = values
    return columns


def write_machines(folder: Path, count: int = 3, rows: int = 3000, metrics: int = 6) -> list[Path]:
    """One Parquet file a machine."""
    paths = []
    for k in range(count):
        path = folder / f"machine-{k}.parquet"
        pq.write_table(pa.table(machine(k, rows, metrics)), path, row_group_size=1000)
        paths.append(path)
    return paths
