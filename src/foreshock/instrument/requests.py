"""Records the calls that an application makes with requests.

`Session` stands in for requests' own. It records in the adapter, through which every request goes, whichever one is
mounted: redirects count as the calls that they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from foreshock.instrument.names import HEADER, NO_ANSWER, header_value, target_of
from foreshock.instrument.recorder import Recorder


class Session(requests.Session):
    """`requests.Session` whose calls are recorded.

    `services` names what is called: `host:port` or `host` → service; others go by the name of their host. `header` is
    what tells the called service who calls, so that it leaves recording to the caller; None sends nothing.
    """

    def __init__(
        self, recorder: Recorder, *, services: Mapping[str, str] | None = None, header: str | None = HEADER
    ) -> None:
        super().__init__()
        self._recording = recorder, services, header

    def get_adapter(self, url: str) -> BaseAdapter:
        """The adapter that is mounted for a URL, recorded."""
        recorder, services, header = self._recording
        return Adapter(recorder, super().get_adapter(url), services, header)


class Adapter(BaseAdapter):
    """Around an adapter: each request is a call, until the head of its answer has come.

    Its status is 0 if there was no answer; the error goes on to whoever called. An adapter that tries again by itself
    makes one call of it.
    """

    def __init__(
        self, recorder: Recorder, adapter: BaseAdapter | None = None, services: Mapping[str, str] | None = None,
        header: str | None = HEADER,
    ) -> None:  # fmt: skip
        super().__init__()
        self._recorder, self._inner = recorder, adapter or HTTPAdapter()
        self._services, self._header = services or {}, header

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request."""
        if self._header:
            request.headers[self._header] = header_value(self._recorder.service)
        status, started = NO_ANSWER, perf_counter()
        try:
            response = self._inner.send(request, *args, **kwargs)
            status = response.status_code
            return response
        finally:
            seconds = perf_counter() - started
            target, path = self._where(request.url or "")
            self._recorder.record(self._recorder.service, target, request.method or "", path, status, seconds)

    def close(self) -> None:
        """Close what is inside."""
        self._inner.close()

    def _where(self, url: str) -> tuple[str, str]:
        """Service and path of a URL, however odd it is."""
        try:
            parts = urlsplit(url)
            return target_of(parts.hostname or "", parts.port, self._services), parts.path or "/"
        except ValueError:
            return "", ""
