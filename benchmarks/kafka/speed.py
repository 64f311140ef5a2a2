"""Events a second of one worker on one core, exactly once, beside Quix Streams and Kafka Streams on the same topic."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.kafka.peers import quix, streams
from benchmarks.kafka.stand import START, STEP, Message, Pace, broker, events, fill, installed, pace, pace_of, worker
from foreshock.adapters.decode import encode_samples
from foreshock.types import Samples, Series
from tests.kafka import Kafka

IDS = ("kafka.keyed.json", "kafka.default.json", "kafka.rekeyed.json", "kafka.columnar", "kafka.workers.one",
       "kafka.workers.two")  # fmt: skip
EVENTS, FEW, ENTITIES = 1_000_000, 300_000, 1000
MANY = 3_000_000
"""For one worker beside two, whose start and end would else be a part of a run of a second."""
COLUMNS = 512
LIGHT = [{"deviation": {"tier": "light"}}]
TIMES = 3


def _columns(count: int) -> list[Message]:
    """The same events of one user and 512 steps a message, as Arrow."""
    rng = np.random.default_rng(3)
    out: list[Message] = []
    for number in range(count):
        block, user = divmod(number, ENTITIES)
        series = Series("value", (("userId", f"u-{user}"),))
        time = (START + STEP * (block * COLUMNS + np.arange(COLUMNS, dtype=np.int64))) * 10**9
        samples = Samples((series,), np.zeros(COLUMNS, np.int32), time, rng.normal(20.0, 1.0, COLUMNS),
                          np.zeros(COLUMNS, np.uint64), {})  # fmt: skip
        out.append((f"u-{user}".encode(), encode_samples(samples)))
    return out


def _row(name: str, found: Pace, note: str, peer: str = "", other: float | None = None) -> dict[str, Any]:
    more = f"{note}; CPU {found.cpu:.3g} s a million, of the broker {found.broker_cpu:.3g}"
    row: dict[str, Any] = {"id": name, "value": found.events_a_second, "unit": "events/s", "note": more}
    if other:
        row |= {"peer": peer, "peer_value": other, "ratio": found.events_a_second / other}
    return row


def _middle(paces: list[Pace]) -> Pace:
    """The one of median speed."""
    middle = median(one.events_a_second for one in paces)
    return next(one for one in paces if one.events_a_second == middle)


def _ours(one: Kafka, folder: Path, topic: str, messages: int, name: str, each: int = 1, **more: Any) -> Pace:
    names = [f"{name}-{number}" for number in range(TIMES)]
    return _middle([pace(one, worker(one, folder, own, topic, **more), own, topic, messages, each) for own in names])


def _by_workers(one: Kafka, folder: Path) -> list[dict[str, Any]]:
    """One worker and two, on one core: what a million events cost."""
    messages, paces = events(MANY, ENTITIES, True), {1: list[Pace](), 2: list[Pace]()}
    for number in range(TIMES):
        for count, found in paces.items():
            own = f"by-{count}-{number}"
            named = [{"worker": f"w{at}", "inputs": [own]} for at in range(count)]
            commands = [worker(one, folder, own, own, detectors=LIGHT, kafka=kafka) for kafka in named]
            found.append(pace_of(one, commands, own, own, messages))
    rows: list[dict[str, Any]] = []
    for name, count in (("kafka.workers.one", 1), ("kafka.workers.two", 2)):
        middle = sorted(paces[count], key=lambda pace: pace.cpu)[TIMES // 2]
        note = f"{count} worker(s) on one core, all there at once, in turns; the broker's CPU {middle.broker_cpu:.3g}"
        rows.append({"id": name, "value": middle.cpu, "unit": "CPU s a million", "note": note})
    one_worker, two = rows
    beside = {"peer": "one worker", "peer_value": one_worker["value"], "ratio": two["value"] / one_worker["value"]}
    return [one_worker, two | beside]


def run() -> list[dict[str, Any]]:
    """Rows of the table; none where Kafka is not installed."""
    if not installed():
        return []
    with tempfile.TemporaryDirectory() as name, broker() as one:
        folder, rows = Path(name), []
        fill(one, "keyed", events(EVENTS, ENTITIES, True))
        light = _ours(one, folder, "keyed", EVENTS, "light", detectors=LIGHT)
        note = f"deviation, light tier, {ENTITIES:,} users, one JSON event a message"
        rows.append(_row("kafka.keyed.json", light, note))
        for peer, run_peer in (("Quix Streams", quix), ("Kafka Streams", streams)):
            paces = [run_peer(one, folder, "keyed", EVENTS, f"{run_peer.__name__}-{number}") for number in range(TIMES)]
            if there := [found for found in paces if found is not None]:
                other = _middle(there)
                more = f"{note}; the peer's CPU {other.cpu:.3g}, of the broker {other.broker_cpu:.3g}"
                rows.append(_row("kafka.keyed.json", light, more, peer, other.events_a_second))
        rows += _by_workers(one, folder)
        default = _ours(one, folder, "keyed", EVENTS, "default")
        rows.append(_row("kafka.default.json", default, "the same, the default detectors"))
        fill(one, "null", events(FEW, ENTITIES, False))
        passed = _ours(one, folder, "null", FEW, "null", detectors=LIGHT)
        rows.append(_row("kafka.rekeyed.json", passed, "light tier, null keys: passed on by the keyed topic"))
        messages = 20 * ENTITIES
        fill(one, "columns", _columns(messages))
        lateness = {"inputs": [{"topic": "columns", "lateness": f"{2 * COLUMNS * STEP}s"}]}
        columns = _ours(one, folder, "columns", messages, "columns", COLUMNS, detectors=LIGHT, kafka=lateness)
        rows.append(_row("kafka.columnar", columns, f"light tier, {COLUMNS} events of a user a message, Arrow"))
    return rows
