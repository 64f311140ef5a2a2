"""The event channel of `deviation`: against its twin, what it finds that alarms do not, and that it is rare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.deviation import Deviation
from foreshock.errors import PermanentError
from foreshock.state import unpack
from foreshock.testing import check_detector, frames
from foreshock.testing.frames import DAY, START, make, packed
from foreshock.types import Frame, Scores
from tests.unit.deviation_twin import DeviationTwin
from tests.unit.event_twin import EventTwin

SECOND, HOUR = 10**9, 3600 * 10**9
MIDNIGHT = START // DAY * DAY
EVENTS: dict[str, Any] = {"tier": "events"}


def series(values: NDArray[np.float64], step: float = 300.0) -> Frame:
    time = MIDNIGHT + (np.arange(len(values)) * (step * SECOND)).astype(np.int64)
    return make(np.zeros(len(values)), time, values)


def daily(days: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A day with a morning and an evening, a row every five minutes."""
    hour = np.arange(days * 288) / 12 % 24
    shape = 20 * np.exp(-(((hour - 9) / 2) ** 2)) + 12 * np.exp(-(((hour - 19) / 1.5) ** 2))
    return np.asarray(50 + shape + rng.normal(size=days * 288), np.float64)


def events(frame: Frame, config: dict[str, Any] | None = None) -> NDArray[np.float64]:
    event = Deviation(config or EVENTS).step(frame).event
    assert event is not None
    return event


@pytest.mark.parametrize("step", [300.0, 3600.0, 47.0])
def test_events_are_those_of_the_twin(step: float) -> None:
    rng = np.random.default_rng(0)
    n = {300.0: 4000, 3600.0: 1500, 47.0: 6000}[step]
    time = MIDNIGHT + np.cumsum(rng.uniform(0.6, 1.4, n) * step * SECOND).astype(np.int64)
    value = 10 * np.sin(2 * np.pi * time / DAY) + np.cumsum(rng.normal(0, 0.05, n)) + rng.normal(size=n)
    value[n // 2 : n // 2 + n // 20] += 12.0
    value[rng.random(n) < 0.01] = np.nan
    frame = make(np.zeros(n), time, value)
    detector = Deviation(EVENTS)
    seen = detector.step(frame)
    np.testing.assert_array_equal(seen.event, EventTwin().step(time, value, seen.score, seen.status))
    assert np.nansum(np.asarray(seen.event) > 0) >= 1


def test_a_full_memory_lets_the_one_go_that_was_longest_not_met() -> None:
    rng = np.random.default_rng(1)
    n = 4_000
    value = np.cumsum(rng.normal(size=n)) + 5 * rng.normal(size=n)
    frame = series(value, 900.0)
    detector = Deviation(EVENTS)
    seen = detector.step(frame)
    assert detector.state().tables["shapes"].rows[0]["used"].max() == 256
    np.testing.assert_array_equal(seen.event, EventTwin().step(frame.time_unix_nano, value, seen.score, seen.status))


def test_the_tier_keeps_the_contract_and_its_bytes() -> None:
    check_detector(Deviation, config=EVENTS, univariate=True, twin=DeviationTwin)
    assert Deviation(EVENTS).info.bytes_per_slot <= 40_000


def test_however_rows_are_cut_and_restored_events_are_the_same_bit_for_bit() -> None:
    rng = np.random.default_rng(2)
    frame = frames.hard(rng, 6000, 3)
    whole, parts = Deviation(EVENTS), Deviation(EVENTS)
    wanted = whole.step(frame).event
    seen = []
    for piece in frames.cuts(rng, frame):
        scores: Scores = parts.step(piece)
        assert scores.event is not None
        seen.append(scores.event)
        if len(seen) % 50 == 0:
            parts = Deviation.restore(EVENTS, unpack(packed(parts.state())))
    np.testing.assert_array_equal(np.concatenate(seen), wanted)
    assert packed(parts.state()) == packed(whole.state())


def test_a_shape_not_seen_before_is_an_event_though_no_value_is_unusual() -> None:
    rng = np.random.default_rng(3)
    value = daily(21, rng)
    at = 18 * 288
    value[at + 96 : at + 264] = 50 + 10 + rng.normal(size=168)
    event = events(series(value))
    day = np.flatnonzero(event > 0) / 288
    assert ((day > 18.3) & (day < 19.5)).any()
    assert (day[day > 6] < 18.3).sum() <= 1


def test_a_quiet_month_has_few_events() -> None:
    rng = np.random.default_rng(4)
    found = [int((events(series(daily(30, rng)))[5 * 288 :] > 0).sum()) for _ in range(6)]
    assert np.mean(found) / 25 <= 0.1


def test_what_follows_an_event_is_no_news() -> None:
    rng = np.random.default_rng(5)
    value = daily(20, rng)
    value[15 * 288 :] += 60
    event = events(series(value))
    after = np.flatnonzero(event[15 * 288 :] > 0)
    assert after[0] <= 3
    assert len(after) <= 4
    assert (event[15 * 288 + 1 :][event[15 * 288 + 1 :] > 0] < 1).all()


def test_rows_that_are_not_learnt_are_no_events_and_leave_no_trace() -> None:
    rng = np.random.default_rng(6)
    value = daily(10, rng)
    frame = series(value)
    excluded = series(np.append(value, 500.0))
    detector = Deviation(EVENTS)
    detector.step(frame)
    before = packed(detector.state())
    row = excluded.take(np.array([len(value)]))
    event = detector.step(replace(row, learn=np.zeros(1, np.bool_))).event
    assert event is not None
    assert event[0] == 0.0
    assert packed(detector.state()) == before


def test_other_tiers_give_no_events_and_their_state_holds_no_shapes() -> None:
    detector = Deviation({})
    assert detector.step(series(np.zeros(30))).event is None
    with pytest.raises(PermanentError, match="holds no shapes: it was learnt in another tier"):
        Deviation.restore(EVENTS, detector.state())
    assert Deviation(EVENTS).score(series(np.zeros(3))).event is None


def test_a_forgotten_key_has_no_shapes() -> None:
    detector, new = Deviation(EVENTS), Deviation(EVENTS)
    later = series(daily(4, np.random.default_rng(7)))
    detector.step(series(daily(4, np.random.default_rng(8))))
    detector.forget(np.zeros(1, np.int32))
    np.testing.assert_array_equal(detector.step(later).event, new.step(later).event)


def test_a_rise_that_goes_on_is_told_when_it_is_an_event() -> None:
    rng = np.random.default_rng(9)
    value = daily(20, rng)
    at = 15 * 288
    value[at : at + 30] += np.minimum(np.arange(1, 31) * 3.0, 60.0)
    event = events(series(value))
    assert (event[at : at + 30] > 0).any()


@pytest.mark.parametrize(("rows", "size", "lasts"), [(1, 20.0, False), (12, 5.0, True)])
def test_an_hour_of_unusual_rows_lasts_and_a_single_one_does_not(rows: int, size: float, lasts: bool) -> None:
    rng = np.random.default_rng(10)
    value = daily(10, rng)[: 9 * 288 + 30]
    value[-rows:] += size * rng.choice([-1.0, 1.0], rows)
    detector = Deviation(EVENTS)
    detector.step(series(value))
    row = detector.state().tables["shapes"].rows[0]
    above = (row["now"] - row["mean"]) / np.sqrt(row["variance"])
    assert (above > 1.5) == lasts


def test_the_more_often_it_happens_the_less_it_is_an_event() -> None:
    rng = np.random.default_rng(11)
    value = daily(90, rng)
    for at in np.arange(10 * 288, len(value), 288) + rng.integers(0, 200, 80):
        value[at : at + 3] += rng.uniform(15, 25)
    day = np.flatnonzero(events(series(value)) > 0) / 288
    assert ((day > 10) & (day < 50)).sum() >= 2 * (day >= 50).sum()
    assert (day > 10).any()
