"""Replay from Python: a data frame in, verdicts and alerts as data frames out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from foreshock.config import Config, load
from foreshock.errors import BadInputError, ConfigError
from foreshock.runtime.replay import Replay, ReplayReport

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = "frame"


@dataclass(frozen=True, slots=True)
class Measures:
    """How alerts meet labels, over all entities: an event is found if an alert overlaps it.

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
    entity: str | None = None,
    train_until: Any = None,
    config: Config | None = None,
) -> Replayed:
    """Judge a table of telemetry as `foreshock replay` does.

    `frame` has a time column (or a DatetimeIndex) and a column a metric; `detectors` as in the config; `labels` the
    name of a 0/1 column, or one value a row: never seen by a detector, used for `measures` only. Raises ConfigError
    and BadInputError as the command does.
    """
    import pandas as pd

    table = frame.reset_index() if isinstance(frame.index, pd.DatetimeIndex) else frame
    truth = _labels(table, labels)
    if isinstance(labels, str):
        table = table.drop(columns=[labels])
    settings = _settings(config, detectors, time, entity, train_until)
    with TemporaryDirectory() as folder:
        return _run(table, truth, settings, Path(folder))


def _settings(config: Config | None, detectors: Any, time: str | None, entity: str | None, until: Any) -> Config:
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
        overrides["train_until_unix_nano"] = (moment if moment.tzinfo else moment.tz_localize("UTC")).value
    return load([], environ={}, overrides=overrides)


def _run(table: pd.DataFrame, truth: Any, settings: Config, folder: Path) -> Replayed:
    import pandas as pd

    from foreshock.adapters.files_reader import TableReader

    path = folder / f"{NAME}.parquet"
    table.to_parquet(path, index=False)
    reader = TableReader([path], settings.mapping)
    job = Replay(settings, reader, folder / "out", {}, total=reader.rows_total(), notes=tuple(reader.describe()))
    report = job.run()
    verdicts = pd.read_parquet(folder / "out" / "verdicts.parquet")
    alerts = _alerts((folder / "out" / "alerts.jsonl").read_text(), verdicts)
    measures = _measure(verdicts, alerts, truth) if truth is not None else None
    return Replayed(verdicts, alerts, report, measures)


def _labels(table: pd.DataFrame, labels: str | Sequence[bool] | None) -> Any:
    if labels is None:
        return None
    values = table[labels].to_numpy() if isinstance(labels, str) else np.asarray(labels)
    if len(values) != len(table):
        raise BadInputError("bad_labels", f"{len(values)} labels for {len(table)} rows")
    return values.astype(bool)


def _alerts(text: str, verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row an episode; one that is still open ends with the data."""
    import pandas as pd

    episodes: dict[str, dict[str, Any]] = {}
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
            "summary": alert["annotations"].get("summary", ""),
        }
    columns = ["entity", "feature", "severity", "kind", "starts", "ends", "notified", "strength", "summary"]
    return pd.DataFrame(list(episodes.values()), columns=columns)


def _plain(entity: str) -> frozenset[tuple[str, str]]:
    from foreshock.adapters.sql.text import parse_labels
    from foreshock.incident.words import safe_name

    return frozenset((safe_name(name), value) for name, value in parse_labels(entity))


def _measure(verdicts: pd.DataFrame, alerts: pd.DataFrame, truth: Any) -> Measures | None:
    """None where rows of the input were joined or dropped, so that labels do not fit the verdicts."""
    if len(truth) != len(verdicts):
        return None
    time, entity = _nanoseconds(verdicts["time"]), verdicts["entity"].to_numpy()
    alerts = alerts[alerts["kind"] == "anomaly"]
    starts, ends = _nanoseconds(alerts["starts"]), _nanoseconds(alerts["ends"])
    owner = alerts["entity"].to_numpy()
    events = found = true_alerts = 0
    delays: list[float] = []
    days = 0.0
    for name in dict.fromkeys(entity.tolist()):
        own_time, own_truth = time[entity == name], truth[entity == name]
        first, last = starts[owner == name], ends[owner == name]
        days += (own_time[-1] - own_time[0]) / 86400e9
        edges = np.flatnonzero(np.diff(own_truth.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        met = np.zeros(len(first), bool)
        for low, high in edges:
            hits = (first <= own_time[high - 1]) & (last >= own_time[low])
            met |= hits
            found += bool(hits.any())
            if hits.any():
                delays.append(max(0.0, (first[hits].min() - own_time[low]) / 1e9))
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
        (len(alerts) - true_alerts) / max(days, 1e-9),
        float(np.median(delays)) if delays else float("nan"),
    )


def _nanoseconds(times: Any) -> Any:
    return times.to_numpy().astype("datetime64[ns]").astype(np.int64)
