"""An agent as a whole: a source, the buffer, the way to Kafka."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foreshock.adapters.metrics import METRICS, Metric, Reading, decode_readings, encode_metrics
from foreshock.agent.agent import Agent
from foreshock.agent.carriers import Readings
from foreshock.agent.forward import Forwarder
from foreshock.agent.spool import Spool
from foreshock.errors import RetryableError
from foreshock.ports import Clock, Submit
from foreshock.testing.clock import FakeClock
from foreshock.types import Record
from tests.services import wait_until
from tests.unit.agent_kit import Broker, counted

NANO = 1_000_000_000


class Counting:
    """A source that brings readings of the seconds that follow where it goes on, and then waits or fails."""

    name, lateness_seconds = "counting", 0.0

    def __init__(self, readings: int, fails: bool = False) -> None:
        self.readings, self.fails, self.since, self.stopped = readings, fails, 0, False
        self.refused = 0

    def resume(self, time_unix_nano: int) -> None:
        self.since = time_unix_nano // NANO

    def run(self, submit: Submit, clock: Clock) -> None:
        for second in range(self.since + 1, self.since + 1 + self.readings):
            payload = encode_metrics(Reading(second * NANO, {"host.name": "a1"}, [Metric("cpu", {}, "1", 0.5)]))
            try:
                submit(Record("e", self.name, METRICS, 0, payload))
            except RetryableError:
                self.refused += 1
        if self.fails:
            raise ZeroDivisionError("no more")
        while not self.stopped:
            clock.sleep(1.0)

    def stop(self) -> None:
        self.stopped = True


def agent_of(folder: Path, broker: Broker, source: Counting, batch: float = 0.0) -> Agent:
    spool = Spool(folder)
    carrier = Readings("t", "test", batch, 1.0)
    return Agent(source, carrier, spool, Forwarder(spool, broker.connect), FakeClock())


def seconds(broker: Broker) -> list[int]:
    return [one.time // NANO for value in broker.values for one in decode_readings(value or b"")]


def test_what_is_read_arrives_and_the_next_run_goes_on_behind_it(tmp_path: Path) -> None:
    broker = Broker()
    first = agent_of(tmp_path, broker, Counting(5))
    first.start()
    wait_until(lambda: len(broker.values) == 5, "it does not arrive")
    first.stop()
    assert (first.problem, first.spool.waiting) == ("", 0)
    second = agent_of(tmp_path, broker, Counting(2))
    second.start()
    wait_until(lambda: len(broker.values) == 7, "it does not go on")
    second.stop()
    assert seconds(broker) == [1, 2, 3, 4, 5, 6, 7]


def test_what_is_held_back_goes_at_the_end(tmp_path: Path) -> None:
    broker = Broker()
    agent = agent_of(tmp_path, broker, Counting(5), batch=3.0)
    agent.start()
    wait_until(lambda: len(broker.values) == 1, "it does not arrive")
    agent.stop()
    assert [len(decode_readings(value or b"")) for value in broker.values] == [3, 2]


def test_a_source_that_ends_by_an_error_is_said_and_what_it_brought_is_sent(tmp_path: Path) -> None:
    broker = Broker()
    agent = agent_of(tmp_path, broker, Counting(3, fails=True))
    with counted("foreshock_errors_total", part="source:counting") as failures:
        agent.start()
        assert agent.ended.wait(10.0)
    agent.stop()
    assert failures() == 1
    assert "ZeroDivisionError: no more" in agent.problem
    assert seconds(broker) == [1, 2, 3]


def test_a_source_is_told_that_the_disk_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Counting(3)
    agent = agent_of(tmp_path, Broker(), source)

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as broken, counted("foreshock_dropped_total", reason="agent_disk") as lost:
        broken.setattr(os, "pwrite", full)
        agent.start()
        wait_until(lambda: source.refused == 3, "it was not told")
    agent.stop()
    assert lost() == 3
