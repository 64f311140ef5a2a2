"""The compiled sweep of `stuck`: row by row, score and only then learn (CONTRACTS §4).

A run is what lies between two moves of a series. Its length is counted in seconds of event time, and rows that did not
come count for little: absence is no stillness. The sweep has a slow, obvious twin in `tests/unit`, equal to it bit for
bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.histogram import LN2, bin_of, exp, ln, scale_weights, total_weight, upper_quantile
from foreshock.detect.kernels import LARGEST_SCORE, LARGEST_VALUE
from foreshock.state.jit import entry, inner
from foreshock.types import Status

SECOND = 1_000_000_000
DAY, HOUR = 86_400 * SECOND, 3600 * SECOND
SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)

SIZE, LOW, PER = 32, 2, 2
"""Longest runs of hours, in seconds: 2^2 to 2^18 (three days)."""
SAME_SHARE = 1e-3
"""A move below this share of the mean move is none."""
CHANGES, CHANGE_CLIP = 500, 6.0
"""Moves that their mean size remembers; one counts as at most so many mean ones."""
MEMORY_SECONDS, MEMORY_ROWS = 2 * 86400.0, 500.0
"""What the share of still rows and the mean interval remember, and how many rows at least."""
INTERVAL_JUMP = 5.0
LONGEST_STEP = 1.5
"""A row adds at most so many mean intervals to a run; a run no longer than that is one repeated value, and none yet."""
LEAST_STILL = 0.05
"""No series is thought to stand still in fewer rows than this."""
SURPRISE = 6.0
"""A run reaches far if chance makes one as long once in e^6 rows, were each row still or not by itself."""
BLOCK_ROWS = 10
RUN_DAYS = 14.0
"""Half-life of what is known of longest runs."""
SHARE, LEAST_BLOCKS = 0.012, 2.4
"""The longest usual run: what this share of hours exceeds, and as many hours at least, so that no single incident
counts for usual."""
LEAST_ZEROS = 3
"""Runs at 0 that must have ended before another one is idleness."""
LEAST_REACH = 1e-9
ROOM = 2.0
"""A run reaches far only beyond the longest usual one by this factor."""
REST = 0.65
"""What is added to a run, in reaches: bars cannot extrapolate from hours that score 0."""

ROW = np.dtype([
    ("time", "i8"), ("first", "i8"), ("block_start", "i8"), ("decayed", "i8"),
    ("anchor", "f8"), ("run", "f8"), ("change", "f8"), ("interval", "f8"), ("still", "f8"),
    ("block_max", "f8"), ("longest", "f8"),
    ("count", "i4"), ("changed", "i4"), ("block_rows", "i4"), ("zeros", "i4"), ("held", "i4"), ("spare", "i4"),
    ("runs", "f4", (SIZE,)),
])  # fmt: skip
"""A slot: `anchor` the value that the present run began with; `run` its seconds; `change` the mean size of `changed`
moves; `still` the share of rows that did not move; `longest` the longest usual run; `zeros` runs at 0 that ended;
`held` hours that ended within the present run."""


@entry
def stuck_sweep(
    rows: NDArray[Any],
    key: NDArray[np.int32],
    time: NDArray[np.int64],
    value: NDArray[np.float64],
    learn: NDArray[np.bool_],
    status: NDArray[np.uint8],
    settings: tuple[int, int, float, int, float],
    score: NDArray[np.float64],
    given: NDArray[np.uint8],
    measured: NDArray[np.float64],
) -> None:
    """How far the time without a move goes beside what runs of a series usually reach, for rows in their order.

    Parameters
        rows          slots of `ROW`
        key … status  the columns of a frame, each [n]
        settings      rows before a slot is scored; ns without a learnt row after which it starts afresh; the share of
                      rows in which a live series moves at least; ns for which a series is young; the reach of a young
                      one at least, in seconds
        score, given  out: float64[n], uint8[n]
        measured      out: float64[2, n] seconds without a move, and the longest usual run; or float64[2, 0]
    """
    warm_up, expiry, least_moves, young, young_reach = settings
    for i in range(len(key)):
        score[i], given[i] = np.nan, status[i]
        if measured.shape[1]:
            measured[0, i], measured[1, i] = np.nan, np.nan
        if status[i] != SCORED:
            continue
        if not abs(value[i]) < np.inf:
            given[i] = MISSING
            continue
        x = min(max(value[i], -LARGEST_VALUE), LARGEST_VALUE) + 0.0  # + 0.0: there is one zero, not two
        row, now = rows[np.uint32(key[i])], time[i]
        fresh = row.count == 0 or now - row.time > expiry
        past = 0.0 if fresh else max(now - row.time, 0) / SECOND
        same = not fresh and abs(x - row.anchor) <= SAME_SHARE * row.change
        run = row.run + min(past, LONGEST_STEP * row.interval) if same else 0.0
        if fresh or row.count < warm_up:
            given[i] = WARMING_UP
        else:
            reach = _reach(row, now, young, young_reach)
            score[i] = _score(row, x, same, run, reach, least_moves)
            if measured.shape[1]:
                measured[0, i], measured[1, i] = run, max(row.longest, row.interval)
        if learn[i]:
            if fresh:
                _begin(row, x, now)
            else:
                _learn(row, x, now, past, same, run)


@inner
def _reach(row: Any, now: int, young: int, young_reach: float) -> float:
    """Seconds that runs of a series reach: by its longest ones, and by how often it moves at all."""
    still = min(max(row.still, LEAST_STILL), 1.0 - LEAST_STILL)
    reach = max(SURPRISE * row.interval / -ln(still), ROOM * row.longest)
    if now - row.first < young:
        # Whoever has not seen a whole day of a series does not know its night.
        reach = max(reach, young_reach)
    return float(max(reach, LEAST_REACH))


@inner
def _score(row: Any, x: float, same: bool, run: float, reach: float, least_moves: float) -> float:
    if same and (1.0 - row.still < least_moves or (x == 0.0 and row.zeros >= LEAST_ZEROS)):
        return 0.0
    far = run / reach if run > LONGEST_STEP * row.interval else 0.0
    ratio = (far + REST) / (1.0 + REST)
    return float(min(ratio * ratio, LARGEST_SCORE))


@inner
def _begin(row: Any, x: float, now: int) -> None:
    row.time = row.first = now
    row.block_start = row.decayed = 0
    row.anchor, row.run, row.change, row.interval, row.still = x, 0.0, 0.0, 0.0, 0.0
    row.block_max = row.longest = 0.0
    row.count, row.changed, row.block_rows, row.zeros, row.held = 1, 0, 0, 0, 0
    scale_weights(row.runs, 0.0)


@inner
def _learn(row: Any, x: float, now: int, past: float, same: bool, run: float) -> None:
    most = MEMORY_ROWS
    if row.interval > 0.0:
        most = max(MEMORY_SECONDS / row.interval, MEMORY_ROWS)
    weight = min(float(row.count), most)
    if past > 0.0:
        if row.interval == 0.0:
            row.interval = past
        else:
            row.interval += (min(past, INTERVAL_JUMP * row.interval) - row.interval) / weight
    row.still += ((1.0 if same else 0.0) - row.still) / weight
    if not same:
        change = abs(x - row.anchor)
        if row.changed:
            change = min(change, CHANGE_CLIP * row.change)
        row.changed = min(row.changed + 1, CHANGES)
        row.change += (change - row.change) / row.changed
        if row.anchor == 0.0 and row.zeros < LEAST_ZEROS:
            row.zeros += 1
        if row.held:
            _learn_held(row, now)
        row.anchor = x
    row.run = run
    if row.block_rows >= BLOCK_ROWS and now - row.block_start >= HOUR:
        if same and row.block_max <= run:
            # What a run teaches waits for its end: it must not come to be usual while it lasts.
            row.held += 1
        else:
            _fade(row, now)
            row.runs[bin_of(row.block_max, LOW, PER, SIZE)] += 1.0
            _refresh(row)
        row.block_rows = 0
    if row.block_rows == 0:
        row.block_start, row.block_max = now, 0.0
    row.block_rows += 1
    row.block_max = max(row.block_max, run)
    row.time = max(now, row.time)
    if row.count < 2147483647:
        row.count += 1


@inner
def _learn_held(row: Any, now: int) -> None:
    """Learn the hours of a run that has ended: it grew from one to the next."""
    _fade(row, now)
    for hour in range(row.held):
        row.runs[bin_of(row.run * (hour + 1.0) / row.held, LOW, PER, SIZE)] += 1.0
    row.held = 0
    _refresh(row)


@inner
def _fade(row: Any, now: int) -> None:
    if row.decayed:
        scale_weights(row.runs, exp(-LN2 * max(now - row.decayed, 0) / DAY / RUN_DAYS))
    row.decayed = now


@inner
def _refresh(row: Any) -> None:
    """Find the longest usual run anew."""
    tops = max(SHARE * total_weight(row.runs), LEAST_BLOCKS)
    row.longest = upper_quantile(row.runs, LOW, PER, 0.0, 0.0, tops)
