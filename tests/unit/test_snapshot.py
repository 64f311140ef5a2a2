"""Snapshots: a copy of one moment, in files that are whole or passed over."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock import __version__
from foreshock.errors import PermanentError, RetryableError
from foreshock.runtime import snapshot as snapshots
from foreshock.runtime.snapshot import Snapshot, SnapshotJob, SnapshotStore, numerics_id
from foreshock.state import CHUNK_BYTES, SlotTable, State, chunks, pack, unpack

ROW = np.dtype([("mean", "f8"), ("ring", "f4", (3, 2)), ("n", "i4")])


def states(seed: int = 0) -> dict[str, State]:
    rng = np.random.default_rng(seed)
    rows: NDArray[Any] = np.zeros(1000, ROW)
    rows["mean"], rows["ring"], rows["n"] = rng.normal(size=1000), rng.normal(size=(1000, 3, 2)), np.arange(1000)
    return {
        "align": State(3, {"step": 1.5, "names": ["a", "b"]}, {"rows": rows, "empty": np.zeros(0), "one": np.array(7)}),
        "registry": State(1, {}, {"grid": rng.normal(size=(300, 900))[:, ::2]}, {}, {"names": [b"x" * 5, b"", b"yy"]}),
        "nothing": State(2),
    }


def assert_same(got: dict[str, State], expected: dict[str, State]) -> None:
    assert list(got) == list(expected)
    for name, state in expected.items():
        assert pack(got[name]) == pack(state)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    assert (store.newest(10**9), store.oldest_position()) == (None, None)
    path = store.write(42, states(), {"numerics": "n1", "watermark": -5, "sources": {"a": 1}})
    got = SnapshotStore(tmp_path / "snapshots").newest(42)
    assert got is not None
    assert (got.position, got.path) == (42, path)
    assert got.meta == {"numerics": "n1", "watermark": -5, "sources": {"a": 1}}
    assert_same(got.states, states())
    assert not got.states["align"].arrays["rows"].flags.writeable, "whoever takes it over makes it its own"


def test_the_bytes_of_a_state_are_those_of_pack() -> None:
    for state in states().values():
        assert b"".join(chunks(state)) == pack(state)
    large = State(1, {}, {"a": np.arange(400_000.0)})
    assert max(len(chunk) for chunk in chunks(large)) == CHUNK_BYTES
    assert b"".join(chunks(large)) == pack(large)


def test_the_newest_two_stay(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    for position in (10, 20, 30, 40):
        store.write(position, states(position), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:020d}.snapshot" for n in (30, 40)]
    assert store.oldest_position() == 30
    got = store.newest(40)
    assert got is not None
    assert_same(got.states, states(40))
    store.write(40, states(41), {})
    got = store.newest(45)
    assert got is not None
    assert_same(got.states, states(41))
    assert store.oldest_position() == 30


def test_a_snapshot_of_a_lost_future_is_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SnapshotStore(tmp_path)
    store.write(10, states(), {})
    store.write(20, states(), {})
    with caplog.at_level(logging.WARNING):
        got = store.newest(19)
    assert got is not None
    assert got.position == 10
    assert "ahead of what was committed (19)" in caplog.text
    got = store.newest(25)
    assert got is not None
    assert got.position == 10


def newest_but(store: SnapshotStore, path: Path, damage: bytes) -> Snapshot | None:
    whole = path.read_bytes()
    path.write_bytes(damage)
    got = store.newest(100)
    path.write_bytes(whole)
    return got


def test_a_damaged_snapshot_is_passed_over_for_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SnapshotStore(tmp_path)
    small = {"a": State(1, {"k": 1}, {"x": np.arange(5)}), "b": State(1, {}, {}, {}, {"c": [b"zz"]})}
    store.write(10, small, {})
    path = store.write(20, small, {"config": "{}"})
    whole = path.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 0x04
        got = newest_but(store, path, bytes(flipped))
        assert got is not None
        assert got.position == 10, f"byte {at}"
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        got = newest_but(store, path, whole[:size])
        assert got is not None
        assert got.position == 10
    got = newest_but(store, path, whole + b"\0")
    assert got is not None
    assert got.position == 10
    assert f"{path} cannot be read and is passed over: the checksum of the state of a is wrong" in caplog.text
    got = SnapshotStore(tmp_path).newest(100)
    assert got is not None
    assert got.position == 20


def test_a_damaged_snapshot_does_not_take_the_place_of_a_good_one(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.write(10, states(), {})
    damaged = store.write(20, states(), {})
    damaged.write_bytes(b"")
    got = store.newest(25)
    assert got is not None
    assert (got.position, store.oldest_position()) == (10, 10)
    store.write(30, states(), {})
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == [10, 30]


def test_a_damaged_snapshot_that_is_written_again_counts(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.write(10, states(), {}).write_bytes(b"")
    assert store.newest(10) is None
    store.write(10, states(), {})
    got = store.newest(10)
    assert got is not None
    assert store.oldest_position() == 10


def test_only_damaged_snapshots_are_as_good_as_none(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.write(10, states(), {}).write_bytes(b"FSHKsnap")
    assert (store.newest(25), store.oldest_position()) == (None, None)


def test_a_snapshot_of_another_format_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SnapshotStore(tmp_path)
    store.write(10, states(), {})
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "VERSION", 2)
        store.write(20, states(), {})
    got = store.newest(25)
    assert got is not None
    assert got.position == 10


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).write(10, states(), {})
    (tmp_path / f"{20:020d}.snapshot.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("not ours")
    store = SnapshotStore(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{10:020d}.snapshot", "notes.txt"]
    got = store.newest(100)
    assert got is not None
    assert got.position == 10


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_leaves_the_old_snapshots_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store = SnapshotStore(tmp_path)
    for position in (10, 20):
        store.write(position, states(), {})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(RetryableError, match="No space left on device"):
            store.write(30, states(), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:020d}.snapshot" for n in (10, 20)]
    store.write(30, states(), {})
    assert store.oldest_position() == 20


def table_of(rows: int, seed: int) -> SlotTable:
    table = SlotTable(np.dtype([("x", "f8", (64,))]))
    table.ensure(rows - 1)
    table.rows["x"][:rows] = np.random.default_rng(seed).normal(size=(rows, 64))
    return table


def stepping(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by 1 s each time it is asked."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))


def test_the_copy_is_the_state_at_the_beginning_whatever_is_written_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    stepping(monkeypatch)
    rng = np.random.default_rng(3)
    bank, alarm = table_of(3000, 1), table_of(700, 2)
    live = {
        "bank": State(4, {"rate": 0.2}, {"levels": np.arange(3.0)}, {"rows": bank, "empty": SlotTable(ROW)}),
        "alarm": State(1, {}, {}, {"rows": alarm}, {"names": [b"abc"]}),
    }
    expected = {name: pack(state) for name, state in live.items()}
    job = SnapshotJob(live)
    slices = 0
    while not job.advance(1.0):
        slices += 1
        for table in (bank, alarm):
            table.ensure(table.used + 200)
            slots = rng.integers(0, table.used, 3)
            table.touch(slots)
            table.rows["x"][slots] += 1
    assert slices > 5
    frozen = job.finish()
    assert {name: pack(state) for name, state in frozen.items()} == expected
    assert not any(state.tables for state in frozen.values())
    assert pack(live["bank"]) != expected["bank"]
    bank.touch(np.arange(10))
    bank.rows["x"][:10] = 0
    assert pack(frozen["bank"]) == expected["bank"]


def test_a_slice_goes_one_block_over_its_budget_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    stepping(monkeypatch)
    table = table_of(128 * 40, 1)  # 40 blocks of 64 KiB
    copied: list[int] = []
    copy_block = SlotTable._copy_block

    def counted(self: SlotTable, block: int) -> None:
        copied.append(block)
        copy_block(self, block)

    monkeypatch.setattr(SlotTable, "_copy_block", counted)
    job = SnapshotJob({"a": State(1, {}, {}, {"rows": table}), "b": State(1, {}, {}, {"rows": table_of(5, 2)})})
    done, before = False, 0
    while not done:
        done = job.advance(4.0)  # the clock is asked before each block and moves by 1 s: five of them at most
        assert 1 <= len(copied) - before <= 5
        before = len(copied)
    assert len(copied) == 41
    assert job.advance(0.0)


def test_finish_copies_what_is_left() -> None:
    table = table_of(1000, 1)
    live = {"a": State(1, {}, {}, {"rows": table})}
    expected = pack(live["a"])
    assert pack(SnapshotJob(live).finish()["a"]) == expected


def test_a_job_goes_through_a_file(tmp_path: Path) -> None:
    live = {"a": State(1, {"m": 2}, {}, {"rows": table_of(1000, 1)})}
    store = SnapshotStore(tmp_path)
    store.write(5, SnapshotJob(live).finish(), {"numerics": numerics_id()})
    got = store.newest(5)
    assert got is not None
    assert got.meta["numerics"] == numerics_id()
    restored = SlotTable(np.dtype([("x", "f8", (64,))]))
    restored.load(got.states["a"].arrays["rows"])
    assert restored.copy().tobytes() == live["a"].tables["rows"].copy().tobytes()


def test_the_numerics_id_names_all_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    here = numerics_id()
    assert here == numerics_id()
    assert here.startswith(f"foreshock-{__version__} numpy-{np.__version__} numba-")
    for name, value in (
        ("NUMBA_CPU_NAME", "generic"),
        ("NUMBA_CPU_FEATURES", "-avx512f"),
        ("NPY_DISABLE_CPU_FEATURES", "AVX512F"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            numerics_id.cache_clear()
            assert numerics_id() != here
    numerics_id.cache_clear()
    assert numerics_id() == here


def test_memory_of_a_released_copy_serves_the_next_one() -> None:
    table = SlotTable(np.dtype([("x", "f8")]))
    table.ensure(10_000)
    first = SnapshotJob({"op": State(1, {}, {}, {"t": table})})
    kept = first.finish()["op"].arrays["t"]
    address = kept.__array_interface__["data"][0]
    first.release()
    table.rows["x"][5] = 7.0
    second = SnapshotJob({"op": State(1, {}, {}, {"t": table})})
    table.touch(np.array([5]))
    table.rows["x"][5] = 8.0
    copied = second.finish()["op"].arrays["t"]
    assert copied.__array_interface__["data"][0] == address
    assert copied["x"][5] == 7.0


def test_a_table_takes_over_its_own_rows_alone_and_goes_on_growing() -> None:
    table, saved = SlotTable(ROW, {"mean": 3.0}), unpack(pack(states()["align"])).arrays["rows"]
    table.load(saved)
    assert (table.used, table.copy().tobytes()) == (1000, saved.tobytes())
    table.ensure(2500)
    table.rows["n"][7] = 5
    assert saved["n"][7] == 7
    assert table.rows["mean"][[999, 1000, 2500]].tolist() == [saved["mean"][999], 3.0, 3.0]
    table.load(saved[:0])
    table.ensure(0)
    assert table.copy()["mean"].tolist() == [3.0]
    with pytest.raises(PermanentError, match="another version"):
        table.load(np.zeros(3, [("mean", "f8")]))
