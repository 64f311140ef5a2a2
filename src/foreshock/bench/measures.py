"""How scores and alarms meet labels: VUS-PR, AUC-PR, and what an on-call engineer sees of alarms.

Of one series: `truth` bool[n] labels, `score` float64[n] (higher = more abnormal), `alarm` bool[n] what the detector
itself decided at each row, from the rows so far. No threshold is chosen in hindsight, and nothing is point-adjusted:
under that protocol random numbers win.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Reals = NDArray[np.float64]

DAY = 86400.0
THRESHOLDS = 250
"""Points of the curve under which VUS-PR is a volume."""
COOL_DOWN_SECONDS, COOL_DOWN_ROWS = 3600.0, 10
"""After a notification an alarm that goes on is silent for an hour, and for ten rows at least."""
SLACK_SECONDS, SLACK_ROWS = 600.0, 2
"""A notification within ten minutes of an event, or two rows, is not false."""
WARM_UP_SHARE, WARM_UP_MOST = 0.15, 750
"""Rows of a series without a train part that are not judged (those of NAB; Lavin & Ahmad 2015)."""


def events(truth: Flags) -> NDArray[np.intp]:
    """Runs of labelled rows: [k, 2], each [start, end).

    >>> events(np.array([False, True, True, False, True])).tolist()
    [[1, 3], [4, 5]]
    """
    edges = np.diff(np.asarray(truth, np.bool_).astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges).reshape(-1, 2)


def auc_pr(truth: Flags, score: Reals) -> float:
    """Average precision over rows, equal scores taken together; NaN where nothing is labelled.

    >>> auc_pr(np.array([False, True, False, True]), np.array([0.1, 0.9, 0.5, 0.4])).__round__(4)
    0.8333
    """
    truth = np.asarray(truth, np.bool_)
    if not truth.any():
        return math.nan
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    last_of_equals = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    hits = np.cumsum(truth[order])[last_of_equals]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (last_of_equals + 1)) / hits[-1])


def vus_pr(truth: Flags, score: Reals, buffer: int, thresholds: int = THRESHOLDS) -> float:
    """Volume under the surface of range precision and recall (Paparrizos et al., PVLDB 2022); NaN without labels.

    For each width of 0 to `buffer` rows events get shoulders of half that width, in which labels fall off as
    √(1 − distance/width); recall is weighed by the share of events (with their shoulders) that are touched at all.
    Thresholds stand at evenly spaced places among the sorted scores, as in the version that TSB-AD ranks by.
    """
    truth = np.asarray(truth, np.bool_)
    found = events(truth)
    if not len(found):
        return math.nan
    n, labelled = len(truth), int(truth.sum())
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    levels = falling[np.linspace(0, n - 1, thresholds).astype(np.int64)]
    flagged = np.searchsorted(-falling, -levels, side="right")
    place = np.empty(n + 1, np.int64)
    place[order], place[n] = np.arange(n), n
    unlabelled = ~truth[order]
    areas = []
    for width in range(buffer + 1):
        soft = _soft_labels(truth, found, width)[order]
        hits = np.cumsum(soft)[flagged - 1]
        shoulders = np.cumsum(soft * unlabelled)[flagged - 1]
        first = np.sort(_first_places(place, found, width // 2))
        touched = np.searchsorted(first, flagged, side="left") / len(first)
        recall = np.minimum(hits / (labelled + shoulders / 2), 1.0) * touched
        areas.append(np.sum(np.diff(recall, prepend=0.0) * hits / flagged))
    return float(np.mean(areas))


def _soft_labels(truth: Flags, found: NDArray[np.intp], width: int) -> Reals:
    soft = truth.astype(np.float64)
    half = width // 2
    if not half:
        return soft
    ramp = np.sqrt(1.0 - np.arange(1, half + 1) / width)
    for start, end in found.tolist():
        after, before = soft[end : end + half], soft[max(start - half, 0) : start]
        after += ramp[: len(after)]
        before += ramp[: len(before)][::-1]
    out: Reals = np.minimum(soft, 1.0)
    return out


def _first_places(place: NDArray[np.int64], found: NDArray[np.intp], half: int) -> NDArray[np.int64]:
    """Of each event with its shoulders (those that meet are one): the best place of its rows among all scores."""
    apart = found[:-1, 1] - 1 + half < found[1:, 0] - half
    start = np.maximum(found[:, 0] - half, 0)[np.append(True, apart)]
    end = np.minimum(found[:, 1] + half, len(place) - 1)[np.append(apart, True)]
    out: NDArray[np.int64] = np.minimum.reduceat(place, np.column_stack([start, end]).ravel())[::2]
    return out


def buffer_length(values: Reals, lags: int = 400, rows: int = 20_000) -> int:
    """The buffer that TSB-AD takes for a series: its period by the autocorrelation of its first rows, else 125.

    values float64[n] without NaN. The lag (3 to 303) of the highest local maximum of the autocorrelation.
    """
    x = np.asarray(values, np.float64)[:rows]
    x = x - x.mean() if len(x) else x
    n = len(x)
    if n < 10 or not x.any():
        return 125
    spectrum = np.fft.rfft(x, 1 << (2 * n - 1).bit_length())
    correlation = np.fft.irfft(spectrum * np.conj(spectrum))[: min(lags, n - 1) + 1]
    tail = (correlation / correlation[0])[3:]
    inner = tail[1:-1]
    peaks = np.flatnonzero((inner > tail[:-2]) & (inner > tail[2:])) + 1
    if not len(peaks):
        return 125
    best = int(peaks[np.argmax(tail[peaks])])
    return best + 3 if 3 <= best <= 300 else 125


def warm_up_rows(rows: int) -> int:
    """How many rows of a series without a train part are not judged.

    >>> warm_up_rows(1000), warm_up_rows(100_000)
    (150, 750)
    """
    return min(int(WARM_UP_SHARE * rows), WARM_UP_MOST)


def cool_down(step_seconds: float) -> int:
    """Rows for which an alarm that goes on notifies nobody again."""
    return max(math.ceil(COOL_DOWN_SECONDS / step_seconds), COOL_DOWN_ROWS)


def slack(step_seconds: float) -> int:
    """Rows around an event in which a notification is not false."""
    return max(math.ceil(SLACK_SECONDS / step_seconds), SLACK_ROWS)


def notifications(alarm: Flags, silent_rows: int) -> NDArray[np.int64]:
    """The rows of `alarm` bool[n] that notify: the first one, and after each only from `silent_rows` later on.

    >>> notifications(np.array([0, 1, 1, 1, 0, 1], bool), 2).tolist()
    [1, 3, 5]
    """
    out: list[int] = []
    for row in np.flatnonzero(alarm).tolist():
        if not out or row - out[-1] >= silent_rows:
            out.append(row)
    return np.array(out, np.int64)


def near_events(truth: Flags, rows: int) -> Flags:
    """Whether a row lies in an event or within so many rows of one: bool[n]."""
    near = np.zeros(len(truth), np.bool_)
    for start, end in events(truth).tolist():
        near[max(start - rows, 0) : end + rows] = True
    return near


@dataclass(frozen=True, slots=True)
class Counts:
    """What alarms were worth: events `found` by an alarm inside them and `missed`, notifications that were `false`.

    `delays_seconds` from the start of each found event to the first alarm in it; `days` that were judged.
    """

    found: int
    missed: int
    false: int
    days: float
    delays_seconds: tuple[float, ...] = ()


def event_counts(truth: Flags, alarm: Flags, step_seconds: float) -> Counts:
    """Count events and false notifications of one series with a row every `step_seconds`."""
    truth, alarm = np.asarray(truth, np.bool_), np.asarray(alarm, np.bool_)
    found = events(truth)
    delays = [int(np.argmax(alarm[a:b])) * step_seconds for a, b in found.tolist() if alarm[a:b].any()]
    elsewhere = alarm & ~near_events(truth, slack(step_seconds))
    false = len(notifications(elsewhere, cool_down(step_seconds)))
    return Counts(len(delays), len(found) - len(delays), false, len(truth) * step_seconds / DAY, tuple(delays))


@dataclass(frozen=True, slots=True)
class Online:
    """Counts of many series together; `delay_seconds` is the median (NaN = nothing found), `f1` NaN without events
    and alarms."""

    events: int
    found: int
    false_alarms: int
    recall: float
    precision: float
    f1: float
    false_alarms_per_day: float
    delay_seconds: float


def pooled(counts: Iterable[Counts]) -> Online:
    """Events and notifications of all series in one pool: one series may not stand for many.

    >>> both = pooled([Counts(1, 1, 0, 2.0, (60.0,)), Counts(1, 0, 1, 2.0, (0.0,))])
    >>> round(both.f1, 3), both.false_alarms_per_day, both.delay_seconds
    (0.667, 0.25, 30.0)
    """
    listed = list(counts)
    found, missed, false = (sum(getattr(one, name) for one in listed) for name in ("found", "missed", "false"))
    days = sum(one.days for one in listed)
    delays = [delay for one in listed for delay in one.delays_seconds]
    wrong = missed + false
    return Online(
        found + missed,
        found,
        false,
        found / max(found + missed, 1),
        found / max(found + false, 1),
        2 * found / (2 * found + wrong) if found + wrong else math.nan,
        false / days if days else math.nan,
        float(np.median(delays)) if delays else math.nan,
    )


def mean(values: Iterable[float]) -> float:
    """The mean of those that are numbers; NaN where none is."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else math.nan
