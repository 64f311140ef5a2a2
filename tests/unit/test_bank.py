"""The bank over fake detectors: what it shows them, what it makes of their scores, and what it keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock.detect.bank import Bank, TrustOptions
from foreshock.detect.bar import BarOptions
from foreshock.detect.calibrate import CalibratorOptions
from foreshock.detect.level import Level
from foreshock.detect.linear import Linear
from foreshock.errors import ConfigError, PermanentError
from foreshock.ports import DetectorInfo, Operator
from foreshock.runtime.outputs import VERDICT_COLUMNS, add_anomalous
from foreshock.runtime.verdict_rows import verdict_table
from foreshock.state import Registry, SlotTable, State, pack, unpack
from foreshock.telemetry import ANOMALIES, LATENCY
from foreshock.types import Columns, Frame, Rows, Scores, Series, Status, Verdict, labels

MINUTE = 60 * 10**9
DAY0 = 19_723
START = DAY0 * 1440 * MINUTE
WARM_UP = 3


class Distance:
    """|value − mean so far| of each key; univariate, with a band, after three rows."""

    def __init__(self, gain: float = 1.0, threshold: float | None = None, kind: str = "univariate") -> None:
        self.info = DetectorInfo("distance", 1, kind, WARM_UP, 16, 5.0)
        self.options = {"gain": gain, "threshold": threshold, "kind": kind}
        self.gain, self.threshold, self.bands = gain, threshold, False
        self.table = SlotTable(np.dtype([("n", "i8"), ("mean", "f8"), ("least", "f8")]))
        self.configured: list[tuple[int, float]] = []
        self.frames: list[Frame] = []

    def configure_keys(self, keys: NDArray[np.int32], min_change: NDArray[np.float64]) -> None:
        self.configured += zip(keys.tolist(), min_change.tolist(), strict=True)

    def step(self, frame: Frame) -> Scores:
        self.frames.append(frame)
        n = len(frame)
        score, expected, status = np.full(n, np.nan), np.full(n, np.nan), frame.status.copy()
        assert self.bands, "the band of an anomalous row is always needed"
        if n:
            self.table.ensure(int(frame.key.max()))
        for i in range(n):
            if status[i] != Status.SCORED:
                continue
            row = self.table.rows[frame.key[i]]
            value = float(np.nansum(frame.values[i]))
            if row["n"] < WARM_UP:
                status[i] = Status.WARMING_UP
            else:
                score[i], expected[i] = self.gain * abs(value - row["mean"]), row["mean"]
            if frame.learn[i]:
                row["n"] += 1
                row["mean"] += (min(max(value, -3), 3) - row["mean"]) / min(row["n"], 50)
        return Scores(score, status, None, expected, expected - 1, expected + 1)

    def score(self, frame: Frame) -> Scores:
        raise NotImplementedError

    def forget(self, keys: NDArray[np.int32]) -> None:
        self.table.reset(keys)

    def state(self) -> State:
        return State(3, {"kind": "distance"}, {}, {"slots": self.table})

    @classmethod
    def restore(cls, config: Mapping[str, Any], state: State) -> Self:
        assert state.version == 3
        assert state.meta == {"kind": "distance"}
        fresh = cls(**config)
        fresh.table.load(state.arrays["slots"])
        return fresh


def host(name: str) -> Any:
    return labels({"host.name": name})


def registry_of(hosts: int, names: tuple[str, ...] = ("cpu", "memory", "disk.read")) -> Registry:
    registry = Registry()
    for h in range(hosts):
        for name in names:
            attributes = labels({"device": "sda"}) if name.startswith("disk") else ()
            registry.intern(Series(name, host(f"h{h}"), attributes))
    return registry


def rows_of(registry: Registry, n: int, seed: int = 0, start: int = START) -> Rows:
    """n minutes of every entity, all its series a row; now and then a value is missing."""
    rng = np.random.default_rng(seed)
    entities = len(registry.entities)
    widths = [len(columns) for columns in registry.columns]
    entity = np.tile(np.arange(entities, dtype=np.int32), n)
    time = np.repeat(start + np.arange(n, dtype=np.int64) * MINUTE, entities)
    series = np.tile(np.concatenate([np.array(columns, np.int32) for columns in registry.columns]), n)
    value = np.where(rng.random(len(series)) < 0.05, np.nan, rng.normal(size=len(series)))
    offsets = np.concatenate([[0], np.cumsum(np.tile(widths, n))]).astype(np.int64)
    ones = np.ones(len(entity), np.bool_)
    return Rows(entity, time, time + MINUTE, ones, np.zeros(len(entity), np.uint8), offsets, series, value)


def piece_of(rows: Rows, low: int, high: int) -> Rows:
    cells = slice(int(rows.start[low]), int(rows.start[high]))
    return Rows(
        rows.entity[low:high], rows.time_unix_nano[low:high], rows.end_unix_nano[low:high], rows.learn[low:high],
        rows.status[low:high], rows.start[low : high + 1] - rows.start[low], rows.series[cells], rows.value[cells],
    )  # fmt: skip


def judge(bank: Bank, rows: Rows) -> Verdict:
    (verdict,) = bank.process(Columns(rows=rows)).verdicts
    return verdict


def equal(first: Verdict, second: Verdict) -> bool:
    names = ("score", "status", "p_value", "strength", "anomalous", "expected", "low", "high")
    return all(np.array_equal(getattr(first, k), getattr(second, k), equal_nan=k != "anomalous") for k in names)


def joined(verdicts: list[Verdict]) -> Verdict:
    names = ("score", "status", "p_value", "strength", "anomalous", "expected", "low", "high")
    whole: dict[str, Any] = {k: np.concatenate([getattr(v, k) for v in verdicts]) for k in names}
    return replace(verdicts[0], **whole)


@pytest.mark.parametrize("kind", ["univariate", "multivariate"])
def test_a_verdict_over_cells_or_rows(kind: str) -> None:
    registry = registry_of(2)
    rows = rows_of(registry, 60)
    verdict = judge(Bank(registry, {"d": Distance(kind=kind)}, 0.2, bands=True), rows)
    assert verdict.detector == "d"
    scored = verdict.status == Status.SCORED
    assert len(scored) == (len(rows.series) if kind == "univariate" else len(rows))
    for values in (verdict.score, verdict.p_value, verdict.strength):
        assert np.array_equal(np.isnan(values), ~scored)
    assert not verdict.anomalous.any()
    assert np.all((verdict.p_value[scored] > 0) & (verdict.p_value[scored] <= 1))
    for values in (verdict.expected, verdict.low, verdict.high):
        assert np.array_equal(np.isnan(values), ~scored)
    judged_rows = 20 * (6 if kind == "univariate" else 2)
    assert (verdict.status[:judged_rows] != Status.SCORED).all(), "no bar in the first rows"
    assert scored[-6:].any()


def test_entities_of_all_widths_are_scattered_back() -> None:
    registry = Registry()
    for h, width in enumerate((2, 9, 5)):
        for column in range(width):
            registry.intern(Series(f"m{column}", host(f"h{h}")))
    rows = rows_of(registry, 100)
    rows = replace(rows, value=np.where(np.isnan(rows.value), 0.0, rows.value))
    detector = Distance(kind="multivariate")
    verdict = judge(Bank(registry, {"d": detector}, 0.2), rows)
    assert sorted(frame.values.shape[1] for frame in detector.frames) == [4, 8, 16]
    for entity in range(3):
        own = np.flatnonzero(rows.entity == entity)
        alone = np.concatenate([[i] for i in own])
        kept = [piece_of(rows, int(i), int(i) + 1) for i in alone]
        single = Bank(registry, {"d": Distance(kind="multivariate")}, 0.2)
        assert np.array_equal(joined([judge(single, one) for one in kept]).score, verdict.score[own], equal_nan=True)


def test_a_jump_is_anomalous_and_not_learnt_as_usual() -> None:
    registry = registry_of(1, ("cpu",))
    bank = Bank(registry, {"d": Distance()}, 0.2)
    rows = rows_of(registry, 400)
    rows.value[390:] = 30.0
    before = ANOMALIES.labels("d")._value.get()
    seen = LATENCY.labels("d")._sum.get()
    verdict = judge(bank, rows)
    assert np.array_equal(np.flatnonzero(verdict.anomalous), np.arange(390, 400))
    assert (verdict.strength[390:] > 0).all()
    assert (verdict.p_value[390:] < 0.005).all()
    assert np.array_equal(np.isfinite(verdict.expected), verdict.anomalous), "bands of anomalous rows only"
    assert ANOMALIES.labels("d")._value.get() - before == 10
    assert LATENCY.labels("d")._sum.get() > seen
    assert bank.achieved(DAY0, 1) == {"d": 1.0}


def test_a_users_threshold_has_no_warm_up_of_its_own_and_is_learnt() -> None:
    registry = registry_of(1, ("cpu",))
    rows = rows_of(registry, 400)
    verdict = judge(Bank(registry, {"d": Distance(threshold=1.0)}, 0.2), rows)
    scored = verdict.status == Status.SCORED
    assert scored[np.flatnonzero(~np.isnan(rows.value))[WARM_UP]]
    assert np.array_equal(verdict.anomalous[scored], verdict.score[scored] >= 1.0)
    late = scored & (np.arange(400) >= 100)
    assert np.mean(verdict.p_value[late] < 0.1) == pytest.approx(0.1, abs=0.06)


def test_what_is_watched_and_ignored() -> None:
    registry = registry_of(2)
    rows = rows_of(registry, 50)
    features = np.array([registry.series[s].name for s in rows.series])
    for watch, ignore, judged in (
        (("*",), ("mem*",), ("cpu", "disk.read")),
        (("disk.read",), (), ("disk.read",)),
        (('disk.read{device="sda"}', "cpu"), ("c?u",), ("disk.read",)),
        ((), (), ()),
    ):
        one, all_of = Distance(), Distance(kind="multivariate")
        bank = Bank(registry, {"one": one, "all": all_of}, 0.2, watch=watch, ignore=ignore)
        first, second = bank.process(Columns(rows=rows)).verdicts
        wanted = np.isin(features, judged)
        assert (first.status[~wanted] == Status.EXCLUDED).all()
        assert np.isnan(first.score[~wanted]).all()
        assert not (first.status[wanted] == Status.EXCLUDED).any()
        shown = all_of.frames[0].values[:, :3].ravel()
        assert np.array_equal(shown, np.where(wanted, rows.value, np.nan), equal_nan=True)
        assert len(second.status) == len(rows)


def test_least_changes_reach_the_detector_once_and_again_after_forget() -> None:
    registry = registry_of(1)
    detector = Distance()
    bank = Bank(registry, {"d": detector}, 0.2, min_change={"mem*": 2.5, "*": 0.5, "cpu": 9.0}, ignore=["disk*"])
    bank.process(Columns(rows=rows_of(registry, 5)))
    bank.process(Columns(rows=rows_of(registry, 5, start=START + 5 * MINUTE)))
    assert detector.configured == [(0, 0.5), (1, 2.5)]
    registry.intern(Series("cpu", host("new")))
    bank.process(Columns(rows=rows_of(registry, 5, start=START + 10 * MINUTE)))
    assert detector.configured[2:] == [(3, 0.5)]
    bank.forget(0, np.array([0, 1, 2], np.int32))
    assert detector.configured[3:] == [(0, 0.5), (1, 2.5)]


class Met(Distance):
    """Remembers which series it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[tuple[int, str]] = []

    def meet(self, keys: NDArray[np.int32], series: list[Series]) -> None:
        self.met += [(key, one.text) for key, one in zip(keys.tolist(), series, strict=True)]


def test_a_detector_is_shown_series_once_and_again_after_forget() -> None:
    registry = registry_of(1)
    detector = Met()
    bank = Bank(registry, {"d": detector, "plain": Distance()}, 0.2, ignore=["disk*"])
    for minutes in (0, 5):
        bank.process(Columns(rows=rows_of(registry, 5, start=START + minutes * MINUTE)))
    shown = [(0, 'cpu@{host.name="h0"}'), (1, 'memory@{host.name="h0"}')]
    assert detector.met == shown
    registry.intern(Series("cpu", host("new")))
    bank.process(Columns(rows=rows_of(registry, 5, start=START + 10 * MINUTE)))
    assert detector.met[2:] == [(3, 'cpu@{host.name="new"}')]
    bank.forget(0, np.array([0, 1, 2], np.int32))
    assert detector.met[3:] == shown


def test_training_rows_are_learnt_and_raise_nothing() -> None:
    registry = registry_of(1, ("cpu",))
    rows = rows_of(registry, 300)
    rows.value[100] = rows.value[250] = 40.0
    bank = Bank(registry, {"d": Distance()}, 0.2, train_until_unix_nano=START + 200 * MINUTE)
    verdict = judge(bank, rows)
    present = ~np.isnan(rows.value)
    assert (verdict.status[:200][present[:200]] == Status.WARMING_UP).all()
    assert (verdict.status[200:][present[200:]] == Status.SCORED).all()
    assert np.flatnonzero(verdict.anomalous).tolist() == [250]
    assert np.isnan(verdict.score[:200]).all()
    assert bank.parts["d"].bar.tally[1].sum() == 1
    later = verdict.p_value[200:250][present[200:250]]
    assert later.min() < 0.1, "there was a past to rank them in"


def test_nothing_in_nothing_out() -> None:
    bank = Bank(registry_of(1), {"d": Distance()}, 0.2)
    assert bank.process(Columns()).verdicts == ()
    assert bank.on_watermark(START).alerts == ()
    operator: Operator = bank
    assert operator.name == "bank"


def test_every_cut_gives_the_same_bits_also_across_a_restore() -> None:
    registry = registry_of(3)
    rows = rows_of(registry, 150, seed=4)
    rows.value[np.random.default_rng(5).integers(900, len(rows.value), 8)] = 25.0
    trust = TrustOptions(calibrator=CalibratorOptions(half_life_rows=40), bar=BarOptions(min_rows=10))

    def fresh() -> Bank:
        detectors = {"u": Distance(1.5), "m": Distance(kind="multivariate"), "t": Distance(threshold=2.0)}
        return Bank(registry, detectors, 0.2, ignore=["mem*"], trust=trust, bands=True)

    whole = fresh()
    expected = whole.process(Columns(rows=rows)).verdicts
    parts = fresh()
    pieces: list[tuple[Verdict, ...]] = []
    cuts = np.sort(np.random.default_rng(6).integers(0, len(rows), 12)).tolist()
    for low, high in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        if low == high:
            continue
        pieces.append(parts.process(Columns(rows=piece_of(rows, low, high))).verdicts)
        saved, parts = unpack(pack(parts.state())), fresh()
        parts.load(saved)
    for d in range(3):
        assert equal(joined([verdicts[d] for verdicts in pieces]), expected[d])
    assert expected[0].anomalous.any()
    assert pack(parts.state()) == pack(whole.state())
    restored = parts.parts["u"].detector
    assert isinstance(restored, Distance)
    assert (restored.gain, restored.bands) == (1.5, True)


def test_configs_that_were_given_restore_detectors() -> None:
    registry = registry_of(1)
    bank = Bank(registry, {"d": Distance()}, 0.2, configs={"d": {"gain": 7.0}})
    bank.process(Columns(rows=rows_of(registry, 5)))
    bank.load(bank.state())
    detector = bank.parts["d"].detector
    assert isinstance(detector, Distance)
    assert detector.gain == 7.0


def test_state_of_other_detectors_is_refused() -> None:
    registry = registry_of(1)
    saved = Bank(registry, {"d": Distance()}, 0.2).state()
    with pytest.raises(PermanentError, match="holds nothing of 'e/detector/'"):
        Bank(registry, {"e": Distance()}, 0.2).load(saved)


def test_forget_gives_a_fresh_start() -> None:
    registry = registry_of(2, ("cpu",))
    rows = rows_of(registry, 200)
    for kind in ("univariate", "multivariate"):
        bank = Bank(registry, {"d": Distance(kind=kind)}, 0.2)
        judge(bank, rows)
        bank.forget(1, np.array([1], np.int32))
        later = judge(bank, rows_of(registry, 30, start=START + 300 * MINUTE))
        new = later.status[1::2]
        assert (new[:20] != Status.SCORED).all()
        assert (new[22:] == Status.SCORED).any()
        assert (later.status[0::2][:20] == Status.SCORED).any()


class Broken(Distance):
    """Raises, or gives too few scores."""

    def __init__(self, short: bool) -> None:
        super().__init__()
        self.short = short

    def step(self, frame: Frame) -> Scores:
        if self.short:
            return Scores(np.zeros(1), np.zeros(1, np.uint8))
        raise ValueError("no such thing")


def test_a_broken_detector_stops_the_pipeline_by_name() -> None:
    registry = registry_of(1)
    columns = Columns(rows=rows_of(registry, 5))
    with pytest.raises(PermanentError, match="detector 'bad' failed on a frame of 15 rows: ValueError: no such thing"):
        Bank(registry, {"bad": Broken(short=False)}, 0.2).process(columns)
    with pytest.raises(PermanentError, match="'bad' gave 1 scores and 1 states for 15 rows"):
        Bank(registry, {"bad": Broken(short=True)}, 0.2).process(columns)


def test_a_detector_must_say_what_it_is() -> None:
    with pytest.raises(ConfigError, match="'x' is 'sideways'"):
        Bank(registry_of(1), {"x": Distance(kind="sideways")}, 0.2)
    with pytest.raises(ConfigError, match="must not hold '/'"):
        Bank(registry_of(1), {"a/b": Distance()}, 0.2)
    with pytest.raises(ConfigError, match="threshold is -1"):
        Bank(registry_of(1), {"x": Distance(threshold=-1)}, 0.2)
    with pytest.raises(ConfigError, match="'x' judges whole entities"):
        Bank(registry_of(1), {"x": Distance(threshold=1, kind="multivariate")}, 0.2)


def test_a_verdict_says_what_it_follows_where_entities_have_one_series() -> None:
    registry = registry_of(2, ("cpu",))
    rows = rows_of(registry, 50)
    bank = Bank(registry, {"one": Distance(), "all": Distance(kind="multivariate")}, 0.2)
    verdicts = bank.process(Columns(rows=rows)).verdicts
    assert len(rows) == len(rows.series)
    assert [verdict.whole for verdict in verdicts] == [False, True]
    out: dict[str, list[Any]] = {name: [] for name in VERDICT_COLUMNS}
    at = np.arange(len(rows)) == np.flatnonzero(~np.isnan(rows.value))[3]
    for verdict in verdicts:
        add_anomalous(out, Columns(rows=rows), replace(verdict, anomalous=at), registry)
    assert out["detector"] == ["one", "all"]
    assert out["feature"] == ["cpu", ""]
    assert np.isnan(out["value"]).tolist() == [False, True]
    for verdict in verdicts:
        table = verdict_table(Columns(rows=rows, verdicts=(verdict,), alarmed=np.zeros(len(rows), np.bool_)), registry)
        shares = [len(one) for one in table["top_contributions"].to_pylist()]
        assert (sum(shares) > 0) is not verdict.whole, "shares are of features"


def test_an_entity_with_too_few_features_does_not_reach_a_detector_that_needs_more() -> None:
    registry = registry_of(1, ("cpu", "memory"))
    for name in ("cpu", "memory", "disk"):
        registry.intern(Series(name, host("wide")))
    rows, detector = rows_of(registry, 200), Distance(kind="multivariate")
    detector.info = replace(detector.info, least_features=3)
    (verdict,) = Bank(registry, {"all": detector}, 0.2).process(Columns(rows=rows)).verdicts
    narrow = rows.entity == 0
    assert narrow.any()
    assert set(verdict.status[narrow]) == {Status.EXCLUDED}
    assert Status.SCORED in set(verdict.status[~narrow])
    assert {int(key) for frame in detector.frames for key in frame.key} == {1}


def test_linear_has_its_own_bar_and_its_contributions_reach_the_verdict() -> None:
    registry = registry_of(1, ("a", "b", "c", "d", "e"))
    rows = rows_of(registry, 1200)
    rng = np.random.default_rng(3)
    waves = np.sin(np.arange(1200) / 40)[:, None] + 0.1 * rng.normal(size=(1200, 5))
    waves[1190, 3] += 6.0
    rows = replace(rows, value=waves.ravel())
    config = {"warm_up_rows": 400, "warm_up_seconds": 0}
    whole, parts = (Bank(registry, {"linear": Linear(config)}, 0.2) for _ in range(2))
    assert isinstance(whole.parts["linear"].bar, Level)
    verdict = judge(whole, rows)
    assert np.flatnonzero(verdict.anomalous)[0] == 1190
    assert (~verdict.anomalous[:1190]).all()
    assert verdict.contribution is not None
    given = verdict.contribution.reshape(1200, 5)
    assert np.isnan(given[~verdict.anomalous]).all()
    assert np.argmax(given[1190]) == 3
    pieces = [judge(parts, piece_of(rows, a, b)) for a, b in ((0, 700), (700, 1190))]
    fresh = Bank(registry, {"linear": Linear(config)}, 0.2)
    fresh.load(unpack(pack(parts.state())))
    seen = joined([*pieces, judge(fresh, piece_of(rows, 1190, 1200))])
    for name in ("score", "p_value", "strength", "anomalous"):
        assert np.array_equal(getattr(seen, name), getattr(verdict, name), equal_nan=True)


def test_achieved_is_unknown_without_days() -> None:
    assert math.isnan(Bank(registry_of(1), {"d": Distance()}, 0.2).achieved(DAY0)["d"])
