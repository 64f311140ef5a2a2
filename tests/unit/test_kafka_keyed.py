"""A keyed task over Kafka, without Kafka: where messages go, what is said of time, and that it comes back the same."""

from __future__ import annotations

import json
from typing import Any

from msgspec import structs

from foreshock.adapters.kafka.keys import partition_of
from foreshock.adapters.kafka.messages import FORWARD, Forward, Out, encode, forward_of
from foreshock.adapters.kafka.topics import Layout
from foreshock.config import Config, load
from foreshock.runtime.distributed_bundles import MOST_BYTES, MOST_LINES
from foreshock.runtime.distributed_keyed import Keyed
from foreshock.state import pack
from foreshock.telemetry import DROPPED
from foreshock.types.record import ARROW, JSON
from tests.unit.kafka_message import Message

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
START = 1_700_000_000
TOPIC = "events"
LAYOUT = Layout("f.", 4, {TOPIC: 4})


def config() -> Config:
    kafka = {"inputs": [{"topic": TOPIC, "lateness": "5s"}]}
    return load([], environ={}, overrides={"kafka": kafka, "stream": {"step": 10}, "detectors": ["zscore"]})


def keyed(number: int = 0, now: int = NOW) -> Keyed:
    one = Keyed(config(), LAYOUT, number, 30.0, 1 << 20)
    one.now = now
    return one


def event(user: str, step: int, offset: int, keyed_by: str | None, partition: int = 0) -> Message:
    body = {"eventId": f"{user}-{step}", "timestamp": START + 10 * step, "userId": user, "value": float(step % 7)}
    key = None if keyed_by is None else keyed_by.encode()
    return Message(json.dumps(body).encode(), key, None, offset, NOW // 1_000_000, TOPIC, partition)


def user_of(partition: int) -> str:
    return next(f"u-{i}" for i in range(100) if partition_of(f"u-{i}".encode(), 4) == partition)


def forwards(out: list[Out]) -> list[tuple[int, Forward]]:
    found = ((one.partition, forward_of(Message(one.value, headers=one.headers))) for one in out if one.value)
    return [(partition, forward) for partition, forward in found if forward is not None]


def marks(out: list[Out]) -> list[Forward]:
    found = (forward_of(Message(one.value, headers=one.headers)) for one in out if one.value is None)
    return [forward for forward in found if forward is not None]


def test_what_is_in_place_is_judged_there_and_all_else_is_passed_on() -> None:
    own, other = user_of(0), user_of(2)
    one = keyed()
    one.take([event(own, 0, 0, own)])
    assert not forwards(one.outbox)
    one.take([event(own, 1, 1, None), event(own, 2, 2, "somebody else"), event(other, 3, 3, other)])
    assert [(partition, len(forward.times)) for partition, forward in forwards(one.outbox)] == [(0, 2), (2, 1)]
    assert {forward.origin for _, forward in forwards(one.outbox)} == {f"{TOPIC}/0"}
    assert one.positions[TOPIC, 0] == 4


def test_events_that_are_passed_on_share_messages_and_keep_their_order() -> None:
    own, other, one = user_of(1), user_of(2), keyed()
    said = [event(own, 5, 0, None), event(other, 1, 1, None), event(own, 2, 2, None)]
    said.append(Message(said[0].value(), None, [("traceparent", b"00-1")], 3, NOW // 1_000_000, TOPIC, 0))
    said += [event(own, 3, 4, None), event(own, 9, 5, None)]
    one.take(said)
    sent = [out for out in one.outbox if out.value and out.partition == 1]
    told = [forward for partition, forward in forwards(one.outbox) if partition == 1]
    lines = [(sent[0].value or b"").split(b"\n"), (sent[2].value or b"").split(b"\n")]
    assert lines == [[said[0].value(), said[2].value()], [said[4].value(), said[5].value()]]
    assert [forward.content_type for forward in told] == [JSON, ARROW, JSON], "what says more stands alone, in its turn"
    steps = [[(time - START * SECOND) // (10 * SECOND) for time in forward.times] for forward in told]
    assert steps == [[5, 2], [], [3, 9]]
    newest = [(forward.time or 0) // SECOND - START for forward in told]
    assert newest == [50, 50, 90], "no more than has been said by then"


def test_a_message_of_many_events_is_cut_where_it_is_full() -> None:
    own, one = user_of(1), keyed()
    one.take([event(own, step, step, None) for step in range(MOST_LINES + 3)])
    assert [len(forward.times) for _, forward in forwards(one.outbox)] == [MOST_LINES, 3]
    assert one.rows == MOST_LINES + 3, "a worker that is full of them waits"
    one.outbox.clear()
    pad = "x" * (MOST_BYTES // 2)
    large = [json.dumps({"timestamp": START, "userId": own, "value": 1, "pad": pad}).encode() for _ in range(3)]
    one.take([Message(line, None, None, 600 + at, NOW // 1_000_000, TOPIC, 0) for at, line in enumerate(large)])
    assert [len(forward.times) for _, forward in forwards(one.outbox)] == [1, 1, 1]


def test_a_message_that_does_not_hold_what_it_says_is_counted_and_left_out() -> None:
    one, told = keyed(), Forward(f"{TOPIC}/3", 4, TOPIC, START * SECOND, NOW, NOW, times=[START * SECOND] * 2)
    before = DROPPED.labels("not_forwarded")._value.get()
    headers: Any = [(FORWARD, encode(told))]
    values = [b"{}\n{}\n{}", None, b"{}\n{}"]
    one.take([Message(value, None, headers, at, 1, "f.keyed", 0) for at, value in enumerate(values)])
    assert (DROPPED.labels("not_forwarded")._value.get() - before, len(one.merge)) == (2, 2)


def test_events_that_share_a_message_are_judged_as_if_each_had_its_own() -> None:
    """By the task that they are for, beside marks of all origins."""
    own, giver = user_of(1), keyed()
    giver.take([event(own, step, step, None) for step in (0, 2, 1, 1, 4, 3)])
    [together] = [out for out in giver.outbox if out.value]
    told = forward_of(Message(together.value, headers=together.headers))
    assert told is not None
    alone = [
        Out("f.keyed", line, None, ((FORWARD, encode(structs.replace(told, time=time, times=[]))),), 1)
        for time, line in zip(told.times, (together.value or b"").split(b"\n"), strict=True)
    ]
    settled_as = []
    for outs in ([together], alone):
        taker = keyed(1)
        taker.take([Message(out.value, None, out.headers, at, 1, "f.keyed", 1) for at, out in enumerate(outs)])
        taker.positions[taker.lead] = 10
        released(taker, 40)
        taker.words()
        settled_as.append((taker.task.watermark, settled(taker, 1)))
    assert settled_as[0] == settled_as[1]


def test_marks_say_how_far_an_input_has_come_and_move_on_with_the_clock_when_it_is_idle() -> None:
    own, one = user_of(0), keyed()
    one.take([event(own, 0, 0, own)])
    one.words()
    assert [(mark.time, mark.until) for mark in marks(one.outbox)] == [(START * SECOND, 0)] * 4
    times = []
    for second in range(1, 65):
        one.outbox.clear()
        one.now = NOW + second * SECOND
        if second < 45:
            one.asked((TOPIC, 0), 1, one.now)
        one.words()
        [mark, *_] = marks(one.outbox)
        times.append((mark.time or 0) // SECOND - START)
        assert (mark.written == one.now) == (times[-1] > 0), "others may hold what was written until now"
    assert times[:29] == [0] * 29
    assert times[44] in (43 - 30, 44 - 30)
    assert times[44:] == [times[44]] * 20, "nobody knows whether it is at its end"


def test_an_input_is_read_until_a_time_only_if_it_was_read_to_the_end_that_it_had_then() -> None:
    own, one = user_of(0), keyed()
    one.take([event(own, 0, 0, own)])
    one.asked((TOPIC, 0), 2, NOW)
    one.words()
    assert {mark.until for mark in marks(one.outbox)} == {0}, "a message, or a marker, is still to be read"
    one.outbox.clear()
    one.ended[TOPIC, 0] = 2
    one.asked((TOPIC, 0), 2, NOW + SECOND)
    one.now = NOW + 2 * SECOND
    one.words()
    assert {mark.until for mark in marks(one.outbox)} == {NOW}


def test_a_clock_that_jumps_moves_nothing_far_and_stops_nothing() -> None:
    own, one = user_of(0), keyed()
    one.take([event(own, 0, 0, own)])
    for jump in (3600, -3600, 7200, -7200, 0):
        one.outbox.clear()
        one.now = NOW + jump * SECOND
        one.asked((TOPIC, 0), 1, one.now)
        one.words()
        assert marks(one.outbox), jump
        assert (marks(one.outbox)[0].time or 0) <= (START + 10) * SECOND


def test_a_task_that_was_brought_back_does_not_say_that_all_was_written_long_ago() -> None:
    """Else an origin that nobody reads would count as past what others have brought meanwhile."""
    own, first = user_of(0), keyed()
    first.take([event(own, 0, 0, own)])
    released(first, 0)
    first.run()
    saved = {name: state.frozen() for name, state in first.states().items()}
    again = keyed(now=0)
    again.load(saved, first.config.resolved(), first.watermark, dict(first.sources))
    again.take([event(own, 1, 1, own)], emit=False)
    again.now = NOW + SECOND
    again.restored()
    again.words()
    assert [(mark.time, mark.written) for mark in marks(again.outbox)] == [((START + 10) * SECOND, NOW + SECOND)] * 4


def test_a_task_that_was_brought_back_still_knows_how_far_its_inputs_have_come() -> None:
    """It may have read all there is without having marked it: nobody would say it before something new came."""
    own, first = user_of(0), keyed()
    first.take([event(own, 0, 0, own)])
    first.words()
    first.take([event(own, 1, 1, own)])
    first.words()
    assert {mark.time for mark in marks(first.outbox)} == {START * SECOND}, "marks are not said that often"
    first.run()
    saved = {name: state.frozen() for name, state in first.states().items()}
    again = keyed(now=NOW + SECOND)
    again.load(saved, first.config.resolved(), first.watermark, dict(first.sources))
    again.restored()
    again.words()
    assert {mark.time for mark in marks(again.outbox)} == {(START + 10) * SECOND}


def released(one: Keyed, until: int) -> None:
    """Marks of all origins that they have come that far."""
    for origin in range(4):
        mark = Forward(f"{TOPIC}/{origin}", 4, TOPIC, (START + until) * SECOND, NOW, until=NOW)
        headers: Any = [(FORWARD, encode(mark))]
        one.take([Message(None, None, headers, one.positions.get(one.lead, 0), NOW // 1_000_000, *one.lead)])


def test_a_task_that_is_told_its_runs_again_is_the_same() -> None:
    own, first = user_of(0), keyed()
    for step in range(40):
        first.take([event(own, step, step, own)])
        forward = Forward(f"{TOPIC}/3", 4, TOPIC, (START + 10 * step) * SECOND, NOW, NOW)
        body = json.dumps({"timestamp": START + 10 * step, "userId": own, "other": step}).encode()
        headers: Any = [(FORWARD, encode(forward))]
        first.take([Message(body, None, headers, first.positions.get(first.lead, 0), 1, "f.keyed", 0)])
        if step == 20:
            released(first, 10 * step)
            run = first.run()
            saved = {name: state.frozen() for name, state in first.states().items()}
            kept = first.config.resolved(), first.watermark, dict(first.sources)
            assert [part.input for part in run.steps[:3]] == [TOPIC, "f.keyed", TOPIC]
    released(first, 390)
    later = first.run()
    again = keyed()
    again.load(saved, *kept)
    assert again.sequence == 1
    messages = {TOPIC: 21, "f.keyed": again.positions["f.keyed", 0]}
    for part in later.steps:
        assert part.start == messages[part.input]
        for offset in range(part.start, part.end):
            again.take([_recorded(own, part.input, offset)], emit=False)
        messages[part.input] = part.end
    again.begin_run()
    again.sequence = later.sequence
    assert not again.outbox
    assert settled(again) == settled(first)


def settled(one: Keyed, number: int = 0) -> dict[str, bytes]:
    """The bytes of a task's states, once saved and loaded: what waits is numbered anew by that."""
    other = keyed(number)
    saved = {name: state.frozen() for name, state in one.states().items()}
    other.load(saved, one.config.resolved(), one.watermark, one.sources)
    return {name: pack(state) for name, state in other.states().items()}


def _recorded(own: str, topic: str, offset: int) -> Message:
    """The message at an offset of the test before: 21 forwards, 4 marks, 19 forwards, 4 marks."""
    if topic == TOPIC:
        return event(own, offset, offset, own)
    if 25 <= offset < 44:
        step = offset - 4
        forward = Forward(f"{TOPIC}/3", 4, TOPIC, (START + 10 * step) * SECOND, NOW, NOW)
        body: bytes | None = json.dumps({"timestamp": START + 10 * step, "userId": own, "other": step}).encode()
    else:
        forward = Forward(f"{TOPIC}/{offset - 44}", 4, TOPIC, (START + 390) * SECOND, NOW, until=NOW)
        body = None
    headers: Any = [(FORWARD, encode(forward))]
    return Message(body, None, headers, offset, NOW // 1_000_000 if body is None else 1, "f.keyed", 0)
