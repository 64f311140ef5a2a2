"""The page, from the folder that it was built into, and the headers that keep it to itself."""

from __future__ import annotations

import gzip
import mimetypes
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message

import foreshock
from foreshock.api.first import first_answers

FOLDER = Path(foreshock.__file__).parent / "web"

HEADERS = (
    (b"content-security-policy",
     b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
     b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
)  # fmt: skip
"""Stand on every answer: nothing but what this server serves is loaded, shown around it or told about it."""

_NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Foreshock</title>
<h1>The page is not built yet</h1>
<p>In a checkout, <code>make web</code> builds it; <code>make run</code> does so by itself. The API is here:
<a href="/openapi.json">/openapi.json</a>.</p></html>
"""
_FOR_EVER = "public, max-age=31536000, immutable"
_PACKED, _GZIP = frozenset({".js", ".css", ".svg"}), {"Content-Encoding": "gzip"}


_BODY = b'<div id="app"></div>'


def get_page(request: Request) -> Response:
    """`GET /`: the page, with its first answers."""
    path = _found(request, "index.html")
    if path is None:
        return Response(_NOT_BUILT, 200, media_type="text/html")
    page = path.read_bytes().replace(_BODY, first_answers(request) + _BODY, 1)
    return Response(page, media_type="text/html", headers={"Cache-Control": "no-cache"})


def get_asset(request: Request) -> Response:
    """`GET /assets/{path}`: what the page is made of; its name changes with its content."""
    return _file(request, f"assets/{request.path_params['path']}")


def get_theme(request: Request) -> Response:
    """`GET /theme.js`: sets light or dark before anything is drawn."""
    return _file(request, "theme.js")


def get_icon(request: Request) -> Response:
    """`GET /favicon.svg`: the mark."""
    return _file(request, "favicon.svg")


def _file(request: Request, name: str) -> Response:
    path = _found(request, name)
    if path is None:
        return Response(f"there is no {name}\n", 404, media_type="text/plain")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers = {"Cache-Control": _FOR_EVER if name.startswith("assets/") else "no-cache"}
    if path.suffix in _PACKED:
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(_packed(path, path.stat().st_mtime_ns), 200, headers | _GZIP, kind)
    return FileResponse(path, media_type=kind, headers=headers)


@lru_cache(maxsize=64)
def _packed(path: Path, changed: int) -> bytes:
    """A file of the page, packed once for all who ask; `changed` says of which version."""
    return gzip.compress(path.read_bytes(), 9, mtime=0)


def _found(request: Request, name: str) -> Path | None:
    """A file of the built page, None where it has none of this name."""
    folder = (request.app.state.services.page or FOLDER).resolve()
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder) and path.is_file() else None


def secured(message: Message) -> Message:
    """The start of an answer with the headers that it lacks."""
    if message["type"] == "http.response.start":
        given = {name.lower() for name, _ in message["headers"]}
        message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in given)]
    return message
