"""The alarm as an operator: what it says of episodes, limits, silence, maintenance; cut, snapshot, forgetting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from foreshock.incident.alarm import Alarm, AlarmOptions, watchdog
from foreshock.incident.budget import BudgetOptions
from foreshock.state import Registry, State, pack, unpack
from foreshock.types import Alert, AlertKind, Columns, Rows, Series, Status, Verdict

SECOND = 1_000_000_000
T0 = 1_700_049_850 * SECOND
"""12:04:10 UTC."""
A1 = (("host.name", "a1"),)
CPU = Series("system.cpu.utilization", A1, unit="1")
NETWORK = Series("system.network.io", A1, (("direction", "receive"),), unit="By/s")
LOAD = Series("system.load.1m", A1, unit="1")
BANDS = {0: (0.03, 0.22, 0.1), 1: (1e6, 3e6, 2e6), 2: (0.0, 4.0, 1.0)}


class Bench:
    """An alarm with one entity of three features, fed a row at a time or many."""

    def __init__(self, series: Sequence[Series] = (CPU, NETWORK, LOAD), **options: Any) -> None:
        self.registry = Registry()
        for one in series:
            self.registry.intern(one)
        self.thresholds = frozenset(options.pop("thresholds", ()))
        self.primary = options.pop("primary", None)
        self.options = AlarmOptions(**options)
        self.alarm = self.fresh()
        self.time = T0

    def fresh(self) -> Alarm:
        return Alarm(
            self.registry,
            self.options,
            BudgetOptions(),
            thresholds=self.thresholds,
            primary=self.primary,
        )

    def columns(
        self,
        strengths: Sequence[Sequence[float]],
        values: Sequence[Sequence[float]] | None = None,
        status: Status = Status.SCORED,
        step: float = 5.0,
        limit: Sequence[Sequence[float]] | None = None,
        together: Sequence[float] | None = None,
    ) -> Columns:
        n, d = len(strengths), len(strengths[0])
        time = self.time + (np.arange(n) * step * SECOND).astype(np.int64)
        self.time = int(time[-1] + step * SECOND)
        value = np.array(values if values is not None else [[0.1, 2e6, 1.0][:d]] * n, float).ravel()
        series = np.tile(np.arange(d, dtype=np.int32), n)
        rows = Rows(
            np.zeros(n, np.int32), time, time + int(step * SECOND), np.ones(n, np.bool_), np.full(n, status, np.uint8),
            np.arange(n + 1, dtype=np.int64) * d, series, value,
        )  # fmt: skip
        verdicts = [verdict("robust_z", np.array(strengths, float).ravel(), series)]
        if limit is not None:
            verdicts.append(verdict("limit", np.array(limit, float).ravel(), series))
        if together is not None:
            verdicts.append(verdict("mv", np.array(together, float), None))
        return Columns(rows=rows, verdicts=tuple(verdicts))

    def feed(self, *args: Any, **kwargs: Any) -> list[Alert]:
        return list(self.alarm.process(self.columns(*args, **kwargs)).alerts)


def verdict(name: str, strength: np.ndarray[Any, Any], series: np.ndarray[Any, Any] | None) -> Verdict:
    scored = ~np.isnan(strength)
    n = len(strength)
    bands = (
        np.full((n, 3), math.nan) if series is None else np.array([BANDS.get(int(s), (0.0, 1.0, 0.5)) for s in series])
    )
    status = np.where(scored, Status.SCORED, Status.WARMING_UP).astype(np.uint8)
    score, p_value = 5.0 * np.exp(strength), np.where(scored, np.exp(-3.0 - np.maximum(strength, 0.0)), math.nan)
    return Verdict(
        name, score, status, p_value, strength, scored & (strength >= 0), bands[:, 2], bands[:, 0], bands[:, 1],
        whole=series is None, singles=series is None,
    )  # fmt: skip


def quiet(n: int, d: int = 3) -> list[list[float]]:
    return [[-2.0, -1.5, -2.5][:d]] * n


def test_an_alert_opens_at_once_and_says_what_it_sees() -> None:
    bench = Bench()
    assert bench.feed(quiet(20)) == []
    start = bench.time
    (alert,) = bench.feed([[2.5, -1.0, -2.0]], [[0.98, 2e6, 1.0]])
    assert alert.kind is AlertKind.ANOMALY
    assert alert.status == "firing"
    assert (alert.starts_unix_nano, alert.decided_unix_nano) == (start, start + 5 * SECOND)
    assert dict(alert.labels) == {
        "alertname": "ForeshockAnomaly",
        "host_name": "a1",
        "feature": "system.cpu.utilization",
        "severity": "critical",
    }
    notes = dict(alert.annotations)
    assert notes["summary"] == "cpu utilization of host a1 is 0.98, expected 0.03–0.22, since 12:05:50 UTC"
    assert (notes["observed"], notes["expected_low"], notes["expected_high"]) == ("0.98", "0.03", "0.22")
    assert (notes["expected"], notes["direction"], notes["unit"], notes["detector"]) == (
        "0.1",
        "above",
        "1",
        "robust_z",
    )
    assert float(notes["strength"]) == pytest.approx(alert.strength, abs=1e-8)
    assert float(notes["score"]) == pytest.approx(5 * math.exp(2.5), rel=1e-8)
    assert notes["contributions"].startswith("system.cpu.utilization=96 %, system.network.io{")
    assert notes["flapping"] == "false"
    assert "2023-11-15" in notes["description"]
    assert 1.0 < alert.strength < 2.5, "less than the strength: the level allows for three metrics and a strict start"


def test_what_stays_over_its_bar_alarms_below_the_level_at_the_fourth_row() -> None:
    bench = Bench()
    assert bench.feed([*quiet(20), *[[0.3, -1.0, -2.0], [-0.1, -1.0, -2.0]] * 20]) == [], "now and then is chance"
    assert bench.feed([[0.3, -1.0, -2.0]] * 3) == []
    (alert,) = bench.feed([[0.25, 0.28, -2.0]], [[0.5, 2e6, 1.0]])
    assert dict(alert.labels)["feature"] == "system.cpu.utilization", "the one that has lasted"
    assert 0.0 <= alert.strength < 0.25, "over the lower level, by the least of its rows"
    assert bench.feed([[0.2, -1.0, -2.0]] * 30) == []
    (closed,) = bench.feed(quiet(5))
    assert closed.episode == alert.episode


def test_maintenance_and_other_series_begin_the_rows_anew() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    assert bench.feed([[0.3, -1.0, -2.0]] * 3 + [[-1.0, 0.3, -2.0]] * 3 + [[0.3, -1.0, -2.0]] * 3) == []
    bench.feed([[0.3, -1.0, -2.0]], status=Status.EXCLUDED)
    assert bench.feed([[0.3, -1.0, -2.0]] * 3) == []
    assert len(bench.feed([[0.3, -1.0, -2.0]])) == 1


def test_it_closes_after_five_calm_evaluations_and_says_so() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    start = bench.time
    (opened,) = bench.feed([[2.5, -1.0, -2.0]], [[0.98, 2e6, 1.0]])
    assert bench.feed([[2.4, -1, -2], [1.2, -1, -2]] * 3, [[0.99, 2e6, 1.0], [0.4, 2e6, 1.0]] * 3) == []
    assert bench.feed(quiet(4), [[0.05, 2e6, 1.0]] * 4) == []
    assert bench.feed([[math.nan] * 3] * 3, status=Status.MISSING) == [], "missing rows are no evaluations"
    (closed,) = bench.feed(quiet(1), [[0.05, 2e6, 1.0]])
    assert closed.episode == opened.episode
    assert closed.ends_unix_nano == closed.decided_unix_nano == bench.time
    notes = dict(closed.annotations)
    assert notes["summary"] == "cpu utilization of host a1 is back to 0.05 after 1 min 15 s"
    assert (notes["peak_observed"], notes["observed"], notes["expected_high"]) == ("0.99", "0.05", "0.22")
    assert float(notes["duration_seconds"]) == (bench.time - start) / SECOND
    assert bench.feed(quiet(30)) == []


def test_a_value_that_became_usual_is_not_said_to_be_back() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    bench.feed([[2.5, -1.0, -2.0]], [[0.98, 2e6, 1.0]])
    (closed,) = bench.feed(quiet(5), [[0.97, 2e6, 1.0]] * 5)
    assert "is 0.97, which no longer stands out" in dict(closed.annotations)["summary"]


def test_a_fall_is_below() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    (alert,) = bench.feed([[-1.0, 2.5, -2.0]], [[0.1, 12_000.0, 1.0]])
    notes = dict(alert.annotations)
    assert notes["direction"] == "below"
    assert notes["summary"].startswith("network io (receive) of host a1 is 12 kB/s, expected 1–3 MB/s, since ")
    assert dict(alert.labels)["feature"] == 'system.network.io{direction="receive"}'


def test_a_single_feature_has_no_level_and_no_price() -> None:
    bench = Bench((CPU,))
    found = bench.feed([[0.01], *quiet(30, 1)] * 2, [[0.3], *[[0.1]] * 30] * 2, step=7 * 3600)
    assert [alert.status for alert in found] == ["firing", "resolved"] * 2
    assert found[0].strength == pytest.approx(0.01)
    assert dict(found[0].labels)["severity"] == "warning"


def test_the_first_days_are_strict_and_a_noisy_metric_pays_alone() -> None:
    bench = Bench()
    step = 600.0
    bench.feed(quiet(20), step=step)
    assert bench.feed([[-1, -2, 0.6]], step=step) == [], "below the level of the first day"
    bench.feed(quiet(2000), step=step)
    assert len(bench.feed([[0.6, -1, -2], *quiet(5)], step=step)) == 2
    bench.feed(quiet(50), step=step)
    assert bench.feed([[0.6, -1, -2], *quiet(5)], step=step) == [], "cpu has a price now"
    bench.feed(quiet(400), step=step)
    (opened, _) = bench.feed([[-1, 0.6, -2], *quiet(5)], step=step)
    assert dict(opened.labels)["feature"].startswith("system.network.io")
    bench.feed(quiet(9000), step=step)
    assert len(bench.feed([[0.6, -1, -2], *quiet(5)], step=step)) == 2, "prices decay over weeks"


def test_what_a_metric_reached_on_days_past_must_be_topped_or_last() -> None:
    bench = Bench()
    step = 600.0
    bench.feed(quiet(2000), step=step)
    burst = [[3.0, -1, -2]] * 3
    assert len(bench.feed([*burst, *quiet(5)], step=step)) == 2
    bench.feed(quiet(40), step=step)
    assert len(bench.feed([*burst, *quiet(5)], step=step)) == 2, "seven hours later, on the same day"
    bench.feed(quiet(400), step=step)
    assert bench.feed([*burst, *quiet(5)], step=step) == [], "days later it must be more than it was"
    other = [[-2, 3.0, -2.5]] * 3
    assert len(bench.feed([*other, *quiet(5)], step=step)) == 2, "another metric has no record"
    bench.feed(quiet(400), step=step)
    rows = [*burst, burst[0], *quiet(5)]
    opened, _ = bench.feed(rows, step=step)
    assert opened.starts_unix_nano == bench.time - 6 * int(step) * SECOND, "or last for four rows"
    bench.feed(quiet(400), step=step)
    assert len(bench.feed([[4.8, -1, -2], *quiet(5)], step=step)) == 2, "or top it, and its price"
    bench.feed(quiet(20_000), step=step)
    assert len(bench.feed([*burst, *quiet(5)], step=step)) == 2, "records fade"
    bench.feed(quiet(400), step=step)
    bench.feed([[30.0, -1, -2], *quiet(400)], step=step)
    assert len(bench.feed([[7.0, -1, -2], *quiet(5)], step=step)) == 2, "and end at 55 times the bar"


def test_records_are_of_no_single_series_and_not_of_pauses() -> None:
    for measure, series in (("pause", (CPU, NETWORK, LOAD)), ("", (CPU,))):
        bench = Bench(series)
        bench.feed(quiet(50, len(series)), step=3600.0)
        for _ in range(3):
            rows = bench.columns([[2.5, -1, -2][: len(series)], *quiet(100, len(series))], step=3600.0)
            rows = replace(rows, verdicts=(replace(rows.verdicts[0], measure=measure),))
            assert len(bench.alarm.process(rows).alerts) == 2


def test_a_metric_that_the_whole_does_not_confirm_must_be_stronger() -> None:
    def alerts(strength: float, whole: float, departs: float = math.nan) -> int:
        bench = Bench()
        bench.feed(quiet(20), together=[-2.0] * 20)
        rows = bench.columns([[strength, -1.5, -2.5]], together=[whole])
        own = verdict("mv", np.array([departs, math.nan, math.nan]), np.arange(3, dtype=np.int32))
        apart = replace(rows.verdicts[1], apart=replace(own, measure="departure"))
        return len(bench.alarm.process(replace(rows, verdicts=(rows.verdicts[0], apart))).alerts)

    assert alerts(0.9, -2.0) == alerts(0.9, -0.8) == alerts(0.9, -2.0, -0.8) == 0
    assert alerts(0.9, -0.6) == alerts(0.9, math.nan) == alerts(0.9, -2.0, -0.6) == alerts(1.9, -2.0) == 1
    assert alerts(-0.8, -2.0, 0.9) == 0
    assert alerts(-0.6, -2.0, 0.9) == alerts(math.nan, -2.0, 0.9) == alerts(-0.8, -2.0, 1.9) == 1


def test_one_that_sees_no_single_features_neither_confirms_nor_needs_it() -> None:
    for strengths, together in (([0.9, -1.5, -2.5], -2.0), ([-2.0, -1.5, -2.5], 0.1)):
        for singles in (True, False):
            bench = Bench()
            bench.feed(quiet(20), together=[-2.0] * 20)
            rows = bench.columns([strengths], together=[together])
            rows = replace(rows, verdicts=(rows.verdicts[0], replace(rows.verdicts[1], singles=singles)))
            assert len(bench.alarm.process(rows).alerts) == (0 if singles else 1)


def test_values_and_pauses_pay_from_accounts_of_their_own() -> None:
    bench = Bench()
    step = 600.0
    bench.feed(quiet(2000), step=step)
    found = []
    for measure in ("", "", "pause", "pause"):
        rows = bench.columns([[0.9, -1, -2], *quiet(500)], step=step)
        rows = replace(rows, verdicts=(replace(rows.verdicts[0], measure=measure),))
        found.append(len(bench.alarm.process(rows).alerts))
    assert found == [2, 0, 2, 2]


def test_departures_of_single_features_alarm_as_theirs() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    rows = bench.columns([[-2.0, -1.5, -2.5]])
    own = verdict("mv", np.array([math.nan, 3.0, math.nan]), np.arange(3, dtype=np.int32))
    own = replace(own, measure="departure", measured=np.array([[math.nan, 7.4, math.nan], [1.0, 1.0, 1.0]]))
    whole = replace(verdict("mv", np.array([-1.0]), None), apart=own)
    (alert,) = bench.alarm.process(replace(rows, verdicts=(*rows.verdicts, whole))).alerts
    notes = dict(alert.annotations)
    assert dict(alert.labels)["feature"].startswith("system.network.io")
    assert notes["detector"] == "mv"
    assert "goes its own way, 7.4 × as far as it rarely does, since" in notes["summary"]
    assert Bench().alarm.process(replace(rows, verdicts=(whole,))).alerts == (), "not without one of single series"


def test_soon_after_an_episode_only_what_comes_near_its_peak_opens_another() -> None:
    bench = Bench((CPU,))
    bench.feed(quiet(5, 1))
    assert len(bench.feed([[2.0], *quiet(5, 1)])) == 2
    bench.feed(quiet(20, 1))
    assert bench.feed([[1.0]]) == []
    assert len(bench.feed([[1.7], *quiet(5, 1)])) == 2
    bench.feed(quiet(30, 1))
    bench.time += 6 * 3600 * SECOND
    assert len(bench.feed([[0.5], *quiet(5, 1)])) == 2


def test_soon_after_an_episode_another_series_may_open_one() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    assert len(bench.feed([[3.0, -1.0, -2.0], *quiet(5)])) == 2
    assert bench.feed([[1.8, -1.5, -2.5]]) == [], "its own has to come near the last peak"
    (alert,) = bench.feed([[-2.0, 1.8, -2.0]])
    assert dict(alert.labels)["feature"].startswith("system.network.io")


def test_an_episode_that_grows_says_so_with_the_same_identity() -> None:
    bench = Bench((CPU,))
    (opened,) = bench.feed([[0.1], [0.3], [0.4]], [[0.3]] * 3)
    (grown,) = bench.feed([[1.5], [1.6]], [[0.9], [0.95]])
    assert (grown.episode, grown.labels, grown.status) == (opened.episode, opened.labels, "firing")
    assert grown.strength == pytest.approx(1.5)
    assert grown.decided_unix_nano > opened.decided_unix_nano
    assert "is 0.9, expected" in dict(grown.annotations)["summary"]


def test_flapping_holds_the_episode_open() -> None:
    bench = Bench((CPU,))
    wave = [*[[2.0]] * 2, *quiet(3, 1)] * 6
    (opened,) = bench.feed(wave)
    assert dict(opened.annotations)["flapping"] == "false"
    assert bench.feed(quiet(8, 1)) == [], "calm for longer than five, but it was flapping"
    (closed,) = bench.feed(quiet(20, 1))
    assert dict(closed.annotations)["flapping"] == "true"


def test_maintenance_closes_at_once() -> None:
    bench = Bench((CPU,))
    bench.feed([[2.0]], [[0.9]])
    (closed,) = bench.feed([[2.0]], [[0.9]], status=Status.EXCLUDED)
    notes = dict(closed.annotations)
    assert notes["closed_by"] == "maintenance"
    assert notes["summary"] == "cpu utilization of host a1 is in maintenance and no longer judged, after 10 s"
    assert bench.feed([[2.0]] * 3, status=Status.EXCLUDED) == []


def test_silence_is_said_once_and_ended_by_the_next_data() -> None:
    bench = Bench()
    bench.feed(quiet(10))
    heard = bench.time - 5 * SECOND
    assert bench.feed([[math.nan] * 3] * 5, status=Status.MISSING) == []
    since = bench.time
    (silent,) = bench.feed([[math.nan] * 3] * 2, status=Status.STALE)
    assert silent.kind is AlertKind.SILENCE
    assert dict(silent.labels) == {"alertname": "ForeshockSilent", "host_name": "a1", "severity": "warning"}
    assert (silent.starts_unix_nano, silent.decided_unix_nano) == (since, since + 5 * SECOND)
    notes = dict(silent.annotations)
    assert notes["summary"] == "host a1 has sent nothing since 12:04:55 UTC; it usually reports every 5 s"
    assert notes["last_seen"] == "2023-11-15T12:04:55Z"
    bench.time += 60 * SECOND
    back = bench.time
    (ended,) = bench.feed(quiet(3))
    assert (ended.episode, ended.ends_unix_nano) == (silent.episode, back)
    assert ended.decided_unix_nano == back + 5 * SECOND
    assert dict(ended.annotations)["summary"] == f"host a1 reports again after 1 min {(back - heard) // SECOND - 60} s"


def test_silence_can_be_turned_off_and_keeps_an_episode_open() -> None:
    bench = Bench((CPU,), silence=False)
    bench.feed([[2.0]])
    assert bench.feed([[math.nan]], status=Status.STALE) == []
    assert [alert.status for alert in bench.feed(quiet(5, 1))] == ["resolved"]


def test_a_users_limit_alerts_a_feature_at_a_time_without_budget() -> None:
    bench = Bench(thresholds=["limit"])
    calm = [[-3.0, -3.0, -3.0]]
    bench.feed(quiet(10), limit=calm * 10)
    hot = [[0.1, -3.0, 0.2]]
    found = bench.feed(quiet(2), [[0.9, 2e6, 9.0]] * 2, limit=hot * 2)
    assert [alert.kind for alert in found] == [AlertKind.THRESHOLD] * 2
    assert [dict(alert.labels)["feature"] for alert in found] == ["system.cpu.utilization", "system.load.1m"]
    assert {dict(alert.labels)["alertname"] for alert in found} == {"ForeshockThreshold"}
    assert dict(found[1].annotations)["summary"] == "load 1m of host a1 is 9, over its limit of 4, since 12:05:00 UTC"
    ended = bench.feed(quiet(6), [[0.1, 2e6, 1.0]] * 6, limit=[*hot, *calm * 5])
    assert [alert.status for alert in ended] == ["resolved"] * 2
    assert {alert.episode for alert in ended} == {alert.episode for alert in found}
    again = bench.feed(quiet(1), limit=hot)
    assert len(again) == 2, "no price, no waiting"
    assert len(bench.feed(quiet(1), limit=hot, status=Status.EXCLUDED)) == 2


def test_what_only_the_features_together_show() -> None:
    bench = Bench()
    bench.feed(quiet(10), together=[-1.0] * 10)
    assert bench.feed([[-0.1, -1.0, -2.0]], together=[0.4]) == [], "no feature is over its own bar"
    (alert,) = bench.feed([[0.1, -1.0, -2.0]], [[0.2, 2e6, 1.0]], together=[0.4])
    assert alert.strength == pytest.approx(0.4)
    notes = dict(alert.annotations)
    assert notes["detector"] == "mv"
    assert notes["summary"] == "host a1 is unusual, most of all its cpu utilization (0.2), since 12:05:05 UTC"
    (closed,) = bench.feed(quiet(6), together=[-0.1, *[-1.0] * 5])
    assert dict(closed.annotations)["summary"].startswith("host a1 is back to what is usual after ")
    bare = [[math.nan] * 3]
    (alert,) = bench.feed(bare, [[math.nan] * 3], together=[0.4])
    assert "feature" not in dict(alert.labels)
    assert dict(alert.annotations)["summary"] == "host a1 is unusual, since 12:05:40 UTC"
    bench.feed(quiet(6), together=[-1.0] * 6)
    assert len(bench.feed([[-0.5, -1.0, -2.0]], together=[1.2])) == 1, "far beyond, it needs none"


def test_presence_is_said_once_a_day_and_alarming_rows_are_marked() -> None:
    bench = Bench()
    warming = bench.alarm.process(bench.columns([[math.nan] * 3] * 3))
    assert warming.presence == ()
    columns = bench.alarm.process(bench.columns([*quiet(12), [3, -1, -1], *quiet(12)], step=3600))
    assert [(one.entity, one.day) for one in columns.presence] == [
        ('{host.name="a1"}', 19676), ('{host.name="a1"}', 19677)
    ]  # fmt: skip
    assert columns.alarmed.tolist() == [False] * 12 + [True] + [False] * 12
    assert columns.presence[0].decided_unix_nano == columns.rows.end_unix_nano[0]


def test_a_limit_alone_makes_an_entity_present_and_alarming() -> None:
    bench = Bench((CPU,), thresholds=["limit"])
    columns = bench.columns([[math.nan]] * 3, limit=[[-1.0], [0.5], [-1.0]])
    columns = bench.alarm.process(columns)
    assert len(columns.presence) == 1
    assert columns.alarmed.tolist() == [False, True, False]
    assert [one.kind for one in columns.alerts] == [AlertKind.THRESHOLD]


def story(bench: Bench, cuts: Sequence[int], restart: bool, step: float = 5.0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    n = 600
    strengths = rng.normal(-2, 0.8, (n, 3))
    for at in range(20, n, 60):
        strengths[at : at + 12, (at // 60) % 3] += rng.uniform(3, 6)
    values = rng.normal(0, 1, (n, 3))
    bench.time = T0
    out: list[Alert] = []
    status = np.where(rng.random(n) < 0.01, Status.STALE, Status.SCORED).astype(np.uint8)
    edges = [0, *cuts, n]
    for low, high in pairwise(edges):
        columns = bench.columns(strengths[low:high].tolist(), values[low:high].tolist(), step=step)
        columns.rows.status[:] = status[low:high]
        out += bench.alarm.process(columns).alerts
        if restart:
            saved = unpack(pack(bench.alarm.state()))
            bench.alarm = bench.fresh()
            bench.alarm.load(saved)
    return [alert.to_json() for alert in out]


@pytest.mark.parametrize("step", [5.0, 900.0])
def test_cuts_and_snapshots_leave_every_byte_as_it_is(step: float) -> None:
    whole = story(Bench(), [], False, step)
    cuts = sorted(set(np.random.default_rng(0).integers(1, 600, 25).tolist()))
    assert story(Bench(), cuts, True, step) == whole
    assert len(whole) >= 15
    first, second = Bench(), Bench()
    story(first, [], False, step)
    story(second, cuts, True, step)
    assert pack(first.alarm.state()) == pack(second.alarm.state())


def test_a_snapshot_is_the_moment_it_began_whatever_comes_while_it_is_copied() -> None:
    bench = Bench()
    story(bench, [], False)
    before = pack(bench.alarm.state())
    state = bench.alarm.state()
    for table in state.tables.values():
        table.begin_copy()
    bench.feed([[3.0, 1.0, -1.0]] * 5)
    copied = {}
    for name, table in state.tables.items():
        rows = table.copy_some(math.inf)
        assert rows is not None
        copied[name] = rows
    assert pack(State(state.version, state.meta, state.arrays | copied, {}, state.blobs)) == before
    assert pack(bench.alarm.state()) != before


def test_forgetting_starts_anew() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    bench.feed([[2.5, -1.0, -2.0]])
    bench.alarm.forget(0, np.array([0, 1, 2], np.int32))
    assert pack(bench.alarm.state()) == pack_after_rows(bench)
    assert bench.feed(quiet(10)) == []


def pack_after_rows(bench: Bench) -> bytes:
    """The state of an alarm that has slots for the bench's names and has seen nothing."""
    other = bench.fresh()
    other._entity.ensure(0)
    other._price.ensure(2)
    return pack(other.state())


def test_a_row_with_more_events_than_the_buffer_is_not_cut_short() -> None:
    many = [Series(f"m{i}", A1) for i in range(600)]
    bench = Bench(many, thresholds=["limit"])
    found = bench.feed([[-2.0] * 600], [[2.0] * 600], limit=[[0.5] * 600])
    assert len(found) == 600


def test_a_verdict_that_does_not_fit_is_refused() -> None:
    bench = Bench()
    columns = bench.columns(quiet(2))
    columns.verdicts = (verdict("robust_z", np.zeros(2), np.arange(2)),)
    with pytest.raises(ValueError, match="robust_z: 2 scores do not fit"):
        bench.alarm.process(columns)
    columns.verdicts = (verdict("mv", np.zeros(6), None),)
    with pytest.raises(ValueError, match="mv: 6 scores do not fit"):
        bench.alarm.process(columns)


def test_features_with_next_to_no_share_are_not_named() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    (alert,) = bench.feed([[4.0, -0.5, -0.7]])
    shares = dict(alert.annotations)["contributions"]
    assert shares == 'system.cpu.utilization=98 %, system.network.io{direction="receive"}=1 %'


def test_of_features_with_the_same_share_the_first_stands_first() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    (alert,) = bench.feed([[2.998, 3.0, -5.0]])
    first, second, _ = (series.feature for series in bench.registry.series)
    assert dict(alert.annotations)["contributions"] == f"{first}=50 %, {second}=50 %"


def test_only_primary_detectors_alarm() -> None:
    hot: dict[str, Any] = {"strengths": [[2.5, -1.0, -2.0]], "together": [3.0]}
    for primary, wanted in ((["robust_z"], "robust_z"), (["mv"], "mv"), ([], None)):
        bench = Bench(primary=frozenset(primary))
        bench.feed(quiet(10), together=[-1.0] * 10)
        assert [dict(alert.annotations)["detector"] for alert in bench.feed(**hot)] == ([wanted] if wanted else [])


def test_an_alert_of_the_features_together_names_those_with_the_largest_part() -> None:
    bench = Bench(primary=frozenset(["mv"]))
    bench.feed(quiet(10), together=[-1.0] * 10)
    said = []
    for strength, parts in ((3.0, [1.0, 8.0, 1.0]), (5.0, [math.nan, 0.0, 2.0])):
        columns = bench.columns([[0.0, -1.0, -2.0]], together=[strength])
        *others, own = columns.verdicts
        columns.verdicts = (*others, replace(own, contribution=np.array(parts, np.float32)))
        said += [dict(alert.annotations)["contributions"] for alert in bench.alarm.process(columns).alerts]
    first, second, third = (series.feature for series in bench.registry.series)
    assert said == [f"{second}=80 %, {first}=10 %, {third}=10 %", f"{third}=100 %"]


def test_labels_of_an_entity_never_take_the_alerts_own() -> None:
    series = Series("m", (("a.b", "1"), ("a_b", "2"), ("severity", "x")))
    bench = Bench((series,))
    (alert,) = bench.feed([[1.0]])
    labels = dict(alert.labels)
    assert labels == {"alertname": "ForeshockAnomaly", "feature": "m", "severity": "warning", "a_b": "1", "a_b_": "2",
                      "entity_severity": "x"}  # fmt: skip


def test_the_watchdog_always_fires() -> None:
    alert = watchdog("prod", 50, 20)
    assert dict(alert.labels) == {"alertname": "ForeshockWatchdog", "severity": "none", "environment": "prod"}
    assert (alert.status, alert.starts_unix_nano, alert.decided_unix_nano) == ("firing", 20, 50)


@pytest.mark.parametrize(
    ("measure", "seen", "said", "ended"),
    [
        (
            "pause", (60.0, 5.0),
            "has not moved from 0.98 since 12:04:50 UTC (1 min); its longest pauses usually last 5 s",
            "moves again after",
        ),
        (
            "variation", (2.1, 1.5),
            "varies 2.1 × as much as usual, rarely over 1.5 ×, since 12:05:50 UTC; it is 0.98",
            "varies as usual again after",
        ),
    ],
)  # fmt: skip
def test_what_a_detector_measures_other_than_the_value_is_said(
    measure: str, seen: tuple[float, float], said: str, ended: str
) -> None:
    bench = Bench()
    bench.feed(quiet(20))

    def feed(strengths: list[list[float]], values: list[list[float]]) -> list[Alert]:
        columns = bench.columns(strengths, values)
        measured = np.repeat(np.array(seen).reshape(2, 1), 3 * len(strengths), axis=1)
        verdicts = tuple(replace(one, measure=measure, measured=measured) for one in columns.verdicts)
        return list(bench.alarm.process(replace(columns, verdicts=verdicts)).alerts)

    (opened,) = feed([[2.5, -1.0, -2.0]], [[0.98, 2e6, 1.0]])
    assert dict(opened.annotations)["summary"] == f"cpu utilization of host a1 {said}"
    assert "direction" not in dict(opened.annotations)
    bench.alarm.load(unpack(pack(bench.alarm.state())))
    (closed,) = feed(quiet(5), [[0.05, 2e6, 1.0]] * 5)
    assert dict(closed.annotations)["summary"].startswith(f"cpu utilization of host a1 {ended} ")


def test_a_measure_that_nobody_has_words_for_is_said_as_a_value() -> None:
    bench = Bench()
    bench.feed(quiet(20))
    columns = bench.columns([[2.5, -1.0, -2.0]], [[0.98, 2e6, 1.0]])
    for measure, measured in (("colour", np.ones((2, 3))), ("pause", np.full((2, 3), np.nan))):
        own = Bench()
        own.feed(quiet(20))
        verdicts = tuple(replace(one, measure=measure, measured=measured) for one in columns.verdicts)
        (alert,) = own.alarm.process(replace(columns, verdicts=verdicts)).alerts
        assert dict(alert.annotations)["summary"].startswith("cpu utilization of host a1 is 0.98, expected")
