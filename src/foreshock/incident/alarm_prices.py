"""What a cell is worth: its strength, less the price of its series, less what is asked of a witness that is alone.

And what it must pass: the level of the alarm, and at once only where it also tops what its series reached on days past.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foreshock.incident.arithmetic import halved
from foreshock.state.jit import inner

HOUR = 3_600_000_000_000
DAY = 24 * HOUR
PRICE_HALF_LIFE = 15.0 * DAY
PRICE_STEP, PAUSE_STEP, ENTITY_STEP = 1.0, 0.3, 0.3
ALONE = 0.7
"""A witness that no other confirms must be twice as strong."""
CONFIRMS = -0.7
"""The whole or its departure confirms a metric from half of its bar on, and a metric its departure."""
RECORD_HALF_LIFE = 30.0 * DAY
MOST_RECORD = 4.0
"""No record is higher (55 times the bar), so that one enormous leap does not deafen for months."""
LN_AGAIN = 0.3364722366212129
"""ln 1.4: by so much something must grow to be said again, or what a series reached on days past be topped."""

PRICE = np.dtype(
    [("price", "f8"), ("time", "i8"), ("pause", "f8"), ("pause_time", "i8"),
     ("record", "f4"), ("record_day", "i4"), ("reached", "f4"), ("day", "i4")]
)  # fmt: skip
"""State of a series, 48 bytes: the `price` of its values at `time`, that of its pauses at `pause_time`; the `record` of
its values on days past, as of the end of `record_day`, and what they have `reached` on `day` (UTC, since 1970)."""


class Inputs(NamedTuple):
    """Rows and cells as in `types.Rows`, and what detectors say of them.

    `strength float64[m]` largest of the primary detectors, NaN = not judged; of these `valued` of detectors that judge
    values, `apart` of those that see a feature depart, `still` of those that judge pauses; `live bool[m]` judged or
    warming up; `limit uint8[m]` (or empty): 0 not judged, 1 within, 2 beyond a user's limit; `mv_strength float64[n]`,
    NaN = not judged, `mv_over bool[n]` of multivariate detectors; `mv_seen float64[n]` strength of those that see
    single features depart too, `mv_sure bool[n]` over for one that need not be confirmed.
    """

    entity: NDArray[np.int32]
    time: NDArray[np.int64]
    status: NDArray[np.uint8]
    start: NDArray[np.int64]
    series: NDArray[np.int32]
    value: NDArray[np.float64]
    strength: NDArray[np.float64]
    valued: NDArray[np.float64]
    apart: NDArray[np.float64]
    still: NDArray[np.float64]
    live: NDArray[np.bool_]
    limit: NDArray[np.uint8]
    mv_strength: NDArray[np.float64]
    mv_over: NDArray[np.bool_]
    mv_seen: NDArray[np.float64]
    mv_sure: NDArray[np.bool_]


class Tables(NamedTuple):
    """Live state: `ENTITY` by entity slot, `PRICE` and `LIMIT` by series slot."""

    entity: NDArray[Any]
    price: NDArray[Any]
    limit: NDArray[Any]


@inner
def scan(inputs: Inputs, row: int) -> tuple[float, int, float, int, int]:
    """Largest unpriced strength of a row, its cell, that of values, and the numbers of judged and of live cells."""
    top, cell, high, judged, live = -np.inf, -1, -np.inf, 0, 0
    for c in range(inputs.start[row], inputs.start[row + 1]):
        s = inputs.strength[c]
        if s == s:
            judged += 1
            if s > top:
                top, cell = s, c
        if inputs.valued[c] > high:
            high = inputs.valued[c]
        if inputs.live[c]:
            live += 1
    return top, cell, high, judged, live


@inner
def _now(price: float, since: int, t: int, most: float) -> float:
    """What is left at `t` of a price of then."""
    if price == 0.0:
        return 0.0
    return min(halved(price, max(t - since, 0) / PRICE_HALF_LIFE), most)


@inner
def price_of(tables: Tables, series: int, t: int, most: float) -> float:
    """The price of a series' values now."""
    p = tables.price[series]
    return _now(p.price, p.time, t, most)


@inner
def pause_price_of(tables: Tables, series: int, t: int, most: float) -> float:
    """The price of a series' pauses now."""
    p = tables.price[series]
    return _now(p.pause, p.pause_time, t, most)


@inner
def record_of(tables: Tables, series: int, t: int) -> float:
    """What is left now of what a series' values reached on days past; 0 = they were never over their bar."""
    p = tables.price[series]
    if p.reached > 0.0 and t // DAY > p.day:
        left = halved(float(p.record), max(p.day - p.record_day, 0) * DAY / RECORD_HALF_LIFE)
        if p.reached > left:
            p.record, p.record_day = p.reached, p.day
        p.reached = 0.0
    if p.record == 0.0:
        return 0.0
    return halved(float(p.record), max(t - (p.record_day + 1) * DAY, 0) / RECORD_HALF_LIFE)


@inner
def note(inputs: Inputs, tables: Tables, row: int) -> None:
    """Remember how far over their bars the values and departures of a row are."""
    t = inputs.time[row]
    for c in range(inputs.start[row], inputs.start[row + 1]):
        value, departure = inputs.valued[c], inputs.apart[c]
        strength = departure if not value >= departure and departure == departure else value
        if strength > 0.0:
            record_of(tables, inputs.series[c], t)
            p = tables.price[inputs.series[c]]
            if strength > p.reached:
                p.reached = min(strength, MOST_RECORD)
            p.day = max(t // DAY, p.day)


@inner
def pauses(inputs: Inputs, c: int) -> bool:
    """Whether a cell stands out most by a pause."""
    return bool(inputs.still[c] >= inputs.strength[c])


@inner
def excess_of(inputs: Inputs, tables: Tables, c: int, row: int, level: float, most: float, lasting: bool) -> float:
    """Strength of a cell less its price and `level`, the best of its witnesses; those that are alone pay `ALONE` more.

    A value is confirmed by the whole or by the departure of its feature, or where nothing judges these; a departure by
    the value. A pause shows nowhere else. Where it is not `lasting`, a value or departure must also top the record.
    """
    series, t = inputs.series[c], inputs.time[row]
    price = price_of(tables, series, t, most)
    if not lasting:
        record = record_of(tables, series, t)
        if record > 0.0:
            price += max(record + LN_AGAIN - level, 0.0)
    value, departure = inputs.valued[c], inputs.apart[c]
    excess = -np.inf
    if value == value:
        alone = inputs.mv_seen[row] < CONFIRMS and not departure >= CONFIRMS
        excess = value - price - (ALONE if alone else 0.0)
    if departure == departure:
        excess = max(excess, departure - price - (ALONE if value < CONFIRMS else 0.0))
    if inputs.still[c] == inputs.still[c]:
        excess = max(excess, inputs.still[c] - pause_price_of(tables, series, t, most))
    return excess - level


@inner
def charge(tables: Tables, e: Any, series: int, pause: bool, t: int, theta: float, price: float) -> None:
    """Raise the prices of an alert's source (−1: none) and entity, at most once an hour."""
    if t - e.charge_time < HOUR:
        return
    e.charge_time = t
    if series >= 0:
        p = tables.price[series]
        if pause:
            p.pause = min(pause_price_of(tables, series, t, 2.0 * theta) + PAUSE_STEP, 2.0 * theta)
            p.pause_time = t
        else:
            p.price = min(price_of(tables, series, t, 2.0 * theta) + PRICE_STEP, 2.0 * theta)
            p.time = t
    e.price = min(price + ENTITY_STEP, theta)
    e.price_time = t
