"""The fits of `linear`: ridge regressions of four features at a time, from the lagged covariances.

They are solved side by side by conjugate gradients (Hestenes & Stiefel 1952) from where each stood: some hundred
microseconds at most, however many features there are. All float32, in a fixed order; sums run in eight lanes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_four import take_away_four
from foreshock.detect.linear_layout import ORDER_AT, ORDERS, TOGETHER, Work
from foreshock.detect.linear_maps import matrix_at
from foreshock.state.jit import inner
from foreshock.state.lanes import load, spread, store, total

ITERATIONS = 8
GOOD_ENOUGH = np.float32(1e-5)
"""Share of the first residual's square at which a regression counts as solved."""


@inner
def dot(x: NDArray[np.float32], y: NDArray[np.float32], start: int, length: int) -> float:
    """Σ x·y over `length` numbers from `start` on, a multiple of eight, in eight lanes."""
    s = spread(np.float32(0))
    for j in range(start, start + length, 8):
        s = s + load(x, j) * load(y, j)
    return float(total(s))


@inner
def turn(body: NDArray[np.float32], b: int, turned: NDArray[np.float32]) -> None:
    """The transposed covariances of a body, which `fit` needs so that all its loops run along rows."""
    for k in range(len(ORDERS)):
        start = matrix_at(b, k)
        for i in range(b):
            for j in range(b):
                turned[(k * b + j) * b + i] = body[start + i * b + j]


@inner
def fit(
    body: NDArray[np.float32],
    b: int,
    n: int,
    target: int,
    lags: NDArray[np.int64],
    first: int,
    ridge: np.float32,
    moved: NDArray[np.int64],
    work: Work,
) -> None:
    """Ridge regressions of features `target` … + 3 on all features of their body at these lags, from the maps as are.

    Only features in `moved` have anything to tell; what the maps had of others is dropped. Lag 0 leaves out the target
    itself. The maps of the lags are the matrices `first` … of the body, a column a target; `work.turned` is as `turn`
    left it.
    """
    told, x, r, p, q = work.told, work.x, work.r, work.p, work.q
    told[:] = 0.0
    for k in range(len(moved)):
        told[moved[k]] = 1.0
    length, alone = len(lags) * b, lags[0] == 0
    for t in range(TOGETHER):
        for a in range(len(lags)):
            start, wanted = matrix_at(b, first + a), matrix_at(b, ORDER_AT[lags[a]]) + (target + t) * b
            to = t * length + a * b
            for i in range(b):
                x[to + i] = told[i] * body[start + i * b + target + t]
                r[to + i] = told[i] * body[wanted + i]
    _times(body, b, lags, ridge, moved, work, x)
    for i in range(0, TOGETHER * length, 8):
        store(r, i, load(r, i) + load(q, i))
    if alone:
        for t in range(TOGETHER):
            r[t * length + target + t] = 0.0
    for i in range(0, TOGETHER * length, 8):
        store(p, i, load(r, i))
    square, enough = work.square, work.enough
    for t in range(TOGETHER):
        square[t] = dot(r, r, t * length, length)
        enough[t] = GOOD_ENOUGH * square[t]
    for _ in range(ITERATIONS):
        if not _any_above(square, enough):
            break
        _times(body, b, lags, ridge, moved, work, p)
        for t in range(TOGETHER):
            if square[t] > enough[t]:
                if alone:
                    q[t * length + target + t] = 0.0
                _go_on(t, length, work)
    for t in range(TOGETHER):
        for a in range(len(lags)):
            start, to = matrix_at(b, first + a), t * length + a * b
            for i in range(n):
                body[start + i * b + target + t] = x[to + i]


@inner
def _any_above(square: NDArray[np.float64], enough: NDArray[np.float64]) -> bool:
    above = False
    for t in range(TOGETHER):
        above |= square[t] > enough[t]
    return above


@inner
def _go_on(t: int, length: int, work: Work) -> None:
    """One step of a regression, or the end of it where there is nowhere to go."""
    x, r, p, q, start = work.x, work.r, work.p, work.q, t * length
    curve = -dot(p, q, start, length)
    if not curve > 0.0:
        work.square[t] = 0.0
        return
    along = spread(np.float32(work.square[t] / curve))
    for i in range(start, start + length, 8):
        store(x, i, load(x, i) + along * load(p, i))
        store(r, i, load(r, i) + along * load(q, i))
    before = work.square[t]
    work.square[t] = dot(r, r, start, length)
    onward = spread(np.float32(work.square[t] / before))
    for i in range(start, start + length, 8):
        store(p, i, load(r, i) + onward * load(p, i))


@inner
def _times(
    body: NDArray[np.float32],
    b: int,
    lags: NDArray[np.int64],
    ridge: np.float32,
    moved: NDArray[np.int64],
    work: Work,
    x: NDArray[np.float32],
) -> None:
    """q = −(covariance of all lagged inputs + ridge)·x where a feature is told (1), else 0; for four x side by side."""
    out, length, less = work.q, len(lags) * b, spread(-ridge)
    for i in range(0, TOGETHER * length, 8):
        store(out, i, less * load(x, i))
    for a in range(len(lags)):
        for c in range(len(lags)):
            x_at = (c * b, length + c * b, 2 * length + c * b, 3 * length + c * b)
            if c >= a:
                start = ORDER_AT[lags[c] - lags[a]] * b * b
                take_away_four(out, a * b, length, work.turned, start, b, x, x_at, moved)
            else:
                start = matrix_at(b, ORDER_AT[lags[a] - lags[c]])
                take_away_four(out, a * b, length, body, start, b, x, x_at, moved)
        for t in range(TOGETHER):
            for j in range(0, b, 8):
                at = t * length + a * b + j
                store(out, at, load(out, at) * load(work.told, j))
