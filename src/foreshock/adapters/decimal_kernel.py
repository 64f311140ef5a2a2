"""Decimal numbers → doubles, correctly rounded (D. Lemire, Number Parsing at a Gigabyte per Second, 2021).

What that way cannot decide (more than 19 digits, results that are subnormal or beyond the largest double) is left to
others: then the answer says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from foreshock.state.jit import inner

MOST_DIGITS = 19
"""So many digits fit into 64 bits."""
_LEAST_POWER, _LARGEST_POWER = -342, 308
_EXACT_POWERS = np.array([10.0**power for power in range(23)])
_EXACT = np.uint64(1 << 53)
_ONE, _TOP = np.uint64(1), np.uint64(63)
_ALL = np.uint64((1 << 64) - 1)
_UNSURE = np.uint64(0x1FF)
"""Where these bits of a product are all set, the bits behind it may carry into it."""
_FRACTION = np.uint64((1 << 52) - 1)
_LIMIT = np.uint64(1 << 53)
_LARGEST_EXPONENT = 0x7FF


def _powers_of_five() -> Any:
    """5^q for q from -342 to 308 as 128 bits, the highest of them set: uint64[651, 2].

    What is behind them is cut off; from 5^-27 to 5^-1, of which all bits count, it is rounded up.
    """
    out = []
    for power in range(_LEAST_POWER, _LARGEST_POWER + 1):
        value = 5 ** abs(power)
        size = value.bit_length()
        if power >= 0:
            bits = value << 128 - size if size <= 128 else value >> size - 128
        else:
            bits = (1 << size + 127) // value + (power >= -27)
        out.append((bits >> 64, bits & (1 << 64) - 1))
    return np.array(out, np.uint64)


_FIVES = _powers_of_five()


def _product_code(context: Any, left: Any, right: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide, narrow = ir.IntType(128), ir.IntType(64)
        whole = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(whole, ir.Constant(wide, 64)), narrow)
        return context.make_tuple(builder, signature.return_type, [high, builder.trunc(whole, narrow)])

    halves: Any = types.UniTuple
    return halves(types.uint64, 2)(types.uint64, types.uint64), code


def _zeros_code(context: Any, value: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), code


def _double_code(context: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), code


_product: Any = intrinsic(_product_code)
"""The high and the low half of a product."""
_leading_zeros: Any = intrinsic(_zeros_code)
_double_of: Any = intrinsic(_double_code)


@inner
def double_of(digits: Any, power: Any) -> tuple[Any, Any]:
    """The double nearest to `digits` · 10^`power`, and whether it could be found; `digits` fits into 64 bits."""
    if digits == 0:
        return 0.0, True
    if digits <= _EXACT and -23 < power < 23:
        value = np.float64(digits)
        return (value / _EXACT_POWERS[-power] if power < 0 else value * _EXACT_POWERS[power]), True
    if power < _LEAST_POWER or power > _LARGEST_POWER:
        return 0.0, False
    zeros = _leading_zeros(digits)
    high, low = _scaled(digits << zeros, power)
    if low == _ALL and (power < -27 or power > 55):
        return 0.0, False
    upper = high >> _TOP
    shift = upper + np.uint64(9)
    fraction = high >> shift
    exponent = ((217706 * power) >> 16) + 63 + np.int64(upper) - np.int64(zeros) + 1023
    if exponent <= 0:
        return 0.0, False
    # Halfway between two doubles: to the even one.
    if low <= _ONE and -5 < power < 24 and fraction & np.uint64(3) == _ONE and fraction << shift == high:
        fraction -= _ONE
    fraction = (fraction + (fraction & _ONE)) >> _ONE
    if fraction >= _LIMIT:
        fraction = fraction >> _ONE
        exponent += 1
    if exponent >= _LARGEST_EXPONENT:
        return 0.0, False
    return _double_of((fraction & _FRACTION) | (np.uint64(exponent) << np.uint64(52))), True


@inner
def _scaled(digits: Any, power: Any) -> tuple[Any, Any]:
    """The upper 128 bits of `digits`, whose highest bit is set, times 5^`power`."""
    row = power - _LEAST_POWER
    high, low = _product(digits, _FIVES[row, 0])
    if high & _UNSURE == _UNSURE:
        more, _ = _product(digits, _FIVES[row, 1])
        low += more
        if more > low:
            high += _ONE
    return high, low
