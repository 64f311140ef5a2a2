"""Fingerprints of calls, case by case."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from foreshock.errors import PermanentError
from foreshock.runtime.snapshot import SnapshotJob
from foreshock.state import State, pack
from foreshock.stream.fingerprint import CallOptions, Fingerprint
from foreshock.stream.fingerprint_tables import ENTITY, OUT, SERVICE_ROW, WINDOW
from foreshock.telemetry import DROPPED
from foreshock.types import Columns, Intake, Samples
from tests.unit.made_calls import T0, Call, Prints, S, made


def regular(every: float, until: float, start: float = 0.0, **fields: Any) -> list[Call]:
    return [Call(start + k * every, **fields) for k in range(int((until - start) / every))]


def test_a_window_of_a_service_an_edge_and_the_environment() -> None:
    prints = Prints()
    statuses = [200] * 12 + [201, 301, 404, 404, 500, 503, 0, 200]
    calls = [Call(k / 5, status=status, seconds=0.01 * (k + 1)) for k, status in enumerate(statuses)]
    assert prints.take(*calls) == []
    prints.take(Call(5.0))
    first = {(e, f): value for e, f, at, value in prints.out if at == 0.0}
    shares = {"rate": 4.0, "error_ratio": 3 / 20, "no_answer_ratio": 1 / 20}
    durations = {"p50": pytest.approx(0.1, rel=0.01), "p95": pytest.approx(0.19, rel=0.01)}
    edge: dict[str, Any] = {f"calls.{name}": value for name, value in shares.items()}
    edge |= {f"calls.duration.{name}": value for name, value in durations.items()}
    service = edge | {
        'calls.status_ratio{class="2xx"}': 14 / 20, 'calls.status_ratio{class="3xx"}': 1 / 20,
        'calls.status_ratio{class="4xx"}': 2 / 20, 'calls.status_ratio{class="5xx"}': 2 / 20,
        "calls.new_endpoints": 0, "calls.new_callers": 0,
        'calls.endpoint.rate{endpoint="POST /pay"}': 16 / 5, 'calls.endpoint.rate{endpoint="others"}': 4 / 5,
    }  # fmt: skip
    everything = {
        "calls.rate": 4.0, "calls.error_ratio": 3 / 20, "calls.duration.p95": durations["p95"],
        "calls.active_edges": 1, "calls.new_edges": 0, "calls.new_endpoints": 0,
    }  # fmt: skip
    assert {f: v for (e, f), v in first.items() if e == "payment"} == service
    assert {f: v for (e, f), v in first.items() if e == "checkout→payment"} == edge
    assert {f: v for (e, f), v in first.items() if e == "test"} == everything


def test_a_call_without_source_feeds_its_target_alone() -> None:
    prints = Prints()
    prints.take(Call(1, source=""), Call(2), Call(6))
    assert {e for e, *_ in prints.out} == {"payment", "checkout→payment", "test"}
    assert prints.of("payment", "calls.rate") == {0.0: 0.4}
    assert prints.of("checkout→payment", "calls.rate") == {0.0: 0.2}


def test_edges_and_the_environment_can_be_left_out() -> None:
    prints = Prints(edges=False, environment=False)
    prints.take(Call(1), Call(6))
    assert {e for e, *_ in prints.out} == {"payment"}
    assert prints.operator.counts == {}


def test_windows_wait_for_the_lateness_of_the_source_or_a_watermark() -> None:
    prints = Prints(5.0)
    prints.take(*regular(1, 10))
    assert prints.out == []
    assert {at for *_, at, _ in prints.take(Call(10.0))} == {0.0}
    assert {at for *_, at, _ in prints.tick(10.0)} == {5.0}
    assert prints.tick(14.9) == []
    prints.take(Call(9.9))
    assert prints.operator.counts == {"late": 1}


def test_what_is_refused_is_counted() -> None:
    prints = Prints(entities=2)
    before = DROPPED.labels("future")._value.get()
    prints.take(Call(61.0), received=0.9)
    prints.take(Call(1.0), Call(1.0), Call(1.5, nanos=7), Call(1.5, nanos=7), Call(7), Call(4.9))
    prints.take(Call(8, target="ads"), Call(8, source="web"))
    assert prints.operator.counts == {"future": 1, "duplicate": 1, "late": 1, "entity_limit": 1, "edge_limit": 1}
    assert DROPPED.labels("future")._value.get() == before + 1
    prints.finish()
    assert prints.of("payment", "calls.rate") == {0.0: 0.6, 5.0: 0.4}
    assert prints.of("checkout→payment", "calls.rate") == {0.0: 0.6, 5.0: 0.2}


def test_equal_calls_of_coarse_clocks_are_different_calls() -> None:
    prints = Prints()
    prints.take(Call(1.234), Call(1.234), Call(2.0, nanos=1), Call(2.0, nanos=1), received=2.000000001)
    assert prints.operator.counts == {}


def test_few_calls_are_judged_over_several_windows() -> None:
    """A call every 2 s gives ratios and quantiles; one a minute gives none, and says so."""
    prints = Prints()
    bad = {k for k in range(60, 300) if k % 3 == 0}
    prints.take(*(Call(2 * k + 0.5, status=500 if k in bad else 200, target="slow") for k in range(300)))
    prints.take(*(Call(60 * k + 0.5, target="rare") for k in range(10)))
    ratio = prints.of("slow", "calls.error_ratio")
    assert set(ratio) == {5.0 * k for k in range(1, 119)}
    assert all(value == 0 for at, value in ratio.items() if at < 115)
    assert all(value == pytest.approx(1 / 3, abs=0.05) for at, value in ratio.items() if at > 170)
    assert max(prints.of("slow", "calls.duration.p95").values()) == pytest.approx(0.05, rel=0.01)
    rare = prints.of("rare", "calls.error_ratio")
    assert len(rare) > 0
    assert min(rare) >= 240.0
    assert prints.of("rare", "calls.duration.p95") == {}


def test_one_failed_call_says_nothing_and_several_do_at_once() -> None:
    prints = Prints()
    calls = regular(1, 60)
    calls[30] = Call(30, status=500)
    prints.take(*calls)
    ratio = prints.of("payment", "calls.error_ratio")
    assert ratio[25.0] == 0.0
    assert math.isnan(ratio[30.0])
    prints.take(*(Call(60.0 + k, status=503) for k in range(6)))
    assert prints.of("payment", "calls.error_ratio")[60.0] == 5 / 20


def test_many_calls_are_judged_by_their_window_alone() -> None:
    prints = Prints()
    prints.take(*regular(0.05, 5), *regular(0.05, 10, 5, status=500, seconds=2.0), *regular(0.05, 15.1, 10))
    assert prints.of("payment", "calls.error_ratio") == {0.0: 0.0, 5.0: 1.0, 10.0: 0.0}
    for name in ("p50", "p95", "p99"):
        seconds = prints.of("payment", f"calls.duration.{name}")
        assert seconds == {at: pytest.approx(2.0 if at == 5 else 0.05, rel=0.01) for at in (0.0, 5.0, 10.0)}


def test_a_drop_to_zero_is_seen_at_once_and_silence_is_left_to_alignment() -> None:
    prints = Prints()
    prints.take(*regular(0.2, 100))
    for second in range(100, 400):
        prints.tick(second)
    rate = prints.of("payment", "calls.rate")
    assert [rate[95.0], rate[100.0]] == [5.0, 0.0]
    # Twelve windows are explained whatever is usual; then nothing is said.
    assert max(rate) == 95.0 + 5 * 12
    prints.take(Call(1000), Call(1005.0))
    assert max(prints.of("payment", "calls.rate")) == 1000.0
    assert 995.0 not in prints.of("payment", "calls.rate")


def test_a_service_called_now_and_then_is_not_silent_in_between() -> None:
    prints = Prints()
    for k in range(10):
        prints.take(Call(90.0 * k))
        for second in range(0, 90, 5):
            prints.tick(90 * k + second)
    rate = prints.of("payment", "calls.rate")
    # The first gap (90 s) is longer than what explains itself (12 windows); from then on none is.
    silent = [at for at in np.arange(0, 805, 5.0) if at not in rate]
    assert silent == [65.0, 70.0, 75.0, 80.0, 85.0]
    # Single calls while little is known, the usual rate later.
    assert sum(value == 0.2 for value in rate.values()) == 3
    assert 0 < rate[800.0] < 0.03


def test_how_silence_is_noticed_does_not_matter() -> None:
    by_call, by_watermark = Prints(), Prints()
    for prints in (by_call, by_watermark):
        prints.take(*regular(0.5, 20))
    for second in range(20, 900):
        by_watermark.tick(second)
    for prints in (by_call, by_watermark):
        prints.take(Call(900), Call(905))
    assert sorted(map(str, by_call.out)) == sorted(map(str, by_watermark.out))


def test_first_ever_endpoints_callers_and_edges_count_as_new_after_a_while() -> None:
    prints = Prints(learn=20.0)
    prints.take(*regular(0.5, 30), Call(10, endpoint="/early"), Call(30, endpoint="/early"))
    prints.take(Call(31, endpoint="/cart/1"), Call(32, endpoint="/cart/2"), Call(33, source="web", endpoint=""))
    prints.take(Call(36, endpoint="/cart/3"), Call(37, source="web"), Call(41))
    assert prints.operator.counts == {"late": 1}
    for entity, new in (("payment", "callers"), ("test", "edges")):
        endpoints, others = prints.of(entity, "calls.new_endpoints"), prints.of(entity, f"calls.new_{new}")
        # /early came late the first time: it is new when it is first taken.
        assert [endpoints[at] for at in (0.0, 25.0, 30.0, 35.0)] == [0, 0, 2, 0]
        assert [others[at] for at in (25.0, 30.0, 35.0)] == [0, 1, 0]
    assert prints.of("test", "calls.active_edges")[30.0] == 2


def test_a_change_of_the_mix_is_far_from_the_usual_one() -> None:
    prints = Prints()
    mix = ["/a", "/b", "/b", "/c"]
    calls = [Call(k / 10, endpoint=mix[k % 4]) for k in range(3000)]
    prints.take(*calls, *(Call(300 + k / 10, endpoint="/c", source="web") for k in range(200)))
    distance = prints.of("payment", "calls.endpoint_mix.distance")
    assert max(value for at, value in distance.items() if 60 < at < 300) < 0.15
    assert distance[300.0] > 0.6
    edges = prints.of("test", "calls.edge_mix.distance")
    assert edges[295.0] == 0.0
    assert edges[300.0] > 0.9


def test_a_million_endpoints_neither_grow_memory_nor_slow_it_down() -> None:
    prints, n = Prints(), 50_000
    rng = np.random.default_rng(0)

    def batch(first: int) -> Columns:
        words = rng.integers(97, 123, (n, 12), np.uint8).tobytes().decode()
        calls = made([Call(first)])
        rows = np.repeat(calls.rows, n)
        rows["time_unix_nano"] = T0 + first * S
        names = ["", *(f"/{words[12 * k : 12 * k + 5]}/{words[12 * k + 5 : 12 * k + 12]}" for k in range(n))]
        places = {name: len(names) + k for k, name in enumerate(("checkout", "payment", "POST"))}
        rows["source"], rows["target"], rows["method"] = places["checkout"], places["payment"], places["POST"]
        rows["endpoint"] = np.arange(1, n + 1)
        intake = Intake("s", T0 + first * S, Samples.empty(), type(calls)([*names, *places], rows, {}))
        return Columns(intakes=(intake,))

    prints.operator.process(batch(0))
    size = len(pack(prints.operator.state()))
    batches = [batch(10 * k) for k in range(1, 20)]
    started = time.process_time()
    for columns in batches:
        prints.operator.process(columns)
    seconds = time.process_time() - started
    assert len(pack(prints.operator.state())) < size + 10_000
    # About half a microsecond a call, where every call has a name of its own.
    assert seconds < 10
    assert "endpoint_limit" not in prints.operator.counts


def test_forgetting_an_entity_forgets_its_windows() -> None:
    prints = Prints(learn=0.0)
    prints.take(*regular(0.1, 8), *regular(0.1, 8, target="cart"))
    registry = prints.operator.registry
    registry.intern_all([one for intake in prints.operator.process(Columns()).intakes for one in intake.samples.series])
    for labels in ((("service.name", "payment"),), (("client", "checkout"), ("server", "payment"))):
        slot = len(registry.entities)
        registry.entities.append(labels)
        prints.operator.forget(slot, np.zeros(0, np.int32))
    before = len(prints.out)
    prints.take(Call(3, endpoint="/other"), Call(10), Call(10, target="cart"))
    later = [row for row in prints.out[before:] if row[2] == 5.0]
    assert [value for e, f, _, value in later if (e, f) == ("cart", "calls.rate")] == [6.0]
    assert [row for row in later if row[0] == "payment" and row[3] > 0] == []
    assert prints.of("payment", "calls.rate")[0.0] == pytest.approx(0.2)


def test_a_state_of_other_windows_is_refused() -> None:
    prints = Prints()
    state = prints.operator.state().frozen()
    with pytest.raises(PermanentError, match="windows"):
        Fingerprint(prints.operator.registry, CallOptions.model_validate({"window": 10}), prints.times).load(state)
    with pytest.raises(PermanentError, match="version"):
        prints.operator.load(State(99, state.meta, state.arrays, {}, state.blobs))


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_taken_while_work_goes_on_is_the_state_at_its_moment(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshock.state.slots.BLOCK_BYTES", 4096)
    rng = np.random.default_rng(seed)
    prints, again = Prints(5.0), Prints(5.0)
    targets = ["payment", "cart", "ads"]
    calls = [
        Call(k / 10, str(rng.choice(targets)), str(rng.choice(["web", "app"])), f"/{rng.choice(list('abcdef'))}")
        for k in range(900)
    ]
    for k in range(0, 300, 20):
        prints.take(*calls[k : k + 20])
        prints.tick(k / 10 - 5)
    frozen = pack(prints.operator.state())
    job = SnapshotJob({"fingerprint": prints.operator.state()})
    copied = False
    for k in range(300, 900, 20):
        copied = copied or job.advance(float(rng.choice([0.0, 1e-5])))
        prints.take(*calls[k : k + 20])
        prints.tick(k / 10 - 5)
    taken = job.finish()["fingerprint"]
    assert pack(taken) == frozen
    again.operator.load(taken)
    said = []
    for k in range(300, 900, 20):
        said += again.take(*calls[k : k + 20]) + again.tick(k / 10 - 5)
    assert list(map(str, said)) == list(map(str, prints.out[len(prints.out) - len(said) :]))
    assert pack(again.operator.state()) == pack(prints.operator.state())


def test_room_for_features_and_names_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [Call(k / 50, f"s{k % 9}", endpoint=f"/x{chr(97 + k % 23)}") for k in range(4000)]
    wide, narrow = Prints(), Prints()
    monkeypatch.setattr(narrow.operator, "_out", narrow.operator._out[:32])
    monkeypatch.setattr(narrow.operator, "_naming", narrow.operator._naming[:1])
    for prints in (wide, narrow):
        prints.take(*calls)
        prints.finish()
    assert list(map(str, narrow.out)) == list(map(str, wide.out))


def test_without_calls_nothing_is_done() -> None:
    prints = Prints()
    columns = Columns(intakes=(Intake("s", T0, Samples.empty()),))
    assert prints.operator.process(columns) is columns
    assert prints.operator.on_watermark(T0).intakes == ()
    assert sum(table.used for table in prints.operator.state().tables.values()) == 0


def test_rows_have_no_holes() -> None:
    """Bytes between fields are not written: equal states would differ."""
    for dtype in (ENTITY, WINDOW, SERVICE_ROW, OUT):
        assert dtype.fields is not None
        assert sum(kind.itemsize for kind, *_ in dtype.fields.values()) == dtype.itemsize, dtype
