from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.detect.univariate import Univariate, UnivariateOptions, read_options
from foreshock.ports import DetectorInfo
from foreshock.types import Frame, Status

ROW = np.dtype([("rows", "i8"), ("time", "i8"), ("value", "f8"), ("change", "f8")])


class JumpOptions(UnivariateOptions):
    gain: float = Field(0.02, gt=0, le=1, description="Weight of a row in the mean change.")


class Jump(Univariate):
    """How large is a change, in mean changes of its series?"""

    options: Any = JumpOptions

    def __init__(self, options: Mapping[str, Any] | JumpOptions | None = None) -> None:
        self.options = read_options(JumpOptions, options)
        warm_up, size, rarely_passed = self.options.warm_up_rows, ROW.itemsize, 8.0
        super().__init__(DetectorInfo("jump", 1, "univariate", warm_up, size, rarely_passed), ROW)

    def sweep(
        self, rows: NDArray[Any], key: NDArray[Any], frame: Frame, learn: NDArray[Any],
        score: NDArray[Any], status: NDArray[Any], band: NDArray[Any],
    ) -> None:  # fmt: skip
        values, times = frame.values[:, 0], frame.time_unix_nano
        score[:], status[:], band[:] = np.nan, frame.status, np.nan
        status[(status == Status.SCORED) & ~np.isfinite(values)] = Status.MISSING
        for i in np.flatnonzero(status == Status.SCORED):
            count, last, before, change = rows[key[i]]
            if times[i] - last > self.options.expiry_nanos:
                count, before, change = 0, values[i], 0.0
            jump, scale = abs(values[i] - before), max(change, 1e-9)
            if count < self.info.warm_up_rows:
                status[i] = Status.WARMING_UP
            else:
                score[i] = min(jump / scale, 1e9)
                band[:, i : i + 1] = before + scale * np.array([[0.0], [-8.0], [8.0]])
            if learn[i]:
                change += max(self.options.gain, 1 / (count + 1)) * (jump - change)
                rows[key[i]] = (count + 1, max(times[i], last), values[i], change)
