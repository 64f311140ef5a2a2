"""What a service can bear: workers, cores and a disk. How long anything takes follows from who wants them."""

from __future__ import annotations

import asyncio
import errno
import heapq
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from foreshock.shop.topology import Service

_BURNT_RATIO = 0.02
_MOST_BURNT_SECONDS = 0.005
"""Of the time on a core so much is really computed; the rest only passes, for all services share one machine."""


class RefusedError(Exception):
    """All workers are busy and the queue is full."""


class Capacity:
    """Workers and cores of all replicas of a service, which one process stands for."""

    def __init__(self, service: Service) -> None:
        self.busy = self.waiting = 0
        self._cpu_ratio = service.cpu_ratio
        self._queue_limit = service.queue_limit * service.replicas
        self._workers = asyncio.Semaphore(service.workers * service.replicas)
        self._free_at = [0.0] * max(1, round(service.cores * service.replicas))

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Hold a worker, waiting for one in turn; RefusedError if too many wait already."""
        if self._workers.locked() and self.waiting >= self._queue_limit:
            raise RefusedError
        self.waiting += 1
        try:
            await self._workers.acquire()
        finally:
            self.waiting -= 1
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self._workers.release()

    async def work(self, seconds: float, slower: float = 1.0) -> None:
        """Do the service's own work: part of it on a core, `slower` times as long where something else has the core.

        Who comes first gets the core that is free first. When that is, is known at once, so the service does as much
        work on a machine that wakes it late as on any other.
        """
        now = time.monotonic()
        on_core = seconds * self._cpu_ratio * slower
        ready = max(now, self._free_at[0]) + on_core
        heapq.heapreplace(self._free_at, ready)
        burn(min(on_core * _BURNT_RATIO, _MOST_BURNT_SECONDS))
        await asyncio.sleep(ready + seconds * (1.0 - self._cpu_ratio) - time.monotonic())


def burn(seconds: float) -> None:
    """Compute for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class Disk:
    """A folder with room for `limit_bytes`: a journal that begins anew when it is long, and a fault's filler."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._journal, self._filler = folder / "journal", folder / "filler"
        self._journal_limit = limit_bytes // 16
        self.empty()

    @property
    def used_bytes(self) -> int:
        """What is written."""
        return sum(path.stat().st_size for path in (self._journal, self._filler) if path.exists())

    def write(self, row: bytes) -> None:
        """Append to the journal; OSError (ENOSPC) if the disk is full."""
        if self._journal.exists() and self._journal.stat().st_size > self._journal_limit:
            self._journal.unlink()
        self._append(self._journal, row)

    def fill(self, size: int) -> None:
        """Take so many bytes more, at most what is left."""
        left = self.limit_bytes - self.used_bytes
        if left > 0:
            self._append(self._filler, bytes(min(size, left)))

    def empty(self) -> None:
        """Remove the filler."""
        self._filler.unlink(missing_ok=True)

    def _append(self, path: Path, data: bytes) -> None:
        if self.used_bytes + len(data) > self.limit_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        with path.open("ab") as file:
            file.write(data)
