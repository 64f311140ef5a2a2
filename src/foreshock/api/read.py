"""What is shown over HTTP: health, metrics, alerts, entities, series, verdicts, status. Nothing here changes data."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from foreshock.adapters.sql.text import parse_labels
from foreshock.api.auth import Permission
from foreshock.api.services import Guarded, Json, Services, problem, services_of
from foreshock.errors import BadInputError
from foreshock.runtime.views import EntityView, Role, SeriesView
from foreshock.runtime.why import findings
from foreshock.types import Alert, Status, label_text, rfc3339

_STATUS = [status.name.lower() for status in Status]
_NUMBERS = ("expected", "low", "high", "score", "p_value", "strength", "anomalous")
_END = (1 << 63) - 1
_LARGEST_SECONDS = 1 << 33


async def get_health(request: Request) -> Response:
    """`GET /health`: the process lives."""
    services = services_of(request)
    up = (services.clock.now_unix_nano() - request.app.state.started_unix_nano) / 1e9
    return Json({"status": "ok", "version": services.version, "uptime_seconds": round(up, 3)})


async def get_ready(request: Request) -> Response:
    """`GET /readyz`: it takes in data and keeps up."""
    services = services_of(request)
    reasons = services.health().reasons(services.clock.now_unix_nano())
    if reasons:
        return problem(503, "Not ready", "; ".join(reasons), {"Retry-After": "1"}, reasons=reasons)
    return Json({"status": "ready"})


def get_metrics(request: Request) -> Response:
    """`GET /metrics`."""
    return Response(generate_latest(services_of(request).registry), media_type=CONTENT_TYPE_LATEST)


def get_alerts(request: Request) -> Response:
    """`GET /api/v1/alerts`."""
    asked = _asked(request, ("limit", "status", "since", "entity", "cursor"))
    status = asked.get("status")
    if status not in (None, "firing", "resolved"):
        raise BadInputError("bad_parameter", f"status is firing or resolved, not {status!r}")
    since = asked.get("since")
    services = services_of(request)
    page = services.store.alerts(
        _number(asked, "limit", 100, 1, 1000),
        status,
        None if since is None else _time(since),
        asked.get("entity"),
        asked.get("cursor"),
    )
    alerts = page.alerts
    if status != "resolved" and not {"entity", "cursor"} & asked.keys():
        alerts = [*_watchdog(services), *alerts]
    return Json({"alerts": [alert.to_json() for alert in alerts], "next": page.cursor})


def get_alert(request: Request) -> Response:
    """`GET /api/v1/alerts/{episode}`."""
    episode = request.path_params["episode"]
    services = services_of(request)
    known = (alert for alert in _watchdog(services) if alert.episode == episode)
    alert = next(known, None) or services.store.alert(episode)
    if alert is None:
        return problem(404, "Not Found", f"there is no episode {episode}, or not any more")
    return Json(alert.to_json())


def get_entities(request: Request) -> Response:
    """`GET /api/v1/entities`."""
    asked = _asked(request, ("limit", "offset", "order"))
    limit, offset = _number(asked, "limit", 1000, 1, 10_000), _number(asked, "offset", 0, 0, 1 << 31)
    ranked = _choice(asked, "order", ("seen", "p_value")) == "p_value"
    found = services_of(request).views.entities(limit + 1, offset, ranked)
    following = offset + limit if len(found) > limit else None
    return Json({"entities": [_entity(one) for one in found[:limit]], "next_offset": following})


def get_series(request: Request) -> Response:
    """`GET /api/v1/series`."""
    asked = _asked(request, ("entity", "feature", "points", "detectors", "limit", "offset"))
    views = services_of(request).views
    each = _choice(asked, "detectors", ("false", "true")) == "true"
    limit, offset = _number(asked, "limit", 100, 1, 1000), _number(asked, "offset", 0, 0, 1 << 31)
    entity = asked.get("entity")
    found = views.series(
        None if entity is None else label_text(parse_labels(entity)),
        asked.get("feature"),
        _number(asked, "points", 0, 0, views.points),
        limit + 1,
        offset,
        each,
    )
    following = offset + limit if len(found) > limit else None
    return Json(
        {
            "series": [_series(one, "points" in asked, views.roles() if each else None) for one in found[:limit]],
            "next_offset": following,
            "not_viewed": views.not_viewed,
        }
    )


def get_detectors(request: Request) -> Response:
    """`GET /api/v1/detectors`."""
    return Json({"detectors": services_of(request).detectors()})


def get_verdicts(request: Request) -> Response:
    """`GET /api/v1/verdicts`."""
    asked = _asked(request, ("entity", "feature", "detector", "since", "until", "limit"))
    limit, entity = _number(asked, "limit", 100, 1, 1000), asked.get("entity")
    since, until = (_time(asked[name], name) if name in asked else None for name in ("since", "until"))
    found = findings(
        services_of(request).store.verdicts(
            None if entity is None else label_text(parse_labels(entity)),
            asked.get("feature"),
            since or 0,
            _END if until is None else until,
            limit + 1,
            detector=asked.get("detector"),
            newest=True,
        )
    )
    return Json({"verdicts": found[:limit], "more": len(found) > limit})


def get_status(request: Request) -> Response:
    """`GET /api/v1/status`."""
    services = services_of(request)
    now = services.clock.now_unix_nano()
    sources = [
        {
            "source": one.source,
            "last_received": rfc3339(one.last_received_unix_nano),
            "records": one.records,
            "samples": one.samples,
        }
        for one in services.views.sources()
    ]
    own = {
        "version": services.version,
        "time": rfc3339(now),
        "not_ready": services.health().reasons(now),
        "views": services.views.counts(),
        "sources": sources,
    }
    return Json(services.status() | own)


def _watchdog(services: Services) -> list[Alert]:
    return [services.watchdog()] if services.watchdog is not None else []


def _entity(view: EntityView) -> dict[str, Any]:
    return {
        "entity": label_text(view.entity),
        "labels": dict(view.entity),
        "last_seen": rfc3339(view.last_seen_unix_nano),
        "status": view.status.name.lower(),
        "series": view.series,
        "strength": view.strength,
        "p_value": view.p_value,
    }


def _series(view: SeriesView, with_points: bool, roles: Mapping[str, Role] | None) -> dict[str, Any]:
    series, points = view.series, view.points
    out: dict[str, Any] = {
        "entity": series.entity_text,
        "feature": series.feature,
        "name": series.name,
        "attributes": dict(series.attributes),
        "unit": series.unit,
        "kind": str(series.kind),
    }
    if with_points:
        out["points"] = {
            "time_unix_seconds": (points["time_unix_nano"] / 1e9).tolist(),
            **{name: points[name].tolist() for name in ("value", *_NUMBERS)},
            "status": [_STATUS[code] for code in points["status"].tolist()],
        }
    if roles is not None:
        out["detectors"] = {
            name: {
                "role": "shadow" if roles[name].shadow else "primary",
                "time_unix_seconds": float(point["time_unix_nano"][0]) / 1e9,
                **{number: point[number][0].item() for number in _NUMBERS},
                "status": _STATUS[int(point["status"][0])],
            }
            for name, point in view.detectors.items()
            if name in roles
        }
    return out


def _asked(request: Request, known: Collection[str]) -> dict[str, str]:
    """The query's parameters; BadInputError for one that is not known or is given twice."""
    out: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise BadInputError("bad_parameter", f"there is no parameter {name!r}; there are {', '.join(known)}")
        if name in out:
            raise BadInputError("bad_parameter", f"{name} is given twice")
        out[name] = value
    return out


def _number(asked: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = asked.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise BadInputError("bad_parameter", f"{name} is a whole number from {low} to {high}, not {text!r}")
    return value


def _choice(asked: dict[str, str], name: str, choices: tuple[str, ...]) -> str:
    """One of some words, the first where nothing is asked."""
    text = asked.get(name, choices[0])
    if text not in choices:
        raise BadInputError("bad_parameter", f"{name} is {' or '.join(choices)}, not {text!r}")
    return text


def _time(text: str, name: str = "since") -> int:
    """Nanoseconds of RFC 3339 text or Unix seconds."""
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(seconds) and 0 <= seconds < _LARGEST_SECONDS:
            return round(seconds * 1e9)
    try:
        # A plus sign in a query arrives as a space.
        when = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise BadInputError(
            "bad_parameter", f"{name} is a time such as 2026-01-31T12:00:00Z or Unix seconds, not {text!r}"
        )
    return round(when.timestamp() * 1e6) * 1000


ROUTES = (
    Guarded("GET", "/health", get_health, None),
    Guarded("GET", "/readyz", get_ready, None),
    Guarded("GET", "/metrics", get_metrics, Permission.READ),
    Guarded("GET", "/api/v1/alerts", get_alerts, Permission.READ),
    Guarded("GET", "/api/v1/alerts/{episode}", get_alert, Permission.READ),
    Guarded("GET", "/api/v1/entities", get_entities, Permission.READ),
    Guarded("GET", "/api/v1/series", get_series, Permission.READ),
    Guarded("GET", "/api/v1/detectors", get_detectors, Permission.READ),
    Guarded("GET", "/api/v1/verdicts", get_verdicts, Permission.READ),
    Guarded("GET", "/api/v1/status", get_status, Permission.READ),
)
