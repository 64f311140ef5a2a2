"""When a control record takes effect: where nothing is decided yet (CONTRACTS §2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foreshock.types import Control, ControlKind

MOST_TOLD = 1000

_PAST = frozenset({ControlKind.MAINTENANCE, ControlKind.DEPLOY, ControlKind.LABEL})
"""Kinds that may speak of the past: they change refits and views only, there."""

INTERVALS = frozenset({ControlKind.MAINTENANCE, ControlKind.DEPLOY, ControlKind.SILENCE})
"""Kinds that hold for an interval, which may be changed later by a record of the same id."""


def stamped(control: Control, before: Control | None, frontier: int) -> Control:
    """The record with the interval for which it holds; `frontier` (Unix ns) = up to there all is decided.

    `before` is the last record of the same id. What an interval did stays: one that has begun keeps its beginning, and
    ends behind the frontier; one that is over stays as it was; one that has yet to begin may still be moved,
    or withdrawn, which leaves it empty (it ends where it begins).
    """
    effective, until = control.effective_unix_nano, control.until_unix_nano
    if before is None or before.kind is not control.kind or control.kind not in INTERVALS:
        if control.kind not in _PAST:
            effective = max(effective, frontier)
            until = until and max(until, effective)
        return _with(control, effective, until)
    if before.until_unix_nano and before.until_unix_nano <= max(frontier, before.effective_unix_nano):
        return before
    if before.effective_unix_nano <= frontier:
        return _with(control, before.effective_unix_nano, until and max(until, frontier + 1))
    effective = max(effective, frontier)
    return _with(control, effective, until and max(until, effective))


def ended(control: Control, now_unix_nano: int, author: str) -> Control:
    """What is to be asked for so that an interval ends now, or, where it has yet to begin, does not begin."""
    until = max(now_unix_nano, control.effective_unix_nano)
    fields = {name: getattr(control, name) for name in control.__struct_fields__}
    return Control(**fields | {"until_unix_nano": until, "author": author or control.author})


class Told:
    """The last control record of each id: of this process, which the store comes to know a moment later, else its."""

    def __init__(self, stored: Callable[[str], Control | None] | None = None, own: Sequence[Control] = ()) -> None:
        self._stored = stored or (lambda name: None)
        self._own = {control.id: control for control in own}

    @property
    def own(self) -> list[Control]:
        """Those of this process, the oldest first."""
        return list(self._own.values())

    def of(self, name: str) -> Control | None:
        """The last record of this id; None where there is none."""
        return self._own.get(name) or self._stored(name)

    def note(self, control: Control) -> None:
        """A record was logged; the oldest ones are in the store by then."""
        self._own.pop(control.id, None)
        self._own[control.id] = control
        if len(self._own) > MOST_TOLD:
            del self._own[next(iter(self._own))]


def _with(control: Control, effective: int, until: int) -> Control:
    fields = {name: getattr(control, name) for name in control.__struct_fields__}
    return Control(**fields | {"effective_unix_nano": effective, "until_unix_nano": until})
