"""`static_threshold`: limits in units, time to hold, levels that clear, and the alerts they raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from foreshock.config import Config
from foreshock.detect.bank import Bank
from foreshock.detect.static_threshold import StaticThreshold
from foreshock.errors import ConfigError
from foreshock.incident.alarm import Alarm, AlarmOptions
from foreshock.incident.budget import BudgetOptions
from foreshock.plugins import build_detectors
from foreshock.state import Registry, pack, unpack
from foreshock.testing import check_detector, check_names
from foreshock.testing.frames import DAY, MINUTE, START, make
from foreshock.types import AlertKind, Columns, Frame, Rows, Series, Status, labels
from tests.unit.standard_twins import ThresholdTwin

HOST = labels({"host.name": "a"})
CHECKS = [name for name in check_names() if name != "constants"]
"""All but one: that a change of a constant scores higher is no rule of limits, only of one with an upper bound."""


def series(values: Any, start: int = START, step: int = MINUTE, key: int = 0) -> Frame:
    return make(np.full(len(values), key), start + step * np.arange(len(values)), values)


def breaches(detector: StaticThreshold, frame: Frame) -> list[bool]:
    out: list[bool] = (detector.step(frame).score >= 1.0).tolist()
    return out


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config",
    [
        {"above": 12},
        {"above": 20, "below": -3, "for": "3m"},
        {"below": 11.5, "clear": 12.5},
        {"above": 21, "below": 9.5, "clear": [10.0, 20.5], "for": 120, "expiry_seconds": "1d"},
        {"above": 0},
    ],
    ids=str,
)
def test_it_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(StaticThreshold, config=config, univariate=True, twin=ThresholdTwin, only=CHECKS, seed=seed)


def test_an_upper_bound_keeps_the_whole_contract() -> None:
    check_detector(StaticThreshold, config={"above": 5}, univariate=True, twin=ThresholdTwin)


def test_a_breach_is_what_lies_beyond_not_what_lies_at_it() -> None:
    detector = StaticThreshold({"above": 90, "below": 10})
    values = [50.0, 90.0, np.nextafter(90.0, 100), 180.0, 10.0, np.nextafter(10.0, 0), 0.0, -10.0, 50.0]
    seen = detector.step(series(values))
    assert (seen.status == Status.SCORED).all()
    assert (seen.score >= 1).tolist() == [False, False, True, True, False, True, True, True, False]
    np.testing.assert_allclose(seen.score[[3, 6, 7]], [2.0, 2.0, 3.0])


def test_a_bound_of_nothing_counts_as_one() -> None:
    np.testing.assert_allclose(StaticThreshold({"above": 0}).step(series([-0.5, 0.0, 3.0])).score, [0.5, 1.0, 4.0])
    assert StaticThreshold({"above": 0}).step(series([0.0])).score[0] < 1.0


def test_a_breach_must_hold() -> None:
    detector = StaticThreshold({"above": 90, "for": "3m"})
    over = [95.0, 95.0, 95.0, 50.0, 95.0, 95.0, 95.0, 95.0, 95.0, 50.0]
    assert breaches(detector, series(over)) == [False] * 7 + [True, True, False]


def test_it_goes_by_event_time_not_by_rows() -> None:
    for step, first in ((1, 180), (60, 3), (3600, 1)):
        seen = breaches(StaticThreshold({"above": 90, "for": "3m"}), series(np.full(200, 95.0), step=step * 10**9))
        assert seen.index(True) == first


def test_a_gap_is_not_time_that_a_breach_held() -> None:
    frame = series([50.0] * 10 + [95.0] * 10)
    frame.time_unix_nano[11:] += 60 * MINUTE
    seen = breaches(StaticThreshold({"above": 90, "for": "3m"}), frame)
    assert seen.index(True) == 14, "it waits three minutes from the other side of the gap"
    firing = StaticThreshold({"above": 90})
    assert breaches(firing, frame)[10:] == [True] * 10, "what does not have to hold does not wait"


def test_what_is_missing_does_not_end_a_breach_that_waits() -> None:
    frame = series([95.0, np.nan, 95.0, 95.0])
    seen = StaticThreshold({"above": 90, "for": "3m"}).step(frame)
    assert seen.status.tolist() == [Status.SCORED, Status.MISSING, Status.SCORED, Status.SCORED]
    assert seen.score[3] >= 1.0


def test_a_breach_lasts_until_it_clears() -> None:
    detector = StaticThreshold({"above": 90, "clear": 80})
    seen = detector.step(series([85.0, 95.0, 85.0, 80.5, 80.0, 85.0]))
    assert (seen.score >= 1).tolist() == [False, True, True, True, False, False]
    assert seen.score[2] == 1.0
    both = StaticThreshold({"above": 90, "below": 10, "clear": [20, 80]})
    assert breaches(both, series([5.0, 15.0, 20.0, 15.0, 95.0, 85.0, 15.0, 50.0])) == [
        True, True, False, False, True, True, True, False,
    ]  # fmt: skip


def test_units_are_those_of_each_series() -> None:
    options = {
        "above": "2 GiB",
        "limits": [
            {"feature": "system.cpu.*", "above": "90 %", "clear": "80 %"},
            {"feature": 'latency{route="/slow"}', "above": "2 s"},
            {"feature": "latency", "above": "250 ms", "for": "1m"},
            {"feature": "plain", "above": 7},
        ],
    }
    met = [
        Series("system.cpu.utilization", HOST, unit="1"),
        Series("system.cpu.percent", HOST, unit="%"),
        Series("latency", HOST, labels({"route": "/slow"}), unit="ms"),
        Series("latency", HOST, unit="s"),
        Series("plain", HOST, unit="By"),
        Series("memory", HOST, unit="By"),
        Series("temperature", HOST, unit="Cel"),
        Series("system.cpu.time", HOST, unit="s"),
    ]
    detector = StaticThreshold(options)
    keys = np.arange(8, dtype=np.int32)
    detector.meet(keys, met)
    rows = detector.table.rows[:8]
    np.testing.assert_allclose(rows["high"], [0.9, 90, 2000, 0.25, 7, 2.0**31, np.nan, np.nan])
    np.testing.assert_allclose(rows["clear_high"][:3], [0.8, 80, 2000])
    assert rows["hold"].tolist() == [0, 0, 0, MINUTE, 0, 0, 0, 0]
    status = detector.step(make(keys, START, np.ones(8))).status
    assert status.tolist() == [Status.SCORED] * 6 + [Status.EXCLUDED] * 2
    detector.forget(keys)
    assert detector.step(make(keys, START, np.ones(8))).status.tolist() == status.tolist()
    again = StaticThreshold.restore(options, unpack(pack(detector.state())))
    assert again.step(make(keys, START, np.full(8, 1e12))).score[[0, 1, 2, 4, 5]].min() > 1.0


def test_without_a_limit_for_all_others_are_not_judged() -> None:
    detector = StaticThreshold({"limits": [{"feature": "cpu", "above": 1}]})
    assert detector.step(make([0, 9], START, [5.0, 5.0])).status.tolist() == [Status.EXCLUDED] * 2
    detector.meet(np.array([9], np.int32), [Series("cpu", HOST)])
    assert detector.score(make([0, 9, 12], START, [5.0] * 3)).status.tolist() == [4, 0, 4]


def test_bands_are_the_bounds() -> None:
    detector = StaticThreshold({"above": 90})
    detector.bands = True
    seen = detector.step(series([5.0]))
    assert seen.expected is not None
    assert seen.low is not None
    assert seen.high is not None
    assert np.isnan([seen.expected[0], seen.low[0]]).all()
    assert seen.high[0] == 90.0


def test_a_limit_alerts_whatever_the_budget_and_says_what_it_was() -> None:
    registry = Registry()
    registry.intern(Series("system.cpu.utilization", HOST, unit="1"))
    registry.intern(Series("load", HOST, unit="1"))
    limits = [{"feature": "system.cpu.*", "above": "90 %", "clear": "80 %", "for": "2m"}]
    bank = Bank(registry, {"limit": StaticThreshold({"limits": limits})}, 1e-3)
    alarm = Alarm(registry, AlarmOptions(), BudgetOptions(), thresholds=frozenset(["limit"]), primary=frozenset())
    n = 40
    cpu = np.full(n, 0.5)
    cpu[10:12], cpu[20:26], cpu[26:30] = 0.95, 0.95, 0.85
    rows = Rows(
        np.zeros(n, np.int32), START + MINUTE * np.arange(n), START + MINUTE * np.arange(1, n + 1),
        np.ones(n, np.bool_),
        np.zeros(n, np.uint8), 2 * np.arange(n + 1), np.tile(np.array([0, 1], np.int32), n),
        np.stack([cpu, np.full(n, 1e9)], 1).ravel(),
    )  # fmt: skip
    out = alarm.process(bank.process(Columns(rows=rows)))
    verdict = out.verdicts[0]
    assert np.flatnonzero(verdict.anomalous[::2]).tolist() == list(range(22, 30)), "two minutes later, until it clears"
    assert (verdict.status[1::2] == Status.EXCLUDED).all()
    assert [alert.kind for alert in out.alerts] == [AlertKind.THRESHOLD] * 2
    assert [alert.ends_unix_nano is None for alert in out.alerts] == [True, False]
    assert "0.95, over its limit of 0.9" in dict(out.alerts[0].annotations)["summary"]


def test_it_is_read_from_a_config() -> None:
    part = {"static_threshold": {"limits": [{"feature": "cpu*", "above": "90 %", "for": "1m"}]}}
    config = Config.model_validate({"detectors": [part]})
    detector = build_detectors(config.detectors)["static_threshold"]
    assert isinstance(detector, StaticThreshold)
    assert detector.options.limits[0].hold == 60.0
    assert detector.options.limits[0].above == "90 %"
    options = detector.options.model_dump()
    assert StaticThreshold.restore(options, detector.state()).options == detector.options
    assert b'"for":60.0' in config.resolved().replace(b" ", b"")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "static_threshold has no limit: give it `above`, `below` or `limits`"),
        ({"above": 5, "below": 9}, "below (9.0) must be less than above (5.0)"),
        ({"above": "90 %", "below": "5 s"}, "5 s, 90 % do not measure the same"),
        ({"above": "90 %", "clear": 0.8}, "90 %, 0.8 do not measure the same"),
        ({"above": 5, "clear": 6}, "clear must lie within the bounds"),
        ({"above": 5, "below": 1, "clear": 3}, "clear needs one level for each bound: 1 for 2"),
        ({"above": 5, "below": 1, "clear": [4, 2]}, "clear must lie within the bounds"),
        ({"clear": 3}, "clear needs one level for each bound: 1 for 0"),
        ({"above": "90 parsecs"}, "above: '90 parsecs' is in no known unit"),
        ({"limits": [{"feature": "cpu"}]}, "limits.0: a limit needs `above` or `below`"),
        ({"limits": [{"feature": "cpu", "above": "x"}]}, "limits.0.above: 'x' is not a number with a unit"),
        ({"above": 5, "for": -1}, "for: Input should be greater than or equal to 0"),
        ({"abov": 5}, "abov: unknown option; did you mean 'above'?"),
        ({"above": 5, "warm_up_rows": 5}, "warm_up_rows: unknown option"),
    ],
)
def test_wrong_options_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StaticThreshold(config)
    assert message in str(caught.value)


def test_a_gap_longer_than_expiry_starts_afresh() -> None:
    detector = StaticThreshold({"above": 90, "clear": 80, "expiry_seconds": "1h"})
    assert breaches(detector, series([95.0, 85.0])) == [True, True]
    assert breaches(detector, series([85.0], start=START + DAY)) == [False]
