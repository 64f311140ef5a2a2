"""The live terminal view: one sentence of state, the metrics with what is expected of them, the alerts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from foreshock.app import App
from foreshock.incident import words
from foreshock.runtime.views import SeriesView
from foreshock.types import Alert, Samples, Series, Status

BARS = "▁▂▃▄▅▆▇█"
HISTORY = 120
MARKS = {
    "anomalous": ("◆", "bold red"),
    "usual": ("○", "dim"),
    "warming": ("◌", "yellow"),
    "unjudged": ("·", "dim"),
}


class Recent:
    """The last values of the samples that sources of this process brought, before any alignment."""

    def __init__(self) -> None:
        self.values: dict[Series, deque[float]] = {}

    def take(self, samples: Samples) -> None:
        """Note the samples of one reading."""
        for index, value in zip(samples.index.tolist(), samples.value.tolist(), strict=True):
            series = samples.series[index]
            if series not in self.values and len(self.values) < 1000:
                self.values[series] = deque(maxlen=HISTORY)
            if series in self.values:
                self.values[series].append(value)


def sparkline(values: Iterable[float], width: int, low: float = math.nan, high: float = math.nan) -> str:
    """The last `width` values as bars, scaled to the band and the values together.

    >>> sparkline([0, 1, 2, 7], 4)
    '▁▂▃█'
    """
    shown = list(values)[-width:]
    finite = [value for value in (*shown, low, high) if math.isfinite(value)]
    if not finite:
        return ""
    bottom, top = min(finite), max(finite)
    span = (top - bottom) or 1.0
    return "".join(
        BARS[min(7, int((value - bottom) / span * 7.999))] if math.isfinite(value) else " " for value in shown
    )


class Screen:
    """Renders the present state of an app; asks only its views."""

    def __init__(self, app: App, recent: Recent) -> None:
        self.app, self.recent = app, recent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        alerts = [alert for alert in self.app.views.alerts() if alert.kind != "watchdog"]
        views = {view.series: view for view in self.app.views.series(points=HISTORY, limit=1000)}
        room = max(4, (options.height or console.height) - 9 - 2 * min(len(alerts), 4))
        yield Group(
            self._sentence(alerts, views), Text(), self._alerts(alerts), self._metrics(views, options.max_width, room)
        )

    def _sentence(self, alerts: list[Alert], views: dict[Series, SeriesView]) -> Text:
        app = self.app
        where = f"http://{app.server.host}:{app.server.port}" if app.server else ""
        if not app.engine.ready.is_set():
            state, style = "reading the log …", "yellow"
        elif app.engine.failed:
            state, style = app.engine.failed, "bold red"
        elif alerts:
            state, style = f"{len(alerts)} open alert{'s' if len(alerts) > 1 else ''}", "bold red"
        elif self._warming(views):
            state, style = "learning what is normal: nothing is judged yet", "yellow"
        else:
            state, style = "nothing unusual", "bold"
        seconds = (app.clock.now_unix_nano() - app.started_unix_nano) / 1e9
        aside = f"  {len(self.recent.values)} series · {words.duration(max(1, round(seconds)))} · {where} · ctrl-c ends"
        return Text.assemble(("foreshock  ", "bold"), (state, style), (aside, "dim"))

    def _warming(self, views: dict[Series, SeriesView]) -> bool:
        judged = [view for view in views.values() if len(view.points) and view.points["status"][-1] != Status.EXCLUDED]
        return not any(view.points["status"][-1] == Status.SCORED for view in judged)

    def _alerts(self, alerts: list[Alert]) -> Group:
        lines = []
        for alert in alerts[:4]:
            notes = dict(alert.annotations)
            lines.append(Text.assemble(("◆ ", "bold red"), (notes.get("summary", alert.key), "bold")))
            if notes.get("contributions"):
                lines.append(Text(f"  {notes['contributions']}", "dim"))
        return Group(*lines, Text()) if lines else Group()

    def _metrics(self, views: dict[Series, SeriesView], width: int, room: int) -> Table:
        table = Table(box=None, pad_edge=False, expand=False, header_style="dim")
        wide = width >= 100
        table.add_column("", width=1)
        table.add_column("metric", overflow="ellipsis", no_wrap=True, max_width=48 if wide else 34)
        table.add_column("now", justify="right", no_wrap=True)
        table.add_column("expected", justify="right", no_wrap=True)
        table.add_column("last 2 min", no_wrap=True)
        rows = [self._row(series, values, views.get(series), 60 if wide else 16) for series, values in self._series()]
        rows.sort(key=lambda row: row[0])
        for _, cells in rows[:room]:
            table.add_row(*cells)
        if len(rows) > room:
            table.add_row("", Text(f"and {len(rows) - room} more", "dim"))
        return table

    def _series(self) -> list[tuple[Series, deque[float]]]:
        return list(self.recent.values.items())

    def _row(
        self, series: Series, values: deque[float], view: SeriesView | None, width: int
    ) -> tuple[tuple[int, str], tuple[Any, ...]]:
        point = view.points[-1] if view is not None and len(view.points) else None
        kind = _kind(point)
        mark, style = MARKS[kind]
        low, high = (float(point["low"]), float(point["high"])) if point is not None else (math.nan, math.nan)
        band = words.span(words.Band(low, high), series.unit) if kind != "unjudged" else ""
        cells = (
            Text(mark, style),
            Text(words.metric(series), "bold" if kind == "anomalous" else "dim" if kind == "unjudged" else ""),
            Text(words.quantity(values[-1], series.unit), style if kind == "anomalous" else ""),
            Text(band, "dim"),
            Text(sparkline(values, width, low, high), style if kind == "anomalous" else ""),
        )
        order = {"anomalous": 0, "usual": 1, "warming": 1, "unjudged": 2}[kind]
        return (order, words.metric(series)), cells


def _kind(point: np.void | None) -> str:
    if point is None or point["status"] == Status.EXCLUDED:
        return "unjudged"
    if point["anomalous"]:
        return "anomalous"
    return "usual" if point["status"] == Status.SCORED else "warming"
