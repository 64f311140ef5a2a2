"""`foreshock run`: watch, live."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.cli.interrupt import interrupted
from foreshock.cli.output import all_imported, console, counted, emit_json, errors

if TYPE_CHECKING:
    from foreshock.app import App
    from foreshock.config import Config

MOST_TOLD = 10
"""Alerts told one by one after a live view."""


def run(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset (default: host).")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="No live view, also on a terminal: a line an alert.")
    ] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="No live view; end with a report in JSON.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Folder of log, snapshots and database (default: data_dir, .foreshock)."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", help="Address of the HTTP server, host:port (default: http.listen).")
    ] = None,
) -> None:
    """Watch the sources of a config, this machine by default, until interrupted."""
    from foreshock.app import App
    from foreshock.config import load

    overrides: dict[str, Any] = {} if data_dir is None else {"data_dir": str(data_dir)}
    if listen is not None:
        overrides["http"] = {"listen": listen}
    config = load(files or [], preset=None if files else "host", overrides=overrides)
    live = sys.stdout.isatty() and not headless and not as_json
    if live or as_json:
        config = without_stdout(config)
    log_to_stderr(live)
    app = App(config)
    with stopping(app) as stop:
        watch(app, stop, seconds, live)
    if as_json:
        emit_json(app.final)
    elif live:
        for line in alert_lines(app.final):
            console().print(line, markup=False)
    errors().print(farewell(app), markup=False)
    if app.engine.failed:
        raise typer.Exit(3)


def watch(app: App, stop: threading.Event, seconds: float | None, live: bool) -> None:
    """Start and wait, with the live view or without."""
    if not live:
        app.start()
        all_imported()
        say_where(app)
        stop.wait(seconds)
        return
    from rich.live import Live

    from foreshock.cli.live import Recent, Screen, Standing
    from foreshock.runtime.figures import budget_line

    recent = Recent()
    app.on_reading = recent.take
    app.start()
    all_imported()
    judges_from = app.started_unix_nano + warm_up_nano(app)

    def standing() -> Standing:
        problems = app.health().problems
        budget = budget_line(app.budget())
        return Standing(app.clock.now_unix_nano(), app.started_unix_nano, where(app), problems, judges_from, budget)

    screen = Screen(app.views, recent, standing, app.store.alert)
    with Live(screen, console=console(), screen=True, refresh_per_second=2):
        stop.wait(seconds)


def warm_up_nano(app: App) -> int:
    """How long it takes until the first of the detectors judges, where the step is known; else 0."""
    step = app.config.stream.step
    parts = app.engine.task.pipeline.bank.parts.values()
    rows = min((part.detector.info.warm_up_rows for part in parts if not part.shadow), default=0)
    return int((rows + 1) * step * 1e9) if isinstance(step, float) else 0


def where(app: App) -> str:
    """The address of the HTTP server, if there is one."""
    return f"http://{app.server.host}:{app.server.port}" if app.server else ""


def without_stdout(config: Config) -> Config:
    """The config without sinks on standard output, which is needed for something else."""
    return config.model_copy(update={"sinks": [sink for sink in config.sinks if sink.type != "stdout"]})


def log_to_stderr(live: bool) -> None:
    """Warnings to stderr, except over a live view."""
    if not live:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    else:
        logging.getLogger().addHandler(logging.NullHandler())


@contextmanager
def stopping(app: App) -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; on leaving, the app is stopped and its report kept in `app.final`.

    A second signal does not wait for that: the log has all that was accepted.
    """
    with interrupted() as stop:
        try:
            yield stop
        finally:
            app.stop()


def say_where(app: App) -> None:
    """One line on what is watched and where it can be asked."""
    names = ", ".join(source.name for source in app.sources) or "what is posted"
    parts = [f"foreshock watches {names}", *([where(app)] if app.server else [])]
    errors().print(f"{', '.join(parts)}; data in {app.config.data_dir}", markup=False)


def farewell(app: App) -> str:
    """What happened, in one line."""
    from foreshock.incident import words
    from foreshock.runtime.figures import budget_line

    if app.engine.failed:
        return f"foreshock: {app.engine.failed}"
    status, alerts = app.final["status"], told(app.final)
    seconds = words.duration(max(1, round(status["uptime_seconds"])))
    said = sum(1 for alert in alerts if alert["foreshock"]["notified"])
    found = f"{counted(len(alerts), 'alert')}, {said} notified" if alerts else "no alerts"
    used = budget_line(status["budget_achieved_ratio"])
    parts = [f"watched {status['series']} series for {seconds}: {found}", *([used] if used else [])]
    return f"{'; '.join(parts)}; data in {app.config.data_dir}"


def told(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The alerts of a report, the first first, without the one that always fires."""
    alerts = [alert for alert in report["alerts"] if alert["foreshock"]["kind"] != "watchdog"]
    return sorted(alerts, key=lambda alert: str(alert["startsAt"]))


def alert_lines(report: dict[str, Any]) -> list[str]:
    """The alerts that there were, a line each, the last ones."""
    alerts = told(report)
    out = [
        f"{'◆' if alert['status'] == 'firing' else '✓'} {alert['startsAt']} {alert['annotations'].get('summary', '')}"
        for alert in alerts[-MOST_TOLD:]
    ]
    more = len(alerts) - len(out)
    return [f"{more} earlier alerts: GET /api/v1/alerts", *out] if more else out
