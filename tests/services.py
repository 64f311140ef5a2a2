"""Real servers for tests: found by PATH, started on a free port in a temporary folder, ended by their own process."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx
import pytest

READY_SECONDS = 20.0


def binary(name: str) -> str:
    """The path of a server's program; where it is missing the test fails and says how to install it."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not installed: run scripts/services.sh install", pytrace=False)
    return path


def free_port() -> int:
    """A port of the loopback address that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass
class Prometheus:
    """A Prometheus server of its own; `config` is its prometheus.yml."""

    folder: Path
    config: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "prometheus.yml"
        config.write_text(self.config)
        log = (self.folder / "prometheus.log").open("ab")
        self.process = subprocess.Popen(
            [
                binary("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--web.enable-remote-write-receiver",
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_until(self._is_ready, f"prometheus did not start: {self.folder / 'prometheus.log'}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def query(self, promql: str) -> list[dict[str, object]]:
        """The result of an instant query."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": promql}, trust_env=False)
        answer.raise_for_status()
        found: list[dict[str, object]] = answer.json()["data"]["result"]
        return found

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "prometheus.log").read_text()[-2000:]
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def prometheus(folder: Path, config: str) -> Iterator[Prometheus]:
    """A running Prometheus."""
    server = Prometheus(folder, config)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def wait_until(holds: object, what: str, seconds: float = READY_SECONDS) -> None:
    """Wait, by the real clock, until a function says yes; fail with `what` after so long."""
    assert callable(holds)
    deadline, pause = time.monotonic() + seconds, Event()
    while not holds():
        assert time.monotonic() < deadline, what
        pause.wait(0.02)
