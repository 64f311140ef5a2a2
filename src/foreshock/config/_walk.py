"""Which settings there are: the models behind key paths, for suggestions and for the reference."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from foreshock import plugins
from foreshock.config._parts import Part
from foreshock.config._tree import Loc, Value
from foreshock.errors import ConfigError


def members(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows, unions and `Annotated` unpacked."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from members(one)
    else:
        yield annotation


def models(annotation: Any) -> list[type[BaseModel]]:
    """The models among the types that an annotation allows."""
    return [one for one in members(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def keys_at(root: type[BaseModel], loc: Loc, data: Any) -> set[str]:
    """The keys that may stand in the mapping at a path; `data` tells the types of parts. Empty = any."""
    annotations: list[Any] = [root]
    for key in loc:
        annotations = [inner for one in annotations for inner in below(one, key, data)] or annotations
        data = _get(data, key)
    return {name for one in annotations for model in models(one) for name in fields_of(model, data)}


def below(annotation: Any, key: int | str, data: Any) -> Iterator[Any]:
    """The annotations of what may stand under a key of something so annotated; `data` tells the types of parts."""
    for one in members(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            field = fields_of(one, data).get(str(key))
            if field:
                yield field.annotation
        elif get_origin(one) in (list, tuple) and isinstance(key, int):
            yield get_args(one)[0]
        elif get_origin(one) is dict and isinstance(key, str):
            yield get_args(one)[1]


def nodes(root: type[BaseModel], tree: Value) -> Iterator[tuple[Loc, Value, list[Any]]]:
    """All nodes of a tree that the models know, outer ones first, each with the types that may stand there."""
    stack: list[tuple[Loc, Value, list[Any]]] = [((), tree, [root])]
    while stack:
        loc, node, annotations = stack.pop()
        yield loc, node, [one for annotation in annotations for one in members(annotation)]
        if not isinstance(node.data, dict | list):
            continue
        plain = node.plain()
        items: list[tuple[int | str, Value]] = (
            [*node.data.items()] if isinstance(node.data, dict) else [*enumerate(node.data)]
        )
        for key, child in reversed(items):
            inner = [one for annotation in annotations for one in below(annotation, key, plain)]
            stack.append(((*loc, key), child, inner))


def fields_of(model: type[BaseModel], data: Any = None) -> dict[str, FieldInfo]:
    """The fields of a model under the keys as they are written; those of a part's options stand beside its own."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if not issubclass(model, Part):
        return fields
    fields.pop("options")
    name = _get(data, "type")
    try:
        options = plugins.options_model(plugins.find(model.kind, name)) if isinstance(name, str) else None
    except ConfigError:
        options = None
    return fields | (fields_of(options) if options else {})


def _get(data: Any, key: int | str) -> Any:
    if isinstance(data, Mapping):
        return data.get(key)
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return data[key]
    return None


def sections_with(root: type[BaseModel], key: str) -> list[str]:
    """The top-level sections in which a key of this name may stand."""
    found = []
    for section, field in root.model_fields.items():
        nested = [model for model in models(field.annotation) if key in fields_of(model)]
        if nested:
            found.append(section)
    return found
