"""The few functions of a real number that the alarm needs, of + − × ÷ alone (CONTRACTS §7)."""

from __future__ import annotations

import math

from foreshock.state.jit import entry, inner

LN2 = 0.6931471805599453


@inner
def ln(x: float) -> float:
    """Natural logarithm of a positive number, by the series of artanh."""
    m, e = math.frexp(x)
    if m < 0.7071067811865476:
        m, e = 2.0 * m, e - 1
    z = (m - 1.0) / (m + 1.0)
    zz, term, total = z * z, z, 0.0
    for k in range(1, 27, 2):
        total += term / k
        term *= zz
    return e * LN2 + 2.0 * total


@inner
def halved(value: float, half_lives: float) -> float:
    """`value` after so many half-lives (≥ 0)."""
    if half_lives >= 1000.0:
        return 0.0
    whole = math.floor(half_lives)
    x = (whole - half_lives) * LN2
    term, total = 1.0, 1.0
    for k in range(1, 19):
        term *= x / k
        total += term
    return math.ldexp(value * total, -int(whole))


@entry
def theta0(k: float, rate: float) -> float:
    """What the bar's own rule adds if k sources share one budget; `rate` = rows a day ÷ budget, ≥ 10."""
    if k <= 1.0:
        return 0.0
    a = ln(rate)
    return 2.0 * ln((a + ln(k)) / a)
