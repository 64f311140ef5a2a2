"""`foreshock bench shop`: each kind of fault at each magnitude, and quiet days, in simulated time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from typing import Any

from foreshock.bench.play import NANO, Played, play, settings
from foreshock.shop.faults import CATALOGUE, KINDS, MAGNITUDES, FaultKind, Magnitude, schedule
from foreshock.shop.judge import about_shop, judge
from foreshock.shop.settings import Settings
from foreshock.types import Alert, rfc3339

MONDAY_UNIX_NANO = 1_704_067_200 * NANO
HISTORY_SECONDS, RECOVERY_SECONDS = 3 * 3600, 600
"""A fault comes after so much of an ordinary day, and so much follows its end."""
BETWEEN_STARTS_SECONDS = 105_420
"""Each seed starts 29 h 17 min after the one before, so that faults fall into all hours of the day and the week."""
WINDOW_SECONDS = 5.0
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault in one shop, and what became of it.

    `delay_seconds` NaN = not found; `before` = alerts of the quiet hours; `by_chance` = alerts about the shop from the
    fault's start on that do not belong to it, or arise without it too.
    """

    kind: FaultKind
    magnitude: Magnitude
    seed: int
    service: str
    found: bool
    notified: bool
    right_service: bool
    right_feature: bool
    delay_seconds: float
    feature: str
    before: int
    by_chance: int


@dataclass(frozen=True, slots=True)
class Cell:
    """The trials of one kind at one magnitude; ratios of the trials, the median delay of those found in seconds."""

    kind: FaultKind
    magnitude: Magnitude
    gradual: bool
    trials: int
    found: float
    notified: float
    right_service: float
    right_feature: float
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Quiet:
    """Days without a fault: what was notified of, and what was only shown; `ratio` = notifications a day ÷ budget."""

    days: int
    seed: int
    budget_per_day: float
    notifications: int
    shown: int
    ratio: float
    by_day: tuple[int, ...]
    examples: tuple[str, ...]


def trial(kind: FaultKind, magnitude: Magnitude, seed: int) -> Trial:
    """Break one thing in a shop of its own, on a service and at an hour that the seed chooses."""
    fault = replace(schedule(seed, kinds=[kind], magnitude=magnitude)[0], after_seconds=float(HISTORY_SECONDS))
    seconds = HISTORY_SECONDS + round(fault.lasts_seconds) + RECOVERY_SECONDS
    played = play(Settings(seed=seed), _starts(seed), seconds, [fault])
    found, rest = judge(played.truths, played.alerts.values(), played.decided, ordinary(seed))
    one, since = found[0], played.truths[0].since_unix_nano
    others = [played.decided[alert.episode] for alert in rest if about_shop(alert)]
    return Trial(
        kind, magnitude, seed, fault.service, one.found, one.notified, one.right_service, one.right_feature,
        one.delay_seconds, one.feature, sum(at <= since for at in others), sum(at > since for at in others),
    )  # fmt: skip


@cache
def ordinary(seed: int) -> tuple[Alert, ...]:
    """The alerts of a seed's shop in which nothing breaks, for as long as the longest trial.

    Each request of the shop meets its own chances, so that it is the same shop but for the fault.
    """
    longest = max(kind.duration_seconds for kind in CATALOGUE.values())
    played = play(Settings(seed=seed), _starts(seed), HISTORY_SECONDS + round(longest) + RECOVERY_SECONDS)
    return tuple(played.alerts.values())


def _starts(seed: int) -> int:
    return MONDAY_UNIX_NANO + (seed + 1) * BETWEEN_STARTS_SECONDS * NANO


def quiet(days: int, seed: int) -> Quiet:
    """Play days without faults, but with benign deploys, bursts and the nightly batch."""
    played = play(Settings(seed=seed), MONDAY_UNIX_NANO, days * DAY)
    told = sorted(played.notified, key=lambda alert: alert.starts_unix_nano)
    by_day = [0] * days
    for alert in told:
        by_day[min(days - 1, (alert.starts_unix_nano - MONDAY_UNIX_NANO) // (DAY * NANO))] += 1
    budget = settings().budget.environment
    return Quiet(
        days, seed, budget, len(told), len(played.alerts) - len(told), len(told) / days / budget, tuple(by_day),
        tuple(_example(alert) for alert in told),
    )  # fmt: skip


def run(
    seeds: int, days: int, jobs: int, kinds: Sequence[FaultKind] = KINDS
) -> Iterator[tuple[int, int, Trial | Quiet]]:
    """All trials and the quiet days, in processes beside one another: (done, of all, result) as they come."""
    asked: list[tuple[Any, ...]] = [(quiet, days, 0)] if days else []
    asked += [(trial, kind, magnitude, seed) for seed in range(seeds) for kind in kinds for magnitude in MAGNITUDES]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = [pool.submit(call, *arguments) for call, *arguments in asked]
        for done, future in enumerate(as_completed(futures), 1):
            yield done, len(futures), future.result()


def cells(trials: Sequence[Trial]) -> list[Cell]:
    """The trials by kind and magnitude, large ones first."""
    out = []
    for magnitude in reversed(MAGNITUDES):
        for kind in KINDS:
            mine = [one for one in trials if (one.kind, one.magnitude) == (kind, magnitude)]
            if not mine:
                continue
            delays = [one.delay_seconds for one in mine if one.found]
            out.append(
                Cell(
                    kind,
                    magnitude,
                    CATALOGUE[kind].gradual,
                    len(mine),
                    _share(one.found for one in mine),
                    _share(one.notified for one in mine),
                    _share(one.right_service for one in mine),
                    _share(one.right_feature for one in mine),
                    statistics.median(delays) if delays else float("nan"),
                )
            )
    return out


def _share(flags: Iterable[bool]) -> float:
    return statistics.fmean(flags)


def table(trials: Sequence[Trial], days: Quiet | None) -> list[str]:
    """The result as lines of text."""
    out = [
        f"{'fault':<16} {'size':<6} {'trials':>6} {'found':>6} {'told':>6} {'service':>8} {'feature':>8} {'delay':>8}",
        "-" * 71,
    ]
    for one in cells(trials):
        delay = f"{one.delay_seconds:.0f} s" if one.found else ""
        shares = f"{one.found:>6.2f} {one.notified:>6.2f} {one.right_service:>8.2f} {one.right_feature:>8.2f}"
        out.append(f"{one.kind:<16} {one.magnitude:<6} {one.trials:>6} {shares} {delay:>8}")
    if trials:
        hours = len(trials) * HISTORY_SECONDS / 3600
        out.append(
            f"alerts in the {hours:.0f} quiet hours before: {sum(one.before for one in trials)}; "
            f"alerts that came with a fault by chance: {sum(one.by_chance for one in trials)}"
        )
    if days:
        out.append(
            f"{days.days} quiet days: {days.notifications} notifications, {days.notifications / days.days:.2f} a day, "
            f"{days.ratio:.2f} × the budget of {days.budget_per_day:g}; {days.shown} more alerts only shown"
        )
    return out


def report(trials: Sequence[Trial], days: Quiet | None) -> dict[str, Any]:
    """The result for programs."""
    return {
        "window_seconds": WINDOW_SECONDS,
        "cells": [asdict(one) for one in cells(trials)],
        "trials": [asdict(one) for one in sorted(trials, key=lambda one: (one.kind, one.magnitude, one.seed))],
        "quiet": asdict(days) if days else None,
    }


def _example(alert: Alert) -> str:
    return f"{rfc3339(alert.starts_unix_nano)} {dict(alert.annotations).get('summary', alert.key)}"


__all__ = ["Cell", "Played", "Quiet", "Trial", "cells", "quiet", "report", "run", "table", "trial"]
