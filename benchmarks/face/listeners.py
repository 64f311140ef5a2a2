"""200 listeners on the WebSocket while alerts come at 100 a second: what each delivery took, and what it costs.

The server is a process of its own, and so are the listeners: each has a core. The delay of a delivery is the time from
just before the alert is committed to its arrival at the listener, whose own reading is part of it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from datetime import datetime
from typing import Any

import numpy as np
import psutil
import uvloop
from websockets.asyncio.client import connect

from benchmarks.face.stand import standing

IDS = ("ws.deliveries", "ws.delay.p99", "ws.delay.p50", "ws.server_core")
CLIENTS, RATE, SECONDS = 200, 100.0, 20.0
SETTLE_SECONDS = 15.0


class Arrivals:
    """Delays of deliveries, and when the first and the last came."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.first = self.last = 0.0
        self._decided: dict[bytes, float] = {}

    def take(self, message: bytes) -> None:
        """A message; those that are no alerts say nothing."""
        at = message.find(b'"decidedAt":"')
        if at < 0:
            return
        now = time.time()
        text = message[at + 13 : message.index(b'"', at + 13)]
        decided = self._decided.get(text)
        if decided is None:
            decided = self._decided[text] = seconds_of(text.decode())
        self.delays.append(now - decided)
        self.first, self.last = self.first or now, now


def seconds_of(text: str) -> float:
    """Unix seconds of RFC 3339 text with nanoseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


async def listen(url: str, arrivals: Arrivals, ready: asyncio.Semaphore) -> None:
    """One listener, until it is cancelled."""
    async with connect(url, proxy=None, compression=None, max_queue=None) as socket:
        await socket.send('{"topics": ["alerts", "entities"]}')
        await socket.recv()  # the greeting: from now on it is told everything
        ready.release()
        async for message in socket:
            arrivals.take(message.encode() if isinstance(message, str) else message)


async def measure(url: str, process: subprocess.Popen[str]) -> tuple[Arrivals, float, float]:
    """What arrived, and the share of a core that the server and these listeners took meanwhile."""
    arrivals, ready = Arrivals(), asyncio.Semaphore(0)
    address = url.replace("http", "ws") + "/ws"
    tasks = [asyncio.create_task(listen(address, arrivals, ready)) for _ in range(CLIENTS)]
    for _ in tasks:
        await ready.acquire()
    server, own = psutil.Process(process.pid), psutil.Process()
    assert process.stdin is not None
    before, began = (cpu(server), cpu(own)), time.perf_counter()
    process.stdin.write("go\n")
    process.stdin.flush()
    deadline = began + SECONDS + SETTLE_SECONDS
    while len(arrivals.delays) < CLIENTS * RATE * SECONDS and time.perf_counter() < deadline:
        await asyncio.sleep(0.1)
    took = time.perf_counter() - began
    shares = (cpu(server) - before[0]) / took, (cpu(own) - before[1]) / took
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return arrivals, *shares


def cpu(process: psutil.Process) -> float:
    """CPU seconds that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def run() -> list[dict[str, Any]]:
    arguments = ("--series", "500", "--alerts", str(RATE), "--seconds", str(SECONDS))
    with standing(*arguments) as (url, process), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        arrivals, core, own = runner.run(measure(url, process))
    wanted = round(CLIENTS * RATE * SECONDS)
    delays = np.array(arrivals.delays)
    note = f"{CLIENTS} listeners, {RATE:g} alerts/s for {SECONDS:g} s; {len(delays):,} of {wanted:,} deliveries"
    rate = len(delays) / max(arrivals.last - arrivals.first, 1e-9)
    rows = [
        ("ws.deliveries", rate, "1/s", note),
        ("ws.delay.p50", float(np.quantile(delays, 0.5)) * 1e3, "ms", "from before the commit to the listener"),
        ("ws.delay.p99", float(np.quantile(delays, 0.99)) * 1e3, "ms", f"greatest {delays.max() * 1e3:.0f}"),
        ("ws.server_core", core, "cores", f"of the server; the listeners took {own:.2f}"),
    ]
    return [{"id": name, "value": value, "unit": unit, "note": said} for name, value, unit, said in rows]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
