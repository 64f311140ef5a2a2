"""Re-keyed messages come out in the order of event time, and no older one comes later."""

from __future__ import annotations

import numpy as np
import pytest

from foreshock.adapters.kafka.keys import murmur2, partition_of
from foreshock.adapters.kafka.messages import Forward
from foreshock.runtime.distributed_merge import GRACE_NANO, Merge

SECOND = 1_000_000_000
ORIGINS = 4


def message(origin: int, time: int) -> Forward:
    return Forward(f"t/{origin}", ORIGINS, "t", time)


def mark(origin: int, time: int | None, ended: bool = False) -> Forward:
    return Forward(f"t/{origin}", ORIGINS, "t", time, ended=ended)


def merge(lateness: int = 5) -> Merge:
    return Merge(lambda source: lateness * SECOND)


@pytest.mark.parametrize("seed", range(5))
def test_order_of_one_stream_survives_its_origins(seed: int) -> None:
    """A stream in order is spread over origins, and these are read at speeds of their own."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(0, 3, 400)) * SECOND
    where = rng.integers(0, ORIGINS, len(times))
    queues = [list(times[where == origin]) for origin in range(ORIGINS)]
    one, out, clock = merge(), [], 0
    while any(queues):
        origin = int(rng.choice([o for o in range(ORIGINS) if queues[o]]))
        for _ in range(int(rng.integers(1, 30))):
            if queues[origin]:
                one.hold(message(origin, int(queues[origin].pop(0))), b"", clock)
        clock += SECOND // 10
        last = one.origins[f"t/{origin}"].time
        one.mark(mark(origin, last, ended=not queues[origin]), clock)
        for other in range(ORIGINS):
            if not queues[other]:
                known = one.origins.get(f"t/{other}")
                one.mark(mark(other, known.time if known else None, ended=True), clock)
        out += [held.time for held in one.release()]
        if rng.random() < 0.1:
            again = merge()
            again.decode(one.encode())
            one = again
    assert out == sorted(times.tolist())
    assert not len(one)
    assert one.watermark() == int(times[-1]) - 5 * SECOND


def test_nothing_is_released_before_all_origins_have_spoken() -> None:
    one = merge()
    one.hold(message(0, 10 * SECOND), b"", 0)
    one.mark(mark(0, 10 * SECOND), 0)
    assert list(one.release()) == []
    for origin in range(1, ORIGINS):
        one.mark(mark(origin, 11 * SECOND), 0)
    assert [held.time for held in one.release()] == [10 * SECOND]


def test_an_origin_at_its_end_holds_nobody_while_it_says_so() -> None:
    one = merge()
    for origin in range(ORIGINS):
        one.mark(mark(origin, origin * SECOND, ended=origin != 3), SECOND)
    assert one.level() == 3 * SECOND
    # The others go on, but origin 0 has said nothing for too long: its worker may be gone.
    for origin in range(1, ORIGINS):
        one.mark(mark(origin, 50 * SECOND), 2 * SECOND + GRACE_NANO)
    assert one.level() == 0


def test_the_clock_of_the_log_counts_not_ours() -> None:
    one = merge()
    for origin in range(ORIGINS):
        one.mark(mark(origin, SECOND), 100 * SECOND)
    one.mark(mark(0, 2 * SECOND, ended=True), 90 * SECOND)
    assert one.level() == SECOND


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_are_hashed_as_java_does(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF
    assert partition_of(key, 6) == (signed & 0x7FFFFFFF) % 6
