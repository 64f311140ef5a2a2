"""`foreshock shop`: a shop of real HTTP services to watch, and to break."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
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
