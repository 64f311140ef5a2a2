"""What is watched, read chunk by chunk in order of time, as payloads of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.decode import encode_samples
from foreshock.adapters.prometheus.api import Api, Matrix, TooMuchError, TooSlowError, points
from foreshock.adapters.prometheus.columns import Columns
from foreshock.adapters.prometheus.discovery import Catalogue
from foreshock.adapters.prometheus.metrics import MOST_CELLS, Ask
from foreshock.errors import PermanentError
from foreshock.types import Samples

CHUNK_CELLS = 500_000
"""About how many points are held at a time."""
MOST_ROWS = 10_000
RECORD_SAMPLES = 100_000
"""A longer record would keep what others bring waiting."""
GONE_SECONDS = 3600.0
"""After so long without a sample a series is let go."""

_FEWEST_CELLS = 1000
_NEVER = -(1 << 62)


@dataclass(slots=True)
class _Met:
    """A series of an answer that is not watched."""

    ask: Ask
    metric: msgspec.Raw
    values: NDArray[np.float64]


class Reader:
    """Reads times `step` apart, each once, and gives payloads of `encode_samples`.

    `next_row` is the first time not read yet, in whole steps since the epoch. A feature without a value where its
    entity has others is given as missing, so that nobody waits for it; where an entity has none, nothing is given.
    Where the server cannot give so much at a time, chunks become smaller, and grow again slowly.
    """

    def __init__(self, api: Api, catalogue: Catalogue, step_seconds: float, next_row: int) -> None:
        self._api, self._catalogue, self.step_seconds = api, catalogue, step_seconds
        self.next_row = next_row
        self._columns = Columns((), step_seconds)
        self._index: dict[bytes, int] = {}
        self._version = -1
        self._last_raw: dict[bytes, int] = {}
        self._last: NDArray[np.int64] = np.zeros(0, np.int64)
        self._cells = MOST_CELLS
        self._rows = MOST_ROWS
        self._has_past = False

    def read(self, last_row: int) -> Iterator[bytes]:
        """Payloads of the next chunk, at most up to `last_row`; then `next_row` is behind it.

        Raises what `Api` raises; then nothing was read.
        """
        self._follow()
        while not self._has_past:
            self._look_back()
        rows = min(last_row + 1 - self.next_row, self._rows, max(1, CHUNK_CELLS // max(1, len(self._index))))
        if rows <= 0:
            return
        values = self._fetch(self.next_row, rows)
        first, self.next_row = self.next_row, self.next_row + rows
        self._rows = min(MOST_ROWS, self._rows + self._rows // 8 + 1)
        self._cells = min(MOST_CELLS, self._cells + self._cells // 8 + 1)
        features = self._columns.take(values)
        self._note(values, first)
        yield from self._payloads(features, first)
        self._let_go()

    def skip_to(self, row: int) -> None:
        """Go on at a row; what lies between is left out."""
        self.next_row, self._has_past = row, False

    def _look_back(self) -> None:
        """Read what lies before the first row, in parts where it cannot be had at once."""
        first = self.next_row - self._columns.lead
        while first < self.next_row:
            rows = min(self.next_row - first, self._rows)
            self._columns.look_back(self._fetch(first, rows))
            first += rows
        self._has_past = True

    # -- columns -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Take over what the catalogue watches, with the past of what was watched before."""
        if self._version == self._catalogue.version:
            return
        self._version = self._catalogue.version
        before, known = self._columns, self._index
        self._index = {key: at for at, key in enumerate(self._catalogue.raws)}
        self._columns = Columns(list(self._catalogue.raws.values()), self.step_seconds)
        self._columns.inherit(before, ((at, known[key]) for key, at in self._index.items() if key in known))
        last = dict(zip(before.features, self._last.tolist(), strict=True))
        self._last = np.array([last.get(one, _NEVER) for one in self._columns.features], np.int64)

    def _fetch(self, first: int, rows: int) -> NDArray[np.float64]:
        """The watched series at so many rows: float64[rows, series]; takes up those that turn up."""
        try:
            answers = ((ask, self._ask(ask, first, rows)) for ask in self._catalogue.asks(rows, self._cells))
            values, met = self._sort(answers, first, rows)
        except TooMuchError:
            self._rows = max(1, rows // 2)
            self._cells = max(_FEWEST_CELLS, self._cells // 2)
            raise
        taken = [self._catalogue.meet(one.ask, key, one.metric, one.values) for key, one in met.items()]
        if any(taken):
            values = self._grown(values, met)
        return np.ascontiguousarray(values.T)

    def _sort(
        self, answers: Iterable[tuple[Ask, list[Matrix]]], first: int, rows: int
    ) -> tuple[NDArray[np.float64], dict[bytes, _Met]]:
        """The values of series that are watched, float64[series, rows], and the others."""
        values = np.full((len(self._index), rows), np.nan)
        met: dict[bytes, _Met] = {}
        for ask, answer in answers:
            for series in answer:
                key = ask.prefix + bytes(series.metric)
                at = self._index.get(key)
                if at is None:
                    met[key] = _Met(ask, series.metric, self._place(series, first, np.full(rows, np.nan)))
                else:
                    self._place(series, first, values[at])
        return values, met

    def _grown(self, values: NDArray[np.float64], met: dict[bytes, _Met]) -> NDArray[np.float64]:
        """The values with those of series that have just been taken up."""
        known = self._index
        self._follow()
        grown = np.full((len(self._index), values.shape[1]), np.nan)
        for key, at in self._index.items():
            if key in known:
                grown[at] = values[known[key]]
            elif key in met:
                grown[at] = met[key].values
        return grown

    def _ask(self, ask: Ask, first: int, rows: int) -> list[Matrix]:
        step = self.step_seconds
        try:
            return self._api.range(ask.query, first * step, (first + rows - 1) * step, step)
        except TooSlowError:
            raise
        except (PermanentError, TooMuchError) as error:
            if isinstance(error, TooMuchError) and (rows > 1 or len(ask.metrics) > 1):
                raise
            # Less cannot be asked for: what one query is refused must not keep the others waiting.
            self._catalogue.refuse(ask, str(error))
            return []

    def _place(self, series: Matrix, first: int, into: NDArray[np.float64]) -> NDArray[np.float64]:
        """Put the points of a series where their times are."""
        found = points(series)
        if len(found) == len(into):
            into[:] = found[:, 1]
        elif len(found):
            at = np.rint(found[:, 0] / self.step_seconds).astype(np.int64) - first
            inside = (at >= 0) & (at < len(into))
            into[at[inside]] = found[inside, 1]
        return into

    # -- samples -------------------------------------------------------------------------------------------------

    def _payloads(self, features: NDArray[np.float64], first: int) -> Iterator[bytes]:
        """Samples of the features `float64[r, f]`, row by row, some rows a payload."""
        if not features.size:
            return
        there = ~np.isnan(features)
        rows = np.arange(first, first + len(features), dtype=np.int64)
        last = np.maximum.accumulate(np.where(there, rows[:, None], _NEVER), axis=0)
        last = np.maximum(last, self._last)
        self._last = last[-1]
        starts = self._columns.starts
        alive = np.logical_or.reduceat(there, starts, axis=1)
        alive = np.repeat(alive, np.diff(np.append(starts, features.shape[1])), axis=1)
        wanted = alive & (rows[:, None] - last <= max(20, round(GONE_SECONDS / self.step_seconds)))
        step = max(1, RECORD_SAMPLES // features.shape[1])
        for low in range(0, len(features), step):
            at, which = np.nonzero(wanted[low : low + step])
            if len(at):
                yield encode_samples(self._samples(features[low : low + step], rows[low:], at, which), pack=True)

    def _samples(
        self, features: NDArray[np.float64], rows: NDArray[np.int64], at: NDArray[np.intp], which: NDArray[np.intp]
    ) -> Samples:
        used = np.zeros(features.shape[1], np.bool_)
        used[which] = True
        number = np.cumsum(used, dtype=np.int32) - np.int32(1)
        times = np.rint(rows * self.step_seconds * 1e3).astype(np.int64) * 1_000_000
        series = [self._columns.features[one] for one in np.flatnonzero(used).tolist()]
        return Samples(series, number[which], times[at], features[at, which], np.zeros(len(at), np.uint64), {})

    def _note(self, values: NDArray[np.float64], first: int) -> None:
        """Remember when each series was last there."""
        there = ~np.isnan(values)
        last = first + len(values) - 1 - np.argmax(there[::-1], axis=0)
        came = np.flatnonzero(there.any(axis=0)).tolist()
        keys = list(self._index)
        self._last_raw |= {keys[at]: int(last[at]) for at in came}

    def _let_go(self) -> None:
        gone = self.next_row - round(GONE_SECONDS / self.step_seconds)
        keys = [key for key, row in self._last_raw.items() if row < gone]
        for key in keys:
            del self._last_raw[key]
        self._catalogue.drop(keys)
