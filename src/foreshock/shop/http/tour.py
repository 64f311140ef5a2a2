"""Faults for a running shop of HTTP services, one after the other or as somebody asks, and the truth about them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import httpx

from foreshock.errors import BadInputError, ForeshockError, RetryableError
from foreshock.ports import Clock
from foreshock.shop.faults import CATALOGUE, KINDS, NANO, Fault, FaultKind, Truth, check, schedule, suffering

logger = logging.getLogger(__name__)

_POST_SECONDS = 5.0


class Tour:
    """Posts faults to services by the clock, from `start` on; `first_seconds` after it the first.

    `urls` = where each service listens; empty until the shop is open. Kinds, services and order are those of
    `schedule`; a surge is a small one, since a large one takes a whole core. What a service does not take is said and
    left out. Any thread may break and heal things beside it.
    """

    def __init__(
        self, urls: Mapping[str, str], clock: Clock, seed: int, kinds: Sequence[FaultKind] = (), *,
        first_seconds: float, gap_seconds: float,
    ) -> None:  # fmt: skip
        self._urls, self._clock, self._seed, self._kinds = urls, clock, seed, kinds or KINDS
        self._first, self._gap = first_seconds, gap_seconds
        self._truths: list[Truth] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="foreshock-tour", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; the faults that are on end by themselves."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2 * _POST_SECONDS)

    def truth(self) -> tuple[Truth, ...]:
        """What was broken so far."""
        with self._lock:
            return tuple(self._truths)

    @property
    def now_unix_nano(self) -> int:
        """Up to where things have happened: now, as far as these services go."""
        return self._clock.now_unix_nano()

    def inject(self, fault: Fault) -> Truth:
        """Break something now.

        Raises ConfigError where it cannot be, BadInputError where the service does not take it, RetryableError where it
        does not answer or the shop is not open yet.
        """
        check(fault)
        if fault.kind == "traffic_surge":
            fault = replace(fault, magnitude="small")
        asked = {"kind": fault.kind, "magnitude": fault.magnitude, "seconds": fault.lasts_seconds}
        since = self._clock.now_unix_nano()
        self._ask("POST", fault.service, asked)
        until = since + round(fault.lasts_seconds * NANO)
        feature = CATALOGUE[fault.kind].feature
        truth = Truth(fault.kind, fault.service, feature, fault.magnitude, since, until, suffering(fault))
        with self._lock:
            self._truths.append(truth)
        return truth

    def heal(self) -> int:
        """End every fault that is in force; how many there were. A process that is down comes back by itself."""
        now = self._clock.now_unix_nano()
        ended = 0
        for truth in self.truth():
            if not truth.since_unix_nano <= now < truth.until_unix_nano:
                continue
            with suppress(ForeshockError):
                self._ask("DELETE", truth.service)
                with self._lock:
                    self._truths[self._truths.index(truth)] = replace(truth, until_unix_nano=now)
                ended += 1
        return ended

    def _ask(self, method: str, service: str, asked: object = None) -> None:
        """Tell a service what is to be broken, or that all is to be well."""
        url = self._urls.get(service)
        if url is None:
            raise RetryableError("the shop is not open yet; try again")
        try:
            answer = httpx.request(method, f"{url}/faults", json=asked, timeout=_POST_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            raise RetryableError(f"{service} does not answer: {type(error).__name__}; try again") from error
        if answer.status_code >= 400:
            raise BadInputError("bad_fault", f"{service} does not take it: {_said(answer)}")

    def _run(self) -> None:
        due, number = self._clock.now_unix_nano(), 0
        first = self._first
        while not self._stopped.is_set():
            faults = schedule(self._seed + number, first_seconds=first, gap_seconds=self._gap, kinds=self._kinds)
            for fault in faults:
                if not self._wait(due + round(fault.after_seconds * NANO)):
                    return
                self._break(fault)
            last = faults[-1]
            due += round((last.after_seconds + last.lasts_seconds) * NANO)
            number, first = number + 1, self._gap

    def _wait(self, until: int) -> bool:
        """Wait for a time; False where the tour has ended before."""
        while not self._stopped.is_set() and (left := until - self._clock.now_unix_nano()) > 0:
            self._clock.sleep(min(left / NANO, 0.5))
        return not self._stopped.is_set()

    def _break(self, fault: Fault) -> None:
        try:
            self.inject(fault)
        except ForeshockError as error:
            logger.warning("%s could not be broken by %s: %s", fault.service, fault.kind, error)


def _said(answer: httpx.Response) -> str:
    """Why a service refused, in its own words."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
