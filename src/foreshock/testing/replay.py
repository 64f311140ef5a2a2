"""Replay from Python: a data frame in, verdicts and alerts as data frames out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from foreshock.config import Config, load
from foreshock.errors import BadInputError, ConfigError
from foreshock.runtime.replay import Replay, ReplayReport
from foreshock.types import AlertKind

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = "frame"


@dataclass(frozen=True, slots=True)
class Measures:
    """How alerts meet labels, over all entities: an event is a run of labelled rows, found if an alert overlaps it.

    `recall` found ÷ events, `precision` alerts that meet an event ÷ alerts, `f1` of the two,
    `false_alarms_per_day` per entity, `delay_seconds` median from an event's start to the first alert in it.
    """

    events: int
    found: int
    alerts: int
    true_alerts: int
    recall: float
    precision: float
    f1: float
    false_alarms_per_day: float
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay gave: `verdicts` one row per input row and entity, `alerts` one row an episode."""

    verdicts: pd.DataFrame
    alerts: pd.DataFrame
    report: ReplayReport
    measures: Measures | None

    def plot(self, entity: str | None = None) -> Figure:
        """Score over time with alerts shaded, one panel an entity (or only `entity`); 1 is the bar."""
        if find_spec("matplotlib") is None:
            raise ConfigError("pictures need matplotlib: pip install 'foreshock[data]'")
        from matplotlib.figure import Figure

        entities = [entity] if entity is not None else list(self.verdicts["entity"].unique())[:12]
        figure = Figure(figsize=(10, 2.2 * len(entities)), layout="constrained")
        for axes, name in zip(np.atleast_1d(figure.subplots(len(entities), sharex=True)), entities, strict=True):
            rows = self.verdicts[self.verdicts["entity"] == name]
            axes.plot(rows["time"], rows["score"], color="#17181a", linewidth=0.8)
            axes.axhline(1.0, color="#66696f", linewidth=0.8, linestyle="--")
            for alert in self.alerts[self.alerts["entity"] == name].itertuples():
                axes.axvspan(alert.starts, alert.ends, color="#d4481b", alpha=0.15, linewidth=0)
            axes.set_yscale("symlog", linthresh=1)
            axes.set_title(name, fontsize=9, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
        return figure


def replay(
    frame: pd.DataFrame,
    detectors: Sequence[str | Mapping[str, Any]] | None = None,
    labels: str | Sequence[bool] | None = None,
    *,
    time: str | None = None,
    entity: str | Sequence[str] | None = None,
    train_until: Any = None,
    config: Config | None = None,
) -> Replayed:
    """Judge a table of telemetry as `foreshock replay` does.

    `frame` has a time column (or a DatetimeIndex) and a column a metric, or the long form; `detectors` as in a config:
    names, `package.module:Class`, mappings with options; `labels` the name of a 0/1 column, or one value a row: never
    seen by a detector, used for `measures` and `report.detectors` only; `entity` the column or columns that name what
    is watched. Raises ConfigError and BadInputError as the command does.
    """
    if find_spec("pandas") is None:
        raise ConfigError("replay works on data frames: pip install 'foreshock[data]'")
    settings = _settings(config, detectors, time, entity, train_until)
    table, settings = _with_time(frame, settings)
    truth = _labels(table, labels)
    if isinstance(labels, str):
        table = table.drop(columns=[labels])
    with TemporaryDirectory() as folder:
        return _run(table, truth, settings, Path(folder))


def _settings(config: Config | None, detectors: Any, time: str | None, entity: Any, until: Any) -> Config:
    import pandas as pd

    if config is not None and (detectors or time or entity or until is not None):
        raise ConfigError("give a config or the separate settings, not both")
    if config is not None:
        return config
    overrides: dict[str, Any] = {"mapping": {k: v for k, v in {"time": time, "entity": entity}.items() if v}}
    if detectors is not None:
        overrides["detectors"] = [dict(one) if isinstance(one, Mapping) else one for one in detectors]
    if until is not None:
        moment = pd.Timestamp(until)
        overrides["train_until_unix_nano"] = (
            (moment if moment.tzinfo else moment.tz_localize("UTC")).as_unit("ns").value
        )
    return load([], environ={}, overrides=overrides)


def _with_time(frame: pd.DataFrame, settings: Config) -> tuple[pd.DataFrame, Config]:
    """The frame with its DatetimeIndex, if it has one, as the column that is its time."""
    import pandas as pd

    if not isinstance(frame.index, pd.DatetimeIndex):
        return frame, settings
    name = str(frame.index.name or "time")
    if name in frame.columns:
        raise BadInputError("duplicate_column", f"the index and a column are both called {name!r}: rename one of them")
    mapping = settings.mapping.model_copy(update={"time": settings.mapping.time or name})
    return frame.rename_axis(name).reset_index(), settings.model_copy(update={"mapping": mapping})


def _run(table: pd.DataFrame, truth: Any, settings: Config, folder: Path) -> Replayed:
    import pandas as pd
    import pyarrow.parquet as pq

    from foreshock.adapters.files_reader import TableReader
    from foreshock.adapters.truth import Labelled

    path = folder / f"{NAME}.parquet"
    ordered, truth = _in_order(table, truth, settings)
    pq.write_table(ordered, path)
    reader = TableReader([path], settings.mapping)
    labelled = None if truth is None else _labelled(ordered, truth, settings)
    source = reader if labelled is None else Labelled(reader, _intervals(labelled), settings.environment)
    job = Replay(settings, source, folder / "out", {}, total=reader.rows_total())
    report = job.run()
    report.notes = tuple(reader.describe())
    verdicts = pd.read_parquet(folder / "out" / "verdicts.parquet")
    alerts = _alerts((folder / "out" / "alerts.jsonl").read_text(), verdicts)
    measures = None
    if labelled is not None:
        measures = _measure(labelled, alerts, settings.train_until_unix_nano or 0)
    return Replayed(verdicts, alerts, report, measures)


def _labels(table: pd.DataFrame, labels: str | Sequence[bool] | None) -> Any:
    """One bool a row of the table, or None."""
    if labels is None:
        return None
    if isinstance(labels, str) and labels not in table.columns:
        raise BadInputError(
            "bad_labels", f"no column {labels!r} for the labels; there are {', '.join(map(str, table.columns))}"
        )
    values = table[labels].to_numpy() if isinstance(labels, str) else np.asarray(labels)
    if len(values) != len(table):
        raise BadInputError("bad_labels", f"{len(values)} labels for {len(table)} rows")
    import pandas as pd

    return pd.Series(values).fillna(0).astype(bool).to_numpy()


def _in_order(frame: pd.DataFrame, truth: Any, settings: Config) -> tuple[Any, Any]:
    """The frame as a flat pyarrow table in the order of its times, and its labels in that order.

    A file is read in pieces, each in its order: one that holds entity after entity would have to be read whole first.
    """
    import pyarrow as pa

    from foreshock.adapters.decode_table import flat, plan_table, times_of_column

    table = flat(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None))
    plan = plan_table(table, settings.mapping)
    times, _, _ = times_of_column(table.column(plan.time), plan.unit)
    if len(times) == 0 or (times[1:] >= times[:-1]).all():
        return table, truth
    order = np.argsort(times, kind="stable")
    return table.take(pa.array(order)), None if truth is None else truth[order]


def _labelled(table: Any, truth: Any, settings: Config) -> dict[str, tuple[Any, Any]]:
    """Entity → its times in order (int64[n], nanoseconds) and whether each is labelled (bool[n]).

    The table is read as the replay reads it, with the label in the place of every number.
    """
    import pyarrow as pa

    from foreshock.adapters.decode_table import decode_planned, numeric_columns, plan_table

    plan = plan_table(table, settings.mapping)
    for name in numeric_columns(table, plan):
        table = table.set_column(table.column_names.index(name), name, pa.array(truth.astype(np.float64)))
    samples = decode_planned(table, plan, settings.mapping, (("entity", NAME),))
    owner = np.array([one.entity_text for one in samples.series], object)[samples.index]
    out = {}
    for entity in dict.fromkeys(owner.tolist()):
        own = owner == entity
        times, at = np.unique(samples.time_unix_nano[own], return_inverse=True)
        labelled = np.zeros(len(times), bool)
        np.logical_or.at(labelled, at, samples.value[own] > 0)
        out[entity] = (times, labelled)
    return out


def _intervals(labelled: dict[str, tuple[Any, Any]]) -> list[Any]:
    """The runs of labelled rows of each entity, as the replay is told of them."""
    from foreshock.adapters.sql.text import parse_labels
    from foreshock.adapters.truth import Interval, runs

    return [
        Interval(parse_labels(entity), since, until)
        for entity, (times, truth) in labelled.items()
        for since, until in runs(times, truth)
    ]


def _alerts(text: str, verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row an episode, with the sentence that opened it; one that is still open ends with the data."""
    import pandas as pd

    episodes: dict[str, dict[str, Any]] = {}
    told: dict[str, str] = {}
    names = {_plain(name): name for name in verdicts["entity"].unique()}
    for line in text.splitlines():
        alert = json.loads(line)
        own = alert["foreshock"]
        labels = {k: v for k, v in alert["labels"].items() if k not in ("alertname", "feature", "severity")}
        episodes[own["episode"]] = {
            "entity": names.get(frozenset(labels.items()), ""),
            "feature": alert["labels"].get("feature", ""),
            "severity": alert["labels"].get("severity", ""),
            "kind": own["kind"],
            "starts": pd.Timestamp(alert["startsAt"]),
            "ends": verdicts["time"].max() if alert["status"] == "firing" else pd.Timestamp(alert["endsAt"]),
            "notified": own["notified"],
            "strength": own["strength"],
            "summary": told.setdefault(own["episode"], alert["annotations"].get("summary", "")),
        }
    columns = ["entity", "feature", "severity", "kind", "starts", "ends", "notified", "strength", "summary"]
    return pd.DataFrame(list(episodes.values()), columns=columns)


def _plain(entity: str) -> frozenset[tuple[str, str]]:
    from foreshock.adapters.sql.text import parse_labels
    from foreshock.incident.words import safe_name

    return frozenset((safe_name(name), value) for name, value in parse_labels(entity))


def _measure(labelled: dict[str, tuple[Any, Any]], alerts: pd.DataFrame, from_unix_nano: int) -> Measures:
    """How alerts, but for those of silence and of slow changes, meet labelled events from `from_unix_nano` on."""
    alerts = alerts[~alerts["kind"].isin([str(AlertKind.SILENCE), str(AlertKind.CHANGE)])]
    starts, ends = _nanoseconds(alerts["starts"]), _nanoseconds(alerts["ends"])
    owner = alerts["entity"].to_numpy()
    events = found = true_alerts = 0
    delays: list[float] = []
    days = 0.0
    for name, (all_times, all_labels) in labelled.items():
        judged = all_times >= from_unix_nano
        times, truth = all_times[judged], all_labels[judged]
        if not len(times):
            continue
        first, last = starts[owner == name], ends[owner == name]
        days += (times[-1] - times[0]) / 86400e9
        edges = np.flatnonzero(np.diff(truth.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        met = np.zeros(len(first), bool)
        for low, high in edges.tolist():
            hits = (first <= times[high - 1]) & (last >= times[low])
            met |= hits
            if hits.any():
                found += 1
                delays.append(max(0.0, float(first[hits].min() - times[low]) / 1e9))
        events += len(edges)
        true_alerts += int(met.sum())
    recall = found / events if events else float("nan")
    precision = true_alerts / len(alerts) if len(alerts) else float("nan")
    f1 = 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0
    return Measures(
        events,
        found,
        len(alerts),
        true_alerts,
        recall,
        precision,
        f1,
        float(len(alerts) - true_alerts) / max(float(days), 1e-9),
        float(np.median(delays)) if delays else float("nan"),
    )


def _nanoseconds(times: pd.Series) -> Any:
    """int64[n] of a column of UTC times."""
    import pandas as pd

    return pd.DatetimeIndex(pd.to_datetime(times, utc=True)).as_unit("ns").asi8
