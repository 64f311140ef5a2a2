"""The running settings, what people told the pipeline, and who asks."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Setting(Struct):
    """A setting that counts: its path, its value as it would be written, where it came from and what it means."""

    key: str
    value: str
    origin: str
    says: str


class Settings(Struct):
    """The resolved settings; secrets are `***`."""

    settings: list[Setting]


class ControlRecord(Struct):
    """A control record as it was logged."""

    kind: Literal["maintenance", "deploy", "silence", "expected", "label", "forget"]
    id: str
    effective_unix_nano: int
    until_unix_nano: int = 0
    matchers: dict[str, str] = {}
    episode: str = ""
    label: str = ""
    comment: str = ""
    author: str = ""


class Controls(Struct):
    """Control records, the latest first."""

    controls: list[ControlRecord]


class Me(Struct):
    """Who asks: the name of the token, empty without tokens, and what its role lets it do."""

    name: str
    role: Literal["viewer", "ingest", "operator", "admin"]
    may: list[Literal["read", "ingest", "control"]]
