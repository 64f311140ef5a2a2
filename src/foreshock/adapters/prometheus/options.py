"""The settings of the source `prometheus`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import httpx
from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from foreshock.adapters.prometheus.names import REPLICA_LABELS
from foreshock.types.units import Options, Seconds

DEFAULT_URL = "http://127.0.0.1:9090"


class PrometheusQuery(Options):
    """One query; what it gives is watched as it is, counters and buckets that it gives plainly like discovered ones."""

    query: str = Field(min_length=1, description="PromQL.")
    name: str = Field(default="", description="What the result is called; by default the metric, else the query.")
    unit: str = Field(default="", description="Its unit, as in OpenTelemetry (`By`, `s`, `1`).")
    entity: list[str] = Field(default=[], description="Labels that name the entity; by default as in discovery.")


def _query(value: Any) -> Any:
    return {"query": value} if isinstance(value, str) else value


class PrometheusOptions(Options):
    """What a Prometheus, or what speaks its HTTP API, knows: found by itself, or asked for by `queries`."""

    url: str = Field(
        default="",
        description=f"Base address; by default the variable `PROMETHEUS_URL`, else `{DEFAULT_URL}`.",
    )
    every: Annotated[Seconds, Field(ge=1, le=3600)] | None = Field(
        default=None, description="Time between two readings; by default the interval at which most is scraped."
    )
    queries: list[Annotated[PrometheusQuery, BeforeValidator(_query, json_schema_input_type=str | PrometheusQuery)]] = (
        Field(default=[], description="PromQL, each as text or with its own settings; none: discovery.")
    )
    include: list[str] = Field(default=["*"], description="Globs of the metrics to look at in discovery.")
    exclude: list[str] = Field(
        default=["go_gc_*", "go_memstats_*", "go_sched_*", "python_gc_*", "promhttp_*", "prometheus_*"],
        description="Globs of metrics to leave out of that; by default how runtimes and Prometheus itself keep house.",
    )
    backfill: Annotated[Seconds, Field(ge=0)] = Field(
        default=7 * 86400.0, description="How much of the past to read first, as far as Prometheus has it."
    )
    max_series: int = Field(
        default=10_000, ge=1, description="Most series to read; metrics with the most series are left out first."
    )
    replica_labels: list[str] = Field(
        default=list(REPLICA_LABELS),
        description="Labels that tell the servers of a highly available pair apart; one of the pair is read.",
    )
    token: SecretStr | None = Field(default=None, description="Bearer token.")
    username: str = Field(default="", description="Name for basic authentication.")
    password: SecretStr | None = Field(default=None, description="Password for basic authentication.")
    headers: dict[str, SecretStr] = Field(default={}, description="Further headers, such as `X-Scope-OrgID`.")
    verify: bool = Field(default=True, description="Whether to check the server's certificate.")
    ca_file: str = Field(default="", description="File of certificates (PEM) to check it against.")
    timeout: Annotated[Seconds, Field(gt=0, le=600)] = Field(default=30.0, description="Longest wait for an answer.")

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return check_url(value) if value else value

    @model_validator(mode="after")
    def _fits_together(self) -> PrometheusOptions:
        if self.token is not None and (self.username or self.password is not None):
            raise ValueError("token and username with password are two ways to the same: give one of them")
        if self.password is not None and not self.username:
            raise ValueError("password needs a username")
        return self

    @property
    def address(self) -> str:
        """The base address; ValueError where the environment's is none."""
        return self.url or check_url(os.environ.get("PROMETHEUS_URL") or DEFAULT_URL)


def check_url(text: str) -> str:
    """The address, if it is one of HTTP without credentials; else ValueError."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("must begin with http:// or https:// and name a host")
    if url.userinfo:
        raise ValueError("must not hold a password: set username and password")
    return text
