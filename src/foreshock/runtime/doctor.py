"""Whether this machine and config can run: each question with what was found."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from foreshock.config import Config
from foreshock.errors import ForeshockError
from foreshock.runtime.lock import lock_folder

LEAST_FREE = 1 << 30
LEAST_FILES = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer: `what` was asked, what was `found`, whether that is `good` enough to run."""

    what: str
    found: str
    good: bool


def examine(config: Config) -> list[Finding]:
    """All findings, in a fixed order; changes nothing but an empty data folder and the kernel cache."""
    return [
        Finding("Python", sys.version.split()[0], sys.version_info >= (3, 11)),
        *_folder(Path(config.data_dir)),
        *_http(config),
        _kernels(config),
        _clock(),
        _files(),
    ]


def _folder(folder: Path) -> Iterator[Finding]:
    try:
        with lock_folder(folder), NamedTemporaryFile(dir=folder) as file:
            file.write(b"foreshock")
            os.fsync(file.fileno())
        yield Finding("data folder", f"{folder} can be written", True)
    except (ForeshockError, OSError) as error:
        yield Finding("data folder", str(error), False)
        return
    free = shutil.disk_usage(folder).free
    yield Finding("free disk", f"{free / 2**30:.1f} GiB", free >= LEAST_FREE)


def _http(config: Config) -> Iterator[Finding]:
    if not config.http.enabled:
        return
    family = socket.AF_INET6 if ":" in config.http.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.http.host, config.http.port))
            yield Finding("HTTP address", f"{config.http.listen} is free", True)
        except OSError as error:
            yield Finding("HTTP address", f"{config.http.listen}: {error.strerror}", False)


def _kernels(config: Config) -> Finding:
    from foreshock.runtime.warm import warm

    started = time.perf_counter()
    try:
        warm(config)
    except ForeshockError as error:
        return Finding("kernels", str(error), False)
    seconds = time.perf_counter() - started
    cached = "from the cache" if seconds < 3 else "compiled, the next start is quicker"
    return Finding("kernels", f"ready in {seconds:.1f} s ({cached})", True)


def _clock() -> Finding:
    now = time.time()
    return Finding("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)), now > 1_700_000_000)


def _files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding("open files", f"at most {soft}", soft >= LEAST_FILES or soft == resource.RLIM_INFINITY)
