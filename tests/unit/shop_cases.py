"""Shops for tests, and what was seen in them as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.shop.dynamics_tables import CPU, DISK, MEMORY, POOL_GAUGES, POOL_USED, READY, SERVICE_GAUGES
from foreshock.shop.faults import Fault
from foreshock.shop.output import Telemetry
from foreshock.shop.settings import Settings
from foreshock.shop.shop import Shop
from foreshock.shop.topology import WEB, Edge, Endpoint, Service, Topology

NANO = 1_000_000_000
START = 1_700_000_000 * NANO
QUIET = Settings(seed=3, bursts=False, deploys=False, batch=False)


def lone(work_seconds: float, workers: int, spread: float) -> Topology:
    """One service that calls nobody, with a core for each worker, and customers who wait for ever."""
    service = Service(
        "gateway", (Endpoint("GET", "/", work_seconds, share=1.0, error_ratio=0.0),), 1, workers, float(workers),
        spread, 1.0, 10**6,
    )  # fmt: skip
    return Topology((service,), (Edge(WEB, "gateway", timeout_seconds=1e6, retries=0),))


@dataclass(frozen=True)
class Seen:
    """Means over a stretch: calls into a service per second, error ratio, latency; gauges at its end."""

    rate: float
    errors: float
    latency: float
    cpu: float
    memory: float
    disk: float
    ready: float
    pool: float


@lru_cache(maxsize=128)
def played(fault: Fault | None, seconds: int) -> tuple[Shop, Telemetry]:
    """A quiet shop that was played from its start, with the fault or without."""
    shop = Shop(QUIET, START, [fault] if fault else [])
    return shop, shop.advance(seconds)


def seen(telemetry: Telemetry, service: str, since: float, until: float) -> Seen:
    """What was seen of a service between two seconds after the start."""
    rows, names = telemetry.calls.rows, list(telemetry.calls.names)
    seconds = (rows["time_unix_nano"] - START) / NANO
    rows = rows[(seconds >= since) & (seconds < until) & (rows["target"] == names.index(service))]
    bad = (rows["status"] == 0) | (rows["status"] >= 500)
    at = (telemetry.gauge_times - START) / NANO
    gauges = telemetry.gauges[(at > since) & (at <= until)]
    first = telemetry.topology.names.index(service) * SERVICE_GAUGES
    edges = [at for at, edge in enumerate(telemetry.topology.edges) if edge.caller == service and edge.pool]
    pools = [len(telemetry.topology.names) * SERVICE_GAUGES + POOL_GAUGES * at + POOL_USED for at in edges]
    return Seen(
        len(rows) / (until - since), _mean(bad), _mean(rows["duration_seconds"]), _mean(gauges[:, first + CPU]),
        float(np.nanmax(np.append(gauges[:, first + MEMORY], 0.0))), float(gauges[:, first + DISK].max()),
        float(gauges[:, first + READY].min()), float(gauges[:, pools].max()) if pools else 0.0,
    )  # fmt: skip


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


def columns(parts: list[Telemetry]) -> dict[str, Any]:
    """All that several stretches hold, in one form however they were cut."""
    rows = [part.calls.rows for part in parts]
    out: dict[str, Any] = {
        name: np.concatenate([one[name] for one in rows]).tolist()
        for name in ("time_unix_nano", "duration_seconds", "status")
    }
    for name in ("source", "target", "method", "endpoint"):
        out[name] = [part.calls.names[i] for part in parts for i in part.calls.rows[name].tolist()]
    out["spans"] = [span for part in parts for span in part.spans]
    out["logs"] = [line for part in parts for line in part.logs]
    out["readings"] = [repr(reading) for part in parts for reading in part.readings]
    return out
