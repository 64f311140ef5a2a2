"""What is said of episodes: events of the alarm → alerts with labels, numbers and words, from opening to end."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec

from foreshock.incident import alarm_kernel as kernel
from foreshock.incident import words
from foreshock.incident.words import Band
from foreshock.state import Registry
from foreshock.types import Alert, AlertKind, Labels, Rows, Status, Verdict, labels, rfc3339

ANOMALY, THRESHOLD, SILENCE = (str(kind) for kind in (AlertKind.ANOMALY, AlertKind.THRESHOLD, AlertKind.SILENCE))
NAMES = {ANOMALY: "ForeshockAnomaly", THRESHOLD: "ForeshockThreshold", SILENCE: "ForeshockSilent"}
OWN_LABELS = ("alertname", "feature", "severity")
TOP = 3
LEAST_SHARE = 0.01


class Step(NamedTuple):
    """The rows of one step with their verdicts, by part played."""

    rows: Rows
    primary: tuple[Verdict, ...]
    limits: tuple[Verdict, ...]
    whole: tuple[Verdict, ...]


class Story(msgspec.Struct):
    """What has been said of an open episode.

    `source` is the series it is about, −1 = none; `together`: only the features together raised it; `low`, `high`,
    `expected` the band as last said; `heard` when a silent entity last had data; `measure` what it is about where
    that is not the value.
    """

    kind: str
    labels: Labels
    annotations: dict[str, str]
    starts: int
    decided: int
    strength: float = 0.0
    source: int = -1
    together: bool = False
    low: float = math.nan
    high: float = math.nan
    expected: float = math.nan
    heard: int = 0
    measure: str = ""

    def firing(self) -> Alert:
        """The alert, open."""
        return self._alert(None, self.decided)

    def resolved(self, ends: int, decided: int) -> Alert:
        """The alert, closed; never decided before it was opened."""
        return self._alert(ends, max(decided, self.decided))

    def _alert(self, ends: int | None, decided: int) -> Alert:
        notes = labels(self.annotations)
        return Alert(self.labels, notes, self.starts, decided, AlertKind(self.kind), self.strength, ends)


class Teller:
    """Keeps the story of each open episode, by kind and slot, and tells what happens to it.

    Slots are of entities, for thresholds of series. An alert is critical from `critical_ratio` times its level on.
    """

    def __init__(self, registry: Registry, critical_ratio: float, silence: bool) -> None:
        self.registry, self.silence = registry, silence
        self._critical = math.log(critical_ratio)
        self._stories: dict[str, dict[int, Story]] = {kind: {} for kind in NAMES}

    def encode(self) -> bytes:
        """All stories."""
        return msgspec.msgpack.encode(self._stories)

    def decode(self, data: bytes) -> None:
        """Take over what `encode` gave."""
        self._stories = _STORIES.decode(data)

    def forget(self, entity: int, series: list[int]) -> None:
        """Drop the stories of an entity and its series, unsaid."""
        self._stories[ANOMALY].pop(entity, None)
        self._stories[SILENCE].pop(entity, None)
        for slot in series:
            self._stories[THRESHOLD].pop(slot, None)

    def tell(self, step: Step, event: Any) -> list[Alert]:
        """The alert that one `EVENT` of the kernel makes, if any."""
        kind, row, cell = int(event["kind"]), int(event["row"]), int(event["cell"])
        slot = int(step.rows.entity[row])
        if kind == kernel.OPENED:
            return [self._open(step, row, cell, event)]
        if kind == kernel.GREW:
            return [self._grow(step, row, cell, event)]
        if kind in (kernel.CLOSED, kernel.EXCLUDED):
            return self._close(ANOMALY, slot, step, row, cell, event)
        if kind == kernel.LIMIT_OPENED:
            return [self._open_limit(step, row, cell, event)]
        if kind in (kernel.LIMIT_CLOSED, kernel.LIMIT_EXCLUDED):
            return self._close(THRESHOLD, int(step.rows.series[cell]), step, row, cell, event)
        if kind == kernel.SILENT:
            return [self._fall_silent(step, row, event)] if self.silence else []
        return self._hear(slot, step, row)

    def _begin(self, kind: str, entity: Labels, step: Step, row: int, source: int, strength: float) -> Story:
        own = {"alertname": NAMES[kind], "severity": "critical" if strength >= self._critical else "warning"}
        if source >= 0:
            own["feature"] = self.registry.series[source].feature
        starts, decided = int(step.rows.time_unix_nano[row]), int(step.rows.end_unix_nano[row])
        return Story(kind, alert_labels(entity, own), {}, starts, decided, strength, source)

    def _open(self, step: Step, row: int, cell: int, event: Any) -> Alert:
        slot = int(step.rows.entity[row])
        source = int(step.rows.series[cell]) if cell >= 0 else -1
        story = self._begin(ANOMALY, self.registry.entities[slot], step, row, source, float(event["excess"]))
        story.together = bool(event["by_mv"])
        self._describe(story, step, row, cell)
        story.annotations["flapping"] = flag(event["flapping"])
        self._stories[ANOMALY][slot] = story
        return story.firing()

    def _grow(self, step: Step, row: int, cell: int, event: Any) -> Alert:
        story = self._stories[ANOMALY][int(step.rows.entity[row])]
        story.strength, story.decided = float(event["excess"]), int(step.rows.end_unix_nano[row])
        self._describe(story, step, row, cell)
        story.annotations["flapping"] = flag(event["flapping"])
        return story.firing()

    def _describe(self, story: Story, step: Step, row: int, cell: int) -> None:
        """Write into a story what its row shows; where its source is not judged there, the value stays as last said."""
        notes = story.annotations
        notes |= {"strength": figure(story.strength), "contributions": self._contributions(story, step, row)}
        shown = strongest(step.primary, cell)
        found, at = (strongest(step.whole, row), row) if story.together else (shown, cell)
        if found is not None:
            notes |= {"detector": found.detector, **figures(score=found.score[at], p_value=found.p_value[at])}
        who = words.entity(self.registry.entities[int(step.rows.entity[row])])
        if shown is not None:
            series, value = self.registry.series[story.source], float(step.rows.value[cell])
            band = words.band_of_share(series, value, band_of(shown, cell))
            story.low, story.high, story.expected = band
            notes |= observed(value, band, series.unit)
            seen = None if story.together else measured(shown, cell)
            story.measure = shown.measure if seen else ""
            if story.together:
                notes["summary"] = words.together(who, words.metric(series), value, series.unit, story.starts)
            elif seen:
                # A value that does not move, or not as it should, is neither above nor below anything.
                notes.pop("direction", None)
                now = int(step.rows.time_unix_nano[row])
                notes["summary"] = words.measured(shown.measure, words.title(series), value, series.unit, *seen, now)
            else:
                notes["summary"] = words.noticed(words.title(series), value, band, series.unit, story.starts)
        elif "summary" not in notes:
            notes["summary"] = words.together(who, "", math.nan, "", story.starts)
        notes["description"] = words.description(story.starts, notes)

    def _contributions(self, story: Story, step: Step, row: int) -> str:
        """At most three features with the largest score ÷ bar, each with its share of the sum of all, from 1 % on.

        Of those whose share is written alike the first one stands first, as errors before the answers that they cost.
        Where the features together raised the alert, and the detector says it: with the largest part in its score.
        """
        rows = step.rows
        found = strongest(step.whole, row) if story.together else None
        parts = None if found is None else found.contribution
        ratios: list[tuple[float, int]] = []
        for cell in range(int(rows.start[row]), int(rows.start[row + 1])):
            own = strongest(step.primary, cell)
            if parts is not None and found is not None and found.anomalous[row]:
                if parts[cell] > 0:
                    ratios.append((float(parts[cell]), cell))
            elif own is not None:
                ratios.append((math.exp(bounded(own.strength[cell])), cell))
        total = sum(ratio for ratio, _ in ratios)
        shares = sorted((-round(100 * ratio / total), cell) for ratio, cell in ratios if ratio >= LEAST_SHARE * total)
        return ", ".join(
            f"{self.registry.series[int(rows.series[cell])].feature}={-share} %" for share, cell in shares[:TOP]
        )

    def _open_limit(self, step: Step, row: int, cell: int, event: Any) -> Alert:
        found = strongest(tuple(verdict for verdict in step.limits if verdict.anomalous[cell]), cell)
        assert found is not None, "a limit was passed, so a detector found it"
        slot, value, band = int(step.rows.series[cell]), float(step.rows.value[cell]), band_of(found, cell)
        series, strength = self.registry.series[slot], max(0.0, bounded(found.strength[cell]))
        story = self._begin(THRESHOLD, series.entity, step, row, slot, strength)
        story.low, story.high, story.expected = band
        story.annotations |= {
            "summary": words.over_limit(words.title(series), value, band, series.unit, story.starts),
            "detector": found.detector,
            "strength": figure(strength),
            "flapping": flag(event["flapping"]),
            **figures(score=found.score[cell], p_value=found.p_value[cell]),
            **observed(value, band, series.unit),
        }
        story.annotations["description"] = words.description(story.starts, story.annotations)
        self._stories[THRESHOLD][slot] = story
        return story.firing()

    def _close(self, kind: str, slot: int, step: Step, row: int, cell: int, event: Any) -> list[Alert]:
        story = self._stories[kind].pop(slot, None)
        if story is None:
            return []
        ends = int(step.rows.end_unix_nano[row])
        seconds = (ends - story.starts) / 1e9
        value = float(step.rows.value[cell]) if cell >= 0 else math.nan
        peak = float(event["low"] if story.annotations.get("direction") == "below" else event["high"])
        story.annotations |= {
            "flapping": flag(event["flapping"]),
            "duration_seconds": f"{seconds:.12g}",
            **figures(observed=value, peak_observed=peak),
        }
        series = self.registry.series[story.source] if story.source >= 0 and not story.together else None
        who = words.entity(self.registry.entities[int(step.rows.entity[row])])
        what, unit = (words.title(series), series.unit) if series else (who, "")
        if event["kind"] in (kernel.EXCLUDED, kernel.LIMIT_EXCLUDED):
            summary = words.in_maintenance(what, seconds)
            story.annotations["closed_by"] = "maintenance"
        else:
            band = Band(story.low, story.high, story.expected)
            back = band.distance(value) <= 0.5 * band.distance(peak)
            if story.measure:
                summary = words.as_usual(story.measure, what, value, unit, seconds)
            else:
                summary = words.resolved(what, value if series else math.nan, unit, seconds, back)
        story.annotations["summary"] = summary
        return [story.resolved(ends, ends)]

    def _fall_silent(self, step: Step, row: int, event: Any) -> Alert:
        slot = int(step.rows.entity[row])
        entity = self.registry.entities[slot]
        story = self._begin(SILENCE, entity, step, row, -1, 0.0)
        story.heard = story.starts if event["heard"] == kernel.NEVER else min(int(event["heard"]), story.starts)
        story.annotations |= {
            "summary": words.silent(words.entity(entity), story.heard, float(event["step"]) / 1e9),
            "description": words.last_heard(story.heard),
            "last_seen": rfc3339(story.heard),
        }
        self._stories[SILENCE][slot] = story
        return story.firing()

    def _hear(self, slot: int, step: Step, row: int) -> list[Alert]:
        story = self._stories[SILENCE].pop(slot, None)
        if story is None:
            return []
        ends = int(step.rows.time_unix_nano[row])
        who = words.entity(self.registry.entities[slot])
        story.annotations["summary"] = words.heard(who, (ends - story.heard) / 1e9)
        story.annotations["duration_seconds"] = f"{(ends - story.starts) / 1e9:.12g}"
        return [story.resolved(ends, int(step.rows.end_unix_nano[row]))]


_STORIES = msgspec.msgpack.Decoder(dict[str, dict[int, Story]])


def alert_labels(entity: Labels, own: dict[str, str]) -> Labels:
    """The labels of an alert: its own, and its entity's under names that Prometheus accepts.

    An entity's label that would take the name of an alert's own becomes `entity_<name>`.

    >>> alert_labels((("host.name", "a1"),), {"alertname": "ForeshockSilent"})
    (('alertname', 'ForeshockSilent'), ('host_name', 'a1'))
    """
    out = dict(own)
    for name, value in entity:
        safe = words.safe_name(name)
        if safe in OWN_LABELS:
            safe = f"entity_{safe}"
        while safe in out:
            safe += "_"
        out[safe] = value
    return labels(out)


def entity_labels(alert: Labels) -> Labels:
    """What names the entity among an alert's labels."""
    return tuple(pair for pair in alert if pair[0] not in OWN_LABELS)


def watchdog(environment: str, now_unix_nano: int, started_unix_nano: int | None = None) -> Alert:
    """The alert that always fires, so that its absence says that nobody watches.

    It stands outside of the deterministic stream: the runtime sends it with its own clock.
    """
    own = {"alertname": "ForeshockWatchdog", "severity": "none", "environment": environment}
    summary = "Foreshock is alive; this alert always fires, and its absence means that nobody watches"
    starts = now_unix_nano if started_unix_nano is None else started_unix_nano
    return Alert(labels(own), (("summary", summary),), starts, now_unix_nano, AlertKind.WATCHDOG)


def strongest(verdicts: tuple[Verdict, ...], at: int) -> Verdict | None:
    """The verdict with the largest strength at a cell or row, the first of equals; None where none is scored."""
    best: Verdict | None = None
    for verdict in verdicts:
        if at < 0 or verdict.status[at] != Status.SCORED or math.isnan(verdict.strength[at]):
            continue
        if best is None or verdict.strength[at] > best.strength[at]:
            best = verdict
    return best


def band_of(verdict: Verdict, at: int) -> Band:
    """The band that a verdict gives at a cell."""
    return Band(float(verdict.low[at]), float(verdict.high[at]), float(verdict.expected[at]))


def measured(verdict: Verdict, at: int) -> tuple[float, float] | None:
    """What a detector measured of a cell other than its value, and what is usual; None where there is none."""
    if verdict.measured is None or verdict.measure not in words.MEASURES:
        return None
    seen, usual = (float(number) for number in verdict.measured[:, at])
    return (seen, usual) if math.isfinite(seen) and math.isfinite(usual) else None


def bounded(strength: float) -> float:
    """A strength as the kernel sees it; NaN counts as 0."""
    value = float(strength)
    return 0.0 if math.isnan(value) else min(max(value, -kernel.STRONGEST), kernel.STRONGEST)


def figure(value: float) -> str:
    """A number in an annotation."""
    return f"{float(value):.9g}"


def figures(**values: float) -> dict[str, str]:
    """Numbers as annotations, those that are known."""
    return {name: figure(value) for name, value in values.items() if math.isfinite(value)}


def flag(value: Any) -> str:
    """A truth value in an annotation."""
    return "true" if value else "false"


def observed(value: float, band: Band, unit: str) -> dict[str, str]:
    """What was seen and what was expected, as annotations."""
    known = figures(observed=value, expected_low=band.low, expected_high=band.high, expected=band.expected)
    return known | {"unit": unit, "direction": band.direction(value)}
