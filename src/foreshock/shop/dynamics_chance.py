"""Chances drawn from a seed and the number of the draw, with no state: what happens to one request changes no other's.

The mixing function is SplitMix64's (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import numpy as np

from foreshock.shop.dynamics_tables import Int, Real
from foreshock.state.jit import inner

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_MOST_SIGMAS = 4.5


@inner
def mixed(seed: Int, number: Int) -> Int:
    """A seed of its own for each number: uint64."""
    x = np.uint64(seed) + _STEP * (np.uint64(number) + np.uint64(1))
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


@inner
def uniform(seed: Int, number: Int) -> Real:
    """A number in (0, 1)."""
    return (float(mixed(seed, number) >> _11) + 0.5) * (1.0 / 9007199254740992.0)


@inner
def exponential(seed: Int, number: Int) -> Real:
    """A number with mean 1."""
    return -np.log(uniform(seed, number))


@inner
def normal(seed: Int, number: Int) -> Real:
    """A number with mean 0 and deviation 1, never further out than 4.5; takes two draws."""
    radius = np.sqrt(-2.0 * np.log(uniform(seed, number)))
    z = radius * np.cos(2.0 * np.pi * uniform(seed, number + 1))
    return min(max(z, -_MOST_SIGMAS), _MOST_SIGMAS)


@inner
def lognormal(seed: Int, number: Int, sigma: Real) -> Real:
    """A number with mean 1 whose logarithm has deviation `sigma`; takes two draws."""
    return np.exp(sigma * normal(seed, number) - 0.5 * sigma * sigma)
