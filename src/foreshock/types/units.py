"""Durations, sizes, quantities and option models: how settings are written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
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


def parse_quantity(value: Any) -> Any:
    """A quantity as it is kept in a setting: a plain number, or its text once that is known to be one.

    >>> parse_quantity(" 90% "), parse_quantity("3"), parse_quantity(4)
    ('90%', 3.0, 4)
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text)
        except ValueError:
            quantity(text)
            return text
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not {_WANTED}")
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not {_WANTED}")
    return value


Quantity = Annotated[float | str, BeforeValidator(parse_quantity, json_schema_input_type=float | str)]
"""A number in a setting, in the unit of the series it is compared with, or text with a unit: `90 %`, `5 MB/s`."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity in base units: `number`, and `base`: what it measures (`s`, `By`, `1`, `By/s` …).

    `base` None: a plain number, in whatever unit the series has.
    """

    number: float
    base: str | None = None

    def within(self, unit: str) -> float | None:
        """The number in a series' unit; None where that measures something else.

        A series that says no unit is taken to be in base units: seconds, bytes, ratios.

        >>> quantity("250 ms").within("s"), quantity("90 %").within("%"), quantity("90 %").within("By")
        (0.25, 90.0, None)
        """
        if self.base is None or not unit:
            return self.number
        factor, base = _unit(unit)
        return self.number / factor if base == self.base else None


def quantity(value: float | str) -> Measure:
    """What a quantity of a setting measures.

    Units are those of durations and sizes, `%`, and the usual ones of metrics (UCUM, as in OpenTelemetry), each also
    per time. Raises ValueError where it is no number with a known unit.

    >>> quantity("5 MB/s"), quantity("6 %/min")
    (Measure(number=5000000.0, base='By/s'), Measure(number=0.001, base='1/s'))
    """
    if not isinstance(value, str):
        return Measure(float(value))
    match = _QUANTITY.fullmatch(value.strip())
    if not match:
        raise ValueError(f"{value!r} is not {_WANTED}")
    if not match[2]:
        return Measure(float(match[1]))
    factor, base = _unit(match[2])
    if not _known(base):
        raise ValueError(f"{value!r} is in no known unit: it is not {_WANTED}")
    return Measure(float(match[1]) * factor, base)


def _unit(text: str) -> tuple[float, str]:
    """A unit as so many base units: (factor, base). One that is not known is its own base."""
    first, *rest = (part.strip() for part in text.split("/"))
    factor, base = _BASES.get(_COUNTED.sub("1", first) or "1", (1.0, first))
    for part in rest:
        time, name = _BASES.get(part, (1.0, part))
        factor /= time
        base += f"/{name}"
    return factor, base


def _known(base: str) -> bool:
    first, *rest = base.split("/")
    return first in _NAMES and all(part == "s" for part in rest)


def _bases() -> dict[str, tuple[float, str]]:
    """Unit → (how many base units, base unit)."""
    out = {name: (factor, "s") for name, factor in _DURATION.items()}
    prefixes = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    for base, names in (("By", ("B", "By")), ("bit", ("bit",)), ("Hz", ("Hz",))):
        for prefix, factor in prefixes.items():
            out |= {prefix + name: (factor, base) for name in names}
    for power, prefix in enumerate(("Ki", "Mi", "Gi", "Ti"), 1):
        out |= {prefix + name: (1024.0**power, "By") for name in ("B", "By")}
    out |= {"%": (0.01, "1"), "1": (1.0, "1"), "°C": (1.0, "Cel")}
    out |= {name: (1.0, name) for name in ("Cel", "K", "V", "A", "W", "J")}
    return out


_BASES = _bases()
_NAMES = {base for _, base in _BASES.values()}
_COUNTED = re.compile(r"^\{[^}]*\}$")
_QUANTITY = re.compile(r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*([^\s0-9.+-].*)?")
_WANTED = "a number with a unit such as 90 %, 250 ms, 2 GiB or 5 MB/s"


class Options(BaseModel):
    """Base of every part's options: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
