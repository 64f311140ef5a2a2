"""Runs the speed benchmarks side by side with their peers, prints a table of ratios, writes out/bench.json.

Each module of benchmarks/speed has `run() -> list[dict]` with keys id, value, unit, peer, peer_value, ratio, note;
ids are permanent. `python -m benchmarks.run [NAME…]` runs only modules or ids that contain a NAME. Those of
benchmarks/face (`face.page`, `face.listeners`) need a browser, or both cores for themselves, and those of
benchmarks/kafka (`kafka.speed` …) a Kafka: they run when named.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import benchmarks.face
import benchmarks.kafka
import benchmarks.speed


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = f"{names[0]} x {len(names)}" if names else cpu
    load = os.getloadavg()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": cpu,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit.stdout.strip(),
        "load_before": round(load[0], 2),
    }


def number(value: float | None) -> str:
    """Three significant digits, plainly."""
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def modules(names: list[str]) -> Iterator[Any]:
    """Those that are wanted; of the face and of Kafka only what is named."""
    for package in (benchmarks.speed, benchmarks.face, benchmarks.kafka):
        for module in pkgutil.iter_modules(package.__path__):
            name = f"{package.__name__.removeprefix('benchmarks.')}.{module.name}"
            if package is not benchmarks.speed and not any(one in name for one in names):
                continue
            loaded = importlib.import_module(f"benchmarks.{name}")
            wanted = not names or any(one in name or one in getattr(loaded, "IDS", ()) for one in names)
            if wanted and hasattr(loaded, "run"):
                yield loaded


def main(names: list[str]) -> None:
    results: list[dict[str, Any]] = []
    about = machine()
    header = f"{'id':44} {'value':>10} {'unit':12} {'peer':28} {'peer value':>10} {'ratio':>7}  note"
    print(header + "\n" + "-" * len(header), flush=True)
    for loaded in modules(names):
        for row in loaded.run():
            results.append(row)
            print(
                f"{row['id']:44} {number(row['value']):>10} {row['unit']:12} {row.get('peer') or '':28} "
                f"{number(row.get('peer_value')):>10} {number(row.get('ratio')):>7}  {row.get('note') or ''}",
                flush=True,
            )
    Path("out").mkdir(exist_ok=True)
    Path("out/bench.json").write_text(json.dumps({"machine": about, "results": results}, indent=1) + "\n")
    print("\nwritten: out/bench.json")


if __name__ == "__main__":
    main(sys.argv[1:])
