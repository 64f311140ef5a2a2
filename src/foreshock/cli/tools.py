"""`foreshock plan`, `doctor` and `version`."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Annotated

import typer

from foreshock import __version__
from foreshock.cli.output import emit_json, lines

Files = Annotated[list[Path] | None, typer.Argument(help="Config files, folders or the name of a preset.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def plan(
    files: Files = None,
    entities: Annotated[int, typer.Option("--entities", min=1, help="Entities to be watched.")] = 100,
    features: Annotated[int, typer.Option("--features", min=1, help="Series of each entity.")] = 20,
    step: Annotated[float, typer.Option("--step", min=0.001, help="Seconds between samples of a series.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Say how much memory and CPU a config will take, by running it small."""
    import foreshock.app  # noqa: F401, what a run has in memory, and its estimate then counts
    from foreshock.config import load
    from foreshock.runtime.plan import estimate

    result = estimate(load(files or []), entities, features, step)
    if as_json:
        emit_json(dataclasses.asdict(result))
        return
    lines(
        f"{entities * features:,} series of {entities:,} entities, a sample each {step:g} s",
        f"memory  {result.memory_bytes / 2**20:,.0f} MiB ({result.bytes_per_series:,.0f} B a series)",
        f"CPU     {100 * result.cpu_cores:.1f} % of a core ({result.seconds_per_million:.2f} s a million samples)",
        f"log     {result.log_bytes_per_day / 2**30:.1f} GiB a day, bounded by log.max_bytes",
    )


def doctor(files: Files = None, as_json: AsJson = False) -> None:
    """Check that this machine and config can run; exit code 1 if something cannot."""
    from foreshock.config import load
    from foreshock.runtime.doctor import examine

    findings = examine(load(files or []))
    if as_json:
        emit_json([dataclasses.asdict(finding) for finding in findings])
    else:
        lines(*(f"{'✓' if finding.good else '✗'} {finding.what}: {finding.found}" for finding in findings))
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


def version(as_json: AsJson = False) -> None:
    """Print the version, and what results depend on."""
    from foreshock.runtime.snapshot import numerics_id

    facts = {"foreshock": __version__, "python": platform.python_version(), "numerics": numerics_id()}
    if as_json:
        emit_json(facts)
    else:
        lines(*(f"{name} {value}" for name, value in facts.items()))
