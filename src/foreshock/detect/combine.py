"""One p-value of several, valid under dependence: the Cauchy combination with equal weights (Liu & Xie 2020).

T = mean of cot(π·p) has, whatever the dependence, nearly the tail of one Cauchy variable, so p = ½ − arctan(T)/π.
Tangent and arctangent are our own series (CONTRACTS §7). What comes out ranks; it raises nothing (CONTRACTS §9).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.histogram import PI, arctangent, cotangent_of_pi
from foreshock.state.jit import entry
from foreshock.types import Verdict

LARGEST = 0.99
"""Values above it count as it: a 1, which every flat series gives, would else drown all others."""
LEAST = 1e-300


def cauchy(p: NDArray[np.float64]) -> float:
    """The combination of p float64[k] in [0, 1], NaN = not there; NaN if none is there.

    >>> round(cauchy(np.array([0.001, 0.7, np.nan])), 5)
    0.002
    """
    return float(combine(p, np.array([0, len(p)], np.int64))[0])


def combine(p: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """`cauchy` of each row of cells in compressed-row form: p float64[m], start int64[n + 1] → float64[n]."""
    out = np.empty(len(start) - 1)
    _combine(p, start, out)
    return out


def across(verdicts: Sequence[Verdict], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """One p-value for each row of an entity, of all these verdicts: float64[n], NaN where nothing was judged.

    A detector of single series first combines its cells, which `start` int64[n + 1] cuts into rows; then every detector
    weighs the same, however many series it sees.
    """
    each = [one.p_value if one.whole else combine(one.p_value, start) for one in verdicts]
    return together(each) if each else np.full(len(start) - 1, np.nan)


def together(each: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Row by row the combination of one p-value of each detector, float64[n] each; at least one detector."""
    if len(each) == 1:
        return each[0]
    return combine(np.stack(each, axis=1).ravel(), np.arange(len(each[0]) + 1, dtype=np.int64) * len(each))


@entry
def _combine(p: NDArray[np.float64], start: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    for row in range(len(out)):
        total, count = 0.0, 0
        for cell in range(start[row], start[row + 1]):
            if p[cell] == p[cell]:
                total += cotangent_of_pi(min(max(p[cell], LEAST), LARGEST))
                count += 1
        out[row] = 0.5 - arctangent(total / count) / PI if count else np.nan
        if count and total > count:
            # Where the two terms above would cancel.
            out[row] = arctangent(count / total) / PI


__all__ = ["across", "cauchy", "combine", "together"]
