"""Whose metrics these are: the attributes of a resource → the entity, and what tells its instances apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreshock.types import Labels

ENTITIES = (
    ("service.name", "service.namespace", "service.instance.id"),
    ("k8s.pod.name", "k8s.namespace.name", "k8s.container.name"),
    ("container.name", "container.id"),
    ("k8s.node.name",),
    ("host.name",),
    ("host.id",),
)
"""What names an entity: the first set whose first attribute is there, with those of its other attributes that are."""

INSTANCES = ("service.instance.id", "k8s.pod.name", "container.id", "host.name", "host.id")
"""What tells instances of one entity apart, the best first."""


def identify(attributes: Mapping[str, str], wanted: Sequence[str], nobody: Labels) -> tuple[Labels, Labels]:
    """The entity of a resource, and the label that its series need so that those of two instances stay apart.

    `wanted` names the entity's attributes; where none of them is there, the usual ones do. `nobody` is the entity of
    a resource that says nothing of the kind.

    >>> identify({"service.name": "cart", "host.name": "a1", "os.type": "linux"}, (), ())
    ((('service.name', 'cart'),), (('host.name', 'a1'),))
    >>> identify({"service.name": "cart", "service.instance.id": "7", "host.name": "a1"}, (), ())
    ((('service.instance.id', '7'), ('service.name', 'cart')), ())
    """
    entity = {name: attributes[name] for name in wanted if attributes.get(name)}
    if not entity:
        names = next((names for names in ENTITIES if attributes.get(names[0])), ())
        entity = {name: attributes[name] for name in names if attributes.get(name)}
    if not entity:
        return nobody, ()
    instance = next((name for name in INSTANCES if attributes.get(name)), None)
    apart = instance is None or any(name in entity for name in INSTANCES)
    return tuple(sorted(entity.items())), () if apart or instance is None else ((instance, attributes[instance]),)


def texts_of(attributes: Any) -> dict[str, str]:
    """OTLP attributes (repeated KeyValue) as texts."""
    return {one.key: text_of(one.value) for one in attributes}


def text_of(value: Any) -> str:
    """An OTLP AnyValue as a label's text; an empty one is empty."""
    match value.WhichOneof("value"):
        case "string_value":
            return str(value.string_value)
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "double_value":
            number = value.double_value
            return str(int(number)) if number.is_integer() else str(number)
        case "array_value":
            return "[" + ",".join(text_of(one) for one in value.array_value.values) + "]"
        case "kvlist_value":
            inner = sorted(texts_of(value.kvlist_value.values).items())
            return "{" + ",".join(f"{key}={text}" for key, text in inner) + "}"
        case "bytes_value":
            return bytes(value.bytes_value).hex()
    return ""
