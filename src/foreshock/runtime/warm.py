"""Made-up readings through a task of its own: compiles the kernels of a config, and shows what it costs.

`python -m foreshock.runtime.warm` compiles those of the presets; with `calls`, or the name of a detector, only what
that needs: a process beside can do that while the others are compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from foreshock import plugins
from foreshock.adapters.calls import encode_calls
from foreshock.adapters.decode_json import decode_json
from foreshock.adapters.json_columns import MANY
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.config import Config, load
from foreshock.runtime.rollups import Rollups
from foreshock.runtime.task import Task, Watermark, encode_json
from foreshock.runtime.views import Views
from foreshock.state import Registry
from foreshock.stream.fingerprint import Fingerprint
from foreshock.telemetry import EPISODES, EVENTS, model_of
from foreshock.types import CALL, Calls, Columns, Frame, Intake, Record, Samples
from foreshock.types.record import CALLS, NDJSON, WATERMARK

START = 1_700_000_000_000_000_000


def readings(entities: int, features: int, rows: int, step_seconds: float, seed: int = 0) -> Iterator[Record]:
    """Records of noise around a level, one a step with a reading of each entity, each followed by its watermark."""
    rng = np.random.default_rng(seed)
    names = [f"metric_{j}" for j in range(features)]
    for k in range(rows):
        now = START + round(k * step_seconds * 1e9)
        values = rng.normal(100.0, 5.0, (entities, features)).tolist()
        payload = encode_metrics(
            [
                Reading(
                    now, {"host.name": f"warm-{e}"}, [Metric(n, {}, "1", v) for n, v in zip(names, row, strict=True)]
                )
                for e, row in enumerate(values)
            ]
        )
        yield Record("default", "warm", METRICS, now, payload)
        yield Record("default", "warm", WATERMARK, now, encode_json(Watermark(now)))


def brings_calls(config: Config) -> bool:
    """Whether a source of the config brings calls: its class then has `brings_calls`, which is True."""
    return any(getattr(plugins.find("source", one.type), "brings_calls", False) for one in config.sources)


def _calls() -> Iterator[tuple[int, Calls]]:
    """Two calls, a minute apart, and when they were received."""
    for at in (START, START + 60_000_000_000):
        rows = np.zeros(1, CALL)
        rows[0] = (at, 0.01, 0, 1, 2, 3, 200)
        yield at, Calls(["warm-a", "warm-b", "GET", "/"], rows, {})


def warm_calls() -> None:
    """Compile what makes fingerprints of calls."""
    fingerprint = Fingerprint(Registry(), load([], environ={}).calls, {})
    for at, calls in _calls():
        fingerprint.process(Columns(intakes=(Intake("warm", at, Samples.empty(), calls),)))
        fingerprint.on_watermark(at)


def warm_json() -> None:
    """Compile what reads many JSON objects at once."""
    rows = [b'{"eventId":"e","timestamp":1700000000,"userId":"u","value":%d.5,"ok":true}' % row for row in range(MANY)]
    decode_json(b"\n".join(rows), NDJSON, MappingOptions(), ())


def warm_detector(name: str) -> None:
    """Compile what scores with the defaults of a detector.

    Raises ConfigError where there is none of that name.
    """
    rows, width = 2, 3
    plugins.find("detector", name)(None).step(
        Frame(
            np.zeros(rows, np.int32), START + np.arange(rows), np.ones((rows, width)), np.full(rows, width, np.int16),
            np.ones(rows, np.bool_), np.zeros(rows, np.uint8),
        )
    )  # fmt: skip


def warm(config: Config, rows: int = 80) -> Task:
    """Run a task of the config over made-up rows and a jump, and bring it back, to compile every kernel it needs."""
    task = Task(config, bands=True)
    views = Views(max_series=8, points=8, rollups=Rollups([one.name for one in config.detectors], 8))
    for record in readings(2, 3, rows, 5.0):
        for columns in task.process(record).columns:
            views.feed(columns.rows, columns.verdicts, task.pipeline.registry)
    jump = [Metric(f"metric_{j}", {}, "1", 1e6) for j in range(3)]
    if brings_calls(config):
        for at, calls in _calls():
            task.process(Record("default", "warm", CALLS, at, encode_calls(calls)))
    at = START + rows * 5_000_000_000
    task.process(Record("default", "warm", METRICS, at, encode_metrics(Reading(at, {"host.name": "warm-0"}, jump))))
    saved = {name: state.frozen() for name, state in task.states().items()}
    Task(config, bands=True).load(saved, task.watermark)
    task.finish()
    # Nothing of this happened.
    EVENTS.remove("warm")
    for part in config.detectors:
        with suppress(KeyError):
            EPISODES.remove(model_of(part.name))
    return task


if __name__ == "__main__":
    for part in sys.argv[1:]:
        if part == "calls":
            warm_calls()
        else:
            warm_detector(part)
    if not sys.argv[1:]:
        warm_json()
        for preset in ("host", "demo"):
            warm(load([], preset=preset, environ={}))
