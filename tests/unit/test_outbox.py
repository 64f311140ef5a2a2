from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from foreshock import telemetry
from foreshock.adapters.sinks import RetryLaterError
from foreshock.adapters.sinks.jsonl import Jsonl, JsonlOptions
from foreshock.adapters.sinks.stdout import json_line
from foreshock.adapters.sql import Cursor, Store
from foreshock.errors import PermanentError, RetryableError
from foreshock.runtime.outbox import Outbox, OutboxOptions
from foreshock.testing.check_store import sample_alert
from foreshock.types import Alert

ALERTS = [sample_alert(f"a{i}", notified=True) for i in range(5)]


class HandClock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 10**18

    def now_unix_nano(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        raise AssertionError("an outbox waits to be woken, it does not sleep")


class Fickle:
    """A sink that does what it is told, one thing a call; then takes everything."""

    name = "fickle"

    def __init__(self, batch_size: int = 1, refuses: Sequence[Alert] = ()) -> None:
        self.batch_size, self.refuses = batch_size, refuses
        self.errors: list[Exception] = []
        self.got: list[Alert] = []
        self.calls = 0
        self.closed = False
        self.taken = threading.Event()

    def send(self, alerts: Sequence[Alert]) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        if any(alert in self.refuses for alert in alerts):
            raise PermanentError("no thanks")
        self.got += alerts
        if len(self.got) >= len(ALERTS) - len(self.refuses):
            self.taken.set()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/s.db", busy_timeout_seconds=0.05)
    yield store
    store.close()


def _commit(store: Store, alerts: Sequence[Alert] = ALERTS) -> None:
    at = store.committed("t")
    store.commit("t", at, at + 1, alerts, None, [])


def _drain(outbox: Outbox) -> float | None:
    wait: float | None = 0.0
    while wait == 0.0:
        wait = outbox.step()
    return wait


def _value(name: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_all_alerts_once_in_order(batch_size: int, store: Store) -> None:
    sink = Fickle(batch_size)
    outbox = Outbox(store, sink, HandClock())
    sent = _value("foreshock_sink_alerts_total", sink="fickle")
    _commit(store)
    assert _drain(outbox) is None
    assert sink.got == ALERTS
    assert sink.calls == -(-5 // batch_size)
    assert _value("foreshock_sink_alerts_total", sink="fickle") - sent == 5
    assert _value("foreshock_outbox_alerts", sink="fickle") == 0
    again = Outbox(store, Fickle(), HandClock())
    assert again.cursor == Cursor(5)


def test_a_sink_that_is_new_gets_what_comes_from_now_on(store: Store) -> None:
    _commit(store, ALERTS[:3])
    sink = Fickle()
    outbox = Outbox(store, sink, HandClock())
    _commit(store, ALERTS[3:])
    _drain(outbox)
    assert sink.got == ALERTS[3:]


def test_a_failure_waits_longer_each_time_up_to_a_cap_over_restarts(store: Store) -> None:
    clock, sink = HandClock(), Fickle()
    options = OutboxOptions(first_wait=1.0, longest_wait=8.0)
    outbox = Outbox(store, sink, clock, options)
    _commit(store)
    sink.errors = [RetryableError("down")] * 6
    waits = []
    for attempt in range(6):
        wait = _drain(outbox)
        assert wait is not None
        waits.append(wait)
        assert sink.calls == attempt + 1
        outbox = Outbox(store, sink, clock, options, seed=attempt)
        assert outbox.step() == wait
        assert sink.calls == attempt + 1, "the wait is kept over a restart"
        clock.now += int(wait * 1e9)
    for wait, cap in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert cap / 2 <= wait <= cap
    assert len(set(waits)) == 6
    assert _drain(outbox) is None
    assert sink.got == ALERTS
    assert outbox.cursor == Cursor(5)


def test_the_same_seed_waits_the_same(store: Store) -> None:
    waits = []
    for name in ("x", "y"):
        sink = Fickle()
        sink.errors = [RetryableError("down")]
        sink.name = "same"
        store.unregister("same")
        outbox = Outbox(store, sink, HandClock(), seed=7)
        _commit(store, [sample_alert(name)])
        waits.append(_drain(outbox))
    assert waits[0] == waits[1]


def test_retry_after_is_honoured(store: Store) -> None:
    sink = Fickle()
    outbox = Outbox(store, sink, HandClock())
    _commit(store)
    sink.errors = [RetryLaterError("busy", 77.0)]
    assert _drain(outbox) == pytest.approx(77.0)


@pytest.mark.parametrize("batch_size", [1, 256])
def test_what_is_refused_is_given_up_and_the_others_go_out(batch_size: int, store: Store) -> None:
    clock, sink = HandClock(), Fickle(batch_size, refuses=[ALERTS[1], ALERTS[4]])
    outbox = Outbox(store, sink, clock)
    errors = _value("foreshock_errors_total", part="sink:fickle")
    _commit(store)
    _drain(outbox)
    assert sink.got == [ALERTS[0], ALERTS[2], ALERTS[3]]
    dead = store.dead("fickle")
    assert [(one.seq, one.episode, one.reason, one.at_unix_nano) for one in dead] == [
        (2, ALERTS[1].episode, "no thanks", clock.now),
        (5, ALERTS[4].episode, "no thanks", clock.now),
    ]
    assert _value("foreshock_errors_total", part="sink:fickle") - errors == 2


def test_a_sink_with_a_defect_is_tried_a_few_times_and_holds_up_nobody(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    clock, sink = HandClock(), Fickle()
    outbox = Outbox(store, sink, clock, OutboxOptions(surprises=3))
    _commit(store)
    sink.errors = [ZeroDivisionError("oops")] * 3
    for _ in range(3):
        clock.now += int((_drain(outbox) or 0) * 1e9)
    assert _drain(outbox) is None
    assert sink.got == ALERTS[1:]
    assert [one.reason for one in store.dead("fickle")] == ["ZeroDivisionError: oops"]
    assert "a way it should not" in caplog.text


def test_a_store_that_is_locked_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Fickle()
    outbox = Outbox(store, sink, HandClock())
    _commit(store)

    def locked(*args: object) -> None:
        raise RetryableError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(store, "advance", locked)
        waits = [outbox.step(), outbox.step()]
    assert all(wait is not None and wait > 0 for wait in waits)
    assert _drain(outbox) is None
    assert sink.got == [ALERTS[0], ALERTS[0], *ALERTS], "at least once: what was not noted is sent again"


def test_jsonl_is_exact_even_where_the_cursor_was_lost(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text("before\n")

    def make() -> Outbox:
        return Outbox(store, Jsonl("file", JsonlOptions(path=str(path))), HandClock())

    def lost(*args: object) -> None:
        raise RetryableError("killed here")

    outbox = make()
    for alert in ALERTS:
        _commit(store, [alert])
        with monkeypatch.context() as patch:
            patch.setattr(store, "advance", lost)
            outbox.step()
            outbox.step()
        assert path.read_text().endswith(json_line(alert))
        outbox = make()
        _drain(outbox)
    assert path.read_text() == "before\n" + "".join(json_line(alert) for alert in ALERTS)


def test_the_thread_delivers_when_woken_and_drains_when_stopped(store: Store) -> None:
    sink = Fickle()
    outbox = Outbox(store, sink, HandClock())
    outbox.start()
    _commit(store)
    outbox.wake()
    assert sink.taken.wait(10.0)
    _commit(store, [sample_alert("last", notified=True)])
    assert outbox.stop(10.0)
    assert len(sink.got) == 6
    assert sink.closed


def test_a_sink_that_is_down_does_not_hold_up_the_end(store: Store) -> None:
    sink = Fickle()
    sink.errors = [RetryableError("down")] * 3
    outbox = Outbox(store, sink, HandClock())
    _commit(store)
    outbox.start()
    assert outbox.stop(30.0)
    assert sink.got == []
    assert store.pending("fickle") == 5


def test_a_sink_that_hangs_is_left_behind(store: Store) -> None:
    entered, release = threading.Event(), threading.Event()

    class Hanging(Fickle):
        def send(self, alerts: Sequence[Alert]) -> None:
            entered.set()
            release.wait(30.0)

    sink = Hanging()
    outbox = Outbox(store, sink, HandClock())
    joined: list[float | None] = []
    real: Callable[..., None] = threading.Thread.join
    outbox.start()
    _commit(store)
    outbox.wake()
    assert entered.wait(10.0)
    assert outbox._thread is not None
    outbox._thread.join = lambda timeout=None: joined.append(timeout)  # type: ignore[method-assign]
    assert outbox.stop(0.5) is False
    assert joined == [1.5]
    assert not sink.closed
    release.set()
    real(outbox._thread, 10.0)
    assert not outbox._thread.is_alive()
