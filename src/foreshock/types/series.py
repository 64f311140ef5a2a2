"""Series and entities: what a sample is about, in canonical text."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

Labels = tuple[tuple[str, str], ...]
"""Label pairs, sorted by name: the durable identity of a thing."""


class Kind(StrEnum):
    """How the numbers of a series behave."""

    GAUGE = "gauge"
    COUNTER = "counter"


def labels(mapping: dict[str, str]) -> Labels:
    """Sort a mapping into canonical label pairs."""
    return tuple(sorted(mapping.items()))


def label_text(pairs: Labels) -> str:
    """Canonical text of labels, Prometheus style.

    >>> label_text((("host.name", "a1"),))
    '{host.name="a1"}'
    """
    body = ",".join(f'{name}="{_escape(value)}"' for name, value in pairs)
    return "{" + body + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True)
class Series:
    """One metric stream of one entity.

    `entity` names what is watched (`(("host.name", "a1"),)`), `attributes` tells streams of the same name apart
    (`(("direction", "receive"),)`), `unit` is UCUM as in OpenTelemetry (`1`, `By`, `s`).
    """

    name: str
    entity: Labels
    attributes: Labels = ()
    unit: str = ""
    kind: Kind = Kind.GAUGE
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Looked up once a record and series: worth keeping.
        own = hash((self.name, self.entity, self.attributes, self.unit, self.kind))
        object.__setattr__(self, "_hash", own)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def feature(self) -> str:
        """The column of the entity's frame that this series feeds: name and attributes."""
        return self.name + (label_text(self.attributes) if self.attributes else "")

    @cached_property
    def text(self) -> str:
        """Canonical text: the durable name of the series."""
        return f"{self.feature}@{label_text(self.entity)}"

    @cached_property
    def entity_text(self) -> str:
        """Canonical text of the entity."""
        return label_text(self.entity)
