"""Agents, load and dead letters against a real broker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest
import yaml

from foreshock.adapters.kafka.dead import dead_letter
from foreshock.adapters.kafka.decoding import decode_messages
from foreshock.adapters.kafka.keys import partition_of
from foreshock.adapters.kafka.letters import REDRIVEN, Letters
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.adapters.kafka.schemas import TOPICS
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import Metric, Reading
from foreshock.agent.connect import connector, inputs
from foreshock.agent.forward import Forwarder
from foreshock.agent.outgoing import Outgoing, of_readings
from foreshock.agent.spool import Spool
from foreshock.errors import ConfigError, PermanentError
from foreshock.types import Control, ControlKind
from tests.kafka import Kafka, Reader, kafka, make_topic, produce, workers
from tests.services import free_port, prometheus, wait_until
from tests.unit import made_otlp

pytestmark = pytest.mark.services

SECONDS = 40.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka(tmp_path_factory.mktemp("kafka") / "run") as one:
        yield one


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return str(request.node.name.replace("test_", "").replace("[", "-").replace("]", "")[:60])


def options(broker: Kafka) -> KafkaOptions:
    return KafkaOptions(brokers=broker.brokers).filled({})


def foreshock(*arguments: str, cwd: Path, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "foreshock", *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"KAFKA_TOPIC_METRICS": ""}, **more,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], code: int = 0) -> Any:
    """The JSON that a command ended with."""
    out, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == code, errors
    return json.loads(out)


def read(broker: Kafka, topic: str, count: int) -> list[Any]:
    """At least so many committed messages of a topic."""
    reader = Reader(broker.brokers, topic)
    try:
        wait_until(lambda: len(reader.read()) >= count, f"{count} messages do not come to {topic}", SECONDS)
        return reader.messages
    finally:
        reader.close()


def decoded(messages: list[Any], name: str) -> Any:
    return decode_messages(
        [one.value() for one in messages], [one.headers() for one in messages],
        TOPICS[name], MappingOptions(),
    )  # fmt: skip


# -- agents --------------------------------------------------------------------------------------------------------


def test_this_host_comes_to_kafka_and_to_prometheus_at_once(broker: Kafka, topic: str, tmp_path: Path) -> None:
    port = free_port()
    process = foreshock(
        "agent", "host", "--every", "0.2", "--batch", "0.2", "--brokers", broker.brokers, "--topic", topic,
        "--listen", f"127.0.0.1:{port}", "--json", cwd=tmp_path,
    )  # fmt: skip

    def scraped() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        except httpx.TransportError:
            return ""

    wait_until(lambda: "system_cpu_utilization_ratio{" in scraped(), "nothing to scrape", SECONDS)
    sent = re.compile(rf'foreshock_agent_messages_total{{topic="{topic}"}} ([3-9]|\d\d)')
    wait_until(lambda: sent.search(scraped()) is not None, "too little was sent", SECONDS)
    process.send_signal(signal.SIGTERM)
    report = ended(process)
    assert report["waiting"] == 0
    assert report["problem"] == ""
    messages = read(broker, topic, report["sent"])
    assert len(messages) == report["sent"] > 1
    found = decoded(messages, "metrics-topic")
    assert not found.refused
    assert {"system.cpu.utilization", "system.memory.utilization"} <= {series.name for series in found.samples.series}
    entities = {series.entity for series in found.samples.series}
    assert {name for name, _ in next(iter(entities))} == {"host.name"}
    keys = {one.key() for one in messages}
    assert keys == {dict(next(iter(entities)))["host.name"].encode()}
    assert {one.partition() for one in messages} == {partition_of(next(iter(keys)), 6)}


def test_the_shop_comes_to_kafka_with_its_labels(broker: Kafka, tmp_path: Path) -> None:
    for name in ("metrics-topic", "service-metrics", "foreshock.control"):
        make_topic(broker.brokers, name, 3)
    process = foreshock("shop", "kafka", "--brokers", broker.brokers, "--json", cwd=tmp_path)
    rows = read(broker, "service-metrics", 24)
    process.send_signal(signal.SIGTERM)
    assert ended(process)["waiting"] == 0
    found = decoded(rows, "service-metrics")
    assert not found.refused
    assert {series.name for series in found.samples.series} == {"latency", "cpu", "memory"}
    assert decoded(read(broker, "metrics-topic", 24), "metrics-topic").refused == ()
    controls = [json.loads(one.value()) for one in read(broker, "foreshock.control", 12)]
    assert {one["label"] for one in controls} == {"false"}
    assert {one["matchers"]["service"] for one in controls} == {one.key().decode() for one in rows}
    assert Control(**controls[0]).matches({"service": controls[0]["matchers"]["service"]})


def test_load_comes_as_it_was_due_and_says_what_was_abnormal(broker: Kafka, topic: str, tmp_path: Path) -> None:
    report = ended(foreshock(
        "load", "--rate", "2000", "--seconds", "3", "--users", "100", "--anomalies", "0.02", "--topic", topic,
        "--truth", "truth.csv", "--brokers", broker.brokers, "--json", cwd=tmp_path,
    ))  # fmt: skip
    assert (report["events"], report["sent"], report["waiting"]) == (6000, 6000, 0)
    messages = read(broker, topic, 6000)
    found = decoded(messages, "anomaly-events")
    assert len(found.samples) == 6000
    assert all(one.partition() == partition_of(one.key(), 6) for one in messages)
    events = [json.loads(one.value()) for one in messages]
    assert len({one["eventId"] for one in events}) == 6000
    assert all(one["timestamp"] == message.timestamp()[1] for one, message in zip(events, messages, strict=True))
    due = sorted(one["timestamp"] for one in events)
    assert 2990 <= due[-1] - due[0] <= 3000
    assert len((tmp_path / "truth.csv").read_text().splitlines()) == report["stretches"] + 1


def test_what_a_prometheus_says_comes_to_kafka(broker: Kafka, topic: str, tmp_path: Path) -> None:
    target = "static_configs: [{targets: ['127.0.0.1:%d']}]"
    config = f"global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: self, {target}}}]"
    port = free_port()
    with prometheus(tmp_path / "prometheus", config % port) as server:
        server.stop()
        server.port = port
        server.start()
        wait_until(lambda: bool(server.query("up")), "it does not scrape itself", SECONDS)
        arguments = (
            "agent", "prometheus", "--url", server.url, "--query", "up", "--query", "prometheus_http_requests_total",
            "--every", "1", "--brokers", broker.brokers, "--topic", topic, "--json",
        )  # fmt: skip
        report = ended(foreshock(*arguments, "--seconds", "6", cwd=tmp_path))
        assert (report["waiting"], report["problem"]) == (0, "")
        first = read(broker, topic, report["sent"])
        again = ended(foreshock(*arguments, "--seconds", "4", cwd=tmp_path))
        messages = read(broker, topic, report["sent"] + again["sent"])
    found = decoded(messages, "metrics-topic")
    assert not found.refused
    assert {"up", "prometheus_http_requests_total"} <= {series.name for series in found.samples.series}
    assert all(one.key() for one in messages)
    # The second run goes on behind the first, and each time is there once for each series.
    newest = decoded(first, "metrics-topic").samples.time_unix_nano.max()
    pairs = Counter(zip(found.samples.index.tolist(), found.samples.time_unix_nano.tolist(), strict=True))
    assert set(pairs.values()) == {1}
    assert found.samples.time_unix_nano.max() > newest


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_messages_may_be_packed_in_every_way(broker: Kafka, topic: str, codec: str) -> None:
    from confluent_kafka import Producer

    make_topic(broker.brokers, topic, 1)
    producer = Producer({"bootstrap.servers": broker.brokers, "compression.type": codec, "linger.ms": 50})
    event = b'{"eventId": "e-%d", "timestamp": 1640000000, "userId": "u-7", "value": 1.5}'
    for number in range(100):
        producer.produce(topic, event % number)
    assert producer.flush(20) == 0
    assert len(decoded(read(broker, topic, 100), "anomaly-events").samples) == 100


# -- while Kafka is away -------------------------------------------------------------------------------------------


def message(topic: str, number: int) -> Outgoing:
    return Outgoing(topic, b"k-%d" % (number % 5), b"%d" % number, [], 1_700_000_000_000_000_000)


def test_what_was_read_while_kafka_was_away_arrives_once_and_in_order(tmp_path: Path, topic: str) -> None:
    with kafka(tmp_path / "run") as broker:
        make_topic(broker.brokers, topic, 3)
        spool = Spool(tmp_path / "spool")
        forwarder = Forwarder(spool, connector(options(broker), inputs(topic)))
        forwarder.start()
        for number in range(100):
            spool.add([message(topic, number)])
        wait_until(lambda: spool.waiting == 0, "nothing was sent", SECONDS)
        broker.kill(1)
        for number in range(100, 1000):
            spool.add([message(topic, number)])
        assert spool.waiting > 0
        broker.start_again(1)
        wait_until(lambda: spool.waiting == 0, "what waited was not sent", SECONDS)
        forwarder.stop()
        spool.close()
        found = read(broker, topic, 1000)
    numbers: dict[int, list[int]] = {}
    for one in found:
        numbers.setdefault(one.partition(), []).append(int(one.value()))
    assert sorted(number for several in numbers.values() for number in several) == list(range(1000))
    assert all(several == sorted(several) for several in numbers.values())


def test_a_killed_load_goes_on_and_loses_nothing(broker: Kafka, topic: str, tmp_path: Path) -> None:
    make_topic(broker.brokers, topic, 6)
    process = foreshock("load", "--rate", "2000", "--topic", topic, "--spool", "spool", "--brokers", broker.brokers,
                        cwd=tmp_path)  # fmt: skip
    read(broker, topic, 1000)
    process.kill()
    process.communicate()
    spool = Spool(tmp_path / "spool")
    kept = {json.loads(one.value)["eventId"] for batch in spool.read(0) for one in batch.messages}
    forwarder = Forwarder(spool, connector(options(broker), inputs(topic)))
    forwarder.start()
    wait_until(lambda: spool.waiting == 0, "the rest was not sent", SECONDS)
    forwarder.stop()
    spool.close()
    counts = Counter(json.loads(one.value())["eventId"] for one in read(broker, topic, len(kept)))
    assert kept <= counts.keys()
    numbers = sorted(int(name.rpartition("-")[2]) for name in counts)
    assert numbers == list(range(len(numbers)))
    assert sum(counts.values()) - len(counts) <= 2000  # sent twice: what was acknowledged in the last moments


def test_a_wrong_property_is_said_at_once(broker: Kafka, topic: str) -> None:
    own = options(broker).model_copy(update={"client": {"no.such.property": 1}})
    with pytest.raises(ConfigError, match=r"no\.such\.property"):
        connector(own, inputs(topic))


def test_a_topic_that_may_not_be_made_is_said_and_waited_for(broker: Kafka, topic: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    own = options(broker).model_copy(update={"create_topics": False})
    forwarder = Forwarder(spool, connector(own, inputs(topic)))
    spool.add([message(topic, 0)])
    forwarder.start()
    wait_until(lambda: "kafka-topics.sh" in forwarder.problem, "it was not said", SECONDS)
    make_topic(broker.brokers, topic, 1)
    wait_until(lambda: spool.waiting == 0, "it was not sent", SECONDS)
    assert forwarder.problem == ""
    forwarder.stop()
    spool.close()


def test_a_message_that_is_too_large_does_not_stop_the_others(broker: Kafka, topic: str, tmp_path: Path) -> None:
    make_topic(broker.brokers, topic, 1, max_message_bytes="2000")
    spool = Spool(tmp_path)
    forwarder = Forwarder(spool, connector(options(broker), inputs(topic)))
    noise = os.urandom(5000)  # which compresses to no less
    spool.add([message(topic, 0), Outgoing(topic, None, noise, [], 0), message(topic, 1)])
    forwarder.start()
    wait_until(lambda: spool.waiting == 0, "the others were not sent", SECONDS)
    forwarder.stop()
    spool.close()
    assert [one.value() for one in read(broker, topic, 2)] == [b"0", b"1"]


# -- dead letters --------------------------------------------------------------------------------------------------


class Died:
    """A message as a worker met it."""

    def __init__(self, topic: str, number: int, key: bytes | None = b"k") -> None:
        self._topic, self._number, self._key = topic, number, key

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 100 + self._number

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes:
        return b"letter %d" % self._number

    def headers(self) -> list[tuple[str, bytes]]:
        return [("traceparent", b"t-%d" % self._number)]

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


def bury(broker: Kafka, topic: str, count: int) -> None:
    """So many letters of a topic; every third died of something else."""
    from confluent_kafka import Producer

    make_topic(broker.brokers, topic, 3)
    make_topic(broker.brokers, f"{topic}.dlq", 1)
    producer = Producer({"bootstrap.servers": broker.brokers})
    for number in range(count):
        out = dead_letter(Died(topic, number), "no_time" if number % 3 else "bad_json", "why")
        producer.produce(out.topic, out.value, out.key, headers=list(out.headers))
    assert producer.flush(20) == 0


def test_letters_are_listed_shown_and_redriven_once(broker: Kafka, topic: str, tmp_path: Path) -> None:
    bury(broker, topic, 6)
    more = "--brokers", broker.brokers, "--json"
    listed = ended(foreshock("dlq", "list", topic, *more, cwd=tmp_path))
    assert (listed["letters"], listed["reasons"]) == (6, {"bad_json": 2, "no_time": 4})
    assert listed["last"][-1]["offset"] == 105
    shown = ended(foreshock("dlq", "show", topic, "0:3", *more, cwd=tmp_path))
    assert (shown["value"], shown["key"], shown["headers"]) == ("letter 3", "k", {"traceparent": "t-3"})
    first = ended(foreshock("dlq", "redrive", topic, "--reason", "bad_json", *more, cwd=tmp_path))
    second = ended(foreshock("dlq", "redrive", f"{topic}.dlq", "0:1", "0:3", *more, cwd=tmp_path))
    assert (first["redriven"], second["redriven"]) == (2, 1)
    assert ended(foreshock("dlq", "redrive", topic, *more, cwd=tmp_path))["redriven"] == 3
    assert ended(foreshock("dlq", "redrive", topic, *more, cwd=tmp_path))["redriven"] == 0
    assert ended(foreshock("dlq", "list", topic, *more, cwd=tmp_path))["letters"] == 0
    messages = read(broker, topic, 6)
    assert Counter(one.value() for one in messages) == Counter(b"letter %d" % number for number in range(6))
    by_value = {one.value(): one for one in messages}
    assert by_value[b"letter 4"].headers() == [("traceparent", b"t-4"), (REDRIVEN, b"0:4")]
    assert {one.key() for one in messages} == {b"k"}
    process = foreshock("dlq", "show", topic, "0:3", *more, cwd=tmp_path)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 2


DIES = """
import os, sys
from foreshock.adapters.kafka import letters
from foreshock.adapters.kafka.options import KafkaOptions
letters.MOST_IN_A_TRANSACTION = 10
options = KafkaOptions(brokers=sys.argv[1]).filled({})
one, send, count = letters.Letters(options, sys.argv[2]), letters.Letters._send, 0

class Dying:
    def __init__(self, producer):
        self.producer = producer
    def __getattr__(self, name):
        return getattr(self.producer, name)
    def commit_transaction(self, *_):
        self.producer.flush()
        os._exit(9)

def sending(self, producer, part):
    global count
    count += 1
    send(self, Dying(producer) if count == 3 else producer, part)

letters.Letters._send = sending
one.redrive(lambda letter: True)
"""


def test_a_redrive_that_dies_half_way_doubles_and_loses_nothing(broker: Kafka, topic: str, tmp_path: Path) -> None:
    bury(broker, topic, 45)
    process = subprocess.run([sys.executable, "-c", DIES, broker.brokers, topic], timeout=SECONDS)
    assert process.returncode == 9
    letters = Letters(options(broker), topic)
    assert letters.redrive(lambda letter: True).letters == 25
    assert letters.redrive(lambda letter: True).letters == 0
    messages = read(broker, topic, 45)
    assert Counter(one.value() for one in messages) == Counter(b"letter %d" % number for number in range(45))


def test_of_two_redrives_at_a_time_the_later_goes_on(broker: Kafka, topic: str) -> None:
    bury(broker, topic, 1200)
    first, second = Letters(options(broker), topic), Letters(options(broker), topic)
    counts: list[int] = []

    def meanwhile(done: int) -> None:
        if not counts:
            counts.append(second.redrive(lambda letter: True).letters)

    with pytest.raises(PermanentError, match="another redrive"):
        first.redrive(lambda letter: True, meanwhile)
    assert counts == [700]
    messages = read(broker, topic, 1200)
    assert Counter(one.value() for one in messages) == Counter(b"letter %d" % number for number in range(1200))


def test_a_topic_without_letters_is_said(broker: Kafka, topic: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no topic {topic}.dlq"):
        Letters(options(broker), topic).read()
    make_topic(broker.brokers, f"{topic}.dlq", 2)
    assert Letters(options(broker), topic).read() == []
    produce(broker.brokers, f"{topic}.dlq", [(None, b"by hand")], 2)
    assert [one.reason for one in Letters(options(broker), topic).read()] == ["unknown"]


# -- with a worker -------------------------------------------------------------------------------------------------


def settings(folder: Path, broker: Kafka, topic: str) -> Path:
    """A worker's config that reads one topic, and names its own after it."""
    path = folder / "worker.yaml"
    kafka = {
        "brokers": broker.brokers, "prefix": f"{topic}.", "group": topic, "idle": "2s",
        "inputs": [{"topic": topic, "lateness": "1s"}],
    }  # fmt: skip
    more = {"stream": {"step": "5s"}, "detectors": ["robust_z"], "budget": {"environment": 200, "entity": 20}}
    path.write_text(yaml.safe_dump({"kafka": kafka} | more))
    return path


def readings(count: int, burns: range, start: int) -> list[Reading]:
    """A quiet host, each five seconds, that burns for a while."""
    random = np.random.default_rng(5)
    return [
        Reading(
            (start + 5 * row) * 1_000_000_000,
            {"host.name": "a1"},
            [Metric("system.cpu.utilization", {}, "1", (0.95 if row in burns else 0.1) + 0.01 * random.random()),
             Metric("system.memory.utilization", {}, "1", 0.4 + 0.01 * random.random())],
        )
        for row in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["readings", "otlp", "arrow", "ndjson"])
def test_a_worker_raises_the_alert_whatever_the_encoding(
    broker: Kafka, topic: str, tmp_path: Path, encoding: str
) -> None:
    make_topic(broker.brokers, topic, 3)
    rows = readings(600, range(560, 570), 1_700_000_000)
    with workers(settings(tmp_path, broker, topic), tmp_path, "w1") as running:
        messages = [one for row in rows for one in encoded(topic, row, encoding)]
        with closing_spool(tmp_path / "spool", broker, topic) as spool:
            spool.add(messages)
            wait_until(lambda: spool.waiting == 0, "nothing was sent", SECONDS)
        wait_until(lambda: f"{topic}.alerts" in running["w1"].text(), "the worker does not start", 90.0)
        reader = Reader(broker.brokers, f"{topic}.alerts")

        def found() -> list[dict[str, Any]]:
            assert running["w1"].process is not None
            assert running["w1"].process.poll() is None, running["w1"].text()
            return [one for one in reader.json() if one["status"] == "firing"]

        wait_until(lambda: bool(found()), "no alert", 60.0)
        (alert,) = {one["foreshock"]["episode"]: one for one in found()}.values()
        reader.close()
    assert alert["labels"]["host_name"] == "a1"
    assert alert["startsAt"].startswith(datetime.fromtimestamp(1_700_000_000 + 5 * 560, UTC).strftime("%Y-%m-%dT%H:%M"))


def test_labels_count_what_was_found_right_while_it_runs(broker: Kafka, topic: str, tmp_path: Path) -> None:
    """What `foreshock shop kafka` says in control records reaches the detectors of every task."""
    make_topic(broker.brokers, topic, 3)
    for name in (f"{topic}.control", f"{topic}.control.dlq"):
        make_topic(broker.brokers, name, 1)
    second = 1_000_000_000
    since, until = (1_700_000_000 + 5 * 555) * second, (1_700_000_000 + 5 * 580) * second
    labels = [
        Control(ControlKind.LABEL, "well", 1_700_000_000 * second, label="false"),
        Control(ControlKind.LABEL, "burn", since, until, {"host.name": "a1"}, label="true"),
    ]
    produce(broker.brokers, f"{topic}.control", [(b"default", b"not a control record"),
            *((b"default", msgspec.json.encode(one)) for one in labels)])  # fmt: skip
    port = free_port()
    config = settings(tmp_path, broker, topic)
    worker = foreshock("worker", str(config), "--name", "w1", "--metrics", f"127.0.0.1:{port}", cwd=tmp_path)
    try:
        rows = readings(600, range(560, 570), 1_700_000_000)
        with closing_spool(tmp_path / "spool", broker, topic) as spool:
            wait_until(lambda: len(read(broker, f"{topic}.control.dlq", 1)) == 1, "no dead letter", 90.0)
            spool.add([one for row in rows for one in encoded(topic, row, "readings")])
            right = re.compile(r'detector_true_positives_total{model="robust_z"} [1-9]')

            def counted() -> bool:
                assert worker.poll() is None
                text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
                return right.search(text) is not None

            wait_until(counted, "nothing was found right", 60.0)
    finally:
        worker.kill()
        worker.communicate()
    letter = read(broker, f"{topic}.control.dlq", 1)[0]
    assert dict(letter.headers())["foreshock-reason"] == b"bad_control"


@contextmanager
def closing_spool(folder: Path, broker: Kafka, topic: str) -> Iterator[Spool]:
    """A buffer that is forwarded."""
    spool = Spool(folder)
    forwarder = Forwarder(spool, connector(options(broker), inputs(topic)))
    forwarder.start()
    yield spool
    forwarder.stop()
    spool.close()


def encoded(topic: str, row: Reading, encoding: str) -> list[Outgoing]:
    """A reading as messages; without headers all but Foreshock's own form."""
    if encoding == "readings":
        return of_readings(topic, "test", [row])
    values = {metric.name: metric.value for metric in row.metrics}
    columns = {"time": row.time // 1_000_000_000, "host.name": "a1"} | values
    if encoding == "otlp":
        points = [
            made_otlp.gauge(name, made_otlp.number(value or 0.0, time=row.time)) for name, value in values.items()
        ]
        body = bytes(made_otlp.request(*points, host_name="a1").SerializeToString())
    elif encoding == "arrow":
        sink = pa.BufferOutputStream()
        table = pa.table({name: [value] for name, value in columns.items()})
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        body = sink.getvalue().to_pybytes()
    else:
        body = json.dumps(columns).encode() + b"\n"
    return [Outgoing(topic, b"a1", body, [], row.time)]
