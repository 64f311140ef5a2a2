"""Durations, sizes and option models: how settings are written."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_SUBSECOND = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3}
_DURATION = _SUBSECOND | {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = {"B": 1, "kB": 1000, "KB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_PART = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-zµ]+)")


def parse_duration(value: Any) -> Any:
    """Seconds of a duration such as `250ms`, `1h30m` or a plain number of seconds.

    >>> parse_duration("1h30m"), parse_duration(5)
    (5400.0, 5)
    """
    return _parse(value, _DURATION, "a duration such as 10s, 5m or 1h30m")


def parse_size(value: Any) -> Any:
    """Bytes of a size such as `64MiB` or a plain number of bytes.

    >>> parse_size("64MiB")
    67108864
    """
    size = _parse(value, _SIZE, "a size such as 64MiB or 2GB")
    return int(size) if isinstance(size, float) else size


def _parse(value: Any, units: dict[str, float] | dict[str, int], wanted: str) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        pass
    total, at = 0.0, 0
    while at < len(text):
        match = _PART.match(text, at)
        if not match or match[2] not in units:
            raise ValueError(f"{value!r} is not {wanted}")
        total += float(match[1]) * units[match[2]]
        at = match.end()
    if not text:
        raise ValueError(f"{value!r} is not {wanted}")
    return total


Seconds = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=float | str)]
"""A duration in a setting: a number of seconds, or text such as `5m`."""

Bytes = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str)]
"""A size in a setting: a number of bytes, or text such as `64MiB`."""


class Options(BaseModel):
    """Base of every part's options: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
