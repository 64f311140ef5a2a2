"""The examples of docs/how-to/watch-your-application.md and docs/reference/http.md, as they stand there."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from foreshock.adapters.calls import decode_calls
from foreshock.instrument import Recorder
from tests.unit.receivers import Receiver, heard, receiver
from tests.unit.serve import served, wsgi_served

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "how-to/watch-your-application.md").read_text()
CHARGE = ("checkout", "payment", "POST", "/charge", 200)


def code(part: str) -> str:
    """The Python of a part of the page."""
    found = re.search(rf"\n## {re.escape(part)}.*?\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, part
    return found[1]


def run(part: str, there: Receiver, port: int = 8001) -> dict[str, Any]:
    """What the code of a part defines, where Foreshock is `there` and the called service at this port."""
    text = re.sub(r'Recorder\("(\w+)"\)', rf'Recorder("\1", {there.url!r}, every_seconds=60)', code(part))
    names: dict[str, Any] = {}
    exec(text.replace("127.0.0.1:8001", f"127.0.0.1:{port}"), names)
    return names


@pytest.fixture
def there() -> Any:
    with receiver() as one:
        yield one


def test_the_asgi_example_and_the_clients(there: Receiver) -> None:
    payment = run("What it answers: ASGI", there)
    with served(payment["app"]) as url:
        httpx.post(url + "/charge/6")
        for client in ("What it calls: httpx", "What it calls: requests"):
            checkout = run(client, there, int(url.rpartition(":")[2]))
            assert (checkout["answer"].status_code, checkout["answer"].text) == (200, "charged")
            assert checkout["recorder"].flush()
            checkout["recorder"].close()
        assert payment["recorder"].flush()
        payment["recorder"].close()
    assert there.calls() == [
        ("checkout", "payment", "POST", "/charge/7", 200), ("checkout", "payment", "POST", "/charge/8", 200),
        ("unknown", "payment", "POST", "/charge/{id}", 200),
    ]  # fmt: skip


def test_the_wsgi_example(there: Receiver) -> None:
    stock = run("What it answers: WSGI", there)["application"]
    with wsgi_served(stock) as url:
        assert httpx.get(url + "/7?x=1").text == "in stock"
    stock._recorder.close()
    assert there.calls() == [("unknown", "stock", "GET", "/7", 200)]


def test_the_recorder_alone(there: Receiver) -> None:
    run("Anything else", there)["recorder"].close()
    assert there.calls() == [CHARGE]


def test_what_is_posted_by_hand() -> None:
    for page in (PAGE, (DOCS / "reference/http.md").read_text()):
        [body] = re.findall(r"/collect -H 'Content-Type: application/json' \\\n +-d '(.*)'", page)
        assert heard({}, body.encode()) == [CHARGE]


def test_the_columns_of_the_reference() -> None:
    found = re.search(r'```json\n(\{"names".*?)```', (DOCS / "reference/http.md").read_text(), re.DOTALL)
    assert found is not None
    calls = decode_calls(json.dumps(json.loads(found[1])).encode(), 1)
    assert (len(calls), calls.dropped) == (2, {})
    assert heard({}, found[1].encode()) == [CHARGE, (*CHARGE[:4], 503)]


def test_the_limits_are_as_the_page_says() -> None:
    defaults = {name: one.default for name, one in inspect.signature(Recorder).parameters.items()}
    page = " ".join(PAGE.split())
    for said in (
        f"`capacity` calls ({defaults['capacity']:,})", f"`batch` ({defaults['batch']}) calls",
        f"`exit_seconds` ({defaults['exit_seconds']:g} s)", f"`timeout_seconds` ({defaults['timeout_seconds']:g} s)",
    ):  # fmt: skip
        assert said in page
