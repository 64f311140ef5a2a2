"""`foreshock agent`: read a host or a Prometheus, and bring it to Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.cli.interrupt import interrupted
from foreshock.cli.output import all_imported, counted, emit_json, errors

if TYPE_CHECKING:
    from foreshock.adapters.kafka.options import KafkaOptions
    from foreshock.agent.agent import Agent, Carrier
    from foreshock.config import Config
    from foreshock.ports import Source
    from foreshock.types import Record

app = typer.Typer(help="Read this host or a Prometheus, and bring it to Kafka.", no_args_is_help=True)

Files = Annotated[
    list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset; `kafka:` counts.")
]
Brokers = Annotated[
    str | None, typer.Option("--brokers", help="host:port, several with commas (default: kafka.brokers).")
]
Topic = Annotated[
    str | None, typer.Option("--topic", help="Where metrics go (default: KAFKA_TOPIC_METRICS, else metrics-topic).")
]
SpoolFolder = Annotated[
    Path, typer.Option("--spool", help="Folder of what waits while Kafka is away; one an agent.")
]  # fmt: skip
SpoolMegabytes = Annotated[
    int, typer.Option("--spool-mb", min=1, help="Most that may wait, in MiB; beyond, the oldest goes.")
]  # fmt: skip
ForSeconds = Annotated[float | None, typer.Option("--seconds", min=0, help="End after so many seconds.")]
AsJson = Annotated[bool, typer.Option("--json", help="End with a report in JSON.")]


@app.command()
def host(
    files: Files = None,
    every: Annotated[float | None, typer.Option("--every", min=0.1, help="Seconds between two readings.")] = None,
    batch: Annotated[float, typer.Option("--batch", min=0, help="Seconds of readings that go into one message.")] = 1.0,
    listen: Annotated[
        str, typer.Option("--listen", help="Address of the Prometheus endpoint, host:port; '' = none.")
    ] = "127.0.0.1:9464",
    brokers: Brokers = None,
    topic: Topic = None,
    spool: SpoolFolder = Path(".foreshock/agent-host"),
    spool_mb: SpoolMegabytes = 256,
    seconds: ForSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Read this machine; bring it to Kafka, and show it to a Prometheus that asks."""
    from foreshock.adapters.host import HostOptions, HostSource
    from foreshock.agent.carriers import Readings
    from foreshock.agent.exposition import LastReading, serve

    config = _config(files)
    options = next((one.options for one in config.sources if one.type == "host"), HostOptions())
    if every is not None:
        options = options.model_copy(update={"every": every})
    source = HostSource(options=options, environment=config.environment)
    last = LastReading()
    server = serve(last, *_address(listen)) if listen else None
    where = f", /metrics on http://127.0.0.1:{server.server_port}" if server else ""
    try:
        way = _Way(config, brokers, topic, spool, spool_mb << 20)
        agent = way.agent(source, Readings(way.topic, "foreshock/agent/host", batch, options.every), last.take)
        run(agent, seconds, as_json, f"this host{where} → {way}")
    finally:
        if server is not None:
            server.shutdown()


@app.command()
def prometheus(
    files: Files = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Address of the Prometheus (default: that of the config).")
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", help="PromQL to ask for; may be given again (default: the config's, else discovery)."),
    ] = None,
    every: Annotated[float | None, typer.Option("--every", min=1, help="Seconds between two readings.")] = None,
    brokers: Brokers = None,
    topic: Topic = None,
    spool: SpoolFolder = Path(".foreshock/agent-prometheus"),
    spool_mb: SpoolMegabytes = 256,
    seconds: ForSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Ask a Prometheus, and bring what it answers to Kafka."""
    from pydantic import ValidationError

    from foreshock.adapters.prometheus.options import PrometheusOptions
    from foreshock.adapters.prometheus.source import PrometheusSource
    from foreshock.agent.carriers import Readings
    from foreshock.errors import ConfigError

    config = _config(files)
    found = next((one.options for one in config.sources if one.type == "prometheus"), None)
    # The past is nobody's alarm, and behind Kafka it could not be told from the present: only a gap is filled.
    base = found or PrometheusOptions(backfill=_GAP_SECONDS)
    given: dict[str, Any] = {"url": url, "queries": query or None, "every": every}
    changed = base.model_dump() | {key: value for key, value in given.items() if value is not None}
    try:
        options = PrometheusOptions.model_validate(changed)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"--{first['loc'][0] if first['loc'] else 'url'}: {first['msg']}") from None
    source = PrometheusSource(options=options, environment=config.environment)
    way = _Way(config, brokers, topic, spool, spool_mb << 20)
    agent = way.agent(source, Readings(way.topic, "foreshock/agent/prometheus"))
    run(agent, seconds, as_json, f"a Prometheus → {way}")


_GAP_SECONDS = 900.0


def _config(files: list[Path] | None) -> Config:
    from foreshock.config import load

    return load(files or [])


def kafka_options(config: Config, brokers: str | None) -> KafkaOptions:
    """The `kafka:` settings with what the environment and the command line say."""
    import os

    given = {"brokers": brokers} if brokers else {}
    return config.kafka.model_copy(update=given).filled(os.environ)


class _Way:
    """The way from an agent to Kafka: topic, brokers, and the buffer before them."""

    def __init__(self, config: Config, brokers: str | None, topic: str | None, folder: Path, most_bytes: int) -> None:
        import os

        from foreshock.adapters.kafka.options import METRICS

        self.topic = topic or os.environ.get("KAFKA_TOPIC_METRICS") or METRICS
        self._options = kafka_options(config, brokers)
        self._folder, self._most_bytes = folder, most_bytes

    def __str__(self) -> str:
        return f"{self.topic} at {self._options.brokers}"

    def agent(
        self, source: Source, carrier: Carrier, on_record: Callable[[Record], None] = lambda record: None
    ) -> Agent:
        """An agent that goes this way."""
        from foreshock.agent.agent import Agent
        from foreshock.agent.connect import connector, inputs
        from foreshock.agent.forward import Forwarder
        from foreshock.agent.spool import Spool
        from foreshock.runtime.clock import SystemClock

        connect = connector(self._options, inputs(self.topic))
        spool = Spool(self._folder, self._most_bytes)
        return Agent(source, carrier, spool, Forwarder(spool, connect), SystemClock(), on_record)


def run(agent: Agent, seconds: float | None, as_json: bool, what: str) -> None:
    """Run an agent until it is interrupted, or for so long; exit code 3 where its source has failed."""
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with interrupted() as stop:
        agent.start()
        all_imported()
        errors().print(f"foreshock agent: {what}; what waits is in {agent.spool.folder}", markup=False)
        _wait(agent, stop, seconds)
        agent.stop()
    sent, waiting = agent.forwarder.sent, agent.spool.waiting
    if as_json:
        emit_json({"sent": sent, "waiting": waiting, "problem": agent.problem})
    else:
        more = f", {waiting} wait on disk" if waiting else ""
        errors().print(f"foreshock agent: {counted(sent, 'message')} sent{more}", markup=False)
    if agent.failed:
        raise typer.Exit(3)


def _wait(agent: Agent, stop: threading.Event, seconds: float | None) -> None:
    left = float("inf") if seconds is None else seconds
    while left > 0 and not stop.wait(min(left, 0.5)) and not agent.ended.is_set():
        left -= 0.5


def _address(listen: str) -> tuple[str, int]:
    from foreshock.errors import ConfigError

    name, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{listen!r} is no address: write host:port, such as 127.0.0.1:9464")
    return name.strip("[]") or "0.0.0.0", int(port)
