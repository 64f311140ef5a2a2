"""The segment log: nothing acknowledged is lost, nothing damaged is passed over in silence."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from foreshock.errors import PermanentError, RetryableError
from foreshock.runtime import segment as segments
from foreshock.runtime.lock import lock_folder
from foreshock.runtime.log import DamagedLogError, SegmentLog, inspect_log, verify_log
from foreshock.runtime.segment import HEADER_BYTES, PREFIX_BYTES
from foreshock.types import Record
from foreshock.types.record import CONFIG, GAP, JSON

SECOND = 1_000_000_000


def record(n: int, size: int = 20, content_type: str = JSON) -> Record:
    payload = (b"%d," % n) + random.Random(n).randbytes(size)
    return Record("default", f"source-{n % 3}", content_type, (1000 + n) * SECOND, payload)


def fill(folder: Path, count: int, segment_bytes: int = 1 << 20) -> list[Path]:
    with SegmentLog(folder, segment_bytes=segment_bytes) as log:
        for n in range(count):
            assert log.append(record(n)) == n
    return sorted(folder.glob("*.log"))


def offsets(path: Path) -> list[int]:
    """Where each entry of an undamaged segment starts, by the format as it is written down."""
    data, at, found = path.read_bytes(), HEADER_BYTES, []
    while at < len(data):
        found.append(at)
        at += PREFIX_BYTES + struct.unpack_from("<I", data, at + 4)[0]
    assert at == len(data)
    return found


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def payloads(log: SegmentLog, position: int = 0) -> list[bytes]:
    return [item.payload for _, item in log.read(position)]


# -- the plain way ---------------------------------------------------------------------------------------------------


def test_every_position_can_be_read_across_segments_and_restarts(tmp_path: Path) -> None:
    with SegmentLog(tmp_path, segment_bytes=1000) as log:
        for n in range(60):
            assert log.append(record(n)) == n
        assert list(log.append_many([record(n) for n in range(60, 70)])) == list(range(60, 70))
        assert log.append_many([]) == range(70, 70)
    assert len(list(tmp_path.glob("*.log"))) > 5
    with SegmentLog.open(tmp_path, committed=70, segment_bytes=1000) as log:
        assert (log.start, log.end, log.torn_bytes, log.gap, log.problems) == (0, 70, 0, None, [])
        assert log.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.log"))
        for position in range(71):
            expected = [(n + 1, record(n)) for n in range(position, 70)]
            assert list(log.read(position)) == expected
        assert log.append(record(70)) == 70
        assert list(log.read(70)) == [(71, record(70))]


def test_seeking_begins_near_and_large_records_span_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    sizes = [rng.choice([10, 5_000, 70_000, 1_500_000]) for _ in range(30)]
    with SegmentLog(tmp_path, segment_bytes=8 << 20) as log:
        for n, size in enumerate(sizes):
            log.append(record(n, size))
        for position in range(30):
            assert next(log.read(position)) == (position + 1, record(position, sizes[position]))
        pread = os.pread
        read: list[int] = []

        def noted(fd: int, size: int, offset: int) -> bytes:
            read.append(offset)
            return pread(fd, size, offset)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", noted)
            assert len(list(log.read(29))) == 1
        assert sum(sizes[24:]) < 64 * 1024 < sum(sizes[23:])
        last = max(tmp_path.glob("*.log")).stat().st_size
        assert last > 1_000_000
        assert min(read) > last - 2 * 64 * 1024
    with SegmentLog(tmp_path, read_only=True) as log:
        assert [item for _, item in log.read(0)] == [record(n, size) for n, size in enumerate(sizes)]


def test_a_reader_that_calls_again_sees_everything_that_is_appended_meanwhile(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=20_000)

    def append() -> None:
        for n in range(3000):
            log.append(record(n))

    thread = threading.Thread(target=append)
    thread.start()
    seen: list[Record] = []
    position = 0
    while position < 3000:
        for following, item in log.read(position):
            position = following
            seen.append(item)
    thread.join()
    log.close()
    assert seen == [record(n) for n in range(3000)]


def test_inspect_counts_and_verify_finds_a_whole_log_whole(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=500)
    log.append(record(0, content_type=CONFIG))
    log.append_many([record(n) for n in range(1, 20)])
    log.append(record(20, content_type=CONFIG))
    summary = inspect_log(tmp_path)
    assert (summary.records, summary.start, summary.end, summary.bytes) == (21, 0, 21, log.bytes)
    assert summary.by_content_type == {CONFIG: 2, JSON: 19}
    assert summary.by_source == {"source-0": 7, "source-1": 7, "source-2": 7}
    assert (summary.first_received, summary.last_received) == (1000 * SECOND, 1020 * SECOND)
    assert (summary.config_positions, summary.gaps, summary.damaged) == ((0, 20), (), 0)
    assert summary == log.inspect()
    assert verify_log(tmp_path) == log.verify() == []
    log.close()


def test_read_only_changes_nothing_and_refuses_to_write(tmp_path: Path) -> None:
    (path,) = fill(tmp_path, 3)
    torn = path.read_bytes()[:-4]
    path.write_bytes(torn)
    log = SegmentLog(tmp_path, read_only=True, committed=100)
    assert (log.end, len(payloads(log))) == (2, 2)
    assert log.torn_bytes > 0
    with pytest.raises(PermanentError, match="read only"):
        log.append(record(9))
    assert path.read_bytes() == torn
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(PermanentError, match="holds no log"):
        SegmentLog(tmp_path / "elsewhere", read_only=True)


def test_a_record_that_is_too_large_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MAX_BODY_BYTES", 1000)
    with SegmentLog(tmp_path) as log:
        with pytest.raises(PermanentError, match="source-1 is larger"):
            log.append(record(1, 2000))
        assert log.append(record(0)) == 0


def test_a_closed_log_takes_no_more(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path)
    log.append(record(0))
    log.close()
    log.close()
    with pytest.raises(PermanentError, match="closed"):
        log.append(record(1))
    assert payloads(log) == [record(0).payload]


# -- crashes ---------------------------------------------------------------------------------------------------------

APPENDER = """
import os, sys
from foreshock.runtime.log import SegmentLog
from foreshock.types import Record
log = SegmentLog(sys.argv[1], segment_bytes=30_000)
while True:
    position = log.append(Record("default", "s", "application/json", 1, b"payload %d " % log.end * 5))
    os.write(1, b"%d\\n" % position)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    end = 0
    for wanted in (1, 700, 1500):
        child = subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(wanted)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
        child.wait()
        child.stdout.close()
        assert acknowledged == list(range(acknowledged[0], acknowledged[0] + len(acknowledged)))
        assert acknowledged[0] == end
        with SegmentLog(tmp_path, committed=acknowledged[-1] + 1) as log:
            assert log.gap is None
            assert payloads(log) == [b"payload %d " % n * 5 for n in range(log.end)]
            end = log.end
    assert end > 2200


def test_a_torn_tail_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    (path,) = fill(tmp_path, 4)
    whole, last = path.read_bytes(), offsets(path)[-1]
    for size in range(last, len(whole)):
        path.write_bytes(whole[:size])
        with SegmentLog(tmp_path) as log:
            assert (log.end, log.torn_bytes, log.problems) == (3, size - last, [])
            assert log.verify() == []
            assert log.append(record(30)) == 3
            assert payloads(log) == [record(n).payload for n in (0, 1, 2, 30)]


def test_a_segment_without_a_whole_header_is_removed(tmp_path: Path) -> None:
    paths = fill(tmp_path, 20, segment_bytes=500)
    header = paths[-1].read_bytes()[:HEADER_BYTES]
    first = int(paths[-1].stem)
    for left in (b"", header[:-1], bytes(HEADER_BYTES), bytes(5000)):
        paths[-1].write_bytes(left)
        with SegmentLog(tmp_path, segment_bytes=500) as log:
            assert (log.end, log.torn_bytes, log.problems) == (first, len(left), [])
            assert log.append(record(first)) == first
            assert len(payloads(log)) == first + 1


@pytest.mark.parametrize("lost", [1, 3])
def test_zeros_left_by_a_power_loss_are_a_torn_tail(tmp_path: Path, lost: int) -> None:
    with SegmentLog(tmp_path) as log:
        for n in range(6):
            log.append(record(n, 600))
    (path,) = tmp_path.glob("*.log")
    data, starts = path.read_bytes(), offsets(path)
    sector = (starts[-lost] // 512 + 1) * 512
    path.write_bytes(data[:sector] + bytes(len(data) - sector))
    with SegmentLog(tmp_path) as log:
        assert (log.end, log.problems, log.torn_bytes) == (6 - lost, [], len(data) - starts[-lost])
    path.write_bytes(data + bytes(4096))
    with SegmentLog(tmp_path) as log:
        assert (log.end, log.problems, log.torn_bytes) == (6, [], 4096)


def test_a_log_that_ends_before_what_was_committed_goes_on_behind_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = fill(tmp_path, 10)
    os.truncate(path, offsets(path)[6])
    with caplog.at_level(logging.WARNING), SegmentLog.open(tmp_path, committed=9) as log:
        assert log.gap == (6, 9)
        assert "records 6 to 8 are lost" in caplog.text
        assert log.append(record(10)) == 10
        (first, gap), (second, after) = log.read(7)
        assert list(log.read(6)) == list(log.read(9)) == [(10, gap), (11, after)]
        assert (first, second, after) == (10, 11, record(10))
        assert (gap.content_type, msgspec.json.decode(gap.payload)) == (GAP, {"from": 6, "to": 9})
        assert [position for position, _ in log.read(0)] == [1, 2, 3, 4, 5, 6, 10, 11]
        assert log.verify() == []
        assert log.inspect().gaps == ((6, 9),)
    with SegmentLog.open(tmp_path, committed=11) as log:
        assert (log.end, log.gap) == (11, None)


def test_a_gap_is_recorded_also_if_the_process_dies_before_the_record_is_whole(tmp_path: Path) -> None:
    (path,) = fill(tmp_path, 10)
    os.truncate(path, offsets(path)[6])
    SegmentLog(tmp_path, committed=9).close()
    last = max(tmp_path.glob("*.log"))
    for size in range(last.stat().st_size):
        os.truncate(last, size)
        with SegmentLog(tmp_path, committed=9) as log:
            assert log.gap == (6, 9)
            assert [(position, item.content_type) for position, item in log.read(6)] == [(10, GAP)]


def test_a_log_that_is_gone_goes_on_behind_what_was_committed(tmp_path: Path) -> None:
    with SegmentLog(tmp_path / "log", committed=50) as log:
        assert (log.start, log.end, log.gap) == (50, 51, (0, 50))


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [2, 5])
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path, damaged: int) -> None:
    """Entry 2 stands in the middle, 5 is the very last: that one could be taken for a torn tail and must not be."""
    (path,) = fill(tmp_path, 6)
    whole, starts = path.read_bytes(), [*offsets(path), path.stat().st_size]
    for at in range(starts[damaged], starts[damaged + 1]):
        path.write_bytes(whole)
        flip(path, at)
        before = path.read_bytes()
        with SegmentLog(tmp_path, committed=6) as log:
            assert (log.end, log.torn_bytes, log.gap) == (6, 0, None)
            problems = log.verify()
            assert [(p.file, p.position, p.offset) for p in problems] == [(str(path), damaged, starts[damaged])]
            assert log.problems == problems
            reader = log.read(0)
            assert [next(reader)[1] for _ in range(damaged)] == [record(n) for n in range(damaged)]
            with pytest.raises(
                DamagedLogError, match=f"{path}: position {damaged}, byte {starts[damaged]}: "
            ) as caught:
                next(reader)
            assert log.append(record(60)) == 6
            rest = [record(n) for n in (*range(damaged + 1, 6), 60)]
            assert [item for _, item in log.read(caught.value.problem.resume)] == rest
            assert log.inspect().damaged == 1
        assert path.read_bytes() == before
        for other in tmp_path.glob("*.log"):
            if other != path:
                other.unlink()


def test_a_last_byte_flipped_to_zero_where_a_sector_begins_is_no_torn_tail(tmp_path: Path) -> None:
    def write(folder: Path, size: int) -> Path:
        with SegmentLog(folder) as log:
            log.append(record(0))
            log.append(Record("default", "s", JSON, 1, bytes(size)))
        (path,) = folder.glob("*.log")
        return path

    probe = write(tmp_path / "probe", 1000).stat().st_size
    path = write(tmp_path / "log", 1000 + (1 - probe) % 512)
    data = path.read_bytes()
    assert (len(data) % 512, data[-1]) == (1, 1)
    path.write_bytes(data[:-1] + b"\0")
    with SegmentLog(tmp_path / "log") as log:
        assert (log.torn_bytes, [p.position for p in log.problems]) == (0, [1])


def test_an_entry_that_stands_where_it_does_not_belong_is_damage(tmp_path: Path) -> None:
    (path,) = fill(tmp_path, 5)
    data, starts = path.read_bytes(), offsets(path)
    path.write_bytes(data + data[starts[1] : starts[2]])
    with SegmentLog(tmp_path) as log:
        assert [(p.position, p.offset) for p in log.problems] == [(5, len(data))]
        assert log.append(record(6)) == 6
        assert payloads(log, 6) == [record(6).payload]


def test_a_flipped_byte_in_an_older_segment_stops_only_who_reads_it(tmp_path: Path) -> None:
    paths = fill(tmp_path, 40, segment_bytes=1000)
    starts = offsets(paths[1])
    first = int(paths[1].stem)
    flip(paths[1], starts[-1] + 5)
    with SegmentLog(tmp_path) as log:
        assert log.problems == []
        assert [p.position for p in log.verify()] == [first + len(starts) - 1]
        with pytest.raises(DamagedLogError):
            list(log.read(0))
        assert len(list(log.read(first + len(starts)))) == 40 - first - len(starts)


def test_a_lost_stretch_and_a_short_or_missing_segment_are_said(tmp_path: Path) -> None:
    paths = fill(tmp_path, 60, segment_bytes=2000)
    a, c, d = (int(paths[n].stem) for n in (1, 3, 4))
    data = bytearray(paths[1].read_bytes())
    starts = offsets(paths[1])
    data[starts[1] : starts[4] + 3] = bytes(starts[4] + 3 - starts[1])
    paths[1].write_bytes(data)
    os.truncate(paths[2], offsets(paths[2])[-2])
    paths[3].unlink()
    problems = verify_log(tmp_path)
    assert [(p.position, p.resume) for p in problems] == [(a + 1, a + 5), (c - 2, d)]
    with SegmentLog(tmp_path) as log:
        position = 0
        lost: list[int] = []
        read: list[Record] = []
        while True:
            try:
                for following, item in log.read(position):
                    position = following
                    read.append(item)
                break
            except DamagedLogError as error:
                lost += range(error.problem.position, error.problem.resume)
                position = error.problem.resume
        assert lost == [*range(a + 1, a + 5), *range(c - 2, d)]
        assert read == [record(n) for n in range(60) if n not in lost]


def test_a_damaged_header_is_found_and_its_records_are_read(tmp_path: Path) -> None:
    paths = fill(tmp_path, 40, segment_bytes=1000)
    for path, at in ((paths[1], 20), (paths[-1], 0)):
        flip(path, at)
    with SegmentLog(tmp_path, segment_bytes=1000) as log:
        assert [(p.file, p.offset) for p in log.verify()] == [(str(paths[1]), 0), (str(paths[-1]), 0)]
        assert log.append(record(40)) == 40
        assert [item for _, item in log.read(0)] == [record(n) for n in range(41)]


def test_records_inside_a_payload_are_not_taken_for_entries(tmp_path: Path) -> None:
    """A copy of a log, sent as a payload, must not bring its positions in where the entry around it is damaged."""
    (path,) = fill(tmp_path / "other", 50)
    inner = path.read_bytes()[offsets(path)[30] : offsets(path)[31]]
    with SegmentLog(tmp_path / "log") as log:
        for payload in (b"a", inner, b"b"):
            log.append(Record("default", "s", JSON, 1, payload))
    (outer,) = (tmp_path / "log").glob("*.log")
    flip(outer, offsets(outer)[1])
    with SegmentLog(tmp_path / "log") as log:
        assert [(p.position, p.resume) for p in log.problems] == [(1, 2)]
        assert payloads(log, 2) == [b"b"]


def test_a_body_that_is_no_record_is_damage(tmp_path: Path) -> None:
    (path,) = fill(tmp_path, 2)
    body = msgspec.msgpack.encode({"something": "else"})
    with path.open("ab") as file:
        file.write(segments.encode_entry(2, body, crc32(body)))
    with SegmentLog(tmp_path) as log, pytest.raises(DamagedLogError, match=r"position 2.*no record"):
        list(log.read(2))


def test_a_log_of_a_newer_version_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(segments, "VERSION", 2)
        fill(tmp_path, 3)
    with pytest.raises(PermanentError, match="log format 2, this version reads up to 1"):
        SegmentLog(tmp_path)


# -- a disk that refuses ---------------------------------------------------------------------------------------------


def test_a_full_disk_is_retryable_and_leaves_whole_entries_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SegmentLog(tmp_path)
    log.append(record(0))
    (path,) = tmp_path.glob("*.log")
    size, pwrite, calls = path.stat().st_size, os.pwrite, []

    def full(fd: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) % 2 == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data[:7], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for _ in range(3):
            with pytest.raises(RetryableError, match="No space left on device: make room"):
                log.append_many([record(1), record(2)])
            assert path.stat().st_size == size
    assert len(calls) == 6
    assert log.append(record(1)) == 1
    assert payloads(log) == [record(0).payload, record(1).payload]
    log.close()


def test_what_cannot_be_cut_at_once_is_cut_before_the_next_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SegmentLog(tmp_path)
    pwrite = os.pwrite

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def half(fd: int, data: bytes, offset: int) -> int:
        pwrite(fd, data[: len(data) // 2], offset)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", broken)
        patch.setattr(os, "pwrite", half)
        with pytest.raises(RetryableError, match="check the disk"):
            log.append(record(0, 500))
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(RetryableError):
            log.append(record(0))
    log.append(record(1))
    assert payloads(log) == [record(1).payload]
    assert (log.verify(), log.bytes) == ([], max(tmp_path.glob("*.log")).stat().st_size)
    log.close()


LIMITED = """
import resource, sys
from pathlib import Path
from foreshock.errors import RetryableError
from foreshock.runtime.log import SegmentLog
from foreshock.types import Record
one = Record("default", "s", "application/json", 1, b"x" * 1000)
log = SegmentLog(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
taken = 0
try:
    while taken < 100:
        log.append(one)
        taken += 1
except RetryableError as error:
    assert "make room" in str(error), error
assert 3 <= taken < 5, taken
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert log.append(one) == taken
print(log.end)
"""


def test_a_file_that_may_not_grow_is_survived(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with SegmentLog(tmp_path) as log:
        assert (log.end, len(payloads(log)), log.torn_bytes) == (int(done.stdout), int(done.stdout), 0)


def test_a_new_segment_that_cannot_be_made_leaves_the_old_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SegmentLog(tmp_path, segment_bytes=300)
    log.append(record(0, 200))
    opened = os.open

    def full(path: Path, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, flags, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(RetryableError, match="make room"):
            log.append(record(1, 200))
    assert log.append(record(1, 200)) == 1
    assert len(list(tmp_path.glob("*.log"))) == 2
    assert [item for _, item in log.read(0)] == [record(0, 200), record(1, 200)]
    log.close()


# -- durability: disk ------------------------------------------------------------------------------------------------


def test_threads_that_append_share_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog(tmp_path, durability="disk")
    written = threading.Semaphore(0)
    synced: list[int] = []
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def counted(fd: int, data: bytes, offset: int) -> int:
        done = pwrite(fd, data, offset)
        written.release()
        return done

    def slow(fd: int) -> None:
        if not synced:  # the first holds until all the others have written behind it
            for _ in range(8):
                assert written.acquire(timeout=30)
        synced.append(os.fstat(fd).st_size)
        fdatasync(fd)

    monkeypatch.setattr(os, "pwrite", counted)
    monkeypatch.setattr(os, "fdatasync", slow)
    durable: dict[int, int] = {}

    def append(n: int) -> None:
        position = log.append(record(n))
        durable[position] = len(synced)

    threads = [threading.Thread(target=append, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(synced) <= 2, "one if all had written before the first began"
    assert sorted(durable) == list(range(8))
    assert min(durable.values()) >= 1
    assert synced[-1] == log.bytes
    log.close()
    assert 1 <= len(synced) <= 2, "one if all had written before the first began"


def test_a_segment_is_on_the_disk_before_the_next_one_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino))
    log = SegmentLog(tmp_path, segment_bytes=1000)
    for n in range(30):
        log.append(record(n))
    assert synced == [path.stat().st_ino for path in sorted(tmp_path.glob("*.log"))[:-1]]
    assert len(synced) > 3
    log.close()


def test_many_threads_append_each_record_once_over_many_segments(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=3000, durability="disk")
    got: list[tuple[int, int]] = []

    def append(start: int) -> None:
        for n in range(start, start + 60):
            got.append((log.append(record(n)), n))

    threads = [threading.Thread(target=append, args=(1000 * k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(position for position, _ in got) == list(range(360))
    with SegmentLog(tmp_path, read_only=True) as log:
        assert payloads(log) == [record(n).payload for _, n in sorted(got)]
        assert log.verify() == []


def test_after_a_failed_fsync_the_bytes_are_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog(tmp_path, durability="disk")
    log.append(record(0))
    (path,) = tmp_path.glob("*.log")
    whole = path.stat().st_size
    fdatasync, refuse = os.fdatasync, [True, True]

    def failing(fd: int) -> None:
        if refuse:
            refuse.pop()
            # The system gives the dirty pages up: what was written since the last fsync is gone.
            os.ftruncate(fd, whole)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", failing)
    for n in (1, 2):
        with pytest.raises(RetryableError, match="check the disk"):
            log.append(record(n))
    assert log.append(record(3)) == 3
    log.close()
    with SegmentLog(tmp_path) as again:
        assert [item for _, item in again.read(0)] == [record(n) for n in range(4)]


def test_sync_waits_for_what_was_appended_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog(tmp_path, durability="disk")
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    positions = [log.append(record(n), wait=False) for n in range(5)]
    assert calls == []
    log.sync(positions[2] + 1)
    assert len(calls) == 1
    log.sync(positions[4] + 1)
    assert len(calls) == 1
    log.close()


# -- retention -------------------------------------------------------------------------------------------------------


def test_trim_keeps_to_the_size_but_never_drops_what_a_snapshot_needs(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_bytes=1000, max_bytes=3000)
    for n in range(100):
        log.append(record(n))
    firsts = [int(path.stem) for path in sorted(tmp_path.glob("*.log"))]
    assert len(firsts) > 6
    assert log.trim(0, 0) == 0
    assert log.trim(0, firsts[2] - 1) == 1
    assert (log.start, log.trim(0, firsts[2]), log.start) == (firsts[1], 1, firsts[2])
    assert log.trim(0, 100) > 0
    assert 2000 < log.bytes <= 3000
    assert log.trim(0, 100) == 0
    with pytest.raises(PermanentError, match=f"position 0 is no longer kept.*begins at {log.start}"):
        log.read(0)
    assert [item for _, item in log.read(log.start)] == [record(n) for n in range(log.start, 100)]
    start, size = log.start, log.bytes
    assert size == sum(path.stat().st_size for path in tmp_path.glob("*.log"))
    log.close()
    with SegmentLog(tmp_path) as log:
        assert (log.start, log.end, log.verify()) == (start, 100, [])


def test_trim_drops_segments_by_the_age_of_their_last_record(tmp_path: Path) -> None:
    fill(tmp_path, 100, segment_bytes=1000)
    firsts = [int(path.stem) for path in sorted(tmp_path.glob("*.log"))]
    log = SegmentLog(tmp_path, segment_bytes=1000, max_age_seconds=100)
    last_of_second = 1000 + firsts[2] - 1
    assert log.trim((last_of_second + 100) * SECOND, 100) == 1
    assert log.trim((last_of_second + 100) * SECOND + 1, 100) == 1
    assert log.start == firsts[2]
    log.close()


def test_a_log_that_fills_slowly_ages_too(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, max_age_seconds=100)
    log.append_many([record(0), record(1)])
    assert log.trim(1020 * SECOND, 2) == 0
    assert len(list(tmp_path.glob("*.log"))) == 1
    assert log.trim(1030 * SECOND, 2) == 0
    assert len(list(tmp_path.glob("*.log"))) == 2
    assert log.trim(1102 * SECOND, 1) == 0
    assert log.trim(1102 * SECOND, 2) == 1
    assert (log.start, log.end) == (2, 2)
    assert log.append(record(2)) == 2
    log.close()
    with SegmentLog(tmp_path) as log:
        assert list(log.read(2)) == [(3, record(2))]


def test_a_segment_that_is_dropped_while_another_process_looks_is_no_damage(tmp_path: Path) -> None:
    paths = fill(tmp_path, 40, segment_bytes=1000)
    looking = SegmentLog(tmp_path, read_only=True)
    paths[0].unlink()
    assert looking.verify() == []
    assert looking.inspect().records == 40 - int(paths[1].stem)
    with pytest.raises(PermanentError, match="dropped"):
        list(looking.read(0))


# -- one process a folder --------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from foreshock.runtime.lock import lock_folder
held = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(PermanentError, match=f"is in use by process {child.pid}: "):
            lock_folder(tmp_path)
        child.send_signal(signal.SIGKILL)
        child.wait()
    with lock_folder(tmp_path) as held:
        assert held.path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(PermanentError, match=f"in use by process {os.getpid()}"):
            lock_folder(tmp_path)
    held.release()
    lock_folder(tmp_path).release()


def test_a_folder_that_cannot_be_made_is_refused_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match="cannot be used as a data folder"):
        lock_folder(tmp_path / "file")
