"""The environment task over Kafka, without Kafka: what it is told, and that it comes back the same."""

from __future__ import annotations

from typing import Any

from foreshock.adapters.kafka.dead import LARGEST
from foreshock.adapters.kafka.messages import FORWARD
from foreshock.adapters.kafka.topics import Layout
from foreshock.config import load
from foreshock.runtime.distributed_format import Word, decode_word, encode
from foreshock.runtime.distributed_tasks import EnvironmentTask, word_messages
from foreshock.runtime.task import decode_control, encode_json
from foreshock.types import Alert, AlertKind, Control, ControlKind, Presence, labels
from tests.unit.kafka_message import Message

SECOND = 1_000_000_000
START = 1_700_000_000
LAYOUT = Layout("f.", 2, {"events": 2})


def environment() -> EnvironmentTask:
    kafka = {"inputs": [{"topic": "events", "lateness": "5s"}]}
    return EnvironmentTask(load([], environ={}, overrides={"kafka": kafka}), LAYOUT, 60.0)


def come_to(one: EnvironmentTask, seconds: int) -> None:
    """Both keyed tasks say that they have come that far."""
    for task in range(2):
        word = encode(Word(task, 2, (START + seconds) * SECOND))
        offset = one.positions.get(one.lead, 0)
        one.take([Message(word, b"default", None, offset, START * 1000, LAYOUT.environment, 0)])


def tell(one: EnvironmentTask, since: int, until: int) -> Control:
    """A silence named `s`, as it was asked for, and as it is passed on."""
    asked = Control(ControlKind.SILENCE, "s", (START + since) * SECOND, (START + until) * SECOND, {"service.name": "a"})
    one.outbox.clear()
    offset = one.positions.get((LAYOUT.control, 0), 0)
    one.take([Message(encode_json(asked), None, None, offset, START * 1000, LAYOUT.control, 0)])
    sent: list[Any] = [out for out in one.outbox if out.topic == LAYOUT.keyed]
    assert [out.partition for out in sent] == [0, 1]
    assert all(dict(out.headers)[FORWARD] for out in sent)
    first, second = (decode_control(out.value) for out in sent)
    assert first == second
    return first


def interval(control: Control) -> tuple[int, int]:
    return control.effective_unix_nano // SECOND - START, control.until_unix_nano // SECOND - START


def test_a_silence_takes_effect_where_nothing_is_decided_and_ends_early_where_it_began() -> None:
    one = environment()
    come_to(one, 100)
    assert interval(tell(one, 50, 1000)) == (105, 1000), "nothing before the watermark and the lateness"
    come_to(one, 300)
    assert interval(tell(one, 50, 200)) == (105, 305), "what it did stays"
    come_to(one, 400)
    assert interval(tell(one, 50, 2000)) == (105, 305), "it is over"


def test_what_it_was_told_comes_back_with_its_state() -> None:
    one = environment()
    come_to(one, 100)
    tell(one, 50, 1000)
    saved = {name: state.frozen() for name, state in one.states().items()}
    again = environment()
    again.load(saved, one.config.resolved(), one.watermark, one.sources)
    assert again.watermark == one.watermark == (START + 100) * SECOND
    come_to(again, 300)
    assert interval(tell(again, 50, 200)) == (105, 305)


def large_word(number: int) -> Word:
    """What a task has to say when so many users come for the first time, each with an alert."""
    now = (START + 100) * SECOND
    users = [f"u-{i}" for i in range(number)]
    alerts = [
        Alert(labels({"alertname": "ForeshockAnomaly", "userId": user}), (), now, now, AlertKind.ANOMALY, 1.0)
        for user in users
    ]
    presence = [Presence(f'{{userId="{user}"}}', now // (86400 * SECOND), now) for user in users]
    return Word(0, 1, now + 5 * SECOND, alerts, presence)


def test_a_word_that_no_message_holds_is_said_in_several_and_decided_on_behind_the_last() -> None:
    word = large_word(20_000)
    pieces = word_messages(word, 7, LAYOUT, "default")
    assert len(encode(word)) > 3 * LARGEST
    assert max(len(one.value or b"") for one in pieces) <= LARGEST
    said = [decode_word(one.value or b"") for one in pieces]
    assert [one.watermark for one in said] == [7] * (len(said) - 1) + [word.watermark]
    assert [alert for one in said for alert in one.alerts] == word.alerts
    assert [presence for one in said for presence in one.presence] == word.presence
    assert [(one.task, one.of) for one in said] == [(0, 1)] * len(said)


def test_in_pieces_a_word_says_the_same() -> None:
    word, decided = large_word(4000), []
    whole = [encode(word)]
    pieces = [one.value or b"" for one in word_messages(large_word(4000), 0, LAYOUT, "default")]
    assert len(pieces) > 1
    for values in (whole, pieces):
        one = environment()
        for offset, value in enumerate(values):
            assert not one.outbox
            one.take([Message(value, b"default", None, offset, START * 1000, LAYOUT.environment, 0)])
        decided.append([out.value for out in one.outbox])
    assert decided[0] == decided[1]
    assert len(decided[0]) == 4000


def test_one_alert_larger_than_a_message_is_not_cut() -> None:
    word = large_word(1)
    long = Alert(word.alerts[0].labels, labels({"summary": "x" * LARGEST}), 1, 1, AlertKind.ANOMALY, 1.0)
    assert len(word_messages(Word(0, 1, 9, [long], []), 7, LAYOUT, "default")) == 1
