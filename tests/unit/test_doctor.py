"""`foreshock doctor`: each thing that a run needs, with what was found."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

import foreshock.cli
from foreshock.config import Config, load
from foreshock.runtime import doctor
from foreshock.runtime.doctor import examine
from foreshock.runtime.lock import lock_folder


def settings(folder: Path, listen: str = "127.0.0.1:0", **more: object) -> Config:
    return load([], environ={}, overrides={"data_dir": str(folder), "http": {"listen": listen}, **more})


def bad(config: Config) -> dict[str, str]:
    return {finding.what: finding.found for finding in examine(config) if not finding.good}


def test_all_is_well(tmp_path: Path) -> None:
    findings = examine(settings(tmp_path / "data"))
    assert all(finding.good for finding in findings)
    assert [finding.what for finding in findings] == [
        "Python", "data folder", "free disk", "HTTP address", "kernels", "clock", "open files",
    ]  # fmt: skip


def test_without_http_its_address_is_not_asked_for(tmp_path: Path) -> None:
    config = load([], environ={}, overrides={"data_dir": str(tmp_path), "http": {"enabled": False}})
    assert "HTTP address" not in {finding.what for finding in examine(config)}


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert bad(settings(tmp_path, address)) == {"HTTP address": f"{address}: Address already in use"}


def test_an_address_that_is_none_of_ours(tmp_path: Path) -> None:
    tokens = {"listen": "nowhere.invalid:80", "tokens": [{"token": "x", "role": "admin"}]}
    config = load([], environ={}, overrides={"data_dir": str(tmp_path), "http": tokens})
    assert list(bad(config)) == ["HTTP address"]


def test_a_data_folder_in_use_or_that_is_none(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "data"):
        assert "data folder" in bad(settings(tmp_path / "data"))
    (tmp_path / "file").write_text("")
    assert "data folder" in bad(settings(tmp_path / "file"))


def test_a_full_disk_and_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 1 << 62)
    monkeypatch.setattr(doctor, "LEAST_FILES", 1 << 62)
    monkeypatch.setattr("resource.getrlimit", lambda which: (64, 64))
    assert set(bad(settings(tmp_path))) == {"free disk", "open files"}


def test_a_detector_that_cannot_be_made(tmp_path: Path) -> None:
    config = settings(tmp_path)
    broken = config.detectors[0].model_copy(update={"type": "nowhere:Nothing"})
    found = bad(config.model_copy(update={"detectors": [broken]}))
    assert list(found) == ["kernels"]
    assert "there is no module nowhere" in found["kernels"]


def test_the_command_says_it_in_lines_or_json_and_exits_with_1(tmp_path: Path) -> None:
    runner = CliRunner()
    config = tmp_path / "c.yaml"
    config.write_text(f"data_dir: {tmp_path / 'data'}\nhttp: {{listen: '127.0.0.1:0'}}\n")
    fine = runner.invoke(foreshock.cli.app, ["doctor", str(config)])
    assert fine.exit_code == 0
    assert all(line.startswith("✓ ") for line in fine.stdout.splitlines())
    (tmp_path / "data" / "in-the-way").write_text("")
    config.write_text(f"data_dir: {tmp_path / 'data' / 'in-the-way'}\nhttp: {{listen: '127.0.0.1:0'}}\n")
    told = runner.invoke(foreshock.cli.app, ["doctor", str(config)])
    assert told.exit_code == 1
    assert "✗ data folder: " in told.stdout
    as_json = runner.invoke(foreshock.cli.app, ["doctor", str(config), "--json"])
    assert as_json.exit_code == 1
    assert {one["what"]: one["good"] for one in json.loads(as_json.stdout)}["data folder"] is False
