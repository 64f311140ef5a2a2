from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock import telemetry
from foreshock.runtime.source_views import SourceView
from foreshock.runtime.view_types import EntityView
from foreshock.runtime.views import Views
from foreshock.state import Registry
from foreshock.testing.check_store import sample_alert
from foreshock.types import Rows, Series, Status, Verdict, label_text, labels

HOSTS = [labels({"host.name": f"h{i}"}) for i in range(4)]


def _registry(per_entity: int = 3) -> Registry:
    registry = Registry()
    for i in range(per_entity):
        for host in HOSTS:
            registry.intern(Series(f"m{i}", host, unit="1"))
    return registry


def _rows(registry: Registry, seed: int, n: int = 200) -> Rows:
    """Rows of all entities in time order, each with some of the entity's cells."""
    random = np.random.default_rng(seed)
    entity = random.integers(0, len(HOSTS), n).astype(np.int32)
    cells = [np.flatnonzero(random.random(len(registry.columns[e])) < 0.7) for e in entity]
    series = [registry.columns[e][c] for e, chosen in zip(entity, cells, strict=True) for c in chosen]
    value = random.normal(size=len(series))
    value[random.random(len(series)) < 0.1] = np.nan
    start = np.concatenate([[0], np.cumsum([len(chosen) for chosen in cells])]).astype(np.int64)
    time = (np.arange(n, dtype=np.int64) + 1) * 10**9
    status = random.integers(0, 5, n).astype(np.uint8)
    return Rows(entity, time, time + 1, np.ones(n, np.bool_), status, start, np.array(series, np.int32), value)


def _verdict(rows: Rows, seed: int, over_rows: bool = False) -> Verdict:
    random = np.random.default_rng(seed)
    n = len(rows) if over_rows else len(rows.series)

    def numbers() -> NDArray[np.float64]:
        out = random.normal(size=n)
        out[random.random(n) < 0.4] = np.nan
        return out

    p_value = np.abs(numbers()).astype(np.float32).astype(np.float64)
    return Verdict(
        f"d{seed}", numbers(), random.integers(0, 5, n).astype(np.uint8), p_value, numbers(), random.random(n) < 0.2,
        numbers(), numbers(), numbers(), over_rows,
    )  # fmt: skip


def _cut(rows: Rows, verdicts: list[Verdict], low: int, high: int) -> tuple[Rows, list[Verdict]]:
    a, b = rows.start[low], rows.start[high]
    part = Rows(
        rows.entity[low:high], rows.time_unix_nano[low:high], rows.end_unix_nano[low:high], rows.learn[low:high],
        rows.status[low:high], rows.start[low : high + 1] - a, rows.series[a:b], rows.value[a:b],
    )  # fmt: skip
    names = ("score", "status", "p_value", "strength", "anomalous", "expected", "low", "high")
    return part, [
        replace(one, **{n: getattr(one, n)[slice(low, high) if one.whole else slice(a, b)]
                        for n in names})
        for one in verdicts
    ]  # fmt: skip


Point = tuple[float, ...]


def _plain(rows: Rows, verdicts: list[Verdict], points: int) -> tuple[dict[int, list[Point]], dict[int, Point]]:
    """The slow, obvious twin: points by series slot, and (last seen, status, strength) by entity slot."""
    series: dict[int, list[Point]] = {}
    entities: dict[int, Point] = {}
    for i in range(len(rows)):
        worst = np.nan
        for cell in range(rows.start[i], rows.start[i + 1]):
            over = [one for one in verdicts if not one.whole]
            for one in over:
                worst = np.fmax(worst, one.strength[cell])
            best = over[0]
            for one in over[1:]:
                if one.p_value[cell] < best.p_value[cell] or (
                    np.isnan(best.p_value[cell]) and not np.isnan(one.p_value[cell])
                ):
                    best = one
            band = []
            for name in ("expected", "low", "high"):
                candidates = [getattr(one, name)[cell] for one in over]
                band.append(next((x for x in candidates if not np.isnan(x)), np.nan))
            series.setdefault(int(rows.series[cell]), []).append(
                (
                    float(rows.time_unix_nano[i]), rows.value[cell], *band, float(np.float32(best.score[cell])),
                    float(np.float32(best.p_value[cell])), float(np.float32(best.strength[cell])),
                    any(one.anomalous[cell] for one in over), best.status[cell],
                )
            )  # fmt: skip
        for one in verdicts:
            if one.whole:
                worst = np.fmax(worst, one.strength[i])
        entities[int(rows.entity[i])] = (float(rows.time_unix_nano[i]), float(rows.status[i]), worst)
    return {slot: all_[-points:] for slot, all_ in series.items()}, entities


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", [1, 7, 200])
def test_views_agree_with_the_plain_twin_however_rows_are_cut(seed: int, step: int) -> None:
    registry = _registry()
    rows = _rows(registry, seed)
    verdicts = [_verdict(rows, 1), _verdict(rows, 2), _verdict(rows, 3, over_rows=True)]
    views = Views(max_series=50, points=16)
    for low in range(0, len(rows), step):
        views.feed(*_cut(rows, verdicts, low, min(low + step, len(rows))), registry)
    series, entities = _plain(rows, verdicts, 16)
    found = views.series(points=16, limit=50)
    assert {registry.find(one.series) for one in found} == set(series)
    for one in found:
        expected = np.array(series[registry.find(one.series)], np.float64)
        got = np.array([tuple(point) for point in one.points.tolist()], np.float64)
        np.testing.assert_array_equal(got, expected)
    assert len(views.entities()) == len(entities)
    for view in views.entities():
        last, status, strength = entities[registry.entity_slot(view.entity)]
        assert (view.last_seen_unix_nano, view.status) == (last, status)
        np.testing.assert_equal(view.strength, strength)
        assert view.series == 3


def test_without_verdicts_values_are_shown_and_nothing_is_claimed() -> None:
    registry = _registry(1)
    rows = Rows(
        np.zeros(2, np.int32), np.array([1, 2]), np.array([2, 3]), np.ones(2, np.bool_), np.zeros(2, np.uint8),
        np.array([0, 1, 2]), np.zeros(2, np.int32), np.array([5.0, np.nan]),
    )  # fmt: skip
    views = Views(10, 4)
    views.feed(rows, [], registry)
    (one,) = views.series(points=4)
    assert one.points["value"][0] == 5.0
    assert one.points["status"].tolist() == [Status.SCORED, Status.MISSING]
    assert np.isnan(one.points["p_value"]).all()
    assert not one.points["anomalous"].any()
    (entity,) = views.entities()
    assert np.isnan(entity.strength)
    views.feed(Rows.empty(), [], registry)
    assert views.counts() == {"entities": 1, "series": 1, "series_not_viewed": 0, "open_alerts": 0}


def test_series_beyond_the_bound_are_counted_once_and_not_viewed() -> None:
    def counted() -> float:
        return telemetry.REGISTRY.get_sample_value("foreshock_dropped_total", {"reason": "series_not_viewed"}) or 0.0

    registry = _registry()
    before = counted()
    views = Views(max_series=5, points=4)
    for seed in range(3):
        views.feed(_rows(registry, seed), [], registry)
    assert len(views.series(limit=100)) == 5
    assert views.not_viewed == counted() - before == len(registry) - 5
    assert sum(view.series for view in views.entities()) == len(registry), "an entity counts all of its series"


def test_questions_select_and_page_and_give_copies() -> None:
    registry = _registry()
    views = Views(50, 8)
    views.feed(_rows(registry, 1), [], registry)
    host = label_text(HOSTS[2])
    assert {one.series.entity_text for one in views.series(entity=host)} == {host}
    assert len(views.series(feature="m1")) == 4
    assert [one.series.feature for one in views.series(host, "m1")] == ["m1"]
    assert views.series("{}") == []
    everything = [one.series for one in views.series(limit=50)]
    paged = [one.series for offset in range(0, 12, 5) for one in views.series(limit=5, offset=offset)]
    assert paged == everything
    assert [view.entity for view in views.entities(limit=2, offset=1)] == HOSTS[1:3]
    (one,) = views.series(host, "m1", points=3)
    assert len(one.points) == 3
    one.points["value"] = 99.0
    assert not (views.series(host, "m1", points=3)[0].points["value"] == 99.0).any()


def test_forgotten_entities_come_again() -> None:
    registry = _registry()
    views = Views(50, 8)
    rows = _rows(registry, 1)
    views.feed(rows, [], registry)
    host = label_text(HOSTS[2])
    views.forget(host)
    views.forget("{unknown}")
    assert all(len(one.points) == 0 for one in views.series(host, points=8))
    assert HOSTS[2] not in {view.entity for view in views.entities()}
    views.feed(rows, [], registry)
    assert any(len(one.points) for one in views.series(host, points=8))
    assert HOSTS[2] in {view.entity for view in views.entities()}


def test_alerts_open_and_close_within_a_bound() -> None:
    views = Views(1, 1, max_alerts=2)
    first, second, third = (sample_alert(f"a{i}", i + 1) for i in range(3))
    views.feed_alerts([first, second, third])
    assert views.alerts() == [second, first]
    views.feed_alerts([replace(first, strength=9.0), replace(second, ends_unix_nano=99), third])
    assert views.alerts() == [third, replace(first, strength=9.0)]


def test_sources_are_counted_and_everything_is_summed_up() -> None:
    registry = _registry()
    views = Views(50, 8)
    views.feed(_rows(registry, 1), [], registry)
    views.feed_alerts([sample_alert()])
    for received in (5, 7):
        views.sources.feed("host", received, 3)
    views.sources.feed("file", 6, 1)
    assert views.sources.all() == [SourceView("file", 6, 1, 1), SourceView("host", 7, 2, 6)]
    for late in range(300):
        views.sources.feed("host", 10**12, 3, 10**12 - (late - 99) * 10**9)
    _, host = views.sources.all()
    assert (host.delay_p50_seconds, host.delay_p99_seconds) == (72.0, 198.0), "of the last 256"
    for late in (*range(200, 2, -5), 2, 1, 2, 1, 2, 1, 2, 1, 2):
        views.sources.feed("host", 10**12, 3, 10**12 - late * 10**9)
    assert views.sources.all()[1].delay_p99_seconds == 2.0, "what it was late by while it caught up is forgotten"
    for _ in range(256):
        views.sources.feed("host", 5, 3, 7)
    assert views.sources.all()[1].delay_p99_seconds == 0.0, "what is ahead of the clock is not late"
    assert views.counts() == {"entities": 4, "series": 12, "series_not_viewed": 0, "open_alerts": 1}


def test_readers_never_see_half_a_row() -> None:
    registry = _registry(1)
    views = Views(4, 32)
    stop, wrong = threading.Event(), list[EntityView | float]()

    def read() -> None:
        while not stop.is_set():
            for one in views.series(points=32):
                torn = one.points["value"] * 1e9 != one.points["time_unix_nano"]
                wrong.extend(one.points["value"][torn].tolist())

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(1, 2000, 4):
        time = np.arange(i, i + 4, dtype=np.int64) * 10**9
        rows = Rows(
            np.zeros(4, np.int32), time, time, np.ones(4, np.bool_), np.zeros(4, np.uint8),
            np.arange(5, dtype=np.int64), np.zeros(4, np.int32), np.arange(i, i + 4, dtype=np.float64),
        )  # fmt: skip
        views.feed(rows, [], registry)
    stop.set()
    reader.join()
    assert wrong == []
    assert views.series(points=32)[0].points["value"].tolist() == list(range(1969, 2001))
