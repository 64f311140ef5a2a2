"""Runs the speed benchmarks side by side with their peers, prints a table of ratios, writes out/bench.json.

Each module of benchmarks/speed has `run() -> list[dict]` with keys id, value, unit, peer, peer_value, ratio, note;
ids are permanent. `python -m benchmarks.run [NAME…]` runs only modules or ids that contain a NAME.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": cpu,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit.stdout.strip(),
    }


def number(value: float | None) -> str:
    """Three significant digits, plainly."""
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def main(names: list[str]) -> None:
    results: list[dict[str, Any]] = []
    header = f"{'id':44} {'value':>10} {'unit':12} {'peer':28} {'peer value':>10} {'ratio':>7}  note"
    print(header + "\n" + "-" * len(header), flush=True)
    for module in pkgutil.iter_modules(benchmarks.speed.__path__):
        loaded = importlib.import_module(f"benchmarks.speed.{module.name}")
        wanted = not names or any(name in module.name or name in getattr(loaded, "IDS", ()) for name in names)
        if not wanted or not hasattr(loaded, "run"):
            continue
        for row in loaded.run():
            results.append(row)
            print(
                f"{row['id']:44} {number(row['value']):>10} {row['unit']:12} {row.get('peer') or '':28} "
                f"{number(row.get('peer_value')):>10} {number(row.get('ratio')):>7}  {row.get('note') or ''}",
                flush=True,
            )
    Path("out").mkdir(exist_ok=True)
    Path("out/bench.json").write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")
    print("\nwritten: out/bench.json")


if __name__ == "__main__":
    main(sys.argv[1:])
