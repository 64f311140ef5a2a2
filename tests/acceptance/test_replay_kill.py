"""A replay that is killed at random moments and called again gives the same bytes as one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.telemetry import write_machines

VERIFY = os.environ.get("FORESHOCK_VERIFY") == "1"
KILLS = 20 if VERIFY else 4


def command(paths: list[Path], out: Path) -> list[str]:
    return [sys.executable, "-m", "foreshock", "replay", *map(str, paths), "--out", str(out), "--json"]


def finish(paths: list[Path], out: Path) -> dict[str, Any]:
    done = subprocess.run(command(paths, out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def last_snapshot(out: Path) -> str:
    """Name of the newest snapshot of an unfinished replay."""
    return max((path.name for path in (out / ".replay" / "snapshots").glob("*.snapshot")), default="")


@pytest.mark.verify
def test_killed_replay_gives_identical_alerts(tmp_path: Path) -> None:
    paths = write_machines(tmp_path, count=6, rows=60_000 if VERIFY else 20_000, metrics=30)
    whole = finish(paths, tmp_path / "whole")
    rng = random.Random(7)
    out = tmp_path / "killed"
    resumed: list[dict[str, Any]] = []
    kills = 0
    while kills < KILLS and not resumed:
        newest = last_snapshot(out)
        with subprocess.Popen(command(paths, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            deadline = time.monotonic() + 60
            while run.poll() is None and last_snapshot(out) == newest and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.15))
            if run.poll() is None:
                run.send_signal(signal.SIGKILL)
                kills += 1
            stdout, stderr = run.communicate()
            if run.returncode == 0:
                resumed.append(json.loads(stdout))
            else:
                assert run.returncode == -signal.SIGKILL, stderr
    if not resumed:
        resumed.append(finish(paths, out))
    assert kills >= min(KILLS, 3)
    assert resumed[-1]["resumed_from"] > 0
    assert resumed[-1]["records"] < whole["records"]
    assert (out / "alerts.jsonl").read_bytes() == (tmp_path / "whole" / "alerts.jsonl").read_bytes()
    assert pq.read_table(out / "verdicts.parquet").equals(pq.read_table(tmp_path / "whole" / "verdicts.parquet"))
    assert (tmp_path / "whole" / "alerts.jsonl").read_bytes().count(b"\n") > 4
