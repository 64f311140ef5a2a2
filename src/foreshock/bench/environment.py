"""Entities' alerts together in one environment, through its budget: which of them notify."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.bench.streams import DAY, ENTITY, Episode, Told
from foreshock.bench.stretches import START, Clock
from foreshock.incident.budget import Budget, BudgetOptions
from foreshock.types import Alert, AlertKind, Columns, Presence, label_text, labels

NONE, NOT_JUDGED = -1, -2
"""In the place of an incident's number: an alert about none, and one that does not count."""


class Said(NamedTuple):
    """An alert of an entity of the environment, and the number of the incident it is about."""

    entity: int
    starts: int
    told: tuple[Told, ...]
    incident: int = NONE


@dataclass(frozen=True, slots=True)
class Quiet:
    """What an entity says in its quiet time: alerts by the quiet time before them (ns), in a time of `length` ns."""

    name: str
    length: int
    at: tuple[int, ...]
    episodes: tuple[Episode, ...]

    def drawn(self, entity: int, shift: int, days: int) -> list[Said]:
        """Its alerts from `START` on for so many days, its quiet time turned by `shift` ns and repeated."""
        out = []
        for place, episode in zip(self.at, self.episodes, strict=True):
            for at in range((place - shift) % self.length, days * DAY, self.length):
                out.append(Said(entity, START + at, later(episode.told, START + at - episode.starts)))
        return out


class Incident(NamedTuple):
    """What is said of an incident: its alerts, by the time since it began (ns)."""

    set: str
    episodes: tuple[Episode, ...]

    def drawn(self, number: int, entity: int, at: int) -> list[Said]:
        """Its alerts if it began at this time (Unix ns)."""
        return [Said(entity, at + one.starts, later(one.told, at), number) for one in self.episodes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Notifications of each day, `int64[days]`: `all` and `quiet` (about no incident); which incidents were told."""

    all: NDArray[np.int64]
    quiet: NDArray[np.int64]
    announced: frozenset[int]


def later(told: Iterable[Told], by: int) -> tuple[Told, ...]:
    """States of an alert, moved in time (ns)."""
    return tuple(Told(one.decided + by, one.strength) for one in told)


def quiet_of(name: str, clock: Clock, episodes: Iterable[Episode]) -> Quiet:
    """The alerts that begin in an entity's quiet time."""
    placed = [(clock.place(one.starts), one) for one in episodes]
    kept = [(at, one) for at, one in placed if at >= 0]
    return Quiet(name, clock.length, tuple(at for at, _ in kept), tuple(one for _, one in kept))


def incident_of(kind: str, began: int, episodes: Iterable[Episode]) -> Incident:
    """What was said of an incident that began then (Unix ns); alerts that were open before begin with it."""
    moved = []
    for one in episodes:
        told = [Told(max(state.decided - began, 1), state.strength) for state in one.told]
        moved.append(Episode(max(one.starts - began, 0), max(one.ends - began, 1), told))
    return Incident(kind, tuple(moved))


def _budget(options: BudgetOptions) -> Budget:
    return Budget(options, "bench")


def decide(
    said: Iterable[Said],
    spans: Sequence[tuple[int, int]],
    days: int,
    options: BudgetOptions | None = None,
    make: Callable[[BudgetOptions], Budget] = _budget,
) -> Outcome:
    """Let the environment's budget decide on alerts of entities that are there from one day to another (`spans`).

    An incident is announced if one of its alerts notifies, or falls into the group of one that did. The ends of alerts
    change no decision, and are left out.
    """
    budget = make(options or BudgetOptions())
    by_day: list[list[Alert]] = [[] for _ in range(days)]
    about: dict[str, int] = {}
    for number, one in enumerate(said):
        own = labels({"alertname": "ForeshockAnomaly", "host_name": f"e{one.entity}", "feature": f"a{number}"})
        for state in one.told:
            alert = Alert(own, (), one.starts, state.decided, AlertKind.ANOMALY, state.strength)
            about[alert.episode] = one.incident
            if 0 <= (day := (state.decided - START) // DAY) < days:
                by_day[day].append(alert)
    names = [label_text(((ENTITY, f"e{number}"),)) for number in range(len(spans))]
    counts, told_of, announced = np.zeros((2, days), np.int64), set[str](), set[int]()
    for day, alerts in enumerate(by_day):
        began = START + day * DAY
        there = [name for name, (first, last) in zip(names, spans, strict=True) if first <= day < last]
        presence = tuple(Presence(name, began // DAY, began) for name in there)
        budget.process(Columns(alerts=tuple(alerts), presence=presence))
        for alert in budget.on_watermark(began + DAY - 1).alerts:
            incident = about[alert.episode]
            if alert.notified:
                counts[0, day] += 1
                counts[1, day] += incident == NONE
                told_of.add(alert.group)
            if incident >= 0 and (alert.notified or alert.group in told_of):
                announced.add(incident)
    return Outcome(counts[0], counts[1], frozenset(announced))


def draw(rng: np.random.Generator, quiet: Sequence[Quiet], entities: int, days: int) -> list[Said]:
    """An environment of quiet entities, drawn with replacement, each at a random time of its own."""
    out: list[Said] = []
    for entity, which in enumerate(rng.integers(0, len(quiet), entities).tolist()):
        out += quiet[which].drawn(entity, int(rng.integers(0, quiet[which].length)), days)
    return out


def break_daily(rng: np.random.Generator, pool: Sequence[Incident], entities: int, first: int, days: int) -> list[Said]:
    """One incident a day from day `first` on, at a random time, in a random entity; sets have equal chances.

    They are numbered from 0.
    """
    sets = sorted({one.set for one in pool})
    out: list[Said] = []
    for number, day in enumerate(range(first, days)):
        own = sets[int(rng.integers(0, len(sets)))]
        candidates = [one for one in pool if one.set == own]
        one = candidates[int(rng.integers(0, len(candidates)))]
        at = START + day * DAY + int(rng.uniform(0, 0.9) * DAY)
        out += one.drawn(number, int(rng.integers(0, entities)), at)
    return out


__all__ = [
    "NONE",
    "NOT_JUDGED",
    "Incident",
    "Outcome",
    "Quiet",
    "Said",
    "break_daily",
    "decide",
    "draw",
    "incident_of",
    "quiet_of",
]
