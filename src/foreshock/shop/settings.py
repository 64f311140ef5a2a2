"""What kind of shop it is."""

from __future__ import annotations

from dataclasses import dataclass

from foreshock.shop.topology import REQUESTS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Settings:
    """What kind of shop it is.

    `seed` makes a run repeatable; `rate` = requests from outside a second, on average over a week, for which it is
    also built; `waves` = the load follows the day and the week, with noise; `bursts`, `deploys`, `batch` = what happens
    on ordinary days; `autoscale` = replicas follow the use of cores;
    `every_seconds` between readings; `trace_ratio` of the requests from outside are traced.
    """

    seed: int = 0
    rate: float = REQUESTS_PER_SECOND
    waves: bool = True
    bursts: bool = True
    deploys: bool = True
    batch: bool = True
    autoscale: bool = False
    every_seconds: int = 5
    trace_ratio: float = 0.02
