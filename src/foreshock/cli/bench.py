"""`foreshock bench`: how well it detects, measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.cli.output import all_imported, emit_json, errors, finite, lines
from foreshock.errors import BadInputError, ConfigError

if TYPE_CHECKING:
    from foreshock.bench.budget import Plan
    from foreshock.bench.budget import Result as Kept
    from foreshock.bench.layout import Place
    from foreshock.bench.quality import Job, Result, Skipped
    from foreshock.bench.shop import Quiet, Trial
    from foreshock.shop.faults import FaultKind

app = typer.Typer(help="Measure how well it detects.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure how well it detects."""


@app.command("shop")
def shop(
    seeds: Annotated[int, typer.Option("--seeds", min=0, max=100, help="Shops for each kind and size of fault.")] = 5,
    days: Annotated[int, typer.Option("--days", min=0, max=365, help="Days without faults.")] = 30,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", help="Only this kind; may be given again (default: all).")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes at a time.")] = 2,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for shop.json, the result with every trial.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Break the simulated shop in every way and play quiet days: found, right service and feature, delay, budget."""
    from foreshock.bench import shop as bench
    from foreshock.shop.faults import KINDS

    kinds = [kind for kind in KINDS if not fault or kind in fault]
    if unknown := set(fault or ()) - set(KINDS):
        raise ConfigError(f"there is no fault {sorted(unknown)[0]!r}; there are {', '.join(KINDS)}")
    all_imported()
    trials, quiet = _measure(seeds, days, jobs, kinds, show=not as_json and sys.stderr.isatty())
    report = bench.report(trials, quiet)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "shop.json").write_text(json.dumps(finite(report), indent=1) + "\n")
    if as_json:
        emit_json(report)
    else:
        lines(*bench.table(trials, quiet))


def _measure(
    seeds: int, days: int, jobs: int, kinds: Sequence[FaultKind], show: bool
) -> tuple[list[Trial], Quiet | None]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from foreshock.bench import shop as bench

    trials: list[Trial] = []
    quiet: Quiet | None = None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors(), transient=True, disable=not show) as progress:
        bar = progress.add_task("breaking the shop", total=None)
        for done, total, result in bench.run(seeds, days, jobs, kinds):
            progress.update(bar, completed=done, total=total)
            if isinstance(result, bench.Quiet):
                quiet = result
            else:
                trials.append(result)
    return trials, quiet


@app.command("budget")
def budget(
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of labelled series; their quiet time is used too.")
    ] = None,
    entities: Annotated[
        list[int] | None, typer.Option("--entities", min=1, help="Size of an environment; may be given again.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=8, max=365, help="Days; the first quarter does not count.")] = 40,
    step: Annotated[
        float, typer.Option("--step", min=1, max=21600, help="Seconds between rows of simulated entities.")
    ] = 300,
    metrics: Annotated[
        int, typer.Option("--metrics", min=1, max=200, help="Metrics of a simulated entity, give or take a third.")
    ] = 15,
    detector: Annotated[
        list[str] | None, typer.Option("--detector", help="Detectors that alert together, in place of three choices.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed is another draw.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes at a time.")] = 2,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for budget.json, the result.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Watch quiet entities, simulated and real, and see whether the budgets are kept; and what of incidents is told."""
    from foreshock.bench import budget as bench
    from foreshock.bench import budget_table

    sizes = tuple(sorted(set(entities or (10, 100, 1000))))
    if data is not None and not data.is_dir():
        raise ConfigError(f"there is no folder {data}")
    choices = (tuple(detector),) if detector else bench.DEFAULT_CHOICES
    plan = bench.Plan(sizes, days, step, metrics, data, choices, seed)
    all_imported()
    results = _watch(plan, jobs, show=not as_json and sys.stderr.isatty())
    report = budget_table.report(plan, results)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "budget.json").write_text(json.dumps(finite(report), indent=1) + "\n")
    if as_json:
        emit_json(report)
    else:
        lines(*budget_table.table(results))


def _watch(plan: Plan, jobs: int, show: bool) -> list[Kept]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from foreshock.bench import budget as bench

    results: list[Kept] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors(), transient=True, disable=not show) as progress:
        bar = progress.add_task("watching quiet entities", total=None)
        for done, total, result in bench.run(plan, jobs):
            progress.update(bar, completed=done, total=total)
            if result is not None:
                results.append(result)
    return results


@app.command("quality")
def quality(
    data: Annotated[Path, typer.Option("--data", help="Folder of sets: <set>/<half>/<series>.parquet.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for quality.json and score and alarm files.")],
    half: Annotated[str, typer.Option("--half", help="Which half of each set: dev, holdout, all.")] = "dev",
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="Only this set; may be given again (default: all).")
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", help="Detector by name or package.module:Class; may be given again."),
    ] = None,
    config: Annotated[
        list[Path] | None, typer.Option("--config", help="Config file, folder or preset; may be given again.")
    ] = None,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Run other libraries' detectors beside.")] = True,
    faults: Annotated[
        bool, typer.Option("--faults/--no-faults", help="Put faults into quiet parts and look whether they are found.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the faults.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes at a time.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run detectors over labelled series, causally and in one configuration: rank, alarms, cost, budgets, peers."""
    from foreshock.bench import layout, quality_report
    from foreshock.bench.peers import PEERS
    from foreshock.bench.quality import Job, absent, config_facts
    from foreshock.config import load

    settings = load(config or [], environ={}, overrides={"detectors": detector} if detector else {})
    places = layout.find(data, half, dataset or ())
    missing = absent(list(PEERS)) if peers else []
    there = tuple(name for name, peer in PEERS.items() if peers and peer not in missing)
    all_imported()
    started = perf_counter()
    results, skipped = _judge(
        Job(settings, out, there, faults, seed), places, jobs, not as_json and sys.stderr.isatty()
    )
    if not results:
        raise BadInputError("bad_series", f"{skipped[0].dataset}/{skipped[0].series}: {skipped[0].reason}")
    facts: dict[str, Any] = {
        "half": half,
        **config_facts(settings),
        "seed": seed,
        "absent": [{"name": peer.name, "install": peer.install} for peer in missing],
        "seconds": perf_counter() - started,
    }
    said = quality_report.report(results, skipped, settings, facts)
    out.mkdir(parents=True, exist_ok=True)
    (out / "quality.json").write_text(json.dumps(finite(said), indent=1) + "\n")
    for dataset_name in {one.dataset for one in results}:
        _write_explanations(out / dataset_name, results, dataset_name)
    if as_json:
        emit_json(said)
    else:
        lines(*quality_report.lines(said), "", f"{said['seconds']:.0f} s; {out / 'quality.json'}")
    if skipped:
        raise typer.Exit(1)


def _write_explanations(folder: Path, results: Sequence[Result], dataset: str) -> None:
    """The metrics of each explained event, best first, by series."""
    ranked = {one.series: one.own.ranked for one in results if one.dataset == dataset and one.own and one.own.ranked}
    if ranked:
        (folder / "explained.json").write_text(json.dumps(dict(sorted(ranked.items()))) + "\n")


def _judge(job: Job, places: Sequence[Place], jobs: int, show: bool) -> tuple[list[Result], list[Skipped]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from foreshock.bench.quality import run

    results: list[Result] = []
    skipped: list[Skipped] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors(), transient=True, disable=not show) as progress:
        bar = progress.add_task("judging series", total=None)
        for done, total, found in run(job, places, jobs):
            progress.update(bar, completed=done, total=total)
            if isinstance(found, list):
                results += found
            else:
                skipped.append(found)
    return results, skipped
