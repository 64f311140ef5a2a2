"""`deviation`: how far a value lies from what five views of its series expect, in what each usually reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.deviation_events import EVENT_BYTES, Events
from foreshock.detect.deviation_kernel import full_sweep, light_sweep
from foreshock.detect.deviation_row import INPUTS, PRIOR_SCORE, full_row, light_row
from foreshock.detect.univariate import LeastChange, UnivariateOptions, read_options
from foreshock.errors import PermanentError
from foreshock.ports import DetectorInfo
from foreshock.state import State
from foreshock.types import Frame, Scores
from foreshock.types.units import Options

_NO_RANKING: NDArray[np.float64] = np.empty(0)


class DeviationOptions(UnivariateOptions):
    """How much is remembered of a series, and the least change."""

    tier: Literal["light", "full", "events"] = Field(
        default="full",
        description="`light` remembers three levels of a series in 256 bytes, `full` also its day, its week and how a "
        "value follows from those before, in 4,776, and `events` also its shapes, in 38 kB.",
    )
    event_budget: float = Field(
        default=0.2,
        gt=0,
        le=1e4,
        description="Tier `events`: alarms a day of the bar by which the events measure a score.",
    )
    min_change: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Least change worth an alert, in the series' own unit: a change of this size scores 2 at most.",
    )


class Deviation(LeastChange):
    """M² = Σ w·(|x − center| / (scale · reach))² / √Σw over up to five deviations of each series; score, then learn.

    The deviations: from a quick and a short level (4 and 20 rows), a long one (2 days), the season (time of day, hour
    of week) and a forecast from eight lags; each in its own scale, none below half of the mean change, and in the
    reach that its hourly maxima rarely pass. M is 1 at what is rare in the series, so `prior_score` is 1.

    Everything is learnt, but as if it lay at most 4 or 5 scales away (Huber 1964), and by event time: a gap lets the
    past fade. The first rows are learnt all at once, from medians. Until a series has moved eight times, M is at most
    4/3·(rows/60)^¼·lasting (4 where a least change is set), of the rows it has had and those that it has been unusual
    now; what stood at zero scores by a CUSUM of the rows that are not (Page 1954) where that is more. In its first hour
    no change below 5 % of the level counts. Scores are at most 1e9.

    Set `ranks` to have `step` give a ranking too: the mean deviation, held up by a fading maximum, in which an
    anomaly stays high as long as it lasts. The score is for alarms. In the tier `events`, `step` gives events as well.

    >>> Deviation({"tier": "light"}).info.bytes_per_slot
    256
    """

    options: Any = DeviationOptions
    ranks: bool = False

    def __init__(self, options: Mapping[str, Any] | DeviationOptions | None = None) -> None:
        own = read_options(DeviationOptions, options)
        self.options = own
        dtype = light_row() if own.tier == "light" else full_row()
        self._events = Events(own.event_budget) if own.tier == "events" else None
        size = dtype.itemsize + (EVENT_BYTES if self._events else 0)
        info = DetectorInfo("deviation", 1, "univariate", own.warm_up_rows, size, PRIOR_SCORE, in_reach=True)
        super().__init__(info, dtype)
        self._settings = (own.warm_up_rows, own.expiry_nanos, own.min_change)
        self._work = np.zeros((2, INPUTS))
        self._ranking = _NO_RANKING

    def step(self, frame: Frame) -> Scores:
        """As `Univariate.step`, with a ranking where `ranks` is set, and with events in their tier."""
        ranking = self._ranking = np.empty(len(frame) if self.ranks else 0)
        try:
            scores = super().step(frame)
        finally:
            self._ranking = _NO_RANKING
        if self.ranks:
            scores = replace(scores, ranking=ranking)
        if self._events is None:
            return scores
        value = np.ascontiguousarray(frame.values[:, 0])
        given = (scores.score, scores.status, self.options.expiry_nanos)
        return replace(scores, event=self._events.step(frame.key, frame.time_unix_nano, value, frame.learn, *given))

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start, with the least change they were given."""
        super().forget(keys)
        if self._events is not None:
            self._events.forget(keys)

    def state(self) -> State:
        """All it has learnt."""
        return super().state() if self._events is None else self._events.add_to(super().state())

    @classmethod
    def restore(cls, config: Mapping[str, Any] | Options | None, state: State) -> Self:
        """As `Univariate.restore`; a state without shapes is no state of the tier `events`."""
        state = state.frozen()
        detector = super().restore(config, state)
        if detector._events is not None:
            if "shapes" not in state.arrays:
                raise PermanentError("the state of detector 'deviation' holds no shapes: it was learnt in another tier")
            detector._events.load(state.arrays)
        return detector

    def sweep(
        self,
        rows: NDArray[Any],
        key: NDArray[np.int32],
        frame: Frame,
        learn: NDArray[np.bool_],
        score: NDArray[np.float64],
        given: NDArray[np.uint8],
        band: NDArray[np.float64],
    ) -> None:
        """As `Univariate.sweep`."""
        columns = (frame.time_unix_nano, frame.values[:, 0], learn, frame.status)
        out = (score, given, band, self._ranking)
        if self.options.tier == "light":
            light_sweep(rows, key, *columns, self._settings, *out)
        else:
            full_sweep(rows, key, *columns, self._settings, self._work, *out)
