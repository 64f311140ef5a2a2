"""The measure over the simulated shop: small, but whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foreshock.bench import shop as bench
from foreshock.bench.play import play
from foreshock.cli import app
from foreshock.shop.faults import Fault
from foreshock.shop.judge import judge
from foreshock.shop.settings import Settings

START = 1_704_067_200_000_000_000


def one(seed: int, **more: object) -> bench.Trial:
    known = {"found": True, "notified": True, "right_service": True, "right_feature": True, "delay_seconds": 5.0}
    return bench.Trial("crash", "large", seed, "cart", **(known | more), feature="", before=0, by_chance=0)  # type: ignore[arg-type]


def test_a_fault_is_played_and_found_and_the_same_again() -> None:
    fault = Fault("error_spike", "payment", "large", 1500.0, 60.0)
    played, again = (play(Settings(seed=1), START, 1800, [fault]) for _ in range(2))
    assert (again.decided, again.alerts, again.rows) == (played.decided, played.alerts, played.rows)
    found, _ = judge(played.truths, played.alerts.values(), played.decided)
    assert found[0].right_service
    assert found[0].delay_seconds <= 15


def test_the_shop_without_the_fault_is_the_same_until_it_begins() -> None:
    """Two faults, of which the first is in both: what follows it is the same until the second begins."""
    first, second = Fault("crash", "cart", "large", 900.0, 60.0), Fault("error_spike", "payment", "large", 1500.0, 60.0)
    broken, whole = (play(Settings(seed=1), START, 1800, faults) for faults in ([first, second], [first]))
    until = START + 1500 * 1_000_000_000
    before, also = ({e for e in one.alerts if one.decided[e] <= until} for one in (broken, whole))
    assert before
    assert before == also
    assert set(broken.alerts) - set(whole.alerts)


def test_cells_are_shares_and_the_median_of_what_was_found() -> None:
    trials = [one(0), one(1, delay_seconds=15.0), one(2, found=False, right_feature=False, delay_seconds=math.nan)]
    cell = bench.cells(trials)[0]
    assert (cell.trials, cell.found, cell.right_feature, cell.delay_seconds) == (3, 2 / 3, 2 / 3, 10.0)
    text = "\n".join(bench.table(trials, bench.Quiet(2, 0, 2.0, 3, 4, 0.75, (1, 2), ("x",))))
    assert "crash            large       3   0.67" in text
    assert "3 notifications, 1.50 a day, 0.75 × the budget of 2" in text


def test_the_command_writes_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bench, "run", lambda seeds, days, jobs, kinds: iter([(1, 1, one(seed)) for seed in range(seeds)])
    )
    ran = CliRunner().invoke(
        app, ["bench", "shop", "--seeds", "2", "--days", "0", "--fault", "crash", "--json", "--out", str(tmp_path)]
    )
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.output)
    assert said == json.loads((tmp_path / "shop.json").read_text())
    assert [cell["found"] for cell in said["cells"]] == [1.0]
    assert said["quiet"] is None
