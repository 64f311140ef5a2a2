"""The checks of `check_detector`, one a rule of CONTRACTS §4. Each breaks a rule apart from the others.

Only `batch_cuts` gives a key several rows in one step and looks at the scores; the others go row by row, so that a
detector that breaks one rule fails the check made for it.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from foreshock.ports import Detector
from foreshock.state import unpack
from foreshock.testing import frames
from foreshock.testing.detector_case import (
    Breach,
    Case,
    band_fits,
    only,
    require,
    require_same,
    walk,
    well_formed,
    where,
)
from foreshock.testing.frames import DAY, MINUTE, START, copy, join, make, merge, packed
from foreshock.types import Frame, Scores, Status

SLOTS = 1024
WIDTH = 8
"""Columns of the frames that the bytes of multivariate detectors are measured on."""
KEPT = (Status.WARMING_UP, Status.MISSING, Status.STALE, Status.EXCLUDED)


def info(case: Case) -> None:
    """It is a Detector, and its info makes sense."""
    detector = case.new()
    require(isinstance(detector, Detector), "it lacks one of info, step, score, forget, state, restore")
    told = detector.info
    require(isinstance(told.name, str) and told.name != "", f"info.name is {told.name!r}")
    require(isinstance(told.version, int) and told.version >= 1, f"info.version is {told.version!r}, not 1 or more")
    require(told.kind in ("univariate", "multivariate"), f"info.kind is {told.kind!r}")
    require(told.warm_up_rows >= 0, f"info.warm_up_rows is {told.warm_up_rows!r}")
    require(told.bytes_per_slot > 0, f"info.bytes_per_slot is {told.bytes_per_slot!r}")
    require(0 < told.prior_score < np.inf, f"info.prior_score is {told.prior_score!r}, not a number above 0")
    if case.univariate is not None:
        require(case.univariate == (told.kind == "univariate"), f"info.kind is {told.kind!r}")


def results(case: Case) -> None:
    """Scores have the shapes and types of `Scores`; a score is NaN exactly where the status is not `scored`."""
    detector = case.new()
    for frame in (case.past(), case.future()):
        well_formed(walk(detector, frame), len(frame), "step, row by row")
        well_formed(detector.step(copy(frame)), len(frame), "step")
    frame = case.future()
    scores = detector.score(copy(frame))
    well_formed(scores, len(frame), "score")
    given = scores.contribution
    if given is None:
        raise Breach("score gives no contribution")
    require(given.shape == frame.values.shape and given.dtype == np.float32,
             f"contribution is {given.dtype}{list(given.shape)}, not float32{list(frame.values.shape)}")  # fmt: skip
    band_fits(scores, len(frame), "score", needed=not case.multivariate)


def zero_rows(case: Case) -> None:
    """A frame without rows gives scores without rows and changes nothing, before and after learning."""
    detector = case.new()
    empty = make([], [], [], columns=None if not case.multivariate else 4)
    for when in ("a fresh detector", "a warm detector"):
        before = packed(detector.state())
        for by in (detector.step, detector.score):
            well_formed(by(copy(empty)), 0, f"{when}, no rows")
        require(packed(detector.state()) == before, f"{when}: a frame without rows changed the state")
        walk(detector, case.past())


def warm_up(case: Case) -> None:
    """A key is `warming_up` for its first `info.warm_up_rows` learnt rows and `scored` from the next on."""
    rows = case.warm_up + 5
    seen = walk(case.new(), frames.noise(case.rng(), rows, 1, case.width)).status
    wanted = np.where(np.arange(rows) < case.warm_up, Status.WARMING_UP, Status.SCORED)
    wrong = np.flatnonzero(seen != wanted)
    words = ", ".join(f"row {i} is {frames.name_of(seen[i])}" for i in wrong[:1])
    require(not len(wrong), f"of a new key {words}; info.warm_up_rows is {case.warm_up}")


def batch_cuts(case: Case) -> None:
    """However rows are cut into batches, scores and state are the same, bit for bit."""
    frame = join(case.past(3), frames.hard(case.rng(), 300, 3, case.width))
    whole = case.new()
    wanted, state = whole.step(copy(frame)), packed(whole.state())
    rng = case.rng()
    for pieces in (
        [frame.take(np.array([i])) for i in range(len(frame))],
        *(frames.cuts(rng, frame) for _ in range(5)),
    ):
        other = case.new()
        seen = merge([other.step(piece) for piece in pieces])
        require_same(seen, wanted, f"{len(frame)} rows in {len(pieces)} steps, beside one step")
        require(packed(other.state()) == state, f"{len(pieces)} steps leave another state than one step")


def score_changes_nothing(case: Case) -> None:
    """`score` leaves the state as it is, and what is scored later too, also for keys it has never seen."""
    detector, untouched = case.new(), case.new()
    for one in (detector, untouched):
        walk(one, case.past())
    before = packed(detector.state())
    for frame in (case.future(), case.future(4), case.row(3000, START + 2 * DAY, 5.0)):
        detector.score(frame)
        require(packed(detector.state()) == before, f"score of {len(frame)} rows changed the state")
    require_same(walk(detector, case.future()), walk(untouched, case.future()), "after a call of score")


def score_first(case: Case) -> None:
    """`step` gives a row the score that `score` gives it against the state before it: score, and only then learn."""
    asked, stepped = case.new(), case.new()
    for frame in (case.past(), case.future()):
        for i in range(len(frame)):
            row = frame.take(np.array([i]))
            require_same(stepped.step(copy(row)), asked.score(copy(row)), f"step of row {i}, beside score before it")
            asked.step(row)


def score_rows_alone(case: Case) -> None:
    """`score` judges every row by itself: rows beside it, of its key or others, make no difference."""
    detector = case.new()
    walk(detector, case.past())
    frame = case.future()
    alone = merge([detector.score(frame.take(np.array([i]))) for i in range(len(frame))])
    require_same(detector.score(copy(frame)), alone, "score of many rows, beside each alone")


def restore(case: Case) -> None:
    """state → pack → unpack → restore gives a detector with the same state, scores and later state."""
    detector = case.new()
    walk(detector, join(case.past(3), frames.hard(case.rng(), 60, 3, case.width)))
    saved = packed(detector.state())
    other = case.restore(unpack(saved))
    require(packed(other.state()) == saved, "a restored detector has another state than it was given")
    later = case.future(3)
    require_same(walk(other, later), walk(detector, later), "a restored detector, beside one that went on")
    require(packed(other.state()) == packed(detector.state()), "a restored detector learns otherwise")


def slots_independent(case: Case) -> None:
    """A key's scores depend on its own rows only, whatever other keys there are and in which order they come."""
    keys, rng = 12, case.rng()
    frame = frames.round_robin(rng, case.warm_up + 10, keys, case.width)
    together, seen, taken = case.new(), [], []
    for start in range(0, len(frame), keys):
        order = start + rng.permutation(keys)[: rng.integers(keys // 2, keys + 1)]
        seen.append(together.step(frame.take(order)))
        taken.append(order)
    scores, order = merge(seen), np.concatenate(taken)
    for key in range(keys):
        mine = frame.key[order] == key
        alone = walk(case.new(), frame.take(order[mine]))
        require_same(only(scores, mine), alone, f"key {key} among {keys}, beside alone")


def missing_values(case: Case) -> None:
    """NaN and ±inf are `missing`: a row of nothing else gets no score and is not learnt; none gets into the state."""
    detector, spared = case.new(), case.new()
    later = case.future()
    for one in (detector, spared):
        walk(one, case.past())
    for i in range(len(later)):
        for odd in (np.nan, np.inf, -np.inf):
            seen = detector.step(case.row(int(later.key[i]), int(later.time_unix_nano[i]), odd))
            require(
                int(seen.status[0]) == Status.MISSING, f"a row of {odd} has status {int(seen.status[0])}, not missing"
            )
        row = later.take(np.array([i]))
        require_same(detector.step(row), spared.step(copy(row)), "after rows of NaN and ±inf, beside without them")
    if case.multivariate:
        _one_missing(case)


def _one_missing(case: Case) -> None:
    later = case.future()
    seen = []
    for odd in (np.nan, np.inf, -np.inf):
        detector = case.new()
        walk(detector, case.past())
        values = later.values.copy()
        values[::3, 1] = odd
        seen.append(walk(detector, replace(later, values=values)))
        scored = seen[-1].status == Status.SCORED
        require(bool(np.isfinite(seen[-1].score[scored]).all()), f"rows with one {odd} have scores that are not finite")
        require_same(seen[-1], seen[0], f"rows with one {odd}, beside NaN in its place")


def constants(case: Case) -> None:
    """A constant series has finite scores, and its first change a finite one above all of them."""
    for level in (0.0, 7.0, -1e6):
        detector = case.new()
        rows = case.warm_up + 30
        seen = [detector.step(case.row(0, START + MINUTE * i, level)) for i in range(rows)]
        change = detector.step(case.row(0, START + MINUTE * rows, level + max(1.0, 0.5 * abs(level))))
        scores = merge([*seen[case.warm_up :], change]).score
        require(bool(np.isfinite(scores).all()), f"a series constant at {level} and then changed scores {scores[-3:]}")
        least, most = scores[-1], scores[:-1].max()
        require(least > most, f"the first change of a series constant at {level} scores {least}, the constant {most}")


def scale_jumps(case: Case) -> None:
    """Jumps of a scale by 10⁶ up and down give finite scores, then and later."""
    rng = case.rng()
    for scale in (1e-3, 1.0, 1e6):
        detector = case.new()
        sizes = np.repeat([1.0, 1e6, 1.0, 1e-6, 1.0], case.warm_up + 6)
        values = scale * sizes[:, None] * (10.0 + rng.normal(size=(len(sizes), case.width)))
        seen = walk(detector, make(np.zeros(len(sizes)), START + MINUTE * np.arange(len(sizes)), values))
        wrong = np.flatnonzero((seen.status == Status.SCORED) & ~np.isfinite(seen.score))
        require(not len(wrong), f"value {values[wrong[:1]]} after a level of {scale} scores {seen.score[wrong[:1]]}")


def duplicate_times(case: Case) -> None:
    """Rows of one time, and rows whose time goes back, are scored and learnt like all others."""
    rows = case.warm_up + 10
    base = frames.noise(case.rng(), rows, 1, case.width)
    for step in (0, -1):
        detector = case.new()
        time = START + step * 10**9 * np.arange(rows)
        last = walk(detector, replace(base, time_unix_nano=time)).status[-5:]
        words = "one time" if step == 0 else "falling times"
        require(bool((last == Status.SCORED).all()), f"after {rows} rows of {words} a key has statuses {last}: "
                "they are not learnt, or not scored")  # fmt: skip
        before = packed(detector.state())
        detector.step(case.row(0, int(time[-1]), 30.0))
        require(packed(detector.state()) != before, f"a row of {words} is scored and not learnt")


def growth(case: Case) -> None:
    """A key far beyond those before starts afresh, and the others go on as if it were not there."""
    detector, without = case.new(), case.new()
    for one in (detector, without):
        walk(one, case.past())
    for key in (40, 200, 3000):
        status = detector.step(case.row(key, START + DAY, 5.0)).status
        require(case.warm_up == 0 or int(status[0]) == Status.WARMING_UP, f"key {key} is new and has status {status}")
    require_same(walk(detector, case.future()), walk(without, case.future()), "keys 0 and 1 after keys up to 3000 came")


def forget(case: Case) -> None:
    """A forgotten key is as good as new; other keys remember; unknown ones may be forgotten too."""
    detector, kept = case.new(), case.new()
    for one in (detector, kept):
        walk(one, case.past())
    for keys in ([0], [], [500]):
        detector.forget(np.array(keys, np.int32))
    later = join(case.future(rounds=case.warm_up + 5))
    mine = later.key == 0
    seen = walk(detector, later)
    require_same(only(seen, mine), walk(case.new(), where(later, mine)), "a forgotten key, beside a new one")
    require_same(only(seen, ~mine), walk(kept, where(later, ~mine)), "the other key, beside nothing forgotten")


def expiry(case: Case) -> None:
    """After a gap of 400 days a key starts afresh; a gap of one key is no gap of another."""
    detector, kept = case.new(), case.new()
    for one in (detector, kept):
        walk(one, case.past())
    later = frames.round_robin(case.rng(), case.warm_up + 5, 2, case.width, START + DAY)
    mine = later.key == 0
    later = replace(later, time_unix_nano=later.time_unix_nano + np.where(mine, 400 * DAY, 0))
    seen = walk(detector, later)
    require_same(
        only(seen, mine), walk(case.new(), where(later, mine)), "a key after a gap of 400 days, beside a new one"
    )
    require_same(only(seen, ~mine), walk(kept, where(later, ~mine)), "a key while another had a gap")


def inputs_untouched(case: Case) -> None:
    """Nobody writes into an array it was given; arrays that cannot be written to do as well."""
    detector, other = case.new(), case.new()
    for one in (detector, other):
        walk(one, case.past())
    frame = frames.hard(case.rng(), 200, 2, case.width)
    given = copy(frame)
    wanted = detector.step(given)
    detector.score(given)
    for name in ("key", "time_unix_nano", "values", "width", "learn", "status"):
        same = getattr(given, name).tobytes() == getattr(frame, name).tobytes()
        require(same, f"frame.{name} was written to")
        getattr(given, name).setflags(write=False)
    require_same(other.step(given), wanted, "arrays that cannot be written to")


def bytes_per_slot(case: Case) -> None:
    """A slot takes the bytes declared: in the packed state between half of them and all, in memory not thrice."""
    width = WIDTH if case.multivariate else 1
    declared = case.new().info.bytes_per_slot
    rows = [make(np.arange(n), START, np.ones((n, width))) for n in (SLOTS // 2, SLOTS)]
    sizes = []
    for frame in rows:
        detector = case.new()
        detector.step(frame)
        sizes.append(len(packed(detector.state())))
    measured = (sizes[1] - sizes[0]) / (SLOTS - SLOTS // 2)
    require(declared / 2 <= measured <= declared, f"{measured:g} bytes a slot in the state, {declared} are declared")
    detector = case.new()
    tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        detector.step(rows[1])
        held = (tracemalloc.get_traced_memory()[0] - before) / SLOTS
    finally:
        if not tracing:
            tracemalloc.stop()
    require(held <= 3 * declared + 64, f"{held:.0f} bytes a slot are held in memory, {declared} are declared")


def learn_false(case: Case) -> None:
    """Rows with `learn` = False are scored and leave the state as it is."""
    detector, asked = case.new(), case.new()
    for one in (detector, asked):
        walk(one, case.past())
    before, later = packed(detector.state()), case.future()
    for i in range(len(later)):
        row = replace(later.take(np.array([i])), learn=np.zeros(1, np.bool_))
        require_same(detector.step(copy(row)), asked.score(row), "a row not to be learnt, beside score")
        require(packed(detector.state()) == before, "a row with learn=False changed the state")


def statuses_kept(case: Case) -> None:
    """Rows that come with another status than `scored` keep it, get no score and are not learnt."""
    detector, without = case.new(), case.new()
    for one in (detector, without):
        walk(one, case.past())
    later = case.future()
    for i in range(len(later)):
        for status in KEPT:
            row = case.row(int(later.key[i]), int(later.time_unix_nano[i]), 99.0, status=status)
            seen = int(detector.step(row).status[0])
            require(seen == status, f"a row that came as {status.name.lower()} went as {frames.name_of(seen)}")
        row = later.take(np.array([i]))
        require_same(detector.step(row), without.step(copy(row)), "after rows of other statuses, beside without them")


def no_object_per_row(case: Case) -> None:
    """A step over 10,000 rows holds no more Python objects at a time than one over 1,000 (entities: 2,000 and 200)."""
    detector = case.new()
    sizes = (200, 2_000) if case.multivariate else (1_000, 10_000)
    rows = [frames.noise(case.rng(), n, 4, case.width) for n in sizes]
    detector.step(rows[0])
    few, many = (_most_objects(detector, frame) for frame in rows)
    each = (many - few) / (sizes[1] - sizes[0])
    require(each < 0.1, f"a step holds {few} objects over {sizes[0]} rows and {many} over {sizes[1]}: {each:.1f} a row")


def _most_objects(detector: Detector, frame: Frame) -> int:
    """Most Python objects held during a step beyond those before it, looked at as functions are called and return."""
    most, calls, before = 0, 0, sys.getallocatedblocks()
    outer = sys.getprofile()

    def look(*_: Any) -> None:
        nonlocal most, calls
        calls += 1
        if calls < 500 or calls % 64 == 0:
            most = max(most, sys.getallocatedblocks() - before)

    sys.setprofile(look)
    try:
        scores = detector.step(frame)
    finally:
        sys.setprofile(outer)
    most = max(most, sys.getallocatedblocks() - before)
    del scores
    return most


def bands(case: Case) -> None:
    """A detector with an attribute `bands` gives the band of each row before it is learnt when that is set."""
    plain, asked, banded = case.new(), case.new(), case.new()
    if not hasattr(banded, "bands"):
        return
    banded.bands = True
    for frame in (case.past(), case.future()):
        for i in range(len(frame)):
            row = frame.take(np.array([i]))
            seen, wanted = banded.step(copy(row)), asked.score(copy(row))
            require_same(seen, plain.step(copy(row)), "with bands, beside without")
            band_fits(seen, 1, "step with bands", needed=True)
            for name in ("expected", "low", "high"):
                there, before = getattr(seen, name), getattr(wanted, name)
                require(before is None or np.array_equal(there, before, equal_nan=True),
                         f"step with bands gives {name} {there} for row {i}, score before it {before}")  # fmt: skip
            asked.step(row)


def widths(case: Case) -> None:
    """One feature and a thousand; how far rows are padded makes no difference."""
    for width in (1, 1000):
        rows = case.warm_up + 3
        frame = frames.noise(case.rng(), rows, 1, width)
        detector = case.new()
        seen = walk(detector, frame)
        wrong = (seen.status != Status.SCORED) | ~np.isfinite(seen.score)
        require(not wrong[case.warm_up :].any(), f"rows of {width} features have statuses {np.unique(seen.status)}")
        contribution = detector.score(copy(frame)).contribution
        require(contribution is not None and contribution.shape == frame.values.shape,
                 f"rows of {width} features have no contribution of their shape")  # fmt: skip
    narrow = frames.noise(case.rng(), case.warm_up + 8, 1, 3)
    padded = np.full((len(narrow), 16), np.nan)
    padded[:, :3] = narrow.values[:, :3]
    seen = walk(case.new(), replace(narrow, values=padded))
    require_same(seen, walk(case.new(), narrow), "3 features in frames of 16 columns, beside 4")


def features_come_and_go(case: Case) -> None:
    """A feature that appears warms up alone, one that vanishes is missing: the row stays `scored`."""
    detector = case.new()
    rng = case.rng()
    walk(detector, frames.noise(rng, case.warm_up + 5, 1, 3))
    for at, (width, gone) in enumerate(((5, None), (5, 0), (9, 1)), 1):
        frame = frames.noise(rng, case.warm_up + 5, 1, width, START + at * DAY)
        values = frame.values.copy()
        if gone is not None:
            values[:, gone] = np.nan
        seen = walk(detector, replace(frame, values=values))
        wrong = (seen.status != Status.SCORED) | ~np.isfinite(seen.score)
        require(not wrong.any(), f"with {width} features{'' if gone is None else f', {gone} vanished'}, "
                 f"{np.count_nonzero(wrong)} rows have no finite score")  # fmt: skip


def twin(case: Case) -> None:
    """The naive twin gives the same scores and statuses on rows of every kind."""
    if case.twin is None:
        return
    frame = join(case.past(3), frames.hard(case.rng(), 40 * case.warm_up + 1200, 3, case.width))
    detector, naive = case.new(), case.twin(case.config)
    seen = merge([detector.step(piece) for piece in frames.cuts(case.rng(), frame)])
    values = [row[:width] for row, width in zip(frame.values.tolist(), frame.width.tolist(), strict=True)]
    score, status = naive.step(
        frame.key.tolist(), frame.time_unix_nano.tolist(), values, frame.learn.tolist(), frame.status.tolist()
    )
    wanted = Scores(np.array(score, np.float64), np.array(status, np.uint8))
    if case.twin_tolerance and np.allclose(
        seen.score, wanted.score, case.twin_tolerance, case.twin_tolerance, equal_nan=True
    ):
        wanted = Scores(seen.score, wanted.status)
    require_same(seen, wanted, "beside the twin")


CHECKS: tuple[Callable[[Case], None], ...] = (
    info, results, zero_rows, warm_up, batch_cuts, score_changes_nothing, score_first, score_rows_alone, restore,
    slots_independent, missing_values, constants, scale_jumps, duplicate_times, growth, forget, expiry,
    inputs_untouched, bytes_per_slot, learn_false, statuses_kept, no_object_per_row, bands, twin,
)  # fmt: skip
MULTIVARIATE_CHECKS: tuple[Callable[[Case], None], ...] = (widths, features_come_and_go)
