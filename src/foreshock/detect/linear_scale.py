"""The scales of `linear`: what the maps leave of a feature, standardised by means and scales that follow it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_layout import (
    CROSSES,
    EARLY,
    FAST,
    FORECASTS,
    HALF,
    LEVELS,
    MEMORY_GAIN,
    ONE,
    SHIFT,
    SLOW,
    SQUARE,
    ZERO,
    Work,
    f4,
)
from foreshock.state.jit import inner
from foreshock.state.lanes import above, load, root, size, spread, store, swap, total

MOST = f4(20.0)
"""Standardised residuals count up to this."""
LEAST_SCALE = f4(0.05)
"""No residual's scale is smaller, in units; half of it where a scale has come down."""
FAR, STEP_CLIP = f4(2.5), f4(3.0)
"""Scales of a residual: passed by one in a hundred rows; up to which its mean follows."""
UP, DOWN = f4(0.99), f4(-0.01)
"""Steps of a scale, in gains, when that is passed and when it is not: it stays where one in a hundred passes."""
SHIFT_GAIN, FAST_GAIN, SLOW_GAIN = 0.0005, 0.015, 0.0005
TRACKED = f4(30.0)
"""The gain of scales with k rows seen is `TRACKED`/(k + `YOUNG`) at least."""
SETTLED = f4(384.0)
"""Rows of a feature after which its scales leave the root mean square."""
_YET = f4(383.5)


@inner
def pool(
    body: NDArray[np.float32],
    b: int,
    kind: int,
    residual: NDArray[np.float32],
    at: int,
    pace: float,
    learn: bool,
    work: Work,
) -> tuple[float, float, float]:
    """Sums of squares of a body's standardised residuals, by fast and by slow scales, and the largest by fast ones.

    The residuals of the row at `at` of the scratch become standardised ones, and their squares by slow scales are added
    to `work.far`; their means and scales are learnt where `learn`. A scale is the .99 quantile of |residual| over 2.5,
    followed by multiplicative steps; the root mean square floors it.
    """
    shifts, squares, slows, fasts = (kind + SHIFT) * b, (kind + SQUARE) * b, (kind + SLOW) * b, (kind + FAST) * b
    zero, one, most, yet, half = spread(ZERO), spread(ONE), spread(MOST), spread(_YET), spread(HALF)
    least, far, up, down = spread(LEAST_SCALE), spread(FAR), spread(UP), spread(DOWN)
    gain_shift, gain_square = spread(f4(SHIFT_GAIN * pace)), spread(f4(MEMORY_GAIN * pace))
    gain_fast, gain_slow = spread(f4(FAST_GAIN * pace)), spread(f4(SLOW_GAIN * pace))
    sum_fast, sum_slow, top = zero, zero, zero
    for j in range(0, b, 8):
        shift, square, slow, fast = (
            load(body, shifts + j),
            load(body, squares + j),
            load(body, slows + j),
            load(body, fasts + j),
        )
        count, seen, live = load(work.known, at + j), load(work.seen, at + j), load(work.live, at + j)
        e = load(residual, at + j) - shift
        way = size(e)
        rms = root(square)
        floor = above(rms, least, rms, least)
        under = half * above(slow, floor, slow, floor)
        scale = above(count, yet, above(fast, under, fast, under), floor)
        under = half * floor
        slower = above(count, yet, above(slow, under, slow, under), floor)
        standard = e / scale
        by_fast, by_slow = size(standard), way / slower
        by_fast, by_slow = above(most, by_fast, by_fast, most), above(most, by_slow, by_slow, most)
        by_fast, by_slow = live * by_fast * by_fast, live * by_slow * by_slow
        sum_fast, sum_slow = sum_fast + by_fast * seen, sum_slow + by_slow * seen
        top = above(by_fast, top, by_fast, top)
        store(residual, at + j, standard)
        store(work.far, at + j, load(work.far, at + j) + by_slow)
        if learn:
            youth = load(work.youth, at + j)
            early, tracked = spread(EARLY) * youth, spread(TRACKED) * youth
            bound = spread(STEP_CLIP) * scale
            bounded = above(bound, way, e, above(e, zero, bound, zero - bound))
            store(body, shifts + j, shift + seen * above(gain_shift, early, gain_shift, early) * bounded)
            gain = seen * above(gain_square, early, gain_square, early)
            store(body, squares + j, square + gain * (e * e - square))
            gain = seen * above(gain_fast, tracked, gain_fast, tracked)
            store(body, fasts + j, scale * (one + above(way, far * scale, up, down) * gain))
            gain = seen * above(gain_slow, tracked, gain_slow, tracked)
            store(body, slows + j, slow * (one + above(way, far * slow, up, down) * gain))
    return total(sum_fast), total(sum_slow), _largest(top, work)


@inner
def _largest(x: Any, work: Work) -> float:
    """The largest of eight numbers."""
    x = above(x, swap(x, 4), x, swap(x, 4))
    x = above(x, swap(x, 2), x, swap(x, 2))
    x = above(x, swap(x, 1), x, swap(x, 1))
    store(work.gain, 0, x)
    return float(work.gain[0])


@inner
def stray(body: NDArray[np.float32], b: int, at: int, pace: float, learn: bool, work: Work) -> None:
    """How far a row's features are from their slow levels, standardised by slow scales, learnt where `learn`.

    A scale that came down fast would make it shrink while an incident lasts: it is what names the feature.
    """
    shifts, squares, slows = (LEVELS + SHIFT) * b, (LEVELS + SQUARE) * b, (LEVELS + SLOW) * b
    zero, one, yet, half = spread(ZERO), spread(ONE), spread(_YET), spread(HALF)
    least, far, up, down = spread(LEAST_SCALE), spread(FAR), spread(UP), spread(DOWN)
    gain_shift, gain_square = spread(f4(SHIFT_GAIN * pace)), spread(f4(MEMORY_GAIN * pace))
    gain_slow = spread(f4(SLOW_GAIN * pace))
    for j in range(0, b, 8):
        shift, square, slow = load(body, shifts + j), load(body, squares + j), load(body, slows + j)
        e = load(work.away, at + j) - shift
        rms = root(square)
        floor = above(rms, least, rms, least)
        under = half * floor
        scale = above(load(work.known, at + j), yet, above(slow, under, slow, under), floor)
        store(work.away, at + j, e / scale)
        if learn:
            seen, youth, way = load(work.seen, at + j), load(work.youth, at + j), size(e)
            early, tracked = spread(EARLY) * youth, spread(TRACKED) * youth
            bound = spread(STEP_CLIP) * scale
            bounded = above(bound, way, e, above(e, zero, bound, zero - bound))
            store(body, shifts + j, shift + seen * above(gain_shift, early, gain_shift, early) * bounded)
            gain = seen * above(gain_square, early, gain_square, early)
            store(body, squares + j, square + gain * (e * e - square))
            gain = seen * above(gain_slow, tracked, gain_slow, tracked)
            store(body, slows + j, slow * (one + above(way, far * slow, up, down) * gain))


@inner
def settle(body: NDArray[np.float32], b: int, j: int) -> None:
    """Let the scales of a feature start from the root mean square."""
    for kind in (FORECASTS, CROSSES, LEVELS):
        body[(kind + SLOW) * b + j] = math.sqrt(body[(kind + SQUARE) * b + j])
        if kind != LEVELS:
            body[(kind + FAST) * b + j] = max(body[(kind + SLOW) * b + j], LEAST_SCALE)


@inner
def rescale(body: NDArray[np.float32], b: int, j: int, ratio: np.float32) -> None:
    """Put what is known of a feature's residuals into a new unit, in which numbers are `ratio` times as large."""
    for kind in (FORECASTS, CROSSES, LEVELS):
        body[(kind + SHIFT) * b + j] *= ratio
        # A feature that spreads more than it did keeps its scales in units: they grow with it.
        if ratio > ONE:
            if kind != LEVELS:
                body[(kind + FAST) * b + j] *= ratio
            body[(kind + SQUARE) * b + j] *= ratio * ratio
            body[(kind + SLOW) * b + j] *= ratio
