"""What a row costs each detector, beside river's GaussianScorer in the same run, and what a series costs in memory.

A row is scored and then learnt by both. Ours go through `step` in frames of the size that the id ends in, overhead of
Python included; river through `score_one` and `learn_one`. Figures are medians of rounds in which ours and the peer
take turns.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from river.anomaly import GaussianScorer

from foreshock.detect.deviation import Deviation
from foreshock.detect.noise import Noise
from foreshock.detect.robust_z import RobustZ
from foreshock.detect.stuck import Stuck
from foreshock.detect.zscore import ZScore
from foreshock.ports import Detector
from foreshock.types import Frame

ROUNDS = 7
PEER = "river GaussianScorer"
PEER_KEYS = 1_000
PEER_ROWS = 4_000
MINUTE = 60 * 10**9
LIGHT, FULL, EVENTS = (partial(Deviation, {"tier": tier}) for tier in ("light", "full", "events"))
MEMORY = (("robust_z", RobustZ), ("deviation.light", LIGHT), ("deviation.full", FULL), ("deviation.events", EVENTS))
"""Whose state of a thousand series is weighed."""
SERIES = (("1k", 1_000), ("100k", 100_000), ("1M", 1_000_000))
SPEED = (
    ("detector.zscore.keyed.4096", ZScore, 100_000, 4096),
    ("detector.zscore.keyed_1k.4096", ZScore, 1_000, 4096),
    ("detector.zscore.keyed.64", ZScore, 100_000, 64),
    ("detector.zscore.keyed.1", ZScore, 100_000, 1),
    ("detector.zscore.river", ZScore, 1, 4096),
    ("detector.robust_z.keyed.4096", RobustZ, 1_000, 4096),
    ("detector.robust_z.keyed_10k.4096", RobustZ, 10_000, 4096),
    ("detector.robust_z.river", RobustZ, 1, 4096),
    ("detector.deviation.light.4096", LIGHT, 1_000, 4096),
    ("detector.deviation.light_100k.4096", LIGHT, 100_000, 4096),
    ("detector.deviation.full.4096", FULL, 1_000, 4096),
    ("detector.deviation.full_10k.4096", FULL, 10_000, 4096),
    ("detector.deviation.events.4096", EVENTS, 1_000, 4096),
    ("detector.stuck.keyed.4096", Stuck, 1_000, 4096),
    ("detector.stuck.keyed_10k.4096", Stuck, 10_000, 4096),
    ("detector.noise.keyed.4096", Noise, 1_000, 4096),
    ("detector.noise.keyed_10k.4096", Noise, 10_000, 4096),
)
"""Id, detector, keys, rows a step."""
IDS = (
    *(row[0] for row in SPEED), *(f"memory.zscore.series.{name}" for name, _ in SERIES),
    *(f"memory.{name}.series.1k" for name, _ in MEMORY),
)  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All figures of this file."""
    peers = {keys: Peer(keys) for keys in (1, PEER_KEYS)}
    rows = [_speed(name, make(), keys, batch, peers[min(keys, PEER_KEYS)]) for name, make, keys, batch in SPEED]
    held = _bytes_held(lambda: Peer(PEER_KEYS), PEER_KEYS)
    rows += [_memory(f"memory.zscore.series.{name}", ZScore, series, held) for name, series in SERIES]
    return rows + [_memory(f"memory.{name}.series.1k", make, 1_000, held) for name, make in MEMORY]


class Peer:
    """river's scorer, one a key, over the same kind of rows."""

    def __init__(self, keys: int) -> None:
        make: Any = GaussianScorer
        self.scorers = [make(grace_period=20) for _ in range(keys)]
        rng = np.random.default_rng(1)
        for _ in range(25):
            self.go(range(keys), rng.normal(size=keys).tolist())

    def go(self, keys: Any, values: list[float]) -> None:
        """Score and then learn each row."""
        scorers = self.scorers
        for key, value in zip(keys, values, strict=True):
            scorer = scorers[key]
            scorer.score_one(None, value)
            scorer.learn_one(None, value)

    def nanos(self, rng: np.random.Generator) -> float:
        """Nanoseconds a row, once."""
        keys, values = rng.integers(0, len(self.scorers), PEER_ROWS).tolist(), rng.normal(size=PEER_ROWS).tolist()
        started = time.perf_counter_ns()
        self.go(keys, values)
        return (time.perf_counter_ns() - started) / PEER_ROWS


def _frame(key: Any, minute: int, values: Any) -> Frame:
    n = len(key)
    return Frame(
        np.asarray(key, np.int32),
        np.full(n, minute * MINUTE),
        np.asarray(values).reshape(n, 1),
        np.ones(n, np.int16),
        np.ones(n, np.bool_),
        np.zeros(n, np.uint8),
    )


def _settle(detector: Detector, keys: int, rng: np.random.Generator) -> int:
    """Bring every key to its steady state (full windows, settled weights); the minute it is then."""
    minutes = 750 if isinstance(detector, ZScore) else 370
    everyone = np.arange(keys)
    pool = rng.normal(size=(8, keys))
    for minute in range(minutes):
        detector.step(_frame(everyone, minute, np.roll(pool[minute % 8], minute)))
    return minutes


def _speed(name: str, detector: Detector, keys: int, batch: int, peer: Peer) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    minute = _settle(detector, keys, rng)
    steps = {1: 4_000, 64: 2_000}.get(batch, 240 if isinstance(detector, ZScore) else 24)
    # Frames differ in their keys and share the other columns, which in a pipeline have just been made too.
    first = _frame(np.zeros(batch), minute, rng.normal(size=batch))
    pool = rng.integers(0, keys, (max(24, 98_304 // batch // 8), batch)).astype(np.int32)
    shared = (first.time_unix_nano, first.values, first.width, first.learn, first.status)
    frames = [Frame(key, *shared) for key in pool]
    ours, theirs = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter_ns()
        for step in range(steps):
            detector.step(frames[step % len(frames)])
        ours.append((time.perf_counter_ns() - started) / steps / batch)
        theirs.append(peer.nanos(rng))
    note = f"step of {batch} rows, {keys:,} key{'s at random' if keys > 1 else ''}"
    if keys > PEER_KEYS:
        note += f"; the peer has {PEER_KEYS:,}"
    return _row(name, statistics.median(ours), "ns/row", statistics.median(theirs), f"{note}; least {min(ours):.2f}")


def _memory(name: str, make: Callable[[], Detector], series: int, peer: float) -> dict[str, Any]:
    everyone = _frame(np.arange(series), 0, np.zeros(series))

    def fill() -> Detector:
        detector = make()
        detector.step(everyone)
        return detector

    note = f"state of {series:,} series; {make().info.bytes_per_slot} a slot, capacity doubles"
    return _row(name, _bytes_held(fill, series), "bytes/series", peer, note)


def _bytes_held(fill: Callable[[], Any], count: int) -> float:
    """Bytes that what `fill` makes holds, by tracemalloc, a piece."""
    fill()
    tracemalloc.start()
    try:
        kept = fill()
        held = tracemalloc.get_traced_memory()[0] / count
        del kept
    finally:
        tracemalloc.stop()
    return held


def _row(name: str, value: float, unit: str, peer_value: float, note: str) -> dict[str, Any]:
    return {
        "id": name,
        "value": value,
        "unit": unit,
        "peer": PEER,
        "peer_value": peer_value,
        "ratio": peer_value / value,
        "note": note,
    }
