"""Verdicts as a table: one row per aligned row of an entity, what `verdicts.parquet` holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foreshock.detect.combine import combine, together
from foreshock.state import Registry
from foreshock.types import Columns, Rows, Status, Verdict, label_text, leading

TOP = 3

ONE = pa.struct(
    [
        ("detector", pa.string()),
        ("shadow", pa.bool_()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("anomalous", pa.bool_()),
    ]
)
"""What one detector says of a row: as the columns of the same names, `anomalous` by its own bars."""

SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("ns", "UTC")),
        ("entity", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("anomalous", pa.bool_()),
        ("top_contributions", pa.list_(pa.struct([("feature", pa.string()), ("share", pa.float64())]))),
        ("detectors", pa.list_(ONE)),
    ]
)
"""`score` = worst feature's score ÷ its bar; `p_value` = Cauchy combination over features; `anomalous` = the entity's
alarm condition holds; `top_contributions` = up to three features with their share; all of primary detectors.
`detectors` = what each of all says, in the order of the settings."""

_WORDS = pa.array([status.name.lower() for status in Status], pa.string())


class _Judged(NamedTuple):
    """What one detector says of each row: strength and p_value float64[n], status uint8[n], anomalous bool[n]."""

    strength: NDArray[np.float64]
    p_value: NDArray[np.float64]
    status: NDArray[np.uint8]
    anomalous: NDArray[np.bool_]


def verdict_table(columns: Columns, registry: Registry) -> pa.Table:
    """The rows that came from input (not those that stand for gaps) as a table of `SCHEMA`."""
    rows = columns.rows
    n = len(rows)
    real = (rows.status != Status.MISSING) & (rows.status != Status.STALE)
    judged = [_judged(rows, verdict) for verdict in columns.verdicts]
    first = leading(columns.verdicts)
    names_of = {one.detector for one in first}
    leaders = [one for one, by in zip(judged, columns.verdicts, strict=True) if by.detector in names_of]
    strength, status = np.full(n, np.nan), np.full(n, np.uint8(Status.WARMING_UP))
    for one in leaders:
        strength = np.fmax(strength, one.strength)
        status[one.status == Status.SCORED] = Status.SCORED
    p_value = together([one.p_value for one in leaders]) if leaders else np.full(n, np.nan)
    shares, names, lengths = _contributions(rows, first, registry)
    entity = pa.DictionaryArray.from_arrays(
        pa.array(np.unique(rows.entity, return_inverse=True)[1].astype(np.int32)),
        pa.array([label_text(registry.entities[slot]) for slot in np.unique(rows.entity).tolist()], pa.string()),
    ).cast(pa.string())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    top = pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.StructArray.from_arrays([names, pa.array(shares)], ["feature", "share"]),
    )
    table = pa.table(
        [
            pa.array(rows.time_unix_nano).cast(pa.timestamp("ns", "UTC")),
            entity,
            _status(_of_rows(rows, status)),
            _numbers(np.exp(strength)),
            _numbers(p_value),
            pa.array(columns.alarmed),
            top,
            _detectors(rows, columns.verdicts, judged),
        ],
        schema=SCHEMA,
    )
    return table.filter(pa.array(real))


def _judged(rows: Rows, verdict: Verdict) -> _Judged:
    """The worst strength, the p-value and the status of each row, by one detector."""
    n = len(rows)
    status = np.full(n, np.uint8(Status.WARMING_UP))
    scored = verdict.status == Status.SCORED
    if verdict.whole:
        status[scored] = Status.SCORED
        return _Judged(verdict.strength, verdict.p_value, status, verdict.anomalous)
    row = rows.row_of_cell()
    worst, anomalous = np.full(n, -np.inf), np.zeros(n, np.bool_)
    np.maximum.at(worst, row[scored], verdict.strength[scored])
    worst[np.isinf(worst)] = np.nan
    status[row[scored]] = Status.SCORED
    anomalous[row[verdict.anomalous]] = True
    return _Judged(worst, combine(verdict.p_value, rows.start), status, anomalous)


def _of_rows(rows: Rows, status: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The status of detectors, but where the row has one of its own."""
    own = (rows.status != Status.SCORED) & (rows.status != Status.WARMING_UP)
    return np.where(own, rows.status, status).astype(np.uint8)


def _detectors(rows: Rows, verdicts: Sequence[Verdict], judged: Sequence[_Judged]) -> Any:
    """What each detector says of each row, as a list of structs a row."""
    n, k = len(rows), len(verdicts)
    if not k:
        return pa.array([[] for _ in range(n)], pa.list_(ONE))
    names = pa.array([one.detector for one in verdicts], pa.string())
    order = pa.array(np.tile(np.arange(k, dtype=np.int32), n))
    parts = [
        pa.DictionaryArray.from_arrays(order, names).cast(pa.string()),
        pa.array(np.tile([one.shadow for one in verdicts], n)),
        _status(np.stack([_of_rows(rows, one.status) for one in judged], axis=1).ravel()),
        _numbers(np.exp(np.stack([one.strength for one in judged], axis=1).ravel())),
        _numbers(np.stack([one.p_value for one in judged], axis=1).ravel()),
        pa.array(np.stack([one.anomalous for one in judged], axis=1).ravel()),
    ]
    offsets = np.arange(n + 1, dtype=np.int32) * k
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(parts, fields=list(ONE)))


def _status(codes: NDArray[np.uint8]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), _WORDS).cast(pa.string())


def _numbers(values: NDArray[np.float64]) -> Any:
    """Numbers, null where they are not known."""
    return pa.array(values, mask=np.isnan(values))


def _contributions(
    rows: Rows, verdicts: Sequence[Verdict], registry: Registry
) -> tuple[NDArray[np.float64], Any, NDArray[np.int64]]:
    """Shares and names of the top features of every scored row, flat, and how many each row has."""
    n, m = len(rows), len(rows.series)
    ratio = np.zeros(m)
    for verdict in verdicts:
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
