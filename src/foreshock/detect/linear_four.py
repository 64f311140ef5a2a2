"""`take_away` of `linear` for four rows, or four regressions, at a time: their matrix is read once for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_maps import less
from foreshock.state.jit import inner
from foreshock.state.lanes import load, splat, store


@inner
def take_away_four(
    out: NDArray[np.float32],
    at: int,
    apart: int,
    matrix: NDArray[np.float32],
    start: int,
    b: int,
    x: NDArray[np.float32],
    x_at: tuple[int, int, int, int],
    moved: NDArray[np.int64],
) -> None:
    """`take_away` from four rows with one matrix, bit for bit the same: of out[at + r·apart :] with x[x_at[r] :].

    What is taken from stays in registers: 24 numbers of each at a time, then eight.
    """
    fours, xs, xt, xu, xv = len(moved) // 4 * 4, x_at[0], x_at[1], x_at[2], x_at[3]
    j = 0
    while j + 24 <= b:
        here, s, t, u, v = start + j, at + j, at + apart + j, at + 2 * apart + j, at + 3 * apart + j
        s0, s1, s2 = load(out, s), load(out, s + 8), load(out, s + 16)
        t0, t1, t2 = load(out, t), load(out, t + 8), load(out, t + 16)
        u0, u1, u2 = load(out, u), load(out, u + 8), load(out, u + 16)
        v0, v1, v2 = load(out, v), load(out, v + 8), load(out, v + 16)
        for k in range(0, fours, 4):
            i0, i1, i2, i3 = moved[k], moved[k + 1], moved[k + 2], moved[k + 3]
            m0, m1, m2, m3 = here + i0 * b, here + i1 * b, here + i2 * b, here + i3 * b
            x0, x1, x2, x3 = splat(x, xs + i0), splat(x, xs + i1), splat(x, xs + i2), splat(x, xs + i3)
            s0 = less(s0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            s1 = less(s1, matrix, m0 + 8, m1 + 8, m2 + 8, m3 + 8, x0, x1, x2, x3)
            s2 = less(s2, matrix, m0 + 16, m1 + 16, m2 + 16, m3 + 16, x0, x1, x2, x3)
            x0, x1, x2, x3 = splat(x, xt + i0), splat(x, xt + i1), splat(x, xt + i2), splat(x, xt + i3)
            t0 = less(t0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            t1 = less(t1, matrix, m0 + 8, m1 + 8, m2 + 8, m3 + 8, x0, x1, x2, x3)
            t2 = less(t2, matrix, m0 + 16, m1 + 16, m2 + 16, m3 + 16, x0, x1, x2, x3)
            x0, x1, x2, x3 = splat(x, xu + i0), splat(x, xu + i1), splat(x, xu + i2), splat(x, xu + i3)
            u0 = less(u0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            u1 = less(u1, matrix, m0 + 8, m1 + 8, m2 + 8, m3 + 8, x0, x1, x2, x3)
            u2 = less(u2, matrix, m0 + 16, m1 + 16, m2 + 16, m3 + 16, x0, x1, x2, x3)
            x0, x1, x2, x3 = splat(x, xv + i0), splat(x, xv + i1), splat(x, xv + i2), splat(x, xv + i3)
            v0 = less(v0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            v1 = less(v1, matrix, m0 + 8, m1 + 8, m2 + 8, m3 + 8, x0, x1, x2, x3)
            v2 = less(v2, matrix, m0 + 16, m1 + 16, m2 + 16, m3 + 16, x0, x1, x2, x3)
        for k in range(fours, len(moved)):
            i, m0 = moved[k], here + moved[k] * b
            m, x0 = load(matrix, m0), splat(x, xs + i)
            x1, x2, x3 = splat(x, xt + i), splat(x, xu + i), splat(x, xv + i)
            s0, t0, u0, v0 = s0 - m * x0, t0 - m * x1, u0 - m * x2, v0 - m * x3
            m = load(matrix, m0 + 8)
            s1, t1, u1, v1 = s1 - m * x0, t1 - m * x1, u1 - m * x2, v1 - m * x3
            m = load(matrix, m0 + 16)
            s2, t2, u2, v2 = s2 - m * x0, t2 - m * x1, u2 - m * x2, v2 - m * x3
        store(out, s, s0)
        store(out, s + 8, s1)
        store(out, s + 16, s2)
        store(out, t, t0)
        store(out, t + 8, t1)
        store(out, t + 16, t2)
        store(out, u, u0)
        store(out, u + 8, u1)
        store(out, u + 16, u2)
        store(out, v, v0)
        store(out, v + 8, v1)
        store(out, v + 16, v2)
        j += 24
    while j < b:
        here, s, t, u, v = start + j, at + j, at + apart + j, at + 2 * apart + j, at + 3 * apart + j
        s0, t0, u0, v0 = load(out, s), load(out, t), load(out, u), load(out, v)
        for k in range(0, fours, 4):
            i0, i1, i2, i3 = moved[k], moved[k + 1], moved[k + 2], moved[k + 3]
            m0, m1, m2, m3 = here + i0 * b, here + i1 * b, here + i2 * b, here + i3 * b
            x0, x1, x2, x3 = splat(x, xs + i0), splat(x, xs + i1), splat(x, xs + i2), splat(x, xs + i3)
            s0 = less(s0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            x0, x1, x2, x3 = splat(x, xt + i0), splat(x, xt + i1), splat(x, xt + i2), splat(x, xt + i3)
            t0 = less(t0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            x0, x1, x2, x3 = splat(x, xu + i0), splat(x, xu + i1), splat(x, xu + i2), splat(x, xu + i3)
            u0 = less(u0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
            x0, x1, x2, x3 = splat(x, xv + i0), splat(x, xv + i1), splat(x, xv + i2), splat(x, xv + i3)
            v0 = less(v0, matrix, m0, m1, m2, m3, x0, x1, x2, x3)
        for k in range(fours, len(moved)):
            i, m = moved[k], load(matrix, here + moved[k] * b)
            s0, t0 = s0 - m * splat(x, xs + i), t0 - m * splat(x, xt + i)
            u0, v0 = u0 - m * splat(x, xu + i), v0 - m * splat(x, xv + i)
        store(out, s, s0)
        store(out, t, t0)
        store(out, u, u0)
        store(out, v, v0)
        j += 8
