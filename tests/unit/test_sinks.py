from __future__ import annotations

import email.utils
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from foreshock.adapters.sinks import Resumable, RetryLaterError
from foreshock.adapters.sinks.jsonl import Jsonl, JsonlOptions
from foreshock.adapters.sinks.stdout import Stdout, StdoutOptions, json_line
from foreshock.adapters.sinks.webhook import Webhook, WebhookOptions, payload, signature
from foreshock.errors import ConfigError, PermanentError, RetryableError
from foreshock.testing.check_store import sample_alert

NOW = 1_700_000_123
LOUD = sample_alert(notified=True)
QUIET = sample_alert("a2", notified=False)
OVER = sample_alert(notified=True, ends_unix_nano=LOUD.starts_unix_nano + 10**9)


class FixedClock:
    def now_unix_nano(self) -> int:
        return NOW * 10**9 + 5

    def sleep(self, seconds: float) -> None:
        raise AssertionError("a sink does not sleep")


# stdout


def test_stdout_writes_a_line_an_alert_without_control_characters() -> None:
    out = io.StringIO()
    nasty = sample_alert(notified=True, annotations=(("summary", "cpu \x1b[2J of\na1 ist größer"),))
    Stdout("o", stream=out).send([LOUD, QUIET, OVER, nasty])
    assert out.getvalue().splitlines() == [
        '2023-11-14T22:13:21Z FIRING   cpu of "a1" is high\\n',
        '2023-11-14T22:13:21Z RESOLVED cpu of "a1" is high\\n',
        "2023-11-14T22:13:21Z FIRING   cpu \\x1b[2J of\\na1 ist größer",
    ]


def test_stdout_options(capsys: pytest.CaptureFixture[str]) -> None:
    Stdout("o", StdoutOptions.model_validate({"json": True, "all": True})).send([LOUD, QUIET])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [LOUD.to_json(), QUIET.to_json()]
    with pytest.raises(ValidationError):
        StdoutOptions.model_validate({"jsn": True})


def test_stdout_that_is_closed_is_retryable() -> None:
    out = io.StringIO()
    out.close()
    with pytest.raises(RetryableError):
        Stdout("o", stream=out).send([LOUD])


# jsonl


def test_jsonl_cuts_off_what_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "alerts.jsonl"
    sink = Jsonl("j", JsonlOptions(path=str(path)))
    assert isinstance(sink, Resumable)
    first = sink.send_from(sink.begin(), [LOUD])
    sink.send_from(first, [QUIET])
    with path.open("a") as file:
        file.write('{"torn')
    again = Jsonl("j", JsonlOptions(path=str(path)))
    again.send_from(again.send_from(first, [QUIET]), [OVER])
    assert path.read_text() == json_line(LOUD) + json_line(QUIET) + json_line(OVER)
    assert list(json.loads(json_line(LOUD))) == sorted(LOUD.to_json())


def test_jsonl_keeps_what_was_there_and_begins_anew_where_the_file_was_moved(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("theirs\n")
    sink = Jsonl("j", JsonlOptions(path=str(path), all=False))
    state = sink.send_from(sink.begin(), [LOUD, QUIET])
    assert path.read_text() == "theirs\n" + json_line(LOUD)
    path.rename(tmp_path / "moved")
    sink.send_from(state, [OVER])
    assert path.read_text() == json_line(OVER)
    sink.close()


def test_jsonl_without_an_outbox(tmp_path: Path) -> None:
    sink = Jsonl("j", JsonlOptions(path=str(tmp_path / "a.jsonl")))
    sink.send([LOUD])
    sink.send([OVER])
    assert (tmp_path / "a.jsonl").read_text() == json_line(LOUD) + json_line(OVER)


def test_jsonl_that_cannot_be_written_is_retryable(tmp_path: Path) -> None:
    sink = Jsonl("j", JsonlOptions(path=str(tmp_path)))
    with pytest.raises(RetryableError, match="cannot be written"):
        sink.begin()
    with pytest.raises(RetryableError, match="cannot be written"):
        sink.send_from("0", [LOUD])


# webhook


Answer = tuple[int, dict[str, str]] | None
"""Status and headers; None = hang up without a word."""


class Receiver:
    """A real HTTP server that gives prepared answers and keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                answer = receiver.answers.pop(0)
                if answer is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                for name, value in (answer[1] | {"Content-Length": "0"}).items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook/SECRET-PATH?key=SECRET"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def make() -> Iterator[Callable[..., Webhook]]:
    made: list[Webhook] = []

    def one(url: str, **options: Any) -> Webhook:
        made.append(Webhook("hook", WebhookOptions(url=url, **options), FixedClock()))
        return made[-1]

    yield one
    for sink in made:
        sink.close()


def test_webhook_posts_what_alertmanager_posts_signed(receiver: Receiver, make: Callable[..., Webhook]) -> None:
    receiver.answers = [(200, {}), (204, {})]
    sink = make(receiver.url, secret=SecretStr("key"), headers={"Authorization": "Bearer x"}, external_url="http://f/")
    sink.send([LOUD, QUIET, OVER])
    assert len(receiver.got) == 2
    headers, body = receiver.got[0]
    assert json.loads(body) == {
        "version": "4",
        "groupKey": '{}:{alertname="Anomaly"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "hook",
        "groupLabels": {"alertname": "Anomaly"},
        "commonLabels": dict(LOUD.labels),
        "commonAnnotations": dict(LOUD.annotations),
        "externalURL": "http://f/",
        "alerts": [LOUD.to_json()],
    }
    assert headers["x-foreshock-timestamp"] == str(NOW)
    assert headers["x-foreshock-signature"] == signature("key", str(NOW), body)
    assert headers["idempotency-key"] == f"{LOUD.episode}:firing"
    assert headers["authorization"] == "Bearer x"
    assert receiver.got[1][0]["idempotency-key"] == f"{LOUD.episode}:resolved"
    assert json.loads(receiver.got[1][1])["status"] == "resolved"


def test_webhook_without_a_secret_is_unsigned_and_all_sends_all(
    receiver: Receiver, make: Callable[..., Webhook]
) -> None:
    receiver.answers = [(200, {})] * 2
    make(receiver.url, all=True).send([LOUD, QUIET])
    assert len(receiver.got) == 2
    assert "x-foreshock-signature" not in receiver.got[0][0]


def test_what_several_alerts_share() -> None:
    both = payload([OVER, QUIET], "r", "")
    assert both["status"] == "firing"
    assert both["commonLabels"] == {"alertname": "Anomaly", "severity": "warning"}


@pytest.mark.parametrize(
    ("answer", "kind", "seconds"),
    [
        ((500, {}), RetryableError, None),
        ((503, {"Retry-After": "7"}), RetryLaterError, 7.0),
        ((429, {"Retry-After": "99999999"}), RetryLaterError, 3600.0),
        ((429, {"Retry-After": email.utils.formatdate(NOW + 30)}), RetryLaterError, 30.0),
        ((429, {"Retry-After": "soon"}), RetryableError, None),
        ((404, {}), PermanentError, None),
        ((401, {}), PermanentError, None),
        ((302, {"Location": "http://127.0.0.1:1/"}), PermanentError, None),
        (None, RetryableError, None),
    ],
)
def test_webhook_answers(
    answer: Answer, kind: type[Exception], seconds: float | None, receiver: Receiver, make: Callable[..., Webhook]
) -> None:
    receiver.answers = [answer]
    with pytest.raises(kind) as caught:
        make(receiver.url).send([LOUD])
    assert type(caught.value) is kind
    assert "SECRET" not in str(caught.value)
    if seconds is not None:
        assert isinstance(caught.value, RetryLaterError)
        assert caught.value.seconds == pytest.approx(seconds, abs=1e-3)


def test_webhook_that_nobody_answers_is_retryable(make: Callable[..., Webhook]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(RetryableError, match="ConnectError"):
            make(url).send([LOUD])


@pytest.mark.parametrize("url", ["ftp://h/", "h:1", "http://", "http://[::1"])
def test_webhook_addresses_that_cannot_be(url: str, make: Callable[..., Webhook]) -> None:
    with pytest.raises(ConfigError, match="address"):
        make(url)


def test_secrets_are_not_shown() -> None:
    options = WebhookOptions(secret=SecretStr("hush"), headers={"A": SecretStr("hush")})
    assert "hush" not in repr(options)
