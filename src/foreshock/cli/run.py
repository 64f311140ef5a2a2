"""`foreshock run`: watch, live."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from foreshock.app import App
from foreshock.cli.live import Recent, Screen
from foreshock.cli.output import console, emit_json, errors
from foreshock.config import Config, load


def run(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset (default: host).")
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No live view: lines, and a report at the end.")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", help="End after so many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with a report in JSON on standard output.")] = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Folder of log, snapshots and database.")] = None,
    listen: Annotated[str | None, typer.Option("--listen", help="Address of the HTTP server, host:port.")] = None,
) -> None:
    """Watch the sources of a config, this machine by default, until interrupted."""
    overrides: dict[str, Any] = {}
    if data_dir is not None:
        overrides["data_dir"] = str(data_dir)
    if listen is not None:
        overrides["http"] = {"listen": listen}
    config = load(files or [], preset=None if files else "host", overrides=overrides)
    live = sys.stdout.isatty() and not headless and not as_json
    if live or as_json:
        config = without_stdout(config)
    log_to_stderr(live)
    app = App(config)
    recent = Recent()
    app.on_reading = recent.take
    with stopping(app) as stop:
        app.start()
        if live:
            with Live(Screen(app, recent), console=console(), screen=True, refresh_per_second=2):
                stop.wait(seconds)
        else:
            say_where(app)
            stop.wait(seconds)
    if as_json:
        emit_json(app.final)
    elif live:
        say_alerts(app.final)


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
    """An event that SIGINT and SIGTERM set; on leaving, the app is stopped and its report kept in `app.final`."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        app.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def say_where(app: App) -> None:
    """One line on what is watched and where it can be asked."""
    names = ", ".join(source.name for source in app.sources) or "what is posted"
    where = f", http://{app.server.host}:{app.server.port}" if app.server else ""
    errors().print(f"foreshock watches {names}{where}; data in {app.config.data_dir}", markup=False)


def say_alerts(report: dict[str, Any]) -> None:
    """After a live view, the alerts that there were."""
    alerts = [alert for alert in report["alerts"] if alert["foreshock"]["kind"] != "watchdog"]
    for alert in alerts:
        console().print(
            f"{alert['startsAt']} {alert['status']}: {alert['annotations'].get('summary', '')}", markup=False
        )
    if not alerts:
        console().print("no alerts")
