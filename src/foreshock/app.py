"""The composition root: a config becomes a running process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from foreshock import __version__, plugins
from foreshock.adapters.http import HttpSource
from foreshock.adapters.sql import Store
from foreshock.api.auth import Role, Token
from foreshock.api.server import Server, create_app, serve
from foreshock.api.services import Health, Services
from foreshock.config import Config
from foreshock.errors import ForeshockError
from foreshock.incident.alarm import watchdog
from foreshock.ports import Sink, Source
from foreshock.runtime.clock import SystemClock
from foreshock.runtime.embedded import Embedded
from foreshock.runtime.lock import lock_folder
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.outbox import Outbox
from foreshock.runtime.snapshot import SnapshotStore
from foreshock.runtime.views import Views
from foreshock.telemetry import BUDGET_ACHIEVED, ENTITIES, ERRORS, SECONDS_SILENT, SERIES
from foreshock.types import Alert, Record, Samples

logger = logging.getLogger(__name__)

EXPIRE_SECONDS = 600.0


class App:
    """Everything that runs in one process: engine, sources, sinks, HTTP server; started and stopped together.

    Raises PermanentError if the data folder is in use or cannot be read, or the port is taken.
    """

    def __init__(self, config: Config, clock: SystemClock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.started_unix_nano = self.clock.now_unix_nano()
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self.server: Server | None = None
        self.on_reading: Callable[[Samples], None] = lambda samples: None
        self.final: dict[str, Any] = {}
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack) -> None:
        config, folder = self.config, Path(self.config.data_dir)
        stack.enter_context(lock_folder(folder))
        self.store = Store(config.database_url, config.store.retention)
        stack.callback(self.store.close)
        self.log = SegmentLog.open(
            folder / "log",
            self.store.committed("embedded"),
            segment_bytes=config.log.segment_bytes,
            max_bytes=config.log.max_bytes,
            max_age_seconds=config.log.max_age,
            durability=config.log.durability,
        )
        stack.callback(self.log.close)
        snapshots = SnapshotStore(folder / "snapshots", config.snapshot.keep)
        self.views = Views()
        self.views.feed_alerts(self.store.alerts(limit=1000, status="firing").alerts)
        self.engine = Embedded(config, self.clock, self.log, self.store, snapshots, self.views, self._committed)
        self.outboxes = [
            Outbox(self.store, sink, self.clock, seed=config.seed) for sink in build_sinks(config, self.clock)
        ]
        self.sources = list(build_sources(config))

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve, recover, and bring in telemetry once the log has been caught up with."""
        if self.config.http.enabled:
            self.server = serve(create_app(self._services()), self.config.http.host, self.config.http.port)
            self.server.start()
        self.engine.start()
        for outbox in self.outboxes:
            outbox.start()
        for source in self.sources:
            self._thread(f"source-{source.name}", self._bring, source)
        self._thread("housekeeping", self._keep_house)

    def stop(self) -> None:
        """End sources, judge what is queued, commit, snapshot, deliver for a moment, close."""
        for source in self.sources:
            source.stop()
        self.clock.stop()
        if self.server is not None:
            self.server.stop()
        for thread in self._threads:
            thread.join(5.0)
        self.engine.stop()
        for outbox in self.outboxes:
            outbox.wake()
            outbox.stop(drain_seconds=2.0)
        self.final = self.report()
        self._stack.close()

    def _thread(self, name: str, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name=f"foreshock-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _bring(self, source: Source) -> None:
        while not self.engine.ready.wait(0.1):
            if self.clock.stopped.is_set():
                return
        source.run(self._submit, self.clock)

    def _submit(self, record: Record) -> None:
        samples = self.engine.decode(record)
        self.engine.submit(record, samples)
        self.on_reading(samples)

    def _committed(self) -> None:
        for outbox in self.outboxes:
            outbox.wake()

    def _keep_house(self) -> None:
        due = 0.0
        while not self.clock.stopped.is_set():
            self._publish()
            due -= 5.0
            if due <= 0:
                due = EXPIRE_SECONDS
                self._expire()
            self.clock.sleep(5.0)

    def _expire(self) -> None:
        try:
            self.store.expire(self.clock.now_unix_nano())
        except ForeshockError as error:
            ERRORS.labels("retention").inc()
            logger.warning("old rows were not removed: %s", error)

    def _publish(self) -> None:
        counts = self.views.counts()
        SERIES.set(len(self.engine.task.pipeline.registry))
        ENTITIES.set(counts["entities"])
        for level, ratio in self.budget().items():
            BUDGET_ACHIEVED.labels(level).set(ratio)
        for source, seconds in self.engine.ticker.silent_seconds(self.clock.now_unix_nano()).items():
            SECONDS_SILENT.labels(source).set(seconds)

    # -- what is known -------------------------------------------------------------------------------------------

    def budget(self) -> dict[str, float]:
        """Achieved ÷ budget at each level; a level without a scored day is left out."""
        pipeline, config = self.engine.task.pipeline, self.config
        day = int(self.engine.task.watermark // 86_400_000_000_000)
        achieved = pipeline.budget.achieved()
        series = [rate for rate in pipeline.bank.achieved(day).values() if rate == rate]
        levels = {
            "series": sum(series) / len(series) / config.budget.entity if series else float("nan"),
            "entity": achieved.entity_ratio,
            "environment": achieved.environment_ratio,
        }
        return {level: ratio for level, ratio in levels.items() if ratio == ratio}

    def health(self) -> Health:
        """What readiness is judged by."""
        problems = []
        if not self.engine.ready.is_set():
            problems.append("starting: the log is being read")
        if self.engine.failed:
            problems.append(self.engine.failed)
        own = [source for source in self.config.sources if source.lateness_seconds == 0]
        step = self.config.stream.step if isinstance(self.config.stream.step, float) else 1.0
        mark = self.engine.advanced_unix_nano if own and self.engine.ready.is_set() else 0
        return Health(mark, max(step, 5.0), tuple(problems))

    def status(self) -> dict[str, Any]:
        """The state of the process in numbers."""
        now = self.clock.now_unix_nano()
        return {
            "version": __version__,
            "environment": self.config.environment,
            "uptime_seconds": (now - self.started_unix_nano) / 1e9,
            "ready": self.engine.ready.is_set() and self.engine.failed is None,
            "watermark_unix_nano": self.engine.task.watermark,
            "position": self.log.end,
            **self.views.counts(),
            "budget_achieved_ratio": self.budget(),
            "counts": dict(self.engine.task.pipeline.align.counts),
        }

    def watchdog(self) -> Alert:
        """The alert that always fires, so that its absence says that we are dead."""
        return watchdog(self.config.environment, self.started_unix_nano)

    def report(self) -> dict[str, Any]:
        """What a headless run ends with."""
        alerts = [self.watchdog(), *self.store.alerts(limit=1000, since_unix_nano=self.started_unix_nano).alerts]
        return {"status": self.status(), "alerts": [alert.to_json() for alert in alerts]}

    def _services(self) -> Services:
        config = self.config
        return Services(
            version=__version__,
            clock=self.clock,
            decode=self.engine.decode,
            submit=lambda record, samples: self.engine.submit(record, samples, reserved=True),
            reserve=self.engine.reserve,
            control=self.engine.control,
            views=self.views,
            store=self.store,
            status=self.status,
            health=self.health,
            watchdog=self.watchdog,
            tokens=tuple(
                Token.of(token.name or f"token {i}", Role(token.role), token.token.get_secret_value())
                for i, token in enumerate(config.http.tokens)
            ),
            host=config.http.host,
            hosts=frozenset(config.http.hosts),
            environment=config.environment,
            source=next((source.name for source in self.sources if isinstance(source, HttpSource)), "http"),
            max_body_bytes=config.limits.body_bytes,
            submit_blocks=config.log.durability == "disk",
        )


def build_sinks(config: Config, clock: SystemClock) -> Iterator[Sink]:
    """The sinks of a config."""
    for sink in config.sinks:
        yield plugins.build("sink", sink, clock=clock)


def build_sources(config: Config) -> Iterator[Source]:
    """The sources of a config; `http` only waits, what is posted comes in by the server."""
    for source in config.sources:
        yield plugins.build(
            "source",
            source,
            environment=config.environment,
            lateness_seconds=source.lateness_seconds,
            mapping=config.mapping,
        )
