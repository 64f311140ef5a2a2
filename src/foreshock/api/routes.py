"""All routes of the API: who may, what they take, what they answer."""

from __future__ import annotations

from foreshock.api import about, answers, chart, control, ingest, overview, read
from foreshock.api.auth import Permission
from foreshock.api.services import Guarded

READ, INGEST, CONTROL = Permission.READ, Permission.INGEST, Permission.CONTROL

ROUTES = (
    Guarded("POST", "/api/v1/events", ingest.post_events, INGEST, answers.Accepted, body=object, status=202,
            limited=False),
    Guarded("POST", "/collect", ingest.post_calls, INGEST, answers.Accepted, body=object, status=202, limited=False),
    Guarded("POST", "/api/v1/collect", ingest.post_calls, INGEST, answers.Accepted, body=object, status=202,
            limited=False),
    Guarded("GET", "/health", read.get_health, None, answers.Alive, limited=False),
    Guarded("GET", "/readyz", read.get_ready, None, answers.Ready, limited=False),
    Guarded("GET", "/actuator/health", read.get_actuator, None, answers.ActuatorHealth, limited=False),
    Guarded("GET", "/metrics", read.get_metrics, READ, str),
    Guarded("GET", "/api/v1/alerts", read.get_alerts, READ, answers.Alerts,
            ("status", "since", "entity", "kind", "text", "limit", "cursor")),
    Guarded("GET", "/api/v1/alerts/{episode}", read.get_alert, READ, answers.AlertState),
    Guarded("POST", "/api/v1/alerts/{episode}/label", control.post_label, CONTROL, answers.Controls,
            body=answers.LabelRequest, status=202),
    Guarded("GET", "/api/v1/entities", read.get_entities, READ, answers.Entities, ("order", "limit", "cursor")),
    Guarded("GET", "/api/v1/series", read.get_series, READ, answers.SeriesPage,
            ("entity", "feature", "points", "detectors", "limit", "cursor")),
    Guarded("GET", "/api/v1/series/points", chart.get_chart, READ, answers.Chart,
            ("entity", "feature", "since", "until", "most")),
    Guarded("GET", "/api/v1/strip", overview.get_strip, READ, answers.StripView, ("minutes",)),
    Guarded("GET", "/api/v1/map", overview.get_map, READ, answers.ServiceMap),
    Guarded("GET", "/api/v1/detectors", about.get_detectors, READ, answers.Detectors),
    Guarded("GET", "/api/v1/verdicts", read.get_verdicts, READ, answers.Findings,
            ("entity", "feature", "detector", "since", "until", "limit")),
    Guarded("GET", "/api/v1/sources", about.get_sources, READ, answers.Sources),
    Guarded("GET", "/api/v1/budget", about.get_budget, READ, answers.BudgetView),
    Guarded("GET", "/api/v1/config", about.get_settings, READ, answers.Settings),
    Guarded("GET", "/api/v1/status", read.get_status, READ, answers.Runtime),
    Guarded("GET", "/api/v1/control", control.get_controls, READ, answers.Controls, ("kind", "since", "limit")),
    Guarded("POST", "/api/v1/control", control.post_control, CONTROL, answers.ControlRecord,
            body=control.ControlRequest, status=202),
    Guarded("DELETE", "/api/v1/control/{id}", control.delete_control, CONTROL, answers.ControlRecord, status=202),
    Guarded("GET", "/api/v1/me", about.get_me, READ, answers.Me),
    Guarded("GET", "/api/v1/demo/faults", about.get_faults, READ, answers.Faults),
    Guarded("POST", "/api/v1/demo/faults", about.post_fault, CONTROL, answers.FaultState, body=answers.FaultRequest,
            status=201),
    Guarded("DELETE", "/api/v1/demo/faults", about.delete_faults, CONTROL, answers.Healed),
)  # fmt: skip
"""In the order of the reference."""
