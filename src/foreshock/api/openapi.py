"""The OpenAPI 3.1 document, made from the table of routes and the types of their answers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from foreshock.adapters.sql.text import MOST_CHARACTERS, PATTERN
from foreshock.api import answers
from foreshock.api.services import Guarded
from foreshock.runtime.views import POINTS
from foreshock.types import AlertKind, ControlKind

_NAMES = "#/components/schemas/{name}"
_TEXT, _SINCE = {"type": "string"}, "RFC 3339 or Unix seconds."
_SECONDS = {"type": "number", "minimum": 0, "exclusiveMaximum": 1 << 33}
_TIME = {"anyOf": [{"type": "string", "format": "date-time"}, _SECONDS]}
_ENTITY = {"type": "string", "pattern": PATTERN, "maxLength": MOST_CHARACTERS}
_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "status": ({"enum": ["firing", "resolved"]}, "Only episodes in this state."),
    "since": (_TIME, f"From this time on: {_SINCE}"),
    "until": (_TIME, f"Up to this time: {_SINCE}"),
    "entity": (_ENTITY, 'An entity: `{host.name="a1"}` or `host.name=a1`.'),
    "feature": (_TEXT, "A feature: the name of a series and its attributes."),
    "kind": (_TEXT, "Only those of this kind."),
    "text": (_TEXT, "Only those in whose labels or annotations this stands."),
    "limit": ({"type": "integer", "minimum": 1, "maximum": 1000}, "How many, at most."),
    "cursor": (_TEXT, "Where the last page ended: its `next`."),
    "points": ({"type": "integer", "minimum": 0, "maximum": POINTS}, "How many of the last values to show."),
    "order": ({"enum": ["seen", "p_value"]}, "As they came up, or the most abnormal first."),
    "detectors": ({"enum": ["false", "true"]}, "Whether to show the last verdict of each detector."),
    "detector": (_TEXT, "Only what this detector found."),
    "most": ({"type": "integer", "minimum": 10, "maximum": 100_000}, "Points or buckets, at most."),
    "minutes": ({"type": "integer", "minimum": 10, "maximum": 180}, "How far back."),
}
_OF_ROUTE: dict[tuple[str, str], dict[str, Any]] = {
    ("/api/v1/entities", "limit"): {"type": "integer", "minimum": 1, "maximum": 10_000},
    ("/api/v1/alerts", "kind"): {"enum": [str(one) for one in AlertKind]},
    ("/api/v1/control", "kind"): {"enum": [str(one) for one in ControlKind]},
}
"""Where a parameter means something else than elsewhere."""
_NEEDED = {"/api/v1/series/points": {"entity", "feature"}}
_ERRORS = {
    "400": "The request cannot be accepted.", "401": "The caller is not known.", "403": "The caller may not.",
    "404": "There is no such thing.", "429": "Too much at once; again after `Retry-After` seconds.",
    "503": "Not now; again after `Retry-After` seconds.",
}  # fmt: skip
_BODIES = ("408", "413", "415")


def document(routes: Iterable[Guarded], version: str) -> dict[str, Any]:
    """The document of these routes."""
    routes = tuple(routes)
    types = [route.answer for route in routes] + [route.body for route in routes] + [answers.Problem]
    wanted = list(dict.fromkeys(one for one in types if isinstance(one, type) and issubclass(one, msgspec.Struct)))
    schemas, components = msgspec.json.schema_components(wanted, ref_template=_NAMES)
    schema_of = dict(zip(wanted, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Foreshock", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "What is abnormal in your telemetry, and where. Live updates come over `/ws` and "
                           "`/api/v1/stream`.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }  # fmt: skip


def _operation(route: Guarded, schema_of: dict[Any, Any]) -> dict[str, Any]:
    name = f"{route.method.lower()}{re.sub(r'[^a-zA-Z0-9]+', '_', route.path)}".rstrip("_")
    media = "text/plain" if route.answer is str else "application/json"
    content = {media: {"schema": schema_of.get(route.answer, _TEXT)}}
    codes = [code for code in _ERRORS if code not in ("401", "403") or route.permission is not None]
    codes += [code for code in _BODIES if route.body is not None]
    error = {"application/problem+json": {"schema": schema_of[answers.Problem]}}
    out: dict[str, Any] = {
        "operationId": name,
        "summary": _summary(route),
        "parameters": [*_places(route.path), *(_parameter(route.path, one) for one in route.query)],
        "responses": {str(route.status): {"description": "It is so.", "content": content}}
        | {code: {"description": _ERRORS.get(code, "The body cannot be taken."), "content": error} for code in codes},
        "security": [{"token": []}, {}] if route.permission is not None else [],
    }
    if route.path == "/actuator/health":
        out["responses"]["503"] = {"description": "Down.", "content": content}
    if route.body is not None:
        schema = schema_of.get(route.body, {})
        out["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return out


def _summary(route: Guarded) -> str:
    """The first sentence of the endpoint's docstring, without the route that it begins with."""
    text = (inspect.getdoc(route.endpoint) or "").split("\n\n")[0]
    said = text.partition(": ")[2] or text
    return said[:1].upper() + said[1:]


def _places(path: str) -> list[dict[str, Any]]:
    return [{"name": one, "in": "path", "required": True, "schema": _TEXT} for one in re.findall(r"\{(\w+)\}", path)]


def _parameter(path: str, name: str) -> dict[str, Any]:
    schema, says = _PARAMETERS[name]
    schema = _OF_ROUTE.get((path, name), schema)
    return {"name": name, "in": "query", "required": name in _NEEDED.get(path, ()), "schema": schema,
            "description": says}  # fmt: skip
