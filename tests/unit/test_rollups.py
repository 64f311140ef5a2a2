"""Roll-ups agree with a plain twin, whatever the cut; they go on behind a snapshot, and are bounded."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foreshock import telemetry
from foreshock.runtime.rings import POINT
from foreshock.runtime.rollups import Full, Rollups
from foreshock.runtime.rollups_kernel import COARSE, FINE, TIERS, Tier
from foreshock.runtime.snapshot import SnapshotJob
from foreshock.runtime.stretch import COLUMNS, Stretch, join, of_chunk, pack_chunks
from foreshock.runtime.stretch import unpack as unpack_stretch
from foreshock.state import pack, unpack
from foreshock.types import Rows, Status, Verdict

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
NAMES = ("one", "two", "whole")


def feed_of(seed: int, entities: int = 3, width: int = 2, rows: int = 600, step: float = 40.0) -> Any:
    """Rows, points and verdicts of some hours: a row of one entity at a time, in time order, with gaps."""
    rng = np.random.default_rng(seed)
    entity = rng.integers(0, entities, rows).astype(np.int32)
    time = START + np.cumsum(rng.exponential(step, rows) * SECOND).astype(np.int64)
    time[rows // 2 :] += 3 * 3600 * SECOND
    start = np.arange(rows + 1, dtype=np.int64) * width
    series = (entity[:, None] * width + np.arange(width)).astype(np.int32).ravel()
    cells = rows * width
    points = np.zeros(cells, POINT)
    points["time_unix_nano"] = np.repeat(time, width)
    for name in ("value", "expected", "low", "high"):
        points[name] = 1e9 + rng.normal(size=cells)
    points["value"][rng.random(cells) < 0.2] = np.nan
    blank = rng.random(cells) < 0.3
    for name in ("expected", "low", "high"):
        points[name][blank] = np.nan
    points["status"] = np.where(np.isnan(points["value"]), Status.MISSING, rng.choice([0, 0, 1, 4], cells))
    points["anomalous"] = rng.random(cells) < 0.02
    status = np.zeros(rows, np.uint8)
    feed = Rows(entity, time, time + 1, np.ones(rows, np.bool_), status, start, series, points["value"].copy())
    return feed, points, [said(rng, name, rows if name == "whole" else cells) for name in NAMES]


def said(rng: np.random.Generator, name: str, n: int) -> Verdict:
    strength = rng.normal(-2, 1, n)
    strength[rng.random(n) < 0.4] = np.nan
    nothing = np.full(n, np.nan)
    status = np.where(np.isnan(strength), np.uint8(1), np.uint8(0)).astype(np.uint8)
    return Verdict(name, strength, status, nothing, strength, strength > 0, nothing, nothing, nothing, name == "whole")


def part_of(feed: Any, low: int, high: int) -> Any:
    rows, points, verdicts = feed
    a, b = int(rows.start[low]), int(rows.start[high])
    cut = Rows(
        rows.entity[low:high], rows.time_unix_nano[low:high], rows.end_unix_nano[low:high], rows.learn[low:high],
        rows.status[low:high], rows.start[low : high + 1] - a, rows.series[a:b], rows.value[a:b],
    )  # fmt: skip
    names = ("score", "status", "p_value", "strength", "anomalous", "expected", "low", "high")
    some = []
    for one in verdicts:
        where = slice(low, high) if one.whole else slice(a, b)
        some.append(replace(one, **{name: getattr(one, name)[where] for name in names}))
    return cut, points[a:b], some


Bucket = dict[str, Any]


def plain(feed: Any, tier: Tier, whole: bool = False) -> dict[int, dict[int, Bucket]]:
    """The slow, obvious twin: by key and number of the bucket."""
    rows, points, verdicts = feed
    out: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    keys = rows.entity if whole else rows.series
    times = rows.time_unix_nano if whole else points["time_unix_nano"]
    for i, (key, time) in enumerate(zip(keys.tolist(), times.tolist(), strict=True)):
        out[key][time // (tier.seconds * SECOND)].append(i)
    found: dict[int, dict[int, Bucket]] = {}
    for key, buckets in out.items():
        found[key] = {}
        for number, at in buckets.items():
            value = np.array([np.nan]) if whole else points["value"][at]
            judged = [one for one in verdicts if one.whole == whole]
            statuses = [int(verdicts[2].status[i]) for i in at] if whole else points["status"][at].tolist()
            anomalous = [bool(judged[0].anomalous[i]) for i in at] if whole else points["anomalous"][at].tolist()
            known = value[~np.isnan(value)]
            found[key][number] = {
                "rows": len(at),
                "value": known.mean() if len(known) else np.nan,
                "least": known.min() if len(known) else np.nan,
                "most": known.max() if len(known) else np.nan,
                "high": np.nan if whole or np.isnan(points["high"][at]).all() else np.nanmean(points["high"][at]),
                "status": Status.SCORED if Status.SCORED in statuses else statuses[0],
                "anomalous": any(anomalous),
                **{one.detector: np.fmax.reduce(one.strength[at]) for one in judged},
            }
    return found


def everything(rollups: Rollups, full: list[Full], tier: Tier, whole: bool) -> dict[int, Stretch]:
    """What was handed out and what goes on, by key."""
    parts: dict[int, list[Stretch]] = defaultdict(list)
    for one in full:
        if one.tier == tier and one.whole == whole:
            for slot, chunk in zip(one.slots, one.chunks, strict=True):
                parts[slot].append(of_chunk(chunk, tier, rollups.detectors))
    of = rollups.of_entity if whole else rollups.of_series
    for key in rollups.keys()[whole]:
        parts[key].append(of(key, tier.seconds))
    return {key: join(some) for key, some in parts.items()}


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: f"{tier.seconds}s")
@pytest.mark.parametrize("whole", [False, True])
def test_they_agree_with_their_plain_twin(tier: Tier, whole: bool) -> None:
    feed = feed_of(1)
    rollups = Rollups(NAMES)
    rollups.take(*feed)
    full = rollups.full()
    assert any(one.tier == tier for one in full), "chunks became full"
    wanted = plain(feed, tier, whole)
    found = everything(rollups, full, tier, whole)
    assert found.keys() == wanted.keys()
    for key, buckets in wanted.items():
        stretch = found[key]
        numbers = (stretch.time_unix_nano // (tier.seconds * SECOND)).tolist()
        last = max(buckets)
        if tier is COARSE:
            # The minute that goes on is not in its bucket yet.
            assert set(numbers) >= buckets.keys() - {last}
            buckets = {number: one for number, one in buckets.items() if number != last}
        else:
            assert numbers == sorted(buckets)
        for number, want in buckets.items():
            at = numbers.index(number)
            got = {name: getattr(stretch, name)[at] for name in ("rows", "value", "least", "most", "high", "status")}
            got |= {"anomalous": bool(stretch.anomalous[at])}
            got |= {name: stretch.strength[name][at] for name in NAMES if name in want}
            assert got.keys() == want.keys()
            for name, value in want.items():
                # Beside a value of 1e9 there are 7 digits of the distance.
                assert got[name] == pytest.approx(value, rel=1e-6 if name in NAMES else 1e-12, nan_ok=True), name


def bytes_of(rollups: Rollups, full: list[Full]) -> tuple[bytes, list[tuple[bool, int, int, bytes]]]:
    chunks = [
        (one.whole, one.tier.seconds, slot, chunk.tobytes())
        for one in full
        for slot, chunk in zip(one.slots, one.chunks, strict=True)
    ]
    return pack(rollups.state()), sorted(chunks)


def test_however_the_rows_are_cut_they_are_the_same() -> None:
    feed = feed_of(2, rows=900, step=60.0)
    whole = Rollups(NAMES)
    whole.take(*feed)
    once = bytes_of(whole, whole.full())
    for seed in range(3):
        rng = np.random.default_rng(seed)
        places = [0, *sorted(rng.choice(np.arange(1, 900), 20, replace=False).tolist()), 900]
        cut = Rollups(NAMES)
        full: list[Full] = []
        for low, high in pairwise(places):
            cut.take(*part_of(feed, low, high))
            full += cut.full()
        assert bytes_of(cut, full) == once


def test_behind_a_snapshot_they_go_on_as_if_nothing_had_happened() -> None:
    feed = feed_of(3)
    first = Rollups(NAMES)
    first.take(*part_of(feed, 0, 310))
    first.full()
    # The copy is of this moment, though the next rows come before it is whole.
    job = SnapshotJob({"rollups": first.state()})
    first.take(*part_of(feed, 310, 600))
    saved = unpack(pack(job.finish()["rollups"]))
    second = Rollups(NAMES)
    second.load(saved)
    second.take(*part_of(feed, 310, 600))
    a, b = first.full(), second.full()
    assert len(a) > 0
    assert bytes_of(first, a) == bytes_of(second, b)


def test_detectors_that_come_and_go_leave_the_others_where_they_are() -> None:
    feed = feed_of(4, rows=50)
    before = Rollups(NAMES)
    before.take(*feed)
    after = Rollups(("two", "new"))
    after.load(unpack(pack(before.state())))
    old, new = before.of_series(0, FINE.seconds), after.of_series(0, FINE.seconds)
    np.testing.assert_array_equal(new.value, old.value)
    np.testing.assert_array_equal(new.strength["two"], old.strength["two"])
    assert new.strength.keys() == {"two"}, "the new one has said nothing yet"


def test_series_beyond_the_bound_are_counted_and_forgotten_ones_make_room() -> None:
    feed = feed_of(5, entities=3, width=2, rows=60)
    dropped = telemetry.DROPPED.labels("series_not_kept")
    before = dropped._value.get()
    rollups = Rollups(NAMES, most=4)
    rollups.take(*feed)
    kept, entities = rollups.keys()
    assert (len(kept), len(entities), rollups.not_kept) == (4, 3, 2)
    assert dropped._value.get() - before == 2
    gone = kept[0]
    rollups.forget([gone], 0)
    assert len(rollups.of_series(gone, FINE.seconds)) == 0
    assert len(rollups.of_entity(0, FINE.seconds)) == 0
    left = rollups.of_series(kept[1], FINE.seconds)
    assert len(left) > 0
    rollups.take(*feed_of(6, entities=3, width=2, rows=60))
    assert sorted(rollups.keys()[0]) == sorted(kept), "it came again, into the row that was free"


def test_what_comes_too_late_changes_nothing_and_is_counted() -> None:
    rollups = Rollups(NAMES)
    feed = feed_of(7, entities=1, width=1, rows=40)
    rollups.take(*feed)
    rollups.full()
    before = bytes_of(rollups, [])
    late = telemetry.DROPPED.labels("late_for_charts")
    count = late._value.get()
    rollups.take(*part_of(feed, 0, 5))
    assert bytes_of(rollups, rollups.full()) == before
    assert late._value.get() - count == 2 * 5, "five cells, and the five rows of their entity"


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: f"{tier.seconds}s")
@pytest.mark.parametrize("step", [7.0, 3000.0])
def test_chunks_packed_together_are_what_each_is_by_itself(tier: Tier, step: float) -> None:
    """With a step of 7 s every bucket of the chunks in the middle has something, with 50 min few have."""
    feed = feed_of(8, entities=1, width=3, rows=16_000 if step < 10 else 300, step=step)
    rollups = Rollups(NAMES)
    rollups.take(*feed)
    full = [one for one in rollups.full() if one.tier == tier and not one.whole]
    chunks = np.concatenate([one.chunks for one in full])
    dense = chunks[(chunks["rows"] > 0).all(axis=1)]
    assert (len(dense) > 3) == (step < 10)
    for some in (chunks, dense):
        for data, chunk in zip(pack_chunks(some, tier, NAMES), some, strict=True):
            got, want = unpack_stretch(data, tier.seconds), of_chunk(chunk, tier, NAMES)
            for name in COLUMNS:
                # Numbers of 1e9: ten digits of a mean, of the rest as many of the distance.
                near = 0.0 if getattr(want, name).dtype.kind != "f" else 1e-9
                np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=near, err_msg=name)
            assert got.strength.keys() == want.strength.keys() <= {"one", "two"}
            for name, strength in want.strength.items():
                np.testing.assert_allclose(got.strength[name], strength, atol=0.01)


def test_many_chunks_at_once_are_all_handed_out() -> None:
    """More than there is room for in one go of the kernel."""
    n = 700
    rollups = Rollups(("one",))
    for hour in range(3):
        at = START + hour * 3600 * SECOND
        points = np.zeros(n, POINT)
        points["time_unix_nano"], points["value"] = at, np.arange(n)
        key: NDArray[np.int32] = np.arange(n, dtype=np.int32)
        rows = Rows(
            key, np.full(n, at), np.full(n, at), np.ones(n, np.bool_), np.zeros(n, np.uint8),
            np.arange(n + 1, dtype=np.int64), key, points["value"].copy(),
        )  # fmt: skip
        rollups.take(rows, points, [])
    full = rollups.full()
    assert sorted(slot for one in full for slot in one.slots) == list(range(n))
    values = {
        slot: of_chunk(chunk, FINE, ("one",)).value
        for one in full
        for slot, chunk in zip(one.slots, one.chunks, strict=True)
    }
    assert all(values[slot].tolist() == [slot] for slot in range(n))
    assert rollups.full() == []
