"""How kernels are compiled, and when what is compiled still holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

_F = TypeVar("_F", bound=Callable[..., Any])

_ROOT = Path(__file__).parents[1]
_SOURCES = (
    "types/*.py", "state/*.py", "stream/*.py", "detect/*.py", "incident/*.py", "runtime/views.py", "runtime/rings.py",
    "runtime/rollups_kernel.py", "shop/dynamics*.py", "adapters/*_kernel.py", "adapters/texts.py",
    "adapters/kafka/fetch_kernel.py", "adapters/kafka/librdkafka.py", "adapters/kafka/stretch.py",
)  # fmt: skip
"""Where kernels are in the package, and the constants that they take from `types`."""

_njit: Any = numba.njit
_without_value: Any = numba.types.unliteral
_BARE: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy"}
"""Without numba's reference counts, which kernels do not need that make no arrays, they are up to 7 times as fast."""


def entry(function: _F) -> _F:
    """Compile a kernel that Python calls and that makes no arrays; it is kept on disk."""
    return _stamped(_njit(cache=True, **_BARE)(function), function)


def inner(function: _F) -> _F:
    """Compile a part of such kernels: only they can call it, and it is kept on disk as part of them.

    It is compiled once for all constants that it may be called with, not once for each. Python gets a TypeError.
    """
    compiled: Any = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_BARE)(function)
    template = compiled.get_call_template

    def template_of_any_value(args: Any, kws: Any) -> Any:
        return template([_without_value(kind) for kind in args], kws)

    def add_overload(result: Any) -> None:
        compiled.overloads[tuple(result.signature.args)] = result

    def refuse(*args: Any, **kws: Any) -> None:
        raise TypeError(f"{function.__qualname__} is a part of kernels, which Python cannot call")

    compiled.get_call_template = template_of_any_value
    # Without the wrappers Python would run into nothing: numba must not look for one, nor make one.
    compiled.add_overload, compiled._compile_for_args = add_overload, refuse
    out: _F = compiled
    return out


def allocating(function: _F) -> _F:
    """Compile a kernel that Python calls and that may make arrays; it is kept on disk."""
    return _stamped(_njit(cache=True, nogil=True, error_model="numpy")(function), function)


def _stamped(compiled: Any, function: _F) -> _F:
    """Let numba's cache on disk hold for the sources of all kernels, not only for the function's own file.

    A kernel has those that it calls compiled in: after a change in another file numba alone would go on using the old.
    """
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if file is not None and hasattr(file, "_source_stamp"):
        file._source_stamp = (file._source_stamp, sources_digest(_ROOT))
    out: _F = compiled
    return out


@cache
def sources_digest(root: Path) -> str:
    """The digest of all that kernels are made of in the package at `root`."""
    out = hashlib.blake2b(digest_size=16)
    for path in sources(root):
        out.update(path.read_bytes())
    return out.hexdigest()


def sources(root: Path) -> Iterator[Path]:
    """The files that kernels are made of, in the package at `root`, in a fixed order."""
    for pattern in _SOURCES:
        yield from sorted(root.glob(pattern))
