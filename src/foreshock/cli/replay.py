"""`foreshock replay`: recorded telemetry through the same pipeline, to files."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from foreshock.cli.log import log_folder
from foreshock.cli.output import console, emit_json, errors
from foreshock.config import Config, load
from foreshock.errors import ConfigError
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.plots import Pictures
from foreshock.runtime.replay import Replay, ReplayReport


def replay(
    paths: Annotated[
        list[Path], typer.Argument(help="Tables (CSV, Parquet, NDJSON; compressed too), or a log folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for alerts.jsonl and verdicts.parquet.")],
    config: Annotated[list[Path] | None, typer.Option("--config", help="Config file, folder or preset.")] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column of the time.")] = None,
    entity_by: Annotated[
        list[str] | None, typer.Option("--entity-by", help="Column that names the entity; may be given again.")
    ] = None,
    train_until: Annotated[
        str | None, typer.Option("--train-until", help="Learn from what is before (ISO 8601 or Unix seconds).")
    ] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Draw each alert with its band.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew though an unfinished replay is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with a report in JSON.")] = False,
) -> None:
    """Judge recorded telemetry; call it again after an interruption and it goes on where it was."""
    settings = load(config or [], overrides=_overrides(time, entity_by, train_until))
    job = _of_log(paths[0], out, settings) if is_log(paths) else _of_tables(paths, out, settings)
    job.fresh = fresh
    job.pictures = Pictures(out / "plots") if plots else None
    report = _with_progress(job, quiet=as_json)
    pictures = [str(path) for path in job.pictures.finish()] if job.pictures else []
    if as_json:
        emit_json(dataclasses.asdict(report) | {"out": str(out), "plots": pictures})
    else:
        _say(report, out, pictures)


def is_log(paths: list[Path]) -> bool:
    """Whether the paths are one recorded log (or its data folder) rather than tables."""
    return len(paths) == 1 and paths[0].is_dir() and any(log_folder(paths[0]).glob("[0-9]" * 20 + ".log"))


def _overrides(time: str | None, entity_by: list[str] | None, train_until: str | None) -> dict[str, Any]:
    mapping = {"time": time, "entity": entity_by}
    out: dict[str, Any] = {"mapping": {name: value for name, value in mapping.items() if value}}
    if train_until is not None:
        out["train_until_unix_nano"] = _nanoseconds(train_until)
    return out


def _nanoseconds(text: str) -> int:
    try:
        return int(float(text) * 1e9)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--train-until {text!r} is neither ISO 8601 nor Unix seconds") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000


def _of_log(path: Path, out: Path, settings: Config) -> Replay:
    log = SegmentLog(log_folder(path), read_only=True)
    identity = {"log": str(log.folder.resolve()), "end": log.end}
    return Replay(settings, log, out, identity, recorded=True, total=log.end)


def _of_tables(paths: list[Path], out: Path, settings: Config) -> Replay:
    from foreshock.adapters.files_reader import TableReader

    reader = TableReader([str(path) for path in paths], settings.mapping)
    identity = {"files": [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in reader.files]}
    return Replay(settings, reader, out, identity, total=reader.rows_total(), notes=tuple(reader.describe()))


def _with_progress(job: Replay, quiet: bool) -> ReplayReport:
    if quiet:
        return job.run()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors(), transient=True) as progress:
        bar = progress.add_task("replaying", total=job.total)
        job.progress = lambda position: progress.update(bar, completed=position)
        return job.run()


def _say(report: ReplayReport, out: Path, pictures: list[str]) -> None:
    show = console()
    for note in report.notes:
        show.print(note, markup=False)
    if report.resumed_from:
        show.print(f"went on from position {report.resumed_from}")
    show.print(
        f"{report.rows} rows judged in {report.seconds:.1f} s: {report.alerts} alerts, {report.notified} notifications"
    )
    show.print(f"{out / 'alerts.jsonl'}\n{out / 'verdicts.parquet'}", markup=False)
    if pictures:
        show.print(f"{len(pictures)} pictures in {out / 'plots'}", markup=False)
