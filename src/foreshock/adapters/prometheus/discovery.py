"""Which series of a Prometheus are worth watching, and as what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.prometheus.api import Api, TooMuchError, TooSlowError, labels_of, points, selector
from foreshock.adapters.prometheus.behaviour import FEWEST_MOVES, Behaviour
from foreshock.adapters.prometheus.columns import Raw
from foreshock.adapters.prometheus.metrics import LOOK_SECONDS, MOST_CELLS, Ask, Metrics, pack
from foreshock.adapters.prometheus.names import Kind, identify, is_state
from foreshock.adapters.prometheus.options import PrometheusOptions, PrometheusQuery
from foreshock.errors import BadInputError, PermanentError
from foreshock.types import Labels

GLANCE_POINTS = 200
"""Points by which a series is judged: so many of the last steps, and so many over the past."""
USUAL_SECONDS = 15.0
MOST_STRIDE = 20

_FEWEST_POINTS = 20
_LOOKS_KEPT = 12
_DAY = 86400.0

Group = tuple[Labels, str, Labels]
Metric = tuple[int, str]
"""A metric within the answer to a query of the user's, by the query's number, or (−1) among those found."""


@dataclass(slots=True)
class _Seen:
    """A series of a survey: what it is read by, its labels, and the range of its values."""

    ask: Ask
    labels: dict[str, str]
    low: float = np.inf
    high: float = -np.inf
    now: bool = False

    @property
    def metric(self) -> Metric:
        """The metric that it belongs to."""
        return self.ask.number, self.labels.get("__name__", "")


@dataclass(slots=True)
class _Still:
    """A series that never moved, its value, and the number of the look at which it was last seen."""

    raw: Raw
    value: float
    look: int


class Catalogue:
    """The series that are watched (`raws`), by a key that their answers give.

    `discover` finds them, and looks again later; `meet` takes up what turns up meanwhile. Gauges that never moved are
    not watched until they do. `version` grows whenever `raws` changes. `first_unix` is the earliest time at which
    something was seen, None if nothing was. `tell` gives what people should know.
    """

    def __init__(self, api: Api, options: PrometheusOptions, nobody: Labels) -> None:
        self._api, self._options, self._nobody = api, options, nobody
        self.raws: dict[bytes, Raw] = {}
        self.version = 0
        self.first_unix: float | None = None
        self.step_seconds = options.every or USUAL_SECONDS
        self._intervals: dict[tuple[str, str], float] = {}
        self._still: dict[bytes, _Still] = {}
        self._still_groups: dict[Group, set[bytes]] = {}
        self._look = 0
        self._metrics = Metrics(api, options, self._say)
        self._kinds: dict[Metric, Kind] = {}
        self._sure: set[Metric] = set()
        self._refused: set[int | str] = set()
        self._notes: list[str] = []
        self._told: set[str] = set()

    # -- looking -------------------------------------------------------------------------------------------------

    def learn_intervals(self, now: float) -> None:
        """Learn how often each target is scraped. Raises what `Api` raises."""
        found = {}
        for series in self._api.samples(f"up[{LOOK_SECONDS}s]", now):
            times = points(series)[:, 0]
            if len(times) >= 3:
                found[_target(labels_of(series.metric))] = float(np.median(np.diff(times)))
        self._intervals = found

    def choose_step(self) -> bool:
        """Choose the time between two readings: as set, else so that a quarter of the targets is scraped as often.

        False where no interval is known yet.
        """
        if self._options.every is None and self._intervals:
            ordered = sorted(self._intervals.values())
            self.step_seconds = float(min(max(round(ordered[len(ordered) // 4]), 1), 3600))
        return self._options.every is not None or bool(self._intervals)

    def discover(self, now: float, past_seconds: float) -> None:
        """Look for what is worth watching; `past_seconds` is how far to look back for movement.

        Raises what `Api` raises.
        """
        self._look += 1
        self._refused.clear()
        self._metrics.read_types()
        if self._options.queries:
            asks = self._own()
        else:
            watched = {raw.metric for raw in self.raws.values()}
            found = self._metrics.find(now, watched)
            asks = list(pack({name: n for name, n in found.items() if self._is_open(name, watched)}, GLANCE_POINTS))
        survey = self._survey(asks, now, past_seconds)
        self._judge(survey, self.first_unix is not None and now - self.first_unix >= _DAY)
        for key in [key for key, one in self._still.items() if one.look < self._look - _LOOKS_KEPT]:
            self._wake(key)  # it is gone
        strides = {key: self._stride(dict(raw.identity[1:])) for key, raw in self.raws.items()}
        changed = {key: replace(self.raws[key], stride=n) for key, n in strides.items() if n != self.raws[key].stride}
        if changed:
            self._watch(changed)

    def asks(self, rows: int, cells: int = MOST_CELLS) -> list[Ask]:
        """The queries that bring all that is watched over so many rows, of about `cells` points each at the most."""
        if self._options.queries:
            return [ask for ask in self._own() if ask.number not in self._refused]
        counts = self._metrics.counts
        metrics = sorted({raw.metric for raw in self.raws.values()} - self._refused)
        return list(pack({name: counts.get(name, 1) for name in metrics}, rows, cells))

    def refuse(self, ask: Ask, why: str) -> None:
        """Leave a query out until the next discovery: the server will not answer it."""
        self._say(f"query {ask.query[:200]!r} is left out: {why}")
        self._refused |= {ask.number} if ask.number >= 0 else set(ask.metrics)

    def meet(self, ask: Ask, key: bytes, metric: msgspec.Raw, values: NDArray[np.float64]) -> bool:
        """A series that is not watched has brought values `float64[n]`: take it up if it is to be; whether it was."""
        values = values[~np.isnan(values)]
        if not len(values) or key in self.raws:
            return False
        still = self._still.get(key)
        if still is not None:
            still.look = self._look
            keys = sorted(self._still_groups[still.raw.group])
            if (values == still.value).all() or not self._has_room(len(keys)):
                return False
            self._watch({one: self._wake(one).raw for one in keys})
            return True
        try:
            labels = labels_of(metric)
        except BadInputError:
            return False
        name = labels.get("__name__", "")
        kind = self._kinds.get((ask.number, name), Kind.GAUGE if not name else Kind.SKIP)
        new = self._raw(ask, labels, kind)
        if new is None:
            return False
        if new.group in self._still_groups:
            self._rest(key, new, float(values[-1]))
            return False
        if not self._has_room(1):
            return False
        self._watch({key: new})
        return True

    def drop(self, keys: Iterable[bytes]) -> None:
        """Let go of series that are gone."""
        for key in keys:
            if self.raws.pop(key, None) is not None:
                self.version += 1

    def tell(self) -> list[str]:
        """What people should know and were not told yet."""
        notes, self._notes = self._notes, []
        return notes

    def _own(self) -> list[Ask]:
        return [Ask(one.query, number) for number, one in enumerate(self._options.queries)]

    def _is_open(self, name: str, watched: set[str]) -> bool:
        """Whether a metric is to be looked at: it may come to be watched, or turn out to be something else."""
        metric = (-1, name)
        return self._kinds.get(metric) is not Kind.SKIP and (name not in watched or metric not in self._sure)

    # -- judging -------------------------------------------------------------------------------------------------

    def _survey(
        self, asks: list[Ask], now: float, past_seconds: float
    ) -> tuple[dict[bytes, _Seen], dict[Metric, Behaviour]]:
        """Read a few points of everything: of the last steps, and over the past."""
        seen: dict[bytes, _Seen] = {}
        behaviours: dict[Metric, Behaviour] = {}
        recent = GLANCE_POINTS * self.step_seconds
        for ask in asks:
            self._glance(ask, now - recent, now, self.step_seconds, seen, behaviours)
            if past_seconds > recent:
                self._glance(ask, now - past_seconds, now, past_seconds / GLANCE_POINTS, seen, behaviours)
        return seen, behaviours

    def _glance(
        self, ask: Ask, start: float, end: float, step: float, seen: dict[bytes, _Seen],
        behaviours: dict[Metric, Behaviour],
    ) -> None:  # fmt: skip
        try:
            answer = self._api.range(ask.query, start, end, step)
        except PermanentError as error:
            return self.refuse(ask, str(error))
        except TooSlowError:
            raise
        except TooMuchError as error:
            if len(ask.metrics) > 1:
                for half in (ask.metrics[::2], ask.metrics[1::2]):
                    self._glance(Ask(selector(half), -1, half), start, end, step, seen, behaviours)
            elif end - start > _FEWEST_POINTS * step:
                self._saw(start)  # perhaps: it was not looked at
                self._glance(ask, (start + end) / 2, end, step, seen, behaviours)
            else:
                self._say(f"{ask.query[:200]} is not looked at: {error}")
            return None
        for series in answer:
            key, found = ask.prefix + bytes(series.metric), points(series)
            found = found[np.isfinite(found[:, 1])]
            if series.histograms:
                self._say("native histograms are not read; classic buckets of the same metric are, where there are any")
            if not len(found):
                continue
            one = seen.get(key) or seen.setdefault(key, _Seen(ask, labels_of(series.metric)))
            one.low, one.high = min(one.low, float(found[:, 1].min())), max(one.high, float(found[:, 1].max()))
            one.now = one.now or found[-1, 0] > end - LOOK_SECONDS
            behaviours.setdefault(one.metric, Behaviour()).add(found[:, 1], end)
            self._saw(float(found[0, 0]) - step)
        return None

    def _saw(self, unix_seconds: float) -> None:
        self.first_unix = unix_seconds if self.first_unix is None else min(unix_seconds, self.first_unix)

    def _judge(self, survey: tuple[dict[bytes, _Seen], dict[Metric, Behaviour]], long: bool) -> None:
        """Take up what moves, and remember what does not."""
        seen, behaviours = survey
        for metric, behaviour in behaviours.items():
            self._decide(metric, behaviour, long)
        groups: dict[Group, list[tuple[bytes, Raw, _Seen]]] = {}
        for key, one in seen.items():
            raw = self._raw(one.ask, one.labels, self._kinds[one.metric]) if one.now else None
            if raw is not None and key not in self.raws:
                groups.setdefault(raw.group, []).append((key, raw, one))
        for group, members in groups.items():
            for key in {*self._still_groups.get(group, ()), *(key for key, _, _ in members)} & self._still.keys():
                self._wake(key)
            asked = any(one.ask.number >= 0 for _, _, one in members)
            for key, raw, one in members:
                if asked or any(_moves(raw, one) for _, raw, one in members):
                    self._watch({key: raw})
                else:
                    self._rest(key, raw, one.high)

    def _decide(self, metric: Metric, behaviour: Behaviour, long: bool) -> None:
        """The kind of a metric, by its name, its type and what it does; said once where these do not agree."""
        number, name = metric
        said = self._metrics.kind_of(name) if name else Kind.GAUGE
        if said is Kind.SKIP and number >= 0:
            said = Kind.GAUGE  # somebody asked for it
        histogram = said is Kind.BUCKET or (said is Kind.COUNTER and name.endswith("_count"))
        plain = histogram or not name or ":" in name
        found = said if plain else behaviour.kind(said, name, long)
        if metric in self._sure:
            return
        if plain or behaviour.moves >= FEWEST_MOVES:
            self._sure.add(metric)
        if self._kinds.setdefault(metric, found) is not found:
            self._kinds[metric] = found
            self.drop([key for key, raw in self.raws.items() if raw.metric == name and key.startswith(b"%d " % number)])
        if {said, found} == {Kind.GAUGE, Kind.COUNTER}:
            does = "falls and is read as a gauge" if found is Kind.GAUGE else "only grows and is read as a counter"
            self._say(f"{name} is not what its type or name says: it {does}")

    def _raw(self, ask: Ask, labels: Mapping[str, str], kind: Kind) -> Raw | None:
        """What a series is read as; None if it is not to be."""
        if kind not in (Kind.GAUGE, Kind.COUNTER, Kind.BUCKET):
            return None
        own = self._options.queries[ask.number] if ask.number >= 0 else PrometheusQuery(query=ask.query)
        replicas = self._options.replica_labels
        entity, attributes = identify(labels, own.entity, replicas, self._nobody)
        metric = labels.get("__name__", "")
        feature = own.name or (metric.removesuffix("_bucket") if kind is Kind.BUCKET else metric) or own.query
        try:
            bound = float(labels["le"]) if kind is Kind.BUCKET else 0.0
        except (KeyError, ValueError):
            return None
        replica = ",".join(labels.get(name, "") for name in replicas)
        alone = tuple(sorted(pair for pair in labels.items() if pair[0] not in replicas))
        return Raw(kind, metric, feature, entity, attributes, own.unit, bound, replica.strip(","),
                   (ask.number, *alone), self._stride(labels))  # fmt: skip

    def _stride(self, labels: Mapping[str, str]) -> int:
        """Steps between two scrapes of a series' target."""
        return min(max(1, round(self._intervals.get(_target(labels), 0.0) / self.step_seconds)), MOST_STRIDE)

    def _watch(self, raws: Mapping[bytes, Raw]) -> None:
        self.raws |= raws
        self.version += 1

    def _rest(self, key: bytes, raw: Raw, value: float) -> None:
        """Remember a series that does not move."""
        self._still[key] = _Still(raw, value, self._look)
        self._still_groups.setdefault(raw.group, set()).add(key)

    def _wake(self, key: bytes) -> _Still:
        """Take one out of what does not move."""
        still = self._still.pop(key)
        keys = self._still_groups[still.raw.group]
        keys.remove(key)
        if not keys:
            del self._still_groups[still.raw.group]
        return still

    def _has_room(self, count: int) -> bool:
        """Whether so many more may be watched: series that come and go, such as those of pods, may double them."""
        if len(self.raws) + count <= 2 * self._options.max_series:
            return True
        self._say(f"new series are left out, since twice max_series ({self._options.max_series}) are read", "room")
        return False

    def _say(self, note: str, about: str = "") -> None:
        if (about or note) not in self._told and len(self._told) < 1000:
            self._told.add(about or note)
            self._notes.append(note)


def _moves(raw: Raw, seen: _Seen) -> bool:
    """Whether a series is worth watching: it moved, or its first move would matter (an error counter, `up`, a zero)."""
    return raw.kind is not Kind.GAUGE or seen.low != seen.high or seen.low == 0 or is_state(raw.metric)


def _target(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("job", ""), labels.get("instance", "")
