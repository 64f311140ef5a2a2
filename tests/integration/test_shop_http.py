"""The shop as its users meet it: real processes that call one another, break, die, come back and end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from foreshock.adapters.calls import decode_calls
from foreshock.adapters.http import inflate
from foreshock.errors import RetryableError
from foreshock.runtime.clock import SystemClock
from foreshock.shop.faults import Fault
from foreshock.shop.http.faults import KINDS
from foreshock.shop.http.launch import Launched, launched
from foreshock.shop.http.tour import Tour

SERVICES = ("gateway", "cart", "redis")
WAIT = 15.0
"""Seconds that something may take on a machine that is busy."""


def eventually(holds: Callable[[], Any], what: str, seconds: float = WAIT) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


class Collector:
    """Stands where Foreshock would: takes what is posted to /collect."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/collect"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def calls(self) -> list[tuple[str, str, str, str, int]]:
        """Source, target, method, endpoint and status of all calls that came."""
        out = []
        for body in self.bodies:
            found = decode_calls(body, time.time_ns())
            places = ("source", "target", "method", "endpoint")
            out += [(*(found.names[row[place]] for place in places), int(row["status"])) for row in found.rows]
        return out

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.append(inflate(body, self.headers.get("Content-Encoding", ""), 1 << 24))
                self.send_response(202)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


@pytest.fixture(scope="module")
def shop(collector: Collector) -> Iterator[Launched]:
    with launched(SERVICES, rate=20, collect=collector.url) as running:
        yield running
    assert running.process.returncode == 0, "it ends with the program that launched it"
    assert all_gone(running)


@pytest.fixture(scope="module")
def quiet() -> Iterator[Launched]:
    """Two services without load, whose Foreshock takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with launched(("cart", "redis"), collect=f"http://127.0.0.1:{deaf.getsockname()[1]}/collect") as running:
            yield running
            began = time.monotonic()
        assert time.monotonic() - began < 5.0, "it does not wait for Foreshock to end"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10, trust_env=False) as one:
        yield one


@pytest.fixture
def ask(shop: Launched, client: httpx.Client) -> Callable[..., httpx.Response]:
    def request(service: str, method: str, path: str, body: Any = None) -> httpx.Response:
        return client.request(method, shop.urls[service] + path, json=body)

    return request


Ask = Callable[..., httpx.Response]


def total(ask: Ask, service: str, name: str, /, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    return sum_of(ask(service, "GET", "/metrics").text, name, labels)


def answers(ask: Ask, service: str, path: str, status: int) -> None:
    """It comes to answer so; not each time, for one in a thousand requests fails though all is well."""
    eventually(lambda: ask(service, "GET", path).status_code == status, f"{service} {path} is not {status}")


def sum_of(text: str, name: str, labels: dict[str, str]) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


# -- a shop that is well -------------------------------------------------------------------------------------------


def test_all_services_answer_and_work(shop: Launched, ask: Ask) -> None:
    assert set(shop.urls) == {*SERVICES, "web"}
    for service, pid in shop.pids.items():
        health = ask(service, "GET", "/health").json()
        assert (health["service"], health["pid"], health["version"]) == (service, pid, "1.0.0")
    assert ask("redis", "GET", "/keys/7").json() == {"service": "redis", "status": 200}
    answers(ask, "cart", "/cart/7", 200)
    assert ask("cart", "GET", "/nothing").status_code == 404


def test_the_error_route_always_fails_and_is_counted(ask: Ask) -> None:
    labels = {"endpoint": "/api/error", "service": "redis"}
    before = total(ask, "redis", "app_requests_errors_total", **labels)
    assert [ask("redis", "GET", "/api/error").status_code for _ in range(3)] == [500, 500, 500]
    assert total(ask, "redis", "app_requests_errors_total", **labels) == before + 3
    assert total(ask, "redis", "app_requests_total", status="500", **labels) == before + 3


def test_load_flows_through_the_edges(ask: Ask) -> None:
    eventually(lambda: total(ask, "web", "app_load_requests_total", status="200") > 5, "no load")
    eventually(lambda: all(total(ask, one, "app_requests_total", status="200") > 5 for one in SERVICES), "no work")
    assert total(ask, "cart", "app_pool_size", target="redis") == 16
    assert "_created" not in ask("cart", "GET", "/metrics").text
    assert total(ask, "gateway", "http_request_duration_seconds_count") > 0


def test_each_call_is_recorded_once_by_its_caller(ask: Ask, collector: Collector) -> None:
    answers(ask, "cart", "/cart/77777", 200)
    edges = {("web", "gateway"), ("gateway", "cart"), ("cart", "redis"), ("unknown", "cart")}
    eventually(lambda: edges <= {call[:2] for call in collector.calls()}, "an edge is missing")
    calls = collector.calls()
    assert {call[:2] for call in calls} <= {*edges, ("unknown", "redis")}
    assert ("unknown", "cart", "GET", "/cart/{id}", 200) in calls
    assert all(call[3].startswith("/keys/") for call in calls if call[:2] == ("cart", "redis"))


def test_without_load_every_edge_is_called_every_two_seconds(quiet: Launched, client: httpx.Client) -> None:
    assert set(quiet.urls) == {"cart", "redis"}, "without a gateway nobody calls from outside"
    url = quiet.urls["redis"] + "/metrics"

    def calls() -> float:
        return sum_of(client.get(url).text, "app_requests_total", {"endpoint": "/keys/{id}"})

    before = calls()
    eventually(lambda: calls() > before, "no heartbeat", 2.5)


# -- faults --------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(ask: Ask) -> Iterator[Callable[..., None]]:
    where: set[str] = set()

    def begin(service: str, kind: str, **more: float) -> None:
        where.add(service)
        answer = ask(service, "POST", "/faults", {"kind": kind, **more})
        assert answer.status_code == 201, answer.text
        assert [one["kind"] for one in answer.json()["faults"]] == [kind]

    yield begin
    for service in where:
        assert ask(service, "DELETE", "/faults").json()["faults"] == []


def seconds_of(ask: Ask, service: str, path: str) -> float:
    began = time.monotonic()
    ask(service, "GET", path)
    return time.monotonic() - began


Broken = Callable[..., None]


def over(ask: Ask, service: str) -> None:
    eventually(lambda: not ask(service, "GET", "/faults").json()["faults"], "the fault does not end")


def test_error_spike_answers_500_and_ends_by_itself(ask: Ask, broken: Broken) -> None:
    broken("redis", "error_spike", magnitude=1, seconds=0.3)
    assert ask("redis", "GET", "/keys/1").status_code == 500
    over(ask, "redis")
    assert ask("redis", "GET", "/keys/1").status_code == 200


def test_what_a_callee_answers_wrongly_its_caller_answers_wrongly(ask: Ask, broken: Broken) -> None:
    before = total(ask, "cart", "app_call_retries_total", target="redis")
    broken("redis", "error_spike", magnitude=1)
    answers(ask, "cart", "/cart/7", 502)
    assert total(ask, "cart", "app_call_retries_total", target="redis") > before


def test_latency_is_added_and_a_caller_gives_up(ask: Ask, broken: Broken) -> None:
    broken("redis", "latency", magnitude=0.7)
    assert seconds_of(ask, "redis", "/keys/1") >= 0.7
    answers(ask, "cart", "/cart/7", 504)


def test_a_slow_dependency_has_more_work(ask: Ask, broken: Broken) -> None:
    broken("redis", "slow_dependency", magnitude=20)
    assert min(seconds_of(ask, "redis", "/keys/1") for _ in range(4)) > 0.015, "3 ms are usual"


def test_cpu_hog_burns_cpu(ask: Ask, broken: Broken) -> None:
    before = total(ask, "redis", "process_cpu_seconds_total")
    broken("redis", "cpu_hog", magnitude=0.9)
    eventually(lambda: total(ask, "redis", "process_cpu_seconds_total") > before + 0.3, "no CPU is burnt")


def test_memory_leak_takes_memory_and_gives_it_back(ask: Ask, broken: Broken) -> None:
    before = total(ask, "redis", "process_resident_memory_bytes")
    broken("redis", "memory_leak", magnitude=64, seconds=1)
    grown = before + (24 << 20)
    eventually(lambda: total(ask, "redis", "process_resident_memory_bytes") > grown, "no memory is taken")
    over(ask, "redis")
    eventually(lambda: total(ask, "redis", "process_resident_memory_bytes") < grown - (8 << 20), "it is not given back")


def test_a_crashed_service_refuses_and_comes_back(ask: Ask, broken: Broken) -> None:
    pid = ask("cart", "GET", "/health").json()["pid"]
    broken("cart", "crash", seconds=2)
    eventually(lambda: not alive(pid), "it does not die")
    began = time.monotonic()
    with pytest.raises((httpx.ConnectError, httpx.ReadError)):  # the latter where a connection was open
        ask("cart", "GET", "/health")
    assert eventually(lambda: health_pid(ask, "cart"), "it does not come back") != pid
    assert time.monotonic() - began > 1.0


def health_pid(ask: Ask, service: str) -> int | None:
    try:
        return int(ask(service, "GET", "/health").json()["pid"])
    except httpx.TransportError:
        return None


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_traffic_surge_multiplies_what_reaches_a_service(ask: Ask, broken: Broken) -> None:
    def arrived() -> float:
        names = ("app_load_requests_total", "app_load_in_flight", "app_load_dropped_total")
        return sum(total(ask, "web", name) for name in names)

    broken("gateway", "traffic_surge", magnitude=4, seconds=30)
    told = ask("web", "GET", "/faults").json()["faults"]
    assert [(one["magnitude"], one["towards"]) for one in told] == [(4, "gateway")]
    before, began = arrived(), time.monotonic()
    time.sleep(1.0)
    eventually(lambda: (arrived() - before) / (time.monotonic() - began) > 40, "20 a second are usual")
    ask("gateway", "DELETE", "/faults")
    assert ask("web", "GET", "/faults").json()["faults"] == []


def test_in_a_retry_storm_callers_give_up_early_and_try_often(ask: Ask, broken: Broken) -> None:
    before = total(ask, "cart", "app_call_retries_total", target="redis")
    broken("redis", "retry_storm", magnitude=0.01, seconds=20)
    assert [one["towards"] for one in ask("cart", "GET", "/faults").json()["faults"]] == ["redis"]
    answers(ask, "cart", "/cart/7", 504)
    assert total(ask, "cart", "app_call_retries_total", target="redis") >= before + 8
    ask("redis", "DELETE", "/faults")
    assert ask("cart", "GET", "/faults").json()["faults"] == []
    answers(ask, "cart", "/cart/7", 200)


def test_a_full_disk_fails_writes_alone(ask: Ask, broken: Broken) -> None:
    broken("redis", "disk_fill", magnitude=64)
    eventually(lambda: ask("redis", "PUT", "/keys/1").status_code == 500, "writes go on")
    assert ask("redis", "GET", "/keys/1").status_code == 200
    size = total(ask, "redis", "app_disk_size_bytes")
    assert size - 200 < total(ask, "redis", "app_disk_used_bytes") <= size
    ask("redis", "DELETE", "/faults")
    assert ask("redis", "PUT", "/keys/1").status_code == 200


def test_an_exhausted_pool_lets_no_call_through(ask: Ask, broken: Broken) -> None:
    broken("cart", "pool_exhaustion")
    eventually(lambda: total(ask, "cart", "app_pool_in_use", target="redis") == 16, "connections are free")
    answers(ask, "cart", "/cart/7", 504)
    assert total(ask, "cart", "app_pool_timeouts_total", target="redis") > 0
    ask("cart", "DELETE", "/faults")
    answers(ask, "cart", "/cart/7", 200)


def test_a_bad_deploy_is_another_version_until_it_is_rolled_back(ask: Ask, broken: Broken) -> None:
    broken("cart", "bad_deploy", magnitude=1)
    assert total(ask, "cart", "app_build_info", version="1.1.0") == 1
    answers(ask, "cart", "/cart/7", 500)
    ask("cart", "DELETE", "/faults")
    assert total(ask, "cart", "app_build_info", version="1.0.0") == 1
    assert total(ask, "cart", "app_build_info") == 1
    answers(ask, "cart", "/cart/7", 200)


@pytest.mark.parametrize("service", [*SERVICES, "web"])
def test_a_bad_fault_is_answered_with_the_kinds_that_there_are(ask: Ask, service: str) -> None:
    bad: list[Any] = [{"kind": "earthquake"}, {"kind": "error_spike", "magnitude": 7}, [], "x" * 5000]
    for body in bad:
        answer = ask(service, "POST", "/faults", body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        kinds = set(answer.json()["kinds"])
        assert kinds <= set(KINDS)
        assert kinds == {"traffic_surge"} if service == "web" else {"error_spike", "crash"} <= kinds
    assert ask(service, "GET", "/faults").json()["faults"] == []


# -- trouble -------------------------------------------------------------------------------------------------------


def test_the_demo_breaks_a_service_and_heals_it_as_somebody_asks(shop: Launched, ask: Ask) -> None:
    tour = Tour(shop.urls, SystemClock(), 0, first_seconds=1e6, gap_seconds=10)
    truth = tour.inject(Fault("error_spike", "cart", "large", duration_seconds=60))
    assert [one["kind"] for one in ask("cart", "GET", "/faults").json()["faults"]] == ["error_spike"]
    answers(ask, "cart", "/cart/7", 500)
    assert tour.heal() == 1
    assert ask("cart", "GET", "/faults").json()["faults"] == []
    assert tour.truth()[0].until_unix_nano < truth.until_unix_nano
    answers(ask, "cart", "/cart/7", 200)
    with pytest.raises(RetryableError, match="not open yet"):
        tour.inject(Fault("error_spike", "payment"))


def test_a_service_killed_under_load_is_brought_back_and_the_others_go_on(shop: Launched, ask: Ask) -> None:
    pid = ask("redis", "GET", "/health").json()["pid"]
    sent, dropped = total(ask, "web", "app_load_requests_total"), total(ask, "web", "app_load_dropped_total")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), "it lives")
    answers(ask, "cart", "/cart/7", 504)
    answers(ask, "gateway", "/search", 200)
    found = eventually(lambda: health_pid(ask, "redis"), "it does not come back")
    assert found != pid
    answers(ask, "cart", "/cart/7", 200)
    assert total(ask, "web", "app_load_requests_total") > sent
    assert total(ask, "web", "app_load_dropped_total") == dropped


def test_a_foreshock_that_never_answers_is_not_noticed(quiet: Launched, client: httpx.Client) -> None:
    took = []
    for number in range(15):
        began = time.monotonic()
        assert client.get(f"{quiet.urls['cart']}/cart/{number}").status_code in (200, 500)
        took.append(time.monotonic() - began)
    assert sorted(took)[7] < 0.3, "its own work and two calls take 40 ms"


# -- the end -------------------------------------------------------------------------------------------------------


def all_gone(running: Launched) -> bool:
    return not any(alive(pid) for pid in running.pids.values())


def test_an_end_that_is_asked_for_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with launched(("cart", "redis"), collect="") as running:
        assert {one.name for one in tmp_path.glob("*/*")} == {"cart", "redis"}
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(WAIT) == 0
        assert all_gone(running)
        assert list(tmp_path.iterdir()) == []


def test_services_do_not_outlive_a_killed_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with launched(("cart", "redis"), collect="") as running:
        running.process.kill()
        eventually(lambda: all_gone(running), "orphans")
        eventually(lambda: not list(tmp_path.iterdir()), "a folder is left")


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "foreshock", "shop", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_people_get_a_table() -> None:
    table = serve("--services", "cart,redis", "--port", "0", "--seconds", "0", "--collect", "")
    assert table.returncode == 0, table.stderr
    assert re.search(r"^cart +http://127.0.0.1:[0-9]+ +[0-9]+ +redis *$", table.stdout, re.M)
    assert "calls are not recorded" in table.stderr


def test_the_example_of_the_page_works(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/run-the-shop.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert len(code) == 1
    exec(code[0], {})
    assert capsys.readouterr().out.startswith("0:00:0")


def test_what_cannot_be_is_said_in_a_sentence() -> None:
    unknown = serve("--services", "chekout")
    assert unknown.returncode == 2
    assert unknown.stderr == "foreshock: the shop has no service chekout: did you mean checkout?\n"
