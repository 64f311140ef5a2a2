"""Live updates: what listeners get over the WebSocket and as server-sent events, also when one of them is slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from foreshock.adapters.sql import Store
from foreshock.api.auth import Role, Token
from foreshock.api.live import Hub, Subscribe
from foreshock.api.server import create_app, serve
from foreshock.api.services import Health, Services
from foreshock.testing.check_store import sample_alert
from tests.unit.api.rig import NOW, FixedClock, Runtime
from tests.unit.test_api_page import views_of
from tests.unit.test_rings import rows_of, verdict_of

CLIENTS = 1000
WAIT = 20.0
PROMPT = 10.0
"""All of them have an alert by then, also on a busy machine; alone it takes a fraction of a second."""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    store, runtime = Store(f"sqlite:///{tmp_path}/s.db"), Runtime()
    views = views_of()
    yield Services(
        version="1", clock=FixedClock(), decode=runtime.decode, submit=runtime.submit, control=runtime.control,
        views=views, store=store, status=dict, health=Health,
        hub=Hub(views, store, lambda: {"demo": True}, most=CLIENTS + 10),
    )  # fmt: skip
    store.close()


@pytest.fixture
def url(services: Services) -> Iterator[str]:
    server = serve(create_app(services), "127.0.0.1", 0)
    server.start()
    yield f"127.0.0.1:{server.port}"
    server.stop()


def commit(services: Services, *numbers: int) -> None:
    """An alert for each number, and the hub is told, as the runtime does it."""
    for number in numbers:
        services.store.commit("t", number, number + 1, [sample_alert(f"a{number}", NOW + number)], None, [])
    assert services.hub is not None
    services.hub.woken()


@asynccontextmanager
async def listening(url: str, **asked: Any) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://{url}/ws", proxy=None) as socket:
        await socket.send(json.dumps(asked))
        yield socket


async def until(socket: ClientConnection, topic: str) -> dict[str, Any]:
    """The next message of a topic."""
    async with asyncio.timeout(WAIT):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["topic"] == topic:
                return message


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 6 * WAIT))


def test_alerts_come_as_they_are_committed_and_go_on_where_they_ended(services: Services, url: str) -> None:
    async def test() -> None:
        async with listening(url, topics=["alerts"]) as socket:
            hello = await until(socket, "hello")
            commit(services, 0, 1)
            first, second = await until(socket, "alerts"), await until(socket, "alerts")
            assert [first["id"], second["id"]] == [hello["id"] + 1, hello["id"] + 2]
            assert first["alert"]["labels"]["host.name"] == "a0"
        commit(services, 2, 3, 4)
        async with listening(url, topics=["alerts"], after=second["id"]) as socket:
            got = [(await until(socket, "alerts"))["id"] for _ in range(3)]
            assert got == [second["id"] + k for k in (1, 2, 3)]
            commit(services, 5)
            assert (await until(socket, "alerts"))["id"] == got[-1] + 1
        async with listening(url, topics=["alerts"], after=10**9) as socket:
            commit(services, 6)
            assert (await until(socket, "alerts"))["id"] == got[-1] + 2, "ids of another store mean nothing"

    run(test)


def test_more_than_is_kept_in_memory_comes_from_the_store(
    services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshock.api.live.KEPT_ALERTS", 3)

    async def test() -> None:
        commit(services, *range(10))
        async with listening(url, topics=["alerts"], after=0) as socket:
            assert [(await until(socket, "alerts"))["id"] for _ in range(10)] == list(range(1, 11))

    run(test)


def test_entities_and_points_come_and_only_what_is_new(services: Services, url: str) -> None:
    views = services.views
    series = [['{service.name="payment"}', "calls.rate"], ["{unknown}", "x"]]

    async def test() -> None:
        async with listening(url, topics=["entities"], series=series) as socket:
            told = await until(socket, "entities")
            assert told["standing"] == {"demo": True}
            assert {one[0] for one in told["entities"]} == {
                '{service.name="payment"}', '{client="checkout",server="payment"}',
            }  # fmt: skip
            registry = _registry_like(services)
            for k in (1, 2):
                at = NOW + k * 5 * 10**9
                views.feed(rows_of(registry, [at], [0]), [verdict_of("deviation", [1.0] * 3)], registry)
                message = await until(socket, "series")
                [one] = message["series"]
                assert one["time_unix_seconds"] == [at / 1e9]
                assert (one["value"], one["status"]) == ([0.0], [0])
                assert one["detectors"]["deviation"] == [pytest.approx(2.718281828)]

    run(test)


def _registry_like(services: Services) -> Any:
    """The registry that the views were fed from, made again in the same order."""
    from foreshock.state import Registry

    registry = Registry()
    for view in services.views.series(limit=10):
        registry.intern(view.series)
    return registry


def test_the_first_of_all_listeners_is_told_how_things_stand_now(services: Services, url: str) -> None:
    async def stands() -> Any:
        async with listening(url, topics=["entities"]) as socket:
            return (await until(socket, "entities"))["standing"]["n"]

    async def test() -> None:
        assert services.hub is not None
        told = iter(range(100))
        services.hub.standing = lambda: {"n": next(told)}
        before = await stands()
        async with asyncio.timeout(WAIT):
            while services.hub.count or not (services.hub._pump is None or services.hub._pump.done()):
                await asyncio.sleep(0.01)
        seen = next(told)
        assert before < seen < await stands(), "what was told to those before is old"

    run(test)


def test_a_listener_that_says_nonsense_is_let_go(url: str) -> None:
    async def test() -> None:
        for text in ("{", "[]", '{"topics": 3}', '{"colour": "red"}'):
            async with connect(f"ws://{url}/ws", proxy=None) as socket:
                await socket.send(text)
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1003

    run(test)


def test_who_may_listen(services: Services) -> None:
    tokens = (Token.of("v", Role.VIEWER, "see"), Token.of("i", Role.INGEST, "send"))
    server = serve(create_app(replace(services, tokens=tokens)), "127.0.0.1", 0)
    server.start()
    url = f"127.0.0.1:{server.port}"

    async def test() -> None:
        async with listening(url, topics=["alerts"], token="see") as socket:
            assert (await until(socket, "hello"))["topic"] == "hello"
        for token in ("send", "other", ""):
            async with listening(url, topics=["alerts"], token=token) as socket:
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1008
        async with connect(f"ws://{url}/ws", origin="http://localhost:3000", proxy=None):  # type: ignore[arg-type]
            pass
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(f"ws://{url}/ws", origin="https://evil.example", proxy=None)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403

    run(test)
    server.stop()


def test_server_sent_events_go_on_where_they_ended(services: Services, url: str) -> None:
    def read(headers: dict[str, str], count: int) -> list[tuple[str, dict[str, Any]]]:
        out: list[tuple[str, dict[str, Any]]] = []
        with httpx.stream("GET", f"http://{url}/api/v1/stream?topics=alerts", headers=headers, timeout=WAIT) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            seq = ""
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    seq = line[4:]
                if line.startswith("data: "):
                    out.append((seq, json.loads(line[6:])))
                if len(out) == count:
                    break
        return out

    commit(services, 0, 1)
    hello, second = read({"Last-Event-ID": "1"}, 2)
    assert hello[1]["topic"] == "hello"
    assert (second[0], second[1]["alert"]["labels"]["host.name"]) == ("2", "a1")
    assert httpx.get(f"http://{url}/api/v1/stream", headers={"Last-Event-ID": "x"}).status_code == 400
    assert httpx.get(f"http://{url}/api/v1/stream?series=x").status_code == 400


def test_nobody_waits_for_a_slow_one_and_it_is_told_what_it_did_not_get(services: Services) -> None:
    """The hub itself, with a listener that takes nothing for a while."""
    hub = services.hub
    assert hub is not None

    async def test() -> None:
        slow, quick = await hub.join(), await hub.join()
        for one in (slow, quick):
            hub.subscribe(one, Subscribe(["alerts", "entities"]))
        taken: list[dict[str, Any]] = []

        async def take() -> None:
            async for _, message in hub.updates(quick):
                taken.append(json.loads(message))

        task = asyncio.create_task(take())
        stream = hub.updates(slow)
        first = [json.loads((await anext(stream))[1]) for _ in range(2)]
        assert [one["topic"] for one in first] == ["hello", "entities"]
        commit(services, *range(5))
        async with asyncio.timeout(WAIT):
            while sum(one["topic"] == "entities" for one in taken) < 4 or sum("alert" in one for one in taken) < 5:
                await asyncio.sleep(0.05)
        late: list[dict[str, Any]] = []
        while not late or late[-1]["topic"] != "entities":
            late.append(json.loads((await anext(stream))[1]))
        assert [one["id"] for one in late if one["topic"] == "alerts"] == [1, 2, 3, 4, 5], "alerts are never skipped"
        assert late[-1]["skipped"] >= 2
        assert all(one["skipped"] == 0 for one in taken if one["topic"] == "entities")
        task.cancel()
        hub.leave(slow)
        hub.leave(quick)

    run(test)


def test_a_thousand_listen_and_none_waits_for_one_that_reads_nothing(services: Services, url: str) -> None:
    hub = services.hub
    assert hub is not None
    # More than sockets and libraries hold for a listener: sending to it comes to a halt.
    hub.standing = lambda: {"padding": "x" * (2 << 20)}

    def behind() -> int:
        """How many updates the slowest of those who want the entities did not take."""
        wanting = (one for one in hub._listeners if "entities" in one.topics)
        return max((hub._version - one.entities_version for one in wanting), default=0)

    async def test() -> None:
        async with connect(f"ws://{url}/ws", proxy=None, max_queue=1, max_size=None) as slow:
            await slow.send('{"topics": ["alerts", "entities"]}')
            async with asyncio.timeout(WAIT):
                while behind() < 2:
                    await asyncio.sleep(0.05)
            quick = await many(url, CLIENTS)
            for number in range(3):
                commit(services, number)
                got = await asyncio.wait_for(asyncio.gather(*(until(one, "alerts") for one in quick)), PROMPT)
                assert {one["id"] for one in got} == {number + 1}
            assert behind() >= 3, "the slow one stands where it stood"
            late: list[dict[str, Any]] = []
            async with asyncio.timeout(WAIT):
                while not late or not late[-1].get("skipped"):
                    late.append(json.loads(await slow.recv()))
            assert late[-1]["skipped"] >= 2, "it is told what it did not get"
            assert [one["id"] for one in late if one["topic"] == "alerts"] == [1, 2, 3], "its alerts are all there"
            await asyncio.gather(*(one.close() for one in quick))

    run(test)


async def many(url: str, count: int) -> list[ClientConnection]:
    """So many listeners for alerts, all of them greeted."""
    out: list[ClientConnection] = []
    while len(out) < count:
        out += await asyncio.gather(*(connect(f"ws://{url}/ws", proxy=None, compression=None) for _ in range(50)))
    for socket in out:
        await socket.send('{"topics": ["alerts"]}')
    await asyncio.gather(*(until(socket, "hello") for socket in out))
    return out


def test_too_many_are_told_to_come_again(services: Services) -> None:
    hub = Hub(services.views, services.store, most=1)
    server = serve(create_app(replace(services, hub=hub)), "127.0.0.1", 0)
    server.start()
    url = f"127.0.0.1:{server.port}"

    async def test() -> None:
        async with listening(url, topics=["alerts"]) as first:
            await until(first, "hello")
            async with listening(url, topics=["alerts"]) as second:
                with pytest.raises(websockets.ConnectionClosed):
                    await second.recv()
                assert second.close_code == 1013
        answer = None
        async with asyncio.timeout(WAIT):
            while hub.count:
                await asyncio.sleep(0.01)
        async with listening(url, topics=["alerts"]) as third:
            answer = await until(third, "hello")
        assert answer["topic"] == "hello"

    run(test)
    server.stop()
