"""Calls through a whole task: rows as soon as windows close, alerts in words, the same however they came."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from foreshock import pipeline as pipes
from foreshock.adapters.calls import encode_calls
from foreshock.config import Config, load
from foreshock.runtime.task import Task, Watermark, encode_json
from foreshock.runtime.warm import brings_calls, warm
from foreshock.state import pack
from foreshock.types import Alert, Columns, Control, ControlKind, Intake, Record, Samples, label_text
from foreshock.types.record import CALLS, CONTROL, WATERMARK
from tests.unit.made_calls import T0, Call, S, made

LATENESS = 2


def settings(**more: Any) -> Config:
    own = {"sources": [{"type": "http", "name": "s", "lateness": LATENESS}], "stream": {"step": 5}}
    return load([], preset="minimal", environ={}, overrides=own | more)


def traffic(rate: float, seconds: int, fault: int, errors: float = 0.4, seed: int = 0) -> list[list[Call]]:
    """Calls of each second: web → checkout → payment, which fails from `fault` on."""
    rng = np.random.default_rng(seed)
    out = []
    for second in range(seconds):
        here = []
        for at in np.sort(rng.random(rng.poisson(rate))).tolist():
            bad = rng.random() < (errors if second >= fault else 0.002)
            paths = f"/pay/{rng.integers(1, 10**6)}", f"/checkout/{rng.integers(1, 10**6)}"
            here += [
                Call(second + at, "payment", "checkout", paths[0], 500 if bad else 200, float(rng.lognormal(-3, 0.3)),
                     nanos=int(rng.integers(1, 10**6))),
                Call(second + at, "checkout", "web", paths[1], 200, float(rng.lognormal(-2.5, 0.3)),
                     nanos=int(rng.integers(1, 10**6))),
            ]  # fmt: skip
        out.append(here)
    return out


def mark(seconds: float) -> Record:
    at = T0 + round(seconds * S)
    return Record("default", "foreshock", WATERMARK, at, encode_json(Watermark(at)))


def brought(calls: list[Call], seconds: float) -> Record:
    return Record("default", "s", CALLS, T0 + round(seconds * S), encode_calls(made(calls)))


def records(seconds: list[list[Call]], *, marks: bool = True) -> list[tuple[int, Record]]:
    """What a running process would log: each second its calls, then how far time has come."""
    out = []
    for second, calls in enumerate(seconds):
        if calls:
            out.append((second, brought(calls, second + 1)))
        if marks:
            out.append((second, mark(second + 1 - LATENESS)))
    return out


def run(task: Task, stream: list[tuple[int, Record]]) -> list[tuple[int, Alert]]:
    return [(second, alert) for second, record in stream for alert in task.process(record).alerts]


@pytest.mark.parametrize(("rate", "within"), [(20.0, 10), (1.0, 15)])
def test_an_error_spike_is_an_alert_of_the_service_in_words(rate: float, within: int) -> None:
    task = Task(settings(), bands=True)
    said = run(task, records(traffic(rate, 930, 900, 0.4 if rate > 1 else 0.8)))
    assert [second for second, _ in said if second < 900] == []
    assert min(second for second, _ in said) <= 900 + within
    own = [alert for _, alert in said if dict(alert.labels).get("service_name") == "payment"]
    summaries = [dict(alert.annotations)["summary"] for alert in own]
    assert any(
        re.match(r"calls (error|status) ratio.* of service payment is 0\.\d+, expected 0", one) for one in summaries
    )
    edges = [dict(alert.annotations)["summary"] for _, alert in said if "client" in dict(alert.labels)]
    assert any(one.startswith("error ratio of calls from checkout to payment is 0.") for one in edges)
    assert not any("web" in one for one in edges)
    # Nothing that a fingerprint gives is lost on its way into rows.
    assert task.pipeline.counts() == {}
    assert any(alert.notified for _, alert in said)


def test_a_quiet_hour_with_a_failed_call_now_and_then_says_nothing() -> None:
    """One call a second with 1 % errors, and one every 20 s: where few calls make ratios leap."""
    rng = np.random.default_rng(1)
    calls: list[list[Call]] = [[] for _ in range(3600)]
    for second in range(3600):
        for target, chance in (("cart", 1.0), ("rare", 0.05)):
            if rng.random() < chance:
                status = 500 if rng.random() < 0.01 else 200
                calls[second].append(Call(second + 0.5, target, "web", "/x", status, float(rng.lognormal(-3, 0.5))))
    task = Task(settings(), bands=True)
    said = run(task, records(calls))
    assert [dict(alert.annotations)["summary"] for _, alert in said if alert.notified] == []


def row_times(columns: list[Columns]) -> set[float]:
    return {(int(at) - T0) / S for one in columns for at in one.rows.time_unix_nano}


def test_a_row_is_there_as_soon_as_its_window_has_closed() -> None:
    task = Task(settings(), bands=True)
    for second, record in records(traffic(20.0, 100, 100)):
        times = row_times(task.process(record).columns)
        if record.content_type == WATERMARK and (second + 1 - LATENESS) % 5 == 0 and second > 5:
            # Some entities closed by their own calls, in the record before; none later than this.
            assert times <= {second + 1 - LATENESS - 5.0}
            assert task.pipeline.align.entity_last(0) == T0 + round((second + 1 - LATENESS - 5) * S)
        elif record.content_type == WATERMARK:
            assert times == set()
    assert task.pipeline.counts() == {}


def test_calls_alone_close_windows_too() -> None:
    """Without watermarks a row comes with the first call behind its end and the lateness, from the fourth row on."""
    task = Task(settings(calls={"environment": False}), bands=True)
    seen: set[float] = set()
    for second, record in records(traffic(20.0, 99, 99), marks=False):
        # The last call of a second may be rounded up into the next.
        wanted = {at - LATENESS - 5.0 for at in (second, second + 1) if (at - LATENESS) % 5 == 0}
        times = row_times(task.process(record).columns)
        assert times <= wanted or second < 30
        seen |= times
    assert seen >= {5.0 * k for k in range(18)}
    assert task.pipeline.counts() == {}


def test_a_restart_in_the_middle_of_windows_goes_on_the_same() -> None:
    stream = records(traffic(5.0, 460, 400, 0.6))
    whole = Task(settings(), bands=True)
    said = run(whole, stream)
    assert said
    for cut in (301, 802, 811):
        task = Task(settings(), bands=True)
        before = run(task, stream[:cut])
        later = Task(settings(), bands=True)
        later.load({name: state.frozen() for name, state in task.states().items()}, task.watermark)
        assert before + run(later, stream[cut:]) == said
        names = ("fingerprint", "align", "registry")
        mine, wanted = later.states(), whole.states()
        assert {name: pack(mine[name]) for name in names} == {name: pack(wanted[name]) for name in names}


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_the_same_rows_however_calls_are_cut_and_spread(tasks: int) -> None:
    """Services spread over tasks by their name, calls of different services shuffled, cut at random."""
    rng = np.random.default_rng(tasks)
    config = settings(calls={"environment": False})
    calls = [one for second in traffic(6.0, 200, 150, seed=4) for one in second]
    by_target = {name: [one for one in calls if one.target == name] for name in ("payment", "checkout")}
    keyed = [pipes.build(config) for _ in range(tasks)]
    rows: dict[tuple[str, float], Any] = {}

    def note(pipeline: pipes.Pipeline, columns: Columns) -> None:
        registry, got = pipeline.registry, columns.rows
        for i in range(len(got)):
            cells = slice(got.start[i], got.start[i + 1])
            values = {
                registry.series[s].feature: str(v) for s, v in zip(got.series[cells], got.value[cells], strict=True)
            }
            at = (int(got.time_unix_nano[i]) - T0) / S
            rows[label_text(registry.entities[got.entity[i]]), at] = (
                int(got.end_unix_nano[i]),
                int(got.status[i]),
                values,
            )

    at = dict.fromkeys(by_target, 0)
    while any(at[name] < len(by_target[name]) for name in by_target):
        name = str(rng.choice(list(by_target)))
        task = keyed[list(by_target).index(name) % tasks]
        count = int(rng.integers(0, 60))
        some = by_target[name][at[name] : at[name] + count]
        at[name] += count
        if some:
            intake = Intake("s", T0 + 10**6 * S, Samples.empty(), made(some))
            note(task, pipes.run(task.keyed, Columns(intakes=(intake,))))
        behind = min((by_target[n][at[n]].at for n in at if at[n] < len(by_target[n])), default=0.0)
        if rng.random() < 0.3:
            for one in keyed:
                note(one, pipes.watermark(one.keyed, T0 + round(behind * S) - LATENESS * S))
    for one in keyed:
        note(one, pipes.watermark(one.keyed, T0 + 10**4 * S))
        assert one.counts() == {}
    reference.setdefault("rows", rows)
    assert rows == reference["rows"]
    assert len(rows) > 150


reference: dict[str, Any] = {}
"""The rows of the first of the tests above."""


def test_forgetting_a_service_lets_it_begin_anew() -> None:
    task = Task(settings(), bands=True)
    run(task, records(traffic(5.0, 100, 100)))
    control = Control(ControlKind.FORGET, "c", T0, matchers={"service.name": "payment"})
    task.process(Record("default", "foreshock", CONTROL, T0 + 100 * S, encode_json(control)))
    slot = task.pipeline.registry.entity_slot((("service.name", "payment"),))
    assert task.pipeline.align.entity_last(slot) is None
    later = [(second, record) for second, record in records(traffic(5.0, 140, 140)) if second >= 101]
    run(task, later)
    assert task.pipeline.align.entity_last(slot) == T0 + 130 * S


def test_kernels_of_calls_are_compiled_beforehand_only_where_a_source_brings_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings(calls={"entities": 7})
    taken: list[int] = []
    process = "foreshock.stream.fingerprint.Fingerprint._take"
    monkeypatch.setattr(process, lambda self, intake, calls: taken.append(len(calls)))
    monkeypatch.setattr("foreshock.adapters.http.HttpSource.brings_calls", False, raising=False)
    assert not brings_calls(config)
    warm(config, 12)
    assert taken == []
    monkeypatch.setattr("foreshock.adapters.http.HttpSource.brings_calls", True, raising=False)
    assert brings_calls(config)
    warm(config, 12)
    assert taken == [1, 1]


def test_calls_of_yesterday_are_judged_beside_those_of_now() -> None:
    """They are older than the watermark, which closes their last windows only after `stream.hold`."""
    task = Task(settings(calls={"environment": False}), bands=True)
    task.process(mark(86_400))
    old = [one for second in traffic(5.0, 60, 60) for one in second]
    now = [Call(86_400 + one.at, "cart", "web") for one in old]
    seen = row_times(task.process(brought(old[:400], 86_401)).columns)
    seen |= row_times(task.process(brought(old[400:] + now, 86_460)).columns)
    assert max(at for at in seen if at < 86_400) < 55
    for second in range(86_402, 86_500):
        seen |= row_times(task.process(mark(second)).columns)
    assert {5.0 * k for k in range(12)} <= seen
    assert {86_400 + 5.0 * k for k in range(12)} <= seen
    assert task.pipeline.counts() == {}
