"""Entities as they are written in queries, back into labels."""

from __future__ import annotations

import re

from foreshock.errors import BadInputError
from foreshock.types import Labels, labels

_PAIR = re.compile(r'([^=,{}"\s]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^,{}"]*))\s*(,|$)')
_ESCAPE = re.compile(r"\\(.)")


def parse_labels(text: str) -> Labels:
    """Labels of canonical text, or of the short form `name=value,name=value`.

    Raises BadInputError if the text is neither.

    >>> parse_labels('{host.name="a1"}'), parse_labels("host.name=a1")
    ((('host.name', 'a1'),), (('host.name', 'a1'),))
    """
    body = text.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1].strip()
    out: dict[str, str] = {}
    at = 0
    while at < len(body):
        match = _PAIR.match(body, at)
        if not match or (match[4] and match.end() == len(body)):
            raise BadInputError("bad_entity", f'{text!r} is not an entity such as {{host.name="a1"}} or host.name=a1')
        quoted = match[2]
        out[match[1]] = match[3].strip() if quoted is None else _ESCAPE.sub(_unescape, quoted)
        at = match.end()
        while at < len(body) and body[at] == " ":
            at += 1
    return labels(out)


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
