"""From the buffer to Kafka: in order, all of it, whatever happens on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreshock.agent import forward
from foreshock.agent.forward import Forwarder
from foreshock.agent.outgoing import Outgoing
from foreshock.agent.spool import Spool
from foreshock.errors import RetryableError
from tests.services import wait_until
from tests.unit.agent_kit import Broker, counted


def message(number: int, topic: str = "t") -> Outgoing:
    return Outgoing(topic, b"k", b"%d" % number, [("h", b"v")], number * 1_000_000)


def expected(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, count)]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    one = Spool(tmp_path)
    yield one
    one.close()


def test_messages_arrive_as_they_are_and_are_forgotten_then(spool: Spool) -> None:
    broker = Broker()
    forwarder = Forwarder(spool, broker.connect)
    spool.add([message(0), message(1, "other")])
    with counted("foreshock_agent_messages_total", topic="other") as sent:
        assert forwarder.step()
    assert broker.arrived == [("t", b"k", b"0", [("h", b"v")], 0), ("other", b"k", b"1", [("h", b"v")], 1)]
    assert (forwarder.sent, sent(), spool.waiting) == (2, 1, 0)
    assert not forwarder.step()
    assert spool.position == spool.end


def test_a_batch_that_is_not_acknowledged_whole_is_not_forgotten(spool: Spool) -> None:
    broker = Broker(up=False)
    forwarder = Forwarder(spool, broker.connect)
    spool.add([message(0), message(1)])
    spool.add([message(2)])
    assert forwarder.step()
    assert not forwarder.step()
    assert (broker.arrived, spool.waiting, spool.position) == ([], 3, 0)
    broker.up = True
    forwarder.step()
    assert (broker.values, spool.waiting, broker.clients) == (expected(3), 0, 1)


def test_a_broker_that_does_not_answer_is_said(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(up=False)
    forwarder = Forwarder(spool, broker.connect)
    spool.add([message(0)])
    forwarder.step()
    assert forwarder.problem == ""
    now = time.monotonic()
    monkeypatch.setattr(forward, "monotonic", lambda: now + 30.0)
    assert forwarder.problem == "Kafka has acknowledged nothing for 30 s"
    broker.up = True
    forwarder.step()
    assert forwarder.problem == ""


def test_little_is_in_flight_at_a_time(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "MAX_IN_FLIGHT", 4)
    broker = Broker(up=False)
    client = broker.connect()
    forwarder = Forwarder(spool, lambda: client)
    for number in range(10):
        spool.add([message(2 * number), message(2 * number + 1)])
    while forwarder.step():
        pass
    assert len(client.queue) == 4
    broker.up = True
    for _ in range(10):
        forwarder.step()
    assert broker.values == expected(20)


def test_a_client_without_room_is_waited_for(spool: Spool) -> None:
    broker = Broker(room=3)
    forwarder = Forwarder(spool, broker.connect)
    spool.add([message(number) for number in range(10)])
    forwarder.step()
    assert broker.values == expected(10)


def test_after_a_failure_what_was_not_acknowledged_is_sent_again_in_order(spool: Spool) -> None:
    broker = Broker()
    forwarder = Forwarder(spool, broker.connect)
    for number in range(4):
        spool.add([message(number)])
    broker.errors.extend(["", "_MSG_TIMED_OUT"])
    with pytest.raises(RetryableError, match="_MSG_TIMED_OUT happened"):
        forwarder.step()
    forwarder._let_go()
    forwarder.step()
    assert broker.clients == 2
    assert broker.values == [b"0", b"2", b"3", b"1", b"2", b"3"]
    assert spool.waiting == 0


def test_a_message_that_kafka_will_never_take_is_dropped_and_counted(spool: Spool) -> None:
    broker = Broker()
    forwarder = Forwarder(spool, broker.connect)
    spool.add([message(number) for number in range(3)])
    # The broker says it of two that came together; alone, only one is too large.
    broker.errors.extend(["", "MSG_SIZE_TOO_LARGE", "MSG_SIZE_TOO_LARGE", "MSG_SIZE_TOO_LARGE", ""])
    with counted("foreshock_dropped_total", reason="kafka_refused") as lost:
        forwarder.step()
    assert (lost(), broker.values, spool.waiting) == (1, [b"0", b"2"], 0)


def test_a_client_may_refuse_at_once(spool: Spool) -> None:
    broker = Broker(refused={b"1": "MSG_SIZE_TOO_LARGE", b"3": "_FATAL"})
    forwarder = Forwarder(spool, broker.connect)
    spool.add([message(number) for number in range(5)])
    with counted("foreshock_dropped_total", reason="kafka_refused") as lost:
        with pytest.raises(RetryableError, match="_FATAL happened"):
            forwarder.step()
        forwarder._let_go()
        forwarder.step()
    # One is too large; where the client has failed nothing is dropped.
    assert lost() == 1
    assert broker.values[-5:] == expected(5)
    assert (spool.waiting, broker.clients) == (0, 2)


def test_what_is_left_is_sent_by_the_next_process(tmp_path: Path) -> None:
    broker = Broker(up=False)
    first = Spool(tmp_path)
    forwarder = Forwarder(first, broker.connect)
    first.add([message(0)])
    forwarder.start()
    wait_until(lambda: forwarder._in_flight == 1, "nothing was handed over")
    first.add([message(1)])
    forwarder.stop(drain_seconds=0.1)
    first.close()
    broker.up = True
    second = Spool(tmp_path)
    again = Forwarder(second, broker.connect)
    again.start()
    wait_until(lambda: second.waiting == 0, "it was not sent")
    again.stop()
    second.close()
    assert broker.values == expected(2)


def test_while_there_is_no_client_everything_waits_and_it_is_said(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_LONGEST_BACKOFF", 0.01)
    broker, tries = Broker(), []

    def connect() -> forward.Client:
        tries.append(1)
        if len(tries) < 3:
            raise RetryableError("no brokers")
        return broker.connect()

    forwarder = Forwarder(spool, connect)
    spool.add([message(0)])
    with counted("foreshock_errors_total", part="agent") as failures:
        forwarder.start()
        wait_until(lambda: spool.waiting == 0, "it was not sent")
    forwarder.stop()
    assert (failures(), forwarder.problem, broker.values) == (2, "", [b"0"])


def test_a_buffer_that_sheds_is_followed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    broker = Broker(up=False)
    forwarder = Forwarder(spool, broker.connect)
    spool.add([message(0)])
    forwarder.step()
    for number in range(1, 40):
        spool.add([Outgoing("t", None, b"%d" % number + b" " * 50_000, [], 0)])
    broker.up = True
    forwarder.step()
    while forwarder.step():
        pass
    numbers = [int(value or b"") for value in broker.values]
    assert numbers[0] == 0
    assert numbers[1:] == list(range(40 - len(numbers[1:]), 40))
    assert 15 <= len(numbers) < 25
    assert spool.waiting == 0
    spool.close()
