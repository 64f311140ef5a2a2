"""From strengths to episodes, row by row: prices, level, hysteresis, flapping (compiled).

One row of state an entity, one a series; a row of input touches its own only, so that neither the cut of the batches
nor other entities matter. What opens, grows and closes goes to a buffer of events; words are made of it elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.incident.alarm_prices import (
    DAY,
    HOUR,
    LN_AGAIN,
    Inputs,
    Tables,
    charge,
    excess_of,
    note,
    pause_price_of,
    pauses,
    price_of,
    scan,
)
from foreshock.incident.arithmetic import halved, theta0
from foreshock.state.jit import entry, inner
from foreshock.types import Status

NEVER = -(1 << 62)
LN_KEEP = -0.35667494393873245
"""ln 0.7: below it an episode comes to an end, and what follows one within 6 h must reach it."""
ENTITY_HALF_LIFE = 2.0 * DAY
QUIET, QUIET_ROWS = 6 * HOUR, 10.0
TYPICAL_ROWS_PER_DAY = 1440.0
LEAST_RATE = 10.0
STRONGEST = 50.0
LASTING_ROWS, LASTING_SHARE = 4, 0.3
"""A series that stays over so much of the level for so many rows alarms too: what lasts is rarely chance."""
SAME = 1e-9
"""What differs by less is the same: of features that say the same thing the first is named."""
CHANGES = 20
FLAPPING_ON, FLAPPING_OFF = 0.20, 0.05

OPENED, GREW, CLOSED, EXCLUDED, SILENT, HEARD, PRESENT, LIMIT_OPENED, LIMIT_CLOSED, LIMIT_EXCLUDED = range(10)

SCORED, MISSING = int(Status.SCORED), int(Status.MISSING)
STALE, OUT = int(Status.STALE), int(Status.EXCLUDED)

ENTITY = np.dtype(
    [
        ("step", "f8"), ("last", "i8"), ("heard", "i8"), ("day_end", "i8"), ("wide_time", "i8"), ("price", "f8"),
        ("price_time", "i8"), ("charge_time", "i8"), ("alarm_time", "i8"), ("peak", "f8"), ("level", "f8"),
        ("shield", "f8"), ("said", "f8"), ("mv_level", "f8"), ("low", "f8"), ("high", "f8"), ("least", "f8"),
        ("source", "i4"), ("lead", "i4"), ("history", "u4"), ("calm", "u2"), ("rows", "u2"), ("led", "u2"),
        ("open", "u1"), ("flapping", "u1"), ("flapped", "u1"), ("silent", "u1"), ("spare", "u2"),
    ]
)  # fmt: skip
"""State of an entity, 160 bytes.

`step` ns between rows, `last` row, `heard` last row with data, `day_end` of the last day told present; `wide_time` last
row with several live cells; `price` of the entity at `price_time`; `alarm_time` and `peak` of the last episode; of the
open one `level`, `shield` (its source's price then), `said` (excess last told), `low` and `high` of its source; `lead`
the series that has been over `LASTING_SHARE` of the level for `led` rows, by `least` at least; `history` one bit an
evaluation, newest lowest; `rows` with data, up to `REGULAR_ROWS`.
"""
REGULAR_ROWS = 10
"""An entity that has had fewer rows with data is not missed when it falls silent."""
ENTITY_START = dict.fromkeys(
    ("last", "heard", "day_end", "wide_time", "price_time", "charge_time", "alarm_time"), NEVER
) | {"lead": -1}

LIMIT = np.dtype(
    [("low", "f8"), ("high", "f8"), ("history", "u4"), ("open", "u1"), ("flapping", "u1"), ("flapped", "u1"),
     ("calm", "u1")]
)  # fmt: skip
EVENT = np.dtype(
    [("row", "i8"), ("cell", "i8"), ("excess", "f8"), ("low", "f8"), ("high", "f8"), ("step", "f8"), ("heard", "i8"),
     ("kind", "u1"), ("flapping", "u1"), ("by_mv", "u1")]
)  # fmt: skip
"""`cell` −1 = the source is not in this row; `low`, `high` = extremes of the source's value in the episode;
`step`, `heard` of a silent entity."""


class Rule(NamedTuple):
    """Settings: alarms per entity and day, evaluations to close."""

    budget: float
    close_after: int


@inner
def flap_share(history: int) -> float:
    """Nagios' flap detection: share of changes among 21 evaluations, the newest weighing 1.2, the oldest .8."""
    changed = (history ^ (history >> 1)) & ((1 << CHANGES) - 1)
    share = 0.0
    for i in range(CHANGES):
        if (changed >> i) & 1:
            share += 1.2 - 0.4 * i / (CHANGES - 1)
    return share / CHANGES


@inner
def remember(state: Any, bit: int) -> None:
    """Add one evaluation to `history` and see whether it is flapping."""
    history = ((int(state.history) << 1) | bit) & ((1 << (CHANGES + 1)) - 1)
    state.history = history
    share = 0.0
    if history != 0 and history != (1 << (CHANGES + 1)) - 1:
        share = flap_share(history)
    if share > FLAPPING_ON:
        state.flapping = 1
    elif share < FLAPPING_OFF:
        state.flapping = 0


@inner
def tick(e: Any, t: int) -> None:
    """Follow the median interval between rows, by at most 5 % a row."""
    if e.last != NEVER and t > e.last:
        interval = float(t - e.last)
        if e.step <= 0.0:
            e.step = interval
        else:
            most = 0.05 * e.step
            e.step += min(max(interval - e.step, -most), most)
    e.last = max(t, e.last)


@inner
def best_excess(
    inputs: Inputs, tables: Tables, row: int, e: Any, level: float, most: float, priced: bool, lasting: bool
) -> tuple[float, int]:
    """The largest `excess_of` the cells of a row, and its cell; −inf, −1 if none reaches the level unpriced."""
    excess, cell = -np.inf, -1
    for c in range(inputs.start[row], inputs.start[row + 1]):
        s = inputs.strength[c]
        if s >= level:
            if e.open == 1 and inputs.series[c] == e.source:
                own = s - e.shield - level
            elif priced:
                own = excess_of(inputs, tables, c, row, level, most, lasting)
            else:
                own = s - level
            if own > excess + SAME:
                excess, cell = own, c
    return excess, cell


@inner
def emit(out: NDArray[Any], count: int, kind: int, row: int, cell: int) -> int:
    """Append an event; the caller fills in what belongs to its kind."""
    event = out[count]
    event.kind, event.row, event.cell = kind, row, cell
    event.excess, event.low, event.high, event.step, event.heard = 0.0, np.nan, np.nan, 0.0, NEVER
    event.flapping, event.by_mv = 0, 0
    return count + 1


@inner
def present(e: Any, t: int, row: int, out: NDArray[Any], count: int) -> int:
    """Append the first judged row of a day."""
    if t >= e.day_end or t < e.day_end - DAY:
        e.day_end = (t // DAY + 1) * DAY
        count = emit(out, count, PRESENT, row, -1)
    return count


@inner
def source_cell(inputs: Inputs, row: int, source: int) -> int:
    """The cell of a series in a row, −1 if it is not there."""
    for c in range(inputs.start[row], inputs.start[row + 1]):
        if inputs.series[c] == source:
            return c
    return -1


@inner
def stretch(state: Any, value: float) -> None:
    """Widen the extremes of an open episode."""
    if value == value:
        if not (state.low <= value):
            state.low = value
        if not (state.high >= value):
            state.high = value


@inner
def tell(out: NDArray[Any], count: int, kind: int, row: int, cell: int, state: Any) -> int:
    """Append an event about an open or just closed episode."""
    count = emit(out, count, kind, row, cell)
    event = out[count - 1]
    event.low, event.high, event.flapping = state.low, state.high, state.flapped
    return count


@inner
def judge_row(
    inputs: Inputs, tables: Tables, rule: Rule, row: int, out: NDArray[Any], count: int, alarmed: NDArray[np.bool_]
) -> int:
    """Evaluate one scored row of an entity."""
    e = tables.entity[inputs.entity[row]]
    t = inputs.time[row]
    top, top_cell, high, judged, live = scan(inputs, row)
    mv, mv_over = inputs.mv_strength[row], inputs.mv_over[row]
    if judged == 0 and mv != mv and not mv_over:
        return count
    count = present(e, t, row, out, count)
    single = live <= 1 and t - e.wide_time > DAY
    if live > 1:
        e.wide_time = t
    theta, price = 0.0, 0.0
    if not single and (e.price_time == NEVER or top >= LN_KEEP or mv_over):
        rate = DAY / e.step if e.step > 0.0 else TYPICAL_ROWS_PER_DAY
        rate = max(rate / rule.budget, LEAST_RATE)
        theta = theta0(judged + 1.0, rate)
        if e.price_time == NEVER:
            e.price, e.price_time = theta0(live + 1.0, rate), t
        price = min(halved(e.price, max(t - e.price_time, 0) / ENTITY_HALF_LIFE), theta)
    level = e.level if e.open == 1 else theta + price
    excess, cell = -np.inf, -1
    if top >= level:
        excess, cell = best_excess(inputs, tables, row, e, level, 2.0 * theta, not single, False)
    if e.open == 0 and not single:
        low = LASTING_SHARE * level
        lead = follow_lead(inputs, tables, row, e, top, low, 2.0 * theta)
        if e.led >= LASTING_ROWS and excess < 0.0:
            level, excess, cell = low, e.least, lead
    if e.open == 0 and not inputs.mv_sure[row] and -np.inf < high < 0.0:
        mv_over = False  # No metric is over its own bar: the whole is alone.
    over = excess >= 0.0 or mv_over
    mv_level = e.mv_level if e.open == 1 else 0.0
    # Below the bar itself, not below the level: what still stands out has not come to an end.
    within = top < min(level, 0.0) + LN_KEEP and not (mv >= mv_level + LN_KEEP)
    remember(e, 1 if over else (0 if within else int(e.history) & 1))
    if mv_over:
        excess = max(excess, mv if mv > 0.0 else 0.0)
    if e.open == 1:
        count = go_on(inputs, rule, row, e, over, within, excess, cell, out, count)
    elif over and (mv_over or may_open(e, t, inputs.strength[cell], inputs.series[cell])):
        count = open_episode(inputs, row, e, level, excess, cell, top_cell, out, count)
        if not single:
            pause = cell >= 0 and pauses(inputs, cell)
            if pause:
                e.shield = pause_price_of(tables, e.source, t, 2.0 * theta)
            elif e.source >= 0:
                e.shield = price_of(tables, e.source, t, 2.0 * theta)
            charge(tables, e, e.source if cell >= 0 else -1, pause, t, theta, price)
    alarmed[row] = over and e.open == 1
    if top > 0.0 and not single:
        note(inputs, tables, row)
    return count


@inner
def follow_lead(inputs: Inputs, tables: Tables, row: int, e: Any, top: float, low: float, most: float) -> int:
    """Count the rows for which one series has been over the lasting level `low`; its cell, −1 if none is."""
    cell, excess = -1, -np.inf
    if top >= low:
        if e.lead >= 0:
            cell = source_cell(inputs, row, e.lead)
        if cell >= 0 and inputs.strength[cell] >= low:
            excess = excess_of(inputs, tables, cell, row, low, most, True)
        if not excess >= 0.0:
            excess, cell = best_excess(inputs, tables, row, e, low, most, True, True)
            e.led, e.least = 0, excess
    if not excess >= 0.0:
        e.lead, e.led = -1, 0
        return -1
    e.lead, e.led, e.least = inputs.series[cell], min(e.led + 1, LASTING_ROWS), min(e.least, excess)
    return cell


@inner
def may_open(e: Any, t: int, strength: float, series: int) -> bool:
    """Whether what follows an episode is of another series, far enough from it in time, or comes near its peak."""
    quiet = max(float(QUIET), QUIET_ROWS * e.step)
    return bool(series != e.source or t - e.alarm_time > quiet or strength >= e.peak + LN_KEEP)


@inner
def open_episode(
    inputs: Inputs, row: int, e: Any, level: float, excess: float, cell: int, top_cell: int, out: NDArray[Any],
    count: int,
) -> int:  # fmt: skip
    """Open at `cell`; where only a multivariate detector alarms (cell −1), at the strongest one."""
    at = cell if cell >= 0 else top_cell
    mv = inputs.mv_strength[row]
    e.open, e.calm, e.flapped, e.shield = 1, 0, e.flapping, 0.0
    e.lead, e.led = -1, 0
    e.level, e.said = level, excess
    e.mv_level = min(mv, 0.0) if inputs.mv_over[row] and mv == mv else 0.0
    e.source = inputs.series[at] if at >= 0 else -1
    e.low = e.high = inputs.value[at] if at >= 0 else np.nan
    e.alarm_time = inputs.time[row]
    e.peak = inputs.strength[cell] if cell >= 0 else -STRONGEST
    count = tell(out, count, OPENED, row, at, e)
    out[count - 1].excess = excess
    out[count - 1].by_mv = cell < 0
    return count


@inner
def go_on(
    inputs: Inputs, rule: Rule, row: int, e: Any, over: bool, within: bool, excess: float, cell: int,
    out: NDArray[Any], count: int,
) -> int:  # fmt: skip
    """One more evaluation of an open episode: it grows, stays or closes."""
    at = source_cell(inputs, row, e.source)
    if at >= 0:
        stretch(e, inputs.value[at])
    if e.flapping == 1:
        e.flapped = 1
    e.calm = min(e.calm + 1, 255) if within else 0
    if over:
        e.alarm_time = inputs.time[row]
        if cell >= 0:
            e.peak = max(e.peak, inputs.strength[cell])
        if excess > e.said + LN_AGAIN:
            e.said = excess
            count = tell(out, count, GREW, row, at, e)
            out[count - 1].excess = excess
    elif e.calm >= rule.close_after and e.flapping == 0:
        e.open = 0
        count = tell(out, count, CLOSED, row, at, e)
    return count


@inner
def judge_limits(
    inputs: Inputs, tables: Tables, rule: Rule, row: int, out: NDArray[Any], count: int, alarmed: NDArray[np.bool_]
) -> int:
    """Evaluate the cells of a scored row against a user's own limits: an episode a series."""
    for c in range(inputs.start[row], inputs.start[row + 1]):
        if inputs.limit[c] == 0:
            continue
        count = present(tables.entity[inputs.entity[row]], inputs.time[row], row, out, count)
        state = tables.limit[inputs.series[c]]
        over = inputs.limit[c] == 2
        alarmed[row] = alarmed[row] or over
        remember(state, 1 if over else 0)
        if state.open == 1:
            stretch(state, inputs.value[c])
            if state.flapping == 1:
                state.flapped = 1
            state.calm = 0 if over else min(state.calm + 1, 255)
            if state.calm >= rule.close_after and state.flapping == 0:
                state.open = 0
                count = tell(out, count, LIMIT_CLOSED, row, c, state)
        elif over:
            state.open, state.calm, state.flapped = 1, 0, state.flapping
            state.low = state.high = inputs.value[c]
            count = tell(out, count, LIMIT_OPENED, row, c, state)
    return count


@inner
def exclude(inputs: Inputs, tables: Tables, row: int, out: NDArray[Any], count: int) -> int:
    """End what is open and forget the last evaluations: the row lies in maintenance."""
    e = tables.entity[inputs.entity[row]]
    if e.open == 1:
        e.open = 0
        count = tell(out, count, EXCLUDED, row, source_cell(inputs, row, e.source), e)
    e.history, e.flapping, e.lead, e.led = 0, 0, -1, 0
    if len(inputs.limit):
        for c in range(inputs.start[row], inputs.start[row + 1]):
            state = tables.limit[inputs.series[c]]
            if state.open == 1:
                state.open = 0
                count = tell(out, count, LIMIT_EXCLUDED, row, c, state)
            state.history, state.flapping = 0, 0
    return count


@entry
def judge(
    inputs: Inputs, tables: Tables, rule: Rule, first: int, out: NDArray[Any], alarmed: NDArray[np.bool_]
) -> tuple[int, int]:
    """Take rows from `first` on until they or `out` (`EVENT`) come to an end: the next row, and the number of events.

    `out` must have room for a row's cells and four more; `alarmed bool[n]` says which rows alarm.
    """
    count = 0
    for row in range(first, len(inputs.entity)):
        if count + 4 + inputs.start[row + 1] - inputs.start[row] > len(out):
            return row, count
        e = tables.entity[inputs.entity[row]]
        status = inputs.status[row]
        if status == STALE:
            if e.silent == 0 and e.rows >= REGULAR_ROWS:
                e.silent = 1
                count = emit(out, count, SILENT, row, -1)
                out[count - 1].step, out[count - 1].heard = e.step, e.heard
            continue
        tick(e, inputs.time[row])
        if status != MISSING:
            e.heard = inputs.time[row]
            if e.rows < REGULAR_ROWS:
                e.rows += 1
            if e.silent == 1:
                e.silent = 0
                count = emit(out, count, HEARD, row, -1)
        if status == OUT:
            count = exclude(inputs, tables, row, out, count)
        elif status == SCORED:
            count = judge_row(inputs, tables, rule, row, out, count, alarmed)
            if len(inputs.limit):
                count = judge_limits(inputs, tables, rule, row, out, count, alarmed)
    return len(inputs.entity), count
