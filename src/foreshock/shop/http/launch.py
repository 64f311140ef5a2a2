"""A shop of HTTP services for another program: started as a process of its own, ended with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from foreshock.errors import PermanentError

_END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Launched:
    """A running shop: `urls` and first `pids` by service, `web` (the load generator) among them, and its process."""

    urls: dict[str, str]
    pids: dict[str, int]
    process: subprocess.Popen[str]


@contextmanager
def launched(
    services: Sequence[str] = (), *, port: int = 0, rate: float = 10.0, collect: str = ""
) -> Iterator[Launched]:
    """A shop that runs until the block is left, or this process ends in whatever way.

    Arguments are as for `Shop`; what it says of its services goes to standard error. Raises PermanentError if it does
    not start.
    """
    command = [
        sys.executable, "-m", "foreshock", "shop", "serve", "--json", "--attached", "--port", str(port),
        "--services", ",".join(services), "--rate", str(rate), "--collect", collect,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        text = process.stdout.readline()
        if not text:
            raise PermanentError(f"the shop did not start: exit code {process.wait(_END_SECONDS)}; stderr says why")
        told = json.loads(text)["services"]
        yield Launched({one["name"]: one["url"] for one in told}, {one["name"]: one["pid"] for one in told}, process)
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
