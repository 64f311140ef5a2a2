"""The forecast of `deviation`: recursive least squares on eight lags and the season, clipped (compiled).

Inputs are in long scales around the long level. Recursive least squares with forgetting: Haykin, Adaptive Filter
Theory, ch. 10; an error is learnt as if it were at most a few scales (Huber 1964).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from foreshock.detect.deviation_near import clip, long_scale, noise_floor
from foreshock.detect.deviation_row import (
    FORECAST_CLIP,
    FORECAST_LEAST_ROWS,
    FORECAST_MEMORY,
    FORECAST_MOST_ROWS,
    FORECAST_ROOM,
    FORECAST_START,
    FORECAST_TRACE,
    FORECAST_WARM_UP,
    INPUTS,
    LAGS,
    LARGEST_INPUT,
    LEAST_SCALE,
)
from foreshock.state.jit import inner


@inner
def open_forecast(row: Any) -> None:
    """Begin with the inverse of an identity and no coefficients."""
    row.forecasts, row.forecast_scale = 0, 0.0
    for a in range(INPUTS):
        row.coefficients[a] = 0.0
        _reset_inverse(row, a)


@inner
def _reset_inverse(row: Any, a: int) -> None:
    for b in range(INPUTS):
        row.inverse[a, b] = FORECAST_START if a == b else 0.0


@inner
def fill_inputs(row: Any, season: float, work: NDArray[Any]) -> float:
    """Put the inputs into work[0], the season's value (NaN = unknown) among them; what follows linearly from them."""
    unit = long_scale(row)
    inputs, total = work[0], 0.0
    for j in range(LAGS):
        inputs[j] = clip((row.lags[j] - row.level) / unit, LARGEST_INPUT)
    inputs[LAGS] = clip((season - row.level) / unit, LARGEST_INPUT) if season == season else 0.0
    inputs[LAGS + 1] = 1.0
    for j in range(INPUTS):
        total += row.coefficients[j] * inputs[j]
    return total


@inner
def forecast_of(row: Any, linear: float, work: NDArray[Any]) -> float:
    """The forecast in the series' unit: not far beyond the lags and the season, where coefficients are young."""
    low, high = 0.0, 0.0
    for j in range(INPUTS):
        low, high = min(low, work[0, j]), max(high, work[0, j])
    return float(row.level + long_scale(row) * min(max(linear, low - FORECAST_ROOM), high + FORECAST_ROOM))


@inner
def forecast_scale(row: Any) -> float:
    """The floored scale of the forecast's errors."""
    return float(max(row.forecast_scale, noise_floor(row)))


@inner
def learn_forecast(row: Any, x: float, linear: float, forecast: float, work: NDArray[Any]) -> None:
    """Learn a row whose inputs stand in work[0]; work[1] is used."""
    unit, scale = long_scale(row), forecast_scale(row)
    error, surprise = x - forecast, x - (row.level + unit * linear)
    if row.forecasts > FORECAST_WARM_UP:
        error, surprise = clip(error, FORECAST_CLIP * scale), clip(surprise, FORECAST_CLIP * scale)
    rows = min(max(FORECAST_MEMORY / max(row.interval, LEAST_SCALE), FORECAST_LEAST_ROWS), FORECAST_MOST_ROWS)
    _update(row, clip(surprise / unit, LARGEST_INPUT), 1.0 - 1.0 / rows, work)
    if row.forecasts > LAGS:
        row.forecast_scale += (abs(error) - row.forecast_scale) / max(1.0, min(row.forecasts - LAGS, 0.25 * rows))
    row.forecasts += 1


@inner
def _update(row: Any, error: float, keep: float, work: NDArray[Any]) -> None:
    """One step of recursive least squares; the past fades by `keep` as long as there is something to learn."""
    inputs, gain = work[0], work[1]
    power, trace = keep, 0.0
    for a in range(INPUTS):
        total = 0.0
        for b in range(INPUTS):
            total += row.inverse[a, b] * inputs[b]
        gain[a] = total
        power += inputs[a] * total
        trace += row.inverse[a, a]
    if power < 0.5 * keep:  # what rounding has left is no inverse any more
        for a in range(INPUTS):
            _reset_inverse(row, a)
        return
    grow = 1.0 / keep if trace < FORECAST_TRACE else 1.0
    for a in range(INPUTS):
        share = gain[a] / power
        row.coefficients[a] += share * error
        for b in range(INPUTS):
            row.inverse[a, b] = (row.inverse[a, b] - share * gain[b]) * grow


@inner
def push_lag(row: Any, x: float) -> None:
    """The newest lag, before the others."""
    for j in range(LAGS - 1, 0, -1):
        row.lags[j] = row.lags[j - 1]
    row.lags[0] = x
