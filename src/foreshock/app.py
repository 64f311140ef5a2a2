"""The composition root: a config becomes a running process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from foreshock import __version__, plugins
from foreshock.adapters.http import CallsSource, HttpSource, PostedSource
from foreshock.adapters.sql import Store
from foreshock.api.auth import Role, Token
from foreshock.api.inside import Inside
from foreshock.api.live import Hub
from foreshock.api.read import entities_by_labels, more_of
from foreshock.api.server import Server, create_app, serve
from foreshock.api.services import Health, Services
from foreshock.config import Config
from foreshock.errors import ForeshockError
from foreshock.incident.alarm import watchdog
from foreshock.ports import Clock, Sink, Source
from foreshock.runtime.clock import SystemClock
from foreshock.runtime.embedded import TASK, Embedded
from foreshock.runtime.lock import lock_folder
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.outbox import Outbox
from foreshock.runtime.rollups_kernel import COARSE, FINE
from foreshock.runtime.snapshot import SnapshotStore
from foreshock.runtime.views import Views
from foreshock.runtime.warm import warm
from foreshock.telemetry import BUDGET_ACHIEVED, DETECTOR_ACHIEVED, ENTITIES, ERRORS, REGISTRY, SECONDS_SILENT, SERIES
from foreshock.types import Alert, Decoded, Record
from foreshock.types.record import CONTROL, WATERMARK

if TYPE_CHECKING:
    from foreshock.api.desk import Desk, Shop

logger = logging.getLogger(__name__)

EXPIRE_SECONDS = 600.0
PUBLISH_SECONDS = 5.0
LEAST_STEP_SECONDS = 5.0
"""Steps below count as this long when readiness is judged: three of them are 15 s."""

_NEVER_LATE = "default_lateness_seconds"


class AppClock(Clock, Protocol):
    """A clock that can be stopped, which wakes everybody who sleeps by it, for good."""

    stopped: threading.Event

    def stop(self) -> None:
        """Wake everybody."""
        ...


class App:
    """Everything that runs in one process: engine, sources, sinks, HTTP server; started and stopped together.

    Raises PermanentError if the data folder is in use or cannot be read, or the port is taken.
    """

    def __init__(self, config: Config, clock: AppClock | None = None) -> None:
        self.config = config
        self.clock: AppClock = clock or SystemClock()
        self.started_unix_nano = self.clock.now_unix_nano()
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self._warming = threading.Lock()
        self.server: Server | None = None
        self.on_reading: Callable[[Decoded], None] = lambda samples: None
        self.final: dict[str, Any] = {}
        # Sources that ended by an error, and what it was.
        self.ended: dict[str, str] = {}
        # What the page may break: the simulated shop among the sources, or what the demo sets.
        self.shop: Shop | None = None
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack) -> None:
        config, folder = self.config, Path(self.config.data_dir)
        stack.enter_context(lock_folder(folder))
        keep = {0: config.store.points, FINE.seconds: config.store.minutes, COARSE.seconds: config.store.retention}
        self.store = Store(config.database_url, config.store.retention, stretch_seconds=keep)
        stack.callback(self.store.close)
        self.log = SegmentLog.open(
            folder / "log",
            self.store.committed(TASK),
            segment_bytes=config.log.segment_bytes,
            max_bytes=config.log.max_bytes,
            max_age_seconds=config.log.max_age,
            durability=config.log.durability,
        )
        stack.callback(self.log.close)
        snapshots = SnapshotStore(folder / "snapshots", config.snapshot.keep)
        self.views = Views.of(config)
        self.views.feed_alerts(self.store.alerts(limit=1000, status="firing").alerts)
        self.engine = Embedded(config, self.clock, self.log, self.store, snapshots, self.views, self._committed)
        self.outboxes = [
            Outbox(self.store, sink, self.clock, seed=config.seed) for sink in build_sinks(config, self.clock)
        ]
        self.sources = list(build_sources(config))
        simulated: Any = next((one for one in self.sources if hasattr(one, "inject")), None)
        self.shop = simulated
        self.hub = Hub(self.views, self.store, self.standing, self._told)

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
        with self._stack:
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
            self.final = self._last_report()

    def _thread(self, name: str, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name=f"foreshock-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _bring(self, source: Source) -> None:
        while not self.engine.ready.wait(0.1):
            if self.clock.stopped.is_set():
                return
        # Compiling keeps a core busy, which must not be the first thing that is learnt of this machine.
        with self._warming, suppress(ForeshockError):
            warm(self.config)
        resume = getattr(source, "resume", None)
        if resume is not None and (newest := self.engine.ticker.newest(source.name)) is not None:
            resume(newest)
        try:
            source.run(self._submit, self.clock)
        except Exception as error:
            # A source is somebody's code: what it raises ends it, not the others, and /readyz says so.
            self.ended[source.name] = f"source {source.name} has ended: {type(error).__name__}: {error}"
            ERRORS.labels(f"source:{source.name}").inc()
            logger.exception("source %s has ended", source.name)

    def _submit(self, record: Record) -> None:
        if record.content_type in (WATERMARK, CONTROL):
            self.engine.submit(record)
            return
        samples = self.engine.decode(record)
        self.engine.submit(record, samples)
        self.on_reading(samples)

    def _committed(self) -> None:
        for outbox in self.outboxes:
            outbox.wake()
        self.hub.woken()

    def _told(self, alerts: Sequence[Alert]) -> list[dict[str, Any]]:
        labels, entities = self.store.labels(), entities_by_labels(self.views)
        return [more_of(alert, labels, entities) for alert in alerts]

    def _keep_house(self) -> None:
        due = 0.0
        while not self.clock.stopped.is_set():
            self._publish()
            due -= PUBLISH_SECONDS
            if due <= 0:
                due = EXPIRE_SECONDS
                self._expire()
            self.clock.sleep(PUBLISH_SECONDS)

    def _expire(self) -> None:
        try:
            self.store.expire(self.clock.now_unix_nano())
        except ForeshockError as error:
            ERRORS.labels("retention").inc()
            logger.warning("old rows were not removed: %s", error)

    def _publish(self) -> None:
        SERIES.set(self.engine.figures.series)
        ENTITIES.set(self.views.counts()["entities"])
        for level, ratio in self.budget().items():
            BUDGET_ACHIEVED.labels(level).set(ratio)
        for detector in self.engine.figures.detectors:
            if detector.achieved_ratio is not None:
                DETECTOR_ACHIEVED.labels(detector.model).set(detector.achieved_ratio)
        for source, seconds in self.engine.ticker.silent_seconds().items():
            SECONDS_SILENT.labels(source).set(seconds)

    # -- what is known -------------------------------------------------------------------------------------------

    def budget(self) -> dict[str, float]:
        """Achieved ÷ budget at each level; a level without a scored day is left out."""
        return dict(self.engine.figures.budget)

    def detectors(self) -> list[dict[str, Any]]:
        """How each detector does beside the others (`runtime.figures.DetectorFigures`)."""
        return [asdict(one) for one in self.engine.figures.detectors]

    def health(self) -> Health:
        """What readiness is judged by.

        Only sources that read by themselves (`host`) owe a watermark: of others nobody knows when they will send.
        """
        engine, now = self.engine, self.clock.now_unix_nano()
        ready = engine.ready.is_set()
        problems = [] if ready else ["starting: the log is being read"]
        problems += [one for one in (engine.failed or engine.writer.trouble, *self.ended.values()) if one]
        problems += [one for source in self.sources if (one := getattr(source, "problem", ""))]
        own = own_sources(self.config)
        # Some find out only when they run how often there is something to read.
        own |= {one.name: every for one in self.sources if one.name in own and (every := _every(one))}
        if not own or not ready:
            return Health(0, LEAST_STEP_SECONDS, tuple(problems))
        step = self.config.stream.step if isinstance(self.config.stream.step, float) else 0.0
        silent = engine.ticker.silent_seconds()
        # One that has brought nothing yet is given time from the start on, like the watermark itself.
        arrived = (now - int(silent[name] * 1e9) if name in silent else engine.ready_unix_nano for name in own)
        mark = min(engine.advanced_unix_nano, *arrived)
        return Health(mark, max(step, LEAST_STEP_SECONDS, *own.values()), tuple(problems))

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
            "counts": dict(self.engine.figures.counts),
            "detectors": self.detectors(),
        }

    def standing(self) -> dict[str, Any]:
        """What the page says of the process, each second."""
        now = self.clock.now_unix_nano()
        silent = self.engine.ticker.silent_seconds()
        return {
            "environment": self.config.environment,
            "now_unix_seconds": now / 1e9,
            "watermark_unix_seconds": self.engine.task.watermark / 1e9 or None,
            "silent_seconds": min(silent.values()) if silent else None,
            "not_ready": self.health().reasons(now),
            "demo": self.shop is not None,
            **self.views.counts(),
        }

    @property
    def _desk(self) -> Desk | None:
        if self.shop is None:
            return None
        # The shop and its kernels are only loaded where there is one.
        from foreshock.api.desk import Desk

        return Desk(self.shop, self.clock, lambda: self.engine.said, lambda: self.engine.decided)

    def _inside(self) -> Inside:
        engine = self.engine
        return Inside(
            self.config,
            self.views,
            REGISTRY,
            lambda: {name: part.detector.info for name, part in engine.task.pipeline.bank.parts.items()},
            lambda: engine.figures,
            engine.ticker,
            self.sources,
            self.ended,
        )

    def watchdog(self) -> Alert:
        """The alert that always fires, so that its absence says that we are dead."""
        return watchdog(self.config.environment, self.started_unix_nano)

    def report(self) -> dict[str, Any]:
        """What a headless run ends with: what was said in it, and what fires still; the latest start first."""
        firing = {alert.episode: alert for alert in self.store.alerts(limit=1000, status="firing").alerts}
        alerts = sorted((firing | self.engine.said).values(), key=lambda alert: (-alert.starts_unix_nano, alert.key))
        return {"status": self.status(), "alerts": [alert.to_json() for alert in (self.watchdog(), *alerts)]}

    def _last_report(self) -> dict[str, Any]:
        """The report, without the alerts where the store cannot be read any more."""
        try:
            return self.report()
        except ForeshockError as error:
            ERRORS.labels("report").inc()
            logger.warning("the report is without alerts: %s", error)
            return {"status": self.status(), "alerts": [self.watchdog().to_json()]}

    def _services(self) -> Services:
        config = self.config
        return Services(
            version=__version__,
            clock=self.clock,
            decode=self.engine.decode,
            submit=lambda record, samples: self.engine.submit(record, samples, reserved=True),
            reserve=self.engine.reserve,
            control=self.engine.control,
            end_control=self.engine.end_control,
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
            source=self._posted(HttpSource, "http"),
            calls_source=self._posted(CallsSource, "calls"),
            max_body_bytes=config.limits.body_bytes,
            submit_blocks=config.log.durability == "disk",
            inside=self._inside(),
            desk=self._desk,
            hub=self.hub,
        )

    def _posted(self, kind: type[PostedSource], otherwise: str) -> str:
        """The name of the first source of a kind that others push to."""
        return next((source.name for source in self.sources if isinstance(source, kind)), otherwise)


def own_sources(config: Config) -> dict[str, float]:
    """Sources that read by themselves and are never late, and the seconds between two of their readings."""
    own = (one for one in config.sources if getattr(plugins.find("source", one.type), _NEVER_LATE, None) == 0)
    return {source.name: float(getattr(source.options, "every", 1.0) or LEAST_STEP_SECONDS) for source in own}


def _every(source: Source) -> float:
    """Seconds between two readings of a running source, 0 where it does not say."""
    return float(getattr(source, "every_seconds", 0.0))


def build_sinks(config: Config, clock: Clock) -> Iterator[Sink]:
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
