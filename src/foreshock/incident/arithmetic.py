"""The few functions of a real number that the alarm needs, of + − × ÷ alone (CONTRACTS §7)."""

from __future__ import annotations

import math

from foreshock.state.arithmetic import LN2, ln
from foreshock.state.jit import entry, inner


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


ROOM, ROOM_FROM = 0.35, 3.0


@entry
def level_cap(k: float, rate: float) -> float:
    """The highest level of an environment in which the budgets of its entities make up k times its own.

    It is twice what the bar's own rule adds for k sources, and ln 1.4. The tails of real scores are heavier than that
    rule's: where very many share, from `ROOM_FROM` on, the cap rises by `ROOM` · ln(k / `ROOM_FROM`) more.
    """
    return 2.0 * theta0(k, rate) + 0.3364722366212129 + ROOM * ln(max(k / ROOM_FROM, 1.0))
