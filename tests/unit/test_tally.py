"""The tally: episodes of each detector, and what labels say of them, whenever they come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from foreshock.incident.story import alert_labels
from foreshock.incident.tally import KEPT, Counts, Tally
from foreshock.ports import Operator
from foreshock.state import Registry, pack, unpack
from foreshock.telemetry import DROPPED, FALSE_POSITIVES, TRUE_POSITIVES, model_of
from foreshock.types import Alert, Columns, Control, ControlKind, Rows, Series, Status, Verdict, labels

S = 1_000_000_000
STEP = 10 * S
CLOSE = 3


def host(name: str) -> tuple[tuple[str, str], ...]:
    return labels({"host.name": name})


def registry_of(hosts: int = 2, width: int = 2) -> Registry:
    registry = Registry()
    for h in range(hosts):
        for j in range(width):
            registry.intern(Series(f"m{j}", host(f"h{h}")))
    return registry


def rows_of(registry: Registry, steps: range, status: Status = Status.SCORED) -> Rows:
    """Each step a row of every entity, all its series in it."""
    hosts, width = len(registry.entities), len(registry.columns[0])
    entity = np.tile(np.arange(hosts, dtype=np.int32), len(steps))
    time = np.repeat(np.array(list(steps), np.int64) * STEP, hosts)
    n = len(entity)
    series = np.tile(np.array([slot for own in registry.columns for slot in own], np.int32), len(steps))
    return Rows(
        entity, time, time + STEP, np.ones(n, np.bool_), np.full(n, status, np.uint8),
        np.arange(n + 1, dtype=np.int64) * width, series, np.zeros(len(series)),
    )  # fmt: skip


def verdict_of(rows: Rows, faults: Sequence[tuple[int, int]], name: str = "d", whole: bool = False) -> Verdict:
    """Anomalous at these (step, entity), in the entity's last series."""
    over = np.array([(t // STEP, e) in set(faults) for t, e in zip(rows.time_unix_nano, rows.entity, strict=True)])
    width = len(rows.series) // len(rows)
    anomalous = over if whole else np.repeat(over, width) & (np.arange(len(rows.series)) % width == width - 1)
    nothing = np.full(len(anomalous), np.nan)
    status = np.zeros(len(anomalous), np.uint8)
    return Verdict(name, nothing, status, nothing, nothing, anomalous, nothing, nothing, nothing, whole)


def step(tally: Tally, steps: range, faults: Sequence[tuple[int, int]], whole: bool = False) -> None:
    rows = rows_of(tally.registry, steps)
    tally.process(Columns(rows=rows, verdicts=(verdict_of(rows, faults, whole=whole),)))


def say(tally: Tally, label: str, since: int, until: int = 0, **matchers: str) -> None:
    """A label of steps [since, until)."""
    named = {name.replace("_", "."): value for name, value in matchers.items()}
    control = Control(ControlKind.LABEL, "any", since * STEP, until * STEP, named, label=label)
    tally.process(Columns(controls=(control,)))


def counts(tally: Tally) -> tuple[int, int, int]:
    one = tally.counts()["d"]
    return one.episodes, one.true_positives, one.false_positives


@pytest.fixture
def tally() -> Tally:
    return Tally(registry_of(), ["d"], CLOSE)


def alert_of(start: int, end: int | None = None, name: str = "h0") -> Alert:
    own = {"alertname": "ForeshockAnomaly", "severity": "warning", "feature": "m0"}
    ends = None if end is None else end * STEP
    return Alert(alert_labels(host(name), own), (), start * STEP, (start + 1) * STEP, ends_unix_nano=ends)


@pytest.mark.parametrize("whole", [False, True])
def test_an_episode_ends_after_some_rows_without(tally: Tally, whole: bool) -> None:
    step(tally, range(10), [(2, 0), (3, 0), (5, 0)], whole)
    assert counts(tally) == (1, 0, 0)
    assert tally.open() == {"d": 0}, "steps 6, 7 and 8 closed it"
    step(tally, range(10, 20), [(10, 0), (11, 1), (13, 0), (17, 0)], whole)
    assert counts(tally) == (4, 0, 0), "one more of each entity, and another of the first"
    assert tally.open() == {"d": 1}
    operator: Operator = tally
    assert operator.on_watermark(5).alerts == ()


def test_gaps_say_nothing_and_maintenance_ends_it(tally: Tally) -> None:
    step(tally, range(2), [(1, 0)])
    rows = rows_of(tally.registry, range(2, 9), Status.MISSING)
    tally.process(Columns(rows=rows, verdicts=(verdict_of(rows, []),)))
    assert tally.open() == {"d": 1}
    step(tally, range(9, 10), [(9, 0)])
    assert counts(tally)[0] == 1, "it goes on behind the gap"
    rows = rows_of(tally.registry, range(10, 11), Status.EXCLUDED)
    tally.process(Columns(rows=rows, verdicts=(verdict_of(rows, []),)))
    assert tally.open() == {"d": 0}


def test_true_positives_count_at_once_and_false_ones_at_the_end(tally: Tally) -> None:
    say(tally, "false", 0)
    say(tally, "true", 10, 12, host_name="h0")
    step(tally, range(5, 6), [(5, 1)])
    assert counts(tally) == (1, 0, 0), "a label may still confirm it"
    step(tally, range(6, 9), [])
    assert counts(tally) == (1, 0, 1)
    step(tally, range(9, 11), [(9, 0), (10, 0), (10, 1)])
    assert counts(tally) == (3, 1, 1), "it began before what is labelled"
    step(tally, range(11, 14), [])
    assert counts(tally) == (3, 1, 2), "the label names one entity"
    step(tally, range(30, 31), [(30, 0)])
    say(tally, "true", 30, 31, host_name="h0")
    assert counts(tally) == (4, 2, 2)


def test_what_no_label_covers_is_neither(tally: Tally) -> None:
    step(tally, range(20), [(5, 0), (15, 0)])
    assert counts(tally) == (2, 0, 0)
    say(tally, "false", 14, 16, host_name="h0")
    assert counts(tally) == (2, 0, 1)


def test_a_row_counts_with_all_of_its_time(tally: Tally) -> None:
    """A label inside of a step belongs to the step."""
    step(tally, range(3, 4), [(3, 0)])
    inside = Control(ControlKind.LABEL, "x", 3 * STEP + 4 * S, 3 * STEP + 5 * S, {}, label="true")
    tally.process(Columns(controls=(inside,)))
    assert counts(tally) == (1, 1, 0)
    step(tally, range(5, 6), [(5, 1)])
    behind = Control(ControlKind.LABEL, "x", 6 * STEP, 7 * STEP, {}, label="true")
    tally.process(Columns(controls=(behind,)))
    assert counts(tally) == (2, 1, 0)


def test_a_later_label_counts_the_past_anew(tally: Tally) -> None:
    before = [one.labels("d")._value.get() for one in (TRUE_POSITIVES, FALSE_POSITIVES)]
    say(tally, "false", 0)
    step(tally, range(20), [(5, 0), (6, 0)])
    assert counts(tally) == (1, 0, 1)
    say(tally, "true", 6, 7, host_name="h0")
    assert counts(tally) == (1, 1, 0)
    say(tally, "false", 6, 7, host_name="h0")
    assert counts(tally) == (1, 0, 1), "of two labels of the same stretch the later one holds"
    say(tally, "true", 6, 7, host_name="h0")
    say(tally, "expected", 6, 7, host_name="h0")
    assert counts(tally) == (1, 0, 1), "it says neither: what was said is withdrawn"
    say(tally, "expected", 0)
    assert counts(tally) == (1, 0, 0)
    after = [one.labels("d")._value.get() for one in (TRUE_POSITIVES, FALSE_POSITIVES)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 3], "counters only rise: each change counts"


def test_labels_of_an_alert_cover_its_entity_while_it_fired(tally: Tally) -> None:
    unknown = DROPPED.labels("label_unknown_episode")._value.get()
    alert = alert_of(5)
    step(tally, range(5, 6), [(5, 0), (5, 1)])
    said = Control(ControlKind.LABEL, "x", 0, episode=alert.episode, label="true")
    tally.process(Columns(controls=(said,)))
    assert DROPPED.labels("label_unknown_episode")._value.get() == unknown + 1
    assert counts(tally) == (2, 0, 0)
    tally.process(Columns(alerts=(alert,)))
    tally.process(Columns(controls=(said,)))
    assert counts(tally) == (2, 1, 0)
    tally.process(Columns(alerts=(alert_of(5, 8),)))
    step(tally, range(6, 30), [(20, 0)])
    assert counts(tally) == (3, 1, 0), "it says nothing of what came after its end"
    tally.process(Columns(controls=(Control(ControlKind.LABEL, "y", 0, episode=alert.episode, label="false"),)))
    assert counts(tally) == (3, 0, 1)


def test_only_the_last_episodes_of_an_entity_are_counted_anew(tally: Tally) -> None:
    faults = [(10 * k, 0) for k in range(KEPT + 3)]
    step(tally, range(10 * (KEPT + 3)), faults)
    say(tally, "true", 0)
    assert counts(tally) == (KEPT + 3, KEPT, 0)


def test_labels_are_bounded(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshock.incident.tally.MOST_LABELS", 3)
    for at in range(5):
        say(tally, "true", 10 * at, 10 * at + 5)
    step(tally, range(60), [(2, 0), (12, 0), (42, 1)])
    assert counts(tally) == (3, 1, 0), "the oldest are forgotten"


def test_forgotten_entities_are_counted_no_more_anew(tally: Tally) -> None:
    step(tally, range(3), [(2, 0), (2, 1)])
    tally.forget(0, np.array([0, 1], np.int32))
    assert tally.open() == {"d": 1}
    say(tally, "true", 0)
    assert counts(tally) == (2, 1, 0)


def test_every_cut_gives_the_same_bytes_also_across_a_restore() -> None:
    rng = np.random.default_rng(3)
    registry = registry_of(4)
    faults = [(int(t), int(e)) for t, e in zip(rng.integers(0, 200, 120), rng.integers(0, 4, 120), strict=True)]
    rows = rows_of(registry, range(200))
    says = Control(ControlKind.LABEL, "l", 40 * STEP, 90 * STEP, {"host.name": "h2"}, label="true")
    well = Control(ControlKind.LABEL, "w", 0, label="false")

    def fresh() -> Tally:
        return Tally(registry, ["d", "e"], CLOSE)

    def take(tally: Tally, low: int, high: int) -> None:
        part = rows_of(registry, range(low, high))
        pair = (verdict_of(part, faults), verdict_of(part, faults[::3], "e", whole=True))
        tally.process(Columns(rows=part, verdicts=pair))

    whole = fresh()
    whole.process(Columns(controls=(says, well)))
    take(whole, 0, 200)
    cut = fresh()
    cut.process(Columns(controls=(says, well)))
    for low, high in zip([0, 1, 17, 60, 61, 130], [1, 17, 60, 61, 130, 200], strict=True):
        take(cut, low, high)
        saved, cut = unpack(pack(cut.state())), fresh()
        cut.load(saved)
    assert pack(cut.state()) == pack(whole.state())
    assert cut.counts() == whole.counts()
    assert cut.open() == whole.open()
    assert len(rows) == 800
    assert all(one.true_positives and one.false_positives for one in whole.counts().values())
    other = Tally(registry, ["f"], CLOSE)
    other.adopt(whole)
    take(other, 50, 52)
    assert other.counts()["f"] == Counts()
    assert set(other.counts()) == {"f", "d", "e"}, "labels go over to other settings, counts do not"


def test_each_name_is_counted_by_itself_and_found_under_its_model() -> None:
    registry = registry_of()
    tally = Tally(registry, ["isolation_forest", "second"], CLOSE)
    rows = rows_of(registry, range(10))
    first, second = verdict_of(rows, [(2, 0)], "isolation_forest"), verdict_of(rows, [(2, 0), (8, 1)], "second")
    before = TRUE_POSITIVES.labels("if")._value.get()
    say(tally, "true", 2, 3)
    tally.process(Columns(rows=rows, verdicts=(first, second)))
    assert tally.counts() == {"isolation_forest": Counts(1, 1, 0), "second": Counts(2, 1, 0)}
    assert TRUE_POSITIVES.labels("if")._value.get() == before + 1
    assert [model_of(name) for name in ("autoencoder", "robust_z", "second")] == ["ae", "robust_z", "second"]
