"""Where a task goes on after a restart: newest usable snapshot, then the log behind it (CONTRACTS §1)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from foreshock.config import Config, parse_resolved
from foreshock.errors import PermanentError
from foreshock.ports import RecordReader
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.scan import Gap
from foreshock.runtime.snapshot import Snapshot, SnapshotStore, numerics_id
from foreshock.runtime.task import Outputs, Task
from foreshock.telemetry import ERRORS
from foreshock.types import Record
from foreshock.types.record import CONFIG, GAP

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where reading begins: `position`, with the state of `snapshot` (None: a fresh one).

    What records below `committed` bring about has been said.
    """

    position: int
    committed: int
    snapshot: Snapshot | None


def find_origin(log: SegmentLog, snapshots: SnapshotStore, committed: int) -> Origin:
    """The newest usable snapshot, and that all of the log behind it can be read.

    Raises DamagedLogError where it cannot be trusted: what was acknowledged is not left out silently. Raises
    PermanentError where the beginning is missing.
    """
    # A new database beside an old log, whose beginning is gone: only the snapshots know it still.
    rebuilt = not committed and log.start > 0
    snapshot = snapshots.newest(log.end if rebuilt else committed)
    position = snapshot.position if snapshot is not None else 0
    if rebuilt and snapshot is not None:
        committed = position
        logger.warning("the database is new, the log is not: what was said before position %d is not in it", position)
    if position < log.start and _left_out(log, position):
        position = log.start
    if position < log.start:
        raise PermanentError(
            f"the log begins at {log.start} and no snapshot can be read: "
            "move the data folder away to start afresh, or restore its snapshots folder"
        )
    for _ in log.read(position):
        pass
    return Origin(position, committed, snapshot)


def _left_out(log: SegmentLog, position: int) -> bool:
    """Whether the log begins with a gap that reaches down to `position`: a power loss took what was there."""
    first = next(log.read(log.start), None)
    if first is None or first[1].content_type != GAP:
        return False
    return msgspec.json.decode(first[1].payload, type=Gap).start <= position


def task_of(snapshot: Snapshot) -> Task:
    """The task as it was; PermanentError if this version cannot read it."""
    task = Task(parse_resolved(str(snapshot.meta["config"]).encode()), bands=True)
    task.load(snapshot.states, int(snapshot.meta["watermark"]))
    task.sources = dict(snapshot.meta.get("sources", {}))
    return task


def numerics_change(snapshot: Snapshot) -> dict[str, str] | None:
    """What an `upgrade` record says where the snapshot was computed by other numerics."""
    before, now = str(snapshot.meta["numerics"]), numerics_id()
    if before == now:
        return None
    logger.warning("numerics changed since the snapshot (%s → %s): results may differ in the last digits", before, now)
    return {"from": before, "to": now}


class Reader:
    """Judges recorded records again, as they were judged when they came.

    A record that the config of its time cannot judge (a detector that fails) stopped the pipeline then. Where the
    log goes on with another config, or `changed` says that one comes now, somebody has answered: the records up to
    it are passed over, counted and said; else the error is raised again.
    """

    def __init__(self, log: RecordReader, changed: Callable[[Config], bool] = lambda config: False) -> None:
        self._log, self._changed = log, changed
        self._next_config = -1
        self._said = False

    def judge(self, task: Task, next_position: int, record: Record) -> Outputs:
        """`Task.process`; Outputs without anything for a record that is passed over."""
        try:
            outputs = task.process(record)
        except PermanentError as error:
            if record.content_type == CONFIG or not self._answered(next_position, task.config):
                raise
            ERRORS.labels("detector").inc()
            if not self._said:
                logger.error("records from %d to the next config are passed over, the one of their time cannot judge "
                             "them: %s", next_position - 1, error)  # fmt: skip
            self._said = True
            return Outputs()
        self._said = self._said and record.content_type != CONFIG
        return outputs

    def _answered(self, next_position: int, config: Config) -> bool:
        if self._next_config < next_position:
            later = self._log.read(next_position)
            self._next_config = next((at for at, record in later if record.content_type == CONFIG), -1)
        return self._next_config >= next_position or self._changed(config)
