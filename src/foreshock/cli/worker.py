"""`foreshock worker`: the pipeline on Kafka."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from foreshock.cli.interrupt import interrupted
from foreshock.cli.output import all_imported, errors


def worker(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset (default: minimal).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of this worker (default: kafka.worker, else the host's name).")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Address to serve Prometheus metrics at, host:port.")
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so many seconds.")] = None,
) -> None:
    """Judge what comes in by Kafka, together with the other workers of the group, until interrupted."""
    from foreshock.config import load
    from foreshock.runtime.clock import SystemClock
    from foreshock.runtime.distributed import Worker
    from foreshock.runtime.warm import warm

    overrides: dict[str, Any] = {} if name is None else {"kafka": {"worker": name}}
    config = load(files or [], preset=None if files else "minimal", overrides=overrides)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with interrupted() as stop:
        if seconds is not None:
            timer = threading.Timer(seconds, stop.set)
            timer.daemon = True
            timer.start()
        if metrics is not None:
            serve(metrics)
        # Compiling takes longer than a group waits for a member.
        warm(config)
        one = Worker(config, SystemClock(), stop)
        all_imported()
        topics = ", ".join(one.layout.inputs)
        errors().print(
            f"foreshock worker {one.name} reads {topics} in group {one.options.group} "
            f"({one.layout.tasks} keyed tasks, protocol {one.protocol}); alerts go to {one.layout.alerts}",
            markup=False,
        )
        one.run()
    errors().print(f"foreshock worker {one.name} has handed over what it had", markup=False)


def serve(address: str) -> None:
    """Serve our metrics; ConfigError where the address cannot be used."""
    from prometheus_client import start_http_server

    from foreshock.errors import ConfigError
    from foreshock.telemetry import REGISTRY

    host, _, port = address.rpartition(":")
    try:
        start_http_server(int(port), host.strip("[]") or "127.0.0.1", REGISTRY)
    except (ValueError, OSError) as error:
        raise ConfigError(f"--metrics {address}: {error}") from None
