"""Bits of whole numbers, for kernels."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic


def _ones_code(typing_context: Any, word: Any) -> Any:
    """How many bits of an int64 are set."""
    if word != types.int64:
        raise TypingError(f"bits are counted of int64, not of {word}")

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


ones: Any = intrinsic(_ones_code)
