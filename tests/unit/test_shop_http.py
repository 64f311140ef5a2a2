"""The parts of the HTTP shop by themselves: faults, capacity, pools, disks, metrics, ports."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from foreshock.errors import BadInputError, PermanentError
from foreshock.shop.http import load
from foreshock.shop.http.calling import Pool
from foreshock.shop.http.capacity import Capacity, Disk, RefusedError
from foreshock.shop.http.faults import KINDS, Conditions, Effect, Fault, Offer, Switch, conditions
from foreshock.shop.http.load import Generator
from foreshock.shop.http.metrics import Metrics
from foreshock.shop.http.process import HOST, reserve
from foreshock.shop.http.service import build
from foreshock.shop.http.serving import Shop
from foreshock.shop.http.site import Site, chosen
from foreshock.shop.http.supervisor import Supervisor
from foreshock.shop.topology import SHOP, Service

# -- faults --------------------------------------------------------------------------------------------------------


ALL = Offer(tuple(KINDS))


def test_a_fault_needs_no_more_than_its_kind() -> None:
    for name, kind in KINDS.items():
        assert ALL.fault(f'{{"kind": "{name}"}}'.encode()) == Fault(name, kind.large, 60.0)
        assert ALL.fault(f'{{"kind": "{name}", "magnitude": "small"}}'.encode()) == Fault(name, kind.small, 60.0)
    assert ALL.fault(b'{"kind": "latency", "magnitude": 2, "seconds": 5}') == Fault("latency", 2.0, 5.0)


def test_the_kinds_are_those_of_the_simulated_shop() -> None:
    from foreshock.shop.faults import CATALOGUE

    assert list(KINDS) == list(CATALOGUE)
    for name, read in (("error_spike", "errors"), ("cpu_hog", "stolen"), ("traffic_surge", "surge"),
                       ("slow_dependency", "work"), ("retry_storm", "timeout"), ("bad_deploy", "errors")):  # fmt: skip
        kind, simulated = KINDS[name], {str(one): kind for one, kind in CATALOGUE.items()}[name]
        assert (kind.small, kind.large) == (getattr(simulated.small, read), getattr(simulated.large, read))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not a fault"),
        (b"\xff", "not a fault"),
        (b"[1]", "not a fault"),
        (b'{"magnitude": 1}', "kind"),
        (b'{"kind": "error_spike", "secs": 3}', "secs"),
        (b'{"kind": "error_spike", "magnitude": "much"}', "not a fault"),
        (b'{"kind": "error_spike", "magnitude": true}', "not a fault"),
        (b'{"kind": "error_spike", "magnitude": NaN}', "not a fault"),
        (b'{"kind": "earthquake"}', "earthquake is no kind of fault: there are error_spike, latency"),
        (b'{"kind": "crash"}', "crash cannot happen here"),
        (b'{"kind": "error_spike", "magnitude": 1.5}', "0.001 to 1, small or large"),
        (b'{"kind": "error_spike", "magnitude": -1}', "0.001 to 1, small or large"),
        (b'{"kind": "error_spike", "magnitude": 1e400}', "out of range"),
        (b'{"kind": "error_spike", "seconds": 0}', "seconds"),
        (b'{"kind": "error_spike", "seconds": 1e9}', "seconds"),
    ],
)
def test_a_bad_fault_is_refused_and_says_why(body: bytes, says: str) -> None:
    with pytest.raises(BadInputError, match=says) as error:
        Offer(tuple(name for name in KINDS if name != "crash")).fault(body)
    assert error.value.reason == "bad_fault"


def test_what_others_are_told_names_whom_it_is_towards() -> None:
    offer = Offer(("error_spike",), {"retry_storm": ("redis",)})
    asked = b'{"kind": "retry_storm", "towards": "%s"}'
    assert offer.fault(asked % b"redis") == Fault("retry_storm", 0.5, 60.0, "redis")
    for body in (asked % b"cart", asked % b"", b'{"kind": "error_spike", "towards": "redis"}'):
        with pytest.raises(BadInputError, match="can be towards"):
            offer.fault(body)


def test_faults_change_conditions_together() -> None:
    assert conditions([]) == Conditions()
    found = conditions(
        Fault(name, kind.large, 1, "redis" if name in ("retry_storm", "traffic_surge") else "")
        for name, kind in KINDS.items()
    )
    assert found.error_ratio == pytest.approx(1 - 0.6 * 0.7)
    assert (found.slower_work, found.added_seconds) == (30, 0.5)
    assert found.slower_cores == pytest.approx(12.5)
    assert (found.version, found.traffic, found.impatience) == ("1.1.0", {"redis": 6}, {"redis": 0.5})


def test_the_impatient_give_up_early_and_try_often() -> None:
    edge = SHOP.edge("cart", "redis")
    assert Conditions().tries(edge, 0.004) == (0.5, 1)
    assert conditions([Fault("retry_storm", 0.5, 1, "redis")]).tries(edge, 0.004) == (0.002, 8)
    assert conditions([Fault("retry_storm", 1, 1, "redis")]).tries(edge, 0.004) == (0.004, 3)
    assert conditions([Fault("retry_storm", 10, 1, "redis")]).tries(edge, 1.0) == (0.5, 3)
    assert conditions([Fault("retry_storm", 1, 1, "postgres")]).tries(edge, 0.004) == (0.5, 1)


def effect_into(log: list[str]) -> Effect:
    @asynccontextmanager
    async def effect(fault: Fault) -> AsyncIterator[None]:
        log.append(f"begins {fault.magnitude:g}")
        try:
            yield
        finally:
            log.append(f"ends {fault.magnitude:g}")

    return effect


def test_a_fault_ends_by_itself_and_is_cleaned_up() -> None:
    log: list[str] = []

    async def story() -> None:
        switch = Switch(ALL, {"latency": effect_into(log)})
        await switch.put(Fault("latency", 2, 0.02))
        assert log == ["begins 2"]
        assert switch.conditions.added_seconds == 2
        assert [one["kind"] for one in switch.on()] == ["latency"]
        while switch.on():
            await asyncio.sleep(0.002)
        assert switch.conditions == Conditions()
        assert log == ["begins 2", "ends 2"]

    asyncio.run(story())


def test_the_same_kind_replaces_and_clear_ends_all() -> None:
    log: list[str] = []

    async def story() -> None:
        switch = Switch(ALL, {"latency": effect_into(log)})
        await switch.put(Fault("latency", 2, 60))
        await switch.put(Fault("error_spike", 0.5, 60))
        await switch.put(Fault("latency", 3, 60))
        assert log == ["begins 2", "ends 2", "begins 3"]
        assert switch.conditions == Conditions(added_seconds=3, error_ratio=0.5)
        await switch.clear("error_spike")
        assert switch.conditions == Conditions(added_seconds=3)
        await switch.clear()
        assert log[-1] == "ends 3"
        assert switch.conditions == Conditions()
        assert switch.on() == []

    asyncio.run(story())


def test_a_fault_that_cannot_begin_is_not_on() -> None:
    @asynccontextmanager
    async def effect(fault: Fault) -> AsyncIterator[None]:
        if fault.magnitude:
            raise BadInputError("bad_fault", "not today")
        yield

    async def story() -> None:
        switch = Switch(ALL, {"latency": effect})
        with pytest.raises(BadInputError, match="not today"):
            await switch.put(Fault("latency", 2, 60))
        assert switch.on() == []
        assert switch.conditions == Conditions()

    asyncio.run(story())


# -- what a service can bear ---------------------------------------------------------------------------------------


def test_workers_are_waited_for_in_turn_and_too_many_are_refused() -> None:
    async def story() -> None:
        capacity = Capacity(Service("one", (), replicas=1, workers=1, queue_limit=1))
        order: list[int] = []
        release = asyncio.Event()

        async def request(number: int) -> None:
            async with capacity.worker():
                order.append(number)
                await release.wait()

        first, second = asyncio.create_task(request(1)), asyncio.create_task(request(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (capacity.busy, capacity.waiting) == (1, 1)
        with pytest.raises(RefusedError):
            await request(3)
        release.set()
        await asyncio.gather(first, second)
        assert order == [1, 2]
        assert (capacity.busy, capacity.waiting) == (0, 0)

    asyncio.run(story())


def test_who_gives_up_waiting_leaves_the_queue() -> None:
    async def story() -> None:
        capacity = Capacity(Service("one", (), replicas=1, workers=1))
        async with capacity.worker():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005), capacity.worker():
                    pass
        assert (capacity.busy, capacity.waiting) == (0, 0)

    asyncio.run(story())


def test_latency_follows_from_cores() -> None:
    """Four pieces of work on one core take the time of four, on four cores the time of one."""

    async def elapsed(cores: float) -> float:
        capacity = Capacity(Service("one", (), replicas=1, workers=8, cores=cores, cpu_ratio=1.0))
        began = time.perf_counter()
        await asyncio.gather(*(capacity.work(0.08) for _ in range(4)))
        return time.perf_counter() - began

    assert asyncio.run(elapsed(1)) >= 0.32 > asyncio.run(elapsed(4))


def test_a_pool_gives_what_it_has_and_says_so_when_it_has_none() -> None:
    async def story() -> None:
        pool = Pool(2)
        assert [await pool.take(0.005) for _ in range(3)] == [True, True, False]
        assert pool.in_use == 2
        pool.give()
        assert await pool.take(0.005)

    asyncio.run(story())


def test_connections_that_are_held_come_back() -> None:
    async def story() -> None:
        pool = Pool(4)
        assert await pool.take(0.005)
        held = asyncio.create_task(pool.take_for_good(1.0))
        await asyncio.sleep(0.002)
        assert pool.in_use == 4
        pool.give()
        await asyncio.sleep(0.002)
        assert pool.in_use == 4, "the last connection is held as soon as it is free"
        assert not await pool.take(0.005)
        held.cancel()
        await asyncio.wait([held])
        assert pool.in_use == 0
        assert await pool.take(0.005)

    asyncio.run(story())


def test_a_full_disk_takes_no_more_until_it_is_emptied(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1 << 16)
    disk.write(b"row\n")
    disk.fill(1 << 20)
    assert disk.used_bytes == 1 << 16 == sum(path.stat().st_size for path in tmp_path.iterdir())
    disk.fill(1 << 20)
    with pytest.raises(OSError, match="No space left"):
        disk.write(b"row\n")
    disk.empty()
    disk.write(b"row\n")
    assert disk.used_bytes == 8


def test_a_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1 << 14)
    for _ in range(1000):
        disk.write(b"." * 100)
        assert disk.used_bytes <= (1 << 10) + 100


# -- metrics -------------------------------------------------------------------------------------------------------


def samples(text: str) -> dict[tuple[Any, ...], float]:
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_errors_have_a_base_to_rise_from() -> None:
    metrics = Metrics("cart", [("GET", "/cart/{id}")], lambda: "1.0.0")
    labels = (("endpoint", "/cart/{id}"), ("method", "GET"), ("service", "cart"))
    before = samples(metrics.text().decode())
    assert before["app_requests_errors_total", *labels] == 0
    assert before["app_requests_total", *labels, ("status", "500")] == 0
    assert before["http_request_duration_seconds_count", *labels] == 0
    metrics.answered("GET", "/cart/{id}", 502, 0.2)
    metrics.answered("GET", "/cart/{id}", 404, 0.2)
    after = samples(metrics.text().decode())
    assert after["app_requests_errors_total", *labels] == 1
    assert after["app_requests_total", *labels, ("status", "404")] == 1
    assert after["http_request_duration_seconds_count", *labels] == 2
    assert after["app_build_info", ("service", "cart"), ("version", "1.0.0")] == 1
    assert after["process_resident_memory_bytes", ("service", "cart")] > 1e6


# -- load and processes --------------------------------------------------------------------------------------------


def test_load_comes_whether_or_not_it_is_answered_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def everybody(generator: Generator) -> None:
        """Nobody is asked whether they answer."""

    monkeypatch.setattr(load, "MOST_IN_FLIGHT", 5)
    monkeypatch.setattr(Generator, "_all_answer", everybody)

    async def story(url: str) -> None:
        generator = Generator(Site({"gateway": url, "web": ""}, rate=1000))

        def read() -> dict[tuple[Any, ...], float]:
            return samples(generator.page.text().decode())

        running = asyncio.create_task(generator.run())
        web = ("service", "web")
        while read()["app_load_dropped_total", web] < 20:
            await asyncio.sleep(0.005)
            assert read()["app_load_in_flight", web] <= 5
        running.cancel()
        await asyncio.wait([running])
        assert read()["app_load_in_flight", web] == 0
        await generator.close()

    with socket.create_server((HOST, 0)) as deaf:
        asyncio.run(story(f"http://{HOST}:{deaf.getsockname()[1]}"))


def test_a_surge_multiplies_the_requests_that_come_to_its_service() -> None:
    async def story() -> None:
        generator = Generator(Site({"gateway": "", "web": ""}))
        usual = generator.shares()
        assert sum(usual) == pytest.approx(1.0)
        await generator.switch.put(Fault("traffic_surge", 3, 60, "cart"))
        assert [round(a / b, 9) for a, b in zip(generator.shares(), usual, strict=True)] == [1, 1, 1, 3, 3, 1, 1]
        await generator.switch.put(Fault("traffic_surge", 2, 60, "gateway"))
        assert [round(a / b, 9) for a, b in zip(generator.shares(), usual, strict=True)] == [2, 2, 2, 6, 6, 2, 2]
        await generator.close()
        assert generator.shares() == usual

    asyncio.run(story())


def test_a_process_that_dies_young_again_and_again_is_brought_back_later_each_time() -> None:
    said: list[str] = []
    supervisor = Supervisor({"cart": (0, partial(build, "cart", Site({"cart": ""})))}, said.append)
    child = supervisor._children["cart"]
    for _ in range(6):
        child.since = time.monotonic()
        supervisor._died(child, 9)
    assert said[0] == "cart was killed by SIGKILL; it is back in 2 s"
    assert [float(one.split()[-2]) for one in said] == [2, 4, 8, 16, 30, 30]
    child.down_seconds = 7.0
    supervisor._died(child, 1 << 8)
    child.since = time.monotonic() - 60
    supervisor._died(child, 1 << 8)
    assert said[-2:] == [
        "cart ended with exit code 1; it is back in 7 s",
        "cart ended with exit code 1; it is back in 2 s",
    ]


# -- where things are ----------------------------------------------------------------------------------------------


def test_services_are_chosen_in_the_order_of_the_shop() -> None:
    assert chosen([]) == chosen([""]) == SHOP.names
    assert chosen(["redis", " cart"]) == ("cart", "redis")
    with pytest.raises(BadInputError, match="did you mean checkout"):
        chosen(["chekout"])


def test_every_service_has_something_to_ask_each_of_its_callees() -> None:
    site = Site(dict.fromkeys(SHOP.names, ""))
    asked = {edge.callee: site.heartbeat(edge)[0] for name in SHOP.names for edge in site.edges(name)}
    assert all(endpoint in SHOP.service(callee).endpoints for callee, endpoint in asked.items())
    assert asked["redis"].method == "GET"
    assert Site({"cart": ""}).edges("cart") == ()


def test_a_reserved_port_refuses_until_somebody_listens() -> None:
    with reserve(0) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port), 1)
        with reserve(port) as listener:
            listener.listen()
            socket.create_connection((HOST, port), 1).close()
            with pytest.raises(OSError, match="in use"):
                reserve(port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port), 1)


def test_a_collector_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(BadInputError, match="calls cannot be sent to ftp://x"):
        Shop(["redis"], port=0, collect="ftp://x", say=print)


def test_the_page_on_the_shop_names_every_kind_with_its_magnitudes() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/run-the-shop.md").read_text()
    for name, kind in KINDS.items():
        row = re.search(rf"^\| `{name}` \|(.*)$", page, re.M)
        assert row, name
        assert f"{kind.small:g}, **{kind.large:g}**" in row[1] or kind.least == kind.most, name
        assert f"to {kind.most:g}" in row[1] or kind.least == kind.most, name


def test_ports_that_cannot_be_had() -> None:
    with socket.create_server((HOST, 0)) as taken:
        with pytest.raises(PermanentError, match="cannot listen on .* for redis: .*--port"):
            Shop(["redis"], port=taken.getsockname()[1], say=print)
        with pytest.raises(BadInputError, match="2 ports from 65535"):
            Shop(["cart", "redis"], port=65_535, say=print)
