"""`foreshock explain-verdict`, over a data folder and over a running server: the same answer, in words and as data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import foreshock.cli
from foreshock.adapters.sql import Store
from foreshock.api.auth import Role, Token
from foreshock.api.server import Server, create_app, serve
from foreshock.api.services import Health, Services
from foreshock.errors import BadInputError, ConfigError, PermanentError, RetryableError
from foreshock.runtime.clock import SystemClock
from foreshock.runtime.views import Views
from foreshock.types import rfc3339
from tests.integration.rig import START, STEP, running, settings

FAULTS = (*range(60, 66), *range(80, 84))
SHADOW = {"type": "zscore", "name": "jumpy", "threshold": 1.5, "role": "shadow"}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(foreshock.cli.app, ["explain-verdict", *(str(one) for one in arguments)])


def explained(*arguments: object) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explained") / "data"
    with running(settings(path, detectors=["robust_z", SHADOW])) as rig:
        for step in range(90):
            rig.step(step, FAULTS)
        rig.committed()
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    def never(*_: Any) -> Any:
        raise AssertionError("nothing is sent")

    store = Store(f"sqlite:///{folder / 'foreshock.db'}")
    services = Services(
        version="1", clock=SystemClock(), decode=never, submit=never, control=never, views=Views(2, 2), store=store,
        status=dict, health=Health, tokens=(Token.of("t", Role.VIEWER, "secret"),),
    )  # fmt: skip
    running_server = serve(create_app(services), "127.0.0.1", 0)
    running_server.start()
    yield running_server
    running_server.stop()
    store.close()


def test_the_latest_finding_is_explained_in_words(folder: Path) -> None:
    result = invoke(folder, "--entity", "host.name=h1", "--detector", "robust_z")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"host h1 at {rfc3339((START + STEP * 83) * 10**9)}"
    assert lines[1] == "robust_z"
    assert lines[2].startswith("  cpu: ")
    assert ", between " in lines[2]
    assert lines[2].endswith(" would have been normal")
    assert " times its bar, p = " in lines[3]
    assert re.match(r"  share of features: cpu (9\d|100) %", lines[4])


def test_each_detector_says_what_it_found_with_role_band_and_shares(folder: Path) -> None:
    arguments = (folder, "--entity", '{host.name="h1"}', "--time", START + STEP * 83)
    found = explained(*arguments)
    assert (found["entity"], found["time"]) == ('{host.name="h1"}', rfc3339((START + STEP * 83) * 10**9))
    by = {one["detector"]: one for one in found["verdicts"] if one["feature"] == "cpu"}
    assert {name: one["role"] for name, one in by.items()} == {"robust_z": "primary", "jumpy": "shadow"}
    own = by["robust_z"]
    assert own["low"] < own["expected"] < own["high"] < own["value"]
    assert 0 < own["p_value"] < 0.05
    assert own["ratio"] > 1
    assert own["contributions"][0]["feature"] == "cpu"
    assert "jumpy (shadow: raises no alert)" in invoke(*arguments).stdout.splitlines()


def test_a_time_asks_for_the_last_finding_up_to_then(folder: Path) -> None:
    at = START + STEP * 70
    for text in (str(at), rfc3339(at * 10**9)):
        found = explained(folder, "--entity", "host.name=h1", "--detector", "robust_z", "--time", text)
        assert found["time"] == rfc3339((START + STEP * 65) * 10**9)
    exact = explained(folder, "--entity", "host.name=h1", "--time", START + STEP * 62)
    assert exact["time"] == rfc3339((START + STEP * 62) * 10**9)


def test_a_server_answers_the_same(folder: Path, server: Server) -> None:
    address = f"http://127.0.0.1:{server.port}/"
    for arguments in (
        ("--entity", "host.name=h1"),
        ("--detector", "jumpy"),
        ("--time", START + STEP * 70, "--entity", "host.name=h1"),
    ):
        assert explained(address, *arguments, "--token", "secret") == explained(folder, *arguments)
    result = invoke(address, "--entity", "host.name=h9", "--token", "secret")
    assert (result.exit_code, result.stdout) == (1, "")


def test_what_cannot_be_answered_is_said(folder: Path, server: Server, tmp_path: Path) -> None:
    nothing = invoke(folder, "--entity", "host.name=h9")
    assert nothing.exit_code == 1
    assert nothing.stderr.strip() == "nothing anomalous is known of host.name=h9"
    early = invoke(folder, "--time", "2001-01-01", "--json")
    assert (early.exit_code, json.loads(early.stdout)) == (1, None)
    address = f"http://127.0.0.1:{server.port}"
    for arguments, kind, words in (
        ((tmp_path,), ConfigError, "holds no foreshock.db"),
        ((folder, "--time", "noon"), ConfigError, "neither ISO 8601 nor Unix seconds"),
        ((folder, "--entity", "{"), BadInputError, "is not an entity"),
        ((address,), PermanentError, "send a token"),
        ((address, "--token", "secret", "--entity", "{"), BadInputError, "is not an entity"),
        (("http://127.0.0.1:9",), RetryableError, "does not answer"),
    ):
        error = invoke(*arguments).exception
        assert isinstance(error, kind), arguments
        assert words in str(error)
