"""One reading of this machine: gauges as they are, counters as rates over the interval since the last reading.

Names are those of OpenTelemetry's system metrics, attributes those of its host receiver (`state`, `direction`,
`mountpoint`). Rates keep the counter's name with the unit per second.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from foreshock.adapters.metrics import Metric, Reading
from foreshock.telemetry import ERRORS

_SYS_BLOCK, _SYS_NET, _PRESSURE, _VMSTAT = (
    Path("/sys/block"), Path("/sys/class/net"), Path("/proc/pressure"), Path("/proc/vmstat"),
)  # fmt: skip
_CPU_STATES = ("user", "system", "iowait", "steal")
_MOST_MOUNTS = 8
_READ_ONLY_TYPES = frozenset({"squashfs", "iso9660", "udf", "erofs"})
_REFRESH = 60

Found = Iterator[Metric]


class HostReader:
    """Reads the machine; keeps the counters of the last reading.

    What cannot be read (no permission, no such sensor) is left out and counted once in `foreshock_errors_total`.
    """

    def __init__(self, top_processes: int = 0) -> None:
        self.top_processes = top_processes
        self.unreadable: set[str] = set()
        self._last: dict[str, float] = {}
        self._cpu: dict[str, float] = {}
        self._processes: dict[tuple[int, float], tuple[str, float]] = {}
        self._elapsed = 0.0
        self._read_at = 0
        self._readings = 0
        self._mounts: list[str] = []
        self._physical: dict[str, frozenset[str]] = {}

    def read(self, time_unix_nano: int, now_unix_nano: int, entity: dict[str, str]) -> Reading:
        """A reading stamped `time_unix_nano`; `now_unix_nano` is when it is taken, for the rates.

        The first one has no rates, nor has one whose clock went backwards.
        """
        self._elapsed = (now_unix_nano - self._read_at) / 1e9 if self._read_at else 0.0
        self._read_at = now_unix_nano
        metrics: list[Metric] = []
        for part, probe in self._probes():
            try:
                metrics += list(probe())
            except (psutil.Error, OSError, ValueError, AttributeError, NotImplementedError, RuntimeError):
                if part not in self.unreadable:
                    self.unreadable.add(part)
                    ERRORS.labels(f"host.{part}").inc()
        self._readings += 1
        return Reading(time_unix_nano, entity, metrics)

    def _probes(self) -> Iterator[tuple[str, Callable[[], Found]]]:
        yield "cpu", self._cpu_use
        yield "load", self._load
        yield "memory", self._memory
        yield "paging", self._paging
        yield "disk", self._disk
        yield "filesystem", self._filesystem
        yield "network", self._network
        yield "processes", self._process_count
        yield "pressure", self._pressure
        if self.top_processes:
            yield "top_processes", self._top

    def _rate(self, name: str, unit: str, value: float, **attributes: str) -> Found:
        """The counter's growth a second; nothing at first and where the counter fell (it was reset)."""
        key = f"{name}{sorted(attributes.items())}"
        before = self._last.get(key)
        self._last[key] = value
        if before is not None and value >= before and self._elapsed > 0:
            yield Metric(name, attributes, unit, (value - before) / self._elapsed)

    def _cpu_use(self) -> Found:
        times = psutil.cpu_times()._asdict()
        # guest time is already part of user time
        times["user"] -= times.pop("guest", 0.0)
        times["nice"] = times.get("nice", 0.0) - times.pop("guest_nice", 0.0)
        before, self._cpu = self._cpu, times
        spent = {state: max(0.0, value - before.get(state, value)) for state, value in times.items()}
        whole = sum(spent.values())
        if whole > 0:
            idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
            yield Metric("system.cpu.utilization", {}, "1", (whole - idle) / whole)
            for state in _CPU_STATES:
                if state in spent:
                    yield Metric("system.cpu.utilization", {"state": state}, "1", spent[state] / whole)
        yield from self._rate("system.context_switches", "{switch}/s", psutil.cpu_stats().ctx_switches)

    def _load(self) -> Found:
        for name, value in zip(("1m", "5m", "15m"), os.getloadavg(), strict=True):
            yield Metric(f"system.cpu.load_average.{name}", {}, "{thread}", value)

    def _memory(self) -> Found:
        memory = psutil.virtual_memory()
        yield Metric("system.memory.utilization", {}, "1", 1 - memory.available / memory.total)
        for state in ("used", "free", "buffers", "cached"):
            if hasattr(memory, state):
                yield Metric("system.memory.usage", {"state": state}, "By", float(getattr(memory, state)))

    def _paging(self) -> Found:
        swap = psutil.swap_memory()
        if swap.total:
            yield Metric("system.paging.utilization", {}, "1", swap.used / swap.total)
        if _VMSTAT.exists():
            count = dict(line.split() for line in _VMSTAT.read_text().splitlines())
            yield from self._rate("system.paging.faults", "{fault}/s", float(count["pgmajfault"]), type="major")
            minor = float(count["pgfault"]) - float(count["pgmajfault"])
            yield from self._rate("system.paging.faults", "{fault}/s", minor, type="minor")

    def _disk(self) -> Found:
        disks = psutil.disk_io_counters(perdisk=True)
        chosen = [disks[name] for name in self._hardware("disk", _SYS_BLOCK, frozenset(disks)) if name in disks]
        if not chosen:
            return
        for direction in ("read", "write"):
            size = sum(getattr(disk, f"{direction}_bytes") for disk in chosen)
            yield from self._rate("system.disk.io", "By/s", size, direction=direction)
            count = sum(getattr(disk, f"{direction}_count") for disk in chosen)
            yield from self._rate("system.disk.operations", "{operation}/s", count, direction=direction)
        if hasattr(chosen[0], "busy_time"):
            # share of the time that a disk was busy, over all disks: 1 = all of them, all the time
            busy = sum(disk.busy_time for disk in chosen) / 1_000 / len(chosen)
            yield from self._rate("system.disk.io_time", "1", busy)

    def _filesystem(self) -> Found:
        if self._readings % _REFRESH == 0:
            self._mounts = _mounts()
        for mount in self._mounts:
            with suppress(OSError):  # unmounted since the list was made
                usage = psutil.disk_usage(mount)
                if usage.total:
                    yield Metric("system.filesystem.utilization", {"mountpoint": mount}, "1", usage.used / usage.total)

    def _network(self) -> Found:
        cards = psutil.net_io_counters(pernic=True)
        names = frozenset(name for name in cards if name != "lo" and not name.startswith("lo0"))
        chosen = [cards[name] for name in self._hardware("network", _SYS_NET, names) if name in cards]
        if not chosen:
            return
        for direction, short in (("receive", "recv"), ("transmit", "sent")):
            size = sum(getattr(card, f"bytes_{short}") for card in chosen)
            yield from self._rate("system.network.io", "By/s", size, direction=direction)
            count = sum(getattr(card, f"packets_{short}") for card in chosen)
            yield from self._rate("system.network.packets", "{packet}/s", count, direction=direction)
            end = "in" if direction == "receive" else "out"
            errors = sum(getattr(card, f"err{end}") for card in chosen)
            yield from self._rate("system.network.errors", "{error}/s", errors, direction=direction)
            dropped = sum(getattr(card, f"drop{end}") for card in chosen)
            yield from self._rate("system.network.dropped", "{packet}/s", dropped, direction=direction)

    def _hardware(self, what: str, folder: Path, names: frozenset[str]) -> frozenset[str]:
        """Those of the names that are hardware, all if none is: what they carry would else be counted twice.

        Looked up again now and then, and when a name comes or goes.
        """
        known = f"{what}:{','.join(sorted(names))}"
        if known not in self._physical or self._readings % _REFRESH == 0:
            self._physical = {key: value for key, value in self._physical.items() if not key.startswith(what)}
            real = frozenset(name for name in names if (folder / name / "device").exists())
            self._physical[known] = real or names
        return self._physical[known]

    def _process_count(self) -> Found:
        yield Metric("system.processes.count", {}, "{process}", float(len(psutil.pids())))

    def _pressure(self) -> Found:
        if not _PRESSURE.exists():
            return
        for resource in ("cpu", "memory", "io"):
            for line in (_PRESSURE / resource).read_text().splitlines():
                kind, average, *_ = line.split()
                share = float(average.removeprefix("avg10=")) / 100
                yield Metric("system.linux.pressure", {"resource": resource, "kind": kind}, "1", share)

    def _top(self) -> Found:
        """CPU use of the programs that use most, in processors; all processes of a name together."""
        seen: dict[tuple[int, float], tuple[str, float]] = {}
        used: Counter[str] = Counter()
        for process in psutil.process_iter():
            try:
                key = process.pid, process.create_time()
                known = self._processes.get(key)
                name = known[0] if known else process.name()
                times = process.cpu_times()
            except psutil.Error:
                continue
            seen[key] = name, times.user + times.system
            if known:
                used[name] += max(0.0, seen[key][1] - known[1])  # type: ignore[assignment]
        self._processes = seen
        if self._elapsed > 0:
            for name, seconds in sorted(used.items(), key=lambda one: (-one[1], one[0]))[: self.top_processes]:
                share = seconds / self._elapsed
                yield Metric("process.cpu.utilization", {"process.executable.name": name}, "1", share)


def _mounts() -> list[str]:
    """Writable file systems on devices, each device once, the shortest paths first."""
    by_device: dict[str, str] = {}
    for part in sorted(psutil.disk_partitions(all=False), key=lambda part: (len(part.mountpoint), part.mountpoint)):
        if part.fstype not in _READ_ONLY_TYPES and Path(part.mountpoint).is_dir():
            by_device.setdefault(part.device, part.mountpoint)
    return sorted(by_device.values())[:_MOST_MOUNTS] or ["/"]
