"""Alerts as Alertmanager's webhook (version 4), signed."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec
from pydantic import Field, SecretStr

from foreshock.adapters.sinks import RetryLaterError, wanted
from foreshock.errors import ConfigError, PermanentError, RetryableError
from foreshock.ports import Clock
from foreshock.types import Alert, Labels, label_text
from foreshock.types.units import Options

_CONNECT, _WRITE, _READ = 2.0, 2.0, 6.0
"""Seconds: together at most 10 for one delivery."""
_LONGEST_WAIT = 3600.0


class WebhookOptions(Options):
    """Options of the sink `webhook`."""

    url: str = Field(default="http://127.0.0.1:9094/", description="Address that alerts are posted to.")
    secret: SecretStr | None = Field(default=None, description="Key of the signature; none = unsigned.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Further headers, such as Authorization.")
    external_url: str = Field(default="", description="Address of this service, for links in what the receiver shows.")
    all: bool = Field(default=False, description="Send alerts that do not notify, too.")


class Webhook:
    """Posts each alert by itself, so that one that is refused holds up no other.

    Answers: 2xx is delivered; 429, 5xx and lost connections are RetryableError (Retry-After is honoured); any other
    is PermanentError. Redirects are not followed. At least once: receivers drop repeats by `Idempotency-Key`.
    Raises ConfigError if the address is not http or https.
    """

    batch_size = 1

    def __init__(self, name: str, options: WebhookOptions, clock: Clock) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        url = _url(name, options.url)
        # The path and query of a webhook are often its password: messages name the host only.
        self._where = f"{url.scheme}://{url.netloc.decode()}"
        self._client = httpx.Client(
            timeout=httpx.Timeout(_READ, connect=_CONNECT, write=_WRITE, pool=1.0),
            headers={key: value.get_secret_value() for key, value in options.headers.items()},
        )

    def send(self, alerts: Sequence[Alert]) -> None:
        """Post the alerts, in order."""
        for alert in wanted(alerts, self._options.all):
            self._post(alert)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _post(self, alert: Alert) -> None:
        body = msgspec.json.encode(payload([alert], self.name, self._options.external_url), order="sorted")
        stamp = str(self._clock.now_unix_nano() // 1_000_000_000)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{alert.episode}:{alert.status}",
            "X-Foreshock-Timestamp": stamp,
        }
        if self._options.secret is not None:
            headers["X-Foreshock-Signature"] = signature(self._options.secret.get_secret_value(), stamp, body)
        try:
            # The body of the answer says nothing that is needed: it is not read, however long or slow it is.
            with self._client.stream("POST", self._options.url, content=body, headers=headers) as answer:
                self._judge(answer)
        except httpx.TransportError as error:
            raise RetryableError(f"sink {self.name}: {self._where}: {type(error).__name__}: {error}") from error

    def _judge(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        says = f"sink {self.name}: {self._where} answered {answer.status_code} {answer.reason_phrase}".rstrip()
        if answer.status_code == 429 or answer.status_code >= 500:
            seconds = self._wait(answer.headers.get("Retry-After", ""))
            if seconds is not None:
                raise RetryLaterError(f"{says}, come back in {seconds:g} s", seconds)
            raise RetryableError(says)
        raise PermanentError(f"{says}; look at its address and credentials")

    def _wait(self, text: str) -> float | None:
        try:
            seconds = float(text) if text.strip().isdigit() else self._until(text)
        except (TypeError, ValueError):
            return None
        return min(max(seconds, 0.0), _LONGEST_WAIT)

    def _until(self, text: str) -> float:
        return parsedate_to_datetime(text).timestamp() - self._clock.now_unix_nano() / 1e9


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`sha256=` and the hex HMAC-SHA256 of the timestamp's digits followed by the body.

    >>> signature("key", "1640000000", b"{}")[:23]
    'sha256=7ca47f1bed149760'
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + body, hashlib.sha256).hexdigest()


def payload(alerts: Sequence[Alert], receiver: str, external_url: str) -> dict[str, Any]:
    """Alertmanager's webhook body, version 4, grouped by `alertname`; at least one alert."""
    group = tuple((name, value) for name, value in alerts[0].labels if name == "alertname")
    return {
        "version": "4",
        "groupKey": f"{{}}:{label_text(group)}",
        "truncatedAlerts": 0,
        "status": "firing" if any(alert.status == "firing" for alert in alerts) else "resolved",
        "receiver": receiver,
        "groupLabels": dict(group),
        "commonLabels": _common([alert.labels for alert in alerts]),
        "commonAnnotations": _common([alert.annotations for alert in alerts]),
        "externalURL": external_url,
        "alerts": [alert.to_json() for alert in alerts],
    }


def _common(several: Sequence[Labels]) -> dict[str, str]:
    first, *rest = (dict(one) for one in several)
    return {name: value for name, value in first.items() if all(one.get(name) == value for one in rest)}


def _url(name: str, text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ConfigError(f"sink {name}: the address is not a URL: {error}", key="url") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"sink {name}: the address must begin with http:// or https:// and name a host", key="url")
    return url
