"""The source `prometheus`: what is worth watching is found, its past read, then every step as it comes."""

from __future__ import annotations

import logging
import random
import threading
from typing import ClassVar

import msgspec

from foreshock.adapters.prometheus.api import Api, TooMuchError, connect
from foreshock.adapters.prometheus.discovery import Catalogue
from foreshock.adapters.prometheus.options import PrometheusOptions
from foreshock.adapters.prometheus.reader import Reader
from foreshock.errors import BadInputError, ConfigError, ForeshockError, RetryableError
from foreshock.ports import Clock, Submit
from foreshock.telemetry import ERRORS, drop
from foreshock.types import Record, rfc3339
from foreshock.types.record import ARROW, WATERMARK

logger = logging.getLogger(__name__)

DISCOVER_SECONDS = 300.0
"""Between two looks for what is new; less at first."""
HISTORY_SECONDS = 900.0
"""What is older than this when reading begins is history: it is learnt from and notifies nobody."""

_FIRST_LOOK_SECONDS = 5.0
_SETTLE_SECONDS = 60.0
_LONGEST_SLEEP = 0.5
_NO_ROOM_SECONDS = 0.2
_LONGEST_BACKOFF = 30.0
_LEAST_GAP_SECONDS = 300.0
_CLOCK_SET_SECONDS = 3600.0
_MOST_OFFSET_SECONDS = 2.0
_QUIET_SECONDS = 60.0
"""Trouble that comes and goes is said once; after so long without any it is news again."""
_MOST_TOLD = 1000
_HALVINGS = 8
"""So often a smaller chunk is tried before it counts as trouble."""


class PrometheusSource:
    """Reads a Prometheus at exact multiples of an interval, in order, each time once.

    Trouble never ends it: it is said once, counted (`foreshock_errors_total{part="source:<name>"}`), shown in `problem`
    and tried again. What was missed meanwhile is read then, as far back as `backfill`. Raises ConfigError where the
    address or the file of certificates cannot be used.
    """

    options: ClassVar = PrometheusOptions
    default_lateness_seconds: ClassVar = 0.0

    def __init__(
        self,
        name: str = "prometheus",
        options: PrometheusOptions | None = None,
        environment: str = "default",
        lateness_seconds: float = 0.0,
    ) -> None:
        self.name, self.lateness_seconds = name, lateness_seconds
        self._options = own = options or PrometheusOptions()
        self._environment = environment
        try:
            self._url = own.address
            self._client = connect(
                self._url,
                token=own.token.get_secret_value() if own.token else "",
                basic=(own.username, own.password.get_secret_value() if own.password else "") if own.username else None,
                headers={key: value.get_secret_value() for key, value in own.headers.items()},
                timeout_seconds=own.timeout,
                verify=own.verify,
                ca_file=own.ca_file,
            )
        except ValueError as error:
            raise ConfigError(f"source {name}: PROMETHEUS_URL {error}", key="url") from error
        except OSError as error:
            raise ConfigError(f"source {name}: {own.ca_file} cannot be used: {error}", key="ca_file") from error
        self.every_seconds = own.every or 0.0
        """Between two readings; 0 = not found yet."""
        self._resume = 0
        self._stopped = threading.Event()
        self._random = random.Random()
        self._failures = 0
        self._problem = ""
        self._progress = ""
        self._told: set[str] = set()
        self._troubles: set[str] = set()
        self._last_failure = 0
        self._reader: Reader | None = None
        self._started = 0
        self._discover_at, self._discover_every = 0, _FIRST_LOOK_SECONDS

    @property
    def problem(self) -> str:
        """Why it brings nothing new now, in words; empty while all is well."""
        return self._problem or self._progress

    def resume(self, time_unix_nano: int) -> None:
        """Before `run`: the newest time that the log has of this source; reading goes on behind it."""
        self._resume = time_unix_nano

    def run(self, submit: Submit, clock: Clock) -> None:
        """Read and submit until `stop`."""
        with self._client:
            api = Api(self._url, self._client, clock)
            catalogue = Catalogue(api, self._options, (("entity", self.name),))
            self._started = clock.now_unix_nano()
            while not self._stopped.is_set():
                try:
                    pause = self._step(api, catalogue, submit, clock)
                except ForeshockError as error:
                    pause = self._failed(error, clock)
                else:
                    self._went_well(api, clock)
                for note in catalogue.tell():
                    self._say(note)
                self._wait(clock, pause)

    def stop(self) -> None:
        """End `run` soon: within half a second, or when the answer that it waits for is there."""
        self._stopped.set()

    # -- one step ------------------------------------------------------------------------------------------------

    def _step(self, api: Api, catalogue: Catalogue, submit: Submit, clock: Clock) -> float:
        """Do what is next; seconds until there is more to do."""
        if self._reader is None:
            return self._begin(api, catalogue, submit, clock)
        if api.now_unix_nano() >= self._discover_at:
            self._look_again(api, catalogue, clock)
        return self._read(self._reader, api, submit, clock)

    def _begin(self, api: Api, catalogue: Catalogue, submit: Submit, clock: Clock) -> float:
        """Find out what there is, and where to begin."""
        now = api.now_unix_nano() / 1e9
        catalogue.learn_intervals(now)
        waited = (clock.now_unix_nano() - self._started) / 1e9
        if not catalogue.choose_step() and waited < _SETTLE_SECONDS:
            return 1.0  # it has only just begun to scrape
        step = catalogue.step_seconds
        now = api.now_unix_nano() / 1e9
        catalogue.discover(now, self._options.backfill)
        self.every_seconds = step
        first = now - self._options.backfill
        if catalogue.first_unix is not None:
            first = max(first, catalogue.first_unix)
        first = max(first, self._resume / 1e9 + step)
        row = min(-int(-first // step), int((now - self._offset) // step))
        if row * step < now - HISTORY_SECONDS:
            payload = msgspec.json.encode({"w": round((now - HISTORY_SECONDS) * 1e9)})
            self._bring(submit, clock, Record(self._environment, self.name, WATERMARK, clock.now_unix_nano(), payload))
        self._reader = Reader(api, catalogue, step, row)
        self._plan_look(api)
        since = rfc3339(round(row * step * 1e9))
        logger.info("source %s: %d series every %g s, from %s on", self.name, len(catalogue.raws), step, since)
        return 0.0

    def _look_again(self, api: Api, catalogue: Catalogue, clock: Clock) -> None:
        """Discover anew; trouble with that keeps nobody from reading what is known."""
        self._plan_look(api)
        try:
            catalogue.learn_intervals(api.now_unix_nano() / 1e9)
            catalogue.discover(api.now_unix_nano() / 1e9, 0.0)
        except ForeshockError as error:
            self._failed(error, clock)

    def _plan_look(self, api: Api) -> None:
        self._discover_at = api.now_unix_nano() + round(self._discover_every * 1e9)
        self._discover_every = min(2 * self._discover_every, DISCOVER_SECONDS)

    def _read(self, reader: Reader, api: Api, submit: Submit, clock: Clock) -> float:
        """Read the next chunk, if its time has come; seconds until the next is due."""
        step, now = reader.step_seconds, api.now_unix_nano() / 1e9
        last = int((now - self._offset) // step)
        behind = last + 1 - reader.next_row
        longest = round(max(self._options.backfill, _LEAST_GAP_SECONDS) / step)
        # While the past is being read, time goes on: that is no gap.
        if behind > longest + max(longest // 4, round(_CLOCK_SET_SECONDS / step)):
            drop(self.name, "prometheus_gap", behind - longest)
            self._say(f"nothing was read for {behind * step:.0f} s, longer than backfill: the older part is left out")
            reader.skip_to(last + 1 - longest)
        elif behind < -max(3, _SETTLE_SECONDS / step):
            return self._clock_went_back(reader, api, last)
        if reader.next_row > last:
            return max(0.0, reader.next_row * step + self._offset - api.now_unix_nano() / 1e9)
        for payload in reader.read(last):
            self._bring(submit, clock, Record(self._environment, self.name, ARROW, clock.now_unix_nano(), payload))
        left = (last + 1 - reader.next_row) * step
        reached = rfc3339(round(reader.next_row * step * 1e9))
        self._progress = f"source {self.name}: the past is being read, up to {reached} so far" if left > 60 else ""
        return 0.0

    def _clock_went_back(self, reader: Reader, api: Api, last: int) -> float:
        """Wait for the time that was read already; after an hour's leap it was the time before that was wrong."""
        api.instant("vector(1)", last * reader.step_seconds)  # its clock may have gone on while ours was set
        last = int((api.now_unix_nano() / 1e9 - self._offset) // reader.step_seconds)
        seconds = (reader.next_row - last - 1) * reader.step_seconds
        if seconds > _CLOCK_SET_SECONDS:
            self._say(f"the clock went back by {seconds:.0f} s: reading goes on from there", f"clock {last}")
            reader.skip_to(last + 1)
            return 0.0
        if seconds > _SETTLE_SECONDS:
            self._say(f"the clock went back by {seconds:.0f} s: reading goes on when it has come up to where it was",
                      f"clock {reader.next_row}")  # fmt: skip
        return min(max(seconds, 0.0), _LONGEST_BACKOFF)

    @property
    def _offset(self) -> float:
        """How long after a time it is read: scrapes of that time have come in by then."""
        return min(_MOST_OFFSET_SECONDS, 0.25 * self.every_seconds)

    def _bring(self, submit: Submit, clock: Clock, record: Record) -> None:
        """Hand a record over, waiting for room: it is not read again."""
        while not self._stopped.is_set():
            try:
                submit(record)
            except RetryableError:
                self._wait(clock, _NO_ROOM_SECONDS)
            except BadInputError as error:
                drop(self.name, error.reason)
                return
            else:
                return

    # -- trouble -------------------------------------------------------------------------------------------------

    def _failed(self, error: ForeshockError, clock: Clock) -> float:
        """Count and say it; seconds until the next try."""
        ERRORS.labels(f"source:{self.name}").inc()
        self._failures += 1
        self._last_failure = clock.now_unix_nano()
        less = isinstance(error, TooMuchError) and self._failures <= _HALVINGS
        if not less:
            self._problem = f"source {self.name}: {error}"
        if str(error) not in self._troubles:
            self._troubles.add(str(error))
            then = "asking for less at a time" if less else "trying again"
            logger.warning("source %s: %s; %s", self.name, error, then)
        pause = min(_LONGEST_BACKOFF, 2.0 ** min(self._failures - 1, 10)) * self._random.uniform(0.8, 1.2)
        return min(pause, 1.0) if less else pause

    def _went_well(self, api: Api, clock: Clock) -> None:
        self._failures = 0
        if self._problem:
            self._problem = ""
            logger.warning("source %s: %s answers again", self.name, api.where)
        elif self._troubles and clock.now_unix_nano() - self._last_failure > _QUIET_SECONDS * 1e9:
            self._troubles.clear()
        for warning in api.warnings:
            self._say(f"{api.where} warns: {warning}")
        if api.skew_seconds:
            self._say(f"its clock is {api.skew_seconds:+.0f} s from ours: its times count", "skew")

    def _say(self, sentence: str, about: str = "") -> None:
        """Tell people, once for all."""
        if (about or sentence) not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(about or sentence)
            logger.warning("source %s: %s", self.name, sentence)

    def _wait(self, clock: Clock, seconds: float) -> None:
        """Sleep, at most until `stop`."""
        until = clock.now_unix_nano() + round(seconds * 1e9)
        while not self._stopped.is_set() and 0 < (left := until - clock.now_unix_nano()) <= round(seconds * 1e9):
            clock.sleep(min(left / 1e9, _LONGEST_SLEEP))
