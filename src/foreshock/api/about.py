"""Routes about Foreshock itself and what people tell it: detectors, sources, budget, settings, control, the shop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from foreshock.adapters.sql.store import Told
from foreshock.api import answers
from foreshock.api.ask import asked, number, one_of, time_of
from foreshock.api.auth import Permission
from foreshock.api.ingest import body_of, must_be_json
from foreshock.api.read import entities_by_labels
from foreshock.api.services import Json, caller_of, problem, services_of
from foreshock.errors import BadInputError
from foreshock.incident.story import entity_labels
from foreshock.runtime.views import Views
from foreshock.types import Alert, Control, ControlKind, Labels, digest

DAYS = 30
MOST_TOLD = 5000
_DAY = 86_400_000_000_000


def get_detectors(request: Request) -> Response:
    """`GET /api/v1/detectors`: what judges, how much of it, and how right it was."""
    asked(request, ())
    inside = services_of(request).inside
    return Json(answers.Detectors(inside.detectors() if inside is not None else []))


def get_sources(request: Request) -> Response:
    """`GET /api/v1/sources`: what comes in, how late, and what was not used."""
    asked(request, ())
    services = services_of(request)
    if services.inside is None:
        return Json(answers.Sources([], []))
    now = services.clock.now_unix_nano()
    return Json(answers.Sources(services.inside.source_states(now), services.inside.dropped()))


def get_settings(request: Request) -> Response:
    """`GET /api/v1/config`: the settings that count, each with where it came from."""
    asked(request, ())
    inside = services_of(request).inside
    return Json(answers.Settings(inside.settings() if inside is not None else []))


def get_budget(request: Request) -> Response:
    """`GET /api/v1/budget`: notifications against what somebody will bear."""
    asked(request, ())
    services = services_of(request)
    now = services.clock.now_unix_nano()
    told = services.store.told(now - DAYS * _DAY, MOST_TOLD)
    days = by_day(told, services.store.labels(), now)
    budget = services.inside.config.budget if services.inside is not None else None
    achieved = dict(services.inside.figures().budget) if services.inside is not None else {}
    return Json(
        answers.BudgetView(
            budget.environment if budget else 0.0,
            budget.entity if budget else 0.0,
            achieved,
            days[-1].notified,
            days[-1].held_back,
            days,
        )
    )


def by_day(told: Iterable[Told], labels: Mapping[str, str], now_unix_nano: int) -> list[answers.Day]:
    """What was announced on each of the last days, today last."""
    today = now_unix_nano // _DAY
    first = datetime.fromtimestamp(today * 86_400, UTC)
    days = {
        today - back: answers.Day((first - timedelta(days=back)).strftime("%Y-%m-%d"), 0, 0, 0, 0)
        for back in range(DAYS - 1, -1, -1)
    }
    for one in told:
        day = days.get(one.starts_unix_nano // _DAY)
        if day is None:
            continue
        if not one.notified:
            day.held_back += 1
            continue
        day.notified += 1
        day.true_alerts += labels.get(one.episode) == "true"
        day.false_alerts += labels.get(one.episode) == "false"
    return list(days.values())


def get_controls(request: Request) -> Response:
    """`GET /api/v1/control`: what people told the pipeline, the latest first."""
    query = asked(request, ("kind", "since", "limit"))
    kind = one_of(query, "kind", [str(one) for one in ControlKind])
    found = services_of(request).store.controls(
        time_of(query, "since") or 0, kind, number(query, "limit", 100, 1, 1000)
    )
    may_tell = caller_of(request).may(Permission.CONTROL)
    return Json({"controls": [_record(one) for one in reversed(found)], "may_tell": may_tell})


async def post_label(request: Request) -> Response:
    """`POST /api/v1/alerts/{episode}/label`: an opinion on an episode; `expected` gives its entity a fresh start."""
    services = services_of(request)
    must_be_json(request)
    try:
        wanted = msgspec.json.decode(await body_of(request, services), type=answers.LabelRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInputError("bad_label", f"not a label: {error}") from error
    episode = request.path_params["episode"]
    alert = await run_in_threadpool(services.store.alert, episode)
    if alert is None:
        return problem(404, "Not Found", f"there is no episode {episode}, or not any more")
    now = services.clock.now_unix_nano()
    author, key = caller_of(request).name, request.headers.get("idempotency-key", "")
    made = [
        Control(ControlKind.LABEL, digest("label", episode, key or str(now)), now, episode=episode,
                label=wanted.label, comment=wanted.comment, author=author)
    ]  # fmt: skip
    entity = entity_of(alert, services.views)
    if wanted.label == "expected" and entity is not None:
        made.append(
            Control(ControlKind.EXPECTED, digest("expected", episode, key or str(now)), now, matchers=dict(entity),
                    comment=wanted.comment, author=author)
        )  # fmt: skip
    stamped = [await run_in_threadpool(services.control, one) for one in made]
    return Json({"controls": [_record(one) for one in stamped]}, 202)


def entity_of(alert: Alert, views: Views) -> Labels | None:
    """The entity in view that an alert is about."""
    return entities_by_labels(views).get(entity_labels(alert.labels))


def get_faults(request: Request) -> Response:
    """`GET /api/v1/demo/faults`: what can break in the demo's shop, and what did."""
    asked(request, ())
    desk = services_of(request).desk
    if desk is None:
        return _no_shop()
    return Json(desk.faults())


async def post_fault(request: Request) -> Response:
    """`POST /api/v1/demo/faults`: break something in the demo's shop."""
    services = services_of(request)
    if services.desk is None:
        return _no_shop()
    must_be_json(request)
    try:
        wanted = msgspec.json.decode(await body_of(request, services), type=answers.FaultRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInputError("bad_fault", f"not a fault: {error}") from error
    return Json(await run_in_threadpool(services.desk.break_, wanted), 201)


async def delete_faults(request: Request) -> Response:
    """`DELETE /api/v1/demo/faults`: end whatever is broken in the demo's shop."""
    desk = services_of(request).desk
    if desk is None:
        return _no_shop()
    return Json(await run_in_threadpool(desk.heal))


def _no_shop() -> Response:
    return problem(404, "Not Found", "there is no simulated shop here: `foreshock demo` has one")


def _record(control: Control) -> answers.ControlRecord:
    fields = {name: getattr(control, name) for name in control.__struct_fields__}
    return answers.ControlRecord(**fields | {"kind": str(control.kind)})
