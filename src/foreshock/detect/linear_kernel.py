"""The sweep of `linear`: rows of entities, each one's in their order, score and only then learn.

All that a row costs is bounded: the maps are applied, covariances follow one window of rows in four once there are
many, and the maps of four features are fitted at most, every fourth row. Numbers are float32 where a body is
concerned, in a fixed order. Rows of a key that come in one frame are taken up to four together, which changes no bit of
what comes of each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.entity import Given, any_finite
from foreshock.detect.linear_apart import compare
from foreshock.detect.linear_feature import learn_one_by_one, learn_values, look, moving
from foreshock.detect.linear_layout import BLOCK, PAST, RING, TOGETHER, ZERO, Out, Settings, Work
from foreshock.detect.linear_row import (
    FIRST_FIT,
    MINUTE,
    contribute,
    fit_next,
    judge,
    learn_covariances_of,
    new_units,
    remember,
    score,
)
from foreshock.state.jit import entry, inner
from foreshock.types import Status

SECOND = 1_000_000_000
GAP = 10.0
"""Mean intervals without a row after which rows before are not looked back at."""
INTERVAL_ROWS, INTERVAL_JUMP = 200, 5.0

SCORED, WARMING_UP, MISSING = int(Status.SCORED), int(Status.WARMING_UP), int(Status.MISSING)


@entry
def without_room(heads: NDArray[Any], given: Given, start: int) -> int:
    """The first row from `start` on that is to be learnt and has columns without a place; n if there is none."""
    for i in range(start, len(given.key)):
        if given.status[i] == SCORED and given.learn[i] and given.width[i] > heads[given.key[i]].room:
            for j in range(given.width[i]):
                if abs(given.values[i, j]) < np.inf:
                    return i
    return len(given.key)


@entry
def sweep(
    heads: NDArray[Any],
    bodies: Any,
    doubles: Any,
    given: Given,
    coming: NDArray[np.int32],
    after: NDArray[np.int32],
    first: int,
    last: int,
    settings: Settings,
    works: NDArray[Any],
    out: Out,
) -> None:
    """Judge and learn rows first ≤ i < last of a frame, key by key.

    Parameters
        heads            `HEAD` slots by key
        bodies, doubles  the tables of bodies by size as float32[slots, …], and the same memory as float64
        coming           scratch by key, 0 before and after: one more than the key's first row that is still to come
        after            scratch [≥ last]: the key's next row, −1 where there is none
        works            one `WORK`
    """
    work = works[0]
    for i in range(last - 1, first - 1, -1):
        after[i] = coming[given.key[i]] - 1
        coming[given.key[i]] = i + 1
    for i in range(first, last):
        key = given.key[i]
        if coming[key] == i + 1:
            coming[key] = 0
            head, at = heads[key], i
            while at >= 0:
                at = _rows(head, bodies, doubles, given, after, at, settings, work, out)


@inner
def _admit(head: Any, given: Given, i: int, settings: Settings, out: Out) -> tuple[bool, bool, bool, bool]:
    """Set out what comes of a row without any more work; whether there is more, it is the first, warm, after a gap."""
    out.score[i], out.rank[i], out.status[i] = np.nan, np.nan, given.status[i]
    for j in range(out.contribution.shape[1]):
        out.contribution[i, j] = np.nan
    if given.status[i] != SCORED:
        return False, False, False, False
    if not any_finite(given.values[i], int(given.width[i])):
        out.status[i] = MISSING
        return False, False, False, False
    now = given.time[i]
    fresh = head.rows == 0 or now - head.time > settings.expiry
    warm = not fresh and head.rows >= settings.warm_up_rows and head.elapsed >= settings.warm_up_seconds
    if not warm:
        out.status[i] = WARMING_UP
    cut = head.rows > 0 and (now - head.time) / SECOND > GAP * max(head.interval, 1e-9) and head.interval > 0.0
    return head.room > 0 and (given.learn[i] or not fresh), fresh, warm, cut


@inner
def start_afresh(head: Any, bodies: Any) -> None:
    """Forget what was learnt of a key; its bodies keep their places."""
    for k in range((head.room + BLOCK - 1) // BLOCK):
        bodies[head.size[k] - 1][head.slot[k]][:] = ZERO
    head.rows, head.width, head.cursor = 0, 0, -1
    head.next_fit, head.spacing = FIRST_FIT, FIRST_FIT
    head.interval, head.elapsed, head.score, head.rank = 0.0, 0.0, 0.0, 0.0
    head.typical[:] = 0.0
    head.hours, head.hour_start, head.hour_rows = 0, 0, 0


@inner
def _arrive(head: Any, now: int) -> None:
    """Follow the time of a key."""
    seconds = (now - head.time) / SECOND
    if head.rows == 0 or not seconds > 0.0:
        seconds = MINUTE
    elif head.interval == 0.0:
        head.interval = seconds
    else:
        seconds = min(seconds, INTERVAL_JUMP * head.interval)
        head.interval += (seconds - head.interval) / min(head.rows, INTERVAL_ROWS)
    head.elapsed += seconds
    head.time = now if head.rows == 0 else max(now, head.time)


@inner
def _forget_past(head: Any, bodies: Any) -> None:
    """Let the rows before a gap count as ordinary ones: zeros."""
    for k in range((head.room + BLOCK - 1) // BLOCK):
        body, b = bodies[head.size[k] - 1][head.slot[k]], 8 * int(head.size[k])
        body[PAST * b : (PAST + RING) * b] = ZERO


@inner
def _pace(head: Any) -> float:
    """What a row counts for, in rows of a minute."""
    return min(head.interval / MINUTE, 1.0) if head.interval > 0.0 else 1.0


@inner
def _rows(
    head: Any,
    bodies: Any,
    doubles: Any,
    given: Given,
    after: NDArray[np.int32],
    i: int,
    settings: Settings,
    work: Work,
    out: Out,
) -> int:
    """Row i of a key, with as many of the next ones as can be taken together; the row of the key that is next."""
    more, fresh, warm, cut = _admit(head, given, i, settings, out)
    if not more:
        return int(after[i])
    learn = given.learn[i]
    if fresh:
        start_afresh(head, bodies)
    if learn:
        _arrive(head, given.time[i])
        if cut:
            _forget_past(head, bodies)
    width, row = min(int(given.width[i]), head.room), head.rows
    if learn and width > head.width:
        if row > 0:
            head.next_fit, head.spacing, head.cursor = row + FIRST_FIT, FIRST_FIT, -1
        head.width = width
    fitting = learn and head.cursor < 0 and row + 1 >= head.next_fit
    if fitting:
        head.cursor = 0
    work.row[0], work.time[0], work.warm[0], work.pace[0], work.sums[:] = i, head.time, warm, _pace(head), 0.0
    head.rows += 1 if learn else 0
    m = 1
    for k in range((head.width + BLOCK - 1) // BLOCK):
        b, slot, column = 8 * int(head.size[k]), head.slot[k], k * BLOCK
        body, double = bodies[head.size[k] - 1][slot], doubles[head.size[k] - 1][slot]
        n, part = min(head.width - column, b), given.values[i, min(column, width) : width]
        least = min(settings.warm_up_rows, row)
        special = look(body, double, b, part, least, 0, work) or fitting
        remember(body, b, row, 0, learn, work)
        moved = work.moved[: moving(body, double, b, work)]
        start = 0
        if learn and not cut and not special and head.width <= BLOCK:
            m, special = _gather(head, body, double, b, given, after, settings, work, out)
            if special:
                # In the last row something may move for the first time, which those before it do not know.
                judge(body, b, column, row, 0, m - 1, moved, learn, cut, work)
                start, moved = m - 1, work.moved[: moving(body, double, b, work)]
        judge(body, b, column, row, start, m, moved, learn, cut, work)
        for r in range(m):
            if work.warm[r] and out.contribution.shape[1]:
                at = work.row[r]
                width = min(int(given.width[at]), head.room)
                contribute(work, r * BLOCK, out.contribution[at, min(column, width) : width])
        if learn:
            learn_covariances_of(body, b, row + m - 1, work.pace[m - 1], moved, work)
            if special:
                last = work.row[m - 1]
                width = min(int(given.width[last]), head.room)
                part = given.values[last, min(column, width) : width]
                if learn_one_by_one(body, double, b, part, work.pace[m - 1], fitting, work):
                    new_units(body, b, n, work)
            else:
                learn_values(body, double, b, work.pace[m - 1], (m - 1) * BLOCK, work)
    compare(head, bodies, given.values, given.width, settings.warm_up_rows, m, cut, learn, work, out.apart)
    if learn and head.cursor >= 0 and (row + m) % TOGETHER == 0:
        fit_next(head, bodies, row + m - 1, work.pace[m - 1], settings, work)
    for r in range(m):
        score(head, row + r, r, learn, cut, work, out)
    return int(after[work.row[m - 1]])


@inner
def _gather(
    head: Any,
    body: NDArray[np.float32],
    double: NDArray[np.float64],
    b: int,
    given: Given,
    after: NDArray[np.int32],
    settings: Settings,
    work: Work,
    out: Out,
) -> tuple[int, bool]:
    """Look at the rows of a key that follow its row in the scratch, and learn the values of all but the last.

    They are ordinary rows, up to one whose number is one less than a multiple of `TOGETHER`. How many there are now,
    and whether something is to be decided of a feature of the last one.
    """
    m, special, i = 1, False, after[work.row[0]]
    while i >= 0 and head.rows % TOGETHER != 0 and not special:
        more, fresh, warm, cut = _admit(head, given, i, settings, out)
        width = min(int(given.width[i]), head.room)
        if not more or fresh or cut or not given.learn[i] or width > head.width:
            break
        if head.cursor < 0 and head.rows + 1 >= head.next_fit:
            break
        learn_values(body, double, b, work.pace[m - 1], (m - 1) * BLOCK, work)
        _arrive(head, given.time[i])
        work.row[m], work.time[m], work.warm[m], work.pace[m] = i, head.time, warm, _pace(head)
        least = min(settings.warm_up_rows, head.rows)
        special = look(body, double, b, given.values[i, :width], least, m * BLOCK, work)
        remember(body, b, head.rows, m, True, work)
        head.rows += 1
        m, i = m + 1, after[i]
    return m, special
