"""What `foreshock plan` predicts, beside what a process then takes that is fed by HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from foreshock.adapters.metrics import METRICS
from foreshock.runtime.warm import readings

IDS = ("plan.memory", "plan.cpu")
ENTITIES, FEATURES, STEP_SECONDS = 40, 50, 10.0
ROWS = 800
"""More than the views keep of a series, so that they are full."""

CONFIG = "stream: {step: 10}\nsources: [{type: http, name: warm, lateness: 0}]\n"


def predicted(config: Path) -> dict[str, Any]:
    """What the command says."""
    command = [sys.executable, "-m", "foreshock", "plan", str(config), "--entities", str(ENTITIES), "--features",
               str(FEATURES), "--step", str(STEP_SECONDS), "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measured(config: Path, folder: Path) -> tuple[float, float]:
    """Bytes of the process at the end, and CPU seconds a million samples of its second half."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "foreshock", "run", str(config), "--headless", "--listen", address,
               "--data-dir", str(folder / "data")]  # fmt: skip
    with subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=10) as client:
                wait(client, "/readyz")
                return feed(client, psutil.Process(process.pid))
        finally:
            process.terminate()


def feed(client: httpx.Client, process: psutil.Process) -> tuple[float, float]:
    """Post all readings; see `measured`."""
    payloads = [one.payload for one in readings(ENTITIES, FEATURES, ROWS, STEP_SECONDS) if one.content_type == METRICS]
    half = len(payloads) // 2
    post(client, payloads[:half])
    before = cpu_seconds(process)
    post(client, payloads[half:])
    spent = cpu_seconds(process) - before
    return process.memory_info().rss, spent / (len(payloads[half:]) * ENTITIES * FEATURES) * 1e6


def post(client: httpx.Client, payloads: list[bytes]) -> None:
    """Send them one after another and wait until all are judged."""
    for payload in payloads:
        while True:
            answer = client.post("/api/v1/events", content=payload, headers={"Content-Type": METRICS})
            if answer.status_code == 202:
                break
            assert answer.status_code in (429, 503), answer.text
            time.sleep(0.05)
    time.sleep(1.0)


def cpu_seconds(process: psutil.Process) -> float:
    """CPU that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def wait(client: httpx.Client, path: str) -> None:
    """Until a path answers 200."""
    for _ in range(3000):
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise RuntimeError("not ready in 60 s")


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "foreshock.yaml"
        config.write_text(CONFIG)
        plan = predicted(config)
        memory, cpu = measured(config, folder)
    note = f"{ENTITIES * FEATURES:,} series of robust_z by HTTP, views full; ratio = predicted ÷ measured"
    return [
        {"id": "plan.memory", "value": memory / 2**20, "unit": "MiB", "peer": "foreshock plan",
         "peer_value": plan["memory_bytes"] / 2**20, "ratio": plan["memory_bytes"] / memory, "note": note},
        {"id": "plan.cpu", "value": cpu, "unit": "s/Msample", "peer": "foreshock plan",
         "peer_value": plan["seconds_per_million"], "ratio": plan["seconds_per_million"] / cpu, "note": note},
    ]  # fmt: skip
