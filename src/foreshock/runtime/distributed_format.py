"""What stands in the internal topics: runs, manifests of snapshots, words to the environment task. All MessagePack."""

from __future__ import annotations

import msgspec

from foreshock.types import Alert
from foreshock.types.columns import Presence

CONFIG = "config"
"""The step that is no range of an input: settings that changed."""


class Step(msgspec.Struct, array_like=True):
    """A part of what a task consumed, in order: offsets [start, end) of an `input` partition, or a config."""

    input: str
    partition: int = 0
    start: int = 0
    end: int = 0
    config: bytes = b""


class Run(msgspec.Struct, array_like=True):
    """All that one transaction consumed of one task; `sequence` counts from 1 without a gap."""

    sequence: int
    steps: list[Step]


class Part(msgspec.Struct, array_like=True):
    """The state of one operator: offset and digest of each of its blocks, in order."""

    name: str
    blocks: list[tuple[int, bytes]]


class Manifest(msgspec.Struct):
    """Closes a snapshot: the state after run `sequence`, whose entry (or one before it) stands at `run_offset`.

    `before`: offset of the manifest before this one, -1 for none.
    """

    generation: int
    sequence: int
    run_offset: int
    watermark: int
    config: bytes
    sources: dict[str, int]
    numerics: str
    parts: list[Part]
    before: int = -1


class Meta(msgspec.Struct, array_like=True):
    """Committed with a task's offsets: its last run, and the offset of its newest manifest (-1 = none)."""

    run: int = 0
    snapshot: int = -1


class Word(msgspec.Struct):
    """What a keyed task (`task` of `of`) says to the environment task in one transaction; watermark 0 = none yet."""

    task: int
    of: int
    watermark: int = 0
    alerts: list[Alert] = []
    presence: list[Presence] = []


encode = msgspec.msgpack.Encoder().encode
decode_run = msgspec.msgpack.Decoder(Run).decode
decode_manifest = msgspec.msgpack.Decoder(Manifest).decode
decode_word = msgspec.msgpack.Decoder(Word).decode
_meta = msgspec.json.Decoder(Meta)


def encode_meta(meta: Meta) -> str:
    """Text that fits into the metadata of a committed offset."""
    return msgspec.json.encode(meta).decode()


def decode_meta(text: str | None) -> Meta:
    """What `encode_meta` wrote; of anything else, that nothing was committed."""
    try:
        return _meta.decode(text) if text else Meta()
    except msgspec.MsgspecError:
        return Meta()
