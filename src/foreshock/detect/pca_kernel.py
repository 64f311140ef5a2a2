"""The sweep of `pca`: rows of entities in their order, score and only then learn (CONTRACTS §4).

Components are followed by the covariance-free rule of Weng et al. (2003): a row costs components × features, always.
All float64, in a fixed order. It has a slow, obvious twin in `tests/unit`, equal to it bit for bit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.deviation_near import clip, elapsed, faded, learn_interval, memory
from foreshock.detect.entity import Given, any_finite
from foreshock.detect.kernels import LARGEST_SCORE, LARGEST_VALUE
from foreshock.state.jit import entry, inner
from foreshock.types import Status

LEAST_WIDTH, CLASSES = 8, 8
"""Bodies have room for 8, 16 … 1,024 features."""
LAST, MEAN, VARIANCE, COUNT, CHANGES, VECTORS = range(6)
"""Rows of a body, each of as many numbers as it has room for; behind them a row a component."""
YOUNG = 20
"""Rows of a feature before components look at it: until then its unit is not known."""
AMNESIA = 2.0
"""How many rows a new one counts for, while components and moments are young (Weng et al.: 2 to 4)."""
FARTHEST, CLIP = 30.0, 4.0
"""Deviations count up to so many units in scores, and up to so many in what is learnt by components."""
LEARNT = 10.0
"""Deviations are learnt by means and units up to so many units."""
FIRST_MOVE = 8.0
"""Units that the first move of a feature counts, which was constant until then."""
LEAST_UNIT, LEAST_RATIO = 1e-9, 1e-3
"""No unit is smaller, absolutely and as a share of |mean|."""
LEAST_SHARE = 0.1
"""A component of which less than this share is observed is projected on as if it were this."""
LEAST_NORM = 1e-12
"""A component whose square is smaller is not there."""
LEAST_SQUARE = 0.0025
"""No mean square of what is left is smaller: a twentieth of a unit a feature."""
Z = 3.0902323061678132
"""The standard normal deviate passed by one in a thousand."""
LEAST_FREEDOM, MOST_FREEDOM = 0.5, 1e4
USUAL = 4.0
"""A statistic is learnt as if it were at most so many times its limit."""
CHOOSE = 64
"""Learnt rows between choices of how many components are used."""
PASSES = 2
"""Turns in which components are taken out of a row."""
MINUTE = 60.0
"""Seconds that a row counts for the warm-up where its time does not tell."""
BOTH, ONLY_Q, ONLY_T2 = 0, 1, 2

SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)

HEAD = np.dtype([
    ("time", "i8"), ("count", "i8"), ("fits", "i8"), ("interval", "f8"), ("elapsed", "f8"), ("weight", "f8"),
    ("left", "f8", (2,)), ("within", "f8", (2,)), ("slot", "i4"), ("size", "i4"), ("room", "i4"), ("width", "i4"),
    ("used", "i4"), ("spare", "i4"),
])  # fmt: skip
"""A key: `count` rows learnt, `fits` of them by components; `left` and `within`: mean and variance of what is left a
feature and of T² a component; `slot`, `size` where its body lies, which has `room`; `width` columns seen; components
`used`."""


class Settings(NamedTuple):
    """What the sweep needs to know of the options."""

    warm_up_rows: int
    warm_up_seconds: float
    expiry: int
    memory_seconds: float
    components: int
    explained: float
    statistic: int


class Work(NamedTuple):
    """Scratch: what is left of a row in units, 1 where a feature takes part (each [1024]); factors taken out."""

    left: NDArray[np.float64]
    part: NDArray[np.float64]
    factor: NDArray[np.float64]


class Out(NamedTuple):
    """What is filled in: score float64[n], status uint8[n], contribution float32[n, D] or [n, 0]."""

    score: NDArray[np.float64]
    status: NDArray[np.uint8]
    contribution: NDArray[np.float32]


@entry
def pca_sweep(heads: NDArray[Any], bodies: Any, given: Given, settings: Settings, work: Work, out: Out) -> None:
    """Judge and learn the rows of a frame.

    `heads` are `HEAD` slots by key, `bodies` the tables of bodies by size, each float64[slots, rows · room].
    """
    for i in range(len(given.key)):
        out.score[i], out.status[i] = np.nan, given.status[i]
        for j in range(out.contribution.shape[1]):
            out.contribution[i, j] = np.nan
        if given.status[i] != SCORED:
            continue
        values, head, now, learn = given.values[i], heads[given.key[i]], given.time[i], given.learn[i]
        if not any_finite(values, int(given.width[i])):
            out.status[i] = MISSING
            continue
        fresh = head.count == 0 or now - head.time > settings.expiry
        warm = not fresh and head.count >= settings.warm_up_rows and head.elapsed >= settings.warm_up_seconds
        if not warm:
            out.status[i] = WARMING_UP
        if head.room == 0 or (fresh and not learn):
            continue
        body, b = bodies[head.size - 1][head.slot], int(head.room)
        if fresh:
            _start_afresh(head, body, now)
        width = min(int(given.width[i]), b)
        n = max(int(head.width), width)
        least = min(settings.warm_up_rows, head.count)
        live = _look(body, b, n, values[:width], least, FARTHEST, work)
        square, inside = _project(body, b, n, int(head.used), work)
        q = square / live if live > 0.0 else 0.0
        t2 = inside / head.used if head.used > 0 else 0.0
        found = _score(head, q, t2, settings.statistic)
        if warm and live > 0.0:
            out.score[i] = found
            for j in range(min(width, out.contribution.shape[1])):
                if work.part[j] > 0.0:
                    out.contribution[i, j] = work.left[j] * work.left[j]
        elif warm:
            out.status[i] = WARMING_UP
        if learn:
            _learn(head, body, b, n, values[:width], now, q, t2, live, found if warm else 0.0, settings, work)


@inner
def _start_afresh(head: Any, body: NDArray[np.float64], now: int) -> None:
    body[:] = 0.0
    head.time, head.count, head.fits, head.width, head.used = now, 0, 0, 0, 0
    head.interval, head.elapsed, head.weight = 0.0, 0.0, 0.0
    for k in range(2):
        head.left[k], head.within[k] = 0.0, 0.0


@inner
def _unit(body: NDArray[np.float64], b: int, j: int) -> float:
    """The standard deviation of a feature, floored."""
    unit = math.sqrt(body[VARIANCE * b + j])
    return float(max(max(unit, LEAST_RATIO * abs(body[MEAN * b + j])), LEAST_UNIT))


@inner
def _held(value: float) -> float:
    return float(min(max(value, -LARGEST_VALUE), LARGEST_VALUE))


@inner
def _look(
    body: NDArray[np.float64],
    b: int,
    n: int,
    values: NDArray[np.float64],
    least: int,
    most: float,
    work: Work,
) -> float:
    """A row in units, up to `most` of them; how many features take part: those seen in `least` rows, and one at least.

    What takes no part is 0.
    """
    live = 0.0
    for j in range(n):
        work.left[j], work.part[j] = 0.0, 0.0
        count = body[COUNT * b + j]
        if j >= len(values) or not abs(values[j]) < np.inf or count < max(least, 1):
            continue
        x, last = _held(values[j]), body[LAST * b + j]
        if body[CHANGES * b + j] > 0.0:
            away = (x - body[MEAN * b + j]) / _unit(body, b, j)
        else:
            away = 0.0 if x == last else (FIRST_MOVE if x > last else -FIRST_MOVE)
        work.left[j], work.part[j] = clip(away, most), 1.0
        live += 1.0
    return live


@inner
def _along(body: NDArray[np.float64], b: int, n: int, c: int, work: Work) -> tuple[float, float]:
    """How much of a component there is in what is left: its factor, and the square of the component.

    Where features are missing the factor is the one that fits those observed (least squares). (0, 0): not there.
    """
    start = (VECTORS + c) * b
    product, observed, square = 0.0, 0.0, 0.0
    for j in range(n):
        v = body[start + j]
        product += v * work.left[j]
        observed += work.part[j] * v * v
        square += v * v
    if square < LEAST_NORM:
        return 0.0, 0.0
    return product / max(observed, LEAST_SHARE * square), square


@inner
def _project(body: NDArray[np.float64], b: int, n: int, used: int, work: Work) -> tuple[float, float]:
    """Take the used components out of a row: the square of what is left (Q), and T² of what was taken out.

    Components are only nearly at right angles, less so where features are missing: each is taken out `PASSES` times, in
    turns (Gauss–Seidel), which comes near to the least squares over all.
    """
    for c in range(used):
        work.factor[c] = 0.0
    inside = 0.0
    for _ in range(PASSES):
        inside = 0.0
        for c in range(used):
            factor, square = _along(body, b, n, c, work)
            if square == 0.0:
                break
            start = (VECTORS + c) * b
            for j in range(n):
                work.left[j] -= work.part[j] * (factor * body[start + j])
            # A component's length is its variance: t²/λ of t = factor·length.
            work.factor[c] += factor
            inside += work.factor[c] * work.factor[c] * math.sqrt(square)
    total = 0.0
    for j in range(n):
        total += work.left[j] * work.left[j]
    return total, inside


@inner
def _limit(mean: float, variance: float) -> float:
    """What a statistic of this mean and variance passes in one row of a thousand.

    Jackson & Mudholkar (1979) with the exponent that belongs to g·χ²(h) of the same moments (Box 1954), a third.
    """
    mean = max(mean, LEAST_SQUARE)
    freedom = MOST_FREEDOM
    if variance > 0.0:
        freedom = min(max(2.0 * mean * mean / variance, LEAST_FREEDOM), MOST_FREEDOM)
    spread = 2.0 / (9.0 * freedom)
    root = 1.0 - spread + Z * math.sqrt(spread)
    return mean * root * root * root


@inner
def _score(head: Any, q: float, t2: float, statistic: int) -> float:
    """The root of the larger statistic over its limit: 1 is at the limit. Without components there is only Q."""
    found = 0.0
    if statistic != ONLY_T2 or head.used == 0:
        found = q / _limit(head.left[0], head.left[1])
    if statistic != ONLY_Q and head.used > 0:
        found = max(found, t2 / _limit(head.within[0], head.within[1]))
    return min(math.sqrt(found), LARGEST_SCORE)


@inner
def _learn(
    head: Any,
    body: NDArray[np.float64],
    b: int,
    n: int,
    values: NDArray[np.float64],
    now: int,
    q: float,
    t2: float,
    live: float,
    score: float,
    settings: Settings,
    work: Work,
) -> None:
    """Learn a row: time, moments of the statistics, components, then means and units."""
    past = elapsed(head, now)
    if head.count > 0:
        learn_interval(head, past)
    head.elapsed += past if past > 0.0 else MINUTE
    head.weight = faded(head.weight, memory(head, settings.memory_seconds), past)
    head.width = n
    if _look(body, b, n, values, YOUNG, CLIP, work) > 0.0:
        young = AMNESIA / (head.fits + AMNESIA)
        gain = max(young, 1.0 / head.weight)
        if live > 0.0 and head.fits > 0:
            _learn_moments(head.left, q, gain, score > 0.0)
            if head.used > 0:
                _learn_moments(head.within, t2, gain, score > 0.0)
        bounded = 1.0 / (score * score) if score > 1.0 else 1.0
        _learn_components(body, b, n, gain, bounded, settings.components, work)
        head.fits += 1
    _learn_values(head, body, b, values)
    head.time = max(now, head.time)
    head.count += 1
    if head.count % CHOOSE == 0:
        head.used = _choose(head, body, b, settings)


@inner
def _learn_moments(moments: NDArray[np.float64], value: float, gain: float, warm: bool) -> None:
    """Mean and variance of a statistic."""
    if warm:
        value = min(value, USUAL * _limit(moments[0], moments[1]))
    surprise = value - moments[0]
    moments[0] += gain * surprise
    moments[1] = (1.0 - gain) * (moments[1] + gain * surprise * surprise)


@inner
def _learn_components(
    body: NDArray[np.float64], b: int, n: int, gain: float, bounded: float, components: int, work: Work
) -> None:
    """Move each component towards what the ones before it left of the row, in `work.left`.

    v ← (1 − g)·v + g·t·u with t = u·v/|v|. What is missing counts as the component expects it; a feature that is new
    moves by a gain of its own.
    """
    for c in range(components):
        factor, square = _along(body, b, n, c, work)
        start = (VECTORS + c) * b
        if square == 0.0:
            for j in range(n):
                body[start + j] = work.part[j] * work.left[j]
            break
        along = factor * math.sqrt(square)
        for j in range(n):
            v = body[start + j]
            u = work.left[j] if work.part[j] > 0.0 else factor * v
            own = AMNESIA / (max(body[COUNT * b + j] - YOUNG, 0.0) + AMNESIA)
            g = bounded * max(gain, own)
            work.left[j] -= work.part[j] * (factor * v)
            body[start + j] = (1.0 - g) * v + g * (along * u)


@inner
def _learn_values(head: Any, body: NDArray[np.float64], b: int, values: NDArray[np.float64]) -> None:
    """Means and variances of features: exact until weights become exponential (Welford 1962)."""
    for j in range(len(values)):
        if not abs(values[j]) < np.inf:
            continue
        x, count = _held(values[j]), body[COUNT * b + j]
        if count == 0.0:
            body[MEAN * b + j] = x
        elif x != body[LAST * b + j]:
            if body[CHANGES * b + j] == 0.0:
                unit = abs(x - body[LAST * b + j]) / FIRST_MOVE
                body[VARIANCE * b + j] = unit * unit
            body[CHANGES * b + j] += 1.0
        surprise = x - body[MEAN * b + j]
        if count >= YOUNG:
            surprise = clip(surprise, LEARNT * _unit(body, b, j))
        gain = max(1.0 / (count + 1.0), 1.0 / head.weight)
        body[MEAN * b + j] += gain * surprise
        body[VARIANCE * b + j] = (1.0 - gain) * (body[VARIANCE * b + j] + gain * surprise * surprise)
        body[LAST * b + j] = x
        body[COUNT * b + j] = count + 1.0


@inner
def _choose(head: Any, body: NDArray[np.float64], b: int, settings: Settings) -> int:
    """How many components are used: as many as explain the wanted share, but never all dimensions there are."""
    moving = 0
    for j in range(head.width):
        moving += body[COUNT * b + j] >= YOUNG and body[CHANGES * b + j] > 0.0
    explained, used = 0.0, 0
    while used < min(settings.components, moving - 1) and explained < settings.explained * moving:
        start, square = (VECTORS + used) * b, 0.0
        for j in range(head.width):
            square += body[start + j] * body[start + j]
        explained += math.sqrt(square)
        used += 1
    return used
