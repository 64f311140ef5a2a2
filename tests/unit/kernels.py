"""Parts of kernels as functions that Python can call."""

from __future__ import annotations

from typing import Any

from numba import njit


def called(part: Any) -> Any:
    return njit(lambda *arguments: part(*arguments))
