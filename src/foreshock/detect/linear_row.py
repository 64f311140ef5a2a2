"""What the sweep of `linear` does to a body of a key for a few rows of it, and to the key's pools."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_apart import depart
from foreshock.detect.linear_feature import fit_inputs
from foreshock.detect.linear_fit import fit, turn
from foreshock.detect.linear_four import take_away_four
from foreshock.detect.linear_layout import (
    BLOCK,
    COUNT,
    CROSS,
    CROSSES,
    EARLY,
    FORECAST,
    FORECASTS,
    LEVEL,
    MEMORY_GAIN,
    ONE,
    ORDERS,
    PAST,
    RING,
    SUMS,
    TOGETHER,
    YOUNG,
    Out,
    Settings,
    Work,
    f4,
)
from foreshock.detect.linear_maps import (
    change_units,
    learn_covariances,
    matrix_at,
    take_away,
)
from foreshock.detect.linear_scale import MOST, pool, rescale, stray
from foreshock.state.jit import inner
from foreshock.state.lanes import above, load, spread, store
from foreshock.types import Status

LEVEL_GAIN = f4(0.022840034)
"""1 − .5^(1/30)."""
FIRST_FIT, MOST_SPACING = 128, 4096
"""Rows before the first fit; rows between fits, which double from there, at most (rows of a minute or more)."""
SPARING, WINDOW, EVERY = 4096, 256, 4
"""Rows after which covariances follow only one in `EVERY` windows of rows."""
TOP_OFF = 0.25
"""Share of the largest square that is left out of the pool that alarms: one feature alone should not."""
KEEP_SCORE, RANK_GAIN = 0.25, 0.12944943670387588
"""Smoothing over rows: .5^(1/.5) and 1 − .5^(1/5)."""
LEAST_TYPICAL = 0.01
USUAL, USUAL_ROWS = 10.0, 50
"""A pool is learnt as if it were at most so many times what is typical, from this row on."""
MINUTE = 60.0

WARMING_UP = int(Status.WARMING_UP)
_ORDERS = len(ORDERS)
_CROSS_AT = _ORDERS + len(FORECAST)


@inner
def remember(body: NDArray[np.float32], b: int, row: int, r: int, learn: bool, work: Work) -> None:
    """How far row r of the scratch, which has this number, is from the slow levels; with `learn` ring and levels."""
    at, place, level = r * BLOCK, (PAST + row % RING) * b, LEVEL * b
    for j in range(0, b, 8):
        z, before = load(work.z, at + j), load(body, level + j)
        store(work.away, at + j, z - before)
        if learn:
            store(body, place + j, load(work.y, at + j))
            store(body, level + j, before + spread(LEVEL_GAIN) * (z - before))


@inner
def judge(
    body: NDArray[np.float32],
    b: int,
    column: int,
    row: int,
    start: int,
    end: int,
    moved: NDArray[np.int64],
    learn: bool,
    cut: bool,
    work: Work,
) -> None:
    """Standardise what maps and slow levels leave of rows start ≤ r < end of the scratch, and add to their sums.

    The body begins at `column` of the entity. The first row of the scratch has the number `row`; those before `start`
    have been judged.
    """
    for r in range(start, end):
        for j in range(r * BLOCK, r * BLOCK + b, 8):
            store(work.ahead, j, load(work.z, j))
            store(work.across, j, load(work.z, j))
    if end - start == TOGETHER:
        _residuals_of_four(body, b, row, moved, work)
    else:
        for r in range(start, end):
            _residuals(body, b, row + r, r * BLOCK, cut, moved, work)
    sums = work.sums
    for r in range(start, end):
        at, to, pace = r * BLOCK, r * SUMS, work.pace[r]
        fast, slow, top = pool(body, b, FORECASTS, work.ahead, at, pace, learn, work)
        sums[to], sums[to + 1], sums[to + 2] = sums[to] + fast, sums[to + 1] + slow, max(sums[to + 2], top)
        fast, slow, top = pool(body, b, CROSSES, work.across, at, pace, learn, work)
        sums[to + 3], sums[to + 4], sums[to + 5] = sums[to + 3] + fast, sums[to + 4] + slow, max(sums[to + 5], top)
        stray(body, b, at, pace, learn, work)
    depart(body, b, column, start, end, cut, learn, work)


@inner
def _residuals(
    body: NDArray[np.float32], b: int, row: int, at: int, cut: bool, moved: NDArray[np.int64], work: Work
) -> None:
    """Take from a row at `at` of the scratch what the maps say; after a gap there are no rows before."""
    if not cut:
        for k in range(len(FORECAST)):
            place = (PAST + (row - FORECAST[k]) % RING) * b
            take_away(work.ahead, at, body, matrix_at(b, _ORDERS + k), b, body, place, moved)
    for k in range(len(CROSS)):
        start, place = matrix_at(b, _CROSS_AT + k), (PAST + (row - CROSS[k]) % RING) * b
        if CROSS[k] == 0:
            take_away(work.across, at, body, start, b, work.y, at, moved)
        elif not cut:
            take_away(work.across, at, body, start, b, body, place, moved)


@inner
def _residuals_of_four(body: NDArray[np.float32], b: int, row: int, moved: NDArray[np.int64], work: Work) -> None:
    """`_residuals` of all rows of the scratch, the first of which has the number `row`: no gap, and all learnt."""
    for k in range(len(FORECAST)):
        take_away_four(
            work.ahead, 0, BLOCK, body, matrix_at(b, _ORDERS + k), b, body, _places(b, row - FORECAST[k]), moved
        )
    for k in range(len(CROSS)):
        take_away_four(
            work.across, 0, BLOCK, body, matrix_at(b, _CROSS_AT + k), b, body, _places(b, row - CROSS[k]), moved
        )


@inner
def _places(b: int, row: int) -> tuple[int, int, int, int]:
    """Where four rows in a row stand in the ring of a body."""
    return (
        (PAST + row % RING) * b,
        (PAST + (row + 1) % RING) * b,
        (PAST + (row + 2) % RING) * b,
        (PAST + (row + 3) % RING) * b,
    )


@inner
def contribute(work: Work, at: int, contribution: NDArray[np.float32]) -> None:
    """What each feature that counts has in a row's score: how far it is from its forecast and from its slow level."""
    for j in range(min(len(contribution), BLOCK)):
        if work.live[at + j] > 0:
            contribution[j] = min(abs(work.ahead[at + j]), MOST) + min(abs(work.away[at + j]), MOST)


@inner
def learn_covariances_of(
    body: NDArray[np.float32], b: int, row: int, pace: float, moved: NDArray[np.int64], work: Work
) -> None:
    """Covariances of a body, where they follow the row of this number."""
    spared = row >= SPARING
    if row % TOGETHER != TOGETHER - 1 or (spared and row // WINDOW % EVERY != 0):
        return
    # Rows that follow one another: a covariance at one lag must not be of other rows than one at the next.
    share = f4(TOGETHER * (EVERY if spared else 1))
    floor, most = spread(f4(MEMORY_GAIN * pace) * share), spread(ONE)
    for j in range(0, b, 8):
        gain = spread(share) / (load(body, COUNT * b + j) + most)
        gain = above(gain, floor, gain, floor)
        store(work.gain, j, above(most, gain, gain, most))
    learn_covariances(body, b, row, work.gain, moved)


@inner
def new_units(body: NDArray[np.float32], b: int, n: int, work: Work) -> None:
    """Put all that is known of a body into new units, by `work.ratio`."""
    change_units(body, b, n, work.ratio[:b])
    for j in range(n):
        body[LEVEL * b + j] *= work.ratio[j]
        rescale(body, b, j, work.ratio[j])


@inner
def fit_next(head: Any, bodies: Any, row: int, pace: float, settings: Settings, work: Work) -> None:
    """Fit both maps of four features; after the last ones the next fit is set."""
    # A state that was saved between fits of single features may stand anywhere.
    head.cursor -= head.cursor % TOGETHER
    k, target = head.cursor // BLOCK, head.cursor % BLOCK
    body, b = bodies[head.size[k] - 1][head.slot[k]], 8 * int(head.size[k])
    n = min(head.width - k * BLOCK, b)
    moved = work.moved[: fit_inputs(body, b, work)]
    turn(body, b, work.turned)
    fit(body, b, n, target, FORECAST, _ORDERS, settings.forecast_ridge, moved, work)
    fit(body, b, n, target, CROSS, _CROSS_AT, settings.cross_ridge, moved, work)
    head.cursor += TOGETHER
    if head.cursor >= head.width:
        head.cursor = -1
        head.spacing = min(2 * head.spacing, int(MOST_SPACING / max(pace, 1e-3)))
        head.next_fit = row + head.spacing


@inner
def score(head: Any, row: int, r: int, learn: bool, cut: bool, work: Work, out: Out) -> None:
    """Both scores of a row of the scratch: its pools in units of what is typical, smoothed over a few rows."""
    i, warm, at, live = work.row[r], work.warm[r], r * SUMS, work.sums[r * SUMS + 6]
    if not live > 0.0:
        if warm:
            out.status[i] = WARMING_UP
        return
    sums = work.sums
    pools = (
        (sums[at] - TOP_OFF * sums[at + 2]) / live, (sums[at + 3] - TOP_OFF * sums[at + 5]) / live,
        sums[at + 1] / live, sums[at + 4] / live,
    )  # fmt: skip
    raw, slow = 0.0, 0.0
    gain = max(MEMORY_GAIN * work.pace[r], EARLY / (row + YOUNG))
    for k in range(4):
        typical = max(head.typical[k], LEAST_TYPICAL)
        if k < 2:
            raw += pools[k] / typical
        else:
            slow += pools[k] / typical
        if learn:
            bounded = min(pools[k], USUAL * typical) if row > USUAL_ROWS else pools[k]
            head.typical[k] += gain * (bounded - head.typical[k])
    score, rank = raw, slow
    if not cut:
        score += KEEP_SCORE * (head.score - raw)
        rank = head.rank + RANK_GAIN * (slow - head.rank)
    if learn:
        head.score, head.rank = score, rank
    if warm:
        out.score[i], out.rank[i] = score, rank
