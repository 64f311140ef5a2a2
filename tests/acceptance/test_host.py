"""This machine as a new user watches it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_run_kill import free_port

VERIFY = os.environ.get("FORESHOCK_VERIFY") == "1"


@contextmanager
def running(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "foreshock", "run", "host", "--headless", "--json", "--data-dir", str(folder)]
    with subprocess.Popen(
        [*command, "--listen", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ask(port: int, path: str) -> Any:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).json()
    except httpx.HTTPError:
        return {}


def end(process: subprocess.Popen[str]) -> dict[str, Any]:
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    report: dict[str, Any] = json.loads(stdout)
    return report


def anomalies(port: int) -> list[dict[str, Any]]:
    found = ask(port, "/api/v1/alerts").get("alerts", [])
    return [alert for alert in found if alert["labels"]["alertname"] == "ForeshockAnomaly"]


@pytest.mark.verify
def test_the_machine_is_alive_and_the_report_is_alertmanagers(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path / "data", port) as process:
        deadline = time.monotonic() + 60
        features: set[str] = set()
        while "system.cpu.utilization" not in features and time.monotonic() < deadline:
            time.sleep(0.2)
            features = {one["feature"] for one in ask(port, "/api/v1/series").get("series", [])}
        assert {"system.cpu.utilization", "system.memory.utilization"} <= features
        assert ask(port, "/readyz") == {"status": "ready"}
        report = end(process)
    names = [alert["labels"]["alertname"] for alert in report["alerts"]]
    assert names == ["ForeshockWatchdog"]
    assert {"labels", "annotations", "startsAt", "endsAt", "fingerprint", "generatorURL"} <= report["alerts"][0].keys()


@pytest.mark.verify
@pytest.mark.skipif(not VERIFY, reason="takes five minutes of a quiet machine; make verify runs it")
def test_a_busy_core_is_alerted_within_15_s_and_resolved_within_60_s_of_its_end(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path / "data", port) as process:
        time.sleep(125)
        assert anomalies(port) == []
        began = time.monotonic()
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burn:
            while not anomalies(port) and time.monotonic() < began + 60:
                time.sleep(0.25)
            alerted = time.monotonic() - began
            time.sleep(max(0.0, began + 60 - time.monotonic()))
            burn.kill()
        ended = time.monotonic()
        while any(a["status"] == "firing" for a in anomalies(port)) and time.monotonic() < ended + 120:
            time.sleep(0.25)
        resolved = time.monotonic() - ended
        first = anomalies(port)[-1]
        end(process)
    assert alerted <= 15
    assert resolved <= 60
    assert "cpu utilization" in first["annotations"]["summary"]
