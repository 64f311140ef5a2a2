"""The command line as its users meet it: what it prints where, its exit codes, its errors in one sentence."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import foreshock.cli
from foreshock.cli.replay import _nanoseconds
from foreshock.types import rfc3339
from tests.telemetry import START, machine, write_machines

DOCS = Path(__file__).parents[2] / "docs"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(foreshock.cli.app, [str(one) for one in arguments])


def report(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Runs `foreshock …` in this process: its exit code, and what it says on stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["foreshock", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as ended:
            foreshock.cli.main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), capsys.readouterr().err

    yield run
    gc.enable()


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from foreshock.cli import main; main()", *map(str, arguments)]
    # As the console script is started: the current folder is not on sys.path by itself.
    environ = {**os.environ, "PYTHONSAFEPATH": "1"}
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=cwd, env=environ, timeout=120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_machines(tmp_path_factory.mktemp("tables"), count=2, rows=1500, metrics=3)


# -- replay --------------------------------------------------------------------------------------------------------


def test_replay_of_tables_writes_alerts_and_verdicts(tables: list[Path], tmp_path: Path) -> None:
    found = report(invoke("replay", *tables, "--out", tmp_path, "--json"))
    alerts = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    firing = [alert for alert in alerts if alert["status"] == "firing"]
    assert found["rows"] == 3000
    assert found["alerts"] == len({alert["foreshock"]["episode"] for alert in firing}) >= 2
    assert found["notified"] == sum(alert["foreshock"]["notified"] for alert in firing)
    verdicts = pq.read_table(tmp_path / "verdicts.parquet")
    assert verdicts.num_rows == 3000
    assert set(verdicts["entity"].to_pylist()) == {'{entity="machine-0"}', '{entity="machine-1"}'}
    assert found["notes"] == [
        "machine-0.parquet, machine-1.parquet: time = t (s); entity = file name; values = m0, m1, m2"
    ]


def test_replay_says_what_it_found(tables: list[Path], tmp_path: Path) -> None:
    result = invoke("replay", *tables, "--out", tmp_path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("machine-0.parquet, machine-1.parquet: time = t (s)")
    assert re.match(r"[◆◇] 2023-11-15T08:13:20Z m\d of machine-\d is \d", lines[1])
    assert re.match(r"3000 rows judged in [\d.]+ s: \d+ alerts?, \d+ notified", lines[-3])
    assert lines[-2:] == [str(tmp_path / "alerts.jsonl"), str(tmp_path / "verdicts.parquet")]
    assert result.stderr == "", "progress is for terminals"


def test_replay_says_what_was_dropped_though_it_came_late_in_the_file(tmp_path: Path) -> None:
    rows = [f"{START + 60 * k},{k % 7}" for k in range(300)]
    rows[250] = "yesterday,3"
    (tmp_path / "a.csv").write_text("\n".join(["t,v", *rows]) + "\n")
    found = report(invoke("replay", tmp_path / "a.csv", "--out", tmp_path / "out", "--json"))
    assert found["notes"][0].endswith("bad_time: 1 dropped, first at row 251")


def test_replay_with_time_entity_and_detectors_of_the_users_choice(tmp_path: Path) -> None:
    columns = machine(0, 800, metrics=2)
    table = pa.table({
        "at": columns["t"], "room": ["a", "b"] * 400, "floor": ["1"] * 800, "m0": columns["m0"], "m1": columns["m1"],
    })  # fmt: skip
    pcsv.write_csv(table, tmp_path / "rooms.csv")
    report(invoke(
        "replay", tmp_path / "rooms.csv", "--out", tmp_path / "out", "--json", "--time", "at",
        "--entity-by", "floor", "--entity-by", "room", "--detector", "zscore", "--detector", "robust_z",
    ))  # fmt: skip
    entities = set(pq.read_table(tmp_path / "out" / "verdicts.parquet")["entity"].to_pylist())
    assert entities == {'{floor="1",room="a"}', '{floor="1",room="b"}'}
    alerts = (tmp_path / "out" / "alerts.jsonl").read_text()
    assert {json.loads(line)["annotations"]["detector"] for line in alerts.splitlines()} <= {"zscore", "robust_z"}
    assert alerts


def test_detector_replaces_those_of_the_config(tables: list[Path], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("detectors: [robust_z]\n")
    arguments = (
        "replay",
        tables[0],
        "--out",
        tmp_path / "out",
        "--config",
        tmp_path / "c.yaml",
        "--detector",
        "zscore",
    )
    report(invoke(*arguments, "--json"))
    alerts = [json.loads(line) for line in (tmp_path / "out" / "alerts.jsonl").read_text().splitlines()]
    assert alerts
    assert {alert["annotations"]["detector"] for alert in alerts} == {"zscore"}


@pytest.mark.parametrize("until", [START + 60 * 700, rfc3339((START + 60 * 700) * 1_000_000_000)])
def test_nothing_is_raised_before_train_until(tables: list[Path], tmp_path: Path, until: object) -> None:
    report(invoke("replay", tables[0], "--out", tmp_path, "--train-until", until, "--json"))
    starts = [json.loads(line)["startsAt"] for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert starts
    assert min(starts) >= rfc3339((START + 60 * 700) * 1_000_000_000)


def test_times_of_the_command_line_are_exact() -> None:
    assert _nanoseconds("2023-11-14T22:13:20.25+00:00") == 1_700_000_000_250_000_000
    assert _nanoseconds("2023-11-14T23:13:20+01:00") == _nanoseconds("2023-11-14T22:13:20") == START * 1_000_000_000
    assert _nanoseconds(str(START)) == START * 1_000_000_000


def test_config_of_replay_counts(tables: list[Path], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("ignore: ['*']\n")
    assert report(invoke("replay", tables[0], "--out", tmp_path / "out", "--config", tmp_path / "c.yaml", "--json"))[
        "alerts"
    ] == 0  # fmt: skip


def test_unfinished_replay_of_something_else_is_refused_and_fresh_starts_anew(
    main: Any, tables: list[Path], tmp_path: Path
) -> None:
    work = tmp_path / ".replay"
    work.mkdir()
    (work / "input.json").write_text("{}")
    code, said = main("replay", tables[0], "--out", tmp_path)
    assert code == 2
    assert "unfinished replay of other input or settings" in said
    assert said.count("\n") == 1
    assert report(invoke("replay", tables[0], "--out", tmp_path, "--fresh", "--json"))["rows"] == 1500
    assert not work.exists()


def test_interrupted_replay_says_that_it_can_go_on(
    tables: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foreshock.runtime.replay.Replay.run", interrupt)
    result = invoke("replay", tables[0], "--out", tmp_path)
    assert result.exit_code == 130
    assert "call it again with the same arguments" in result.stderr


def test_plots_are_drawn(tables: list[Path], tmp_path: Path) -> None:
    found = report(invoke("replay", tables[0], "--out", tmp_path, "--plots", "--json"))
    assert len(found["plots"]) >= found["alerts"] > 0
    assert all(Path(one).read_bytes().startswith(b"\x89PNG") for one in found["plots"])


def labelled(folder: Path) -> Path:
    """A machine whose first faults are labelled, in a column that no default would leave out."""
    columns = machine(0, 1500, metrics=2)
    wrong = np.zeros(1500, np.int64)
    wrong[600:620] = 1
    pcsv.write_csv(pa.table({**columns, "broken": wrong}), folder / "a.csv")
    return folder / "a.csv"


def test_replay_counts_every_detector_against_a_labelled_column(tmp_path: Path) -> None:
    table = labelled(tmp_path)
    plain = tmp_path / "plain.csv"
    lines = table.read_text().splitlines()
    plain.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    (tmp_path / "a").mkdir()
    plain = plain.rename(tmp_path / "a" / "a.csv")
    arguments = ("--detector", "robust_z", "--detector", "zscore", "--json")
    found = report(invoke("replay", table, "--out", tmp_path / "x", *arguments, "--label", "broken"))
    without = report(invoke("replay", plain, "--out", tmp_path / "y", *arguments))
    for name in ("alerts.jsonl", "verdicts.parquet"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes(), "no detector sees a label"
    assert "broken" in found["notes"][0].partition("skipped = ")[2]
    for one, other in zip(found["detectors"], without["detectors"], strict=True):
        assert (one["name"], one["role"], one["episodes"]) == (other["name"], "primary", other["episodes"])
        assert one["true_positives"] == 1
        assert one["true_positives"] + one["false_positives"] + one["open"] == one["episodes"] >= 2
        assert (other["true_positives"], other["false_positives"]) == (0, 0)
    told = invoke("replay", table, "--out", tmp_path / "z", "--label", "broken").stdout.splitlines()
    table_at = [line.split() for line in told].index(
        ["detector", "role", "episodes", "true", "false", "of", "its", "budget"]
    )
    assert [line.split()[:2] for line in told[table_at + 1 :][:2]] == [["deviation", "primary"], ["linear", "primary"]]


def test_replay_takes_labels_from_a_file(tmp_path: Path) -> None:
    table = labelled(tmp_path)
    first = START + 60 * 600
    for text, true in (
        (f"start,end\n{first},{first + 1200}\n", 1),
        (f"entity,start,end\na,{rfc3339(first * 10**9)},{first + 1200}\n", 1),
        (f"entity,start,end\nb,{first},{first + 1200}\n", 0),
        ("start,end\n", 0),
    ):
        (tmp_path / "truth.csv").write_text(text)
        found = report(invoke(
            "replay", table, "--out", tmp_path / "out", "--labels", tmp_path / "truth.csv", "--json", "--fresh",
            "--detector", "robust_z",
        ))  # fmt: skip
        (one,) = found["detectors"]
        assert one["true_positives"] == true, text


def test_own_detector_of_the_current_folder_is_found(tables: list[Path], tmp_path: Path) -> None:
    own = (Path(__file__).parent / "own_detector.py").read_text()
    (tmp_path / "my_detector.py").write_text(own)
    arguments = ("replay", tables[0], "--out", tmp_path / "out", "--detector", "my_detector:Jump", "--json")
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["alerts"] > 0
    alerts = (tmp_path / "out" / "alerts.jsonl").read_text()
    assert '"detector":"my_detector:Jump"' in alerts


# -- run -----------------------------------------------------------------------------------------------------------


def test_run_reports_in_json_and_the_log_can_be_read_and_replayed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = invoke("run", "--headless", "--seconds", 2.5, "--json", "--data-dir", data, "--listen", "127.0.0.1:0")
    found = report(result)
    assert found["alerts"][0]["labels"]["alertname"] == "ForeshockWatchdog"
    assert {"status", "labels", "annotations", "startsAt", "endsAt", "fingerprint"} <= found["alerts"][0].keys()
    assert found["status"]["version"] == foreshock.__version__
    assert re.search(r"foreshock watches host, http://127\.0\.0\.1:\d+; data in ", result.stderr)
    assert re.search(r"watched \d+ series for \d+ s: no alerts", result.stderr)

    summary = report(invoke("log", "inspect", data, "--json"))
    assert summary["by_source"]["host"] >= 1
    assert "source host: " in invoke("log", "inspect", data / "log").stdout
    assert invoke("log", "verify", data).stdout == "the log is whole\n"
    replayed = report(invoke("replay", data, "--out", tmp_path / "out", "--json"))
    assert replayed["records"] == summary["records"]

    segment = next((data / "log").glob("*.log"))
    segment.write_bytes(segment.read_bytes()[:200] + b"!" + segment.read_bytes()[201:])
    broken = invoke("log", "verify", data)
    assert broken.exit_code == 1
    assert re.search(r"/\d{20}\.log: position 0, byte \d+: the checksum", broken.stdout)
    assert json.loads(invoke("log", "verify", data, "--json").stdout)[0]["position"] == 0


def test_run_without_data_dir_keeps_its_data_in_the_current_folder_and_ends_with_sigint(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("sources: [http]\nhttp: {listen: '127.0.0.1:0'}\n")
    line = [sys.executable, "-m", "foreshock", "run", "c.yaml"]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert first.startswith("foreshock watches http, http://127.0.0.1:")
    assert out == ""
    assert rest.splitlines()[-1].endswith("no alerts; data in .foreshock")
    assert (tmp_path / ".foreshock" / "log").is_dir()


def test_run_says_in_a_sentence_why_it_cannot(main: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = main("run", "--headless", "--seconds", 1, "--data-dir", tmp_path / "d", "--listen", address)
    assert code == 3
    assert address in said
    assert "Traceback" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: no such file, folder or preset"),
        (("run", "hots"), "did you mean the preset 'host'?"),
        (("run", "host", "minimal"), "only one preset can be given"),
        (("run", "--listen", "8080"), "must be host:port"),
        (("run", "--listen", "0.0.0.0:8080"), "give http.tokens at least one token"),
        (("replay", "nowhere.csv", "--out", "out"), "no file nowhere.csv"),
        (("replay", "cli.csv", "--out", "out", "--detector", "zscor"), "did you mean 'zscore'?"),
        (("replay", "cli.csv", "--out", "out", "--train-until", "noon"), "neither ISO 8601 nor Unix seconds"),
        (("replay", "cli.csv", "--out", "out", "--time", "when"), "when"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(
    main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli.csv").write_text("t,v\n1700000000,1\n1700000060,2\n")
    code, said = main(*arguments)
    assert code == 2
    assert said.startswith("foreshock: ")
    assert words in said
    assert said.count("\n") == 1


def test_unknown_options_are_wrong_use(main: Any) -> None:
    code, said = main("run", "--nonsense")
    assert code == 2
    assert "--nonsense" in said


def test_folder_that_cannot_be_written_stops_with_3(main: Any, tables: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = main("replay", tables[0], "--out", tmp_path / "file" / "out")
    assert code == 3
    assert said.startswith(f"foreshock: {tmp_path / 'file' / 'out'}")
    assert "Not a directory" in said
    assert said.count("\n") == 1


# -- config, tools -------------------------------------------------------------------------------------------------


def test_check(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("sources: [host]\n")
    bad.write_text("sources: [host]\nbudgett:\n  environment: 1\nstream: {step: soon}\n")
    assert invoke("check", good).stdout == "the config is good\n"
    assert report(invoke("check", "host", "--json")) == []
    result = invoke("check", bad)
    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) == 2
    assert f"{bad}:2: budgett: " in result.stdout
    assert "'budget'" in result.stdout
    as_json = invoke("check", bad, "--json")
    assert as_json.exit_code == 2
    assert [problem["line"] for problem in json.loads(as_json.stdout)] == [2, 4]


def test_config_show_schema_and_presets(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("environment: shop\n")
    shown = invoke("config", "show", file, "--sources").stdout
    assert f"environment: shop  # {file}:1" in shown
    assert "data_dir: .foreshock" in invoke("config", "show").stdout
    assert "environment" in report(invoke("config", "schema"))["properties"]
    assert "host: This machine" in invoke("config", "presets").stdout
    assert set(report(invoke("config", "presets", "--json"))) >= {"host", "minimal"}


def test_log_of_nothing_is_told(main: Any, tmp_path: Path) -> None:
    code, said = main("log", "inspect", tmp_path / "nothing")
    assert code in (2, 3)
    assert said.count("\n") == 1


def test_version() -> None:
    found = report(invoke("version", "--json"))
    assert found["foreshock"] == foreshock.__version__
    assert found["numerics"].startswith("foreshock-")
    assert invoke("version").stdout.startswith(f"foreshock {foreshock.__version__}\n")


def test_defects_are_told_as_such_and_do_not_look_like_problems(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("foreshock.runtime.snapshot.numerics_id", fail)
    assert main("version")[0] == 3


def test_what_is_quick_imports_little() -> None:
    heavy = {"numba", "pyarrow", "sqlalchemy", "pandas", "pydantic"}
    code = "import sys, foreshock, foreshock.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())


def test_run_needs_no_arrow_and_no_pandas() -> None:
    code = "import sys, foreshock.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pyarrow", "pandas", "matplotlib", "rich"} & set(done.stdout.split())


# -- docs ----------------------------------------------------------------------------------------------------------


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*path, name))
        else:
            yield " ".join((*path, name)), one


def test_reference_names_every_command_and_option() -> None:
    import typer.main

    text = (DOCS / "reference" / "cli.md").read_text()
    found = dict(commands(typer.main.get_command(foreshock.cli.app)))
    assert set(re.findall(r"^## `foreshock ([\w-]+)", text, re.M)) == {name.split()[0] for name in found}
    for name, one in found.items():
        start = text.index(f"`foreshock {name}")
        section = text[start : text.find("\n## ", start)]
        for parameter in one.params:
            for option in (opt for opt in parameter.opts if opt.startswith("--") and opt != "--help"):
                assert f"`{option}" in section, f"{name} {option}"
