"""Our own wire form of readings: what the host source (and other pulling sources) write into the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec
import numpy as np

from foreshock.errors import BadInputError
from foreshock.types import Kind, Labels, Samples, Series, labels

METRICS = "application/vnd.foreshock.metrics+json"
"""Content type: one reading or an array of readings."""


class Metric(msgspec.Struct, frozen=True, array_like=True):
    """One number: `["system.disk.io", {"direction": "read"}, "By/s", 4096.0]`; null = missing; counters add true."""

    name: str
    attributes: dict[str, str]
    unit: str
    value: float | None
    counter: bool = False


class Reading(msgspec.Struct, frozen=True):
    """What was read of one entity at one time (nanoseconds)."""

    time: int
    entity: dict[str, str]
    metrics: list[Metric]


_ENCODE = msgspec.json.Encoder().encode
_DECODER = msgspec.json.Decoder(Reading | list[Reading])


def encode_metrics(readings: Reading | Sequence[Reading]) -> bytes:
    """The payload of one reading or several."""
    return _ENCODE(readings)


def decode_readings(payload: bytes) -> list[Reading]:
    """The readings of a payload of `encode_metrics`; raises BadInputError (`bad_json`)."""
    try:
        decoded = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError("bad_json", f"not a reading in Foreshock's own form: {error}") from error
    return [decoded] if isinstance(decoded, Reading) else decoded


def decode_metrics(payload: bytes) -> Samples:
    """The samples of a payload of `encode_metrics`, in its order.

    Raises BadInputError (`bad_json`, `bad_time`, `empty`).
    """
    readings = decode_readings(payload)
    used = [reading for reading in readings if 0 <= reading.time < 2**63]
    dropped = {"bad_time": len(readings) - len(used)} if len(used) < len(readings) else {}
    if not used:
        raise BadInputError(next(iter(dropped), "empty"), "the body holds no reading that can be used")
    known: dict[Series, int] = {}
    index = [
        known.setdefault(
            known_series(metric.name, tuple(metric.attributes.items()), metric.unit, metric.counter, entity), len(known)
        )
        for reading in used
        for entity in (labels(reading.entity),)
        for metric in reading.metrics
    ]
    counts = [len(reading.metrics) for reading in used]
    return Samples(
        list(known),
        np.array(index, np.int32),
        np.repeat(np.array([reading.time for reading in used], np.int64), counts),
        _values(metric for reading in used for metric in reading.metrics),
        np.zeros(len(index), np.uint64),
        dropped,
    )


def _values(metrics: Iterable[Metric]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if metric.value is None else metric.value for metric in metrics], np.float64)


@lru_cache(maxsize=1 << 16)
def known_series(name: str, attributes: Labels, unit: str, counter: bool, entity: Labels) -> Series:
    """The series of these parts, its attributes sorted."""
    # Cached: the same few series come with every reading, and making one costs more than the rest of its decoding.
    return Series(name, entity, tuple(sorted(attributes)), unit, Kind.COUNTER if counter else Kind.GAUGE)
