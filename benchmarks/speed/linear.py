"""What a row of 38 features costs `linear`, with learning and fits, beside river's half-space trees in the same run.

Both score a row and then learn it. Ours steps over frames of 4,096 rows; river's peer through `score_one` and
`learn_one`. Features follow two slow waves and one another; a third of them stands still, as in real servers.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees

from foreshock.detect.linear import Linear
from foreshock.types import Frame

WIDTH, BATCH, ROUNDS = 38, 4096, 5
SETTLING = 8 * 4096
"""Rows after which fits come every 4,096 rows."""
MINUTE = 60 * 10**9
PEER = "river HalfSpaceTrees"
PEER_ROWS = 200
IDS = ("detector.linear.38.4096", "detector.linear.38_third_still.4096", "detector.linear.38_keys_64.4096")


def values(rows: int, still: int, seed: int) -> NDArray[np.float64]:
    """Rows of 38 features, `still` of them constant."""
    rng = np.random.default_rng(seed)
    hours = np.arange(rows) / 60
    waves = np.stack([np.sin(hours), np.cos(1.7 * hours)])
    out: NDArray[np.float64] = (rng.normal(size=(WIDTH, 2)) @ waves).T + 0.3 * rng.normal(size=(rows, WIDTH))
    out[:, np.linspace(0, WIDTH - 1, still, dtype=int)] = 1.0
    return out


def frame(rows: NDArray[np.float64], start: int, keys: int) -> Frame:
    """One frame of rows of so many entities, which take turns."""
    n = len(rows)
    padded = np.full((n, 64), np.nan)
    padded[:, :WIDTH] = rows
    at = (start + np.arange(n)) // keys * MINUTE
    key = (np.arange(n) % keys).astype(np.int32)
    return Frame(key, at, padded, np.full(n, WIDTH, np.int16), np.ones(n, np.bool_), np.zeros(n, np.uint8))


def ours(still: int, keys: int) -> list[float]:
    """Nanoseconds a row, by rounds."""
    detector, at, out = Linear(), 0, []
    detector.contributions = True
    settling = SETTLING * min(keys, 8)
    for k in range(settling // BATCH):
        detector.step(frame(values(BATCH, still, k), at, keys))
        at += BATCH
    for k in range(ROUNDS):
        frames = [frame(values(BATCH, still, 100 + 8 * k + one), at + one * BATCH, keys) for one in range(8)]
        at += 8 * BATCH
        started = time.perf_counter_ns()
        for one in frames:
            detector.step(one)
        out.append((time.perf_counter_ns() - started) / (8 * BATCH))
    return out


def peer() -> float:
    """Nanoseconds a row of river's trees."""
    trees: Any = HalfSpaceTrees(n_trees=25, height=8, window_size=250, seed=0)
    rows = [dict(enumerate(row)) for row in values(2 * PEER_ROWS, 0, 0).tolist()]
    for row in rows[:PEER_ROWS]:
        trees.learn_one(row)
    started = time.perf_counter_ns()
    for row in rows[PEER_ROWS:]:
        trees.score_one(row)
        trees.learn_one(row)
    return (time.perf_counter_ns() - started) / PEER_ROWS


def run() -> list[dict[str, Any]]:
    """All figures of this file."""
    theirs = peer()
    rows = []
    for name, still, keys in zip(IDS, (0, WIDTH // 3, 0), (1, 1, 64), strict=True):
        nanos = ours(still, keys)
        value = statistics.median(nanos)
        note = f"{WIDTH} features{', a third of them still' if still else ''}, {keys} entities; least {min(nanos):.0f}"
        rows.append({"id": name, "value": value, "unit": "ns/row", "peer": PEER, "peer_value": theirs,
                     "ratio": theirs / value, "note": note})  # fmt: skip
    return rows
