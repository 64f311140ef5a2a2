"""`foreshock check` and `foreshock config`: what the settings are, and what is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from foreshock.cli.output import console, emit_json
from foreshock.config import check as check_settings
from foreshock.config import load, presets, schema, show

app = typer.Typer(help="Show settings and their schema.", no_args_is_help=True)
Files = Annotated[list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset.")]


def check(files: Files = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say all that is wrong with a config; exit code 2 if anything is."""
    problems = check_settings(files or [])
    if as_json:
        emit_json([{"file": p.file, "line": p.line, "key": p.key, "message": p.message} for p in problems])
    else:
        for problem in problems:
            console().print(str(problem), markup=False)
        if not problems:
            console().print("the config is good")
    if problems:
        raise typer.Exit(2)


@app.command("show")
def show_settings(
    files: Files = None,
    origins: Annotated[bool, typer.Option("--sources", help="Say where each value comes from.")] = False,
) -> None:
    """Print the resolved config, every default filled in, secrets masked."""
    sys.stdout.write(show(load(files or []), sources=origins))


@app.command("schema")
def show_schema() -> None:
    """Print the JSON schema of the config."""
    emit_json(schema())


@app.command("presets")
def show_presets() -> None:
    """List the presets."""
    for name, what in presets().items():
        console().print(f"{name}: {what}", markup=False)
