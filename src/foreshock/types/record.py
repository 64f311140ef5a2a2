"""Entries of the log: everything that can change what Foreshock says."""

from __future__ import annotations

from dataclasses import dataclass

FORMAT_VERSION = 1

JSON = "application/json"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
OTLP = "application/vnd.opentelemetry.metrics+protobuf"
OTLP_JSON = "application/vnd.opentelemetry.metrics+json"
CONFIG = "application/vnd.foreshock.config+json"
CONTROL = "application/vnd.foreshock.control+json"
CALLS = "application/vnd.foreshock.calls+json"
WATERMARK = "application/vnd.foreshock.watermark+json"
GAP = "application/vnd.foreshock.gap+json"
UPGRADE = "application/vnd.foreshock.upgrade+json"


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the log, in the wire format it came in.

    `environment` is the tenant, `source` the name of the part that brought it, `received_unix_nano` the clock when it
    was accepted.
    """

    environment: str
    source: str
    content_type: str
    received_unix_nano: int
    payload: bytes
    format_version: int = FORMAT_VERSION
