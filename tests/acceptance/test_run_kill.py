"""A live run that is killed under load: what was answered 2xx is in the log, no alert is lost or repeated, and the log
gives the same alerts again."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from foreshock.runtime.log import SegmentLog

VERIFY = os.environ.get("FORESHOCK_VERIFY") == "1"
KILLS = 20 if VERIFY else 3
START = 1_700_000_000
STEP = 10
ENTITIES = 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def config(folder: Path, port: int) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"""
data_dir: {folder / "data"}
sources: [{{type: http, lateness: 0s}}]
stream: {{step: {STEP}s}}
snapshot: {{every: 0.5s, share: 1.0}}
sinks: [{{type: jsonl, path: {folder / "alerts.jsonl"}, all: true}}]
http: {{listen: "127.0.0.1:{port}"}}
"""
    )
    return path


class Sender:
    """Posts rows of all entities in event time, each until it is acknowledged, and remembers what was."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(timeout=5.0)
        self.rng = np.random.default_rng(3)
        self.step = 0
        self.acknowledged: list[str] = []

    def ready(self) -> None:
        for _ in range(600):
            try:
                if self.client.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError("the service did not become ready in 30 s")

    def rows(self) -> list[dict[str, Any]]:
        faulty = self.step % 150 >= 135 and self.step > 150
        return [
            {
                "id": f"{e}-{self.step}",
                "time": START + STEP * self.step,
                "host": f"h{e}",
                "cpu": 20 + float(self.rng.normal(0, 1)) + (60 if faulty and e == 1 else 0),
                "mem": 50 + float(self.rng.normal(0, 1)),
            }
            for e in range(ENTITIES)
        ]

    def send(self) -> None:
        """One step; raises httpx.HTTPError when the service is gone, and is then repeated by the caller."""
        if not hasattr(self, "pending"):
            self.pending = self.rows()
        body = "\n".join(json.dumps(row) for row in self.pending)
        answer = self.client.post(
            f"{self.url}/api/v1/events", content=body, headers={"content-type": "application/x-ndjson"}
        )
        if answer.status_code in (429, 503):
            time.sleep(0.02)
            return
        assert answer.status_code == 202, answer.text
        self.acknowledged += [str(row["id"]) for row in self.pending]
        del self.pending
        self.step += 1


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "foreshock", "run", str(path), "--headless"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.verify
def test_killed_run_loses_and_repeats_nothing(tmp_path: Path) -> None:
    port = free_port()
    path = config(tmp_path, port)
    sender = Sender(port)
    rng = random.Random(11)
    process = start(path)
    sender.ready()
    for _ in range(KILLS):
        until = sender.step + rng.randint(100, 220)
        while sender.step < until:
            sender.send()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with pytest.raises(httpx.HTTPError):
            sender.send()
        process = start(path)
        sender.ready()
    for _ in range(200):
        sender.send()
    time.sleep(2.5)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    sender.client.close()
    assert process.returncode == 0, stderr

    logged = Counter[str]()
    for _, record in SegmentLog(tmp_path / "data" / "log", read_only=True).read(0):
        if record.source == "http":
            logged.update(json.loads(line)["id"] for line in record.payload.splitlines())
    missing = [one for one in sender.acknowledged if one not in logged]
    assert missing == []

    live = (tmp_path / "alerts.jsonl").read_bytes()
    transitions = Counter(
        (alert["foreshock"]["episode"], alert["status"], alert["foreshock"]["notified"])
        for alert in map(json.loads, live.splitlines())
    )
    assert len(transitions) >= 2
    assert set(transitions.values()) == {1}

    again = subprocess.run(
        [sys.executable, "-m", "foreshock", "replay", str(tmp_path / "data"), "--out", str(tmp_path / "again")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "alerts.jsonl").read_bytes() == live
