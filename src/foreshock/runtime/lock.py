"""One process a data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from foreshock.errors import PermanentError


class FolderLock:
    """A held lock on a folder, until `release`, the end of its `with` block, or the end of the process."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._fd >= 0:
            # The file stays: a process that already opened it would otherwise lock a file that nobody else sees.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock_folder(folder: Path) -> FolderLock:
    """Take the folder (made if it is not there) for this process alone: flock(2) on its file `lock`, with our pid.

    The system lets go when the process ends, however it ends. Raises PermanentError if another process has it, or if
    the folder cannot be written.
    """
    path = Path(folder) / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise PermanentError(
            f"{path.parent} cannot be used as a data folder ({error.strerror}): choose another, or let us write it"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise PermanentError(
            f"{path.parent} is in use by process {holder or '(unknown)'}: stop that one, or choose another data folder"
        ) from error
    except OSError as error:
        os.close(fd)
        raise PermanentError(f"{path} cannot be locked ({error.strerror}): choose a folder on a local disk") from error
    # The lock holds without it: the number is for the message above, and a full disk must not stop the start.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return FolderLock(path, fd)
