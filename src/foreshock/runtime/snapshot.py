"""Snapshots: the state of a task at a position, copied in slices and kept in files (CONTRACTS §1).

The bytes are in docs/reference/log-format.md.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
import platform
import re
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from numpy.typing import NDArray

from foreshock import __version__
from foreshock.errors import PermanentError
from foreshock.runtime.disk import refusing, sync_folder, write_at
from foreshock.state import State, chunks, unpack
from foreshock.state.slots import SlotTable
from foreshock.telemetry import ERRORS

logger = logging.getLogger(__name__)

MAGIC = b"FSHKsnap"
VERSION = 1

_HEADER = struct.Struct("<8sIIQQQI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
_NAME = re.compile(r"\d{20}\.snapshot")


class _Part(msgspec.Struct):
    """Where the state of one operator stands in the file."""

    name: str
    offset: int
    bytes: int
    crc: int


class _Directory(msgspec.Struct):
    meta: dict[str, Any]
    parts: list[_Part]


_decode_directory = msgspec.msgpack.Decoder(_Directory).decode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All state of a task after the records below `position`; `states` by operator, `meta` as it was given."""

    position: int
    states: dict[str, State]
    meta: dict[str, Any]
    path: Path


class SnapshotStore:
    """Snapshots of one task in a folder; the newest `keep` stay.

    Temporary files that a crash left behind are removed. Raises RetryableError if the folder cannot be used.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), keep
        self._unreadable: set[int] = set()
        with refusing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob("*.snapshot.tmp"):
                left.unlink()

    def write(self, position: int, states: Mapping[str, State], meta: Mapping[str, Any]) -> Path:
        """Write a snapshot and drop those that are no longer needed; returns once it is durable.

        `states` frozen, by operator; `meta` plain data. `position` must be committed, durably: a snapshot ahead of
        what a crash leaves committed is of no use, and pushes out one that is. Nothing is left behind by a failure:
        RetryableError if the disk refuses.
        """
        path = self._path(position)
        temporary = path.with_suffix(".snapshot.tmp")
        try:
            with refusing(temporary):
                _write_file(temporary, position, states, meta)
                temporary.rename(path)
                sync_folder(self.folder)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._unreadable.discard(position)
        self._prune()
        return path

    def newest(self, committed: int) -> Snapshot | None:
        """The newest readable snapshot at or below `committed`; None if there is none.

        A damaged one is passed over with a warning. One above `committed` is of a future that was lost, in which the
        same positions may have held other records: it is deleted.
        """
        for position in reversed(self._positions()):
            path = self._path(position)
            if position > committed:
                logger.warning("%s is ahead of what was committed (%d) and is deleted", path, committed)
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                continue
            try:
                return _read_file(path)
            except FileNotFoundError:
                continue
            except (PermanentError, OSError) as error:
                self._unreadable.add(position)
                ERRORS.labels("snapshot").inc()
                logger.warning("%s cannot be read and is passed over: %s", path, error)
        return None

    def oldest_position(self) -> int | None:
        """Position of the oldest snapshot that is kept, below which the log is not needed; None if there is none."""
        return next((position for position in self._positions() if position not in self._unreadable), None)

    def _path(self, position: int) -> Path:
        return self.folder / f"{position:020d}.snapshot"

    def _positions(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _prune(self) -> None:
        readable = [position for position in self._positions() if position not in self._unreadable]
        for position in {*readable[: -self.keep], *self._unreadable}:
            # A file too many does no harm; the next write tries again.
            with suppress(OSError):
                self._path(position).unlink(missing_ok=True)
                self._unreadable.discard(position)


class SnapshotJob:
    """Copies the states of a task as they are now, in slices, while the task goes on.

    `states` by operator, with live tables; from here on owners must `touch` slots before they write (`SlotTable`).
    One job at a time: a new one takes the tables over, and the old one is void.
    """

    def __init__(self, states: Mapping[str, State]) -> None:
        self._states = dict(states)
        self._waiting: list[tuple[str, str, SlotTable]] = [
            (operator, name, table) for operator, state in states.items() for name, table in state.tables.items()
        ]
        self._copies: dict[tuple[str, str], NDArray[Any]] = {}
        self._tables = list(self._waiting)
        for _, _, table in self._waiting:
            table.begin_copy()

    def advance(self, budget_seconds: float) -> bool:
        """Copy for so long, one block (64 KiB) longer at most; True once all is copied."""
        deadline = time.perf_counter() + budget_seconds
        while self._waiting:
            operator, name, table = self._waiting[-1]
            copy = table.copy_some(deadline)
            if copy is None:
                return False
            self._copies[operator, name] = copy
            self._waiting.pop()
        return True

    def finish(self) -> dict[str, State]:
        """The states as they were at the beginning, tables among the arrays; copies what is left, at once."""
        self.advance(float("inf"))
        return {
            operator: State(
                state.version,
                state.meta,
                state.arrays | {name: self._copies[operator, name] for name in state.tables},
                {},
                state.blobs,
            )
            for operator, state in self._states.items()
        }

    def release(self) -> None:
        """Give the memory of the copies back, for the next snapshot: what `finish` gave is void."""
        for operator, name, table in self._tables:
            table.give_back(self._copies.pop((operator, name)))


@functools.cache
def numerics_id() -> str:
    """What byte equality of results hangs on (CONTRACTS §7): versions of what computes, and the CPU it runs on."""
    # Imported here, for it is slow and only snapshots ask; by name, for it has no type stubs.
    binding = importlib.import_module("llvmlite.binding")
    cpu = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES") or binding.get_host_cpu_features().flatten()
    # numpy chooses its loops by the CPU too, but for these.
    without = os.environ.get("NPY_DISABLE_CPU_FEATURES", "")
    digest = hashlib.blake2b(f"{features}|{without}".encode(), digest_size=4).hexdigest()
    versions = " ".join(f"{name}-{version(name)}" for name in ("numpy", "numba", "llvmlite"))
    return f"foreshock-{__version__} {versions} {platform.machine()} {cpu} {digest}"


# -- the file ----------------------------------------------------------------------------------------------------


def _write_file(path: Path, position: int, states: Mapping[str, State], meta: Mapping[str, Any]) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        at, parts = HEADER_BYTES, []
        for name, state in states.items():
            start, check = at, 0
            for chunk in chunks(state):
                write_at(fd, chunk, at)
                check = crc32(chunk, check)
                at += len(chunk)
            parts.append(_Part(name, start, at - start, check))
        directory = msgspec.msgpack.encode(_Directory(dict(meta), parts))
        write_at(fd, directory, at)
        header = _HEADER.pack(MAGIC, VERSION, 0, position, at, len(directory), crc32(directory))
        write_at(fd, header + _CRC.pack(crc32(header)), 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_file(path: Path) -> Snapshot:
    """Read and check a whole file; raises PermanentError if it is damaged or of a newer version, OSError."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        header = os.pread(file.fileno(), HEADER_BYTES, 0)
        front = header[: _HEADER.size]
        if len(header) < HEADER_BYTES or _CRC.unpack_from(header, _HEADER.size)[0] != crc32(front):
            raise PermanentError("its header is damaged")
        magic, found, _, position, at, length, check = _HEADER.unpack(front)
        if magic != MAGIC or found != VERSION:
            raise PermanentError(f"it has snapshot format {found}, this version reads {VERSION}")
        if at + length != size:
            raise PermanentError(f"it has {size} bytes instead of {at + length}")
        try:
            directory = _decode_directory(_checked(file.fileno(), at, length, check, "its directory"))
        except msgspec.MsgspecError as error:
            raise PermanentError(f"its directory cannot be read: {error}") from error
        states = {
            part.name: unpack(_checked(file.fileno(), part.offset, part.bytes, part.crc, f"the state of {part.name}"))
            for part in directory.parts
        }
    return Snapshot(position, states, directory.meta, path)


def _checked(fd: int, offset: int, length: int, check: int, what: str) -> bytes:
    parts = []
    while length > 0:
        # One read gives 2 GiB at most.
        part = os.pread(fd, length, offset)
        if not part:
            break
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if crc32(data) != check:
        raise PermanentError(f"the checksum of {what} is wrong")
    return data
