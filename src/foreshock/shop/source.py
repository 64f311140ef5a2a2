"""The shop as a source: what it lets be seen, second by second, at the pace of the clock."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

import msgspec
from pydantic import Field, field_validator

from foreshock.adapters.calls import encode_calls
from foreshock.adapters.metrics import METRICS, encode_metrics
from foreshock.errors import BadInputError, ConfigError, RetryableError
from foreshock.ports import Clock, Submit
from foreshock.shop.faults import KINDS, NANO, Fault, FaultKind, Magnitude, Truth, check, schedule
from foreshock.shop.labels import all_well, broken
from foreshock.shop.output import Telemetry
from foreshock.shop.settings import Settings
from foreshock.shop.shop import Shop
from foreshock.telemetry import drop
from foreshock.types import Control, Record
from foreshock.types.record import CALLS, CONTROL
from foreshock.types.units import Options, Seconds

_LONGEST_SLEEP = 0.5
_RETRY_SECONDS = 0.05
_READING_SECONDS = 5


class FaultOptions(Options):
    """Something that breaks in the shop."""

    kind: FaultKind = Field(description="What breaks.")
    service: str = Field(description="Where.")
    magnitude: Magnitude = Field(default="large", description="How badly.")
    after: Seconds = Field(default=20.0, ge=0, le=30 * 86_400, description="How long after the start.")
    duration: Seconds = Field(default=0.0, ge=0, le=86_400, description="How long; 0 = as is usual for its kind.")

    def fault(self) -> Fault:
        """The fault that is meant."""
        return Fault(self.kind, self.service, self.magnitude, self.after, self.duration)


class ShopOptions(Options):
    """A simulated shop of twelve services, in which things break."""

    seed: int = Field(default=0, ge=0, lt=1_000_000_000, description="Equal seeds give equal shops.")
    rate: float = Field(default=10.0, gt=0, le=1000, description="Requests of its customers a second, on average.")
    history: Seconds = Field(
        default=0.0, ge=0, le=30 * 86_400, description="Past, without faults, brought at the start."
    )
    faults: tuple[FaultOptions, ...] = Field(default=(), max_length=1000, description="What breaks, and when.")
    tour: bool = Field(default=False, description="Kinds of faults break in turn, in an order that the seed chooses.")
    kinds: tuple[FaultKind, ...] = Field(default=(), description="Those of the tour; default: all.")
    first: Seconds = Field(default=20.0, ge=0, le=86_400, description="How long after the start the tour begins.")
    gap: Seconds = Field(default=60.0, ge=0, le=86_400, description="Time between the faults of the tour.")
    bursts: bool = Field(default=True, description="Bursts of customers, as on any day.")
    deploys: bool = Field(default=True, description="Deploys with nothing wrong in them, as on any day.")
    batch: bool = Field(default=True, description="A batch job in the night.")
    autoscale: bool = Field(default=False, description="Replicas follow the use of cores.")
    labels: bool = Field(
        default=False, description="Say in the data what is broken: detectors are then counted right or wrong."
    )

    @field_validator("faults")
    @classmethod
    def _can_be(cls, faults: tuple[FaultOptions, ...]) -> tuple[FaultOptions, ...]:
        for one in faults:
            try:
                check(one.fault())
            except ConfigError as error:
                raise ValueError(error.message) from None
        return faults


class ShopSource:
    """Plays the shop at the pace of the clock and brings calls each second, readings every 5 s.

    Times are those of the shop's seconds, so that a late second is caught up and not bunched. Where the runtime has no
    room it waits, and nothing is lost: the shop is as far behind as the runtime is.
    """

    options: ClassVar = ShopOptions
    brings_calls: ClassVar = True
    default_lateness_seconds: ClassVar = 0.0

    def __init__(
        self,
        name: str = "shop",
        options: ShopOptions | None = None,
        environment: str = "default",
        lateness_seconds: float = 0.0,
    ) -> None:
        self.name, self.lateness_seconds = name, lateness_seconds
        self._options = options or ShopOptions()
        self._environment = environment
        self._lock = threading.Lock()
        self._shop: Shop | None = None
        self.live_unix_nano = 0
        """When the past was brought and the present began; 0 before."""
        self._labelled: set[int] = set()
        self._stopped = threading.Event()

    def run(self, submit: Submit, clock: Clock) -> None:
        """Bring the past, then what happens, until `stop`."""
        Shop()  # what takes seconds the first time is over before the start
        start = clock.now_unix_nano() // NANO * NANO
        history = round(self._options.history)
        shop = self._open(start - history * NANO, history)
        while not self._stopped.is_set() and shop.now_unix_nano < start:
            # Calls end before the reading of the same seconds: what is brought later is not older.
            whole = _READING_SECONDS - shop.now_unix_nano // NANO % _READING_SECONDS
            self._bring(submit, clock, self._advance(shop, min(whole, (start - shop.now_unix_nano) // NANO)))
        self.live_unix_nano = start
        if self._options.labels:
            self._tell(submit, clock, all_well(start, self._environment))
        while not self._stopped.is_set():
            left = shop.now_unix_nano + NANO - clock.now_unix_nano()
            if left > 0:
                clock.sleep(min(left / 1e9, _LONGEST_SLEEP))
                continue
            self._bring(submit, clock, self._advance(shop, 1))
            if self._options.labels:
                self._label(submit, clock, shop.now_unix_nano)

    def stop(self) -> None:
        """End `run` within half a second."""
        self._stopped.set()

    def truth(self) -> tuple[Truth, ...]:
        """What was, is and will be broken."""
        with self._lock:
            return self._shop.truths if self._shop is not None else ()

    def inject(self, fault: Fault) -> Truth:
        """Break something now, or `fault.after_seconds` from now.

        Raises ConfigError where it cannot be, RetryableError while the shop is not open yet.
        """
        with self._lock:
            if self._shop is None:
                raise RetryableError("the shop is not open yet; try again")
            return self._shop.inject(fault)

    @property
    def now_unix_nano(self) -> int:
        """Up to where the shop has been played; 0 before it is open."""
        with self._lock:
            return self._shop.now_unix_nano if self._shop is not None else 0

    def heal(self) -> int:
        """End every fault that is in force now; how many there were."""
        with self._lock:
            if self._shop is None:
                return 0
            active = list(self._shop.active)
            for one in active:
                self._shop.end(one)
            return len(active)

    def _open(self, since: int, history: int) -> Shop:
        options = self._options
        settings = Settings(
            seed=options.seed, rate=options.rate, bursts=options.bursts, deploys=options.deploys, batch=options.batch,
            autoscale=options.autoscale, every_seconds=_READING_SECONDS, trace_ratio=0.0,
        )  # fmt: skip
        faults = [one.fault() for one in options.faults]
        shop = Shop(settings, since, (_later(fault, history) for fault in faults))
        if options.tour:
            shop.at(since + history * NANO, partial(self._tour, shop, 0, options.first))
        with self._lock:
            self._shop = shop
        return shop

    def _tour(self, shop: Shop, number: int, first: float) -> None:
        """All kinds once, and then again in another order."""
        gap, kinds = self._options.gap, self._options.kinds or KINDS
        faults = schedule(self._options.seed + number, first_seconds=first, gap_seconds=gap, kinds=kinds)
        ends = [shop.inject(fault).until_unix_nano for fault in faults]
        shop.at(ends[-1], partial(self._tour, shop, number + 1, gap))

    def _advance(self, shop: Shop, seconds: int) -> Telemetry:
        with self._lock:
            return shop.advance(seconds)

    def _bring(self, submit: Submit, clock: Clock, telemetry: Telemetry) -> None:
        if len(telemetry.calls):
            self._submit(submit, clock, CALLS, encode_calls(telemetry.calls))
        if telemetry.readings:
            self._submit(submit, clock, METRICS, encode_metrics(telemetry.readings))

    def _label(self, submit: Submit, clock: Clock, now_unix_nano: int) -> None:
        """Say what has broken since the last second."""
        for number, truth in enumerate(self.truth()):
            if number not in self._labelled and truth.since_unix_nano <= now_unix_nano:
                self._labelled.add(number)
                self._tell(submit, clock, broken(truth, self._environment))

    def _tell(self, submit: Submit, clock: Clock, controls: Iterable[Control]) -> None:
        for control in controls:
            self._submit(submit, clock, CONTROL, msgspec.json.encode(control))

    def _submit(self, submit: Submit, clock: Clock, content_type: str, payload: bytes) -> None:
        while not self._stopped.is_set():
            try:
                submit(Record(self._environment, self.name, content_type, clock.now_unix_nano(), payload))
            except RetryableError:
                clock.sleep(_RETRY_SECONDS)
            except BadInputError as error:
                drop(self.name, error.reason)
                return
            else:
                return


def _later(fault: Fault, seconds: int) -> Fault:
    return Fault(fault.kind, fault.service, fault.magnitude, fault.after_seconds + seconds, fault.duration_seconds)
