"""Everything at a glance: the strip of all entities, and who calls whom."""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from foreshock.api import answers
from foreshock.api.ask import asked, number
from foreshock.api.chart import STATUS
from foreshock.api.services import Json, services_of
from foreshock.runtime.rings import COLUMNS, MINUTE
from foreshock.runtime.views import Views
from foreshock.types import Status, label_text

RATE, ERRORS, P95 = "calls.rate", "calls.error_ratio", "calls.duration.p95"


def get_strip(request: Request) -> Response:
    """`GET /api/v1/strip`: how each entity stood in each of the last minutes."""
    query = asked(request, ("minutes",))
    services = services_of(request)
    columns = number(query, "minutes", COLUMNS, 10, COLUMNS)
    now = _end(services.views.newest(), services.clock.now_unix_nano())
    rows = [
        answers.StripRow(
            label_text(one.entity),
            dict(one.entity),
            one.status.name.lower(),  # type: ignore[arg-type]
            np.where(one.cells["minute"] < 0, np.nan, np.exp(one.cells["strength"].astype(np.float64)))
            .round(6)
            .tolist(),
            [
                STATUS[code] if minute >= 0 else None
                for code, minute in zip(one.cells["status"].tolist(), one.cells["minute"].tolist(), strict=True)
            ],
            np.flatnonzero(one.cells["alarmed"] & (one.cells["minute"] >= 0)).tolist(),
        )
        for one in services.views.strip(now, columns)
    ]
    return Json(answers.StripView(now // MINUTE * 60.0, columns, rows))


def _end(newest_unix_nano: int, now_unix_nano: int) -> int:
    """Up to when the strip goes: to now, so that what does not come is missing; of old data, to its own end."""
    reaches = 0 <= now_unix_nano - newest_unix_nano < COLUMNS * MINUTE
    return now_unix_nano if reaches or not newest_unix_nano else newest_unix_nano


def get_map(request: Request) -> Response:
    """`GET /api/v1/map`: services and the calls between them, by their last fingerprints."""
    asked(request, ())
    return Json(service_map(services_of(request).views))


def service_map(views: Views) -> answers.ServiceMap:
    """Who calls whom, as the views know it."""
    figures: dict[str, dict[str, float | None]] = {}
    labels: dict[str, dict[str, str]] = {}
    status: dict[str, Status] = {}
    for series, points, _ in views.latest({RATE, ERRORS, P95}):
        if not len(points):
            continue
        entity = series.entity_text
        labels[entity] = dict(series.entity)
        status.setdefault(entity, Status(int(points[-1]["status"])))
        if points[-1]["status"] == Status.SCORED:
            status[entity] = Status.SCORED
        figures.setdefault(entity, {})[series.feature] = float(points[-1]["value"])
    edges, nodes = [], {}
    for entity, own in labels.items():
        found = _figures(figures[entity])
        if own.keys() == {"client", "server"}:
            edges.append(answers.MapEdge(own["client"], own["server"], entity, **found))
        elif own.keys() == {"service.name"}:
            name = own["service.name"]
            word: Any = status[entity].name.lower()
            nodes[name] = answers.MapNode(name, entity, False, word, **found)
    for edge in edges:
        for name in (edge.client, edge.server):
            if name not in nodes:
                outside = name == edge.client
                nodes[name] = answers.MapNode(name, None, outside, "scored", None, None, None)
    return answers.ServiceMap(list(nodes.values()), edges)


def _figures(found: dict[str, float | None]) -> dict[str, float | None]:
    return {"rate": found.get(RATE), "error_ratio": found.get(ERRORS), "p95_seconds": found.get(P95)}
