"""`half_space_trees`: river's numbers, its contract and its twin, bounds that follow, what it blames, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees as River

from foreshock.detect.half_space_trees import HalfSpaceTrees
from foreshock.errors import ConfigError, PermanentError
from foreshock.state import pack, unpack
from foreshock.testing import check_detector, check_names
from foreshock.testing.frames import DAY, MINUTE, START, make
from foreshock.types import Frame, Status
from tests.unit.forest_twins import HalfSpaceTreesTwin

SMALL: dict[str, Any] = {"n_trees": 4, "height": 4, "window_size": 20}
PLAIN: dict[str, Any] = {"scale": "none"}


def frame(values: NDArray[np.float64], start: int = START, step: int = MINUTE, key: int = 0) -> Frame:
    return make(np.full(len(values), key), start + step * np.arange(len(values)), values)


def clusters(rng: np.random.Generator, rows: int, width: int = 4) -> NDArray[np.float64]:
    """Numbers in [0, 1] around two places, now and then anywhere."""
    values = np.where(rng.random((rows, 1)) < 0.7, 0.3, 0.8) + 0.05 * rng.normal(size=(rows, width))
    anywhere = rng.random(rows) < 0.03
    values[anywhere] = rng.random((np.count_nonzero(anywhere), width))
    return values


def river_scores(config: Mapping[str, Any], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """river's own scores, each before its row is learnt; NaN is a feature that the row does not have."""
    made: Any = River(seed=42, **config)
    out = []
    for row in values.tolist():
        x = {j: value for j, value in enumerate(row) if value == value}
        out.append(made.score_one(x))
        made.learn_one(x)
    return np.array(out)


@pytest.mark.parametrize("width", [1, 4, 11])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"n_trees": 25, "height": 8, "window_size": 250},
        {"n_trees": 3, "height": 13, "window_size": 60},
        {"n_trees": 7, "height": 5, "window_size": 300},
        {"n_trees": 2, "height": 1, "window_size": 2},
    ],
    ids=str,
)
def test_it_gives_the_numbers_of_river_over_many_windows(config: Mapping[str, int], width: int) -> None:
    window = config.get("window_size", 250)
    values = clusters(np.random.default_rng(width), 5 * window + 17, width)
    seen = HalfSpaceTrees({**PLAIN, **config}).step(frame(values))
    assert (seen.status[:window] == Status.WARMING_UP).all()
    assert (seen.status[window:] == Status.SCORED).all()
    np.testing.assert_array_equal(seen.score[window:], river_scores(config, values)[window:])
    assert len(np.unique(seen.score[window:])) > 2


def test_it_gives_the_numbers_of_river_where_features_are_missing() -> None:
    config = {"n_trees": 6, "height": 7, "window_size": 100}
    rng = np.random.default_rng(0)
    values = clusters(rng, 700, 5)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 2] = np.nan
    values[0] = 0.5
    values[np.isnan(values).all(axis=1), 0] = 0.5
    seen = HalfSpaceTrees({**PLAIN, **config}).step(frame(values))
    np.testing.assert_array_equal(seen.score[100:], river_scores(config, values)[100:])


def test_the_seed_decides_where_trees_split() -> None:
    values = clusters(np.random.default_rng(1), 600)
    first, again, other = (HalfSpaceTrees({**SMALL, "seed": seed}).step(frame(values)).score for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first[20:] != other[20:]).mean() > 0.5


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        {"n_trees": 3, "height": 7, "window_size": 25, "warm_up_rows": 40, "range_half_life_seconds": 600},
    ],
    ids=str,
)
def test_it_keeps_the_contract_and_agrees_with_its_twin(config: Mapping[str, Any], seed: int) -> None:
    check_detector(HalfSpaceTrees, config=config, univariate=False, twin=HalfSpaceTreesTwin, seed=seed)


def test_it_keeps_the_contract_as_it_ships() -> None:
    check_detector(HalfSpaceTrees, univariate=False)


def test_unscaled_it_keeps_the_contract_but_sees_nothing_beyond_its_limits() -> None:
    checks = [name for name in check_names() if name != "constants"]
    config = {**SMALL, "scale": "none", "limits": (-5, 40)}
    check_detector(HalfSpaceTrees, config=config, univariate=False, twin=HalfSpaceTreesTwin, only=checks)


def test_the_twin_agrees_while_an_entity_grows() -> None:
    """Columns 2, 3 and 12 come one after the other, and one vanishes: two kinds of trees at a time, further lanes."""
    rng = np.random.default_rng(2)
    widths = [2] * 70 + [3] * 55 + [12] * 120
    rows = [[float(v) for v in 50 + 10 * rng.normal(size=width)] for width in widths]
    for i in range(90, 200, 3):
        rows[i][1] = np.nan
    detector, twin = HalfSpaceTrees(SMALL), HalfSpaceTreesTwin(SMALL)
    seen = []
    for i, row in enumerate(rows):
        one = detector.step(make([0], START + MINUTE * i, [row]))
        seen.append((float(one.score[0]), int(one.status[0])))
    score, status = twin.step([0] * len(rows), [START + MINUTE * i for i in range(len(rows))], rows,
                              [True] * len(rows), [0] * len(rows))  # fmt: skip
    np.testing.assert_array_equal([s for s, _ in seen], score)
    assert [s for _, s in seen] == status
    assert int(detector.table.rows["scoring"][0]) == 12


def test_new_columns_count_from_the_end_of_the_next_whole_window_on() -> None:
    values = clusters(np.random.default_rng(3), 200, 3)
    detector = HalfSpaceTrees(SMALL)
    detector.step(frame(values[:50, :2]))
    scoring = []
    for i in range(50, 90):
        detector.step(frame(values[i : i + 1], START + MINUTE * i))
        scoring.append(int(detector.table.rows["scoring"][0]))
    assert scoring == [2] * 29 + [3] * 11, "the window of rows 40 to 59 is of two features, the next of three"


def test_units_make_no_difference() -> None:
    values = clusters(np.random.default_rng(4), 300)
    seen = [HalfSpaceTrees(SMALL).step(frame(values * unit)).score for unit in (1.0, 2.0**-30, 2.0**40)]
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


def test_bounds_take_in_what_is_seen_and_draw_near_again() -> None:
    rng = np.random.default_rng(5)
    detector = HalfSpaceTrees({"window_size": 100})
    values = rng.normal(size=(1000, 1))
    detector.step(frame(values))
    low, high = (float(detector.table.rows[name][0][0]) for name in ("low", "high"))
    assert -4 < low < -2
    assert 2 < high < 4
    detector.step(frame(np.array([[1e9]]), START + 1000 * MINUTE))
    assert float(detector.table.rows["high"][0][0]) == pytest.approx(high + 0.25 * (high - low), rel=1e-6)
    quiet = np.where(np.arange(20_000) % 2, 0.1, -0.1).reshape(-1, 1)
    detector.step(frame(quiet, START + 1001 * MINUTE))
    assert float(detector.table.rows["high"][0][0]) < 0.2


def test_a_shift_is_taken_in_within_a_few_rows() -> None:
    rng = np.random.default_rng(6)
    detector = HalfSpaceTrees({"window_size": 100})
    detector.step(frame(rng.normal(size=(500, 1))))
    detector.step(frame(60 + rng.normal(size=(20, 1)), START + 500 * MINUTE))
    assert float(detector.table.rows["high"][0][0]) > 60


@pytest.mark.parametrize("feature", [0, 2, 6])
def test_the_feature_that_moved_has_the_largest_contribution(feature: int) -> None:
    values = clusters(np.random.default_rng(7), 1001, 7)
    values[1000] = 0.3
    values[1000, feature] = 0.55
    values[1000, (feature + 1) % 7] = np.nan
    detector = HalfSpaceTrees({"n_trees": 40})
    detector.contributions = True
    given = detector.step(frame(values)).contribution
    assert given is not None
    assert given.shape == (1001, 8)
    assert np.nanargmax(given[1000]) == feature
    assert np.isnan(given[1000][[(feature + 1) % 7, 7]]).all(), "what is missing, or no feature, has no part"
    assert np.isnan(given[:250]).all(), "nor has anything before it is warm"


def test_what_was_constant_and_moves_scores_highest() -> None:
    values = clusters(np.random.default_rng(8), 601)
    values[:, 1] = 7.0
    values[600] = values[300]
    before = HalfSpaceTrees().step(frame(values)).score[600]
    values[600, 1] = 7.001
    assert HalfSpaceTrees().step(frame(values)).score[600] > before


def test_odd_entities_get_a_status_or_a_number() -> None:
    detector = HalfSpaceTrees(SMALL)
    rng = np.random.default_rng(9)
    wide = detector.step(frame(rng.normal(size=(60, 1000))))
    assert np.isfinite(wide.score[20:]).all()
    assert (detector.step(frame(np.full((30, 3), np.nan), key=1)).status == Status.MISSING).all()
    constant = detector.step(frame(np.full((60, 1), 3.0), key=2))
    assert (constant.score[20:] == 0.0).all(), "all rows of the window in one leaf of each tree"
    huge = detector.step(frame(10.0 ** rng.uniform(-308, 308, (90, 4)) * rng.choice([-1, 1], (90, 4)), key=3))
    assert np.isfinite(huge.score[20:]).all()


def test_a_gap_starts_afresh_with_nothing_left_over() -> None:
    detector, new = HalfSpaceTrees(SMALL), HalfSpaceTrees(SMALL)
    detector.step(frame(clusters(np.random.default_rng(10), 333, 12)))
    later = frame(clusters(np.random.default_rng(11), 30, 12), START + 400 * DAY)
    for one in (detector, new):
        one.step(later)
    assert pack(detector.state()) == pack(new.state())


def test_wide_entities_are_restored_and_grow_alike() -> None:
    values = 50 + np.random.default_rng(12).normal(size=(120, 40))
    detector = HalfSpaceTrees(SMALL)
    detector.step(frame(values[:60, :20]))
    other = HalfSpaceTrees.restore(SMALL, unpack(pack(detector.state())))
    later = replace(frame(values[60:]), time_unix_nano=START + DAY + MINUTE * np.arange(60))
    np.testing.assert_array_equal(detector.step(later).score, other.step(later).score)
    assert pack(detector.state()) == pack(other.state())


def test_a_slot_of_ten_trees_is_small() -> None:
    assert HalfSpaceTrees().info.bytes_per_slot <= 4_600
    assert HalfSpaceTrees({"window_size": 256}).info.bytes_per_slot <= 7_000


def test_a_state_of_other_trees_is_refused() -> None:
    detector = HalfSpaceTrees(SMALL)
    detector.step(frame(np.ones((1, 2))))
    with pytest.raises(PermanentError, match=r"bytes a slot, its config asks for 4512"):
        HalfSpaceTrees.restore({}, detector.state())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"window": 3}, r"window: unknown option; did you mean 'window_size'\?"),
        ({"window_size": 30, "warm_up_rows": 20}, r"warm_up_rows \(20\) must not be below window_size \(30\)"),
        ({"n_trees": 100, "height": 15}, r"100 trees of height 15 have more than 1,048,576 leaves"),
        ({"scale": "none", "limits": (1, 1)}, r"limits \(1\.0, 1\.0\) are no range of numbers"),
        ({"limits": (0, 2)}, r"limits need scale: none"),
    ],
)
def test_wrong_options_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message):
        HalfSpaceTrees(config)
