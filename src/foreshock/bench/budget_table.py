"""What `foreshock bench budget` found, as text and for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from foreshock.bench.budget import Announced, Found, Level, Plan, Result, Whole


def table(results: Sequence[Result]) -> list[str]:
    """The result as lines of text: levels, incidents among quiet entities, whole sets."""
    levels = [one for one in results if isinstance(one, Level)]
    found = [one for one in results if isinstance(one, Found)]
    announced = [one for one in results if isinstance(one, Announced)]
    wholes = [one for one in results if isinstance(one, Whole)]
    width = max([len(one.detectors) for one in results], default=9)
    out = [
        f"{'':<9} {'detectors':<{width}} {'level':<19} {'n':>6} {'÷ budget':>9} {'median':>7} {'90 %':>6} "
        f"{'most':>6} {'> 1':>6} {'> 2':>6} {'2 days':>7}",
        "-" * (83 + width),
    ]
    for one in sorted(levels, key=lambda one: one.source != "simulated"):
        name = f"environment of {one.entities}" if one.entities else one.level
        out.append(
            f"{one.source:<9} {one.detectors:<{width}} {name:<19} {one.n:>6} {one.ratio:>9.2f} {one.median:>7.2f} "
            f"{one.high:>6.2f} {one.highest:>6.2f} {one.above_1:>6.3f} {one.above_2:>6.3f} {_known(one.first_days):>7}"
        )
    if found:
        out += ["", f"{'incident made up':<18} {'detectors':<{width}} {'n':>5} {'found':>6}", "-" * (31 + width)]
        out += [f"{one.kind:<18} {one.detectors:<{width}} {one.n:>5} {one.share:>6.2f}" for one in found]
    if announced:
        out += [
            "",
            f"{'quiet':<9} {'incidents':<9} {'detectors':<{width}} {'entities':>8} {'n':>5} {'announced':>9} "
            f"{'÷ budget':>9}",
        ]
        out.append("-" * (54 + width))
        for each in sorted(announced, key=lambda one: (one.source != "simulated", one.incidents)):
            out.append(
                f"{each.source:<9} {each.incidents:<9} {each.detectors:<{width}} {each.entities:>8} {each.n:>5} "
                f"{each.share:>9.2f} {each.quiet_ratio:>9.2f}"
            )
    if wholes:
        out += [
            "",
            f"{'set':<12} {'detectors':<{width}} {'entities':>8} {'incidents':>9} {'found':>6} {'announced':>9} "
            f"{'a day':>6} {'false ÷':>8} {'entity ÷':>8}",
            "-" * (73 + width),
        ]
        for whole in wholes:
            out.append(
                f"{whole.set:<12} {whole.detectors:<{width}} {whole.entities:>8} {whole.incidents:>9} {whole.found:>6} "
                f"{whole.announced:>9} {whole.notifications_per_day:>6.2f} {whole.false_ratio:>8.2f} "
                f"{whole.quiet_ratio:>8.2f}"
            )
    return out


def report(plan: Plan, results: Sequence[Result]) -> dict[str, Any]:
    """The result for programs."""
    return {
        "entities": list(plan.entities),
        "days": plan.days,
        "settle_days": plan.settle_days,
        "step_seconds": plan.step_seconds,
        "metrics": plan.metrics,
        "seed": plan.seed,
        "levels": [asdict(one) for one in results if isinstance(one, Level)],
        "found": [asdict(one) for one in results if isinstance(one, Found)],
        "incidents": [asdict(one) for one in results if isinstance(one, Announced)],
        "sets": [asdict(one) for one in results if isinstance(one, Whole)],
    }


def _known(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


__all__ = ["report", "table"]
