"""The measure of the budgets: small, but whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from foreshock.bench import budget as bench
from foreshock.bench import budget_table, quiet_series
from foreshock.bench.environment import Incident, Quiet, Said, break_daily, decide, draw, incident_of, quiet_of
from foreshock.bench.streams import DAY, HOUR, SECOND, Entity, Episode, Told, anew, hear
from foreshock.bench.stretches import START, Clock, Labelled, belongs, files, incidents, quiet_clock, read
from foreshock.cli import app
from foreshock.detect.bar import Bar
from foreshock.errors import ConfigError

MINUTE = 60 * SECOND
ROBUST = {"robust_z": ("robust_z",)}


def episode(starts: int, strength: float, lasts: int = HOUR) -> Episode:
    return Episode(starts, starts + lasts, [Told(starts + MINUTE, strength)])


def seconds(days: float, step: float) -> quiet_series.Values:
    return np.asarray(np.arange(round(days * 86_400 / step)) * step, np.float64)


# -- series --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(quiet_series.KINDS))
def test_every_kind_is_finite_moves_and_is_the_same_again(kind: str) -> None:
    load = np.sin(np.linspace(0, 40, 2000))
    one, again = (quiet_series.KINDS[kind](np.random.default_rng(3), load) for _ in range(2))
    assert one.shape == (2000,)
    assert np.array_equal(one, again)
    assert np.isfinite(one).all()
    assert one.std() > 0


def test_all_kinds_take_their_turn_and_shifts_stand_where_they_were_put() -> None:
    rng = np.random.default_rng(1)
    values = quiet_series.entity(rng, 8, seconds(2, 300))
    assert values.shape == (576, 8)
    broken = quiet_series.broken(rng, values, [(100, 112), (300, 303)], 2)
    moved = broken != values
    assert sorted(np.flatnonzero(moved.any(axis=1)).tolist()) == [*range(100, 112), 300, 301, 302]
    assert moved[100:112].any(axis=0).sum() == 2


# -- streams -------------------------------------------------------------------------------------------------------


def test_alarms_of_a_bar_are_counted_as_the_bar_counts_them() -> None:
    rng, n, step = np.random.default_rng(2), 4000, 5 * MINUTE
    time = START + step * np.arange(n, dtype=np.int64)
    score = np.abs(rng.standard_t(2.5, n))
    bar = Bar(5.0, 0.2)
    strength, over = bar.step(np.zeros(n, np.int32), time, score, np.zeros(n, np.uint8), np.ones(n, np.bool_))
    days = [START // DAY + day for day in range(14)]
    counted = sum(round(bar.achieved(day, 1)) for day in days)
    assert counted > 3
    assert len(anew(time[over], strength[over], step)) == counted


def test_alarms_within_an_hour_are_one_and_later_ones_must_come_near_the_peak() -> None:
    at = np.array([0, 30, 100, 200, 700], np.int64) * MINUTE
    heights = np.array([2.0, 2.0, 1.0, 1.9, 0.1])
    assert (anew(at, heights, MINUTE) // MINUTE).tolist() == [0, 200, 700]
    assert (anew(at, heights, MINUTE, peaks=False) // MINUTE).tolist() == [0, 100, 200, 700]


def test_what_is_heard_of_an_entity_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(5)
    time = START + 5 * MINUTE * np.arange(1500, dtype=np.int64)
    several = []
    for name in ("a", "b"):
        values = rng.normal(size=(1500, 3))
        values[700:720, 1] += 40.0
        several.append(Entity(name, time, values, 5 * MINUTE))
    together = hear(several, ROBUST)
    (alone,) = hear(several[1:], ROBUST)
    assert together[1].episodes == alone.episodes
    assert all(map(np.array_equal, together[1].alarms["robust_z"], alone.alarms["robust_z"]))
    found = [one for one in alone.episodes["robust_z"] if belongs(one, (int(time[700]), int(time[720])), 5 * MINUTE)]
    assert len(found) == 1
    assert found[0].starts == time[700]
    assert found[0].told[0].strength > 0.5
    assert int(time[700]) in alone.alarms["robust_z"][1].tolist()
    assert int(time[700]) not in alone.alarms["robust_z"][0].tolist()


# -- labelled ------------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, rows: int, labelled: list[tuple[int, int]], split: int | None = None) -> Path:
    label = np.zeros(rows, np.int8)
    rng = np.random.default_rng(len(name))
    values = rng.normal(size=rows).astype(np.float32)
    for a, b in labelled:
        label[a:b] = 1
        values[a:b] += 30
    table = {"t": 5 * 86_400 + 300.0 * np.arange(rows), "value": values, "label": label}
    if split is not None:
        table["split"] = (np.arange(rows) >= split).astype(np.int8)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def test_quiet_time_leaves_out_incidents_and_what_follows_them(tmp_path: Path) -> None:
    one = read("kpi", write(tmp_path, "x", 1000, [(500, 510)]))
    assert one.entity.time[0] == START
    assert one.entity.step == 5 * MINUTE
    assert incidents(one) == [(int(one.entity.time[500]), int(one.entity.time[510]))]
    clock = quiet_clock(one)
    time = one.entity.time
    assert clock.place(int(time[149])) == -1, "15 % are not judged"
    assert clock.place(int(time[150])) == 0
    assert clock.place(int(time[497])) == time[497] - time[150]
    assert [clock.place(int(time[row])) for row in (499, 505, 509 + 72)] == [-1, -1, -1]
    assert clock.place(int(time[509 + 73])) == clock.last[0] - clock.first[0]
    assert clock.length == (clock.last - clock.first).sum()


def test_a_part_to_learn_from_is_not_judged(tmp_path: Path) -> None:
    one = read("smd", write(tmp_path, "x", 400, [(50, 60), (300, 310)], split=200))
    assert len(incidents(one)) == 1
    assert quiet_clock(one).first[0] == one.entity.time[200]


def test_gaps_are_no_quiet_time() -> None:
    time = np.concatenate([np.arange(20), np.arange(500, 520)]).astype(np.int64) * MINUTE
    entity = Entity("a", time, np.zeros((40, 1)), MINUTE)
    clock = quiet_clock(Labelled("x", entity, np.zeros(40, np.bool_), np.ones(40, np.bool_)))
    assert clock.length == 2 * 20 * MINUTE


def test_other_files_are_passed_over_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": [1.0], "service": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(ConfigError, match="no labelled series"):
        files(tmp_path)
    path = write(tmp_path / "kpi" / "dev", "a", 60, [])
    assert files(tmp_path) == [("kpi", path)]


# -- environments --------------------------------------------------------------------------------------------------


def test_quiet_time_is_turned_and_repeated() -> None:
    clock = Clock(np.array([100 * HOUR]), np.array([124 * HOUR]))
    quiet = quiet_of("a", clock, [episode(101 * HOUR, 1.0), episode(90 * HOUR, 9.0)])
    assert (quiet.length, quiet.at) == (24 * HOUR, (HOUR,))
    said = quiet.drawn(4, 3 * HOUR, 2)
    assert [(one.starts - START) // HOUR for one in said] == [22, 46]
    assert {one.entity for one in said} == {4}
    assert said[0].told == (Told(START + 22 * HOUR + MINUTE, 1.0),)


def test_an_environment_has_as_many_alerts_as_its_entities() -> None:
    quiet = [Quiet("a", 10 * DAY, (DAY, 3 * DAY), (episode(DAY, 0.5), episode(3 * DAY, 0.7)))]
    said = draw(np.random.default_rng(0), quiet, 50, 20)
    assert len(said) == 50 * 4
    assert len({one.starts for one in said}) == 200, "each at a time of its own"


def test_incidents_are_announced_where_the_budget_lets_them_pass() -> None:
    noise = [Said(n % 100, START + n * 97 * MINUTE, (Told(START + n * 97 * MINUTE, 0.1),)) for n in range(200)]
    loud = incident_of("x", 7 * HOUR, [episode(8 * HOUR, 5.0), episode(6 * HOUR, 0.1)])
    assert [one.starts for one in loud.episodes] == [HOUR, 0]
    faint = Incident("x", (episode(0, 0.05),))
    said = [*noise, *loud.drawn(0, 3, START + 5 * DAY), *faint.drawn(1, 4, START + 6 * DAY + 50 * MINUTE)]
    outcome = decide(said, [(0, 14)] * 100, 14)
    assert outcome.announced == {0}
    assert (outcome.all - outcome.quiet).tolist() == [0] * 5 + [2] + [0] * 8, "each of its two alerts, an hour apart"
    alone = decide(faint.drawn(0, 0, START + 5 * DAY), [(0, 14)], 14)
    assert alone.announced == {0}, "a single entity is heard at its own level"


def test_what_falls_into_the_group_of_a_notification_is_announced() -> None:
    at = START + 3 * DAY
    said = [Said(0, at, (Told(at, 3.0),)), Said(1, at + MINUTE, (Told(at + MINUTE, 3.1),), 0)]
    assert decide(said, [(0, 5)] * 2, 5).announced == {0}
    assert decide(said, [(0, 5)] * 2, 5).quiet.tolist() == [0, 0, 0, 1, 0]


def test_an_incident_a_day_each_in_its_own_day() -> None:
    pool = [Incident("a", (episode(0, 1.0),)), Incident("b", (episode(HOUR, 2.0),))]
    said = break_daily(np.random.default_rng(0), pool, 30, 3, 20)
    assert [one.incident for one in said] == list(range(17))
    assert all(3 <= (one.starts - START) / DAY < 20 for one in said)
    assert len({one.entity for one in said}) > 5


# -- the whole -----------------------------------------------------------------------------------------------------


def test_levels_are_counts_over_days_and_budget() -> None:
    one = bench.level("real", "x", "entity", 0, [2, 0, 6], [10, 10, 10], 0.2)
    assert (one.n, one.median, one.highest) == pytest.approx((3, 1.0, 3.0))
    assert one.ratio == pytest.approx(8 / 30 / 0.2)
    assert one.above_2 == pytest.approx(1 / 3)


def test_a_small_run_is_whole_and_the_same_again(tmp_path: Path) -> None:
    write(tmp_path / "kpi", "a", 2300, [(1500, 1510)])
    write(tmp_path / "kpi", "b", 2300, [])
    plan = bench.Plan((2, 4), 12, 1800.0, 3, tmp_path, (("robust_z",),))
    results, again = ([one for _, _, one in bench.run(plan, 1) if one is not None] for _ in range(2))
    assert repr(results) == repr(again)
    levels = {(one.source, one.level, one.entities): one for one in results if isinstance(one, bench.Level)}
    assert set(levels) == {
        (source, *what)
        for source in ("simulated", "real")
        for what in (("bar", 0), ("entity", 0), ("environment", 2), ("environment", 4))
    }
    assert levels["simulated", "entity", 0].n == 4
    assert levels["simulated", "environment", 2].n == 2
    assert levels["real", "bar", 0].n == 2
    (whole,) = [one for one in results if isinstance(one, bench.Whole)]
    assert (whole.set, whole.entities, whole.incidents, whole.found, whole.announced) == ("kpi", 2, 1, 1, 1)
    told = [one for one in results if isinstance(one, bench.Announced)]
    assert {(one.source, one.incidents) for one in told} == {
        ("simulated", "made up"), ("simulated", "real"), ("real", "real")
    }  # fmt: skip
    assert all(0 <= one.share <= 1 for one in told)
    text = "\n".join(budget_table.table(results))
    assert "environment of 4" in text
    assert json.loads(json.dumps(budget_table.report(plan, results)))["sets"][0]["found"] == 1


def test_the_command_writes_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bench.Plan] = []
    one = bench.Level("simulated", "x", "entity", 0, 3, 0.5, 0.4, 0.9, 1.0, 0.0, 0.0, math.nan)

    def run(plan: bench.Plan, jobs: int) -> object:
        asked.append(plan)
        return iter([(1, 1, one)])

    monkeypatch.setattr(bench, "run", run)
    arguments = ["bench", "budget", "--entities", "5", "--days", "20", "--step", "600", "--detector", "deviation",
                 "--detector", "linear", "--json", "--out", str(tmp_path)]  # fmt: skip
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.output)
    assert said == json.loads((tmp_path / "budget.json").read_text())
    assert said["levels"][0]["ratio"] == 0.5
    assert said["levels"][0]["first_days"] is None
    assert (asked[0].entities, asked[0].days, asked[0].choices) == ((5,), 20, (("deviation", "linear"),))
    ran = CliRunner().invoke(app, ["bench", "budget", "--data", str(tmp_path / "none")])
    assert ran.exit_code != 0
