"""Faults of half an hour in one metric of a quiet part, put into a labelled series: are they found?

A third of each kind in turn: `shift` by 8 standard deviations of the day before, `stuck` at the last value, `noise` of
four times the variance. Where, in which metric and in which direction, the seed and the name of the series say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from zlib import crc32

import numpy as np

from foreshock.bench.layout import Case, quiet_rows
from foreshock.bench.measures import Flags, Reals

Kind = Literal["shift", "stuck", "noise"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LASTS_SECONDS, LASTS_ROWS = 1800.0, 3
EVERY_SECONDS, EVERY_ROWS = 43_200.0, 50
"""A fault about every twelve hours, and not more often than every fifty rows."""
MARGIN_SECONDS, MARGIN_ROWS = 21_600.0, 10
"""So far from every labelled row."""
DAY_SECONDS, DAY_ROWS = 86_400.0, 50
SHIFT, NOISE = 8.0, 2.0
"""Standard deviations of a shift; the factor of deviations, whose square is that of the variance."""
MOVES = 0.5
"""The share of steps in which a metric must move, or being stuck would be nothing new."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: rows [start, end) of the metric with this number; `sign` of a shift."""

    kind: Kind
    start: int
    end: int
    metric: int
    sign: float


@dataclass(frozen=True, slots=True)
class Tally:
    """Faults of a kind that were put in and found."""

    kind: Kind
    injected: int
    found: int


def plan(case: Case, seed: int) -> list[Fault]:
    """Where which faults go; none where the series is too short or nothing moves."""
    step = case.step_seconds
    lasts = _rows(LASTS_SECONDS, LASTS_ROWS, step)
    every, day = _rows(EVERY_SECONDS, EVERY_ROWS, step), _rows(DAY_SECONDS, DAY_ROWS, step)
    margin = _rows(MARGIN_SECONDS, MARGIN_ROWS, step)
    rng = np.random.default_rng([seed, crc32(case.series.encode())])
    quiet = quiet_rows(case, margin)
    out: list[Fault] = []
    for block in range(int(np.argmax(case.judged)) + day, len(case) - every, every):
        start = block + int(rng.integers(0, max(every - lasts - margin, 1)))
        kind = KINDS[len(out) % len(KINDS)]
        order, sign = rng.permutation(len(case.metrics)).tolist(), float(rng.choice([-1.0, 1.0]))
        if not quiet[start : start + lasts].all():
            continue
        fit = (j for j in order if _fits(kind, case.values[start - day : start + lasts, j], lasts))
        metric = next(fit, None)
        if metric is not None:
            out.append(Fault(kind, start, start + lasts, metric, sign))
    return out


def _rows(seconds: float, least: int, step: float) -> int:
    return max(math.ceil(seconds / step), least)


def _fits(kind: Kind, values: Reals, lasts: int) -> bool:
    """Whether the fault would be one: the metric has values, moves, and to be stuck or noisy moves all the time."""
    before, inside = values[:-lasts], values[-lasts - 1 :]
    if np.isfinite(before).mean() < 0.9 or not np.isfinite(inside).all() or not np.nanstd(before) > 0:
        return False
    return kind == "shift" or float(np.mean(np.diff(inside) != 0)) >= MOVES


def inject(case: Case, faults: Sequence[Fault]) -> Reals:
    """The values of the case with the faults in them: float64[n, J]; the case stays as it is."""
    day = _rows(DAY_SECONDS, DAY_ROWS, case.step_seconds)
    values = case.values.copy()
    for fault in faults:
        part = values[fault.start : fault.end, fault.metric]
        if fault.kind == "shift":
            part += fault.sign * SHIFT * np.nanstd(case.values[max(fault.start - day, 0) : fault.start, fault.metric])
        elif fault.kind == "stuck":
            part[:] = case.values[fault.start - 1, fault.metric]
        else:
            part += (NOISE - 1.0) * (part - part.mean())
    return values


def tallies(faults: Sequence[Fault], alarm: Flags, without: Flags) -> list[Tally]:
    """How many of each kind were found: an alarm in its rows that was not there `without` the faults."""
    new = alarm & ~without
    out = []
    for kind in KINDS:
        mine = [fault for fault in faults if fault.kind == kind]
        out.append(Tally(kind, len(mine), sum(bool(new[one.start : one.end].any()) for one in mine)))
    return out
