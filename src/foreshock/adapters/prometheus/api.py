"""Prometheus' HTTP API: requests, answers, and what its errors mean."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Any, TypeVar

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.errors import BadInputError, PermanentError, RetryableError
from foreshock.ports import Clock

MAX_ANSWER_BYTES = 256 << 20
"""Largest answer that is read, unpacked."""
MOST_POINTS = 11_000
"""Prometheus gives no more points a series and query."""

_TOO_MUCH = ("too many", "exceed", "timed out", "timeout", "too large", "too long", "limit", "out of memory")
_SKEW_SECONDS = 2.5
"""Less than this between the clocks may be the way and the whole seconds of the `Date` header."""
_MOST_TEXT = 300


class TooMuchError(RetryableError):
    """More was asked for than the server can or may give at a time: ask for less."""


class TooSlowError(TooMuchError):
    """No answer in time: it was too much, or the server is in trouble."""


class Matrix(msgspec.Struct, frozen=True):
    """One series of an answer: its label set in JSON as the server wrote it, and its points (Unix seconds, value)."""

    metric: msgspec.Raw
    values: list[tuple[float, float]] = []
    histograms: list[Any] = []


class _Result(msgspec.Struct, frozen=True):
    result: list[Matrix] = []


class _Answer(msgspec.Struct, frozen=True):
    status: str = ""
    data: _Result = _Result()
    warnings: list[str] = []


class _Failure(msgspec.Struct, frozen=True):
    status: str = ""
    error: str = ""
    errorType: str = ""


class _Plain(msgspec.Struct, frozen=True):
    status: str = ""
    data: Any = None
    warnings: list[str] = []


_ANSWER = msgspec.json.Decoder(_Answer, strict=False)
_PLAIN = msgspec.json.Decoder(_Plain)
_FAILURE = msgspec.json.Decoder(_Failure)
_LABELS = msgspec.json.Decoder(dict[str, str])

T = TypeVar("T", _Answer, _Plain)


class Api:
    """Asks one Prometheus, or what speaks like one.

    All methods raise RetryableError where trying again may help (unreachable, 5xx, refused credentials, an answer that
    is no Prometheus'), TooMuchError where asking for less may, PermanentError where the query itself is wrong.
    `warnings` are those of all answers so far, each once; `skew_seconds` is how far the server's clock is ahead.
    """

    def __init__(self, url: str, client: httpx.Client, clock: Clock) -> None:
        self.where = _safe(url)
        self.warnings: dict[str, None] = {}
        self.skew_seconds = 0.0
        self._client, self._clock = client, clock
        self._base = url.rstrip("/") + "/api/v1/"

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def now_unix_nano(self) -> int:
        """The server's clock, as far as it is known."""
        return self._clock.now_unix_nano() + int(self.skew_seconds * 1e9)

    def range(self, query: str, start: float, end: float, step: float) -> list[Matrix]:
        """Points of a query at start, start + step … end (Unix seconds)."""
        asked = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.12g}"}
        return self._matrix(self._send("query_range", asked))

    def samples(self, selector: str, at: float) -> list[Matrix]:
        """Samples as they were scraped: the selector has a range, such as `up[5m]`, that ends at `at`."""
        return self._matrix(self._send("query", {"query": selector, "time": f"{at:.3f}"}))

    def instant(self, query: str, at: float) -> list[tuple[dict[str, str], float]]:
        """Label sets and values of a query at a time."""
        data = self._plain("query", {"query": query, "time": f"{at:.3f}"})
        try:
            return [(dict(one["metric"]), float(one["value"][1])) for one in data["result"]]
        except (TypeError, KeyError, IndexError, ValueError):
            raise self._foreign("an answer in another form") from None

    def names(self, start: float, end: float) -> list[str]:
        """Names of the metrics that had samples in an interval."""
        data = self._plain("label/__name__/values", {"start": f"{start:.3f}", "end": f"{end:.3f}"}, "GET")
        return [str(name) for name in data] if isinstance(data, list) else []

    def types(self) -> tuple[dict[str, str], set[str]]:
        """Type of each metric as its targets say it, and the metrics about which they disagree."""
        data = self._plain("metadata", {}, "GET")
        out: dict[str, str] = {}
        disputed: set[str] = set()
        for name, entries in data.items() if isinstance(data, dict) else ():
            dicts = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
            said = {str(one.get("type", "unknown")) for one in dicts} - {"unknown"}
            if len(said) > 1:
                disputed.add(name)
            out[name] = said.pop() if len(said) == 1 else "unknown"
        return out, disputed

    def _matrix(self, body: bytes) -> list[Matrix]:
        # The decoder knows infinity without its sign; within a label set it cannot stand before a bracket.
        body = body.replace(b'"+Inf"]', b'"Inf"]')
        return self._read(body, _ANSWER).data.result

    def _plain(self, path: str, asked: Mapping[str, str], method: str = "POST") -> Any:
        return self._read(self._send(path, asked, method), _PLAIN).data

    def _send(self, path: str, asked: Mapping[str, str], method: str = "POST") -> bytes:
        url = self._base + path
        sent = self._clock.now_unix_nano()
        where: dict[str, Any] = {"params": asked} if method == "GET" else {"data": dict(asked)}
        try:
            with self._client.stream(method, url, **where) as answer:
                self._look_at_clock(answer.headers.get("Date", ""), sent)
                body = self._body(answer)
        except httpx.TimeoutException as error:
            raise TooSlowError(f"{self.where} did not answer in time ({type(error).__name__})") from error
        except httpx.TransportError as error:
            raise RetryableError(f"{self.where} cannot be reached: {_plainly(error)}") from error
        except (httpx.DecodingError, httpx.StreamError) as error:
            raise RetryableError(f"{self.where} sent a broken answer: {_plainly(error)}") from error
        if answer.is_success:
            return body
        raise self._refused(answer, body)

    def _body(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        for part in answer.iter_bytes():
            body += part
            if len(body) > MAX_ANSWER_BYTES:
                raise TooMuchError(f"an answer of {self.where} is larger than {MAX_ANSWER_BYTES >> 20} MiB")
        return bytes(body)

    def _read(self, body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        try:
            answer = decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise self._foreign(_kind(body)) from None
        if answer.status != "success":
            raise self._foreign("JSON of another form")
        if len(self.warnings) < 100:
            self.warnings |= dict.fromkeys(text[:_MOST_TEXT] for text in answer.warnings)
        return answer

    def _refused(self, answer: httpx.Response, body: bytes) -> Exception:
        """What an answer that is not 2xx means."""
        code, says = answer.status_code, f"{self.where} answered {answer.status_code} {answer.reason_phrase}".rstrip()
        if code in (401, 403):
            return RetryableError(f"{says}: it refuses our credentials (token, or username and password)")
        if answer.is_redirect:
            place = _safe(answer.headers.get("Location", "elsewhere"))
            return RetryableError(f"{says}: it sends us to {place}; is that a login page? set url to Prometheus itself")
        try:
            failure = _FAILURE.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            failure = _Failure()
        if failure.status != "error":
            if code == 404:
                return self._foreign(f"404 {_kind(body)}".rstrip())
            return RetryableError(says) if code != 413 else TooMuchError(says)
        text = failure.error[:_MOST_TEXT]
        if any(sign in text.lower() for sign in _TOO_MUCH) or failure.errorType in ("timeout", "canceled"):
            return TooMuchError(f"{says}: {text}")
        if failure.errorType in ("bad_data", "execution") and code in (400, 422):
            return PermanentError(f"{says}: {text}")
        return RetryableError(f"{says}: {text}")

    def _foreign(self, what: str) -> RetryableError:
        return RetryableError(f"{self.where} is no Prometheus: it answered {what}; set url to its base address")

    def _look_at_clock(self, date: str, sent: int) -> None:
        try:
            theirs = parsedate_to_datetime(date).timestamp() + 0.5
        except (TypeError, ValueError):
            return
        skew = theirs - (sent + self._clock.now_unix_nano()) / 2e9
        self.skew_seconds = skew if abs(skew) > _SKEW_SECONDS else 0.0


def labels_of(metric: msgspec.Raw) -> dict[str, str]:
    """The labels of a series of an answer; BadInputError where they are not text."""
    try:
        return _LABELS.decode(metric)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInputError("bad_labels", f"a label set cannot be read: {error}") from error


def points(series: Matrix) -> NDArray[np.float64]:
    """The points of a series: float64[n, 2], Unix seconds and value."""
    flat = np.fromiter(chain.from_iterable(series.values), np.float64, 2 * len(series.values))
    return flat.reshape(-1, 2)


def selector(names: Iterable[str]) -> str:
    """The PromQL selector of all series of some metrics.

    >>> selector(["up"]), selector(["a", "b"])
    ('{__name__="up"}', '{__name__=~"a|b"}')
    """
    texts = list(names)
    if len(texts) == 1:
        return f'{{__name__="{_quoted(texts[0])}"}}'
    return f'{{__name__=~"{"|".join(_quoted(_as_regex(text)) for text in texts)}"}}'


def connect(
    url: str,
    *,
    token: str = "",
    basic: tuple[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 30.0,
    verify: bool = True,
    ca_file: str = "",
) -> httpx.Client:
    """A client for `Api`; OSError or ssl.SSLError where the file of certificates cannot be used."""
    own, near = dict(headers or {}), _is_loopback(httpx.URL(url).host)
    if token:
        own["Authorization"] = f"Bearer {token}"
    if near:
        # Packing costs the server more than the way there.
        own.setdefault("Accept-Encoding", "identity")
    context: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file and verify else verify
    return httpx.Client(
        timeout=httpx.Timeout(timeout_seconds, connect=min(5.0, timeout_seconds)),
        headers=own,
        auth=basic,
        verify=context,
        trust_env=not near,
        limits=httpx.Limits(max_connections=2),
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _as_regex(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_:" else f"\\{letter}" for letter in name)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _kind(body: bytes) -> str:
    start = body[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "a page in HTML"
    return "nothing" if not start else "something that is not its JSON"


def _plainly(error: Exception) -> str:
    """An error of the network without the numbers that say nothing to people."""
    text = str(error) or type(error).__name__
    _, bracket, rest = text.partition("] ")
    return rest if text.startswith("[Errno") and bracket else text


def _safe(url: str) -> str:
    """An address without what may be secret in it."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "elsewhere"
    return f"{parsed.scheme}://{parsed.netloc.decode()}{parsed.path.rstrip('/')}"
