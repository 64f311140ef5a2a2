"""Endpoints as templates: `/cart/8231` → `/cart/{id}`, by the look of a segment, and where too many values are seen.

What a service's paths look like is learnt in a table of the prefixes seen (`PREFIXES` of them at most). A prefix that
more than `VALUES` different segments follow is collapsed: from then on whatever follows it is one `{id}`, and the
prefixes behind the old segments are let go. It depends on the service's own calls in their order and on nothing else.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from foreshock.state.jit import inner
from foreshock.stream.sketch import Int, joined, text_hash

DEPTH = 8
"""Segments of a path that count; what follows is `…`."""

VALUES = 64
"""Different segments behind a prefix before they are taken for values."""

PREFIXES = 1024
_MOST = 896
LONGEST = 64
"""A segment with more bytes is an id."""

UNTOLD = 0
"""The template of endpoints that find no room in the table."""

_ROOT, _ID, _REST = 1, 3, 5
_GONE = -2
_COLLAPSED = -1
_END = re.compile(r"[?#]")

PREFIX_FIELDS: list[Any] = [
    ("prefix", "u8", (PREFIXES,)),  # open addressing; 0 = free
    ("parent", "u8", (PREFIXES,)),
    ("children", "i2", (PREFIXES,)),  # different segments behind it, or _COLLAPSED
    ("prefixes", "i4"),
]
"""What a service's row holds for its templates, beside `collapses`: how often a prefix was collapsed."""


def endpoint_text(endpoint: str, ids: int, method: str = "") -> str:
    """A template in words; bit k of `ids` says that segment k is an id, bit `DEPTH` that more segments follow.

    >>> endpoint_text("/cart/8231/items?full=1", 0b10, "GET")
    'GET /cart/{id}/items'
    """
    parts = [part for part in _END.split(endpoint, maxsplit=1)[0].split("/") if part]
    shown = ["{id}" if ids >> k & 1 else part for k, part in enumerate(parts[:DEPTH])]
    if ids >> DEPTH & 1:
        shown.append("…")
    path = ("" if parts and not endpoint.startswith("/") else "/") + "/".join(shown)
    return f"{method} {path}" if method else path


@inner
def template_of(s: Any, data: Any, start: Int, end: Int, scratch: Any) -> tuple[Int, Int]:
    """Hash of the template of the endpoint `data[start:end]` (UTF-8) of a service, and its `ids`; learns on the way.

    `s` has `PREFIX_FIELDS` and `collapses`; `scratch` uint64[3, PREFIXES] is free to use. `UNTOLD` where the table is
    full.
    """
    prefix, ids, depth = np.uint64(_ROOT), np.int64(0), 0
    if s.prefixes == 0:
        _insert(s, prefix, np.uint64(0), 0)
    i = start
    while i < end and data[i] != 63 and data[i] != 35:  # ? and #
        if data[i] == 47:  # /
            i += 1
            continue
        j = i + 1
        while j < end and data[j] != 47 and data[j] != 63 and data[j] != 35:
            j += 1
        if depth == DEPTH:
            return joined(prefix, _REST), ids | (1 << DEPTH)
        is_value = is_id(data, i, j)
        segment = np.uint64(_ID) if is_value else text_hash(data, i, j)
        prefix, is_value = _follow(s, prefix, segment, is_value, scratch)
        if prefix == UNTOLD:
            return prefix, ids
        if is_value:
            ids |= 1 << depth
        depth += 1
        i = j
    return prefix, ids


@inner
def _follow(s: Any, prefix: Int, segment: Int, is_value: Any, scratch: Any) -> tuple[Int, Any]:
    """The prefix with one more segment, and whether that is an id; `UNTOLD` if there is no room for it."""
    at = _find(s, prefix)
    if not is_value and s.children[at] != _COLLAPSED:
        longer = joined(prefix, segment)
        if _find(s, longer) >= 0:
            return longer, False
        if s.children[at] < VALUES:
            if s.prefixes >= _MOST:
                return np.uint64(UNTOLD), False
            s.children[at] += 1
            _insert(s, longer, prefix, 0)
            return longer, False
        _collapse(s, prefix, scratch)
    longer = joined(prefix, _ID)
    if _find(s, longer) < 0:
        if s.prefixes >= _MOST:
            return np.uint64(UNTOLD), True
        _insert(s, longer, prefix, 0)
    return longer, True


@inner
def _find(s: Any, prefix: Int) -> Int:
    """Where a prefix stands, or -1."""
    at = np.int64(prefix >> np.uint64(1)) & (PREFIXES - 1)
    while s.prefix[at] != 0:
        if s.prefix[at] == prefix and s.children[at] != _GONE:
            return at
        at = (at + 1) & (PREFIXES - 1)
    return -1


@inner
def _insert(s: Any, prefix: Int, parent: Int, children: Int) -> None:
    at = np.int64(prefix >> np.uint64(1)) & (PREFIXES - 1)
    while s.prefix[at] != 0:
        at = (at + 1) & (PREFIXES - 1)
    s.prefix[at], s.parent[at], s.children[at] = prefix, parent, children
    s.prefixes += 1


@inner
def _collapse(s: Any, prefix: Int, scratch: Any) -> None:
    """Take all segments behind a prefix for values from now on; let go of what stood behind them."""
    s.collapses += 1
    s.children[_find(s, prefix)] = _COLLAPSED
    kept = joined(prefix, _ID)
    for at in range(PREFIXES):
        if s.prefix[at] != 0 and s.parent[at] == prefix and s.prefix[at] != kept:
            s.children[at] = _GONE
    going = True
    while going:
        going = False
        for at in range(PREFIXES):
            alive = s.prefix[at] != 0 and s.children[at] != _GONE and s.prefix[at] != _ROOT
            if alive and _find(s, s.parent[at]) < 0:
                s.children[at] = _GONE
                going = True
    n = 0
    for at in range(PREFIXES):
        if s.prefix[at] != 0 and s.children[at] != _GONE:
            scratch[0, n], scratch[1, n] = s.prefix[at], s.parent[at]
            scratch[2, n] = np.uint64(s.children[at] + 1)
            n += 1
        s.prefix[at], s.parent[at], s.children[at] = 0, 0, 0
    s.prefixes = 0
    for k in range(n):
        _insert(s, scratch[0, k], scratch[1, k], np.int64(scratch[2, k]) - 1)


@inner
def is_id(data: Any, start: Int, end: Int) -> Any:
    """Whether a segment looks like an id: a number, UUID, hash, date, token or e-mail address, no word or version."""
    n = end - start
    head = data[start]
    if head == 123 or head == 58 or head == 60 or head == 42:  # {id}, :id, <id> and * are templates already
        return False
    digits, hexes, letters, uppers, dashes, others, turns, at_sign = 0, 0, 0, 0, 0, 0, 0, False
    before = 0
    for i in range(start, end):
        c = data[i]
        kind = 0
        if 48 <= c <= 57:
            digits += 1
            kind = 1
        elif 65 <= c <= 90 or 97 <= c <= 122:
            letters += 1
            uppers += c <= 90
            hexes += (c | 32) <= 102
            kind = 2
        elif c == 45:
            dashes += 1
        elif c == 64:
            at_sign = at_sign or i > start
        elif c > 127:
            others += 1
        turns += kind != before and kind != 0 and before != 0
        before = kind
    if at_sign or n > LONGEST:
        return True
    if digits == 0 or ((head | 32) == 118 and n <= 8 and n > 1 and 48 <= data[start + 1] <= 57):
        return False
    if digits >= 4 or turns >= 4 or (letters == 0 and others == 0):
        return True
    if n >= 8 and hexes == letters and digits + letters + dashes == n:
        return True
    return n >= 16 and digits >= 2 and uppers > 0 and uppers < letters
