"""Verdicts as a table: one row per aligned row of an entity, what `verdicts.parquet` holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foreshock.detect.calibrate import combine
from foreshock.state import Registry
from foreshock.types import Columns, Status, label_text

TOP = 3

SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("ns", "UTC")),
        ("entity", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("anomalous", pa.bool_()),
        ("top_contributions", pa.list_(pa.struct([("feature", pa.string()), ("share", pa.float64())]))),
    ]
)
"""`score` = worst feature's score ÷ its bar; `p_value` = Cauchy combination over features; `anomalous` = the entity's
alarm condition holds; `top_contributions` = up to three features with their share."""


def verdict_table(columns: Columns, registry: Registry) -> pa.Table:
    """The rows that came from input (not those that stand for gaps) as a table of `SCHEMA`."""
    rows = columns.rows
    n = len(rows)
    real = (rows.status != Status.MISSING) & (rows.status != Status.STALE)
    strength, p_value, status = _per_row(columns, n)
    shares, names, lengths = _contributions(columns, strength, registry)
    entity = pa.DictionaryArray.from_arrays(
        pa.array(np.unique(rows.entity, return_inverse=True)[1].astype(np.int32)),
        pa.array([label_text(registry.entities[slot]) for slot in np.unique(rows.entity).tolist()], pa.string()),
    ).cast(pa.string())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    top = pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.StructArray.from_arrays([names, pa.array(shares)], ["feature", "share"]),
    )
    words = pa.array([s.name.lower() for s in Status], pa.string())
    table = pa.table(
        [
            pa.array(rows.time_unix_nano).cast(pa.timestamp("ns", "UTC")),
            entity,
            pa.DictionaryArray.from_arrays(pa.array(status.astype(np.int32)), words).cast(pa.string()),
            pa.array(np.exp(strength), mask=np.isnan(strength)),
            pa.array(p_value, mask=np.isnan(p_value)),
            pa.array(columns.alarmed),
            top,
        ],
        schema=SCHEMA,
    )
    return table.filter(pa.array(real))


def _per_row(columns: Columns, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
    """Worst strength, combined p-value and status of each row, over all detectors."""
    rows = columns.rows
    strength = np.full(n, np.nan)
    p_values: list[NDArray[np.float64]] = []
    status = np.full(n, np.uint8(Status.WARMING_UP))
    for verdict in columns.verdicts:
        if verdict.whole:
            worst = verdict.strength
            status[verdict.status == Status.SCORED] = Status.SCORED
            p_values.append(verdict.p_value)
        else:
            row = rows.row_of_cell()
            worst = np.full(n, -np.inf)
            scored = verdict.status == Status.SCORED
            np.maximum.at(worst, row[scored], verdict.strength[scored])
            status[row[scored]] = Status.SCORED
            p_values.append(combine(verdict.p_value, rows.start))
            worst[np.isinf(worst)] = np.nan
        strength = np.fmax(strength, worst)
    p_value = np.full(n, np.nan)
    if p_values:
        stacked = np.stack(p_values, axis=1)
        p_value = combine(stacked.ravel(), np.arange(n + 1, dtype=np.int64) * len(p_values))
    other = (rows.status != Status.SCORED) & (rows.status != Status.WARMING_UP)
    status[other] = rows.status[other]
    return strength, p_value, status


def _contributions(
    columns: Columns, strength: NDArray[np.float64], registry: Registry
) -> tuple[NDArray[np.float64], Any, NDArray[np.int64]]:
    """Shares and names of the top features of every scored row, flat, and how many each row has."""
    rows = columns.rows
    n, m = len(rows), len(rows.series)
    ratio = np.zeros(m)
    for verdict in columns.verdicts:
        if not verdict.whole:
            ratio = np.fmax(ratio, np.where(verdict.status == Status.SCORED, np.exp(verdict.strength), 0.0))
    row = rows.row_of_cell()
    total = np.bincount(row, ratio, n)
    order = np.lexsort((np.arange(m), -ratio, row))
    rank = np.arange(m) - rows.start[row[order]]
    keep = order[(rank < TOP) & (ratio[order] > 0)]
    shares = ratio[keep] / total[row[keep]]
    slots, inverse = np.unique(rows.series[keep], return_inverse=True)
    names = pa.DictionaryArray.from_arrays(
        pa.array(inverse.astype(np.int32)), pa.array([registry.series[s].feature for s in slots.tolist()], pa.string())
    ).cast(pa.string())
    return shares, names, np.bincount(row[keep], minlength=n).astype(np.int64)
