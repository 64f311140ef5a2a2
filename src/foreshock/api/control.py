"""What people tell the pipeline: control records, asked for, listed, ended early; and opinions on alerts."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from foreshock.api import answers
from foreshock.api.ask import asked, number, one_of, time_of
from foreshock.api.ingest import body_of, must_be_json
from foreshock.api.once import once_of
from foreshock.api.read import entities_by_labels
from foreshock.api.services import Json, Services, caller_of, problem, services_of
from foreshock.errors import BadInputError
from foreshock.incident.story import entity_labels
from foreshock.runtime.views import Views
from foreshock.types import Alert, Control, ControlKind, Labels, digest

Nanoseconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Name = Annotated[str, msgspec.Meta(max_length=200)]
Comment = Annotated[str, msgspec.Meta(max_length=2000)]


class ControlRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A control record as it is asked for: `types.Control`, of which only `kind` is needed.

    A missing `id` is made up, a missing `effective_unix_nano` is now; the author is the token's name where there is
    one.
    """

    kind: ControlKind
    id: Name = ""
    effective_unix_nano: Nanoseconds = 0
    until_unix_nano: Nanoseconds = 0
    matchers: Annotated[dict[Name, Comment], msgspec.Meta(max_length=50)] = {}
    episode: Name = ""
    label: Name = ""
    comment: Comment = ""
    author: Name = ""


async def post_control(request: Request) -> Response:
    """`POST /api/v1/control`: maintenance, a deploy, a silence, a label or another word to the pipeline."""
    services = services_of(request)
    must_be_json(request)
    body = await body_of(request, services)
    return await once_of(request).answer(request, body, lambda: _tell(request, services, _control(body)))


async def _tell(request: Request, services: Services, wanted: ControlRequest) -> Response:
    control = Control(
        kind=wanted.kind,
        id=wanted.id or request.headers.get("idempotency-key", "") or uuid4().hex,
        effective_unix_nano=wanted.effective_unix_nano or services.clock.now_unix_nano(),
        until_unix_nano=wanted.until_unix_nano,
        matchers=wanted.matchers,
        episode=wanted.episode,
        label=wanted.label,
        comment=wanted.comment,
        author=caller_of(request).name or wanted.author,
    )
    if control.until_unix_nano and control.until_unix_nano <= control.effective_unix_nano:
        raise BadInputError("bad_control", "until_unix_nano must be later than effective_unix_nano, or 0")
    return Json(await run_in_threadpool(services.control, control), 202)


def _control(body: bytes) -> ControlRequest:
    try:
        wanted = msgspec.json.decode(body, type=ControlRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInputError("bad_control", f"not a control record: {error}") from error
    if wanted.kind is ControlKind.LABEL and not (wanted.label and (wanted.episode or wanted.matchers)):
        raise BadInputError("bad_control", "a label wants `label`, and `episode` or `matchers`")
    if wanted.kind is ControlKind.FORGET and not wanted.matchers:
        raise BadInputError("bad_control", "to forget everything is not offered: name the entity in `matchers`")
    return wanted


async def delete_control(request: Request) -> Response:
    """`DELETE /api/v1/control/{id}`: end maintenance, a deploy or a silence now; one that has yet to begin does not."""
    name = request.path_params["id"]
    ended = await run_in_threadpool(services_of(request).end_control, name, caller_of(request).name)
    if ended is None:
        return problem(404, "Not Found", f"there is no maintenance, deploy or silence {name}, or not any more")
    return Json(ended, 202)


def get_controls(request: Request) -> Response:
    """`GET /api/v1/control`: what people told the pipeline, the latest first."""
    query = asked(request, ("kind", "since", "limit"))
    kind = one_of(query, "kind", [str(one) for one in ControlKind])
    found = services_of(request).store.controls(
        time_of(query, "since") or 0, kind, number(query, "limit", 100, 1, 1000)
    )
    return Json({"controls": [_record(one) for one in reversed(found)]})


async def post_label(request: Request) -> Response:
    """`POST /api/v1/alerts/{episode}/label`: an opinion on an episode; `expected` gives its entity a fresh start."""
    services = services_of(request)
    must_be_json(request)
    body = await body_of(request, services)
    try:
        wanted = msgspec.json.decode(body, type=answers.LabelRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInputError("bad_label", f"not a label: {error}") from error
    return await once_of(request).answer(request, body, lambda: _label(request, services, wanted))


async def _label(request: Request, services: Services, wanted: answers.LabelRequest) -> Response:
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


def _record(control: Control) -> answers.ControlRecord:
    fields = {name: getattr(control, name) for name in control.__struct_fields__}
    return answers.ControlRecord(**fields | {"kind": str(control.kind)})
