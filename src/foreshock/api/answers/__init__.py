"""What the API answers, as types: the schemas of the OpenAPI document are made of these.

Numbers that are not known are null. Times with `_unix_seconds` are Unix seconds; others RFC 3339 in UTC.
"""

from __future__ import annotations

from foreshock.api.answers.alerts import AlertMore, Alerts, AlertState, LabelRequest
from foreshock.api.answers.chart import Chart, ChartPart, ChartPoints, Opinion
from foreshock.api.answers.demo import FaultKindState, FaultRequest, Faults, FaultState, Healed
from foreshock.api.answers.detectors import BudgetView, Day, Detectors, DetectorState
from foreshock.api.answers.health import Accepted, ActuatorHealth, Alive, Problem, Ready, Runtime
from foreshock.api.answers.overview import MapEdge, MapNode, ServiceMap, StripRow, StripView
from foreshock.api.answers.series import (
    Entities,
    EntityState,
    Finding,
    Findings,
    LastVerdict,
    Points,
    SeriesPage,
    SeriesState,
    Share,
)
from foreshock.api.answers.settings import ControlRecord, Controls, Me, Setting, Settings
from foreshock.api.answers.sources import Dropped, DroppedFrom, DroppedOfSource, Sources, SourceState
from foreshock.api.answers.words import Number, StatusName

__all__ = [
    "Accepted", "ActuatorHealth", "AlertMore", "AlertState", "Alerts", "Alive", "BudgetView", "Chart",
    "ChartPart", "ChartPoints", "ControlRecord", "Controls", "Day", "DetectorState", "Detectors", "Dropped",
    "DroppedFrom", "DroppedOfSource", "Entities", "EntityState", "FaultKindState", "FaultRequest", "FaultState",
    "Faults", "Finding", "Findings", "Healed", "LabelRequest", "LastVerdict", "MapEdge", "MapNode", "Me",
    "Number", "Opinion", "Points", "Problem", "Ready", "Runtime", "SeriesPage", "SeriesState", "ServiceMap",
    "Setting", "Settings", "Share", "SourceState", "Sources", "StatusName", "StripRow", "StripView",
]  # fmt: skip
