"""The live view of the demo: alerts in words, what was broken and how it was caught, then a line for each service."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from foreshock.cli.live import MARKS, ORDER, Recent, Screen, Standing, Told, kind_of, line, sparkline
from foreshock.incident import words
from foreshock.runtime.view_types import SeriesView
from foreshock.runtime.views import Views
from foreshock.types import Alert, Series

LEAST_BARS, MOST_BARS = 8, 100
WIDE = 110
"""From this width on, memory and what is expected of the latency are shown as well."""
MOST_BREAKAGES = 2

RATE, ERRORS, LATENCY = "calls.rate", "calls.error_ratio", "calls.duration.p95"
CPU, MEMORY = "container.cpu.utilization", "container.memory.usage"
HOST = ("system.cpu.utilization", "system.memory.utilization")


class Breakage(NamedTuple):
    """Something that was broken on purpose, in words: what, since when, and how it was caught ("" = not yet)."""

    what: str
    since_unix_nano: int
    caught: str = ""
    over: bool = False


class ShopScreen(Screen):
    """Renders the shop; `broken` says what was broken, the latest last."""

    points, most_series = MOST_BARS, 5000
    most_alerts = 3

    def __init__(
        self,
        views: Views,
        recent: Recent,
        standing: Callable[[], Standing],
        told: Told,
        broken: Callable[[], Sequence[Breakage]],
    ) -> None:
        super().__init__(views, recent, standing, told)
        self._broken = broken

    def _in_order(self, alerts: list[Alert]) -> list[Alert]:
        """Those that began first stand nearest to the cause."""
        return sorted(alerts, key=lambda alert: (not alert.notified, alert.starts_unix_nano, alert.key))

    def _series(self) -> int:
        return self.views.counts()["series"]

    def _sentences(
        self, alerts: list[Alert], views: dict[Series, SeriesView], standing: Standing, width: int
    ) -> list[RenderableType]:
        out = super()._sentences(alerts, views, standing, width)
        for one in self._broken()[-MOST_BREAKAGES:]:
            caught = one.caught or ("not noticed" if one.over else "not noticed yet")
            since = words.clock(one.since_unix_nano)
            out.append(line("✳", f"broken on purpose at {since}: {one.what} · {caught}", "", "dim" if one.over else ""))
        return out

    def _metrics(self, views: dict[Series, SeriesView], width: int, room: int) -> Table:
        services: dict[str, dict[str, SeriesView]] = {}
        host: dict[str, SeriesView] = {}
        for series, view in views.items():
            labels = dict(series.entity)
            if set(labels) == {"service.name"}:
                services.setdefault(labels["service.name"], {})[series.feature] = view
            elif "host.name" in labels and series.feature in HOST:
                host[series.feature] = view
        wide = width >= WIDE
        name = max([8, *map(len, services)])
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("", width=1)
        table.add_column("service", no_wrap=True, width=name)
        columns = [("calls/s", 7), ("errors", 7), ("p95", 8)]
        columns += [("expected", 16)] if wide else []
        columns += [("cpu", 5)]
        columns += [("memory", 8)] if wide else []
        for title, size in columns:
            table.add_column(title, justify="right", no_wrap=True, width=size)
        bars = max(LEAST_BARS, min(MOST_BARS, width - 1 - name - sum(size + 1 for _, size in columns) - 3))
        table.add_column("latency or what stands out".rjust(bars), no_wrap=True, width=bars)
        rows = [(*_standing(parts), service, parts) for service, parts in services.items()]
        rows.sort(key=lambda row: (ORDER[row[0]], row[2]))
        for kind, worst, service, parts in rows[: max(1, room - len(host))]:
            mark, style = MARKS[kind]
            cells = _cells(parts, wide)
            tail = Text(
                _bars(parts.get(LATENCY) if worst is None else worst, bars), style if worst is not None else "dim"
            )
            table.add_row(Text(mark, style), Text(service, style if worst is not None else ""), *cells, tail)
        if host:
            table.add_row(*_host_row(host, len(columns), bars))
        return table


def _standing(parts: dict[str, SeriesView]) -> tuple[str, SeriesView | None]:
    """How a service stands, and the series that stands out most."""
    anomalous = [view for view in parts.values() if len(view.points) and view.points[-1]["anomalous"]]
    if anomalous:
        return "anomalous", max(anomalous, key=lambda view: float(np.nan_to_num(view.points[-1]["score"])))
    kinds = {kind_of(view.points[-1]) for view in parts.values() if len(view.points)}
    return next((kind for kind in ("usual", "warming up", "missing") if kind in kinds), "not judged"), None


def _cells(parts: dict[str, SeriesView], wide: bool) -> list[Text]:
    shown = [_cell(parts.get(RATE), ""), _cell(parts.get(ERRORS), "%"), _cell(parts.get(LATENCY), "s")]
    if wide:
        view = parts.get(LATENCY)
        point = view.points[-1] if view is not None and len(view.points) else None
        known = point is not None and math.isfinite(point["high"])
        band = words.Band(float(point["low"]), float(point["high"])) if known and point is not None else words.Band()
        shown.append(Text(words.span(band, "s"), "dim"))
    shown.append(_cell(parts.get(CPU), "%"))
    return [*shown, _cell(parts.get(MEMORY), "By")] if wide else shown


def _cell(view: SeriesView | None, unit: str) -> Text:
    """The last known value of a series; red where it is beyond what is usual."""
    if view is None or not len(view.points):
        return Text("")
    point = view.points[-1]
    value = float(point["value"])
    if not math.isfinite(value):
        return Text("–", "dim")
    text = f"{100 * value:.{0 if value >= 0.1 or value == 0 else 1}f} %" if unit == "%" else words.quantity(value, unit)
    return Text(text, MARKS["anomalous"][1] if point["anomalous"] else "")


def _bars(view: SeriesView | None, width: int) -> str:
    return " " * width if view is None else sparkline(view.points["value"].tolist(), width)


def _host_row(host: dict[str, SeriesView], columns: int, bars: int) -> list[Text]:
    """The machine that the demo runs on, in the columns of the services."""
    kind, worst = _standing(host)
    mark, style = MARKS[kind]
    cpu, memory = (host.get(name) for name in HOST)
    cells = [Text("") for _ in range(columns)]
    cells[-2 if columns > 4 else -1] = _cell(cpu, "%")
    if columns > 4:
        cells[-1] = _cell(memory, "%")
    tail = Text(_bars(cpu if worst is None else worst, bars), style if worst is not None else "dim")
    return [Text(mark, style), Text("this host", style if worst is not None else ""), *cells, tail]
