"""Control records: what people and other parts tell the pipeline, as data in the log (CONTRACTS §1)."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ControlKind(StrEnum):
    """What a control record says.

    `maintenance`, `deploy`: the interval stays out of fits and bars, maintenance also out of notifications;
    `silence`: matching alerts do not notify; `expected`: what is seen from now on is the new normal;
    `label`: an opinion (`true`, `false`, `expected`) on an episode, or on the interval of all that matches;
    `forget`: the entity's state and rows go.
    """

    MAINTENANCE = "maintenance"
    DEPLOY = "deploy"
    SILENCE = "silence"
    EXPECTED = "expected"
    LABEL = "label"
    FORGET = "forget"


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """One control record; `effective_unix_nano` is stamped by the one control writer.

    `matchers` are labels that an entity or alert must carry, all of them; empty matches everything.
    `until_unix_nano` 0 = open end. `label` and `episode` belong to `label` records.
    """

    kind: ControlKind
    id: str
    effective_unix_nano: int
    until_unix_nano: int = 0
    matchers: dict[str, str] = {}
    episode: str = ""
    label: str = ""
    comment: str = ""
    author: str = ""

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether all matchers stand among the labels."""
        return all(labels.get(name) == value for name, value in self.matchers.items())

    def covers(self, time_unix_nano: int) -> bool:
        """Whether the time lies in [effective, until)."""
        return self.effective_unix_nano <= time_unix_nano and (
            not self.until_unix_nano or time_unix_nano < self.until_unix_nano
        )
