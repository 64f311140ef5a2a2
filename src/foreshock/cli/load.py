"""`foreshock load`: events at a rate, with the truth about them."""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.cli.output import all_imported, emit_json, errors, lines

if TYPE_CHECKING:
    from foreshock.adapters.truth import Interval


def load(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset; `kafka:` counts.")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", min=0.01, max=1e7, help="Events a second.")] = 1000.0,
    users: Annotated[int, typer.Option("--users", min=1, max=10_000_000, help="How many users they are of.")] = 1000,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="For how long (default: until interrupted).")
    ] = None,
    anomalies: Annotated[
        float, typer.Option("--anomalies", min=0, max=0.5, help="Share of the events that is made abnormal.")
    ] = 0.01,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal events.")] = 0,
    topic: Annotated[str | None, typer.Option("--topic", help="Where they go (default: anomaly-events).")] = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Write what was abnormal, of whom and when, as CSV.")
    ] = None,
    keyed: Annotated[bool, typer.Option("--key/--no-key", help="Whether messages have the user as their key.")] = True,
    brokers: Annotated[
        str | None, typer.Option("--brokers", help="host:port, several with commas (default: kafka.brokers).")
    ] = None,
    spool: Annotated[
        Path | None, typer.Option("--spool", help="Folder of what waits (default: one that goes with the command).")
    ] = None,
    spool_mb: Annotated[int, typer.Option("--spool-mb", min=1, help="Most that may wait, in MiB.")] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="End with a report in JSON.")] = False,
) -> None:
    """Send events of users to Kafka, each when it is due, whether or not anybody keeps up."""
    from foreshock.adapters.kafka.options import EVENTS
    from foreshock.agent.connect import connector, inputs
    from foreshock.agent.forward import Forwarder
    from foreshock.agent.load import Events, LoadOptions, run
    from foreshock.agent.spool import Spool
    from foreshock.cli.agent import kafka_options
    from foreshock.cli.interrupt import interrupted
    from foreshock.config import load as load_config
    from foreshock.runtime.clock import SystemClock

    config = load_config(files or [])
    kafka = kafka_options(config, brokers)
    options = LoadOptions(rate, users, seconds, anomalies, seed, topic or EVENTS, keyed)
    connect = connector(kafka, inputs(options.topic))
    with tempfile.TemporaryDirectory(prefix="foreshock-load-") as own, interrupted() as stop:
        buffer = Spool(spool or Path(own), spool_mb << 20)
        forwarder = Forwarder(buffer, connect)
        forwarder.start()
        all_imported()
        errors().print(f"foreshock load: {rate:g} events a second → {options.topic} at {kafka.brokers}", markup=False)
        events, begun = Events(options, time.time_ns()), time.monotonic()
        sent = run(events, buffer.add, SystemClock(), stop)
        took = time.monotonic() - begun
        forwarder.stop(drain_seconds=30.0)
        buffer.close()
    if truth is not None:
        _write(truth, events.truth)
    report = {
        "events": sent.events, "abnormal": sent.abnormal, "stretches": len(events.truth), "sent": forwarder.sent,
        "waiting": buffer.waiting, "seconds": took, "latest_seconds": sent.latest_seconds,
    }  # fmt: skip
    if as_json:
        emit_json(report)
    else:
        lines(
            f"{sent.events:,} events in {took:.1f} s, {forwarder.sent:,} acknowledged, {buffer.waiting:,} not",
            f"{sent.abnormal:,} of them abnormal, in {len(events.truth):,} stretches",
            f"the latest was handed over {sent.latest_seconds:.3f} s after it was due",
        )
    if buffer.waiting:
        raise typer.Exit(1)


def _write(path: Path, truth: Sequence[Interval]) -> None:
    """Intervals as a labels file of `foreshock replay`: start and end in Unix seconds, and the user."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("start", "end", "userId"))
        rows.writerows((one.since / 1e9, one.until / 1e9, dict(one.matchers)["userId"]) for one in truth)
