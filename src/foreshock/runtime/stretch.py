"""A stretch of a series as charts need it: points one by one or in buckets, and its bytes as the store keeps them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.errors import PermanentError
from foreshock.runtime.rollups_kernel import ANOMALOUS, UNKNOWN, Tier

FORMAT = 1
_SECOND, _STATUS = 1_000_000_000, ANOMALOUS - 1
_MEAN_BITS, _BESIDE_BITS = 20, 11
"""Lowest bits of the means of buckets and of what lies beside them that are not kept: 1 part in 4e9, and in 4,000."""
_BESIDE = ("least", "most", "expected", "low", "high")
_WAYS = {"least": -1.0, "most": 1.0, "expected": 1.0, "low": 1.0, "high": 1.0}


class _Head(msgspec.Struct, array_like=True):
    """What stands before the columns; `exact` = values with all their bits, no extremes."""

    format: int
    count: int
    start: int
    exact: bool
    detectors: list[str]


_decode = msgspec.msgpack.Decoder(_Head).decode


@dataclass(slots=True)
class Stretch:
    """Points or buckets in time order, all arrays [n]; NaN = not known.

    `seconds int32` = length of the bucket, 0 = a point; `time_unix_nano int64` when it begins; `rows int32` that are in
    it; `value`, `least`, `most` the mean and the extremes of what is known, `expected`, `low`, `high` the mean of the
    band; `strength` and `p_value` by detector: the greatest ln(score / bar) and the least p-value.
    """

    seconds: NDArray[np.int32]
    time_unix_nano: NDArray[np.int64]
    rows: NDArray[np.int32]
    value: NDArray[np.float64]
    least: NDArray[np.float64]
    most: NDArray[np.float64]
    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    status: NDArray[np.uint8]
    strength: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    p_value: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_unix_nano)

    def take(self, which: Any) -> Stretch:
        """Those of a slice, a mask or indices."""
        return made(
            {name: getattr(self, name)[which] for name in COLUMNS},
            {name: one[which] for name, one in self.strength.items()},
            {name: one[which] for name, one in self.p_value.items()},
        )


COLUMNS = (
    "seconds", "time_unix_nano", "rows", "value", "least", "most", "expected", "low", "high", "anomalous", "status",
)  # fmt: skip
_TYPES: dict[str, Any] = {
    "seconds": np.int32, "time_unix_nano": np.int64, "rows": np.int32, "anomalous": np.bool_, "status": np.uint8,
}  # fmt: skip


def made(
    columns: Mapping[str, NDArray[Any]],
    strength: dict[str, NDArray[np.float64]] | None = None,
    p_value: dict[str, NDArray[np.float64]] | None = None,
) -> Stretch:
    """A stretch of its columns by name."""
    return Stretch(**columns, strength=strength or {}, p_value=p_value or {})


def empty() -> Stretch:
    """Nothing."""
    return made({name: np.zeros(0, _TYPES.get(name, np.float64)) for name in COLUMNS})


def join(parts: Sequence[Stretch]) -> Stretch:
    """All of them in time order; where two begin at the same time in buckets of the same length, the first counts."""
    parts = [one for one in parts if len(one)]
    if not parts:
        return empty()
    columns = {name: np.concatenate([getattr(one, name) for one in parts]) for name in COLUMNS}
    # Behind equal times the order of `parts` decides, so that the first of them is the one that is kept.
    order = np.argsort(columns["time_unix_nano"], kind="stable")
    time = columns["time_unix_nano"][order]
    keep = np.ones(len(time), np.bool_)
    keep[1:] = (time[1:] != time[:-1]) | (columns["seconds"][order][1:] != columns["seconds"][order][:-1])
    order = order[keep]
    return made(
        {name: column[order] for name, column in columns.items()},
        _joined([one.strength for one in parts], parts, order),
        _joined([one.p_value for one in parts], parts, order),
    )


def _joined(
    by: Sequence[Mapping[str, NDArray[np.float64]]], parts: Sequence[Stretch], order: NDArray[np.intp]
) -> dict[str, NDArray[np.float64]]:
    names = dict.fromkeys(name for one in by for name in one)
    return {
        name: np.concatenate(
            [one[name] if name in one else np.full(len(part), np.nan) for one, part in zip(by, parts, strict=True)]
        )[order]
        for name in names
    }


def of_points(points: NDArray[Any], opinions: Mapping[str, NDArray[Any]]) -> Stretch:
    """Points (`POINT[n]`) with what detectors say of them (`OPINION[n]`)."""
    n = len(points)
    value = points["value"].astype(np.float64)
    expected, low, high = (points[name].astype(np.float64) for name in ("expected", "low", "high"))
    return Stretch(
        np.zeros(n, np.int32), points["time_unix_nano"].astype(np.int64), np.ones(n, np.int32), value, value, value,
        expected, low, high, points["anomalous"].astype(np.bool_), points["status"].astype(np.uint8),
        {name: one["strength"].astype(np.float64) for name, one in opinions.items()},
        {name: one["p_value"].astype(np.float64) for name, one in opinions.items()},
    )  # fmt: skip


def of_chunk(chunk: Any, tier: Tier, detectors: Sequence[str]) -> Stretch:
    """The buckets of a chunk (a row of `rollups_kernel.cold`)."""
    at = np.flatnonzero(chunk["rows"]) if chunk["used"] else np.zeros(0, np.intp)
    bucket = int(chunk["chunk"]) * tier.buckets + at
    base, code = chunk["mean"][at], chunk["code"][at]
    value = np.where(code & UNKNOWN, np.nan, base)
    least, most, expected, low, high = (base + _WAYS[name] * chunk[name][at].astype(np.float64) for name in _BESIDE)
    lanes = chunk["strength"].reshape(-1, tier.buckets)
    return Stretch(
        np.full(len(at), tier.seconds, np.int32), bucket * (tier.seconds * _SECOND), chunk["rows"][at], value, least,
        most, expected, low, high, (code & ANOMALOUS) > 0, (code & _STATUS).astype(np.uint8),
        _said({name: lanes[k, at] for k, name in enumerate(detectors)}),
    )  # fmt: skip


def _said(strength: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """The strengths of detectors that said something."""
    return {name: one.astype(np.float64) for name, one in strength.items() if not np.isnan(one).all()}


def of_bucket(bucket: Any, tier: Tier, detectors: Sequence[str]) -> Stretch:
    """The bucket that goes on now (a row of `rollups_kernel.hot`), as far as it has come."""
    if not bucket["rows"]:
        return empty()
    value = bucket["total"] / bucket["known"] if bucket["known"] else np.nan
    extremes = {name: bucket[name] if bucket["known"] else np.nan for name in ("least", "most")}
    banded = bucket["banded"]
    band = {name: bucket[name] / banded if banded else np.nan for name in ("expected", "low", "high")}
    code, start = int(bucket["code"]), int(bucket["bucket"]) * tier.seconds * _SECOND
    columns = {
        "seconds": tier.seconds, "time_unix_nano": start, "rows": int(bucket["rows"]), "value": value, **extremes,
        **band, "anomalous": code & ANOMALOUS > 0, "status": code & _STATUS,
    }  # fmt: skip
    return made(
        {name: np.array([one], _TYPES.get(name, np.float64)) for name, one in columns.items()},
        _said({name: bucket["strength"][k : k + 1] for k, name in enumerate(detectors)}),
    )


# -- bytes -------------------------------------------------------------------------------------------------------


def pack(stretch: Stretch) -> bytes:
    """The bytes of a stretch that is not empty, of points alone or of buckets of one length.

    A head of plain data, then column by column, packed by zlib. What takes most of the room is cut to what a chart can
    show: the means of buckets to ten digits, what lies beside them to four digits of the distance.
    """
    n = len(stretch)
    exact = not int(stretch.seconds[0])
    time = stretch.time_unix_nano
    strength = _said(stretch.strength)
    head = msgspec.msgpack.encode(_Head(FORMAT, n, int(time[0]), exact, list(strength)))
    unknown = np.isnan(stretch.value)
    # What is not known is written as what was expected, for the rest to stand beside it.
    whole = np.where(unknown, np.where(np.isnan(stretch.expected), 0.0, stretch.expected), stretch.value)
    base = whole if exact else _short(whole, np.uint64, _MEAN_BITS)
    code = stretch.status | (stretch.anomalous * np.uint8(ANOMALOUS)) | (unknown * np.uint8(UNKNOWN))
    steps = np.zeros_like(time)
    np.subtract(time[1:], time[:-1], out=steps[1:])
    parts = [len(head).to_bytes(4, "little"), head, _spread(steps)]
    parts += [code.astype(np.uint8).tobytes(), _spread(base)]
    for name in _BESIDE[2:] if exact else _BESIDE:
        # Extremes never lie on the other side of the mean, however that is cut.
        beside = _WAYS[name] * (getattr(stretch, name) - (whole if name in _BESIDE[:2] else base))
        parts.append(_spread(_short(beside.astype(np.float32), np.uint32, _BESIDE_BITS)))
    if not exact:
        parts.append(_spread(stretch.rows))
    with np.errstate(over="ignore"):
        parts += [_spread(one.astype(np.float16)) for one in strength.values()]
    return _squeezed(b"".join(parts))


def pack_chunks(chunks: NDArray[Any], tier: Tier, detectors: Sequence[str]) -> list[bytes]:
    """The bytes of each of these chunks (rows of `rollups_kernel.cold`): what `pack(of_chunk(…))` gives, but quicker.

    The columns of all that have every bucket are made together; those of others are not of one length.
    """
    whole: NDArray[np.bool_] = np.asarray((chunks["rows"] > 0).all(axis=1))
    quick = iter(_pack_whole(chunks[whole], tier, detectors) if whole.any() else [])
    return [
        next(quick) if all_there else pack(of_chunk(chunk, tier, detectors))
        for chunk, all_there in zip(chunks, whole.tolist(), strict=True)
    ]


def _pack_whole(chunks: NDArray[Any], tier: Tier, detectors: Sequence[str]) -> list[bytes]:
    """The bytes of chunks, at least one, in which no bucket is without rows."""
    base = _short(chunks["mean"], np.uint64, _MEAN_BITS)
    moved = chunks["mean"] - base
    columns = [_spreads(_steps(tier)[None, :].repeat(len(chunks), 0)), chunks["code"], _spreads(base)]
    for name in _BESIDE:
        beside = chunks[name] if name in _BESIDE[:2] else (chunks[name] + moved).astype(np.float32)
        columns.append(_spreads(_short(beside, np.uint32, _BESIDE_BITS)))
    body = np.concatenate([*columns, _spreads(chunks["rows"])], axis=1)
    strength = chunks["strength"].reshape(len(chunks), -1, tier.buckets)[:, : len(detectors)]
    known = ~np.isnan(strength).all(axis=2)
    with np.errstate(over="ignore"):
        lanes = [_spreads(strength[:, k].astype(np.float16)) for k in range(len(detectors))]
    span, out = tier.seconds * tier.buckets * _SECOND, []
    for i, number in enumerate(chunks["chunk"].tolist()):
        said = [k for k in range(len(detectors)) if known[i, k]]
        names = [detectors[k] for k in said]
        head = msgspec.msgpack.encode(_Head(FORMAT, tier.buckets, number * span, False, names))
        parts = [len(head).to_bytes(4, "little"), head, body[i].tobytes(), *(lanes[k][i].tobytes() for k in said)]
        out.append(_squeezed(b"".join(parts)))
    return out


def _steps(tier: Tier) -> NDArray[np.int64]:
    """How long after the bucket before each of a whole chunk begins (ns)."""
    steps: NDArray[np.int64] = np.full(tier.buckets, tier.seconds * _SECOND, np.int64)
    steps[0] = 0
    return steps


def _squeezed(data: bytes) -> bytes:
    # Bytes that stand together are alike or are noise: looking for repetitions further back finds nothing.
    packer = zlib.compressobj(strategy=zlib.Z_RLE)
    return packer.compress(data) + packer.flush()


def unpack(data: bytes, seconds: int) -> Stretch:
    """What `pack` wrote, of buckets of `seconds` (0 = points). Raises PermanentError if it is no such thing."""
    try:
        raw = zlib.decompress(data)
        size = int.from_bytes(raw[:4], "little")
        head = _decode(raw[4 : 4 + size])
        if head.format != FORMAT:
            raise PermanentError(f"a stretch of format {head.format}, this version reads {FORMAT}")
        return _columns(_Cursor(raw, 4 + size, head.count), head, seconds)
    except (zlib.error, msgspec.MsgspecError, ValueError) as error:
        raise PermanentError(f"a stretch of a series cannot be read: {error}") from error


class _Cursor:
    """Takes columns of `n` one after another."""

    def __init__(self, raw: bytes, at: int, n: int) -> None:
        self.raw, self.at, self.n = raw, at, n

    def bytes(self) -> NDArray[np.uint8]:
        """A column of bytes."""
        return self._next(1)

    def column(self, kind: Any) -> NDArray[Any]:
        """A column of numbers, as float64 where it is of floats."""
        dtype = np.dtype(kind)
        spread = self._next(dtype.itemsize).reshape(dtype.itemsize, self.n)
        found: NDArray[Any] = np.ascontiguousarray(spread.T).view(dtype).reshape(-1)
        return found.astype(np.float64) if dtype.kind == "f" else found

    def _next(self, width: int) -> NDArray[np.uint8]:
        start, self.at = self.at, self.at + width * self.n
        return np.frombuffer(self.raw, np.uint8, width * self.n, start)


def _columns(take: _Cursor, head: _Head, seconds: int) -> Stretch:
    time = head.start + np.cumsum(take.column(np.int64))
    code = take.bytes()
    base = take.column(np.float64)
    value = np.where(code & UNKNOWN, np.nan, base)
    beside = {name: base + _WAYS[name] * take.column(np.float32) for name in (_BESIDE[2:] if head.exact else _BESIDE)}
    rows = np.ones(head.count, np.int32) if head.exact else take.column(np.int32)
    strength = {name: take.column(np.float16) for name in head.detectors}
    return Stretch(
        np.full(head.count, seconds, np.int32), time, rows, value, beside.get("least", value),
        beside.get("most", value), beside["expected"], beside["low"], beside["high"],
        (code & ANOMALOUS) > 0, code & np.uint8(_STATUS), strength,
    )  # fmt: skip


def _spread(column: NDArray[Any]) -> bytes:
    """All first bytes, then all second ones …: what is alike stands together, which packs better."""
    column = np.ascontiguousarray(column)
    return column.view(np.uint8).reshape(len(column), column.itemsize).T.tobytes()


def _spreads(columns: NDArray[Any]) -> NDArray[np.uint8]:
    """`_spread` of each row of `columns[k, n]`: uint8[k, n * size]."""
    k, n = columns.shape
    columns = np.ascontiguousarray(columns)
    spread: NDArray[np.uint8] = columns.view(np.uint8).reshape(k, n, columns.itemsize).transpose(0, 2, 1)
    return spread.reshape(k, n * columns.itemsize)


def _short(column: NDArray[Any], whole: Any, bits: int) -> NDArray[Any]:
    """Floats with their lowest bits 0, rounded towards 0."""
    mask = whole(np.iinfo(whole).max - ((1 << bits) - 1))
    short: NDArray[Any] = (np.ascontiguousarray(column).view(whole) & mask).view(column.dtype)
    return short
