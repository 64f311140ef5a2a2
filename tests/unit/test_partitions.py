"""The same records, cut at random, shuffled between entities and spread over tasks, give the same alerts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from foreshock import pipeline as pipes
from foreshock.adapters.decode import decode_samples as decode
from foreshock.config import Config, load
from foreshock.types import Alert, Columns, Intake, Record
from foreshock.types.record import NDJSON

ENTITIES, ROWS, STEP = 10, 500, 60
START = 1_700_000_000 // STEP * STEP


def settings() -> Config:
    return load([], environ={}, overrides={"stream": {"step": STEP}, "sources": [{"type": "http", "lateness": 90}]})


def samples(seed: int = 5) -> list[list[dict[str, Any]]]:
    """Rows of each entity in its own order: noise, two faults, some rows swapped, some twice, some missing."""
    rng = np.random.default_rng(seed)
    out = []
    for e in range(ENTITIES):
        rows = []
        for k in range(ROWS):
            shift = 40.0 if e % 3 == 0 and 300 <= k < 320 else 60.0 if e == 4 and 410 <= k < 440 else 0.0
            values = {
                "cpu": 20 + rng.normal() + shift,
                "mem": 50 + rng.normal(),
                "lat": 5 + rng.normal() / 4 + shift / 3,
            }
            rows.append({"time": START + STEP * k, "host": f"h{e}", **values})
        for k in rng.choice(np.arange(50, ROWS - 50, 3), 12, replace=False):
            rows[k], rows[k + 1] = rows[k + 1], rows[k]
        for k in sorted(rng.choice(np.arange(52, ROWS - 50, 3), 6, replace=False))[::-1]:
            rows.insert(int(k), rows[int(k)])
        for k in sorted(rng.choice(np.arange(100, 250), 9, replace=False))[::-1]:
            del rows[int(k)]
        if e == 7:
            del rows[350:400]
        out.append(rows)
    return out


@dataclass
class Keyed:
    pipeline: pipes.Pipeline
    config: Config

    def take(self, rows: list[dict[str, Any]]) -> Columns:
        payload = "\n".join(json.dumps(row) for row in rows).encode()
        now = (START + STEP * ROWS) * 1_000_000_000
        record = Record("default", "http", NDJSON, now, payload)
        columns = Columns(intakes=(Intake("http", now, decode(record, self.config.mapping)),))
        return pipes.run(self.pipeline.keyed, columns)


def run(rows: list[list[dict[str, Any]]], tasks: int, seed: int) -> list[Alert]:
    """All rows through `tasks` keyed tasks and one environment, interleaved and cut as `seed` says."""
    rng = np.random.default_rng(seed)
    config = settings()
    keyed = [Keyed(pipes.build(config), config) for _ in range(tasks)]
    environment = pipes.build(config).environment
    owner = {e: (e * 7 + seed) % tasks for e in range(len(rows))}
    at = [0] * len(rows)
    alerts: list[Alert] = []

    def hand_on(columns: Columns) -> None:
        alerts.extend(pipes.run(environment, Columns(alerts=columns.alerts, presence=columns.presence)).alerts)

    while any(at[e] < len(rows[e]) for e in range(len(rows))):
        # Entities move on at their own pace, but none falls behind by more than the watermark below allows for.
        slowest = min(at)
        for task in range(tasks):
            batch: list[dict[str, Any]] = []
            mine = [e for e in owner if owner[e] == task]
            rng.shuffle(mine)
            for e in mine:
                count = int(rng.integers(0, 40)) if at[e] - slowest < 60 else 0
                batch += rows[e][at[e] : at[e] + count]
                at[e] += count
            rng_cut = sorted(rng.integers(0, len(batch) + 1, 2).tolist())
            for part in (batch[: rng_cut[0]], batch[rng_cut[0] : rng_cut[1]], batch[rng_cut[1] :]):
                if part:
                    hand_on(keyed[task].take(part))
        if rng.random() < 0.5:
            # Up to 9 rows of an entity are missing: its index lags its clock, so this never runs ahead of the data.
            mark = (START + STEP * max(0, min(min(at), ROWS) - 12)) * 1_000_000_000 - 90_000_000_000
            for one in keyed:
                hand_on(pipes.watermark(one.pipeline.keyed, mark))
            alerts.extend(pipes.watermark(environment, mark).alerts)
    for one in keyed:
        hand_on(pipes.watermark(one.pipeline.keyed, pipes.END_OF_TIME))
    alerts.extend(pipes.watermark(environment, pipes.END_OF_TIME).alerts)
    assert sum(one.pipeline.align.counts.get("late", 0) for one in keyed) == 0
    return alerts


@pytest.fixture(scope="module")
def reference() -> list[Alert]:
    alerts = run(samples(), 1, 0)
    assert sum(alert.kind == "anomaly" and alert.status == "firing" for alert in alerts) >= 5
    assert any(alert.kind == "silence" for alert in alerts)
    return alerts


@pytest.mark.parametrize(("tasks", "seed"), [(1, 1), (2, 2), (6, 3), (6, 4)])
def test_same_alerts_however_cut_and_spread(reference: list[Alert], tasks: int, seed: int) -> None:
    alerts = run(samples(), tasks, seed)
    assert [alert.to_json() for alert in alerts] == [alert.to_json() for alert in reference]
