"""The score of the Numenta Anomaly Benchmark (Lavin & Ahmad 2015), from its rules.

In a labelled window only the earliest detection counts: it earns σ(y)/σ(−1) of a true positive, where y in [−1, 0) is
its place in the window and σ(y) = 2/(1 + e^5y) − 1. A window without one costs a false negative. A detection outside
costs σ of its distance behind the last window, in windows; before the first window, or beyond three of them, a whole
false positive. 0 is the score of saying nothing, 100 of saying everything at once and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foreshock.bench.measures import Reals, warm_up_rows

Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a true positive earns, and what a false negative and a false positive cost."""

    true_positive: float
    false_negative: float
    false_positive: float


STANDARD = Profile(1.0, 1.0, 0.11)
PROFILES = {
    "standard": STANDARD,
    "reward_low_fp_rate": Profile(1.0, 1.0, 0.22),
    "reward_low_fn_rate": Profile(1.0, 2.0, 0.11),
}
FAR = 3.0


@dataclass(frozen=True, slots=True)
class Scored:
    """A series: `seconds` float64[n] Unix times in order, `score` float64[n], labelled windows (both ends belong)."""

    seconds: Reals
    score: Reals
    windows: Sequence[Window]


def sigma(y: Reals) -> Reals:
    """The scaled sigmoid: near 1 far before 0, −1 far behind it."""
    out: Reals = np.where(y > FAR, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(y, FAR))) - 1.0)
    return out


def worths(seconds: Reals, windows: Sequence[Window], profile: Profile = STANDARD) -> tuple[Reals, NDArray[np.int64]]:
    """What a detection at each row is worth, float64[n], and the window it lies in, int64[n]; −1 outside."""
    n = len(seconds)
    rows = np.arange(n)
    worth = np.full(n, -profile.false_positive)
    window = np.full(n, -1, np.int64)
    at_the_start = float(sigma(np.array(-1.0)))
    for number, (begin, end) in enumerate(windows):
        left, right = (int(np.searchsorted(seconds, moment)) for moment in (begin, end))
        length = right - left + 1
        behind = rows > right
        worth[behind] = profile.false_positive * sigma((rows[behind] - right) / max(length - 1, 1e-9))
        inside = (rows >= left) & (rows <= right)
        worth[inside] = profile.true_positive * sigma(-(right - rows[inside] + 1) / length) / at_the_start
        window[inside] = number
    return worth, window


def raw_scores(corpus: Sequence[Scored], profile: Profile = STANDARD) -> tuple[Reals, Reals]:
    """Every threshold that makes a difference, falling from ∞, and the raw score of the whole corpus at each."""
    scores, gains, lost = [], [], 0.0
    for series in corpus:
        worth, window = worths(series.seconds, series.windows, profile)
        judged = np.arange(len(worth)) >= warm_up_rows(len(worth))
        score, worth, window = np.asarray(series.score, np.float64)[judged], worth[judged], window[judged]
        order = np.argsort(-score, kind="stable")
        gain = worth[order]
        for number in range(len(series.windows)):
            mine = np.flatnonzero(window[order] == number)
            if len(mine):
                # The threshold falls past one row of the window after the other: only a better one adds something.
                lost += profile.false_negative
                best = np.maximum.accumulate(np.append(-profile.false_negative, gain[mine]))
                gain[mine] = np.diff(best)
        scores.append(score[order])
        gains.append(gain)
    score, gain = np.concatenate(scores), np.concatenate(gains)
    order = np.argsort(-score, kind="stable")
    falling, total = score[order], np.cumsum(gain[order]) - lost
    last_of_equals = np.append(falling[1:] != falling[:-1], True)
    return np.append(np.inf, falling[last_of_equals]), np.append(-lost, total[last_of_equals])


def nab_score(
    corpus: Sequence[Scored], profile: Profile = STANDARD, threshold: float | None = None
) -> tuple[float, float]:
    """(score, threshold): with the threshold that is best for this corpus, as NAB ranks, or with the one given.

    NaN where the corpus has no windows.
    """
    thresholds, raw = raw_scores(corpus, profile)
    if threshold is None:
        at = int(np.argmax(raw))
    else:
        at = max(0, int(np.searchsorted(-thresholds, -threshold, side="right")) - 1)
    perfect = profile.true_positive * sum(len(series.windows) for series in corpus)
    if perfect == raw[0]:
        return math.nan, float(thresholds[at])
    return float(100.0 * (raw[at] - raw[0]) / (perfect - raw[0])), float(thresholds[at])


def halves(corpus: Sequence[Scored], splits: int = 50, seed: int = 0) -> tuple[float, float]:
    """(mean, standard deviation) of scores on one half of the series with the threshold that is best on the other."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(splits):
        order = rng.permutation(len(corpus)).tolist()
        here, there = ([corpus[i] for i in part] for part in (order[: len(order) // 2], order[len(order) // 2 :]))
        if any(one.windows for one in here) and any(one.windows for one in there):
            out.append(nab_score(there, threshold=nab_score(here)[1])[0])
    return (float(np.mean(out)), float(np.std(out))) if out else (math.nan, math.nan)
