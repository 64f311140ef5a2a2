"""What the alarm's kernel needs to know of a step: the largest strengths, and who is beyond a limit."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foreshock.incident import alarm_kernel as kernel
from foreshock.incident import alarm_prices as prices
from foreshock.incident.story import Step
from foreshock.state.jit import entry, inner
from foreshock.types import Status

PAUSE, DEPARTURE = "pause", "departure"
"""What detectors measure that is no value: such witnesses are weighed by themselves."""
STRENGTH, VALUED, APART, STILL = range(4)
SCORED, WARMING_UP = int(Status.SCORED), int(Status.WARMING_UP)
ALONE, STRONGEST = prices.ALONE, kernel.STRONGEST

_OWN = {PAUSE: STILL, DEPARTURE: APART}
_PLAIN: tuple[Literal["C"], Literal["W"]] = ("C", "W")
"""The one memory layout that the kernel is compiled for."""


def inputs_of(step: Step) -> prices.Inputs:
    """The kernel's inputs."""
    rows = step.rows
    m, n = len(rows.series), len(rows)
    cells, live = np.full((4, m), np.nan), np.zeros(m, np.bool_)
    for verdict in step.primary:
        _hear(verdict.status, verdict.strength, cells[_OWN.get(verdict.measure, VALUED)], live)
    _bound(cells)
    limit = np.zeros(m if step.limits else 0, np.uint8)
    for verdict in step.limits:
        _grade(verdict.status, verdict.anomalous, limit)
    (strength, seen), (over, sure) = np.full((2, n), np.nan), np.zeros((2, n), np.bool_)
    for verdict in step.whole:
        _hear_whole(verdict.status, verdict.strength, verdict.anomalous, verdict.singles, strength, seen, over, sure)
    return prices.Inputs(
        np.require(rows.entity, np.int32, _PLAIN),
        np.require(rows.time_unix_nano, np.int64, _PLAIN),
        np.require(rows.status, np.uint8, _PLAIN),
        np.require(rows.start, np.int64, _PLAIN),
        np.require(rows.series, np.int32, _PLAIN),
        np.require(rows.value, np.float64, _PLAIN),
        cells[STRENGTH],
        cells[VALUED],
        cells[APART],
        cells[STILL],
        live,
        limit,
        np.minimum(np.maximum(strength, -STRONGEST), STRONGEST),
        over,
        seen,
        sure,
    )


@entry
def _hear(
    status: NDArray[np.uint8], strength: NDArray[np.float64], own: NDArray[np.float64], live: NDArray[np.bool_]
) -> None:
    """Take in what a detector of single series says of m cells."""
    for i in range(len(status)):
        if status[i] == SCORED:
            live[i] = True
            own[i] = _larger(own[i], strength[i])
        elif status[i] == WARMING_UP:
            live[i] = True


@entry
def _hear_whole(
    status: NDArray[np.uint8],
    strength: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    singles: bool,
    largest: NDArray[np.float64],
    seen: NDArray[np.float64],
    over: NDArray[np.bool_],
    sure: NDArray[np.bool_],
) -> None:
    """Take in what a detector of whole entities says of n rows."""
    for i in range(len(status)):
        if status[i] != SCORED:
            continue
        largest[i] = _larger(largest[i], strength[i])
        over[i] |= anomalous[i]
        if singles:
            seen[i] = _larger(seen[i], strength[i])
        sure[i] |= anomalous[i] and (strength[i] >= ALONE or not singles)


@entry
def _grade(status: NDArray[np.uint8], anomalous: NDArray[np.bool_], limit: NDArray[np.uint8]) -> None:
    """Take in what a user's limit says of m cells."""
    for i in range(len(status)):
        if status[i] == SCORED:
            limit[i] = max(limit[i], 2 if anomalous[i] else 1)


@entry
def _bound(cells: NDArray[np.float64]) -> None:
    """Keep strengths within bounds, and find the largest of each cell."""
    for i in range(cells.shape[1]):
        for kind in range(VALUED, STILL + 1):
            if cells[kind, i] == cells[kind, i]:
                cells[kind, i] = min(max(cells[kind, i], -STRONGEST), STRONGEST)
            cells[STRENGTH, i] = _larger(cells[STRENGTH, i], cells[kind, i])


@inner
def _larger(one: float, other: float) -> float:
    """The larger of two numbers of which either may be NaN."""
    return other if one != one or other > one else one
