"""Stretches: their bytes, joining them, and layers of different resolution of one series."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from foreshock.errors import PermanentError
from foreshock.runtime.history import layered
from foreshock.runtime.stretch import COLUMNS, Stretch, empty, join, pack, unpack

SECOND = 1_000_000_000


def stretch_of(times: list[int], seconds: int = 0, rows: int = 1, value: float | None = None, **more: Any) -> Stretch:
    n = len(times)
    numbers = np.array(times, np.float64) if value is None else np.full(n, value)
    strength = {name: np.array(one, np.float64) for name, one in more.items()}
    return Stretch(
        np.full(n, seconds, np.int32), np.array(times, np.int64) * SECOND, np.full(n, rows, np.int32), numbers, numbers,
        numbers, numbers, numbers, numbers, np.zeros(n, np.bool_), np.zeros(n, np.uint8), strength,
    )  # fmt: skip


def noise(n: int, seconds: int, level: float) -> Stretch:
    rng = np.random.default_rng(n)
    value = level + rng.normal(size=n)
    value[rng.random(n) < 0.1] = np.nan
    least, most = (value - rng.random(n), value + rng.random(n)) if seconds else (value, value)
    expected, low, high = (level + rng.normal(size=n) for _ in range(3))
    low[:5] = np.nan
    strength = rng.normal(-3, 2, n)
    strength[:4] = np.nan
    return Stretch(
        np.full(n, seconds, np.int32), (np.cumsum(rng.integers(1, 4, n)) * max(seconds, 5) + 1_700_000_000) * SECOND,
        rng.integers(1, 99, n).astype(np.int32) if seconds else np.ones(n, np.int32), value, least, most,
        expected, low, high, rng.random(n) < 0.1, rng.integers(0, 5, n).astype(np.uint8),
        {"one": strength, "never": np.full(n, np.nan)},
    )  # fmt: skip


@pytest.mark.parametrize("level", [0.0, -3e-7, 1e12])
@pytest.mark.parametrize("seconds", [0, 60, 600])
def test_bytes_come_back_as_exactly_as_a_chart_can_show(seconds: int, level: float) -> None:
    sent = noise(240, seconds, level)
    back = unpack(pack(sent), seconds)
    for name in ("seconds", "time_unix_nano", "rows", "anomalous", "status"):
        np.testing.assert_array_equal(getattr(back, name), getattr(sent, name), name)
    np.testing.assert_allclose(back.value, sent.value, rtol=0 if not seconds else 1e-9)
    # The rest keeps four digits of its distance from the value, however large that is, also where no value is known.
    for name in ("least", "most", "expected", "low", "high"):
        wanted = getattr(sent, name)
        np.testing.assert_allclose(getattr(back, name), wanted, atol=0.01 + 1e-9 * abs(level), err_msg=name)
    known = ~np.isnan(sent.value)
    assert (back.least[known] <= back.value[known]).all()
    assert (back.most[known] >= back.value[known]).all()
    np.testing.assert_allclose(back.strength["one"], sent.strength["one"], atol=0.01)
    assert "never" not in back.strength, "what no detector said takes no room"


def test_what_is_no_stretch_is_refused() -> None:
    data = pack(noise(10, 60, 0.0))
    newer = bytearray(zlib.decompress(data))
    newer[5] = 99
    for broken in (b"", data[:-3], zlib.compress(b"\x01\x00\x00\x00x"), zlib.compress(bytes(newer)),
                   zlib.compress(zlib.decompress(data)[:-9])):  # fmt: skip
        with pytest.raises(PermanentError):
            unpack(broken, 60)


def test_of_two_that_begin_at_the_same_time_the_first_counts() -> None:
    a, b = stretch_of([1, 2, 3], value=1.0, one=[0.1, 0.2, 0.3]), stretch_of([2, 3, 4], value=2.0, two=[7, 8, 9])
    both = join([a, b])
    assert (both.time_unix_nano // SECOND).tolist() == [1, 2, 3, 4]
    assert both.value.tolist() == [1.0, 1.0, 1.0, 2.0]
    np.testing.assert_array_equal(both.strength["two"], [np.nan, np.nan, np.nan, 9])
    np.testing.assert_array_equal(both.strength["one"], [0.1, 0.2, 0.3, np.nan])
    assert len(join([])) == len(join([empty(), empty()])) == 0
    coarse = stretch_of([2], seconds=60, value=5.0)
    assert len(join([a, coarse])) == 4, "a bucket and a point are not the same"


def test_layers_hold_every_row_once() -> None:
    points = stretch_of(list(range(1000, 1200, 10)))
    # The first bucket is known only as such, of the second there are points, of the third a few.
    minutes = stretch_of([960, 1020, 1080, 1140], seconds=60, rows=6, value=-1.0)
    few = points.take(points.time_unix_nano >= 1020 * SECOND)
    few = few.take((few.time_unix_nano < 1080 * SECOND) | (few.time_unix_nano >= 1170 * SECOND))
    found = layered([few, minutes])
    assert found.seconds.tolist() == [60] + [0] * 6 + [60] + [0] * 3
    assert (found.time_unix_nano // SECOND).tolist() == [
        960,
        1020,
        1030,
        1040,
        1050,
        1060,
        1070,
        1080,
        1170,
        1180,
        1190,
    ]
    assert found.rows.sum() == 6 + 6 + 6 + 3
    assert layered([empty(), minutes]).seconds.tolist() == [60] * 4
    assert layered([points, empty()]).value.tolist() == points.value.tolist()


def test_layers_may_be_three() -> None:
    tens = stretch_of([0, 600, 1200], seconds=600, rows=60, value=3.0)
    minutes = stretch_of(list(range(600, 1800, 60)), seconds=60, rows=6, value=2.0)
    points = stretch_of(list(range(1200, 1800, 10)), value=1.0)
    found = layered([points, minutes, tens])
    assert found.seconds.tolist() == [600] + [60] * 10 + [0] * 60
    assert found.rows.sum() == 180
    assert all(len(getattr(found, name)) == 71 for name in COLUMNS)
