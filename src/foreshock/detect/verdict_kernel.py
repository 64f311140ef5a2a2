"""What a verdict says of each row, put together in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.state.jit import entry
from foreshock.types import Status

SCORED, WARMING_UP = int(Status.SCORED), int(Status.WARMING_UP)
RANKING, P_VALUE, STRENGTH, EXPECTED, LOW, HIGH = range(6)


@entry
def settle(
    given: NDArray[np.uint8],
    over: NDArray[np.bool_],
    training: NDArray[np.bool_],
    ranking: NDArray[np.float64],
    p: NDArray[np.float64],
    strength: NDArray[np.float64],
    expected: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    all_bands: bool,
    status: NDArray[np.uint8],
    anomalous: NDArray[np.bool_],
    out: NDArray[np.float64],
) -> Any:
    """How many of n rows are anomalous.

    Rows without a strength, and those that only train, are warming up. Out: `status`, `anomalous`, and `out
    float64[6, n]`: ranking, p-value and strength where a row is judged, and the band (arrays of 0 = none) where
    `all_bands` or it is anomalous; else NaN.
    """
    found = 0
    bands = len(expected), len(low), len(high)
    for i in range(len(given)):
        scored = given[i] == SCORED
        judged = scored and strength[i] == strength[i] and not training[i]
        status[i] = WARMING_UP if scored and not judged else given[i]
        anomalous[i] = judged and over[i]
        found += anomalous[i]
        shown = judged if all_bands else anomalous[i]
        out[RANKING, i] = ranking[i] if judged else np.nan
        out[P_VALUE, i] = p[i] if judged else np.nan
        out[STRENGTH, i] = strength[i] if judged else np.nan
        out[EXPECTED, i] = expected[i] if shown and bands[0] else np.nan
        out[LOW, i] = low[i] if shown and bands[1] else np.nan
        out[HIGH, i] = high[i] if shown and bands[2] else np.nan
    return found
