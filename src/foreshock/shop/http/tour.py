"""Faults for a running shop of HTTP services, one after the other, and the truth about them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import httpx

from foreshock.ports import Clock
from foreshock.shop.faults import CATALOGUE, KINDS, NANO, Fault, FaultKind, Truth, schedule, suffering

logger = logging.getLogger(__name__)

_POST_SECONDS = 5.0


class Tour:
    """Posts faults to services by the clock, from `start` on; `first_seconds` after it the first.

    `urls` = where each service listens. Kinds, services and order are those of `schedule`; a surge is a small one,
    since a large one takes a whole core. What a service does not take is said and left out.
    """

    def __init__(
        self, urls: Mapping[str, str], clock: Clock, seed: int, kinds: Sequence[FaultKind] = (), *,
        first_seconds: float, gap_seconds: float,
    ) -> None:  # fmt: skip
        self._urls, self._clock, self._seed, self._kinds = urls, clock, seed, kinds or KINDS
        self._first, self._gap = first_seconds, gap_seconds
        self._truths: list[Truth] = []
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
        return tuple(self._truths)

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
        if fault.kind == "traffic_surge":
            fault = replace(fault, magnitude="small")
        asked = {"kind": fault.kind, "magnitude": fault.magnitude, "seconds": fault.lasts_seconds}
        since = self._clock.now_unix_nano()
        try:
            httpx.post(f"{self._urls[fault.service]}/faults", json=asked, timeout=_POST_SECONDS).raise_for_status()
        except (httpx.HTTPError, KeyError) as error:
            logger.warning("%s could not be broken by %s: %s", fault.service, fault.kind, error)
            return
        until = since + round(fault.lasts_seconds * NANO)
        feature = CATALOGUE[fault.kind].feature
        self._truths.append(
            Truth(fault.kind, fault.service, feature, fault.magnitude, since, until, suffering(fault))
        )  # fmt: skip
