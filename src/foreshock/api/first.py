"""The first answers, put into the page: it draws itself at once, and asks only for what comes after."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from foreshock.api.auth import identify
from foreshock.api.routes import ROUTES
from foreshock.api.services import services_of
from foreshock.errors import ForeshockError

FIRST = (
    "/api/v1/alerts?status=firing&limit=500",
    "/api/v1/map",
    "/api/v1/strip",
    "/api/v1/budget",
    "/api/v1/control?kind=deploy&limit=200",
    "/api/v1/sources",
    "/api/v1/me",
)
"""What the page asks for when it opens, as it writes it."""

LIVE = "/ws"
"""The name under which the first message of the WebSocket stands."""

MOST_BYTES = 256 * 1024
"""A longer answer is not put into the page, which then asks for it."""

_ENDPOINTS = {route.path: route.endpoint for route in ROUTES if route.method == "GET"}


def first_answers(request: Request) -> bytes:
    """The element that holds them, by what asks for them; empty where the caller would have to say who asks."""
    services = services_of(request)
    caller = identify(services.tokens, "")
    if caller is None:
        return b""
    parts = {LIVE: request.app.state.hub.entities_now()}
    for asked in FIRST:
        path, _, query = asked.partition("?")
        scope = {**request.scope, "path": path, "query_string": query.encode(), "foreshock.caller": caller}
        try:
            answer: Response = _ENDPOINTS[path](Request(scope))
        except ForeshockError:
            continue  # it is asked for, and the page says what is wrong
        if answer.status_code == 200:
            parts[asked] = bytes(answer.body)
    text = b",".join(b'"%s":%s' % (name.encode(), body) for name, body in parts.items() if len(body) <= MOST_BYTES)
    # Within a script element only this sign could end it; in JSON it stands in texts alone.
    return b'<script type="application/json" id="first">{%s}</script>' % text.replace(b"<", b"\\u003c")
