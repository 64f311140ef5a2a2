"""Alignment, case by case."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from foreshock.errors import PermanentError
from foreshock.state import Registry, State
from foreshock.stream.align import Align, AlignOptions, SourceTime
from foreshock.stream.align_kernel import take
from foreshock.stream.align_step import step_of
from foreshock.stream.align_tables import ENTITY, PENDING, SERIES
from foreshock.telemetry import DROPPED
from foreshock.types import Columns, Control, ControlKind, Intake, Kind, Rows, Samples, Series, Status
from tests.unit.kernels import called

S = 1_000_000_000
T0 = 1_700_000_000
FOREVER = (1 << 63) - 1
Point = tuple[float, str, float]


def make(step: Any = "1s", lateness: float = 0.0, series: int = 1000, **options: Any) -> Align:
    chosen = AlignOptions.model_validate({"step": step, **options})
    return Align(Registry(series), chosen, {"s": SourceTime(lateness, 60.0)})


def feed(
    align: Align, points: list[Point], entity: str = "a", source: str = "s", received: float = 1e6,
    kind: Kind = Kind.GAUGE, events: list[int] | None = None,
) -> Rows:  # fmt: skip
    """Samples (seconds after T0, name, value) of one entity as one intake."""
    names = list(dict.fromkeys(name for _, name, _ in points))
    series = tuple(Series(name, (("host.name", entity),), kind=kind) for name in names)
    samples = Samples(
        series,
        np.array([names.index(name) for _, name, _ in points], np.int32),
        np.array([T0 * S + round(time * S) for time, _, _ in points], np.int64),
        np.array([value for *_, value in points], np.float64),
        np.array(events or [0] * len(points), np.uint64),
        {},
    )
    return align.process(Columns(intakes=(Intake(source, round((T0 + received) * S), samples),))).rows


def tick(align: Align, seconds: float) -> Rows:
    return align.on_watermark(round((T0 + seconds) * S)).rows


def times(rows: Rows) -> list[float]:
    return [(int(time) - T0 * S) / S for time in rows.time_unix_nano]


def ends(rows: Rows) -> list[float]:
    return [(int(time) - T0 * S) / S for time in rows.end_unix_nano]


def values(rows: Rows, i: int) -> list[float]:
    return [float(value) for value in rows.value[rows.start[i] : rows.start[i + 1]]]


def test_a_window_is_the_mean_of_its_samples_and_starts_where_it_starts() -> None:
    rows = feed(make("10s"), [(1, "x", 1.0), (2, "x", 3.0), (2, "y", 7.0), (10, "x", 0.0)])
    assert (times(rows), ends(rows)) == ([0.0], [10.0])
    assert values(rows, 0) == [2.0, 7.0]
    assert rows.learn.all()
    assert rows.status.tolist() == [Status.SCORED]


def test_a_common_time_is_kept() -> None:
    assert times(feed(make("10s"), [(3, "x", 1.0), (3, "y", 3.0), (13, "x", 0.0)])) == [3.0]


def test_lateness_holds_windows_open() -> None:
    align = make("1s", lateness=2.0)
    assert len(feed(align, [(0, "x", 1.0), (1, "x", 1.0), (2.9, "x", 1.0)])) == 0
    assert times(feed(align, [(3, "x", 1.0)])) == [0.0]
    assert times(feed(align, [(1.5, "x", 5.0), (4, "x", 1.0)])) == [1.0]
    assert align.counts == {}


def test_what_is_refused_is_counted_and_moves_no_clock() -> None:
    align = make("1s")
    before = DROPPED.labels("future")._value.get()
    feed(align, [(0, "x", 1.0), (5, "x", 1.0)])
    assert len(feed(align, [(100, "x", 1.0)], received=39.9)) == 0
    feed(align, [(4.5, "x", 1.0), (0, "x", 1.0), (5, "x", 2.0)])
    assert align.counts == {"future": 1, "late": 1, "duplicate": 2}
    assert DROPPED.labels("future")._value.get() == before + 1
    assert align.entity_last(0) == (T0 + 5) * S


def test_event_ids_tell_samples_of_one_time_apart() -> None:
    align = make("none")
    feed(align, [(0, "x", 1.0), (0, "x", 3.0), (0, "x", 9.0), (0, "x", 9.0)], events=[1, 2, 1, 0])
    feed(align, [(0, "y", 5.0)], events=[1])
    rows = tick(align, 1)
    assert values(rows, 0) == [2.0, 5.0]
    assert align.counts == {"duplicate": 2}


def test_events_close_their_window_once_ten_came_alone() -> None:
    align = make("1s", lateness=2.0)
    closed = [times(feed(align, [(at + 0.5, "x", 1.0)], events=[at + 1])) for at in range(16)]
    assert [len(rows) for rows in closed[:3]] == [0, 0, 0]
    assert closed[14:] == [[14.5], [15.5]]


@pytest.mark.parametrize("again", [15.5, 15.6])
def test_a_second_event_in_a_window_that_closed_early_ends_that(again: float) -> None:
    align = make("1s", lateness=2.0)
    for at in range(16):
        feed(align, [(at + 0.5, "x", 1.0)], events=[at + 1])
    assert len(feed(align, [(again, "x", 1.0)], events=[99])) == 0
    assert sum(align.counts.values()) == 1
    for at in range(16, 40):
        feed(align, [(at + 0.5, "x", 1.0), (at + again - 15, "x", 2.0)], events=[at + 1, at + 100])
    assert sum(align.counts.values()) == 1


def test_counters_become_rates_and_a_fall_is_a_reset() -> None:
    align = make("1s")
    rows = feed(
        align,
        [(0, "c", 10), (1, "c", 14), (2, "c", 3), (3, "c", math.nan), (5, "c", 9), (6, "c", 9)],
        kind=Kind.COUNTER,
    )
    shown = [values(rows, i)[0] for i in range(len(rows))]
    assert [None if math.isnan(v) else v for v in shown] == [None, 4.0, 3.0, None, None, 2.0, 0.0]
    assert rows.status.tolist() == [0, 0, 0, 0, Status.MISSING, 0, 0]
    assert align.counts == {"counter_reset": 1}


def test_infinities_are_missing_values() -> None:
    align = make("none")
    feed(align, [(0, "x", math.inf), (0, "y", 1.0)])
    rows = tick(align, 1)
    assert math.isnan(values(rows, 0)[0])
    assert align.counts == {"not_finite": 1}


def test_silence_is_said_once_and_the_same_however_it_is_noticed() -> None:
    by_sample, by_watermark = make("1s", lateness=0.5), make("1s", lateness=0.5)
    start: list[Point] = [(0.25, "x", 1.0), (0.25, "y", 1.0)]
    feed(by_sample, start)
    feed(by_watermark, start)
    noticed = tick(by_watermark, 60)
    assert times(noticed) == [0.25, 1.0, 2.0, 3.0, 4.0, 5.0, 5.25]
    assert ends(noticed) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.0]
    assert noticed.status.tolist() == [0, *[Status.MISSING] * 5, Status.STALE]
    assert all(np.isnan(values(noticed, i)).tolist() == [True, True] for i in range(1, 7))
    assert by_watermark.entity_status(0) == "stale"
    assert len(tick(by_watermark, 90)) == 0
    came = feed(by_sample, [(60, "x", 1.0), (60, "y", 1.0), (62, "x", 1.0)])
    assert (times(came)[:7], ends(came)[:7]) == (times(noticed), ends(noticed))
    assert times(came)[7:] == [60.0]


def test_a_stale_row_waits_for_the_lateness_of_its_sources() -> None:
    align = make("1s", lateness=20.0)
    feed(align, [(0, "x", 1.0)])
    assert len(tick(align, 24)) == 6
    assert align.entity_status(0) == "missing"
    rows = tick(align, 25)
    assert (times(rows), ends(rows)) == ([5.0], [25.0])


def test_a_gap_no_longer_than_the_limit_is_not_silence() -> None:
    rows = feed(make("1s"), [(0, "x", 1.0), (5, "x", 1.0), (6, "x", 1.0)])
    assert rows.status.tolist() == [0, *[Status.MISSING] * 4, 0]


def test_irregular_entities_are_never_missing() -> None:
    align = make("none")
    feed(align, [(0, "x", 1.0), (50, "x", 1.0)], events=[1, 2])
    rows = tick(align, 1000)
    assert times(rows) == [50.0]
    assert ends(rows) == [50.000000001]
    assert len(tick(align, 5000)) == 0


def test_the_step_is_found_and_rows_before_are_decided_by_the_tenth_time() -> None:
    align = make("auto")
    assert len(feed(align, [(10 * i + 0.1, "x", 1.0) for i in range(9)])) == 0
    assert (align.step_seconds(0), align.entity_status(0)) == (None, "warming")
    rows = feed(align, [(90.1, "x", 1.0)])
    assert times(rows) == [10 * i + 0.1 for i in range(10)]
    assert ends(rows) == [90.1] * 9 + [100.0]
    assert (align.step_seconds(0), align.entity_status(0)) == (10.0, "live")


def test_sources_in_step_at_different_moments_share_one_step() -> None:
    align = make("auto")
    points = [(30 * i + offset, name, 1.0) for i in range(8) for name, offset in (("x", 1.0), ("y", 4.0))]
    feed(align, points)
    assert align.step_seconds(0) == 30.0


@pytest.mark.parametrize(
    ("seconds", "step"),
    [
        ([1.02] * 9, 1.0), ([7.0] * 9, 7.0), ([0.98, 1.03, 2.0, 1.0, 3.0, 1.0, 0.99, 1.0, 1.0], 1.0),
        ([0.1, 3.0, 0.5, 8.0, 1.7, 0.2, 4.4, 0.9, 2.2], 0.0), ([], 0.0), ([3600.0], 3600.0), ([86400.0 * 40] * 9, 0.0),
        ([1.06] * 9, 1.06), ([0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1], 0.0),
    ],
)  # fmt: skip
def test_steps_are_the_median_or_the_usual_value_near_it(seconds: list[float], step: float) -> None:
    assert called(step_of)(np.array([round(one * S) for one in seconds], np.int64)) == round(step * S)


def test_complete_windows_close_before_their_end_once_this_is_known_to_be_safe() -> None:
    align = make("1s")
    rows = feed(align, [(i + 0.5, name, 1.0) for i in range(6) for name in ("x", "y")])
    assert times(rows) == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    jittered = make("1s")
    rows = feed(jittered, [(i + 0.8 - 0.3 * (i % 2), name, 1.0) for i in range(6) for name in ("x", "y")])
    assert times(rows) == [0.8, 1.5, 2.8, 3.5, 4.8]


def test_jitter_is_forgotten_in_time() -> None:
    align = make("1s")
    feed(align, [(0.5, "x", 1.0), (1.9, "x", 1.0)])
    closed = [len(feed(align, [(i + 0.5, "x", 1.0)])) for i in range(2, 100)]
    assert closed[0] == 1
    assert sum(closed[:10]) == 10
    assert closed[1:].count(2) == 1
    assert align.counts == {}


def test_a_clock_that_reaches_a_complete_time_closes_it() -> None:
    align = Align(Registry(), AlignOptions.model_validate({"step": "none"}), {"s": SourceTime(0), "r": SourceTime(0)})
    feed(align, [(0, "x", 1.0)], source="r")
    feed(align, [(1, "x", 2.0), (3, "x", 3.0)])
    assert times(feed(align, [(1, "z", 1.0), (2, "x", 1.0)], source="r")) == [0.0, 1.0]
    assert times(feed(align, [(2, "z", 1.0), (3, "z", 1.0)], source="r")) == [2.0, 3.0]


def test_a_clock_may_reach_a_complete_time_by_a_later_sample() -> None:
    sources = {"s": SourceTime(0), "r": SourceTime(1)}
    align = Align(Registry(), AlignOptions.model_validate({"step": "none"}), sources)
    feed(align, [(1, "x", 1.0)], source="r")
    feed(align, [(0.5, "x", 1.0), (2, "x", 1.0), (5, "x", 1.0)])
    assert times(feed(align, [(2.5, "x", 1.0)], source="r")) == [0.5, 1.0]
    assert times(feed(align, [(3, "x", 1.0)], source="r")) == [2.0]


def test_columns_are_left_out_five_rows_after_they_were_last_seen() -> None:
    align = make("1s")
    rows = feed(align, [(0, "y", 1.0), *[(float(i), "x", 1.0) for i in range(9)]])
    assert np.diff(rows.start).tolist() == [2, 2, 2, 2, 2, 2, 1, 1, 1]
    back = feed(align, [(10, "y", 2.0), (10, "x", 1.0), (12, "x", 1.0)])
    assert [values(back, i) for i in range(len(back)) if back.status[i] == Status.SCORED] == [[2.0, 1.0]]


def test_a_source_that_fell_silent_holds_nothing_up() -> None:
    align = Align(Registry(), AlignOptions.model_validate({"step": "1s"}), {"s": SourceTime(0), "r": SourceTime(0)})
    feed(align, [(0, "x", 1.0)], source="r")
    assert len(feed(align, [(0, "y", 1.0), *[(float(i), "y", 1.0) for i in range(1, 60)]])) == 0
    assert len(feed(align, [(61, "y", 1.0)])) > 50


def test_old_data_is_taken_though_the_watermark_is_far_ahead() -> None:
    align = make("1s")
    tick(align, 1e6)
    rows = feed(align, [(float(i), "x", 1.0) for i in range(5)], events=[1, 2, 3, 4, 5])
    assert times(rows) == [0.0, 1.0, 2.0, 3.0]
    assert align.counts == {}
    assert len(tick(align, 1e6 + 29)) == 0
    assert tick(align, 1e6 + 30).status.tolist() == [0, *[Status.MISSING] * 5, Status.STALE]


def test_the_end_of_time_closes_what_waits_and_is_no_silence() -> None:
    align = make("auto")
    feed(align, [(0, "x", 1.0), (2, "x", 1.0), (4, "x", 1.0)])
    feed(align, [(7, "x", 1.0)], entity="b")
    rows = align.on_watermark(FOREVER).rows
    assert times(rows) == [0.0, 2.0, 4.0, 7.0]
    assert rows.status.tolist() == [0] * 4
    assert (align.step_seconds(0), align.step_seconds(1)) == (2.0, 0.0)


def test_a_long_absent_entity_begins_afresh_but_keeps_its_step() -> None:
    align = make("1s", expiry="60s")
    feed(align, [(0, "x", 1.0), (0, "c", 1.0), (1, "x", 1.0), (1, "c", 2.0)], kind=Kind.COUNTER)
    rows = feed(align, [(100, "x", 5.0), (101, "x", 7.0)], kind=Kind.COUNTER)
    assert times(rows)[-1] == 100.0
    assert np.isnan(values(rows, len(rows) - 1)).tolist() == [True]
    assert align.step_seconds(0) == 1.0


def test_bounds_drop_and_count() -> None:
    align = make("none", lateness=100.0, series=2, max_pending=3)
    feed(align, [(0, "x", 1.0), (0, "y", 1.0), (0, "z", 1.0)])
    feed(align, [(1, "x", 1.0), (2, "x", 1.0)])
    assert align.counts == {"series_limit": 1, "pending_full": 1}
    assert len(feed(align, [(200, "x", 1.0)])) == 2
    assert align.counts["pending_full"] == 1


def test_new_entities_cannot_take_all_the_room() -> None:
    align = make("auto", lateness=5.0, max_pending=40, series=10_000)
    feed(align, [(float(i), "x", 1.0) for i in range(12)], entity="known")
    for i in range(50):
        feed(align, [(12.0, "x", 1.0)], entity=f"new{i}")
    restarted = Align(align.registry, align.options, {"s": SourceTime(5.0)})
    restarted.load(align.state().frozen())
    align = restarted
    for i in range(50, 100):
        feed(align, [(12.0, "x", 1.0)], entity=f"new{i}")
    dropped = align.counts["pending_full"]
    assert 60 <= dropped <= 75
    assert len(feed(align, [(float(i), "x", 1.0) for i in range(12, 16)], entity="known")) >= 3
    assert align.counts["pending_full"] == dropped


def test_an_entity_has_at_most_eight_sources() -> None:
    align = make("1s")
    for i in range(10):
        feed(align, [(0, f"x{i}", 1.0)], source=f"source{i}")
    assert align.counts == {"source_limit": 2}


def test_unreal_times_are_refused() -> None:
    align = Align(Registry(), AlignOptions.model_validate({}), {"s": SourceTime(1.0, None)})
    series = (Series("x", (("host.name", "a"),)),)
    limits = np.array([-(1 << 63), (1 << 63) - 1, 0], np.int64)
    samples = Samples(series, np.zeros(3, np.int32), limits, np.ones(3), np.zeros(3, np.uint64), {})
    align.process(Columns(intakes=(Intake("s", 0, samples),)))
    assert align.counts == {"late": 1, "future": 1}


def test_maintenance_excludes_and_deploys_are_not_learnt() -> None:
    align = make("1s")
    controls = (
        Control(ControlKind.MAINTENANCE, "m", (T0 + 2) * S, (T0 + 4) * S, {"host.name": "a"}),
        Control(ControlKind.DEPLOY, "d", (T0 + 6) * S, 0),
        Control(ControlKind.SILENCE, "s", 0, 0),
    )
    out = align.process(Columns(controls=controls))
    assert out.controls == controls
    points: list[Point] = [(float(i), "x", 1.0) for i in (0, 1, 2, 3, 4, 5, 6, 7)] + [(9.2, "x", 1.0), (9.3, "x", 1.0)]
    rows, other = feed(align, points), feed(align, points, entity="b")
    excluded, missing = int(Status.EXCLUDED), int(Status.MISSING)
    assert rows.status.tolist() == [0, 0, excluded, excluded, 0, 0, 0, 0, missing]
    assert rows.learn.tolist() == [True, True, False, False, True, True, False, False, False]
    assert other.status.tolist() == [0] * 8 + [missing]
    assert other.learn.tolist() == [True] * 6 + [False] * 3


def test_ended_intervals_go_and_there_are_never_too_many() -> None:
    align = make("1s")
    ended = [Control(ControlKind.DEPLOY, str(i), (T0 - i) * S, (T0 + 10 + i) * S) for i in range(1001)]
    align.process(Columns(controls=tuple(ended)))
    assert align.counts == {"control_limit": 1}
    assert len(align.state().meta["exclusions"]["controls"]) == 1000
    tick(align, 86400 + 511)
    assert len(align.state().meta["exclusions"]["controls"]) == 500


def test_forget_gives_a_fresh_start() -> None:
    align = make("1s")
    feed(align, [(5, "x", 1.0), (6, "x", 1.0)])
    align.forget(0, np.array([0], np.int32))
    assert (align.entity_last(0), align.series_last(0), align.entity_status(0)) == (None, None, "warming")
    assert times(feed(align, [(0, "x", 1.0), (1, "x", 1.0)])) == [0.0]
    assert align.counts == {}
    align.forget(99, np.array([99], np.int32))


def test_full_buffers_are_made_larger_and_nothing_is_lost() -> None:
    align = make("none", lateness=1e5)
    n, names = 3000, [f"x{k}" for k in range(5)]
    feed(align, [(float(i), name, float(i)) for i in range(n) for name in names])
    rows = tick(align, 1e6)
    assert times(rows) == [float(i) for i in range(n)]
    assert all(values(rows, i) == [float(i)] * 5 for i in range(n))
    wide = make("1s")
    rows = feed(wide, [(float(i), f"x{k}", float(k)) for i in range(30) for k in range(500)])
    assert len(rows.series) == len(rows) * 500
    assert rows.value.reshape(-1, 500)[-1].tolist() == [float(k) for k in range(500)]


def test_a_copy_shows_the_moment_it_began() -> None:
    def running() -> Align:
        align = make("1s", lateness=1.0)
        feed(align, [(float(i), name, float(i)) for i in range(9) for name in ("x", "y")])
        return align

    untouched, working = running().state().frozen(), running()
    state = working.state()
    for table in state.tables.values():
        table.begin_copy()
    feed(working, [(float(i), "x", 1.0) for i in range(9, 30)])
    tick(working, 60)
    working.forget(0, np.array([0, 1], np.int32))
    for name, table in state.tables.items():
        copy = table.copy_some(math.inf)
        assert copy is not None
        assert copy.tobytes() == untouched.arrays[name].tobytes()


def test_states_have_no_gaps_with_bytes_of_chance() -> None:
    for dtype in (ENTITY, SERIES, PENDING):
        assert dtype.itemsize == np.dtype(dtype.descr).itemsize
        assert "" not in [name for name, *_ in dtype.descr]


def test_samples_of_a_name_that_a_derived_feature_has_are_refused() -> None:
    align = make("1s")
    align.registry.intern(Series("x.mean_1m", (("host.name", "a"),)), derived=True)
    rows = feed(align, [(0, "x.mean_1m", 1.0), (0, "x", 2.0), (1, "x", 3.0)])
    assert values(rows, 0) == [2.0]
    assert align.counts == {"series_limit": 1}


def test_states_of_other_versions_are_refused() -> None:
    with pytest.raises(PermanentError, match="version 9"):
        make().load(State(9))


def test_same_dictionary_again_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    align = make("1s")
    series = (Series("x", (("host.name", "a"),)),)
    looked: list[Any] = []
    intern = align.registry.intern_all

    def look(names: Any) -> Any:
        looked.append(names)
        return intern(names)

    monkeypatch.setattr(align.registry, "intern_all", look)
    for i in range(300):
        samples = Samples(series, np.zeros(1, np.int32), np.array([i * S]), np.ones(1), np.zeros(1, np.uint64), {})
        align.process(Columns(intakes=(Intake("s", i * S, samples),)))
    assert len(looked) == 1


def test_read_only_samples_do_not_compile_the_kernel_again() -> None:
    align = make("1s")
    for i, writeable in enumerate((True, False)):
        columns = np.zeros(1, np.int32), np.array([i * S]), np.ones(1), np.zeros(1, np.uint64)
        for column in columns:
            column.flags.writeable = writeable
        samples = Samples((Series("x", (("host.name", "a"),)),), *columns, {})
        align.process(Columns(intakes=(Intake("s", i * S, samples),)))
    assert len(take.signatures) == 1  # type: ignore[attr-defined]


def test_a_second_source_that_lags_is_waited_for_once_it_is_known() -> None:
    align, rows = make("5s"), []
    for at in range(0, 100, 5):
        rows.append(feed(align, [(float(at), "x", 1.0)], source="quick"))
        if at >= 30:
            rows.append(feed(align, [(float(at - 5), "y", 2.0)], source="slow"))
    cells = [len(values(one, i)) for one in rows for i in range(len(one))]
    assert cells[:7] == [1] * 7, "nobody knew of it"
    assert cells[7:] == [2] * (len(cells) - 7), "it is waited for"
    assert align.counts == {"late": 2}


def test_a_new_feature_behind_the_known_ones_is_waited_for_from_the_next_window_on() -> None:
    align, rows = make("5s"), []
    for at in range(0, 50, 5):
        known = [(float(at), "x", 1.0), (float(at), "y", 1.0)]
        rows.append(feed(align, known if at < 25 else [*known, (float(at), "z", 2.0)]))
    cells = [values(one, i) for one in rows for i in range(len(one))]
    assert [len(row) for row in cells] == [2, 2, 2, 2, 2, 2, 3, 3, 3, 3]
    assert cells[-1] == [1.0, 1.0, 2.0]
    assert align.counts == {"late": 1}
