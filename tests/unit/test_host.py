from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from foreshock.adapters import host_reader
from foreshock.adapters.decode import decode_samples as decode
from foreshock.adapters.host import HostOptions, HostSource
from foreshock.adapters.host_reader import HostReader
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS, Metric, Reading
from foreshock.errors import RetryableError
from foreshock.telemetry import REGISTRY
from foreshock.types import Record

NANO = 1_000_000_000
START = 1_640_000_000 * NANO + 300_000_000


class Clock:
    """Time that passes by sleeping, and by `drift` seconds at each look."""

    def __init__(self, now: int = START) -> None:
        self.now = now
        self.drift = 0.0

    def now_unix_nano(self) -> int:
        self.now += round(self.drift * 1e9)
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(1, round(seconds * 1e9))


class Fixed(HostReader):
    """A reader that only notes when it was asked."""

    def read(self, time_unix_nano: int, now_unix_nano: int, entity: dict[str, str]) -> Reading:
        return Reading(time_unix_nano, entity, [Metric("x", {}, "1", 1.0)])


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("foreshock_dropped_total", {"reason": reason}) or 0.0


def play(
    count: int, clock: Clock, after: Callable[[int], None] = lambda at: None, **options: Any
) -> tuple[list[Record], list[int]]:
    """Records of a source that is stopped after so many, and their times."""
    source = HostSource("host", HostOptions(host_name="a1", **options), reader=Fixed())
    records: list[Record] = []

    def submit(record: Record) -> None:
        records.append(record)
        after(len(records))
        if len(records) == count:
            source.stop()

    source.run(submit, clock)
    times = [int(decode(record, MappingOptions()).time_unix_nano[0]) for record in records]
    return records, times


def test_readings_are_stamped_with_exact_multiples() -> None:
    clock = Clock()
    clock.drift = 0.003
    records, times = play(5, clock)
    assert times == [(1_640_000_001 + at) * NANO for at in range(5)]
    assert all(record.content_type == METRICS and record.source == "host" for record in records)
    assert all(0 < record.received_unix_nano - when < NANO for record, when in zip(records, times, strict=True))
    samples = decode(records[0], MappingOptions())
    assert samples.series[0].entity == (("host.name", "a1"),)


def test_other_intervals_are_aligned_to_the_epoch_too() -> None:
    assert play(3, Clock(7 * NANO), every="2s")[1] == [8 * NANO, 10 * NANO, 12 * NANO]
    assert play(2, Clock(), every=0.1)[1] == [START, START + 100_000_000]


def test_missed_readings_are_skipped_and_counted() -> None:
    before = dropped("missed_reading")
    clock = Clock()

    def stall(at: int) -> None:
        if at == 2:
            clock.now += round(3.2e9)

    times = play(4, clock, stall)[1]
    assert [(when - times[0]) // NANO for when in times] == [0, 1, 4, 5]
    assert dropped("missed_reading") - before == 2


def test_a_clock_set_back_does_not_silence_the_source() -> None:
    clock = Clock()

    def set_back(at: int) -> None:
        if at == 2:
            clock.now -= 3600 * NANO

    times = play(3, clock, set_back)[1]
    assert times[2] == times[1] - 3600 * NANO


def test_no_room_drops_the_reading_and_the_source_lives() -> None:
    before = dropped("source_backpressure")

    def refuse(at: int) -> None:
        if at in (2, 3):
            raise RetryableError("full")

    assert len(play(5, Clock(), refuse)[0]) == 5
    assert dropped("source_backpressure") - before == 2


def test_options_are_checked() -> None:
    assert HostOptions.model_validate({"every": "1m"}).every == 60
    with pytest.raises(ValidationError):
        HostOptions(every=0)


# -- the reader on this machine ----------------------------------------------------------------------------------


def named(reading: Reading) -> dict[tuple[str, str], float | None]:
    return {(one.name, ",".join(one.attributes.values())): one.value for one in reading.metrics}


def test_this_machine_can_be_read() -> None:
    reader = HostReader()
    first = named(reader.read(NANO, NANO, {"host.name": "a"}))
    second = named(reader.read(2 * NANO, 2 * NANO, {"host.name": "a"}))
    for name in ("system.memory.utilization", "system.cpu.load_average.1m", "system.processes.count"):
        assert (name, "") in first
    assert 0 < (first["system.memory.utilization", ""] or 0) < 1
    assert ("system.context_switches", "") not in first
    assert (second["system.context_switches", ""] or 0) >= 0
    assert set(first) <= set(second)


# -- the arithmetic, on a made-up machine ------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> SimpleNamespace:
    """A machine whose counters the test sets: psutil's functions and the kernel's folders replaced."""
    state = SimpleNamespace(cpu=[10.0, 5.0, 80.0, 5.0, 2.0], disks={}, cards={}, switches=0)
    fields = ("user", "system", "idle", "iowait", "guest")

    class Times(SimpleNamespace):
        def _asdict(self) -> dict[str, float]:
            return dict(vars(self))

    monkeypatch.setattr(psutil, "cpu_times", lambda: Times(**dict(zip(fields, state.cpu, strict=True))))
    monkeypatch.setattr(psutil, "cpu_stats", lambda: SimpleNamespace(ctx_switches=state.switches))
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: state.disks)
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: state.cards)
    for name in ("_SYS_BLOCK", "_SYS_NET", "_PRESSURE", "_VMSTAT"):
        monkeypatch.setattr(host_reader, name, tmp_path / name)
    (tmp_path / "_SYS_BLOCK" / "sda" / "device").mkdir(parents=True)
    (tmp_path / "_PRESSURE").mkdir()
    for name in ("cpu", "memory", "io"):
        (tmp_path / "_PRESSURE" / name).write_text("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\n")
    return state


def disk(size: int) -> SimpleNamespace:
    return SimpleNamespace(read_bytes=size, write_bytes=2 * size, read_count=1, write_count=1, busy_time=size / 10)


def card(size: int) -> SimpleNamespace:
    return SimpleNamespace(
        bytes_recv=size, bytes_sent=2 * size, packets_recv=1, packets_sent=1, errin=0, errout=0, dropin=0, dropout=0
    )


def test_cpu_use_is_what_was_not_idle(machine: SimpleNamespace) -> None:
    reader = HostReader()
    assert ("system.cpu.utilization", "") not in named(reader.read(0, NANO, {}))
    machine.cpu = [13.0, 6.0, 85.0, 6.0, 4.0]  # user +3 of which guest 2, system +1, idle +5, iowait +1
    values = named(reader.read(0, 2 * NANO, {}))
    assert values["system.cpu.utilization", ""] == pytest.approx(2 / 8)
    assert values["system.cpu.utilization", "user"] == pytest.approx(1 / 8)
    assert values["system.cpu.utilization", "iowait"] == pytest.approx(1 / 8)


def test_rates_are_over_the_time_that_really_passed(machine: SimpleNamespace) -> None:
    reader = HostReader()
    machine.disks, machine.cards = {"sda": disk(1000), "sda1": disk(1000)}, {"lo": card(10**6), "eth0": card(500)}
    first = named(reader.read(0, NANO, {}))
    assert ("system.disk.io", "read") not in first
    machine.disks, machine.cards = {"sda": disk(4000), "sda1": disk(4000)}, {"lo": card(10**8), "eth0": card(1000)}
    values = named(reader.read(0, 3 * NANO, {}))
    assert values["system.disk.io", "read"] == 1500, "the partition is not counted beside its disk"
    assert values["system.disk.io", "write"] == 3000
    assert values["system.disk.io_time", ""] == pytest.approx(0.3 / 2)
    assert values["system.network.io", "receive"] == 250, "the loopback is not the network"
    assert values["system.network.io", "transmit"] == 500
    assert values["system.linux.pressure", "cpu,some"] == 0.125


def test_a_counter_that_falls_gives_no_rate(machine: SimpleNamespace) -> None:
    reader = HostReader()
    machine.switches = 1000
    reader.read(0, NANO, {})
    machine.switches = 10
    assert ("system.context_switches", "") not in named(reader.read(0, 2 * NANO, {}))
    machine.switches = 30
    assert named(reader.read(0, 3 * NANO, {}))["system.context_switches", ""] == 20


def test_what_cannot_be_read_is_left_out_and_counted_once(
    machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pernic: bool) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(psutil, "net_io_counters", refuse)
    reader = HostReader()
    count = REGISTRY.get_sample_value("foreshock_errors_total", {"part": "host.network"}) or 0.0
    for at in (1, 2, 3):
        values = named(reader.read(0, at * NANO, {}))
    assert ("system.memory.utilization", "") in values
    assert REGISTRY.get_sample_value("foreshock_errors_total", {"part": "host.network"}) == count + 1
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: {"eth0": card(1)})
    reader.read(0, 4 * NANO, {})
    assert ("system.network.io", "receive") in named(reader.read(0, 5 * NANO, {}))


def test_top_processes_are_added_up_by_name(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    used = {1: ["db", 1.0], 2: ["web", 1.0], 3: ["web", 1.0], 4: ["idle", 1.0]}

    def process(pid: int) -> SimpleNamespace:
        name, seconds = used[pid]
        return SimpleNamespace(
            pid=pid, create_time=lambda: 0.0, name=lambda: name,
            cpu_times=lambda: SimpleNamespace(user=seconds, system=0.0),
        )  # fmt: skip

    monkeypatch.setattr(psutil, "process_iter", lambda: [process(pid) for pid in used])
    reader = HostReader(top_processes=2)
    assert not [one for one in reader.read(0, NANO, {}).metrics if one.name.startswith("process.")]
    used |= {1: ["db", 1.5], 2: ["web", 1.4], 3: ["web", 1.4]}
    top = [one for one in reader.read(0, 2 * NANO, {}).metrics if one.name.startswith("process.")]
    assert [one.attributes["process.executable.name"] for one in top] == ["web", "db"]
    assert [one.value for one in top] == pytest.approx([0.8, 0.5])
