"""Bits of whole numbers in kernels."""

from __future__ import annotations

from typing import Any

import numba
import pytest
from numba.core.errors import TypingError

from foreshock.state.bits import ones


def _count(word: Any) -> int:
    return int(ones(word))


njit: Any = numba.njit
count = njit(_count)


def test_all_bits_are_counted() -> None:
    assert [count(word) for word in (0, 1, 5, 2**62, 2**63 - 1, -1, -(2**63))] == [0, 1, 2, 1, 63, 64, 1]


def test_only_of_whole_numbers() -> None:
    with pytest.raises(TypingError, match="bits are counted of int64, not of float64"):
        count(1.0)
