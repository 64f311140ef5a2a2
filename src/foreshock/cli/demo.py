"""`foreshock demo`: things break, and are caught."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.cli.output import all_imported, console, emit_json, errors, lines
from foreshock.cli.run import alert_lines, log_to_stderr, say_where, stopping, where

if TYPE_CHECKING:
    from threading import Event

    from foreshock.cli.live_shop import Breakage
    from foreshock.demo import Demo


def demo(
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", help="Break only this, over and over; may be given again (default: all kinds)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed is another shop, and breaks otherwise.")] = 0,
    speed: Annotated[float, typer.Option("--speed", help="How fast time goes; this machine is left out then.")] = 1.0,
    real: Annotated[
        bool, typer.Option("--real", help="The shop as real HTTP services; the first fault comes after four minutes.")
    ] = False,
    headless: Annotated[bool, typer.Option("--headless", help="No live view: a line an alert.")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="No live view; end with a report in JSON.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Keep log and database here (default: a folder that goes).")
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", help="Address of the HTTP server, host:port (default: http.listen).")
    ] = None,
) -> None:
    """Watch a simulated shop break, and this machine beside it; nothing else is needed."""
    from foreshock.cli.run import without_stdout
    from foreshock.demo import Demo, DemoOptions, told

    live = sys.stdout.isatty() and not headless and not as_json
    log_to_stderr(live)
    options = DemoOptions(seed, real, speed, tuple(fault or ()), data_dir, listen)
    quiet = live or as_json
    show = Demo(options, lambda text: errors().print(f"foreshock demo: {text}", markup=False),
                without_stdout if quiet else lambda config: config)  # fmt: skip
    try:
        with stopping(show.app) as stop:
            watch(show, stop, seconds, live)
        report = show.report()
        if as_json:
            emit_json(report)
        else:
            if live:
                for line in alert_lines(show.app.final):
                    console().print(line, markup=False)
            lines(*told(show.findings()[0]))
        if show.app.engine.failed:
            raise typer.Exit(3)
    finally:
        show.close()


def watch(show: Demo, stop: Event, seconds: float | None, live: bool) -> None:
    """Start and wait, with the live view or without."""
    app = show.app
    if not live:
        show.start()
        all_imported()
        say_where(app)
        stop.wait(seconds)
        return
    from rich.live import Live

    from foreshock.cli.live import Recent, Standing
    from foreshock.cli.live_shop import ShopScreen
    from foreshock.runtime.figures import budget_line

    show.start()
    all_imported()

    def standing() -> Standing:
        return Standing(
            app.clock.now_unix_nano(), app.started_unix_nano, where(app), app.health().problems,
            budget=budget_line(app.budget()),
        )  # fmt: skip

    screen = ShopScreen(app.views, Recent(), standing, app.store.alert, lambda: broken(show))
    with Live(screen, console=console(), screen=True, refresh_per_second=2):
        stop.wait(seconds)


def broken(show: Demo) -> Sequence[Breakage]:
    """What was broken so far, in words."""
    from foreshock.cli.live_shop import Breakage
    from foreshock.demo import sentence

    now = show.app.clock.now_unix_nano()
    return [
        Breakage(
            f"{one.truth.kind.replace('_', ' ')} in {one.truth.service}",
            one.truth.since_unix_nano,
            sentence(one),
            one.truth.until_unix_nano <= now,
        )
        for one in show.findings()[0]
    ]
