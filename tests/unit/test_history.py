"""A series over any time: rings, roll-ups and the store together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from foreshock.adapters.sql import Store
from foreshock.errors import RetryableError
from foreshock.runtime import history as histories
from foreshock.runtime.history import History
from foreshock.runtime.keeper import Keeper
from foreshock.runtime.rollups import Rollups
from foreshock.runtime.views import Views
from foreshock.state import Registry
from foreshock.types import label_text
from tests.unit.test_rings import HOSTS, registry_of, rows_of, verdict_of

SECOND = 1_000_000_000
START = 1_700_000_400
"""The begin of a bucket of ten minutes."""
STEP = 20
HOST = label_text(HOSTS[0])


class Kept:
    """Views of 50 points a series, fed every 20 s, with a store beside them."""

    def __init__(self, folder: Path) -> None:
        self.registry: Registry = registry_of(1)
        self.store = Store(f"sqlite:///{folder}/h.db")
        self.views = Views(10, 50, rollups=Rollups(("one", "two")), keep_points=True)
        self.keeper = Keeper(self.views, self.store.stretches)
        self.history = History(self.views, self.store)
        self.steps = 0

    def feed(self, steps: int, store_points: bool = True) -> None:
        for k in range(self.steps, self.steps + steps):
            at = (START + k * STEP) * SECOND
            rows = rows_of(self.registry, [at, at], [0, 1])
            rows.value[:] = k
            verdicts = [verdict_of("one", [k / 1000, -1.0]), verdict_of("two", [-k / 1000, -1.0], whole=True)]
            self.views.feed(rows, verdicts, self.registry)
            self.keeper.put(self.keeper.full(self.registry))
            if store_points and k % 25 == 0:
                self.keeper.keep_all_points()
        self.steps += steps

    def between(self, since: int, until: int, buckets: int) -> histories.Past:
        found = self.history.between(HOST, "m0", since * SECOND, until * SECOND, buckets)
        assert found is not None
        return found


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    one = Kept(tmp_path)
    yield one
    one.store.close()


def test_points_are_there_as_far_back_as_they_are_stored(kept: Kept) -> None:
    kept.feed(2000)
    end = START + 2000 * STEP
    found = kept.between(START, end, 100_000).stretch
    assert found.value.tolist() == list(range(2000))
    assert (found.seconds == 0).all()
    np.testing.assert_allclose(found.strength["one"], np.arange(2000) / 1000, atol=1e-3)
    # Of the entity as a whole, the points of the ring are known one by one, the others by the minute.
    two = found.strength["two"]
    np.testing.assert_allclose(two[-50:], -np.arange(1950, 2000) / 1000, atol=1e-6)
    np.testing.assert_allclose(two[:1900], -(np.arange(1900) // 3 * 3) / 1000, atol=1e-3)
    assert kept.history.oldest(HOST, "m0") == START * SECOND
    part = kept.between(START + 7, START + 7 + 100 * STEP, 100_000).stretch
    assert part.value.tolist() == list(range(1, 101)), "[since, until)"


def test_without_points_buckets_stand_for_them(kept: Kept) -> None:
    kept.feed(2000, store_points=False)
    end = START + 2000 * STEP
    found = kept.between(START, end, 100_000).stretch
    assert set(found.seconds.tolist()) == {0, 60}
    assert (found.seconds[-50:] == 0).all()
    assert found.rows.sum() == 2000, "every row once"
    minutes = found.take(found.seconds == 60)
    assert minutes.value.tolist()[:3] == [1.0, 4.0, 7.0]
    assert minutes.least.tolist()[:3] == [0.0, 3.0, 6.0]
    assert minutes.most.tolist()[:3] == [2.0, 5.0, 8.0]


def test_as_coarse_as_is_asked_for(kept: Kept) -> None:
    kept.feed(4000, store_points=False)
    end = START + 4000 * STEP
    tens = kept.between(START, end, 100).stretch
    assert set(tens.seconds.tolist()) == {600}
    assert len(tens) == -(-4000 * STEP // 600)
    assert tens.value[0] == 14.5
    assert tens.strength["two"][0] == 0.0, "of a bucket the greatest"
    minutes = kept.between(START, START + 36_000, 500).stretch
    assert set(minutes.seconds.tolist()) == {60}
    # Where minutes are no longer kept, ten minutes stand for them.
    kept.store.stretches.expire({60: (START + 18_000) * SECOND})
    mixed = kept.between(START, START + 36_000, 500).stretch
    assert set(mixed.seconds.tolist()) == {60, 600}
    assert mixed.rows.sum() == 36_000 // STEP
    assert (np.diff(mixed.time_unix_nano) > 0).all()


def test_too_much_for_one_answer_is_answered_by_buckets(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.feed(1000)
    monkeypatch.setattr(histories, "MOST_STRETCHES", 5)
    found = kept.between(START, START + 1000 * STEP, 100_000).stretch
    assert 60 in found.seconds
    assert found.rows.sum() == 1000


def test_a_series_that_is_not_in_view_is_answered_from_the_store(kept: Kept) -> None:
    kept.feed(1000)
    kept.keeper.keep_all_points()
    later = History(Views(10, 50), kept.store)
    found = later.between(HOST, "m0", START * SECOND, (START + 10**6) * SECOND, 100_000)
    assert found is not None
    assert found.series == kept.registry.series[0]
    assert found.stretch.value.tolist() == list(range(1000))
    assert later.recent(HOST, "m0") is None
    assert later.between(HOST, "other", 0, 1, 10) is None


def test_points_that_cannot_be_stored_now_are_stored_later(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.feed(40, store_points=False)
    put = kept.store.stretches.put

    def full(packed: object) -> None:
        raise RetryableError("the disk is full")

    monkeypatch.setattr(kept.store.stretches, "put", full)
    with pytest.raises(RetryableError):
        kept.keeper.keep_all_points()
    monkeypatch.setattr(kept.store.stretches, "put", put)
    kept.feed(100, store_points=False)
    kept.keeper.keep_all_points()
    found = kept.between(START, START + 39 * STEP, 100_000).stretch
    assert found.value.tolist() == list(range(39))
    assert (found.seconds == 0).all(), "of the minute behind, of which most is lost, a bucket stands there"


def test_views_hand_on_what_is_enough_and_no_more_than_is_asked_for(kept: Kept) -> None:
    kept.feed(30, store_points=False)
    assert kept.views.unkept(31, 10) == []
    assert [len(stretch) for _, stretch in kept.views.unkept(30, 1)] == [30]
    assert len(kept.views.unkept(30, 10)) == 1, "the other one"
    assert kept.views.unkept(1, 10) == []
    kept.feed(80, store_points=False)
    assert [len(stretch) for _, stretch in kept.views.unkept(1, 10)] == [50, 50], "the ring holds no more"
    kept.views.forget(HOST)
    assert kept.views.unkept(1, 10) == []
