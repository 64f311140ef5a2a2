"""Bounds of features that follow what is seen, by which `half_space_trees` brings any unit to [0, 1].

Bounds stand in lanes of eight columns: eight low ones, then eight high ones. The first lane of a key lies in its slot;
further ones are rows of a table of their own, each with the number of the next.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.state.jit import inner

LANE = 8
LARGEST_VALUE = 1e100
"""Finite values beyond it count as this, so that their differences stay finite."""
WIDEN = 0.25
"""Once a key has had a window, a value beyond the bounds moves them by this share of their distance at most."""
MARGIN = 0.25
"""How far inside of [0, 1] the bounds lie: what is beyond them falls where there was nothing."""
BELOW, MIDDLE, ABOVE = -1.0, 0.5, 2.0
"""Where values lie of a feature that never moved: as ever, in the middle; else outside."""

WIDE = np.dtype([("low", "f8", (LANE,)), ("high", "f8", (LANE,)), ("next", "i8"), ("spare", "i8")])


class Wide(NamedTuple):
    """The table of further lanes, as numbers and as whole numbers, each [lanes, 18]."""

    number: NDArray[np.float64]
    whole: NDArray[np.int64]


@inner
def scale(
    lane: NDArray[np.float64], values: NDArray[np.float64], start: int, stop: int, known: int, x: NDArray[np.float64]
) -> None:
    """Columns start ≤ j < stop in units of their bounds, which lie `MARGIN` inside of [0, 1]; NaN where missing."""
    for j in range(start, stop):
        low, high = lane[j - start], lane[LANE + j - start]
        value = min(max(values[j], -LARGEST_VALUE), LARGEST_VALUE)
        if not abs(values[j]) < np.inf:
            x[j] = np.nan
        elif j >= known or low > high or value == low == high:
            x[j] = MIDDLE
        elif low == high:
            x[j] = ABOVE if value > high else BELOW
        else:
            x[j] = MARGIN + (1.0 - 2.0 * MARGIN) * ((value - low) / (high - low))


@inner
def follow(
    lane: NDArray[np.float64], values: NDArray[np.float64], start: int, stop: int, gain: float, young: bool
) -> None:
    """Let bounds of columns start ≤ j < stop take in their values, and draw near to them by a share `gain`."""
    for j in range(start, stop):
        if not abs(values[j]) < np.inf:
            continue
        low, high = lane[j - start], lane[LANE + j - start]
        value = min(max(values[j], -LARGEST_VALUE), LARGEST_VALUE)
        if low > high:
            low = high = value
        reach = np.inf if young or low == high else WIDEN * (high - low)
        value = min(max(value, low - reach), high + reach)
        lane[j - start] = value if value < low else low + gain * (value - low)
        lane[LANE + j - start] = value if value > high else high - gain * (high - value)
