"""Whatever is killed, stopped or taken away: a reader of committed alerts misses none and sees none twice."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.integration.kafka_rig import TOPIC, by_identity, messages, missing, reference, write_config
from tests.integration.rig import STEP
from tests.kafka import Kafka, Reader, Worker, is_alive, kafka, make_topic, produce, workers
from tests.services import wait_until

NAMES = ("w1", "w2", "w3")
STEPS_A_ROUND = 40
SESSION_MS = 2000
LATENESS = 800
"""Here time goes some forty times as fast as the clock, and so does what brokers and sessions take: 20 s of that."""
FULL = os.environ.get("FORESHOCK_VERIFY") == "1"
pytestmark = pytest.mark.services
ROUNDS = int(os.environ.get("FORESHOCK_CHAOS_ROUNDS", 50 if FULL else 7))


class Field:
    """Three brokers, three workers, and a stream that goes on while things happen."""

    def __init__(self, cluster: Kafka, running: dict[str, Worker], topic: str, keyed: bool, seed: int) -> None:
        self.cluster, self.running, self.topic, self.keyed = cluster, running, topic, keyed
        self.rng = np.random.default_rng(seed)
        self.step = 0

    def feed(self, steps: int, pause: float = 0.2) -> None:
        """Steps of the stream, at some forty times the pace of the clock."""
        for _ in range(steps):
            produce(self.cluster.brokers, self.topic, messages(range(self.step, self.step + 1), self.keyed), 6)
            self.step += 1
            time.sleep(pause)

    def one(self) -> Worker:
        return self.running[str(self.rng.choice(sorted(self.running)))]

    def pause(self, least: float, most: float) -> None:
        time.sleep(float(self.rng.uniform(least, most)))

    # -- what happens --------------------------------------------------------------------------------------------

    def kill_worker(self) -> None:
        """kill -9, at any moment of a transaction; it comes back after the others took over, or at once."""
        worker = self.one()
        worker.kill()
        self.feed(10)
        self.pause(0.0, 1.5 * SESSION_MS / 1000)
        worker.start()

    def zombie(self) -> None:
        """Stopped until it is taken for dead, then it goes on."""
        worker = self.one()
        worker.send(signal.SIGSTOP)
        self.feed(10)
        self.pause(1.2 * SESSION_MS / 1000, 2.5 * SESSION_MS / 1000)
        worker.send(signal.SIGCONT)

    def rebalance(self) -> None:
        """One leaves in good order while all are at work, and comes back."""
        worker = self.one()
        assert worker.process is not None
        worker.process.terminate()
        self.feed(10)
        assert worker.process.wait(60) == 0, worker.text()[-2000:]
        worker.start()

    def kill_broker(self) -> None:
        """kill -9 a broker; it comes back."""
        node = int(self.rng.integers(1, self.cluster.nodes + 1))
        self.cluster.kill(node)
        self.feed(10)
        self.pause(0.5, 3.0)
        self.cluster.start_again(node)

    def fill_disk(self) -> None:
        """No file of a broker may grow any more: to it that is a disk with no room. It stops, and comes back."""
        node = int(self.rng.integers(1, self.cluster.nodes + 1))
        pid = self.cluster.pid(node)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, 1))
        self.feed(10)
        wait_until(lambda: not is_alive(pid), "a broker goes on without a disk")
        self.cluster.start_again(node)

    def kill_two(self) -> None:
        """Two workers at once, with messages on the way."""
        first, second = self.rng.choice(sorted(self.running), 2, replace=False)
        self.feed(5)
        self.running[str(first)].kill()
        self.running[str(second)].kill()
        self.feed(5)
        self.running[str(first)].start()
        self.running[str(second)].start()

    def cut(self) -> None:
        """No worker reaches one of the brokers for a while; the others, and whoever writes, do."""
        proxy = self.cluster.proxies[int(self.rng.integers(self.cluster.nodes))]
        proxy.cut()
        self.feed(10)
        self.pause(0.0, 1.5 * SESSION_MS / 1000)
        proxy.heal()

    def happenings(self) -> list[Callable[[], None]]:
        return [
            self.kill_worker, self.zombie, self.rebalance, self.kill_broker, self.kill_two, self.cut, self.fill_disk,
        ]  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka(tmp_path_factory.mktemp("chaos") / "run", nodes=3, session_ms=SESSION_MS, proxied=True) as one:
        yield one


@pytest.mark.verify
@pytest.mark.parametrize(
    ("protocol", "keyed"),
    [("consumer", False), ("classic", False), ("consumer", True)] if FULL else [("consumer", False)],
)
def test_nothing_is_lost_and_nothing_said_twice(cluster: Kafka, tmp_path: Path, protocol: str, keyed: bool) -> None:
    steps = 60 + ROUNDS * STEPS_A_ROUND + LATENESS // STEP + 20
    wanted = reference(steps, LATENESS)
    prefix = f"chaos-{protocol}-{keyed}."
    topic = prefix + TOPIC
    make_topic(cluster.brokers, topic, 6, 3)
    config = write_config(
        tmp_path, cluster.through, prefix=prefix, group=prefix, inputs=[{"topic": topic, "lateness": LATENESS}],
        replication=3, protocol=protocol,
    )  # fmt: skip
    with workers(config, tmp_path, *NAMES) as running:
        field = Field(cluster, running, topic, keyed, seed=11)
        field.feed(60)
        wait_until(lambda: all("keyed tasks" in one.text() for one in running.values()), "no worker starts", 90.0)
        reader = Reader(cluster.brokers, prefix + "alerts")
        happenings = field.happenings()
        for number in range(ROUNDS):
            happening = happenings[number % len(happenings)]
            before = field.step
            happening()
            field.feed(STEPS_A_ROUND - (field.step - before))
            by_identity(reader.json(0.5), steps, LATENESS)
        field.feed(steps - field.step, pause=0.02)
        try:
            wait_until(lambda: not missing(reader, wanted, steps, LATENESS), "alerts are missing", 120.0)
        except AssertionError:
            found = by_identity(reader.json(), steps, LATENESS)
            pytest.fail(
                f"missing {sorted(wanted.keys() - found.keys())}, instead {sorted(found.keys() - wanted.keys())}, "
                f"of {len(wanted)}; {logs(running)}",
                pytrace=False,
            )
        found = by_identity(reader.json(3.0), steps, LATENESS)
        assert found.keys() == wanted.keys()
        other = {name: (found[name], wanted[name]) for name in wanted if found[name] != wanted[name]}
        assert not other, f"{other}\n{logs(running)}"
        reader.close()


def logs(running: dict[str, Worker]) -> str:
    """What the workers said last, without librdkafka's lines on connections."""
    out = []
    for name, one in running.items():
        lines = [line for line in one.text().splitlines() if "FAIL [" not in line and "Connect to" not in line]
        out.append("\n".join([name, *(line[:300] for line in lines[-15:])]))
    return "\n".join(out)
