"""`foreshock replay`: recorded telemetry through the same pipeline, to files."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.cli.log import log_folder
from foreshock.cli.output import all_imported, counted, emit_json, errors, lines
from foreshock.errors import BadInputError, ConfigError

if TYPE_CHECKING:
    from foreshock.bench.labelled import Measures, Truth
    from foreshock.config import Config
    from foreshock.runtime.replay import Replay, ReplayReport

CHUNK_ROWS = 4096
"""Rows read from a file at a time: positions of an unfinished replay depend on it."""

MOST_TOLD = 10
"""Alerts told one by one at the end."""


def replay(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Tables (CSV, Parquet, NDJSON; compressed too), folders of them, or a log folder."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for alerts.jsonl and verdicts.parquet.")],
    config: Annotated[
        list[Path] | None, typer.Option("--config", help="Config file, folder or preset; may be given again.")
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", help="Detector by name or package.module:Class; may be given again."),
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column of the time.")] = None,
    entity_by: Annotated[
        list[str] | None, typer.Option("--entity-by", help="Column that names the entity; may be given again.")
    ] = None,
    train_until: Annotated[
        str | None, typer.Option("--train-until", help="Learn from what is before (ISO 8601 or Unix seconds).")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column of 0/1 labels: no feature, only compared with.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Labels file: time and label, or start and end, and the entity.")
    ] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Draw each alert with its band.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew though an unfinished replay is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with a report in JSON.")] = False,
) -> None:
    """Judge recorded telemetry; call it again after an interruption and it goes on where it was."""
    from foreshock.config import load
    from foreshock.runtime.plots import Pictures

    settings = load(config or [], overrides=_overrides(detector, time, entity_by, train_until))
    settings, truth, remark = _truth(paths, settings, label, labels)
    if is_log(paths):
        job, describe = _of_log(paths[0], out, settings)
        job.other_config = bool(config or detector)
    else:
        job, describe = _of_tables(paths, out, settings)
    if truth is not None:
        _label(job, truth)
    job.fresh = fresh
    job.pictures = Pictures(out / "plots") if plots else None
    all_imported()
    try:
        report = _with_progress(job, quiet=as_json)
    except KeyboardInterrupt:
        errors().print("interrupted; call it again with the same arguments and it goes on where it was", markup=False)
        raise typer.Exit(130) from None
    # Asked again, for only what was read knows what was dropped.
    report.notes = (*describe(), *remark)
    measures = None
    if truth is not None:
        measures, odd = _measures(out, truth, settings)
        report.notes += odd
    pictures = [str(path) for path in job.pictures.finish()] if job.pictures else []
    if as_json:
        plain = dataclasses.asdict(measures) if measures else None
        emit_json(dataclasses.asdict(report) | {"measures": plain, "out": str(out), "plots": pictures})
    else:
        _say(report, out, pictures, measures)


def _truth(
    paths: list[Path], settings: Config, column: str | None, file: Path | None
) -> tuple[Config, Truth | None, tuple[str, ...]]:
    """The labels to measure against, if there are any; the settings, under which their column is no feature; remarks.

    A column of a usual name that is left out of the features is taken without being asked for, if it holds labels.
    """
    from foreshock.bench.labelled import label_column, labels_in_file, labels_in_tables

    mapping = settings.mapping
    if column is not None and file is None and is_log(paths):
        raise ConfigError("a recorded log has no column of labels: give them as a file, with --labels")
    if file is not None:
        return settings, labels_in_file(file, mapping, column), ()
    if is_log(paths):
        return settings, None, ()
    names = [str(path) for path in paths]
    if column is not None:
        mapping = mapping.model_copy(update={"skip": (*mapping.skip, column)})
        return settings.model_copy(update={"mapping": mapping}), labels_in_tables(names, mapping, column), ()
    try:
        found = label_column(names, mapping)
        return settings, None if found is None else labels_in_tables(names, mapping, found), ()
    except BadInputError as error:
        # What is wrong with the files themselves is told by whoever reads them next.
        return settings, None, (f"not measured: {error}",) if error.reason == "bad_labels" else ()


def _label(job: Replay, truth: Truth) -> None:
    """Have the records of a replay come behind those of its labels; a log brings its own as well."""
    from foreshock.adapters.truth import Labelled

    intervals = truth.intervals()
    job.reader = Labelled(job.reader, intervals, job.config.environment)
    job.identity["labels"] = [[dict(one.matchers), one.since, one.until] for one in intervals]


def _measures(out: Path, truth: Truth, settings: Config) -> tuple[Measures, tuple[str, ...]]:
    from foreshock.bench.labelled import judged_by_entity, measure

    judged = judged_by_entity(out / "verdicts.parquet")
    return measure(judged, truth, settings.train_until_unix_nano), truth.notes(judged)


def is_log(paths: list[Path]) -> bool:
    """Whether the paths are one recorded log (or its data folder) rather than tables."""
    return len(paths) == 1 and paths[0].is_dir() and any(log_folder(paths[0]).glob("[0-9]" * 20 + ".log"))


def _overrides(
    detectors: list[str] | None, time: str | None, entity_by: list[str] | None, train_until: str | None
) -> dict[str, Any]:
    mapping = {"time": time, "entity": entity_by}
    out: dict[str, Any] = {"mapping": {name: value for name, value in mapping.items() if value}}
    if detectors:
        out["detectors"] = detectors
    if train_until is not None:
        out["train_until_unix_nano"] = _nanoseconds(train_until)
    return out


def _nanoseconds(text: str) -> int:
    try:
        return int(float(text) * 1e9)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--train-until {text!r} is neither ISO 8601 nor Unix seconds") from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _of_log(path: Path, out: Path, settings: Config) -> tuple[Replay, Any]:
    from foreshock.runtime.log import SegmentLog
    from foreshock.runtime.replay import Replay

    log = SegmentLog(log_folder(path), read_only=True)
    identity = {"log": str(log.folder.resolve()), "end": log.end}
    return Replay(settings, log, out, identity, recorded=True, total=log.end), tuple


def _of_tables(paths: list[Path], out: Path, settings: Config) -> tuple[Replay, Any]:
    from foreshock.adapters.files_reader import TableReader
    from foreshock.runtime.replay import Replay

    reader = TableReader([str(path) for path in paths], settings.mapping, chunk_rows=CHUNK_ROWS)
    files = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in reader.files]
    identity = {"files": files, "chunk_rows": CHUNK_ROWS}
    return Replay(settings, reader, out, identity, total=reader.rows_total()), reader.describe


def _with_progress(job: Replay, quiet: bool) -> ReplayReport:
    if quiet or not sys.stderr.isatty():
        return job.run()
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors(), transient=True) as progress:
        bar = progress.add_task("replaying", total=job.total)
        job.progress = lambda position: progress.update(bar, completed=position)
        return job.run()


def _say(report: ReplayReport, out: Path, pictures: list[str], measures: Measures | None) -> None:
    lines(*report.notes)
    if report.resumed_from:
        lines(f"went on from position {report.resumed_from}")
    lines(*_sentences(out / "alerts.jsonl"))
    if report.counts:
        unused = ", ".join(f"{reason} {count}" for reason, count in sorted(report.counts.items()))
        lines(f"not used as they were: {unused}")
    found = f"{counted(report.alerts, 'alert')}, {report.notified} notified" if report.alerts else "no alerts"
    lines(f"{counted(report.rows, 'row')} judged in {report.seconds:.1f} s: {found}")
    if measures is not None or any(one["role"] == "shadow" for one in report.detectors):
        lines(*_compared(report.detectors))
    if measures is not None:
        from foreshock.bench.labelled import sentences

        lines(*sentences(measures))
    lines(str(out / "alerts.jsonl"), str(out / "verdicts.parquet"))
    if pictures:
        lines(f"{counted(len(pictures), 'picture')} in {out / 'plots'}")


def _compared(detectors: list[dict[str, Any]]) -> list[str]:
    """The detectors side by side, a line each."""
    width = max([8, *(len(one["name"]) for one in detectors)])
    out = [f"{'detector':{width}}  {'role':7}  episodes  true  false  of its budget"]
    for one in detectors:
        ratio = "" if one["achieved_ratio"] is None else f"{100 * one['achieved_ratio']:.0f} %"
        counts = f"{one['episodes']:8}  {one['true_positives']:4}  {one['false_positives']:5}  {ratio:>13}"
        out.append(f"{one['name']:{width}}  {one['role']:7}  {counts}")
    return out


def _sentences(path: Path) -> list[str]:
    """The first alerts that were raised, a line each; ◆ notified, ◇ only shown."""
    out: list[str] = []
    more = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            alert = json.loads(line)
            if alert["status"] != "firing":
                continue
            if len(out) == MOST_TOLD:
                more += 1
                continue
            mark = "◆" if alert["foreshock"]["notified"] else "◇"
            out.append(f"{mark} {alert['startsAt']} {alert['annotations'].get('summary', '')}")
    return [*out, f"… and {more} more"] if more else out
