"""Settings of Kafka clients, and what does not need a broker to be right or wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from foreshock.adapters.kafka.client import library, producer_settings, settings
from foreshock.adapters.kafka.dead import CUT, ERROR, LARGEST, OFFSET, PARTITION, REASON, TOPIC, dead_letter, header
from foreshock.adapters.kafka.messages import content_type_of, in_seconds
from foreshock.adapters.kafka.options import EVENTS, KafkaOptions
from foreshock.adapters.kafka.stretch import Stretch
from foreshock.adapters.kafka.topics import Layout
from foreshock.config import load
from foreshock.errors import ConfigError, PermanentError
from foreshock.runtime import distributed_clients
from tests.unit.kafka_message import Message


def options(**more: Any) -> KafkaOptions:
    return load([], environ={}, overrides={"kafka": more}).kafka


def test_what_the_user_sets_wins_and_secrets_stay_secret() -> None:
    config = load(
        [],
        environ={"PASSWORD": "hush"},
        overrides={
            "kafka": {
                "client": {"linger.ms": 50, "security.protocol": "SASL_SSL"},
                "secrets": {"sasl.password": {"env": "PASSWORD"}},
            }
        },
    )
    made = producer_settings(config.kafka, {"KAFKA_BROKERS": "b:1"}, client_id="x")
    assert made["bootstrap.servers"] == "b:1"
    assert (made["linger.ms"], made["security.protocol"], made["client.id"]) == (50, "SASL_SSL", "x")
    assert made["sasl.password"] == "hush"
    assert b"hush" not in config.resolved()


def test_brokers_and_topics_come_from_the_environment_where_nothing_is_set() -> None:
    filled = options().filled({"KAFKA_TOPIC_METRICS": "m"})
    assert [one.topic for one in filled.inputs] == ["anomaly-events", "m", "service-metrics"]
    assert settings(options(), {})["bootstrap.servers"] == "127.0.0.1:9092"
    assert settings(options(brokers="own:9"), {"KAFKA_BROKERS": "b:1"})["bootstrap.servers"] == "own:9"
    assert options(inputs=["a", {"topic": "b", "lateness": "9s"}]).filled({}).inputs[1].lateness_seconds == 9.0


def test_a_secret_among_the_open_properties_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sasl\.password is a secret: it belongs under kafka\.secrets"):
        options(client={"sasl.password": "x"})


def test_a_missing_library_says_which_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.setitem(sys.modules, "confluent_kafka.admin", None)
    with pytest.raises(ConfigError, match=r"pip install 'foreshock\[kafka\]'"):
        library()


def test_partitions_of_inputs_follow_tasks() -> None:
    layout = Layout("p.", 4, {"a": 4, "b": 6, "c": 1})
    all_of_them = [at for task in range(4) for at in layout.followers(task)]
    assert sorted(all_of_them) == [("a", q) for q in range(4)] + [("b", q) for q in range(6)] + [("c", 0)]
    assert layout.followers(1) == [("a", 1), ("b", 1), ("b", 5)]


def test_messages_of_the_same_second_are_decoded_together_and_calls_alone() -> None:
    calls = [("content-type", b"application/vnd.foreshock.calls+json")]
    messages = [
        Message(b"1", time=1000),
        Message(None, time=1999),
        Message(b"3", time=2000),
        Message(b"4", headers=calls, time=2000),
        Message(b"5", headers=calls, time=2000),
        Message(b"6", headers=[("content-type", b"application/json; charset=utf-8")], time=2000),
        Message(b"7", time=2000),
    ]

    def grouped(content_type: str) -> list[list[bytes | None]]:
        return [[one.value() for one in group] for group in in_seconds(Stretch.of(messages), content_type)]

    assert grouped("") == [[b"1", None], [b"3"], [b"4"], [b"5"], [b"6", b"7"]]
    assert grouped("application/vnd.foreshock.calls+json") == [
        [b"1"], [None], [b"3"], [b"4"], [b"5"], [b"6"], [b"7"],
    ]  # fmt: skip
    assert content_type_of(messages[5], "x") == "application/json"


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (Message(b'{"a": 1}'), True),
        (Message(b'{"a":\n1}'), False),
        (Message(b"[1]"), False),
        (Message(None), False),
        (Message(b'{"a": 1}', headers=[("ce_id", b"1")]), False),
    ],
)
def test_a_line_of_json_without_headers_is_passed_on_as_it_is(message: Message, plain: bool) -> None:
    stretch = Stretch.of([Message(b"{}"), message])
    assert stretch.line(1) == (message.value() if plain else None)


def test_a_dead_letter_keeps_the_message_and_says_why() -> None:
    own = [("traceparent", b"00-1"), (REASON, b"an old one")]
    letter = dead_letter(Message(b"v", b"k", own), "bad_json", "the JSON is broken")
    assert (letter.topic, letter.value, letter.key) == (EVENTS + ".dlq", b"v", b"k")
    said = {name: header(letter.headers, name) for name in ("traceparent", REASON, ERROR, TOPIC, PARTITION, OFFSET)}
    assert list(said.values()) == ["00-1", "bad_json", "the JSON is broken", EVENTS, "3", "7"]
    assert [name for name, _ in letter.headers].count(REASON) == 1
    large = dead_letter(Message(b"x" * (LARGEST + 1)), "too_large", "")
    assert large.value is not None
    assert (len(large.value), header(large.headers, CUT)) == (LARGEST, str(LARGEST + 1))


@pytest.mark.parametrize(("seconds", "code"), [(30.0, 3), (0.0, 0)])
def test_a_call_that_does_not_come_back_ends_the_process(seconds: float, code: int) -> None:
    program = f"""
import time
from foreshock.adapters.kafka import client
client.STUCK_SECONDS = 0.3
with client.comes_back("a call"):
    time.sleep({seconds})
time.sleep(0.6)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == code
    assert ("a call has not come back for 0.3 s" in done.stderr) == bool(code)


def test_brokers_that_do_not_fence_by_member_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, str] = {}
    monkeypatch.setattr(distributed_clients, "_broker_settings", lambda asked: known)
    known["inter.broker.protocol.version"] = "2.4-IV1"
    with pytest.raises(PermanentError, match="2.5 is the oldest"):
        distributed_clients.find_protocol(options())
    for version in ("2.5-IV0", "3.0-IV1", "10.1", ""):
        known["inter.broker.protocol.version"] = version
        assert distributed_clients.find_protocol(options())[0] == "classic"
