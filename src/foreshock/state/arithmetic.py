"""Functions of a real number of + − × ÷ alone, the same to the last bit on every machine (CONTRACTS §7)."""

from __future__ import annotations

import math

from foreshock.state.jit import inner

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
