"""`foreshock check` and `foreshock config`: what the settings are, and what is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from foreshock.cli.output import emit_json, lines

app = typer.Typer(help="Show settings and their schema.", no_args_is_help=True)
Files = Annotated[list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check(files: Files = None, as_json: AsJson = False) -> None:
    """Say all that is wrong with a config; exit code 2 if anything is."""
    from foreshock.config import check as problems_of

    problems = problems_of(files or [])
    if as_json:
        emit_json([{"file": p.file, "line": p.line, "key": p.key, "message": p.message} for p in problems])
    else:
        lines(*([str(problem) for problem in problems] or ["the config is good"]))
    if problems:
        raise typer.Exit(2)


@app.command("show")
def show_settings(
    files: Files = None,
    origins: Annotated[bool, typer.Option("--sources", help="Say where each value comes from.")] = False,
) -> None:
    """Print the resolved config, every default filled in, secrets masked."""
    from foreshock.config import load, show

    sys.stdout.write(show(load(files or []), sources=origins))


@app.command("schema")
def show_schema() -> None:
    """Print the JSON schema of the config."""
    from foreshock.config import schema

    emit_json(schema())


@app.command("presets")
def show_presets(as_json: AsJson = False) -> None:
    """List the presets."""
    from foreshock.config import presets

    if as_json:
        emit_json(presets())
    else:
        lines(*(f"{name}: {what}" for name, what in presets().items()))
