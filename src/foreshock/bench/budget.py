"""`foreshock bench budget`: what is said of quiet entities against the budgets, and what of incidents remains said.

Entities go through the operators up to the alert once; environments are then made of their alerts, and decided on by
the environment's own operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from foreshock.bench.budget_entities import (
    DEFAULT_CHOICES,
    Plan,
    Real,
    Simulated,
    listen,
    simulate,
    simulate_broken,
)
from foreshock.bench.environment import Outcome, Said, break_daily, decide, draw
from foreshock.bench.streams import DAY, Heard
from foreshock.bench.stretches import START, files
from foreshock.incident.budget import BudgetOptions

CHUNK = 25
"""Simulated entities that are judged together."""
DONORS, DONORS_A_CHUNK = 24, 12
"""Simulated entities that break."""
SHORTEST = 2 * DAY
"""A real entity with less quiet time than this is left out."""
DRAWS = {10: 20, 100: 6}
"""Environments by size, at most: drawn of real entities, or made of simulated ones; of other sizes `OTHER_DRAWS`."""
OTHER_DRAWS = 2


@dataclass(frozen=True, slots=True)
class Level:
    """Achieved ÷ budget at one level: `n` bars, entities or environments of `entities` each.

    `ratio` over all of them, `median`, `high` (90 %) and `highest` of each alone; shares above 1 and 2; `first_days`:
    the ratio of the first two days, NaN where that is not known.
    """

    source: str
    detectors: str
    level: str
    entities: int
    n: int
    ratio: float
    median: float
    high: float
    highest: float
    above_1: float
    above_2: float
    first_days: float = float("nan")


@dataclass(frozen=True, slots=True)
class Announced:
    """One incident a day among quiet entities: `share` of those found below that the environment's budget lets pass."""

    source: str
    incidents: str
    detectors: str
    entities: int
    n: int
    share: float
    quiet_ratio: float


@dataclass(frozen=True, slots=True)
class Whole:
    """A labelled set as one environment: incidents, those found by an alert of the entity, those announced.

    `false_ratio` = notifications about no incident, a day, ÷ budget; `quiet_ratio` = alerts in quiet time an entity
    and day ÷ the entity's budget.
    """

    set: str
    detectors: str
    entities: int
    incidents: int
    found: int
    announced: int
    notifications_per_day: float
    false_ratio: float
    quiet_ratio: float


@dataclass(frozen=True, slots=True)
class Found:
    """Incidents made up in simulated entities, and the `share` of them that an alert of the entity is about."""

    kind: str
    detectors: str
    n: int
    share: float


Result = Level | Found | Announced | Whole


def level(source: str, detectors: str, name: str, entities: int, counts: Sequence[float], days: Sequence[float],
          budget: float, first_days: float = float("nan")) -> Level:  # fmt: skip
    """A level from the counts of each of its bars, entities or environments over their days."""
    count, time = np.asarray(counts, float), np.asarray(days, float)
    each = count / time / budget
    return Level(
        source, detectors, name, entities, len(each), float(count.sum() / time.sum() / budget),
        float(np.median(each)), float(np.quantile(each, 0.9)), float(each.max()),
        float((each > 1).mean()), float((each > 2).mean()), first_days,
    )  # fmt: skip


def levels_below(plan: Plan, budget: float, simulated: Sequence[Simulated], real: Sequence[Real]) -> Iterator[Level]:
    """The levels of single bars and of entities."""
    heard = [one for part in simulated if not part.broken for one in part.heard]
    since, days = START + plan.settle_days * DAY, plan.days - plan.settle_days
    for detector in heard[0].alarms if heard else ():
        times = [key for one in heard for key in one.alarms[detector]]
        counts = [int((key >= since).sum()) for key in times]
        first = sum(int((key < START + 2 * DAY).sum()) for key in times) / len(times) / 2 / budget
        yield level("simulated", detector, "bar", 0, counts, [days] * len(counts), budget, first)
    for choice in plan.named if heard else ():
        starts = [np.array([e.starts for e in one.episodes[choice]], np.int64) for one in heard]
        counts = [int((key >= since).sum()) for key in starts]
        first = sum(int((key < START + 2 * DAY).sum()) for key in starts) / len(starts) / 2 / budget
        yield level("simulated", choice, "entity", 0, counts, [days] * len(counts), budget, first)
    kept = [one for one in real if one.quiet_days * DAY >= SHORTEST]
    for detector in kept[0].alarms if kept else ():
        pairs = [(count, one.quiet_days) for one in kept for count in one.alarms[detector]]
        yield level("real", detector, "bar", 0, [a for a, _ in pairs], [b for _, b in pairs], budget)
    for choice in plan.named if kept else ():
        counts = [len(one.quiet[choice].at) for one in kept]
        yield level("real", choice, "entity", 0, counts, [one.quiet_days for one in kept], budget)


def found_below(plan: Plan, simulated: Sequence[Simulated]) -> Iterator[Found]:
    """What is found of made-up incidents before any environment chooses."""
    broken = [part for part in simulated if part.broken]
    for kind in broken[0].asked if broken else ():
        asked = sum(part.asked[kind] for part in broken)
        for choice in plan.named:
            found = sum(one.set == kind for part in broken for one in part.found[choice])
            yield Found(kind, choice, asked, found / max(asked, 1))


Environment = tuple[str, str, str, int, list[Said], int]
"""Source, detectors, kind of incidents (empty: none), entities, alerts, number of incidents."""


def environments(plan: Plan, simulated: Sequence[Simulated], real: Sequence[Real]) -> Iterator[Environment]:
    """All environments: quiet ones, and the same with an incident a day."""
    heard = [one for part in simulated if not part.broken for one in part.heard]
    kept = [one for one in real if one.quiet_days * DAY >= SHORTEST]
    broken = plan.days - 1 - plan.settle_days
    for choice in plan.named:
        made_up = [one for part in simulated if part.broken for one in part.found[choice]]
        pools = {"made up": made_up, "real": [one for part in real for one in part.found[choice]]}
        for size in plan.entities:
            most = DRAWS.get(size, OTHER_DRAWS)
            starts = range(0, len(heard) - size + 1, size)[:most]
            sources = [("simulated", _side_by_side(heard[at : at + size], choice)) for at in starts]
            rng = np.random.default_rng((plan.seed, 2, size))
            quiet = [one.quiet[choice] for one in kept]
            sources += [("real", draw(rng, quiet, size, plan.days)) for _ in range(most if kept else 0)]
            for source, said in sources:
                yield source, choice, "", size, said, 0
                for kind, pool in pools.items():
                    if pool and not (source == "real" and kind == "made up"):
                        more = break_daily(rng, pool, size, plan.settle_days, plan.days - 1)
                        yield source, choice, kind, size, said + more, broken


def _side_by_side(heard: Sequence[Heard], choice: str) -> list[Said]:
    return [
        Said(number, episode.starts, tuple(episode.told))
        for number, one in enumerate(heard)
        for episode in one.episodes[choice]
    ]


def decided(plan: Plan, environment: Environment) -> Outcome:
    """One environment through the operator."""
    _, _, _, size, said, _ = environment
    return decide(said, [(0, plan.days)] * size, plan.days)


def whole_set(plan: Plan, name: str, choice: str, real: Sequence[Real]) -> Whole:
    """A labelled set as one environment, each entity from its first day to its last."""
    own, said, at = [one for one in real if one.set == name], list[Said](), 0
    for number, one in enumerate(own):
        said += [s._replace(entity=number, incident=s.incident + at * (s.incident >= 0)) for s in one.said[choice]]
        at += one.incidents
    days = max(one.span[1] for one in own)
    outcome = decide(said, [one.span for one in own], days)
    judged = min(one.judged for one in own)
    found = {s.incident for s in said if s.incident >= 0}
    quiet = sum(len(one.quiet[choice].at) for one in own) / max(sum(one.quiet_days for one in own), 1e-9)
    budget, counted = BudgetOptions(), max(days - judged, 1)
    return Whole(
        name, choice, len(own), at, len(found), len(outcome.announced), float(outcome.all[judged:].sum()) / counted,
        float(outcome.quiet.sum()) / counted / budget.environment, quiet / budget.entity,
    )  # fmt: skip


def run(plan: Plan, jobs: int) -> Iterator[tuple[int, int, Result | None]]:
    """Everything, in processes beside one another: (done, of all, result or None) as it comes; `of all` grows once.

    Raises ConfigError where the folder holds no labelled series or a detector is not known.
    """
    asked: list[tuple[Callable[..., Simulated | Real], tuple[Any, ...]]] = []
    most = max(plan.entities, default=0)
    asked += [(simulate, (plan, at, min(CHUNK, most - at))) for at in range(0, most, CHUNK)]
    asked += [
        (simulate_broken, (plan, 10**6 + at, DONORS_A_CHUNK)) for at in range(0, DONORS if most else 0, DONORS_A_CHUNK)
    ]
    if plan.data is not None:
        asked += [(listen, (plan, name, path)) for name, path in files(plan.data)]
    heard: dict[int, Simulated | Real] = {}
    for at, part in _each(asked, jobs):
        heard[at] = part
        yield len(heard), len(asked), None
    yield from _decide_all(plan, [heard[at] for at in range(len(asked))], jobs, len(asked))


def _each(asked: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], jobs: int) -> Iterator[tuple[int, Any]]:
    """Calls and their numbers as they are done, in this process if there is but one job."""
    if jobs == 1:
        for at, (call, arguments) in enumerate(asked):
            yield at, call(*arguments)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        waiting = {pool.submit(call, *arguments): at for at, (call, arguments) in enumerate(asked)}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _decide_all(
    plan: Plan, parts: Sequence[Simulated | Real], jobs: int, done: int
) -> Iterator[tuple[int, int, Result | None]]:
    simulated = [part for part in parts if isinstance(part, Simulated)]
    real = [part for part in parts if isinstance(part, Real)]
    budget = BudgetOptions()
    for below in levels_below(plan, budget.entity, simulated, real):
        yield done, done, below
    yield from ((done, done, one) for one in found_below(plan, simulated))
    made = list(environments(plan, simulated, real))
    outcomes: dict[int, Outcome] = {}
    for at, outcome in _each([(decided, (plan, one)) for one in made], jobs):
        outcomes[at] = outcome
        yield done + len(outcomes), done + len(made), None
    total = done + len(made)
    for result in summed_up(plan, budget.environment, [(one, outcomes[at]) for at, one in enumerate(made)]):
        yield total, total, result
    for name in sorted({part.set for part in real}):
        for choice in plan.named:
            yield total, total, whole_set(plan, name, choice, real)


def summed_up(
    plan: Plan, budget: float, outcomes: Sequence[tuple[Environment, Outcome]]
) -> Iterator[Level | Announced]:
    """Environments of one kind together."""
    groups: dict[tuple[str, str, str, int], list[tuple[int, Outcome]]] = {}
    for (source, choice, kind, size, _, number), outcome in outcomes:
        groups.setdefault((source, choice, kind, size), []).append((number, outcome))
    settle, counted = plan.settle_days, plan.days - plan.settle_days
    for (source, choice, kind, size), own in groups.items():
        quiet = [int(outcome.quiet[settle:].sum()) for _, outcome in own]
        if not kind:
            first = float(np.mean([outcome.all[:2].sum() for _, outcome in own])) / 2 / budget
            yield level(source, choice, "environment", size, quiet, [counted] * len(own), budget, first)
        else:
            asked = sum(number for number, _ in own)
            announced = sum(len(outcome.announced) for _, outcome in own)
            ratio = sum(quiet) / len(own) / counted / budget
            yield Announced(source, kind, choice, size, asked, announced / max(asked, 1), ratio)


__all__ = ["DEFAULT_CHOICES", "Announced", "Found", "Level", "Plan", "Whole", "run"]
