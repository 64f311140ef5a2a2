"""How kernels are compiled and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numba import njit

import foreshock
from foreshock.state import jit
from foreshock.stream.align_kernel import take
from tests.unit.kernels import called


@jit.inner
def shifted(x: Any, by: Any) -> Any:
    return x + by


# Not kept on disk: what is loaded from there compiles none of its parts.
@njit(nogil=True)
def shifted_thrice(x: Any) -> Any:
    return shifted(shifted(shifted(x, 1), 2), 3)


def test_what_is_kept_holds_for_the_sources_of_all_kernels() -> None:
    stamp: Any = take._cache._cache_file._source_stamp  # type: ignore[attr-defined]
    assert jit.sources_digest(Path(foreshock.__file__).parent) in stamp


def test_the_digest_follows_every_source(tmp_path: Path) -> None:
    files = [
        "types/e.py", "stream/a.py", "detect/b.py", "incident/c.py", "state/d.py", "runtime/views.py",
        "shop/dynamics.py",
    ]  # fmt: skip
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("a = 1")
    seen = {jit.sources_digest.__wrapped__(tmp_path)}
    for file in files:
        (tmp_path / file).write_text("a = 2")
        seen.add(jit.sources_digest.__wrapped__(tmp_path))
    assert len(seen) == 1 + len(files)


def test_no_kernel_is_outside_of_the_digest() -> None:
    root = Path(foreshock.__file__).parent
    with_kernels = {
        path for path in root.rglob("*.py") if "numba" in path.read_text() or ".jit import" in path.read_text()
    }
    assert len(with_kernels) > 5
    assert with_kernels <= set(jit.sources(root)) | {root / "runtime/snapshot.py"}, "snapshot only tells its version"


def test_a_part_is_compiled_once_for_all_constants() -> None:
    assert shifted_thrice(10) == 16
    assert len(shifted.overloads) == 1  # type: ignore[attr-defined]


def test_python_cannot_call_a_part() -> None:
    assert called(shifted)(1, 2) == 3
    for _ in range(2):
        with pytest.raises(TypeError, match="shifted is a part of kernels"):
            shifted(1, 2)
