from __future__ import annotations

import json
import logging
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from foreshock.instrument import Recorder, recorder, wire
from tests.unit.receivers import dead_port, receiver, rude

Call = tuple[str, str, str, str, int, float]
CHARGE: Call = ("checkout", "payment", "POST", "/charge", 200, 0.012)
PATIENT: dict[str, Any] = {"every_seconds": 60.0, "timeout_seconds": 5.0, "exit_seconds": 5.0}
"""Nothing is sent but when it is asked for, or a batch is full."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(recorder, "LONGEST_PAUSE_SECONDS", 0.02)


def number(at: int) -> Call:
    return ("checkout", "payment", "GET", f"/{at}", 200, 0.001)


# -- what arrives ------------------------------------------------------------------------------------------------


def test_calls_arrive_with_all_that_was_said() -> None:
    with receiver() as there, Recorder("checkout", there.url, token="secret", **PATIENT) as ours:
        before = time.time_ns()
        ours.record(*CHARGE)
        ours.record("", "payment", "GET", "/café/x?card=1", 0, 2)
        assert ours.flush()
        [(path, headers, body)] = there.requests
        assert path == "/collect"
        assert headers["Content-Type"] == "application/vnd.foreshock.calls+json"
        assert headers["Authorization"] == "Bearer secret"
        sent = json.loads(body)
        assert all(before <= at <= time.time_ns() for at in sent["time_unix_nano"])
        assert sent["duration_seconds"] == [0.012, 2.0]
        assert b"card" not in body
        assert there.calls() == [CHARGE[:5], ("", "payment", "GET", "/café/x", 0)]
        assert ours.stats() == (2, 2, 0, {}, "")


def test_a_full_batch_is_sent_at_once_and_the_rest_in_time() -> None:
    with receiver() as there, Recorder("checkout", there.url, batch=100, **PATIENT) as ours:
        for at in range(250):
            ours.record(*number(at))
        there.wait(2)
        assert ours.flush()
        assert there.calls() == [number(at)[:5] for at in range(250)]
    with receiver() as there, Recorder("checkout", there.url, every_seconds=0.01) as ours:
        ours.record(*CHARGE)
        there.wait(1)


def test_large_batches_are_packed() -> None:
    with receiver() as there, Recorder("checkout", there.url, **PATIENT) as ours:
        for at in range(400):
            ours.record(*number(at))
        assert ours.flush()
        [(_, headers, body)] = there.requests
        assert headers["Content-Encoding"] == "gzip"
        assert len(body) < 8_000
        assert len(there.calls()) == 400


def test_many_threads_lose_nothing() -> None:
    with receiver() as there, Recorder("checkout", there.url, batch=50, capacity=100_000, **PATIENT) as ours:

        def work(who: int) -> None:
            for at in range(500):
                ours.record(*number(who * 1000 + at))

        workers = [threading.Thread(target=work, args=(who,)) for who in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert ours.flush(20)
        assert sorted(there.calls()) == sorted(number(who * 1000 + at)[:5] for who in range(8) for at in range(500))
        assert ours.stats() == (4000, 4000, 0, {}, "")


def test_the_path_of_the_url_has_a_default() -> None:
    with receiver() as there, Recorder("checkout", there.url.removesuffix("/collect"), **PATIENT) as ours:
        ours.record(*CHARGE)
        assert ours.flush()
        assert there.requests[0][0] == "/collect"


# -- what makes no sense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        (None, "b", "GET", "/", 200, 0.1),
        ("a", None, "GET", "/", 200, 0.1),
        ("a", "", "GET", "/", 200, 0.1),
        ("a", "b", b"GET", "/", 200, 0.1),
        ("a", "b", "GET", 7, 200, 0.1),
        ("a", "b", "GET", "/", None, 0.1),
        ("a", "b", "GET", "/", "200", 0.1),
        ("a", "b", "GET", "/", 200, None),
        ("a", "b", "GET", "/", 200, -1.0),
        ("a", "b", "GET", "/", 200, math.nan),
        ("a", "b", "GET", "/", 200, math.inf),
    ],
)
def test_what_makes_no_sense_is_counted_and_spoils_nothing(call: Any) -> None:
    with receiver() as there, Recorder("checkout", there.url, **PATIENT) as ours:
        ours.record(*CHARGE)
        ours.record(*call)
        ours.record(*CHARGE)
        assert ours.flush()
        assert there.calls() == [CHARGE[:5]] * 2
        assert ours.stats() == (3, 2, 0, {"unusable": 1}, "")


def test_nothing_but_nonsense_is_not_sent() -> None:
    with receiver() as there, Recorder("checkout", there.url, **PATIENT) as ours:
        ours.record(*CHARGE[:4], None, 1.0)  # type: ignore[arg-type]
        assert ours.flush()
        assert (there.requests, ours.stats().dropped) == ([], {"unusable": 1})


def test_half_a_surrogate_and_endless_names_are_no_trap() -> None:
    with receiver() as there, Recorder("checkout", there.url, **PATIENT) as ours:
        ours.record("a", "b", "GET", "/\udcff", 200, 0.1)
        ours.record("a", "b", "GET", "/" + "x" * 1_000_000, 200, 0.1)
        assert ours.flush()
        first, second = there.calls()
        assert first[3] == "/\ufffd"
        assert len(second[3]) == 256


# -- when Foreshock is away --------------------------------------------------------------------------------------


def test_while_it_is_down_the_oldest_go_and_what_is_left_arrives() -> None:
    port = dead_port()
    with Recorder("checkout", f"http://127.0.0.1:{port}", capacity=100, batch=10, **PATIENT) as ours:
        for at in range(50):
            ours.record(*number(at))
        assert not ours.flush(), "it waits to be sent again"
        assert "cannot connect" in ours.stats().problem
        for at in range(50, 250):
            ours.record(*number(at))
        assert not ours.flush()
        stats = ours.stats()
        assert (stats.recorded, stats.sent, stats.waiting) == (250, 0, 110 - 10 * (stats.waiting < 110))
        with receiver(port=port) as there:
            eventually(lambda: ours.flush() and ours.stats().problem == "")
            arrived = there.calls()
        assert arrived == [number(at)[:5] for at in range(250 - len(arrived), 250)], "the newest, in their order"
        assert ours.stats() == (250, len(arrived), 0, {"overflow": 250 - len(arrived)}, "")
        assert 90 <= len(arrived) <= 110


@pytest.mark.parametrize("status", [429, 503])
def test_too_much_or_not_now_is_sent_again_later(status: int) -> None:
    with receiver([status, status]) as there, Recorder("checkout", there.url, **PATIENT) as ours:
        there.headers["Retry-After"] = "0"
        ours.record(*CHARGE)
        eventually(ours.flush)
        assert there.calls() == [CHARGE[:5]] * 3
        assert ours.stats() == (1, 1, 0, {}, "")


def test_a_full_batch_does_not_cut_short_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(recorder, "LONGEST_PAUSE_SECONDS", 60.0)
    with receiver([503, 503]) as there, Recorder("checkout", there.url, batch=5, **PATIENT) as ours:
        ours.record(*CHARGE)
        assert not ours.flush()
        for _ in range(5):
            ours.record(*CHARGE)
        assert not ours.flush(), "the second request, which is refused as well, is that of `flush`"
        assert ours.flush()
        assert ours.stats() == (6, 6, 0, {}, "")


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413, 500, 502])
def test_what_is_refused_is_given_up_and_the_next_goes_on(status: int) -> None:
    with receiver([status]) as there, Recorder("checkout", there.url, **PATIENT) as ours:
        ours.record(*CHARGE)
        assert ours.flush()
        assert ours.stats() == (1, 0, 0, {"refused": 1}, f"{there.url[7:-8]} answers {status}")
        ours.record(*CHARGE)
        assert ours.flush()
        assert ours.stats() == (2, 1, 0, {"refused": 1}, "")


def nothing(connection: socket.socket) -> None:
    connection.recv(100_000)


def garbage(connection: socket.socket) -> None:
    connection.recv(100_000)
    connection.sendall(b"\x00\xff" * 100 + b"\r\n\r\n")


def headers_without_end(connection: socket.socket) -> None:
    connection.recv(100_000)
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000)


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


@pytest.mark.parametrize("answer", [None, nothing, garbage, headers_without_end, reset])
def test_what_may_have_arrived_is_not_sent_twice(answer: Callable[[socket.socket], None] | None) -> None:
    with (
        rude(answer) as url,
        Recorder("checkout", url, every_seconds=60, timeout_seconds=0.2, exit_seconds=5) as ours,
    ):
        started = time.perf_counter()
        for at in range(100):
            ours.record(*number(at))
        assert time.perf_counter() - started < 0.1, "nobody waits for an answer"
        assert ours.flush()
        stats = ours.stats()
        assert (stats.sent, stats.waiting, stats.dropped) == (0, 0, {"no_answer": 100})
        assert stats.problem.startswith("no answer from 127.0.0.1:")


def test_an_outage_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "foreshock.instrument")
    with receiver([500, 500, 500]) as there, Recorder("checkout", there.url, **PATIENT) as ours:
        for _ in range(5):
            ours.record(*CHARGE)
            assert ours.flush()
        place = there.url[7:-8]
    assert [record.getMessage() for record in caplog.records] == [
        f"calls are not delivered: {place} answers 500", f"calls are delivered to {place} again",
    ]  # fmt: skip


def test_an_error_of_our_own_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(calls: Any) -> Any:
        raise ZeroDivisionError("a mistake")

    with receiver() as there, Recorder("checkout", there.url, **PATIENT) as ours:
        with monkeypatch.context() as patch:
            patch.setattr(recorder, "encode", broken)
            ours.record(*CHARGE)
            assert ours.flush()
        assert ours.stats() == (1, 0, 0, {"unusable": 1}, "a mistake")
        ours.record(*CHARGE)
        assert ours.flush()
        assert there.calls() == [CHARGE[:5]]


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with receiver() as there, Recorder("checkout", there.url, **PATIENT) as ours:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            ours.record(*CHARGE)
        assert ours.stats() == (1, 0, 1, {}, "can't start new thread")

        def again() -> bool:
            ours.record(*CHARGE)
            return ours._thread is not None

        eventually(again)
        assert ours.flush()
        assert ours.stats().sent == ours.stats().recorded


def test_retry_after_is_heeded_within_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LONGEST_PAUSE_SECONDS", 50.0)
    ours = Recorder("checkout", **PATIENT)
    assert 0.005 <= ours._fail(wire.Later("x")) <= 0.01
    assert ours._fail(wire.Later("x"), 7.0) == 7.0
    assert ours._fail(wire.Later("x"), 1e9) == 50.0
    for _ in range(2000):
        pause = ours._fail(wire.Later("x"))
    assert 5.0 <= pause <= 10.24
    ours.close()


# -- beginning and end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://a/collect", "http://", "http:///collect", "http://a:port/collect"]
)
def test_an_address_that_is_none_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Recorder("checkout", url)


@pytest.mark.parametrize("wrong", [{"service": ""}, {"capacity": 0}, {"batch": 0}, {"every_seconds": 0}])
def test_sizes_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Recorder(**{"service": "checkout", **wrong})


def test_no_thread_before_the_first_call_and_none_after_the_end() -> None:
    with receiver() as there:
        ours = Recorder("checkout", there.url, **PATIENT)
        assert threads() == []
        assert ours.flush()
        ours.record(*CHARGE)
        [thread] = threads()
        assert thread.daemon
        ours.close()
        thread.join(10)
        assert not thread.is_alive()
        assert there.calls() == [CHARGE[:5]]
        ours.record(*CHARGE)
        assert not ours.flush()
        assert ours.stats() == (2, 1, 1, {}, "")
        ours.close()


def test_the_random_numbers_of_the_application_are_its_own() -> None:
    with receiver([500]) as there, Recorder("checkout", there.url, **PATIENT) as ours:
        random.seed(7)
        ours.record(*CHARGE)
        assert ours.flush()
        after = random.random()
        random.seed(7)
        assert after == random.random()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_a_signal_handler_may_record() -> None:
    """Handlers run between any two steps of `record`; with a lock in it this would stand still."""
    with receiver() as there, Recorder("checkout", there.url, batch=100, capacity=100_000, **PATIENT) as ours:
        interrupted = 0

        def handler(*_: object) -> None:
            nonlocal interrupted
            interrupted += 1
            ours.record(*CHARGE)

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        try:
            for _ in range(10_000):
                ours.record(*CHARGE)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert interrupted > 0
        assert ours.flush(30)
        assert ours.stats() == (10_000 + interrupted, 10_000 + interrupted, 0, {}, "")


FORK = """
import os, sys
from foreshock.instrument import Recorder
ours = Recorder("checkout", sys.argv[1], every_seconds=60, exit_seconds=10)
ours.record("parent", "b", "GET", "/before", 200, 0.1)
pid = os.fork()
ours.record("parent" if pid else "child", "b", "GET", "/after", 200, 0.1)
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""
END = """
import sys
from foreshock.instrument import Recorder
Recorder("checkout", sys.argv[1], every_seconds=60).record("a", "b", "GET", "/", 200, 0.1)
"""


def python(code: str, *arguments: str) -> float:
    """Run a program that must end well and say nothing; the seconds it took."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return time.perf_counter() - started


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_each_process_sends_its_own() -> None:
    with receiver() as there:
        python(FORK, there.url)
        assert sorted(call[::3] for call in there.calls()) == [
            ("child", "/after"), ("parent", "/after"), ("parent", "/before"),
        ]  # fmt: skip


def test_what_is_left_is_sent_at_the_end_of_the_process() -> None:
    with receiver() as there:
        python(END, there.url)
        assert there.calls() == [("a", "b", "GET", "/", 200)]


def test_the_end_of_the_process_waits_for_nobody_long() -> None:
    usual = python(END, f"http://127.0.0.1:{dead_port()}/collect")
    with rude(None) as url:
        assert python(END, url) < usual + 3.0, "a second is what it may take"


def test_importing_brings_nothing_but_the_standard_library() -> None:
    python(
        "import sys; from foreshock.instrument import Recorder; import foreshock.instrument.asgi, "
        "foreshock.instrument.wsgi\n"
        "foreign = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names - {'foreshock'}\n"
        "ours = [name for name in sys.modules if name.startswith('foreshock.') and 'instrument' not in name]\n"
        "loaded = [name for name in foreign if getattr(sys.modules[name], '__spec__', None) and not name[:2] == '__']\n"
        "loaded = [name for name in loaded if 'site-packages' in (getattr(sys.modules[name], '__file__', '') or '')]\n"
        "allowed = {'_virtualenv', 'distutils-precedence', '_distutils_hack'}\n"
        "assert not ours, ours\n"
        "assert not set(loaded) - allowed, loaded\n"
    )


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Until it holds; tries are paced by what `condition` itself waits for."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.005)


def threads() -> list[threading.Thread]:
    """Those of recorders."""
    return [thread for thread in threading.enumerate() if thread.name == "foreshock-recorder"]


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    yield
    for thread in threads():
        thread.join(10)
        assert not thread.is_alive()
