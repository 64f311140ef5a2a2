"""The environment's budget: which of all alerts are worth a notification, in one order, by event time.

An alert opens or extends a group if it reaches a level that follows the environment's own past: the 67 % quantile, over
blocks of 2 ÷ budget days, of a block's third-highest hourly peak, and that of the open block if it is higher already
(ADR 17); capped so that a time rich in incidents does not deafen. In a large environment an entity that has notified
pays a price: it must top itself, the less the longer ago. What comes each day or each week at the same time must top
what it was then (ADR 20). Construction and constants were measured (CONTRACTS §9, ADR 11); what does not notify stays
visible, unannounced.

Order: (decided, entity, key, startsAt, firing before resolved, strength), which no two alerts share. Between alerts of
the same moment entities that are present come first. It depends on the alerts alone, not on how they came in.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.incident.alarm_kernel import LEAST_RATE, TYPICAL_ROWS_PER_DAY
from foreshock.incident.alarm_prices import DAY, HOUR, LN_AGAIN
from foreshock.incident.arithmetic import level_cap, theta0
from foreshock.incident.story import entity_labels
from foreshock.incident.words import safe_name
from foreshock.state import State
from foreshock.telemetry import DROPPED, ERRORS
from foreshock.types import Alert, AlertKind, Columns, Control, ControlKind, digest, label_text, labels
from foreshock.types.units import Options

MINUTE = HOUR // 60
GROUP_GAP, GROUP_MOST = 10 * MINUTE, HOUR
AGAIN = 5 * MINUTE
"""A group that grows notifies again, but not so soon after it has: whoever was told is looking at it."""
BLOCK_DAYS = 2.0
QUANTILE = 0.67
NTH_PEAK = 3
HALF_LIFE_DAYS = 30.0
PRIOR_BLOCKS = 2.0
KEPT_DAYS, MOST_BLOCKS = 240, 5000
"""Eight half-lives: what lies further back weighs nothing."""
HOURS_A_BLOCK = 24
ACHIEVED_DAYS = 30
PRESENT_DAYS = 2
FIRST_DAYS, FIRST_FACTOR = 7, 3.0
SILENCES = 3
SHARES = 10.0
"""An entity may notify so many times as often as its share of the budget would let it, and then pays."""
FREE_DAYS, MOST_DAYS = 1.5, 60.0
"""What it pays halves in the days that one such notification takes, less the first and at most the second."""
PERIODS, WIDE = (DAY, 7 * DAY), 15 * MINUTE
CYCLES, ENOUGH = 3, 2
"""An alert is usual at a time if it began within `WIDE` of it in `ENOUGH` of the last `CYCLES` days, or weeks."""
MOST_TIMES = 64
"""Times remembered of an alert."""
MOST_EPISODES, MOST_CONTROLS = 100_000, 10_000


class BudgetOptions(Options):
    """How many notifications a day somebody will bear."""

    environment: float = Field(default=2.0, gt=0, description="Notifications a day of the whole environment.")
    entity: float = Field(
        default=0.2, gt=0, description="Alerts a day of one entity; those below the environment's level do not notify."
    )
    notify_silence: bool = Field(
        default=True, description="Whether an entity that stops sending notifies; its alert is visible either way."
    )


class Achieved(NamedTuple):
    """Notifications a day over the last 30 days with scored rows, and the same ÷ budget.

    `entity` counts alerts an entity and day before the environment's budget; NaN where there was no such day.
    """

    environment: float
    entity: float
    environment_ratio: float
    entity_ratio: float


class Group(msgspec.Struct):
    """An incident-to-be: alerts close together in time; `told`: when it notified last."""

    id: str
    started: int
    last: int
    peak: float
    count: int = 0
    told: int | None = None

    def holds(self, now: int) -> bool:
        """Whether an alert at this time still belongs to it: 10 min gap, 1 h at most."""
        return now - self.last <= GROUP_GAP and now - self.started < GROUP_MOST


class Episode(msgspec.Struct):
    """What was decided on an episode when it opened."""

    notified: bool
    group: str
    silenced: str = ""


class Day(msgspec.Struct):
    """Counts of a UTC day."""

    present: int = 0
    opened: int = 0
    notified: int = 0


class Price(msgspec.Struct):
    """What an entity that has notified must reach more than others, at a time."""

    value: float
    time: int


class Memory(msgspec.Struct):
    """All that the budget remembers; plain and bounded.

    `seen`: last day of presence by entity; `peaks`: largest strength by hour of the open block; `blocks`: (block, third
    peak) of closed ones; `first` when the environment was first heard of; `top_day`, `top_count`, `top`: day since
    then, its notifications and its largest strength; `prices` by entity; `came`: when an alert (its labels but for the
    severity) began, and how strong it was.
    """

    watermark: int = -(1 << 63)
    now: int = -(1 << 63)
    first: int | None = None
    seen: dict[str, int] = {}
    days: dict[int, Day] = {}
    peaks: dict[int, float] = {}
    blocks: list[tuple[int, float]] = []
    next_block: int = 0
    top_day: int = -1
    top_count: int = 0
    top: float = 0.0
    group: Group | None = None
    silences: Group | None = None
    episodes: dict[str, Episode] = {}
    controls: dict[str, Control] = {}
    late_alerts: int = 0
    prices: dict[str, Price] = {}
    came: dict[str, list[tuple[int, float]]] = {}


_MEMORY = msgspec.msgpack.Decoder(Memory)
_WAITING = msgspec.msgpack.Decoder(tuple[list[tuple[int, str, int]], list[Alert]])


class Budget:
    """Operator of the environment task: alerts in → the same alerts, in order, with `notified` and `group`.

    A firing state of an episode that was already told is dropped, unless it has grown enough to notify now. An alert
    decided before the last watermark is late: passed on unannounced and counted in `late_alerts` (CONTRACTS §2).
    """

    name = "budget"

    def __init__(self, options: BudgetOptions, environment: str) -> None:
        self.options, self.environment = options, environment
        self._memory = Memory()
        self._presence: list[tuple[int, str, int]] = []
        self._alerts: list[tuple[tuple[int, str, str, int, bool, float], int, Alert]] = []
        self._arrivals = 0
        # The level that the past gives, and its cap.
        self._level: tuple[float, float] | None = None
        block = BLOCK_DAYS / options.environment * DAY
        self._hour = max(min(HOUR, round(block / HOURS_A_BLOCK)), MINUTE // 60)
        self._hours = max(round(block / self._hour), NTH_PEAK)
        self._block = self._hour * self._hours

    @property
    def late_alerts(self) -> int:
        """Alerts that came after the watermark had passed them."""
        return self._memory.late_alerts

    def process(self, columns: Columns) -> Columns:
        """Take in alerts, presence and control records; they are decided on when the watermark passes."""
        for control in columns.controls:
            if control.kind in (ControlKind.SILENCE, ControlKind.MAINTENANCE):
                self._memory.controls.pop(control.id, None)
                self._memory.controls[control.id] = control
                keep(self._memory.controls, MOST_CONTROLS, "control")
        for one in columns.presence:
            heapq.heappush(self._presence, (one.decided_unix_nano, one.entity, one.day))
        for alert in columns.alerts:
            self._arrivals += 1
            heapq.heappush(self._alerts, (order(alert), self._arrivals, alert))
        return Columns()

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Decide on all alerts decided up to this time, in order."""
        out: list[Alert] = []
        while self._alerts and self._alerts[0][2].decided_unix_nano <= time_unix_nano:
            alert = heapq.heappop(self._alerts)[2]
            self._take_presence(alert.decided_unix_nano)
            out += self._decide(alert)
        self._take_presence(time_unix_nano)
        memory = self._memory
        memory.watermark = max(memory.watermark, time_unix_nano)
        over = [c.id for c in memory.controls.values() if c.until_unix_nano and c.until_unix_nano <= time_unix_nano]
        for name in over:
            del memory.controls[name]
        return Columns(alerts=tuple(out))

    def forget(self, entity: int, series: NDArray[np.int32]) -> None:
        """Nothing: what was said of an entity stays part of the environment's past."""

    def achieved(self) -> Achieved:
        """What was notified, against the budgets."""
        memory = self._memory
        last = memory.now // DAY
        days = [day for number, day in memory.days.items() if last - ACHIEVED_DAYS < number <= last]
        present = sum(day.present > 0 for day in days)
        if not present:
            return Achieved(math.nan, math.nan, math.nan, math.nan)
        environment = sum(day.notified for day in days) / present
        entity = sum(day.opened for day in days) / sum(day.present for day in days)
        return Achieved(environment, entity, environment / self.options.environment, entity / self.options.entity)

    def level(self) -> float:
        """The strength that an alert of an entity without a price must reach now to open or extend a group."""
        if self._level is None:
            self._level = self._find_level()
        level, cap = self._level
        memory = self._memory
        current = memory.now // self._block
        open_block = [peak for hour, peak in memory.peaks.items() if hour // self._hours == current]
        if len(open_block) < NTH_PEAK:
            return level
        return max(level, min(sorted(open_block)[-NTH_PEAK], cap))

    def state(self) -> State:
        """All it remembers, and what waits for the watermark."""
        alerts = [alert for _, _, alert in sorted(self._alerts, key=lambda entry: entry[:2])]
        waiting = msgspec.msgpack.encode((sorted(self._presence), alerts))
        return State(1, {}, {}, {}, {"memory": [msgspec.msgpack.encode(self._memory)], "waiting": [waiting]})

    def load(self, state: State) -> None:
        """Take over what `state` gave."""
        self._memory = _MEMORY.decode(state.blobs["memory"][0])
        self._presence, alerts = _WAITING.decode(state.blobs["waiting"][0])
        self._alerts = [(order(alert), number, alert) for number, alert in enumerate(alerts)]
        self._arrivals = len(alerts)
        self._level = None

    def _take_presence(self, until: int) -> None:
        memory = self._memory
        while self._presence and self._presence[0][0] <= until:
            decided, entity, day = heapq.heappop(self._presence)
            self._advance(decided)
            if memory.seen.get(entity, day - 1) < day:
                memory.seen[entity] = day
                memory.days.setdefault(day, Day()).present += 1
                self._level = None

    def _advance(self, now: int) -> None:
        """Move event time on: close blocks, let go of what is too old."""
        memory = self._memory
        if now <= memory.now:
            return
        if memory.first is None:
            memory.first, memory.next_block = now, now // self._block
        yesterday, memory.now = memory.now // DAY, now
        if now // self._block > memory.next_block:
            self._close_blocks(now // self._block)
        if now // DAY > yesterday:
            self._level = None
            oldest, recent = now // DAY - KEPT_DAYS, now // DAY - PRESENT_DAYS
            memory.days = {number: day for number, day in memory.days.items() if number > oldest}
            memory.seen = {entity: day for entity, day in memory.seen.items() if day > recent}
            memory.prices = {
                entity: price for entity, price in memory.prices.items() if self._price(entity, now) > 0.01
            }
            since = now - CYCLES * max(PERIODS) - WIDE
            memory.came = {name: times for name, times in memory.came.items() if times[-1][0] >= since}

    def _close_blocks(self, current: int) -> None:
        """Keep the third-highest hourly peak of each block before `current` in which somebody was present."""
        memory = self._memory
        oldest = current - min(KEPT_DAYS * DAY // self._block, MOST_BLOCKS)
        memory.blocks = [entry for entry in memory.blocks if entry[0] >= oldest]
        peaks: dict[int, list[float]] = {}
        for hour, peak in memory.peaks.items():
            peaks.setdefault(hour // self._hours, []).append(peak)
        for block in range(max(memory.next_block, oldest), current):
            days = range(block * self._block // DAY, ((block + 1) * self._block - 1) // DAY + 1)
            if block in peaks or any(day in memory.days and memory.days[day].present for day in days):
                highest = sorted(peaks.get(block, []), reverse=True)
                memory.blocks.append((block, highest[NTH_PEAK - 1] if len(highest) >= NTH_PEAK else 0.0))
        memory.peaks = {hour: peak for hour, peak in memory.peaks.items() if hour // self._hours >= current}
        memory.next_block = current
        self._level = None

    def _find_level(self) -> tuple[float, float]:
        memory = self._memory
        share = max(len(memory.seen), 1) * self.options.entity / self.options.environment
        rate = max(TYPICAL_ROWS_PER_DAY / self.options.entity, LEAST_RATE)
        base = theta0(share, rate)
        first = (memory.first or 0) // self._block
        fading = self._block / DAY / HALF_LIFE_DAYS
        weighted = [(peak, 0.5 ** ((memory.next_block - block) * fading)) for block, peak in memory.blocks]
        weighted.append((base, PRIOR_BLOCKS * 0.5 ** ((memory.next_block - first) * fading)))
        cap = level_cap(share, rate)
        return min(quantile(weighted, QUANTILE), cap), cap

    def _price(self, entity: str, now: int) -> float:
        """What an entity pays now for having notified before; nothing where there are few entities."""
        price = self._memory.prices.get(entity)
        days = min(len(self._memory.seen) / (SHARES * self.options.environment) - FREE_DAYS, MOST_DAYS)
        if price is None or days <= 0.0:
            return 0.0
        left: float = 0.5 ** (max(now - price.time, 0) / DAY / days)
        return price.value * left

    def _decide(self, alert: Alert) -> list[Alert]:
        memory, episode = self._memory, alert.episode
        late = alert.decided_unix_nano < memory.watermark
        if late:
            memory.late_alerts += 1
            ERRORS.labels("late_alert").inc()
        else:
            self._advance(alert.decided_unix_nano)
        if alert.ends_unix_nano is not None:
            return [_mark(alert, memory.episodes.pop(episode, Episode(False, "")))]
        known = memory.episodes.get(episode)
        now = Episode(False, "", self._silenced(alert))
        if not late and not now.silenced:
            if alert.kind is AlertKind.ANOMALY:
                now = self._weigh(alert, known)
            elif alert.kind is AlertKind.CHANGE:
                now = Episode(False, self._beside(alert))
            elif alert.kind is AlertKind.THRESHOLD:
                now = Episode(True, self._join(alert).id)
            else:
                now = self._fall_silent(alert)
        if known is not None and not (now.notified and not known.notified):
            return []
        memory.episodes[episode] = now
        keep(memory.episodes, MOST_EPISODES, "episode")
        return [_mark(alert, now)]

    def _silenced(self, alert: Alert) -> str:
        """Id of a silence or maintenance that holds for an alert, else empty; the first by name if several do."""
        own = dict(alert.labels)
        for name in sorted(self._memory.controls):
            control = self._memory.controls[name]
            matched = all(own.get(safe_name(label)) == value for label, value in control.matchers.items())
            if matched and control.covers(alert.decided_unix_nano):
                return name
        return ""

    def _beside(self, alert: Alert) -> str:
        """Id of the open group, which such an alert neither opens nor extends; empty without one."""
        group = self._memory.group
        return group.id if group is not None and group.holds(alert.decided_unix_nano) else ""

    def _join(self, alert: Alert) -> Group:
        """The open group, extended by this alert, or a new one."""
        memory, now = self._memory, alert.decided_unix_nano
        if memory.group is None or not memory.group.holds(now):
            memory.group = Group(digest(self.environment, alert.episode), now, now, -math.inf)
        memory.group.last = now
        return memory.group

    def _weigh(self, alert: Alert, known: Episode | None) -> Episode:
        """Decide on an alert by its strength, less the price of its entity, or what is usual for it at this time."""
        memory, now, strength = self._memory, alert.decided_unix_nano, max(alert.strength, 0.0)
        entity = label_text(entity_labels(alert.labels))
        # Whether it is critical or a warning may differ from night to night.
        name = label_text(tuple(pair for pair in alert.labels if pair[0] != "severity"))
        price, level = self._price(entity, now), self.level()
        rank = strength - max(price, self._usual(name, alert.starts_unix_nano))
        self._note(name, alert.starts_unix_nano, strength, known is None)
        hour, day = now // self._hour, memory.days.setdefault((now - 1) // DAY, Day())
        memory.peaks[hour] = max(memory.peaks.get(hour, 0.0), rank)
        notified, group = False, ""
        if rank >= level:
            joined = self._join(alert)
            group = joined.id
            soon = joined.told is not None and now < joined.told + AGAIN
            notified = rank > joined.peak + LN_AGAIN and not soon and not (known and known.notified)
            joined.peak = max(joined.peak, rank)
        elif memory.group is not None and memory.group.holds(now):
            group = memory.group.id
        notified = self._bear_first_days(now, strength, notified)
        if notified:
            if memory.group is not None:
                memory.group.told = now
            memory.prices.pop(entity, None)
            memory.prices[entity] = Price(max(price, strength - level + LN_AGAIN), now)
            keep(memory.prices, MOST_EPISODES, "price")
        day.opened += known is None
        day.notified += notified
        return Episode(notified, group)

    def _usual(self, name: str, start: int) -> float:
        """What an alert must top that always begins at this time of the day, or of the week: itself; else nothing."""
        times = self._memory.came.get(name, [])
        most = 0.0
        for period in PERIODS:
            cycles = [
                [strength for at, strength in times if abs(start - cycle * period - at) <= WIDE]
                for cycle in range(1, CYCLES + 1)
            ]
            found = [max(strengths) for strengths in cycles if strengths]
            most = max(most, max(found) + LN_AGAIN) if len(found) >= ENOUGH else most
        return most

    def _note(self, name: str, start: int, strength: float, new: bool) -> None:
        """Remember that an alert began then, or that it has grown."""
        memory = self._memory
        times = memory.came.setdefault(name, [])
        if times and not new:
            times[-1] = times[-1][0], max(times[-1][1], strength)
        else:
            times.append((start, strength))
            del times[:-MOST_TIMES]
        keep(memory.came, MOST_EPISODES, "alert_time")

    def _bear_first_days(self, now: int, strength: float, notified: bool) -> bool:
        """In the first week, after 3 × budget in a day only what tops that day notifies: no level is known yet."""
        memory = self._memory
        day = (now - (memory.first or 0)) // DAY
        if day >= FIRST_DAYS:
            return notified
        if day != memory.top_day:
            memory.top_day, memory.top_count, memory.top = day, 0, 0.0
        if memory.top_count >= FIRST_FACTOR * self.options.environment and strength <= memory.top:
            notified = False
        memory.top_count += notified
        memory.top = max(memory.top, strength)
        return notified

    def _fall_silent(self, alert: Alert) -> Episode:
        """Silences close together are one notification: the first three are told."""
        memory, now = self._memory, alert.decided_unix_nano
        if memory.silences is None or not memory.silences.holds(now):
            memory.silences = Group(digest(self.environment, alert.episode), now, now, 0.0)
        group = memory.silences
        group.last, group.count = now, group.count + 1
        return Episode(self.options.notify_silence and group.count <= SILENCES, group.id)


def quantile(weighted: list[tuple[float, float]], share: float) -> float:
    """The least value that has `share` of the weight at or below it; pairs of (value, weight), at least one.

    >>> quantile([(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)], 0.67)
    3.0
    """
    wanted, below = share * sum(weight for _, weight in weighted), 0.0
    for value, weight in sorted(weighted):
        below += weight
        if below >= wanted:
            return value
    return max(weighted)[0]


def order(alert: Alert) -> tuple[int, str, str, int, bool, float]:
    """The place of an alert among all others of its environment."""
    return (
        alert.decided_unix_nano, label_text(entity_labels(alert.labels)), alert.key, alert.starts_unix_nano,
        alert.ends_unix_nano is not None, alert.strength,
    )  # fmt: skip


def keep(entries: dict[str, Any], most: int, what: str) -> None:
    """Drop the oldest entries beyond `most`, counted."""
    while len(entries) > most:
        del entries[next(iter(entries))]
        DROPPED.labels(f"{what}_forgotten").inc()


def _mark(alert: Alert, episode: Episode) -> Alert:
    decided = alert.with_verdict(episode.notified, episode.group)
    if not episode.silenced:
        return decided
    return replace(decided, annotations=labels(dict(decided.annotations) | {"silenced": episode.silenced}))
