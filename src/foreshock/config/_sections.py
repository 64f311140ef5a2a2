"""Sections of the settings that belong to no part."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from foreshock.types.units import Bytes, Options, Seconds

CROSS_CHECK = "cross_check"
"""The error type of rules between settings: not looked at while some files cannot be read."""


def cross_error(key: str, message: str) -> ValidationError:
    """The error of a rule between settings, told at one of them."""
    reason = PydanticCustomError(CROSS_CHECK, "{message}", {"message": message})
    return ValidationError.from_exception_data("settings", [InitErrorDetails(type=reason, loc=(key,), input=None)])


class Log(Options):
    """The record log: everything that can change what Foreshock says."""

    durability: Literal["process", "disk"] = Field(
        default="process",
        description="What an acknowledged record survives: `process` a kill, `disk` also a power loss.",
    )
    segment_bytes: Annotated[Bytes, Field(ge=4096)] = Field(default=64 << 20, description="Size of one segment file.")
    max_bytes: Annotated[Bytes, Field(ge=4096)] = Field(
        default=2 << 30, description="Oldest segments go beyond this size."
    )
    max_age: Annotated[Seconds, Field(gt=0)] = Field(
        default=14 * 86400.0, description="Oldest segments go beyond this age."
    )

    @model_validator(mode="after")
    def _fits(self) -> Log:
        if self.max_bytes < self.segment_bytes:
            raise cross_error("max_bytes", "must be at least segment_bytes")
        return self


class Snapshot(Options):
    """Copies of the state that make a restart quick."""

    every: Annotated[Seconds, Field(gt=0)] = Field(
        default=30.0,
        description="Least time between two snapshots; over Kafka they come sooner where much has come since.",
    )
    keep: int = Field(default=2, ge=1, description="How many are kept.")
    share: float = Field(default=0.05, gt=0, le=1, description="Most of the time that may be spent on them.")


class Limits(Options):
    """Bounds on memory; what goes beyond is refused and counted."""

    series: int = Field(
        default=100_000, ge=1, description="Series that may be known at a time; further ones are dropped."
    )
    queue_records: int = Field(default=10_000, ge=1, description="Records accepted and not yet judged.")
    queue_bytes: Annotated[Bytes, Field(ge=1)] = Field(
        default=64 << 20, description="Bytes accepted and not yet judged."
    )
    body_bytes: Annotated[Bytes, Field(ge=1)] = Field(default=16 << 20, description="Largest body of one HTTP request.")


class Store(Options):
    """Where alerts, the outbox and what the API shows are kept."""

    url: str = Field(
        default="sqlite:///{data_dir}/foreshock.db",
        pattern=r"^sqlite:///.+",
        description="Database, as an SQLAlchemy URL; `{data_dir}` stands for that setting.",
    )
    retention: Annotated[Seconds, Field(gt=0)] = Field(
        default=30 * 86400.0, description="How long rows are kept, and series by ten minutes."
    )
    minutes: Annotated[Seconds, Field(ge=0)] = Field(
        default=3 * 86400.0, description="How long series are kept by the minute, for charts."
    )
    points: Annotated[Seconds, Field(ge=0)] = Field(
        default=6 * 3600.0, description="How long series are kept point by point, for charts; 0 = not beyond memory."
    )
    series: Annotated[int, Field(ge=0)] = Field(
        default=5000, description="Series that are kept so, at most; further ones are judged all the same."
    )


class Token(Options):
    """Who may use the API, and for what."""

    token: SecretStr = Field(min_length=1, description="What the caller sends as `Authorization: Bearer …`.")
    name: str = Field(default="", description="Who it belongs to; stands as the author of what is done with it.")
    role: Literal["viewer", "operator", "admin", "ingest"] = Field(
        default="viewer",
        description="`viewer` reads, `operator` also silences and labels, `admin` all, `ingest` only sends data.",
    )


class Http(Options):
    """The HTTP server: ingest, API, health, metrics."""

    enabled: bool = Field(default=True, description="Whether to serve HTTP at all.")
    listen: str = Field(default="127.0.0.1:8080", description="Address to bind, `host:port`; port 0 = any free one.")
    hosts: list[str] = Field(default=[], description="Further host names that the server answers to.")
    tokens: list[Token] = Field(default=[], description="Needed by any address that others can reach.")

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (colon and port.isascii() and port.isdigit() and int(port) < 65536) or (":" in host and host[:1] != "["):
            raise PydanticCustomError("address", "must be host:port, such as 127.0.0.1:8080 or [::1]:8080")
        return value

    @model_validator(mode="after")
    def _is_guarded(self) -> Http:
        if self.enabled and not self.tokens and not _is_loopback(self.host):
            raise cross_error(
                "listen",
                f"http.listen binds {self.listen}, which others can reach: give http.tokens at least one token with a "
                "role, or bind 127.0.0.1",
            )
        return self

    @property
    def host(self) -> str:
        """The address without its port; no name = every address of the machine."""
        return self.listen.rpartition(":")[0].strip("[]") or "0.0.0.0"

    @property
    def port(self) -> int:
        """The port of the address."""
        return int(self.listen.rpartition(":")[2])


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
