"""What happens in a shop where nothing is wrong: bursts of customers, deploys, the nightly batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from foreshock.shop.topology import Topology

_BURSTS_A_DAY = 4.0
_BURST_SECONDS = (120, 600)
_BURST_HEIGHT = (0.2, 0.6)
_DEPLOYS_A_DAY = 3.0
_DEPLOY_HOURS = (8, 18)
_BATCH_START = 2 * 3600
_BATCH_SECONDS = (900, 1500)
BATCH_SHARE = 0.15
"""Calls of the nightly batch, for each request from outside."""

BATCH_CALL = ("inventory", "postgres", "POST", "/stock/bulk")
"""Caller, callee, method and path of the nightly batch."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something ordinary: at a second of the day, for so many seconds; a burst's `height`, a deploy's `service`."""

    kind: Literal["burst", "deploy", "batch"]
    second: int
    seconds: int = 0
    height: float = 0.0
    service: str = ""


def day_of(seed: int, day: int, topology: Topology) -> list[Happening]:
    """What happens on a day (counted from 1970), in no order; each day is drawn by itself."""
    chance = np.random.default_rng([seed, day, 0xDA])
    deployed = [service.name for service in topology.services if not service.store]
    bursts = [
        Happening("burst", int(chance.integers(86_400 - 600)), int(chance.integers(*_BURST_SECONDS)),
                  float(chance.uniform(*_BURST_HEIGHT)))
        for _ in range(chance.poisson(_BURSTS_A_DAY))
    ]  # fmt: skip
    deploys = [
        Happening("deploy", int(chance.integers(_DEPLOY_HOURS[0] * 3600, _DEPLOY_HOURS[1] * 3600)),
                  service=deployed[int(chance.integers(len(deployed)))])
        for _ in range(chance.poisson(_DEPLOYS_A_DAY))
    ]  # fmt: skip
    batch = Happening("batch", _BATCH_START + int(chance.integers(600)), int(chance.integers(*_BATCH_SECONDS)))
    return [*bursts, *deploys, batch]
