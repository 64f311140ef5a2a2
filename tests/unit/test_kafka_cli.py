"""The commands around Kafka, as far as they go without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from foreshock.adapters.truth import Interval
from foreshock.cli import app
from foreshock.cli.agent import _address, kafka_options
from foreshock.cli.load import _write
from foreshock.config import load
from foreshock.errors import ConfigError, PermanentError
from foreshock.runtime.lock import lock_folder


@pytest.mark.parametrize(
    ("listen", "address"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0)), (":80", ("0.0.0.0", 80))],
)
def test_an_address_is_host_and_port(listen: str, address: tuple[str, int]) -> None:
    assert _address(listen) == address


@pytest.mark.parametrize("listen", ["9464", "a:b", "a:", "a:70000"])
def test_what_is_no_address_is_said(listen: str) -> None:
    with pytest.raises(ConfigError, match="write host:port"):
        _address(listen)


def test_the_brokers_are_those_of_the_command_line_the_settings_or_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, bare = load(overrides={"kafka": {"brokers": "a:1"}}, environ={}), load(environ={})
    monkeypatch.setenv("KAFKA_BROKERS", "b:2")
    assert kafka_options(own, "c:3").brokers == "c:3"
    assert kafka_options(own, None).brokers == "a:1"
    assert kafka_options(bare, None).brokers == "b:2"
    monkeypatch.delenv("KAFKA_BROKERS")
    assert kafka_options(bare, None).brokers == "127.0.0.1:9092"


@pytest.mark.parametrize(("option", "value", "says"), [("--url", "ftp://a", "http"), ("--query", "", "at least 1")])
def test_a_wrong_prometheus_is_said(option: str, value: str, says: str) -> None:
    done = CliRunner().invoke(app, ["agent", "prometheus", option, value])
    assert isinstance(done.exception, ConfigError), done.output
    assert says in str(done.exception)


def test_two_agents_cannot_share_a_buffer(tmp_path: Path) -> None:
    with lock_folder(tmp_path):
        done = CliRunner().invoke(app, ["agent", "host", "--listen", "", "--spool", str(tmp_path), "--seconds", "1"])
    assert isinstance(done.exception, PermanentError)
    assert "in use" in str(done.exception)


def test_a_wrong_setting_is_said_before_anything_runs(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("kafka: {client: {no.such.property: 1}}")
    for command in (["agent", "host", "--listen", ""], ["load"], ["shop", "kafka"]):
        done = CliRunner().invoke(app, [*command, str(config), "--spool", str(tmp_path / "spool")])
        assert isinstance(done.exception, ConfigError), done.output
        assert "no.such.property" in str(done.exception)


def test_the_truth_is_written_as_labels(tmp_path: Path) -> None:
    _write(tmp_path / "t.csv", [Interval((("userId", "u-7"),), 1_000_000_000, 2_500_000_000)])
    assert (tmp_path / "t.csv").read_text().splitlines() == ["start,end,userId", "1.0,2.5,u-7"]
