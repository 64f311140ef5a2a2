"""JSON objects of the same fields in the same order → columns, by a kernel: what is out of the ordinary is not decided.

It takes the grammar of RFC 8259 without escapes, without letters beyond ASCII, and with spaces and tabs alone between
tokens; whatever else stands there ends it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.adapters.decimal_kernel import MOST_DIGITS, double_of
from foreshock.state.jit import entry, inner

NUMBER, INTEGER, TEXT, TRUTH = range(4)
"""Kinds of fields; numbers are read as doubles, integers as they are."""
_SPACE, _TAB, _LINE, _QUOTE, _ESCAPE, _COLON, _COMMA, _OPEN, _CLOSE = b' \t\n"\\:,{}'
_MINUS, _PLUS, _POINT, _ZERO, _NINE = b"-+.09"
_TRUE = np.frombuffer(b"true", np.uint8).copy()
_FALSE = np.frombuffer(b"false", np.uint8).copy()
_MOST_INTEGER = 18
"""Digits of an integer that surely fits into 64 bits."""
_TEN = np.uint64(10)
_MOST_POWER = 10_000


@entry
def read_alike(
    body: Any, names: Any, name_ends: Any, kinds: Any, place: Any, real: Any, whole: Any, start: Any, end: Any
) -> int:
    """Read one object a line; how many there were, -1 where something is out of the ordinary.

    `body uint8[b]`, no line feed behind the last; `names uint8[:]` of the fields, joined, each up to its
    `name_ends int64[f]`; `kinds int8[f]`. Field j stands in row `place[j]` of what holds its kind: `real float64[:, n]`
    numbers and truths, `whole int64[:, n]` integers, `start`, `end int64[:, n]` texts, by their place in the body.
    """
    at, size, most = 0, len(body), real.shape[1]
    for row in range(most):
        at = _open(body, at)
        if at < 0:
            return -1
        first = 0
        for field in range(len(kinds)):
            if field > 0:
                at = _sign(body, at, _COMMA)
            at = _name(body, at, names, first, name_ends[field])
            first = name_ends[field]
            if at < 0:
                return -1
            to, kind = place[field], kinds[field]
            if kind == TEXT:
                start[to, row] = at + 1
                at = _text(body, at)
                end[to, row] = at - 1
            elif kind == NUMBER:
                real[to, row], at = _number(body, at)
            elif kind == INTEGER:
                whole[to, row], at = _integer(body, at)
            else:
                real[to, row], at = _truth(body, at)
            if at < 0:
                return -1
        at = _sign(body, at, _CLOSE)
        if at < 0:
            return -1
        at = _past_space(body, at)
        if row + 1 == most:
            return most if at == size else -1
        if at >= size or body[at] != _LINE:
            return -1
        at += 1
    return -1


@inner
def _past_space(body: Any, at: Any) -> Any:
    while at < len(body) and (body[at] == _SPACE or body[at] == _TAB):
        at += 1
    return at


@inner
def _open(body: Any, at: Any) -> Any:
    """Behind the brace that opens an object."""
    at = _past_space(body, at)
    return at + 1 if at < len(body) and body[at] == _OPEN else -1


@inner
def _sign(body: Any, at: Any, sign: Any) -> Any:
    """Behind a sign, with space before it."""
    if at < 0:
        return -1
    at = _past_space(body, at)
    return at + 1 if at < len(body) and body[at] == sign else -1


@inner
def _name(body: Any, at: Any, names: Any, first: Any, last: Any) -> Any:
    """At the value of the field of this name."""
    if at < 0:
        return -1
    at = _past_space(body, at)
    size = last - first
    if at + size + 2 > len(body) or body[at] != _QUOTE or body[at + size + 1] != _QUOTE:
        return -1
    for k in range(size):
        if body[at + 1 + k] != names[first + k]:
            return -1
    at = _sign(body, at + size + 2, _COLON)
    return -1 if at < 0 else _past_space(body, at)


@inner
def _text(body: Any, at: Any) -> Any:
    """Behind a text; -1 where it is none, or not plain."""
    if at >= len(body) or body[at] != _QUOTE:
        return -1
    at += 1
    while at < len(body):
        sign = body[at]
        if sign == _QUOTE:
            return at + 1
        if sign == _ESCAPE or sign < _SPACE or sign >= 128:
            return -1
        at += 1
    return -1


@inner
def _digits(body: Any, at: Any, value: Any) -> tuple[Any, Any]:
    """Digits behind `value`, and where they end."""
    while at < len(body) and _ZERO <= body[at] <= _NINE:
        value = value * _TEN + np.uint64(body[at] - _ZERO)
        at += 1
    return value, at


@inner
def _leads(body: Any, at: Any, until: Any) -> Any:
    """Whether digits up to `until` are a whole number as JSON writes it."""
    return until > at and (body[at] != _ZERO or until == at + 1)


@inner
def _integer(body: Any, at: Any) -> tuple[Any, Any]:
    """An integer, and where it ends (-1: it is none, or too large)."""
    minus = at < len(body) and body[at] == _MINUS
    if minus:
        at += 1
    value, until = _digits(body, at, np.uint64(0))
    if not _leads(body, at, until) or until - at > _MOST_INTEGER:
        return np.int64(0), -1
    if until < len(body) and (body[until] == _POINT or body[until] | 32 == 101):
        return np.int64(0), -1
    return (-np.int64(value) if minus else np.int64(value)), until


@inner
def _number(body: Any, at: Any) -> tuple[Any, Any]:
    """A number, and where it ends (-1: it is none, or not decided here)."""
    minus = at < len(body) and body[at] == _MINUS
    if minus:
        at += 1
    digits, until = _digits(body, at, np.uint64(0))
    if not _leads(body, at, until):
        return 0.0, -1
    count, power, whole = until - at, 0, True
    if until < len(body) and body[until] == _POINT:
        digits, last = _digits(body, until + 1, digits)
        power = until + 1 - last
        if power == 0:
            return 0.0, -1
        count, until, whole = count - power, last, False
    if count > MOST_DIGITS and count - _leading(body, at) > MOST_DIGITS:
        return 0.0, -1
    if until < len(body) and body[until] | 32 == 101:
        more, until = _exponent(body, until + 1)
        if until < 0:
            return 0.0, -1
        power, whole = power + more, False
    value, sure = double_of(digits, power)
    if not sure:
        return 0.0, -1
    return (-value if minus and not (whole and digits == 0) else value), until


@inner
def _leading(body: Any, at: Any) -> Any:
    """How many zeros a number begins with: they are no digits that must fit."""
    count = 0
    while body[at] == _ZERO or body[at] == _POINT:
        count += body[at] == _ZERO
        at += 1
    return count


@inner
def _exponent(body: Any, at: Any) -> tuple[Any, Any]:
    """An exponent, and where it ends (-1: it is none, or too large)."""
    minus = at < len(body) and body[at] == _MINUS
    if at < len(body) and (minus or body[at] == _PLUS):
        at += 1
    value, until = _digits(body, at, np.uint64(0))
    if until == at or until - at > 5 or value > _MOST_POWER:
        return 0, -1
    return (-np.int64(value) if minus else np.int64(value)), until


@inner
def _truth(body: Any, at: Any) -> tuple[Any, Any]:
    """1 or 0, and where it ends (-1: it is neither)."""
    value, word = (1.0, _TRUE) if at < len(body) and body[at] == _TRUE[0] else (0.0, _FALSE)
    if at + len(word) > len(body):
        return 0.0, -1
    for k in range(len(word)):
        if body[at + k] != word[k]:
            return 0.0, -1
    return value, at + len(word)
