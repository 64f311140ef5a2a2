"""BLAKE2b of many short texts at once, the first 64 bits of it (RFC 7693, unkeyed, digest of 8 bytes).

Eight texts go through the function side by side, each in a lane of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from foreshock.state.jit import entry

LANES, WORDS, BLOCK = 8, 16, 128
"""Texts at once; numbers of 64 bits in a block; its bytes."""
_START = (
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
)  # fmt: skip
_PARAMETERS = 0x01010008
"""One thread, no key, a digest of 8 bytes."""
_FIRST = np.repeat(np.array([_START[0] ^ _PARAMETERS, *_START[1:]], np.uint64), LANES)
_ORDER = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4), (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13), (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11), (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5), (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)  # fmt: skip
"""Which word is taken when, in each round; the last two rounds are as the first two."""
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def blake2b_64(data: NDArray[np.uint8], start: NDArray[Any], end: NDArray[Any]) -> NDArray[np.uint64]:
    """The hash of each text: uint64[n], little-endian; text i is `data[start[i]:end[i]]`."""
    out = np.empty(len(start), np.uint64)
    block, lane = np.zeros(LANES * BLOCK, np.uint8), np.empty((3, LANES), np.uint64)
    state, words = np.empty(8 * LANES, np.uint64), np.empty(WORDS * LANES, np.uint64)
    _hash_all(data, start, end, block, block.view("<u8"), state, words, lane[0], lane[1], lane[2], out)
    return out


def _compress_code(context: Any, state: Any, words: Any, count: Any, last: Any, live: Any) -> Any:
    """Take a block of each lane into its state: `state uint64[8 · 8]`, `words uint64[16 · 8]`, lanes side by side.

    `count uint64[8]` bytes so far, with the block; `last` and `live` all bits for the last block, and for lanes that
    have one.
    """
    vector = ir.VectorType(ir.IntType(64), LANES)

    def constant(value: int) -> Any:
        return ir.Constant(vector, [value] * LANES)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def place(argument: int, at: int) -> Any:
            data = context.make_array(signature.args[argument])(context, builder, args[argument]).data
            return builder.bitcast(builder.gep(data, [ir.IntType(64)(at * LANES)]), vector.as_pointer())

        def load(argument: int, at: int = 0) -> Any:
            return builder.load(place(argument, at), align=8)

        def turned(x: Any, n: int) -> Any:
            return builder.or_(builder.lshr(x, constant(n)), builder.shl(x, constant(64 - n)))

        def mix(a: int, b: int, c: int, d: int, first: Any, second: Any) -> None:
            for more, one, other in ((first, 32, 24), (second, 16, 63)):
                v[a] = builder.add(builder.add(v[a], v[b]), more)
                v[d] = turned(builder.xor(v[d], v[a]), one)
                v[c] = builder.add(v[c], v[d])
                v[b] = turned(builder.xor(v[b], v[c]), other)

        h, m = [load(0, k) for k in range(8)], [load(1, k) for k in range(WORDS)]
        v = [*h, *map(constant, _START)]
        v[12], v[14] = builder.xor(v[12], load(2)), builder.xor(v[14], load(3))
        for order in (*_ORDER, *_ORDER[:2]):
            for k, quarter in enumerate((*_COLUMNS, *_DIAGONALS)):
                mix(*quarter, m[order[2 * k]], m[order[2 * k + 1]])
        kept = load(4)
        for k in range(8):
            change = builder.and_(builder.xor(v[k], v[k + 8]), kept)
            builder.store(builder.xor(h[k], change), place(0, k), align=8)
        return context.get_dummy_value()

    return types.void(state, words, count, last, live), generate


_compress: Any = intrinsic(_compress_code)


@entry
def _hash_all(
    data: Any, start: Any, end: Any, block: Any, numbers: Any, state: Any, words: Any, count: Any, last: Any, live: Any,
    out: Any,
) -> None:  # fmt: skip
    """`numbers` are the bytes of `block`, a block a lane."""
    all_bits, none = ~np.uint64(0), np.uint64(0)
    for first in range(0, len(out), LANES):
        many = min(LANES, len(out) - first)
        most = 0
        for lane in range(many):
            most = max(most, end[first + lane] - start[first + lane])
        for k in range(len(state)):
            state[k] = _FIRST[k]
        live[:] = none
        for at in range(0, max(most, 1), BLOCK):
            for lane in range(many):
                length = end[first + lane] - start[first + lane]
                size = min(max(length - at, 0), BLOCK)
                for k in range(size):
                    block[lane * BLOCK + k] = data[start[first + lane] + at + k]
                for k in range(size, BLOCK):
                    block[lane * BLOCK + k] = 0
                for k in range(WORDS):
                    words[k * LANES + lane] = numbers[lane * WORDS + k]
                count[lane] = np.uint64(at + size)
                last[lane] = all_bits if at + BLOCK >= length else none
                live[lane] = all_bits if at == 0 or at < length else none
            _compress(state, words, count, last, live)
        for lane in range(many):
            out[first + lane] = state[lane]
