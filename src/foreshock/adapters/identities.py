"""Who the rows of one shape are about: plans and identities, remembered, since senders repeat the same few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.assemble import Identity, identity, series_of
from foreshock.adapters.mapping import MappingOptions, Plan, plan_columns
from foreshock.adapters.texts import Names, Texts
from foreshock.adapters.times import Column
from foreshock.types import Dictionary, Labels

_MOST_PLANS = 256
_MOST_KNOWN = 200_000
"""Identities that are remembered, of all shapes together; in dictionaries each series counts."""
_MOST_SETS = 16
"""Sets of features that a shape has dictionaries for."""

Columns = Mapping[str, Column]
K = TypeVar("K")


@dataclass(slots=True)
class Shape:
    """What rows of one shape mean under `options`: the plan, and the identities that were met, by their one text.

    Those of payloads that share dictionaries stand in `names`, and there is a dictionary for each set of features.
    """

    options: MappingOptions
    plan: Plan
    known: dict[str, Identity] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    shared: dict[tuple[str, ...], Dictionary] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.known) + sum(map(len, self.shared.values()))

    def forget(self) -> None:
        """Forget the identities."""
        self.known.clear()
        self.shared.clear()
        self.names = Names()


_SHAPES: dict[tuple[int, tuple[str, ...], bool], Shape] = {}


def shape_of(columns: tuple[str, ...], options: MappingOptions, use_entity: bool) -> Shape:
    """`plan_columns`, remembered."""
    key = id(options), columns, use_entity
    known = _SHAPES.get(key)
    if known is not None and known.options is options:
        return known
    shape = Shape(options, plan_columns(columns, options, use_entity))
    if len(_SHAPES) >= _MOST_PLANS:
        _SHAPES.clear()
    _SHAPES[key] = shape
    return shape


def shared_of(
    values: Columns, features: Sequence[str], shape: Shape, default: Labels
) -> tuple[NDArray[np.int64], Dictionary] | None:
    """Codes `int64[n]` of rows that one text names, and the dictionary in which the series of code i stand at i · m.

    None where rows are named otherwise, or where one cannot be named.
    """
    plan, own = shape.plan, tuple(features)
    texts = values[plan.entity[0][1]] if len(plan.entity) == 1 and not plan.attributes and not plan.long else None
    if not isinstance(texts, Texts):
        return None
    if len(shape.shared) >= _MOST_SETS and own not in shape.shared:
        shape.forget()
    code = shape.names.numbers(texts)
    series = shape.shared.setdefault(own, Dictionary())
    for number in range(len(series) // len(own), len(shape.names)):
        who = name_row((shape.names[number],), plan, default)
        if who.refused:
            shape.forget()
            return None
        series += [series_of(who, name, shape.options) for name in own]
    _bound(shape)
    return code, series


def _bound(shape: Shape) -> None:
    """Forget all identities where there are too many; whoever still uses them keeps them."""
    if sum(map(len, list(_SHAPES.values()))) > _MOST_KNOWN:
        _SHAPES.clear()
        shape.known.clear()


def identities_of(
    values: Columns, count: int, shape: Shape, default: Labels
) -> tuple[NDArray[np.int64], list[Identity]]:
    """Codes `int64[n]` of the rows and the identities they stand for, in the order of first appearance."""
    plan = shape.plan
    paths = [path for _, path in (*plan.entity, *plan.attributes)]
    if plan.name is not None:
        paths.append(plan.name)
    if not paths:
        return np.zeros(count, np.int64), [identity(default, (), "")]
    if len(paths) == 1:
        column = values[paths[0]]
        code, texts = column.numbered() if isinstance(column, Texts) else _codes(texts_of(column))
        if plan.entity:
            return code, [_named(text, shape, default) for text in texts]
        return code, [name_row((text,), plan, default) for text in texts]
    code, rows = _codes(list(zip(*(texts_of(values[path]) for path in paths), strict=True)))
    return code, [name_row(row, plan, default) for row in rows]


def _codes(keys: Sequence[K]) -> tuple[NDArray[np.int64], list[K]]:
    """The number of each key `int64[n]` and the keys by number, in the order of first appearance."""
    place = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    return np.array(list(map(place.__getitem__, keys)), np.int64), list(place)


def _named(key: str | None, shape: Shape, default: Labels) -> Identity:
    """The identity of one text, remembered: entities come again."""
    found = shape.known.get(key) if key else None
    if found is None:
        found = name_row((key,), shape.plan, default)
        if key and not found.refused:
            shape.known[key] = found
            _bound(shape)
    return found


def name_row(texts: Sequence[str | None], plan: Plan, default: Labels) -> Identity:
    """The identity of a row from the texts of its entity, attribute and name columns, in this order."""
    split = len(plan.entity)
    entity = [(label, text) for (label, _), text in zip(plan.entity, texts[:split], strict=True) if text]
    if len(entity) < split:
        return Identity(refused="no_entity")
    if plan.name is not None and not texts[-1]:
        return Identity(refused="no_name")
    attributes = zip((label for label, _ in plan.attributes), texts[split:], strict=False)
    name = (texts[-1] or "") if plan.name is not None else ""
    pairs = tuple(sorted((label, text) for label, text in attributes if text))
    return identity(tuple(sorted(entity)) or default, pairs, name)


def texts_of(values: Column) -> Sequence[str | None]:
    """The values of a field as labels have them."""
    if isinstance(values, Texts):
        return values
    plain: Sequence[Any] = values.tolist() if isinstance(values, np.ndarray) else values
    return plain if set(map(type, plain)) == {str} else [text_of(value) for value in plain]


def text_of(value: Any) -> str | None:
    """A JSON scalar as a label's text; None for null, arrays and the like."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value) if type(value) in (int, float) else None
