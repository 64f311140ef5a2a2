"""Where a control record takes effect, and what becomes of an interval that is told again."""

from __future__ import annotations

from typing import Any

import pytest

from foreshock.runtime.stamp import MOST_TOLD, Told, ended, stamped
from foreshock.types import Control, ControlKind

NOW = 1000
KINDS = (ControlKind.MAINTENANCE, ControlKind.DEPLOY, ControlKind.SILENCE)


def told(kind: ControlKind = ControlKind.MAINTENANCE, since: int = 500, until: int = 2000, **more: Any) -> Control:
    return Control(kind, "m", since, until, **more)


def span(control: Control) -> tuple[int, int]:
    return control.effective_unix_nano, control.until_unix_nano


def test_what_is_new_takes_effect_where_nothing_is_decided() -> None:
    silence, label = Control(ControlKind.SILENCE, "s", 5), Control(ControlKind.LABEL, "l", 5, label="true")
    assert stamped(silence, None, 9) == Control(ControlKind.SILENCE, "s", 9)
    assert stamped(silence, None, 3) == silence
    assert stamped(label, None, 9) == label
    for kind in (ControlKind.SILENCE, ControlKind.EXPECTED, ControlKind.FORGET):
        assert span(stamped(told(kind), None, NOW)) == (NOW, 2000)
        assert span(stamped(told(kind, 500, 700), None, NOW)) == (NOW, NOW), "over before it could begin"
        assert span(stamped(told(kind, 1500, 0), None, NOW)) == (1500, 0)
    for kind in (ControlKind.MAINTENANCE, ControlKind.DEPLOY, ControlKind.LABEL):
        assert span(stamped(told(kind, 500, 700), None, NOW)) == (500, 700), "it may speak of the past"


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_has_begun_keeps_its_beginning_and_ends_behind_the_frontier(kind: ControlKind) -> None:
    before = told(kind)
    assert span(stamped(told(kind, 900, 950), before, NOW)) == (500, NOW + 1), "what was decided stays decided"
    assert span(stamped(told(kind, 900, 1200), before, NOW)) == (500, 1200)
    assert span(stamped(told(kind, 900, 5000), before, NOW)) == (500, 5000)
    assert span(stamped(told(kind, 900, 0), before, NOW)) == (500, 0)
    assert span(stamped(told(kind, 900, 1200), told(kind, 500, 0), NOW)) == (500, 1200), "one with an open end"


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_to_come_can_be_moved_and_withdrawn(kind: ControlKind) -> None:
    before = told(kind, 1500)
    assert span(stamped(told(kind, 1700, 2500), before, NOW)) == (1700, 2500)
    assert span(stamped(told(kind, 100, 2500), before, NOW)) == (NOW, 2500), "not into what is decided"
    withdrawn = stamped(ended(before, NOW, ""), before, NOW)
    assert span(withdrawn) == (1500, 1500)
    assert not any(withdrawn.covers(time) for time in (NOW, 1499, 1500, 1501, 9999))
    assert stamped(told(kind, 1600, 2500), withdrawn, NOW) == withdrawn, "it does not come back"


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_over_stays_as_it_was(kind: ControlKind) -> None:
    over = told(kind, 500, 900, comment="disks")
    assert stamped(told(kind, 500, 5000), over, NOW) == over
    assert stamped(ended(over, NOW, "ann"), over, NOW) == over


def test_another_kind_of_the_same_id_is_no_change_of_it() -> None:
    assert span(stamped(told(ControlKind.SILENCE), told(ControlKind.DEPLOY), NOW)) == (NOW, 2000)


def test_to_end_is_to_ask_for_now_in_whose_name() -> None:
    assert ended(told(author="bo"), NOW, "ann") == told(until=NOW, author="ann")
    assert ended(told(author="bo"), NOW, "") == told(until=NOW, author="bo")
    assert span(ended(told(since=1500), NOW, "")) == (1500, 1500)


def test_the_last_record_of_an_id_is_known_at_once_and_the_store_knows_the_others() -> None:
    known = Told({"old": told(comment="stored")}.get)
    assert known.of("none") is None
    assert known.of("old") == told(comment="stored")
    known.note(Control(ControlKind.SILENCE, "old", 7))
    assert known.of("old") == Control(ControlKind.SILENCE, "old", 7)
    for n in range(MOST_TOLD):
        known.note(Control(ControlKind.SILENCE, f"n{n}", n))
    assert known.of("old") == told(comment="stored"), "what is long ago is in the store"
