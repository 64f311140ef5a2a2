"""Replay: recorded input through the same task, as fast as it goes, resumable after a kill.

Results go to a folder: `alerts.jsonl` (one line a transition, in the alert stream's order) and `verdicts.parquet`.
While it runs, a hidden folder beside them holds the committed position, snapshots and parts of the verdicts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from foreshock.adapters.sql import Store
from foreshock.config import Config
from foreshock.errors import ConfigError
from foreshock.ports import RecordReader
from foreshock.runtime.figures import figures
from foreshock.runtime.lock import lock_folder
from foreshock.runtime.outputs import CommitBuilder
from foreshock.runtime.plots import Pictures
from foreshock.runtime.recovery import Reader, task_of
from foreshock.runtime.snapshot import SnapshotJob, SnapshotStore, numerics_id
from foreshock.runtime.task import Outputs, Task
from foreshock.runtime.verdict_rows import SCHEMA, verdict_table
from foreshock.types import Alert, Record
from foreshock.types.record import CONFIG

TASK = "replay"
COMMIT_ROWS = 100_000
COMMIT_SECONDS = 0.25
GROUP_ROWS = 65_536


@dataclass(slots=True)
class ReplayReport:
    """What a replay did: `rows` aligned rows judged by this run, `resumed_from` the position it went on from.

    `counts`: samples of the whole replay that were not used, by reason (`docs/explanation/time.md`).
    `detectors`: how each did beside the others (`runtime.figures.DetectorFigures`).
    """

    rows: int = 0
    records: int = 0
    resumed_from: int = 0
    position: int = 0
    seconds: float = 0.0
    alerts: int = 0
    notified: int = 0
    notes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    detectors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Replay:
    """One replay into `out`; `identity` tells whether an unfinished one there is of the same input.

    `recorded` input is a log: its watermarks are the truth, and its config records are obeyed, unless `other_config`
    says that `config` counts from its beginning to its end. Of tables, `config` counts and the end of the input closes
    all that is open. `total` is the end position, for `progress(position)`.
    """

    config: Config
    reader: RecordReader
    out: Path
    identity: dict[str, Any]
    recorded: bool = False
    other_config: bool = False
    total: int = 0
    notes: tuple[str, ...] = ()
    fresh: bool = False
    progress: Callable[[int], None] = lambda position: None
    pictures: Pictures | None = None
    report: ReplayReport = field(default_factory=ReplayReport)
    _store: Store = field(init=False)
    _snapshots: SnapshotStore = field(init=False)
    _commits: CommitBuilder = field(init=False)
    _tables: list[pa.Table] = field(init=False)

    @property
    def _work(self) -> Path:
        return self.out / ".replay"

    def run(self) -> ReplayReport:
        """Replay all of it, from where an unfinished run was.

        Raises ConfigError if that run was of something else, PermanentError if another process is at it or the input
        is damaged, RetryableError or OSError if the disk is full: called again, it goes on.
        """
        started = perf_counter()
        # The lock lies beside the folder it guards, which goes and comes.
        with lock_folder(self.out / ".lock"):
            self._open()
            try:
                self._run()
            finally:
                self._store.close()
            shutil.rmtree(self._work)
        shutil.rmtree(self.out / ".lock", ignore_errors=True)
        self.report.notes = self.notes
        self.report.seconds = perf_counter() - started
        return self.report

    def _run(self) -> None:
        task, position = self._restore()
        judge = Reader(self.reader).judge if self.recorded else _process
        committed = self._store.committed(TASK)
        self.report.resumed_from = position
        last_snapshot = perf_counter()
        for next_position, record in self.reader.read(position):
            self.report.records += 1
            passed_over = self.other_config and record.content_type == CONFIG
            outputs = Outputs() if passed_over else judge(task, next_position, record)
            self.progress(next_position)
            before, position = position, next_position
            if next_position <= committed:
                continue
            self._gather(outputs, task, before)
            if self._commits.rows >= COMMIT_ROWS or self._commits.due(perf_counter(), COMMIT_SECONDS, False):
                self._commit(position)
                last_snapshot = self._snapshot(task, position, last_snapshot)
        mark = task.watermark
        if position + 1 > committed and not self.recorded:
            self._gather(task.finish(), task, position)
            position += 1
        self._commit(position)
        self._join_parts()
        self._count_alerts()
        self.report.counts = task.pipeline.align.counts
        self.report.detectors = [asdict(one) for one in figures(task, mark).detectors]
        self.report.position = position

    # -- opening and restoring -----------------------------------------------------------------------------------

    def _open(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        mark = self._work / "input.json"
        wanted = msgspec.json.encode({"config": self.config.digest, **self.identity}, order="sorted")
        if mark.exists() and mark.read_bytes() != wanted:
            if not self.fresh:
                raise ConfigError(
                    f"{self.out} holds an unfinished replay of other input or settings: "
                    "call it again with the same arguments, choose another --out, or pass --fresh"
                )
            shutil.rmtree(self._work)
        if self.fresh and self._work.exists():
            shutil.rmtree(self._work)
        if not mark.exists():
            shutil.rmtree(self._work, ignore_errors=True)
            self._work.mkdir()
            for name in ("alerts.jsonl", "verdicts.parquet"):
                (self.out / name).unlink(missing_ok=True)
            (self._work / "parts").mkdir()
            temporary = mark.with_suffix(".tmp")
            temporary.write_bytes(wanted)
            temporary.rename(mark)
        self._store = Store(f"sqlite:///{self._work / 'replay.db'}")
        self._snapshots = SnapshotStore(self._work / "snapshots")
        self._commits = CommitBuilder(TASK, keep_verdicts=False)
        self._tables: list[pa.Table] = []
        self._repair()

    def _repair(self) -> None:
        """Bring the files in line with what was committed: cut what is ahead, append what is behind."""
        committed = self._store.committed(TASK)
        for part in (self._work / "parts").glob("*"):
            if part.suffix != ".arrow" or int(part.stem.split("-")[0]) >= committed:
                part.unlink()
        path = self.out / "alerts.jsonl"
        path.touch()
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        missing = self._store.events(whole.count(b"\n"), 1 << 30)
        with path.open("r+b") as file:
            file.truncate(len(whole))
            file.seek(0, 2)
            file.write(b"".join(_line(alert) for _, alert in missing))

    def _restore(self) -> tuple[Task, int]:
        snapshot = self._snapshots.newest(self._store.committed(TASK))
        if snapshot is None:
            return Task(self.config, bands=True), 0
        return task_of(snapshot), snapshot.position

    # -- outputs -------------------------------------------------------------------------------------------------

    def _gather(self, outputs: Outputs, task: Task, before: int) -> None:
        registry = task.pipeline.registry
        self._commits.add(before, outputs, registry)
        for columns in outputs.columns:
            self.report.rows += len(columns.rows)
            self._tables.append(verdict_table(columns, registry))
        if self.pictures is not None:
            self.pictures.feed(outputs, registry)

    def _commit(self, position: int) -> None:
        commit = self._commits.take(position, perf_counter())
        if commit is None:
            return
        if self._tables:
            part = self._work / "parts" / f"{commit.start:015d}-{commit.end:015d}.arrow"
            temporary = part.with_suffix(".tmp")
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
                for table in self._tables:
                    writer.write_table(table)
            temporary.rename(part)
            self._tables = []
        self._store.commit(TASK, commit.start, commit.end, commit.alerts, None, commit.controls)
        if commit.alerts:
            with (self.out / "alerts.jsonl").open("ab") as file:
                file.write(b"".join(map(_line, commit.alerts)))

    def _snapshot(self, task: Task, position: int, last: float) -> float:
        """A snapshot, so often that it costs no more than its share of the time."""
        started = perf_counter()
        if started - last < COMMIT_SECONDS / 2:
            return last
        job = SnapshotJob(task.states())
        while not job.advance(1.0):
            pass
        meta = {"config": task.config.resolved().decode(), "watermark": task.watermark, "numerics": numerics_id()}
        self._snapshots.write(position, job.finish(), meta)
        spent = perf_counter() - started
        return perf_counter() + spent / self.config.snapshot.share - COMMIT_SECONDS / 2

    def _count_alerts(self) -> None:
        for line in (self.out / "alerts.jsonl").read_bytes().splitlines():
            alert = msgspec.json.decode(line)
            if alert["status"] == "firing":
                self.report.alerts += 1
                self.report.notified += bool(alert["foreshock"]["notified"])

    def _join_parts(self) -> None:
        """Join the parts to one file of fixed row groups, so that equal verdicts are equal bytes."""
        temporary = self.out / "verdicts.parquet.tmp"
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            held: list[pa.Table] = []
            count = 0
            for part in sorted((self._work / "parts").glob("*.arrow")):
                with pa.memory_map(str(part)) as file:
                    held.append(pa.ipc.open_file(file).read_all())
                count += held[-1].num_rows
                while count >= GROUP_ROWS:
                    table = pa.concat_tables(held)
                    writer.write_table(table.slice(0, GROUP_ROWS).combine_chunks(), GROUP_ROWS)
                    held = [table.slice(GROUP_ROWS)]
                    count -= GROUP_ROWS
            if count:
                writer.write_table(pa.concat_tables(held).combine_chunks(), GROUP_ROWS)
        temporary.rename(self.out / "verdicts.parquet")


def _process(task: Task, next_position: int, record: Record) -> Outputs:
    return task.process(record)


def _line(alert: Alert) -> bytes:
    return msgspec.json.encode(alert.to_json(), order="sorted") + b"\n"
