"""Which metrics a Prometheus has: their types, how many series each has, which of them may be read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from foreshock.adapters.mapping import matches, shortened
from foreshock.adapters.prometheus.api import Api, TooMuchError, TooSlowError, selector
from foreshock.adapters.prometheus.names import Kind, is_state, kind_of
from foreshock.adapters.prometheus.options import PrometheusOptions
from foreshock.errors import ForeshockError

MOST_CELLS = 250_000
"""About how many points one query may give."""
LOOK_SECONDS = 600
"""What had no sample for so long is gone."""

_LONGEST_SELECTOR = 16_000
_COUNTED_AT_A_TIME = 500


@dataclass(frozen=True, slots=True)
class Ask:
    """One query: of the user's with its `number`, or of some of the metrics found; `prefix` tells answers apart."""

    query: str
    number: int = -1
    metrics: tuple[str, ...] = ()

    @property
    def prefix(self) -> bytes:
        """What the keys of its series begin with."""
        return b"%d " % self.number


class Metrics:
    """The metrics of a server: `counts` of their series as of the last look; `say` is given what people should know."""

    def __init__(self, api: Api, options: PrometheusOptions, say: Callable[[str, str], None]) -> None:
        self._api, self._options, self._say = api, options, say
        self.counts: dict[str, int] = {}
        self._types: Mapping[str, str] = {}
        self._known: frozenset[str] = frozenset()

    def kind_of(self, name: str) -> Kind:
        """What a metric is said to be, by its name and type."""
        return kind_of(name, self._types, self._known)

    def read_types(self) -> None:
        """Read the types; those of before stay where the server does not give them."""
        try:
            self._types, disputed = self._api.types()
        except ForeshockError:
            return  # some have none; where nothing is answered at all, the next question says so
        if disputed:
            self._say(f"targets disagree on the type of {shortened(sorted(disputed))}: read by what they do", "types")

    def find(self, now: float, watched: Collection[str]) -> dict[str, int]:
        """The metrics that may be read, with their number of series: those watched already, states, then small ones.

        Raises what `Api` raises.
        """
        names = self._api.names(now - LOOK_SECONDS, now)
        self._known = frozenset(names)
        include, exclude = self._options.include, self._options.exclude
        asked = (name for name in names if matches(name, include) and not matches(name, exclude))
        self.counts = counts = self._count([name for name in asked if self.kind_of(name) is not Kind.SKIP], now)
        room = self._options.max_series
        found: dict[str, int] = {}
        left: dict[str, int] = {}
        for name in sorted(counts, key=lambda one: (one not in watched, not is_state(one), counts[one], one)):
            fits = counts[name] <= room
            (found if fits else left)[name] = counts[name]
            room -= counts[name] if fits else 0
        if left:
            most = sorted(left, key=lambda one: (-left[one], one))
            listed = shortened([f"{name} ({left[name] if left[name] < sys.maxsize else 'too many'})" for name in most])
            self._say(f"metrics are left out, since together there are more series than max_series "
                      f"({self._options.max_series}): {listed}; name what matters with include, or raise it",
                      "max_series")  # fmt: skip
        return found

    def _count(self, names: list[str], now: float) -> dict[str, int]:
        """Series of each metric that has some now."""
        out: dict[str, int] = {}
        parts = [names[first : first + _COUNTED_AT_A_TIME] for first in range(0, len(names), _COUNTED_AT_A_TIME)]
        while parts:
            part = parts.pop()
            try:
                found = self._api.instant(f"count by (__name__) ({selector(part)})", now)
            except TooSlowError:
                raise
            except TooMuchError:
                parts += [part[::2], part[1::2]] if len(part) > 1 else []
                out |= dict.fromkeys(part if len(part) == 1 else (), sys.maxsize)
            else:
                out |= {labels.get("__name__", ""): int(value) for labels, value in found}
        return out


def pack(counts: Mapping[str, int], rows: int, cells: int = MOST_CELLS) -> Iterator[Ask]:
    """Queries of metrics together, as many in each as have about `cells` points in so many rows."""
    names: list[str] = []
    size = length = 0
    for name, count in counts.items():
        if names and (size + count * rows > cells or length + len(name) > _LONGEST_SELECTOR):
            yield Ask(selector(names), -1, tuple(names))
            names, size, length = [], 0, 0
        names.append(name)
        size, length = size + count * rows, length + len(name) + 1
    if names:
        yield Ask(selector(names), -1, tuple(names))
