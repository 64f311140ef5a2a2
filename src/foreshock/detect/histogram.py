"""Decayed histograms on a logarithmic axis, and the few functions of a real number that kernels need.

Bins are log-linear: every octave [2^e, 2^(e+1)) is cut into `per` bins of equal width, so that neither finding a bin
nor reading a quantile takes a logarithm. Bin 0 also holds everything below, the last one everything above.

Kernels may only use + − × ÷ √ (CONTRACTS §7): `ln`, `exp` and the rest are spelled out here, within 1e-15 of libm's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foreshock.state.jit import entry, inner

LN2 = 0.6931471805599453
LN2_HIGH = 0.693147180369123816490
LN2_LOW = 1.90821492927058770002e-10
PI = 3.141592653589793
_FRACTION = (1 << 52) - 1
_ONE = 1023 << 52


@inner
def exponent(x: float) -> int:
    """e of x = m·2^e, 1 ≤ m < 2, for a positive normal number."""
    return int((np.float64(x).view(np.int64) >> 52) & 2047) - 1023


@inner
def mantissa(x: float) -> float:
    """m of x = m·2^e, 1 ≤ m < 2, for a positive normal number."""
    return np.int64((np.float64(x).view(np.int64) & _FRACTION) | _ONE).view(np.float64)


@inner
def power_of_two(e: int) -> float:
    """2^e for −1022 ≤ e ≤ 1023."""
    return np.int64((e + 1023) << 52).view(np.float64)


def _ln_of_32nds() -> NDArray[np.float64]:
    """ln(i/32) for i < 48, by 2·artanh((x−1)/(x+1)); entries below 22 are not used."""
    table = np.zeros(48)
    for i in range(22, 48):
        t = (i - 32) / (i + 32)
        total = 0.0
        for k in range(25, 0, -2):
            total = total * t * t + 1.0 / k
        table[i] = 2.0 * t * total
    return table


_LN_32NDS = _ln_of_32nds()


@inner
def ln(x: float) -> float:
    """Natural logarithm of a positive normal number; near 1 a multiple of x − 1, so ≥ 0 exactly where x ≥ 1."""
    e, m = exponent(x), mantissa(x)
    if m > 1.4142135623730951:
        e, m = e + 1, 0.5 * m
    i = int(m * 32.0 + 0.5)
    near = i * 0.03125
    t = (m - near) / (m + near)
    square = t * t
    rest = 2.0 * t * (1.0 + square * (1.0 / 3.0 + square * (0.2 + square * (1.0 / 7.0))))
    return float(e * LN2_HIGH + (_LN_32NDS[i] + (rest + e * LN2_LOW)))


@entry
def exp(x: float) -> float:
    """e^x, x held within ±700."""
    x = min(max(x, -700.0), 700.0)
    k = int(np.floor(x / LN2 + 0.5))
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    total = 1.0
    for j in range(14, 0, -1):
        total = 1.0 + total * r / j
    return total * power_of_two(k)


@inner
def bin_of(x: float, low: int, per: int, size: int) -> int:
    """The bin of a number among `size` bins, `per` an octave, the first at 2^low; NaN is not asked."""
    if x < power_of_two(low):
        return 0
    e = exponent(x) - low
    if e * per >= size:
        return size - 1
    return e * per + int((mantissa(x) - 1.0) * per)


@inner
def edge(b: int, low: int, per: int) -> float:
    """Lower edge of bin b, which is the upper edge of bin b − 1; 0 for the first."""
    if b == 0:
        return 0.0
    return power_of_two(low + b // per) * (1.0 + (b % per) / per)


@inner
def upper_quantile(
    hist: NDArray[np.float32], low: int, per: int, point_weight: float, point: float, weight: float
) -> float:
    """The number with `weight` of a histogram above it, linear inside a bin.

    To the histogram belongs a point mass, `point_weight` at `point`: what is believed before anything is seen.
    """
    point_bin = bin_of(point, low, per, len(hist))
    above = 0.0
    for b in range(len(hist) - 1, -1, -1):
        left, right = edge(b, low, per), edge(b + 1, low, per)
        if b == point_bin:
            middle = min(max(point, left), right)
            part = float(hist[b]) * (right - middle) / (right - left)
            if above + part >= weight and part > 0.0:
                return right - (right - middle) * (weight - above) / part
            above += part + point_weight
            if above >= weight:
                return middle
            right = middle
            part = float(hist[b]) - part
        else:
            part = float(hist[b])
        if above + part >= weight and part > 0.0:
            return right - (right - left) * (weight - above) / part
        above += part
    return 0.0


@inner
def total_weight(hist: NDArray[np.float32]) -> float:
    """Sum of a histogram, first bin first."""
    total = 0.0
    for b in range(len(hist)):
        total += float(hist[b])
    return total


@inner
def scale_weights(hist: NDArray[np.float32], factor: float) -> None:
    """Multiply every bin."""
    for b in range(len(hist)):
        hist[b] *= factor


@inner
def cotangent_of_pi(p: float) -> float:
    """cot(π·p) for 0 < p < 1, by the series of sine and cosine up to π/2."""
    if p > 0.5:
        return -cotangent_of_pi(1.0 - p)
    x = PI * p
    square = x * x
    sine, cosine = 1.0, 1.0
    for k in range(24, 0, -2):
        cosine = 1.0 - cosine * square / (k * (k - 1))
        sine = 1.0 - sine * square / (k * (k + 1))
    return cosine / (x * sine)


@inner
def arctangent(t: float) -> float:
    """arctan(t), by halving the angle twice and its series."""
    if t < 0.0:
        return -arctangent(-t)
    if t > 1.0:
        return 0.5 * PI - arctangent(1.0 / t)
    t = t / (1.0 + np.sqrt(1.0 + t * t))
    t = t / (1.0 + np.sqrt(1.0 + t * t))
    square = t * t
    total = 0.0
    for k in range(23, 0, -2):
        total = 1.0 / k - total * square
    return 4.0 * t * total
