"""Events of many users at a rate that does not ask whether anybody keeps up, with some made abnormal and written down.

Open loop: event n is due at the start + n ÷ rate, and carries that time (to the ms), whenever it is sent. So what comes
late is seen as late, and a slow receiver is not spared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.kafka.options import EVENTS
from foreshock.adapters.truth import Interval
from foreshock.agent.outgoing import Outgoing
from foreshock.ports import Clock

MOST_AT_ONCE = 1_000
"""Events of one batch."""

_BLOCK = 1024
_TICK_SECONDS = 0.01
_EVENTS_OF_A_STRETCH = 5
"""About how many events of a user are abnormal behind the first one."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """`rate` events a second of `users`, for `seconds` (None = on and on); a share `anomalies` of them is abnormal.

    `key` False leaves the messages without a key, as many producers do.
    """

    rate: float = 1000.0
    users: int = 1000
    seconds: float | None = None
    anomalies: float = 0.01
    seed: int = 0
    topic: str = EVENTS
    key: bool = True


class Events:
    """The events, batch by batch, and the truth about them.

    The same options and start give the same events, whenever they are asked for. Each user has a level and a spread of
    his own; in an abnormal stretch his values are several times what they are else.
    """

    def __init__(self, options: LoadOptions, start_unix_nano: int) -> None:
        self.options, self.start_unix_nano = options, start_unix_nano // 1_000_000 * 1_000_000
        self.next = 0
        """Number of the next event."""
        self._stretches: list[Interval] = []
        self.abnormal = 0
        self._run = f"{options.seed:x}-{start_unix_nano // 1_000_000:x}"
        self._random = np.random.default_rng(options.seed)
        self._level = self._random.lognormal(3.0, 0.7, options.users)
        self._spread = self._random.uniform(0.03, 0.15, options.users)
        self._until: NDArray[np.int64] = np.zeros(options.users, np.int64)
        self._factor = np.ones(options.users)
        self._block: list[Outgoing] = []
        self._marks: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._keys = [f"u-{user}".encode() for user in range(options.users)]

    @property
    def truth(self) -> list[Interval]:
        """When which user was abnormal, so far."""
        now = self.start_unix_nano + int(self.next / self.options.rate * 1e9)
        return [one for one in self._stretches if one.since < now]

    def take(self, until_unix_nano: int) -> list[Outgoing]:
        """The events that are due before a time, at most `MOST_AT_ONCE`; none where none is."""
        end = min(self._before(until_unix_nano), self.next + MOST_AT_ONCE)
        out: list[Outgoing] = []
        while self.next < end:
            first = self.next // _BLOCK * _BLOCK
            if self.next == first:
                self._block, self._marks = self._made(first)
            behind = min(end, first + _BLOCK)
            out += self._block[self.next - first : behind - first]
            self.abnormal += int(self._marks[self.next - first : behind - first].sum())
            self.next = behind
        return out

    @property
    def over(self) -> bool:
        """Whether all events have been taken."""
        seconds = self.options.seconds
        return seconds is not None and self.next >= int(seconds * self.options.rate)

    def _before(self, time_unix_nano: int) -> int:
        """How many events are due before a time."""
        due = max(0, int((time_unix_nano - self.start_unix_nano) / 1e9 * self.options.rate))
        seconds = self.options.seconds
        return due if seconds is None else min(due, int(seconds * self.options.rate))

    def _made(self, first: int) -> tuple[list[Outgoing], NDArray[np.bool_]]:
        """The events of a block, and which of them are abnormal: whole blocks, so that portions do not matter."""
        milliseconds = np.floor((first + np.arange(_BLOCK)) * 1000.0 / self.options.rate + 1e-6).astype(np.int64)
        times = self.start_unix_nano + milliseconds * 1_000_000
        users = self._random.integers(0, self.options.users, _BLOCK)
        factors = self._factors(users, times)
        draws = self._random.standard_normal(_BLOCK)
        values = self._level[users] * (1.0 + self._spread[users] * draws) * factors
        rows = zip(times.tolist(), users.tolist(), values.tolist(), strict=True)
        return [self._message(first + at, *row) for at, row in enumerate(rows)], factors > 1.0

    def _factors(self, users: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.float64]:
        """By how much each value is more than usual; notes where abnormal stretches begin."""
        begins = self._random.random(len(users)) < self.options.anomalies / (1 + _EVENTS_OF_A_STRETCH)
        new = self._random.uniform(4.0, 10.0, len(users))
        stretch = round(_EVENTS_OF_A_STRETCH * self.options.users / self.options.rate * 1e9)
        out = np.where(times < self._until[users], self._factor[users], 1.0)
        for at in np.flatnonzero(begins).tolist():
            user, since = int(users[at]), int(times[at])
            if self._until[user] > since:
                continue
            self._until[user], self._factor[user] = since + stretch, new[at]
            self._stretches.append(Interval((("userId", f"u-{user}"),), since, since + stretch))
            out[(users == user) & (times >= since) & (times < since + stretch)] = new[at]
        return out

    def _message(self, number: int, time: int, user: int, value: float) -> Outgoing:
        body = b'{"eventId":"%s-%d","timestamp":%d,"userId":"u-%d","value":%.4f}' % (
            self._run.encode(), number, time // 1_000_000, user, value,
        )  # fmt: skip
        return Outgoing(self.options.topic, self._keys[user] if self.options.key else None, body, [], time)


@dataclass(slots=True)
class Sent:
    """How a run went: events handed over, of those abnormal, how late the latest was handed over (s)."""

    events: int = 0
    abnormal: int = 0
    latest_seconds: float = 0.0


def run(events: Events, add: Callable[[list[Outgoing]], object], clock: Clock, stopped: threading.Event) -> Sent:
    """Hand events over when they are due, until all are, or until it is stopped."""
    sent = Sent()
    for batch in _paced(events, clock, stopped):
        add(batch)
        late = (clock.now_unix_nano() - batch[0].time_unix_nano) / 1e9
        sent.latest_seconds = max(sent.latest_seconds, late)
        sent.events, sent.abnormal = events.next, events.abnormal
    return sent


def _paced(events: Events, clock: Clock, stopped: threading.Event) -> Iterator[list[Outgoing]]:
    while not stopped.is_set() and not events.over:
        batch = events.take(clock.now_unix_nano() + 1)
        if batch:
            yield batch
        if len(batch) < MOST_AT_ONCE:
            clock.sleep(_TICK_SECONDS)
