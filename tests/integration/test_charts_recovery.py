"""Killed at any moment and started again, what is kept for charts is what a run that was left alone keeps."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from foreshock.config import Config
from foreshock.runtime.history import History
from foreshock.runtime.rollups_kernel import TIERS
from foreshock.runtime.writer import Chore
from foreshock.state import pack
from foreshock.types import Control, ControlKind
from tests.integration import rig as rigs
from tests.integration.rig import START, Rig, eventually, running, settings

STEP = 300
STEPS = 200
"""Sixteen hours: fine chunks and coarse ones become full."""
FAULTS = (*range(70, 76), *range(140, 146))
HOST = '{host.name="h1"}'

Row = tuple[str, str, int, int, int, bytes]


@pytest.fixture(autouse=True)
def _slow_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        slow(patch)
        yield


def slow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rigs, "STEP", STEP)
    patch.setattr("foreshock.runtime.embedded.COMMIT_SECONDS", 0.005)


def config(folder: Path) -> Config:
    return settings(folder, snapshot={"every": 0.02, "share": 1.0}, detectors=["robust_z", "linear"])


def feed(rig: Rig, steps: range) -> None:
    for step in steps:
        rig.step(step, FAULTS)


def stored(rig: Rig) -> list[Row]:
    """All stretches of buckets in the database."""
    query = (
        "SELECT entity, feature, seconds, start_unix_nano, rows, data FROM stretch JOIN series ON series.id = series "
        "WHERE seconds > 0 ORDER BY 1, 2, 3, 4"
    )
    with sqlite3.connect(rig.folder / "foreshock.db") as raw:
        return raw.execute(query).fetchall()


def written(rig: Rig) -> None:
    """Wait until the writer has done all that it was given."""
    done = threading.Event()
    rig.engine.writer.put(Chore(done.set))
    assert done.wait(rigs.WAIT)


def kept(rig: Rig) -> tuple[list[Row], bytes]:
    """All that is kept, stored and going on, once everything is judged and written."""
    rig.judged()
    written(rig)
    return stored(rig), pack(rig.views.rollups_state()["rollups"])


@cache
def undisturbed() -> tuple[list[Row], bytes]:
    with TemporaryDirectory() as folder, running(config(Path(folder) / "data")) as rig:
        feed(rig, range(STEPS))
        found = kept(rig)
    rows = found[0]
    assert {(row[2], row[1] == "") for row in rows} == {(tier.seconds, one) for tier in TIERS for one in (False, True)}
    return found


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stops = sorted(int(step) for step in rng.choice(np.arange(1, STEPS), 3, replace=False))
    folder, first = tmp_path / "0", 0
    for number, stop in enumerate(stops, 1):
        with running(config(folder)) as rig:
            feed(rig, range(first, stop))
            if rng.random() < 0.5:
                rig.committed()
            folder, first = rig.copy(tmp_path / str(number)), stop
    with running(config(folder)) as rig:
        feed(rig, range(first, STEPS))
        assert kept(rig) == undisturbed()


def test_without_snapshots_or_database_all_is_made_again_from_the_log(tmp_path: Path) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(STEPS))
    for path in [*(tmp_path / "data" / "snapshots").iterdir(), *(tmp_path / "data").glob("foreshock.db*")]:
        path.unlink()
    with running(config(tmp_path / "data")) as rig:
        assert kept(rig) == undisturbed()


def test_a_chart_reaches_back_over_a_restart_with_every_row_once(tmp_path: Path) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(150))
    with running(config(tmp_path / "data")) as rig:
        before = History(rig.views, rig.store).between(HOST, "cpu", START * 10**9, (START + 10**6) * 10**9, 100_000)
        assert before is not None, "nothing came yet, and it is known all the same"
        feed(rig, range(150, STEPS))
        rig.judged()
        written(rig)
        found = History(rig.views, rig.store).between(HOST, "cpu", START * 10**9, (START + 10**6) * 10**9, 100_000)
    assert found is not None
    # The rings of the rig hold ten points: those are stored at the end of a run, minutes stand for the others.
    assert found.stretch.seconds[141:149].tolist() == [0] * 8
    assert {60} <= set(found.stretch.seconds[:141].tolist()) <= {0, 60}
    assert found.stretch.seconds[-10:].tolist() == [0] * 10
    assert found.stretch.rows.sum() == len(found.stretch) >= STEPS - 1, "the last window may still be open"
    assert set(np.diff(found.stretch.time_unix_nano // 10**9 // 60 * 60).tolist()) == {STEP}
    assert found.whole == {"linear"}
    assert found.stretch.anomalous.any()


def test_what_is_forgotten_is_kept_nowhere(tmp_path: Path) -> None:
    with running(config(tmp_path / "data")) as rig:
        feed(rig, range(100))
        rig.engine.control(Control(ControlKind.FORGET, "f", START * 10**9, matchers={"host.name": "h1"}))
        feed(rig, range(100, 101))
        kept(rig)
        eventually(lambda: HOST not in {row[0] for row in stored(rig)})
        found = History(rig.views, rig.store).between(HOST, "cpu", 0, (START + 99 * STEP) * 10**9, 1000)
        assert found is None or not len(found.stretch)
        assert '{host.name="h0"}' in {row[0] for row in stored(rig)}
