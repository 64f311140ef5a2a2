"""What the views keep beside the points: opinions of detectors, the strip of entities, the pace of sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foreshock.runtime.rings import MINUTE, Pace
from foreshock.runtime.views import Views
from foreshock.state import Registry
from foreshock.types import Rows, Series, Status, Verdict, label_text, labels

HOSTS = [labels({"host.name": f"h{i}"}) for i in range(3)]


def registry_of(features: int = 2) -> Registry:
    registry = Registry()
    for host in HOSTS:
        for i in range(features):
            registry.intern(Series(f"m{i}", host, unit="1"))
    return registry


def rows_of(registry: Registry, times: list[int], entities: list[int], status: Status = Status.SCORED) -> Rows:
    """A row of each entity at each time, with all of its cells."""
    n = len(times)
    series = [slot for e in entities for slot in registry.columns[e]]
    start = np.cumsum([0, *(len(registry.columns[e]) for e in entities)])
    time = np.array(times, np.int64)
    return Rows(
        np.array(entities, np.int32), time, time + 1, np.ones(n, np.bool_), np.full(n, status, np.uint8), start,
        np.array(series, np.int32), np.arange(len(series), dtype=np.float64),
    )  # fmt: skip


def verdict_of(name: str, strength: list[float], whole: bool = False) -> Verdict:
    values = np.array(strength)
    nothing = np.full(len(values), np.nan)
    status = np.where(np.isnan(values), np.uint8(Status.WARMING_UP), np.uint8(Status.SCORED)).astype(np.uint8)
    return Verdict(name, values, status, np.exp(-values), values, values > 0, nothing, nothing, nothing, whole)


def test_each_detector_keeps_its_own_opinion_in_step_with_the_points() -> None:
    registry = registry_of(1)
    views = Views(10, 4)
    for k in range(6):
        rows = rows_of(registry, [k * 10**9] * 2, [0, 1])
        one, two = verdict_of("one", [k, -k]), verdict_of("two", [float("nan"), k / 2], whole=True)
        views.feed(rows, [one, two], registry)
    found = views.find(label_text(HOSTS[0]), "m0", 4)
    assert found is not None
    assert (found.points["time_unix_nano"] // 10**9).tolist() == [2, 3, 4, 5]
    assert found.opinions["one"]["strength"].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert found.opinions["one"]["p_value"].tolist() == pytest.approx(np.exp([-2.0, -3.0, -4.0, -5.0]))
    whole = found.entity_opinions["two"]
    assert (whole["time_unix_nano"] // 10**9).tolist() == [2, 3, 4, 5]
    assert np.isnan(whole["strength"]).all()
    assert views.judging() == {"one": 2, "two": 1}
    assert views.find(label_text(HOSTS[2]), "m0", 4) is None


def test_a_detector_that_comes_later_has_said_nothing_before() -> None:
    registry = registry_of(1)
    views = Views(10, 8)
    views.feed(rows_of(registry, [1], [0]), [verdict_of("one", [1])], registry)
    views.feed(rows_of(registry, [2], [0]), [verdict_of("one", [2]), verdict_of("late", [7])], registry)
    found = views.find(label_text(HOSTS[0]), "m0", 8)
    assert found is not None
    np.testing.assert_equal(found.opinions["late"]["strength"].tolist(), [np.nan, 7.0])
    assert found.opinions["one"]["strength"].tolist() == [1.0, 2.0]


def test_points_since_a_time() -> None:
    registry = registry_of(1)
    views = Views(10, 100)
    for k in range(80):
        views.feed(rows_of(registry, [k], [0]), [verdict_of("one", [k])], registry)
    host = label_text(HOSTS[0])
    for after, count in ((79, 0), (76, 3), (30, 49), (-1, 80)):
        found = views.since(host, "m0", after)
        assert found is not None
        assert found.points["time_unix_nano"].tolist() == list(range(80 - count, 80))
        assert found.opinions["one"]["strength"].tolist() == list(range(80 - count, 80))
    assert views.since(host, "nothing", 0) is None
    assert views.newest() == 79


def plain_strip(
    feeds: list[tuple[int, int, Status, float, bool]], last: int, columns: int
) -> list[tuple[float, int, bool] | None]:
    """The slow twin of one entity: what each minute up to `last` holds."""
    out: list[tuple[float, int, bool] | None] = []
    for minute in range(last - columns + 1, last + 1):
        mine = [one for one in feeds if one[1] // MINUTE == minute]
        if not mine:
            out.append(None)
            continue
        strengths = [s for _, _, _, s, _ in mine if not np.isnan(s)]
        scored = any(status == Status.SCORED for _, _, status, _, _ in mine)
        status = Status.SCORED if scored else mine[-1][2]
        out.append((max(strengths, default=np.nan), int(status), any(one[4] for one in mine)))
    return out


def test_the_strip_agrees_with_its_plain_twin() -> None:
    registry = registry_of(1)
    random = np.random.default_rng(3)
    views = Views(10, 4)
    feeds: list[tuple[int, int, Status, float, bool]] = []
    now = 1_000 * MINUTE
    for _ in range(400):
        now += int(random.integers(1, 3 * MINUTE))
        status = Status(int(random.choice([0, 0, 1, 2, 4])))
        strength = float(np.float32(random.normal())) if status == Status.SCORED else float("nan")
        alarmed = bool(random.random() < 0.1)
        rows = rows_of(registry, [now], [1], status)
        views.feed(rows, [verdict_of("one", [strength])], registry, np.array([alarmed]))
        feeds.append((1, now, status, strength, alarmed))
    [row] = views.strip(now, 180)
    assert row.entity == HOSTS[1]
    wanted = plain_strip(feeds, now // MINUTE, 180)
    for cell, want in zip(row.cells, wanted, strict=True):
        if want is None:
            assert cell["minute"] == -1
        else:
            np.testing.assert_equal((cell["strength"], cell["status"], cell["alarmed"]), want)
    assert sum(one is None for one in wanted) > 10


def test_late_rows_do_not_change_a_minute_that_has_been_used_again() -> None:
    registry = registry_of(1)
    views = Views(10, 4)
    for minute, strength in ((200, 1.0), (20, 9.0)):
        views.feed(rows_of(registry, [minute * MINUTE], [0]), [verdict_of("one", [strength])], registry)
    [row] = views.strip(200 * MINUTE, 180)
    assert row.cells[-1]["strength"] == 1.0


def test_what_is_forgotten_is_gone_from_the_strip_and_the_opinions() -> None:
    registry = registry_of(1)
    views = Views(10, 4)
    rows = rows_of(registry, [MINUTE, MINUTE], [0, 1])
    verdicts = [verdict_of("one", [1, 2]), verdict_of("two", [1, 2], whole=True)]
    views.feed(rows, verdicts, registry)
    views.forget(label_text(HOSTS[0]))
    found = views.find(label_text(HOSTS[0]), "m0", 4)
    assert found is not None
    assert len(found.points) == len(found.opinions["one"]) == len(found.entity_opinions["two"]) == 0
    assert [one.entity for one in views.strip(MINUTE, 10)] == [HOSTS[1]]
    views.feed(replace(rows, time_unix_nano=rows.time_unix_nano + 1), verdicts, registry)
    [first, _] = views.strip(MINUTE, 10)
    assert [one["minute"] for one in first.cells if one["minute"] >= 0] == [1]


def test_the_pace_of_a_source_by_the_minute() -> None:
    pace = Pace()
    for minute in range(200):
        pace.note("a", minute * MINUTE + 5, minute)
        pace.note("a", minute * MINUTE + 7, 1)
    shown = pace.of("a", 199 * MINUTE)
    assert shown == [minute + 1 for minute in range(140, 200)]
    assert pace.of("b", 0) == [0] * 60
    assert pace.of("a", 202 * MINUTE)[-3:] == [0, 0, 0]
