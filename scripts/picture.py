"""Draws the pictures in docs/img: the real live views, of a made-up host with a fault and of the simulated shop."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from foreshock.adapters.decode import decode
from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.bench.play import play
from foreshock.cli.live import Recent, Screen, Standing
from foreshock.cli.live_shop import Breakage, ShopScreen
from foreshock.config import Config, load
from foreshock.demo import sentence
from foreshock.runtime.task import Outputs, Task, Watermark, encode_json
from foreshock.runtime.views import Views
from foreshock.shop.faults import Fault
from foreshock.shop.judge import judge
from foreshock.shop.settings import Settings
from foreshock.types import Record
from foreshock.types.record import WATERMARK

START = 1_767_264_000_000_000_000
SECOND = 1_000_000_000
QUIET, FAULT = 600, 36
PAST, BROKEN = 3600, 35
WIDTH, HEIGHT = 110, 24

THEME = TerminalTheme(
    (24, 25, 28),
    (238, 239, 241),
    [(24, 25, 28), (255, 145, 112), (95, 203, 169), (232, 177, 82), (140, 184, 255), (182, 186, 193), (182, 186, 193),
     (238, 239, 241)],
)  # fmt: skip

HOST: tuple[tuple[str, dict[str, str], str, float, float], ...] = (
    ("system.cpu.utilization", {}, "1", 0.12, 0.02),
    ("system.disk.io", {"direction": "read"}, "By/s", 2.0e5, 1.0e5),
    ("system.disk.io", {"direction": "write"}, "By/s", 9.0e5, 3.0e5),
    ("system.disk.io_time", {}, "1", 0.03, 0.01),
    ("system.filesystem.utilization", {"mountpoint": "/"}, "1", 0.41, 0.0),
    ("system.memory.utilization", {}, "1", 0.38, 0.004),
    ("system.network.errors", {"direction": "receive"}, "1/s", 0.0, 0.0),
    ("system.network.io", {"direction": "receive"}, "By/s", 4.0e5, 1.2e5),
    ("system.network.io", {"direction": "transmit"}, "By/s", 2.5e5, 8.0e4),
    ("system.processes.count", {}, "{process}", 212.0, 2.0),
    ("system.cpu.load_average.1m", {}, "{thread}", 0.4, 0.05),
    ("system.cpu.utilization", {"state": "user"}, "1", 0.09, 0.015),
    ("system.memory.usage", {"state": "used"}, "By", 6.1e9, 3.0e7),
)
"""Name, attributes, unit, level and deviation of each series."""


def telemetry() -> Iterator[Record]:
    """A reading each second, quiet and then with a busy processor, each with its watermark."""
    rng = np.random.default_rng(7)
    for second in range(QUIET + FAULT):
        now = START + second * SECOND
        values = [max(0.0, level + spread * rng.normal()) for *_, level, spread in HOST]
        if second >= QUIET:
            values[0], values[11] = 0.97 + 0.01 * rng.normal(), 0.93
            values[10] += (second - QUIET) * 0.05
        metrics = [
            Metric(name, attributes, unit, value)
            for (name, attributes, unit, *_), value in zip(HOST, values, strict=True)
        ]
        yield Record("default", "host", METRICS, now, encode_metrics(Reading(now, {"host.name": "web-1"}, metrics)))
        yield Record("default", "foreshock", WATERMARK, now, encode_json(Watermark(now)))


def screen(config: Config) -> Screen:
    """The live view after all of it."""
    task, views, recent = Task(config, bands=True), Views(), Recent()
    for record in telemetry():
        if record.content_type == METRICS:
            recent.take(decode(record, config.mapping))
        outputs = task.process(record)
        for columns in outputs.columns:
            views.feed(columns.rows, columns.verdicts, task.pipeline.registry)
        views.feed_alerts(outputs.alerts)
    now = START + (QUIET + FAULT) * SECOND
    return Screen(views, recent, lambda: Standing(now, START, "http://127.0.0.1:8080"), lambda episode: None)


def demo() -> Screen:
    """The demo half a minute after something broke."""
    views, fault = Views(), Fault("error_spike", "recommend", "large", PAST)

    def see(outputs: Outputs, task: Task) -> None:
        for columns in outputs.columns:
            views.feed(columns.rows, columns.verdicts, task.pipeline.registry)
        views.feed_alerts(outputs.alerts)

    played = play(Settings(seed=3), START, PAST + BROKEN, [fault], see=see)
    found, _ = judge(played.truths, played.alerts.values(), played.decided)
    now, since = START + (PAST + BROKEN) * SECOND, found[0].truth.since_unix_nano
    broken = Breakage("error spike in recommend", since, sentence(found[0]))
    standing = Standing(now, START + (PAST - 20) * SECOND, "http://127.0.0.1:8080")
    return ShopScreen(views, Recent(), lambda: standing, lambda episode: None, lambda: [broken])


def draw(shown: Screen, title: str, path: Path) -> None:
    """Write a picture of a view."""
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The theme belongs to the picture; the terminal's own is used in a terminal.
    svg = console.export_svg(title=title, theme=THEME, unique_id="foreshock")
    # A picture asks nobody for a font.
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


def main(folder: str = "docs/img") -> None:
    """Write the pictures."""
    draw(screen(load([], preset="host", environ={})), "foreshock run", Path(folder) / "terminal.svg")
    draw(demo(), "foreshock demo", Path(folder) / "demo.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])
