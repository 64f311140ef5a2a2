"""One recorded stream of events, through the embedded engine and over Kafka."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import msgspec
import numpy as np
import pytest
import yaml

from foreshock.config import Config
from foreshock.runtime.distributed_clients import AbortedError, Transactions
from foreshock.testing import FakeClock
from foreshock.types import Record
from foreshock.types.record import NDJSON
from tests.integration.rig import START, STEP, Rig, settings
from tests.kafka import Reader

TOPIC = "anomaly-events"
USERS = 12
LATENESS = 5


def own(**more: Any) -> dict[str, Any]:
    """What both ways are set to."""
    return {
        "stream": {"step": f"{STEP}s"},
        "detectors": ["robust_z"],
        "budget": {"environment": 200, "entity": 20},
    } | more


def events(step: int) -> list[dict[str, Any]]:
    """The events of one step: noise, and every so often a user who is far off or says nothing for a while."""
    rng = np.random.default_rng([7, step])
    out = []
    for user in range(USERS):
        off = 80.0 if (step + 37 * user) % 220 in range(150, 156) else 0.0
        value, other = 20 + rng.normal() + off, 5 + rng.normal() / 4
        if (step + 53 * user) % 400 in range(300, 320):
            continue
        out.append(
            {
                "eventId": f"e-{step}-{user}",
                "timestamp": START + STEP * step + float(rng.integers(0, 2000)) / 1000,
                "userId": f"u-{user}",
                "value": float(value),
                "latency": float(other),
            }
        )
    return sorted(out, key=lambda one: one["timestamp"])


def messages(steps: range, keyed: bool) -> list[tuple[bytes | None, bytes]]:
    """The events of these steps as (key, value)."""
    return [
        (one["userId"].encode() if keyed else None, json.dumps(one).encode()) for step in steps for one in events(step)
    ]


@cache
def reference(steps: int, lateness: int = LATENESS) -> dict[str, dict[str, Any]]:
    """The alerts that the embedded engine gives, by what identifies them."""
    with TemporaryDirectory() as folder:
        config = settings(Path(folder), **own(sources=[{"type": "http", "name": TOPIC, "lateness": f"{lateness}s"}]))
        rig = Rig(config, FakeClock(START)).start()
        for step in range(steps):
            rig.clock.set(START + STEP * step)
            payload = b"\n".join(msgspec.json.encode(one) for one in events(step))
            rig.engine.submit(Record("default", TOPIC, NDJSON, (START + STEP * step) * 10**9, payload))
            rig.engine.tick()
            if step % 50 == 0:
                rig.judged()
        rig.judged()
        rig.committed()
        alerts = [alert.to_json() for _, alert in rig.store.events(0, 1_000_000)]
        rig.stop()
    return by_identity(alerts, steps, lateness)


def by_identity(alerts: list[dict[str, Any]], steps: int, lateness: int = LATENESS) -> dict[str, dict[str, Any]]:
    """Alerts decided before the end of the stream, by episode, status and time of decision; none may be there twice."""
    cut = _rfc(START + STEP * (steps - 10) - lateness)
    out: dict[str, dict[str, Any]] = {}
    for alert in alerts:
        more = alert["foreshock"]
        if more["decidedAt"][:19] > cut[:19]:
            continue
        name = f"{more['episode']} {alert['status']} {more['decidedAt']}"
        assert name not in out, f"said twice: {alert}"
        out[name] = alert
    return out


def _rfc(seconds: int) -> str:
    from foreshock.types import rfc3339

    return rfc3339(seconds * 10**9)


def write_config(folder: Path, brokers: str, **kafka: Any) -> Path:
    """The settings of a worker."""
    section = {
        "brokers": brokers,
        "inputs": [{"topic": TOPIC, "lateness": f"{LATENESS}s"}],
        "idle": "1h",
        "leave_out": "60s",
        "session_timeout": "2s",
    } | kafka
    path = folder / "worker.yaml"
    path.write_text(yaml.safe_dump(own(kafka=section, snapshot={"every": "2s", "share": 0.5})))
    return path


def missing(reader: Reader, wanted: dict[str, dict[str, Any]], steps: int, lateness: int = LATENESS) -> set[str]:
    """What has not been said yet."""
    return wanted.keys() - by_identity(reader.json(), steps, lateness).keys()


__all__ = ["TOPIC", "Config", "events", "messages", "missing", "own", "reference", "write_config"]


def give_up_now_and_then(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every fifth transaction is given up, and nobody is sure that it has not happened; one entry of the list a try."""
    tried, commit = list[int](), Transactions.commit

    def now_and_then(self: Transactions, offsets: Sequence[Any], group: Any) -> None:
        tried.append(len(offsets))
        if len(tried) % 5 == 0:
            give_up_unsure(self)
        commit(self, offsets, group)

    monkeypatch.setattr(Transactions, "commit", now_and_then)
    return tried


def give_up_unsure(transactions: Transactions) -> NoReturn:
    """Give the transaction up, and leave open whether it has happened."""
    transactions.flush()
    transactions._abort()
    raise AbortedError("nobody knows", sure=False)
