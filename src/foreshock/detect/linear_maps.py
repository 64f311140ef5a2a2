"""The matrices of `linear`: what maps take from rows, and lagged covariances, which follow the rows.

Covariances are those of a stationary series, so that one matrix a lag serves all pairs of lagged inputs (Yule–Walker).
All float32, in a fixed order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_layout import MATRICES, ORDERS, PAST, RING, SQUARES
from foreshock.state.jit import inner
from foreshock.state.lanes import above, load, splat, spread, store

_ORDERS = np.array(ORDERS, np.int64)
_QUARTER = np.float32(0.25)


@inner
def matrix_at(b: int, which: int) -> int:
    """Where the matrix of this number begins in a body of b features: covariances, forecast maps, cross maps."""
    return SQUARES * b + which * b * b


@inner
def take_away(
    out: NDArray[np.float32],
    at: int,
    matrix: NDArray[np.float32],
    start: int,
    b: int,
    x: NDArray[np.float32],
    x_at: int,
    moved: NDArray[np.int64],
) -> None:
    """out[at : at + b] −= Σ x[x_at + i]·(row i of the b × b matrix at `start`), over the places i in `moved`.

    Four places are summed in pairs and taken away together, the last ones one by one. What is taken from stays in
    registers: 40 numbers at a time, then 24, then eight.
    """
    fours = len(moved) // 4 * 4
    j = 0
    while j + 40 <= b:
        here, to = start + j, at + j
        s0, s1, s2, s3, s4 = (
            load(out, to),
            load(out, to + 8),
            load(out, to + 16),
            load(out, to + 24),
            load(out, to + 32),
        )
        for k in range(0, fours, 4):
            i0, i1, i2, i3 = moved[k], moved[k + 1], moved[k + 2], moved[k + 3]
            x0, x1, x2, x3 = splat(x, x_at + i0), splat(x, x_at + i1), splat(x, x_at + i2), splat(x, x_at + i3)
            m0, m1, m2, m3 = here + i0 * b, here + i1 * b, here + i2 * b, here + i3 * b
            s0 = less(s0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            s1 = less(s1, matrix, m0 + 8, m1 + 8, m2 + 8, m3 + 8, x0, x1, x2, x3)
            s2 = less(s2, matrix, m0 + 16, m1 + 16, m2 + 16, m3 + 16, x0, x1, x2, x3)
            s3 = less(s3, matrix, m0 + 24, m1 + 24, m2 + 24, m3 + 24, x0, x1, x2, x3)
            s4 = less(s4, matrix, m0 + 32, m1 + 32, m2 + 32, m3 + 32, x0, x1, x2, x3)
        for k in range(fours, len(moved)):
            x0, m0 = splat(x, x_at + moved[k]), here + moved[k] * b
            s0, s1, s2 = s0 - load(matrix, m0) * x0, s1 - load(matrix, m0 + 8) * x0, s2 - load(matrix, m0 + 16) * x0
            s3, s4 = s3 - load(matrix, m0 + 24) * x0, s4 - load(matrix, m0 + 32) * x0
        store(out, to, s0)
        store(out, to + 8, s1)
        store(out, to + 16, s2)
        store(out, to + 24, s3)
        store(out, to + 32, s4)
        j += 40
    while j + 24 <= b:
        here, to = start + j, at + j
        s0, s1, s2 = load(out, to), load(out, to + 8), load(out, to + 16)
        for k in range(0, fours, 4):
            i0, i1, i2, i3 = moved[k], moved[k + 1], moved[k + 2], moved[k + 3]
            x0, x1, x2, x3 = splat(x, x_at + i0), splat(x, x_at + i1), splat(x, x_at + i2), splat(x, x_at + i3)
            m0, m1, m2, m3 = here + i0 * b, here + i1 * b, here + i2 * b, here + i3 * b
            s0 = less(s0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            s1 = less(s1, matrix, m0 + 8, m1 + 8, m2 + 8, m3 + 8, x0, x1, x2, x3)
            s2 = less(s2, matrix, m0 + 16, m1 + 16, m2 + 16, m3 + 16, x0, x1, x2, x3)
        for k in range(fours, len(moved)):
            x0, m0 = splat(x, x_at + moved[k]), here + moved[k] * b
            s0, s1, s2 = s0 - load(matrix, m0) * x0, s1 - load(matrix, m0 + 8) * x0, s2 - load(matrix, m0 + 16) * x0
        store(out, to, s0)
        store(out, to + 8, s1)
        store(out, to + 16, s2)
        j += 24
    while j < b:
        here, to = start + j, at + j
        s0 = load(out, to)
        for k in range(0, fours, 4):
            i0, i1, i2, i3 = moved[k], moved[k + 1], moved[k + 2], moved[k + 3]
            x0, x1, x2, x3 = splat(x, x_at + i0), splat(x, x_at + i1), splat(x, x_at + i2), splat(x, x_at + i3)
            s0 = less(s0, matrix, here + i0 * b, here + i1 * b, here + i2 * b, here + i3 * b, x0, x1, x2, x3)
        for k in range(fours, len(moved)):
            s0 = s0 - load(matrix, here + moved[k] * b) * splat(x, x_at + moved[k])
        store(out, to, s0)
        j += 8


@inner
def less(
    s: Any, matrix: NDArray[np.float32], m0: int, m1: int, m2: int, m3: int, x0: Any, x1: Any, x2: Any, x3: Any
) -> Any:
    """Eight numbers less those of four rows of a matrix, each times its x."""
    return s - ((load(matrix, m0) * x0 + load(matrix, m1) * x1) + (load(matrix, m2) * x2 + load(matrix, m3) * x3))


@inner
def learn_covariances(
    body: NDArray[np.float32], b: int, row: int, gain: NDArray[np.float32], moved: NDArray[np.int64]
) -> None:
    """Move every covariance of the body towards the mean product of the last four rows with the rows before them.

    The last of the four stands in the ring at place `row`. `gain` float32[b] of each feature: a pair has the larger of
    its two, so that a feature that is new catches up.
    """
    r0, r1, r2, r3 = _ring(b, row - 3), _ring(b, row - 2), _ring(b, row - 1), _ring(b, row)
    quarter = spread(_QUARTER)
    for k in range(len(_ORDERS)):
        lag, start = _ORDERS[k], matrix_at(b, k)
        p0, p1 = _ring(b, row - 3 - lag), _ring(b, row - 2 - lag)
        p2, p3 = _ring(b, row - 1 - lag), _ring(b, row - lag)
        for k_moved in range(len(moved)):
            i = moved[k_moved]
            y0, y1, y2, y3 = splat(body, r0 + i), splat(body, r1 + i), splat(body, r2 + i), splat(body, r3 + i)
            y0, y1, y2, y3, own = y0 * quarter, y1 * quarter, y2 * quarter, y3 * quarter, splat(gain, i)
            for j in range(0, b, 8):
                other, place = load(gain, j), start + i * b + j
                g, cov = above(own, other, own, other), load(body, place)
                product = y0 * load(body, p0 + j) + y1 * load(body, p1 + j)
                product = product + (y2 * load(body, p2 + j) + y3 * load(body, p3 + j))
                store(body, place, cov + g * (product - cov))


@inner
def _ring(b: int, row: int) -> int:
    """Where a row stands in the ring of a body."""
    return (PAST + (row & (RING - 1))) * b


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
