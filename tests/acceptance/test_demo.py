"""The demo as somebody sees it who types one command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.acceptance.test_run_kill import free_port


def demo(*arguments: str, timeout: float = 240) -> dict[str, object]:
    command = [
        sys.executable,
        "-m",
        "foreshock",
        "demo",
        "--headless",
        "--json",
        "--listen",
        f"127.0.0.1:{free_port()}",
    ]
    ran = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert ran.returncode == 0, ran.stderr
    report: dict[str, object] = json.loads(ran.stdout)
    return report


@pytest.mark.verify
def test_what_breaks_is_caught_with_its_name() -> None:
    # Six times as fast, so that this takes no minute; the fault comes 20 s after the start of the shop's own time.
    report = demo("--fault", "error_spike", "--seed", "3", "--speed", "6", "--seconds", "12")
    fault = report["faults"][0]  # type: ignore[index]
    assert fault["kind"] == "error_spike"
    assert fault["found_service"] == fault["service"]
    assert fault["right_feature"]
    assert 0 < fault["delay_seconds"] <= 15
    names = {alert["labels"]["alertname"] for alert in report["alerts"]}  # type: ignore[attr-defined]
    assert {"ForeshockWatchdog", "ForeshockAnomaly"} <= names
    assert report["components"]["pipeline"] == "ok"  # type: ignore[index]
