"""Why something was found anomalous: anomalous rows of the store as data, and in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from foreshock.adapters.sql.text import parse_labels
from foreshock.errors import BadInputError
from foreshock.incident import words
from foreshock.incident.words import Band
from foreshock.runtime.outputs import Notes
from foreshock.types import Series, rfc3339

NUMBERS = ("value", "score", "p_value", "strength", "expected", "low", "high")
_NOTES = msgspec.json.Decoder(Notes)


def findings(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of `Store.verdicts`, a dict each; what is not known is None.

    `role` is `primary` or `shadow`, `ratio` the score ÷ its bar, `contributions` features with their share, `normal` a
    sentence. A row without `feature` is of a detector that judges an entity as a whole.
    """
    out = []
    for i, text in enumerate(columns["notes"]):
        notes = Notes() if text is None else _NOTES.decode(text)
        numbers = {name: _known(float(columns[name][i])) for name in NUMBERS}
        strength = numbers["strength"]
        feature = columns["feature"][i]
        out.append(
            {
                "time": rfc3339(int(columns["time_unix_nano"][i])),
                "time_unix_nano": int(columns["time_unix_nano"][i]),
                "entity": columns["entity"][i],
                "feature": feature,
                "detector": columns["detector"][i],
                "role": "shadow" if notes.shadow else "primary",
                **numbers,
                "unit": notes.unit,
                "ratio": None if strength is None else math.exp(strength),
                "contributions": [{"feature": name, "share": share} for name, share in notes.top],
                "normal": _normal(feature, numbers, notes.unit),
            }
        )
    return out


def _normal(feature: str, numbers: Mapping[str, float | None], unit: str) -> str:
    """What was seen of a feature and what would have been normal; of an entity, that a whole has no band."""
    if not feature:
        return "its features together are unusual; each alone may be normal"
    band = Band(*(_number(numbers[name]) for name in ("low", "high", "expected")))
    return words.instead(_number(numbers["value"]), band, unit)


def in_words(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines that explain what `findings` gave, all of one entity and time: a stretch for each detector."""
    out: list[str] = []
    by: dict[str, list[Mapping[str, Any]]] = {}
    for one in sorted(found, key=lambda one: -_number(one["strength"], 0.0)):
        by.setdefault(one["detector"], []).append(one)
    for detector, rows in by.items():
        first = rows[0]
        if not out:
            out.append(f"{_entity(first['entity'])} at {first['time']}")
        shadow = " (shadow: raises no alert)" if first["role"] == "shadow" else ""
        out.append(f"{detector}{shadow}")
        for one in rows:
            what = _feature(one["feature"]) + ": " if one["feature"] else ""
            out.append(f"  {what}{one['normal']}")
            out += [f"    {said}"] if (said := _figures(one)) else []
        if first["contributions"]:
            shares = ", ".join(f"{_feature(c['feature'])} {100 * c['share']:.0f} %" for c in first["contributions"])
            out.append(f"  share of features: {shares}")
    return out


def _figures(one: Mapping[str, Any]) -> str:
    """Score, bar and p-value of a row."""
    parts = []
    if one["score"] is not None:
        parts.append(f"score {one['score']:.3g}")
    if one["ratio"] is not None:
        parts.append(f"{one['ratio']:.3g} times its bar")
    if one["p_value"] is not None:
        parts.append(f"p = {one['p_value']:.2g}")
    expected = one["expected"]
    if expected is not None:
        parts.append(f"usually about {words.quantity(expected, one['unit'])}")
    return ", ".join(parts)


def _entity(text: str) -> str:
    try:
        return words.entity(parse_labels(text))
    except BadInputError:
        return text


def _feature(text: str) -> str:
    """A feature (name and attributes) in words."""
    name, brace, rest = text.partition("{")
    try:
        return words.metric(Series(name, (), parse_labels(brace + rest) if brace else ()))
    except BadInputError:
        return text


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None, otherwise: float = math.nan) -> float:
    return otherwise if value is None else value
