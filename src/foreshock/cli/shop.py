"""`foreshock shop`: a shop of real HTTP services to watch, and to break."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.cli.output import all_imported, console, errors

if TYPE_CHECKING:
    from foreshock.shop.http.serving import Shop

app = typer.Typer(help="A shop of real HTTP services to watch, and to break.", no_args_is_help=True)


@app.callback()
def shop() -> None:
    """A shop of real HTTP services to watch, and to break."""


@app.command()
def serve(
    port: Annotated[
        int, typer.Option("--port", min=0, help="First of the ports, one a service; 0 = any that are free.")
    ] = 9701,
    services: Annotated[
        str, typer.Option("--services", help="Only these, with commas between them; calls to others are left out.")
    ] = "",
    rate: Annotated[float, typer.Option("--rate", min=0, max=1000, help="Customers' requests a second.")] = 10.0,
    collect: Annotated[
        str, typer.Option("--collect", help="Where calls are recorded; '' = nowhere.")
    ] = "http://127.0.0.1:8080/collect",
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so many seconds.")] = None,
    attached: Annotated[bool, typer.Option("--attached", help="End when standard input ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say where the services listen in one line of JSON.")] = False,
) -> None:
    """Run the services on this machine until interrupted."""
    from foreshock.shop.http.serving import Shop

    served = Shop(services.split(","), port=port, rate=rate, collect=collect, say=_remark)
    all_imported()
    lease = sys.stdin.fileno() if attached and sys.stdin else None
    served.run(lambda: _announce(served, as_json), seconds, lease)


@app.command()
def kafka(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset; `kafka:` counts.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal shops.")] = 0,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="Customers' requests a second.")] = 10.0,
    anomalies: Annotated[
        float, typer.Option("--anomalies", min=0, max=0.5, help="Share of the rows of services that is made abnormal.")
    ] = 0.01,
    tour: Annotated[
        bool, typer.Option("--tour", help="Things break in the shop as well, one after the other.")
    ] = False,
    brokers: Annotated[
        str | None, typer.Option("--brokers", help="host:port, several with commas (default: kafka.brokers).")
    ] = None,
    spool: Annotated[Path, typer.Option("--spool", help="Folder of what waits while Kafka is away.")] = Path(
        ".foreshock/shop"
    ),
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with a report in JSON.")] = False,
) -> None:
    """Play the simulated shop onto Kafka: its metrics, and how each service does, with labels of what is abnormal."""
    import os

    from foreshock.adapters.kafka.options import METRICS
    from foreshock.agent.agent import Agent
    from foreshock.agent.connect import connector, inputs
    from foreshock.agent.forward import Forwarder
    from foreshock.agent.shop import ShopMessages, Topics
    from foreshock.agent.spool import Spool
    from foreshock.cli.agent import kafka_options, run
    from foreshock.config import load
    from foreshock.runtime.clock import SystemClock
    from foreshock.shop.source import ShopOptions, ShopSource

    config = load(files or [])
    options = kafka_options(config, brokers)
    topics = Topics(os.environ.get("KAFKA_TOPIC_METRICS") or METRICS, control=f"{options.prefix}control")
    source = ShopSource("shop", ShopOptions(seed=seed, rate=rate, tour=tour, labels=tour), config.environment)
    carrier = ShopMessages(topics, config.environment, anomalies, seed)
    connect = connector(options, inputs(topics.metrics, topics.services, topics.control))
    buffer = Spool(spool)
    agent = Agent(source, carrier, buffer, Forwarder(buffer, connect), SystemClock())
    run(agent, seconds, as_json, f"the shop → {topics.metrics}, {topics.services} at {options.brokers}")


def _remark(sentence: str) -> None:
    with suppress(OSError):  # whether or not anybody listens, the shop goes on
        sys.stderr.write(f"shop: {sentence}\n")
        sys.stderr.flush()


def _announce(served: Shop, as_json: bool) -> None:
    about = served.describe()
    if as_json:
        sys.stdout.write(json.dumps(about) + "\n")
        sys.stdout.flush()
        return
    from rich.table import Table

    table = Table("service", box=None, pad_edge=False)
    table.add_column("address", min_width=max(len(one["url"]) for one in about["services"]))
    table.add_column("pid")
    table.add_column("calls")
    for one in about["services"]:
        table.add_row(one["name"], one["url"], str(one["pid"]), ", ".join(one["calls"]))
    console().print(table)
    recorded = f"calls go to {about['collect']}" if about["collect"] else "calls are not recorded"
    load = f"{about['rate']:g} requests a second" if about["rate"] else "no load"
    errors().print(f"{load}, {recorded}; ctrl-c ends it", markup=False)
