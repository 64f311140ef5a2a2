"""The same keyed computation by Quix Streams and Kafka Streams: a running mean and variance of each user, exactly once.

Both keep state in RocksDB with a changelog and write only what lies six deviations off. That is less than the light
tier does. `benchmarks/kafka/peers.sh` installs them under .services/peers; one that is not there is left out.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.kafka.stand import Pace, pace
from tests.kafka import Kafka, make_topic

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / ".services" / "peers"


def quix(one: Kafka, folder: Path, topic: str, messages: int, name: str) -> Pace | None:
    """Quix Streams, its group and topics called `name`; None where it is not installed."""
    python = PEERS / "quix" / "bin" / "python"
    if not python.exists():
        return None
    make_topic(one.brokers, f"{name}-out", 6)
    program = [str(python), str(HERE / "peer_quix.py")]
    command = [*program, one.brokers, name, topic, f"{name}-out", str(folder / name)]
    return pace(one, command, name, topic, messages)


def streams(one: Kafka, folder: Path, topic: str, messages: int, name: str) -> Pace | None:
    """Kafka Streams, its group and topics called `name`; None where it is not installed."""
    classes = PEERS / "streams"
    if not (classes / "ZScore.class").exists():
        return None
    make_topic(one.brokers, f"{name}-out", 6)
    program = ["java", "-Xmx1g", "-cp", f"{classes}:{classes}/lib/*", "ZScore"]
    command = [*program, one.brokers, name, topic, f"{name}-out", str(folder / name)]
    return pace(one, command, name, topic, messages)
