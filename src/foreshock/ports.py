"""The Protocols between the stages and the world. Every port has an embedded default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from foreshock.state import State
from foreshock.types import Alert, Columns, Frame, Record, Scores


class Clock(Protocol):
    """Where time comes from; the pipeline itself never asks."""

    def now_unix_nano(self) -> int:
        """Wall clock, nanoseconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait, or until the clock is told to stop."""
        ...


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What a detector is: `kind` is `univariate` (frames of series, D = 1) or `multivariate` (frames of entities).

    `warm_up_rows` rows a key needs before it is scored; `bytes_per_slot` of state; `prior_score` a score that is
    rarely passed when all is well (the unit of its bar before it has a past); `in_reach` whether the score is already
    in units of what the key's own past hours reach, so that its bar need not find them; `least_features` that an entity
    must have for a multivariate detector to see it; `bounded` whether the score lies in [0, 1]: bar and p-values then
    go by its odds, score ÷ (1 − score).
    """

    name: str
    version: int
    kind: str
    warm_up_rows: int
    bytes_per_slot: int
    prior_score: float
    in_reach: bool = False
    least_features: int = 1
    bounded: bool = False


@runtime_checkable
class Detector(Protocol):
    """Row by row: score, and only then learn (CONTRACTS §4).

    `step(a ++ b) == step(a); step(b)`, bit for bit; rows whose status is not `SCORED` are neither scored nor learnt
    and keep their status; `learn` = False rows are scored but not learnt. Keys are slots: small, dense integers.

    Beyond this a detector may have `bands`, an attribute that is set to True before rows come: then `step` gives
    `expected`, `low` and `high` too, which `score` always does; `ranks`, likewise, for `ranking`; and, if univariate,
    `configure_keys(keys int32[k], min_change float64[k])`, called when series are new or forgotten, with the least
    change worth an alarm of each; `meet(keys int32[k], series)`, called then too, with the `Series` of each; and
    `threshold`, a limit on its score that a user set: its alarms then go by that and have no budget. One that judges
    something of a series other than its value names it in `measure`, and gives `Scores.measured` where `bands` is set.
    A multivariate one may have `contributions`, set to True like `bands`: then `step` gives them too. One whose scores
    the two-sided bar does not fit has `make_bar(budget_per_day, options)`, which gives the bar that does.
    """

    info: DetectorInfo

    def step(self, frame: Frame) -> Scores:
        """Score each row against what was learnt before it, then learn it where `frame.learn`."""
        ...

    def score(self, frame: Frame) -> Scores:
        """Score every row against the state as it is, with bands and contributions, changing nothing."""
        ...

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start."""
        ...

    def state(self) -> State:
        """All it has learnt."""
        ...

    @classmethod
    def restore(cls, config: Mapping[str, Any], state: State) -> Self:
        """The detector that gave `state`, from its config; arrays of `state` may only be read."""
        ...


class Operator(Protocol):
    """A step of the pipeline: columns in, columns out; no I/O, no clock (CONTRACTS §5)."""

    name: str

    def process(self, columns: Columns) -> Columns:
        """Take one step; the result holds what later operators need."""
        ...

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Nothing older than this will come; what that decides."""
        ...

    def forget(self, entity: int, series: NDArray[np.int32]) -> None:
        """Give an entity (slot) and its series (slots) a fresh start."""
        ...

    def state(self) -> State:
        """All it remembers."""
        ...

    def load(self, state: State) -> None:
        """Take over what `state` gave, on an operator of the same config."""
        ...


Submit = Callable[[Record], None]
"""Hands a record to the runtime: returns once it is in the log; raises RetryableError when there is no room."""


class Source(Protocol):
    """Brings telemetry from one outside system as records.

    Beside what stands here it may have `resume(time_unix_nano)`, called before `run` with the newest time that the log
    has of it; `problem`, why it brings nothing new now, in words; and `every_seconds` between two readings. It may
    submit a watermark record before its past: what is older is history then, which notifies nobody.
    """

    name: str
    lateness_seconds: float

    def run(self, submit: Submit, clock: Clock) -> None:
        """Bring records until `stop`; runs in a thread of its own."""
        ...

    def stop(self) -> None:
        """End `run` soon."""
        ...


class Sink(Protocol):
    """Takes alerts out; fed from the outbox, at least once, in order."""

    name: str

    def send(self, alerts: Sequence[Alert]) -> None:
        """Deliver; RetryableError = again later, PermanentError = give these up."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


class RecordReader(Protocol):
    """A log to read from: positions only grow and are never used twice."""

    def read(self, position: int) -> Iterator[tuple[int, Record]]:
        """Records from `position` on with the position after each."""
        ...
