"""The conformance suite of stores: every store that keeps what Foreshock says passes it (CONTRACTS §8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from foreshock.adapters.sql import Cursor, Dead, Store
from foreshock.adapters.sql.rows import COLUMNS, NUMBERS
from foreshock.adapters.sql.stretches import Packed
from foreshock.errors import BadInputError, PermanentError
from foreshock.types import Alert, AlertKind, Control, ControlKind, Kind, Series, labels

Factory = Callable[[str, float], Store]
"""Opens the store of a name with a retention in seconds, making it if there is none; the same name again reopens it."""

_SECOND = 1_000_000_000
_T0 = 1_700_000_000 * _SECOND
_A1, _A2 = '{host.name="a1"}', '{host.name="a2"}'


def check_store(factory: Factory) -> None:
    """Run every check on stores of its own; AssertionError says which rule does not hold."""
    for check in CHECKS:
        check(factory)


def sample_alert(host: str = "a1", start: int = _T0, **changes: Any) -> Alert:
    """A firing alert of a host, with whatever else is to be different."""
    alert = Alert(
        labels=labels({"alertname": "Anomaly", "host.name": host, "severity": "warning"}),
        annotations=(("summary", f'cpu of "{host}" is high\n'), ("expected", "0.03–0.22")),
        starts_unix_nano=start,
        decided_unix_nano=start + _SECOND,
        strength=0.1,
    )
    return replace(alert, **changes)


def sample_verdicts(entities: Sequence[str], feature: str = "cpu", start: int = _T0) -> dict[str, Any]:
    """One anomalous row an entity, a second apart; the band is not known."""
    n = len(entities)
    columns: dict[str, Any] = {name: np.arange(n) + 0.5 for name in NUMBERS}
    columns |= {"entity": list(entities), "feature": [feature] * n, "detector": ["robust_z"] * n}
    columns["time_unix_nano"] = start + np.arange(n, dtype=np.int64) * _SECOND
    return columns | {"low": np.full(n, np.nan), "notes": [f'{{"unit": "{i}"}}' if i else None for i in range(n)]}


def _check_commit(factory: Factory) -> None:
    store = factory("commit", 1e9)
    assert store.committed("t") == 0, "a new task has committed nothing"
    firing = sample_alert()
    control = Control(ControlKind.DEPLOY, "d-1", _T0, _T0 + _SECOND, {"host.name": "a1"})
    store.commit("t", 0, 5, [firing], sample_verdicts([_A1, _A2]), [control])
    assert store.committed("t") == 5, "the position is what was committed"
    assert store.committed("u") == 0, "tasks do not see one another"
    assert store.alert(firing.episode) == firing, "an alert comes back as it went in"
    assert store.controls() == [control], "a control record comes back as it went in"
    assert store.control("d-1") == control, "also by its id"
    assert store.control("d-2") is None
    back = store.verdicts()
    assert back["notes"] == [None, '{"unit": "1"}'], "notes come back as they went in"
    for name in COLUMNS:
        np.testing.assert_array_equal(back[name], sample_verdicts([_A1, _A2])[name], name)
    store.close()
    again = factory("commit", 1e9)
    assert again.committed("t") == 5, "what is committed is there after a restart"
    assert again.events() == [(1, firing)], "the event stream is there after a restart"
    again.close()


def _check_idempotence(factory: Factory) -> None:
    store = factory("idempotence", 1e9)
    firing = sample_alert()
    for _ in range(2):
        store.commit("t", 0, 5, [firing], sample_verdicts([_A1]), [])
    store.commit("t", 2, 4, [sample_alert("a2")], None, [])
    assert [alert for _, alert in store.events()] == [firing], "a repeated commit changes nothing"
    assert len(store.verdicts()["entity"]) == 1, "nor does it repeat rows"
    try:
        store.commit("t", 3, 8, [sample_alert("a3")], None, [])
    except PermanentError:
        pass
    else:
        raise AssertionError("a commit that overlaps what is committed is refused")
    assert store.committed("t") == 5, "a refused commit leaves the position alone"
    store.commit("t", 5, 9, [], None, [])
    store.commit("t", 12, 15, [], None, [])
    assert store.runs("t") == [(0, 9), (12, 15)], "runs that touch are one, a gap begins another"
    store.close()


def _check_atomic(factory: Factory) -> None:
    store = factory("atomic", 1e9)
    broken = sample_verdicts([_A1, _A2]) | {"score": np.zeros(1)}
    try:
        store.commit("t", 0, 5, [sample_alert()], broken, [Control(ControlKind.DEPLOY, "d", _T0)])
    except ValueError:
        pass
    else:
        raise AssertionError("columns of different lengths are refused")
    assert store.committed("t") == 0, "a commit that fails leaves no position"
    assert store.events() == [], "nor events"
    assert store.alerts().alerts == [], "nor alerts"
    assert store.controls() == [], "nor control records"
    store.commit("t", 0, 5, [], sample_verdicts([_A1, _A2]), [])
    assert store.verdicts()["entity"] == [_A1, _A2], "and names of the failed commit are numbered anew"
    store.close()


def _check_episode(factory: Factory) -> None:
    store = factory("episode", 1e9)
    firing = sample_alert(strength=float("inf"))
    resolved = replace(firing, ends_unix_nano=_T0 + 60 * _SECOND, notified=True, group="g", strength=float("nan"))
    store.commit("t", 0, 1, [firing], None, [])
    store.commit("t", 1, 2, [resolved], None, [])
    kept = store.alert(firing.episode)
    assert kept is not None
    assert (kept.status, kept.notified, kept.group) == ("resolved", True, "g"), "an episode has its latest state"
    assert np.isfinite(kept.strength), "a strength is a number that JSON has"
    assert [alert.status for _, alert in store.events()] == ["firing", "resolved"], "every transition is an event"
    assert store.alert("no such") is None
    store.close()


def _check_questions(factory: Factory) -> None:
    store = factory("questions", 1e9)
    alerts = [sample_alert(f"a{i}", _T0 + i * _SECOND) for i in range(7)]
    alerts += [sample_alert("a1", _T0 + 9 * _SECOND, ends_unix_nano=_T0 + 20 * _SECOND, kind=AlertKind.SILENCE)]
    store.commit("t", 0, 1, alerts, sample_verdicts([_A1, _A2, _A1]), [])
    seen: list[Alert] = []
    cursor = None
    while True:
        page = store.alerts(limit=3, cursor=cursor)
        seen += page.alerts
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == sorted(alerts, key=lambda alert: -alert.starts_unix_nano), "pages give all, the latest first, once"
    assert store.alerts(status="resolved").alerts == alerts[7:], "status selects"
    assert {a.starts_unix_nano for a in store.alerts(entity=_A1).alerts} == {_T0 + _SECOND, _T0 + 9 * _SECOND}
    assert store.alerts(entity='{name="a1"}').alerts == [], "a part of a label's name is another label"
    later = store.alerts(since_unix_nano=_T0 + 21 * _SECOND).alerts
    assert {alert.status for alert in later} == {"firing"}, "`since` leaves out what ended before"
    assert store.verdicts(entity=_A1)["entity"] == [_A1, _A1]
    assert store.verdicts(feature="other")["entity"] == []
    assert store.verdicts(since_unix_nano=_T0 + 1, until_unix_nano=_T0 + 2 * _SECOND)["entity"] == [_A2]
    assert store.verdicts(newest=True, limit=2)["entity"] == [_A1, _A2], "the newest first, where asked"
    assert store.verdicts(detector="robust_z", limit=1)["entity"] == [_A1]
    assert store.verdicts(detector="cpu")["entity"] == [], "a name of something else"
    for bad in ({"cursor": "x"}, {"entity": "{"}, {"entity": ""}):
        try:
            store.alerts(**bad)  # type: ignore[arg-type]
        except BadInputError:
            continue
        raise AssertionError(f"{bad} is refused")
    store.set_meta("run", "1")
    store.set_meta("run", "2")
    assert (store.meta("run"), store.meta("other")) == ("2", None)
    store.close()


def _check_outbox(factory: Factory) -> None:
    store = factory("outbox", 1e9)
    first, second = sample_alert("a1"), sample_alert("a2")
    assert store.register("early") == Cursor(0)
    store.commit("t", 0, 1, [first, second], None, [])
    assert store.register("late") == Cursor(2), "a sink that is new starts behind what is there"
    assert store.register("early") == Cursor(0), "registering again changes nothing"
    assert (store.pending("early"), store.pending("late")) == (2, 0)
    assert store.events(after=1) == [(2, second)], "events come behind a cursor, in order"
    moved = Cursor(1, "state", 3, 99)
    dead = Dead(1, first.episode, "firing", "404", _T0)
    store.advance("early", moved, [dead])
    store.close()
    again = factory("outbox", 1e9)
    assert again.register("early") == moved, "a cursor is there after a restart"
    assert again.dead("early") == [dead], "so is what was given up"
    again.unregister("late")
    assert again.sinks() == ["early"]
    again.close()


def _check_expiry(factory: Factory) -> None:
    store = factory("expiry", 100.0)
    day = 86_400 * _SECOND
    over = [sample_alert(f"a{i}", ends_unix_nano=_T0 + _SECOND) for i in range(120)]
    firing, unsent = sample_alert("open"), sample_alert("unsent", ends_unix_nano=_T0 + _SECOND)
    store.register("sink")
    store.commit("t", 0, 1, [*over, firing], sample_verdicts([_A1] * 2500), [])
    store.advance("sink", Cursor(121))
    store.commit("t", 1, 2, [unsent], sample_verdicts([_A2], start=_T0 + day), [])
    store.commit("t", 2, 3, [], None, [Control(ControlKind.DEPLOY, "over", _T0, _T0 + 1), _open_control()])
    assert store.expire(_T0 + day) > 0
    assert {a.labels for a in store.alerts().alerts} == {firing.labels, unsent.labels}, "what fires or waits stays"
    assert [alert.episode for _, alert in store.events()] == [firing.episode, unsent.episode]
    assert store.verdicts()["entity"] == [_A2], "old rows go, over several chunks"
    assert store.controls() == [_open_control()], "a control record that is over goes"
    assert store.expire(_T0 + day) == 0
    store.commit("t", 3, 4, [sample_alert("next")], None, [])
    assert store.events(after=122)[0][0] == 123, "the place of an event is never used twice"
    store.close()


def _open_control() -> Control:
    return Control(ControlKind.SILENCE, "open", _T0)


def _check_forget(factory: Factory) -> None:
    store = factory("forget", 1e9)
    store.commit("t", 0, 1, [sample_alert("a1"), sample_alert("a2")], sample_verdicts([_A1, _A2] * 600), [])
    assert store.forget(_A1) > 600
    assert [dict(alert.labels)["host.name"] for alert in store.alerts().alerts] == ["a2"]
    assert len(store.events()) == 1
    assert set(store.verdicts()["entity"]) == {_A2}
    assert store.forget(_A1) == 0
    store.commit("t", 1, 2, [], sample_verdicts([_A1], start=_T0 + 9999 * _SECOND), [])
    assert store.verdicts(entity=_A1)["entity"] == [_A1], "a forgotten entity may come again"
    store.close()


def _packed(series: Series, hour: int, rows: int = 5, seconds: int = 60) -> Packed:
    start = hour * 3600 * _SECOND
    return Packed(series, seconds, start, start + 3600 * _SECOND, rows, f"{series.feature}{hour}:{rows}".encode())


def _check_stretches(factory: Factory) -> None:
    store = factory("stretches", 1e9)
    cpu = Series("cpu", labels({"host.name": "a1"}), labels({"mode": "user"}), "1", Kind.COUNTER)
    other, whole = Series("cpu", labels({"host.name": "a2"})), Series("", labels({"host.name": "a1"}))
    kept, hour = store.stretches, 3600 * _SECOND
    kept.put([_packed(cpu, 0), _packed(cpu, 1), _packed(cpu, 2), _packed(other, 1), _packed(whole, 1)])
    kept.put([_packed(cpu, 0, seconds=600)])
    assert kept.series(_A1, cpu.feature) == cpu, "a series comes back as it went in"
    assert kept.series(_A1, "") == whole, "an entity is a series without a name"
    assert kept.series(_A2, cpu.feature) is None
    read = kept.read(_A1, cpu.feature, 60, hour - 1, 2 * hour)
    assert read == [_packed(cpu, one).data for one in (0, 1)], "what has something in the interval, oldest first"
    assert kept.read(_A1, cpu.feature, 60, 0, 9 * hour, 1) == [_packed(cpu, 0).data]
    assert kept.read(_A1, "mem", 60, 0, 9 * hour) == []
    kept.put([_packed(cpu, 1, rows=4), _packed(cpu, 2, rows=6)])
    read = kept.read(_A1, cpu.feature, 60, hour, 9 * hour)
    assert read == [_packed(cpu, 1).data, _packed(cpu, 2, rows=6).data], "one made of fewer rows replaces nothing"
    try:
        kept.put([_packed(other, 5), _packed(other, 6)._replace(rows=None)])  # type: ignore[arg-type]
    except PermanentError:
        assert kept.read(_A2, "cpu", 60, 5 * hour, 9 * hour) == [], "all or nothing"
    else:
        raise AssertionError("a row without a count is refused")
    store.close()
    again = factory("stretches", 1e9)
    kept = again.stretches
    assert kept.read(_A1, cpu.feature, 60, 0, hour) == [_packed(cpu, 0).data], "what is kept is there after a restart"
    many = [_packed(other, 1000 + k, seconds=0) for k in range(2500)]
    kept.put(many)
    assert kept.expire({0: 3400 * hour, 60: 2 * hour}) == 2400 + 4 + 1, "what is over goes, over several chunks"
    assert len(kept.read(_A1, cpu.feature, 600, 0, hour)) == 1, "each resolution in its own time"
    assert len(kept.read(_A2, "cpu", 0, 0, 9999 * hour)) == 100
    assert kept.series(_A1, "") is None, "a series of which nothing is left goes too"
    kept.put([_packed(whole, 3)])
    assert again.forget(_A1) == 5, "three stretches, and two series"
    assert kept.series(_A1, cpu.feature) is None
    assert kept.read(_A2, "cpu", 0, 0, 9999 * hour) != [], "nobody else's"
    again.close()


CHECKS: tuple[Callable[[Factory], None], ...] = (
    _check_commit, _check_idempotence, _check_atomic, _check_episode, _check_questions, _check_outbox, _check_expiry,
    _check_forget, _check_stretches,
)  # fmt: skip
"""All checks; each uses names of its own."""
