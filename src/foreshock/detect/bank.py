"""The bank of detectors: every detector steps over the rows; its own calibrator and bar make verdicts of its scores.

Univariate detectors see the cells (key = series), multivariate ones the rows (key = entity). A detector that raises
stops the pipeline with a PermanentError that names it: to go on without it would make what is said depend on when it
broke. Rows that a detector has not warmed up for, that its bar has not (`BarOptions.min_rows`), or that lie before
`train_until_unix_nano` are `warming_up` in the verdict, whatever was learnt from them.

A detector of entities that gives a ranking ranks a row the higher the more features stand out by themselves (`crowd`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from foreshock.detect.apart import apart_verdict
from foreshock.detect.bar import Bar, BarOptions
from foreshock.detect.calibrate import Calibrator, CalibratorOptions
from foreshock.detect.crowd import Crowd, share_of
from foreshock.detect.speed import Speed
from foreshock.detect.verdict_kernel import EXPECTED, HIGH, LOW, P_VALUE, RANKING, SCORED, STRENGTH, settle
from foreshock.errors import ConfigError, ForeshockError, PermanentError
from foreshock.ports import Detector
from foreshock.state import Registry, State
from foreshock.telemetry import ANOMALIES, LATENCY, THROUGHPUT, model_of
from foreshock.types import Columns, Frame, Rows, Scores, Series, Status, Verdict
from foreshock.types.units import Options

_NO_BAND = np.empty(0)


class TrustOptions(Options):
    """How scores become p-values and alarms."""

    calibrator: CalibratorOptions = Field(default_factory=CalibratorOptions, description="Scores to p-values.")
    bar: BarOptions = Field(default_factory=BarOptions, description="Scores to alarms.")


class Bank:
    """The operator that runs detectors, calibrators and bars, one of each a detector.

    Parameters
        registry               slots of series and entities
        detectors              name → detector, in the order of the verdicts
        budget_entity_per_day  alarms a day and key that each bar keeps to
        min_change             glob of feature names → least change worth an alarm; the first that matches counts, and
                               goes to detectors that have `configure_keys(keys int32[k], min_change float64[k])`; those
                               with `meet(keys int32[k], series)` are shown the series themselves
        watch, ignore          globs of feature names: what is judged, and what of that is not; a series that is not
                               judged is `excluded` and reaches no detector
        bands                  keep the expected band of every row, not only of anomalous ones
        train_until_unix_nano  rows before it are learnt and never anomalous
        trust                  options of calibrators and bars
        configs                name → config of its detector, for `restore`; without, its own `options`
        shadows                names of detectors that only score, to be compared: their verdicts say so

    A glob is tried on the feature (name and attributes) and on the name alone. Raises ConfigError where a detector is
    not what `DetectorInfo` allows.
    """

    name = "bank"

    def __init__(
        self,
        registry: Registry,
        detectors: Mapping[str, Detector],
        budget_entity_per_day: float,
        *,
        min_change: Mapping[str, float] | None = None,
        watch: Iterable[str] = ("*",),
        ignore: Iterable[str] = (),
        bands: bool = False,
        train_until_unix_nano: int | None = None,
        trust: TrustOptions | None = None,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
        shadows: Collection[str] = (),
    ) -> None:
        self.registry = registry
        self.configs = dict(configs or {})
        trust = trust or TrustOptions()
        self.parts = {
            name: Part(name, detector, budget_entity_per_day, trust, bands, name in shadows)
            for name, detector in detectors.items()
        }
        self._train_until = np.iinfo(np.int64).min if train_until_unix_nano is None else train_until_unix_nano
        self._watch, self._ignore = _patterns(watch), _patterns(ignore)
        self._min_change = [(_pattern(glob), value) for glob, value in (min_change or {}).items()]
        self._known = 0
        self._judged: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def process(self, columns: Columns) -> Columns:
        """The columns with a verdict of each detector, over the cells or the rows."""
        rows = columns.rows
        if not len(rows):
            return replace(columns, verdicts=())
        self._meet()
        training = rows.time_unix_nano < self._train_until
        judged = self._judged[rows.series]
        row = rows.row_of_cell()
        cells, new = _cells(rows, row, judged), training[row]
        every = self.parts.values()
        verdicts = {part.name: part.over_cells(cells, new) for part in every if not part.whole}
        seen = [part.strength for part in every if part.sees_values]
        verdicts |= {part.name: part.over_rows(rows, judged, training, seen) for part in every if part.whole}
        return replace(columns, verdicts=tuple(verdicts[name] for name in self.parts))

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Nothing: rows alone decide."""
        return Columns()

    def achieved(self, now_day: int, days: int = 30) -> dict[str, float]:
        """Notifications a key and day over the last event-days, by detector (`Bar.achieved`)."""
        return {name: part.bar.achieved(now_day, days) for name, part in self.parts.items()}

    def forget(self, entity: int, series: NDArray[np.int32]) -> None:
        """Give an entity and its series a fresh start in every detector, calibrator and bar."""
        for part in self.parts.values():
            part.forget(np.array([entity], np.int32) if part.whole else series)
        self._configure(series[series < self._known])

    def state(self) -> State:
        """The states of all parts, their names under `<detector>/detector/`, `/calibrator/` and `/bar/`."""
        merged = State(1, {"parts": {}})
        for name, part in self.parts.items():
            for role, state in part.states().items():
                _merge(merged, f"{name}/{role}/", state)
        return merged

    def load(self, state: State) -> None:
        """Take over what `state` gave; detectors are restored from their configs.

        Raises PermanentError where it is not the state of these detectors.
        """
        if state.tables:
            state = state.frozen()
        for name, part in self.parts.items():
            states = {role: _extract(state, f"{name}/{role}/") for role in part.roles}
            config = self.configs.get(name)
            part.load(states, _own_options(part.detector) if config is None else config)
        self._known = 0

    def _meet(self) -> None:
        """Look up the settings of series that are new since the last rows."""
        known, now = self._known, len(self.registry)
        if known == now:
            return
        new = self.registry.series[known:now]
        self._judged = np.append(
            self._judged[:known], [_any(self._watch, one) and not _any(self._ignore, one) for one in new]
        ).astype(np.bool_)
        self._known = now
        self._configure(np.arange(known, now, dtype=np.int32))

    def _configure(self, keys: NDArray[np.int32]) -> None:
        keys = keys[self._judged[keys]]
        if not len(keys):
            return
        series = self.registry.series
        new = [series[key] for key in keys.tolist()]
        least = np.array([_first(self._min_change, one) for one in new])
        for part in self.parts.values():
            if part.whole:
                continue
            if (configure := getattr(part.detector, "configure_keys", None)) is not None:
                configure(keys, least)
            if (meet := getattr(part.detector, "meet", None)) is not None:
                meet(keys, new)


class Part:
    """One detector with the calibrator and the bar that make its scores comparable."""

    def __init__(
        self,
        name: str,
        detector: Detector,
        budget_per_day: float,
        trust: TrustOptions,
        bands: bool,
        shadow: bool = False,
    ) -> None:
        info = detector.info
        if info.kind not in ("univariate", "multivariate"):
            raise ConfigError(f"detector {name!r} is {info.kind!r}: it must be univariate or multivariate")
        if "/" in name:
            raise ConfigError(f"detector {name!r}: a name must not hold '/'")
        self.name, self.detector, self.whole = name, detector, info.kind == "multivariate"
        self._bands, self.shadow = bands, shadow
        self._ask_for_more()
        threshold = getattr(detector, "threshold", None)
        if self.whole and threshold is not None:
            raise ConfigError(f"detector {name!r} judges whole entities: a threshold needs a detector of single series")
        unit = odds(info.prior_score) if info.bounded else info.prior_score
        own_bar = getattr(detector, "make_bar", None)
        self.bar: Bar = (
            Bar(unit, budget_per_day, trust.bar, threshold, info.in_reach)
            if own_bar is None
            else own_bar(budget_per_day, trust.bar)
        )
        self.calibrator = Calibrator(unit, trust.calibrator)
        model = model_of(name)
        self._latency, self._throughput = LATENCY.labels(model), THROUGHPUT.labels(model)
        self._anomalies = ANOMALIES.labels(model)
        self.speed = Speed()
        self.crowd = Crowd()
        self.strength: NDArray[np.float64] = np.zeros(0)

    @property
    def roles(self) -> tuple[str, ...]:
        """What it keeps states of."""
        return ("detector", "calibrator", "bar", *(("crowd",) if self.whole else ()))

    @property
    def sees_values(self) -> bool:
        """Whether it tells by its own bar how far single series are from themselves, and is heard."""
        own = not self.whole and not self.shadow and self.bar.threshold is None
        return own and not getattr(self.detector, "measure", "")

    def _ask_for_more(self) -> None:
        """Have `step` give bands and contributions where it can on request.

        Those of anomalous rows are always needed, and only `step` knows the state that a row was judged by.
        """
        for name in ("bands", "contributions"):
            if hasattr(self.detector, name):
                setattr(self.detector, name, True)

    def over_cells(self, cells: Frame, training: NDArray[np.bool_]) -> Verdict:
        """The verdict over cells."""
        return self._judge(cells.key, cells.time_unix_nano, cells.learn, training, self._step(cells))

    def over_rows(
        self,
        rows: Rows,
        judged: NDArray[np.bool_],
        training: NDArray[np.bool_],
        seen: Sequence[NDArray[np.float64]] = (),
    ) -> Verdict:
        """The verdict over the rows, frame by frame of one width; cells not judged are missing to the detector.

        Rows of entities with too few features for it are excluded. `seen` are strengths of the cells, of each detector
        of single series that counts as a witness of the rank.
        """
        if not judged.all():
            rows = replace(rows, value=np.where(judged, rows.value, np.nan))
        n = len(rows)
        score, ranking, expected, low, high = (np.full(n, np.nan) for _ in range(5))
        prediction: NDArray[np.int8] | None = None
        status = np.where(rows.status == Status.SCORED, np.uint8(Status.MISSING), rows.status).astype(np.uint8)
        shares: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        departed: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        ranks = False
        for at, frame in rows.entity_frames():
            wide = np.flatnonzero(frame.width >= self.detector.info.least_features)
            if len(wide) < len(frame):
                status[at] = Status.EXCLUDED
                at, frame = at[wide], frame.take(wide)
            if not len(frame):
                continue
            scores = self._step(frame)
            score[at], status[at] = scores.score, scores.status
            ranking[at] = scores.score if scores.ranking is None else scores.ranking
            ranks |= scores.ranking is not None
            if scores.contribution is not None:
                shares.append((at, scores.contribution))
            if scores.apart is not None:
                departed.append((at, scores.apart))
            if scores.prediction is not None:
                prediction = np.zeros(n, np.int8) if prediction is None else prediction
                prediction[at] = scores.prediction
            for band, piece in ((expected, scores.expected), (low, scores.low), (high, scores.high)):
                if piece is not None:
                    band[at] = piece
        if ranks and seen:
            share = share_of(rows, np.fmax.reduce(seen))
            ranking *= self.crowd.step(rows.entity, share, status, rows.learn)
        all_scores = Scores(score, status, None, expected, low, high, ranking)
        verdict = self._judge(rows.entity, rows.time_unix_nano, rows.learn, training, all_scores)
        if prediction is not None:
            judged_rows = verdict.status == Status.SCORED
            verdict = replace(verdict, prediction=np.where(judged_rows, prediction, np.int8(0)))
        if departed:
            apart = apart_verdict(rows, verdict, departed, self.bar.budget_per_day)
            verdict = replace(verdict, singles=True, apart=apart)
        return replace(verdict, contribution=_of_cells(rows, shares, verdict.anomalous)) if shares else verdict

    def _step(self, frame: Frame) -> Scores:
        started = perf_counter()
        try:
            scores = self.detector.step(frame)
        except ForeshockError:
            raise
        except Exception as error:
            raise PermanentError(
                f"detector {self.name!r} failed on a frame of {len(frame)} rows: {type(error).__name__}: {error}"
            ) from error
        seconds = perf_counter() - started
        self._latency.observe(seconds)
        self.speed.note(seconds, len(frame))
        if seconds > 0:
            self._throughput.set(len(frame) / seconds)
        if len(scores.score) != len(frame) or len(scores.status) != len(frame):
            raise PermanentError(
                f"detector {self.name!r} gave {len(scores.score)} scores and {len(scores.status)} states "
                f"for {len(frame)} rows"
            )
        return scores

    def _judge(
        self,
        key: NDArray[np.int32],
        time_unix_nano: NDArray[np.int64],
        learn: NDArray[np.bool_],
        training: NDArray[np.bool_],
        scores: Scores,
    ) -> Verdict:
        score = np.ascontiguousarray(scores.score, np.float64)
        given = np.ascontiguousarray(scores.status, np.uint8)
        level = odds(score) if self.detector.info.bounded else score
        strength, over = self.bar.step(key, time_unix_nano, level, given, learn, ~training)
        self.strength = strength
        # What a user's own limit calls too much may still be usual here: only the bar's own alarms are not learnt.
        clean = learn if self.bar.threshold is not None else learn & ~over
        ranking = score if scores.ranking is None else np.ascontiguousarray(scores.ranking, np.float64)
        p = self.calibrator.step(key, odds(ranking) if self.detector.info.bounded else ranking, given, clean)
        n = len(given)
        status, anomalous, out = np.empty(n, np.uint8), np.empty(n, np.bool_), np.empty((6, n))
        expected, low, high = (
            _NO_BAND if band is None else np.ascontiguousarray(band, np.float64)
            for band in (scores.expected, scores.low, scores.high)
        )
        found = settle(
            given, over, training, ranking, p, strength, expected, low, high, self._bands, status, anomalous, out
        )
        if found:
            self._anomalies.inc(found)
        return Verdict(
            self.name, out[RANKING], status, out[P_VALUE], out[STRENGTH], anomalous, out[EXPECTED], out[LOW], out[HIGH],
            self.whole, None, self.shadow,
            event=None if scores.event is None else np.where(status == SCORED, scores.event, np.nan),
            measure=getattr(self.detector, "measure", ""), measured=scores.measured,
        )  # fmt: skip

    def forget(self, keys: NDArray[np.int32]) -> None:
        """Give these keys a fresh start."""
        self.detector.forget(keys)
        self.calibrator.forget(keys)
        self.bar.forget(keys)
        self.crowd.forget(keys)

    def states(self) -> dict[str, State]:
        """State by role."""
        every = self.detector.state, self.calibrator.state, self.bar.state, self.crowd.state
        return {role: state() for role, state in zip(self.roles, every, strict=False)}

    def load(self, states: Mapping[str, State], config: Mapping[str, Any]) -> None:
        """Take over states by role, the detector as a new one of the same class."""
        self.detector = type(self.detector).restore(config, states["detector"])
        self._ask_for_more()
        self.calibrator.load(states["calibrator"])
        self.bar.load(states["bar"])
        if self.whole:
            self.crowd.load(states["crowd"])


def _cells(rows: Rows, row: NDArray[np.int64], judged: NDArray[np.bool_]) -> Frame:
    """The cells, in these rows, as all detectors of single series see them; those not judged are excluded."""
    frame = rows.series_frame(row)
    if judged.all():
        return frame
    return replace(frame, status=np.where(judged, frame.status, np.uint8(Status.EXCLUDED)))


def odds(score: Any) -> Any:
    """s ÷ (1 − s) of a score or scores in [0, 1]: the nearer to 1 the larger, up to 1e9.

    >>> float(odds(0.5)), round(float(odds(0.9)), 9)
    (1.0, 9.0)
    """
    return score / np.maximum(1.0 - score, 1e-9)


def _of_cells(
    rows: Rows, shares: list[tuple[NDArray[np.int64], NDArray[np.float32]]], anomalous: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Contributions by cell: float32[m], from pieces of rows and their padded contributions; NaN but for anomalous."""
    out = np.full(len(rows.series), np.nan, np.float32)
    for at, contribution in shares:
        for i in np.flatnonzero(anomalous[at]).tolist():
            start, end = int(rows.start[at[i]]), int(rows.start[at[i] + 1])
            out[start:end] = contribution[i, : end - start]
    return out


def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


def _patterns(globs: Iterable[str]) -> list[re.Pattern[str]]:
    return [_pattern(glob) for glob in globs]


def _matches(pattern: re.Pattern[str], series: Series) -> bool:
    return bool(pattern.match(series.feature) or pattern.match(series.name))


def _any(patterns: list[re.Pattern[str]], series: Series) -> bool:
    return any(_matches(pattern, series) for pattern in patterns)


def _first(settings: list[tuple[re.Pattern[str], float]], series: Series) -> float:
    """The value of the first glob that matches, else 0."""
    return next((value for pattern, value in settings if _matches(pattern, series)), 0.0)


def _own_options(detector: Detector) -> Mapping[str, Any]:
    """What a detector says it was made from: its attribute `options`, a model or a mapping; else nothing."""
    options = getattr(detector, "options", None)
    if isinstance(options, BaseModel):
        return options.model_dump()
    return options if isinstance(options, Mapping) else {}


def _merge(into: State, prefix: str, part: State) -> None:
    into.meta["parts"][prefix] = {"version": part.version, "meta": part.meta}
    into.arrays.update({prefix + name: array for name, array in part.arrays.items()})
    into.tables.update({prefix + name: table for name, table in part.tables.items()})
    into.blobs.update({prefix + name: chunks for name, chunks in part.blobs.items()})


def _extract(state: State, prefix: str) -> State:
    part = state.meta.get("parts", {}).get(prefix)
    if part is None:
        raise PermanentError(f"the saved state holds nothing of {prefix!r}: it was saved under other detectors")
    cut = len(prefix)
    return State(
        part["version"],
        part["meta"],
        {name[cut:]: array for name, array in state.arrays.items() if name.startswith(prefix)},
        {},
        {name[cut:]: chunks for name, chunks in state.blobs.items() if name.startswith(prefix)},
    )
