"""Entities as they are written in queries, back into labels."""

from __future__ import annotations

import re

from foreshock.errors import BadInputError
from foreshock.types import Labels, labels

MOST_CHARACTERS = 4096
"""A longer text is no entity that anybody has."""

_BLANK, _NAME, _QUOTED, _BARE = r"[ \t\r\n]*", r'[^=,{}" \t\r\n]+', r'"(?:[^"\\]|\\[^\r\n])*"', r'[^,{}"]*'
_PAIRS = rf"{_NAME}{_BLANK}={_BLANK}(?:{_QUOTED}{_BLANK}|{_BARE})"
_PAIRS = rf"{_PAIRS}(?:,{_BLANK}{_PAIRS})*"
PATTERN = rf"^{_BLANK}(?:\{{{_BLANK}{_PAIRS}\}}{_BLANK}|{_PAIRS})$"
"""What an entity is written like, also for those who read regular expressions as JavaScript does."""

_NONE = re.compile(rf"{_BLANK}(?:\{{{_BLANK}\}}{_BLANK})?")
_WHOLE = re.compile(PATTERN)
_PAIR = re.compile(rf"({_NAME}){_BLANK}={_BLANK}(?:({_QUOTED})|({_BARE}))")
_ESCAPE = re.compile(r"\\(.)")


def parse_labels(text: str) -> Labels:
    """Labels of canonical text, or of the short form `name=value,name=value`.

    Raises BadInputError if the text is neither.

    >>> parse_labels('{host.name="a1"}'), parse_labels("host.name=a1")
    ((('host.name', 'a1'),), (('host.name', 'a1'),))
    """
    if _NONE.fullmatch(text):
        return ()
    if len(text) > MOST_CHARACTERS or not _WHOLE.fullmatch(text):
        raise BadInputError("bad_entity", f'{text[:100]!r} is not an entity such as {{host.name="a1"}} or host.name=a1')
    return labels({one[1]: _value(one) for one in _PAIR.finditer(text)})


def _value(pair: re.Match[str]) -> str:
    return pair[3].strip(" \t\r\n") if pair[2] is None else _ESCAPE.sub(_unescape, pair[2][1:-1])


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
