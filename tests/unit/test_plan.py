"""What `foreshock plan` says is what is then taken."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import foreshock.cli
from foreshock.config import load
from foreshock.runtime.plan import estimate

ENTITIES, FEATURES = 40, 50

PLAN = """
from foreshock.config import load
from foreshock.runtime.plan import estimate
config = load([], environ={{}}, overrides={{"detectors": ["robust_z"], "stream": {{"step": 10}}}})
print(estimate(config, {entities}, {features}, 10.0).memory_bytes)
"""

TAKEN = """
import psutil
from foreshock.config import load
from foreshock.runtime.task import Task
from foreshock.runtime.views import Views
from foreshock.runtime.warm import readings
config = load([], environ={{}}, overrides={{"detectors": ["robust_z"], "stream": {{"step": 10}}}})
task, views = Task(config, bands=True), Views()
for record in readings({entities}, {features}, views.points + 5, 10.0):
    for columns in task.process(record).columns:
        views.feed(columns.rows, columns.verdicts, task.pipeline.registry)
assert len(task.pipeline.registry) == {entities} * {features}
print(psutil.Process().memory_info().rss)
"""


def in_processes(*codes: str) -> list[int]:
    """What each prints, in a process of its own, side by side."""
    lines = [[sys.executable, "-c", code.format(entities=ENTITIES, features=FEATURES)] for code in codes]
    started = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for line in lines]
    return [int(process.communicate(timeout=120)[0]) for process in started]


def test_predicted_memory_is_what_is_taken_within_30_percent() -> None:
    predicted, taken = in_processes(PLAN, TAKEN)
    assert predicted == pytest.approx(taken, rel=0.3)


def test_more_series_cost_more_and_small_runs_stay_small() -> None:
    config = load([], environ={}, overrides={"detectors": ["zscore"]})
    few, many = estimate(config, 5, 4, 10.0), estimate(config, 50_000, 4, 10.0)
    assert (few.series, many.series) == (20, 200_000)
    # The views of 5,000 series alone are 180 MB, and each series has its rows in every operator.
    assert many.memory_bytes - few.memory_bytes > 5000 * 720 * 50 + 200_000 * 300
    assert many.cpu_cores > 100 * few.seconds_per_million * 20 / 10 / 1e6
    assert many.log_bytes_per_day == pytest.approx(200_000 * 8640 * 45, rel=0.5)


def test_plan_tells_people_and_programs() -> None:
    arguments = ["plan", "host", "--entities", "3", "--features", "4", "--step", "5"]
    lines = CliRunner().invoke(foreshock.cli.app, arguments).stdout.splitlines()
    assert lines[0] == "12 series of 3 entities, a sample each 5 s"
    assert [line.split()[0] for line in lines[1:]] == ["memory", "CPU", "log"]
    found = json.loads(CliRunner().invoke(foreshock.cli.app, [*arguments, "--json"]).stdout)
    assert found["series"] == 12
    assert found["memory_bytes"] > 50e6
    refused = CliRunner().invoke(foreshock.cli.app, ["plan", "--entities", "0"])
    assert refused.exit_code == 2
