"""BLAKE2b of many short texts at once, the first 64 bits of it (RFC 7693, unkeyed, digest of 8 bytes)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.state.jit import entry, inner

_IV = np.array(
    [0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
     0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179], np.uint64
)  # fmt: skip
_PARAMETERS = np.uint64(0x01010008)
"""One thread, no key, a digest of 8 bytes."""
_SIGMA = np.array(
    [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
     [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
     [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
     [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
     [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
     [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
     [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
     [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
     [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
     [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
     [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
     [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3]], np.int64
)  # fmt: skip
BLOCK = 128


def blake2b_64(data: NDArray[np.uint8], offsets: NDArray[Any]) -> NDArray[np.uint64]:
    """The hash of each text: uint64[n], little-endian; text i is `data[offsets[i]:offsets[i + 1]]`."""
    out = np.empty(len(offsets) - 1, np.uint64)
    block, h = np.zeros(BLOCK, np.uint8), np.empty(8, np.uint64)
    _hash_all(data, offsets, block, block.view("<u8"), h, out)
    return out


@inner
def _turned(x: Any, n: int) -> Any:
    return (x >> np.uint64(n)) | (x << np.uint64(64 - n))


@inner
def _mixed(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    a = a + b + x
    d = _turned(d ^ a, 32)
    c = c + d
    b = _turned(b ^ c, 24)
    a = a + b + y
    d = _turned(d ^ a, 16)
    c = c + d
    b = _turned(b ^ c, 63)
    return a, b, c, d


@inner
def _compress(h: Any, m: Any, count: Any, last: bool) -> None:
    """Take a block of 16 words into `h`; `count` bytes so far, with it."""
    a0, a1, a2, a3, b0, b1, b2, b3 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    c0, c1, c2, c3 = _IV[0], _IV[1], _IV[2], _IV[3]
    d0, d1, d2, d3 = _IV[4] ^ count, _IV[5], _IV[6], _IV[7]
    if last:
        d2 = ~d2
    for r in range(12):
        s = _SIGMA[r]
        a0, b0, c0, d0 = _mixed(a0, b0, c0, d0, m[s[0]], m[s[1]])
        a1, b1, c1, d1 = _mixed(a1, b1, c1, d1, m[s[2]], m[s[3]])
        a2, b2, c2, d2 = _mixed(a2, b2, c2, d2, m[s[4]], m[s[5]])
        a3, b3, c3, d3 = _mixed(a3, b3, c3, d3, m[s[6]], m[s[7]])
        a0, b1, c2, d3 = _mixed(a0, b1, c2, d3, m[s[8]], m[s[9]])
        a1, b2, c3, d0 = _mixed(a1, b2, c3, d0, m[s[10]], m[s[11]])
        a2, b3, c0, d1 = _mixed(a2, b3, c0, d1, m[s[12]], m[s[13]])
        a3, b0, c1, d2 = _mixed(a3, b0, c1, d2, m[s[14]], m[s[15]])
    h[0] ^= a0 ^ c0
    h[1] ^= a1 ^ c1
    h[2] ^= a2 ^ c2
    h[3] ^= a3 ^ c3
    h[4] ^= b0 ^ d0
    h[5] ^= b1 ^ d1
    h[6] ^= b2 ^ d2
    h[7] ^= b3 ^ d3


@entry
def _hash_all(data: Any, offsets: Any, block: Any, words: Any, h: Any, out: Any) -> None:
    """`words` are the bytes of `block`."""
    for i in range(len(out)):
        at, end = offsets[i], offsets[i + 1]
        length = end - at
        for k in range(8):
            h[k] = _IV[k]
        h[0] ^= _PARAMETERS
        done = np.uint64(0)
        while length > BLOCK:
            for k in range(BLOCK):
                block[k] = data[at + k]
            at, length, done = at + BLOCK, length - BLOCK, done + np.uint64(BLOCK)
            _compress(h, words, done, False)
        for k in range(length):
            block[k] = data[at + k]
        for k in range(length, BLOCK):
            block[k] = 0
        _compress(h, words, done + np.uint64(length), True)
        out[i] = h[0]
