"""What the checks of `check_detector` stand on: the detector in question, its rows, and how a breach is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.ports import Detector
from foreshock.state import State
from foreshock.testing import frames
from foreshock.testing.frames import DAY, START, difference, make, merge
from foreshock.types import Frame, Scores, Status

Factory = Callable[[Mapping[str, Any]], Detector]
"""Makes a detector of its config; the class itself does."""


class Breach(AssertionError):
    """A rule does not hold; the message says what was seen."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is checked: how to make it, and what it said of itself."""

    factory: Factory
    config: Mapping[str, Any]
    seed: int
    univariate: bool | None = None
    twin: Callable[[Mapping[str, Any]], Any] | None = None
    twin_tolerance: float = 0.0

    def new(self) -> Detector:
        """A fresh detector."""
        return self.factory(self.config)

    def restore(self, state: State) -> Detector:
        """The detector that gave a state."""
        return type(self.new()).restore(self.config, state)

    def rng(self) -> np.random.Generator:
        """The same numbers in each check."""
        return np.random.default_rng(self.seed)

    @property
    def warm_up(self) -> int:
        """Rows a key needs before it is scored."""
        return self.new().info.warm_up_rows

    @property
    def multivariate(self) -> bool:
        """Whether frames have several columns."""
        return self.new().info.kind == "multivariate"

    @property
    def width(self) -> int:
        """Columns in use of ordinary frames."""
        return 3 if self.multivariate else 1

    def past(self, keys: int = 2) -> Frame:
        """Rows that warm `keys` keys."""
        return frames.round_robin(self.rng(), self.warm_up + 8, keys, self.width)

    def future(self, keys: int = 2, rounds: int = 12) -> Frame:
        """Rows that come after `past`."""
        return frames.round_robin(np.random.default_rng(self.seed + 1), rounds, keys, self.width, START + DAY)

    def row(self, key: int, time_unix_nano: int, value: float, **more: Any) -> Frame:
        """One row whose features are all `value`."""
        return make([key], time_unix_nano, np.full((1, self.width), value), **more)


def walk(detector: Detector, frame: Frame) -> Scores:
    """Step over the rows one by one, each in arrays of its own."""
    if not len(frame):
        return Scores(np.zeros(0), np.zeros(0, np.uint8))
    return merge([detector.step(frame.take(np.array([i]))) for i in range(len(frame))])


def require(holds: bool, seen: str) -> None:
    """Raise a Breach unless it holds."""
    if not holds:
        raise Breach(seen)


def require_same(seen: Scores, wanted: Scores, when: str) -> None:
    """Raise a Breach unless two scores are the same, bit for bit."""
    found = difference(seen, wanted)
    require(found is None, f"{when}: {found}")


def only(scores: Scores, rows: NDArray[np.bool_]) -> Scores:
    """The scores of some rows."""
    return Scores(scores.score[rows], scores.status[rows])


def where(frame: Frame, rows: NDArray[np.bool_]) -> Frame:
    """Some rows of a frame."""
    return frame.take(np.flatnonzero(rows))


def well_formed(scores: Scores, n: int, by: str) -> None:
    """Raise a Breach unless scores and statuses have the shapes, types and NaN of n rows."""
    for name, array, dtype in (("score", scores.score, np.float64), ("status", scores.status, np.uint8)):
        require(array.shape == (n,) and array.dtype == dtype,
                 f"{by} gave {name} {array.dtype}{list(array.shape)}, not {np.dtype(dtype)}[{n}]")  # fmt: skip
    require(bool((scores.status <= max(Status)).all()), f"{by} gave a status that there is not")
    scored = scores.status == Status.SCORED
    require(bool(np.isnan(scores.score[~scored]).all()), f"{by} gave a score to a row whose status is not `scored`")
    require(not np.isnan(scores.score[scored]).any(), f"{by} gave a row `scored` and no score")


def band_fits(scores: Scores, n: int, by: str, needed: bool) -> None:
    """Raise a Breach unless expected, low and high are those of n rows; None will do where not `needed`."""
    for name in ("expected", "low", "high"):
        band = getattr(scores, name)
        require(not needed or band is not None, f"{by} gives no {name}")
        require(band is None or (band.shape == (n,) and band.dtype == np.float64), f"{by}: {name} is not float64[{n}]")
    if scores.expected is not None and scores.low is not None and scores.high is not None:
        wrong = (scores.low > scores.expected) | (scores.expected > scores.high)
        require(not wrong.any(), f"{by}: low ≤ expected ≤ high does not hold in {np.count_nonzero(wrong)} rows")
