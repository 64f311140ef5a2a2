"""`foreshock log`: look into a log, and check it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from foreshock.cli.output import counted, emit_json, lines

app = typer.Typer(help="Look into the log of a data folder.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="A log folder, or the data folder that holds one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def log_folder(path: Path) -> Path:
    """The log folder for a path that is one or holds one."""
    return path / "log" if (path / "log").is_dir() else path


@app.command()
def inspect(folder: Folder = Path(".foreshock"), as_json: AsJson = False) -> None:
    """Count what the log holds, by source and type."""
    from foreshock.runtime.log import inspect_log
    from foreshock.types import rfc3339

    summary = inspect_log(log_folder(folder))
    if as_json:
        emit_json(dataclasses.asdict(summary))
        return
    size = f"{summary.bytes:,} bytes"
    lines(f"{counted(summary.records, 'record')} in {counted(summary.segments, 'segment')}, {size}")
    if summary.records:
        lines(f"received {rfc3339(summary.first_received)} to {rfc3339(summary.last_received)}")
    for title, counts in (("source", summary.by_source), ("content type", summary.by_content_type)):
        lines(*(f"  {title} {name}: {count}" for name, count in sorted(counts.items())))
    lines(*(f"  power loss: positions {first} to {end} are missing" for first, end in summary.gaps))
    if summary.damaged:
        lines(f"  {summary.damaged} damaged places: foreshock log verify names them")


@app.command()
def verify(folder: Folder = Path(".foreshock"), as_json: AsJson = False) -> None:
    """Read every record and check its checksum; exit code 1 if something is wrong."""
    from foreshock.runtime.log import verify_log

    problems = verify_log(log_folder(folder))
    if as_json:
        emit_json([dataclasses.asdict(problem) for problem in problems])
    else:
        found = [f"{p.file}: position {p.position}, byte {p.offset}: {p.reason}" for p in problems]
        lines(*(found or ["the log is whole"]))
    if problems:
        raise typer.Exit(1)
