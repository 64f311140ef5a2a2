"""Replay from Python: a data frame in, verdicts and alerts as data frames out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from foreshock.bench.labelled import Measures, Truth, decode_flags, judged_by_entity, labels_in_file, measure
from foreshock.config import Config, load
from foreshock.errors import BadInputError, ConfigError
from foreshock.runtime.replay import Replay, ReplayReport

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = "frame"


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
    labels: str | Sequence[bool] | PathLike[str] | None = None,
    *,
    time: str | None = None,
    entity: str | Sequence[str] | None = None,
    train_until: Any = None,
    config: Config | None = None,
) -> Replayed:
    """Judge a table of telemetry as `foreshock replay` does.

    `frame` has a time column (or a DatetimeIndex) and a column a metric, or the long form; `detectors` as in a config:
    names, `package.module:Class`, mappings with options; `labels` the name of a 0/1 column, one value a row, or the
    Path of a labels file: never seen by a detector, used for `measures` and `report.detectors` only; `entity` the
    column or columns that name what is watched. Raises ConfigError and BadInputError as the command does.
    """
    if find_spec("pandas") is None:
        raise ConfigError("replay works on data frames: pip install 'foreshock[data]'")
    settings = _settings(config, detectors, time, entity, train_until)
    table, settings = _with_time(frame, settings)
    truth = None if isinstance(labels, PathLike) else _labels(table, labels)
    if isinstance(labels, str):
        table = table.drop(columns=[labels])
    with TemporaryDirectory() as folder:
        return _run(table, truth, labels if isinstance(labels, PathLike) else None, settings, Path(folder))


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


def _run(table: pd.DataFrame, flags: Any, labels: PathLike[str] | None, settings: Config, folder: Path) -> Replayed:
    import pandas as pd
    import pyarrow.parquet as pq

    from foreshock.adapters.files_reader import TableReader
    from foreshock.adapters.truth import Labelled

    path = folder / f"{NAME}.parquet"
    truth = None if labels is None else labels_in_file(Path(labels), settings.mapping)
    ordered, flags = _in_order(table, flags, settings)
    pq.write_table(ordered, path)
    reader = TableReader([path], settings.mapping)
    if flags is not None:
        truth = _labelled(ordered, flags, settings)
    source = reader if truth is None else Labelled(reader, truth.intervals(), settings.environment)
    job = Replay(settings, source, folder / "out", {}, total=reader.rows_total())
    report = job.run()
    report.notes = tuple(reader.describe())
    verdicts = pd.read_parquet(folder / "out" / "verdicts.parquet")
    alerts = _alerts((folder / "out" / "alerts.jsonl").read_text(), verdicts)
    measures = None
    if truth is not None:
        judged = judged_by_entity(folder / "out" / "verdicts.parquet")
        measures = measure(judged, truth, settings.train_until_unix_nano)
        report.notes += truth.notes(judged)
    return Replayed(verdicts, alerts, report, measures)


def _labels(table: pd.DataFrame, labels: Any) -> Any:
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


def _labelled(table: Any, flags: Any, settings: Config) -> Truth:
    """The labels by entity: the table is read as the replay reads it, with the label in the place of its numbers."""
    from foreshock.adapters.decode_table import plan_table

    plan = plan_table(table, settings.mapping)
    samples = decode_flags(table, flags, plan, settings.mapping, (("entity", NAME),))
    truth = Truth()
    truth.take(samples, torn_counts=not plan.long)
    return truth


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
