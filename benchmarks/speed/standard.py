"""What a row costs `rate_of_change`, `static_threshold`, `seasonal` and `pca`, beside plain numpy and scikit-learn.

The numpy peers keep arrays with an element a series and take one row of each series at a time, all of them at once: the
fastest that the same idea (without its care for outliers, gaps and order) is in numpy. Ours take the same rows. The
peers of `pca` are scikit-learn's: PCA only scores, IncrementalPCA scores and learns, both a whole batch at a time.
Figures are medians of rounds in which ours and the peer take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA, IncrementalPCA

from foreshock.detect.pca import Pca
from foreshock.detect.rate_of_change import RateOfChange
from foreshock.detect.seasonal import Seasonal
from foreshock.detect.static_threshold import StaticThreshold
from foreshock.ports import Detector
from foreshock.testing.frames import MINUTE, START, make

KEYS, ROUNDS = 4096, 7
ROWS = {38: 2048, 1000: 128}
IDS = (
    "detector.rate_of_change.keyed.4096", "detector.static_threshold.keyed.4096", "detector.seasonal.keyed.4096",
    "detector.pca.38.score", "detector.pca.38.step", "detector.pca.1000.step",
)  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All figures of this file."""
    return [
        _keyed(IDS[0], RateOfChange(), NumpyRate(), 100, 40),
        _keyed(IDS[1], StaticThreshold({"above": 2.0, "clear": 1.5, "for": "2m"}), NumpyThreshold(), 100, 40),
        _keyed(IDS[2], Seasonal(), NumpySeasonal(), 3 * 1440 + 20, 40),
        *_pca(),
    ]


class NumpyRate:
    """|change − mean change| / deviation, both exponentially weighted."""

    def __init__(self) -> None:
        self.last, self.mean, self.variance = np.zeros(KEYS), np.zeros(KEYS), np.ones(KEYS)

    def step(self, minute: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score and learn one row of each series."""
        rate = (x - self.last) / 60.0
        away = rate - self.mean
        score: NDArray[np.float64] = np.abs(away) / np.sqrt(np.maximum(self.variance, 1e-18))
        self.mean += 0.001 * away
        self.variance += 0.001 * (away * away - self.variance)
        self.last = x
        return score


class NumpyThreshold:
    """Above 2 for two minutes, until 1.5."""

    def __init__(self) -> None:
        self.since, self.firing = np.full(KEYS, -1), np.zeros(KEYS, np.bool_)

    def step(self, minute: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score one row of each series."""
        over = x > 2.0
        self.since = np.where(over, np.where(self.since < 0, minute, self.since), -1)
        self.firing = np.where(self.firing, x > 1.5, over & (minute - self.since >= 2))
        score: NDArray[np.float64] = np.where(self.firing, np.maximum(x / 2.0, 1.0), np.minimum(x / 2.0, 1.0 - 1e-16))
        return score


class NumpySeasonal:
    """|x − level − season| / deviation after Holt and Winters, with 288 slots a day."""

    def __init__(self) -> None:
        self.level, self.scale, self.season = np.zeros(KEYS), np.ones(KEYS), np.zeros((288, KEYS))

    def step(self, minute: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score and learn one row of each series."""
        season = self.season[minute // 5 % 288]
        away = x - self.level - season
        score: NDArray[np.float64] = np.abs(away) / np.maximum(self.scale, 1e-9)
        self.level += 0.001 * away
        season += 0.03 * away
        self.scale += 0.001 * (np.abs(away) - self.scale)
        return score


def _keyed(name: str, detector: Detector, peer: Any, minutes: int, steps: int) -> dict[str, Any]:
    """A row of each of 4,096 series a step, after `minutes` of them."""
    rng = np.random.default_rng(0)
    everyone, pool = np.arange(KEYS), rng.normal(size=(16, KEYS))
    for minute in range(minutes):
        values = pool[minute % 16]
        detector.step(make(everyone, START + MINUTE * minute, values))
        peer.step(minute, values)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        frames = [make(everyone, START + MINUTE * (minutes + i), pool[i % 16]) for i in range(steps)]
        ours.append(_nanos(detector.step, [(frame,) for frame in frames], KEYS))
        theirs.append(_nanos(peer.step, [(minutes + i, pool[i % 16]) for i in range(steps)], KEYS))
        minutes += steps
    return _row(name, ours, "numpy, all series at once", theirs, "step of one row of each of 4,096 series")


def _pca() -> list[dict[str, Any]]:
    rows = []
    for width, name in ((38, IDS[3]), (38, IDS[4]), (1000, IDS[5])):
        n, learn = ROWS[width], not name.endswith("score")
        rng = np.random.default_rng(1)
        mix = rng.normal(size=(5, width))
        batches = [rng.normal(size=(n, 5)) @ mix + 0.3 * rng.normal(size=(n, width)) for _ in range(4)]
        frames = [make(np.zeros(n), START + MINUTE * (n * i + np.arange(n)), batch) for i, batch in enumerate(batches)]
        detector = Pca({"warm_up_rows": 64, "warm_up_seconds": 0})
        peer = IncrementalPCA(8).fit(batches[0]) if learn else PCA(8, svd_solver="full").fit(np.concatenate(batches))
        detector.step(frames[0])
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(_nanos(detector.step if learn else detector.score, [(one,) for one in frames], n))
            theirs.append(_nanos(_learning(peer) if learn else _leaving(peer), [(one,) for one in batches], n))
        said = f"{'score and learn' if learn else 'score'} {n:,} rows of {width:,} features, 8 components"
        kind = "IncrementalPCA" if learn else "PCA"
        rows.append(_row(name, ours, f"scikit-learn {kind}, batch", theirs, said))
    return rows


def _leaving(peer: Any) -> Callable[[NDArray[np.float64]], Any]:
    def leave(batch: NDArray[np.float64]) -> Any:
        return ((batch - peer.inverse_transform(peer.transform(batch))) ** 2).sum(1)

    return leave


def _learning(peer: Any) -> Callable[[NDArray[np.float64]], Any]:
    leave = _leaving(peer)

    def learn(batch: NDArray[np.float64]) -> Any:
        left = leave(batch)
        peer.partial_fit(batch)
        return left

    return learn


def _nanos(call: Callable[..., Any], arguments: list[tuple[Any, ...]], rows: int) -> float:
    """Nanoseconds a row of calls with these arguments."""
    started = time.perf_counter_ns()
    for one in arguments:
        call(*one)
    return (time.perf_counter_ns() - started) / len(arguments) / rows


def _row(name: str, ours: list[float], peer: str, theirs: list[float], note: str) -> dict[str, Any]:
    value, other = statistics.median(ours), statistics.median(theirs)
    return {
        "id": name,
        "value": value,
        "unit": "ns/row",
        "peer": peer,
        "peer_value": other,
        "ratio": other / value,
        "note": f"{note}; least {min(ours):.1f}",
    }
