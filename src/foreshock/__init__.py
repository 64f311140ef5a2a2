"""Foreshock: real-time anomaly detection for distributed systems, at a false-alarm budget that it keeps to.

What is exported is imported when it is first asked for (PEP 562), so that `import foreshock` costs nothing and no layer
below sees those above; `__init__.pyi` says the same to type checkers.

>>> import foreshock
>>> foreshock.replay.__name__
'replay'
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {"replay": "foreshock.testing.replay", "Replayed": "foreshock.testing.replay",
            "Measures": "foreshock.bench.labelled"}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
