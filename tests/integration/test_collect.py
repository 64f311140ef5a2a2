"""Calls on their way: from a recorder in an application, or from curl, through the server into the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from foreshock.adapters.decode import decode
from foreshock.app import App
from foreshock.instrument import Recorder
from foreshock.telemetry import REGISTRY
from foreshock.types import Calls, Record
from foreshock.types.record import CALLS
from tests.integration.rig import WAIT, settings


@contextmanager
def collecting(folder: Path, **more: Any) -> Iterator[tuple[App, str]]:
    """A running process and its URL."""
    app = App(settings(folder, http={"listen": "127.0.0.1:0"}, **more))
    app.start()
    try:
        assert app.engine.ready.wait(WAIT)
        assert app.server is not None
        yield app, f"http://127.0.0.1:{app.server.port}"
    finally:
        app.stop()


def logged(app: App) -> list[Record]:
    return [record for _, record in app.log.read(0) if record.content_type == CALLS]


def calls_of(app: App, record: Record) -> Calls:
    calls = decode(record, app.config.mapping)
    assert isinstance(calls, Calls)
    return calls


def events(source: str) -> float:
    return REGISTRY.get_sample_value("foreshock_events_total", {"source": source}) or 0.0


def test_what_a_recorder_sends_is_in_the_log_and_read_by_the_pipeline(tmp_path: Path) -> None:
    before = events("calls")
    with collecting(tmp_path) as (app, url), Recorder("checkout", url, every_seconds=60) as recorder:
        for at in range(700):
            recorder.record("checkout", "payment", "POST", f"/charge/{at}", 200, at / 1000)
        assert recorder.flush(WAIT)
        assert recorder.stats() == (700, 700, 0, {}, "")
        records = logged(app)
        assert {(record.source, record.environment) for record in records} == {("calls", "default")}
        calls = [calls_of(app, record) for record in records]
    assert sum(map(len, calls)) == 700
    assert calls[0].rows["duration_seconds"][:3].tolist() == [0.0, 0.001, 0.002]
    assert events("calls") == before + 700


def test_a_config_names_the_source_and_its_lateness(tmp_path: Path) -> None:
    sources = ["http", {"calls": {"name": "mesh"}}, {"type": "calls", "name": "late", "lateness": "1m"}]
    with collecting(tmp_path, sources=sources) as (app, url):
        assert [source.lateness_seconds for source in app.config.sources] == [5.0, 2.0, 60.0]
        assert httpx.post(url + "/api/v1/collect", json={"target": "payment"}).status_code == 202
        assert [record.source for record in logged(app)] == ["mesh"]


def test_a_large_body_is_taken_whole(tmp_path: Path) -> None:
    row = {"source": "checkout", "target": "payment", "method": "GET", "status": 200, "duration": 0.1}
    body = json.dumps([row | {"endpoint": f"/item/{at}"} for at in range(95_000)]).encode()
    assert len(body) > 10_000_000
    with collecting(tmp_path) as (_, url):
        answer = httpx.post(url + "/collect", content=body, timeout=60)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 95_000)


@pytest.mark.parametrize("token", ["right", "wrong"])
def test_a_recorder_shows_its_token(tmp_path: Path, token: str) -> None:
    tokens = {"listen": "127.0.0.1:0", "tokens": [{"token": "right", "role": "ingest"}]}
    app = App(settings(tmp_path, http=tokens))
    app.start()
    try:
        assert app.engine.ready.wait(WAIT)
        assert app.server is not None
        url = f"http://127.0.0.1:{app.server.port}/collect"
        with Recorder("checkout", url, token=token, every_seconds=60) as recorder:
            recorder.record("checkout", "payment", "POST", "/charge", 200, 0.1)
            recorder.flush(WAIT)
            stats = recorder.stats()
    finally:
        app.stop()
    assert (stats.sent, stats.dropped) == ((1, {}) if token == "right" else (0, {"refused": 1}))
    assert ("401" in stats.problem) == (token == "wrong")
