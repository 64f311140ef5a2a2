"""Derived features against their plain definitions, and cut, copied and restored at random."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from foreshock.errors import PermanentError
from foreshock.state import Registry, State, pack, unpack
from foreshock.stream.feature_plan import derived_series
from foreshock.stream.features import FeatureOptions, Features
from foreshock.types import Columns, Kind, Labels, Rows, Series, Status

S = 1_000_000_000
DAY = 86400
A: Labels = (("host.name", "a"),)
B: Labels = (("host.name", "b"),)
Cells = list[tuple[Series, float]]
Row = tuple[float, Status, Cells]


def option(**fields: Any) -> FeatureOptions:
    return FeatureOptions.model_validate(fields)


def series(name: str, entity: Labels = A, **attributes: str) -> Series:
    return Series(name, entity, tuple(sorted(attributes.items())), "By")


def rows_of(registry: Registry, rows: list[Row]) -> Rows:
    """Rows (seconds, status, cells) of entities as alignment would give them."""
    cells = [cell for *_, row in rows for cell in row]
    slots = registry.intern_all(one for one, _ in cells)
    start = np.cumsum([0, *[len(row) for *_, row in rows]])
    return Rows(
        np.array([registry.entity_slot(row[0][0].entity) for *_, row in rows], np.int32),
        np.array([round(time * S) for time, *_ in rows], np.int64),
        np.array([round(time * S) + S for time, *_ in rows], np.int64),
        np.ones(len(rows), np.bool_),
        np.array([status for _, status, _ in rows], np.uint8),
        start,
        slots,
        np.array([value for _, value in cells], np.float64),
    )


def cells_of(registry: Registry, rows: Rows) -> list[list[tuple[str, float]]]:
    out = []
    for i in range(len(rows)):
        part = slice(rows.start[i], rows.start[i + 1])
        names = [registry.series[s].feature for s in rows.series[part]]
        out.append(list(zip(names, rows.value[part].tolist(), strict=True)))
    return out


def run(options: list[FeatureOptions], rows: list[Row]) -> list[dict[str, float]]:
    """The derived cells of each row, by feature."""
    registry = Registry()
    features = Features(registry, options)
    out = features.process(Columns(rows=rows_of(registry, rows))).rows
    return [dict(cells[len(given) :]) for cells, (*_, given) in zip(cells_of(registry, out), rows, strict=True)]


def naive(options: FeatureOptions, history: list[tuple[float, int, float]], time: float, row: int) -> float:
    """A windowed feature or lag by its definition; `history` = (time, row number, value) up to this row, finite."""
    if options.do == "lag":
        if isinstance(options.lag, int):
            found = [value for _, number, value in history if number == row - options.lag]
        else:
            found = [value for when, _, value in history if time - 2 * options.lag < when <= time - options.lag]
        return found[-1] if found else math.nan
    over = options.over[0]
    begin = time // over * over
    inside = [
        (when, value)
        for when, _, value in history
        if (time - over < when <= time if options.sliding else begin - over <= when < begin)
    ]
    x = np.array([value for _, value in inside])
    if not len(x):
        return math.nan
    if options.do == "slope":
        t = np.array([when for when, _ in inside])
        return float(np.polyfit(t - t[0], x, 1)[0]) if len(x) > 1 else math.nan
    plain: dict[str, Any] = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
    return float(np.quantile(x, options.q)) if options.do == "quantile" else float(plain[options.do](x))


WINDOWED = [
    option(do=do, over=over, sliding=sliding, q=q)
    for do, q in (("mean", 0), ("std", 0), ("min", 0), ("max", 0), ("slope", 0), ("quantile", 0.9), ("quantile", 0.5))
    for over in (10, 60)
    for sliding in (True, False)
]
LAGS = [option(do="lag", lag=1), option(do="lag", lag=7), option(do="lag", lag="20s")]


def random_rows(rng: np.random.Generator, n: int) -> list[Row]:
    """Rows of two entities with gaps, NaN, rows that are not scored, columns that come and go."""
    out: list[Row] = []
    times = {A: 1_700_000_000.0, B: 1_700_000_003.0}
    for _ in range(n):
        entity = A if rng.random() < 0.7 else B
        times[entity] += float(rng.choice([1, 1, 1, 2, 30])) if entity is A else float(rng.choice([5, 5, 11]))
        names = [name for name in ("x", "y", "z") if rng.random() < 0.9] or ["x"]
        status = Status(int(rng.choice([0] * 9 + [Status.MISSING, Status.STALE, Status.EXCLUDED])))
        cells: Cells = []
        for name in names:
            empty = rng.random() < 0.1 or status in (Status.MISSING, Status.STALE)
            cells.append((series(name, entity), math.nan if empty else float(rng.normal())))
        out.append((times[entity], status, cells))
    return out


@pytest.mark.parametrize("options", [*WINDOWED, *LAGS], ids=lambda o: f"{o.do}-{o.over[0]:g}-{o.sliding}-{o.q}-{o.lag}")
def test_windows_and_lags_are_what_they_say(options: FeatureOptions) -> None:
    rows = random_rows(np.random.default_rng(3), 400)
    history: dict[Series, list[tuple[float, int, float]]] = {}
    numbers = {A: 0, B: 0}
    compared = 0
    for (time, status, cells), got in zip(rows, run([options], rows), strict=True):
        entity = cells[0][0].entity
        scored = status == Status.SCORED
        numbers[entity] += scored
        assert list(got) == [derived_series(one, options, options.over[0]).feature for one, _ in cells]
        for one, value in cells:
            past = history.setdefault(one, [])
            if scored and not math.isnan(value):
                past.append((time, numbers[entity], value))
            wanted = naive(options, past, time, numbers[entity]) if scored else math.nan
            result = got[derived_series(one, options, options.over[0]).feature]
            assert result == pytest.approx(wanted, rel=1e-9, abs=1e-9, nan_ok=True)
            compared += not math.isnan(wanted)
    assert compared > 150


def test_rates_follow_the_values_before() -> None:
    x = series("x")
    rows: list[Row] = [
        (0, Status.SCORED, [(x, 1.0)]), (2, Status.SCORED, [(x, 5.0)]), (3, Status.SCORED, [(x, math.nan)]),
        (4, Status.EXCLUDED, [(x, 90.0)]), (6, Status.SCORED, [(x, 3.0)]),
    ]  # fmt: skip
    got = [one["x.rate"] for one in run([option(do="rate")], rows)]
    assert [None if math.isnan(v) else v for v in got] == [None, 2.0, None, None, -0.5]


def test_ratios_pair_series_of_the_same_attributes() -> None:
    def used(disk: str) -> Series:
        return series("used", disk=disk)

    def size(disk: str) -> Series:
        return series("size", disk=disk)

    rows: list[Row] = [
        (0, Status.SCORED, [(used("1"), 1.0)]),
        (1, Status.SCORED, [(used("1"), 1.0), (size("1"), 4.0), (used("2"), 3.0), (size("2"), 0.0)]),
        (2, Status.SCORED, [(used("1"), 2.0), (size("1"), math.nan)]),
    ]
    got = run([option(do="ratio", of="used", by="size")], rows)
    assert got[0] == {}
    assert got[1]['used.per_size{disk="1"}'] == 0.25
    assert math.isnan(got[1]['used.per_size{disk="2"}'])
    assert math.isnan(got[2]['used.per_size{disk="1"}'])
    exact = option(do="ratio", of='used{disk="1"}', by='size{disk="2"}')
    assert list(run([exact], rows)[1].values()) == [pytest.approx(math.nan, nan_ok=True)]


def test_shares_are_of_the_sum_over_the_name() -> None:
    def cpu(number: str, entity: Labels = A) -> Series:
        return series("cpu", entity, cpu=number)

    rows: list[Row] = [
        (0, Status.SCORED, [(cpu("0"), 1.0), (cpu("1"), 3.0), (cpu("2"), math.nan), (series("other"), 100.0)]),
        (0, Status.SCORED, [(cpu("0", B), 7.0)]),
        (1, Status.SCORED, [(cpu("0"), 0.0), (cpu("1"), 0.0)]),
    ]
    got = run([option(do="share", of='cpu{cpu="[02]"}')], rows)
    assert got[0]['cpu.share{cpu="0"}'] == 0.25
    assert math.isnan(got[0]['cpu.share{cpu="2"}'])
    assert list(got[0]) == ['cpu.share{cpu="0"}', 'cpu.share{cpu="2"}']
    assert got[1] == {'cpu.share{cpu="0"}': 1.0}
    assert math.isnan(got[2]['cpu.share{cpu="0"}'])


def test_the_calendar_needs_history() -> None:
    monday = 4 * DAY
    x = series("x")
    days = (0, 1.9, 2, 10, 13.5, 14, 18.75, 19)
    rows: list[Row] = [(monday + day * DAY, Status.SCORED, [(x, 1.0)]) for day in days]
    rows.append((monday + 20 * DAY, Status.MISSING, [(x, math.nan)]))
    got = run([option(do="hour_of_day"), option(do="day_of_week", name="weekday")], rows)
    assert got[:2] == [{}, {}]
    assert got[2:5] == [{"hour_of_day": 0.0}, {"hour_of_day": 0.0}, {"hour_of_day": 12.0}]
    assert got[5:8] == [
        {"hour_of_day": 0.0, "weekday": 0.0},
        {"hour_of_day": 18.0, "weekday": 4.0},
        {"hour_of_day": 0.0, "weekday": 5.0},
    ]
    assert [math.isnan(value) for value in got[8].values()] == [True, True]


EVERYTHING = [
    *WINDOWED,
    *LAGS,
    option(do="rate"),
    option(do="ratio", of="x", by="z"),
    option(do="share"),
    option(do="hour_of_day"),
    option(do="mean", of="y", over=["10s", "1m", "5m"], name="level"),
]


@pytest.mark.parametrize("seed", range(6))
def test_cuts_and_restarts_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = random_rows(rng, 500)
    registry = Registry()
    whole = cells_of(registry, Features(registry, EVERYTHING).process(Columns(rows=rows_of(registry, rows))).rows)
    registry = Registry()
    features = Features(registry, EVERYTHING)
    got: list[list[tuple[str, float]]] = []
    while len(got) < len(rows):
        part = rows[len(got) : len(got) + int(rng.integers(1, 60))]
        got += cells_of(registry, features.process(Columns(rows=rows_of(registry, part))).rows)
        if rng.random() < 0.3:
            names, state = registry.state(), unpack(pack(features.state()))
            registry = Registry()
            registry.load(State(1, names.meta, names.arrays, {}, names.blobs))
            features = Features(registry, EVERYTHING)
            features.load(state)
    assert repr(got) == repr(whole)


def test_long_windows_hold_at_most_4096_values() -> None:
    x = series("x")
    rows: list[Row] = [(float(i), Status.SCORED, [(x, float(i))]) for i in range(5000)]
    got = run([option(do="min", over="10d"), option(do="lag", lag=4000)], rows)
    assert got[4095]["x.min_10d"] == 0.0
    assert got[4999]["x.min_10d"] == 5000 - 4096
    assert got[4999]["x.lag_4000"] == 999.0


def test_many_rings_grow_side_by_side_and_give_their_room_back() -> None:
    registry = Registry()
    features = Features(registry, [option(do="max", over="1h")])
    names = [series("x", (("host.name", f"h{k}"),)) for k in range(300)]
    for i in range(40):
        rows: list[Row] = [(float(i), Status.SCORED, [(one, float(k - i))]) for k, one in enumerate(names)]
        out = features.process(Columns(rows=rows_of(registry, rows))).rows
    assert out.value[1::2].tolist() == [float(k) for k in range(300)]
    before = len(features.state().tables["ring"].copy())
    for slot in range(300):
        features.forget(slot, np.array(registry.columns[slot], np.int32))
    again: list[Row] = [(100.0 + i, Status.SCORED, [(names[0], float(-i))]) for i in range(40)]
    out = features.process(Columns(rows=rows_of(registry, again))).rows
    assert out.value[1::2].tolist() == [0.0] * 40
    assert len(features.state().tables["ring"].copy()) == before


def test_rings_that_outgrow_their_place_leave_it_to_others() -> None:
    registry = Registry()
    features = Features(registry, [option(do="max", over="1h")])
    for k in range(300):
        one = series("x", (("host.name", f"h{k}"),))
        rows: list[Row] = [(float(i), Status.SCORED, [(one, float(i))]) for i in range(40)]
        features.process(Columns(rows=rows_of(registry, rows)))
    assert len(features.state().tables["ring"].copy()) < 300 * 64 * 1.5


def test_a_copy_shows_the_moment_it_began() -> None:
    def running() -> tuple[Registry, Features]:
        registry = Registry()
        features = Features(registry, EVERYTHING)
        features.process(Columns(rows=rows_of(registry, random_rows(np.random.default_rng(1), 300))))
        return registry, features

    later = max(time for time, *_ in random_rows(np.random.default_rng(1), 300)) - 1_700_000_000
    more = [(time + later, status, cells) for time, status, cells in random_rows(np.random.default_rng(2), 1500)]
    registry, working = running()
    state = working.state()
    for table in state.tables.values():
        table.begin_copy()
    wanted = cells_of(registry, working.process(Columns(rows=rows_of(registry, more))).rows)
    working.forget(0, np.array(registry.columns[0], np.int32))
    copies = {name: table.copy_some(math.inf) for name, table in state.tables.items()}
    registry = running()[0]
    restored = Features(registry, EVERYTHING)
    restored.load(State(state.version, {}, {name: copy for name, copy in copies.items() if copy is not None}))
    assert repr(cells_of(registry, restored.process(Columns(rows=rows_of(registry, more))).rows)) == repr(wanted)


def test_forget_gives_a_fresh_start() -> None:
    registry = Registry()
    features = Features(registry, [option(do="mean", over="1m"), option(do="rate")])
    x = series("x")
    features.process(Columns(rows=rows_of(registry, [(0, Status.SCORED, [(x, 9.0)])])))
    features.forget(0, np.array(registry.columns[0], np.int32))
    out = features.process(Columns(rows=rows_of(registry, [(1, Status.SCORED, [(x, 1.0)])]))).rows
    assert out.value[1] == 1.0
    assert math.isnan(out.value[2])


def test_without_features_columns_pass_untouched() -> None:
    registry = Registry()
    features = Features(registry, ())
    columns = Columns(rows=rows_of(registry, [(0, Status.SCORED, [(series("x"), 1.0)])]))
    assert features.process(columns) is columns
    features.forget(0, np.array([0], np.int32))
    assert len(features.on_watermark(5).rows) == 0
    assert len(registry) == 1


def test_names_and_units_say_what_a_result_is() -> None:
    base = Series("net.io", A, (("direction", "receive"),), "By", Kind.COUNTER)
    wanted = {
        "net.io.mean_1m": "By/s", "net.io.p95_90s": "By/s", "net.io.slope_every_10s": "By/s/s", "net.io.rate": "By/s/s",
        "net.io.lag_3": "By/s", "net.io.lag_5m": "By/s", "net.io.share": "1", "net.io.per_net.errors": "1",
        "net.io.calm": "By/s", "net.io.calm_2s": "By/s",
    }  # fmt: skip
    options = [
        option(do="mean", over="1m"), option(do="quantile", over=90), option(do="slope", over="10s", sliding=False),
        option(do="rate"), option(do="lag", lag=3), option(do="lag", lag="5m"), option(do="share"),
        option(do="ratio", by="net.errors"), option(do="std", over="2s", name="calm"),
        option(do="std", over=["2s", "3s"], name="calm"),
    ]  # fmt: skip
    made = [derived_series(base, one, one.over[0]) for one in options]
    assert {one.name: one.unit for one in made} == wanted
    assert {one.attributes for one in made} == {base.attributes}


def test_results_without_room_or_with_a_name_in_use_are_refused_and_counted() -> None:
    registry = Registry(3)
    features = Features(
        registry, [option(do="mean", over="1m"), option(do="max", over="1m"), option(do="min", over="1m")]
    )
    given: list[Row] = [(0, Status.SCORED, [(series("x"), 1.0), (series("x.max_1m"), 5.0)])]
    out = features.process(Columns(rows=rows_of(registry, given))).rows
    assert cells_of(registry, out) == [[("x", 1.0), ("x.max_1m", 5.0), ("x.mean_1m", 1.0)]]
    assert features.refused > 0


def test_options_are_checked() -> None:
    with pytest.raises(ValidationError, match="a ratio needs"):
        option(do="ratio")
    assert option().over == (10.0, 60.0, 300.0)
    assert option(over="90s").over == (90.0,)
    assert option(lag="5m").lag == 300.0
    reread = FeatureOptions.model_validate_json(option(do="lag", lag=60.0, over="5s").model_dump_json())
    assert (type(reread.lag), reread.over) == (float, (5.0,))


def test_states_of_other_versions_are_refused() -> None:
    with pytest.raises(PermanentError, match="version 9"):
        Features(Registry(), ()).load(State(9))
