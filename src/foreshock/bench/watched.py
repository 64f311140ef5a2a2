"""One labelled series through a task of its own: what each record was scored, and when its entity alarmed.

A record is given what was known when it had come: the row it stands in, once that row can no longer change, else the
row before. So no score and no alarm rests on later records, however rows were aligned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.bench.layout import Case
from foreshock.bench.measures import Flags, Reals
from foreshock.config import Config
from foreshock.detect.combine import combine
from foreshock.runtime.task import Outputs, Task
from foreshock.types import Alert, Columns, Frame, Presence, Record, Samples, Scores, Series, Status, Verdict

SOURCE = "bench"
CHUNK_ROWS = 4096
EMPTY = (Status.MISSING, Status.STALE)
"""Rows that stand for steps without records."""


class Tap:
    """A detector that keeps what the pipeline lets go: events, contributions of all rows, and its own CPU time."""

    def __init__(self, detector: Any, explain: bool) -> None:
        self._detector, self._explain = detector, explain
        self.cpu_seconds = 0.0
        self.has_events = False
        self.event_times: list[NDArray[np.int64]] = []
        self.event_scores: list[Reals] = []
        self.times: list[NDArray[np.int64]] = []
        self.contributions: list[NDArray[np.float32]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def step(self, frame: Frame) -> Scores:
        """As the detector's own."""
        started = process_time()
        scores: Scores = self._detector.step(frame)
        self.cpu_seconds += process_time() - started
        if scores.event is not None:
            self.has_events = True
            at = np.flatnonzero(scores.event > 0)
            self.event_times.append(frame.time_unix_nano[at])
            self.event_scores.append(scores.event[at])
        if self._explain and scores.contribution is not None and frame.values.shape[1] > 1:
            self.times.append(frame.time_unix_nano)
            self.contributions.append(scores.contribution)
        return scores


@dataclass(slots=True)
class Watched:
    """What the pipeline said of a case, record by record.

    `score` float64[n] ranks (0 where nothing was scored), `alarm` bool[n] the entity's alarm, `event` float64[n] of the
    detectors that tell of slow changes and shapes (None: there is none); `over` by univariate detector bool[n, J],
    which of the metrics was over its own bar; `blame` float64[n, J] what each metric has in the row, for explanations;
    `alerts` and `presence` as the keyed part gave them, before the environment's budget.
    """

    score: Reals
    alarm: Flags
    event: Reals | None
    over: dict[str, Flags]
    blame: Reals
    alerts: list[Alert]
    presence: list[Presence]
    cpu_seconds: float
    detector_seconds: dict[str, float]


def watch(case: Case, config: Config, explain: bool = False) -> Watched:
    """Play a case through the pipeline of a config; `explain` asks for what each metric has in each row.

    What comes before the judged part is learnt from and raises nothing.
    """
    times = np.round(case.seconds * 1e9).astype(np.int64)
    first = int(times[np.argmax(case.judged)])
    task = Task(config.model_copy(update={"train_until_unix_nano": first}))
    taps = _tap(task, explain)
    entity = (("series", case.series),)
    series = tuple(Series(name, entity) for name in case.metrics)
    rows = _Rows(config, len(series))
    started = process_time()
    for low in range(0, len(case), CHUNK_ROWS):
        part = slice(low, low + CHUNK_ROWS)
        record = Record(config.environment, SOURCE, SOURCE, int(times[: part.stop].max()), b"")
        rows.take(task.process(record, _samples(series, times[part], case.values[part])))
    rows.take(task.finish())
    seconds = process_time() - started
    table = rows.table()
    at = rows_of_records(table.time, np.maximum.accumulate(times))
    return Watched(
        _by_record(table.score, at, 0.0), _by_record(table.alarmed, at, False), _events(taps.values(), table, at),
        {name: _by_record(over, at, False) for name, over in table.over.items()},
        _by_record(_blame(taps.values(), table, len(series)), at, 0.0) if explain else np.zeros((0, len(series))),
        rows.alerts, rows.presence, seconds, {name: tap.cpu_seconds for name, tap in taps.items()},
    )  # fmt: skip


def _tap(task: Task, explain: bool) -> dict[str, Tap]:
    taps = {}
    for name, part in task.pipeline.bank.parts.items():
        if hasattr(part.detector, "ranks"):
            setattr(part.detector, "ranks", True)  # noqa: B010 - not every detector has it
        taps[name] = Tap(part.detector, explain)
        part.detector = taps[name]  # type: ignore[assignment]
    return taps


def _samples(series: tuple[Series, ...], times: NDArray[np.int64], values: Reals) -> Samples:
    n, m = values.shape
    return Samples(
        series, np.tile(np.arange(m, dtype=np.int32), n), np.repeat(times, m), values.ravel(),
        np.zeros(n * m, np.uint64), {},
    )  # fmt: skip


@dataclass(slots=True)
class _Table:
    """Rows of the entity in order: `strength` float64[rows, J] over the bar, of the univariate detectors."""

    time: NDArray[np.int64]
    score: Reals
    alarmed: Flags
    strength: Reals
    over: dict[str, Flags]


@dataclass(slots=True)
class _Rows:
    """Gathers outputs of a task that watches one entity of `metrics` series."""

    config: Config
    metrics: int
    alerts: list[Alert] = field(default_factory=list)
    presence: list[Presence] = field(default_factory=list)
    _parts: list[_Table] = field(default_factory=list)

    def take(self, outputs: Outputs) -> None:
        """The rows, alerts and presence of what a record brought about."""
        for columns in outputs.columns:
            self.alerts += columns.alerts
            self.presence += columns.presence
            self._parts.append(self._part(columns))

    def table(self) -> _Table:
        """All rows so far."""
        parts = self._parts
        if not parts:
            raise AssertionError("a series gave no rows")
        return _Table(
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.alarmed for part in parts]),
            np.concatenate([part.strength for part in parts]),
            {name: np.concatenate([part.over[name] for part in parts]) for name in parts[0].over},
        )

    def _part(self, columns: Columns) -> _Table:
        rows = columns.rows
        heard = ~np.isin(rows.status, EMPTY)
        row_of_cell = rows.row_of_cell()
        known = rows.series < self.metrics
        strength = np.full((len(rows), self.metrics), -np.inf)
        over: dict[str, Flags] = {}
        for verdict in self._primary(columns):
            if verdict.whole:
                continue
            cells = row_of_cell[known], rows.series[known]
            own = np.full((len(rows), self.metrics), -np.inf)
            own[cells] = np.nan_to_num(verdict.strength[known], nan=-np.inf)
            strength = np.maximum(strength, own)
            flags = np.zeros((len(rows), self.metrics), np.bool_)
            flags[cells] = verdict.anomalous[known]
            over[verdict.detector] = flags[heard]
        score = self._score(columns)
        return _Table(rows.time_unix_nano[heard], score[heard], columns.alarmed[heard], strength[heard], over)

    def _primary(self, columns: Columns) -> list[Verdict]:
        primary = {part.name for part in self.config.detectors if part.role == "primary"}
        return [verdict for verdict in columns.verdicts if verdict.detector in primary]

    def _score(self, columns: Columns) -> Reals:
        """What ranks the rows: the multivariate detector's ranking, if there is one and several metrics; of a single
        series the first detector's; else −ln of all p-values combined (Cauchy; Liu & Xie 2020)."""
        verdicts = self._primary(columns)
        whole = [one for one in verdicts if one.whole] if self.metrics > 1 else []
        single = [one for one in verdicts if not one.whole]
        if whole:
            return np.nan_to_num(whole[0].score, nan=0.0)
        if not single:
            return np.zeros(len(columns.rows))
        rows = columns.rows
        if self.metrics == 1:
            out = np.zeros(len(rows))
            known = rows.series == 0
            out[rows.row_of_cell()[known]] = np.nan_to_num(single[0].score[known], nan=0.0)
            return out
        each = np.column_stack([combine(one.p_value, rows.start) for one in single])
        both = combine(each.ravel(), np.arange(len(rows) + 1, dtype=np.int64) * len(single))
        return np.nan_to_num(-np.log(both), nan=0.0)


def rows_of_records(row_time: NDArray[np.int64], record_time: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row that is known when each record has come, int64[n], −1 = none yet; both times in order.

    A row stands at the time of its records, or where these differ at the start of its step: it is known with the
    last of them.

    >>> rows_of_records(np.array([0, 60, 120]), np.array([0, 60, 70, 125, 125])).tolist()
    [0, 0, 1, 2, 2]
    """
    owner = np.searchsorted(row_time, record_time, side="right") - 1
    first = np.searchsorted(owner, owner, side="left")
    last = np.searchsorted(owner, owner, side="right") - 1
    known = (record_time[first] == record_time[last]) | (last == np.arange(len(owner)))
    out: NDArray[np.int64] = np.where(known, owner, owner - 1).astype(np.int64)
    return out


def _by_record(values: NDArray[Any], at: NDArray[np.int64], before: Any) -> NDArray[Any]:
    out = values[np.maximum(at, 0)].copy()
    out[at < 0] = before
    return out


def _events(taps: Iterable[Tap], table: _Table, at: NDArray[np.int64]) -> Reals | None:
    """Event scores by record: each is told once, when its row is known."""
    telling = [tap for tap in taps if tap.has_events]
    if not telling:
        return None
    event = np.zeros(len(table.time))
    for tap in telling:
        for when, score in zip(tap.event_times, tap.event_scores, strict=True):
            np.maximum.at(event, np.searchsorted(table.time, when), score)
    return np.where(np.diff(at, prepend=-1) > 0, _by_record(event, at, 0.0), 0.0)


def _blame(taps: Iterable[Tap], table: _Table, metrics: int) -> Reals:
    """What each metric has in each row: contributions of a multivariate detector, else score ÷ bar."""
    out: Reals = np.exp(np.maximum(table.strength, -50.0))
    for tap in taps:
        if not tap.contributions:
            continue
        when = np.concatenate(tap.times)
        share = np.concatenate([piece[:, :metrics] for piece in tap.contributions])
        at = np.minimum(np.searchsorted(table.time, when), len(table.time) - 1)
        own = table.time[at] == when
        out = np.zeros((len(table.time), metrics))
        out[at[own]] = np.nan_to_num(share[own], nan=0.0)
        break
    return out
