"""What the live views hand out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from foreshock.runtime.stretch import Stretch
from foreshock.types import Labels, Series, Status


class Names(Protocol):
    """Whose slots the rows carry: `state.Registry` is one."""

    series: list[Series]
    entities: list[Labels]


class Role(NamedTuple):
    """What part a detector plays."""

    shadow: bool
    whole: bool


class SeriesView(NamedTuple):
    """A series and its recent points, oldest first (`POINT[n]`, a copy); on request the last one of each detector."""

    series: Series
    points: NDArray[Any]
    detectors: Mapping[str, NDArray[Any]] = {}


class SeriesDetail(NamedTuple):
    """A series, its recent points, and by detector what it says: of each point, and of each row of the entity."""

    series: Series
    points: NDArray[Any]
    opinions: dict[str, NDArray[Any]]
    entity_opinions: dict[str, NDArray[Any]]


class Rolled(NamedTuple):
    """The buckets of a series that are not stored yet, and those of its entity, for detectors of whole entities."""

    series: Series
    own: Stretch
    entity: Stretch


class EntityStrip(NamedTuple):
    """An entity, its status, and its last minutes (`CELL[n]`, oldest first; minute -1 = nothing came in it)."""

    entity: Labels
    status: Status
    cells: NDArray[Any]


@dataclass(frozen=True, slots=True)
class EntityView:
    """How an entity stands: its last row, and the greatest strength in it (NaN = nothing was judged).

    `p_value` is of all primary detectors together (Cauchy combination, NaN = nothing was judged): it ranks entities.
    """

    entity: Labels
    last_seen_unix_nano: int
    status: Status
    series: int
    strength: float
    p_value: float = math.nan
