"""Faults posted to services, one after the other."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from foreshock.api.answers import FaultRequest
from foreshock.api.desk import Desk
from foreshock.errors import BadInputError, ConfigError, RetryableError
from foreshock.runtime.clock import FastClock
from foreshock.shop.faults import Fault, schedule
from foreshock.shop.http.tour import Tour
from foreshock.shop.topology import SHOP
from foreshock.testing import FakeClock

SECOND = 1_000_000_000


class Services(ThreadingHTTPServer):
    """Takes faults for all services, or refuses them."""

    def __init__(self, refuse: bool = False) -> None:
        self.taken: list[dict[str, object]] = []
        self.healed: list[str] = []
        self.enough, self.refuse = threading.Event(), refuse
        super().__init__(("127.0.0.1", 0), Switch)

    @property
    def urls(self) -> dict[str, str]:
        return {name: f"http://127.0.0.1:{self.server_port}/{name}" for name in SHOP.names}


class Switch(BaseHTTPRequestHandler):
    def do_DELETE(self) -> None:
        assert isinstance(self.server, Services)
        self.server.healed.append(self.path)
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        assert isinstance(self.server, Services)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append({"path": self.path, **body})
        self.send_response(400 if self.server.refuse else 200)
        self.end_headers()
        if self.server.refuse:
            self.wfile.write(b'{"detail": "its disk is somebody else\'s"}')
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


def tour_of(services: Services, clock: FakeClock) -> Tour:
    return Tour(services.urls, clock, 5, first_seconds=1e6, gap_seconds=10)


def test_somebody_breaks_and_heals_things_beside_it(services: Services) -> None:
    clock = FakeClock(1000)
    tour = tour_of(services, clock)
    fault = Fault("error_spike", "payment", "small", duration_seconds=90)
    if services.refuse:
        with pytest.raises(BadInputError, match="payment does not take it: its disk"):
            tour.inject(fault)
        assert (tour.truth(), tour.heal()) == ((), 0)
        return
    truth = tour.inject(fault)
    assert services.taken == [{"path": "/payment/faults", "kind": "error_spike", "magnitude": "small", "seconds": 90.0}]
    assert (truth.since_unix_nano, truth.until_unix_nano) == (1000 * SECOND, 1090 * SECOND)
    assert tour.truth() == (truth,)
    assert tour.inject(Fault("traffic_surge", "cart", "large", duration_seconds=5)).magnitude == "small"
    clock.advance(30)
    assert tour.heal() == 1, "the surge was over"
    assert services.healed == ["/payment/faults"]
    assert tour.truth()[0].until_unix_nano == 1030 * SECOND
    assert tour.heal() == 0
    with pytest.raises(ConfigError, match="no pool"):
        tour.inject(Fault("pool_exhaustion", "checkout"))


def test_before_it_is_open_and_where_nobody_answers_it_says_so() -> None:
    urls: dict[str, str] = {}
    tour = Tour(urls, FakeClock(1000), 5, first_seconds=1e6, gap_seconds=10)
    with pytest.raises(RetryableError, match="not open yet"):
        tour.inject(Fault("crash", "cart"))
    with socket.socket() as held:  # bound, and nobody listens
        held.bind(("127.0.0.1", 0))
        urls["cart"] = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(RetryableError, match="cart does not answer"):
            tour.inject(Fault("crash", "cart"))
    assert tour.truth() == ()


def test_the_page_breaks_real_services_as_it_breaks_simulated_ones(services: Services) -> None:
    clock = FakeClock(1000)
    desk = Desk(tour_of(services, clock), clock, dict, dict)
    asked = FaultRequest("error_spike", "payment", "large")
    if services.refuse:
        with pytest.raises(BadInputError):
            desk.break_(asked)
        return
    assert desk.break_(asked).running
    [fault] = desk.faults().faults
    assert (fault.service, fault.running, fault.noticed) == ("payment", True, False)
    assert desk.heal().ended == 1
    clock.advance(1)
    assert not desk.faults().faults[0].running
    with pytest.raises(BadInputError, match="no pool"):
        desk.break_(FaultRequest("pool_exhaustion", "checkout"))
