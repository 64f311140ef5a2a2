"""Episodes, and opinions on them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType


class AlertMore(Struct):
    """What Foreshock adds to Alertmanager's alert.

    `entity` and `feature` name the series it is about, as `/api/v1/series` writes them, where it is in view; `label` is
    the last opinion on it.
    """

    episode: str
    kind: Literal["anomaly", "threshold", "silence", "change", "watchdog"]
    strength: float
    notified: bool | None
    group: str
    decidedAt: str
    entity: str | UnsetType = UNSET
    feature: str | UnsetType = UNSET
    label: str | UnsetType = UNSET


class AlertState(Struct):
    """One episode, in Alertmanager's v2 JSON."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    startsAt: str
    endsAt: str
    generatorURL: str
    fingerprint: str
    foreshock: AlertMore


class Alerts(Struct):
    """A page of episodes; `next` is the cursor of the following one."""

    alerts: list[AlertState]
    next: str | None


class LabelRequest(Struct, forbid_unknown_fields=True):
    """An opinion on an episode; `none` takes it back, `expected` also makes what is seen now the new normal."""

    label: Literal["true", "false", "expected", "none"]
    comment: Annotated[str, Meta(max_length=2000)] = ""
