"""Entities of `foreshock bench budget`: simulated quiet ones, such that break, and labelled ones, each heard once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from foreshock.bench import quiet_series
from foreshock.bench.environment import NONE, NOT_JUDGED, Incident, Quiet, Said, incident_of, quiet_of
from foreshock.bench.streams import DAY, SECOND, Choices, Entity, Episode, Heard, choice_name, hear
from foreshock.bench.stretches import START, belongs, incidents, quiet_clock, read

DEFAULT_CHOICES = (("robust_z",), ("deviation",), ("deviation", "linear", "stuck"))
DONOR_EVERY_DAYS = 2
"""Simulated entities that break do so once in so many days; their incidents are put among the quiet ones."""
LASTS_SECONDS, LASTS_ROWS = 3600, 3
ONE, THIRD = "one metric", "a third"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for; `settle_days` of `days` are played and not counted."""

    entities: tuple[int, ...] = (10, 100, 1000)
    days: int = 40
    step_seconds: float = 300.0
    metrics: int = 15
    data: Path | None = None
    choices: tuple[tuple[str, ...], ...] = DEFAULT_CHOICES
    seed: int = 0

    @property
    def settle_days(self) -> int:
        """A quarter of the time."""
        return self.days // 4

    @property
    def named(self) -> Choices:
        """The choices of detectors by name."""
        return {choice_name(choice): choice for choice in self.choices}


@dataclass(slots=True)
class Simulated:
    """What was heard of some simulated entities: quiet ones, or (`broken`) what was said of incidents in them.

    `asked` = incidents by kind; `found` = choice of detectors → those that an alert of the entity is about.
    """

    heard: list[Heard] = field(default_factory=list)
    broken: bool = False
    asked: dict[str, int] = field(default_factory=dict)
    found: dict[str, list[Incident]] = field(default_factory=dict)


@dataclass(slots=True)
class Real:
    """What was heard of one labelled entity.

    `alarms`: detector → a key's alarms in quiet time, one number a key; `span`: first and last day; `judged`: first
    day that counts. By choice of detectors: `quiet`, the incidents `found`, and `said`, with incidents numbered from 0.
    """

    set: str
    name: str
    quiet_days: float
    span: tuple[int, int]
    judged: int
    incidents: int
    alarms: dict[str, list[int]] = field(default_factory=dict)
    quiet: dict[str, Quiet] = field(default_factory=dict)
    found: dict[str, list[Incident]] = field(default_factory=dict)
    said: dict[str, list[Said]] = field(default_factory=dict)


def simulate(plan: Plan, first: int, count: int) -> Simulated:
    """Quiet simulated entities, by number."""
    return Simulated(hear([_entity(plan, number) for number in range(first, first + count)], plan.named))


def simulate_broken(plan: Plan, first: int, count: int) -> Simulated:
    """Simulated entities that break: 8 standard deviations for an hour, of one metric and of a third, in turns."""
    seconds, entities, spans = _seconds(plan), list[Entity](), list[list[tuple[int, int]]]()
    lasts = max(LASTS_ROWS, round(LASTS_SECONDS / plan.step_seconds))
    for number in range(first, first + count):
        rng = np.random.default_rng((plan.seed, 1, number))
        one = _entity(plan, number, seconds)
        began = [
            int((day + rng.uniform(0.1, 0.9)) * quiet_series.DAY_SECONDS / plan.step_seconds)
            for day in range(plan.settle_days, plan.days - 1, DONOR_EVERY_DAYS)
        ]
        rows = [(at, at + lasts) for at in began]
        third = max(2, one.values.shape[1] // 3)
        values = quiet_series.broken(rng, one.values, rows[::2], 1)
        values = quiet_series.broken(rng, values, rows[1::2], third)
        entities.append(Entity(one.name, one.time, values, one.step))
        spans.append([(int(one.time[a]), int(one.time[b - 1]) + one.step) for a, b in rows])
    out = Simulated(broken=True, asked={ONE: 0, THIRD: 0}, found={choice: [] for choice in plan.named})
    for heard, incidents_of, one in zip(hear(entities, plan.named), spans, entities, strict=True):
        for number, span in enumerate(incidents_of):
            kind = (ONE, THIRD)[number % 2]
            out.asked[kind] += 1
            for choice, episodes in heard.episodes.items():
                own = [episode for episode in episodes if belongs(episode, span, one.step)]
                if own:
                    out.found[choice].append(incident_of(kind, span[0], own))
    return out


def listen(plan: Plan, name: str, path: Path) -> Real:
    """One labelled entity, all of it in order; what counts is cut out afterwards."""
    labelled = read(name, path)
    one, clock, spans = labelled.entity, quiet_clock(labelled), incidents(labelled)
    (heard,) = hear([one], plan.named)
    since = int(one.time[labelled.judged][0]) if labelled.judged.any() else int(one.time[-1])
    days = int((one.time[0] - START) // DAY), int((one.time[-1] - START) // DAY) + 1
    out = Real(name, one.name, clock.length / DAY, days, (since - START) // DAY, len(spans))
    for detector, keys in heard.alarms.items():
        out.alarms[detector] = [sum(clock.place(at) >= 0 for at in key.tolist()) for key in keys]
    for choice, episodes in heard.episodes.items():
        out.quiet[choice] = quiet_of(one.name, clock, episodes)
        own = [[episode for episode in episodes if belongs(episode, span, one.step)] for span in spans]
        out.found[choice] = [incident_of(name, span[0], o) for span, o in zip(spans, own, strict=True) if o]
        out.said[choice] = [_said(episode, own, since) for episode in episodes]
    return out


def _said(episode: Episode, own: Sequence[Sequence[Episode]], since: int) -> Said:
    number = next((at for at, episodes in enumerate(own) if any(one is episode for one in episodes)), NONE)
    if number == NONE and episode.starts < since:
        number = NOT_JUDGED
    return Said(0, episode.starts, tuple(episode.told), number)


def _seconds(plan: Plan) -> quiet_series.Values:
    rows = round(plan.days * quiet_series.DAY_SECONDS / plan.step_seconds)
    return np.asarray(np.arange(rows) * plan.step_seconds, np.float64)


def _entity(plan: Plan, number: int, seconds: quiet_series.Values | None = None) -> Entity:
    seconds = _seconds(plan) if seconds is None else seconds
    rng = np.random.default_rng((plan.seed, 0, number))
    metrics = int(rng.integers(round(plan.metrics * 2 / 3), round(plan.metrics * 4 / 3) + 1))
    values = quiet_series.entity(rng, max(metrics, 1), seconds)
    return Entity(
        f"e{number}", START + np.round(seconds * 1e9).astype(np.int64), values, round(plan.step_seconds * SECOND)
    )


__all__ = ["DEFAULT_CHOICES", "Plan", "Real", "Simulated", "listen", "simulate", "simulate_broken"]
