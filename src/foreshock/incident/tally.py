"""How often each detector was right: its episodes, entity by entity, held against labels.

An episode of a detector is a stretch of an entity's rows that it found anomalous: it begins with one such row and ends
after `alarm.close_after` rows in a row without. Episodes of shadows count like those of primary detectors.

Labels cover stretches of time of entities, and say of them that something was wrong (`true`) or that all was well
(`false`); a label of an alert covers its entity while it fired. An episode that overlaps a `true` label is a true
positive, at once; one that has ended and overlaps only `false` ones is a false positive; one that no label covers is
neither. A label that comes later counts the recent episodes of its entities anew: the last `KEPT` of a detector and
entity. Of two labels of the same stretch the later one holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from foreshock.incident.story import alert_labels, entity_labels
from foreshock.state import Registry, State
from foreshock.telemetry import DROPPED, EPISODES, FALSE_POSITIVES, TRUE_POSITIVES, model_of
from foreshock.types import Alert, Columns, Control, ControlKind, Labels, Rows, Status, Verdict, label_text, labels

KEPT = 8
"""Episodes of a detector and entity that a later label can still count anew."""
MOST_LABELS, MOST_ALERTS = 20_000, 2_000
TRUE, FALSE = "true", "false"


class Counts(msgspec.Struct):
    """Episodes of a detector, and what labels say of them; `episodes` less both others are those without a label."""

    episodes: int = 0
    true_positives: int = 0
    false_positives: int = 0


class Episode(msgspec.Struct, array_like=True):
    """Event time [starts, ends); `calm` rows since; `label` is `true`, `false` or, while nothing is said, empty."""

    starts: int
    ends: int
    calm: int = 0
    open: bool = True
    label: str = ""


class Label(msgspec.Struct, array_like=True, frozen=True):
    """Event time [since, until) of the entities that carry all `matchers`; `until` 0 = open end."""

    since: int
    until: int
    matchers: Labels
    true: bool

    def overlaps(self, episode: Episode) -> bool:
        """Whether it covers any of an episode."""
        return self.since < episode.ends and (not self.until or self.until > episode.starts)


class Memory(msgspec.Struct):
    """All that is remembered; `recent` by detector and slot of the entity, `alerts` by episode id: whose, from, to."""

    counts: dict[str, Counts] = {}
    recent: dict[str, dict[int, list[Episode]]] = {}
    labels: dict[str, Label] = {}
    alerts: dict[str, tuple[Labels, int, int]] = {}


_MEMORY = msgspec.msgpack.Decoder(Memory)


class Tally:
    """Operator: counts what each detector found and, where labels tell, whether it was right; changes nothing.

    `detectors` are the names to count under from the start, `close_after` rows without an anomaly end an episode.
    """

    name = "tally"

    def __init__(self, registry: Registry, detectors: Iterable[str], close_after: int) -> None:
        self.registry, self.close_after = registry, close_after
        self._memory = Memory({name: Counts() for name in detectors}, {name: {} for name in detectors})
        self._derive()

    def _derive(self) -> None:
        """What follows from the memory: open episodes, labels by whom they are about, names of entities."""
        self._open: dict[str, dict[int, Episode]] = {
            name: {slot: one for slot, found in slots.items() for one in found if one.open}
            for name, slots in self._memory.recent.items()
        }
        self._about: dict[Labels, dict[str, Label]] = {}
        for key, label in self._memory.labels.items():
            self._about.setdefault(label.matchers, {})[key] = label
        self._names: dict[int, frozenset[tuple[str, str]]] = {}
        self._labels_of: dict[int, list[dict[str, Label]]] = {}

    def process(self, columns: Columns) -> Columns:
        """Take in labels, alerts and verdicts; the columns as they came."""
        for control in columns.controls:
            if control.kind is ControlKind.LABEL:
                self._hear(control)
        for alert in columns.alerts:
            self._note(alert)
        if len(columns.rows):
            for verdict in columns.verdicts:
                self._follow(columns.rows, verdict)
        return columns

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Nothing: rows alone decide."""
        return Columns()

    def counts(self) -> dict[str, Counts]:
        """The counts of each detector, as they stand."""
        return {name: msgspec.structs.replace(one) for name, one in self._memory.counts.items()}

    def open(self) -> dict[str, int]:
        """How many entities each detector finds anomalous now."""
        return {name: len(episodes) for name, episodes in self._open.items()}

    def forget(self, entity: int, series: Any) -> None:
        """Drop the episodes of an entity; what was counted stays."""
        for name, slots in self._memory.recent.items():
            slots.pop(entity, None)
            self._open[name].pop(entity, None)

    def state(self) -> State:
        """Counts, recent episodes, labels."""
        return State(1, {}, {}, {}, {"memory": [msgspec.msgpack.encode(self._memory)]})

    def load(self, state: State) -> None:
        """Take over what `state` gave."""
        self._memory = _MEMORY.decode(state.blobs["memory"][0])
        self._derive()

    def adopt(self, other: Tally) -> None:
        """Take over the labels of a tally of other settings: they are facts, whoever is measured by them."""
        self._memory.labels, self._memory.alerts = dict(other._memory.labels), dict(other._memory.alerts)
        self._derive()

    # -- episodes ------------------------------------------------------------------------------------------------

    def _follow(self, rows: Rows, verdict: Verdict) -> None:
        name = verdict.detector
        ongoing = self._open.get(name)
        if ongoing is None:
            self._memory.counts[name], self._memory.recent[name] = Counts(), {}
            ongoing = self._open[name] = {}
        if not ongoing and not verdict.anomalous.any():
            return
        at = np.flatnonzero(verdict.anomalous)
        over = np.zeros(len(rows), np.bool_)
        over[at if verdict.whole else np.searchsorted(rows.start, at, "right") - 1] = True
        concerned = np.unique(np.append(rows.entity[over], np.array(list(ongoing), np.int32)))
        for row in np.flatnonzero(np.isin(rows.entity, concerned)).tolist():
            slot = int(rows.entity[row])
            episode = ongoing.get(slot)
            if over[row]:
                ends = int(rows.end_unix_nano[row])
                if episode is None:
                    self._begin(name, slot, Episode(int(rows.time_unix_nano[row]), ends))
                else:
                    episode.ends, episode.calm = ends, 0
                    if episode.label != TRUE:
                        self._settle(name, slot, episode)
            elif episode is not None:
                self._calm(name, slot, episode, int(rows.status[row]))

    def _begin(self, name: str, slot: int, episode: Episode) -> None:
        found = self._memory.recent[name].setdefault(slot, [])
        found.append(episode)
        del found[:-KEPT]
        self._open[name][slot] = episode
        self._memory.counts[name].episodes += 1
        EPISODES.labels(model_of(name)).inc()
        self._settle(name, slot, episode)

    def _calm(self, name: str, slot: int, episode: Episode, status: int) -> None:
        """A row without an anomaly: one that stands for a gap says nothing, one in maintenance ends it."""
        if status == Status.SCORED:
            episode.calm += 1
        if episode.calm >= self.close_after or status == Status.EXCLUDED:
            episode.open = False
            del self._open[name][slot]
            self._settle(name, slot, episode)

    def _settle(self, name: str, slot: int, episode: Episode) -> None:
        """Bring the counts in line with what labels say of an episode now."""
        now = self._label_of(slot, episode)
        if now == episode.label:
            return
        counts = self._memory.counts[name]
        counts.true_positives += (now == TRUE) - (episode.label == TRUE)
        counts.false_positives += (now == FALSE) - (episode.label == FALSE)
        episode.label = now
        if now:
            (TRUE_POSITIVES if now == TRUE else FALSE_POSITIVES).labels(model_of(name)).inc()

    def _label_of(self, slot: int, episode: Episode) -> str:
        about = self._labels_of.get(slot)
        if about is None:
            about = self._labels_of[slot] = [group for key, group in self._about.items() if self._carries(slot, key)]
        said = [label.true for group in about for label in group.values() if label.overlaps(episode)]
        if any(said):
            return TRUE
        return FALSE if said and not episode.open else ""

    # -- labels --------------------------------------------------------------------------------------------------

    def _note(self, alert: Alert) -> None:
        """Remember whom an alert is about, and when: a label may name it later, or has while it fired."""
        alerts, episode = self._memory.alerts, alert.episode
        ends = alert.ends_unix_nano or 0
        alerts[episode] = (entity_labels(alert.labels), alert.starts_unix_nano, ends)
        if len(alerts) > MOST_ALERTS:
            del alerts[next(iter(alerts))]
        before = self._memory.labels.get(episode)
        if before is not None and ends:
            self._put(episode, Label(before.since, ends, before.matchers, before.true))

    def _hear(self, control: Control) -> None:
        """Take a label; one that is neither `true` nor `false` withdraws what was said of the same stretch."""
        key, (matchers, since, until) = self._stretch(control)
        if control.episode and not since:
            DROPPED.labels("label_unknown_episode").inc()
            return
        known = control.label in (TRUE, FALSE)
        self._put(key, Label(since, until, matchers, control.label == TRUE) if known else None)

    def _stretch(self, control: Control) -> tuple[str, tuple[Labels, int, int]]:
        if control.episode:
            return control.episode, self._memory.alerts.get(control.episode, ((), 0, 0))
        matchers, since, until = labels(control.matchers), control.effective_unix_nano, control.until_unix_nano
        return f"{since} {until} {label_text(matchers)}", (matchers, since, until)

    def _put(self, key: str, label: Label | None) -> None:
        """Set or withdraw a label, and count anew the recent episodes that it is about."""
        known = self._memory.labels
        before = known.pop(key, None)
        if before is not None:
            self._drop(key, before)
        if label is not None:
            known[key] = label
            if label.matchers not in self._about:
                self._about[label.matchers] = {}
                self._labels_of.clear()
            self._about[label.matchers][key] = label
            if len(known) > MOST_LABELS:
                oldest = next(iter(known))
                self._drop(oldest, known.pop(oldest))
                DROPPED.labels("label_forgotten").inc()
        changed = label or before
        if changed is not None:
            self._count_anew(changed.matchers)

    def _drop(self, key: str, label: Label) -> None:
        group = self._about[label.matchers]
        del group[key]
        if not group:
            del self._about[label.matchers]
            self._labels_of.clear()

    def _count_anew(self, matchers: Labels) -> None:
        for name, slots in self._memory.recent.items():
            for slot in sorted(slots):
                if self._carries(slot, matchers):
                    for episode in slots[slot]:
                        self._settle(name, slot, episode)

    def _carries(self, slot: int, matchers: Labels) -> bool:
        """Whether an entity carries all these labels, by their own names or as alerts write them."""
        own = self._names.get(slot)
        if own is None:
            entity = self.registry.entities[slot]
            own = self._names[slot] = frozenset(entity) | frozenset(alert_labels(entity, {}))
        return all(pair in own for pair in matchers)
