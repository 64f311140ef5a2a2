"""The agent's buffer on disk: what survives, what is bounded, what is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foreshock.agent.outgoing import Outgoing
from foreshock.agent.spool import Spool
from foreshock.errors import PermanentError
from tests.unit.agent_kit import counted

MIB = 1 << 20


def message(number: int, size: int = 10) -> Outgoing:
    return Outgoing("t", b"k", b"%d:" % number + b"x" * size, [("h", b"v")], number * 1_000_000)


def numbers(spool: Spool, position: int = 0) -> list[int]:
    return [int(one.value.partition(b":")[0]) for batch in spool.read(position) for one in batch.messages]


def test_what_was_added_is_read_in_order_and_again_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(5):
        assert spool.add([message(2 * number), message(2 * number + 1)])
    assert spool.add([])
    assert numbers(spool) == list(range(10))
    assert (spool.waiting, spool.end) == (10, 5)
    spool.close()
    again = Spool(tmp_path)
    assert numbers(again) == list(range(10))
    assert again.waiting == 10
    (first, *_) = again.read(0)
    assert first.messages[0] == message(0)
    again.close()


def test_what_kafka_has_is_forgotten_also_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(5):
        spool.add([message(number)])
    spool.done(3)
    spool.done(2)
    assert (spool.position, spool.waiting) == (3, 2)
    assert numbers(spool, spool.position) == [3, 4]
    spool.close()
    again = Spool(tmp_path)
    assert (again.position, again.waiting, numbers(again, again.position)) == (3, 2, [3, 4])
    assert again.newest_unix_nano == 4_000_000
    again.done(5)
    again.close()
    assert Spool(tmp_path).newest_unix_nano == 4_000_000


def test_a_full_buffer_loses_its_oldest_messages_and_counts_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    with counted("foreshock_dropped_total", reason="agent_buffer_full") as lost:
        for number in range(3000):
            assert spool.add([message(number, 1000)])
    left = numbers(spool, spool.position)
    assert left == list(range(3000 - len(left), 3000))
    assert 600 < len(left) < 1100
    assert spool.waiting == len(left)
    assert lost() == 3000 - len(left)
    assert spool.bytes <= MIB
    spool.close()


def test_it_takes_no_more_room_than_what_waits(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    with counted("foreshock_dropped_total", reason="agent_buffer_full") as lost:
        for number in range(3000):
            spool.add([message(number, 1000)])
            spool.done(number + 1)
    assert lost() == 0
    spool.close()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.log")) < MIB // 2


def test_one_process_a_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(PermanentError, match="in use"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_a_lost_position_sends_everything_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add([message(0)])
    spool.done(1)
    spool.add([message(1)])
    spool.close()
    (tmp_path / "position").write_text("")
    again = Spool(tmp_path)
    assert numbers(again, again.position) == [0, 1]
    again.close()


def test_a_full_disk_is_counted_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.add([message(0)])

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(28, os.strerror(28))

    with counted("foreshock_dropped_total", reason="agent_disk") as lost, monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        assert not spool.add([message(1), message(2)])
    assert lost() == 2
    assert spool.add([message(3)])
    assert numbers(spool) == [0, 3]
    spool.close()


def test_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(3):
        spool.add([message(number)])
    spool.close()
    (file,) = tmp_path.rglob("*.log")
    body = file.read_bytes()
    file.write_bytes(body.replace(b"1:xxx", b"1:xyx"))
    again = Spool(tmp_path)
    with counted("foreshock_dropped_total", reason="agent_buffer_damaged") as lost:
        assert numbers(again) == [0, 2]
    assert lost() == 1
    again.close()


WRITER = """
import sys, pathlib
from foreshock.agent.spool import Spool
from foreshock.agent.outgoing import Outgoing
spool = Spool(pathlib.Path(sys.argv[1]))
for number in range(1_000_000):
    spool.add([Outgoing("t", None, b"%d:" % number, [], 0)])
    sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
"""


def test_what_was_added_survives_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    for line in process.stdout:
        last = int(line)
        if last >= 500:
            os.kill(process.pid, signal.SIGKILL)
            break
    last = max([last, *(int(line) for line in process.stdout.read().split("\n")[:-1] if line)])
    process.wait()
    process.stdout.close()
    spool = Spool(tmp_path)
    found = numbers(spool)
    assert found == list(range(len(found)))
    assert len(found) > last
    spool.close()
