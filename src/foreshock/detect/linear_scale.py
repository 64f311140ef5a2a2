"""The scales of `linear`: what the maps leave of a feature, standardised by means and scales that follow it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.linear_layout import (
    COUNT,
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
from foreshock.detect.linear_maps import dot
from foreshock.state.jit import inner

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


@inner
def pool(
    body: NDArray[np.float32], b: int, kind: int, residual: NDArray[np.float32], pace: float, learn: bool, work: Work
) -> tuple[float, float, float]:
    """Sums of squares of a body's standardised residuals, by fast and by slow scales, and the largest by fast ones.

    The residuals float32[≥ b] become standardised ones; their means and scales are learnt where `learn`. A scale is the
    .99 quantile of |residual| over 2.5, followed by multiplicative steps; the root mean square floors it.
    """
    shift, fast = body[(kind + SHIFT) * b : (kind + SHIFT + 1) * b], body[(kind + FAST) * b : (kind + FAST + 1) * b]
    square, slow = body[(kind + SQUARE) * b : (kind + SQUARE + 1) * b], body[(kind + SLOW) * b : (kind + SLOW + 1) * b]
    count, e, live = body[COUNT * b : (COUNT + 1) * b], residual[:b], work.live[:b]
    seen, youth = work.seen[:b], work.youth[:b]
    scale, slower, far, usual = work.scale[:b], work.slower[:b], work.by_fast[:b], work.by_slow[:b]
    # Loops that write one array each: of longer ones the compiler cannot tell that their arrays lie apart.
    for j in range(b):
        e[j] -= shift[j]
    for j in range(b):
        root = f4(math.sqrt(square[j]))
        floor = root if root > LEAST_SCALE else LEAST_SCALE
        least = HALF * (slow[j] if slow[j] > floor else floor)
        scale[j] = (fast[j] if fast[j] > least else least) if count[j] >= SETTLED else floor
    for j in range(b):
        root = f4(math.sqrt(square[j]))
        floor = root if root > LEAST_SCALE else LEAST_SCALE
        slower[j] = (slow[j] if slow[j] > HALF * floor else HALF * floor) if count[j] >= SETTLED else floor
    for j in range(b):
        by = abs(e[j]) / scale[j]
        by = by if by < MOST else MOST
        far[j] = live[j] * by * by
    for j in range(b):
        by = abs(e[j]) / slower[j]
        by = by if by < MOST else MOST
        usual[j] = live[j] * by * by
    if learn:
        gain_shift, gain_fast = f4(SHIFT_GAIN * pace), f4(FAST_GAIN * pace)
        gain_slow, gain_square = f4(SLOW_GAIN * pace), f4(MEMORY_GAIN * pace)
        for j in range(b):
            early, size, most = EARLY * youth[j], abs(e[j]), STEP_CLIP * scale[j]
            bounded = e[j] if size < most else (most if e[j] > ZERO else -most)
            shift[j] += seen[j] * (gain_shift if gain_shift > early else early) * bounded
        for j in range(b):
            early = EARLY * youth[j]
            gain = seen[j] * (gain_square if gain_square > early else early)
            square[j] += gain * (e[j] * e[j] - square[j])
        for j in range(b):
            tracked = TRACKED * youth[j]
            gain = seen[j] * (gain_fast if gain_fast > tracked else tracked)
            fast[j] = scale[j] * (ONE + (UP if abs(e[j]) > FAR * scale[j] else DOWN) * gain)
        for j in range(b):
            tracked = TRACKED * youth[j]
            gain = seen[j] * (gain_slow if gain_slow > tracked else tracked)
            slow[j] *= ONE + (UP if abs(e[j]) > FAR * slow[j] else DOWN) * gain
    # How far from its level a feature is must not shrink while an incident lasts: it is what names the feature.
    own = slower if kind == LEVELS else scale
    for j in range(b):
        e[j] /= own[j]
    return dot(far, seen), dot(usual, seen), _largest(far)


@inner
def _largest(x: NDArray[np.float32]) -> float:
    """The largest of numbers that are at least 0."""
    top = ZERO
    for j in range(len(x)):
        top = x[j] if x[j] > top else top
    return float(top)


@inner
def settle(body: NDArray[np.float32], b: int, j: int) -> None:
    """Let the scales of a feature start from the root mean square."""
    for kind in (FORECASTS, CROSSES, LEVELS):
        body[(kind + SLOW) * b + j] = math.sqrt(body[(kind + SQUARE) * b + j])
        body[(kind + FAST) * b + j] = max(body[(kind + SLOW) * b + j], LEAST_SCALE)


@inner
def rescale(body: NDArray[np.float32], b: int, j: int, ratio: np.float32) -> None:
    """Put what is known of a feature's residuals into a new unit, in which numbers are `ratio` times as large."""
    for kind in (FORECASTS, CROSSES, LEVELS):
        body[(kind + SHIFT) * b + j] *= ratio
        # A feature that spreads more than it did keeps its scales in units: they grow with it.
        if ratio > ONE:
            body[(kind + FAST) * b + j] *= ratio
            body[(kind + SQUARE) * b + j] *= ratio * ratio
            body[(kind + SLOW) * b + j] *= ratio
