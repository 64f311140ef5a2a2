"""What the results of many series come to: by set and method, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from foreshock.bench import faults
from foreshock.bench.measures import mean, pooled
from foreshock.bench.nab import PROFILES, halves, nab_score
from foreshock.bench.peers import PEERS
from foreshock.bench.quality import EVENTS, OURS, Level, Own, Result, Skipped
from foreshock.config import Config
from foreshock.incident.budget import Budget
from foreshock.types import Alert, AlertKind, Columns, Presence

DAY = 86_400 * 1_000_000_000
COMMON_DAY = 20_000
"""All series of a set are moved by whole days to where their judged part begins on this day since the epoch."""
METHODS = (OURS, EVENTS, *PEERS)


def report(
    results: Sequence[Result], skipped: Sequence[Skipped], config: Config, facts: dict[str, Any]
) -> dict[str, Any]:
    """Everything, for programs; `facts` say what was run."""
    sets = sorted({one.dataset for one in results})
    out: dict[str, Any] = {
        **facts,
        "sets": {name: _by_method(results, name, _summary) for name in sets},
        "nab": {name: scores for name in sets if (scores := _by_method(results, name, _nab))},
        "explained": {name: found for name in sets if (found := _explained(_owns(results, name)))},
        "faults": {name: found for name in sets if (found := _faults(_owns(results, name)))},
        "budgets": {name: _budgets(_owns(results, name), config) for name in sets if _owns(results, name)},
        "skipped": [asdict(one) for one in _once(skipped)],
        "series": [_plain(one) for one in sorted(results, key=lambda one: (one.dataset, one.series, one.method))],
    }
    return out


def _once(skipped: Sequence[Skipped]) -> list[Skipped]:
    """Each reason once a series: what is wrong with a file is met by every method, ours first."""
    out: dict[tuple[str, str, str], Skipped] = {}
    for one in sorted(skipped, key=lambda one: (one.dataset, one.series, one.method != OURS, one.method)):
        out.setdefault((one.dataset, one.series, one.reason), one)
    return list(out.values())


def _of(results: Sequence[Result], dataset: str, method: str) -> list[Result]:
    found = [one for one in results if (one.dataset, one.method) == (dataset, method)]
    return sorted(found, key=lambda one: one.series)


def _owns(results: Sequence[Result], dataset: str) -> list[Own]:
    return [one.own for one in _of(results, dataset, OURS) if one.own is not None]


def _by_method(results: Sequence[Result], dataset: str, of: Any) -> dict[str, Any]:
    found = {method: _of(results, dataset, method) for method in METHODS}
    return {method: said for method, own in found.items() if own and (said := of(own)) is not None}


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    rows = sum(one.rows for one in results)
    detectors = [seconds for one in results if one.own for seconds in one.own.detector_seconds.values()]
    return {
        "series": len(results),
        "metrics": max(one.metrics for one in results),
        "records": sum(one.judged for one in results),
        "vus_pr": mean(one.vus_pr for one in results),
        "auc_pr": mean(one.auc_pr for one in results),
        **asdict(pooled(one.counts for one in results)),
        "cpu_seconds_per_million": 1e6 * sum(one.cpu_seconds for one in results) / rows,
        "detector_seconds_per_million": 1e6 * sum(detectors) / rows if detectors else None,
    }


def _nab(results: Sequence[Result]) -> dict[str, Any] | None:
    scored = [one.scored for one in results if one.scored is not None]
    alarms = [one.alarms for one in results if one.alarms is not None]
    if not any(one.windows for one in scored):
        return None
    half, spread = halves(scored)
    return {
        "own_alarms": nab_score(alarms, threshold=1.0)[0],
        "optimised": {name: nab_score(scored, profile)[0] for name, profile in PROFILES.items()},
        "optimised_on_the_other_half": half,
        "spread_of_halves": spread,
    }


def _explained(owns: Sequence[Own]) -> dict[str, float]:
    """HitRate@P%: of the k true metrics, the share among the first P% · k that were named (Su et al., KDD 2019)."""
    pairs = [pair for own in owns for pair in zip(own.ranked, own.explained, strict=True) if pair[1]]
    if not pairs:
        return {}
    return {
        "events": len(pairs),
        "hit_rate_100": mean(hit_rate(ranked, true, 1.0) for ranked, true in pairs),
        "hit_rate_150": mean(hit_rate(ranked, true, 1.5) for ranked, true in pairs),
        "true_metric_first": mean(float(ranked[0] in true) for ranked, true in pairs),
    }


def hit_rate(ranked: Sequence[str], true: Sequence[str], share: float) -> float:
    """The share of true metrics among the first `share` · (their number, rounded up) of the ranked ones.

    >>> hit_rate(["m1", "m2", "m3"], ["m1", "m3"], 1.0)
    0.5
    """
    first = ranked[: int(np.ceil(len(true) * share - 1e-9))]
    return len(set(first) & set(true)) / len(true)


def _faults(owns: Sequence[Own]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for kind in faults.KINDS:
        mine = [tally for own in owns for tally in own.faults if tally.kind == kind]
        injected, found = sum(one.injected for one in mine), sum(one.found for one in mine)
        if injected:
            out[kind] = {"injected": injected, "found": found, "recall": found / injected}
    return out


def _budgets(owns: Sequence[Own], config: Config) -> dict[str, Any]:
    budget = config.budget
    names = dict.fromkeys(name for own in owns for name in own.series)
    told, days = environment(owns, config)
    return {
        "series": {
            name: _ratio([own.series[name] for own in owns if name in own.series], budget.entity) for name in names
        },
        "entity": _ratio([own.entity for own in owns], budget.entity),
        "environment": len([1 for calm in told if calm]) / days / budget.environment if days else None,
        "notifications_a_day": len(told) / days if days else None,
        "days": days,
    }


def _ratio(levels: Sequence[Level], budget: float) -> float | None:
    days = sum(one.days for one in levels)
    return sum(one.notified for one in levels) / days / budget if days else None


def environment(owns: Iterable[Own], config: Config) -> tuple[list[bool], float]:
    """All series of a set as one environment: of each notification whether it was of a quiet time; and the days.

    The series are moved by whole days, so that their judged parts begin on the same day, and the environment's
    budget decides on their alerts. Only what is decided in a judged part counts.
    """
    budget = Budget(config.budget, config.environment)
    calm: dict[str, bool] = {}
    alerts: list[Alert] = []
    presence: list[Presence] = []
    days = 0.0
    for own in owns:
        shift = (COMMON_DAY - own.starts_unix_nano // DAY) * DAY
        days = max(days, own.days)
        presence += [replace(one, day=one.day + shift // DAY, decided_unix_nano=one.decided_unix_nano + shift)
                     for one in own.presence]  # fmt: skip
        for alert, quiet, judged in own.told:
            moved = _moved(alert, shift)
            alerts.append(moved)
            if judged:
                calm[moved.episode] = quiet
    if not alerts:
        return [], days
    budget.process(Columns(alerts=tuple(alerts), presence=tuple(presence)))
    decided = budget.on_watermark(max(alert.decided_unix_nano for alert in alerts) + 1).alerts
    told = {one.episode for one in decided if one.notified and one.kind is AlertKind.ANOMALY}
    return [calm[episode] for episode in sorted(told) if episode in calm], days


def _moved(alert: Alert, shift: int) -> Alert:
    ends = None if alert.ends_unix_nano is None else alert.ends_unix_nano + shift
    return replace(
        alert, starts_unix_nano=alert.starts_unix_nano + shift, decided_unix_nano=alert.decided_unix_nano + shift,
        ends_unix_nano=ends,
    )  # fmt: skip


def _plain(one: Result) -> dict[str, Any]:
    """A result without its arrays."""
    counts = asdict(one.counts)
    return {
        "dataset": one.dataset, "series": one.series, "method": one.method, "rows": one.rows, "judged": one.judged,
        "metrics": one.metrics, "vus_pr": one.vus_pr, "auc_pr": one.auc_pr, **counts,
        "cpu_seconds": one.cpu_seconds, "notes": list(one.notes),
    }  # fmt: skip


def lines(said: dict[str, Any]) -> list[str]:
    """The report as text."""
    out = [f"detectors: {', '.join(part['name'] for part in said['detectors'])}; half {said['half']}"]
    out += [
        f"{peer['name']}: not installed, left out (pip install {peer['install']})" for peer in said.get("absent", [])
    ]
    out += ["", *_main_table(said["sets"])]
    if said["nab"]:
        out += ["", *_nab_table(said["nab"])]
    if said["explained"]:
        out += ["", *_explained_table(said["explained"])]
    if said["faults"]:
        out += ["", *_fault_table(said["faults"])]
    if said["budgets"]:
        out += ["", *_budget_table(said["budgets"])]
    odd = [f"{one['dataset']}/{one['series']}: {note}" for one in said["series"] if one["method"] == OURS
           for note in one["notes"]]  # fmt: skip
    skipped = [
        f"left out: {one['dataset']}/{one['series']} ({one['method']}): {one['reason']}" for one in said["skipped"]
    ]
    return [*out, *(["", *odd, *skipped] if odd or skipped else [])]


def _main_table(sets: dict[str, Any]) -> list[str]:
    head = (f"{'set':<12} {'method':<20} {'series':>6} {'events':>6} {'VUS-PR':>6} {'AUC-PR':>6} {'F1':>5} "
            f"{'recall':>6} {'prec.':>5} {'false/day':>9} {'delay':>8} {'CPU s/M':>8}")  # fmt: skip
    out = [head, "-" * len(head)]
    for name, methods in sets.items():
        for method, one in methods.items():
            out.append(
                f"{name:<12} {method:<20} {one['series']:>6} {one['events']:>6} {_n(one['vus_pr']):>6} "
                f"{_n(one['auc_pr']):>6} {_n(one['f1']):>5} {_n(one['recall']):>6} {_n(one['precision']):>5} "
                f"{_n(one['false_alarms_per_day']):>9} {_delay(one['delay_seconds']):>8} "
                f"{one['cpu_seconds_per_million']:>8.2f}"
            )
    if len(sets) > 1:
        for method in METHODS:
            own = [methods[method] for methods in sets.values() if method in methods]
            if len(own) == len(sets):
                vus, auc, f1 = (_n(mean(one[key] for one in own)) for key in ("vus_pr", "auc_pr", "f1"))
                out.append(f"{'mean of sets':<12} {method:<20} {'':>6} {'':>6} {vus:>6} {auc:>6} {f1:>5}")
    return out


def _nab_table(nab: dict[str, Any]) -> list[str]:
    out = [
        f"{'NAB score':<12} {'method':<20} {'own alarms':>10} {'optimised':>10} {'low FP':>7} {'low FN':>7} other half"
    ]
    for name, methods in nab.items():
        for method, one in methods.items():
            best = one["optimised"]
            out.append(
                f"{name:<12} {method:<20} {one['own_alarms']:>10.1f} {best['standard']:>10.1f} "
                f"{best['reward_low_fp_rate']:>7.1f} {best['reward_low_fn_rate']:>7.1f} "
                f"{one['optimised_on_the_other_half']:.1f} ± {one['spread_of_halves']:.1f}"
            )
    return out


def _explained_table(explained: dict[str, Any]) -> list[str]:
    out = [f"{'explained by':<12} {'events':>6} {'HitRate@100%':>13} {'@150%':>6} {'first right':>12}"]
    for name, one in explained.items():
        out.append(
            f"{name:<12} {one['events']:>6} {_n(one['hit_rate_100']):>13} {_n(one['hit_rate_150']):>6} "
            f"{_n(one['true_metric_first']):>12}"
        )
    return out


def _fault_table(found: dict[str, Any]) -> list[str]:
    out = [f"{'faults found':<12} " + " ".join(f"{kind:>15}" for kind in faults.KINDS)]
    for name, kinds in found.items():
        cells = (
            f"{_n(one['recall'])} of {one['injected']}" if (one := kinds.get(kind)) else "" for kind in faults.KINDS
        )
        out.append(f"{name:<12} " + " ".join(f"{cell:>15}" for cell in cells))
    if len(found) > 1:
        means = (mean(kinds[kind]["recall"] for kinds in found.values() if kind in kinds) for kind in faults.KINDS)
        out.append(f"{'mean of sets':<12} " + " ".join(f"{_n(one):>15}" for one in means))
    return out


def _budget_table(budgets: dict[str, Any]) -> list[str]:
    out = [f"{'÷ budget':<12} {'entity':>7} {'environment':>12}  series by detector (quiet time only)"]
    for name, one in budgets.items():
        series = ", ".join(f"{detector} {_n(ratio)}" for detector, ratio in one["series"].items())
        out.append(f"{name:<12} {_n(one['entity']):>7} {_n(one['environment']):>12}  {series}")
    return out


def _n(value: float | None) -> str:
    """A share or rate with three digits, without the leading zero.

    >>> _n(0.5804), _n(2.5), _n(float("nan"))
    ('.580', '2.500', '–')
    """
    if value is None or value != value:
        return "–"
    text = f"{value:.3f}"
    return text.removeprefix("0") if text.startswith("0.") else text


def _delay(seconds: float) -> str:
    return (
        "–"
        if seconds != seconds
        else f"{seconds / 60:.0f} min"
        if seconds >= 60 or seconds == 0
        else f"{seconds:.0f} s"
    )
