"""The maps of `linear`: lagged covariances followed row by row, and ridge regressions solved one feature at a time.

Covariances are those of a stationary series, so that one matrix a lag serves all pairs of lagged inputs (Yule–Walker).
A regression is solved by conjugate gradients (Hestenes & Stiefel 1952) from where it stood: some hundred microseconds
at most, however many features there are. All float32, in a fixed order; sums run in eight lanes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_layout import MATRICES, ORDER_AT, ORDERS, PAST, RING, SQUARES
from foreshock.state.jit import inner

ITERATIONS = 8
GOOD_ENOUGH = np.float32(1e-5)
"""Share of the first residual's square at which a regression counts as solved."""

_ORDERS = np.array(ORDERS, np.int64)


@inner
def matrix_at(b: int, which: int) -> int:
    """Where the matrix of this number begins in a body of b features: covariances, forecast maps, cross maps."""
    return SQUARES * b + which * b * b


@inner
def dot(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Σ x·y over a multiple of eight numbers, in eight lanes."""
    s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    s4, s5, s6, s7 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for j in range(0, len(x), 8):
        s0 += x[j] * y[j]
        s1 += x[j + 1] * y[j + 1]
        s2 += x[j + 2] * y[j + 2]
        s3 += x[j + 3] * y[j + 3]
        s4 += x[j + 4] * y[j + 4]
        s5 += x[j + 5] * y[j + 5]
        s6 += x[j + 6] * y[j + 6]
        s7 += x[j + 7] * y[j + 7]
    return float(((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)))


@inner
def take_away(out: NDArray[np.float32], matrix: NDArray[np.float32], x: NDArray[np.float32], n: int) -> None:
    """out −= xᵀ·matrix, for the first n of x; n counts as the next multiple of four."""
    b = len(out)
    for i in range(0, n, 4):
        x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
        m0, m1 = matrix[i * b : (i + 1) * b], matrix[(i + 1) * b : (i + 2) * b]
        m2, m3 = matrix[(i + 2) * b : (i + 3) * b], matrix[(i + 3) * b : (i + 4) * b]
        for j in range(b):
            out[j] = out[j] - ((m0[j] * x0 + m1[j] * x1) + (m2[j] * x2 + m3[j] * x3))


@inner
def learn_covariances(
    body: NDArray[np.float32], b: int, n: int, row: int, gain: NDArray[np.float32], y: NDArray[np.float32]
) -> None:
    """Move every covariance of the body towards the products of this row with the rows before it.

    `y` float32[b] the row, which stands in the ring at place `row`; `gain` float32[b] of each feature: a pair has the
    larger of its two, so that a feature that is new catches up.
    """
    for k in range(len(_ORDERS)):
        past = body[(PAST + (row - _ORDERS[k]) % RING) * b : (PAST + (row - _ORDERS[k]) % RING + 1) * b]
        start = matrix_at(b, k)
        for i in range(n):
            cov = body[start + i * b : start + (i + 1) * b]
            yi, gi = y[i], gain[i]
            for j in range(b):
                g = gain[j] if gain[j] > gi else gi
                cov[j] += g * (yi * past[j] - cov[j])


@inner
def change_units(body: NDArray[np.float32], b: int, n: int, ratio: NDArray[np.float32]) -> None:
    """Put ring, covariances and maps into new units: a feature's numbers are `ratio` times as large from now on."""
    for k in range(RING):
        past = body[(PAST + k) * b : (PAST + k + 1) * b]
        for j in range(b):
            past[j] *= ratio[j]
    covariances = len(_ORDERS)
    for k in range(MATRICES):
        start = matrix_at(b, k)
        for i in range(n):
            of = body[start + i * b : start + (i + 1) * b]
            own = ratio[i] if k < covariances else np.float32(1) / ratio[i]
            for j in range(b):
                of[j] *= own * ratio[j]


@inner
def turn(body: NDArray[np.float32], b: int, turned: NDArray[np.float32]) -> None:
    """The transposed covariances of a body, which `fit` needs so that all its loops run along rows."""
    for k in range(len(_ORDERS)):
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
    work: Any,
) -> None:
    """Ridge regression of feature `target` on all n features of its body at these lags, from the map as it stands.

    Lag 0 leaves out the target itself. The maps of the lags are the matrices `first` … of the body, a column a target.
    `work` has `x`, `r`, `p`, `q` float32[≥ len(lags)·b], and
    `turned` as `turn` left it.
    """
    size = len(lags) * b
    x, r, p, q = work.x[:size], work.r[:size], work.p[:size], work.q[:size]
    alone = lags[0] == 0
    for a in range(len(lags)):
        start, wanted = matrix_at(b, first + a), matrix_at(b, ORDER_AT[lags[a]]) + target * b
        for i in range(b):
            x[a * b + i] = body[start + i * b + target]
            r[a * b + i] = body[wanted + i]
    _times(body, b, n, lags, ridge, work.turned, x, q)
    for i in range(size):
        r[i] += q[i]
    if alone:
        r[target] = 0.0
    for i in range(size):
        p[i] = r[i]
    square = dot(r, r)
    enough = GOOD_ENOUGH * square
    for _ in range(ITERATIONS):
        if not square > enough:
            break
        _times(body, b, n, lags, ridge, work.turned, p, q)
        if alone:
            q[target] = 0.0
        curve = -dot(p, q)
        if not curve > 0.0:
            break
        along = np.float32(square / curve)
        for i in range(size):
            x[i] += along * p[i]
            r[i] += along * q[i]
        before, square = square, dot(r, r)
        onward = np.float32(square / before)
        for i in range(size):
            p[i] = r[i] + onward * p[i]
    for a in range(len(lags)):
        start = matrix_at(b, first + a)
        for i in range(n):
            body[start + i * b + target] = x[a * b + i]


@inner
def _times(
    body: NDArray[np.float32],
    b: int,
    n: int,
    lags: NDArray[np.int64],
    ridge: np.float32,
    turned: NDArray[np.float32],
    x: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """out = −(covariance of all lagged inputs + ridge)·x."""
    for i in range(len(lags) * b):
        out[i] = -ridge * x[i]
    for a in range(len(lags)):
        of = out[a * b : (a + 1) * b]
        for c in range(len(lags)):
            other = x[c * b : (c + 1) * b]
            if c >= a:
                start = ORDER_AT[lags[c] - lags[a]] * b * b
                take_away(of, turned[start : start + b * b], other, n)
            else:
                start = matrix_at(b, ORDER_AT[lags[a] - lags[c]])
                take_away(of, body[start : start + b * b], other, n)
