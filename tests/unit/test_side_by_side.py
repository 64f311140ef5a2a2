"""Detectors side by side: shadows are judged and shown like the others and raise nothing; labels count all of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from foreshock.config import Config
from foreshock.runtime.figures import budget_line, figures
from foreshock.runtime.outputs import VERDICT_COLUMNS, CommitBuilder, Notes, add_anomalous
from foreshock.runtime.task import Task, Watermark, encode_json
from foreshock.runtime.verdict_rows import verdict_table
from foreshock.runtime.views import Views
from foreshock.runtime.why import findings, in_words
from foreshock.state import pack
from foreshock.types import Alert, Columns, Control, ControlKind, Record
from foreshock.types.record import CONFIG, CONTROL, WATERMARK
from tests.integration.rig import START, STEP, rows, settings

S = 1_000_000_000
STEPS = 110
FAULTS = (*range(60, 66), *range(90, 95))
STRICT: dict[str, Any] = {"type": "robust_z", "name": "strict", "window": 60}
JUMPY: dict[str, Any] = {"type": "zscore", "name": "jumpy", "threshold": 1.5}
BOTH: list[Any] = ["robust_z", STRICT | {"role": "shadow"}, JUMPY | {"role": "shadow"}]


def config(detectors: list[Any], **more: Any) -> Config:
    return settings(Path("unused"), detectors=detectors, **more)


def records(steps: range = range(STEPS)) -> list[Record]:
    out = []
    for step in steps:
        at = (START + STEP * step) * S
        out.append(rows(step, 3, FAULTS))
        out.append(Record("default", "foreshock", WATERMARK, at, encode_json(Watermark(at))))
    return out


def label(value: str, since: int, until: int = 0, **matchers: str) -> Record:
    """A label of steps [since, until)."""
    at, end = (START + STEP * since) * S, (START + STEP * until) * S if until else 0
    named = {name.replace("_", "."): one for name, one in matchers.items()}
    control = Control(ControlKind.LABEL, f"{value}{since}", at, end, named, label=value)
    return Record("default", "foreshock", CONTROL, at, encode_json(control))


def played(task: Task, stream: list[Record]) -> tuple[list[Alert], list[Columns]]:
    alerts: list[Alert] = []
    columns: list[Columns] = []
    for record in stream:
        out = task.process(record)
        alerts += out.alerts
        columns += out.columns
    return alerts, columns


@pytest.fixture(scope="module")
def both() -> tuple[Task, list[Alert], list[Columns]]:
    task = Task(config(BOTH), bands=True)
    return (task, *played(task, [label("false", 0), label("true", 60, 66, host_name="h1"), *records()]))


def test_shadows_change_no_alert(both: tuple[Task, list[Alert], list[Columns]]) -> None:
    _, alerts, columns = both
    alone, _ = played(Task(config(["robust_z"]), bands=True), records())
    assert alerts == alone != []
    found = [verdict for one in columns for verdict in one.verdicts if verdict.detector == "jumpy"]
    jumpy = sum(int(verdict.anomalous.sum()) for verdict in found)
    assert jumpy > 20, "it would have raised many"
    assert played(Task(config([STRICT | {"role": "shadow"}, JUMPY | {"role": "shadow"}])), records())[0] == []


def test_every_verdict_stands_under_the_name_of_its_detector(both: tuple[Task, list[Alert], list[Columns]]) -> None:
    task, _, columns = both
    names = [(verdict.detector, verdict.shadow) for verdict in columns[-1].verdicts]
    assert names == [("robust_z", False), ("strict", True), ("jumpy", True)]
    alone = Task(config(["robust_z"]), bands=True)
    for mine, theirs in zip(columns, played(alone, records())[1], strict=True):
        table, plain = (
            verdict_table(one, by.pipeline.registry).to_pylist() for one, by in ((mine, task), (theirs, alone))
        )
        for row, other in zip(table, plain, strict=True):
            each = row.pop("detectors")
            assert [one["detector"] for one in each] == ["robust_z", "strict", "jumpy"]
            assert [one["shadow"] for one in each] == [False, True, True]
            assert other.pop("detectors") == each[:1]
            assert row == other, "shadows have no part in what stands for the entity"
    last = verdict_table(columns[-1], task.pipeline.registry).to_pylist()[0]
    first = last["detectors"][0]
    assert {name: last[name] for name in ("status", "score", "p_value")} == {
        name: first[name] for name in ("status", "score", "p_value")
    }


def test_primary_detectors_are_combined_for_ranking() -> None:
    task = Task(config(["robust_z", {"type": "zscore", "name": "second"}]), bands=True)
    _, columns = played(task, records())
    one = next(one for one in columns if (one.rows.time_unix_nano >= (START + STEP * 61) * S).all())
    rows_ = verdict_table(one, task.pipeline.registry).to_pylist()
    for row in rows_:
        each = [d["p_value"] for d in row["detectors"]]
        assert min(each) < row["p_value"] < max(each) or len(set(each)) == 1
    assert min(rows_, key=lambda row: float(row["p_value"]))["entity"] == '{host.name="h1"}'
    views = Views(20, 10)
    for part in columns:
        views.feed(part.rows, part.verdicts, task.pipeline.registry)
        ranked = views.entities(ranked=True)
        p = [view.p_value for view in ranked if view.p_value == view.p_value]
        assert p == sorted(p)
        table = {row["entity"]: row["p_value"] for row in verdict_table(part, task.pipeline.registry).to_pylist()}
        for view in ranked:
            wanted = table.get(f'{{host.name="{dict(view.entity)["host.name"]}"}}')
            if wanted is not None:
                assert view.p_value == pytest.approx(wanted, rel=1e-5)


def test_views_show_each_detector_and_speak_for_primary_ones(both: tuple[Task, list[Alert], list[Columns]]) -> None:
    task, _, columns = both
    views, plain = Views(20, 200), Views(20, 200)
    for part in columns:
        views.feed(part.rows, part.verdicts, task.pipeline.registry)
        plain.feed(part.rows, part.verdicts[:1], task.pipeline.registry)
    assert {name: role.shadow for name, role in views.roles().items()} == {
        "robust_z": False, "strict": True, "jumpy": True,
    }  # fmt: skip
    found = views.series(points=200, detectors=True)
    for one, other in zip(found, plain.series(points=200, detectors=True), strict=True):
        assert one.points.tobytes() == other.points.tobytes()
        assert set(one.detectors) == {"robust_z", "strict", "jumpy"}
        for name, value in (("score", one.points["score"][-1]), ("strength", one.points["strength"][-1])):
            assert one.detectors["robust_z"][name][0] == value
        assert one.detectors["jumpy"]["score"][0] != value
        assert set(other.detectors) == {"robust_z"}
        assert other.detectors["robust_z"]["score"][0] == one.points["score"][-1]
    for mine, theirs in zip(views.entities(), plain.entities(), strict=True):
        assert (mine.strength, mine.p_value) == (theirs.strength, theirs.p_value)
        assert 0 < mine.p_value <= 1


def test_labels_count_every_detector(both: tuple[Task, list[Alert], list[Columns]]) -> None:
    found = {one.name: one for one in figures(both[0]).detectors}
    assert {name: one.role for name, one in found.items()} == {
        "robust_z": "primary", "strict": "shadow", "jumpy": "shadow",
    }  # fmt: skip
    for name in ("robust_z", "strict"):
        one = found[name]
        assert (one.episodes, one.true_positives, one.false_positives, one.open) == (2, 1, 1, 0), name
        assert one.achieved_ratio is not None
    jumpy = found["jumpy"]
    assert jumpy.true_positives == 1
    assert jumpy.false_positives > 5
    assert jumpy.achieved_ratio is None, "a limit that a user wrote has no budget"


def test_a_label_after_the_verdict_counts_it_anew_and_all_of_it_is_in_a_snapshot() -> None:
    stream = [label("false", 0), *records(), label("true", 90, 95, host_name="h1")]
    whole = Task(config(BOTH), bands=True)
    played(whole, stream[:-1])
    before = {one.name: one for one in figures(whole).detectors}["robust_z"]
    other = Task(config(BOTH), bands=True)
    other.load({name: state.frozen() for name, state in whole.states().items()}, whole.watermark)
    for task in (whole, other):
        task.process(stream[-1])
        after = {one.name: one for one in figures(task).detectors}["robust_z"]
        assert (before.true_positives, before.false_positives) == (0, 2)
        assert (after.true_positives, after.false_positives) == (1, 1)
    assert pack(whole.states()["tally"]) == pack(other.states()["tally"])


def test_labels_go_over_to_other_settings() -> None:
    task = Task(config(["robust_z"]), bands=True)
    task.process(label("true", 90, 95, host_name="h1"))
    task.process(Record("default", "foreshock", CONFIG, 0, config(BOTH).resolved()))
    played(task, records())
    found = {one.name: one for one in figures(task).detectors}
    assert (found["robust_z"].episodes, found["robust_z"].true_positives) == (2, 1)


def test_the_budget_of_series_is_that_of_primary_detectors(both: tuple[Task, list[Alert], list[Columns]]) -> None:
    found = figures(both[0])
    own = next(one.achieved_ratio for one in found.detectors if one.name == "robust_z")
    assert found.budget["series"] == own
    assert set(found.budget) == {"series", "entity", "environment"}
    assert budget_line(found.budget).startswith("budget used: environment ")
    assert budget_line({}) == ""


# -- what is kept of anomalous rows --------------------------------------------------------------------------------


def kept(task: Task, columns: list[Columns]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {name: [] for name in VERDICT_COLUMNS}
    for one in columns:
        for verdict in one.verdicts:
            add_anomalous(out, one, verdict, task.pipeline.registry)
    return out


def test_anomalous_rows_keep_what_explains_them(both: tuple[Task, list[Alert], list[Columns]]) -> None:
    task, _, columns = both
    stored = kept(task, columns)
    rows_ = findings(stored)
    assert {row["detector"] for row in rows_} == {"robust_z", "strict", "jumpy"}
    found = [row for row in rows_ if row["time_unix_nano"] == (START + STEP * 62) * S and row["feature"] == "cpu"]
    found = [row for row in found if row["entity"] == '{host.name="h1"}']
    assert {row["detector"]: row["role"] for row in found} == {
        "robust_z": "primary", "strict": "shadow", "jumpy": "shadow",
    }  # fmt: skip
    for row in found:
        first, *rest = row["contributions"]
        assert first["feature"] == "cpu"
        assert first["share"] > 0.5
        assert first["share"] + sum(one["share"] for one in rest) <= 1.001
        assert row["ratio"] == pytest.approx(np.exp(row["strength"]))
        assert row["low"] < row["expected"] < row["high"] < row["value"]
        assert row["normal"].endswith(" would have been normal")
    said = in_words(found)
    assert said[0].startswith("host h1 at 2023-11-14T22:2")
    assert "jumpy (shadow: raises no alert)" in said
    own = said[said.index("robust_z") + 1]
    assert re.match(r"  cpu: (7[6-9]|8[0-4])", own), own
    assert ", between " in own
    assert any(line.startswith("  share of features: cpu ") for line in said)


def test_rows_of_entities_and_rows_without_notes_are_told_too() -> None:
    nothing = float("nan")
    columns: dict[str, Any] = {name: [nothing] * 2 for name in VERDICT_COLUMNS}
    columns |= {
        "entity": ['{host.name="a"}'] * 2, "feature": ["", "cpu"], "detector": ["linear", "old"],
        "time_unix_nano": [5, 5], "strength": [1.0, nothing], "value": [nothing, 3.0],
        "notes": [msgspec.json.encode(Notes(top=[("cpu", 0.8), ("memory", 0.2)])).decode(), None],
    }  # fmt: skip
    whole, plain = findings(columns)
    assert whole["normal"] == "its features together are unusual; each alone may be normal"
    assert plain["normal"] == "3, what would have been normal is not known"
    assert plain["contributions"] == []
    assert (plain["score"], plain["ratio"]) == (None, None)
    assert in_words([plain, whole]) == [
        "host a at 1970-01-01T00:00:00.000000005Z",
        "linear",
        "  its features together are unusual; each alone may be normal",
        "    2.72 times its bar",
        "  share of features: cpu 80 %, memory 20 %",
        "old",
        "  cpu: 3, what would have been normal is not known",
    ]


def test_a_replay_keeps_no_rows_of_its_own() -> None:
    builder = CommitBuilder("t", keep_verdicts=False)
    task = Task(config(["robust_z"]), bands=True)
    for position, record in enumerate(records()):
        builder.add(position, task.process(record), task.pipeline.registry)
    commit = builder.take(9, 0.0)
    assert commit is not None
    assert commit.alerts
    assert not any(commit.verdicts.values())


def test_a_shadow_that_is_promoted_keeps_what_it_has_learnt() -> None:
    task = Task(config(["robust_z", STRICT | {"role": "shadow"}]), bands=True)
    played(task, records(range(50)))
    before = {name: pack(task.states()[name]) for name in ("bank", "tally")}
    promoted = config([{"type": "robust_z", "role": "shadow"}, STRICT])
    task.process(Record("default", "foreshock", CONFIG, 0, promoted.resolved()))
    assert {name: pack(task.states()[name]) for name in before} == before
    alerts, columns = played(task, records(range(50, 70)))
    assert [(one.detector, one.shadow) for one in columns[-1].verdicts] == [("robust_z", True), ("strict", False)]
    assert {dict(alert.annotations)["detector"] for alert in alerts} == {"strict"}
