"""Routes about Foreshock itself: detectors, sources, budget, settings, who asks, and the demo's shop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from foreshock.adapters.sql.store import Told
from foreshock.api import answers
from foreshock.api.ask import asked
from foreshock.api.auth import Permission
from foreshock.api.ingest import body_of, must_be_json
from foreshock.api.once import once_of
from foreshock.api.services import Json, caller_of, problem, services_of
from foreshock.errors import BadInputError

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


def get_me(request: Request) -> Response:
    """`GET /api/v1/me`: who asks, and what they may do."""
    asked(request, ())
    caller = caller_of(request)
    may: Any = [str(one) for one in Permission if caller.may(one)]
    return Json(answers.Me(caller.name, str(caller.role), may))  # type: ignore[arg-type]


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
    desk = services.desk
    if desk is None:
        return _no_shop()
    must_be_json(request)
    body = await body_of(request, services)
    try:
        wanted = msgspec.json.decode(body, type=answers.FaultRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInputError("bad_fault", f"not a fault: {error}") from error

    async def broken() -> Response:
        return Json(await run_in_threadpool(desk.break_, wanted), 201)

    return await once_of(request).answer(request, body, broken)


async def delete_faults(request: Request) -> Response:
    """`DELETE /api/v1/demo/faults`: end whatever is broken in the demo's shop."""
    desk = services_of(request).desk
    if desk is None:
        return _no_shop()
    return Json(await run_in_threadpool(desk.heal))


def _no_shop() -> Response:
    return problem(404, "Not Found", "there is no simulated shop here: `foreshock demo` has one")
