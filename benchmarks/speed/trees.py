"""What a row costs the detectors of trees, beside river's and scikit-learn's own in the same run.

`half_space_trees`: a row is scored and then learnt by both; ours through `step` in frames of the size that the id ends
in, river through `score_one` and `learn_one` over the same rows, taken as they are. `longest_step` is the longest
of the steps of one row that fill a window, its flip among them; for river the longest `learn_one`.
`isolation_forest`: ours through `step`, scikit-learn through `score_samples` over as many rows at a time.
Figures are medians of rounds in which ours and the peer take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees as River
from sklearn.ensemble import IsolationForest as SkLearn

from foreshock.detect.half_space_trees import HalfSpaceTrees
from foreshock.detect.isolation_forest import IsolationForest
from foreshock.detect.isolation_model import ForestSettings, fit
from foreshock.types import Frame

ROUNDS = 7
WIDTH = 8
MINUTE = 60 * 10**9
PLAIN = {"scale": "none"}
HALF_SPACES: tuple[tuple[str, dict[str, Any], int, int, bool], ...] = (
    ("detector.half_space_trees.10x8.64", {"n_trees": 10, **PLAIN}, 1, 64, False),
    ("detector.half_space_trees.25x8.1", {"n_trees": 25, **PLAIN}, 1, 1, False),
    ("detector.half_space_trees.25x8.64", {"n_trees": 25, **PLAIN}, 1, 64, False),
    ("detector.half_space_trees.25x8.4096", {"n_trees": 25, **PLAIN}, 1, 4096, False),
    ("detector.half_space_trees.25x8.keyed.4096", {"n_trees": 25, **PLAIN}, 1_000, 4096, False),
    ("detector.half_space_trees.25x8.range.64", {"n_trees": 25}, 1, 64, True),
    ("detector.half_space_trees.25x15.64", {"n_trees": 25, "height": 15, **PLAIN}, 1, 64, False),
)
"""Id, options, keys, rows a step, with contributions."""
LONGEST = tuple((f"detector.half_space_trees.25x{h}.longest_step", {"n_trees": 25, "height": h}) for h in (8, 15))
FORESTS = (1, 64, 4096)
IDS = (
    *(row[0] for row in HALF_SPACES),
    *(row[0] for row in LONGEST),
    "memory.half_space_trees.10x8",
    *(f"detector.isolation_forest.{batch}" for batch in FORESTS),
    "detector.isolation_forest.contributions.64",
    "detector.isolation_forest.fit",
    "memory.isolation_forest",
)


def run() -> list[dict[str, Any]]:
    """All figures of this file."""
    rows = [_half_spaces(*one) for one in HALF_SPACES]
    rows += [_longest(name, config) for name, config in LONGEST]
    size = HalfSpaceTrees().info.bytes_per_slot
    rows.append(_row("memory.half_space_trees.10x8", size, "bytes/entity", "", None, "state of 8 features"))
    rows += [_forest(f"detector.isolation_forest.{batch}", batch, False) for batch in FORESTS]
    rows.append(_forest("detector.isolation_forest.contributions.64", 64, True))
    size = IsolationForest().info.bytes_per_slot
    return [*rows, _fits(), _row("memory.isolation_forest", size, "bytes/entity", "", None, "100 trees, 8 features")]


def _frame(key: Any, values: NDArray[np.float64], minute: int) -> Frame:
    n = len(values)
    return Frame(
        np.asarray(key, np.int32), np.full(n, minute * MINUTE), values, np.full(n, WIDTH, np.int16),
        np.ones(n, np.bool_), np.zeros(n, np.uint8),
    )  # fmt: skip


def _values(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return np.clip(0.5 + 0.15 * rng.normal(size=(n, WIDTH)), 0, 1)


def _dicts(values: NDArray[np.float64]) -> list[dict[int, float]]:
    return [dict(enumerate(row)) for row in values.tolist()]


def _river(config: dict[str, Any]) -> Any:
    options = {name: value for name, value in config.items() if name != "scale"}
    made: Any = River(seed=42, **options)
    for x in _dicts(_values(np.random.default_rng(1), 260)):
        made.learn_one(x)
    return made


def _half_spaces(name: str, config: dict[str, Any], keys: int, batch: int, contributions: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    detector, peer = HalfSpaceTrees(config), _river(config)
    detector.contributions = contributions
    for minute in range(260):
        detector.step(_frame(np.arange(keys), _values(rng, keys), minute))
    count = max(1, 65_536 // batch)
    frames = [
        _frame(rng.integers(0, keys, batch), _values(rng, batch), 260 + i) for i in range(min(count, 16_384 // batch))
    ]
    xs = _dicts(_values(rng, 150 if config.get("height", 8) > 8 else 1_000))

    def ours() -> None:
        for i in range(count):
            detector.step(frames[i % len(frames)])

    def theirs() -> None:
        for x in xs:
            peer.score_one(x)
            peer.learn_one(x)

    a, b = _in_turns((ours, count * batch), (theirs, len(xs)))
    words = f"step of {batch} rows, {keys:,} key{'s at random; the peer has one' if keys > 1 else ''}"
    if contributions:
        words += ", bounds that follow, contributions"
    return _row(name, a / 1e3, "us/row", "river HalfSpaceTrees", b / 1e3, words)


def _longest(name: str, config: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    detector, peer = HalfSpaceTrees({**config, **PLAIN}), _river(config)
    frames = [_frame([0], _values(rng, 1), i) for i in range(250)]
    for frame in frames:
        detector.step(frame)
    xs = _dicts(_values(rng, 240))
    for x in xs:
        peer.learn_one(x)
    # Rounds are one window long: the least time of each of its rows is the work, without what else the machine did.
    xs = _dicts(_values(rng, 250))
    ours = np.array([[_nanos(detector.step, frame) for frame in frames] for _ in range(ROUNDS)])
    theirs = np.array([[_nanos(peer.learn_one, x) for x in xs] for _ in range(3)])
    a, b = (float(one.min(axis=0).max()) for one in (ours, theirs))
    return _row(
        name, a / 1e6, "ms", "river HalfSpaceTrees", b / 1e6, "longest of the steps of one row that fill a window"
    )


def _forest(name: str, batch: int, contributions: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    detector = IsolationForest({"refit_seconds": 0})
    detector.contributions = contributions
    history = _values(rng, 60)
    detector.step(_frame(np.zeros(60), history, 0))
    peer = SkLearn(n_estimators=100, max_samples=60, random_state=42).fit(history.astype(np.float32))
    count = max(1, 32_768 // batch)
    frames = [_frame(np.zeros(batch), _values(rng, batch), 1 + i) for i in range(min(count, 8_192 // batch))]
    given = _values(rng, batch).astype(np.float32)
    times = max(1, min(8, 4_096 // batch))

    def ours() -> None:
        for i in range(count):
            detector.step(frames[i % len(frames)])

    def theirs() -> None:
        for _ in range(times):
            peer.score_samples(given)

    a, b = _in_turns((ours, count * batch), (theirs, times * batch))
    words = f"{batch} rows at a time, 100 trees of 60 rows" + (", contributions" if contributions else "")
    return _row(name, a / 1e3, "us/row", "sklearn IsolationForest", b / 1e3, words)


def _fits() -> dict[str, Any]:
    history = _values(np.random.default_rng(0), 60).astype(np.float32)
    settings = ForestSettings(100, 64)
    a, b = _in_turns(
        (lambda: fit(history, 42, settings), 1),
        (lambda: SkLearn(n_estimators=100, max_samples=60, random_state=42).fit(history), 1),
    )
    note = "fit of 100 trees on 60 rows, theirs and laid out for the kernel"
    return _row("detector.isolation_forest.fit", a / 1e6, "ms", "sklearn IsolationForest", b / 1e6, note)


def _in_turns(*ways: tuple[Callable[[], object], int]) -> list[float]:
    """The median nanoseconds of each way, a piece of its work."""
    for work, _ in ways:
        work()
    rounds = [[_nanos(work) / count for work, count in ways] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _nanos(work: Callable[..., object], *given: object) -> float:
    started = time.perf_counter_ns()
    work(*given)
    return time.perf_counter_ns() - started


def _row(name: str, value: float, unit: str, peer: str, peer_value: float | None, note: str) -> dict[str, Any]:
    ratio = None if peer_value is None else peer_value / value
    return {"id": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio,
            "note": note}  # fmt: skip
