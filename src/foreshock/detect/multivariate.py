"""What the multivariate detectors share: the columns of a frame as their kernels take them."""

from __future__ import annotations

import numpy as np

from foreshock.detect.linear_kernel import Given
from foreshock.types import Frame


def columns_of(frame: Frame) -> Given:
    """The columns of a frame in the one memory layout that kernels are compiled for."""
    return Given(
        np.require(frame.key, np.int32, ("C", "W")),
        np.require(frame.time_unix_nano, np.int64, ("C", "W")),
        np.require(frame.values, np.float64, ("C", "W")),
        np.require(frame.width, np.int16, ("C", "W")),
        np.require(frame.learn, np.bool_, ("C", "W")),
        np.require(frame.status, np.uint8, ("C", "W")),
    )
