"""p-values are what they say: uniform on quiet series, those with a memory and a daily wave among them.

The distance is Kolmogorov's and Smirnov's, between all p-values of a second week and the uniform distribution, after a
first week to learn from. `TOLERANCE` is what is promised: rows of one series depend on one another, so that no table of
the test gives it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.bank import Bank
from foreshock.detect.deviation import Deviation
from foreshock.detect.linear import Linear
from foreshock.detect.robust_z import RobustZ
from foreshock.detect.zscore import ZScore
from foreshock.ports import Detector
from foreshock.state import Registry
from foreshock.types import Columns, Rows, Series, Status, labels

TOLERANCE = {"robust_z": 0.03, "zscore": 0.03, "deviation": 0.03, "linear": 0.05}
WIDEST = max(TOLERANCE.values())
SMALL, MOST, LEAST = (0.01, 0.05), 1.2, 0.5
"""p-values at or below these come up at most so many times as often as they say, and at least: but for a wave, whose
extremes a detector without a clock sees every day and extrapolates from: its smallest p-values are too large."""
MINUTE = 60 * 10**9
STEP = 5
DAY = 1440 // STEP
START = 19_723 * 1440 * MINUTE
KINDS: dict[str, dict[str, Any]] = {
    "noise": {"memory": 0.0, "wave": 0.0},
    "memory": {"memory": 0.7, "wave": 0.0},
    "daily wave": {"memory": 0.3, "wave": 4.0},
}


def quiet(kind: str, series: int, rows: int, seed: int) -> NDArray[np.float64]:
    """float64[rows, series]: autoregressive noise of deviation 1 around a level, with a wave a day of this height."""
    rng = np.random.default_rng(seed)
    memory, wave = KINDS[kind]["memory"], KINDS[kind]["wave"]
    out = np.zeros((rows, series))
    noise = rng.normal(0, np.sqrt(1 - memory**2), (rows, series))
    for t in range(1, rows):
        out[t] = memory * out[t - 1] + noise[t]
    phase = rng.uniform(0, 2 * np.pi, series)
    waves: NDArray[np.float64] = wave * np.sin(2 * np.pi * np.arange(rows)[:, None] / DAY + phase)
    return 50 + waves + out


def p_values(detector: Detector, values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """p-values of the second half of the rows; `width` series an entity."""
    rows, series = values.shape
    hosts = series // width
    registry = Registry()
    for h in range(hosts):
        for j in range(width):
            registry.intern(Series(f"m{j}", labels({"host.name": f"h{h}"})))
    n = rows * hosts
    time = np.repeat(START + np.arange(rows, dtype=np.int64) * STEP * MINUTE, hosts)
    frame = Rows(
        np.tile(np.arange(hosts, dtype=np.int32), rows), time, time + STEP * MINUTE, np.ones(n, np.bool_),
        np.zeros(n, np.uint8), np.arange(n + 1, dtype=np.int64) * width,
        np.tile(np.arange(series, dtype=np.int32), rows), values.ravel(),
    )  # fmt: skip
    (verdict,) = Bank(registry, {"d": detector}, 0.2).process(Columns(rows=frame)).verdicts
    half = len(verdict.p_value) // 2
    assert (verdict.status[half:] == Status.SCORED).all()
    return verdict.p_value[half:]


def distance(p: NDArray[np.float64]) -> float:
    """The largest difference between the share of p-values up to x and x (Kolmogorov–Smirnov)."""
    ordered, n = np.sort(p), len(p)
    below, above = np.arange(n) / n, np.arange(1, n + 1) / n
    return float(max((ordered - below).max(), (above - ordered).max()))


def of(name: str, kind: str, seed: int = 1) -> NDArray[np.float64]:
    values = quiet(kind, 24, 14 * DAY, seed)
    if name == "linear":
        return p_values(Linear({"warm_up_rows": 3 * DAY}), values, 6)
    detectors: dict[str, Detector] = {"robust_z": RobustZ(), "zscore": ZScore(), "deviation": Deviation()}
    return p_values(detectors[name], values, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["robust_z", "zscore", "deviation", "linear"])
def test_p_values_are_uniform_on_quiet_series(name: str, kind: str) -> None:
    p = of(name, kind)
    assert distance(p) <= TOLERANCE[name]
    for level in SMALL:
        share = float(np.mean(p <= level))
        assert share <= MOST * level
        assert share >= LEAST * level or kind == "daily wave"


def test_the_measure_sees_what_is_not_uniform() -> None:
    rng = np.random.default_rng(5)
    fair = rng.random(40_000)
    assert distance(fair) < 0.02
    for unfair in (fair**1.2, np.minimum(1.0, 1.15 * fair), 0.9 * fair, np.where(fair < 0.1, 0.0, fair)):
        assert distance(unfair) > WIDEST


def test_series_that_change_are_not_called_quiet() -> None:
    """A detector whose past no longer holds gives small p-values: the test above would see it."""
    values = quiet("noise", 24, 14 * DAY, 2)
    values[7 * DAY :] *= 1.0 + 0.02 * np.arange(7 * DAY)[:, None] / DAY
    assert distance(p_values(ZScore(), values, 1)) > WIDEST
