"""The environment's budget as timelines: alerts at T+…, expected to notify or not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from foreshock.incident.arithmetic import theta0
from foreshock.incident.budget import Budget, BudgetOptions, order, quantile
from foreshock.state import pack, unpack
from foreshock.types import Alert, AlertKind, Columns, Control, ControlKind, Presence, digest, labels

SECOND = 1_000_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
T0 = 19_676 * DAY
AGAIN = math.log(1.4)


def cap(entities: int) -> float:
    """The highest level of an environment of so many entities under the default budgets."""
    share = entities * 0.2 / 2.0
    return 2 * theta0(share, 7200.0) + AGAIN + 0.35 * math.log(max(share / 3, 1.0))


def alert(
    at: int, entity: str, strength: float = 1.0, kind: AlertKind = AlertKind.ANOMALY, since: int | None = None,
    ends: int | None = None, severity: str = "warning",
) -> Alert:  # fmt: skip
    own = labels({"alertname": f"Foreshock{kind.title()}", "host_name": entity, "severity": severity})
    return Alert(own, (), at if since is None else since, at, kind, strength, ends)


class Stage:
    """An environment in which everybody of `entities` is present every day."""

    def __init__(self, entities: int = 1, **options: Any) -> None:
        self.options = BudgetOptions(**options)
        self.budget = Budget(self.options, "prod")
        self.entities = entities
        self.day = 0

    def live(self, until: int) -> None:
        """Presence of all entities up to a time after T0."""
        while self.day * DAY <= until:
            now = T0 + self.day * DAY
            names = [f'{{host_name="h{i}"}}' for i in range(self.entities)]
            self.budget.process(Columns(presence=tuple(Presence(n, now // DAY, now + SECOND) for n in names)))
            self.day += 1

    def at(self, after: int, *alerts: Alert) -> list[Alert]:
        """What is decided when the watermark reaches a time after T0."""
        self.live(after)
        self.budget.process(Columns(alerts=tuple(alerts)))
        return list(self.budget.on_watermark(T0 + after).alerts)

    def fire(self, after: int, entity: str, strength: float, **more: Any) -> Alert:
        (decided,) = self.at(after, alert(T0 + after, entity, strength, **more))
        return decided


def test_a_slow_change_notifies_nobody_and_counts_for_nothing() -> None:
    stage = Stage()
    told = stage.fire(HOUR, "h0", 30.0, kind=AlertKind.CHANGE)
    assert told.notified is False
    assert told.group == ""
    assert stage.budget.achieved().entity == 0.0
    loud = stage.fire(2 * HOUR, "h0", 30.0)
    beside = stage.fire(2 * HOUR + MINUTE, "h0", 30.0, kind=AlertKind.CHANGE)
    assert loud.notified
    assert (beside.notified, beside.group) == (False, loud.group)


def notified(alerts: Iterable[Alert]) -> list[bool | None]:
    return [one.notified for one in alerts]


def test_the_first_incident_of_a_fresh_host_notifies_at_once() -> None:
    stage = Stage(1)
    first = stage.fire(3 * MINUTE, "h0", 0.01)
    assert first.notified is True
    assert first.group == digest("prod", first.episode)


def test_nothing_is_decided_before_the_watermark() -> None:
    stage = Stage(1)
    stage.live(0)
    columns = Columns(alerts=(alert(T0 + MINUTE, "h0"),))
    assert stage.budget.process(columns).alerts == ()
    assert stage.budget.on_watermark(T0 + MINUTE - 1).alerts == ()
    assert notified(stage.budget.on_watermark(T0 + MINUTE).alerts) == [True]


def test_a_group_notifies_again_only_above_its_peak() -> None:
    stage = Stage(5)
    first = stage.fire(MINUTE, "h0", 1.0)
    assert first.notified
    second = stage.fire(5 * MINUTE, "h1", 1.0 + AGAIN - 0.01)
    assert (second.notified, second.group) == (False, first.group)
    third = stage.fire(9 * MINUTE, "h2", second.strength + AGAIN + 0.01)
    assert (third.notified, third.group) == (True, first.group)
    fourth = stage.fire(20 * MINUTE, "h3", 0.8)
    assert fourth.notified, "11 min after the last: a new group"
    assert fourth.group not in ("", first.group)


def test_a_group_lasts_an_hour_at_most() -> None:
    stage = Stage(1)
    groups = [stage.fire(after * MINUTE, "h0", 1.0).group for after in range(1, 140, 6)]
    sizes = [groups.count(group) for group in dict.fromkeys(groups)]
    assert sizes == [10, 10, 4]


def test_what_is_below_the_level_neither_opens_nor_extends() -> None:
    stage = Stage(100)
    level = theta0(10.0, 7200.0)
    low = stage.fire(MINUTE, "h0", level - 0.01)
    assert (low.notified, low.group) == (False, "")
    high = stage.fire(2 * MINUTE, "h1", level)
    assert high.notified
    assert stage.fire(11 * MINUTE, "h2", 0.1).group == high.group, "it belongs to the group"
    assert stage.fire(13 * MINUTE, "h3", level).group != high.group, "which it did not extend"


def test_the_level_follows_the_third_peak_of_days_and_is_capped() -> None:
    stage = Stage(100)
    base = theta0(10.0, 7200.0)
    stage.live(0)
    stage.budget.on_watermark(T0 + SECOND)
    assert stage.budget.level() == pytest.approx(base)
    for day in range(12):
        for hour in range(4):
            stage.fire(day * DAY + hour * HOUR + MINUTE, f"{day}.{hour}", [0.9, 0.8, 0.7, 0.6][hour])
    stage.at(13 * DAY)
    assert stage.budget.level() == pytest.approx(0.7)
    for day in range(13, 40):
        for hour in range(4):
            stage.fire(day * DAY + hour * HOUR + MINUTE, f"{day}.{hour}", 9.0)
    assert stage.budget.level() == pytest.approx(cap(100)), "real incidents do not deafen"
    assert stage.fire(40 * DAY + 5 * HOUR, "h0", cap(100) + 1e-9).notified


def test_the_level_is_the_weighted_quantile_spelled_out() -> None:
    stage = Stage(100)
    base, rng = theta0(10.0, 7200.0), np.random.default_rng(4)
    peaks = rng.uniform(0.0, 1.2, 90).tolist()
    for day, peak in enumerate(peaks):
        for hour, more in enumerate((2.0, 1.0, 0.0, -0.1)):
            stage.fire(day * DAY + hour * HOUR + MINUTE, f"{day}.{hour}", max(peak + more, 0.0))
        pairs = [(past, 0.5 ** ((day - number) / 30)) for number, past in enumerate(peaks[:day])]
        pairs.append((base, 2 * 0.5 ** (day / 30)))
        total = sum(weight for _, weight in pairs)
        reached = [v for v, _ in pairs if sum(w for other, w in pairs if other <= v) >= 0.67 * total]
        assert stage.budget.level() == pytest.approx(min(max(min(reached), peak), cap(100))), "or the day's own third"


@pytest.mark.parametrize("entities", [1, 10, 30, 100, 1000])
def test_the_cap_rises_faster_where_very_many_share(entities: int) -> None:
    stage = Stage(entities)
    for day in range(12):
        for hour in range(4):
            stage.fire(day * DAY + hour * HOUR + MINUTE, f"{day}.{hour}", 9.0)
    stage.at(13 * DAY)
    assert stage.budget.level() == pytest.approx(cap(entities))


def price_of(stage: Stage, day: int, entity: str) -> float:
    """By how much an entity must reach more than the level on a day, found by what notifies: to .01."""
    saved, level = stage.budget.state(), stage.budget.level()
    for step in range(500):
        twin = Budget(stage.options, "prod")
        twin.load(unpack(pack(saved)))
        at = T0 + day * DAY + HOUR
        twin.process(Columns(alerts=(alert(at, entity, level + step / 100),)))
        if twin.on_watermark(at).alerts[0].notified:
            return step / 100
    raise AssertionError("it never notifies")


def test_in_a_large_environment_who_has_notified_must_top_itself_for_a_while() -> None:
    stage = Stage(200)
    stage.at(3 * DAY + 2 * SECOND)
    level = stage.budget.level()
    assert stage.fire(3 * DAY + MINUTE, "h0", level + 1.0).notified
    stage.at(4 * DAY + 2 * SECOND)
    assert price_of(stage, 4, "h1") == pytest.approx(0.0, abs=0.011), "others pay nothing"
    # 200 entities: half-life 200 / (10 × 2) − 1.5 = 8.5 days
    for day in (4, 12, 30):
        stage.at(day * DAY + 2 * SECOND)
        left = (1.0 + AGAIN) * 0.5 ** ((day + 1 / 24 - 3) / 8.5)
        assert price_of(stage, day, "h0") == pytest.approx(left, abs=0.011)


def test_what_the_price_keeps_back_does_not_raise_the_level() -> None:
    stage = Stage(200)
    stage.at(3 * DAY + 2 * SECOND)
    level = stage.budget.level()
    said = [stage.fire((3 + n // 4) * DAY + n % 4 * 6 * HOUR + MINUTE, "h0", 1.5).notified for n in range(48)]
    assert said[0]
    assert sum(map(bool, said)) < 8
    stage.at(16 * DAY + 2 * SECOND)
    assert stage.budget.level() < level
    assert stage.fire(16 * DAY + HOUR, "h1", 1.0).notified


def test_in_a_small_environment_nobody_pays() -> None:
    stage = Stage(30)
    stage.at(3 * DAY + 2 * SECOND)
    for hour in range(1, 6):
        assert stage.fire(3 * DAY + hour * HOUR, "h0", 2.0).notified


def test_prices_are_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(200)
    stage.at(3 * DAY + 2 * SECOND)
    for n in range(3):
        stage.fire(3 * DAY + n * HOUR + MINUTE, f"h{n}", 3.0)
    assert len(stage.budget._memory.prices) == 3
    stage.at(150 * DAY + 2 * SECOND)
    assert not stage.budget._memory.prices
    monkeypatch.setattr("foreshock.incident.budget.MOST_EPISODES", 2)
    for n in range(3):
        stage.fire(150 * DAY + n * HOUR + HOUR, f"h{n}", 3.0)
    assert [label[-4:-2] for label in stage.budget._memory.prices] == ["h1", "h2"]


def test_after_three_hours_of_a_day_the_rest_of_it_must_top_the_third() -> None:
    stage = Stage(1000)
    stage.at(3 * DAY)
    level = stage.budget.level()
    peaks = [level + 0.9, level + 0.3, level + 0.6]
    told = [stage.fire(3 * DAY + 2 * n * HOUR, f"h{n}", peak) for n, peak in enumerate(peaks)]
    assert all(one.notified for one in told)
    assert stage.budget.level() == pytest.approx(level + 0.3)
    later = [level + 0.2, level + 0.4, level + 0.35, level + 0.7]
    told = [stage.fire(3 * DAY + 2 * (3 + n) * HOUR, f"h{3 + n}", peak) for n, peak in enumerate(later)]
    assert notified(told) == [False, True, False, True]
    for n in range(12):
        stage.fire(3 * DAY + 20 * HOUR + n * 15 * MINUTE, f"h{20 + n}", cap(1000) + 1.0)
    assert stage.budget.level() == pytest.approx(cap(1000))
    assert stage.fire(3 * DAY + 23 * HOUR + 50 * MINUTE, "h99", cap(1000) + 3.0).notified
    stage.fire(4 * DAY + HOUR, "h50", level + 0.9)
    assert stage.budget.level() < cap(1000), "another day has its own"


def test_one_bad_day_is_one_block() -> None:
    stage = Stage(1)
    for day in range(10):
        stage.fire(day * DAY + MINUTE, "h0", 0.05)
    for hour in range(1, 20):
        stage.fire(10 * DAY + hour * HOUR, "h0", 3.0)
    stage.live(12 * DAY)
    assert stage.fire(12 * DAY, "h0", 0.05).notified


def test_days_without_data_weigh_nothing() -> None:
    stage = Stage(1)
    for day in range(6):
        for hour in range(3):
            stage.fire(day * DAY + (4 * day + hour) * HOUR + MINUTE, "h0", 0.2)
    stage.at(7 * DAY)
    level = stage.budget.level()
    assert level == pytest.approx(0.2)
    stage.day = 19
    (decided,) = stage.at(20 * DAY + MINUTE, alert(T0 + 20 * DAY + MINUTE, "h0", 0.1))
    assert stage.budget.level() == pytest.approx(0.2)
    assert not decided.notified


def test_in_the_first_week_six_a_day_and_then_only_what_tops_it() -> None:
    stage = Stage(1)
    said = [stage.fire(n * 20 * MINUTE + MINUTE, "h0", 1.0).notified for n in range(10)]
    assert said == [True] * 6 + [False] * 4
    assert stage.fire(5 * HOUR, "h0", 1.2).notified
    assert not stage.fire(6 * HOUR, "h0", 1.2).notified
    assert stage.fire(DAY + HOUR, "h0", 1.0).notified, "the next day"
    said = [stage.fire(6 * DAY + n * 20 * MINUTE + MINUTE, "h0", 2.0).notified for n in range(10)]
    assert said == [True] * 6 + [False] * 4, "the last day of the week"
    said = [stage.fire(7 * DAY + n * 20 * MINUTE + MINUTE, "h0", 2.0).notified for n in range(10)]
    assert said == [True] * 10, "later on the level alone rules"


def nightly(stage: Stage, days: Iterable[int], strength: float = 3.0, period: int = DAY) -> list[bool | None]:
    """Whether something notifies that comes each day, some minutes earlier or later each time."""
    return [
        stage.fire(4 * DAY + day * period + 3 * HOUR + (day % 3) * 5 * MINUTE, "h0", strength).notified for day in days
    ]


def test_what_comes_each_day_at_the_same_time_is_usual_from_the_third_day_on() -> None:
    stage = Stage(1)
    assert nightly(stage, range(6)) == [True, True, False, False, False, False]
    assert not stage.fire(4 * DAY + 6 * DAY + 3 * HOUR, "h0", 3.0).notified
    assert stage.fire(4 * DAY + 6 * DAY + 12 * HOUR, "h0", 3.0).notified, "at another time it is not"
    assert stage.fire(4 * DAY + 7 * DAY + 3 * HOUR, "h1", 3.0).notified, "nor is another's"


def test_what_is_usual_must_be_stronger_than_it_was() -> None:
    stage = Stage(1)
    nightly(stage, range(4), 1.0)
    assert nightly(stage, [4], 4.0) == [True]
    assert nightly(stage, [5], 4.0) == [False]


def test_what_is_usual_is_so_whether_it_is_critical_or_a_warning() -> None:
    stage = Stage(1)
    said = [
        stage.fire(day * DAY + 3 * HOUR, "h0", 3.0, severity=severity).notified
        for day, severity in enumerate(["critical", "warning"] * 4, start=4)
    ]
    assert said == [True, True, *[False] * 6]


def test_what_is_usual_when_it_begins_is_so_while_it_grows() -> None:
    stage = Stage(1)
    nightly(stage, range(3))
    begun = 4 * DAY + 3 * DAY + 3 * HOUR
    assert not stage.fire(begun, "h0", 2.0).notified
    assert stage.at(begun + HOUR, alert(T0 + begun + HOUR, "h0", 3.0, since=T0 + begun)) == []
    (grown,) = stage.at(begun + 2 * HOUR, alert(T0 + begun + 2 * HOUR, "h0", 4.0, since=T0 + begun))
    assert grown.notified


def test_a_night_without_it_is_forgiven_and_more_are_not() -> None:
    stage = Stage(1)
    nightly(stage, range(4))
    assert nightly(stage, [5]) == [False]
    assert nightly(stage, [8]) == [True]


def test_what_comes_each_week_is_usual_too() -> None:
    stage = Stage(1)
    assert nightly(stage, range(4), period=7 * DAY) == [True, True, False, False]


def test_what_is_usual_does_not_raise_the_level() -> None:
    quiet, busy = Stage(1), Stage(1)
    for night in range(12):
        for hour in range(3):
            busy.fire(4 * DAY + night * DAY + hour * HOUR, "h0", 5.0)
    for stage in (quiet, busy):
        stage.at(40 * DAY)
    assert busy.budget.level() < quiet.budget.level() + 1.0


def test_times_are_remembered_within_bounds_and_forgotten() -> None:
    stage = Stage(1)
    for n in range(100):
        stage.fire(4 * DAY + n * HOUR, "h0", 1.0)
    (times,) = stage.budget._memory.came.values()
    assert len(times) == 64
    stage.at(40 * DAY)
    assert not stage.budget._memory.came


def test_a_group_that_grows_notifies_again_but_not_at_once() -> None:
    stage = Stage(1)
    strengths = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    times = [0, 1, 4, 6, 7, 12]
    said = [
        stage.fire(4 * DAY + minute * MINUTE, f"h{n}", strength).notified
        for n, (minute, strength) in enumerate(zip(times, strengths, strict=True))
    ]
    assert said == [True, False, False, True, False, True]


def test_resolved_alerts_carry_the_decision_of_their_firing() -> None:
    stage = Stage(100)
    firing = stage.fire(MINUTE, "h0", 2.0)
    ignored = stage.fire(MINUTE, "h1", 0.1)
    ends = T0 + 30 * MINUTE
    one = alert(ends, "h0", 2.0, since=firing.starts_unix_nano, ends=ends)
    two = alert(ends, "h1", 0.1, since=ignored.starts_unix_nano, ends=ends)
    decided = stage.at(30 * MINUTE, one, two)
    assert [(a.notified, a.group) for a in decided] == [(True, firing.group), (False, firing.group)]
    unknown = stage.at(40 * MINUTE, alert(T0 + 40 * MINUTE, "h9", ends=T0 + 40 * MINUTE))
    assert notified(unknown) == [False]


def test_an_episode_that_grows_notifies_once_if_it_did_not_before() -> None:
    stage = Stage(100)
    since = T0 + MINUTE
    assert stage.fire(MINUTE, "h0", 0.1).notified is False
    assert stage.at(2 * MINUTE, alert(T0 + 2 * MINUTE, "h0", 0.3, since=since)) == [], "nothing new to say"
    (grown,) = stage.at(3 * MINUTE, alert(T0 + 3 * MINUTE, "h0", 2.0, since=since))
    assert grown.notified
    assert stage.at(4 * MINUTE, alert(T0 + 4 * MINUTE, "h0", 4.0, since=since)) == [], "once an episode"
    end = T0 + 5 * MINUTE
    (closed,) = stage.at(5 * MINUTE, alert(end, "h0", 4.0, since=since, ends=end))
    assert (closed.notified, closed.group) == (True, grown.group)


def test_a_users_limit_always_notifies() -> None:
    stage = Stage(1000)
    said = [stage.fire(n * MINUTE, "h0", 0.0, kind=AlertKind.THRESHOLD).notified for n in range(1, 30)]
    assert all(said)
    assert stage.budget.achieved().environment == 0.0, "and costs no budget"


def test_a_burst_of_silences_is_told_three_times() -> None:
    stage = Stage(10)
    said = [stage.fire(MINUTE + n * SECOND, f"h{n}", 0.0, kind=AlertKind.SILENCE) for n in range(6)]
    assert notified(said) == [True] * 3 + [False] * 3
    assert len({one.group for one in said}) == 1
    assert stage.fire(30 * MINUTE, "h9", 0.0, kind=AlertKind.SILENCE).notified
    stage = Stage(10, notify_silence=False)
    assert not stage.fire(MINUTE, "h0", 0.0, kind=AlertKind.SILENCE).notified


@pytest.mark.parametrize("kind", [ControlKind.SILENCE, ControlKind.MAINTENANCE])
def test_a_silence_holds_for_what_it_matches_while_it_lasts(kind: ControlKind) -> None:
    stage = Stage(5)
    control = Control(kind, "s-1", T0 + 5 * MINUTE, T0 + HOUR, {"host.name": "h1"})
    stage.budget.process(Columns(controls=(control,)))
    assert stage.fire(MINUTE, "h1", 1.0).notified
    held = stage.fire(30 * MINUTE, "h1", 5.0)
    assert (held.notified, dict(held.annotations)["silenced"]) == (False, "s-1")
    end = T0 + 40 * MINUTE
    (ended,) = stage.at(40 * MINUTE, alert(end, "h1", 5.0, since=held.starts_unix_nano, ends=end))
    assert dict(ended.annotations)["silenced"] == "s-1"
    other = stage.fire(45 * MINUTE, "h2", 1.0)
    assert other.notified
    assert "silenced" not in dict(other.annotations)
    assert stage.fire(HOUR + MINUTE, "h1", 1.0).notified
    limit = stage.budget
    limit.process(Columns(controls=(Control(ControlKind.LABEL, "l-1", 0, 0, {}),)))
    assert stage.fire(2 * HOUR, "h1", 1.0).notified, "labels are not silences"


def test_a_silence_can_be_ended_early() -> None:
    stage = Stage(1)
    stage.budget.process(Columns(controls=(Control(ControlKind.SILENCE, "s", T0),)))
    assert not stage.fire(MINUTE, "h0", 1.0).notified
    stage.budget.process(Columns(controls=(Control(ControlKind.SILENCE, "s", T0, T0 + 2 * MINUTE),)))
    assert stage.fire(3 * MINUTE, "h0", 1.0).notified


def test_late_alerts_are_passed_on_unannounced_and_counted() -> None:
    stage = Stage(1)
    stage.at(HOUR)
    (late,) = stage.at(HOUR + MINUTE, alert(T0 + MINUTE, "h0", 3.0))
    assert late.notified is False
    assert stage.budget.late_alerts == 1
    assert stage.fire(HOUR + 2 * MINUTE, "h0", 0.1).notified
    assert stage.budget.late_alerts == 1


def test_achieved_counts_notifications_over_days_with_rows() -> None:
    stage = Stage(2)
    assert math.isnan(stage.budget.achieved().environment)
    for day in range(4):
        stage.fire(day * (DAY + HOUR) + MINUTE, "h0", 1.0)
        stage.fire(day * (DAY + HOUR) + 2 * MINUTE, "h1", 1.0)
    achieved = stage.budget.achieved()
    assert (achieved.environment, achieved.entity) == (1.0, 1.0)
    assert achieved.environment_ratio == 0.5
    assert achieved.entity_ratio == pytest.approx(5.0)
    stage.day = 60
    stage.at(60 * DAY + HOUR)
    assert stage.budget.achieved().environment == 0.0, "the last 30 days only"


def test_the_end_of_time_is_a_watermark_like_any_other() -> None:
    stage = Stage(1)
    stage.live(0)
    stage.budget.process(Columns(alerts=(alert(T0 + MINUTE, "h0"),)))
    assert notified(stage.budget.on_watermark(np.iinfo(np.int64).max).alerts) == [True]
    assert stage.budget.achieved().environment == 1.0


def busy(rng: np.random.Generator, entities: int, days: int) -> tuple[list[Alert], list[Presence]]:
    """Alerts of quiet entities at .2 a day each, as strong as the bar's own tail makes them, with their ends."""
    alerts = []
    for n in range(entities):
        for start in np.sort(rng.uniform(0, days, rng.poisson(0.2 * days))).tolist():
            at = T0 + int(start * DAY)
            strength = 2 * math.log(1 + rng.exponential() / math.log(7200))
            end = at + int(rng.uniform(1, 60)) * MINUTE
            alerts += [alert(at, f"h{n}", strength), alert(end, f"h{n}", strength, since=at, ends=end)]
    presence = [
        Presence(f"h{n}", (T0 + day * DAY) // DAY, T0 + day * DAY) for n in range(entities) for day in range(days)
    ]
    return alerts, presence


def run(alerts: list[Alert], presence: list[Presence], edges: list[int], restart: bool = False) -> list[Alert]:
    budget = Budget(BudgetOptions(), "prod")
    out: list[Alert] = []
    alerts, presence = sorted(alerts, key=order), sorted(presence, key=lambda one: one.decided_unix_nano)
    rng = np.random.default_rng(1)
    for low, high in pairwise([T0 - DAY, *edges, T0 + 100 * DAY]):
        part = [one for one in alerts if low < one.decided_unix_nano <= high]
        rng.shuffle(part)
        budget.process(
            Columns(alerts=tuple(part), presence=tuple(one for one in presence if low < one.decided_unix_nano <= high))
        )
        if restart:
            saved = unpack(pack(budget.state()))
            budget = Budget(BudgetOptions(), "prod")
            budget.load(saved)
        out += budget.on_watermark(high).alerts
    return out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_hundred_quiet_entities_stay_within_the_budget(seed: int) -> None:
    alerts, presence = busy(np.random.default_rng(seed), 100, 40)
    out = run(alerts, presence, [])
    fired = [one for one in out if one.status == "firing" and one.starts_unix_nano >= T0 + 10 * DAY]
    a_day = sum(one.notified or False for one in fired) / 30
    assert len(fired) / 30 > 15
    assert 0.5 < a_day <= 1.5 * 2.0


def test_when_the_watermark_comes_and_restarts_do_not_matter() -> None:
    alerts, presence = busy(np.random.default_rng(7), 20, 20)
    whole = run(alerts, presence, [])
    edges = sorted(set((T0 + np.random.default_rng(8).uniform(0, 20, 60) * DAY).astype(np.int64).tolist()))
    assert run(alerts, presence, edges, restart=True) == whole
    assert {True, False} == {one.notified for one in whole}


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.incident.budget.MOST_EPISODES", 3)
    monkeypatch.setattr("foreshock.incident.budget.MOST_CONTROLS", 2)
    stage = Stage(1)
    fired = [stage.fire(n * MINUTE, f"h{n}", 0.0, kind=AlertKind.THRESHOLD) for n in range(1, 6)]
    ends = [
        alert(T0 + 9 * MINUTE, f"h{n}", 0.0, AlertKind.THRESHOLD, one.starts_unix_nano, T0 + 9 * MINUTE)
        for n, one in enumerate(fired, 1)
    ]
    assert notified(stage.at(9 * MINUTE, *ends)) == [False, False, True, True, True]
    silences = [Control(ControlKind.SILENCE, f"s{n}", T0, 0, {"host.name": f"h{n}"}) for n in range(3)]
    stage.budget.process(Columns(controls=tuple(silences)))
    assert [stage.fire((10 + n) * MINUTE, f"h{n}", 5.0 + n).notified for n in range(3)] == [True, False, False]


def test_the_order_is_total() -> None:
    one = alert(T0, "a", 1.0)
    same = [one, alert(T0, "b", 1.0), alert(T0, "a", 2.0, since=T0 - 1), alert(T0, "a", 1.0, ends=T0),
            alert(T0, "a", 1.5), alert(T0 - 1, "z", 0.0)]  # fmt: skip
    keys = [order(entry) for entry in same]
    assert len(set(keys)) == len(keys)
    ranked = sorted(same, key=order)
    assert ranked[0].decided_unix_nano == T0 - 1
    assert ranked.index(same[0]) < ranked.index(same[3]), "firing before resolved"


def test_quantile_of_weights() -> None:
    assert quantile([(0.0, 0.66), (5.0, 0.34)], 0.67) == 5.0
    assert quantile([(0.0, 0.68), (5.0, 0.32)], 0.67) == 0.0
