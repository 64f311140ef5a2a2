"""What a call costs on its way into fingerprints, and what its sketches cost beside the libraries, in the same run.

Calls go through the whole operator in records of 2,000, a second of calls each: names, templates, windows of services,
edges and the environment, closing included. Figures are medians of rounds in which ours and the peer take turns.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from ddsketch import DDSketch

from foreshock.state import Registry
from foreshock.stream import sketch
from foreshock.stream.fingerprint import CallOptions, Fingerprint
from foreshock.types import CALL, Calls, Columns, Intake, Samples

IDS = ("calls.fingerprint", "calls.fingerprint.distinct", "sketch.ddsketch")
ROUNDS = 7
RECORD = 2_000
SECONDS = 30
START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def run() -> list[dict[str, Any]]:
    """All figures of this file."""
    rng = np.random.default_rng(0)
    counts = [_by_counter(_record(rng, 0)) for _ in range(ROUNDS)]
    peer = statistics.median(counts)
    rows = []
    for name, distinct in (("calls.fingerprint", False), ("calls.fingerprint.distinct", True)):
        note = "every call with an endpoint of its own" if distinct else "20 services of 5 paths, 40 edges"
        value = statistics.median(_fingerprints(rng, distinct) for _ in range(ROUNDS))
        rows.append(_row(name, value, "ns/call", "Counter a window", peer, f"records of {RECORD:,}, {note}"))
    return [*rows, _durations(rng)]


def _record(rng: np.random.Generator, second: int, distinct: bool = False) -> Intake:
    services = [f"service-{k}" for k in range(20)]
    paths = [f"/item/{k}/of/{rng.integers(10**9)}" for k in range(RECORD)] if distinct else []
    paths = paths or [f"/part-{chr(97 + k % 10)}/{'abcdefghij'[k // 10]}/{k}" for k in range(100)]
    names = ["", *services, "GET", *paths]
    rows = np.zeros(RECORD, CALL)
    rows["time_unix_nano"] = START + second * SECOND + np.sort(rng.integers(0, SECOND, RECORD))
    rows["duration_seconds"] = rng.lognormal(-3, 0.7, RECORD)
    target = rng.integers(0, 20, RECORD)
    rows["target"], rows["source"] = 1 + target, 1 + (target + rng.integers(1, 3, RECORD)) % 20
    rows["method"] = 21
    rows["endpoint"] = 22 + (np.arange(RECORD) if distinct else 5 * target + rng.integers(0, 5, RECORD))
    rows["status"] = rng.choice([200, 200, 200, 200, 404, 500, 0], RECORD)
    return Intake("s", START + second * SECOND, Samples.empty(), Calls(names, rows, {}))


def _fingerprints(rng: np.random.Generator, distinct: bool) -> float:
    """Nanoseconds a call."""
    operator = Fingerprint(Registry(), CallOptions.model_validate({}), {})
    intakes = [_record(rng, second, distinct) for second in range(SECONDS)]
    operator.process(Columns(intakes=(intakes[0],)))
    started = time.perf_counter_ns()
    for intake in intakes[1:]:
        operator.process(Columns(intakes=(intake,)))
    return (time.perf_counter_ns() - started) / RECORD / (SECONDS - 1)


def _by_counter(intake: Intake) -> float:
    """Nanoseconds a call of the least that plain Python can do: count by service, edge and path, sum durations."""
    calls = intake.calls
    assert calls is not None
    columns = [calls.rows[name].tolist() for name in ("target", "source", "endpoint", "status", "duration_seconds")]
    count: dict[Any, int] = {}
    total: dict[Any, float] = {}
    started = time.perf_counter_ns()
    for target, source, endpoint, status, seconds in zip(*columns, strict=True):
        for key in (target, (source, target), (target, endpoint), (target, status)):
            count[key] = count.get(key, 0) + 1
        total[target] = total.get(target, 0.0) + seconds
    return (time.perf_counter_ns() - started) / RECORD


def _durations(rng: np.random.Generator) -> dict[str, Any]:
    ours, theirs = [], []
    values = rng.lognormal(-3, 1, 50_000)
    plain = values[:10_000].tolist()
    for _ in range(ROUNDS):
        buckets = np.zeros(sketch.BUCKETS, np.uint32)
        started = time.perf_counter_ns()
        sketch.fill_buckets(buckets, values)
        ours.append((time.perf_counter_ns() - started) / len(values))
        peer: Any = DDSketch(sketch.ACCURACY)
        started = time.perf_counter_ns()
        for value in plain:
            peer.add(value)
        theirs.append((time.perf_counter_ns() - started) / len(plain))
    note = f"a duration into a sketch of {sketch.ACCURACY:.0%} relative error"
    return _row(
        "sketch.ddsketch", statistics.median(ours[1:]), "ns/value", "ddsketch DDSketch", statistics.median(theirs), note
    )


def _row(name: str, value: float, unit: str, peer: str, peer_value: float, note: str) -> dict[str, Any]:
    return {
        "id": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": peer_value / value,
        "note": note,
    }  # fmt: skip
