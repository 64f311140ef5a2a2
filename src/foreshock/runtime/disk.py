"""What writing to a disk needs: whole writes, durable names, and errors that say what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

from foreshock.errors import RetryableError


def refusal(path: Path, error: OSError) -> RetryableError:
    """What a refused access to `path` means for the user."""
    if error.errno in (ENOSPC, EDQUOT, EFBIG):
        advice = "make room there, or lower what may be kept (log.max_bytes, retention); it goes on by itself"
    else:
        advice = "check the disk and the permissions; it goes on by itself once the disk does"
    return RetryableError(f"the disk refused {path}: {error.strerror}: {advice}")


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn OSError into a RetryableError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        raise refusal(path, error) from error


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; raises OSError, after which part of it may be there."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        more = os.pwrite(fd, memoryview(data)[done:], offset + done)
        if more <= 0:
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        done += more


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
