"""How the kernels of this stage are compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

_F = TypeVar("_F", bound=Callable[..., Any])

_BARE: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy"}
"""Without numba's reference counts, which such kernels do not need as they make no arrays, they are 7 times as fast."""

_INNER: dict[str, Any] = _BARE | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def entry(function: _F) -> _F:
    """Compile a kernel that Python calls and that makes no arrays."""
    return _stamped(njit(**_BARE)(function), function)


def inner(function: _F) -> _F:
    """Compile a part of such kernels; only they can call it, which saves the wrappers and much of the compile time."""
    return _stamped(njit(**_INNER)(function), function)


def allocating(function: _F) -> _F:
    """Compile a kernel that Python calls and that may make arrays."""
    return _stamped(njit(cache=True, nogil=True)(function), function)


def _stamped(compiled: Any, function: _F) -> _F:
    """Let numba's cache on disk hold for the sources of the whole folder, not only for the function's own file.

    A kernel has those that it calls compiled in: after a change in another file numba alone would go on using the old.
    """
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if file is not None and hasattr(file, "_source_stamp"):
        file._source_stamp = (file._source_stamp, _digest(Path(function.__code__.co_filename).parent))
    out: _F = compiled
    return out


@cache
def _digest(folder: Path) -> str:
    out = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("*.py")):
        out.update(path.read_bytes())
    return out.hexdigest()
