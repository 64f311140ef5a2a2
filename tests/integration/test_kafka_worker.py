"""A worker against a real broker: bad input, lost data, lost snapshots, refusals."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foreshock.adapters.kafka.client import library
from foreshock.adapters.kafka.dead import LARGEST, OFFSET, PARTITION, REASON, header
from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.config import Config, load
from foreshock.errors import ConfigError, PermanentError, RetryableError
from foreshock.runtime.clock import SystemClock
from foreshock.runtime.distributed import Worker
from foreshock.runtime.distributed_clients import Transactions
from foreshock.runtime.distributed_format import decode_word
from foreshock.runtime.task import decode_control
from foreshock.types import Control, ControlKind, rfc3339
from tests.integration.kafka_rig import (
    TOPIC,
    by_identity,
    give_up_now_and_then,
    messages,
    missing,
    reference,
    write_config,
)
from tests.integration.rig import START, STEP
from tests.kafka import Kafka, Reader, admin, kafka, make_topic, produce
from tests.services import wait_until

pytestmark = pytest.mark.services
STEPS = 300
SECONDS = 60.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka(tmp_path_factory.mktemp("kafka") / "run") as one:
        yield one


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    name: str = request.node.name
    return name.replace("test_", "").replace("[", "-").replace("]", "")[:60] + "."


def config_of(tmp_path: Path, broker: Kafka, prefix: str, **more: Any) -> Config:
    own = {"prefix": prefix, "group": prefix, "inputs": [{"topic": prefix + TOPIC, "lateness": "5s"}], "worker": "w"}
    return load([write_config(tmp_path, **{"brokers": broker.brokers} | own | more)], environ={})


@contextmanager
def running(config: Config) -> Iterator[Worker]:
    """A worker in a thread of this process, told to stop at the end."""
    stop = threading.Event()
    worker = Worker(config, SystemClock(), stop)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(worker.run)
        try:
            yield worker
        finally:
            stop.set()
            ended.result(60)


def test_poison_never_stops_a_partition(broker: Kafka, tmp_path: Path, prefix: str) -> None:
    topic = prefix + TOPIC
    make_topic(broker.brokers, topic, 6)
    bad: dict[str, bytes] = {
        "bad_json": b'{"eventId": "x", "timestamp": 17000',
        "not_utf8": b'{"userId": "\xff\xfe"}',
        "no_time": b'{"userId": "u-1", "value": 1}',
        "too_large": b'{"pad": "' + b"x" * 200_000 + b'"}',
        "deep": b"[" * 5000 + b"]" * 5000,
        "empty": b"",
    }
    good = messages(range(STEPS), keyed=False)
    mixed = good[:1000] + [(None, value) for value in bad.values()] + good[1000:]
    produce(broker.brokers, topic, mixed, 6)
    config = config_of(tmp_path, broker, prefix).model_copy(
        update={"limits": load([], environ={}, overrides={"limits": {"body_bytes": 100_000}}).limits}
    )
    wanted = reference(STEPS)
    with running(config):
        reader, letters = Reader(broker.brokers, prefix + "alerts"), Reader(broker.brokers, topic + ".dlq")
        wait_until(lambda: not missing(reader, wanted, STEPS), "alerts are missing", SECONDS)
        wait_until(lambda: len(letters.read()) >= len(bad), "letters are missing", SECONDS)
    assert by_identity(reader.json(), STEPS) == wanted
    found = letters.read(1.0)
    assert sorted(bytes(one.value() or b"") for one in found) == sorted(bad.values())
    by_value = {bytes(one.value() or b""): one for one in found}
    for reason in ("bad_json", "not_utf8", "no_time", "too_large"):
        assert header(by_value[bad[reason]].headers(), REASON) == reason
    assert all(int(header(one.headers(), OFFSET)) >= 0 for one in found)
    assert {int(header(one.headers(), PARTITION)) for one in found} <= set(range(6))
    reader.close()
    letters.close()


def test_it_goes_on_where_it_was(broker: Kafka, tmp_path: Path, prefix: str) -> None:
    """Stopped in good order and killed in between: the same alerts as without."""
    topic = prefix + TOPIC
    make_topic(broker.brokers, topic, 6)
    config, wanted = config_of(tmp_path, broker, prefix), reference(STEPS)
    for first, last in ((0, 120), (120, 200), (200, STEPS)):
        produce(broker.brokers, topic, messages(range(first, last), keyed=True))
        with running(config) as worker:
            wait_until(lambda end=last: _read(worker, topic) >= _ends(worker, topic), "it does not keep up", SECONDS)
    reader = Reader(broker.brokers, prefix + "alerts")
    with running(config):
        wait_until(lambda: not missing(reader, wanted, STEPS), "alerts are missing", SECONDS)
    assert by_identity(reader.json(1.0), STEPS) == wanted
    reader.close()


def test_a_transaction_that_may_have_happened_sends_its_tasks_back_and_no_others(
    broker: Kafka, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are sent back read again; what was read for all others meanwhile is not lost to them."""
    tried = give_up_now_and_then(monkeypatch)
    topic = prefix + TOPIC
    make_topic(broker.brokers, topic, 6)
    wanted = reference(STEPS)
    config = config_of(tmp_path, broker, prefix)
    with running(config) as worker:
        for step in range(STEPS):
            produce(broker.brokers, topic, messages(range(step, step + 1), keyed=True))
        reader = Reader(broker.brokers, prefix + "alerts")
        wait_until(lambda: _read(worker, topic) >= _ends(worker, topic), "it does not keep up", SECONDS)
        wait_until(lambda: not missing(reader, wanted, STEPS), "alerts are missing", SECONDS)
    assert len(tried) > 10
    assert by_identity(reader.json(1.0), STEPS) == wanted
    reader.close()


def _read(worker: Worker, topic: str) -> int:
    return sum(offset for task in list(worker.tasks.values()) for at, offset in list(task.positions.items())
               if at[0] == topic)  # fmt: skip


def _ends(worker: Worker, topic: str) -> int:
    return sum(worker._reader.bounds((topic, partition))[1] for partition in range(6))


@pytest.mark.parametrize("what", ["blocks", "one", "all"])
def test_without_snapshots_the_runs_are_repeated(
    broker: Kafka, tmp_path: Path, prefix: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = prefix + TOPIC
    make_topic(broker.brokers, topic, 6)
    config, wanted = config_of(tmp_path, broker, prefix), reference(STEPS)
    produce(broker.brokers, topic, messages(range(200), keyed=False), 6)
    with running(config) as worker:
        wait_until(lambda: _read(worker, topic) >= _ends(worker, topic), "it does not keep up", SECONDS)
    # Deleting the blocks of the newest snapshot deletes all before them, too.
    ends = {partition: bounds(broker, prefix + "snapshots", partition)[1] for partition in range(7)}
    blocks = {one: end - 2 for one, end in ends.items() if end > 2}
    delete(broker, prefix + "snapshots", {"all": ends, "blocks": blocks, "one": {0: blocks[0]}}[what])
    produce(broker.brokers, topic, messages(range(200, STEPS), keyed=False), 6)
    with caplog.at_level(logging.WARNING), running(config):
        reader = Reader(broker.brokers, prefix + "alerts")
        wait_until(lambda: not missing(reader, wanted, STEPS), "alerts are missing", SECONDS)
    assert "is gone" in caplog.text or "is passed over" in caplog.text
    if what == "one":
        assert "snapshot of keyed-0 at" in caplog.text
        assert not any(f"of keyed-{other}" in caplog.text for other in range(1, 6))
    assert by_identity(reader.json(1.0), STEPS) == wanted
    reader.close()


def bounds(broker: Kafka, topic: str, partition: int) -> tuple[int, int]:
    from confluent_kafka import Consumer, TopicPartition

    one = Consumer({"bootstrap.servers": broker.brokers, "group.id": "bounds"})
    found: tuple[int, int] = one.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    one.close()
    return found


def delete(broker: Kafka, topic: str, before: dict[int, int]) -> None:
    """Delete what stands before these offsets, of a compacted topic too."""
    kafka_admin: Any = import_module("confluent_kafka.admin")
    policy = kafka_admin.ConfigEntry(
        "cleanup.policy", "compact,delete", incremental_operation=kafka_admin.AlterConfigOpType.SET
    )
    resource = kafka_admin.ConfigResource(kafka_admin.ConfigResource.Type.TOPIC, topic, incremental_configs=[policy])
    for done in admin(broker.brokers).incremental_alter_configs([resource]).values():
        done.result(30)
    wanted = [library().TopicPartition(topic, partition, offset) for partition, offset in before.items()]

    def deleted() -> bool:
        for done in admin(broker.brokers).delete_records(wanted).values():
            error = done.exception(30)
            # The broker may not have heard of the new policy yet.
            if error is not None and error.args[0].name() == "POLICY_VIOLATION":
                return False
            done.result()
        return True

    wait_until(deleted, f"nothing can be deleted from {topic}")


def test_very_many_entities_that_come_at_once_do_not_stop_a_worker(broker: Kafka, tmp_path: Path, prefix: str) -> None:
    """What their task says of them, when they have warmed up, is more than a message of Kafka's may hold."""
    users, steps, topic = 25_000, 24, prefix + TOPIC
    make_topic(broker.brokers, topic, 1)
    many = [
        (f"u-{user}".encode(), b'{"timestamp":%d,"userId":"u-%d","value":%d}' % (START + STEP * step, user, step % 7))
        for step in range(steps)
        for user in range(users)
    ]
    produce(broker.brokers, topic, many)
    with running(config_of(tmp_path, broker, prefix, commit_interval="1s")) as worker:
        words = Reader(broker.brokers, prefix + "environment")
        wait_until(lambda: _said_of(words) == users, "it does not say that all have come", SECONDS)
        wait_until(lambda: _read(worker, topic) == steps * users, "it does not keep up", SECONDS)
        assert max(len(word.value()) for word in words.messages) > LARGEST // 2
        words.close()


def _said_of(words: Reader) -> int:
    return len({one.entity for word in words.read() for one in decode_word(word.value()).presence})


def test_a_message_that_no_broker_may_take_is_said_and_not_tried_again(broker: Kafka, prefix: str) -> None:
    one = Transactions(KafkaOptions(brokers=broker.brokers), prefix, 10.0)
    one.begin()
    with pytest.raises(PermanentError, match=r"a message of 2000000 bytes for alerts is larger .*message\.max\.bytes"):
        one.send(Out("alerts", b"x" * 2_000_000, None))
    one.close()


def test_lost_messages_are_said_and_counted(
    broker: Kafka, tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    from foreshock.telemetry import KAFKA_LOST

    topic = prefix + TOPIC
    make_topic(broker.brokers, topic, 6)
    config = config_of(tmp_path, broker, prefix)
    produce(broker.brokers, topic, messages(range(60), keyed=False), 6)
    with running(config) as worker:
        wait_until(lambda: _read(worker, topic) >= _ends(worker, topic), "it does not keep up", SECONDS)
        read = max(task.positions[topic, 0] for task in worker.tasks.values() if (topic, 0) in task.positions)
    produce(broker.brokers, topic, messages(range(60, 120), keyed=False), 6)
    delete(broker, topic, {0: read + 40})
    with caplog.at_level(logging.ERROR), running(config) as worker:
        wait_until(lambda: _read(worker, topic) >= _ends(worker, topic), "it does not keep up", SECONDS)
    assert "40 messages are lost" in caplog.text
    assert KAFKA_LOST.labels(topic)._value.get() == 40


def test_alerts_and_anomalies_are_as_documented(broker: Kafka, tmp_path: Path, prefix: str) -> None:
    topic = prefix + TOPIC
    make_topic(broker.brokers, topic, 6)
    produce(broker.brokers, topic, messages(range(STEPS), keyed=True))
    wanted = reference(STEPS)
    with running(config_of(tmp_path, broker, prefix)):
        reader, rows = Reader(broker.brokers, prefix + "alerts"), Reader(broker.brokers, prefix + "anomalies")
        wait_until(lambda: not missing(reader, wanted, STEPS), "alerts are missing", SECONDS)
    headers = dict(reader.messages[0].headers())
    assert headers["ce_type"].startswith(b"dev.foreshock.alert.")
    assert headers["ce_specversion"] == b"1.0"
    row = rows.json(1.0)[0]
    assert row["entity"].startswith('{userId="u-')
    assert row["detector"] == "robust_z"
    reader.close()
    rows.close()


def test_topics_that_do_not_fit_are_refused_with_the_fix(broker: Kafka, tmp_path: Path, prefix: str) -> None:
    make_topic(broker.brokers, prefix + TOPIC, 6)
    make_topic(broker.brokers, prefix + "runs", 2)
    with pytest.raises(ConfigError, match=r"(?s)has 2 partitions where 7 are needed.*kafka-topics.sh --create"):
        Worker(config_of(tmp_path, broker, prefix), SystemClock(), threading.Event())
    with pytest.raises(ConfigError, match=r"(?s)create_topics is off.*--topic other\.keyed --partitions 6"):
        Worker(config_of(tmp_path, broker, "other.", create_topics=False), SystemClock(), threading.Event())


def test_brokers_that_do_not_answer_are_said(tmp_path: Path, broker: Kafka, prefix: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("foreshock.adapters.kafka.topics.WAIT_SECONDS", 1.0)
    config = config_of(tmp_path, broker, prefix, brokers="127.0.0.1:1")
    with pytest.raises(RetryableError, match="the brokers cannot be asked"):
        Worker(config, SystemClock(), threading.Event())


def test_authentication_that_is_refused_is_said(tmp_path: Path, broker: Kafka, prefix: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("foreshock.adapters.kafka.topics.WAIT_SECONDS", 5.0)
    client = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "x"}
    config = config_of(tmp_path, broker, prefix, client=client, secrets={"sasl.password": "wrong"})
    with pytest.raises(PermanentError, match=r"Kafka refuses us: .*\(kafka\.client, kafka\.secrets\)"):
        Worker(config, SystemClock(), threading.Event())


def test_a_wrong_property_is_a_config_error(tmp_path: Path, broker: Kafka, prefix: str) -> None:
    config = config_of(tmp_path, broker, prefix, client={"no.such.property": "x"})
    with pytest.raises(ConfigError, match=r"no\.such\.property"):
        Worker(config, SystemClock(), threading.Event())


def test_messages_of_many_entities_are_split(broker: Kafka, tmp_path: Path, prefix: str) -> None:
    """Arrays of events of all users, one message a step: each goes to the task of its entity."""
    topic = prefix + TOPIC
    make_topic(broker.brokers, topic, 6)
    whole: list[tuple[bytes | None, bytes]] = [
        (None, json.dumps([json.loads(value) for _, value in messages(range(step, step + 1), False)]).encode())
        for step in range(STEPS)
    ]
    produce(broker.brokers, topic, whole, 6)
    wanted = reference(STEPS)
    with running(config_of(tmp_path, broker, prefix)):
        reader = Reader(broker.brokers, prefix + "alerts")
        wait_until(lambda: not missing(reader, wanted, STEPS), "alerts are missing", SECONDS)
    assert by_identity(reader.json(1.0), STEPS) == wanted
    reader.close()


def test_a_silence_that_is_ended_early_ends_where_nothing_is_decided_yet(
    broker: Kafka, tmp_path: Path, prefix: str
) -> None:
    """An end in the past is moved behind all that is decided: what the silence did stays, what comes notifies."""
    topic, half = prefix + TOPIC, 170
    make_topic(broker.brokers, topic, 6)
    wanted = reference(STEPS)
    early = {name for name in wanted if _decided(wanted[name]) < rfc3339((START + STEP * (half - 10)) * 10**9)}
    assert any(wanted[name]["foreshock"]["notified"] for name in early)
    quiet = Control(ControlKind.SILENCE, "quiet", START * 10**9)
    over = Control(ControlKind.SILENCE, "quiet", START * 10**9, until_unix_nano=(START + STEP) * 10**9)
    with running(config_of(tmp_path, broker, prefix)):
        alerts, told = Reader(broker.brokers, prefix + "alerts"), Reader(broker.brokers, prefix + "keyed")
        _tell(broker, prefix, quiet, told, 1)
        produce(broker.brokers, topic, messages(range(half), keyed=False), 6)
        wait_until(lambda: not early - by_identity(alerts.json(), STEPS).keys(), "alerts are missing", SECONDS)
        end = _tell(broker, prefix, over, told, 2)
        produce(broker.brokers, topic, messages(range(half, STEPS), keyed=False), 6)
        wait_until(lambda: not missing(alerts, wanted, STEPS), "alerts are missing", SECONDS)
    found = by_identity(alerts.json(), STEPS)
    assert found.keys() == wanted.keys()
    firing = [one for one in found.values() if one["status"] == "firing"]
    until = rfc3339(end.until_unix_nano)
    assert max(_decided(found[name]) for name in early) < until
    assert not any(one["foreshock"]["notified"] for one in firing if _decided(one) < until)
    assert any(one["foreshock"]["notified"] for one in firing if _decided(one) > until)
    alerts.close()
    told.close()


def _tell(broker: Kafka, prefix: str, control: Control, told: Reader, times: int) -> Control:
    """Ask for a control record and wait until all keyed tasks have been told so many `times`; how it was stamped."""
    produce(broker.brokers, prefix + "control", [(None, msgspec.json.encode(control))])

    def found() -> list[Any]:
        return [one for one in told.read() if one.value() and b'"kind":"silence"' in one.value()]

    wait_until(lambda: len(found()) == 6 * times, "the record is not passed on", SECONDS)
    return decode_control(found()[-1].value())


def _decided(alert: dict[str, Any]) -> str:
    return str(alert["foreshock"]["decidedAt"])
