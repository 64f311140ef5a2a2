"""Pictures of alerts: what was observed, what was expected, where it began and ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foreshock.errors import ConfigError
from foreshock.incident import words
from foreshock.runtime.task import Outputs
from foreshock.runtime.views import Views
from foreshock.state import Registry
from foreshock.types import Alert, AlertKind, label_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER = 240, 60
"""Rows shown before an alert's start and after its end."""


@dataclass(slots=True)
class Pictures:
    """Keeps recent points of every series while a replay runs, and draws each alert once its aftermath is known.

    Raises ConfigError where matplotlib is not installed.
    """

    folder: Path
    views: Views = field(default_factory=lambda: Views(max_series=20_000, points=2 * (BEFORE + AFTER)))
    paths: list[Path] = field(default_factory=list)
    _open: dict[str, Alert] = field(default_factory=dict)
    _titles: dict[str, str] = field(default_factory=dict)
    _waiting: list[tuple[Alert, int]] = field(default_factory=list)
    _last: int = 0

    def __post_init__(self) -> None:
        if find_spec("matplotlib") is None:
            raise ConfigError("pictures need matplotlib: pip install 'foreshock[data]'")

    def feed(self, outputs: Outputs, registry: Registry) -> None:
        """Take in what one record brought about."""
        for columns in outputs.columns:
            self.views.feed(columns.rows, columns.verdicts, registry)
            self._last = max(self._last, int(columns.rows.time_unix_nano.max(initial=0)))
        for alert in outputs.alerts:
            if alert.kind in (AlertKind.ANOMALY, AlertKind.THRESHOLD):
                # The sentence that it opened with: the last one tells how it ended, which the picture shows.
                self._titles.setdefault(alert.episode, dict(alert.annotations).get("summary", ""))
                self._open.pop(alert.episode, None)
                if alert.ends_unix_nano is None:
                    self._open[alert.episode] = alert
                else:
                    length = alert.ends_unix_nano - alert.starts_unix_nano
                    self._waiting.append((alert, alert.ends_unix_nano + min(length, 3_600_000_000_000)))
        for alert, due in [one for one in self._waiting if one[1] <= self._last]:
            self._waiting.remove((alert, due))
            self._draw(alert)

    def finish(self) -> list[Path]:
        """Draw what is left; the paths of all pictures."""
        for alert in [*(alert for alert, _ in self._waiting), *self._open.values()]:
            self._draw(alert)
        self._waiting.clear()
        self._open.clear()
        return sorted(self.paths)

    def _draw(self, alert: Alert) -> None:
        title, labels = self._titles.pop(alert.episode, ""), dict(alert.labels)
        entity = next((e for e in self._entities() if _carries(labels, e)), None)
        feature = labels.get("feature", "")
        found = self.views.series(entity, feature, points=2 * (BEFORE + AFTER), limit=1) if entity else []
        if not found or not len(found[0].points):
            return
        figure, axes = _figure()
        draw(axes, found[0].points, alert)
        axes.set_title(title, fontsize=10, loc="left")
        unit = found[0].series.unit
        axes.set_ylabel(words.metric(found[0].series) + (f" ({unit})" if unit not in ("", "1") else ""), fontsize=8)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]+", "_", f"{alert.starts_unix_nano // 1_000_000_000}-{entity}-{feature}")[:150]
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        self.paths.append(path)

    def _entities(self) -> list[str]:
        return [label_text(view.entity) for view in self.views.entities(limit=1_000_000)]


def _carries(labels: dict[str, str], entity: str) -> bool:
    from foreshock.adapters.sql.text import parse_labels

    return all(labels.get(words.safe_name(name)) == value for name, value in parse_labels(entity))


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    return figure, figure.add_subplot()


def draw(axes: Axes, points: NDArray[Any], alert: Alert | None = None) -> None:
    """One series (`rings.POINT[n]`) with its expected band, the anomalous part marked, gaps not joined."""
    times = points["time_unix_nano"].astype("datetime64[ns]")
    value = np.where(points["status"] == 2, np.nan, points["value"])
    axes.fill_between(times, points["low"], points["high"], color="#66696f", alpha=0.18, linewidth=0, label="expected")
    axes.plot(times, value, color="#17181a", linewidth=1.0)
    axes.plot(
        times, np.where(points["anomalous"], value, np.nan), color="#d4481b", linewidth=2.0, marker=".", markersize=4
    )
    if alert is not None:
        end = alert.ends_unix_nano or int(points["time_unix_nano"][-1])
        span = np.array([alert.starts_unix_nano, end]).astype("datetime64[ns]")
        axes.axvspan(span[0], span[1], color="#d4481b", alpha=0.10, linewidth=0)
        axes.axvline(span[0], color="#d4481b", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
