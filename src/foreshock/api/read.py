"""What is shown over HTTP: health, metrics, alerts, entities, series, verdicts, status. Nothing here changes data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from foreshock.api import answers
from foreshock.api.ask import asked, entity_of, following, number, one_of, place, time_of
from foreshock.api.services import Json, Services, problem, services_of
from foreshock.incident.story import alert_labels, entity_labels
from foreshock.runtime.view_types import EntityView, Role, SeriesView
from foreshock.runtime.views import Views
from foreshock.runtime.why import findings
from foreshock.types import Alert, AlertKind, Labels, Status, label_text, rfc3339

_STATUS = [status.name.lower() for status in Status]
_NUMBERS = ("expected", "low", "high", "score", "p_value", "strength", "anomalous")
_END = (1 << 63) - 1


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


async def get_actuator(request: Request) -> Response:
    """`GET /actuator/health`: readiness in the words of Spring Boot."""
    services = services_of(request)
    down = bool(services.health().reasons(services.clock.now_unix_nano()))
    return Json(answers.ActuatorHealth("DOWN" if down else "UP"), 503 if down else 200)


def get_metrics(request: Request) -> Response:
    """`GET /metrics`: Prometheus exposition of our own metrics."""
    return Response(generate_latest(services_of(request).registry), media_type=CONTENT_TYPE_LATEST)


def get_alerts(request: Request) -> Response:
    """`GET /api/v1/alerts`: episodes, the latest start first."""
    query = asked(request, ("limit", "status", "since", "entity", "cursor", "kind", "text"))
    status = one_of(query, "status", ("firing", "resolved"))
    kind = one_of(query, "kind", [str(one) for one in AlertKind])
    services = services_of(request)
    page = services.store.alerts(
        number(query, "limit", 100, 1, 1000),
        status,
        time_of(query, "since"),
        entity_of(query),
        query.get("cursor"),
        kind,
        query.get("text"),
    )
    alerts = page.alerts
    if status != "resolved" and not {"entity", "cursor", "kind", "text"} & query.keys():
        alerts = [*_watchdog(services), *alerts]
    return Json({"alerts": with_more(services, alerts), "next": page.cursor})


def get_alert(request: Request) -> Response:
    """`GET /api/v1/alerts/{episode}`: one episode, as it is now."""
    episode = request.path_params["episode"]
    services = services_of(request)
    known = (alert for alert in _watchdog(services) if alert.episode == episode)
    alert = next(known, None) or services.store.alert(episode)
    if alert is None:
        return problem(404, "Not Found", f"there is no episode {episode}, or not any more")
    return Json(with_more(services, [alert])[0])


def with_more(services: Services, alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    """Alerts as JSON, with the series in view that they are about and the last opinion on them."""
    labels, entities = services.store.labels(), entities_by_labels(services.views)
    return [more_of(alert, labels, entities) for alert in alerts]


def more_of(alert: Alert, labels: Mapping[str, str], entities: Mapping[Labels, Labels]) -> dict[str, Any]:
    """One alert as JSON, with what is known beside it."""
    out = alert.to_json()
    entity = entities.get(entity_labels(alert.labels))
    feature = dict(alert.labels).get("feature")
    if entity is not None:
        out["foreshock"]["entity"] = label_text(entity)
        if feature is not None:
            out["foreshock"]["feature"] = feature
    label = labels.get(alert.episode)
    if label is not None:
        out["foreshock"]["label"] = label
    return out


def entities_by_labels(views: Views) -> dict[Labels, Labels]:
    """The entities in view by the labels that they have in alerts."""
    return {alert_labels(one.entity, {}): one.entity for one in views.entities(10_000) if one.entity}


def get_entities(request: Request) -> Response:
    """`GET /api/v1/entities`: what is watched and how it stands."""
    query = asked(request, ("order", "limit", "cursor"))
    limit, first = number(query, "limit", 1000, 1, 10_000), place(query)
    ranked = one_of(query, "order", ("seen", "p_value")) == "p_value"
    found = services_of(request).views.entities(limit + 1, first, ranked)
    return Json({"entities": [_entity(one) for one in found[:limit]], "next": following(first, limit, len(found))})


def get_series(request: Request) -> Response:
    """`GET /api/v1/series`: series, with recent values and expected bands when asked."""
    query = asked(request, ("entity", "feature", "points", "detectors", "limit", "cursor"))
    views = services_of(request).views
    each = one_of(query, "detectors", ("false", "true")) == "true"
    limit, first = number(query, "limit", 100, 1, 1000), place(query)
    found = views.series(
        entity_of(query),
        query.get("feature"),
        number(query, "points", 0, 0, views.points),
        limit + 1,
        first,
        each,
    )
    return Json(
        {
            "series": [_series(one, "points" in query, views.roles() if each else None) for one in found[:limit]],
            "next": following(first, limit, len(found)),
            "not_viewed": views.not_viewed,
        }
    )


def get_verdicts(request: Request) -> Response:
    """`GET /api/v1/verdicts`: what detectors found anomalous, and what would have been normal, the newest first."""
    query = asked(request, ("entity", "feature", "detector", "since", "until", "limit"))
    limit = number(query, "limit", 100, 1, 1000)
    since, until = time_of(query, "since"), time_of(query, "until")
    found = findings(
        services_of(request).store.verdicts(
            entity_of(query),
            query.get("feature"),
            since or 0,
            _END if until is None else until,
            limit + 1,
            detector=query.get("detector"),
            newest=True,
        )
    )
    return Json({"verdicts": found[:limit], "more": len(found) > limit})


def get_status(request: Request) -> Response:
    """`GET /api/v1/status`: the runtime, its sources, why it is not ready."""
    services = services_of(request)
    now = services.clock.now_unix_nano()
    sources = [
        {
            "source": one.source,
            "last_received": rfc3339(one.last_received_unix_nano),
            "records": one.records,
            "samples": one.samples,
        }
        for one in services.views.sources.all()
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
        out["points"] = points_of(points)
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


def points_of(points: Any) -> dict[str, Any]:
    """Points as parallel lists."""
    return {
        "time_unix_seconds": (points["time_unix_nano"] / 1e9).tolist(),
        **{name: points[name].tolist() for name in ("value", *_NUMBERS)},
        "status": [_STATUS[code] for code in points["status"].tolist()],
    }
