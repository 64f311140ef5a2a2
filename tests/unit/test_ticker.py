"""Watermarks of sources."""

from __future__ import annotations

import random

from foreshock.runtime.ticker import BEHIND_SECONDS, IDLE_SECONDS, LEAP_SECONDS, Ticker

S = 1_000_000_000
NOW = 1_700_000_000 * S


def ticker(**lateness: float) -> Ticker:
    return Ticker({name: int(seconds * S) for name, seconds in lateness.items()}, 5 * S)


def test_nothing_is_said_before_anything_came() -> None:
    assert ticker().tick(NOW) is None


def test_a_watermark_is_the_largest_time_less_the_lateness() -> None:
    one = ticker(host=0, shop=60)
    one.saw("host", NOW, NOW)
    assert one.tick(NOW) == NOW
    two = ticker(host=0, shop=60)
    two.saw("shop", NOW, NOW)
    two.saw("shop", NOW - 100 * S, NOW)
    assert two.tick(NOW) == NOW - 60 * S
    three = ticker()
    three.saw("unnamed", NOW, NOW)
    assert three.tick(NOW) == NOW - 5 * S
    assert three.longest_lateness() == 5 * S
    assert one.longest_lateness() == 60 * S
    assert ticker().longest_lateness() == 0


def test_the_slowest_source_holds_the_others_back_until_it_is_too_far_behind() -> None:
    one = ticker(a=0, b=0)
    one.saw("a", NOW, NOW)
    one.saw("b", NOW - int(BEHIND_SECONDS) * S, NOW)
    assert one.tick(NOW) == NOW - int(BEHIND_SECONDS) * S
    one.saw("a", NOW + S, NOW + S)
    assert one.tick(NOW + S) == NOW + S


def test_a_source_that_is_catching_up_is_waited_for() -> None:
    past = NOW - 3600 * S
    fresh = ticker(host=0, shop=0)
    fresh.saw("shop", past, NOW)
    fresh.saw("shop", past + 600 * S, NOW + S)
    fresh.saw("host", NOW + S, NOW + S)
    assert fresh.tick(NOW + S) == past + 600 * S
    fresh.saw("shop", NOW + 2 * S, NOW + 2 * S)
    fresh.saw("host", NOW + 3 * S, NOW + 3 * S)
    assert fresh.tick(NOW + 3 * S) == NOW + 2 * S


def test_a_source_that_never_arrives_is_not_waited_for() -> None:
    slow = ticker(host=0, old=0)
    old = NOW - 365 * 86400 * S
    slow.saw("old", old, NOW)
    slow.saw("old", old + 100 * S, NOW + S)
    slow.saw("host", NOW + S, NOW + S)
    assert slow.tick(NOW + S) == NOW + S
    long = ticker(host=0, shop=0)
    marks = []
    for k in range(130):  # fast enough on paper, and then it stands still
        long.saw("shop", NOW - 3600 * S + min(k, 2) * 600 * S, NOW + k * S)
        long.saw("host", NOW + k * S, NOW + k * S)
        marks.append(long.tick(NOW + k * S))
    assert marks[-1] == NOW + 129 * S


def test_it_rises_or_says_nothing() -> None:
    one = ticker(a=0)
    one.saw("a", NOW, NOW)
    assert one.tick(NOW) == NOW
    assert one.tick(NOW) is None
    one.saw("b", NOW - 20 * S, NOW)
    assert one.tick(NOW + S) is None
    assert one.watermark == NOW


def test_an_idle_source_moves_on_with_the_clock_at_its_own_offset() -> None:
    one = ticker(a=0)
    old = NOW - 365 * 86400 * S
    one.saw("a", old, NOW)
    marks = [one.tick(NOW + k * S) for k in range(1, 41)]
    idle = int(IDLE_SECONDS)
    assert marks[0] == old
    assert marks[1:idle] == [None] * (idle - 1)
    assert marks[idle:] == [old + k * S for k in range(1, 41 - idle)]
    assert one.silent_seconds() == {"a": 40.0}


def test_a_clock_set_back_neither_lowers_the_watermark_nor_stops_idleness() -> None:
    one = ticker(a=0)
    one.saw("a", NOW, NOW)
    for k in range(1, 21):
        one.tick(NOW + k * S)
    back = NOW - 3600 * S
    marks = [one.tick(back + k * S) for k in range(20)]
    assert one.watermark >= NOW
    assert [mark for mark in marks if mark is not None] == [NOW + k * S for k in range(1, 10)]


def test_a_clock_set_ahead_is_not_taken_for_an_hour_of_silence() -> None:
    one = ticker(a=0)
    one.saw("a", NOW, NOW)
    one.tick(NOW + S)
    assert one.tick(NOW + 3600 * S) is None
    assert one.silent_seconds()["a"] == 1 + LEAP_SECONDS
    one.saw("a", NOW + 3600 * S, NOW + 3600 * S)
    assert one.tick(NOW + 3601 * S) == NOW + 3600 * S


def test_it_never_falls_whatever_the_clock_and_the_sources_do() -> None:
    rng = random.Random(5)
    one = ticker(a=0, b=30)
    now, last = NOW, 0
    for _ in range(2000):
        now += rng.choice((S, S, S, 10 * S, 100 * S, -50 * S, -5000 * S))
        if rng.random() < 0.5:
            one.saw(rng.choice("abc"), now + rng.randint(-200, 60) * S, now)
        mark = one.tick(now)
        assert mark is None or mark > last
        last = mark or last
    assert last > NOW - 10**9 * S
