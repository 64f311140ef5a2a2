"""Verdicts at least once, on a real broker: read before what they come of is committed, and none lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.runtime.distributed_clients import Transactions
from foreshock.runtime.distributed_prompt import Prompt
from tests.integration.kafka_rig import TOPIC, by_identity, give_up_unsure, messages, missing, reference
from tests.integration.test_kafka_worker import config_of, running
from tests.kafka import Kafka, Reader, kafka, make_topic, produce
from tests.services import wait_until

pytestmark = pytest.mark.services
STEPS, SECONDS, GIVEN_UP = 300, 60.0, 3
Rows = dict[tuple[str, str, int, str], dict[str, Any]]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka(tmp_path_factory.mktemp("kafka") / "run") as one:
        yield one


@pytest.fixture(scope="module")
def wanted(broker: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The verdicts as they come exactly once."""
    make_topic(broker.brokers, f"once.{TOPIC}", 6)
    produce(broker.brokers, f"once.{TOPIC}", messages(range(STEPS), keyed=True))
    with running(config_of(tmp_path_factory.mktemp("once"), broker, "once.")):
        alerts = Reader(broker.brokers, "once.alerts")
        wait_until(lambda: not missing(alerts, reference(STEPS), STEPS), "alerts are missing", SECONDS)
    alerts.close()
    reader = Reader(broker.brokers, "once.anomalies")
    found = reader.json(1.0)
    reader.close()
    assert len(by_row(found)) == len(found) > 50
    return by_row(found)


def by_row(found: list[dict[str, Any]]) -> Rows:
    return {(one["entity"], one["feature"], one["time_unix_nano"], one["detector"]): one for one in found}


def test_a_verdict_is_read_before_its_transaction_is_committed(
    broker: Kafka, tmp_path: Path, wanted: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, may_commit = Transactions.commit, threading.Event()

    def when_it_may(self: Transactions, offsets: Sequence[Any], group: Any) -> None:
        may_commit.wait(SECONDS)
        commit(self, offsets, group)

    monkeypatch.setattr(Transactions, "commit", when_it_may)
    make_topic(broker.brokers, f"early.{TOPIC}", 6)
    produce(broker.brokers, f"early.{TOPIC}", messages(range(STEPS), keyed=True))
    with running(config_of(tmp_path, broker, "early.", verdicts="at_least_once")):
        rows, alerts = Reader(broker.brokers, "early.anomalies"), Reader(broker.brokers, "early.alerts")
        wait_until(lambda: by_row(rows.json()) == wanted, "verdicts are missing", SECONDS)
        assert alerts.read(0.5) == []
        may_commit.set()
        wait_until(lambda: not missing(alerts, reference(STEPS), STEPS), "alerts are missing", SECONDS)
    assert len(rows.read(0.5)) == len(wanted), "none twice where nothing was given up"
    rows.close()
    alerts.close()


def test_what_is_given_up_is_said_again(
    broker: Kafka, tmp_path: Path, wanted: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = give_up_with_verdicts(monkeypatch)
    make_topic(broker.brokers, f"again.{TOPIC}", 6)
    with running(config_of(tmp_path, broker, "again.", verdicts="at_least_once")):
        for step in range(STEPS):
            produce(broker.brokers, f"again.{TOPIC}", messages(range(step, step + 1), keyed=True))
        rows, alerts = Reader(broker.brokers, "again.anomalies"), Reader(broker.brokers, "again.alerts")
        wait_until(lambda: not missing(alerts, reference(STEPS), STEPS), "alerts are missing", SECONDS)
        wait_until(lambda: by_row(rows.json()) == wanted, "verdicts are missing", SECONDS)
    assert len(given_up) == GIVEN_UP
    assert by_identity(alerts.json(1.0), STEPS) == reference(STEPS)
    # What was given up had been said, and comes again.
    assert len(rows.read(0.5)) >= len(wanted) + sum(given_up)
    rows.close()
    alerts.close()


def give_up_with_verdicts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first transactions that bring verdicts are given up; how many verdicts went with each."""
    given_up, seen, wait, commit = list[int](), [0, 0], Prompt.have_arrived, Transactions.commit

    def arrived(self: Prompt, sent: int, seconds: float) -> bool:
        seen[1] = sent
        return wait(self, sent, seconds)

    def with_verdicts(self: Transactions, offsets: Sequence[Any], group: Any) -> None:
        new, seen[0] = seen[1] - seen[0], seen[1]
        if new and len(given_up) < GIVEN_UP:
            given_up.append(new)
            give_up_unsure(self)
        commit(self, offsets, group)

    monkeypatch.setattr(Prompt, "have_arrived", arrived)
    monkeypatch.setattr(Transactions, "commit", with_verdicts)
    return given_up


def test_what_no_broker_took_is_sent_again(tmp_path: Path) -> None:
    with kafka(tmp_path / "run") as one:
        make_topic(one.brokers, "verdicts", 2)
        prompt = Prompt(KafkaOptions(brokers=one.brokers, client={"message.timeout.ms": 500}))
        prompt.send([Out("verdicts", b"0", b"u-0", (("content-type", b"application/json"),))])
        assert prompt.have_arrived(prompt.sent, SECONDS)
        one.kill(1)
        prompt.send(Out("verdicts", str(number).encode(), b"u-0", ()) for number in range(1, 4))
        assert not prompt.have_arrived(prompt.sent, 2.0)
        one.start_again(1)
        assert prompt.have_arrived(prompt.sent, SECONDS)
        reader = Reader(one.brokers, "verdicts")
        assert {message.value() for message in reader.read(1.0)} == {b"0", b"1", b"2", b"3"}
        reader.close()
        prompt.close()
