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
BLOCK = 128


def blake2b_64(data: NDArray[np.uint8], start: NDArray[Any], end: NDArray[Any]) -> NDArray[np.uint64]:
    """The hash of each text: uint64[n], little-endian; text i is `data[start[i]:end[i]]`."""
    out = np.empty(len(start), np.uint64)
    block, h = np.zeros(BLOCK, np.uint8), np.empty(8, np.uint64)
    _hash_all(data, start, end, block, block.view("<u8"), h, out)
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
def _round(v: Any, *m: Any) -> Any:
    a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3 = v
    a0, b0, c0, d0 = _mixed(a0, b0, c0, d0, m[0], m[1])
    a1, b1, c1, d1 = _mixed(a1, b1, c1, d1, m[2], m[3])
    a2, b2, c2, d2 = _mixed(a2, b2, c2, d2, m[4], m[5])
    a3, b3, c3, d3 = _mixed(a3, b3, c3, d3, m[6], m[7])
    a0, b1, c2, d3 = _mixed(a0, b1, c2, d3, m[8], m[9])
    a1, b2, c3, d0 = _mixed(a1, b2, c3, d0, m[10], m[11])
    a2, b3, c0, d1 = _mixed(a2, b3, c0, d1, m[12], m[13])
    a3, b0, c1, d2 = _mixed(a3, b0, c1, d2, m[14], m[15])
    return a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3


@inner
def _compress(h: Any, m: Any, count: Any, last: bool) -> None:
    """Take a block of 16 words into `h`; `count` bytes so far, with it."""
    end = ~_IV[6] if last else _IV[6]
    v = (
        h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7],
        _IV[0], _IV[1], _IV[2], _IV[3], _IV[4] ^ count, _IV[5], end, _IV[7],
    )  # fmt: skip
    v = _round(v, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], m[9], m[10], m[11], m[12], m[13], m[14], m[15])
    v = _round(v, m[14], m[10], m[4], m[8], m[9], m[15], m[13], m[6], m[1], m[12], m[0], m[2], m[11], m[7], m[5], m[3])
    v = _round(v, m[11], m[8], m[12], m[0], m[5], m[2], m[15], m[13], m[10], m[14], m[3], m[6], m[7], m[1], m[9], m[4])
    v = _round(v, m[7], m[9], m[3], m[1], m[13], m[12], m[11], m[14], m[2], m[6], m[5], m[10], m[4], m[0], m[15], m[8])
    v = _round(v, m[9], m[0], m[5], m[7], m[2], m[4], m[10], m[15], m[14], m[1], m[11], m[12], m[6], m[8], m[3], m[13])
    v = _round(v, m[2], m[12], m[6], m[10], m[0], m[11], m[8], m[3], m[4], m[13], m[7], m[5], m[15], m[14], m[1], m[9])
    v = _round(v, m[12], m[5], m[1], m[15], m[14], m[13], m[4], m[10], m[0], m[7], m[6], m[3], m[9], m[2], m[8], m[11])
    v = _round(v, m[13], m[11], m[7], m[14], m[12], m[1], m[3], m[9], m[5], m[0], m[15], m[4], m[8], m[6], m[2], m[10])
    v = _round(v, m[6], m[15], m[14], m[9], m[11], m[3], m[0], m[8], m[12], m[2], m[13], m[7], m[1], m[4], m[10], m[5])
    v = _round(v, m[10], m[2], m[8], m[4], m[7], m[6], m[1], m[5], m[15], m[11], m[9], m[14], m[3], m[12], m[13], m[0])
    v = _round(v, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], m[9], m[10], m[11], m[12], m[13], m[14], m[15])
    v = _round(v, m[14], m[10], m[4], m[8], m[9], m[15], m[13], m[6], m[1], m[12], m[0], m[2], m[11], m[7], m[5], m[3])
    for k in range(8):
        h[k] ^= v[k] ^ v[k + 8]


@entry
def _hash_all(data: Any, start: Any, end: Any, block: Any, words: Any, h: Any, out: Any) -> None:
    """`words` are the bytes of `block`."""
    for i in range(len(out)):
        at = start[i]
        length = end[i] - at
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
