"""All shipped detectors in one process: none makes the kernels of another slow to call."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from foreshock.plugins import find, names
from foreshock.types import Frame

MINUTE = 60 * 10**9
OPTIONS = {"static_threshold": {"above": 1.0}}


def frame(minute: int, width: int) -> Frame:
    """One row of each of three entities."""
    values: NDArray[np.float64] = np.random.default_rng(minute).normal(size=(3, width))
    return Frame(
        np.arange(3, dtype=np.int32), np.full(3, minute * MINUTE), values, np.full(3, width, np.int16),
        np.ones(3, np.bool_), np.zeros(3, np.uint8),
    )  # fmt: skip


def main() -> None:
    """Say which kernels are still looked for by their arguments' types, call by call, once all have been called."""
    detectors = [find("detector", name)(OPTIONS.get(name)) for name in sorted(names("detector"))]
    slow: Counter[str] = Counter()
    kernels: Any = Dispatcher
    look = kernels._compile_for_args

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        slow[self.py_func.__qualname__] += 1
        return look(self, *arguments, **named)

    for minute in range(200):
        if minute == 150:
            kernels._compile_for_args = counted
        for detector in detectors:
            detector.step(frame(minute, 1 if detector.info.kind == "univariate" else 5))
    print(len(detectors), dict(slow))


def test_kernels_are_found_at_once_whatever_detectors_run_beside_one_another() -> None:
    """Numba tells named tuples by what they hold: of two classes alike the one that comes second costs 50-300 µs."""
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[0] == "12"
    assert done.stdout.split(maxsplit=1)[1].strip() == "{}"


if __name__ == "__main__":
    main()
