"""Names of series and entities, taken over from a saved registry."""

from __future__ import annotations

import gc

import pytest

from foreshock.state import Registry, pack
from foreshock.types import Kind, Series


def names(count: int) -> list[Series]:
    return [
        Series(f"m-{i % 3}", (("host", f"h-{i // 3}"),), (("cpu", "0"),) if i % 2 else (), "1", list(Kind)[i % 2])
        for i in range(count)
    ]


def test_a_registry_that_was_taken_over_goes_on_as_the_one_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.state.registry._CHUNK", 500)
    first, second = Registry(), Registry()
    first.intern_all(names(90))
    second.load(first.state().frozen())
    assert pack(second.state()) == pack(first.state())
    for registry in (first, second):
        registry.intern_all(names(200))
        assert registry.intern(Series("made", (("host", "h-0"),)), derived=True) == 200
    assert pack(second.state()) == pack(first.state())
    assert second.series == first.series
    assert second.columns == first.columns
    for name in ("series_entity", "series_column", "counter", "derived"):
        assert getattr(second, name).tolist() == getattr(first, name).tolist()
    assert gc.isenabled()
