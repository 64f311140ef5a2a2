"""The live terminal view: a sentence first, then the metrics with what is expected of them.

Colour is for state alone, each state has a mark as well, nothing blinks, and numbers keep their columns.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from foreshock.incident import words
from foreshock.runtime.view_types import SeriesView
from foreshock.runtime.views import Views
from foreshock.types import Alert, AlertKind, Decoded, Samples, Series, Status

BARS = "▁▂▃▄▅▆▇█"
HISTORY = 120
MOST_SAMPLES = 5000
"""Of one reading; what a screen shows needs no more of a file that is read in large pieces."""
MOST_RESOLVED = 2
LEAST_ROWS = 5
NOW_WIDTH, EXPECTED_WIDTH = 10, 19
MARKS = {
    "anomalous": ("◆", "bold red"),
    "usual": ("○", ""),
    "warming up": ("◌", "dim"),
    "missing": ("▨", "dim"),
    "not judged": ("·", "dim"),
}
ORDER = {"anomalous": 0, "usual": 1, "warming up": 1, "missing": 1, "not judged": 2}


@dataclass(frozen=True, slots=True)
class Standing:
    """How the process stands: `problems` in sentences, `judges_from_unix_nano` when its warm-up ends (0 = unknown).

    `budget` says in a line how much of it was used; empty while nothing is known.
    """

    now_unix_nano: int
    since_unix_nano: int
    where: str = ""
    problems: tuple[str, ...] = ()
    judges_from_unix_nano: int = 0
    budget: str = ""


class Told(Protocol):
    """Finds how an episode stands, by its id."""

    def __call__(self, episode: str, /) -> Alert | None:
        """The alert, or None if it is not known."""
        ...


class Recent:
    """The last values of the samples that sources of this process brought, before any alignment."""

    def __init__(self) -> None:
        self.values: dict[Series, deque[float]] = {}

    def take(self, samples: Decoded) -> None:
        """Note the samples of one reading; calls have no values of their own."""
        if not isinstance(samples, Samples):
            return
        last = slice(-MOST_SAMPLES, None)
        for index, value in zip(samples.index[last].tolist(), samples.value[last].tolist(), strict=True):
            series = samples.series[index]
            if series not in self.values and len(self.values) < 1000:
                self.values[series] = deque(maxlen=HISTORY)
            if series in self.values:
                self.values[series].append(value)


def sparkline(values: Iterable[float], width: int, low: float = math.nan, high: float = math.nan) -> str:
    """The last `width` values as bars, now at the right; scaled to the values and the band together, without a band
    from 0 on.

    >>> sparkline([0, 1, 2, 7], 6), sparkline([5, 5], 2), sparkline([0, float("nan"), 0], 3), sparkline([5], 1, 0, 10)
    ('  ▁▂▃█', '██', '▁ ▁', '▄')
    """
    shown = list(values)[-width:]
    finite = [value for value in (*shown, low, high) if math.isfinite(value)]
    if not finite:
        return " " * width
    if not math.isfinite(low):
        finite.append(0.0)
    bottom, top = min(finite), max(finite)
    span = (top - bottom) or 1.0
    bars = (BARS[min(7, int((value - bottom) / span * 7.999))] if math.isfinite(value) else " " for value in shown)
    return "".join(bars).rjust(width)


class Screen:
    """Renders what the views know; `told` finds out how an episode ended that is no longer open.

    `points` and `most_series` say how much of the views is needed, `most_alerts` how many are told one by one.
    """

    points, most_series = 1, 1000
    most_alerts = 4

    def __init__(self, views: Views, recent: Recent, standing: Callable[[], Standing], told: Told) -> None:
        self.views, self.recent, self.standing, self.told = views, recent, standing, told
        self._open: dict[str, Alert] = {}
        self._resolved: deque[Alert] = deque(maxlen=MOST_RESOLVED)
        self._metric_width = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        alerts = self._in_order([alert for alert in self.views.alerts() if alert.kind is not AlertKind.WATCHDOG])
        self._note_resolved(alerts)
        views = {view.series: view for view in self.views.series(points=self.points, limit=self.most_series)}
        standing = self.standing()
        head: list[RenderableType] = [*self._sentences(alerts, views, standing, width), Text()]
        foot: list[RenderableType] = [Text(), *self._budget(standing), self._foot(standing)]
        used = sum(len(console.render_lines(part, options.update(height=None))) for part in head) + len(foot)
        yield Group(*head, self._metrics(views, width, max(LEAST_ROWS, height - used - 1)), *foot)

    def _in_order(self, alerts: list[Alert]) -> list[Alert]:
        """Open alerts, the latest first, in the order in which they are told."""
        return sorted(alerts, key=lambda alert: not alert.notified)

    def _sentences(
        self, alerts: list[Alert], views: dict[Series, SeriesView], standing: Standing, width: int
    ) -> list[RenderableType]:
        if standing.problems:
            return [line("✗", problem, "bold red", "bold") for problem in standing.problems]
        out: list[RenderableType] = []
        for alert in alerts[: self.most_alerts]:
            loud = alert.notified is not False
            out.append(line("◆" if loud else "◇", _summary(alert), "bold red" if loud else "red", "bold" * loud))
        if len(alerts) > self.most_alerts:
            out.append(Text(f"  and {len(alerts) - self.most_alerts} more", "dim"))
        if not alerts:
            out.append(Text(self._calm(views, standing), "bold"))
        return [*out, *(line("✓", _summary(alert), "green", "dim") for alert in self._resolved)]

    def _calm(self, views: dict[Series, SeriesView], standing: Standing) -> str:
        last = [(series, view.points[-1]) for series, view in views.items() if len(view.points)]
        beyond = [series for series, point in last if kind_of(point) == "anomalous"]
        if beyond:
            what = f"{words.metric(beyond[0])} is" if len(beyond) == 1 else f"{len(beyond)} metrics are"
            return f"{what} beyond what is usual, not enough for an alert"
        statuses = {int(point["status"]) for _, point in last}
        if Status.SCORED in statuses:
            return "Nothing unusual"
        if not statuses:
            return "Waiting for the first data"
        due = standing.judges_from_unix_nano
        later = (
            f"judging begins at about {words.clock(due)}" if due > standing.now_unix_nano else "nothing is judged yet"
        )
        return f"Learning what is usual; {later}"

    def _note_resolved(self, alerts: list[Alert]) -> None:
        now = {alert.episode: alert for alert in alerts}
        for episode in [episode for episode in self._open if episode not in now]:
            ended = self.told(episode)
            if ended is not None and ended.ends_unix_nano is not None:
                self._resolved.append(ended)
                del self._open[episode]
        self._open |= now

    def _series(self) -> int:
        return len(self.recent.values)

    def _budget(self, standing: Standing) -> list[Text]:
        return [Text(standing.budget, "dim", no_wrap=True, overflow="ellipsis")] if standing.budget else []

    def _foot(self, standing: Standing) -> Text:
        seconds = max(1, round((standing.now_unix_nano - standing.since_unix_nano) / 1e9))
        parts = (f"{self._series()} series", words.duration(seconds), standing.where, "ctrl-c ends")
        return Text(
            "foreshock · " + " · ".join(part for part in parts if part), "dim", no_wrap=True, overflow="ellipsis"
        )

    def _metrics(self, views: dict[Series, SeriesView], width: int, room: int) -> Table:
        series = list(self.recent.values.items())
        several = len({one.entity for one, _ in series}) > 1
        names = {one: words.title(one) if several else words.metric(one) for one, _ in series}
        # Only ever wider, so that columns do not jump.
        self._metric_width = max([self._metric_width, 6, *map(len, names.values())])
        metric = min(self._metric_width, max(24, (width - NOW_WIDTH - EXPECTED_WIDTH - 4) * 6 // 10))
        bars = max(4, min(HISTORY, width - 1 - metric - NOW_WIDTH - EXPECTED_WIDTH - 4))
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("", width=1)
        table.add_column("metric", overflow="ellipsis", no_wrap=True, width=metric)
        table.add_column("now", justify="right", no_wrap=True, width=NOW_WIDTH)
        table.add_column("expected", justify="right", no_wrap=True, width=EXPECTED_WIDTH)
        table.add_column("recent".rjust(bars), no_wrap=True, width=bars)
        rows = [(*_row(one, values, views.get(one), bars), names[one]) for one, values in series]
        rows.sort(key=lambda row: (ORDER[row[0]], row[2]))
        shown = rows if len(rows) <= room else rows[: room - 1]
        for kind, cells, name in shown:
            mark, style = MARKS[kind]
            table.add_row(Text(mark, style), Text(name, style if kind != "usual" else ""), *cells)
        if len(rows) > len(shown):
            table.add_row("", Text(f"and {len(rows) - len(shown)} more", "dim"))
        return table


def line(mark: str, sentence: str, mark_style: str, style: str) -> Table:
    """A sentence behind its mark, wrapped and never cut."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    table.add_row(Text(mark, mark_style), Text(sentence, style))
    return table


def _summary(alert: Alert) -> str:
    return dict(alert.annotations).get("summary", alert.key)


def _row(series: Series, values: deque[float], view: SeriesView | None, width: int) -> tuple[str, tuple[Any, ...]]:
    point = view.points[-1] if view is not None and len(view.points) else None
    kind = kind_of(point)
    low, high = (float(point["low"]), float(point["high"])) if point is not None else (math.nan, math.nan)
    judged = kind in ("anomalous", "usual")
    expected = words.span(words.Band(low, high), series.unit) if judged else "" if kind == "not judged" else kind
    style = MARKS["anomalous"][1] if kind == "anomalous" else "dim" if kind == "not judged" else ""
    return kind, (
        Text(words.quantity(values[-1], series.unit) if math.isfinite(values[-1]) else "missing", style),
        Text(expected, "dim"),
        Text(sparkline(values, width, low if judged else math.nan, high if judged else math.nan), style),
    )


def kind_of(point: np.void | None) -> str:
    """How a series stands by its last point, a key of `MARKS`."""
    if point is None or point["status"] == Status.EXCLUDED:
        return "not judged"
    if point["anomalous"]:
        return "anomalous"
    if point["status"] == Status.SCORED:
        return "usual"
    return "warming up" if point["status"] == Status.WARMING_UP else "missing"
