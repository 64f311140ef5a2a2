"""Re-keyed messages come out in the order of event time, and no older one comes later."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from foreshock.adapters.kafka.keys import murmur2, partition_of
from foreshock.adapters.kafka.messages import Forward
from foreshock.runtime.distributed_merge import Merge

SECOND = 1_000_000_000
ORIGINS = 4


def message(origin: int, time: int | None, written: int) -> Forward:
    return Forward(f"t/{origin}", ORIGINS, "t", time, written)


def mark(origin: int, time: int | None, written: int = 0, until: int = 0, source: str = "t") -> Forward:
    return Forward(f"{source}/{origin}", ORIGINS, source, time, written, until=until)


def merge(lateness: int = 5) -> Merge:
    return Merge(lambda source: lateness * SECOND)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_order_of_one_stream_survives_its_origins(seed: int, live: bool, together: bool) -> None:
    """A stream in order is spread over origins, and these are read at speeds of their own.

    Live, it is written while it is read, a thousand times as fast as it happens; together, what is read at once is one
    message.
    """
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(0, 3, 400)) * SECOND
    written = times // 1000
    where = rng.integers(0, ORIGINS, len(times))
    queues = [list(zip(times[where == o].tolist(), written[where == o].tolist(), strict=True)) for o in range(ORIGINS)]
    one, out = merge(), []
    last: list[tuple[int | None, int]] = [(None, 0)] * ORIGINS
    clock = 0 if live else int(written[-1]) + 1
    while any(queues) or len(one):
        clock += int(rng.integers(0, SECOND // 100))
        origin, count = int(rng.integers(ORIGINS)), int(rng.integers(1, 30))
        read = []
        while count and queues[origin] and queues[origin][0][1] < clock:
            last[origin] = queues[origin].pop(0)
            read.append(last[origin][0])
            if not together:
                one.hold(message(origin, *last[origin]), b"")
            count -= 1
        if together and read:
            one.hold(structs.replace(message(origin, *last[origin]), times=read), b"\n" * (len(read) - 1))
        ended = not queues[origin] or queues[origin][0][1] >= clock
        one.mark(mark(origin, *last[origin], until=clock - 1 if ended else 0), clock)
        out += [held.time for held in one.release()]
        if rng.random() < 0.1:
            again = merge()
            again.decode(one.encode())
            one = again
    assert out == times.tolist()
    assert one.watermark() == int(times[-1]) - 5 * SECOND


def test_nothing_is_released_before_all_origins_have_spoken() -> None:
    one = merge()
    one.hold(message(0, 10 * SECOND, 1), b"")
    one.mark(mark(0, 10 * SECOND, 1), 0)
    assert list(one.release()) == []
    for origin in range(1, ORIGINS):
        one.mark(mark(origin, 11 * SECOND, 1), 0)
    assert [held.time for held in one.release()] == [10 * SECOND]


def test_an_origin_that_brings_nothing_holds_nobody_one_that_is_not_read_holds_everybody() -> None:
    one = merge()
    for origin in range(ORIGINS):
        one.mark(mark(origin, 10 * SECOND if origin else None, written=100, until=99), 100)
    assert one.level() is None, "what origin 0 had when the others brought that is not known"
    one.mark(mark(0, None, until=101), 101)
    assert one.level() == 10 * SECOND
    for origin in range(1, ORIGINS):
        one.mark(mark(origin, 50 * SECOND, written=200, until=300), 300)
    assert one.level() == 10 * SECOND, "origin 0 was last at its end before that was written"
    one.mark(mark(0, None, until=300), 300)
    assert one.level() == 50 * SECOND


def test_an_input_without_messages_and_one_that_ended_long_ago_hold_nobody() -> None:
    one, now = merge(), 10_000 * SECOND
    for origin in range(ORIGINS):
        one.mark(mark(origin, now, written=now, until=now), now)
        one.mark(mark(origin, None, until=now, source="never"), now)
        one.mark(mark(origin, 10 * SECOND, written=11 * SECOND, until=now, source="old"), now)
    assert one.level() == now
    # Nobody reads it any more: what came in meanwhile is not known.
    for origin in range(ORIGINS):
        one.mark(mark(origin, now + 9 * SECOND, written=now, until=now + 9 * SECOND), now + 9 * SECOND)
    assert one.level() == 10 * SECOND


def test_a_worker_whose_clock_has_leapt_has_not_read_the_future() -> None:
    one = merge()
    for origin in range(ORIGINS):
        one.mark(mark(origin, 10 * SECOND, written=100, until=99 if origin else 10**18), 150)
    one.mark(mark(1, 90 * SECOND, written=200, until=199), 200)
    assert one.level() == 10 * SECOND


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
