"""A process that serves the API and the page of a made-up system: series that move each second, alerts at a rate.

`python -m benchmarks.face.stand --series 5000 --alerts 100` says its address in its first line and ends with its input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from foreshock.adapters.sql import Store
from foreshock.api.live import Hub
from foreshock.api.server import create_app, serve
from foreshock.api.services import Health, Services
from foreshock.runtime.clock import SystemClock
from foreshock.runtime.views import Views
from foreshock.state import Registry
from foreshock.types import Alert, Rows, Series, Verdict, labels

FEATURES = ("calls.rate", "calls.error_ratio", "calls.duration.p50", "calls.duration.p95", "calls.duration.p99",
            "container.cpu.utilization", "container.memory.usage", "service.queue.length", "service.restarts",
            "db.client.connections.usage")  # fmt: skip
UNITS = ("1/s", "1", "s", "s", "s", "1", "By", "", "", "")
HISTORY = 400
SECOND = 1_000_000_000


class Stand:
    """`series` series of services, ten each; `feed` moves all of them by one second."""

    def __init__(self, store: Store, series: int) -> None:
        self.store, self.views = store, Views(max(series, 10), 720)
        self.services = max(series // len(FEATURES), 1)
        self._registry = Registry()
        for n in range(self.services):
            for name, unit in zip(FEATURES, UNITS, strict=True):
                self._registry.intern(Series(name, labels({"service.name": f"service-{n}"}), unit=unit))
        self._rng = np.random.default_rng(0)
        self.hub = Hub(self.views, store, self.standing)
        self._committed = 0

    def standing(self) -> dict[str, Any]:
        now = time.time()
        return {"environment": "bench", "now_unix_seconds": now, "watermark_unix_seconds": now, "silent_seconds": 0.5,
                "not_ready": [], "demo": False, **self.views.counts()}  # fmt: skip

    def feed(self, time_unix_nano: int) -> None:
        """A row of every service, and what a detector says of it."""
        n, d = self.services, len(FEATURES)
        at = np.full(n, time_unix_nano)
        rows = Rows(
            np.arange(n, dtype=np.int32), at, at, np.ones(n, np.bool_), np.zeros(n, np.uint8),
            np.arange(0, n * d + 1, d), np.arange(n * d, dtype=np.int32), self._rng.random(n * d),
        )  # fmt: skip
        strength = self._rng.normal(-1.5, 0.4, n * d)
        band = np.full(n * d, 0.5)
        verdict = Verdict(
            "deviation", np.exp(strength), np.zeros(n * d, np.uint8), np.exp(strength - 3.0), strength, strength > 0.0,
            band, band - 0.4, band + 0.4, False, None, False,
        )  # fmt: skip
        self.views.feed(rows, [verdict], self._registry)
        self.views.sources.feed("bench", time_unix_nano, n * d, time_unix_nano)

    def alert(self, number: int) -> None:
        """An alert that fires from now on, kept and told as the runtime does it; `decided` is just before."""
        now = time.time_ns()
        own = {"alertname": "ForeshockAnomaly", "severity": "warning", "feature": FEATURES[1],
               "service_name": f"service-{number % self.services}"}  # fmt: skip
        said = labels({"summary": f"error ratio of service-{number % self.services}", "observed": "0.4",
                       "expected_low": "0", "expected_high": "0.01", "unit": "1", "detector": "deviation"})  # fmt: skip
        alert = Alert(labels(own), said, now, now, strength=1.0 + number / 1e6)
        self.store.commit("bench", self._committed, self._committed + 1, [alert], None, [])
        self._committed += 1
        self.views.feed_alerts([alert])
        self.hub.woken()


def _refuse(*_: Any) -> Any:
    raise NotImplementedError


def application(stand: Stand) -> Services:
    """What the routes stand on."""
    return Services(
        version="bench", clock=SystemClock(), decode=_refuse, submit=_refuse, control=_refuse, views=stand.views,
        store=stand.store, status=dict, health=Health, hub=stand.hub, requests_per_second=1e6,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--alerts", type=float, default=0.0, help="a second, once a line comes in")
    parser.add_argument("--seconds", type=float, default=10.0, help="for so long")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/bench.db")
        stand = Stand(store, asked.series)
        now = time.time_ns() // SECOND * SECOND
        for back in range(HISTORY, 0, -1):
            stand.feed(now - back * SECOND)
        server = serve(create_app(application(stand)), "127.0.0.1", 0)
        server.start()
        ended = threading.Event()
        threading.Thread(target=keep_moving, args=(stand, ended), daemon=True).start()
        print(json.dumps({"url": f"http://127.0.0.1:{server.port}"}), flush=True)
        if sys.stdin.readline() and asked.alerts:
            tell(stand, asked.alerts, asked.seconds)
            print(json.dumps({"told": stand._committed}), flush=True)
            sys.stdin.readline()
        ended.set()
        server.stop()
        store.close()
    return 0


def keep_moving(stand: Stand, ended: threading.Event) -> None:
    """A row a second."""
    due = time.time_ns() // SECOND * SECOND + SECOND
    while not ended.wait(max(0.0, (due - time.time_ns()) / SECOND)):
        stand.feed(due)
        due += SECOND


def tell(stand: Stand, rate: float, seconds: float) -> None:
    """Alerts at a steady rate."""
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        left = began + number / rate - time.perf_counter()
        if left > 0:
            time.sleep(left)
        stand.alert(number)


@contextmanager
def standing(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A stand in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "benchmarks.face.stand", *arguments]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    raise SystemExit(main())
