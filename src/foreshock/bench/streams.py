"""What bars and alarms say of entities: their rows through the operators up to the alert, without an environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock import plugins
from foreshock.config import Config, load
from foreshock.detect.bank import Bank
from foreshock.incident.alarm import Alarm, AlarmOptions
from foreshock.state import Registry
from foreshock.types import Alert, Columns, Rows, Series, Status, Verdict

SECOND = 1_000_000_000
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
LN_KEEP = -0.35667494393873245
"""ln .7: within 6 h of a bar's last alarm only what reaches .7 of that episode's peak counts again."""
QUIET_HOURS, QUIET_ROWS = 6, 10
SLICE_CELLS = 200_000
ENTITY = "host.name"


class Told(NamedTuple):
    """One state of an episode: when it was decided (Unix ns) and how strong it was."""

    decided: int
    strength: float


@dataclass(slots=True)
class Episode:
    """An alert of one entity: its span (Unix ns; open to the end: as long as the data) and its firing states."""

    starts: int
    ends: int
    told: list[Told] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entity:
    """The rows of one entity: `time int64[n]` Unix ns in order, `values float64[n, d]`, `step` ns."""

    name: str
    time: NDArray[np.int64]
    values: NDArray[np.float64]
    step: int


@dataclass(slots=True)
class Heard:
    """What was said of an entity.

    `alarms`: detector → times (Unix ns) at which the bar of each of its keys was passed anew, one array a key: a series
    each, or the entity itself where the detector is multivariate. `episodes`: choice of detectors → alerts in order.
    """

    name: str
    alarms: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    episodes: dict[str, list[Episode]] = field(default_factory=dict)


Choices = Mapping[str, Sequence[str]]
"""Name → the detectors that raise alerts together."""


def choice_name(detectors: Sequence[str]) -> str:
    """What detectors that work together are called.

    >>> choice_name(["deviation", "linear"])
    'deviation + linear'
    """
    return " + ".join(detectors)


def hear(entities: Sequence[Entity], choices: Choices) -> list[Heard]:
    """Judge entities with the default settings by all detectors once, and alarm for each choice of them.

    Raises ConfigError where a detector is not known.
    """
    registry = Registry()
    slots = [_intern(registry, one) for one in entities]
    names = list(dict.fromkeys(name for names in choices.values() for name in names))
    config = load([], environ={}, overrides={"detectors": names})
    bank = Bank(registry, plugins.build_detectors(config.detectors), config.budget.entity)
    alarms = {choice: _alarm(registry, config, names) for choice, names in choices.items()}
    out = [Heard(one.name, {}, {choice: [] for choice in choices}) for one in entities]
    by_name = {one.name: one for one in out}
    open_ones: dict[tuple[str, str], Episode] = {}
    passed: dict[str, list[Passed]] = {name: [] for name in names}
    for rows in _slices(entities, slots):
        columns = bank.process(Columns(rows=rows))
        for verdict in columns.verdicts:
            passed[verdict.detector].append(_passed(rows, verdict))
        for choice, alarm in alarms.items():
            for alert in alarm.process(columns).alerts:
                heard = by_name[dict(alert.labels)[ENTITY.replace(".", "_")]]
                _take(heard.episodes[choice], open_ones, f"{choice}\n{alert.episode}", alert)
    last = {one.name: int(one.time[-1]) + one.step for one in entities}
    for (_, entity), episode in open_ones.items():
        episode.ends = last[entity]
    whole = {name for name, part in bank.parts.items() if part.whole}
    for name, pieces in passed.items():
        _count(out, entities, slots, name, pieces, name in whole)
    return out


class Passed(NamedTuple):
    """Rows over the bar of one detector: keys (slots), times (Unix ns), strengths."""

    key: NDArray[np.int32]
    time: NDArray[np.int64]
    strength: NDArray[np.float64]


def anew(time: NDArray[np.int64], strength: NDArray[np.float64], step: int, peaks: bool = True) -> NDArray[np.int64]:
    """The times at which a bar was passed anew, from all rows over it in order, by the rule it counts by.

    What comes within an hour (10 rows, if those are longer) of the last alarm belongs to it, and within 6 h only what
    reaches .7 of its peak alarms at all (`peaks`).
    """
    out: list[int] = []
    last, peak = -(1 << 62), -np.inf
    for now, height in zip(time.tolist(), strength.tolist(), strict=True):
        gap = now - last
        fresh = gap > max(QUIET_HOURS * HOUR, QUIET_ROWS * step) or not peaks
        if not fresh and height < peak + LN_KEEP:
            continue
        if gap > max(HOUR, QUIET_ROWS * step):
            out.append(now)
        peak = height if fresh else max(peak, height)
        last = now
    return np.array(out, np.int64)


def _intern(registry: Registry, one: Entity) -> NDArray[np.int32]:
    owner = ((ENTITY, one.name),)
    return registry.intern_all(Series(f"m{column}", owner) for column in range(one.values.shape[1]))


def _alarm(registry: Registry, config: Config, names: Sequence[str]) -> Alarm:
    options: AlarmOptions = config.alarm.model_copy(update={"silence": False})
    return Alarm(registry, options, config.budget, primary=frozenset(names))


def _slices(entities: Sequence[Entity], slots: Sequence[NDArray[np.int32]]) -> Iterator[Rows]:
    """The rows of all entities, as many of each at a time as make a good step."""
    longest = max(len(one.time) for one in entities)
    rows = max(64, SLICE_CELLS // sum(len(series) for series in slots))
    for first in range(0, longest, rows):
        pieces = []
        for slot, (one, series) in enumerate(zip(entities, slots, strict=True)):
            time = one.time[first : first + rows]
            if len(time):
                pieces.append(_rows(slot, series, time, one.values[first : first + rows], one.step))
        yield _joined(pieces)


def _rows(
    slot: int, series: NDArray[np.int32], time: NDArray[np.int64], values: NDArray[np.float64], step: int
) -> Rows:
    n, d = values.shape
    missing = np.isnan(values).all(axis=1)
    return Rows(
        np.full(n, slot, np.int32), time, time + step, np.ones(n, np.bool_),
        np.where(missing, np.uint8(Status.MISSING), np.uint8(Status.SCORED)).astype(np.uint8),
        np.arange(n + 1, dtype=np.int64) * d, np.tile(series, n), np.ascontiguousarray(values, np.float64).ravel(),
    )  # fmt: skip


def _joined(pieces: Sequence[Rows]) -> Rows:
    widths = np.concatenate([np.diff(piece.start) for piece in pieces])
    columns = [
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("entity", "time_unix_nano", "end_unix_nano", "learn", "status")
    ]
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])
    cells = [np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("series", "value")]
    entity, time, end, learn, status = columns
    series, value = cells
    return Rows(entity, time, end, learn, status, start, series, value)


def _passed(rows: Rows, verdict: Verdict) -> Passed:
    at = np.flatnonzero(verdict.anomalous & (verdict.strength >= 0.0))
    if verdict.whole:
        return Passed(rows.entity[at], rows.time_unix_nano[at], verdict.strength[at])
    row = np.searchsorted(rows.start, at, side="right") - 1
    return Passed(rows.series[at], rows.time_unix_nano[row], verdict.strength[at])


def _take(episodes: list[Episode], open_ones: dict[tuple[str, str], Episode], name: str, alert: Alert) -> None:
    key = name, dict(alert.labels)[ENTITY.replace(".", "_")]
    if alert.ends_unix_nano is not None:
        if (episode := open_ones.pop(key, None)) is not None:
            episode.ends = alert.ends_unix_nano
        return
    if key not in open_ones:
        open_ones[key] = Episode(alert.starts_unix_nano, alert.starts_unix_nano)
        episodes.append(open_ones[key])
    open_ones[key].told.append(Told(alert.decided_unix_nano, alert.strength))


def _count(
    out: list[Heard], entities: Sequence[Entity], slots: Sequence[NDArray[np.int32]], name: str,
    pieces: Sequence[Passed], whole: bool,
) -> None:  # fmt: skip
    """Add the alarms of a detector's keys to what was heard of their entities."""
    key, time, strength = (np.concatenate([getattr(piece, what) for piece in pieces]) for what in Passed._fields)
    order = np.lexsort((time, key))
    key, time, strength = key[order], time[order], strength[order]
    for slot, (heard, one, series) in enumerate(zip(out, entities, slots, strict=True)):
        keys = [slot] if whole else series.tolist()
        spans = [slice(*np.searchsorted(key, [k, k + 1]).tolist()) for k in keys]
        heard.alarms[name] = [anew(time[span], strength[span], one.step, not whole) for span in spans]


__all__ = ["Choices", "Entity", "Episode", "Heard", "Told", "anew", "choice_name", "hear"]
