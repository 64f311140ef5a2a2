"""Snapshots of tasks in a compacted topic, and how a task comes back: newest usable snapshot → committed runs → on.

A snapshot is written in transactions that also commit the task's offsets: a zombie cannot write one, and what is read
is committed. The offsets' metadata names its manifest from the next transaction on. Blocks are keyed (task, operator,
block, generation mod 3), so that compaction keeps the last three generations of each.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgspec

from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.adapters.kafka.topics import Layout
from foreshock.errors import PermanentError, RetryableError
from foreshock.runtime.distributed_cursors import Cursor, Cursors
from foreshock.runtime.distributed_format import (
    CONFIG,
    Manifest,
    Meta,
    Part,
    Run,
    decode_manifest,
    decode_run,
    encode,
)
from foreshock.runtime.distributed_tasks import KafkaTask
from foreshock.runtime.snapshot import numerics_id
from foreshock.runtime.writer import SnapshotWrite
from foreshock.state import State, chunks, unpack
from foreshock.telemetry import ERRORS

logger = logging.getLogger(__name__)

BLOCK_BYTES = 512 << 10
GENERATIONS = 3
MANIFEST = b"manifest"


class Keeper:
    """Writes and reads the snapshots and runs of a worker's tasks."""

    def __init__(self, options: KafkaOptions, layout: Layout) -> None:
        self._layout, self._cursors = layout, Cursors(options)
        # By task: the last manifest, its offset, and the offset of the newest run entry that is known.
        self._manifests: dict[str, tuple[Manifest, int]] = {}
        self._run_offsets: dict[str, int] = {}
        # The same as of when a snapshot was begun.
        self._begun: dict[str, int] = {}

    def forget(self, task: str) -> None:
        """A task is somebody else's now."""
        self._manifests.pop(task, None)
        self._run_offsets.pop(task, None)
        self._begun.pop(task, None)

    def meta(self, task: KafkaTask) -> Meta:
        """What is committed with a task's offsets."""
        known = self._manifests.get(task.name)
        return Meta(task.sequence, known[1] if known else -1)

    # -- writing -------------------------------------------------------------------------------------------------

    def run_message(self, task: KafkaTask, run: Run) -> Out:
        """The entry of a run."""
        return Out(self._layout.runs, encode(run), task.name.encode(), (), task.partition)

    def run_written(self, task: str, offset: int) -> None:
        """The entry of a task's newest run stands there."""
        self._run_offsets[task] = offset

    def begun(self, task: KafkaTask) -> None:
        """A snapshot of a task is begun, between two of its runs."""
        self._begun[task.name] = self._run_offsets.get(task.name, 0)

    def blocks(self, task: KafkaTask, write: SnapshotWrite) -> Iterator[tuple[str, bytes, Out]]:
        """The blocks of a snapshot: operator, digest, message."""
        generation = self._generation(task.name) % GENERATIONS
        for name, state in write.job.finish().items():
            for number, block in enumerate(_blocks(state)):
                key = f"{task.name}/{name}/{number}/{generation}".encode()
                digest = hashlib.blake2b(block, digest_size=16).digest()
                yield name, digest, Out(self._layout.snapshots, block, key, (), task.partition)

    def manifest(self, task: KafkaTask, write: SnapshotWrite, parts: list[Part]) -> tuple[Manifest, Out]:
        """The manifest that closes a snapshot, and its message."""
        known = self._manifests.get(task.name)
        generation = self._generation(task.name)
        manifest = Manifest(
            generation, write.position, self._begun.get(task.name, 0), write.watermark, write.config, write.sources,
            numerics_id(), parts, known[1] if known else -1,
        )  # fmt: skip
        key = f"{task.name}/manifest/{generation % GENERATIONS}".encode()
        return manifest, Out(self._layout.snapshots, encode(manifest), key, (("kind", MANIFEST),), task.partition)

    def written(self, task: str, manifest: Manifest, offset: int) -> None:
        """A snapshot is committed."""
        self._manifests[task] = manifest, offset

    def _generation(self, task: str) -> int:
        known = self._manifests.get(task)
        return known[0].generation + 1 if known else 0

    # -- reading -------------------------------------------------------------------------------------------------

    def restore(self, task: KafkaTask, fresh: Callable[[], KafkaTask], meta: Meta) -> KafkaTask:
        """The task as of run `meta.run`: from its newest usable snapshot, else from the beginning.

        Raises RetryableError where Kafka does not answer, PermanentError where the runs behind it are gone.
        """
        restored, at = self._newest(task, fresh, meta.snapshot)
        if restored.sequence < meta.run:
            self._repeat(restored, at, meta.run)
        return restored

    def restored(self) -> None:
        """All tasks that were to be brought back are: let go of what reads them."""
        self._cursors.close()

    def _newest(self, task: KafkaTask, fresh: Callable[[], KafkaTask], offset: int) -> tuple[KafkaTask, int]:
        """The task of the newest snapshot that can be read, and the offset of its run's entry."""
        for manifest, at in self._candidates(task, offset):
            try:
                states = self._read(task, manifest)
                restored = fresh()
                restored.load(states, manifest.config, manifest.watermark, manifest.sources)
            except (PermanentError, KeyError) as error:
                ERRORS.labels("snapshot").inc()
                logger.warning("the snapshot of %s at run %d cannot be used and is passed over: %s", task.name,
                               manifest.sequence, error)  # fmt: skip
                continue
            if manifest.numerics != numerics_id():
                logger.warning("numerics changed since the snapshot of %s (%s → %s): results may differ in the last "
                               "digits", task.name, manifest.numerics, numerics_id())  # fmt: skip
            self._manifests[task.name], self._run_offsets[task.name] = (manifest, at), manifest.run_offset
            return restored, manifest.run_offset
        return fresh(), 0

    def _candidates(self, task: KafkaTask, offset: int) -> Iterator[tuple[Manifest, int]]:
        """Manifests to try, the newest first: as each names the one before it, else all that the topic has."""
        seen = -1
        while offset >= 0:
            manifest = self._manifest_at(task, offset)
            if manifest is None:
                break
            yield manifest, offset
            seen, offset = offset, manifest.before
        if offset < 0:
            return
        with self._cursors.at(self._layout.snapshots, task.partition, 0) as cursor:
            found = [message for message in cursor.rest(lambda message: False) if _is_manifest(message)]
        for message in reversed(found):
            if message.offset() < (seen if seen >= 0 else offset):
                yield decode_manifest(message.value()), message.offset()

    def _manifest_at(self, task: KafkaTask, offset: int) -> Manifest | None:
        with self._cursors.at(self._layout.snapshots, task.partition, offset) as cursor:
            message = next(cursor.rest(lambda message: True), None)
        if message is None or message.offset() != offset or not _is_manifest(message):
            logger.warning("the manifest of %s at offset %d is gone", task.name, offset)
            return None
        return decode_manifest(message.value())

    def _read(self, task: KafkaTask, manifest: Manifest) -> dict[str, State]:
        """The states of a snapshot; PermanentError where a block is missing or damaged."""
        offsets = [offset for part in manifest.parts for offset, _ in part.blocks]
        blocks: dict[int, bytes] = {}
        if offsets:
            last = max(offsets)
            with self._cursors.at(self._layout.snapshots, task.partition, min(offsets)) as cursor:
                for message in cursor.rest(lambda message: message.offset() >= last):
                    blocks[message.offset()] = message.value() or b""
        out = {}
        for part in manifest.parts:
            for offset, digest in part.blocks:
                if offset not in blocks:
                    raise PermanentError(f"a block of {part.name} is missing (offset {offset})")
                if hashlib.blake2b(blocks[offset], digest_size=16).digest() != digest:
                    raise PermanentError(f"a block of {part.name} is damaged (offset {offset})")
            out[part.name] = unpack(b"".join(blocks[offset] for offset, _ in part.blocks))
        return out

    def _repeat(self, task: KafkaTask, offset: int, last: int) -> None:
        """Take the runs behind a task's state up to run `last` again, with what they bring about suppressed."""
        with ExitStack() as open_cursors:
            runs = open_cursors.enter_context(self._cursors.at(self._layout.runs, task.partition, offset))
            inputs: dict[tuple[str, int], Cursor] = {}
            for message in runs.rest(lambda message: decode_run(message.value()).sequence >= last):
                run = decode_run(message.value())
                if run.sequence <= task.sequence:
                    continue
                if run.sequence != task.sequence + 1:
                    raise PermanentError(
                        f"{task.name}: runs {task.sequence + 1} to {run.sequence - 1} are gone from {self._layout.runs}"
                    )
                for at, start in _inputs_of(run):
                    if at not in inputs:
                        inputs[at] = open_cursors.enter_context(self._cursors.at(*at, start))
                        inputs[at].say_lost()
                _repeat_run(task, run, inputs)
                task.sequence = run.sequence
                self._run_offsets[task.name] = message.offset()
        if task.sequence < last:
            raise RetryableError(f"{task.name}: run {last} was committed and cannot be read yet")


def _inputs_of(run: Run) -> Iterator[tuple[tuple[str, int], int]]:
    """The partitions that a run read, and from which offset on."""
    return (((step.input, step.partition), step.start) for step in run.steps if step.input != CONFIG)


def _repeat_run(task: KafkaTask, run: Run, inputs: dict[tuple[str, int], Cursor]) -> None:
    for step in run.steps:
        if step.input == CONFIG:
            task.repeat(step)
            continue
        at = step.input, step.partition
        messages = inputs[at].until(step.end)
        if messages:
            task.take(messages, emit=False)
        task.positions[at] = step.end
    task.begin_run()


def _blocks(state: State) -> Iterator[bytes]:
    """The bytes of a frozen state in blocks."""
    buffer = bytearray()
    for chunk in chunks(state):
        buffer += chunk
        while len(buffer) >= BLOCK_BYTES:
            yield bytes(buffer[:BLOCK_BYTES])
            del buffer[:BLOCK_BYTES]
    yield bytes(buffer)


def _is_manifest(message: Any) -> bool:
    if ("kind", MANIFEST) not in (message.headers() or ()):
        return False
    try:
        decode_manifest(message.value())
    except msgspec.MsgspecError:
        return False
    return True
