"""The measures of the quality bench, slow and plain: every threshold, every width, every row by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from foreshock.bench.nab import Profile, Scored


def runs(truth: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last row of each run of labelled rows."""
    out: list[tuple[int, int]] = []
    for row, labelled in enumerate(truth):
        if labelled and (row == 0 or not truth[row - 1]):
            out.append((row, row))
        elif labelled:
            out[-1] = (out[-1][0], row)
    return out


def vus_pr(truth: Sequence[bool], score: Sequence[float], buffer: int, thresholds: int = 250) -> float:
    """As `measures.vus_pr`, from the definition."""
    n, falling = len(truth), sorted(score, reverse=True)
    levels = [falling[int(at)] for at in np.linspace(0, n - 1, thresholds)]
    areas = []
    for width in range(buffer + 1):
        half = width // 2
        soft = [float(one) for one in truth]
        for start, end in runs(truth):
            for away in range(1, half + 1):
                weight = math.sqrt(1 - away / width)
                if end + away < n:
                    soft[end + away] += weight
                if start - away >= 0:
                    soft[start - away] += weight
        soft = [min(one, 1.0) for one in soft]
        zones = [[max(a - half, 0), min(b + half, n - 1)] for a, b in runs(truth)]
        joined = [zones[0]]
        for (_, b), (a, _), zone in zip(runs(truth)[:-1], runs(truth)[1:], zones[1:], strict=True):
            if b + half < a - half:
                joined.append(zone)
            else:
                joined[-1][1] = zone[1]
        area = before = 0.0
        for level in levels:
            flagged = [row for row in range(n) if score[row] >= level]
            hits = sum(soft[row] for row in flagged)
            positives = sum(truth) + sum(soft[row] for row in flagged if not truth[row]) / 2
            touched = sum(any(a <= row <= b for row in flagged) for a, b in joined) / len(joined)
            recall = min(hits / positives, 1.0) * touched
            area += (recall - before) * hits / len(flagged)
            before = recall
        areas.append(area)
    return sum(areas) / len(areas)


def nab_raw(corpus: Sequence[Scored], profile: Profile, threshold: float) -> float:
    """The raw NAB score at one threshold, window by window and row by row."""

    def sigma(y: float) -> float:
        return -1.0 if y > 3 else 2 / (1 + math.exp(5 * y)) - 1

    total = 0.0
    for series in corpus:
        n = len(series.seconds)
        first = min(int(0.15 * n), 750)
        spans = [(int(np.searchsorted(series.seconds, a)), int(np.searchsorted(series.seconds, b)))
                 for a, b in series.windows]  # fmt: skip
        for left, right in spans:
            rows = list(range(max(left, first), right + 1))
            hit = next((row for row in rows if series.score[row] >= threshold), None)
            if hit is not None:
                y = -(right - hit + 1) / (right - left + 1)
                total += profile.true_positive * sigma(y) / sigma(-1.0)
            elif rows:
                total -= profile.false_negative
        for row in range(first, n):
            if series.score[row] < threshold or any(a <= row <= b for a, b in spans):
                continue
            before = [(a, b) for a, b in spans if b < row]
            if before:
                left, right = before[-1]
                total += profile.false_positive * sigma((row - right) / (right - left))
            else:
                total -= profile.false_positive
    return total
