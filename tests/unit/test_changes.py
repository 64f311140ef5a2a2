"""Slow changes and new shapes as alerts: mild, once, over after an hour, the same however rows are cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import foreshock
from foreshock.incident.changes import NAME, Changes
from foreshock.state import Registry, pack, unpack
from foreshock.types import Alert, AlertKind, Columns, Rows, Series, Status, Verdict

SECOND, MINUTE, HOUR = 10**9, 60 * 10**9, 3600 * 10**9
T0 = 1_700_049_600 * SECOND
A1, B1 = (("service.name", "cart"),), (("service.name", "search"),)
SERIES = (Series("latency", A1, unit="s"), Series("rate", A1, unit="1/s"), Series("latency", B1, unit="s"))


def registry() -> Registry:
    out = Registry()
    for one in SERIES:
        out.intern(one)
    return out


def columns(event: NDArray[np.float64], first: int = 0, alarmed: bool = False, name: str = "deviation") -> Columns:
    """Rows a minute of both entities in turn, the first with two features: event float64[rows, 3]."""
    n = len(event)
    time = np.repeat(T0 + (first + np.arange(n)) * MINUTE, 2)
    start = np.concatenate([[0], np.cumsum(np.tile([2, 1], n))]).astype(np.int64)
    series = np.tile(np.array([0, 1, 2], np.int32), n)
    value = np.full(3 * n, 0.012)
    rows = Rows(
        np.tile(np.array([0, 1], np.int32), n), time, time + MINUTE, np.ones(2 * n, np.bool_),
        np.full(2 * n, Status.SCORED, np.uint8), start, series, value,
    )  # fmt: skip
    nothing = np.full(3 * n, np.nan)
    verdict = Verdict(
        name, np.ones(3 * n), np.full(3 * n, Status.SCORED, np.uint8), nothing, np.full(3 * n, -1.0),
        np.zeros(3 * n, np.bool_), nothing, nothing, nothing, event=event.ravel(),
    )  # fmt: skip
    return Columns(rows=rows, verdicts=(verdict,), alarmed=np.full(2 * n, alarmed, np.bool_))


def at(*cells: tuple[int, int, float], rows: int = 200) -> NDArray[np.float64]:
    event = np.zeros((rows, 3))
    for row, column, size in cells:
        event[row, column] = size
    return event


def test_an_event_becomes_a_mild_alert_that_ends_after_an_hour() -> None:
    opened, closed = Changes(registry()).process(columns(at((5, 0, 0.6)))).alerts
    assert opened.kind is AlertKind.CHANGE
    assert dict(opened.labels) == {
        "alertname": NAME, "severity": "info", "feature": "latency", "service_name": "cart",
    }  # fmt: skip
    assert (opened.starts_unix_nano, opened.decided_unix_nano) == (T0 + 5 * MINUTE, T0 + 6 * MINUTE)
    assert opened.strength == pytest.approx(np.log(1.5))
    summary = dict(opened.annotations)["summary"]
    assert summary.startswith("latency of service cart takes a course that it has not taken before, now 12 ms")
    assert (closed.episode, closed.ends_unix_nano) == (opened.episode, T0 + 5 * MINUTE + HOUR)


def test_what_follows_within_the_hour_only_holds_it_open() -> None:
    alerts = Changes(registry()).process(columns(at((5, 0, 0.6), (35, 0, 0.7)))).alerts
    assert [one.ends_unix_nano for one in alerts] == [None, T0 + 35 * MINUTE + HOUR]


def test_each_series_has_its_own() -> None:
    alerts = Changes(registry()).process(columns(at((5, 0, 0.6), (5, 1, 0.6), (7, 2, 0.6)))).alerts
    assert len({one.episode for one in alerts}) == 3
    assert sum(one.ends_unix_nano is None for one in alerts) == 3


def test_while_the_entity_alarms_there_is_none() -> None:
    assert Changes(registry()).process(columns(at((5, 0, 0.6)), alarmed=True)).alerts == ()


def test_events_of_a_shadow_count_for_nothing() -> None:
    shadow = Changes(registry(), primary=frozenset({"deviation"}))
    assert shadow.process(columns(at((5, 0, 0.6)), name="other")).alerts == ()
    assert shadow.process(columns(at((5, 0, 0.6)))).alerts


def test_however_rows_are_cut_and_restored_it_says_the_same() -> None:
    event = at((5, 0, 0.6), (6, 2, 0.9), (35, 0, 0.7), (150, 1, 0.55), (180, 0, 0.8))
    whole = Changes(registry()).process(columns(event)).alerts
    parts, seen = Changes(registry()), list[Alert]()
    for first in range(0, len(event), 7):
        seen += parts.process(columns(event[first : first + 7], first)).alerts
        restored = Changes(registry())
        restored.load(unpack(pack(parts.state())))
        parts = restored
    assert sorted(seen, key=str) == sorted(whole, key=str)
    assert len(whole) == 6


def test_what_is_forgotten_is_dropped_unsaid() -> None:
    changes = Changes(registry())
    changes.process(columns(at((5, 0, 0.6), rows=10)))
    changes.forget(0, np.array([0, 1], np.int32))
    assert changes.process(columns(at(), first=10)).alerts == ()


def test_a_row_without_verdicts_ends_it_too() -> None:
    changes = Changes(registry())
    changes.process(columns(at((5, 0, 0.6), rows=10)))
    (closed,) = changes.process(replace(columns(at(), first=10), verdicts=())).alerts
    assert closed.status == "resolved"


def test_a_day_without_its_cycle_is_told_and_notifies_nobody() -> None:
    rng = np.random.default_rng(3)
    hour = np.arange(21 * 288) / 12 % 24
    shape = 20 * np.exp(-(((hour - 9) / 2) ** 2)) + 12 * np.exp(-(((hour - 19) / 1.5) ** 2))
    value = 50 + shape + rng.normal(size=len(hour))
    at = 18 * 288
    value[at + 96 : at + 264] = 60 + rng.normal(size=168)
    index = pd.date_range("2024-01-01", periods=len(value), freq="5min", tz="UTC")
    judged = foreshock.replay(pd.DataFrame({"load": value}, index=index), [{"type": "deviation", "tier": "events"}])
    told = judged.alerts[judged.alerts["kind"] == "change"]
    day = (told["starts"] - index[0]).dt.total_seconds().to_numpy() / 86400
    assert ((day > 18.3) & (day < 19.5)).any()
    assert set(told["severity"]) == {"info"}
    assert not told["notified"].any()
