"""Faults posted to services, one after the other."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from foreshock.runtime.clock import FastClock
from foreshock.shop.faults import schedule
from foreshock.shop.http.tour import Tour
from foreshock.shop.topology import SHOP

SECOND = 1_000_000_000


class Services(ThreadingHTTPServer):
    """Takes faults for all services, or refuses them."""

    def __init__(self, refuse: bool = False) -> None:
        self.taken: list[dict[str, object]] = []
        self.enough, self.refuse = threading.Event(), refuse
        super().__init__(("127.0.0.1", 0), Switch)

    @property
    def urls(self) -> dict[str, str]:
        return {name: f"http://127.0.0.1:{self.server_port}/{name}" for name in SHOP.names}


class Switch(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Services)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append({"path": self.path, **body})
        self.send_response(400 if self.server.refuse else 200)
        self.end_headers()
        if len(self.server.taken) >= 3:
            self.server.enough.set()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[False, True], ids=["taken", "refused"])
def services(request: pytest.FixtureRequest) -> Iterator[Services]:
    server = Services(request.param)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_faults_come_in_their_order_and_their_truth_is_known(services: Services) -> None:
    tour = Tour(services.urls, FastClock(500), 5, ("crash", "traffic_surge"), first_seconds=10, gap_seconds=10)
    tour.start()
    assert services.enough.wait(20)
    tour.stop()
    wanted = schedule(5, first_seconds=10, gap_seconds=10, kinds=("crash", "traffic_surge"))
    for fault, taken in zip(wanted, services.taken, strict=False):
        assert taken["path"] == f"/{fault.service}/faults"
        assert taken["kind"] == fault.kind
        assert taken["magnitude"] == ("small" if fault.kind == "traffic_surge" else "large")
        assert taken["seconds"] == fault.lasts_seconds
    truths = tour.truth()
    if services.refuse:
        assert truths == (), "what no service took was not broken"
        return
    assert [one.kind for one in truths[:2]] == [fault.kind for fault in wanted]
    apart = (truths[1].since_unix_nano - truths[0].since_unix_nano) / SECOND
    assert apart > wanted[0].lasts_seconds, "the one is over before the next begins"
    assert truths[1].magnitude == ("small" if truths[1].kind == "traffic_surge" else "large")
    assert truths[0].until_unix_nano - truths[0].since_unix_nano == wanted[0].lasts_seconds * SECOND
