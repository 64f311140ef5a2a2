"""Decoded rows → Samples: where JSON and tables meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.mapping import MappingOptions
from foreshock.types import Dictionary, Kind, Labels, Samples, Series

MAX_NAME = 1024
"""Longest name of a feature, label or entity, in characters: what is longer is no name but a mistake."""
_MOST_ROWS = 16
"""Sets of features that are remembered of an identity."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a row is: entity, attributes and, in the long form, the feature; `refused` = why it has none.

    `series` remembers its series by feature, `rows` those of several: an identity belongs to one set of options.
    """

    entity: Labels = ()
    attributes: Labels = ()
    name: str = ""
    refused: str = ""
    series: dict[str, Series] = field(default_factory=dict, compare=False, repr=False)
    rows: dict[tuple[str, ...], tuple[Series, ...]] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Block:
    """n decoded rows of one shape.

    `time_unix_nano int64[n]` where `timed bool[n]`; `code int64[n]` into `identities`; `values float64[n, m]` of
    `features` (m names; one, unused, in the long form) where `present bool[n, m]` (None = everywhere);
    `event_id uint64[n]` or None; `row int64[n]` number of the row for messages; `wrong` = values of a wrong type
    where a number was asked for: count and the row of the first. `long`: the feature stands in the identity.
    With a `dictionary` there are no identities: feature j of code i is its series i · m + j, and none is refused.
    """

    time_unix_nano: NDArray[np.int64]
    timed: NDArray[np.bool_]
    code: NDArray[np.int64]
    identities: Sequence[Identity]
    features: Sequence[str]
    values: NDArray[np.float64]
    present: NDArray[np.bool_] | None
    event_id: NDArray[np.uint64] | None
    row: NDArray[np.int64]
    wrong: int = 0
    first_wrong: int = 0
    long: bool = False
    dictionary: Dictionary | None = None


class Drops:
    """Counts of refused rows by reason, and where each reason came up first."""

    def __init__(self, word: str = "row") -> None:
        self.counts: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._word = word

    def add(self, reason: str, count: int, first: int) -> None:
        """Count rows; `first` is the number of the first of them, from 1."""
        if count:
            self.counts[reason] = self.counts.get(reason, 0) + count
            self._first[reason] = min(first, self._first.get(reason, first))

    def add_rows(self, reason: str, rows: NDArray[np.int64]) -> None:
        """Count the rows of these numbers."""
        if len(rows):
            self.add(reason, len(rows), int(rows.min()))

    def worst(self) -> str:
        """The reason that most rows were refused for."""
        return max(self.counts, key=lambda reason: (self.counts[reason], reason)) if self.counts else "empty"

    def notes(self) -> tuple[str, ...]:
        """`bad_json: 3 dropped, first at line 17`."""
        return tuple(
            f"{reason}: {count} dropped, first at {self._word} {self._first[reason]}"
            for reason, count in sorted(self.counts.items())
        )


def identity(entity: Labels, attributes: Labels, name: str) -> Identity:
    """The identity of these names, refused where one of them is too long."""
    for pair in (*entity, *attributes, (name, "")):
        if len(pair[0]) > MAX_NAME or len(pair[1]) > MAX_NAME:
            return Identity(refused="name_too_long")
    return Identity(entity, attributes, name)


def assemble(block: Block, options: MappingOptions, drops: Drops) -> tuple[NDArray[np.int64], Samples]:
    """The samples of a block, row by row in its order, with the number of the row of each: int64[samples].

    What cannot be used is counted in `drops`.
    """
    usable = _usable_rows(block, drops)
    m = len(block.features)
    if block.dictionary is not None and m == 1 and block.present is None and usable.all():
        return block.row, _single(block, block.dictionary, drops)
    slots = block.code[:, None] * m + np.arange(m)
    rows, keep = np.arange(len(block.code)), usable[:, None] & np.ones(m, np.bool_)
    if block.present is not None:
        drops.add_rows("no_values", block.row[usable & ~block.present.any(axis=1)])
        keep &= block.present
    drops.add("not_a_number", block.wrong, block.first_wrong)
    whole = len(rows) > 0 and bool(keep.all())
    flat = slots.ravel() if whole else slots[keep]
    row_of = np.repeat(rows, m) if whole else np.broadcast_to(rows[:, None], keep.shape)[keep]
    series: Sequence[Series]
    if block.dictionary is not None:
        numbers, series = None, block.dictionary
    elif whole:
        numbers, series = np.arange(len(block.identities) * m, dtype=np.int32), _all_series(block, options)
    else:
        used = np.zeros(len(block.identities) * m, np.bool_)
        used[flat] = True
        numbers = np.cumsum(used, dtype=np.int32) - np.int32(1)
        series = [_series(block, options, *divmod(slot, m)) for slot in np.flatnonzero(used).tolist()]
    ids = np.zeros(len(flat), np.uint64) if block.event_id is None else block.event_id[row_of]
    values = block.values.ravel() if whole else block.values[keep]
    index = flat.astype(np.int32) if numbers is None else numbers[flat]
    return block.row[row_of], Samples(series, index, block.time_unix_nano[row_of], values, ids, {})


def _single(block: Block, dictionary: Dictionary, drops: Drops) -> Samples:
    """The samples of rows that all have one feature and stand in a dictionary: a sample each."""
    drops.add("not_a_number", block.wrong, block.first_wrong)
    ids = np.zeros(len(block.code), np.uint64) if block.event_id is None else block.event_id
    return Samples(dictionary, block.code.astype(np.int32), block.time_unix_nano, block.values[:, 0], ids, {})


def _usable_rows(block: Block, drops: Drops) -> NDArray[np.bool_]:
    usable = block.timed
    if not usable.all():
        drops.add_rows("bad_time", block.row[~usable])
    if not block.identities:
        return usable
    for reason in {one.refused for one in block.identities if one.refused}:
        refused = np.array([one.refused == reason for one in block.identities])[block.code] & usable
        drops.add_rows(reason, block.row[refused])
        usable = usable & ~refused
    return usable


def _all_series(block: Block, options: MappingOptions) -> list[Series]:
    """The series of all identities, each of which has rows in the block."""
    out: list[Series] = []
    names = tuple(block.features)
    for number, who in enumerate(block.identities):
        row = who.rows.get(names)
        if row is None:
            if len(who.rows) >= _MOST_ROWS:
                who.rows.clear()
            row = who.rows[names] = tuple(_series(block, options, number, at) for at in range(len(names)))
        out += row
    return out


def _series(block: Block, options: MappingOptions, number: int, at: int) -> Series:
    """The series of identity `number` and feature `at`."""
    who = block.identities[number]
    name = who.name if block.long else block.features[at]
    one = who.series.get(name)
    if one is None:
        one = who.series[name] = series_of(who, name, options)
    return one


def series_of(who: Identity, name: str, options: MappingOptions) -> Series:
    """The series of a feature of an identity."""
    kind = Kind.COUNTER if options.is_counter(name) else Kind.GAUGE
    return Series(name, who.entity, who.attributes, options.unit_of(name), kind)


def join(parts: Sequence[tuple[NDArray[np.int64], Samples]], drops: Drops, notes: Sequence[str]) -> Samples:
    """Samples of several blocks as one, in the order of their rows; `parts` pair them with the rows they came from.

    The rows of a part are one number a sample. Equal series of different parts become one.
    """
    if len(parts) == 1:
        one = parts[0][1]
        return Samples(one.series, one.index, one.time_unix_nano, one.value, one.event_id, drops.counts,
                       (*notes, *drops.notes()))  # fmt: skip
    known: dict[Series, int] = {}
    index = [
        np.fromiter((known.setdefault(one, len(known)) for one in part.series), np.int32, len(part.series))[part.index]
        for _, part in parts
    ]
    order = np.argsort(_stacked([rows for rows, _ in parts], np.int64), kind="stable")
    return Samples(
        list(known),
        _stacked(index, np.int32)[order],
        _stacked([part.time_unix_nano for _, part in parts], np.int64)[order],
        _stacked([part.value for _, part in parts], np.float64)[order],
        _stacked([part.event_id for _, part in parts], np.uint64)[order],
        drops.counts,
        (*notes, *drops.notes()),
    )


def _stacked(arrays: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0, kind)
