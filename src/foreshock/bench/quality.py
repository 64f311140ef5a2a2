"""`foreshock bench quality`: detectors on labelled series, run causally, beside peers that are run in the same way.

Each series is an entity of its own that goes through the whole pipeline of one config: no set has settings of its own.
Score and alarm files of every series go to OUT/<set>/<method>/, with a row for each record of the series.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foreshock.bench import faults, peers
from foreshock.bench.layout import Case, Place, quiet_rows, read
from foreshock.bench.measures import (
    DAY,
    Counts,
    Flags,
    Reals,
    auc_pr,
    buffer_length,
    cool_down,
    event_counts,
    notifications,
    slack,
    vus_pr,
)
from foreshock.bench.nab import Scored
from foreshock.bench.watched import Watched, watch
from foreshock.config import Config, parse_resolved
from foreshock.errors import ForeshockError
from foreshock.runtime.warm import warm
from foreshock.types import Alert, AlertKind, Presence

OURS, EVENTS = "foreshock", "foreshock events"
NANO = 1_000_000_000
SILENT_SECONDS = 21_600.0
"""A series' own alarm that goes on within six hours of the last one is the same."""
BUFFERS = {"nab": 100, "asd": 24, "jumpstarter": 24, "mscloud": 12, "aiops": 60}
"""Rows of the buffer of VUS-PR for public sets; for `smd` the period of the first metric; of others an hour, at least
ten rows. For scoring only."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a method was worth on a series; `scored` for NAB's score, and what only the pipeline tells in `own`."""

    dataset: str
    method: str
    series: str
    rows: int
    judged: int
    metrics: int
    vus_pr: float
    auc_pr: float
    counts: Counts
    cpu_seconds: float
    notes: tuple[str, ...] = ()
    scored: Scored | None = None
    alarms: Scored | None = None
    own: Own | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """Quiet time at a level of the budget: what was notified of there, in how many days."""

    notified: int = 0
    days: float = 0.0


@dataclass(frozen=True, slots=True)
class Own:
    """What the pipeline says beyond scores and alarms.

    `series` quiet alarms by univariate detector (days of all metrics), `entity` those of the entity; `told` states of
    alerts with whether each begins in quiet and in judged time; `starts_unix_nano`, `days` of the judged part;
    `ranked` the metrics of each explained event, best first, and `explained` the true ones.
    """

    series: dict[str, Level]
    entity: Level
    told: list[tuple[Alert, bool, bool]]
    presence: list[Presence]
    starts_unix_nano: int
    days: float
    detector_seconds: dict[str, float]
    faults: list[faults.Tally] = field(default_factory=list)
    ranked: list[list[str]] = field(default_factory=list)
    explained: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A series that could not be used, or a method that failed on it, and why."""

    dataset: str
    series: str
    method: str
    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run: our pipeline under a config, the peers, and where files go."""

    config: Config
    out: Path
    peers: tuple[str, ...] = ()
    faults: bool = True
    seed: int = 0


def run(job: Job, places: Sequence[Place], jobs: int) -> Iterator[tuple[int, int, list[Result] | Skipped]]:
    """Every method on every series, in processes beside one another, or in this one: (done, of all, results)."""
    resolved = job.config.resolved()
    sizes = {place: place.path.stat().st_size for place in places}
    todo = [(place, method) for place in places for method in (OURS, *job.peers)]
    todo.sort(key=lambda one: (one[1] != OURS, -sizes[one[0]]))
    arguments = [(place, method, resolved, job.out, job.faults, job.seed) for place, method in todo]
    if jobs == 1:
        _begin(resolved)
        for done, one in enumerate(arguments, 1):
            yield done, len(arguments), _safely(*one)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (resolved,)) as pool:
        futures = [pool.submit(_safely, *one) for one in arguments]
        for done, future in enumerate(as_completed(futures), 1):
            yield done, len(futures), future.result()


def _begin(resolved: bytes) -> None:
    """Compile the kernels before any time is taken."""
    warm(parse_resolved(resolved))


def _safely(
    place: Place, method: str, resolved: bytes, out: Path, with_faults: bool, seed: int
) -> list[Result] | Skipped:
    try:
        case = read(place)
        if method == OURS:
            return ours(case, parse_resolved(resolved), out, seed if with_faults else None)
        return [of_peer(case, peers.PEERS[method], out)]
    except (ForeshockError, ArithmeticError, ValueError, MemoryError) as error:
        said = str(error) if isinstance(error, ForeshockError) else f"{type(error).__name__}: {error}"
        return Skipped(place.dataset, place.series, method, said)


def ours(case: Case, config: Config, out: Path, seed: int | None) -> list[Result]:
    """The pipeline on a case: its alarms, and where a detector tells of events and the set is NAB's, those too.

    `seed` of the faults; None puts none in.
    """
    watched = watch(case, config, explain=bool(case.explained))
    score = watched.score / (watched.score + 50.0)
    tallies: list[faults.Tally] = []
    if seed is not None and (planned := faults.plan(case, seed)):
        broken = watch(replace(case, values=faults.inject(case, planned)), config)
        tallies = faults.tallies(planned, broken.alarm, watched.alarm)
    own = _own(case, watched, config, tallies)
    first = _result(case, OURS, score, watched.alarm, watched.cpu_seconds, out)
    results = [replace(first, own=own)]
    if watched.event is not None and case.windows is not None:
        results.append(_result(case, EVENTS, watched.event, watched.event > 0, watched.cpu_seconds, out))
    return results


def of_peer(case: Case, peer: peers.Peer, out: Path) -> Result:
    """A peer on a case."""
    score, alarm, seconds = peers.run(peer, case)
    return _result(case, peer.name, score, alarm, seconds, out)


def _result(case: Case, method: str, score: Reals, alarm: Flags, seconds: float, out: Path) -> Result:
    folder = out / case.dataset / method.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"score": score, "alarm": alarm}), folder / f"{case.series}.parquet")
    judged, step = case.judged, case.step_seconds
    truth, ranks = case.truth[judged], score[judged]
    some = truth.any() and not truth.all()
    scored = alarms = None
    if case.windows is not None:
        told = np.zeros(len(case))
        told[notifications(alarm, cool_down(step))] = 1.0
        scored, alarms = (Scored(case.seconds, one, case.windows) for one in (score, told))
    return Result(
        case.dataset, method, case.series, len(case), int(judged.sum()), len(case.metrics),
        vus_pr(truth, ranks, buffer_of(case)) if some else math.nan,
        auc_pr(truth, ranks) if some else math.nan,
        event_counts(truth, alarm[judged], step),
        seconds, case.notes, scored, alarms,
    )  # fmt: skip


def buffer_of(case: Case) -> int:
    """The rows of the buffer of VUS-PR."""
    if case.dataset == "smd":
        return buffer_length(np.nan_to_num(case.values[case.judged, 0]))
    return BUFFERS.get(case.dataset, cool_down(case.step_seconds))


def _own(case: Case, watched: Watched, config: Config, tallies: list[faults.Tally]) -> Own:
    step = case.step_seconds
    quiet = quiet_rows(case, slack(step))
    days = float(quiet.sum() * step / DAY)
    silent = max(math.ceil(SILENT_SECONDS / step), 10)
    series = {
        name: Level(
            sum(len(notifications(over[:, j] & quiet, silent)) for j in range(over.shape[1])), days * over.shape[1]
        )
        for name, over in watched.over.items()
    }
    times = np.round(case.seconds * NANO).astype(np.int64)
    told: list[tuple[Alert, bool, bool]] = []
    opened: dict[str, tuple[bool, bool]] = {}
    for alert in watched.alerts:
        if alert.episode not in opened:
            at = min(int(np.searchsorted(times, alert.starts_unix_nano)), len(times) - 1)
            opened[alert.episode] = bool(quiet[at]), bool(case.judged[at])
        told.append((alert, *opened[alert.episode]))
    openings = {alert.episode for alert, calm, _ in told if calm and alert.kind is AlertKind.ANOMALY}
    first = int(np.argmax(case.judged))
    ranked = []
    for event in case.explained:
        blame = watched.blame[first + event.start : first + event.end + 1].max(axis=0)
        ranked.append([case.metrics[j] for j in np.argsort(-blame, kind="stable")])
    return Own(
        series, Level(len(openings), days), told, watched.presence, int(times[first]),
        float((case.seconds[-1] - case.seconds[first]) / DAY), watched.detector_seconds, tallies, ranked,
        [event.metrics for event in case.explained],
    )  # fmt: skip


def absent(names: Sequence[str]) -> list[peers.Peer]:
    """The peers whose library is not installed."""
    return [peers.PEERS[name] for name in names if not peers.PEERS[name].is_there]


def config_facts(config: Config) -> dict[str, Any]:
    """What was run, for the report."""
    return {
        "detectors": [part.model_dump(mode="json") for part in config.detectors],
        "budget": {"entity": config.budget.entity, "environment": config.budget.environment},
    }


__all__ = ["BUFFERS", "EVENTS", "OURS", "Job", "Level", "Own", "Result", "Skipped", "absent", "ours", "run"]
