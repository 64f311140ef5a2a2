"""What a process of the shop records of its calls, as any application would that Foreshock watches."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import httpx
from starlette.types import ASGIApp

from foreshock.instrument import Recorder
from foreshock.instrument.asgi import CallMiddleware
from foreshock.instrument.httpx import AsyncTransport
from foreshock.shop.http.site import Site

_EXIT_SECONDS = 0.5


class Recording:
    """The recorder of one service; where the site collects nothing, it is not there."""

    def __init__(self, service: str, site: Site) -> None:
        # That nobody collects is no trouble here, and thirteen processes need not say it.
        logging.getLogger("foreshock.instrument").setLevel(logging.ERROR)
        self.recorder = Recorder(service, site.collect, exit_seconds=_EXIT_SECONDS) if site.collect else None
        self._services = {urlsplit(url).netloc: name for name, url in site.urls.items()}

    def inbound(self, app: ASGIApp) -> ASGIApp:
        """The application, its requests recorded."""
        return CallMiddleware(app, self.recorder) if self.recorder else app

    def outbound(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """The transport, its requests recorded."""
        return AsyncTransport(self.recorder, transport, self._services) if self.recorder else transport

    def close(self) -> None:
        """Send what there is, or give up half a second later."""
        if self.recorder:
            self.recorder.close()
