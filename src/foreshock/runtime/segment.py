"""The bytes of one segment of the log: header, entries, and how damage is told from a torn tail.

The format, and the reasons for it, are in docs/reference/log-format.md.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import msgspec

from foreshock.errors import PermanentError
from foreshock.types import Record

MAGIC = b"FSHK.log"
VERSION = 1
MARK = b"\xf5\x0e\xc5\x1b"
MAX_BODY_BYTES = 1 << 30
WINDOW_BYTES = 1 << 20
INDEX_BYTES = 1 << 16
SECTOR_BYTES = 512

_HEADER = struct.Struct("<8sIQQq")
_FRONT = struct.Struct("<4sIIQ")
_CRC = struct.Struct("<I")
_PREFIX = struct.Struct("<4sIIQI")
HEADER_BYTES = _HEADER.size + _CRC.size
PREFIX_BYTES = _PREFIX.size

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


@dataclass(frozen=True, slots=True)
class Problem:
    """Damage in a log: the entry at `position` (byte `offset` of `file`) cannot be trusted, and why.

    `resume` is the first position behind it that may be readable. `torn`: the end of the file cuts the entry off,
    which is no damage at the end of the last segment.
    """

    file: str
    position: int
    offset: int
    reason: str
    resume: int
    torn: bool = False

    def __str__(self) -> str:
        return f"{self.file}: position {self.position}, byte {self.offset}: {self.reason}"


Entry = tuple[int, int, memoryview]
"""Position, byte offset and body of a whole entry."""


@dataclass(slots=True)
class Segment:
    """One file of the log. `previous_end` and `previous_received` tell of the segment before it, from its header.

    `previous_end` differs from `first` where positions were left out. `bytes` counts whole entries and the header.
    `index_position` and `index_offset` hold an entry start about every 64 KiB, as far as they are known.
    """

    path: Path
    first: int
    previous_end: int
    previous_received: int
    bytes: int
    damaged_header: bool = False
    index_position: array[int] = field(default_factory=lambda: array("q"))
    index_offset: array[int] = field(default_factory=lambda: array("q"))

    def note(self, position: int, offset: int) -> None:
        """Remember where an entry starts, unless a near one is known."""
        if not self.index_offset or offset - self.index_offset[-1] >= INDEX_BYTES:
            self.index_offset.append(offset)
            self.index_position.append(position)

    def entries(self, limit: int, position: int = 0) -> Iterator[Entry | Problem]:
        """Entries from `position` on up to byte `limit`, and what is wrong between them.

        Raises FileNotFoundError if the segment has been dropped, OSError if it cannot be read.
        """
        known = bisect_right(self.index_position, position) - 1
        start = (self.first, HEADER_BYTES) if known < 0 else (self.index_position[known], self.index_offset[known])
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from walk(fd, str(self.path), *start, limit, position)
        finally:
            os.close(fd)


def header_bytes(first: int, previous_end: int, previous_received: int) -> bytes:
    """Header of a segment."""
    front = _HEADER.pack(MAGIC, VERSION, first, previous_end, previous_received)
    return front + _CRC.pack(crc32(front))


def read_header(path: Path, first: int) -> Segment:
    """The segment in a file whose name says `first`; a damaged header is noted and its name believed.

    Raises PermanentError if a newer version wrote it, FileNotFoundError if it is gone.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, HEADER_BYTES, 0)
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    front = data[: _HEADER.size]
    if len(data) == HEADER_BYTES and _CRC.unpack_from(data, _HEADER.size)[0] == crc32(front):
        magic, version, found, previous_end, previous_received = _HEADER.unpack(front)
        if magic == MAGIC and version > VERSION:
            raise PermanentError(
                f"{path} has log format {version}, this version reads up to {VERSION}: start the version that wrote it"
            )
        if magic == MAGIC and found == first:
            return Segment(path, first, previous_end, previous_received, size)
    return Segment(path, first, first, 0, size, damaged_header=True)


def is_blank(path: Path) -> bool:
    """Whether a segment never got its header: too short, or nothing but zeros."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        return size < HEADER_BYTES or _zeros(fd, 0, 1, size)
    finally:
        os.close(fd)


def encode_body(record: Record) -> bytes:
    """Body of an entry: the record's fields as a msgpack map.

    Raises PermanentError if it is larger than an entry may be.
    """
    body = _encode(record)
    if len(body) > MAX_BODY_BYTES:
        raise PermanentError(
            f"a record of {len(body)} bytes from {record.source} is larger than the log takes "
            f"({MAX_BODY_BYTES} bytes): send it in parts"
        )
    return body


def decode_body(body: memoryview) -> Record:
    """The record in a body whose checksum is right; raises msgspec.MsgspecError if it is no record."""
    return _decode(body)


def encode_entry(position: int, body: bytes, body_crc: int) -> bytes:
    """An entry: prefix and body."""
    front = _FRONT.pack(MARK, len(body), body_crc, position)
    return b"".join((front, _CRC.pack(crc32(front)), body))


def walk(fd: int, file: str, position: int, offset: int, limit: int, wanted: int = 0) -> Iterator[Entry | Problem]:
    """Entries of a segment from byte `offset`, where `position` starts, to byte `limit`; those below `wanted` are
    passed over unread. Memory: one window of 1 MiB, or one entry where that is larger.
    """
    view, base = memoryview(b""), offset
    while offset < limit:
        if offset - base + PREFIX_BYTES > len(view):
            view, base = memoryview(os.pread(fd, min(WINDOW_BYTES, limit - offset), offset)), offset
            if len(view) < PREFIX_BYTES:
                yield Problem(file, position, offset, "the file ends inside an entry", position + 1, torn=True)
                return
        length, body_crc, found = _prefix(view, offset - base)
        if length < 0 or found < position:
            problem, offset = _lost(fd, file, position, offset, limit)
            yield problem
            position = problem.resume
            continue
        if found > position:
            yield Problem(file, position, offset, f"the entries up to {found - 1} are missing", found)
            position = found
        end = offset + PREFIX_BYTES + length
        if end > limit:
            yield Problem(file, position, offset, "the file ends inside the entry", position + 1, torn=True)
            return
        if position >= wanted:
            if end - base > len(view):
                view, base = (
                    memoryview(os.pread(fd, min(max(WINDOW_BYTES, end - offset), limit - offset), offset)),
                    offset,
                )
            body = view[offset - base + PREFIX_BYTES : end - base]
            if crc32(body) == body_crc:
                yield position, offset, body
            elif _zeros(fd, offset, end, limit):
                yield Problem(file, position, offset, "the entry ends in zeros", position + 1, torn=True)
                return
            else:
                yield Problem(file, position, offset, "the checksum of the body is wrong", position + 1)
        position += 1
        offset = end


def _prefix(view: memoryview, at: int) -> tuple[int, int, int]:
    """Length, checksum of the body and position in a prefix; the length is -1 if the prefix is not whole."""
    mark, length, body_crc, position, check = _PREFIX.unpack_from(view, at)
    if mark != MARK or crc32(view[at : at + _FRONT.size]) != check:
        return -1, 0, 0
    return length, body_crc, position


def _lost(fd: int, file: str, position: int, offset: int, limit: int) -> tuple[Problem, int]:
    """What an unreadable prefix means, and the byte where reading goes on."""
    if _zeros(fd, offset, offset + PREFIX_BYTES, limit):
        return Problem(file, position, offset, "the file ends in zeros", position + 1, torn=True), limit
    found = _search(fd, offset, limit, position)
    if found is None:
        return Problem(file, position, offset, "the prefix is damaged, nothing whole follows", position + 1), limit
    resume, at = found
    return Problem(file, position, offset, f"the prefix is damaged, entry {resume} is the next whole one", resume), at


def _search(fd: int, offset: int, limit: int, position: int) -> tuple[int, int] | None:
    """Position and byte of the next entry with a whole prefix behind `offset`."""
    origin, offset = offset, offset + 1
    while offset + PREFIX_BYTES <= limit:
        data = os.pread(fd, min(WINDOW_BYTES, limit - offset), offset)
        at = data.find(MARK)
        while 0 <= at <= len(data) - PREFIX_BYTES:
            length, _, found = _prefix(memoryview(data), at)
            # Each lost entry took at least a prefix: a higher position is text that only looks like one.
            if length >= 0 and 0 < found - position <= (offset + at - origin) // PREFIX_BYTES:
                return found, offset + at
            at = data.find(MARK, at + 1)
        offset += max(1, len(data) - PREFIX_BYTES + 1)
    return None


def _zeros(fd: int, offset: int, stop: int, limit: int) -> bool:
    """Whether the file reads as zeros from a sector boundary before `stop` to `limit`, as a power loss leaves it.

    An entry never ends in eight zero bytes (its last field is a small number behind its name), so that one flipped
    byte cannot look like this.
    """
    at = limit
    while at > offset:
        part = os.pread(fd, min(WINDOW_BYTES, at - offset), max(offset, at - WINDOW_BYTES))
        kept = len(part.rstrip(b"\0"))
        at -= len(part) - kept
        if kept or not part:
            break
    start = offset if at <= offset else -(-at // SECTOR_BYTES) * SECTOR_BYTES
    return start < stop and limit - start >= 8
