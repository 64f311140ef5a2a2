"""Verdicts on rows as points, and arrays of points that grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.runtime.rings import POINT
from foreshock.types import Rows, Status, Verdict


def points_of(rows: Rows, verdicts: Sequence[Verdict]) -> NDArray[Any]:
    """The cells of `rows` as points (`POINT[m]`) with what the verdicts over cells say."""
    row = rows.row_of_cell()
    out = np.zeros(len(rows.series), POINT)
    out["time_unix_nano"], out["value"] = rows.time_unix_nano[row], rows.value
    out["status"] = np.where(np.isnan(rows.value), np.uint8(Status.MISSING), rows.status[row])
    for name in ("expected", "low", "high", "score", "p_value", "strength"):
        out[name] = np.nan
    if not verdicts:
        return out
    if len(verdicts) == 1:
        for name in ("score", "p_value", "strength", "status", "anomalous", "expected", "low", "high"):
            out[name] = getattr(verdicts[0], name)
        return out
    p = np.stack([one.p_value for one in verdicts])
    least = np.where(np.isnan(p), np.inf, p).argmin(axis=0)
    cell = np.arange(len(out))
    for name in ("score", "p_value", "strength", "status"):
        out[name] = np.stack([getattr(one, name) for one in verdicts])[least, cell]
    out["anomalous"] = np.logical_or.reduce([one.anomalous for one in verdicts])
    for name in ("expected", "low", "high"):
        # Always the same detector's, where it knows one: a band that changed hands would flicker.
        band = np.stack([getattr(one, name) for one in verdicts])
        out[name] = band[(~np.isnan(band)).argmax(axis=0), cell]
    return out


def row_points(rows: Rows, verdict: Verdict) -> NDArray[Any]:
    """What a verdict over rows says, as points without a value (`POINT[n]`)."""
    out = np.zeros(len(rows), POINT)
    out["time_unix_nano"], out["value"] = rows.time_unix_nano, np.nan
    for name in ("score", "p_value", "strength", "status", "anomalous", "expected", "low", "high"):
        out[name] = getattr(verdict, name)
    return out


def p_of(points: NDArray[Any], seen: NDArray[np.int64]) -> NDArray[np.float64]:
    """p-values of points, NaN where a point is not of the row last seen."""
    return np.where(points["time_unix_nano"] == seen, points["p_value"].astype(np.float64), np.nan)


NO_POINTS: NDArray[Any] = np.zeros(0, POINT)


def grown_points(old: NDArray[Any], size: int) -> NDArray[Any]:
    """Points with room for `size` of them, doubled where they had none."""
    if size <= len(old):
        return old
    larger = np.zeros(max(2 * len(old), size), POINT)
    larger[: len(old)] = old
    return larger


def grown(old: NDArray[Any], highest: int, fill: float) -> NDArray[Any]:
    """An array with a place `highest`, doubled where it had none; new places hold `fill`."""
    if highest < len(old):
        return old
    larger = np.full(max(2 * len(old), highest + 1), fill, old.dtype)
    larger[: len(old)] = old
    return larger
