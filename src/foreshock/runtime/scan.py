"""Reading a log from end to end: its records, and all that is wrong on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from foreshock.errors import PermanentError
from foreshock.runtime.segment import Problem, Segment, decode_body
from foreshock.types import Record
from foreshock.types.record import CONFIG, GAP

Spans = list[tuple[Segment, int]]
"""Segments in order, each with the byte up to which it is read."""
_DROPPED = "the segment was dropped while the log was read"


class DamagedLogError(PermanentError):
    """A record of the log cannot be trusted; `problem` says where, and from which position reading can go on."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(
            f"the log is damaged: {problem}. Restore this file from a copy, or move the data folder away to start "
            "afresh; `foreshock log verify` lists all that is damaged"
        )


class Gap(msgspec.Struct):
    """Payload of a gap record: positions `[from, to)` are left out."""

    start: int = msgspec.field(name="from")
    end: int = msgspec.field(name="to")


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a log holds: positions `[start, end)`, times of receipt in nanoseconds, counts of records, places of
    config records and of gaps (`(from, to)` left out by a power loss), the size of a torn tail and the number of
    damaged places.
    """

    segments: int
    records: int
    bytes: int
    start: int
    end: int
    first_received: int
    last_received: int
    by_content_type: dict[str, int]
    by_source: dict[str, int]
    config_positions: tuple[int, ...]
    gaps: tuple[tuple[int, int], ...]
    torn_bytes: int
    damaged: int


def records(spans: Spans, end: int, wanted: int) -> Iterator[tuple[int, Record] | Problem]:
    """Records from `wanted` on with the position after each, and all that is wrong on the way."""
    for n, (segment, limit) in enumerate(spans):
        following = spans[n + 1][0] if n + 1 < len(spans) else None
        if following is not None and following.first <= wanted:
            continue
        if segment.damaged_header:
            yield header_problem(segment)
        file, at, until = str(segment.path), segment.first, following.first if following else end
        try:
            for item in segment.entries(limit, wanted):
                if isinstance(item, Problem):
                    at = item.resume
                    yield item
                    continue
                at = item[0] + 1
                try:
                    record = decode_body(item[2])
                except msgspec.MsgspecError as error:
                    yield Problem(file, item[0], item[1], f"the body is no record: {error}", at)
                    continue
                yield at, record
        except FileNotFoundError:
            yield Problem(file, at, 0, _DROPPED, until)
        except OSError as error:
            yield Problem(file, at, 0, f"the file cannot be read: {error.strerror}", until)
        else:
            if following is not None and at < following.previous_end and wanted < following.previous_end:
                lost = f"the file ends early, the entries up to {following.previous_end - 1} are missing"
                yield Problem(file, at, limit, lost, following.first)


def summary(spans: Spans, end: int, torn_bytes: int) -> LogSummary:
    """Count what stands in `spans`; damaged places are passed over and counted."""
    types: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    configs: list[int] = []
    gaps: list[tuple[int, int]] = []
    first = last = damaged = 0
    for item in records(spans, end, 0):
        if isinstance(item, Problem):
            damaged += item.reason != _DROPPED
            continue
        position, record = item
        types[record.content_type] += 1
        sources[record.source] += 1
        first, last = first or record.received_unix_nano, record.received_unix_nano
        if record.content_type == CONFIG:
            configs.append(position - 1)
        elif record.content_type == GAP:
            with suppress(msgspec.MsgspecError):
                gap = msgspec.json.decode(record.payload, type=Gap)
                gaps.append((gap.start, gap.end))
    return LogSummary(
        len(spans), types.total(), sum(size for _, size in spans), spans[0][0].first, end, first, last, dict(types),
        dict(sources), tuple(configs), tuple(gaps), torn_bytes, damaged,
    )  # fmt: skip


def problems(spans: Spans, end: int) -> list[Problem]:
    """Read and check every record in `spans`, and return what is damaged."""
    found = records(spans, end, 0)
    return [item for item in found if isinstance(item, Problem) and item.reason != _DROPPED]


def header_problem(segment: Segment) -> Problem:
    """The header of a segment cannot be trusted; its records can be read all the same."""
    return Problem(str(segment.path), segment.first, 0, "the header is damaged", segment.first)
